"""Attention variants for decoders trained here: the ones of Gu et al. (arXiv 2410.10781, sections 6 and 7) and kin.

`scores` is the whole of it: what each query gives to each key. `attend` wraps it as an attention function for
transformers' registry, `observed` hands the rows to reducers.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn
from torch.nn.functional import elu
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from claimbook.lm.attention import replaced

NAME = "claimbook-variant"
KERNELS = {"elu1_kernel", "identity_kernel", "mlp_kernel"}


class Attention(BaseModel):
    """How a decoder attends; the default is causal softmax attention.

    ``similarity``: of logits z = q·k / sqrt(d): "softmax" exp z, "sigmoid", "elu1" elu(z) + 1; or a kernel phi with
    phi(q)·phi(k) / sqrt(d): "elu1_kernel", "identity_kernel", "mlp_kernel" (two bias-free d x d layers with a ReLU
    between, shared by queries, keys and heads of a layer). ``normalised``: rows are divided by their sum, for the
    kernels that can be negative by max(abs(sum), 1). ``row_sum`` multiplies every row.

    ``bias``: learnable vectors per head that take part without a token: "k" a key whose value is ``value``, "kv" key
    and value, "v" a value added to every output, "sink_logit" a bare logit (as in gpt-oss) with the value 0.
    ``shared``: one vector for all heads of a layer. ``key_dims``: only so many dimensions of the key are learnt, the
    others stay 0. ``value`` m and ``value_direction``: the fixed value of "k", m·e_1 ("first") or m·1/sqrt(d) ("even").

    ``window``: a query sees so many keys, its own included. ``prefix``: the first so many keys are seen by all queries.
    ``strict``: a query does not see its own key. ``distance``: "alibi" lowers logits by a slope per token of distance;
    "relative" is the paper's own scheme, which *raises* them with the bucket of the distance (section C.1).
    ``summed``: the outputs of the heads are added up, not put side by side (Table 12; our reading of "addition").
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    similarity: Literal["softmax", "sigmoid", "elu1", "elu1_kernel", "identity_kernel", "mlp_kernel"] = "softmax"
    normalised: bool = True
    row_sum: float = 1.0
    bias: Literal["none", "k", "kv", "v", "sink_logit"] = "none"
    shared: bool = False
    key_dims: int | None = None
    value: float = 0.0
    value_direction: Literal["first", "even"] = "first"
    window: int | None = None
    prefix: int = 0
    strict: bool = False
    distance: Literal["none", "alibi", "relative"] = "none"
    summed: bool = False

    @model_validator(mode="after")
    def _fits_together(self):
        if self.similarity in KERNELS and (self.distance != "none" or self.bias == "sink_logit"):
            raise ValueError("a kernel has no logits: no distance bias and no sink logit goes with it")
        if self.similarity == "softmax" and not self.normalised:
            raise ValueError("softmax without normalisation is not defined here: take sigmoid or elu1")
        if self.bias not in ("k", "kv") and (self.key_dims is not None or self.value):
            raise ValueError(f"key_dims and value belong to a key bias, not to bias '{self.bias}'")
        if self.bias == "kv" and self.value:
            raise ValueError("with bias 'kv' the value is learnt: a fixed one belongs to bias 'k'")
        return self

    @property
    def slots(self) -> int:
        """Columns before the first token: 1 where a bias takes attention as a key does."""
        return int(self.bias in ("k", "kv", "sink_logit"))


def equip(module: nn.Module, variant: Attention) -> None:
    """Give an attention module (with ``head_dim`` and ``config``) its variant and the parameters it needs.

    Key and value biases start at N(0, 0.02), as in the paper's released code, whose zeros are commented out.
    """
    module.variant = variant
    heads, size = 1 if variant.shared else module.config.num_attention_heads, module.head_dim
    if variant.bias in ("k", "kv"):
        module.bias_key = nn.Parameter(0.02 * torch.randn(heads, variant.key_dims or size))
    if variant.bias in ("v", "kv"):
        module.bias_value = nn.Parameter(0.02 * torch.randn(heads, size))
    if variant.bias == "sink_logit":
        module.sink_logit = nn.Parameter(torch.zeros(heads))
    if variant.summed:
        module.o_proj = nn.Linear(size, module.o_proj.out_features, bias=False)
    if variant.similarity == "mlp_kernel":
        module.kernel = nn.Sequential(nn.Linear(size, size, bias=False), nn.ReLU(), nn.Linear(size, size, bias=False))


def attend(module, query: Tensor, key: Tensor, value: Tensor, mask: None, scaling=None, **ignored):
    """Attention function for the registry, of a module that `equip` has prepared. See `attention.replaced`."""
    return output(module, scores(module, query, key, scaling), value).transpose(1, 2), None


def output(module, weights: Tensor, value: Tensor) -> Tensor:
    """Weighted values (B, H, T, d), summed (B, 1, T, d), of weights (B, H, T, slots + T) and values (B, H, T, d)."""
    out = _by_head(module, weights, value)
    return out.sum(dim=1, keepdim=True) if module.variant.summed else out


def _by_head(module, weights: Tensor, value: Tensor) -> Tensor:
    variant = module.variant
    if variant.slots and slot_value(module) is not None:
        slot = slot_value(module)[:, None].to(value.dtype).expand(*value.shape[:2], 1, -1)
        return weights.to(value.dtype) @ torch.cat([slot, value], dim=2)
    out = weights[..., variant.slots :].to(value.dtype) @ value
    return out + module.bias_value[:, None].to(out.dtype) if variant.bias == "v" else out


def slot_value(module) -> Tensor | None:
    """The value (H or 1, d) behind the bias; None where it is zero."""
    variant = module.variant
    if variant.bias == "kv":
        return module.bias_value
    if not variant.value:
        return None
    fixed = module.bias_key.new_zeros(1, module.head_dim)
    if variant.value_direction == "first":
        fixed[:, 0] = variant.value
    else:
        fixed += variant.value / math.sqrt(module.head_dim)
    return fixed


def scores(module, query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """What query i gives to key j, (B, H, T, slots + T) in float32, of queries and keys (B, H, T, d).

    The bias comes first. What a query cannot see is exactly 0, and a query that sees nothing has a row of zeros.
    """
    variant, length = module.variant, query.shape[2]
    seen = visible(variant, length).to(query.device)
    query, key, slot = features(module, query), features(module, key), slot_key(module)
    raw = (query * scaling @ key.mT).float()
    if variant.distance != "none":
        raw = raw + distance_bias(variant, raw.shape[1], length).to(raw.device)
    if slot is not None:
        first = (query * scaling @ features(module, slot)[:, :, None].to(query.dtype)).float()
        raw = torch.cat([first, raw], dim=-1)
    elif variant.bias == "sink_logit":
        raw = torch.cat([module.sink_logit[:, None, None].float().expand(*raw.shape[:3], 1), raw], dim=-1)
    seen = nn.functional.pad(seen, (variant.slots, 0), value=True)
    if variant.similarity == "softmax":
        out = torch.softmax(raw.masked_fill(~seen, torch.finfo(raw.dtype).min), dim=-1)
        if variant.strict:  # the first query may see nothing; its softmax is even over what is hidden
            out = out * seen
    else:
        out = _unnormalised(variant, raw) * seen
        out = out / _total(variant, out) if variant.normalised else out
    return out if variant.row_sum == 1 else out * variant.row_sum


def _unnormalised(variant: Attention, raw: Tensor) -> Tensor:
    if variant.similarity == "sigmoid":
        return torch.sigmoid(raw)
    return elu(raw) + 1 if variant.similarity == "elu1" else raw


def _total(variant: Attention, out: Tensor) -> Tensor:
    total = out.sum(dim=-1, keepdim=True)
    if variant.similarity in ("identity_kernel", "mlp_kernel"):  # scores of either sign
        return total.abs().clamp(min=1)
    return total + 1e-8


def features(module, x: Tensor) -> Tensor:
    """phi of the kernels; queries and keys themselves for the other similarities."""
    similarity = module.variant.similarity
    if similarity == "elu1_kernel":
        return elu(x) + 1
    return module.kernel(x) if similarity == "mlp_kernel" else x


def slot_key(module) -> Tensor | None:
    """The learnt key (H or 1, d) of the bias; it is not rotated. None where there is none."""
    if module.variant.bias not in ("k", "kv"):
        return None
    return nn.functional.pad(module.bias_key, (0, module.head_dim - module.bias_key.shape[1]))


def visible(variant: Attention, length: int) -> Tensor:
    """Which keys a query sees, bool (T, T)."""
    steps = torch.arange(length)
    distance = steps[:, None] - steps
    seen = distance >= 0
    if variant.window is not None:
        seen = seen & (distance < variant.window)
    seen = seen | (steps < variant.prefix)
    return seen & (distance != 0) if variant.strict else seen


def distance_bias(variant: Attention, heads: int, length: int) -> Tensor:
    """What the distance adds to the logits, (H or 1, T, T)."""
    steps = torch.arange(length)
    distance = (steps[:, None] - steps).clamp(min=0).float()
    if variant.distance == "alibi":  # Press et al. 2022: slopes 2^(-8/H), 2^(-16/H), …
        slopes = 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)
        return -slopes[:, None, None] * distance
    near, buckets, farthest = 16, 32, 128  # T5's buckets: exact up to 16, then logarithmic
    far = near + torch.log(distance.clamp(min=1) / near) / math.log(farthest / near) * (buckets - near)
    return torch.where(distance < near, distance, far.floor().clamp(max=buckets - 1))[None]


@contextmanager
def observed(model, *reducers) -> Iterator[None]:
    """Feed every attention row of a decoder trained here to ``reducers`` while it runs, its outputs unchanged.

    As `claimbook.lm.attention.observed`, with two differences: rows have the variant's bias in front, and they come
    whole, (B, H, T, slots + T), as these decoders read short texts.
    """

    def function(module, query, key, value, mask, scaling=None, **ignored):
        weights = scores(module, query, key, scaling)
        for reducer in reducers:
            reducer.update(module.layer_idx, 0, weights)
        return output(module, weights, value).transpose(1, 2), None

    with replaced(model, function):
        yield


def _no_mask(*args, **options) -> None:
    """The variant itself says what a query sees; these decoders take equal lengths only."""


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)
