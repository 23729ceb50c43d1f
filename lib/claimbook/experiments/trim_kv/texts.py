"""Held-out articles under every rule and budget: the loss of their later tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from claimbook.experiments.models import about
from claimbook.experiments.trim_kv import inputs
from claimbook.experiments.trim_kv.pieces import Pieces, Place, assembled, model_of
from claimbook.experiments.trim_kv.rules import rule
from claimbook.lm import eviction
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, token_losses


@dataclass(frozen=True)
class Row:
    """One article; losses are means in nats over the targets at positions ``from`` and later, the same for every rule.

    ``losses``: by rule and budget; ``trim``: by budget, one for each seed of the gates; ``trim_printed``:
    with the ages of Algorithm 1 in place of the code's. ``renumbered``: the same rules
    in a model that is told the position min(t, M), as a cache does that reports what it keeps.
    """

    document: int
    title: str
    full: float
    losses: dict[str, dict[str, float]]
    trim: list[dict[str, float]]
    trim_printed: list[dict[str, float]]
    renumbered: dict[str, dict[str, float]]


def units(lm: LM, config: dict) -> dict[Place, Callable[[], list]]:
    """Loss of all articles at once, by place in their rows."""
    found = inputs.texts(lm, config)
    ids = torch.stack(list(found.values())).to(lm.model.device)
    late = partial(losses, lm, ids, config)
    pieces: dict[Place, Callable[[], list]] = {("title",): lambda: list(found), ("full",): late}
    for budget in config["budgets"]:
        for i, name in enumerate(config["gates"]):
            pieces["trim", i, str(budget)] = partial(late, name, budget)
        for name in config["rules"]:
            pieces["losses", name, str(budget)] = partial(late, name, budget)
    for budget in config["renumbered_budgets"]:
        for name in config["renumbered"]:
            pieces["renumbered", name, str(budget)] = partial(late, name, budget, renumbered=True)
    for budget in config["printed_budgets"]:
        for i, name in enumerate(config["gates"]):
            pieces["trim_printed", i, str(budget)] = partial(late, name, budget, offset=0)
    return pieces


def rows(pieces: dict[Place, list], config: dict) -> list[Row]:
    empty = {"losses": {}, "trim": [], "trim_printed": [], "renumbered": {}}
    return [Row(document=i, **empty | assembled(pieces, i)) for i in range(len(pieces["full",]))]


@torch.no_grad()
def losses(
    lm: LM,
    ids: Tensor,
    config: dict,
    name: str | None = None,
    budget: int = 0,
    offset: int = 2,
    renumbered: bool = False,
) -> list[float]:
    """Mean late loss of each row of ids (B, T) under the rule ``name``; None: with everything kept."""
    if name is None:
        return late_losses(lm, ids, config)
    with rule(lm, config, name, budget, ids.shape[1], offset) as one, eviction.masked(lm.model, one, budget):
        return late_losses(lm, ids, config, budget if renumbered else None)


def late_losses(lm: LM, ids: Tensor, config: dict, budget: int | None = None) -> list[float]:
    """Mean loss in nats of the targets at positions ``from`` and later of each row of ids (B, T).

    ``budget``: positions are counted as min(t, budget).
    """
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    hidden = hidden_states(lm.model, ids, position_ids=positions if budget is None else positions.clamp(max=budget))
    first = config["from"]
    hidden, targets = hidden[:, first - 1 : -1], ids[:, first:]
    found = token_losses(lm.model, hidden.flatten(0, 1), targets.flatten())
    return found.view(targets.shape).double().mean(dim=1).tolist()


EXPERIMENT = Pieces("documents", Row, units, rows, model=model_of, about=about)
run = EXPERIMENT.run
