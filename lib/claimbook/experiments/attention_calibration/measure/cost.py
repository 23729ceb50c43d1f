"""What calibration costs: the time of one forward pass with it, without it, and with torch's own fused attention."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.experiments.attention_calibration.measure import choice
from claimbook.experiments.models import ModelExperiment
from claimbook.lm import corpora
from claimbook.lm.load import LM
from claimbook.papers import attention_calibration as method
from claimbook.papers.attention_calibration import Rule


@dataclass(frozen=True)
class Row:
    """Seconds of one round: some heads calibrated, the same function with none, and torch's own fused attention."""

    on: float
    off: float
    sdpa: float


def units(lm: LM, config: dict) -> dict[str, Tensor]:
    """``rounds`` times the same text of ``length`` tokens."""
    ids = corpora.documents(lm, config["text"], config["length"], 1)[0].ids
    return {f"round {i}": ids for i in range(config["rounds"])}


@torch.no_grad()
def measure(lm: LM, ids: Tensor, config: dict) -> Row:
    """One round: each of the three once, after a pass that is not timed."""
    some = Rule(method.at_random(choice.allowed(lm), config["top"], 0))  # which heads makes no difference to the time
    return Row(_calibrated(lm, ids, some), _calibrated(lm, ids, None), _seconds(lm, ids))


def _calibrated(lm: LM, ids: Tensor, rule: Rule | None) -> float:
    with method.calibrated(lm.model, rule):
        return _seconds(lm, ids)


def _seconds(lm: LM, ids: Tensor) -> float:
    ids = ids[None].to(lm.model.device)
    lm.model.base_model(ids, use_cache=False)
    began = time.perf_counter()
    float(lm.model.base_model(ids, use_cache=False).last_hidden_state.sum())  # waits for a GPU
    return time.perf_counter() - began


EXPERIMENT = ModelExperiment("rounds", Row, units, measure)
run = EXPERIMENT.run
