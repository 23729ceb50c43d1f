"""Recommending groceries by ranking items (Nath and Sen 2021, arXiv 2105.00650).

Only the abstract could be read. It fixes the steps: categories hold subcategories, *identifiers* tell categories
apart, ranked *differentiators* tell the subcategories of a category apart, a score over the ranks of a basket's items
activates a subcategory when it reaches a threshold, and the basket is compared with the recipes of active
subcategories alone. The formulas are our reading; where the text leaves more than one open, `Reading` names variants.

Items, recipes and subcategories are rows and columns of NumPy arrays: I items, R recipes, S subcategories, C
categories, B baskets. Baskets and recipes are 0/1 rows of length I.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """A dish: its place in the two-level hierarchy and its set of items."""

    title: str
    category: str
    subcategory: str
    items: frozenset[str]


@dataclass(frozen=True)
class Reading:
    """One reading of the text. The defaults are the simplest forms that satisfy every sentence of the abstract.

    ``n``: items kept per ranked list. ``theta``: threshold of activation, for scores in [0, 1].
    ``rank``: what tells a subcategory apart. diff: P(i|s) less P(i| the other subcategories together); max: less the
    largest P(i|sibling); llr: signed log-likelihood ratio (Dunning 1993); chi2: signed chi-squared.
    ``lists``: one ranked list for each subcategory, or one for each category, in which an item speaks for the
    subcategory that it tells apart best.
    ``weight``: of rank k, linear (n + 1 - k) or reciprocal 1 / k; both are normed to sum to one.
    ``match``: jaccard |B ∩ r| / |B ∪ r|, or containment |B ∩ r| / |r|.
    ``gate``: whether a subcategory needs its category active, as the paper has it.
    ``fallback``: compare with all recipes when nothing is active, instead of recommending nothing.
    """

    n: int = 10
    theta: float = 0.1
    rank: Literal["diff", "max", "llr", "chi2"] = "diff"
    lists: Literal["subcategory", "category"] = "subcategory"
    weight: Literal["linear", "reciprocal"] = "linear"
    match: Literal["jaccard", "containment"] = "jaccard"
    gate: bool = True
    fallback: bool = False


VARIANTS = {  # each changes one thing that the text leaves open
    "default": Reading(),
    "max": Reading(rank="max"),
    "llr": Reading(rank="llr"),
    "chi2": Reading(rank="chi2"),
    "one list a category": Reading(lists="category"),
    "reciprocal": Reading(weight="reciprocal"),
    "containment": Reading(match="containment"),
    "fallback": Reading(fallback=True),
}


@dataclass(frozen=True)
class Database:
    """Recipes as arrays: ``has`` (R, I) of 0 and 1, ``sub`` (R,) into subcategories, ``home`` (S,) into categories."""

    recipes: tuple[Recipe, ...]
    items: tuple[str, ...]
    subcategories: tuple[str, ...]
    categories: tuple[str, ...]
    has: np.ndarray
    sub: np.ndarray
    home: np.ndarray

    @classmethod
    def of(cls, recipes: Sequence[Recipe]) -> "Database":
        """ValueError when a subcategory stands in two categories."""
        home = {recipe.subcategory: recipe.category for recipe in recipes}
        if any(home[recipe.subcategory] != recipe.category for recipe in recipes):
            raise ValueError("a subcategory belongs to one category")
        items = tuple(sorted(set().union(*(recipe.items for recipe in recipes))))
        subs, categories = tuple(sorted(home)), tuple(sorted(set(home.values())))
        at = {item: i for i, item in enumerate(items)}
        has = np.zeros((len(recipes), len(items)), dtype=np.float32)
        for row, recipe in zip(has, recipes, strict=True):
            row[[at[item] for item in recipe.items]] = 1
        return cls(
            tuple(recipes),
            items,
            subs,
            categories,
            has,
            np.array([subs.index(recipe.subcategory) for recipe in recipes]),
            np.array([categories.index(home[sub]) for sub in subs]),
        )

    def without(self, rows: np.ndarray) -> "Database":
        """The same hierarchy and vocabulary, less the recipes in ``rows`` (indices)."""
        kept = np.setdiff1d(np.arange(len(self.recipes)), rows)
        recipes = tuple(self.recipes[i] for i in kept)
        return replace(self, recipes=recipes, has=self.has[kept], sub=self.sub[kept])

    def rows(self, baskets: Sequence[frozenset[str]]) -> np.ndarray:
        """Baskets as 0/1 rows (B, I); an item that no recipe has stands in no column."""
        at = {item: i for i, item in enumerate(self.items)}
        found = np.zeros((len(baskets), len(self.items)), dtype=np.float32)
        for row, basket in zip(found, baskets, strict=True):
            row[[at[item] for item in basket if item in at]] = 1
        return found


# --- what is learned from the recipes, once ---------------------------------------------------------------------------


def shares(database: Database, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """P(i|g) (groups, I) and the number of recipes (groups,); ``group`` (R,) is each recipe's group."""
    size = np.bincount(group, minlength=groups).astype(np.float32)
    count = np.stack([database.has[group == number].sum(axis=0) for number in range(groups)])
    return count / np.maximum(size, 1)[:, None], size


def identifiers(database: Database, n: int) -> np.ndarray:
    """(C, I) of 0 and 1: the n items i of each category c with the largest P(i|c) - max over others P(i|c')."""
    share, _ = shares(database, database.home[database.sub], len(database.categories))
    return (ranks(share - _largest_of_others(share), n) > 0).astype(np.float32)


def differentiators(database: Database, n: int, rank: str = "diff", lists: str = "subcategory") -> np.ndarray:
    """(S, I): rank 1 (best) to n of each subcategory's differentiating items among its siblings, 0 for the others.

    With ``lists`` "category" the n ranks are given once in a category, to items where they differ most.
    """
    share, size = shares(database, database.sub, len(database.subcategories))
    found = np.zeros(share.shape, dtype=int)
    for category in range(len(database.categories)):
        siblings = np.flatnonzero(database.home == category)
        value = _difference(share[siblings], size[siblings], rank)
        found[siblings] = ranks(value, n) if lists == "subcategory" else _shared_ranks(value, n)
    return found


def _shared_ranks(value: np.ndarray, n: int) -> np.ndarray:
    """Ranks of one list for all rows: an item stands in it once, for the row that values it most."""
    best = ranks(value.max(axis=0)[None], n)[0]
    return np.where(np.arange(len(value))[:, None] == value.argmax(axis=0), best, 0)


def ranks(value: np.ndarray, n: int) -> np.ndarray:
    """Rank 1 to n of the largest positive values of each row, 0 elsewhere; equal values in the order of columns."""
    order = np.argsort(-value, axis=1, kind="stable")[:, :n]
    found = np.zeros(value.shape, dtype=int)
    np.put_along_axis(found, order, np.arange(1, order.shape[1] + 1)[None], axis=1)
    return np.where(value > 0, found, 0)


def _difference(share: np.ndarray, size: np.ndarray, rank: str) -> np.ndarray:
    """How much more of each subcategory's recipes have an item than those of its siblings, (siblings, I)."""
    inside, total = share * size[:, None], (share * size[:, None]).sum(axis=0)
    others = np.maximum(size.sum() - size, 1)[:, None]
    outside = total - inside
    if rank == "diff":
        return share - outside / others
    if rank == "max":
        return share - _largest_of_others(share)
    sign = np.sign(share - outside / others)
    a, b = inside, outside
    c, d = size[:, None] - inside, others - outside
    if rank == "llr":
        return sign * _log_likelihood_ratio(a, b, c, d)
    if rank == "chi2":
        product = (a + b) * (c + d) * (a + c) * (b + d)
        return sign * (a + b + c + d) * (a * d - b * c) ** 2 / np.maximum(product, 1e-9)
    raise ValueError(f"rank must be diff, max, llr or chi2, not {rank!r}")


def _largest_of_others(share: np.ndarray) -> np.ndarray:
    """For each row the largest value of the other rows, (rows, I); 0 where there is no other."""
    if len(share) == 1:
        return np.zeros_like(share)
    top = np.sort(share, axis=0)[-2:]
    return np.where(share == top[1], top[0], top[1])


def _log_likelihood_ratio(a, b, c, d) -> np.ndarray:
    """G squared of 2 x 2 tables [[a, b], [c, d]] of counts (Dunning 1993)."""
    total = a + b + c + d
    cells = ((a, a + b, a + c), (b, a + b, b + d), (c, c + d, a + c), (d, c + d, b + d))
    return 2 * sum(x * np.log(np.maximum(x * total, 1e-9) / np.maximum(r * k, 1e-9)) for x, r, k in cells)


# --- what happens to a basket ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recommender:
    """The method, learned: ``identify`` (C, I) of 0 and 1 and ``weights`` (S, I), whose rows sum to at most one."""

    database: Database
    reading: Reading
    identify: np.ndarray
    weights: np.ndarray

    @classmethod
    def learn(cls, database: Database, reading: Reading) -> "Recommender":
        ranked = differentiators(database, reading.n, reading.rank, reading.lists)
        return cls(database, reading, identifiers(database, reading.n), rank_weights(ranked, reading.n, reading.weight))

    def scores(self, baskets: np.ndarray) -> np.ndarray:
        """Score of each subcategory, (B, S), in [0, 1]: the summed weights of the ranked items in the basket."""
        return np.clip(baskets @ self.weights.T, 0, 1)

    def active_categories(self, baskets: np.ndarray) -> np.ndarray:
        """(B, C): categories of which the basket holds an identifier."""
        return baskets @ self.identify.T > 0

    def activated(self, baskets: np.ndarray) -> np.ndarray:
        """(B, S): subcategories whose score reaches theta and, with the gate, whose category is active."""
        return self.opened(self.scores(baskets), self.active_categories(baskets), self.reading.theta)

    def opened(self, scores: np.ndarray, categories: np.ndarray, theta: float) -> np.ndarray:
        """The same from scores (B, S) and active categories (B, C); a score of 0 activates nothing."""
        active = (scores >= theta - 1e-6) & (scores > 0)
        return active & categories[:, self.database.home] if self.reading.gate else active

    def searched(self, baskets: np.ndarray) -> np.ndarray:
        """(B, R): the recipes that the basket is compared with."""
        found = self.activated(baskets)[:, self.database.sub]
        return found | ~found.any(axis=1, keepdims=True) if self.reading.fallback else found

    def best(self, baskets: np.ndarray, m: int = 5) -> np.ndarray:
        """The m most similar recipes among those searched, (B, m), best first; -1 where there are no more."""
        return best_matches(similarity(baskets, self.database.has, self.reading.match), self.searched(baskets), m)


def rank_weights(ranked: np.ndarray, n: int, weight: str = "linear") -> np.ndarray:
    """(S, I): linear 2 (n + 1 - k) / (n (n + 1)), or 1 / k over the n-th harmonic number; 0 for rank 0."""
    if weight == "linear":
        value, total = n + 1.0 - ranked, n * (n + 1) / 2
    elif weight == "reciprocal":
        value, total = 1 / np.maximum(ranked, 1), (1 / np.arange(1, n + 1)).sum()
    else:
        raise ValueError(f"weight must be linear or reciprocal, not {weight!r}")
    return np.where(ranked > 0, value / total, 0).astype(np.float32)


def similarity(baskets: np.ndarray, has: np.ndarray, match: str = "jaccard") -> np.ndarray:
    """(B, R): jaccard or containment of each basket and recipe."""
    common = baskets @ has.T
    size = has.sum(axis=1)[None]
    if match == "jaccard":
        return common / np.maximum(baskets.sum(axis=1)[:, None] + size - common, 1)
    if match == "containment":
        return common / np.maximum(size, 1)
    raise ValueError(f"match must be jaccard or containment, not {match!r}")


def best_matches(similar: np.ndarray, searched: np.ndarray, m: int) -> np.ndarray:
    """Indices of the m most similar searched recipes (B, m), equal ones in the order of the database; -1 for none.

    A recipe that shares no item with the basket is no match.
    """
    value = np.where(searched & (similar > 0), similar, -1)
    order = np.argsort(-value, axis=1, kind="stable")[:, :m]
    return np.where(np.take_along_axis(value, order, axis=1) > 0, order, -1)


def recommended(baskets: np.ndarray, best: np.ndarray, database: Database, weights: np.ndarray) -> list[np.ndarray]:
    """For each basket the items recommended in bulk, as columns: those of its best matches that it lacks.

    Ordered by the best match that asks for them, then by the item's largest weight, then by the items' order.
    """
    worth = weights.max(axis=0)
    found = []
    for basket, matches in zip(baskets, best, strict=True):
        order: dict[int, None] = {}
        for recipe in matches[matches >= 0]:
            missing = np.flatnonzero((database.has[recipe] > 0) & (basket == 0))
            order |= dict.fromkeys(missing[np.argsort(-worth[missing], kind="stable")].tolist())
        found.append(np.array(list(order), dtype=int))
    return found
