"""What the recommender does to a set of baskets: how much it searches, what it finds, how good its items are."""

from dataclasses import dataclass, replace

import numpy as np

from claimbook.experiments.grocery_ranking import protocols
from claimbook.experiments.grocery_ranking.ingredients import staples
from claimbook.experiments.grocery_ranking.protocols import Task
from claimbook.metrics import ranking
from claimbook.papers.grocery_ranking import Database, Reading, Recommender, best_matches, recommended, similarity

N = (5, 10, 20)
THETA = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
KEPT = 0.8  # of brute force's best matches, that a setting should keep
MATCHES = 5  # recipes whose missing items are recommended
EVERYTHING = Reading(theta=2, fallback=True)  # activates nothing, so it compares with all: brute force


@dataclass(frozen=True)
class Setting:
    """A reading with the n and theta chosen for it, and what they gave on the tuning half."""

    reading: Reading
    scored: float
    kept: float


# --- the search -----------------------------------------------------------------------------------------------------


def search(
    recommender: Recommender, baskets: np.ndarray, target_sub: np.ndarray, similar: np.ndarray
) -> dict[str, np.ndarray]:
    """For each basket (B,): share of recipes scored, whether the best match is as good as brute force's, activation.

    ``similar`` (B, R): the similarity of all, which the method itself would compute for the searched alone. A basket
    that activates nothing scores no recipe and keeps no match. ``operations`` counts one look-up for each item of the
    basket and one for each similarity.
    """
    searched, active = recommender.searched(baskets), recommender.activated(baskets)
    top = np.where(searched, similar, 0).max(axis=1)
    at = np.arange(len(baskets))
    own, others = active[at, target_sub], max(active.shape[1] - 1, 1)
    categories = recommender.active_categories(baskets)
    return {
        "scored": searched.mean(axis=1),
        "kept": (top > 0) & (top >= similar.max(axis=1) - 1e-6),
        "own_active": own,
        "wrong_active": (active.sum(axis=1) - own) / others,
        "n_active": active.sum(axis=1),
        "nothing": ~active.any(axis=1),
        "operations": searched.sum(axis=1) + baskets.sum(axis=1),
        "categories": categories.mean(axis=1),
        "own_category": categories[at, recommender.database.home[target_sub]],
    }


def search_all(
    database: Database, made: list[Task], reading: Reading, seed: int | None = None
) -> dict[str, np.ndarray]:
    """`search` over tasks, in the database or (``seed`` given) held out."""
    return _searches(database, made, [reading], seed)[reading]


def _searches(
    database: Database, made: list[Task], readings: list[Reading], seed: int | None
) -> dict[Reading, dict[str, np.ndarray]]:
    """`search_all` for readings that differ in n and theta alone: what they share is computed once."""

    def ask(known: Database, asked: np.ndarray) -> dict:
        baskets = known.rows([made[i].basket for i in asked])
        target_sub = database.sub[[made[i].recipe for i in asked]]
        similar = similarity(baskets, known.has, readings[0].match)
        learned = {n: Recommender.learn(known, replace(readings[0], n=n)) for n in {one.n for one in readings}}
        return {
            (reading, name): values
            for reading in readings
            for name, values in search(
                replace(learned[reading.n], reading=reading), baskets, target_sub, similar
            ).items()
        }

    found = protocols.collect(database, made, ask, seed)
    return {reading: {name: found[key, name] for key, name in found if key == reading} for reading in readings}


def grid(
    database: Database, made: list[Task], reading: Reading, seed: int | None = None, lengths: tuple[int, ...] = N
) -> list[dict]:
    """Mean share scored, best matches kept and the rest of `search` for every n of ``lengths`` and theta."""
    readings = [replace(reading, n=n, theta=theta) for n in lengths for theta in THETA]
    return [
        {"n": one.n, "theta": one.theta} | {name: float(np.nanmean(values)) for name, values in found.items()}
        for one, found in _searches(database, made, readings, seed).items()
    ]


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


def separation(
    database: Database, rows: np.ndarray, reading: Reading, seed: int, *, ranked: bool = True, head: bool = True
) -> np.ndarray:
    """AUC of each recipe (rows,): the share of sibling recipes that score lower for its subcategory than it does.

    All recipes of a category that are held out together are scored; ties count half. ``ranked=False`` draws the n items
    of each list at random from the category's items: what ranking is worth. ``head=False`` scores each recipe without
    the items that stand in its title or labels, which decided the label.
    """
    fold, found = protocols.folds(database, seed), np.full(len(database.recipes), np.nan)
    for number in range(protocols.FOLDS):
        test = np.flatnonzero(fold == number)
        recommender = Recommender.learn(database.without(test), reading)
        if not ranked:
            recommender = replace(recommender, weights=_at_random(recommender, number + 1000 * seed))
        items = database.has[test] if head else _without_named(database, test)
        scores = recommender.scores(items)
        homes = database.home[database.sub[test]]
        for i, row in enumerate(test):
            sub = database.sub[row]
            siblings = (homes == database.home[sub]) & (database.sub[test] != sub)
            if siblings.any():
                lower = scores[siblings, sub] < scores[i, sub]
                equal = np.isclose(scores[siblings, sub], scores[i, sub])
                found[row] = np.where(equal, 0.5, lower).mean()
    return found[rows]


def _without_named(database: Database, rows: np.ndarray) -> np.ndarray:
    """Items (rows, I) of recipes, without those that stand in their titles or labels."""
    kept = [recipe.items - protocols.named(recipe) for recipe in (database.recipes[row] for row in rows)]
    return database.rows(kept)


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
    """(tasks,) each: recall at 10, held out, with the own subcategory whole and cut to ``left`` recipes."""
    found = {"whole": np.full(len(made), np.nan), "cut": np.full(len(made), np.nan)}
    fold, rng = protocols.folds(database, seed), np.random.default_rng(seed)
    task_sub, task_fold = (values[[task.recipe for task in made]] for values in (database.sub, fold))
    for sub in range(len(database.subcategories)):
        for number in range(protocols.FOLDS):
            asked = np.flatnonzero((task_sub == sub) & (task_fold == number))
            test = np.flatnonzero(fold == number)
            family = np.flatnonzero((database.sub == sub) & (fold != number))
            gone = rng.permutation(family)[left:]
            for name, rows in (("whole", test), ("cut", np.append(test, gone))):
                if len(asked):
                    known = database.without(rows)
                    protocols.check_unseen(database, known, [made[i] for i in asked])
                    lists = _lists(known, reading, [made[i].basket for i in asked])
                    found[name][asked] = [
                        ranking.recall(items, made[i].hidden, 10) for i, items in zip(asked, lists, strict=True)
                    ]
    return found


def _lists(database: Database, reading: Reading, baskets: list[frozenset[str]]) -> list[list[str]]:
    """The items recommended for each basket."""
    recommender, rows = Recommender.learn(database, reading), database.rows(baskets)
    best = recommender.best(rows, MATCHES)
    return [
        [database.items[column] for column in columns]
        for columns in recommended(rows, best, database, recommender.weights)
    ]


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
