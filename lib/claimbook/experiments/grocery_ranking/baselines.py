"""What a sceptic would run instead: other ways to prune the search, and other ways to recommend items.

Each comes from its field's library. All see the same baskets and, held out, the same folds.
"""

import warnings
from collections.abc import Callable

import numpy as np
from scipy import sparse

from claimbook.experiments.grocery_ranking import protocols
from claimbook.experiments.grocery_ranking.ingredients import staples
from claimbook.experiments.grocery_ranking.protocols import Task
from claimbook.papers.grocery_ranking import Database, best_matches, recommended, similarity

LISTED = 30  # items that a single-item recommender ranks
Scores = Callable[[Database, np.ndarray], np.ndarray]


# --- ways to recommend items ---------------------------------------------------------------------------------------


def item_lists(
    database: Database, made: list[Task], score: Scores, seed: int | None, listed: int = LISTED
) -> list[list[str]]:
    """For each task the ``listed`` items that ``score(database, baskets) -> (B, I)`` ranks first, less the basket."""
    lists: list[list[str]] = [[] for _ in made]

    def ask(known: Database, asked: np.ndarray) -> dict:
        baskets = known.rows([made[i].basket for i in asked])
        value = np.where(baskets > 0, -np.inf, score(known, baskets))
        for i, order, row in zip(asked, np.argsort(-value, axis=1, kind="stable")[:, :listed], value, strict=True):
            lists[i] = [known.items[column] for column in order if np.isfinite(row[column])]
        return {}

    protocols.collect(database, made, ask, seed)
    return lists


def popularity(database: Database, baskets: np.ndarray) -> np.ndarray:
    """How many recipes have each item."""
    return np.broadcast_to(database.has.sum(axis=0), baskets.shape)


def item_knn(database: Database, baskets: np.ndarray) -> np.ndarray:
    """Item-based collaborative filtering, cosine (implicit); recipes take the place of users."""
    from implicit.nearest_neighbours import CosineRecommender

    return _implicit(CosineRecommender(K=50, num_threads=1), database, baskets)


def bm25_items(database: Database, baskets: np.ndarray) -> np.ndarray:
    """The same with BM25 weights (implicit)."""
    from implicit.nearest_neighbours import BM25Recommender

    return _implicit(BM25Recommender(K=50, num_threads=1), database, baskets)


def _implicit(model, database: Database, baskets: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a note on how long the library's own conversion took
        model.fit(sparse.csr_matrix(database.has), show_progress=False)
    return (sparse.csr_matrix(baskets) @ model.similarity).toarray()


def als(database: Database, baskets: np.ndarray) -> np.ndarray:
    """Matrix factorisation by alternating least squares (implicit), baskets folded in as new users."""
    from implicit.als import AlternatingLeastSquares

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # advice on BLAS threads
        model = AlternatingLeastSquares(factors=32, regularization=0.1, iterations=15, num_threads=1, random_state=0)
    model.fit(sparse.csr_matrix(database.has), show_progress=False)
    users = model.recalculate_user(np.arange(len(baskets)), sparse.csr_matrix(baskets))
    return users @ model.item_factors.T


def rules(database: Database, baskets: np.ndarray) -> np.ndarray:
    """Association rules with one item on the right (mlxtend FP-growth): the highest confidence that applies."""
    import pandas as pd
    from mlxtend.frequent_patterns import association_rules, fpgrowth

    frame = pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(database.has.astype(bool)), columns=database.items)
    found = association_rules(
        fpgrowth(frame, min_support=0.01, max_len=3, use_colnames=True), metric="confidence", min_threshold=0.1
    )
    at, score = {item: i for i, item in enumerate(database.items)}, np.zeros(baskets.shape)
    for left, right, confidence in zip(found["antecedents"], found["consequents"], found["confidence"], strict=True):
        if len(right) == 1:
            applies = baskets[:, [at[item] for item in left]].all(axis=1)
            column = at[next(iter(right))]
            score[applies, column] = np.maximum(score[applies, column], confidence)
    return score + 1e-6 * popularity(database, baskets)  # where no rule applies, the most popular


ITEMS: dict[str, Scores] = {
    "popularity": popularity,
    "association rules": rules,
    "item-kNN, cosine": item_knn,
    "item-kNN, BM25": bm25_items,
    "ALS": als,
}


# --- other ways to find recipes, whose missing items are recommended ------------------------------------------------


def recipe_lists(database: Database, made: list[Task], score: Scores, seed: int | None, m: int = 5) -> list[list[str]]:
    """As `item_lists`: the missing items of the m recipes that ``score(database, baskets) -> (B, R)`` ranks first."""
    lists: list[list[str]] = [[] for _ in made]

    def ask(known: Database, asked: np.ndarray) -> dict:
        baskets = known.rows([made[i].basket for i in asked])
        value = score(known, baskets)
        best = best_matches(value, np.ones(value.shape, bool), m)
        for i, columns in zip(asked, recommended(baskets, best, known, known.has), strict=True):
            lists[i] = [known.items[column] for column in columns]
        return {}

    protocols.collect(database, made, ask, seed)
    return lists


def jaccard(database: Database, baskets: np.ndarray) -> np.ndarray:
    """Brute force: the similarity framework that the paper sets out to improve."""
    return similarity(baskets, database.has)


def tfidf(database: Database, baskets: np.ndarray) -> np.ndarray:
    """Cosine of tf-idf vectors (scikit-learn)."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.metrics.pairwise import linear_kernel

    weigh = TfidfTransformer().fit(database.has)
    return linear_kernel(weigh.transform(baskets), weigh.transform(database.has))


def bm25(database: Database, baskets: np.ndarray) -> np.ndarray:
    """BM25 with the basket as the query (rank-bm25)."""
    from rank_bm25 import BM25Okapi

    index = BM25Okapi([sorted(recipe.items) for recipe in database.recipes])
    named = [[database.items[i] for i in np.flatnonzero(basket)] for basket in baskets]
    return np.array([np.maximum(index.get_scores(query), 0) for query in named])


RECIPES: dict[str, Scores] = {"brute force, Jaccard": jaccard, "brute force, tf-idf": tfidf, "brute force, BM25": bm25}


# --- other ways to prune ----------------------------------------------------------------------------------------------


def index_candidates(database: Database, baskets: np.ndarray) -> np.ndarray:
    """(B, R): recipes that share an item with the basket which is no staple: what an inverted index would score.

    A basket of staples alone is compared with all that share one of them.
    """
    staple = np.array([item in staples() for item in database.items])
    found = (baskets * ~staple) @ database.has.T > 0
    only_staples = ~(baskets * ~staple).any(axis=1)
    found[only_staples] = baskets[only_staples] @ database.has.T > 0
    return found


def lsh_candidates(database: Database, baskets: np.ndarray, budget: np.ndarray) -> np.ndarray:
    """(B, R): what a MinHash LSH forest (datasketch) offers within a budget (B,) of recipes for each basket."""
    from datasketch import MinHash, MinHashLSHForest

    def sketch(row: np.ndarray) -> MinHash:
        made = MinHash(num_perm=64, seed=1)
        made.update_batch([str(i).encode() for i in np.flatnonzero(row)])
        return made

    forest = MinHashLSHForest(num_perm=64, l=16)
    for i, row in enumerate(database.has):
        forest.add(i, sketch(row))
    forest.index()
    found = np.zeros((len(baskets), len(database.has)), dtype=bool)
    for at, (basket, size) in enumerate(zip(baskets, budget, strict=True)):
        if size:
            found[at, forest.query(sketch(basket), int(size))] = True
    return found


def class_candidates(database: Database, baskets: np.ndarray, budget: float, order: np.ndarray) -> np.ndarray:
    """(B, R): recipes of the first t subcategories of each basket's ``order`` (B, S).

    t is the largest number, the same for all baskets, whose mean share of recipes stays within ``budget``.
    """
    size = np.bincount(database.sub, minlength=len(database.subcategories)) / len(database.sub)
    within = size[order].cumsum(axis=1).mean(axis=0) <= budget
    position = np.argsort(order, axis=1)
    return (position < within.sum())[:, database.sub]


def learned_order(database: Database, baskets: np.ndarray, model) -> np.ndarray:
    """(B, S): subcategories by a scikit-learn classifier's probability, the most probable first."""
    model.fit(database.has, database.sub)
    probability = np.zeros((len(baskets), len(database.subcategories)))
    probability[:, model.classes_] = model.predict_proba(baskets)
    return np.argsort(-probability, axis=1, kind="stable")


def naive_bayes(database: Database, baskets: np.ndarray) -> np.ndarray:
    from sklearn.naive_bayes import MultinomialNB

    return learned_order(database, baskets, MultinomialNB(alpha=0.1))


def logistic(database: Database, baskets: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    return learned_order(database, baskets, LogisticRegression(C=3, max_iter=300))


def random_order(database: Database, baskets: np.ndarray) -> np.ndarray:
    """Subcategories in random order: what activation is worth."""
    rng = np.random.default_rng(len(baskets))
    return rng.permuted(np.tile(np.arange(len(database.subcategories)), (len(baskets), 1)), axis=1)


ORDERS: dict[str, Scores] = {
    "naive Bayes gate": naive_bayes,
    "logistic gate": logistic,
    "random gate": random_order,
}


def pruned(
    database: Database, made: list[Task], scored: np.ndarray, seed: int | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """For each other pruner, per task: share of recipes scored and whether the best match is as good as brute force's.

    ``scored`` (tasks,) is the share that the method scores: the equal budget, on average for the gates and the same
    for each basket for LSH. The inverted index has no budget.
    """
    names = ["inverted index", "LSH", *ORDERS]
    out = {name: {"scored": np.full(len(made), np.nan), "kept": np.full(len(made), np.nan)} for name in names}

    def ask(known: Database, asked: np.ndarray) -> dict:
        baskets = known.rows([made[i].basket for i in asked])
        similar = similarity(baskets, known.has)
        budget = float(scored[asked].mean())
        offered = {
            "inverted index": index_candidates(known, baskets),
            "LSH": lsh_candidates(known, baskets, np.full(len(asked), round(budget * len(known.recipes)))),
        }
        offered |= {name: class_candidates(known, baskets, budget, f(known, baskets)) for name, f in ORDERS.items()}
        for name, candidates in offered.items():
            out[name]["scored"][asked] = candidates.mean(axis=1)
            top = np.where(candidates, similar, 0).max(axis=1)
            out[name]["kept"][asked] = (top > 0) & (top >= similar.max(axis=1) - 1e-6)
        return {}

    protocols.collect(database, made, ask, seed)
    return out
