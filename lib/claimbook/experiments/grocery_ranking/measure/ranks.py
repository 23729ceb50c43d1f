"""How well the ranked items tell a subcategory from its siblings."""

from dataclasses import replace

import numpy as np

from claimbook.experiments.grocery_ranking.measure import protocols
from claimbook.papers.grocery_ranking import Database, Reading, Recommender


def separation(
    database: Database, reading: Reading, seed: int | None, *, lists: str = "ranked", head: bool = True
) -> np.ndarray:
    """AUC of each recipe (R,): the share of sibling recipes that score lower for its subcategory than it does.

    With a ``seed`` held out: the recipes of a fold are scored by lists learned from the others, against siblings of
    the same fold. Ties count half; NaN for a recipe without siblings. ``lists``: the "ranked" ones; the same items in
    "any order"; or "random items", as many of those that the subcategory's own recipes have. ``head=False`` scores
    recipes without the items that stand in their titles or labels, which decided the label.
    """
    fold = np.zeros(len(database.has)) if seed is None else protocols.folds(database, seed)
    items = database.has if head else _without_named(database)
    found = np.full(len(database.has), np.nan)
    for number in np.unique(fold):
        test = np.flatnonzero(fold == number)
        known = database if seed is None else database.without(test)
        method = Recommender.learn(known, reading)
        if lists != "ranked":
            rng = np.random.default_rng([int(number), seed or 0])
            method = replace(method, weights=_at_random(method, lists == "any order", rng))
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
    return database.rows([recipe.items - protocols.named(recipe) for recipe in database.recipes])


def _at_random(method: Recommender, same_items: bool, rng: np.random.Generator) -> np.ndarray:
    """The weights of each list (S, I) dealt anew: to the same items, or to any that the subcategory's recipes have."""
    weights, database = np.zeros_like(method.weights), method.database
    for sub, old in enumerate(method.weights):
        ranked = np.flatnonzero(old)
        pool = ranked if same_items else np.flatnonzero(database.has[database.sub == sub].any(axis=0))
        count = min(len(ranked), len(pool))
        weights[sub, rng.choice(pool, count, replace=False)] = rng.permutation(old[ranked])[:count]
    return weights
