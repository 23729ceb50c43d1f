"""Does an encoder have a sink too? Figure 14, with MiniLM (a BERT) instead of BERT-base."""

from pathlib import Path

import torch

from claimbook.assets import catalogue


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: attention to [SEP] and [CLS] per layer, mean over heads and queries, in units of an even share."""
    model, tokenizer = load_encoder(config["model"])
    rows = []
    for text in catalogue.texts(config["text"]):
        ids = tokenizer(text["text"], truncation=True, max_length=config["length"]).input_ids
        if len(ids) < config["length"]:
            continue
        rows.append({"title": text["title"]} | measure(model, torch.tensor(ids)))
        progress(len(rows) / config["n_documents"], text["title"])
        if len(rows) == config["n_documents"]:
            break
    return {"metrics": {"layers": model.config.num_hidden_layers}, "curves": {"documents": rows}}


def load_encoder(key: str):
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = catalogue.get(key)
    options = {"local_files_only": True, "trust_remote_code": False}
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, **options)
    return model.eval(), AutoTokenizer.from_pretrained(folder, **options)


@torch.no_grad()
def measure(model, ids: torch.Tensor) -> dict:
    """ids (T,), [CLS] first and [SEP] last: attention to each over an even share 1 / T, by layer."""
    attention = torch.stack(model(ids[None], output_attentions=True).attentions)[:, 0]  # (L, H, T, T)
    received = attention.mean(dim=(1, 2)) * len(ids)  # (L, T), 1 is an even share
    return {"sep": received[:, -1].tolist(), "cls": received[:, 0].tolist()}
