"""The layer in which most sinks start, from inside: what attention writes, what its other half reads and writes."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.experiments.secondary_sinks import inputs
from claimbook.experiments.secondary_sinks.measure.found import Found, find
from claimbook.lm import block_outputs
from claimbook.lm.geometry import layers
from claimbook.lm.load import LM


@dataclass(frozen=True)
class Inside:
    """One text: (L, T, d) each. ``enters``: what the feed-forward layer reads, behind its norm."""

    attention: Tensor
    enters: Tensor
    feed_forward: Tensor


def sinks_of(lm: LM, config: dict) -> tuple[dict[str, Found], int | None]:
    """Every text with its sinks, and the layer in which most start; None without sinks or a module ``mlp``."""
    every = {name: find(lm, ids, inputs.has_chat(lm, config)) for name, ids in inputs.texts(lm, config).items()}
    starts = Counter(sink.start for found in every.values() for sink in found.secondary())
    if not starts or not hasattr(layers(lm.model)[0], "mlp"):
        return every, None
    return every, max(starts, key=lambda layer: (starts[layer], -layer))


@torch.no_grad()
def look(lm: LM, ids: Tensor, until: int) -> Inside:
    """What happens in layers 0 to ``until`` to the tokens of ids (T,)."""
    enters, attention, feed_forward = {}, {}, {}

    def see(layer: int, before: Tensor, attended: Tensor, written: Tensor, after: Tensor) -> None:
        if layer <= until:
            attention[layer], feed_forward[layer] = attended[0].float().cpu(), written[0].float().cpu()

    handles = [
        layers(lm.model)[layer].mlp.register_forward_pre_hook(
            lambda module, args, layer=layer: enters.update({layer: args[0].reshape(-1, args[0].shape[-1])})
        )
        for layer in range(until + 1)
    ]
    try:
        with block_outputs.observed(lm.model, see):
            lm.model.base_model(input_ids=ids[None].to(lm.model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    ordered = [[part[layer] for layer in range(until + 1)] for part in (attention, enters, feed_forward)]
    return Inside(*(torch.stack([one.float().cpu() for one in part]) for part in ordered))
