"""How good a ranked list of items is, for one user at a time."""

from collections.abc import Collection, Sequence

import numpy as np


def recall(ranked: Sequence, relevant: Collection, k: int | None = None) -> float:
    """Share of the relevant items among the first k (None: all) of the ranked ones, in [0, 1]; NaN without any."""
    return sum(item in relevant for item in ranked[:k]) / len(relevant) if len(relevant) else float("nan")


def ndcg(ranked: Sequence, relevant: Collection, k: int) -> float:
    """Normalised discounted cumulative gain at k for binary relevance (Järvelin and Kekäläinen 2002), in [0, 1]."""
    if not len(relevant):
        return float("nan")
    discount = 1 / np.log2(np.arange(2, k + 2))
    gained = np.array([item in relevant for item in ranked[:k]], dtype=float)
    return float(gained @ discount[: len(gained)] / discount[: min(k, len(relevant))].sum())
