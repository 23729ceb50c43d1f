"""Rules of ``rank_order`` and ``shape`` parts: named questions to one series of numbers, such as a column of a table.

The same function judges a unit of ours (a document, a seed), the series that the paper published, and the series of
the null, so that what a rule asks can be tried on known answers.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from claimbook.errors import ClaimbookError
from claimbook.stats import Votes

Series = Sequence[float]


def strictly_rising(series: Series) -> bool:
    """Each number is above the one before."""
    return all(a < b for a, b in pairwise(series))


def strictly_falling(series: Series) -> bool:
    """Each number is below the one before."""
    return all(a > b for a, b in pairwise(series))


def first_is_largest(series: Series) -> bool:
    """The first number is above every other."""
    return all(series[0] > other for other in series[1:])


def a_tenth_more_at_the_end(series: Series) -> bool:
    """The last number is at least 1.1 times the first, of positive numbers."""
    return min(series) > 0 and series[-1] >= 1.1 * series[0]


def more_than_half_hold(series: Series) -> bool:
    """More than half of the cases, 1 where the thing holds and 0 where not."""
    return 2 * sum(series) > len(series)


def nine_in_ten_hold(series: Series) -> bool:
    """At least nine in ten of the cases, 1 where the thing holds and 0 where not."""
    return 10 * sum(series) >= 9 * len(series)


def all_hold(series: Series) -> bool:
    """Every case, 1 where the thing holds and 0 where not."""
    return sum(series) == len(series)


def _by_luck(least: int, k: int) -> float:
    """How often at least ``least`` of k cases hold where each does by the toss of a coin."""
    return sum(math.comb(k, held) for held in range(least, k + 1)) / 2**k


# rule -> how often it holds by luck alone for a series of k numbers in random order, or of k tosses of a coin
RULES = {
    strictly_rising: lambda k: 1 / math.factorial(k),
    strictly_falling: lambda k: 1 / math.factorial(k),
    first_is_largest: lambda k: 1 / k,
    a_tenth_more_at_the_end: lambda k: 0.5,
    more_than_half_hold: lambda k: _by_luck(k // 2 + 1, k),
    nine_in_ten_hold: lambda k: _by_luck(math.ceil(0.9 * k), k),
    all_hold: lambda k: _by_luck(k, k),
}
OF_CASES = {more_than_half_hold, nine_in_ten_hold, all_hold}  # their series are 0 and 1
NAMED = {rule.__name__: rule for rule in RULES}


def follows(name: str, series: Series) -> bool:
    """Whether a series of at least two finite numbers follows a rule; ClaimbookError for another name or series."""
    if name not in NAMED:
        raise ClaimbookError(f"no rule '{name}', there are {', '.join(NAMED)}")
    if len(series) < 2 or not all(map(math.isfinite, series)):
        raise ClaimbookError(f"rule {name} takes a series of at least two finite numbers, not {list(series)}")
    if NAMED[name] in OF_CASES and not {*series} <= {0, 1}:
        raise ClaimbookError(f"rule {name} takes a series of 0 and 1, not {list(series)}")
    return bool(NAMED[name](series))


def least_chance(name: str, length: int) -> float:
    """How often a rule holds by luck for a series of this length."""
    return RULES[NAMED[name]](length)


def votes(name: str, chance: float, units: Iterable[Series], unit: str = "units") -> Votes:
    """How many units, a series each, follow the rule. ``chance``: how often that happens by luck, as in the ledger.

    ClaimbookError for a unit whose series is so short that luck does more often.
    """
    held = []
    for series in units:
        held.append(follows(name, series))
        if chance < 0.99 * least_chance(name, len(series)):
            raise ClaimbookError(
                f"rule {name}: chance is {chance:g}, but a series of {len(series)} follows it by luck in "
                f"{least_chance(name, len(series)):.3g} of cases"
            )
    return Votes(sum(held), len(held), chance, name, unit)
