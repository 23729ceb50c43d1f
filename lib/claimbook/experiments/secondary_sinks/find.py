"""Sinks of one text by every rule, with what they carry and are given; and tokens of the same kind that are none."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from claimbook.lm import residual
from claimbook.lm.load import LM
from claimbook.lm.residual import Stream
from claimbook.papers import secondary_sinks as method

TIMES = (3, 4, 5, 6, 8)  # of the median norm: the range over which our own rule is reported
LATE = 64  # tokens at the end of a text that have too few queries behind them to be scored
CONTROLS = 5  # tokens of the same kind that are compared with one sink, at most
DRAWN = 3  # sinks of a text whose curves are kept for figures: those with the longest states
HALVES = ("attention", "feed_forward")


@dataclass(frozen=True)
class Found:
    """One text: its primary, and every token that a rule flags ("official", or so many times the median norm)."""

    stream: Stream
    ids: Tensor
    sinks: dict[str, list[method.Sink]]

    @cached_property
    def massive(self) -> tuple[int, int]:
        """First block in which the primary is massive, and the first in which it no longer is."""
        return method.clipper(self.stream.norm[:, self.stream.at])

    def secondary(self, rule: str) -> list[method.Sink]:
        """The flagged tokens that last long enough to count, and not as long as the primary."""
        start, end = self.massive
        layers = len(self.stream.norm)
        if rule == "official":
            return [one for one in self.sinks[rule] if self._official(one, layers, end - start) == "secondary"]
        primary = self.primary_lifetime(rule)
        return [one for one in self.sinks[rule] if method.rescaled_label(one.lifetime, primary) == "secondary"]

    @staticmethod
    def _official(sink: method.Sink, layers: int, primary: int) -> str:
        return method.official_label(sink.lifetime, layers, primary)

    def primary_lifetime(self, rule: str) -> int:
        """Blocks in which the primary itself meets a rule."""
        start, end = self.massive
        if rule == "official":
            return end - start
        return int(method.long(self.stream.norm, int(rule.split()[0]))[:-1, self.stream.at].sum())


def find(lm: LM, ids: Tensor, chat: bool = False) -> Found:
    """Look for sinks in ids (T,); the primary is one of the first two tokens, behind a chat template of three."""
    candidates = 3 if chat else 2
    # a token's states depend on those before it alone, so the beginning tells which one is the primary
    beginning = residual.trace(lm.model, ids[:candidates])
    at = method.primary(beginning.norm, candidates)
    stream = residual.trace(lm.model, ids, at)
    scored = stream.norm.shape[1] - LATE
    flags = {"official": method.official(stream.norm, stream.cosine, at)}
    flags |= {f"{k} x": method.by_norm(stream.norm, stream.cosine, at, k) for k in TIMES}
    for flag in flags.values():
        flag[-1] = False  # no attention reads what the last block leaves
    return Found(stream, ids, {rule: method.sinks(flag[:, :scored]) for rule, flag in flags.items()})


def controls(found: Found, rule: str, count: int = CONTROLS) -> dict[int, list[int]]:
    """By secondary sink: like tokens, the nearest with the same id that ``rule`` does not flag, at most ``count``."""
    flagged = {sink.token for sink in found.sinks[rule]}
    others = {}
    for sink in found.secondary(rule):
        same = (found.ids == found.ids[sink.token]).nonzero()[:, 0].tolist()
        free = [place for place in same if place not in flagged and found.stream.at < place < len(found.ids) - LATE]
        others[sink.token] = sorted(free, key=lambda place: abs(place - sink.token))[:count]
    return others


# --- a text as plain numbers ---------------------------------------------------------------------------------------


def row(lm: LM, found: Found, rule: str) -> dict:
    """One text: the primary by block, what each rule finds, and the secondary sinks of ``rule`` one by one.

    ``little``: share of all scored tokens without a letter. ``drawn``: curves of the sinks with the longest states.
    ``same``: how many scored tokens have a sink's id, of ids that occur twice or more, and how many of them ``rule``
    does not flag, however briefly.
    Numbers have four digits.
    """
    stream, beside = found.stream, controls(found, rule)
    start, end = found.massive
    sinks = found.secondary(rule)
    longest = sorted(sinks, key=lambda sink: -float(stream.norm[sink.start, sink.token]))[:DRAWN]
    scored = found.ids[stream.at + 1 : len(found.ids) - LATE].tolist()
    return _short(
        {
            "tokens": len(found.ids),
            "primary": {"token": stream.at, "start": start, "end": end, **_curves(stream, stream.at)},
            "median_norm": stream.norm.median(dim=1).values.tolist(),
            "rules": {name: summary(found, name) for name in found.sinks},
            "overlap": overlaps(found),
            "sinks": [_told(lm, found, sink, beside[sink.token]) for sink in sinks],
            "drawn": [{"token": sink.token, **_curves(stream, sink.token)} for sink in longest],
            "little": float(np.mean([little_meaning(lm.tokenizer.decode([one])) for one in scored])),
            "same": _same(found, rule, Counter(scored)),
        }
    )


def summary(found: Found, rule: str) -> dict:
    """What one rule finds: how many tokens it flags, its secondary sinks' levels, and what these are given."""
    sinks, stream = found.secondary(rule), found.stream
    levels = Counter(sink.level for sink in sinks)
    told = {
        "flagged": len(found.sinks[rule]),
        "secondary": len(sinks),
        "levels": [[*level, count] for level, count in sorted(levels.items())],
        "primary_lifetime": found.primary_lifetime(rule),
    }
    if sinks:
        lives = [(sink.token, sink.attended) for sink in sinks]
        told["given"] = float(np.mean([stream.given[life, token].mean() for token, life in lives]))
        told["even"] = float(np.mean([stream.even[life, token].mean() for token, life in lives]))
        told["primary_given"] = float(np.mean([stream.given[life, stream.at].mean() for _, life in lives]))
        told["contiguous"] = sum(sink.contiguous for sink in sinks)
        told["longest"] = max(_over_primary(stream, sink) for sink in sinks)
    return told


def _over_primary(stream: Stream, sink: method.Sink) -> float:
    """The largest norm of a sink over the primary's, in the blocks after which it is one."""
    blocks = list(sink.blocks)
    return float((stream.norm[blocks, sink.token] / stream.norm[blocks, stream.at]).max())


def overlaps(found: Found) -> dict[str, dict[str, float]]:
    """Of every two thresholds: intersection over union of their secondary sinks; 1 where neither has any."""
    rules = [f"{k} x" for k in TIMES]
    sets = {rule: {sink.token for sink in found.secondary(rule)} for rule in rules}
    return {
        a: {b: len(sets[a] & sets[b]) / len(sets[a] | sets[b]) if sets[a] | sets[b] else 1.0 for b in rules}
        for a in rules
    }


def _told(lm: LM, found: Found, sink: method.Sink, beside: list[int]) -> dict:
    """One sink: where it lives, its text, what it is given, what its first block writes for it and for its like."""
    stream = found.stream
    text = lm.tokenizer.decode([int(found.ids[sink.token])])
    written, like = at_block(stream, [sink.token], sink.start), at_block(stream, beside, sink.start)
    return {
        "token": sink.token,
        "start": sink.start,
        "lifetime": sink.lifetime,
        "text": text,
        "little": little_meaning(text),
        "first": bool((found.ids[: sink.token] != found.ids[sink.token]).all()),
        "aligned": method.aligned_for(stream.cosine[:, sink.token], sink.start),
        "given": float(stream.given[sink.attended, sink.token].mean()),
        "given_like": float(stream.given[sink.attended][:, beside].mean()) if beside else None,
        "state": float(stream.norm[sink.start, sink.token]),
        "written": {name: values[0] for name, values in written.items()},
        "like": {name: float(np.mean(values)) for name, values in like.items()} if beside else None,
        "wins": {
            half: float(np.mean([written[f"{half}_along"][0] > other for other in like[f"{half}_along"]]))
            for half in HALVES
        }
        if beside
        else None,
    }


def at_block(stream: Stream, tokens: list[int], block: int) -> dict[str, list[float]]:
    """What one block writes for tokens: norms of both halves, and cosines with the primary's state."""
    names = [f"{half}_{what}" for half in HALVES for what in ("norm", "along")]
    return {name: getattr(stream, name)[block, tokens].tolist() for name in names}


def _same(found: Found, rule: str, counts: Counter) -> list[int]:
    """Of the ids of sinks that occur twice or more: how often they occur, and how often ``rule`` does not flag them."""
    kinds = {int(found.ids[sink.token]) for sink in found.secondary(rule)}
    often = {kind for kind in kinds if counts[kind] > 1}
    flagged = sum(int(found.ids[sink.token]) in often for sink in found.sinks[rule])
    every = sum(counts[kind] for kind in often)
    return [every, every - flagged]


def _curves(stream: Stream, token: int) -> dict[str, list[float]]:
    """What a token carries and is given, by block."""
    return {name: getattr(stream, name)[:, token].tolist() for name in ("norm", "given", "heads")}


def little_meaning(text: str) -> bool:
    """Whether a token has no letter: spaces, digits, signs."""
    return not any(letter.isalpha() for letter in text)


def _short(value):
    """Floats to four significant digits, all the way down."""
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
