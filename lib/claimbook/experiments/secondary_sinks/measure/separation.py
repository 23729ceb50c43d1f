"""What tells a sink from the same token elsewhere: a linear probe on what attention and feed-forward layers write."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.secondary_sinks.measure.found import like
from claimbook.experiments.secondary_sinks.measure.inside import look, sinks_of
from claimbook.lm.load import LM

EARLIER = 5  # layers before the start from which on attention is looked at, as in the paper's figure: 17 and 22
RIDGE = 1.0  # penalty of the probe, in units of the number of tokens, features of variance one


@dataclass(frozen=True)
class Row:
    """One text: how often a probe made on the others ranks a sink above a like token, position regressed out.

    ``attention``: by layer from ``first`` on, the last is the start layer. ``enters``, ``feed_forward``: what that
    layer's feed-forward half reads and writes. ``shuffled``: on the attention write of the start layer, from shuffled
    labels. ``waves``: on waves of the position in place of what is written: what position could still tell.
    """

    first: int
    attention: list[float]
    enters: float
    feed_forward: float
    shuffled: float
    waves: float


@dataclass(frozen=True)
class Tokens:
    """Sinks and like tokens of one text: features (n, d) by name, positions (n,), and which are sinks (n,), bool."""

    features: dict[str, Tensor]
    place: Tensor
    is_sink: Tensor


def units(lm: LM, config: dict) -> dict[str, tuple[int, dict[str, Tokens], str]]:
    """Every text that has a sink of the commonest token and start layer, and a like token; with all the others."""
    every, start = sinks_of(lm, config)
    if start is None:
        return {}
    kinds = Counter(int(found.ids[s.token]) for found in every.values() for s in found.secondary() if s.start == start)
    kind, first = kinds.most_common(1)[0][0], max(0, start - EARLIER)
    tokens = {}
    for name, found in every.items():
        sinks = [s for s in found.secondary() if s.start == start and int(found.ids[s.token]) == kind]
        beside = sorted({place for sink in sinks for place in like(found, sink)})
        if not beside:
            continue
        places = torch.tensor([*(sink.token for sink in sinks), *beside])
        inside = look(lm, found.ids, start)
        features = {f"attention {layer}": inside.attention[layer, places] for layer in range(first, start + 1)}
        features |= {"enters": inside.enters[start, places], "feed_forward": inside.feed_forward[start, places]}
        features["waves"] = waves(places)
        tokens[name] = Tokens(features, places.float(), torch.arange(len(places)) < len(sinks))
    return {name: (first, tokens, name) for name in tokens} if len(tokens) > 1 else {}


def measure(lm: LM, unit: tuple[int, dict[str, Tokens], str], config: dict) -> Row:
    first, every, name = unit
    own, others = every[name], [one for key, one in every.items() if key != name]
    features = list(own.features)
    right = {feature: held_out(feature, others, own) for feature in features}
    return Row(
        first=first,
        attention=[right[feature] for feature in features if feature.startswith("attention")],
        enters=right["enters"],
        feed_forward=right["feed_forward"],
        shuffled=held_out(features[-4], [shuffled(one, i) for i, one in enumerate(others)], own),
        waves=right["waves"],
    )


def held_out(feature: str, others: list[Tokens], own: Tokens) -> float:
    """How often a probe of ``feature`` made on ``others`` is right about ``own``; both without what position says."""
    known = joined(others)
    without = position_free(known.features[feature], known.place)
    probe = fitted(without(known.features[feature], known.place), known.is_sink)
    return wins(probe(without(own.features[feature], own.place)), own)


def joined(texts: list[Tokens]) -> Tokens:
    features = {name: torch.cat([one.features[name] for one in texts]) for name in texts[0].features}
    return Tokens(features, torch.cat([one.place for one in texts]), torch.cat([one.is_sink for one in texts]))


def shuffled(tokens: Tokens, seed: int) -> Tokens:
    """The same tokens, whose labels are dealt out at random."""
    order = torch.randperm(len(tokens.place), generator=torch.Generator().manual_seed(seed))
    return Tokens(tokens.features, tokens.place, tokens.is_sink[order])


def waves(place: Tensor) -> Tensor:
    """Sines and cosines of positions (n,), from one token to 10,000 long, (n, 64): any smooth function of position."""
    angles = place[:, None] / 10_000 ** (torch.arange(32) / 32)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def covariates(place: Tensor) -> Tensor:
    """What position can say, (n, 4): as it is, its square, its logarithm, and one."""
    place = place.double()
    scaled = place / 100
    return torch.stack([scaled, scaled**2, (1 + place).log(), torch.ones_like(place)], dim=1)


def position_free(features: Tensor, place: Tensor):
    """A function of features (n, d) and positions (n,) that takes off what position says of them in these tokens."""
    slopes = torch.linalg.lstsq(covariates(place), features.double(), driver="gelsd").solution  # (4, d)
    return lambda some, at: some.double() - covariates(at) @ slopes


def fitted(features: Tensor, is_sink: Tensor):
    """A linear probe: ridge regression on labels that weigh sinks and others alike. Returns features -> scores (n,)."""
    mean, spread = features.mean(dim=0), features.std(dim=0).clamp(min=1e-9)
    x = (features.double() - mean) / spread
    share = is_sink.double().mean()
    y = torch.where(is_sink, 1 - share, -share)
    weights = torch.linalg.solve(x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
    return lambda some: ((some.double() - mean) / spread) @ weights


def wins(scores: Tensor, tokens: Tokens) -> float:
    """Of all pairs of a sink and a like token, the share in which the sink scores higher; ties count half."""
    gaps = scores[tokens.is_sink][:, None] - scores[~tokens.is_sink][None]
    return float(((gaps > 0).double() + (gaps == 0).double() / 2).mean())


EXPERIMENT = ModelExperiment("texts", Row, units, measure)
run = EXPERIMENT.run
