"""Which heads help: the first-order effect of every head, on items that nothing is judged by."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from claimbook.experiments.attention_calibration import own_files, tasks
from claimbook.experiments.attention_calibration.measure.scoring import head_effects
from claimbook.lm.load import LM
from claimbook.papers import attention_calibration as method
from claimbook.papers.attention_calibration import Rule

DOWN, UP = method.BETA, 1 / method.BETA  # what token 0 is scaled by: as far down as ACT's sinks, and as far up


@dataclass(frozen=True)
class Effects:
    """By rule, item, layer and head: (3, n, L, H), of ACT and of token 0 scaled down and up; the losses (n,) before."""

    values: Tensor
    base: Tensor

    @property
    def act(self) -> Tensor:
        """(L, H): mean over items; below 0 calibration helps."""
        return self.values[0].mean(dim=0)

    @property
    def se(self) -> Tensor:
        """(L, H): the standard error of `act` over items."""
        n = self.values.shape[1]
        return self.values[0].std(dim=0, correction=min(1, n - 1)) / n**0.5

    @property
    def first_token(self) -> tuple[Tensor, Tensor]:
        """(L, H) each: effect of the better of both directions, and the factor that it is."""
        down, up = self.values[1:].mean(dim=1)
        return torch.minimum(down, up), torch.where(down <= up, DOWN, UP)


def split(lm: LM, config: dict, number: int) -> tasks.Split:
    """Items to choose by and to judge by, of the run's task."""
    items = tasks.usable(lm, own_files.task(config["task"]))
    return tasks.split(items, number, config["choose"], config["judge"], config["seed"])


@lru_cache(maxsize=4)  # the arms of one draw share it
def effects(lm: LM, task: str, items: tuple[tasks.Item, ...]) -> Effects:
    """What calibrating each head alone would do to the items, to first order: a forward and a backward pass."""
    heads = torch.ones_like(allowed(lm))
    rules = [Rule(heads), Rule(heads, first=DOWN), Rule(heads, first=UP)]
    return Effects(*head_effects(lm, own_files.task(task), list(items), rules))


def allowed(lm: LM) -> Tensor:
    """The heads of a model that may be calibrated, bool (L, H)."""
    return method.calibrated_layers(lm.layers, lm.model.config.get_text_config().num_attention_heads)
