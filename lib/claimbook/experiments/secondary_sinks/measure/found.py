"""Sinks of one text by every rule, and the tokens of the same kind that are none: the matched control."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from claimbook.experiments.secondary_sinks.stored import RULE, TIMES
from claimbook.lm import residual
from claimbook.lm.load import LM
from claimbook.lm.residual import Stream
from claimbook.papers import secondary_sinks as method

LATE = 64  # tokens at the end of a text that have too few queries behind them to be scored
CONTROLS = 5  # like tokens that one sink is compared with, at most


@dataclass(frozen=True)
class Found:
    """One text: its primary, and every token that a rule flags ("official", or so many times the median norm)."""

    stream: Stream
    ids: Tensor
    sinks: dict[str, list[method.Sink]]

    @cached_property
    def massive(self) -> tuple[int, int]:
        """First layer in which the primary is massive, and the first in which it no longer is."""
        return method.clipper(self.stream.norm[:, self.stream.at])

    @property
    def scored(self) -> range:
        """The tokens behind the primary that have queries enough behind them."""
        return range(self.stream.at + 1, max(self.stream.at + 1, len(self.ids) - LATE))

    def secondary(self, rule: str = RULE) -> list[method.Sink]:
        """The flagged tokens that last long enough to count, and not as long as the primary."""
        life, layers = self.primary_lifetime(rule), len(self.stream.norm)
        if rule == "official":
            return [s for s in self.sinks[rule] if method.official_label(s.lifetime, layers, life) == "secondary"]
        return [s for s in self.sinks[rule] if method.rescaled_label(s.lifetime, life) == "secondary"]

    def primary_lifetime(self, rule: str) -> int:
        """Layers in which the primary itself meets a rule."""
        if rule == "official":
            return self.massive[1] - self.massive[0]
        return int(method.long(self.stream.norm, int(rule.split()[0]))[:-1, self.stream.at].sum())


def find(lm: LM, ids: Tensor, chat: bool = False) -> Found:
    """Look for sinks in ids (T,); the primary is one of the first two tokens, behind a chat template of three."""
    candidates = 3 if chat else 2
    # a token's states depend on those before it alone, so the beginning tells which one is the primary
    beginning = residual.trace(lm.model, ids[:candidates])
    at = method.primary(beginning.norm, candidates)
    stream = residual.trace(lm.model, ids, at)
    flags = {"official": method.official(stream.norm, stream.cosine, at)}
    flags |= {f"{k} x": method.by_norm(stream.norm, stream.cosine, at, k) for k in TIMES}
    for flag in flags.values():
        flag[-1] = False  # no attention reads what the last layer leaves
    end = max(at + 1, len(ids) - LATE)
    return Found(stream, ids, {rule: method.sinks(flag[:, :end]) for rule, flag in flags.items()})


def like(found: Found, sink: method.Sink, rule: str = RULE) -> list[int]:
    """The tokens nearest to ``sink`` that have its id and that ``rule`` flags nowhere, `CONTROLS` at most."""
    flagged = {one.token for one in found.sinks[rule]}
    same = (found.ids == found.ids[sink.token]).nonzero()[:, 0].tolist()
    free = [place for place in same if place in found.scored and place not in flagged]
    return sorted(free, key=lambda place: abs(place - sink.token))[:CONTROLS]


def others(found: Found, sinks: list[method.Sink]) -> dict[int, int]:
    """By sink, one token that is none, no token twice: the nearest like one that is free, else the nearest of all."""
    taken, pairs = {one.token for one in found.sinks[RULE]}, {}
    for sink in sinks:
        nearest = sorted(found.scored, key=lambda place, sink=sink: abs(place - sink.token))
        free = [place for place in [*like(found, sink), *nearest] if place not in taken]
        if free:
            pairs[sink.token] = free[0]
            taken.add(free[0])
    return pairs
