"""Real models without gates: where the massive activation is written and where the sink begins (Figure 6)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from claimbook.assets import catalogue
from claimbook.experiments.gated_attention.measure.seen import FirstToken
from claimbook.experiments.models import ModelExperiment
from claimbook.lm import block_outputs, corpora
from claimbook.lm.attention import observed
from claimbook.lm.load import LM


@dataclass(frozen=True)
class Row:
    """One document, by layer. ``share``: F-Attn. After the layer ``first``: the largest absolute component of the first
    token's state, and ``median``: the median one of all states. ``attention`` and ``feed_forward``: norm of what each
    half of the layer writes for the first token.
    """

    title: str
    share: list[float]
    first: list[float]
    median: list[float]
    attention: list[float]
    feed_forward: list[float]


def documents(lm: LM, config: dict) -> dict[str, corpora.Document]:
    """The documents by place, or pieces of a reader's own text."""
    return {str(i): one for i, one in enumerate(texts(lm, config["text"], config["length"], config["n_documents"]))}


def texts(lm: LM, key: str, length: int, count: int) -> list[corpora.Document]:
    """The first ``count`` documents of a text asset, or pieces of a reader's own file, of ``length`` tokens."""
    if key in catalogue.load_catalogue():
        return corpora.documents(lm, key, length, count)
    return corpora.own_text(lm, key, length, count)


@torch.no_grad()
def measure(lm: LM, document: corpora.Document, config: dict) -> Row:
    seen, layers = FirstToken(), []

    def see(layer: int, before: Tensor, attention: Tensor, feed_forward: Tensor, after: Tensor) -> None:
        state = after[0].float().abs()
        written = [float(part[0, 0].float().norm()) for part in (attention, feed_forward)]
        layers.append([float(state[0].max()), float(state.median()), *written])

    with block_outputs.observed(lm.model, see), observed(lm.model, seen):
        lm.model.base_model(input_ids=document.ids[None].to(lm.model.device), use_cache=False)
    first, median, attention, feed_forward = (list(one) for one in zip(*layers, strict=True))
    share = seen.result().mean(dim=(1, 2, 3)).tolist()
    return Row(document.title, share, first, median, attention, feed_forward)


EXPERIMENT = ModelExperiment("documents", Row, documents, measure)


def run(config: dict, work: Path, progress) -> dict:
    """Stored run."""
    return EXPERIMENT.run(config, work, progress)
