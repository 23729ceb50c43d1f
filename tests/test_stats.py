"""Estimates: hand-checked values, the laws an interval obeys, and the written rules for bad data."""

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.stats import binom

from claimbook import stats

pytestmark = pytest.mark.numeric

NUMBERS = st.floats(-1e3, 1e3)
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


def samples():
    """Seeded skewed samples of 8 to 30 units, surely not constant."""
    return st.builds(
        lambda n, seed: np.random.default_rng(seed).gamma(2, 1, n), st.integers(8, 30), st.integers(0, 10**6)
    )


def has_no_interval(estimate):
    return math.isnan(estimate.low) and math.isnan(estimate.high)


# -- values that can be checked by hand or by scipy


def test_few_units_get_students_interval():
    sample = [1.0, 2.0, 4.0, 4.5, 7.0]
    low, high = scipy_stats.t.interval(0.95, 4, np.mean(sample), scipy_stats.sem(sample))
    estimate = stats.mean(sample, unit="seeds")
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3.7, low, high))
    assert (estimate.n, estimate.unit) == (5, "seeds")
    assert estimate.method == "mean over seeds, Student's t"


def test_the_bootstrap_lengthens_the_long_tail_only():
    sample = np.random.default_rng(0).lognormal(0, 1, 20)
    low, high = scipy_stats.t.interval(0.95, 19, sample.mean(), scipy_stats.sem(sample))
    estimate = stats.mean(sample)
    assert estimate.low == pytest.approx(low)
    assert estimate.high > high + 0.1


def test_the_studentized_bootstrap_against_a_plain_loop():
    sample = np.sort(np.random.default_rng(3).gamma(1, 1, 10))
    counts = stats._resample_counts(10, 50, seed=4)
    resamples = [np.repeat(x, count.astype(int)) for x in (sample, sample[::-1]) for count in counts]
    t = sorted((r.mean() - sample.mean()) / (r.std(ddof=1) / math.sqrt(10)) for r in resamples)
    assert stats._studentized_tails(sample, 100, 4) == pytest.approx((t[2], t[-3]))


def test_two_in_a_hundred_resamples_lie_beyond_either_tail():
    """Of a thousand drawn one by one; as few as a hundred would not tell two from two and a half."""
    sample = np.random.default_rng(3).lognormal(0, 1, 12)
    counts = stats._resample_counts(12, 500, seed=4)
    resamples = [np.repeat(x, count.astype(int)) for x in (np.sort(sample), np.sort(sample)[::-1]) for count in counts]
    t = sorted((r.mean() - sample.mean()) / (r.std(ddof=1) / math.sqrt(12)) for r in resamples)
    assert stats._studentized_tails(sample, 1000, 4) == pytest.approx((t[20], t[-21]))
    assert t[20] < t[25] - 0.02 and t[-21] > t[-26] + 0.02, "a half per cent more would be seen"


def test_pairs_are_compared_item_by_item():
    a, b = [3.0, 5.0, 10.0], [1.0, 4.0, 7.0]
    difference, plain = stats.paired_difference(a, b, unit="scans"), stats.mean([2.0, 1.0, 3.0], unit="scans")
    assert difference.method == "paired difference over scans, Student's t"
    assert difference == replace(plain, method=difference.method)


def test_a_perplexity_ratio_is_the_exponential_of_the_difference_of_losses():
    a, b = np.log([8.0, 4.0, 9.0]), np.log([4.0, 2.0, 3.0])
    ratio, difference = stats.ratio_of_exp(a, b), stats.paired_difference(a, b)
    assert ratio.value == pytest.approx(12 ** (1 / 3))
    assert (math.log(ratio.low), math.log(ratio.high)) == pytest.approx((difference.low, difference.high))
    assert ratio.halfwidth == pytest.approx(difference.halfwidth)
    assert ratio.scale == "log"


def test_a_slope_is_each_units_own():
    x, slopes = np.arange(6.0), np.array([0.5, 1.0, 2.5])
    y = slopes[:, None] * x + np.array([[10.0], [-3.0], [0.0]])
    assert stats.slope(x, y).value == pytest.approx(slopes.mean())
    assert stats.slope(np.tile(x, (3, 1)), y) == stats.slope(x, y)


def test_a_share_has_the_exact_binomial_interval():
    interval = scipy_stats.binomtest(17, 20).proportion_ci(method="exact")
    estimate = stats.proportion(17, 20, unit="documents")
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.85, interval.low, interval.high))
    assert stats.proportion(0, 20).low == 0 and stats.proportion(20, 20).high == 1


@given(st.integers(1, 40), st.floats(0.01, 0.99), st.data())
def test_votes_against_scipys_binomial(n, chance, data):
    agree = data.draw(st.integers(0, n))
    expected = scipy_stats.binom.sf(agree - 1, n, chance)
    assert stats.Votes(agree, n, chance).p_value == pytest.approx(expected, abs=1e-12)


# -- laws


@given(samples(), st.randoms())
def test_the_order_of_units_does_not_matter(sample, random):
    shuffled = list(sample)
    random.shuffle(shuffled)
    a, b = stats.mean(sample), stats.mean(shuffled)
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


@given(samples(), st.floats(-50, 50), st.floats(0.01, 100))
def test_units_of_measurement_do_not_matter(sample, shift, factor):
    a, b = stats.mean(sample), stats.mean(shift + factor * sample)
    expected = (shift + factor * a.low, shift + factor * a.high)
    assert (b.low, b.high) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(samples())
def test_no_interval_is_shorter_than_students(sample):
    low, high = scipy_stats.t.interval(0.95, len(sample) - 1, sample.mean(), scipy_stats.sem(sample))
    estimate = stats.mean(sample)
    assert estimate.low <= low + 1e-9 and estimate.high >= high - 1e-9


@given(samples(), st.integers(0, 10**6))
def test_swapping_the_pair_mirrors_the_interval(a, seed):
    b = np.random.default_rng(seed).normal(2, 1, len(a))
    forward, backward = stats.paired_difference(a, b), stats.paired_difference(b, a)
    assert (forward.low, forward.high) == pytest.approx((-backward.high, -backward.low), abs=1e-9)
    ratio, inverse = stats.ratio_of_exp(a, b), stats.ratio_of_exp(b, a)
    assert (ratio.low, ratio.high) == pytest.approx((1 / inverse.high, 1 / inverse.low))


@given(samples())
def test_estimates_repeat_exactly(sample):
    assert stats.mean(sample) == stats.mean(sample)


@given(st.lists(ANY_FLOAT, max_size=25))
def test_an_interval_is_strictly_around_its_value_or_not_there(sample):
    """Whatever comes in, nothing raises, nothing has zero width, and nothing infinite comes out as an interval."""
    for estimate in (stats.mean(sample), stats.median(sample), stats.ratio_of_exp(sample, sample[::-1])):
        assert estimate.n == len(sample)
        finite = math.isfinite(estimate.low) and math.isfinite(estimate.high)
        assert has_no_interval(estimate) or (finite and estimate.low < estimate.value < estimate.high)
        assert has_no_interval(estimate) == ("no interval" in estimate.method)


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_share_lies_in_its_interval(k, n):
    assume(k <= n)
    estimate = stats.proportion(k, n)
    assert has_no_interval(estimate) if n == 0 else 0 <= estimate.low <= k / n <= estimate.high <= 1


# -- the written rules for bad data


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("n", [1, 5, 20])
def test_a_sample_that_is_not_finite_spoils_the_estimate(bad, n):
    estimate = stats.mean([*range(n - 1), bad])
    assert math.isnan(estimate.value) and has_no_interval(estimate)
    assert "not finite" in estimate.method and estimate.n == n
    assert math.isnan(stats.paired_difference([bad] * n, [bad] * n).value)


def test_nothing_sampled_gives_nothing():
    for estimate in (stats.mean([]), stats.slope([1, 2], np.zeros((0, 2))), stats.proportion(0, 0)):
        assert math.isnan(estimate.value) and has_no_interval(estimate) and estimate.n == 0


def test_one_sample_has_a_value_and_no_interval():
    estimate = stats.mean([4.0])
    assert estimate.value == 4 and has_no_interval(estimate)


@given(NUMBERS, st.integers(2, 30))
def test_constant_samples_have_a_value_and_no_interval(constant, n):
    estimate = stats.mean([constant] * n)
    assert estimate.value == pytest.approx(constant) and has_no_interval(estimate)
    assert has_no_interval(stats.median([constant] * n))


@pytest.mark.parametrize("n", [2, 24, 100])
def test_constant_samples_of_a_quantity_with_ends_have_that_of_a_share(n):
    """All n are 0: the mean is at most that of a proportion of 0 in n. In between, either end may have the rest."""
    none = stats.mean([0.0] * n, within=(0, 1), unit="texts")
    share = stats.proportion(0, n)
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, share.high))
    half = stats.mean([0.5] * n, within=(0, 1))
    assert (half.low, half.high) == pytest.approx((0.5 - share.high / 2, 0.5 + share.high / 2))
    assert half.method == "mean over units, few distinct values, exact binomial share of others"


def test_an_obvious_failure_closes_though_its_samples_have_few_values():
    """19 samples of 0 and one of 0.0028 are far from 0.351, whatever the rest of the population does."""
    few = stats.mean([0.0] * 19 + [0.0028], within=(0, 1), unit="samples")
    assert few.value == pytest.approx(0.00014) and few.low == 0 and few.high < 0.351
    assert has_no_interval(stats.mean([0.0] * 19 + [0.0028])), "without ends nothing bounds the rest"
    nearly = stats.mean([0.5] * 23 + [0.5 + 1e-16], within=(0, 1))
    equal = stats.mean([0.5] * 24, within=(0, 1))
    assert (nearly.low, nearly.high) == pytest.approx((equal.low, equal.high)), "the last bit is no other value"


def test_no_interval_leaves_the_ends_of_its_quantity():
    """Nearly equal samples and one apart made the bootstrap's interval reach 41 for a quantity of at most 1."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        near = np.r_[rng.random(19) * 1e-7, 0.01]
        for samples in (near, 1 - near):
            found = stats.mean(samples, within=(0, 1))
            assert 0 <= found.low < found.value < found.high <= 1
    far = stats.mean([1 - 1e-7 * x for x in rng.random(39)] + [0.2], within=(0, 1))
    assert far.low > 0.8, "float32's rounding near 1 is one value"


@pytest.mark.parametrize("n", [8, 20, 40])
@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.2, 0.9), (0.5, 1.0), (0.0, 0.3)])
def test_the_interval_of_few_values_covers(n, low, high):
    """Exactly, by enumeration: two values, the higher one with probability p; at least 95 % for every p."""
    found = [stats.mean([high] * k + [low] * (n - k), within=(0, 1)) for k in range(n + 1)]
    for p in (0.001, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.8, 0.97):
        truth = low + p * (high - low)
        chances = binom.pmf(np.arange(n + 1), n, p)
        assert sum(chance for chance, one in zip(chances, found, strict=True) if one.low <= truth <= one.high) > 0.94


def test_ends_change_nothing_where_samples_vary_and_are_checked_where_not():
    varied = [0.1, 0.2, 0.4, 0.4]
    assert stats.mean(varied, within=(0, 1)) == stats.mean(varied)
    assert has_no_interval(stats.mean([0.5], within=(0, 1)))
    assert has_no_interval(stats.mean([math.nan] * 3, within=(0, 1)))


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (0.0, 100.0)])
@pytest.mark.parametrize("off", [4e-16, -4e-16, 1e-7, -1e-7])
def test_what_rounding_carries_over_an_end_is_brought_back(ends, off):
    """A cosine is 1.0000000000000002 on one processor and 1 on another; in float32 it may be 1.0000001."""
    for end in ends:
        beyond = end + off * max(abs(end), 1.0)
        found, exact = (stats.mean([x] * 24, within=ends) for x in (beyond, end))
        assert (found.value, found.low, found.high) == pytest.approx((exact.value, exact.low, exact.high), abs=1e-4)
        assert ends[0] <= found.low <= found.value <= found.high <= ends[1] and found.method == exact.method
        mixed = stats.mean([beyond, *[sum(ends) / 2] * 23, ends[0], ends[1]], within=ends)
        assert ends[0] <= mixed.value <= ends[1]


@pytest.mark.parametrize("samples", [[2.0] * 5, [0.5, 0.5, 1.001], [0.2, -0.001, 0.4], [0.1, math.nan, 1.5]])
def test_what_is_really_outside_is_refused_whether_samples_vary_or_not(samples):
    with pytest.raises(ValueError, match="outside 0 to 1"):
        stats.mean(samples, within=(0, 1))


def test_samples_that_differ_by_the_last_bit_are_equal():
    equal, nearly = [0.25] * 24, [0.25] * 23 + [math.nextafter(0.25, 1)]
    for one, other in zip(*(astuple(stats.mean(x, within=(0, 1))) for x in (equal, nearly)), strict=True):
        assert one == (pytest.approx(other) if isinstance(one, float) else other)


@given(samples(), st.floats(0.01, 10), st.sampled_from([1.0, 1e3, 1e6]))
def test_a_constant_difference_has_no_interval_though_rounding_makes_it_vary(b, shift, size):
    b = b * size
    assert has_no_interval(stats.paired_difference(b + shift, b))
    assert has_no_interval(stats.slope([0, 1, 2, 3], b[:, None] + shift * np.arange(4)))


def test_a_lone_exception_has_no_interval():
    assert "too few distinct values" in stats.mean([0.0] * 19 + [1.0]).method
    assert has_no_interval(stats.ratio_of_exp([5e3, 6e3, 7e3], [0, 0, 0]))  # beyond the largest float


def test_a_unit_without_a_slope_spoils_the_estimate():
    assert has_no_interval(stats.slope([1.0, 1.0], [[1, 2], [3, 5]]))


def test_wrong_shapes_are_a_programmers_mistake():
    for call in (
        lambda: stats.mean([[1.0, 2.0]]),
        lambda: stats.paired_difference([1.0], [1.0, 2.0]),
        lambda: stats.slope([1.0], [1.0]),
        lambda: stats.proportion(3, 2),
        lambda: stats.Votes(3, 2, 0.5),
        lambda: stats.Votes(1, 2, 0.0),
    ):
        with pytest.raises(ValueError):
            call()


def test_halfwidth_is_on_the_scale_of_the_estimate():
    linear = stats.Estimate(2, 1, 4, 20, "by hand")
    assert linear.halfwidth == 1.5
    assert stats.Estimate(2, 1, 4, 20, "by hand", scale="log").halfwidth == pytest.approx(math.log(2))
    assert math.isnan(stats.Estimate(2, -1, 4, 20, "by hand", scale="log").halfwidth)


def test_a_median_stands_between_order_statistics():
    """The ranks of n = 20 are 6 and 15: 2 x P(B(20, 1/2) <= 5) = 0.041."""
    found = stats.median(np.arange(20.0), unit="rounds")
    assert (found.value, found.low, found.high, found.n) == (9.5, 5.0, 14.0, 20)
    stalled = np.arange(20.0)
    stalled[-1] = 1e6
    assert stats.median(stalled).high == 14.0
    assert has_no_interval(stats.median(np.arange(5.0))) and stats.median(np.arange(6.0)).low == 0.0
    assert has_no_interval(stats.median(np.ones(20))) and has_no_interval(stats.median([1.0, np.nan] * 10))


@pytest.mark.parametrize("seed", range(20))
def test_a_ratio_of_means_is_judged_as_the_difference_from_its_bound(seed):
    draw = np.random.default_rng(seed)
    b = draw.normal(2, 0.4, 5)
    a = 0.6 * b + draw.normal(0, 0.3, 5)
    found = stats.ratio_of_means(a, b, unit="seeds")
    assert found.value == pytest.approx(a.mean() / b.mean()) and found.n == 5
    for end in (found.low, found.high):
        gap = stats.mean(a - end * b)
        assert min(abs(gap.low), abs(gap.high)) < 1e-9, "at its ends the difference is just undecided"
    twice = stats.ratio_of_means(2 * a, b, unit="seeds")
    assert (twice.low, twice.high) == (pytest.approx(2 * found.low), pytest.approx(2 * found.high))


def test_a_ratio_to_what_may_be_nothing_has_no_interval():
    a, b = np.array([1.0, 1.1, 0.9, 1.0, 1.2]), np.array([0.3, -0.2, 0.4, 0.1, -0.3])
    found = stats.ratio_of_means(a, b, unit="seeds")
    assert np.isnan(found.low) and "the denominator may be 0" in found.method
    assert np.isnan(stats.ratio_of_means(a, -np.ones(5)).value), "no size is negative"
    assert np.isnan(stats.ratio_of_means([], []).value) and np.isnan(stats.ratio_of_means([1.0], [2.0]).low)
    assert np.isnan(stats.ratio_of_means([1.0, np.nan], [2.0, 2.1]).value)
    assert np.isnan(stats.ratio_of_means(np.ones(5), np.full(5, 2.0)).low), "constant samples have an unknown spread"
    with pytest.raises(ValueError, match="equal shapes"):
        stats.ratio_of_means(a, b[:4])


def test_a_median_ratio_is_that_of_the_pairs():
    a, b = np.linspace(2, 4, 21), np.ones(21)
    found = stats.median_ratio(np.log(a), np.log(b), unit="rounds")
    assert (found.value, found.scale) == (pytest.approx(3.0), "log") and found.low < 3 < found.high
    assert found.halfwidth == pytest.approx(np.log(found.high / found.low) / 2)
