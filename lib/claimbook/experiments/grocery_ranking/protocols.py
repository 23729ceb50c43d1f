"""Baskets, halves and folds: what is asked of the recommender, and what it may have seen.

``in_database``: a part of a recipe that is in the database, as the paper has it. ``held_out``: the same basket, with
the recipe kept out of the database and of all that is learned. ``mixed``: the items of two dishes and two staples.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from claimbook.errors import ClaimbookError
from claimbook.experiments.grocery_ranking.ingredients import staples
from claimbook.papers.grocery_ranking import Database, Recipe

SHARES = (0.3, 0.5, 0.7)  # of a recipe's items: one basket each
FOLDS = 5
HALVES_SEED = 0  # which recipes settings are chosen on is fixed, whatever the run's seed


@dataclass(frozen=True)
class Task:
    """One basket: the recipe it was drawn from (its row in the whole database), its items, and what was left out."""

    recipe: int
    basket: frozenset[str]
    hidden: frozenset[str]


def halves(database: Database) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the half that settings are chosen on, and of the half that is judged: alike in every subcategory."""
    rng, tuning = random.Random(HALVES_SEED), []
    for sub in range(len(database.subcategories)):
        rows = np.flatnonzero(database.sub == sub).tolist()
        rng.shuffle(rows)
        tuning += rows[: len(rows) // 2]
    tuning = np.sort(tuning)
    return tuning, np.setdiff1d(np.arange(len(database.recipes)), tuning)


def tasks(database: Database, rows: Sequence[int], seed: int, head: bool = True) -> list[Task]:
    """One basket per recipe and share of `SHARES`: at least two items, at least one hidden.

    With ``head`` a basket always holds the recipe's head item, the one that its category is named after (rice,
    chicken, pasta), where it has one. Without, all items that stand in the recipe's title or labels are taken out of
    basket and hidden items alike: they decided the label. A recipe that is left with fewer than three has no task.
    """
    found = []
    for row in rows:
        recipe = database.recipes[row]
        items = sorted(recipe.items if head else recipe.items - named(recipe))
        if len(items) < 3:
            continue
        for share in SHARES:
            rng = random.Random(f"{seed} {share} {recipe.title}")
            size = min(max(2, round(share * len(items))), len(items) - 1)
            kept = [recipe.category] if head and recipe.category in items else []
            others = [item for item in items if item not in kept]
            basket = frozenset(kept + rng.sample(others, size - len(kept)))
            found.append(Task(row, basket, frozenset(items) - basket))
    return found


def named(recipe: Recipe) -> frozenset[str]:
    """Items that stand in the title, the category or the subcategory of a recipe, whole or by their last word."""
    words = f"{recipe.title} {recipe.category} {recipe.subcategory}".lower()
    return frozenset(item for item in recipe.items if item in words or item.rsplit(" ", 1)[-1] in words)


def mixed(database: Database, made: list[Task], seed: int) -> list[Task]:
    """Each basket together with one of a dish of another category and two staples that neither dish has."""
    found = []
    for i, task in enumerate(made):
        rng = random.Random(f"{seed} mixed {i}")
        own = database.recipes[task.recipe]
        others = [other for other in made if database.recipes[other.recipe].category != own.category]
        other = rng.choice(others)
        known = own.items | database.recipes[other.recipe].items
        spare = sorted(staples() - known)
        pantry = frozenset(rng.sample(spare, min(2, len(spare))))
        found.append(Task(task.recipe, task.basket | other.basket | pantry, task.hidden - other.basket))
    return [task for task in found if task.hidden]


def folds(database: Database, seed: int) -> np.ndarray:
    """The fold of each recipe (R,), `FOLDS` of them, spread over every subcategory."""
    fold, rng = np.zeros(len(database.recipes), dtype=int), np.random.default_rng(seed)
    for sub in range(len(database.subcategories)):
        rows = np.flatnonzero(database.sub == sub)
        fold[rng.permutation(rows)] = (np.arange(len(rows)) + rng.integers(FOLDS)) % FOLDS
    return fold


def held_out(database: Database, made: list[Task], seed: int) -> Iterator[tuple[Database, list[int]]]:
    """For each fold: the database without its recipes, and which tasks are asked of it."""
    fold = folds(database, seed)
    for number in range(FOLDS):
        asked = [i for i, task in enumerate(made) if fold[task.recipe] == number]
        known = database.without(np.flatnonzero(fold == number))
        check_unseen(database, known, [made[i] for i in asked])
        if asked:
            yield known, asked


def check_unseen(database: Database, known: Database, asked: list[Task]) -> None:
    """ClaimbookError when a recipe that a basket was drawn from is still in the database it is put to."""
    titles = {recipe.title for recipe in known.recipes}
    leaked = sorted({database.recipes[task.recipe].title for task in asked} & titles)
    if leaked:
        raise ClaimbookError(f"grocery_ranking: the test recipe '{leaked[0]}' is in the database it is asked of")


def by_recipe(made: list[Task], values: np.ndarray) -> np.ndarray:
    """Mean over the baskets of each recipe: the unit of every interval. Recipes in the order of their first task."""
    rows = np.array([task.recipe for task in made])
    order = list(dict.fromkeys(rows.tolist()))
    return np.array(
        [np.nanmean(values[rows == row]) if np.isfinite(values[rows == row]).any() else np.nan for row in order]
    )


Ask = Callable[[Database, np.ndarray], dict[str, np.ndarray]]


def collect(database: Database, made: list[Task], ask: Ask, seed: int | None = None) -> dict[str, np.ndarray]:
    """What ``ask(database, tasks' indices)`` finds for every task, (tasks,) each.

    With a ``seed`` held out in folds, else in the database.
    """
    parts = held_out(database, made, seed) if seed is not None else [(database, list(range(len(made))))]
    found: dict[str, np.ndarray] = {}
    for known, asked in parts:
        for name, values in ask(known, np.array(asked)).items():
            found.setdefault(name, np.full(len(made), np.nan))[asked] = values
    return found
