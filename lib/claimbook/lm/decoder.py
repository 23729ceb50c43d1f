"""Tiny decoders to be trained here: transformers' own Llama, in the architectures of Gu et al. (arXiv 2410.10781)."""

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from claimbook.lm import variants
from claimbook.lm.variants import Attention


class Decoder(BaseModel):
    """Sizes and architecture of a decoder; ``mlp`` is the width of its feed-forward layers, ``context`` in tokens.

    ``positions``: "rope" (base 10,000), "none", or added to the embeddings: "learned" and "sinusoidal"; distance
    biases belong to ``attention``. ``norm``: "pre", or "post" after each residual sum, without a final norm.
    ``gated``: two input layers, one of them through the activation, as in SwiGLU. ``initial``: the paper's scales, or
    "torch", torch's own, in which embeddings start eight times as large at a width of 64.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocabulary: int
    layers: int = 1
    width: int = 64
    heads: int = 1
    mlp: int = 256
    context: int = 64
    positions: Literal["rope", "none", "learned", "sinusoidal"] = "rope"
    norm: Literal["pre", "post"] = "pre"
    activation: Literal["silu", "gelu", "relu"] = "silu"
    gated: bool = True
    initial: Literal["paper", "torch"] = "paper"
    attention: Attention = Attention()


def build(spec: Decoder, seed: int) -> LlamaForCausalLM:
    """An untrained decoder; the same for a seed on every machine."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = LlamaForCausalLM(_config(spec))
        _rebuild(model, spec)
        (_as_in_the_paper if spec.initial == "paper" else _as_torch_does)(model, spec)
    finally:
        torch.random.set_rng_state(state)
    return model


def _config(spec: Decoder) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=spec.vocabulary,
        hidden_size=spec.width,
        intermediate_size=spec.mlp,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.heads,
        max_position_embeddings=spec.context,
        hidden_act=spec.activation,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation=variants.NAME,
        bos_token_id=None,
        eos_token_id=None,
    )


def _rebuild(model: LlamaForCausalLM, spec: Decoder) -> None:
    """Turn a plain Llama into the architecture asked for."""
    inner = model.model
    if spec.norm == "post":
        inner.layers = nn.ModuleList(PostNormLayer(model.config, i) for i in range(spec.layers))
        inner.norm = nn.Identity()
    if spec.positions != "rope":
        inner.rotary_emb = NoRotation(spec.width // spec.heads)
    if spec.positions in ("learned", "sinusoidal"):
        inner.embed_tokens = PlacedEmbedding(spec)
    for layer in inner.layers:
        variants.equip(layer.self_attn, spec.attention)
        if not spec.gated:
            layer.mlp = PlainMLP(spec)


def _as_torch_does(model: LlamaForCausalLM, spec: Decoder) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.reset_parameters()


def _as_in_the_paper(model: LlamaForCausalLM, spec: Decoder) -> None:
    """N(0, 2 / (5 fan_in)); what writes the feed-forward output N(0, 1 / (fan_in layers^2))."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            std = math.sqrt(2 / (5 * module.in_features))
            if name.endswith("down_proj"):
                std = 1 / (math.sqrt(module.in_features) * spec.layers)
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=math.sqrt(2 / (5 * spec.width)))


class NoRotation(nn.Module):
    """Rotary embedding that turns nothing."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        still = x.new_ones(*position_ids.shape, self.size)
        return still, torch.zeros_like(still)


class PlacedEmbedding(nn.Embedding):
    """Token embeddings plus one vector per position: learnt, or the sinusoids of Vaswani et al. 2017."""

    def __init__(self, spec: Decoder):
        super().__init__(spec.vocabulary, spec.width)
        angles = torch.arange(spec.context)[:, None] * 10_000 ** (-torch.arange(0, spec.width, 2) / spec.width)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        if spec.positions == "learned":
            self.places = nn.Parameter(torch.randn(spec.context, spec.width) * math.sqrt(2 / (5 * spec.width)))
        else:
            self.register_buffer("places", waves, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) + self.places[: ids.shape[1]]


class PlainMLP(nn.Module):
    """Feed-forward layer without a gate."""

    def __init__(self, spec: Decoder):
        super().__init__()
        self.up_proj = nn.Linear(spec.width, spec.mlp, bias=False)
        self.down_proj = nn.Linear(spec.mlp, spec.width, bias=False)
        self.act_fn = ACT2FN[spec.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.up_proj(x)))


class PostNormLayer(LlamaDecoderLayer):
    """Llama's layer with each norm after its residual sum."""

    def forward(self, hidden_states: Tensor, **options) -> Tensor:
        mixed, _ = self.self_attn(hidden_states=hidden_states, **options)
        hidden_states = self.input_layernorm(hidden_states + mixed)
        return self.post_attention_layernorm(hidden_states + self.mlp(hidden_states))
