"""Reducers over attention rows, for ``claimbook.lm.attention.observed``: each keeps what it needs, no T x T tensor.

``update(layer, start, probs)`` receives (B, H, b, n): the softmax rows of queries ``start … start+b-1`` over keys
``0 … n-1``.
"""

import torch
from torch import Tensor


class KeyMass:
    """Attention of every query to each of the first ``keys`` tokens, mean over the batch.

    Memory: layers x heads x T x keys numbers. A query sees only keys up to itself; what it cannot see is 0.
    """

    def __init__(self, keys: int):
        self.keys, self._rows = keys, {}

    def update(self, layer: int, start: int, probs: Tensor) -> None:
        part = probs[..., : self.keys].mean(dim=0).cpu()
        part = torch.nn.functional.pad(part, (0, self.keys - part.shape[-1]))
        self._rows.setdefault(layer, []).append(part)

    def result(self) -> Tensor:
        """(L, H, T, keys)."""
        return torch.stack([torch.cat(self._rows[layer], dim=1) for layer in sorted(self._rows)])


class ColumnMass:
    """Mean attention that each key receives from the queries that can see it, mean over the batch.

    alpha_k = 1 / (T - k) * sum over queries i >= k of A[i, k], k from 0 (Gu et al., arXiv 2410.10781, section 3).
    """

    def __init__(self):
        self._sums = {}

    def update(self, layer: int, start: int, probs: Tensor) -> None:
        part = (probs.sum(dim=(0, 2)) / len(probs)).cpu()  # (H, n)
        before = self._sums.get(layer)
        if before is not None:
            part[:, : before.shape[1]] += before
        self._sums[layer] = part

    def result(self) -> Tensor:
        """(L, H, T)."""
        sums = torch.stack([self._sums[layer] for layer in sorted(self._sums)])
        length = sums.shape[-1]
        return sums / torch.arange(length, 0, -1)


class MeanMap:
    """Mean attention map over heads and sequences; for short sequences, as it is T x T."""

    def __init__(self):
        self._sums, self._counts = {}, {}

    def update(self, layer: int, start: int, probs: Tensor) -> None:
        if start:
            raise ValueError("MeanMap is for sequences of one block: it holds a T x T map")
        self._sums[layer] = self._sums.get(layer, 0) + probs.mean(dim=1).sum(dim=0).cpu()
        self._counts[layer] = self._counts.get(layer, 0) + probs.shape[0]

    def result(self) -> Tensor:
        """(L, T, T)."""
        return torch.stack([self._sums[layer] / self._counts[layer] for layer in sorted(self._sums)])
