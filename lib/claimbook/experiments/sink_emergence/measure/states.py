"""Norms of hidden states, token by token."""

import torch
from torch import Tensor

from claimbook.lm import geometry
from claimbook.lm.decoder import PostNormLayer


def norms(model, ids: Tensor) -> Tensor:
    """Norm of each token's state after each layer, (L, B, T); with post-norm that of the sum before the last norm."""
    states, hooks = [], []
    for layer in geometry.layers(model):
        if isinstance(layer, PostNormLayer):
            last = layer.post_attention_layernorm
            hooks.append(last.register_forward_pre_hook(lambda _, args: states.append(args[0])))
        else:
            hooks.append(layer.register_forward_hook(lambda _, args, out: states.append(_first(out))))
    try:
        model.base_model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([state.float().norm(dim=-1).cpu() for state in states])


def _first(output) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
