"""Four million tokens, the length of Figure 5, in shards that are streamed one by one.

A token's state depends on few others: each layer looks back ``recent`` tokens, and the sinks are the text's own first
tokens in every shard. So a shard that starts early enough (`warm_up`) gives the losses of the uninterrupted stream from
its own first token on; a test shows it on a short one.
"""

from pathlib import Path

import torch
from torch import Tensor

from claimbook.experiments.streaming_llm.measure.stream import sampled
from claimbook.lm import corpora, rotary
from claimbook.lm.load import load
from claimbook.papers.streaming_llm import Scheme, Stream, recompute_losses, stream
from claimbook.provenance import declarations

# Queries evaluated together, half the cache, and windows recomputed together: what costs least on a processor. The
# numbers do not depend on them, so a GPU may take more.
BLOCK, WINDOWS = 128, 16
BLOCK_ON_GPU, WINDOWS_ON_GPU = 2048, 512


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: a stream by shards of ``shard`` tokens, each kept when it is done. Scored as in `stream.run`."""
    lm = load(config["model"], "auto", config["dtype"])
    ids, starts = corpora.concatenated(lm, config["texts"], config["n_tokens"] + 1)
    scheme = Scheme(config["sinks"], config["recent"])
    compared = torch.zeros(len(ids), dtype=torch.bool)
    compared[sampled(config)] = True
    score = compared | (torch.arange(len(ids)) % config["score_every"] == 0)

    def shard(start: int) -> dict:
        stop = min(start + config["shard"], len(ids) - 1)
        found = shard_losses(lm.model, ids, scheme, start, stop, score)
        blocks = [float(block.nanmean()) for block in found.split(config["block"])]
        return {"tokens": stop, "loss": blocks, "sampled": found[compared[start + 1 : stop + 1]].tolist()}

    first = range(0, len(ids) - 1, config["shard"])
    jobs = {f"from token {start:,}": lambda start=start: shard(start) for start in first}
    rows = declarations.checkpointed(jobs, work, progress).values()
    curves = {name: [value for row in rows for value in row[name]] for name in ("loss", "sampled")}
    return {
        "metrics": {"tokens": max(row["tokens"] for row in rows), "cached_tokens": scheme.size},
        "curves": curves | {"starts": [start for start, _ in starts]},
    }


def run_recompute(config: dict, work: Path, progress) -> dict:
    """Stored run: recomputation with the same number of visible tokens, at the sampled positions of the stream."""
    lm = load(config["model"], "auto", config["dtype"])
    ids, _ = corpora.concatenated(lm, config["texts"], config["n_tokens"] + 1)
    window = config["sinks"] + config["recent"] + 1

    def part(targets: Tensor) -> dict:
        batch = WINDOWS if lm.model.device.type == "cpu" else WINDOWS_ON_GPU
        return {"loss": recompute_losses(lm.model, ids, targets, window, batch=batch, start=lm.start).tolist()}

    parts = sampled(config).split(config["part"])
    jobs = {f"up to token {int(one[-1]):,}": lambda one=one: part(one) for one in parts}
    rows = declarations.checkpointed(jobs, work, progress).values()
    found = [loss for row in rows for loss in row["loss"]]
    return {"metrics": {}, "curves": {"target": sampled(config).tolist(), "loss": found}}


def shard_losses(model, ids: Tensor, scheme: Scheme, start: int, stop: int, score: Tensor) -> Tensor:
    """Losses (stop - start,) of the tokens that follow tokens ``start`` to ``stop - 1`` of ``ids`` (T,), in nats.

    They are those of a stream from the text's first token on. ``score`` (T,), bool: the targets to score; the others
    hold NaN.
    """
    begin = max(start - warm_up(model, scheme), scheme.sinks)
    own = torch.cat([ids[: scheme.sinks], ids[begin : stop + 1]])
    wanted = torch.zeros(len(own), dtype=torch.bool)
    wanted[start - stop :] = score[start + 1 : stop + 1]
    state = Stream(scheme, rotary.of(model), block=BLOCK if model.device.type == "cpu" else BLOCK_ON_GPU)
    found = [part for _, part in stream(model, own, scheme, resume=state, score=wanted)]
    return torch.cat(found)[start - stop :].cpu()


def warm_up(model, scheme: Scheme) -> int:
    """Tokens after which a shard has the states of the stream: all it depends on, and a full cache before."""
    return model.config.num_hidden_layers * scheme.recent + scheme.size
