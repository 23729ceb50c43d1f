"""Rules on a real model: the heuristics, gates as stored, gates as initialised."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial

import torch
from torch import Tensor

from claimbook.assets import catalogue
from claimbook.experiments.trim_kv import worth
from claimbook.experiments.trim_kv.pieces import artefact, heuristics
from claimbook.lm import eviction
from claimbook.lm.load import LM
from claimbook.papers import trim_kv as method

UNTRAINED, POSITION, ORACLE = "untrained", "position", "oracle"
WINDOWS = 32  # of training text, over which gates are averaged by position


def stored_gates(lm: LM, config: dict, name: str) -> method.Gates:
    """The gates of a promoted stored run, frozen."""
    gates = untrained(lm, config)
    gates.load_state_dict({key: one.float() for key, one in artefact(name).items()})
    return gates.requires_grad_(False)


def untrained(lm: LM, config: dict) -> method.Gates:
    """Gates as initialised by seed 0, of the width and bias of the trained ones."""
    return method.gates_for(lm.model, config["width"], config["bias"], 0).requires_grad_(False)


def asked(
    model,
    name: str,
    budget: int,
    gates: Callable[[], method.Gates],
    position: Callable[[], Tensor],
    told: Callable[[], Tensor] | None = None,
    offset: int = 2,
) -> AbstractContextManager:
    """A context in which the rule ``name`` can be asked: a heuristic or "random"; "position", which keeps by the log
    beta ``position()`` (L, 1, K, T); "oracle", which keeps the highest of ``told()`` (B, T); else by ``gates()``.
    """
    if name in (known := heuristics(budget)):
        return nullcontext(known[name])
    if name == POSITION:
        return nullcontext(eviction.Decayed(eviction.fixed(position()), offset))
    if name == ORACLE:
        return nullcontext(eviction.Given(eviction.fixed(told())))
    return method.retention(model, gates(), offset)


def rule(
    lm: LM, config: dict, name: str, budget: int, length: int, offset: int = 2, told: Callable[[], Tensor] | None = None
) -> AbstractContextManager:
    """`asked` for texts of ``length`` tokens, with the stored gates of that name, or "untrained" ones."""
    own = partial(untrained, lm, config) if name == UNTRAINED else partial(stored_gates, lm, config, name)
    return asked(lm.model, name, budget, own, partial(by_position, lm, config, length), told, offset)


def by_position(lm: LM, config: dict, length: int) -> Tensor:
    """Mean log beta (L, 1, K, T) of the trained gates at each position of training text, whatever stands there."""
    text = training_text(lm, config)
    starts = torch.linspace(0, len(text) - length, WINDOWS).long().tolist()
    ids = torch.stack([text[start : start + length] for start in starts]).to(lm.model.device)
    return worth.by_position(lm.model, [stored_gates(lm, config, name) for name in config["gates"]], ids)


@lru_cache(maxsize=2)
def _articles(lm: LM, key: str, skip: int) -> Tensor:
    return torch.cat([lm.document(text["text"]) for text in list(catalogue.texts(key))[skip:]])


def training_text(lm: LM, config: dict) -> Tensor:
    """Ids (n,) of all articles but the first ``skip``, end to end: what gates are trained on."""
    return _articles(lm, config["trained_on"], config["skip"])
