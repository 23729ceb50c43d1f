"""Does an encoder have a sink too? Figure 14, with MiniLM (a BERT) instead of BERT-base."""

from dataclasses import dataclass

import torch

from claimbook.assets import catalogue
from claimbook.experiments.units import Experiment


@dataclass(frozen=True)
class Row:
    """One text: attention to [SEP] and [CLS] by layer, mean over heads and queries, in units of an even share 1 / T."""

    title: str
    sep: list[float]
    cls: list[float]


def load_encoder(config: dict):
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = catalogue.get(config["model"])
    options = {"local_files_only": True, "trust_remote_code": False}
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, **options)
    return model.eval(), AutoTokenizer.from_pretrained(folder, **options)


def units(encoder, config: dict) -> dict[str, torch.Tensor]:
    """The first texts with ``length`` ids or more, cut to it by the tokenizer: [CLS] first and [SEP] last."""
    found = {}
    for text in catalogue.texts(config["text"]):
        ids = encoder[1](text["text"], truncation=True, max_length=config["length"]).input_ids
        if len(ids) == config["length"] and len(found) < config["n_documents"]:
            found[text["title"]] = (text["title"], torch.tensor(ids))
    return found


@torch.no_grad()
def measure(encoder, unit: tuple[str, torch.Tensor], config: dict) -> Row:
    """One text of ids (T,)."""
    title, ids = unit
    attention = torch.stack(encoder[0](ids[None], output_attentions=True).attentions)[:, 0]  # (L, H, T, T)
    received = attention.mean(dim=(1, 2)) * len(ids)  # (L, T), 1 is an even share
    return Row(title, sep=received[:, -1].tolist(), cls=received[:, 0].tolist())


EXPERIMENT = Experiment("documents", Row, units, measure, model=load_encoder)
run = EXPERIMENT.run
