"""Rules on a real model: the heuristics, gates as stored, gates as initialised."""

from contextlib import AbstractContextManager, nullcontext

from claimbook.experiments.trim_kv.pieces import artefact, heuristics
from claimbook.lm.load import LM
from claimbook.papers import trim_kv as method

TRIM, UNTRAINED, RANDOM = "trim", "untrained", "random"
HEURISTICS = tuple(name for name in heuristics(8) if name != RANDOM)


def stored_gates(lm: LM, config: dict, name: str) -> method.Gates:
    """The gates of a promoted stored run, frozen."""
    gates = untrained(lm, config)
    gates.load_state_dict({key: one.float() for key, one in artefact(name).items()})
    return gates.requires_grad_(False)


def untrained(lm: LM, config: dict) -> method.Gates:
    """Gates as initialised by seed 0, of the width and bias of the trained ones."""
    return method.gates_for(lm.model, config["width"], config["bias"], 0).requires_grad_(False)


def rule(lm: LM, config: dict, name: str, budget: int) -> AbstractContextManager:
    """A context in which a rule can be asked: a heuristic, "random", "untrained", or the name of stored gates."""
    if name in (known := heuristics(budget)):
        return nullcontext(known[name])
    gates = untrained(lm, config) if name == UNTRAINED else stored_gates(lm, config, name)
    return method.retention(lm.model, gates)
