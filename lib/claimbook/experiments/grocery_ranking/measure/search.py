"""What a gate does to baskets: how much is scored, what is kept, what is recommended; and how n and theta are chosen."""

from dataclasses import dataclass, replace

import numpy as np

from claimbook.experiments.grocery_ranking.measure.baskets import Baskets
from claimbook.experiments.grocery_ranking.measure.gates import Asking
from claimbook.papers.grocery_ranking import Database, Reading, Recommender, best_matches, similarity

N = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
THETA = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
MATCHES = 5  # recipes whose missing items are recommended
AT = 10  # items of a list that recall looks at


@dataclass(frozen=True)
class Setting:
    """A reading with the n and theta chosen for it. ``at_edge``: the grid ends there, and larger or smaller is open."""

    reading: Reading
    at_edge: bool


def settings(database: Database, made: Baskets, readings: dict[str, Reading]) -> dict[str, Setting]:
    """For each reading the n and theta at which most is kept beyond a blind search of the same size, in the database."""
    return {name: choose(grid(database, made, reading), reading) for name, reading in readings.items()}


def choose(points: list[dict], reading: Reading) -> Setting:
    """The point that keeps most less what it scores; the one that scores less where they tie.

    A list longer than the items, and a threshold of 0, are no edges: beyond them nothing changes.
    """
    best = max(points, key=lambda point: (round(point["kept"] - point["scored"], 9), -point["scored"]))
    at_edge = best["n"] == min(N) or best["theta"] == max(THETA) or (best["n"] == max(N) and not best["n_is_all"])
    return Setting(replace(reading, n=best["n"], theta=best["theta"]), at_edge)


def grid(database: Database, made: Baskets, reading: Reading) -> list[dict]:
    """Mean share scored and best matches kept in the database, for every n and theta: one point each.

    ``nothing``: share of baskets that activate nothing. ``n_is_all``: no list is longer than n.
    """
    similar = similarity(made.given, database.has, reading.match)
    member = np.eye(len(database.subcategories), dtype=bool)[database.sub]  # (R, S)
    best = np.stack([similar[:, own].max(axis=1, initial=0) for own in member.T], axis=1)  # (B, S)
    size, points = member.mean(axis=0), []
    for n in N:
        learned = Recommender.learn(database, replace(reading, n=n))
        scores, categories = learned.scores(made.given), learned.active_categories(made.given)
        for theta in THETA:
            active = learned.opened(scores, categories, theta)
            nothing = ~active.any(axis=1)
            if reading.fallback:
                active = active | nothing[:, None]
            top = np.where(active, best, 0).max(axis=1)
            points.append(
                {
                    "n": n,
                    "theta": theta,
                    "scored": float((active @ size).mean()),
                    "kept": float(kept(top, similar).mean()),
                    "nothing": float(nothing.mean()),
                    "n_is_all": bool((learned.weights > 0).sum(axis=1).max() < n),
                }
            )
    return points


def asking(known: Database, database: Database, made: Baskets, reading: Reading) -> Asking:
    """Baskets put to a database that answers, the method learned from it alone."""
    method = Recommender.learn(known, reading)
    return Asking(known, made.given, database.sub[made.recipe], method, method.searched(made.given))


def kept(top: np.ndarray, similar: np.ndarray) -> np.ndarray:
    """Whether the best match found (B,) is as similar as brute force's; one that shares nothing is no match."""
    return (top > 0) & (top >= similar.max(axis=1) - 1e-6)


def answers(put: Asking, searched: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What a gate finds, (B,) each, and the best matches (B, m).

    ``scored``: share of recipes compared; ``kept``: whether the best match is as good as brute force's; ``right``:
    whether it is of the right subcategory.
    """
    similar = similarity(put.given, put.known.has, put.method.reading.match)
    best = best_matches(similar, searched, MATCHES)
    return {
        "scored": searched.mean(axis=1),
        "kept": kept(np.where(searched, similar, 0).max(axis=1), similar),
        "right": (best[:, 0] >= 0) & (put.known.sub[best[:, 0]] == put.target),
    }, best


def recall(lists: list[np.ndarray], hidden: np.ndarray, k: int | None = None) -> np.ndarray:
    """Share (B,) of the hidden items (B, I) among the first k columns of each list; NaN where nothing is hidden."""
    found = np.array([row[columns[:k]].sum() for columns, row in zip(lists, hidden, strict=True)])
    asked = hidden.sum(axis=1)
    return np.where(asked > 0, found / np.maximum(asked, 1), np.nan)


def activation(put: Asking) -> dict[str, np.ndarray]:
    """Which subcategories and categories a basket opens, (B,): shares of baskets, and of what there is.

    ``own_active``, ``others_active``: the right subcategory, and the share of the others. ``own_category``,
    ``categories``: the right category, and the share of all that are active. ``nothing``: no subcategory is.
    ``operations``: one look-up for each item of the basket, one for each similarity.
    """
    active, categories = put.method.activated(put.given), put.method.active_categories(put.given)
    at = np.arange(len(put.given))
    own = active[at, put.target]
    return {
        "own_active": own,
        "others_active": (active.sum(axis=1) - own) / max(active.shape[1] - 1, 1),
        "own_category": categories[at, put.known.home[put.target]],
        "categories": categories.mean(axis=1),
        "nothing": ~active.any(axis=1),
        "operations": put.searched.sum(axis=1) + put.given.sum(axis=1),
    }


def of_recipe(made: Baskets, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean over the baskets of each recipe of ``rows``, (rows,); NaN where it has none that could be asked."""
    good = np.isfinite(values)
    count, total = (
        np.bincount(made.recipe[good], weights=weights, minlength=rows.max() + 1)
        for weights in (None, values[good].astype(float))
    )
    with np.errstate(invalid="ignore"):
        return (total / count)[rows]


