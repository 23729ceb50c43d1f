"""The sink metric of Gu et al. (arXiv 2410.10781, section 3.2), from attention rows, never holding a T x T tensor.

alpha_k of a head in one sample is the mean attention that key k gets from the queries that can see it, and Sink_k the
share of heads and samples in which alpha_k exceeds epsilon. The threshold comes *before* the average over samples.
"""

import torch
from torch import Tensor

EPSILON = 0.3


class Importance:
    """Reducer for `lm.attention.observed` and `lm.variants.observed`: alpha of the first ``keys`` keys, per sample.

    Rows that do not sum to one are taken as the paper's proxies, abs(a_ij) / sum_j abs(a_ij); rows of zeros stay so.
    ``slots``: columns before the first token that every query sees (a key bias); they come first in the result.
    """

    def __init__(self, keys: int, slots: int = 0):
        self.keys, self.slots = keys, slots
        self._sums: dict[int, list[Tensor]] = {}  # layer -> one (B, H, slots + keys) for each batch
        self._length = 0

    def update(self, layer: int, start: int, rows: Tensor) -> None:
        """``rows`` (B, H, b, slots + n) of queries ``start … start+b-1``; a block that starts at 0 is a new batch."""
        rows = rows.float().abs()
        rows = rows / rows.sum(dim=-1, keepdim=True).clamp(min=1e-12)
        part = rows[..., : self.slots + self.keys].sum(dim=2).cpu()
        part = torch.nn.functional.pad(part, (0, self.slots + self.keys - part.shape[-1]))
        batches = self._sums.setdefault(layer, [])
        if start == 0:
            batches.append(part)
        else:
            batches[-1] += part
        self._length = max(self._length, start + rows.shape[2])

    def result(self) -> Tensor:
        """alpha (N, L, H, slots + keys)."""
        sums = torch.stack([torch.cat(self._sums[layer]) for layer in sorted(self._sums)], dim=1)
        queries = self._length - torch.arange(self.keys)
        return sums / torch.cat([torch.full((self.slots,), self._length), queries])


def sink_rate(alpha: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Sink_k in [0, 1] of each sample, (N, keys), from alpha (N, L, H, keys): the share of heads above epsilon."""
    return (alpha > epsilon).float().mean(dim=(1, 2))
