"""What a gate does to baskets: how much is scored, and what is kept; and how n and theta are chosen."""

from dataclasses import dataclass, replace

import numpy as np

from claimbook.experiments.grocery_ranking.measure import protocols
from claimbook.experiments.grocery_ranking.measure.gates import Asking
from claimbook.experiments.grocery_ranking.measure.protocols import Baskets
from claimbook.metrics import ranking
from claimbook.papers.grocery_ranking import Database, Reading, Recommender, similarity

N = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
THETA = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
AT = 10  # items of a list that recall looks at


@dataclass(frozen=True)
class Setting:
    """A reading with the n and theta chosen for it.

    ``plateau``: points that are as good, within one standard error. ``at_edge``: the grid ends where they do.
    """

    reading: Reading
    plateau: list[dict]
    at_edge: bool


def choose(points: list[dict], reading: Reading) -> Setting:
    """The shortest list, then the highest threshold, among the points as good as the best one.

    Good is what is kept beyond a blind search of the same size; as good means that the paired difference, over recipes,
    is within one standard error. A list longer than all items, and a threshold of 0, are no edges.
    """
    best = max(points, key=lambda point: point["gain"].mean())
    plateau = [point for point in points if _as_good(best["gain"], point["gain"])]
    one = min(plateau, key=lambda point: (point["n"], -point["theta"]))
    at_edge = one["n"] == min(N) or one["theta"] == max(THETA) or (one["n"] == max(N) and not one["n_is_all"])
    return Setting(replace(reading, n=one["n"], theta=one["theta"]), plateau, at_edge)


def _as_good(best: np.ndarray, other: np.ndarray) -> bool:
    """Whether the mean difference of pairs (recipes,) is within its standard error."""
    difference = best - other
    return bool(difference.mean() <= difference.std(ddof=1) / np.sqrt(len(difference)))


def of_size(points: list[dict], reading: Reading, share: float) -> Reading:
    """The reading that keeps most of those within a tenth of a share of the recipes; without any, the nearest."""
    close = [point for point in points if share / 1.1 <= point["scored"] <= 1.1 * share]
    if close:
        one = max(close, key=lambda point: point["kept"])
    else:
        one = min(points, key=lambda point: abs(point["scored"] - share))
    return replace(reading, n=one["n"], theta=one["theta"])


def grid(database: Database, made: Baskets, reading: Reading, seed: int | None = None) -> list[dict]:
    """What every n and theta gives, in the database or (``seed`` given) held out: one point each.

    ``scored``, ``kept``: mean shares of recipes and of best matches. ``gain``: kept less scored, (recipes,).
    ``n_is_all``: no list is longer than n.
    """
    found = {(n, theta): np.zeros((2, len(made.recipe))) for n in N for theta in THETA}
    longest = dict.fromkeys(N, 0)
    for known, at in protocols.asked(database, made, seed):
        similar = similarity(made.given[at], known.has, reading.match)
        member = np.eye(len(known.subcategories), dtype=bool)[known.sub]  # (R, S)
        best = np.stack([similar[:, own].max(axis=1, initial=0) for own in member.T], axis=1)  # (B, S)
        for n in N:
            method = Recommender.learn(known, replace(reading, n=n))
            scores, categories = method.scores(made.given[at]), method.active_categories(made.given[at])
            longest[n] = max(longest[n], int((method.weights > 0).sum(axis=1).max()))
            for theta in THETA:
                active = method.opened(scores, categories, theta)
                if reading.fallback:
                    active |= ~active.any(axis=1, keepdims=True)
                top = np.where(active, best, 0).max(axis=1)
                found[n, theta][:, at] = active @ member.mean(axis=0), kept(top, similar)
    rows = np.unique(made.recipe)
    return [
        {
            "n": n,
            "theta": theta,
            "scored": float(scored.mean()),
            "kept": float(held.mean()),
            "gain": of_recipe(made, held - scored, rows),
            "n_is_all": longest[n] < n,
        }
        for (n, theta), (scored, held) in found.items()
    ]


def asking(known: Database, database: Database, made: Baskets, reading: Reading) -> Asking:
    """Baskets put to a database that answers, the method learned from it alone."""
    method = Recommender.learn(known, reading)
    return Asking(known, made.given, made.hidden, database.sub[made.recipe], method, method.searched(made.given))


def kept(top: np.ndarray, similar: np.ndarray) -> np.ndarray:
    """Whether the best match found (B,) is as similar as brute force's; one that shares nothing is no match."""
    return (top > 0) & (top >= similar.max(axis=1) - 1e-6)


def answers(put: Asking, searched: np.ndarray) -> dict[str, np.ndarray]:
    """What a gate that searches these recipes (B, R) finds, (B,) each.

    ``scored``: share of recipes compared; ``kept``: whether the best match is as good as brute force's; ``five``: share
    of brute force's five best that are compared.
    """
    return {
        "scored": searched.mean(axis=1),
        "kept": kept(np.where(searched, put.similar, 0).max(axis=1), put.similar),
        "five": _share(np.take_along_axis(searched, put.five, axis=1), put.five >= 0),
    }


def dishes(put: Asking, best: np.ndarray) -> dict[str, np.ndarray]:
    """Which dish the best matches (B, m) name, (B,) each.

    ``right``: whether the first is of the right subcategory; ``own``: whether a recipe of the same items as the
    basket's own is among them.
    """
    whole = (put.given + put.hidden)[:, None]
    return {
        "right": (best[:, 0] >= 0) & (put.known.sub[best[:, 0]] == put.target),
        "own": ((put.known.has[best] == whole).all(axis=2) & (best >= 0)).any(axis=1),
    }


def _share(holds: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Share (B,) of the cases ``of`` (B, k) in which something holds; NaN without any."""
    with np.errstate(invalid="ignore"):
        return (holds & of).sum(axis=1) / of.sum(axis=1)


def recall(lists: list[np.ndarray], hidden: np.ndarray, k: int | None = None) -> np.ndarray:
    """Share (B,) of the hidden items (B, I) among the first k columns of each list; NaN where nothing is hidden."""
    asked = [set(np.flatnonzero(row)) for row in hidden]
    return np.array([ranking.recall(columns, own, k) for columns, own in zip(lists, asked, strict=True)])


def activation(put: Asking) -> dict[str, np.ndarray]:
    """Which subcategories and categories a basket opens, (B,): shares of baskets, and of what there is.

    ``own_active``, ``others_active``: the right subcategory, and the share of the others. ``own_category``,
    ``categories``, ``least categories``: the right category, the share of all that are active, and that of one.
    ``nothing``: no subcategory is active.
    """
    active, categories = put.method.activated(put.given), put.method.active_categories(put.given)
    at = np.arange(len(put.given))
    own = active[at, put.target]
    return {
        "own_active": own,
        "others_active": (active.sum(axis=1) - own) / max(active.shape[1] - 1, 1),
        "own_category": categories[at, put.known.home[put.target]],
        "categories": categories.mean(axis=1),
        "least categories": np.full(len(put.given), 1 / categories.shape[1]),
        "nothing": ~active.any(axis=1),
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
