"""Adapters for families that compute attention inline instead of through transformers' registry.

An adapter swaps the ``forward`` of each attention module for one that projects, calls the given attention function
with the family's own scaling and ALiBi slopes, and projects back.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor


def for_model(model) -> Callable[..., AbstractContextManager] | None:
    """The adapter of the model's family, or None where the registry reaches it."""
    family = ADAPTERS.get(model.config.model_type)
    return None if family is None else lambda model, function: _swapped(model, function, *family)


@contextmanager
def _swapped(model, function, class_name: str, forward: Callable) -> Iterator[None]:
    modules = [module for module in model.modules() if type(module).__name__ == class_name]
    for module in modules:
        module.forward = lambda *args, _module=module, **kwargs: forward(_module, function, *args, **kwargs)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _mpt(module, function, hidden_states: Tensor, position_bias: Tensor, **ignored):
    qkv = module.Wqkv(hidden_states)
    if module.clip_qkv:
        qkv = qkv.clamp(min=-module.clip_qkv, max=module.clip_qkv)
    shape = (*hidden_states.shape[:2], module.n_heads, module.head_dim)
    query, key, value = (part.reshape(shape).transpose(1, 2) for part in qkv.chunk(3, dim=2))
    # position_bias (H, 1, n) falls by one slope per token of distance
    slopes = (position_bias[:, 0, -1] - position_bias[:, 0, -2]).float()
    out, _ = function(module, query, key, value, None, scaling=module.softmax_scale, alibi_slopes=slopes)
    return module.out_proj(out.flatten(2)), None


def _falcon(module, function, hidden_states: Tensor, alibi: Tensor | None, *args, position_embeddings=None, **ignored):
    from transformers.models.falcon.modeling_falcon import apply_rotary_pos_emb, build_alibi_tensor

    query, key, value = (part.transpose(1, 2) for part in module._split_heads(module.query_key_value(hidden_states)))
    slopes = None
    if alibi is None:
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
    else:
        # bias of the second of two tokens = one slope; read at length 2 because a decoding step has only one token
        bias = build_alibi_tensor(hidden_states.new_ones(1, 2), module.num_heads, torch.float32)
        slopes = bias[:, 0, 1] * module.inv_norm_factor
    out, _ = function(module, query, key, value, None, scaling=module.inv_norm_factor, alibi_slopes=slopes)
    return module.dense(out.flatten(2)), None


# model_type -> (class of its attention modules, forward that calls the attention function)
ADAPTERS = {"mpt": ("MptAttention", _mpt), "falcon": ("FalconAttention", _falcon)}
