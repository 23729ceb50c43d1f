"""The chapter's measurements: one row for each judged recipe, the mean over its baskets and over seeds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from claimbook.experiments.grocery_ranking.measure import baskets, gates, growth, ranks, recommenders, search
from claimbook.experiments.grocery_ranking.measure.baskets import Baskets
from claimbook.experiments.grocery_ranking.measure.gates import Asking
from claimbook.papers.grocery_ranking import Database, Reading, recommended

PROTOCOLS = ("in the database", "held out")  # the paper's own comes first
RECOMMENDING = ("item ranking", "brute force", "random")  # gates whose recommendations are looked at
Found = dict[tuple[str, str], np.ndarray]  # measure, way -> one value for each basket


def rows(database: Database, judged: np.ndarray, reading: Reading, seeds: Sequence[int]) -> pd.DataFrame:
    """One row for each recipe of ``judged``; columns are (protocol, measure, way).

    ways: the gates of `gates.GATES` and the recommenders of `recommenders.ITEMS`. Measures of gates: scored, kept,
    right, recall, and those of `search.activation` for item ranking; of recommenders: recall, recall without staples.
    ``chance``: share of recipes in the right subcategory; ``recipes``: how many there are. ``set``: recall by all that is recommended, and by as many
    items of item-kNN. ``auc``: ranked, without names, random items. ``growth``: operations per recipe in the whole
    database and in halves of its hierarchy.
    """
    found: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for seed in seeds:
        made = baskets.cut(database, judged, seed)
        for protocol, own in zip(PROTOCOLS, (None, seed), strict=True):
            for key, values in _collected(database, made, reading, own).items():
                found.setdefault((protocol, *key), []).append(search.of_recipe(made, values, judged))
            for key, auc in _separations(database, reading, own).items():
                found.setdefault((protocol, "auc", key), []).append(auc[judged])
    made = baskets.cut(database, judged, seeds[0])
    for key, how in (("categories", growth.by_categories), ("subcategories", growth.by_subcategories)):
        for size, values in how(database, made, reading).items():
            found["in the database", "growth", f"{size}, {key}"] = [search.of_recipe(made, values, judged)]
    with np.errstate(invalid="ignore"):
        means = {key: np.nanmean(values, axis=0) if len(values) > 1 else values[0] for key, values in found.items()}
    return pd.DataFrame(means, index=[database.recipes[row].title for row in judged])


def _separations(database: Database, reading: Reading, seed: int | None) -> dict[str, np.ndarray]:
    ranked = ranks.separation(database, reading, seed)
    if seed is None:
        return {"ranked": ranked}
    return {
        "ranked": ranked,
        "without names": ranks.separation(database, reading, seed, head=False),
        "random items": ranks.separation(database, reading, seed, ranked=False),
    }


def _collected(database: Database, made: Baskets, reading: Reading, seed: int | None) -> Found:
    """All that is asked of each basket, (B,) by measure and way, from whichever database answers it."""
    found: Found = {}
    for known, at in baskets.asked(database, made, seed):
        put = search.asking(known, database, made[at], reading)
        for key, values in _of_baskets(put, made[at].hidden).items():
            found.setdefault(key, np.full(len(made.recipe), np.nan))[at] = values
    return found


def _of_baskets(put: Asking, hidden: np.ndarray) -> Found:
    found: Found = {(measure, "item ranking"): values for measure, values in search.activation(put).items()}
    size = np.bincount(put.known.sub, minlength=len(put.known.subcategories)) / len(put.known.sub)
    found["chance", "item ranking"] = size[put.target]
    found["recipes", "brute force"] = np.full(len(put.given), len(put.known.has))
    lists = {}
    for name, gate in gates.GATES.items():
        answers, best = search.answers(put, gate(put))
        found |= {(measure, name): values for measure, values in answers.items()}
        if name in RECOMMENDING:
            worth = put.known.has if name == "brute force" else put.method.weights  # plain similarity ranks no items
            lists[name] = recommended(put.given, best, put.known, worth)
    for name, score in recommenders.ITEMS.items():
        lists[name] = recommenders.item_lists(put.known, put.given, score, listed=100)
    staple = gates.staple_columns(put.known)
    for name, columns in lists.items():
        found |= {(measure, name): values for measure, values in recalls(columns, hidden, staple).items()}
    sized = [items[: len(own)] for items, own in zip(lists["item-kNN, cosine"], lists["item ranking"], strict=True)]
    found["set", "item ranking"] = search.recall(lists["item ranking"], hidden)
    found["set", "item-kNN, cosine"] = search.recall(sized, hidden)
    return found


def recalls(lists: list[np.ndarray], hidden: np.ndarray, staple: np.ndarray) -> dict[str, np.ndarray]:
    """Recall at 10, (B,), of all items and of those that are no staples, which then are not recommended either."""
    return {
        "recall": search.recall(lists, hidden, search.AT),
        "recall without staples": search.recall(
            [columns[~staple[columns]] for columns in lists], hidden * ~staple, search.AT
        ),
    }
