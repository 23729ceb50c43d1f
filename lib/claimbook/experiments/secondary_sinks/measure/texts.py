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

CLASS = 50  # secondary sinks of a text: like tokens of more are not looked for
DRAWN = 3  # sinks of a text whose norms are kept for a figure: those with the longest states


@dataclass(frozen=True)
class Row:
    """One text; layers are counted from 0, "given" is mean attention over heads and the queries that see a token.

    ``primary``: "start" and "end" of its massive life, "norm" and "given" by layer. ``median_norm``: of all tokens, by
    layer. ``rules``: what each finds, see `summary`. ``overlap`` of two thresholds: intersection over union. ``lived``:
    lifetimes of all that our rule flags beyond noise, the primary's in "primary". ``sinks``: those of our rule, see
    `told`; ``norms``: by layer, of those with the longest states. ``content``: share of content words among all scored
    tokens. ``same``: tokens with a sink's id, of ids that occur twice or more; how many of them our rule does not flag.
    ``same_random``: the same of as many tokens drawn at random.
    """

    tokens: int
    primary: dict
    median_norm: list[float]
    rules: dict[str, dict]
    overlap: dict[str, dict[str, float | None]]
    lived: dict
    sinks: list[dict]
    norms: list[list[float]]
    content: float
    same: list[int]
    same_random: list[int]


@torch.no_grad()
def measure(lm: LM, ids: Tensor, config: dict) -> Row:
    found = find(lm, ids, inputs.has_chat(lm, config))
    stream, at, (start, end) = found.stream, found.stream.at, found.massive
    sinks = found.secondary()
    life = found.primary_lifetime(RULE)
    common = sorted({layer for sink in sinks for layer in sink.attended})
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
        sinks=[told(lm, found, sink, common) for sink in sinks],
        norms=[stream.norm[:, sink.token].tolist() for sink in longest],
        content=float(np.mean([is_content(lm.tokenizer.decode([one])) for one in scored])) if scored else 0.0,
        same=same_id(found, Counter(scored), [sink.token for sink in sinks]),
        same_random=same_id(found, Counter(scored), at_random(found, len(sinks))),
    )


def summary(found: Found, rule: str) -> dict:
    """Secondary sinks of one rule: how many, their levels with counts, what they, the primary and an even share draw.

    ``longest``: the largest norm of one over the primary's, in the layers after which it is one. ``cosine``, ``made``:
    of the feed-forward write where a sink starts with the primary's direction, and its share of the state's length
    along that. ``like_given``, ``like_even``: of like tokens, unless the sinks are too many to be a class.
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
        at, tokens = [sink.start for sink in sinks], [sink.token for sink in sinks]
        cosines, written = stream.feed_forward_along[at, tokens], stream.feed_forward_norm[at, tokens]
        state = (stream.norm * stream.cosine)[at, tokens]
        known["cosine"], known["made"] = float(cosines.mean()), float((written * cosines).sum() / state.sum())
        beside = (
            [(s.attended, places) for s in sinks if (places := like(found, s, rule))] if len(sinks) <= CLASS else []
        )
        if beside:
            known["like_given"] = float(np.mean([stream.given[life][:, places].mean() for life, places in beside]))
            known["like_even"] = float(np.mean([stream.even[life][:, places].mean() for life, places in beside]))
    return known


def overlaps(found: Found) -> dict[str, dict[str, float | None]]:
    """Of every two thresholds: intersection over union of their secondary sinks; None where neither has any."""
    rules = [f"{k} x" for k in TIMES]
    sets = {rule: {sink.token for sink in found.secondary(rule)} for rule in rules}
    return {
        a: {b: len(sets[a] & sets[b]) / len(sets[a] | sets[b]) if sets[a] | sets[b] else None for b in rules}
        for a in rules
    }


def told(lm: LM, found: Found, sink: method.Sink, common: list[int]) -> dict:
    """One sink: its place, its life, what its start layer writes for it, what it draws; and what like tokens have.

    ``…_along``: lengths along the primary's direction, of the state and of both writes. ``next_cosine``: of the next
    layer's feed-forward write. ``given_common``: in the layers ``common`` to all sinks of the text. ``heads``: share
    of heads that give it more than 0.3.
    """
    stream, beside, at = found.stream, like(found, sink), sink.start
    text = lm.tokenizer.decode([int(found.ids[sink.token])])
    start, end = found.massive

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
        "next_cosine": float(stream.feed_forward_along[at + 1, sink.token]),
        "state_along": float(stream.norm[at, sink.token] * stream.cosine[at, sink.token]),
        "written_along": float(stream.feed_forward_norm[at, sink.token] * stream.feed_forward_along[at, sink.token]),
        "attended_along": float(stream.attention_norm[at, sink.token] * stream.attention_along[at, sink.token]),
        "given_common": float(stream.given[common, sink.token].mean()),
        "heads": float(stream.heads[sink.attended, sink.token].mean()),
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


def same_id(found: Found, counts: Counter, tokens: list[int]) -> list[int]:
    """Of the ids of some tokens that occur twice or more: how often they occur, and how often our rule flags none."""
    often = {kind for token in tokens if counts[kind := int(found.ids[token])] > 1}
    flagged = sum(int(found.ids[sink.token]) in often for sink in found.sinks[RULE])
    every = sum(counts[kind] for kind in often)
    return [every, every - flagged]


def at_random(found: Found, count: int) -> list[int]:
    """As many scored tokens, drawn at random, always the same for a text."""
    order = torch.randperm(len(found.scored), generator=torch.Generator().manual_seed(0))
    return [found.scored[i] for i in order[:count].tolist()]


EXPERIMENT = ModelExperiment("texts", Row, inputs.texts, measure)
run = EXPERIMENT.run
