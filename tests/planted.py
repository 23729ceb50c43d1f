"""A tiny Llama whose sinks are planted by hand: which token, from which block to which, and how long its state."""

import torch

from claimbook.lm import geometry, tiny

PRIMARY, SECONDARY = 1, 7  # ids of the tokens that become sinks
BLOCKS, DIRECTION = 10, 62  # of the model; the coordinate that carries the sinks
MARK = {PRIMARY: 60, SECONDARY: 61}  # the coordinate that tells each of them from all others


def model(secondary: tuple[int, int] = (4, 7), norm: float = 60.0, primary: tuple[int, int] = (2, 9)):
    """A model whose token PRIMARY has a norm of about 500 and SECONDARY of ``norm``, from block first … to last - 1.

    Attention writes nothing. One neuron of a feed-forward layer writes a sink, one of a later layer takes it back.
    """
    config = {**tiny.CONFIGS["llama"], "num_hidden_layers": BLOCKS}
    built = _build(config)
    for token, (first, last), size in ((PRIMARY, primary, 500.0), (SECONDARY, secondary, norm)):
        _write(built, token, first, size)
        _write(built, token, last, -size)
    return built


def _build(config: dict):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    options = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "initializer_range": 0.2}
    built = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **config, **options)).eval()
    built.requires_grad_(False)
    table = built.get_input_embeddings().weight
    table[:] = torch.randn(table.shape)
    table[:, 60:] = 0
    for token, mark in MARK.items():
        table[token, mark] = 1.0
    for block in geometry.layers(built):
        block.self_attn.o_proj.weight.zero_()
        block.mlp.down_proj.weight.zero_()
        block.mlp.gate_proj.weight[:2] = block.mlp.up_proj.weight[:2] = 0
    return built


def _write(built, token: int, layer: int, size: float) -> None:
    """Let block ``layer`` add ``size`` along the sink direction to this token, and to no other."""
    block, seen = geometry.layers(built)[layer], {}
    handle = block.mlp.register_forward_pre_hook(lambda module, args: seen.update(x=args[0][0, 0]))
    built.base_model(input_ids=torch.tensor([[token]]), use_cache=False)
    handle.remove()
    neuron, mark = list(MARK).index(token), MARK[token]
    at = float(seen["x"][mark])  # after the norm: small where the state is already massive
    block.mlp.gate_proj.weight[neuron, mark], block.mlp.up_proj.weight[neuron, mark] = 20 / at, 1 / at
    block.mlp.down_proj.weight[DIRECTION, neuron] = size / 20  # silu(20) is 20


def text(length: int = 40, at: tuple[int, ...] = (12, 30)) -> torch.Tensor:
    """Ids (length,): PRIMARY first, SECONDARY at the places ``at``, others in between."""
    ids = torch.randint(10, 300, (length,), generator=torch.Generator().manual_seed(1))
    ids[0] = PRIMARY
    ids[list(at)] = SECONDARY
    return ids
