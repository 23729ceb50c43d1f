"""How the cost of a basket grows as the database gets new categories, or new subcategories in each."""

import numpy as np

from claimbook.experiments.grocery_ranking.measure.baskets import Baskets
from claimbook.papers.grocery_ranking import Database, Reading, Recommender

DRAWS = 5  # of two halves each, so that every recipe is in one of them


def by_categories(database: Database, made: Baskets, reading: Reading) -> dict[str, np.ndarray]:
    """As `_halved`, each half with half of the categories."""
    home = database.home[database.sub]
    return _halved(database, made, reading, lambda rng: _half(len(database.categories), rng)[home])


def by_subcategories(database: Database, made: Baskets, reading: Reading) -> dict[str, np.ndarray]:
    """As `_halved`, each half with half of the subcategories of every category."""

    def half(rng: np.random.Generator) -> np.ndarray:
        chosen = np.zeros(len(database.home), dtype=bool)
        for category in range(len(database.categories)):
            subs = np.flatnonzero(database.home == category)
            chosen[subs] = _half(len(subs), rng)
        return chosen[database.sub]

    return _halved(database, made, reading, half)


def _half(count: int, rng: np.random.Generator) -> np.ndarray:
    """Which of ``count`` things are in the first half; of an odd number, by luck the larger one."""
    return rng.permutation(count) < (count + rng.integers(2)) // 2


def _halved(database: Database, made: Baskets, reading: Reading, half) -> dict[str, np.ndarray]:
    """Operations per recipe in the database, (B,): in the ``whole``, and in the ``half`` that holds the basket's own.

    ``half(rng)``: which recipes are in the first half, bool (R,). Mean over draws.
    """
    found = {"whole": _per_recipe(database, made.given, reading), "half": np.zeros(len(made.recipe))}
    for draw in range(DRAWS):
        first = half(np.random.default_rng(draw))
        for rows in (first, ~first):
            at = rows[made.recipe]
            known = database.without(np.flatnonzero(~rows))
            found["half"][at] += _per_recipe(known, made.given[at], reading) / DRAWS
    return found


def _per_recipe(known: Database, given: np.ndarray, reading: Reading) -> np.ndarray:
    searched = Recommender.learn(known, reading).searched(given)
    return (searched.sum(axis=1) + given.sum(axis=1)) / len(known.has)
