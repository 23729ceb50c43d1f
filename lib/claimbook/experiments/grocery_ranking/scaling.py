"""How the search grows with the database: real recipes, and up to a hundred times as many synthetic ones."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import sparse

from claimbook.experiments.grocery_ranking import protocols, recipes
from claimbook.experiments.grocery_ranking.baselines import index_candidates
from claimbook.papers.grocery_ranking import Database, Reading, Recommender
from claimbook.provenance import declarations

WAYS = ("brute force", "inverted index", "item ranking")


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: operations and milliseconds per basket for each seed, way to search and size of the database."""
    database = Database.of(recipes.wikibooks())
    jobs = {f"seed {seed}": lambda seed=seed: measure(database, config, seed) for seed in config["seeds"]}
    found = list(declarations.checkpointed(jobs, work, progress).values())
    curves = {name: [row[name] for row in found] for name in ("recipes", "operations", "milliseconds", "scored")}
    return {"metrics": {"seeds": len(found)}, "curves": curves}


def measure(database: Database, config: dict, seed: int) -> dict:
    """``recipes`` (sizes,); ``operations`` and ``milliseconds`` by way, (sizes,) each; ``scored``, the method's share.

    An operation is a look-up for an item of the basket, or one similarity.
    """
    made = protocols.tasks(database, range(len(database.recipes)), seed)
    rng = np.random.default_rng(seed)
    made = [made[i] for i in rng.permutation(len(made))[: config["n_baskets"]]]
    out = {
        "recipes": [],
        "scored": [],
        "operations": {way: [] for way in WAYS},
        "milliseconds": {way: [] for way in WAYS},
    }
    for copies in config["copies"]:
        large = multiplied(database, copies, config["swapped"], rng)
        found = search_costs(large, large.rows([task.basket for task in made]), Reading(config["n"], config["theta"]))
        out["recipes"].append(len(large.has))
        out["scored"].append(found["operations"]["item ranking"] / len(large.has))
        for way in WAYS:
            for what in ("operations", "milliseconds"):
                out[what][way].append(found[what][way])
    return out


def multiplied(database: Database, copies: int, swapped: float, rng: np.random.Generator) -> Database:
    """``copies`` times the recipes, sorted by subcategory: the real ones, and synthetic ones beside them.

    In a synthetic recipe each item is swapped, with probability ``swapped``, for one that the recipes of its category
    have, as often as they have it.
    """
    has = [database.has]
    for _ in range(copies - 1):
        has.append(_perturbed(database, swapped, rng))
    whole, sub = np.concatenate(has), np.tile(database.sub, copies)
    order = np.argsort(sub, kind="stable")
    return replace(database, recipes=(), has=whole[order], sub=sub[order])


def _perturbed(database: Database, swapped: float, rng: np.random.Generator) -> np.ndarray:
    has, homes = database.has.copy(), database.home[database.sub]
    for category in range(len(database.categories)):
        rows = np.flatnonzero(homes == category)
        counts = database.has[rows].sum(axis=0)
        row, column = np.nonzero(database.has[rows])
        gone = rng.random(len(row)) < swapped
        drawn = rng.choice(len(counts), gone.sum(), p=counts / counts.sum())
        has[rows[row[gone]], column[gone]] = 0
        has[rows[row[gone]], drawn] = 1
    return has


def search_costs(database: Database, baskets: np.ndarray, reading: Reading) -> dict[str, dict[str, float]]:
    """Mean operations and median milliseconds per basket of each way, all on the same sparse arrays, one by one."""
    recommender = Recommender.learn(database, reading)
    rows, columns = sparse.csr_matrix(database.has), sparse.csc_matrix(database.has)
    size = database.has.sum(axis=1)
    start = np.searchsorted(database.sub, np.arange(len(database.subcategories) + 1))
    lookups, indexed = baskets.sum(axis=1), index_candidates(database, baskets)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for basket, candidates in zip(baskets, indexed, strict=True):
        times["brute force"].append(_timed(lambda basket=basket: _best(rows @ basket, size, basket.sum())))
        times["inverted index"].append(
            _timed(lambda basket=basket, candidates=candidates: _by_index(columns, basket, candidates, size))
        )
        times["item ranking"].append(_timed(lambda basket=basket: _by_ranking(recommender, rows, start, basket, size)))
    operations = {
        "brute force": float(len(database.has)),
        "inverted index": float((indexed.sum(axis=1) + lookups).mean()),
        "item ranking": float((recommender.searched(baskets).sum(axis=1) + lookups).mean()),
    }
    return {"operations": operations, "milliseconds": {way: float(np.median(found)) for way, found in times.items()}}


def _timed(call) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def _best(common: np.ndarray, size: np.ndarray, basket_size: float) -> float:
    return float((common / (size + basket_size - common)).max(initial=0))


def _by_index(columns: sparse.csc_matrix, basket: np.ndarray, candidates: np.ndarray, size: np.ndarray) -> float:
    """Counts common items by the posting lists of the basket's items, then compares the candidates."""
    common = np.zeros(columns.shape[0], dtype=np.float32)
    for item in np.flatnonzero(basket):
        common[columns.indices[columns.indptr[item] : columns.indptr[item + 1]]] += 1
    found = np.flatnonzero(common * candidates)
    return _best(common[found], size[found], basket.sum())


def _by_ranking(
    recommender: Recommender, rows: sparse.csr_matrix, start, basket: np.ndarray, size: np.ndarray
) -> float:
    """Scores the subcategories, then compares the recipes of the active ones, which lie together."""
    best = 0.0
    for sub in np.flatnonzero(recommender.activated(basket[None])[0]):
        part = slice(start[sub], start[sub + 1])
        best = max(best, _best(rows[part] @ basket, size[part], basket.sum()))
    return best
