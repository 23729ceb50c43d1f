"""What each key is given by the queries that can see it, whatever the mask: a reducer for `lm.attention.observed`."""

import torch
from torch import Tensor


class VisibleColumns:
    """Mean attention that each key receives from the queries that see it, by layer and head.

    As `metrics.attention.ColumnMass`, for windows too: a key out of a query's sight counts in neither numerator nor
    denominator. A key is in sight where any head gives it something, since hidden keys hold exactly 0.
    """

    def __init__(self):
        self._sums: dict[int, Tensor] = {}  # layer -> (H, n)
        self._seen: dict[int, Tensor] = {}  # layer -> (n,)

    def update(self, layer: int, start: int, probs: Tensor) -> None:
        """``probs`` (B, H, b, n) of queries ``start … start+b-1``."""
        given = (probs.sum(dim=(0, 2)) / len(probs)).cpu()
        seen = (probs[0] > 0).any(dim=0).sum(dim=0).cpu()
        if layer in self._sums:
            before = self._sums[layer].shape[1]
            given[:, :before] += self._sums[layer]
            seen[:before] += self._seen[layer]
        self._sums[layer], self._seen[layer] = given, seen

    def result(self) -> Tensor:
        """(L, H, T)."""
        return torch.stack([self._sums[layer] / self._seen[layer].clamp(min=1) for layer in sorted(self._sums)])
