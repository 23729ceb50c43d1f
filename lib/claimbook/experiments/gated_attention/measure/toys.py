"""Toys: tiny decoders with and without gates, on a language in which idle queries need somewhere to look.

The language is Bigram-Backcopy (`claimbook.lm.toy`) after a first token that is always the same. Only after a trigger
is there anything to look up. Gates add their parameters here; on text the feed-forward layers pay for them.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from claimbook.experiments.gated_attention.measure.seen import FirstToken, Scores, even, mean, multiplies
from claimbook.lm import geometry, variants
from claimbook.lm.decoder import Decoder, build
from claimbook.lm.toy import TRIGGERS, Backcopy
from claimbook.lm.training import Recipe, mean_loss, train
from claimbook.papers import gated_attention as method
from claimbook.provenance.declarations import checkpointed

LANGUAGE = Backcopy()
FIXED = LANGUAGE.symbols  # the id after the symbols
LENGTH, BATCH = 64, 48
FRESH = 10_000  # seed of the text that toys are measured on
POINTS = 20  # at which a training is looked at
ARCHITECTURE = {"layers": 1, "width": 64, "mlp": 256, "activation": "gelu", "gated": False, "initial": "torch"}


@dataclass(frozen=True)
class Row:
    """One trained toy, on fresh text. A share is F-Attn: attention to the first token, of all queries but the first.

    ``loss`` and ``share`` at twenty points of the training; ``untrained``: F-Attn before it; ``even``: under even
    attention. ``heads``: F-Attn by layer and head. ``idle``, ``busy``: F-Attn of queries that have nothing and of those
    that have something to look up. ``score``: mean score of the gate, ``score_idle`` and ``score_busy`` at these two
    kinds of queries; ``zeros``: share of scores below 0.1; all None without scores that multiply. ``value``: norm of
    the first value over the mean of the others, as it enters attention; ``hidden``: the same of states, largest over
    layers. ``copied``: share of symbols after a trigger that are right. Losses in nats.
    """

    seed: int
    loss: list[float]
    share: list[float]
    untrained: float
    even: float
    heads: list[list[float]]
    idle: float
    busy: float
    score: float | None
    score_idle: float | None
    score_busy: float | None
    zeros: float | None
    value: float
    hidden: float
    validation: float
    copied: float


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: every arm with every seed, one checkpoint each."""
    seeds = range(config["seed"], config["seed"] + config["n_seeds"])
    jobs = {
        f"{arm}, seed {seed}": lambda change=change, seed=seed: asdict(one(change, config["recipe"], seed))
        for arm, change in config["arms"].items()
        for seed in seeds
    }
    found = checkpointed(jobs, work, progress)
    return {"metrics": {}, "curves": {arm: [found[f"{arm}, seed {seed}"] for seed in seeds] for arm in config["arms"]}}


def read(stored: dict) -> dict[str, list[Row]]:
    """Arm -> its rows, one for each seed."""
    return {arm: [Row(**row) for row in rows] for arm, rows in stored["curves"].items()}


def one(change: dict, recipe: dict, seed: int) -> Row:
    """Train and measure one arm with one seed."""
    model, found, ids, targets, strict = trained(change, recipe, seed)
    fresh = untrained(change, seed)
    return Row(
        seed=seed,
        loss=found["loss"],
        share=[point["share"] for point in found["measured"]],
        untrained=share(fresh, ids),
        even=even(LENGTH, strict=strict),
        **looked_at(model, ids, multiplies(change.get("gates", []))),
        **solved(model, ids, targets),
    )


def sample(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ids and targets (count, 64); the first id is the fixed one."""
    rows = LANGUAGE.sample(count, LENGTH + 1, torch.Generator().manual_seed(seed))
    rows[:, 0] = FIXED
    return rows[:, :-1], rows[:, 1:]


def untrained(change: dict, seed: int):
    """A toy with its gates; the same for a seed."""
    attention = {"strict": change.get("strict", False)}
    spec = Decoder(vocabulary=LANGUAGE.symbols + 1, **ARCHITECTURE, heads=change.get("heads", 1), attention=attention)
    model = build(spec, seed)
    method.attach(model, *(method.GATES[name] for name in change.get("gates", [])), seed=seed)
    return model


def trained(change: dict, recipe: dict, seed: int, steps: int | None = None) -> tuple:
    """A trained toy, its curves, fresh ids and targets, and whether it is strict. ``steps`` ends it early."""
    whole = Recipe(**recipe)
    every = whole.steps // POINTS
    model = untrained(change, seed)
    ids, targets = sample(100, FRESH)
    found = train(
        model,
        whole.model_copy(update={"steps": steps or whole.steps}),
        lambda step: sample(BATCH, seed * 1_000_003 + step),
        measure=lambda model: {"share": share(model, ids)},
        measure_at=tuple(range(every, (steps or whole.steps) + 1, every)),
        loss_every=every,
    )
    return model, found, ids, targets, change.get("strict", False)


def first_token(model, ids: Tensor) -> Tensor:
    """What queries give to the first token, (L, B, H, T - 1)."""
    seen = FirstToken()
    with torch.no_grad(), variants.observed(model, seen):
        model.base_model(input_ids=ids, use_cache=False)
    return seen.result()


def share(model, ids: Tensor) -> float:
    """F-Attn."""
    return float(first_token(model, ids).mean())


@torch.no_grad()
def looked_at(model, ids: Tensor, scored: bool) -> dict:
    """What `Row` holds of attention, scores and norms."""
    scores = Scores()
    with method.watched(model, scores):
        given = first_token(model, ids)  # (L, B, H, T - 1)
    busy = ((ids < TRIGGERS) & (torch.arange(LENGTH) > 1))[:, 1:]
    opened = torch.stack([*scores.by_token.values()]).mean(dim=0)[:, 1:] if scored else None  # (B, T - 1)
    around = geometry.observe(model, ids, variants.attend)
    by_query = given.mean(dim=(0, 2))
    return {
        "heads": given.mean(dim=(1, 3)).tolist(),
        "idle": float(by_query[~busy].mean()),
        "busy": float(by_query[busy].mean()),
        "score": float(opened.mean()) if scored else None,
        "score_idle": float(opened[~busy].mean()) if scored else None,
        "score_busy": float(opened[busy].mean()) if scored else None,
        "zeros": mean(scores.zero.values()) if scored else None,
        "value": float(around.value_norm.mean()),
        "hidden": float(around.hidden_norm.mean(dim=1).max()),
    }


@torch.no_grad()
def solved(model, ids: Tensor, targets: Tensor) -> dict:
    """Loss, and the share of symbols after a trigger that are right."""
    after = (ids < TRIGGERS) & (torch.arange(LENGTH) > 1)
    guess = model(input_ids=ids, use_cache=False).logits.argmax(-1)
    return {
        "validation": float(mean_loss(model, ids, targets)),
        "copied": float((guess == targets)[after].float().mean()),
    }
