"""Ways to prune the search: the paper's ranking, and what a sceptic would run instead.

A gate says which recipes a basket is compared with, (B, R). `Asking` is what all of them see.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from claimbook.experiments.grocery_ranking.ingredients import staples
from claimbook.papers.grocery_ranking import Database, Recommender, best_matches, similarity

MATCHES = 5  # recipes whose missing items are recommended


@dataclass(frozen=True)
class Asking:
    """Baskets (B, I) put to a database, and what they hide (B, I); the method learned from it, and what that searches.

    ``target`` (B,): the subcategory of the recipe that each was cut from. ``scored``: the mean share of recipes that
    the method compares a basket with, the budget of the other gates. ``smoothing``: of naive Bayes, alpha.
    """

    known: Database
    given: np.ndarray
    hidden: np.ndarray
    target: np.ndarray
    method: Recommender
    searched: np.ndarray
    smoothing: float = 1.0

    @property
    def scored(self) -> float:
        return float(self.searched.mean())

    @cached_property
    def similar(self) -> np.ndarray:
        """How similar each recipe is to each basket, (B, R)."""
        return similarity(self.given, self.known.has, self.method.reading.match)

    @cached_property
    def five(self) -> np.ndarray:
        """Brute force's five best matches, (B, 5)."""
        return best_matches(self.similar, np.ones_like(self.searched), MATCHES)


Gate = Callable[[Asking], np.ndarray]


def staple_columns(database: Database) -> np.ndarray:
    """Which items are staples, bool (I,)."""
    return np.array([item in staples() for item in database.items])


def item_ranking(asking: Asking) -> np.ndarray:
    """The method."""
    return asking.searched


def brute_force(asking: Asking) -> np.ndarray:
    """All recipes: the similarity framework that the paper sets out to improve."""
    return np.ones_like(asking.searched)


def right_one(asking: Asking) -> np.ndarray:
    """The right subcategory alone: the smallest gate that finds the dish."""
    return asking.known.sub == asking.target[:, None]


def inverted_index(asking: Asking) -> np.ndarray:
    """Recipes that share an item with the basket which is no staple.

    A basket of staples alone is compared with all that share one of them.
    """
    keys = asking.given * ~staple_columns(asking.known)
    only_staples = ~keys.any(axis=1)
    keys[only_staples] = asking.given[only_staples]
    return keys @ asking.known.has.T > 0


def lsh(asking: Asking) -> np.ndarray:
    """What a MinHash LSH forest (datasketch) offers: to each basket the method's mean number of recipes."""
    from datasketch import MinHash, MinHashLSHForest

    def sketch(row: np.ndarray) -> MinHash:
        made = MinHash()
        made.update_batch([str(i).encode() for i in np.flatnonzero(row)])
        return made

    forest = MinHashLSHForest()
    for i, row in enumerate(asking.known.has):
        forest.add(i, sketch(row))
    forest.index()
    found = np.zeros_like(asking.searched)
    budget = round(asking.scored * len(asking.known.has))
    for row, basket in zip(found, asking.given, strict=True):
        if budget:
            row[forest.query(sketch(basket), budget)] = True
    return found


def naive_bayes(asking: Asking) -> np.ndarray:
    """The most probable subcategories by multinomial naive Bayes (scikit-learn), in the budget."""
    return _bayes(asking, asking.smoothing)


def library_bayes(asking: Asking) -> np.ndarray:
    """The same with the library's own smoothing."""
    return _bayes(asking, 1.0)


def _bayes(asking: Asking, smoothing: float) -> np.ndarray:
    from sklearn.naive_bayes import MultinomialNB

    model = MultinomialNB(alpha=smoothing).fit(asking.known.has, asking.known.sub)
    probability = np.zeros((len(asking.given), len(asking.known.subcategories)))
    probability[:, model.classes_] = model.predict_proba(asking.given)
    return in_budget(asking, np.argsort(-probability, axis=1, kind="stable"))


def at_random(asking: Asking) -> np.ndarray:
    """Subcategories in random order, in the budget: what activation is worth."""
    count = len(asking.known.subcategories)
    order = np.tile(np.arange(count), (len(asking.given), 1))
    return in_budget(asking, _luck(asking).permuted(order, axis=1))


def _luck(asking: Asking) -> np.random.Generator:
    """Random numbers of the baskets' own, so that every drawing of baskets has others."""
    return np.random.default_rng(zlib.crc32(np.packbits(asking.given > 0).tobytes()))


def in_budget(asking: Asking, order: np.ndarray) -> np.ndarray:
    """(B, R): recipes of the first subcategories of each basket's ``order`` (B, S), to the method's mean share.

    Each basket gets t subcategories, and some, spread over the baskets, one more: so many that the mean is the budget.
    """
    size = np.bincount(asking.known.sub, minlength=order.shape[1]) / len(asking.known.sub)
    means = np.concatenate([[0], size[order].cumsum(axis=1).mean(axis=0)])
    whole = min(int(np.searchsorted(means, asking.scored, side="right")) - 1, order.shape[1] - 1)
    more = (asking.scored - means[whole]) / (means[whole + 1] - means[whole])
    opened = whole + _luck(asking).permutation(np.arange(len(order)) < round(more * len(order)))
    return (np.argsort(order, axis=1) < opened[:, None])[:, asking.known.sub]


GATES: dict[str, Gate] = {
    "item ranking": item_ranking,
    "brute force": brute_force,
    "right one": right_one,
    "random": at_random,
    "inverted index": inverted_index,
    "naive Bayes": naive_bayes,
}
SHOWN: dict[str, Gate] = {"LSH": lsh, "naive Bayes, library's smoothing": library_bayes}  # and not judged
