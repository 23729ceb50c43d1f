"""How good a ranked list of items is, for one user at a time."""

from collections.abc import Collection, Sequence


def recall(ranked: Sequence, relevant: Collection, k: int | None = None) -> float:
    """Share of the relevant items among the first k (None: all) of the ranked ones, in [0, 1]; NaN without any."""
    return sum(item in relevant for item in ranked[:k]) / len(relevant) if len(relevant) else float("nan")
