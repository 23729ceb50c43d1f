"""Simulated truth: on data whose effect is known, intervals cover it and verdicts are rarely wrong.

Everything is seeded, so nothing here is flaky; the bands leave room for the error of a simulation (half a point).
"""

from functools import cache

import numpy as np
import pytest
from pydantic import TypeAdapter

from claimbook import stats
from claimbook.claims.ledgers import Part
from claimbook.claims.verdicts import claim_verdict, part_state

pytestmark = pytest.mark.slow

RUNS = 2000
COVERS = (0.93, 0.97)
SLACK = 0.005  # one standard error of a rate of 5 % over 2,000 runs
DATA = {  # name: (draw of a shape, true mean)
    "normal": (lambda rng, shape: rng.normal(0.3, 1, shape), 0.3),
    "heavy tails, t(3)": (lambda rng, shape: rng.standard_t(3, shape), 0.0),
    "exponential, skewness 2": (lambda rng, shape: rng.exponential(1, shape), 1.0),
    "lognormal, skewness 1.8": (lambda rng, shape: rng.lognormal(0, 0.5, shape), np.exp(0.125)),
    "chi-squared, skewness 2.8": (lambda rng, shape: rng.chisquare(1, shape), 1.0),
    "gamma, skewness 4": (lambda rng, shape: rng.gamma(0.25, 1, shape), 0.25),
}


@cache
def simulate(draw, n, runs=RUNS):
    """Estimated means of ``runs`` draws of n units."""
    return [stats.mean(sample) for sample in draw(np.random.default_rng(11), (runs, n))]


def share(outcomes):
    return float(np.mean(list(outcomes)))


def coverage(estimates, truth):
    return share(e.low <= truth <= e.high for e in estimates)


def part(type, **keys):
    precision = {} if type == "equality" else {"precision": {"min_n": 5}}
    precision |= {"min_share": 0.0} if type == "shape" else {}
    return TypeAdapter(Part).validate_python(
        {"name": "p", "quantity": "q", "why": "w", "type": type} | precision | keys
    )


def met(part, measurements):
    return share(part_state(part, measurement) == "met" for measurement in measurements)


@pytest.mark.parametrize("n", [20, 40])
@pytest.mark.parametrize("name", DATA)
def test_the_mean_is_covered_and_its_bound_is_not_met_by_luck(name, n):
    draw, truth = DATA[name]
    estimates = simulate(draw, n)
    assert COVERS[0] <= coverage(estimates, truth) <= COVERS[1] + SLACK
    assert met(part("at_least", bound=truth), estimates) <= 0.05 + SLACK
    assert met(part("at_most", bound=truth), estimates) <= 0.05 + SLACK


def test_the_known_limit_is_as_stated():
    """Lognormal with sigma 1 needs 40 units; at 20 the interval is a little too short."""
    draw, truth = (lambda rng, shape: rng.lognormal(0, 1, shape)), np.exp(0.5)
    assert 0.91 <= coverage(simulate(draw, 20), truth) <= 0.94
    assert 0.93 <= coverage(simulate(draw, 40), truth) <= 0.97


@pytest.mark.parametrize("n", [5, 6, 7, 8, 10])
def test_few_seeds_are_covered_when_roughly_normal(n):
    assert COVERS[0] <= coverage(simulate(DATA["normal"][0], n), 0.3) <= COVERS[1] + SLACK


def test_bounds_beyond_which_the_bootstrap_is_left_out():
    draw, truth = DATA["exponential, skewness 2"]
    estimates = simulate(draw, 1001, runs=1000)
    assert COVERS[0] <= coverage(estimates, truth) <= COVERS[1] + SLACK


def documents(rng, runs, n, blocks=16, effect=0.0):
    """Losses of n documents in blocks, before and after: skewed document effects, blocks alike within a document."""
    level = rng.lognormal(0, 0.5, (runs, n, 1))
    gain = rng.exponential(0.2, (runs, n, 1)) - 0.2 + effect
    before = level + rng.normal(0, 0.2, (runs, n, blocks))
    after = level + gain + rng.normal(0, 0.2, (runs, n, blocks))
    return before, after


@pytest.mark.parametrize("n", [20, 40])
def test_documents_are_the_unit_of_a_paired_difference(n):
    before, after = documents(np.random.default_rng(5), RUNS, n, effect=0.1)
    estimates = [stats.paired_difference(a.mean(1), b.mean(1)) for a, b in zip(after, before, strict=True)]
    assert COVERS[0] <= coverage(estimates, 0.1) <= COVERS[1] + SLACK
    assert met(part("direction", sign=1, min_effect=0.1), estimates) <= 0.05
    assert met(part("equivalent", target=0.0, margin=0.1), estimates) <= 0.05


def test_blocks_taken_for_units_would_not_cover():
    before, after = documents(np.random.default_rng(5), 100, 20, effect=0.1)
    pooled = [stats.paired_difference(a.ravel(), b.ravel()) for a, b in zip(after, before, strict=True)]
    assert coverage(pooled, 0.1) < 0.7


def test_a_percentile_bootstrap_would_not_cover():
    """Why the simple method was not taken."""
    rng = np.random.default_rng(2)
    draws = rng.integers(0, 20, (1000, 20))
    samples = rng.normal(size=(500, 20))
    ends = [np.quantile(sample[draws].mean(1), [0.025, 0.975]) for sample in samples]
    assert share(low <= 0 <= high for low, high in ends) < COVERS[0]


def test_a_perplexity_ratio_is_covered_and_not_met_by_luck_at_its_bound():
    before, after = documents(np.random.default_rng(6), RUNS, 20, effect=np.log(1.1))
    ratios = [stats.ratio_of_exp(a.mean(1), b.mean(1)) for a, b in zip(after, before, strict=True)]
    assert COVERS[0] <= coverage(ratios, 1.1) <= COVERS[1] + SLACK
    assert met(part("at_least", bound=1.1), ratios) <= 0.05
    assert met(part("at_most", bound=1.1), ratios) <= 0.05


def test_a_slope_is_covered():
    rng = np.random.default_rng(7)
    x = np.arange(12.0)
    y = 0.4 * x + rng.normal(0, 0.2, (RUNS, 20, 1)) * x + rng.normal(0, 1, (RUNS, 20, 12))
    assert COVERS[0] <= coverage([stats.slope(x, lines) for lines in y], 0.4) <= COVERS[1] + SLACK


@pytest.mark.parametrize("n", [6, 20, 41])
def test_a_median_is_covered_also_where_a_machine_stalls(n):
    """Times of steps: mostly alike, now and then many times as long."""
    rng = np.random.default_rng(8)
    times = rng.normal(0, 0.1, (RUNS, n)) + 3 * (rng.random((RUNS, n)) < 0.1)
    truth = np.median(rng.normal(0, 0.1, 400_000) + 3 * (rng.random(400_000) < 0.1))
    assert COVERS[0] <= coverage([stats.median(one) for one in times], truth)


@pytest.mark.parametrize("n", [5, 20, 100])
@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_a_share_is_never_covered_less_than_promised(n, chance):
    estimates = [stats.proportion(int(k), n) for k in np.random.default_rng(9).binomial(n, chance, RUNS)]
    assert coverage(estimates, chance) >= 0.945
    assert met(part("at_least", bound=chance), estimates) <= 0.025 + SLACK
    assert met(part("at_most", bound=chance), estimates) <= 0.025 + SLACK


@pytest.mark.parametrize("chance", [0.05, 1 / 6, 0.5])
def test_a_rule_that_holds_by_luck_is_rarely_met(chance):
    rule = part("shape", rule="monotone", chance=chance)
    votes = [stats.Votes(int(k), 20, chance) for k in np.random.default_rng(10).binomial(20, chance, RUNS)]
    assert met(rule, votes) <= 0.05 + SLACK


@pytest.mark.parametrize("name", DATA)
def test_one_part_at_its_bound_is_enough_to_prevent_reproduced(name):
    """A claim of two parts, one clearly true and one exactly at its bound, is reproduced at most one time in twenty."""
    draw, truth = DATA[name]
    parts = {"clear": part("at_least", bound=truth - 50), "at_bound": part("at_most", bound=truth)}
    estimates = simulate(draw, 20)
    verdicts = [claim_verdict({k: part_state(p, e) for k, p in parts.items()}, True) for e in estimates]
    assert share(verdict == "reproduced" for verdict in verdicts) <= 0.05 + SLACK


def test_a_clear_effect_is_found():
    """Power, lest caution win: an effect of one standard deviation beyond the bound is met nearly always."""
    estimates = simulate(DATA["normal"][0], 20)
    assert met(part("at_least", bound=-0.7), estimates) > 0.95
