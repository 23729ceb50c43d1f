"""What every measurement of this chapter takes from a model while it runs: attention to the first token, and scores."""

import math

import torch
from torch import Tensor

from claimbook.papers import gated_attention as method


class FirstToken:
    """Reducer for `lm.attention.observed` and `lm.variants.observed`: what each query gives to the first token."""

    def __init__(self):
        self._rows: dict[int, list[Tensor]] = {}

    def update(self, layer: int, start: int, rows: Tensor) -> None:
        self._rows.setdefault(layer, []).append(rows[..., 0].float().cpu())

    def result(self) -> Tensor:
        """(L, B, H, T - 1), of one batch: the first query, which sees only itself, is left out."""
        return torch.stack([torch.cat(self._rows[layer], dim=-1) for layer in sorted(self._rows)])[..., 1:]


def even(length: int, *, strict: bool = False) -> float:
    """F-Attn under even attention: the mean over queries but the first of one over the keys they see."""
    seen = torch.arange(1, length, dtype=torch.float64) + (0 if strict else 1)
    return float((1 / seen).mean())


class Scores:
    """What `method.watched` sees: mean scores by gate and token, how many are near zero, and sizes before and after."""

    def __init__(self):
        self.by_token: dict[int, Tensor] = {}  # gate -> (B, T)
        self.zero: dict[int, float] = {}  # gate -> share of scores below 0.1
        self.sizes: dict[int, tuple[float, float]] = {}  # gate -> mean absolute value before and after

    def __call__(self, gate: int, score: Tensor | None, before: Tensor, after: Tensor) -> None:
        self.sizes[gate] = float(before.float().abs().mean()), float(after.float().abs().mean())
        if score is not None:
            self.by_token[gate] = score.float().mean(dim=(2, 3)).cpu()
            self.zero[gate] = float((score < 0.1).float().mean())


def multiplies(gates: list[str]) -> bool:
    """Whether these gates have scores that multiply, of which one may say that they are open or closed."""
    return bool(gates) and all(
        method.GATES[name].combine == "multiply" and method.GATES[name].source in ("input", "parameter")
        for name in gates
    )


def mean(values) -> float | None:
    """The mean of numbers; None of none."""
    values = list(values)
    return sum(values) / len(values) if values else None


def finite(value):
    """The same nested lists and dicts with None in place of what is not finite, as of a training that diverged."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
