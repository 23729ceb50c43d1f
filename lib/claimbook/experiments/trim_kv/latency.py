"""Time of a decoding step far into a text, on the cpu. Only a quiet machine gives numbers worth storing."""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import benchmark
from transformers import DynamicCache

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.trim_kv.pieces import heuristics
from claimbook.lm import corpora, eviction
from claimbook.lm.load import LM
from claimbook.papers import trim_kv as method


@dataclass(frozen=True)
class Row:
    """One round: milliseconds of one step by arm, batch 1.

    ``full``: transformers' own cache and attention; ``full_engine``: our evicting cache with a budget that is never
    reached; the others: the same with the budget. ``trim``: gates of the paper's width, untrained, as their time does
    not depend on what they learned.
    """

    ms: dict[str, float]


def rounds(lm: LM, config: dict) -> dict[str, dict[str, Callable[[], object]]]:
    """The same arms, again and again: a slow moment hits all of them."""
    ready = arms(lm, config)
    return {f"round {i}": ready for i in range(config["rounds"])}


def measure(lm: LM, ready: dict[str, Callable[[], object]], config: dict) -> Row:
    return Row({name: 1000 * seconds(arm) for name, arm in ready.items()})


def arms(lm: LM, config: dict) -> dict[str, Callable[[], object]]:
    """By name: one more token into a cache that has seen ``context`` tokens, as often as it is called."""
    ids = corpora.concatenated(lm, [config["text"]], config["context"] + 1)[0].to(lm.model.device)[None]
    known, chunk = heuristics(config["budget"]), config["chunk"]
    budgets = {"full_engine": 4 * config["context"]} | dict.fromkeys(["trim", *config["rules"]], config["budget"])
    made = {"full": stock(lm.model, ids, chunk)}
    for name, budget in budgets.items():
        made[name] = evicting(lm.model, ids, chunk, known.get(name, known["window"]), budget, config["width"], name)
    return made


@torch.no_grad()
def stock(model, ids: Tensor, chunk: int) -> Callable[[], object]:
    """A step of transformers' own cache; it is cut back after each, so that all are the same."""
    cache = DynamicCache(config=model.config)
    read(model, ids, chunk, cache)

    @torch.no_grad()
    def call():
        model(ids[:, -1:], past_key_values=cache)
        cache.crop(-1)

    return call


@torch.no_grad()
def evicting(model, ids: Tensor, chunk: int, rule, budget: int, width: int, name: str) -> Callable[[], object]:
    """A step of the evicting cache, in a model of its own, whose attention stays replaced."""
    model, stack = copy.deepcopy(model), ExitStack()
    if name == "trim":
        gates = method.gates_for(model, width, 18.0, 0).requires_grad_(False)
        rule = stack.enter_context(method.retention(model, gates))
    cache = stack.enter_context(eviction.evicting(model, rule, budget))
    read(model, ids, chunk, cache)

    @torch.no_grad()
    def call(kept_open=stack):
        return model(ids[:, -1:], past_key_values=cache)

    return call


def read(model, ids: Tensor, chunk: int, cache) -> None:
    """All of ids (1, T + 1) but the last into a cache, ``chunk`` tokens at a time."""
    for part in ids[:, :-1].split(chunk, dim=1):
        model.base_model(part, past_key_values=cache)


def seconds(arm: Callable[[], object]) -> float:
    """Median over the calls that fit into a fifth of a second, at least one; the device has finished."""
    timer = benchmark.Timer("arm()", globals={"arm": arm}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=0.2).median


EXPERIMENT = ModelExperiment("rounds", Row, rounds, measure)
run = EXPERIMENT.run
