"""How well the ranked items tell a subcategory from its siblings."""

from dataclasses import replace

import numpy as np

from claimbook.experiments.grocery_ranking.measure import baskets
from claimbook.papers.grocery_ranking import Database, Reading, Recommender


def separation(
    database: Database, reading: Reading, seed: int | None, *, ranked: bool = True, head: bool = True
) -> np.ndarray:
    """AUC of each recipe (R,): the share of sibling recipes that score lower for its subcategory than it does.

    With a ``seed`` held out: the recipes of a fold are scored by lists learned from the others, against siblings of
    the same fold. Ties count half; NaN for a recipe without siblings. ``ranked=False`` draws the items of each list at
    random from those of the category: what ranking is worth. ``head=False`` scores recipes without the items that
    stand in their titles or labels, which decided the label.
    """
    fold = np.zeros(len(database.has)) if seed is None else baskets.folds(database, seed)
    items = database.has if head else _without_named(database)
    found = np.full(len(database.has), np.nan)
    for number in np.unique(fold):
        test = np.flatnonzero(fold == number)
        known = database if seed is None else database.without(test)
        method = Recommender.learn(known, reading)
        if not ranked:
            method = replace(method, weights=_at_random(method, [int(number), seed or 0]))
        found[test] = _auc(database, test, method.scores(items[test]))
    return found


def _auc(database: Database, rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUC of each of ``rows`` (R',) by their scores (R', S)."""
    subs, homes = database.sub[rows], database.home[database.sub[rows]]
    found = np.full(len(rows), np.nan)
    for i, sub in enumerate(subs):
        siblings = scores[(homes == homes[i]) & (subs != sub), sub]
        if len(siblings):
            lower = np.where(np.isclose(siblings, scores[i, sub]), 0.5, siblings < scores[i, sub])
            found[i] = lower.mean()
    return found


def _without_named(database: Database) -> np.ndarray:
    """Items (R, I) of recipes, without those that stand in their titles or labels."""
    return database.rows([recipe.items - baskets.named(recipe) for recipe in database.recipes])


def _at_random(method: Recommender, seed: list[int]) -> np.ndarray:
    """The same weights on items drawn at random from those of the category."""
    database, rng = method.database, np.random.default_rng(seed)
    weights = np.zeros_like(method.weights)
    for sub, old in enumerate(method.weights):
        inside = database.has[database.home[database.sub] == database.home[sub]].any(axis=0)
        values = old[old > 0]
        weights[sub, rng.choice(np.flatnonzero(inside), len(values), replace=False)] = values
    return weights
