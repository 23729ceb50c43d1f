"""What the recommender does to a set of baskets: how much it searches, what it finds, how good its items are."""

from dataclasses import dataclass, replace

import numpy as np

from claimbook.experiments.grocery_ranking import protocols
from claimbook.experiments.grocery_ranking.ingredients import staples
from claimbook.experiments.grocery_ranking.protocols import Task
from claimbook.metrics import ranking
from claimbook.papers.grocery_ranking import (
    Database,
    Reading,
    Recommender,
    best_matches,
    recommended,
    similarity,
)

N = (5, 10, 20)
THETA = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
KEPT = 0.8  # of brute force's best matches, that a setting should keep
MATCHES = 5  # recipes whose missing items are recommended
EVERYTHING = Reading(theta=0, gate=False)


@dataclass(frozen=True)
class Setting:
    """A reading with the n and theta chosen for it, and what they gave on the tuning half."""

    reading: Reading
    scored: float
    kept: float


# --- the search -----------------------------------------------------------------------------------------------------


def search(recommender: Recommender, baskets: np.ndarray, target_sub: np.ndarray) -> dict[str, np.ndarray]:
    """For each basket (B,): share of recipes scored, whether the best match is as good as brute force's, activation.

    A basket that activates nothing scores no recipe and keeps no match. ``operations`` counts one look-up for each
    item of the basket and one for each similarity.
    """
    database = recommender.database
    similar = similarity(baskets, database.has, recommender.reading.match)
    searched, active = recommender.searched(baskets), recommender.activated(baskets)
    top = np.where(searched, similar, 0).max(axis=1)
    at = np.arange(len(baskets))
    others = np.maximum(active.shape[1] - 1, 1)
    return {
        "scored": searched.mean(axis=1),
        "kept": (top > 0) & (top >= similar.max(axis=1) - 1e-6),
        "own_active": active[at, target_sub],
        "wrong_active": (active.sum(axis=1) - active[at, target_sub]) / others,
        "n_active": active.sum(axis=1),
        "nothing": ~active.any(axis=1),
        "operations": searched.sum(axis=1) + baskets.sum(axis=1),
        **_categories(recommender, baskets, target_sub),
    }


def _categories(recommender: Recommender, baskets: np.ndarray, target_sub: np.ndarray) -> dict[str, np.ndarray]:
    active = recommender.active_categories(baskets)
    own = active[np.arange(len(baskets)), recommender.database.home[target_sub]]
    return {"categories": active.mean(axis=1), "own_category": own}


def search_all(
    database: Database, made: list[Task], reading: Reading, seed: int | None = None
) -> dict[str, np.ndarray]:
    """`search` over tasks, in the database or (``seed`` given) held out."""

    def ask(known: Database, asked: np.ndarray) -> dict[str, np.ndarray]:
        baskets = known.rows([made[i].basket for i in asked])
        return search(Recommender.learn(known, reading), baskets, database.sub[[made[i].recipe for i in asked]])

    return protocols.collect(database, made, ask, seed)


def grid(database: Database, made: list[Task], reading: Reading, seed: int | None = None) -> list[dict]:
    """Mean share scored, best matches kept and the rest of `search` for every n and theta."""
    rows = []
    for n in N:
        for theta in THETA:
            found = search_all(database, made, replace(reading, n=n, theta=theta), seed)
            rows.append({"n": n, "theta": theta} | {name: float(np.nanmean(values)) for name, values in found.items()})
    return rows


def choose(rows: list[dict], reading: Reading, kept: float = KEPT) -> Setting:
    """The cheapest setting that keeps the share ``kept`` of best matches, else the one that keeps most."""
    enough = [row for row in rows if row["kept"] >= kept]
    row = min(enough, key=lambda row: row["scored"]) if enough else max(rows, key=lambda row: row["kept"])
    return Setting(replace(reading, n=row["n"], theta=row["theta"]), row["scored"], row["kept"])


# --- the recommendation ---------------------------------------------------------------------------------------------


def recommend_all(database: Database, made: list[Task], reading: Reading, seed: int | None = None) -> dict:
    """For each task the items recommended (``lists``), the best matches' subcategories and whether the first is right.

    ``subs`` counts the distinct subcategories among the best matches; no match counts as wrong.
    """
    lists: list[list[str]] = [[] for _ in made]

    def ask(known: Database, asked: np.ndarray) -> dict[str, np.ndarray]:
        recommender = Recommender.learn(known, reading)
        baskets = known.rows([made[i].basket for i in asked])
        best = recommender.best(baskets, MATCHES)
        for i, columns in zip(asked, recommended(baskets, best, known, recommender.weights), strict=True):
            lists[i] = [known.items[column] for column in columns]
        found = np.where(best >= 0, known.sub[best], -1)
        targets = np.array([made[i].recipe for i in asked])
        return {
            "right_sub": found[:, 0] == database.sub[targets],
            "subs": np.array([len(set(row.tolist()) - {-1}) for row in found]),
        }

    return protocols.collect(database, made, ask, seed) | {"lists": lists}


def quality(made: list[Task], lists: list[list[str]], without_staples: bool = False) -> dict[str, np.ndarray]:
    """(tasks,) each: recall and nDCG at 10, recall and completion by the whole list, and its size.

    Without staples these are neither recommended nor asked for; a task that hides nothing else has NaN.
    """
    left_out = staples() if without_staples else frozenset()
    rows = []
    for task, found in zip(made, lists, strict=True):
        hidden = task.hidden - left_out
        ranked = [item for item in found if item not in left_out]
        rows.append(
            {
                "recall": ranking.recall(ranked, hidden, 10),
                "ndcg": ranking.ndcg(ranked, hidden, 10),
                "recall_all": ranking.recall(ranked, hidden),
                "completed": float(hidden <= set(ranked)) if hidden else np.nan,
                "size": len(ranked),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def cut(lists: list[list[str]], sizes: list[list[str]]) -> list[list[str]]:
    """Each list cut to the size of its counterpart: what is compared as sets has equal sizes."""
    return [found[: len(other)] for found, other in zip(lists, sizes, strict=True)]


# --- single questions -----------------------------------------------------------------------------------------------


def separation(database: Database, rows: np.ndarray, reading: Reading, seed: int, ranked: bool = True) -> np.ndarray:
    """AUC of each recipe (rows,): the share of sibling recipes that score lower for its subcategory than it does.

    All recipes of a category that are held out together are scored; ties count half. ``ranked=False`` draws the n items
    of each list at random from the category's items: what ranking is worth.
    """
    fold, found = protocols.folds(database, seed), np.full(len(database.recipes), np.nan)
    for number in range(protocols.FOLDS):
        test = np.flatnonzero(fold == number)
        recommender = Recommender.learn(database.without(test), reading)
        if not ranked:
            recommender = replace(recommender, weights=_at_random(recommender, number + 1000 * seed))
        scores = recommender.scores(database.has[test])
        homes = database.home[database.sub[test]]
        for i, row in enumerate(test):
            sub = database.sub[row]
            siblings = (homes == database.home[sub]) & (database.sub[test] != sub)
            if siblings.any():
                lower = scores[siblings, sub] < scores[i, sub]
                equal = np.isclose(scores[siblings, sub], scores[i, sub])
                found[row] = np.where(equal, 0.5, lower).mean()
    return found[rows]


def _at_random(recommender: Recommender, seed: int) -> np.ndarray:
    """The same weights on items drawn at random from those of the category."""
    database, rng = recommender.database, np.random.default_rng(seed)
    weights = np.zeros_like(recommender.weights)
    for sub, old in enumerate(recommender.weights):
        inside = database.has[database.home[database.sub] == database.home[sub]].any(axis=0)
        values = old[old > 0]
        weights[sub, rng.choice(np.flatnonzero(inside), len(values), replace=False)] = values
    return weights


def few_recipes(
    database: Database, made: list[Task], reading: Reading, seed: int, left: int = 3
) -> dict[str, np.ndarray]:
    """(tasks,) each: recall at 10, with the own subcategory whole and cut to ``left`` recipes.

    The recipe itself is held out in both.
    """
    found = {"whole": np.full(len(made), np.nan), "cut": np.full(len(made), np.nan)}
    rng = np.random.default_rng(seed)
    for row in dict.fromkeys(task.recipe for task in made):
        asked = [i for i, task in enumerate(made) if task.recipe == row]
        family = np.setdiff1d(np.flatnonzero(database.sub == database.sub[row]), [row])
        gone = rng.permutation(family)[left:]
        for name, rows in (("whole", np.array([row])), ("cut", np.append(gone, row))):
            known = database.without(rows)
            recommender = Recommender.learn(known, reading)
            baskets = known.rows([made[i].basket for i in asked])
            best = recommender.best(baskets, MATCHES)
            for i, columns in zip(asked, recommended(baskets, best, known, recommender.weights), strict=True):
                found[name][i] = ranking.recall([known.items[c] for c in columns], made[i].hidden, 10)
    return found


def growth(database: Database, made: list[Task], reading: Reading, seed: int, draws: int = 20) -> np.ndarray:
    """Log-log slope (draws,) of operations per basket over recipes in the database, from an eighth of it to all."""
    fractions, slopes = (1 / 8, 1 / 4, 1 / 2, 1), []
    for draw in range(draws):
        order = np.random.default_rng([seed, draw]).permutation(len(database.recipes))
        sizes, operations = [], []
        for fraction in fractions:
            known = database.without(order[round(fraction * len(order)) :])
            baskets = known.rows([task.basket for task in made])
            searched = Recommender.learn(known, reading).searched(baskets)
            sizes.append(len(known.recipes))
            operations.append((searched.sum(axis=1) + baskets.sum(axis=1)).mean())
        slopes.append(np.polyfit(np.log(sizes), np.log(operations), 1)[0])
    return np.array(slopes)


def brute_force(database: Database, made: list[Task], m: int = MATCHES) -> np.ndarray:
    """Best matches (tasks, m) among all recipes, one basket and one recipe at a time, by sets: the oracle of tests."""
    found = []
    for task in made:
        similar = [len(task.basket & recipe.items) / len(task.basket | recipe.items) for recipe in database.recipes]
        found.append(best_matches(np.array([similar]), np.ones((1, len(similar)), bool), m)[0])
    return np.array(found)
