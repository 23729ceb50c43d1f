"""Where attention goes: Figures 2 and 12, as numbers per document and as maps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.streaming_llm import inputs
from claimbook.lm import corpora
from claimbook.lm.attention import observed
from claimbook.lm.load import LM
from claimbook.metrics.attention import KeyMass, MeanMap

KEYS, NEAR, FAR, PAST = 4, slice(128, 256), slice(896, 1024), slice(512, 1024)  # first tokens, and queries


@dataclass(frozen=True)
class Row:
    """One document: attention to its first tokens by layer, mean over heads and queries.

    ``to_first_keys`` (L, 4): to each of the first tokens by queries past 512. ``near``, ``far`` (L,): to token 0 by
    queries 128-255 and 896-1023. ``heads`` (L, H): to token 0 by queries past 512, head by head.
    """

    title: str
    to_first_keys: list[list[float]]
    near: list[float]
    far: list[float]
    heads: list[list[float]]


def units(lm: LM, config: dict) -> dict[str, corpora.Document]:
    """Documents; none where they are shorter than what is looked at."""
    return inputs.documents(lm, config) if config["length"] >= PAST.stop else {}


def measure(lm: LM, document: corpora.Document, config: dict) -> Row:
    """One document of 1,024 tokens."""
    mass = KeyMass(KEYS)
    with torch.no_grad(), observed(lm.model, mass):
        lm.model.base_model(document.ids[None, : PAST.stop].to(lm.model.device), use_cache=False)
    by_head = mass.result()  # (L, H, T, keys)
    by_layer = by_head.mean(dim=1)
    return Row(
        title=document.title,
        to_first_keys=by_layer[:, PAST].mean(dim=1).tolist(),
        near=by_layer[:, NEAR, 0].mean(dim=1).tolist(),
        far=by_layer[:, FAR, 0].mean(dim=1).tolist(),
        heads=by_head[:, :, PAST, 0].mean(dim=2).tolist(),
    )


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


EXPERIMENT = ModelExperiment("documents", Row, units, measure)
run = EXPERIMENT.run
