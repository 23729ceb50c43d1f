"""Sink tokens in pre-training: Table 3, Table 10, Figures 6 and 7, on toys trained here."""

from functools import partial
from pathlib import Path

import torch

from claimbook.lm.toy import TRIGGERS, Arm, Backcopy, Toy, mean_loss, train
from claimbook.provenance.declarations import checkpointed

ARMS = {
    "vanilla": {},
    "zero sink": {"zero_sink": True},
    "one sink token": {"sink_tokens": 1},
    "two sink tokens": {"sink_tokens": 2},
}


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: every arm with every seed, one checkpoint each."""
    seeds = range(config["seed"], config["seed"] + config["n_seeds"])
    jobs = {f"{name}, seed {seed}": partial(one, name, seed, config) for name in ARMS for seed in seeds}
    found = checkpointed(jobs, work, progress)
    return {"metrics": {}, "curves": {name: [found[f"{name}, seed {seed}"] for seed in seeds] for name in ARMS}}


def one(name: str, seed: int, config: dict) -> dict:
    """Train one arm and measure it: training curve, validation loss, streaming losses and attention of idle queries."""
    language = Backcopy()
    model, curve = train(Arm(steps=config["steps"], **ARMS[name]), language, seed)
    return {"seed": seed, "curve": thinned(curve, config["every"])} | measured(model, language, config)


@torch.no_grad()
def measured(model: Toy, language: Backcopy, config: dict) -> dict:
    """Validation on fresh text, the same for all arms and seeds; streaming losses by number of kept first tokens."""
    generator = torch.Generator().manual_seed(config["validation_seed"])
    short = language.sample(64, model.arm.length + 1, generator)
    long = language.sample(16, config["stream"] + 1, generator)
    cache = config["cache"]
    return {
        "validation": float(mean_loss(model, short)),
        "streaming": {str(x): float(mean_loss(model, long, (x, cache - x), first=2 * cache)) for x in (0, 1, 2, 4)},
        "idle": idle_attention(model, short[:, :-1]),
    }


def idle_attention(model: Toy, ids: torch.Tensor) -> dict:
    """Attention of idle queries (no trigger) in the second half: on sink tokens, on the first two symbols, in all."""
    _, probs = model(ids)
    half, sinks = ids.shape[1] // 2, model.arm.sink_tokens
    rows = probs[:, half:][ids[:, half:] >= TRIGGERS]
    return {
        "sink_tokens": float(rows[:, :sinks].sum(dim=1).mean()),
        "first_symbols": float(rows[:, sinks : sinks + 2].sum(dim=1).mean()),
        "total": float(rows.sum(dim=1).mean()),
        "even_share": float(1 / (sinks + 0.75 * ids.shape[1])),
    }


def thinned(curve: list[float], every: int) -> list[float]:
    """Every ``every``-th value: what is stored, and what a live prefix is compared with."""
    return curve[every - 1 :: every]
