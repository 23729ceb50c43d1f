"""Replace or observe a model's attention, through transformers' own registries.

Both are context managers: on leaving, the model has its former attention back and the registries hold no trace.
Families that compute attention inline (MPT, Falcon) are reached by the named adapters of ``adapters.py``.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from claimbook.errors import ClaimbookError
from claimbook.lm import adapters

AttentionFunction = Callable[..., tuple[Tensor, None]]
_serial = itertools.count()


@contextmanager
def replaced(model, function: AttentionFunction) -> Iterator[None]:
    """Let ``function`` compute every attention of ``model`` inside the block.

    ``function(module, query, key, value, mask, scaling=…, **options)`` receives query (B, H, T, d) and key, value
    (B, H_kv, T, d), already positioned by the model, and returns ``(output (B, T, H, d), None)``. The mask is always
    None: the function itself decides what a query sees. ``options`` may hold ``sliding_window``, ``s_aux`` (the
    per-head sink logit of gpt-oss), ``softcap`` and ``alibi_slopes``.

    Raises ClaimbookError for a family that neither uses the registry nor has an adapter, and for padded batches.
    """
    if adapter := adapters.for_model(model):
        with adapter(model, function):
            yield
        return
    if not model._can_set_attn_implementation():
        raise ClaimbookError(
            f"the attention of '{model.config.model_type}' cannot be replaced: the family does not use transformers' "
            f"attention registry and has no adapter (there is one for: {', '.join(sorted(adapters.ADAPTERS))})"
        )
    name, before = f"claimbook-{next(_serial)}", model.config._attn_implementation
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, _no_mask)
    try:
        model.set_attn_implementation(name)
        yield
    finally:
        model.set_attn_implementation(before)
        AttentionInterface._global_mapping.pop(name)
        AttentionMaskInterface._global_mapping.pop(name)


def _no_mask(*args, attention_mask: Tensor | None = None, **options) -> None:
    if attention_mask is not None and not bool(attention_mask.all()):
        raise ClaimbookError("padded batches are not supported when attention is replaced: give equal lengths")


@contextmanager
def observed(model, *reducers, block: int = 128) -> Iterator[None]:
    """Feed every attention row of ``model`` to ``reducers`` while it runs, its outputs unchanged.

    A block of ``block`` queries is held at a time, so memory grows as block x T, never T x T. A reducer has
    ``update(layer, start, probs)`` with probs (B, H, b, n): the softmax rows of queries ``start … start+b-1`` over
    keys ``0 … n-1``; keys that a row cannot see hold exactly 0. See ``claimbook.metrics.attention``.
    """

    def function(module, query, key, value, mask, scaling=None, **options):
        out = torch.empty_like(query)
        for start in range(0, query.shape[2], block):
            stop = min(start + block, query.shape[2])
            probs = causal_probs(query[:, :, start:stop], key[:, :, :stop], start, scaling, **options)
            for reducer in reducers:
                reducer.update(module.layer_idx, start, probs)
            out[:, :, start:stop] = grouped_matmul(probs, value[:, :, :stop])
        return out.transpose(1, 2), None

    with replaced(model, function):
        yield


def causal_probs(
    query, key, start, scaling, sliding_window=None, s_aux=None, softcap=None, alibi_slopes=None, **ignored
) -> Tensor:
    """Causal attention of queries (B, H, b, d), the first at position ``start``, over keys (B, H_kv, n, d) from 0.

    Returns (B, H, b, n) in float32. Rows sum to one, or to less where a sink logit ``s_aux`` takes its share.
    """
    logits = grouped_matmul(query * scaling, key.transpose(2, 3)).float()
    # without a window only the last block of columns hides anything; on long texts that is most of the saving
    first = 0 if sliding_window is not None or alibi_slopes is not None else start
    rows = torch.arange(start, start + query.shape[2], device=query.device)
    distance = rows[:, None] - torch.arange(first, key.shape[2], device=query.device)
    hidden = distance < 0
    if sliding_window is not None:
        hidden |= distance >= sliding_window
    return softmax(logits, hidden, distance, s_aux, softcap, alibi_slopes)


def softmax(logits, hidden, distance, s_aux=None, softcap=None, alibi_slopes=None) -> Tensor:
    """Softmax of float32 logits (B, H, b, n), which are overwritten; options as families define them.

    ``hidden`` (b, m), m <= n, is True where the last m columns cannot be seen. ALiBi's slopes (H,) multiply
    ``distance`` (b, n). ``s_aux`` (H,) joins the denominator only.
    """
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    if alibi_slopes is not None:
        logits -= alibi_slopes.view(-1, 1, 1) * distance
    logits[..., logits.shape[-1] - hidden.shape[-1] :].masked_fill_(hidden, float("-inf"))
    if s_aux is None:
        return torch.softmax(logits, dim=-1, out=logits)
    sink = s_aux.float().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
    return torch.softmax(torch.cat([logits, sink], dim=-1), dim=-1)[..., :-1]


def grouped_matmul(left: Tensor, right: Tensor) -> Tensor:
    """(B, H, b, m) @ (B, H_kv, m, n) -> (B, H, b, n), each key-value head serving H / H_kv heads, uncopied."""
    batch, heads, rows, inner = left.shape
    groups = right.shape[1]
    folded = left.to(right.dtype).reshape(batch, groups, heads // groups * rows, inner)
    return (folded @ right).view(batch, heads, rows, right.shape[3])
