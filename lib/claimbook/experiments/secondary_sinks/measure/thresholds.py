"""Which threshold our rule takes: on articles of their own, the sinks that every two of them share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.secondary_sinks import inputs
from claimbook.experiments.secondary_sinks.measure.found import find
from claimbook.experiments.secondary_sinks.measure.texts import overlaps
from claimbook.lm.load import LM


@dataclass(frozen=True)
class Row:
    """One text: of every two thresholds, intersection over union of their sinks."""

    overlap: dict[str, dict[str, float | None]]


@torch.no_grad()
def measure(lm: LM, ids: Tensor, config: dict) -> Row:
    return Row(overlaps(find(lm, ids)))


EXPERIMENT = ModelExperiment("texts", Row, inputs.texts, measure)
run = EXPERIMENT.run
