"""The feed-forward layer that makes the sinks, alone: which inputs it maps onto the primary's write, and how."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.secondary_sinks.measure.found import Found, like
from claimbook.experiments.secondary_sinks.measure.inside import look, sinks_of
from claimbook.experiments.secondary_sinks.stored import RULE, TIMES
from claimbook.lm import block_outputs
from claimbook.lm.geometry import layers
from claimbook.lm.load import LM

LARGEST = 19  # times the input, in the repository's figure
NEURONS = 5
LOWEST = f"{min(TIMES)} x"


@dataclass(frozen=True)
class Row:
    """All texts of a run together, by the layer in which most sinks start.

    ``cosines``: of what the layer makes of each signed principal direction with the primary's write; ``next_cosines``:
    the same of the layer after it, on its own inputs of the same tokens. ``exponent``: of the norm as the input that
    writes most grows. ``neurons`` write most along the primary. ``makes``: by text, what they and what all neurons make
    of its sinks' mean write along it; ``like_makes``: the same of like tokens that not even the lowest threshold flags,
    as some others are nearly sinks, along their own mean write.
    """

    layer: int
    sinks: int
    cosines: list[float]
    next_cosines: list[float]
    exponent: float
    neurons: list[int]
    makes: list[list[float]]
    like_makes: list[list[float]]


def units(lm: LM, config: dict) -> dict[str, tuple[dict[str, Found], int]]:
    """All texts at once; none where there are fewer than two sinks or like tokens, or no layer after the first."""
    every, start = sinks_of(lm, config)
    if start is None:
        return {}
    known = [(found, sink) for found in every.values() for sink in found.secondary() if sink.start == start]
    enough = len(known) > 1 and sum(bool(like(*one, LOWEST)) for one in known) > 1
    return {"all texts": (every, start)} if enough else {}


@torch.no_grad()
def measure(lm: LM, unit: tuple[dict[str, Found], int], config: dict) -> Row:
    every, start = unit
    sinks, beside, primary = ([], []), ([], []), ([], [])  # inputs of the start layer and of the next
    apart = []  # of like tokens that are not nearly sinks, inputs of the start layer
    texts = {"sinks": [], "like": []}  # the text of each
    for found in every.values():
        enters = look(lm, found.ids, start + 1).enters
        own = [sink for sink in found.secondary() if sink.start == start]
        near, far = ([places[0] for sink in own if (places := like(found, sink, rule))] for rule in (RULE, LOWEST))
        texts["sinks"] += [len(primary[0])] * len(own)
        texts["like"] += [len(primary[0])] * len(far)
        apart.extend(enters[start, far])
        for i in (0, 1):
            sinks[i].extend(enters[start + i, [sink.token for sink in own]])
            beside[i].extend(enters[start + i, near])
            primary[i].append(enters[start + i, found.stream.at])
    found = [
        (write(lm, start + i, torch.stack(primary[i])).mean(dim=0), principal(torch.stack([*sinks[i], *beside[i]])))
        for i in (0, 1)
    ]
    (target, directions), following = found
    small, large = (write(lm, start, scale * directions).norm(dim=-1) for scale in (1, LARGEST))
    most = int(large.argmax())
    sink_inputs, like_inputs = torch.stack(sinks[0]), torch.stack(apart)
    neurons, makes = strongest(lm, start, sink_inputs, target, texts["sinks"])
    _, like_makes = strongest(lm, start, like_inputs, write(lm, start, like_inputs).mean(dim=0), texts["like"])
    return Row(
        layer=start,
        sinks=len(sink_inputs),
        cosines=aligned(lm, start, target, directions),
        next_cosines=aligned(lm, start + 1, *following),
        exponent=float(np.log(float(large[most] / small[most])) / np.log(LARGEST)),
        neurons=neurons,
        makes=makes,
        like_makes=like_makes,
    )


def aligned(lm: LM, layer: int, target: Tensor, directions: Tensor) -> list[float]:
    """Cosines with ``target`` (d,) of what the layer makes of unit directions (n, d), both ways round."""
    outputs = write(lm, layer, torch.cat([directions, -directions]))
    return cosine_similarity(outputs, target[None], dim=-1).clamp(-1, 1).tolist()


def write(lm: LM, layer: int, inputs: Tensor) -> Tensor:
    """The feed-forward write (n, d) for inputs (n, d): the layer, and the norm behind it where there is one."""
    module, writer = layers(lm.model)[layer].mlp, block_outputs.writers(lm.model)[layer].feed_forward
    out = module(inputs[None].to(lm.model.device, lm.model.dtype))
    out = out[0] if isinstance(out, tuple) else out
    return (out if writer is module else writer(out)).reshape(len(inputs), -1).float().cpu()


def principal(points: Tensor) -> Tensor:
    """Unit principal directions (n - 1 or d, d) of points (n, d), the widest first."""
    centred = points - points.mean(dim=0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    return directions[sizes > 1e-6 * sizes[0]]


def strongest(lm: LM, layer: int, inputs: Tensor, target: Tensor, texts: list[int]) -> tuple[list, list]:
    """The neurons that write most along ``target`` (d,), mean over inputs (n, d), and what they make of it by text.

    ``texts``: the text of each input. By text: the length along the target that these neurons write, and that all do.
    Empty for feed-forward layers unlike Llama's: with a norm behind them, or without ``down_proj``.
    """
    module = layers(lm.model)[layer].mlp
    if not hasattr(module, "down_proj") or block_outputs.writers(lm.model)[layer].feed_forward is not module:
        return [], []
    seen = {}
    handle = module.down_proj.register_forward_pre_hook(lambda inner, args: seen.update(x=args[0]))
    try:
        write(lm, layer, inputs)
    finally:
        handle.remove()
    pulls = normalize(target, dim=0) @ module.down_proj.weight.float().cpu()  # (hidden,)
    each = seen["x"].reshape(len(inputs), -1).float().cpu() * pulls  # (n, hidden)
    top = each.mean(dim=0).argsort(descending=True)[:NEURONS]
    by_text = [each[torch.tensor(texts) == text].mean(dim=0) for text in sorted(set(texts))]
    return top.tolist(), [[float(one[top].sum()), float(one.sum())] for one in by_text]


EXPERIMENT = ModelExperiment("layers", Row, units, measure)
run = EXPERIMENT.run
