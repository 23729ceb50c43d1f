"""Baskets, halves and folds: what is asked of the recommender, and what it may have seen.

*In the database*: a part of a recipe that is in the database, as the paper has it. *Held out*: the same basket, with
the recipe, and all of the same items, kept out of the database and of all that is learned.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from claimbook.papers.grocery_ranking import Database, Recipe

SHARES = (0.3, 0.5, 0.7)  # of a recipe's items: one basket each
FOLDS = 5
HALVES_SEED = 0  # which recipes settings are chosen on is fixed, whatever the run's seed


@dataclass(frozen=True)
class Baskets:
    """``recipe`` (B,): the row of the recipe that each was cut from; ``given`` and ``hidden`` (B, I) of 0 and 1."""

    recipe: np.ndarray
    given: np.ndarray
    hidden: np.ndarray

    def __getitem__(self, at: np.ndarray) -> "Baskets":
        return Baskets(self.recipe[at], self.given[at], self.hidden[at])


def cut(database: Database, rows: Sequence[int], seed: int, head: bool = True) -> Baskets:
    """One basket per recipe and share of `SHARES`, in this order: at least two items, at least one hidden.

    With ``head`` a basket always holds the recipe's head item, the one that its category is named after (rice,
    chicken, pasta), where it has one. Without, all items that stand in the recipe's title or labels are taken out of
    basket and hidden items alike: they decided the label. A recipe that is left with fewer than three has no basket.
    """
    recipe, given, hidden = [], [], []
    for row in rows:
        dish, items = database.recipes[row], np.flatnonzero(database.has[row])
        if not head:
            names = named(dish)
            items = np.array([i for i in items if database.items[i] not in names], dtype=int)
        if len(items) < 3:
            continue
        first = [i for i in items if head and database.items[i] == dish.category.casefold()]
        for which, share in enumerate(SHARES):
            rng = np.random.default_rng([seed, row, which])
            size = min(max(2, round(share * len(items))), len(items) - 1)
            kept = [*first, *rng.choice(np.setdiff1d(items, first), size - len(first), replace=False)]
            recipe.append(row)
            given.append(_marked(kept, database))
            hidden.append(_marked(np.setdiff1d(items, kept), database))
    shape = (len(recipe), len(database.items))
    return Baskets(np.array(recipe, dtype=int), np.reshape(given, shape), np.reshape(hidden, shape))


def _marked(items: Sequence[int], database: Database) -> np.ndarray:
    row = np.zeros(len(database.items), dtype=np.float32)
    row[np.asarray(items, dtype=int)] = 1
    return row


def named(recipe: Recipe) -> frozenset[str]:
    """Items that stand in the title, the category or the subcategory of a recipe, whole or by their last word."""
    words = f"{recipe.title} {recipe.category} {recipe.subcategory}".casefold()
    return frozenset(item for item in recipe.items if _stands_in(item, words) or _stands_in(item.split()[-1], words))


def _stands_in(item: str, words: str) -> bool:
    """Whether an item stands there as words of their own, in the singular or the plural: no oat in an oatmeal."""
    stem = re.escape(item[:-1]) + "(y|ies)" if item.endswith("y") else re.escape(item) + "(e?s)?"
    return re.search(rf"\b{stem}\b", words) is not None


def mixed(database: Database, made: Baskets, staple: np.ndarray, seed: int) -> Baskets:
    """Each basket together with one of a dish of another category and two staples that neither dish has.

    ``staple`` (I,): which items are. A basket whose hidden items the other dish brings along is left out.
    """
    home, rng = database.home[database.sub[made.recipe]], np.random.default_rng([seed, 1])
    other = np.array([rng.choice(np.flatnonzero(home != own)) for own in home])
    given = np.maximum(made.given, made.given[other])
    known = np.maximum(database.has[made.recipe], database.has[made.recipe[other]])
    for row, has in zip(given, known, strict=True):
        spare = np.flatnonzero(staple & (has == 0))
        row[rng.choice(spare, min(2, len(spare)), replace=False)] = 1
    hidden = np.where(given > 0, 0, made.hidden)
    return Baskets(made.recipe, given, hidden)[hidden.any(axis=1)]


# --- what may have been seen ------------------------------------------------------------------------------------------


def halves(database: Database) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the half that settings are chosen on, and of the half that is judged: alike in every subcategory."""
    part = _dealt(database, 2, np.random.default_rng(HALVES_SEED))
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1)


def folds(database: Database, seed: int) -> np.ndarray:
    """The fold of each recipe (R,), `FOLDS` of them, spread over every subcategory."""
    return _dealt(database, FOLDS, np.random.default_rng(seed))


def _dealt(database: Database, hands: int, rng: np.random.Generator) -> np.ndarray:
    """The hand that each recipe is dealt to (R,), subcategory by subcategory; recipes of equal items stay together."""
    _, first, inverse = np.unique(database.has, axis=0, return_index=True, return_inverse=True)
    same = first[inverse.reshape(-1)]  # (R,): the first recipe of the same items
    dealt = np.full(len(same), -1)
    for sub in range(len(database.subcategories)):
        groups = [group for group in np.unique(same[database.sub == sub]) if dealt[group] < 0]
        dealt[rng.permutation(groups).astype(int)] = (np.arange(len(groups)) + rng.integers(hands)) % hands
    return dealt[same]


def asked(database: Database, made: Baskets, seed: int | None) -> Iterator[tuple[Database, np.ndarray]]:
    """For each database that answers, which baskets are put to it: the whole one, or (``seed`` given) held out."""
    if seed is None:
        yield database, np.arange(len(made.recipe))
        return
    fold = folds(database, seed)
    for number in range(FOLDS):
        at = np.flatnonzero(fold[made.recipe] == number)
        if len(at):
            yield database.without(np.flatnonzero(fold == number)), at
