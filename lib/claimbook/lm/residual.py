"""The residual stream of one text, block by block, as norms and cosines: nothing of size (L, T, d) is held."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from claimbook.lm import writes
from claimbook.lm.attention import observed
from claimbook.metrics.columns import VisibleColumns
from claimbook.metrics.sinks import EPSILON


@dataclass(frozen=True)
class Stream:
    """What tokens carry and are given, (L, T) each; cosines are with token ``at``.

    ``norm``, ``cosine``: of the state after the block. ``attention_…``, ``feed_forward_…``: of what the block's two
    halves write; their cosine is with what they write for token ``at``, ``…_along`` that with its state. ``given``:
    mean attention from the queries that see the token, mean over heads. ``heads``: share of heads that give it more
    than 0.3.
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

    with writes.observed(model, see), observed(model, columns):
        model.base_model(input_ids=ids[None].to(model.device), use_cache=False)
    numbers = torch.stack([rows[layer] for layer in sorted(rows)], dim=1)  # (8, L, T)
    given = columns.result()
    return Stream(at, *numbers, given=given.mean(dim=1), heads=(given > EPSILON).float().mean(dim=1))


def _cosine(states: Tensor, direction: Tensor) -> Tensor:
    """(T,) of states (T, d) and a direction (d,)."""
    return cosine_similarity(states, direction[None], dim=-1)
