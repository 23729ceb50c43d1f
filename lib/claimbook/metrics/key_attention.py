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
        self._seen: dict[int, Tensor] = {}  # layer -> (2, n): queries that see a key, and their even shares summed

    def update(self, layer: int, start: int, probs: Tensor) -> None:
        """``probs`` (B, H, b, n) of queries ``start … start+b-1``."""
        given = (probs.sum(dim=(0, 2)) / len(probs)).cpu()
        sees = (probs[0] > 0).any(dim=0)  # (b, n)
        seen = torch.stack([sees.sum(dim=0), (sees / sees.sum(dim=1, keepdim=True).clamp(min=1)).sum(dim=0)]).cpu()
        if layer in self._sums:
            before = self._sums[layer].shape[1]
            given[:, :before] += self._sums[layer]
            seen[:, :before] += self._seen[layer]
        self._sums[layer], self._seen[layer] = given, seen

    def result(self) -> Tensor:
        """(L, H, T)."""
        return torch.stack([self._sums[layer] / self._counts(layer) for layer in sorted(self._sums)])

    def even(self) -> Tensor:
        """(L, T): what each key would be given if every query shared its attention evenly among the keys it sees."""
        return torch.stack([self._seen[layer][1] / self._counts(layer) for layer in sorted(self._seen)])

    def _counts(self, layer: int) -> Tensor:
        return self._seen[layer][0].clamp(min=1)
