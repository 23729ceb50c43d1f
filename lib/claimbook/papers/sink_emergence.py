"""What Gu et al. (arXiv 2410.10781, ICLR 2025) derive and do; their metric is in `claimbook.metrics.sinks`.

Propositions 1 to 4 (appendix C.1): when one token is repeated, all hidden states of a layer are the same, so that what
a query gives to a key depends on positions alone. And the exchange of position embeddings of Table 7.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from claimbook.errors import ClaimbookError
from claimbook.lm import proof


def prove(model) -> None:
    """Refuse, with ClaimbookError, a model whose attention cannot be seen and changed: all measurements need that."""
    proof.attention(model)


def uniform(length: int) -> Tensor:
    """Proposition 1, no positions: query t (from 1) gives each of its t keys 1 / t. (T, T)."""
    rows = torch.ones(length, length).tril()
    return rows / rows.sum(dim=1, keepdim=True)


def by_distance(bias: Tensor) -> Tensor:
    """Propositions 2 and 3, relative and ALiBi biases (H, T, T): the softmax of the bias alone. (H, T, T)."""
    hidden = torch.ones(bias.shape[-2:], dtype=torch.bool).triu(1)
    return torch.softmax(bias.masked_fill(hidden, float("-inf")), dim=-1)


def rotary_bound(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Proposition 4, rotary positions: the most that query t can give to any of its t keys. (…, T).

    e^(2 xi) / (e^(2 xi) + t - 1) with xi = |q| |k| ``scaling``, of equal queries and keys (…, T, d); rotating them
    changes their angle, never their norm. As transcribed, the paper leaves the scaling out, which loosens its bound.
    """
    xi = (query.norm(dim=-1) * key.norm(dim=-1) * scaling).double()
    others = torch.arange(query.shape[-2], device=query.device, dtype=torch.float64)
    return 1 / (1 + others * torch.exp(-2 * xi))


@contextmanager
def positions_exchanged(model, first: int, second: int, *, swap: bool) -> Iterator[None]:
    """Inside the block position ``first`` has the embedding of ``second`` and, with ``swap``, the other way round.

    Positions from 0 (Table 7 counts from 1). ClaimbookError for a model without a table of position embeddings.
    """
    table = position_table(model)
    before = table[[first, second]].clone()
    try:
        table[first] = before[1]
        if swap:
            table[second] = before[0]
        yield
    finally:
        table[[first, second]] = before


def has_position_table(model) -> bool:
    """Whether the model has learnt position embeddings."""
    try:
        position_table(model)
    except ClaimbookError:
        return False
    return True


def position_table(model) -> Tensor:
    """Learnt position embeddings (positions, d), as data that may be written; OPT's begin at row 2."""
    base = model.base_model
    if hasattr(base, "wpe"):
        return base.wpe.weight.data
    decoder = getattr(base, "decoder", None)
    if hasattr(decoder, "embed_positions"):
        return decoder.embed_positions.weight.data[decoder.embed_positions.offset :]
    raise ClaimbookError(f"'{model.config.model_type}' has no learnt position embeddings to exchange")
