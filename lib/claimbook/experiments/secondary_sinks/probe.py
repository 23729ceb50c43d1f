"""The feed-forward layer that makes the sinks, alone: which inputs it maps onto the primary's write, and how."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from claimbook.experiments.secondary_sinks import texts
from claimbook.experiments.secondary_sinks.find import controls, find
from claimbook.lm import block_outputs
from claimbook.lm.geometry import layers
from claimbook.lm.load import LM, load
from claimbook.provenance.declarations import checkpointed

SCALES = (1, 2, 4, 8, 12, 19)  # of the input; 19 is the largest in the repository's figure
ALIGNED = 0.98  # the repository's threshold for writes


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: principal directions of the inputs of sinks and of their like, pushed through the layer alone."""
    lm = load(config["model"], "cpu")
    beginnings = texts.of_asset(lm, config["text"], config["skip"], config["n_texts"], config["length"])
    return checkpointed({"probe": lambda: probed(lm, beginnings, config["rule"], progress)}, work, lambda *_: None)[
        "probe"
    ]


@torch.no_grad()
def probed(lm: LM, beginnings: list[Tensor], rule: str, progress=lambda *_: None, chat: bool = False) -> dict:
    """Metrics and curves of the block in which most sinks start; metrics are empty where there are too few sinks."""
    every = []
    for i, ids in enumerate(beginnings):
        progress(i / len(beginnings), f"text {i + 1}")
        every.append((found := find(lm, ids, chat), found.secondary(rule)))
    starts = Counter(sink.start for _, sinks in every for sink in sinks)
    if not starts or not hasattr(layers(lm.model)[0], "mlp"):
        return {"metrics": {}, "curves": {}}
    block = starts.most_common(1)[0][0]
    sinks, like, primary = [], [], []
    for found, some in every:
        beside = controls(found, rule)
        inputs = inputs_of(lm, found.ids, block)
        mine = [sink for sink in some if sink.start == block]
        sinks += [inputs[sink.token] for sink in mine]
        like += [inputs[beside[sink.token][0]] for sink in mine if beside[sink.token]]
        primary.append(inputs[found.stream.at])
    if len(sinks) < 2 or len(like) < 2:
        return {"metrics": {}, "curves": {}}
    target = layer(lm, block, torch.stack(primary)).mean(dim=0)
    directions = principal(torch.stack(sinks + like))
    signed = torch.cat([directions, -directions])
    outputs = {scale: layer(lm, block, scale * signed) for scale in SCALES}
    cosines = cosine_similarity(outputs[1], target[None], dim=-1)
    best = int(outputs[SCALES[-1]].norm(dim=-1).argmax())
    norms = [float(outputs[scale][best].norm()) for scale in SCALES]
    return {
        "metrics": {
            "block": block,
            "sinks": len(sinks),
            "like": len(like),
            "directions": len(signed),
            "aligned": int((cosines.abs() > ALIGNED).sum()),
            "exponent": float(np.log(norms[-1] / norms[0]) / np.log(SCALES[-1])),
        },
        "curves": {
            "cosines": [round(float(one), 4) for one in cosines],
            "scales": list(SCALES),
            "norms": norms,
            **neurons(lm, block, torch.stack(sinks), target),
        },
    }


def inputs_of(lm: LM, ids: Tensor, block: int) -> Tensor:
    """What enters the feed-forward layer of a block, (T, d)."""
    seen = {}
    handle = layers(lm.model)[block].mlp.register_forward_pre_hook(lambda module, args: seen.update(x=args[0][0]))
    try:
        lm.model.base_model(input_ids=ids[None].to(lm.model.device), use_cache=False)
    finally:
        handle.remove()
    return seen["x"].float()


def layer(lm: LM, block: int, inputs: Tensor) -> Tensor:
    """The feed-forward write (n, d) for inputs (n, d): the layer, and the norm behind it where there is one."""
    module, writer = layers(lm.model)[block].mlp, block_outputs.writers(lm.model)[block].feed_forward
    out = module(inputs[None].to(lm.model.device, lm.model.dtype))
    out = out[0] if isinstance(out, tuple) else out
    return (out if writer is module else writer(out)).reshape(len(inputs), -1).float()


def principal(points: Tensor) -> Tensor:
    """Unit principal directions (n - 1 or d, d) of points (n, d), the widest first."""
    centred = points - points.mean(dim=0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    return directions[sizes > 1e-6 * sizes[0]]


def neurons(lm: LM, block: int, inputs: Tensor, target: Tensor, count: int = 5) -> dict:
    """The neurons that write most along ``target`` (d,), mean over inputs (n, d); empty for layers unlike Llama's.

    ``neurons`` names them, ``contributions`` is what each adds to the write's length along the target, ``length`` that
    length in all.
    """
    module = layers(lm.model)[block].mlp
    if not hasattr(module, "down_proj") or block_outputs.writers(lm.model)[block].feed_forward is not module:
        return {}
    seen = {}
    handle = module.down_proj.register_forward_pre_hook(lambda inner, args: seen.update(x=args[0]))
    try:
        layer(lm, block, inputs)
    finally:
        handle.remove()
    pulls = normalize(target, dim=0).to(seen["x"].device) @ module.down_proj.weight.float()  # (hidden,)
    each = (seen["x"].reshape(len(inputs), -1).float() * pulls).mean(dim=0)
    top = each.argsort(descending=True)[:count]
    return {
        "neurons": top.tolist(),
        "contributions": [round(one, 3) for one in each[top].tolist()],
        "length": round(float(each.sum()), 3),
    }
