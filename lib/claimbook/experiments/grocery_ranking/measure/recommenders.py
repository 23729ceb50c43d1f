"""Other ways to recommend items, each from its field's library; all see the same baskets and, held out, the same folds.

A recommender scores items (B, I) or recipes (B, R) of a database for baskets (B, I).
"""

import warnings
from collections.abc import Callable

import numpy as np
from scipy import sparse

from claimbook.papers.grocery_ranking import Database, best_matches, recommended

Scores = Callable[[Database, np.ndarray], np.ndarray]


def item_lists(known: Database, given: np.ndarray, score: Scores, listed: int = 30) -> list[np.ndarray]:
    """For each basket the columns of the ``listed`` items that rank first, less the basket."""
    value = np.where(given > 0, -np.inf, score(known, given))
    order = np.argsort(-value, axis=1, kind="stable")[:, :listed]
    return [columns[np.isfinite(row[columns])] for columns, row in zip(order, value, strict=True)]


def recipe_lists(known: Database, given: np.ndarray, score: Scores, m: int = 5) -> list[np.ndarray]:
    """For each basket the columns of the missing items of the m recipes that rank first."""
    value = score(known, given)
    return recommended(given, best_matches(value, np.ones(value.shape, bool), m), known, known.has)


# --- items ------------------------------------------------------------------------------------------------------------


def popularity(known: Database, given: np.ndarray) -> np.ndarray:
    """How many recipes have each item."""
    return np.broadcast_to(known.has.sum(axis=0), given.shape)


def item_knn(known: Database, given: np.ndarray) -> np.ndarray:
    """Item-based collaborative filtering, cosine (implicit); recipes take the place of users."""
    from implicit.nearest_neighbours import CosineRecommender

    return _implicit(CosineRecommender(num_threads=1), known, given)


def bm25_items(known: Database, given: np.ndarray) -> np.ndarray:
    """The same with BM25 weights (implicit)."""
    from implicit.nearest_neighbours import BM25Recommender

    return _implicit(BM25Recommender(num_threads=1), known, given)


def _implicit(model, known: Database, given: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a note on how long the library's own conversion took
        model.fit(sparse.csr_matrix(known.has), show_progress=False)
    return (sparse.csr_matrix(given) @ model.similarity).toarray()


def als(known: Database, given: np.ndarray) -> np.ndarray:
    """Matrix factorisation by alternating least squares (implicit), baskets folded in as new users."""
    from implicit.als import AlternatingLeastSquares

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # advice on BLAS threads
        model = AlternatingLeastSquares(num_threads=1, random_state=0)
    model.fit(sparse.csr_matrix(known.has), show_progress=False)
    users = model.recalculate_user(np.arange(len(given)), sparse.csr_matrix(given))
    return users @ model.item_factors.T


def rules(known: Database, given: np.ndarray) -> np.ndarray:
    """Association rules with one item on the right (mlxtend FP-growth): the highest confidence that applies."""
    import pandas as pd
    from mlxtend.frequent_patterns import association_rules, fpgrowth

    frame = pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(known.has.astype(bool)), columns=known.items)
    found = association_rules(
        fpgrowth(frame, min_support=0.01, max_len=3, use_colnames=True), metric="confidence", min_threshold=0.1
    )
    at, score = {item: i for i, item in enumerate(known.items)}, np.zeros(given.shape)
    for left, right, confidence in zip(found["antecedents"], found["consequents"], found["confidence"], strict=True):
        if len(right) == 1:
            applies = given[:, [at[item] for item in left]].all(axis=1)
            column = at[next(iter(right))]
            score[applies, column] = np.maximum(score[applies, column], confidence)
    return score + 1e-6 * popularity(known, given)  # where no rule applies, the most popular


ITEMS: dict[str, Scores] = {"popularity": popularity, "item-kNN, cosine": item_knn}
SHOWN_ITEMS: dict[str, Scores] = {"item-kNN, BM25": bm25_items, "ALS": als, "association rules": rules}


# --- recipes ----------------------------------------------------------------------------------------------------------


def tfidf(known: Database, given: np.ndarray) -> np.ndarray:
    """Cosine of tf-idf vectors (scikit-learn)."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.metrics.pairwise import linear_kernel

    weigh = TfidfTransformer().fit(known.has)
    return linear_kernel(weigh.transform(given), weigh.transform(known.has))


def bm25(known: Database, given: np.ndarray) -> np.ndarray:
    """BM25 with the basket as the query (rank-bm25)."""
    from rank_bm25 import BM25Okapi

    index = BM25Okapi([sorted(recipe.items) for recipe in known.recipes])
    queries = [[known.items[i] for i in np.flatnonzero(basket)] for basket in given]
    return np.array([np.maximum(index.get_scores(query), 0) for query in queries])


SHOWN_RECIPES: dict[str, Scores] = {"brute force, tf-idf": tfidf, "brute force, BM25": bm25}
