"""The residual stream of one text, block by block, as norms and cosines: nothing of size (L, T, d) is held."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from claimbook.lm import block_outputs
from claimbook.lm.attention import causal_probs, grouped_matmul, observed, replaced
from claimbook.metrics.key_attention import VisibleColumns
from claimbook.metrics.sinks import EPSILON


@dataclass(frozen=True)
class Stream:
    """What tokens carry and are given, (L, T) each; cosines are with token ``at``.

    ``norm``, ``cosine``: of the state after the block. ``attention_…``, ``feed_forward_…``: of what the block's two
    halves write; their cosine is with what they write for token ``at``, ``…_along`` that with its state. ``given``:
    mean attention from the queries that see the token, mean over heads; ``even``: what it would be if they shared it
    evenly among all they see. ``heads``: share of heads that give it more than 0.3.
    """

    at: int
    norm: Tensor
    cosine: Tensor
    attention_norm: Tensor
    attention_cosine: Tensor
    attention_along: Tensor
    feed_forward_norm: Tensor
    feed_forward_cosine: Tensor
    feed_forward_along: Tensor
    given: Tensor
    even: Tensor
    heads: Tensor


@torch.no_grad()
def trace(model, ids: Tensor, at: int = 0) -> Stream:
    """The stream of ids (T,). ClaimbookError for a family whose writes cannot be told apart (`writes.writers`)."""
    columns, rows = VisibleColumns(), {}

    def see(layer: int, before: Tensor, attention: Tensor, feed_forward: Tensor, after: Tensor) -> None:
        state, *halves = (part[0].float() for part in (after, attention, feed_forward))
        numbers = [state.norm(dim=-1), _cosine(state, state[at])]
        for written in halves:
            numbers += [written.norm(dim=-1), _cosine(written, written[at]), _cosine(written, state[at])]
        rows[layer] = torch.stack(numbers).cpu()

    with block_outputs.observed(model, see), observed(model, columns):
        model.base_model(input_ids=ids[None].to(model.device), use_cache=False)
    numbers = torch.stack([rows[layer] for layer in sorted(rows)], dim=1)  # (8, L, T)
    given = columns.result()
    return Stream(
        at, *numbers, given=given.mean(dim=1), even=columns.even(), heads=(given > EPSILON).float().mean(dim=1)
    )


@torch.no_grad()
def keys_and_values(model, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Norms of the keys and of the values of ids (T,), mean over heads, (L, T) each.

    Holds the attention map of one layer at a time: for texts of some hundreds of tokens.
    """
    rows = {}

    def function(module, query, key, value, mask, scaling=None, **options):
        rows[module.layer_idx] = torch.stack([part[0].float().norm(dim=-1).mean(dim=0) for part in (key, value)]).cpu()
        probs = causal_probs(query, key, 0, scaling, **options)
        return grouped_matmul(probs, value).transpose(1, 2), None

    with replaced(model, function):
        model.base_model(input_ids=ids[None].to(model.device), use_cache=False)
    keys, values = torch.stack([rows[layer] for layer in sorted(rows)], dim=1)
    return keys, values


def _cosine(states: Tensor, direction: Tensor) -> Tensor:
    """(T,) of states (T, d) and a direction (d,)."""
    return cosine_similarity(states, direction[None], dim=-1)
