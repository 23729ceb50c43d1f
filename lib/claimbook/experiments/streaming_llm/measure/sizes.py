"""Caches as large as the trained window: the last doubling of Table 6."""

from dataclasses import dataclass

import torch

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.streaming_llm import inputs
from claimbook.lm import corpora
from claimbook.lm.load import LM
from claimbook.papers.streaming_llm import Scheme, losses


@dataclass(frozen=True)
class Row:
    """One document: mean loss in nats by cache size, over the targets behind the larger cache."""

    title: str
    loss: dict[str, float]


def units(lm: LM, config: dict) -> dict[str, corpora.Document]:
    """Documents; none where they are no longer than the larger cache, or that is not the trained window."""
    largest = max(config["caches"])
    return inputs.documents(lm, config) if largest == lm.trained_context and largest < config["length"] else {}


def measure(lm: LM, document: corpora.Document, config: dict) -> Row:
    """One document under four sinks and each cache of ``caches``, all on the same targets."""
    scored = torch.arange(len(document.ids)) >= max(config["caches"])
    found = {
        str(size): losses(lm.model, document.ids, Scheme(4, size - 4), score=scored).nanmean()
        for size in config["caches"]
    }
    return Row(document.title, {size: float(loss) for size, loss in found.items()})


EXPERIMENT = ModelExperiment("documents", Row, units, measure)
run = EXPERIMENT.run
