"""Norms and angles of hidden states, keys and values: what makes the first token special, as numbers."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from claimbook.lm.attention import replaced


class Geometry:
    """What one layer's queries, keys and values look like around token ``first``; see `observe`.

    All of shape (L, B, H or H_kv): ``key_norm`` and ``value_norm`` are the norms of token ``first`` over the mean of
    the other tokens'; ``cosine_first`` is the mean cosine of later queries with its key, ``cosine_others`` with the
    other keys they see. ``hidden_norm`` (L, B): norm of its hidden state after each block over the mean of the others,
    the last one before the final norm.
    """

    def __init__(self, first: int = 0):
        self.first = first
        self._rows: dict[int, dict[str, Tensor]] = {}
        self.hidden_norm: Tensor | None = None

    def see(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Query (B, H, T, d), key and value (B, H_kv, T, d) of a layer, as they enter the attention."""
        groups = query.shape[1] // key.shape[1]
        directions = normalize(key.float(), dim=-1).repeat_interleave(groups, 1)
        cosines = normalize(query.float(), dim=-1) @ directions.mT
        steps = torch.arange(query.shape[2], device=query.device)
        later = steps > self.first
        others = (steps[:, None] >= steps) & (steps != self.first) & later[:, None]  # pairs of a later query and a key
        self._rows[layer] = {
            "key_norm": over_others(key.float().norm(dim=-1), self.first).cpu(),
            "value_norm": over_others(value.float().norm(dim=-1), self.first).cpu(),
            "cosine_first": cosines[:, :, later, self.first].mean(dim=-1).cpu(),
            "cosine_others": (cosines * others).sum(dim=(-1, -2)).cpu() / others.sum().cpu(),
        }

    def __getattr__(self, name: str) -> Tensor:
        rows = self.__dict__.get("_rows", {})
        if not rows or name not in rows[min(rows)]:
            raise AttributeError(name)
        return torch.stack([rows[layer][name] for layer in sorted(rows)])


def observe(model, ids: Tensor, attention: Callable, first: int = 0) -> Geometry:
    """Geometry of ``ids`` (B, T) in ``model``, whose attention is computed by ``attention`` (see `replaced`).

    Holds T x T cosines of one layer at a time: for short texts.
    """
    seen = Geometry(first)

    def function(module, query, key, value, mask, scaling=None, **options):
        seen.see(module.layer_idx, query, key, value)
        return attention(module, query, key, value, mask, scaling=scaling, **options)

    states = []
    hooks = [layer.register_forward_hook(_keep(states)) for layer in layers(model)]
    try:
        with torch.no_grad(), replaced(model, function):
            model.base_model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    seen.hidden_norm = torch.stack([over_others(state.float().norm(dim=-1), first).cpu() for state in states])
    return seen


def over_others(norms: Tensor, first: int) -> Tensor:
    """(…,) norm of token ``first`` over the mean norm of all others, of norms (…, T)."""
    others = (norms.sum(dim=-1) - norms[..., first]) / (norms.shape[-1] - 1)
    return norms[..., first] / others


def layers(model) -> torch.nn.ModuleList:
    """The blocks of a decoder: its outermost list of as many modules as it has layers."""
    count = model.config.get_text_config().num_hidden_layers
    return next(
        module
        for module in model.base_model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    )


def _keep(states: list[Tensor]) -> Callable:
    def hook(module, inputs, output):
        states.append((output[0] if isinstance(output, tuple) else output).detach())

    return hook
