"""A million tokens in one go: the constant memory of Figure 1, and what `shards` must agree with."""

from pathlib import Path

import psutil
import torch
from torch import Tensor

from claimbook import files
from claimbook.lm import corpora, rotary
from claimbook.lm.load import LM, load
from claimbook.papers.streaming_llm import Scheme, Stream, stream

SEGMENT = 2048


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: stream ``n_tokens`` through a rolling cache, a checkpoint every ``checkpoint_every`` segments.

    One token in ``score_every`` is scored, and those that `shards.run_recompute` scores again. A resumed run gives the
    numbers of an uninterrupted one: the whole cache is in the checkpoint.
    """
    lm = load(config["model"], "cpu", config["dtype"])
    ids, starts = corpora.concatenated(lm, config["texts"], config["n_tokens"] + 1)
    scheme = Scheme(config["sinks"], config["recent"])
    state, rows = _restore(work / "checkpoint.pt", lm, scheme)
    compared = torch.zeros(len(ids), dtype=torch.bool)
    compared[sampled(config)] = True
    score = compared | (torch.arange(len(ids)) % config["score_every"] == 0)
    for state, losses in stream(lm.model, ids, scheme, segment=SEGMENT, resume=state, score=score):  # noqa: B020
        rows.append(_row(state, losses, compared[state.seen - len(losses) + 1 : state.seen + 1]))
        if len(rows) % config["checkpoint_every"] == 0:
            _save(work / "checkpoint.pt", state, rows)
        progress(state.seen / len(ids), f"{state.seen:,} tokens, loss {rows[-1]['loss']:.3f}")
    return {
        "metrics": {"cached_tokens": scheme.size, "cached_bytes": rows[-1]["cached_bytes"]},
        "curves": {name: [row[name] for row in rows] for name in ("tokens", "loss", "cached_bytes", "rss_mb")}
        | {"sampled": [loss for row in rows for loss in row["sampled"]], "starts": [start for start, _ in starts]},
    }


def sampled(config: dict) -> Tensor:
    """Positions at which the stream is compared with recomputation: one at random in every ``sample_every`` tokens."""
    every = config["sample_every"]
    generator = torch.Generator().manual_seed(config["seed"])
    starts = torch.arange(every, config["n_tokens"] - every + 1, every)
    return starts + torch.randint(every, (len(starts),), generator=generator)


def _row(state: Stream, losses: Tensor, compared: Tensor) -> dict:
    """What one segment leaves behind; ``losses`` (n,) hold NaN where nothing was scored, ``compared`` (n,) is bool."""
    return {
        "tokens": state.seen,
        "loss": float(losses.nanmean()),
        "sampled": losses[compared].tolist(),
        "cached_bytes": state.cached_bytes(),
        "rss_mb": psutil.Process().memory_info().rss / 2**20,
    }


def _save(path: Path, state: Stream, rows: list[dict]) -> None:
    saved = {"seen": state.seen, "sinks": state.sinks, "recent": state.recent, "rows": rows}
    with files.replacing(path, RuntimeError) as temporary, open(temporary, "wb") as file:
        torch.save(saved, file)


def _restore(path: Path, lm: LM, scheme: Scheme) -> tuple[Stream | None, list[dict]]:
    if not path.exists():
        return None, []
    saved = torch.load(path, weights_only=True)
    state = Stream(scheme, rotary.of(lm.model), saved["seen"], sinks=saved["sinks"], recent=saved["recent"])
    return state, saved["rows"]
