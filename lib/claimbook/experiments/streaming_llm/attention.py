"""Where attention goes: Figures 2 and 12, as numbers per document and as maps."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from claimbook.lm import corpora
from claimbook.lm.attention import observed
from claimbook.lm.load import LM, load
from claimbook.metrics.attention import KeyMass, MeanMap
from claimbook.provenance.declarations import checkpointed

NEAR, FAR = slice(128, 256), slice(896, 1024)


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: attention to the first tokens in ``n_documents`` documents, and the mean map of short passages."""
    lm = load(config["model"], "cpu")
    texts = corpora.documents(lm, config["text"], config["length"], config["n_documents"])
    jobs = {document.title: partial(measure, lm, document.ids) for document in texts}
    rows = [{"title": title} | row for title, row in checkpointed(jobs, work, progress).items()]
    maps = mean_map(lm, [document.ids for document in texts], config["map_length"], config["map_passages"])
    about = lm.model.config.get_text_config()
    sliding = [i for i, kind in enumerate(getattr(about, "layer_types", None) or []) if kind == "sliding_attention"]
    return {
        "metrics": {
            "map_layers": config["map_layers"],
            "map": maps[config["map_layers"]].tolist(),
            "layers": lm.layers,
            "sliding_layers": sliding,
            "sliding_window": about.sliding_window if sliding else None,
        },
        "curves": {"documents": rows},
    }


def measure(lm: LM, ids: Tensor, keys: int = 4) -> dict:
    """Attention per layer, mean over heads: to each of the first ``keys`` tokens, and to the first by distance.

    ``to_first_keys`` (L, keys): mean over queries past token 512. ``near``, ``far`` (L,): attention to token 0 by
    queries 128-255 and 896-1023.
    """
    mass = KeyMass(keys)
    with torch.no_grad(), observed(lm.model, mass):
        lm.model.base_model(ids[None].to(lm.model.device), use_cache=False)
    by_layer = mass.result().mean(dim=1)  # (L, T, keys)
    return {
        "to_first_keys": by_layer[:, 512:].mean(dim=1).tolist(),
        "near": by_layer[:, NEAR, 0].mean(dim=1).tolist(),
        "far": by_layer[:, FAR, 0].mean(dim=1).tolist(),
    }


def mean_map(lm: LM, texts: list[Tensor], length: int, passages: int) -> Tensor:
    """Mean attention (L, T, T) over heads and over ``passages`` passages of ``length`` tokens (Figure 2).

    Each passage begins as the model expects a text to begin, within its ``length``.
    """
    begin, size = len(lm.start), length - len(lm.start)
    cut = [ids[begin : begin + (len(ids) - begin) // size * size].view(-1, size) for ids in texts]
    rows = torch.cat(cut)[:passages]
    rows = torch.cat([lm.start.expand(len(rows), -1), rows], dim=1)
    average = MeanMap()
    with torch.no_grad(), observed(lm.model, average):
        for batch in rows.split(64):
            lm.model.base_model(batch.to(lm.model.device), use_cache=False)
    return average.result()
