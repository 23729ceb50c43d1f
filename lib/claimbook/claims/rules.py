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
    """The last number is at least 1.1 times the first."""
    return series[-1] >= 1.1 * series[0]


def more_than_half_hold(series: Series) -> bool:
    """More than half of the cases, 1 where the thing holds and 0 where not."""
    return 2 * sum(series) > len(series)


def nine_in_ten_hold(series: Series) -> bool:
    """At least nine in ten of the cases, 1 where the thing holds and 0 where not."""
    return 10 * sum(series) >= 9 * len(series)


# rule -> how often it holds by luck alone for a series of k numbers in random order; None: the ledger has to say why
RULES = {
    strictly_rising: lambda k: 1 / math.factorial(k),
    strictly_falling: lambda k: 1 / math.factorial(k),
    first_is_largest: lambda k: 1 / k,
    a_tenth_more_at_the_end: None,
    more_than_half_hold: None,
    nine_in_ten_hold: None,
}
NAMED = {rule.__name__: rule for rule in RULES}


def follows(name: str, series: Series) -> bool:
    """Whether a series of at least two finite numbers follows a rule; ClaimbookError for another name or series."""
    if name not in NAMED:
        raise ClaimbookError(f"no rule '{name}', there are {', '.join(NAMED)}")
    if len(series) < 2 or not all(map(math.isfinite, series)):
        raise ClaimbookError(f"rule {name} takes a series of at least two finite numbers, not {list(series)}")
    return bool(NAMED[name](series))


def least_chance(name: str, length: int) -> float:
    """How often a rule holds by luck for a series of this length; 0 where only the ledger can say."""
    by_luck = RULES[NAMED[name]]
    return by_luck(length) if by_luck else 0.0


def votes(name: str, chance: float, units: Iterable[Series], unit: str = "units") -> Votes:
    """How many units, a series each, follow the rule. ``chance``: how often that happens by luck, as in the ledger."""
    held = [follows(name, series) for series in units]
    return Votes(sum(held), len(held), chance, name, unit)
