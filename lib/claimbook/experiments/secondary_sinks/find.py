"""Sinks of one text by every rule, with what they carry and are given; and tokens of the same kind that are none."""

from dataclasses import asdict, dataclass

from torch import Tensor

from claimbook.lm import residual
from claimbook.lm.load import LM
from claimbook.lm.residual import Stream
from claimbook.papers import secondary_sinks as method

TIMES = (3, 4, 5, 6, 8)  # of the median norm: the range over which our own rule is reported
LATE = 20  # tokens at the end of a text that have too few queries behind them to be scored
CONTROLS = 5  # tokens of the same kind that are compared with one sink, at most


@dataclass(frozen=True)
class Found:
    """One text: its primary, and its secondary sinks by rule ("official", or times the median norm)."""

    stream: Stream
    ids: Tensor
    sinks: dict[str, list[method.Sink]]

    def tokens(self, rule: str) -> set[int]:
        return {sink.token for sink in self.sinks[rule]}


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
    return Found(stream, ids, {rule: method.sinks(flag[:, :scored]) for rule, flag in flags.items()})


def controls(found: Found, rule: str, count: int = CONTROLS) -> dict[int, list[int]]:
    """By sink: the nearest tokens with the same id that no rule flags, at most ``count`` each."""
    flagged = set().union(*(found.tokens(one) for one in found.sinks))
    others = {}
    for sink in found.sinks[rule]:
        same = (found.ids == found.ids[sink.token]).nonzero()[:, 0].tolist()
        free = [place for place in same if place not in flagged and found.stream.at < place < len(found.ids) - LATE]
        others[sink.token] = sorted(free, key=lambda place: abs(place - sink.token))[:count]
    return others


def row(lm: LM, found: Found, rule: str) -> dict:
    """One text as plain numbers: the primary by block, every rule's sinks, and those of ``rule`` by block."""
    stream, beside = found.stream, controls(found, rule)
    start, end = method.clipper(stream.norm[:, stream.at])
    return {
        "tokens": len(found.ids),
        "primary": {"token": stream.at, "start": start, "end": end, **_curves(stream, stream.at)},
        "median_norm": stream.norm.median(dim=1).values.tolist(),
        "rules": {name: [asdict(sink) for sink in sinks] for name, sinks in found.sinks.items()},
        "sinks": [
            asdict(sink)
            | {"text": lm.tokenizer.decode([int(found.ids[sink.token])]), **_curves(stream, sink.token)}
            | {"controls": [_at_start(stream, place, sink.start) for place in beside[sink.token]]}
            | {"at_start": _at_start(stream, sink.token, sink.start)}
            for sink in found.sinks[rule]
        ],
    }


def _curves(stream: Stream, token: int) -> dict[str, list[float]]:
    """What a token carries and is given, by block."""
    return {name: getattr(stream, name)[:, token].tolist() for name in ("norm", "given", "heads")}


def _at_start(stream: Stream, token: int, start: int) -> dict[str, float]:
    """What block ``start`` writes for a token: norms, cosines with its writes for the primary, and with its state."""
    names = [f"{half}_{what}" for half in ("attention", "feed_forward") for what in ("norm", "cosine", "along")]
    return {name: float(getattr(stream, name)[start, token]) for name in names}
