"""Reading alone: the sinks of whole texts by every rule, where they live, what writes them and what they draw."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.secondary_sinks import inputs
from claimbook.experiments.secondary_sinks.measure.found import Found, find, like
from claimbook.experiments.secondary_sinks.measure.words import is_content
from claimbook.experiments.secondary_sinks.stored import RULE, TIMES
from claimbook.lm.load import LM
from claimbook.papers import secondary_sinks as method

DRAWN = 3  # sinks of a text whose norms are kept for a figure: those with the longest states


@dataclass(frozen=True)
class Row:
    """One text; layers are counted from 0, "given" is mean attention over heads and the queries that see a token.

    ``primary``: "start" and "end" of its massive life, "norm" and "given" by layer. ``median_norm``: of all tokens, by
    layer. ``rules``: what each finds, see `summary`. ``overlap`` of two thresholds: intersection over union. ``lived``:
    lifetimes of all that our rule flags beyond noise, the primary's in "primary". ``sinks``: those of our rule, see
    `told`; ``norms``: by layer, of those with the longest states. ``content``: share of content words among all scored
    tokens. ``same``: tokens with a sink's id, of ids that occur twice or more; how many of them our rule does not flag.
    """

    tokens: int
    primary: dict
    median_norm: list[float]
    rules: dict[str, dict]
    overlap: dict[str, dict[str, float]]
    lived: dict
    sinks: list[dict]
    norms: list[list[float]]
    content: float
    same: list[int]


@torch.no_grad()
def measure(lm: LM, ids: Tensor, config: dict) -> Row:
    found = find(lm, ids, inputs.has_chat(lm, config))
    stream, at, (start, end) = found.stream, found.stream.at, found.massive
    sinks = found.secondary()
    life = found.primary_lifetime(RULE)
    longest = sorted(sinks, key=lambda sink: -float(stream.norm[sink.start, sink.token]))[:DRAWN]
    scored = [int(ids[place]) for place in found.scored]
    return Row(
        tokens=len(ids),
        primary={
            "start": start,
            "end": end,
            "norm": stream.norm[:, at].tolist(),
            "given": stream.given[:, at].tolist(),
        },
        median_norm=stream.norm.median(dim=1).values.tolist(),
        rules={rule: summary(found, rule) for rule in found.sinks},
        overlap=overlaps(found),
        lived={
            "primary": life,
            "others": [one.lifetime for one in found.sinks[RULE] if one.lifetime > method.NOISE * life],
        },
        sinks=[told(lm, found, sink) for sink in sinks],
        norms=[stream.norm[:, sink.token].tolist() for sink in longest],
        content=float(np.mean([is_content(lm.tokenizer.decode([one])) for one in scored])) if scored else 0.0,
        same=same_id(found, Counter(scored)),
    )


def summary(found: Found, rule: str) -> dict:
    """Secondary sinks of one rule: how many, their levels with counts, what they, the primary and an even share draw.

    ``longest``: the largest norm of one over the primary's, in the layers after which it is one.
    """
    sinks, stream = found.secondary(rule), found.stream
    levels = Counter(sink.level for sink in sinks)
    known = {"secondary": len(sinks), "levels": [[*level, count] for level, count in sorted(levels.items())]}
    if sinks:
        lives = [(sink.token, sink.attended) for sink in sinks]
        known["given"] = float(np.mean([stream.given[life, token].mean() for token, life in lives]))
        known["even"] = float(np.mean([stream.even[life, token].mean() for token, life in lives]))
        known["primary_given"] = float(np.mean([stream.given[life, stream.at].mean() for _, life in lives]))
        over = [stream.norm[list(s.layers), s.token] / stream.norm[list(s.layers), stream.at] for s in sinks]
        known["longest"] = max(float(one.max()) for one in over)
    return known


def overlaps(found: Found) -> dict[str, dict[str, float]]:
    """Of every two thresholds: intersection over union of their secondary sinks; 1 where neither has any."""
    rules = [f"{k} x" for k in TIMES]
    sets = {rule: {sink.token for sink in found.secondary(rule)} for rule in rules}
    return {
        a: {b: len(sets[a] & sets[b]) / len(sets[a] | sets[b]) if sets[a] | sets[b] else 1.0 for b in rules}
        for a in rules
    }


def told(lm: LM, found: Found, sink: method.Sink) -> dict:
    """One sink: its place, its life, what its start layer writes for it, what it draws; and what like tokens have.

    ``…_along``: lengths along the primary's direction, of the state, of the feed-forward write, and of the next one.
    """
    stream, beside, at = found.stream, like(found, sink), sink.start
    text = lm.tokenizer.decode([int(found.ids[sink.token])])
    start, end = found.massive

    def along(layer: int) -> float:
        return float(stream.feed_forward_norm[layer, sink.token] * stream.feed_forward_along[layer, sink.token])

    return {
        "token": sink.token,
        "start": at,
        "aligned": method.aligned_for(stream.cosine[:, sink.token], at),
        "in_massive_life": start <= at < end,
        "text": text,
        "content": is_content(text),
        "feed_forward_norm": float(stream.feed_forward_norm[at, sink.token]),
        "attention_norm": float(stream.attention_norm[at, sink.token]),
        "feed_forward_cosine": float(stream.feed_forward_along[at, sink.token]),
        "attention_cosine": float(stream.attention_along[at, sink.token]),
        "state_along": float(stream.norm[at, sink.token] * stream.cosine[at, sink.token]),
        "written_along": along(at),
        "next_state_along": float(stream.norm[at + 1, sink.token] * stream.cosine[at + 1, sink.token]),
        "next_written_along": along(at + 1),
        "given": float(stream.given[sink.attended, sink.token].mean()),
        "even": float(stream.even[sink.attended, sink.token].mean()),
        "like": {
            "feed_forward_cosine": float(stream.feed_forward_along[at, beside].mean()),
            "attention_cosine": float(stream.attention_along[at, beside].mean()),
            "given": float(stream.given[sink.attended][:, beside].mean()),
            "even": float(stream.even[sink.attended][:, beside].mean()),
        }
        if beside
        else None,
    }


def same_id(found: Found, counts: Counter) -> list[int]:
    """Of the ids of sinks that occur twice or more: how often they occur, and how often our rule does not flag them."""
    kinds = {int(found.ids[sink.token]) for sink in found.secondary()}
    often = {kind for kind in kinds if counts[kind] > 1}
    flagged = sum(int(found.ids[sink.token]) in often for sink in found.sinks[RULE])
    every = sum(counts[kind] for kind in often)
    return [every, every - flagged]


EXPERIMENT = ModelExperiment("texts", Row, inputs.texts, measure)
run = EXPERIMENT.run
