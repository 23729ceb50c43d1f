"""How good a ranking is in which one card is right, by its place; and how true stated probabilities are."""

import numpy as np


def rank_of(scores: np.ndarray, right: int) -> int:
    """Place of card ``right`` by scores (N,), 1 is first; of equal scores it comes last."""
    return int((np.asarray(scores) >= scores[right]).sum())


def ndcg(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """nDCG@k by query, (Q,): 1 / log2(1 + rank), and 0 past k; the ideal is 1 (Järvelin and Kekäläinen 2002)."""
    ranks = np.asarray(ranks, dtype=float)
    return np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)


def reciprocal(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """Reciprocal rank by query, (Q,), 0 past k; its mean is MRR@k."""
    ranks = np.asarray(ranks, dtype=float)
    return np.where(ranks <= k, 1 / ranks, 0.0)


def among(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """Whether the right card is among the first k, (Q,) of 0 and 1; its mean is recall@k."""
    return (np.asarray(ranks) <= k).astype(float)


def calibration_error(stated: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error in [0, 1] of probabilities (n,) about outcomes (n,); Guo et al. (2017), Equation 3.

    Cases are put in ``bins`` of equal width by what was stated; each weighs as it has cases.
    """
    stated, right = np.asarray(stated, dtype=float), np.asarray(right, dtype=float)
    place = np.minimum((stated * bins).astype(int), bins - 1)
    gap = np.bincount(place, weights=right - stated, minlength=bins)
    return float(np.abs(gap).sum() / len(stated))
