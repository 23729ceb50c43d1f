"""The chapter's measurements: one row for each judged recipe, the mean over its baskets and over seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from claimbook.experiments.grocery_ranking.measure import gates, growth, protocols, ranks, recommenders, search
from claimbook.experiments.grocery_ranking.measure.gates import Asking
from claimbook.experiments.grocery_ranking.measure.protocols import Baskets
from claimbook.experiments.grocery_ranking.measure.search import Setting
from claimbook.papers.grocery_ranking import Database, Reading, best_matches, recommended

INSIDE, HELD = PROTOCOLS = ("in the database", "held out")  # the paper's own comes first
METHOD, NEAR = "item ranking", "near index"  # the latter: item ranking at the size of the index
SMOOTHING = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0001)  # of naive Bayes, among which one is chosen
RECOMMENDING = (METHOD, "brute force", "right one", "random")  # gates whose recommendations are looked at
Found = dict[tuple[str, str], np.ndarray]  # measure, way -> one value for each basket
Ask = Callable[[Asking], Found]


@dataclass(frozen=True)
class Chosen:
    """What is judged under one protocol: the setting of a reading, and the best one of the size of the index.

    ``smoothing``: of naive Bayes, chosen on the same baskets.
    """

    setting: Setting
    near_index: Reading
    smoothing: float

    @property
    def reading(self) -> Reading:
        return self.setting.reading


def choose(database: Database, tuning: np.ndarray, reading: Reading, seed: int) -> dict[str, Chosen]:
    """The settings of a reading by protocol, from baskets of the tuning half alone."""
    made, found = protocols.cut(database, tuning, seed), {}
    for protocol, own in zip(PROTOCOLS, (None, seed), strict=True):
        points = search.grid(database, made, reading, own)
        index = collected(database, made, reading, own, _of_the_index)["scored", "inverted index"].mean()
        setting = search.choose(points, reading)
        bayes = {
            alpha: collected(database, made, setting.reading, own, _of_bayes, alpha)["kept", "naive Bayes"].mean()
            for alpha in SMOOTHING
        }
        found[protocol] = Chosen(setting, search.of_size(points, reading, index), max(bayes, key=bayes.get))
    return found


def rows(database: Database, judged: np.ndarray, chosen: dict[str, Chosen], seeds: Sequence[int]) -> pd.DataFrame:
    """One row for each recipe of ``judged``; columns are (protocol, measure, way).

    ways: the gates of `gates.GATES`, `NEAR`, and the recommenders of
    `recommenders.ITEMS`. Measures of gates: those of `search.answers`, recall, and for item ranking those of
    `search.activation`; of recommenders: recall, recall without staples, and ``set``, by as many items as item ranking
    recommends. ``chance``: share of recipes in the right subcategory. ``auc``: by kind of lists. ``meaningless`` and
    ``meaningless throughout``: what item ranking gives with labels dealt anew. ``growth``: operations per recipe, in
    the whole and in halves.
    """
    found: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for seed in seeds:
        made = protocols.cut(database, judged, seed)
        for protocol, own in zip(PROTOCOLS, (None, seed), strict=True):
            one = chosen[protocol]
            asked = collected(database, made, one.reading, own, _of_all, one.smoothing)
            near = collected(database, made, one.near_index, own, _of_the_search)
            asked |= {(measure, NEAR): near[measure, METHOD] for measure in ("scored", "kept")}
            asked |= _of_labels_dealt_anew(database, made, one.reading, seed) if own is None else {}
            for key, values in asked.items():
                found.setdefault((protocol, *key), []).append(search.of_recipe(made, values, judged))
            for key, values in _separations(database, one.reading, own).items():
                found.setdefault((protocol, "auc", key), []).append(values[judged])
    made = protocols.cut(database, judged, seeds[0])
    for key, how in (("categories", growth.by_categories), ("subcategories", growth.by_subcategories)):
        for size, values in how(database, made, chosen[INSIDE].reading).items():
            found[INSIDE, "growth", f"{key}: {size}"] = [search.of_recipe(made, values, judged)]
    means = {key: _mean(np.array(values)) for key, values in found.items()}
    return pd.DataFrame(means, index=[database.recipes[row].title for row in judged])


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over seeds (seeds, recipes) of those that could be asked, NaN where none could."""
    good = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(good, values, 0).sum(axis=0) / good.sum(axis=0)


def beside(database: Database, judged: np.ndarray, chosen: dict[str, Chosen], seed: int) -> pd.DataFrame:
    """As `rows`, of what is shown and not judged, with one seed: slower gates, and other recommenders held out."""
    made = protocols.cut(database, judged, seed)
    kinds = [(INSIDE, None, _of_slower_gates), (HELD, seed, _of_slower_gates), (HELD, seed, _of_other_recommenders)]
    return pd.DataFrame(
        {
            (protocol, *key): search.of_recipe(made, values, judged)
            for protocol, own, ask in kinds
            for key, values in collected(database, made, chosen[protocol].reading, own, ask).items()
        }
    )


def summary(database: Database, made: Baskets, reading: Reading, seed: int | None = None) -> dict[str, float]:
    """Means over baskets of what a reading does, in the database or (``seed`` given) held out."""
    found = collected(database, made, reading, seed, _of_the_method)
    return {measure: float(np.nanmean(values)) for (measure, _), values in found.items()}


def collected(
    database: Database, made: Baskets, reading: Reading, seed: int | None, ask: Ask, smoothing: float = 1.0
) -> Found:
    """What ``ask`` finds for each basket, (B,), from whichever database answers it."""
    found: Found = {}
    for known, at in protocols.asked(database, made, seed):
        put = replace(search.asking(known, database, made[at], reading), smoothing=smoothing)
        for key, values in ask(put).items():
            found.setdefault(key, np.full(len(made.recipe), np.nan))[at] = values
    return found


# --- what is asked of baskets put to a database ----------------------------------------------------------------------


def _of_all(put: Asking) -> Found:
    size = np.bincount(put.known.sub, minlength=len(put.known.subcategories)) / len(put.known.sub)
    found: Found = {(measure, METHOD): values for measure, values in search.activation(put).items()}
    found["chance", METHOD] = size[put.target]
    lists = {}
    for name, gate in gates.GATES.items():
        searched = gate(put)
        found |= {(measure, name): values for measure, values in search.answers(put, searched).items()}
        if name in RECOMMENDING:
            best = best_matches(put.similar, searched, gates.MATCHES)
            worth = put.known.has if name == "brute force" else put.method.weights  # plain similarity ranks no items
            lists[name] = recommended(put.given, best, put.known, worth)
            found |= {(measure, name): values for measure, values in search.dishes(put, best).items()}
    for name, score in recommenders.ITEMS.items():
        lists[name] = recommenders.item_lists(put.known, put.given, score, listed=100)
    for name, columns in lists.items():
        found |= _recalls(put, name, columns)
        sized = [items[: len(own)] for items, own in zip(columns, lists[METHOD], strict=True)]
        found["set", name] = search.recall(sized, put.hidden)
    return found


def _recalls(put: Asking, name: str, lists: list[np.ndarray]) -> Found:
    """Recall at 10 of all items, and of those that are no staples, which then are not recommended either."""
    staple = gates.staple_columns(put.known)
    bare = [columns[~staple[columns]] for columns in lists]
    return {
        ("recall", name): search.recall(lists, put.hidden, search.AT),
        ("recall without staples", name): search.recall(bare, put.hidden * ~staple, search.AT),
    }


def _of_the_method(put: Asking) -> Found:
    best = best_matches(put.similar, put.searched, gates.MATCHES)
    lists = recommended(put.given, best, put.known, put.method.weights)
    found = search.answers(put, put.searched) | search.dishes(put, best) | search.activation(put)
    found["recall"] = search.recall(lists, put.hidden, search.AT)
    return {(measure, METHOD): values for measure, values in found.items()}


def _of_the_search(put: Asking) -> Found:
    return {(measure, METHOD): values for measure, values in search.answers(put, put.searched).items()}


def _of_the_index(put: Asking) -> Found:
    return {("scored", "inverted index"): gates.inverted_index(put).mean(axis=1)}


def _of_bayes(put: Asking) -> Found:
    return {("kept", "naive Bayes"): search.answers(put, gates.naive_bayes(put))["kept"]}


def _of_slower_gates(put: Asking) -> Found:
    return {
        (measure, name): values
        for name, gate in gates.SHOWN.items()
        for measure, values in search.answers(put, gate(put)).items()
    }


def _of_other_recommenders(put: Asking) -> Found:
    lists = {n: recommenders.item_lists(put.known, put.given, f) for n, f in recommenders.SHOWN_ITEMS.items()}
    lists |= {n: recommenders.recipe_lists(put.known, put.given, f) for n, f in recommenders.SHOWN_RECIPES.items()}
    return {key: values for name, columns in lists.items() for key, values in _recalls(put, name, columns).items()}


# --- what is asked of the database ------------------------------------------------------------------------------------


def _of_labels_dealt_anew(database: Database, made: Baskets, reading: Reading, seed: int) -> Found:
    """What item ranking gives in the database with labels that mean nothing.

    "meaningless": subcategories are dealt anew inside each category, which keeps its meaning; "meaningless throughout":
    among all recipes.
    """
    rng = np.random.default_rng([seed, 2])
    inside, everywhere = database.sub.copy(), rng.permutation(database.sub)
    for category in range(len(database.categories)):
        rows = np.flatnonzero(database.home[database.sub] == category)
        inside[rows] = rng.permutation(inside[rows])
    dealt, anywhere = (replace(database, sub=sub) for sub in (inside, everywhere))
    found: Found = {}
    for kind, labelled in (("meaningless", dealt), ("meaningless throughout", anywhere)):
        own = collected(labelled, made, reading, None, _of_the_method)
        found |= {(kind, measure): values for (measure, _), values in own.items()}
    found["meaningless", "chance"] = (np.bincount(inside) / len(inside))[inside[made.recipe]]
    found["meaningless", "auc"] = ranks.separation(dealt, reading, None)[made.recipe]
    return found


def _separations(database: Database, reading: Reading, seed: int | None) -> dict[str, np.ndarray]:
    ranked = {"ranked": ranks.separation(database, reading, seed)}
    if seed is None:
        return ranked
    lists = {kind: ranks.separation(database, reading, seed, lists=kind) for kind in ("any order", "random items")}
    return ranked | lists | {"without names": ranks.separation(database, reading, seed, head=False)}
