"""How the cost of a basket grows as the database gets new categories, or new subcategories in each."""

import numpy as np

from claimbook.experiments.grocery_ranking.measure.protocols import Baskets
from claimbook.papers.grocery_ranking import Database, Reading, Recommender

DRAWS = 10  # of two halves each, so that every recipe is in one of them


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

    An operation is one look-up for an item of the basket, or one similarity.
    ``half(rng)``: which recipes are in the first half, bool (R,). Mean over draws. ``whole, right one`` and ``half,
    right one``: the same for a gate that opens the right subcategory alone.
    """
    found = _per_recipe(database, database, made, reading)
    found |= {name.replace("whole", "half"): np.zeros(len(made.recipe)) for name in found}
    for draw in range(DRAWS):
        first = half(np.random.default_rng(draw))
        for rows in (first, ~first):
            at = np.flatnonzero(rows[made.recipe])
            known = database.without(np.flatnonzero(~rows))
            for name, values in _per_recipe(known, database, made[at], reading).items():
                found[name.replace("whole", "half")][at] += values / DRAWS
    return found


def _per_recipe(known: Database, database: Database, made: Baskets, reading: Reading) -> dict[str, np.ndarray]:
    searched = Recommender.learn(known, reading).searched(made.given).sum(axis=1)
    own = np.bincount(known.sub, minlength=len(known.home))[database.sub[made.recipe]]
    look_ups, recipes = made.given.sum(axis=1), len(known.has)
    return {"whole": (searched + look_ups) / recipes, "whole, right one": (own + look_ups) / recipes}
