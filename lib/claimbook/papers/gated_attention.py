"""Gated attention (Qiu et al., arXiv 2505.06708): a sigmoid gate on the output of attention, and all its variants.

A gate reads the block's input X after the norm, at the token's own place, and multiplies (or is added to) what one of
five places holds: attention's output (G1 of Figure 1), values (G2), keys (G3), queries (G4), the output layer's
output (G5). It is put into any Llama-like decoder by hooks on its four projections, ``q_proj`` to ``o_proj``, so that
grouped queries, rotary positions and the attention function stay the model's own.

Known deviation: where queries and keys are normed, gates on them act before the norm; the paper does not say.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from claimbook.errors import ClaimbookError
from claimbook.lm import geometry, proof

Place = Literal["attention", "value", "key", "query", "output"]
PROJECTIONS = {"value": "v_proj", "key": "k_proj", "query": "q_proj", "output": "o_proj"}


class Gate(BaseModel):
    """One way to gate; the default is the paper's best, G1.

    ``scores``: one for each dimension; "headwise", one a head; "shared", one for each dimension that all heads share,
    the mean over heads of a full set (section 2.3). ``activation``: "ns_sigmoid" is 0.5 + 0.5 sigmoid, which cannot
    close (section 4.2). ``combine``: Y * score or Y + score. ``source``: scores are linear in the input, without bias;
    or a "parameter" alone, the input-independent gate, which starts at zero; or there are no scores, and Y itself is
    normed ("norm", each head's by itself, with a learnt scale) or goes through SiLU ("silu"), Table 3.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: Place = "attention"
    scores: Literal["elementwise", "headwise", "shared"] = "elementwise"
    activation: Literal["sigmoid", "ns_sigmoid", "silu", "identity"] = "sigmoid"
    combine: Literal["multiply", "add"] = "multiply"
    source: Literal["input", "parameter", "norm", "silu"] = "input"

    @model_validator(mode="after")
    def _fits_together(self):
        if self.place == "output" and self.scores != "elementwise":
            raise ValueError("after the output layer there are no heads: scores are elementwise")
        if self.source in ("norm", "silu") and self.model_fields_set - {"place", "source"}:
            raise ValueError(f"source '{self.source}' has no scores: leave scores, activation and combine out")
        return self


GATES = {
    "elementwise": Gate(),
    "headwise": Gate(scores="headwise"),
    "shared": Gate(scores="shared"),
    "value": Gate(place="value"),
    "value headwise": Gate(place="value", scores="headwise"),
    "value shared": Gate(place="value", scores="shared"),
    "key": Gate(place="key"),
    "query": Gate(place="query"),
    "output": Gate(place="output"),
    "ns": Gate(activation="ns_sigmoid"),
    "independent": Gate(source="parameter"),
    "silu gate": Gate(activation="silu"),
    "additive silu": Gate(activation="silu", combine="add"),
    "additive identity": Gate(activation="identity", combine="add"),
    "norm": Gate(source="norm"),
    "bare silu": Gate(source="silu"),
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "ns_sigmoid": lambda x: 0.5 + 0.5 * torch.sigmoid(x),
    "silu": silu,
    "identity": lambda x: x,
}


# --- sizes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder: ``queries`` and ``keys`` are heads, ``size`` the dimensions of a head. See `PAPER`."""

    layers: int
    width: int
    queries: int
    keys: int
    size: int

    def heads(self, place: Place) -> tuple[int, int]:
        """How many heads stand at a place, and of which size; the output layer's output is one, of the width."""
        if place == "output":
            return 1, self.width
        return self.keys if place in ("value", "key") else self.queries, self.size


PAPER = Shape(layers=24, width=2048, queries=32, keys=4, size=128)  # the mixture of experts of Table 1, from Table 7
EXPERT = 768  # width of one of its experts


def shape(model) -> Shape:
    """The sizes of a Llama-like decoder."""
    config = model.config.get_text_config()
    queries = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // queries
    keys = getattr(config, "num_key_value_heads", None) or queries
    return Shape(config.num_hidden_layers, config.hidden_size, queries, keys, size)


def added(gate: Gate, sizes: Shape) -> int:
    """How many parameters a gate adds; shared scores are as many as elementwise ones (Table 1)."""
    heads, size = sizes.heads(gate.place)
    if gate.source in ("norm", "silu"):
        return sizes.layers * (size if gate.source == "norm" else 0)
    scores = heads if gate.scores == "headwise" else heads * size
    return sizes.layers * scores * (sizes.width if gate.source == "input" else 1)


def expansions(sizes: Shape, keys: int, queries: int, experts: int) -> dict[str, int]:
    """What more key-value heads (in all), query heads (in all) and experts (more) add, Table 1, rows 2 to 4."""
    head = sizes.layers * sizes.width * sizes.size
    return {
        "keys": 2 * head * (keys - sizes.keys),
        "queries": 2 * head * (queries - sizes.queries),
        "experts": sizes.layers * experts * 3 * sizes.width * EXPERT,
    }


def matched(mlp: int, gates: tuple[Gate, ...], sizes: Shape) -> int:
    """The width of gated feed-forward layers, three matrices each, that pay for the gates (section 3.1, dense models).

    ClaimbookError where there is not that much to pay with.
    """
    width = mlp - round(sum(added(gate, sizes) for gate in gates) / (sizes.layers * 3 * sizes.width))
    if width < 1:
        raise ClaimbookError(f"feed-forward layers of {mlp} cannot pay for these gates: widen them, or take headwise")
    return width


# --- the gate ------------------------------------------------------------------------------------------------------


class Gating(nn.Module):
    """A gate's weights in one layer. ``see(score, before, after)`` is called, where set, each time it acts."""

    def __init__(self, gate: Gate, sizes: Shape):
        super().__init__()
        self.gate, self.see = gate, None
        self.heads, self.size = sizes.heads(gate.place)
        self.hidden: Tensor | None = None
        count = self.heads if gate.scores == "headwise" else self.heads * self.size
        if gate.source == "input":
            self.linear = nn.Linear(sizes.width, count, bias=False)
        elif gate.source == "parameter":
            self.free = nn.Parameter(torch.zeros(count))
        elif gate.source == "norm":
            self.scale = nn.Parameter(torch.ones(self.size))

    def score(self, hidden: Tensor) -> Tensor:
        """Scores (B, T, heads or 1, size or 1) of the block's normed input ``hidden`` (B, T, width)."""
        raw = self.linear(hidden) if self.gate.source == "input" else self.free.expand(*hidden.shape[:2], -1)
        score = ACTIVATIONS[self.gate.activation](raw).unflatten(-1, (self.heads, -1))
        return score.mean(dim=2, keepdim=True) if self.gate.scores == "shared" else score

    def forward(self, flat: Tensor) -> Tensor:
        """What the place holds, (B, T, heads * size), gated by the scores of ``self.hidden``."""
        before, score = flat.unflatten(-1, (self.heads, self.size)), None
        if self.gate.source == "norm":
            after = rms_norm(before, (self.size,), self.scale.to(before.dtype), eps=1e-6)
        elif self.gate.source == "silu":
            after = silu(before)
        else:
            score = self.score(self.hidden)
            after = before * score if self.gate.combine == "multiply" else before + score
        if self.see is not None:
            self.see(score, before, after)
        return after.flatten(2)


def prove(model) -> None:
    """Refuse, with ClaimbookError, a model whose attention cannot be seen, or that has no place for a gate."""
    proof.attention(model)
    for layer in geometry.layers(model):
        _projections(model, layer)


def _projections(model, layer: nn.Module) -> nn.Module:
    """The attention of a layer, with its four projections."""
    attention = getattr(layer, "self_attn", None)
    if not all(hasattr(attention, name) for name in PROJECTIONS.values()):
        raise ClaimbookError(f"'{model.config.model_type}' has no q_proj … o_proj to put a gate at: take a Llama")
    return attention


def attach(model, *gates: Gate, seed: int = 0) -> list[Callable[[], None]]:
    """Give every layer of a decoder these gates, as modules ``gates`` of its attention; returns what takes them away.

    Weights are drawn as torch draws those of any linear layer, scores so start at about a half, the same for a seed.
    ClaimbookError for a family without the four projections.
    """
    undo: list[Callable[[], None]] = []
    sizes, state = shape(model), torch.random.get_rng_state()
    torch.manual_seed(seed)
    for layer in geometry.layers(model):
        attention = _projections(model, layer)
        weight = attention.o_proj.weight
        attention.gates = nn.ModuleList(Gating(gate, sizes) for gate in gates).to(weight.device, weight.dtype)
        undo.append(lambda attention=attention: delattr(attention, "gates"))
        for gating in attention.gates:
            undo += [handle.remove for handle in _hooks(attention, gating)]
    torch.random.set_rng_state(state)
    return undo


def _hooks(attention: nn.Module, gating: Gating) -> list:
    """Keep the block's normed input, and gate the place."""

    def keep(module, inputs, kwargs):
        gating.hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else inputs[0]

    kept = attention.register_forward_pre_hook(keep, with_kwargs=True)
    if gating.gate.place == "attention":
        return [kept, attention.o_proj.register_forward_pre_hook(lambda module, inputs: (gating(inputs[0]),))]
    projection = getattr(attention, PROJECTIONS[gating.gate.place])
    return [kept, projection.register_forward_hook(lambda module, inputs, output: gating(output))]


@contextmanager
def attached(model, *gates: Gate, seed: int = 0) -> Iterator[None]:
    """Inside the block the model has these gates; see `attach`."""
    undo = attach(model, *gates, seed=seed)
    try:
        yield
    finally:
        for step in reversed(undo):
            step()


def gatings(model) -> list[Gating]:
    """The gates of a model, layer by layer, without the norms of queries and keys; none where none are attached."""
    return [
        gating for layer in geometry.layers(model) for gating in getattr(getattr(layer, "self_attn", None), "gates", ())
    ]


@contextmanager
def watched(model, see: Callable[[int, Tensor | None, Tensor, Tensor], None]) -> Iterator[None]:
    """Inside the block ``see(i, score, before, after)`` is called each time gate i acts; (B, T, heads, size) each.

    The score of a gate without one is None; a headwise score has a size of 1, a shared one a single head.
    """
    found = gatings(model)
    try:
        for i, gating in enumerate(found):
            gating.see = lambda *seen, i=i: see(i, *seen)
        yield
    finally:
        for gating in found:
            gating.see = None


def norm_queries_and_keys(model) -> None:
    """Norm each head's query and key before they are rotated, with learnt scales, as all of the paper's models do."""
    sizes = shape(model)
    for layer in geometry.layers(model):
        for name, place in (("q_proj", "query"), ("k_proj", "key")):
            norm = Gating(Gate(place=place, source="norm"), sizes)
            setattr(layer.self_attn, f"{place}_norm", norm)
            getattr(layer.self_attn, name).register_forward_hook(lambda module, inputs, out, norm=norm: norm(out))


# --- two packings of queries and gate in one matrix ------------------------------------------------------------------

Packing = Literal["by_group", "by_head"]


def pack(query: Tensor, gate: Tensor, sizes: Shape, packing: Packing) -> Tensor:
    """One matrix (rows, width) of the rows of q_proj and of a gate, elementwise or headwise.

    "by_group": for each key-value head all its query rows, then all its gate rows (the authors' ``modeling_qwen3.py``);
    "by_head": for each query head its query rows, then its gate rows (transformers' Qwen3-Next).
    """
    parts = sizes.keys if packing == "by_group" else sizes.queries
    return torch.cat([query.unflatten(0, (parts, -1)), gate.unflatten(0, (parts, -1))], dim=1).flatten(0, 1)


def unpack(packed: Tensor, sizes: Shape, packing: Packing) -> tuple[Tensor, Tensor]:
    """Rows of q_proj and of the gate out of one matrix; see `pack`. ClaimbookError for another number of rows."""
    rows = sizes.queries * sizes.size
    if len(packed) not in (rows + sizes.queries, 2 * rows):
        raise ClaimbookError(f"{len(packed)} rows hold no gate of {sizes.queries} heads of {sizes.size}")
    parts = sizes.keys if packing == "by_group" else sizes.queries
    query, gate = packed.unflatten(0, (parts, -1)).split([rows // parts, (len(packed) - rows) // parts], dim=1)
    return query.flatten(0, 1), gate.flatten(0, 1)


# --- what can be derived ---------------------------------------------------------------------------------------------


@torch.no_grad()
def nonlinear_share(gates: tuple[Gate, ...], sizes: Shape, seed: int = 0, tokens: int = 1024) -> float:
    """The share of the output layer's output, from 0 to 1, that no fixed linear map gives (equation 6 is one).

    With attention frozen, a map of what each head attends to, S_h X, and of the token's own X is fitted by least
    squares in double precision, and tried on the last quarter of the tokens. Inputs and values have unit variance.
    What stands after the output layer is left out: the share is that of what enters it.
    """
    generator, state = torch.Generator().manual_seed(seed), torch.random.get_rng_state()

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, keys, group = drawn(tokens, sizes.width), sizes.keys, sizes.queries // sizes.keys
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    rows = torch.softmax((4 * drawn(sizes.queries, tokens, tokens)).masked_fill(later, -torch.inf), dim=-1)
    value = (x @ drawn(sizes.width, keys * sizes.size) / math.sqrt(sizes.width))[None]
    inside = {}
    for gate in gates:
        inside[gate.place] = gating = Gating(gate, sizes).double()
        for parameter in gating.parameters():
            parameter.copy_(drawn(*parameter.shape) / (math.sqrt(sizes.width) if parameter.ndim > 1 else 1))
        gating.hidden = x[None]
    torch.random.set_rng_state(state)  # what modules draw when they are made is drawn anew
    if "value" in inside:
        value = inside["value"](value)
    heads = rows @ value[0].unflatten(-1, (keys, sizes.size)).transpose(0, 1).repeat_interleave(group, 0)
    out = heads.transpose(0, 1).flatten(1)[None]
    if "attention" in inside:
        out = inside["attention"](out)
    out = out[0] @ drawn(sizes.queries * sizes.size, sizes.width)
    attended = torch.cat([*(rows @ x), x], dim=-1)
    fitted, tried = slice(0, 3 * tokens // 4), slice(3 * tokens // 4, tokens)
    linear = torch.linalg.lstsq(attended[fitted], out[fitted], driver="gelsd").solution
    return float((attended[tried] @ linear - out[tried]).norm() / out[tried].norm())


def sink_logit_as_gate(logits: Tensor, sink: Tensor) -> Tensor:
    """The gate that an extra logit in the softmax amounts to, sigmoid(logsumexp(logits) - sink), (…, 1).

    softmax([logits, sink]) without its last column is softmax(logits) times this (gpt-oss): it depends on the query,
    with a single weight a head.
    """
    return torch.sigmoid(logits.logsumexp(dim=-1, keepdim=True) - sink)


def leak(share: float, at: int, length: int) -> float:
    """What a sink with a fixed logit gap loses to the others at ``length`` tokens where it loses ``share`` at ``at``.

    The sink holds 1 / (1 + (n - 1) e^-gap) of n tokens whose other logits are alike.
    """
    gap = math.log((at - 1) * (1 - share) / share)
    return 1 - 1 / (1 + (length - 1) * math.exp(-gap))
