"""Measurements and their 95 % intervals: small-sample methods that cover what they promise.

The unit of resampling is the thing the finding should generalise over: an entry of ``samples`` is one document, user,
scan or seed. Whatever is nested inside (blocks of a document) is averaged before it comes here; comparing A with B on
the same units is paired.

**Interval of a mean.** At each end the wider of two: Student's t, right for symmetric and heavy-tailed data, and the
studentized bootstrap (Efron and Tibshirani 1993, ch. 12.5), right for skewed data. The plain percentile bootstrap is
too short at n = 20 (91 % on normal data, 84 % on lognormal with sigma 1) and BCa hardly better (90 %, 85 %); the
studentized one alone misses about a point, so it is taken at 96 %. Simulated coverage at n = 20 and 40, see
``tests/test_simulated_truth.py``: 95-97 % for normal, t(3), exponential, chi-squared(1), gamma(1/4) and lognormal
(sigma 1/2) data, at most 5 % beyond either end. Known limit: lognormal with sigma 1 (skewness 6) at n = 20 reaches
93 %, with 7 % beyond the long end; no distribution-free interval does much better there: take 40 units, or the
logarithm.
With fewer than 8 units (seeds) resamples are too few, with more than 1,000 they cost too much: Student's t alone. There
rare events are covered less than promised (a thing that happens to one unit in 200, over 1,001 units: 13 % beyond one
end), so that a share of units is a `proportion`, never a `mean` of zeros and ones.

**Rules for bad data.** Nothing is dropped and nothing raises; what has no interval gets NaN ends, and then its part
stays open:

- a NaN or infinite sample: a failed measurement, value and interval NaN;
- empty: value and interval NaN, n = 0; a single sample: a value without an interval;
- constant samples (spread within rounding): a value without an interval, as their spread is unknown, not zero, unless
  the quantity has ends. What is deterministic is an `Exact`, "all 20 agree" is a `proportion` or `Votes`;
- so few distinct values that a resample without spread is likely (19 zeros and a one): a value without an interval,
  unless the quantity has ends (`mean` with ``within``), which leave a wide but exact one.

A wrong shape or unequal pairs are a programmer's mistake: ``ValueError``.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np
from scipy.special import betainc, betaincinv, stdtrit

TAIL = 0.025  # of a two-sided 95 % interval
BOOTSTRAP_TAIL = 0.02
ROUNDING = 1e-12  # relative spread below which samples count as constant
EDGE = 1e-6  # of a bounded quantity's range: as far as rounding in float32 may carry it beyond an end
_by_rule = np.errstate(all="ignore")  # overflow and NaN end by the rules above, so numpy need not warn


class Measured:
    """What every measurement can say of itself: the stored runs and arms (models as trained) it was measured on."""

    def of(self, *arms: str) -> Self:
        """The same measurement, marked with its arms: ``estimate.of("text_fixed", "text_fixed_slow")``."""
        return replace(self, arms=arms)


@dataclass(frozen=True)
class Estimate(Measured):
    """A sampled quantity with its two-sided 95 % interval.

    ``n`` counts the resampled units, named by ``unit``. ``scale="log"`` marks ratios: the ends are on the ratio's own
    scale, `halfwidth` on the log scale. NaN ends mean: no interval could be had.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    scale: str = "linear"
    unit: str = "units"
    arms: tuple[str, ...] = ()

    @property
    def halfwidth(self) -> float:
        """Half the interval's width, on the scale of the estimate."""
        if self.scale == "log":
            return (math.log(self.high) - math.log(self.low)) / 2 if self.low > 0 else math.nan
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Votes(Measured):
    """How many of ``n`` units (seeds, documents) follow a rule that holds with probability ``chance`` by luck."""

    agree: int
    n: int
    chance: float
    rule: str = ""
    unit: str = "units"
    arms: tuple[str, ...] = ()

    def __post_init__(self):
        if not (0 <= self.agree <= self.n and 0 < self.chance < 1):
            raise ValueError(f"votes need 0 <= agree <= n and 0 < chance < 1, not {self}")

    @property
    def p_value(self) -> float:
        """P(X >= agree) for X ~ Binomial(n, chance)."""
        return float(betainc(self.agree, self.n - self.agree + 1, self.chance)) if self.agree else 1.0


@dataclass(frozen=True)
class Exact(Measured):
    """A deterministic quantity, with nothing sampled: arithmetic, an identity, a count of bytes."""

    value: float
    n: int = 1
    method: str = "deterministic"
    arms: tuple[str, ...] = ()


@_by_rule
def mean(
    samples, *, unit: str = "units", within: tuple[float, float] | None = None, resamples=10_000, seed=0
) -> Estimate:
    """Mean over independent units, shape (n,); the order of the units does not matter.

    ``within``: the least and the largest value that the quantity can have. Samples that rounding carried over an end
    are brought back to it; ValueError for one that is really outside. With ends, samples of too few distinct values,
    which have too little spread to judge by, get an interval too, and no interval leaves the ends: see `_few_valued`.
    """
    samples = np.asarray(samples, dtype=float)
    if within is not None:
        samples = clipped(samples, *within)
    found = _mean(samples, np.abs(samples).max(initial=0), "mean", unit, resamples, seed)
    if within is None or found.n < 2 or not np.isfinite(samples).all():
        return found
    if not math.isfinite(found.low):
        return _few_valued(samples, *within, unit)
    if within[0] <= found.low and found.high <= within[1]:
        return found
    exact = _few_valued(samples, *within, unit)  # the bootstrap left the range: nearly all samples are one value
    low = found.low if found.low >= within[0] else exact.low
    high = found.high if found.high <= within[1] else exact.high
    return replace(found, low=low, high=high)


def _few_valued(samples: np.ndarray, least: float, most: float, unit: str) -> Estimate:
    """The interval of a bounded mean from the most frequent value alone, for samples (n,) that are nearly all equal.

    A mean is at most ``v + P(X > v) (most - v)``, and likewise below, where v is the most frequent value and the share
    beyond it has the exact upper limit of Clopper and Pearson (1934). For n equal values that limit is
    ``1 - 0.025^(1/n)``. It is wide, and closes a part that is far from its bound.
    """
    close = EDGE * (most - least)
    ordered = np.sort(samples)
    count = np.searchsorted(ordered, ordered + close, "right") - np.searchsorted(ordered, ordered - close)
    usual = ordered[count.argmax()]
    above = proportion(np.sum(samples > usual + close), len(samples)).high
    below = proportion(np.sum(samples < usual - close), len(samples)).high
    low, high = usual - below * (usual - least), usual + above * (most - usual)
    value = np.clip(samples.mean(), low, high)  # the mean of equal numbers may be off by its last bit
    method = f"mean over {unit}, few distinct values, exact binomial share of others"
    return Estimate(float(value), float(low), float(high), len(samples), method, unit=unit)


def clipped(samples: np.ndarray, least: float, most: float) -> np.ndarray:
    """Samples (n,) of a quantity between ``least`` and ``most``, those beyond an end by rounding alone set to it.

    A processor's own order of summation makes a cosine 1.0000000000000002. ValueError names a sample that is outside
    by more than `EDGE` of the range; NaN and infinite ones are left for the rules of this module.
    """
    reach = EDGE * (most - least)
    outside = samples[np.isfinite(samples) & ((samples < least - reach) | (samples > most + reach))]
    if len(outside):
        raise ValueError(f"a sample of {outside[0]} lies outside {least} to {most}")
    return np.where(np.isfinite(samples), np.clip(samples, least, most), samples)


@_by_rule
def paired_difference(a, b, *, unit: str = "units", resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Mean of ``a - b`` over units measured both ways, each of shape (n,)."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal shapes, not {a.shape} and {b.shape}")
    size = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    return _mean(a - b, size, "paired difference", unit, resamples, seed)


@_by_rule
def ratio_of_exp(a, b, *, unit: str = "units", resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Ratio of geometric means ``exp(mean(a - b))``, on the log scale.

    With per-document mean losses in nats, (n,) each, it is the perplexity ratio of a over b; with the logarithms of
    positive quantities, such as milliseconds, the ratio of their geometric means.
    """
    logs = paired_difference(a, b, unit=unit, resamples=resamples, seed=seed)
    value, low, high = np.exp([logs.value, logs.low, logs.high])
    method = f"exp of {logs.method}"
    if math.isnan(logs.low):
        return Estimate(float(value), math.nan, math.nan, logs.n, method, "log", unit)
    return _estimate(value, low, high, logs.n, method, unit, scale="log")


@_by_rule
def ratio_of_means(a, b, *, unit: str = "units") -> Estimate:
    """Mean of ``a`` over mean of ``b``, paired, each of shape (n,), with the interval of Fieller (1954).

    It holds the ratios R for which Student's t leaves the mean of ``a - R b`` undecided, so that a bound is judged as
    the difference from it would be. No interval where ``b`` itself may be 0: the ratio may be anything then.
    """
    a, b = _checked(a), _checked(b)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal shapes, not {a.shape} and {b.shape}")
    method = f"ratio of means over {unit}, Fieller's interval"
    (above, problem), (below, _) = _value(a, 0.0), _value(b, 0.0)
    value = above / below if len(a) and below > 0 else math.nan
    if problem or len(a) < 2:
        return _without_interval(value, len(a), method, problem, unit)
    (aa, ab), (_, bb) = _t(len(a)) ** 2 / len(a) * np.cov(a, b)
    square, linear, constant = below**2 - bb, above * below - ab, above**2 - aa
    if not (square > 0 and below > 0):
        return _without_interval(value, len(a), method, f"the denominator may be 0 over these {unit}", unit)
    root = math.sqrt(max(linear**2 - square * constant, 0.0))
    return _estimate(value, (linear - root) / square, (linear + root) / square, len(a), method, unit)


@_by_rule
def slope(x, y, *, unit: str = "units", resamples: int = 10_000, seed: int = 0) -> Estimate:
    """Mean over units of each unit's least-squares slope.

    ``y`` has shape (n, k): k points for each unit; ``x`` has shape (k,), or (n, k) where units differ. A unit whose x
    does not vary has no slope: NaN.
    """
    y = np.asarray(y, dtype=float)
    if y.ndim != 2 or y.shape[1] == 0:
        raise ValueError(f"slopes need y of shape (units, points), not {y.shape}")
    x = np.broadcast_to(np.asarray(x, dtype=float), y.shape)
    dx = x - x.mean(axis=1, keepdims=True)
    slopes = (dx * (y - y.mean(axis=1, keepdims=True))).sum(axis=1) / (dx**2).sum(axis=1)
    size = np.abs(y).max(initial=0) / np.abs(dx).max(initial=0)
    return _mean(slopes, size, "mean slope", unit, resamples, seed)


@_by_rule
def median(samples, *, unit: str = "units") -> Estimate:
    """Median over independent units, shape (n,), with the interval between two order statistics.

    The ranks come from the binomial distribution with one half, so that nothing is assumed of the samples' shape, and
    a few that are far off, such as a stall of a machine, move nothing. Six samples are the least that have one.
    """
    x = np.sort(_checked(samples))
    value, problem = _value(x, np.abs(x).max(initial=0))
    method = f"median over {unit}, order statistics"
    rank = _rank(len(x))
    if problem or not rank:
        return _without_interval(value, len(x), method, problem or "too few samples", unit)
    return _estimate(np.median(x), x[rank - 1], x[-rank], len(x), method, unit)


@_by_rule
def median_ratio(a, b, *, unit: str = "units") -> Estimate:
    """Median of the ratio of two positive quantities, paired, from their logarithms of shape (n,), on the log scale."""
    logs = median(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), unit=unit)
    value, low, high = np.exp([logs.value, logs.low, logs.high])
    return replace(
        logs, value=float(value), low=float(low), high=float(high), method=f"exp of {logs.method}", scale="log"
    )


def _rank(n: int) -> int:
    """The largest r such that the median lies below the r-th of n samples with probability 0.025 at most; 0: none."""
    below = np.cumsum([math.comb(n, k) for k in range(n + 1)]) / 2**n
    return int(np.sum(below <= TAIL))


def proportion(k: int, n: int, *, unit: str = "units") -> Estimate:
    """Share k / n with the exact interval of Clopper and Pearson (1934), which never covers less than 95 %."""
    if not 0 <= k <= n:
        raise ValueError(f"a proportion needs 0 <= k <= n, not {k} of {n}")
    k, n = int(k), int(n)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, f"share of {unit} (no interval: no samples)", unit=unit)
    low = float(betaincinv(k, n - k + 1, TAIL)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - TAIL)) if k < n else 1.0
    return Estimate(k / n, low, high, n, f"share of {unit}, exact binomial interval", unit=unit)


def _mean(x: np.ndarray, size: float, what: str, unit: str, resamples: int, seed: int) -> Estimate:
    """The interval of the module's docstring; ``size`` is the magnitude of the numbers x was computed from."""
    x = _checked(x)
    value, problem = _value(x, size)
    if problem:
        return _without_interval(value, len(x), f"{what} over {unit}", problem, unit)
    bootstrap = 8 <= len(x) <= 1000
    method = f"{what} over {unit}, Student's t{' and studentized bootstrap, the wider' if bootstrap else ''}"
    down = up = _t(len(x))
    if bootstrap:
        lower_tail, upper_tail = _studentized_tails(x, resamples, seed)
        down, up = max(down, upper_tail), max(up, -lower_tail)
    error = x.std(ddof=1) / math.sqrt(len(x))
    return _estimate(value, value - down * error, value + up * error, len(x), method, unit)


def _estimate(value, low, high, n: int, method: str, unit: str, scale: str = "linear") -> Estimate:
    """An estimate whose interval has finite ends on either side of its value, or none at all."""
    if math.isfinite(low) and math.isfinite(high) and low < value < high:
        return Estimate(float(value), float(low), float(high), n, method, scale, unit)
    return replace(
        _without_interval(float(value), n, method, "too few distinct values or beyond the range of floats", unit),
        scale=scale,
    )


def _checked(samples) -> np.ndarray:
    x = np.asarray(samples, dtype=float)
    if x.ndim != 1:
        raise ValueError(f"samples need shape (units,), not {x.shape}")
    return x


def _value(x: np.ndarray, size: float) -> tuple[float, str]:
    """The mean, and what forbids an interval ("" when nothing does); ``size`` as in `_mean`."""
    if len(x) == 0:
        return math.nan, "no samples"
    if not np.isfinite(x).all():
        return math.nan, "a sample is not finite"
    value = float(x.mean())
    if len(x) == 1:
        return value, "a single sample"
    return value, "constant samples" if np.ptp(x) <= ROUNDING * size else ""


def _without_interval(value: float, n: int, method: str, problem: str, unit: str) -> Estimate:
    return Estimate(value, math.nan, math.nan, n, f"{method} (no interval: {problem})", unit=unit)


def _t(n: int) -> float:
    return float(stdtrit(n - 1, 1 - TAIL))


def _studentized_tails(x: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Lower and upper tail of the bootstrapped t statistic of x, shape (n,).

    Samples are sorted and every resample is used with its mirror image, so that the order of the samples does not
    matter and the interval of -x is that of x mirrored.
    """
    x = np.sort(x - x.mean()) / x.std()
    both = np.stack([x, x[::-1]], axis=1)
    counts = _resample_counts(len(x), resamples // 2, seed)
    means, squares = np.split(counts @ np.hstack([both, both**2]) / len(x), 2, axis=1)
    variances = squares - means**2
    flat = variances < ROUNDING
    errors = np.sqrt(np.where(flat, 1, variances) / (len(x) - 1))
    statistics = np.sort(np.where(flat, np.copysign(np.inf, means), means / errors), axis=None)
    beyond = int(BOOTSTRAP_TAIL * len(statistics))
    return statistics[beyond], statistics[-1 - beyond]


@lru_cache(maxsize=4)
def _resample_counts(n: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of n units is drawn, shape (resamples, n); float for a fast product."""
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * resamples).reshape(resamples, n).astype(float)
