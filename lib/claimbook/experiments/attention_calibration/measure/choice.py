"""Which heads help: the first-order effect of every head, on items that nothing is judged by."""

from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.experiments.attention_calibration import inputs, tasks
from claimbook.experiments.attention_calibration.measure.scoring import head_effects, short
from claimbook.experiments.models import ModelExperiment
from claimbook.lm.load import LM
from claimbook.papers import attention_calibration as method
from claimbook.papers.attention_calibration import Rule

DOWN, UP = method.BETA, 1 / method.BETA  # what token 0 is scaled by: as far down as ACT's sinks, and as far up


@dataclass(frozen=True)
class Row:
    """One draw of items: by layer and head the mean effect on an item's loss, in nats; below 0 calibration helps.

    ``first_order``: of ACT; ``se``: its standard error over the items. ``down``, ``up``: of scaling token 0 alone.
    """

    task: str
    split: int
    n: int
    first_order: list[list[float]]
    se: list[list[float]]
    down: list[list[float]]
    up: list[list[float]]


@dataclass(frozen=True)
class Effects:
    """By rule, item, layer and head: (3, n, L, H), of ACT and of token 0 scaled down and up; the losses (n,) before."""

    values: Tensor
    base: Tensor

    @property
    def act(self) -> Tensor:
        """(L, H): mean over items."""
        return self.values[0].mean(dim=0)

    @property
    def first_token(self) -> tuple[Tensor, Tensor]:
        """(L, H) each: effect of the better of both directions, and the factor that it is."""
        down, up = self.values[1:].mean(dim=1)
        return torch.minimum(down, up), torch.where(down <= up, DOWN, UP)


def split(lm: LM, config: dict, number: int) -> tasks.Split:
    """Items to choose by and to judge by, of the run's task."""
    items = tasks.usable(lm, inputs.task(config["task"]))
    return tasks.split(items, number, config["choose"], config["judge"], config["seed"])


def effects(lm: LM, task: tasks.Task, items: list[tasks.Item]) -> Effects:
    """What calibrating each head alone would do to the items, to first order."""
    heads = torch.ones_like(allowed(lm))
    return Effects(*head_effects(lm, task, items, [Rule(heads), Rule(heads, first=DOWN), Rule(heads, first=UP)]))


def allowed(lm: LM) -> Tensor:
    """The heads of a model that may be calibrated, bool (L, H)."""
    return method.calibrated_layers(lm.layers, lm.model.config.get_text_config().num_attention_heads)


def units(lm: LM, config: dict) -> dict[str, tuple[int, list[tasks.Item]]]:
    """The draws of items by number."""
    return {f"split {number}": (number, split(lm, config, number).choose) for number in config["splits"]}


def measure(lm: LM, drawn: tuple[int, list[tasks.Item]], config: dict) -> Row:
    """One draw: a forward and a backward pass over its items."""
    number, items = drawn
    found = effects(lm, inputs.task(config["task"]), items).values
    act, down, up = found.mean(dim=1)
    error = found[0].std(dim=0, correction=min(1, len(items) - 1)) / len(items) ** 0.5
    return Row(config["task"], number, len(items), short(act), short(error), short(down), short(up))


EXPERIMENT = ModelExperiment("splits", Row, units, measure)
run = EXPERIMENT.run
