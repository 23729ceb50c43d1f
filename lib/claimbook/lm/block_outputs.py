"""What attention and the feed-forward layer of each block write into the residual stream: seen, or scaled.

A block's output is its input plus two writes. Which module makes them differs: the attention and the feed-forward
module themselves, or, in families with a norm after each (Gemma 2 and 3, OLMo 2, GLM-4), those norms.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from claimbook.errors import ClaimbookError
from claimbook.lm.geometry import layers

ADDS_UP = 1e-3  # relative; what float32 rounds is a hundredth of that, bfloat16 a few times it
_ATTENTION = ("post_self_attn_layernorm", "self_attn", "attention", "attn", "self_attention")
_FEED_FORWARD = ("post_feedforward_layernorm", "post_mlp_layernorm", "mlp", "ffn.down_proj", "fc2")


@dataclass(frozen=True)
class Writers:
    """The modules of one block whose outputs are added to the residual stream."""

    attention: nn.Module
    feed_forward: nn.Module


def writers(model) -> list[Writers]:
    """The writers of every block. ClaimbookError, one line, for a family whose writes do not add up to its blocks."""
    found = []
    for block in layers(model):
        sandwich = hasattr(block, "post_feedforward_layernorm")
        attention = ("post_attention_layernorm",) if sandwich else _ATTENTION
        found.append(Writers(_first(model, block, attention), _first(model, block, _FEED_FORWARD)))
    _check(model, found)
    return found


def _first(model, block: nn.Module, names: tuple[str, ...]) -> nn.Module:
    for name in names:
        module = block
        for step in name.split("."):
            module = getattr(module, step, None)
        if isinstance(module, nn.Module):
            return module
    raise _unknown(model, f"a block has none of {', '.join(names)}")


def _unknown(model, why: str) -> ClaimbookError:
    return ClaimbookError(
        f"the writes of '{model.config.model_type}' cannot be told apart ({why}): take a family that is known here, "
        "such as llama, qwen3, gemma3 or gpt_neox"
    )


@torch.no_grad()
def _check(model, found: list[Writers]) -> None:
    """Run a few tokens: each block's input plus its two writes must be its output."""
    table = model.get_input_embeddings().weight
    ids = torch.arange(1, 6, device=table.device)[None]
    worst = 0.0

    def compare(layer: int, before: Tensor, attention: Tensor, feed_forward: Tensor, after: Tensor) -> None:
        nonlocal worst
        gap = (before.float() + attention.float() + feed_forward.float() - after.float()).norm()
        worst = max(worst, float(gap / after.float().norm()))

    with _watched(model, found, compare):
        model.base_model(input_ids=ids, use_cache=False)
    tolerance = ADDS_UP if table.dtype == torch.float32 else 20 * ADDS_UP
    if not worst <= tolerance:
        raise _unknown(model, f"input and writes miss a block's output by {100 * worst:.1f} %")


See = Callable[[int, Tensor, Tensor, Tensor, Tensor], None]


@contextmanager
def observed(model, see: See) -> Iterator[None]:
    """Inside the block, ``see(layer, before, attention, feed_forward, after)`` is called at the end of every block.

    All (B, T, d): the block's input, its two writes, its output. Nothing is kept here. See `writers` for errors.
    """
    with _watched(model, writers(model), see):
        yield


@contextmanager
def _watched(model, found: list[Writers], see: See) -> Iterator[None]:
    with ExitStack() as hooks:
        for layer, (block, makes) in enumerate(zip(layers(model), found, strict=True)):
            written = {}

            def keep(name: str, written=written) -> Callable:
                # a copy: Falcon adds the one write to the other in place
                return lambda module, inputs, output: written.__setitem__(name, _tensor(output).clone())

            def end(module, inputs, kwargs, output, layer=layer, written=written) -> None:
                before = inputs[0] if inputs else kwargs["hidden_states"]
                feed_forward = written.pop("feed_forward").view_as(before)  # OPT's has all texts in one row
                see(layer, before, written.pop("attention"), feed_forward, _tensor(output))

            for handle in (
                makes.attention.register_forward_hook(keep("attention")),
                makes.feed_forward.register_forward_hook(keep("feed_forward")),
                block.register_forward_hook(end, with_kwargs=True),
            ):
                hooks.callback(handle.remove)
        yield


@contextmanager
def scaled(model, layer: int, tokens: Tensor | list[int], factor: float) -> Iterator[None]:
    """Inside the block, the feed-forward write of block ``layer`` is times ``factor`` for these tokens of one text."""
    tokens = torch.as_tensor(tokens)

    def change(module, inputs, output):
        new = _tensor(output).clone()
        rows = new.view(-1, new.shape[-1])
        rows[tokens[tokens < len(rows)]] *= factor  # a shorter text, such as that of `writers`, may pass through too
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = writers(model)[layer].feed_forward.register_forward_hook(change)
    try:
        yield
    finally:
        handle.remove()


def _tensor(output) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
