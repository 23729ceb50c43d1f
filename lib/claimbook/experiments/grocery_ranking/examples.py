"""What a reader may check by eye: ranked items, and what is recommended to single baskets."""

import numpy as np

from claimbook.experiments.grocery_ranking.measure.gates import MATCHES
from claimbook.papers.grocery_ranking import Recommender, recommended

BASKET = ("rice", "egg", "soy sauce", "scallion")
BASKETS = (
    frozenset({"rice", "egg", "soy sauce"}),
    frozenset({"flour", "sugar", "chocolate chip"}),
    frozenset({"chicken", "yogurt", "ginger"}),
)


def top_items(method: Recommender, subcategories: tuple[str, ...], n: int = 8) -> list[list[str]]:
    """Rows of a table: the n best differentiators of each of these subcategories that there is."""
    database, rows = method.database, []
    for name in subcategories:
        if name in database.subcategories:
            weights = method.weights[database.subcategories.index(name)]
            order = np.argsort(-weights, kind="stable")[:n]
            rows.append([name, ", ".join(database.items[i] for i in order if weights[i] > 0)])
    return rows


def answered(method: Recommender, given: list[frozenset[str]]) -> list[list[str]]:
    """Rows of a table for given baskets: active subcategories, best match, recommended set, and items nobody has."""
    database, rows = method.database, []
    arrays = database.rows(given)
    best, active = method.best(arrays, MATCHES), method.activated(arrays)
    lists = recommended(arrays, best, database, method.weights)
    for basket, matches, on, items in zip(given, best, active, lists, strict=True):
        rows.append(
            [
                ", ".join(sorted(basket)),
                ", ".join(database.subcategories[i] for i in np.flatnonzero(on)) or "none",
                database.recipes[matches[0]].title if matches[0] >= 0 else "none",
                ", ".join(database.items[i] for i in items) or "none",
                ", ".join(sorted(basket - set(database.items))) or "none",
            ]
        )
    return rows


def opened(method: Recommender, basket: tuple[str, ...], theta: float) -> tuple[list[str], float]:
    """The subcategories that a basket activates at a threshold, and the share of recipes that it is compared with."""
    given = method.database.rows([frozenset(basket)])
    active = method.opened(method.scores(given), method.active_categories(given), theta)[0]
    names = [method.database.subcategories[i] for i in np.flatnonzero(active)]
    return names, float(active[method.database.sub].mean())


def categories_of(method: Recommender, item: str) -> str:
    """The categories that an item alone opens, in words: "egg opens baking and rice"."""
    open_to = method.active_categories(method.database.rows([frozenset({item})]))[0]
    names = [name for name, on in zip(method.database.categories, open_to, strict=True) if on]
    return f"{item} opens {' and '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names) or 'none'}"
