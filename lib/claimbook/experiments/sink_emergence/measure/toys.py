"""Toys: tiny decoders on a language in which idle queries need somewhere to look. One arm changes one thing.

The language is Bigram-Backcopy (`claimbook.lm.toy`) after a fixed first token. Only after a trigger is there anything
to look up; a query does not see its own key (``strict``), or it would look there and no sink would form.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from claimbook.experiments.sink_emergence.measure import states
from claimbook.experiments.sink_emergence.measure.raw import Raw
from claimbook.lm import geometry, variants
from claimbook.lm.decoder import Decoder, build
from claimbook.lm.toy import TRIGGERS, Backcopy
from claimbook.lm.training import Recipe, mean_loss, train
from claimbook.metrics.sinks import EPSILON, Importance, sink_rate
from claimbook.provenance.declarations import checkpointed

LANGUAGE = Backcopy()
FIXED = LANGUAGE.symbols  # the id after the symbols
KEYS = 16
VALIDATION_SEED = 10_000
ARCHITECTURE = {
    "layers": 1,
    "width": 64,
    "heads": 1,
    "mlp": 256,
    "activation": "gelu",
    "gated": False,
    "initial": "torch",
}


class Text(BaseModel):
    """What the toy reads: samples of ``length`` symbols, of which the one at ``fixed`` is always the same token.

    ``bigram_from``: the first so many symbols are drawn evenly, later ones follow the language. ``pool``: only so many
    distinct samples. ``batch``: samples in a step. ``unscored``: the first so many targets do not count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = 64
    fixed: int | None = 0
    bigram_from: int = 2
    pool: int | None = None
    batch: int = 48
    unscored: int = 0

    def sample(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Ids and targets (count, length)."""
        rows = LANGUAGE.sample(count, self.length + 1, torch.Generator().manual_seed(seed))
        if self.bigram_from == 1:  # the language itself draws the first two evenly
            tail = LANGUAGE.sample(count, self.length + 2, torch.Generator().manual_seed(seed))
            rows = tail[:, 1:]
        if self.fixed is not None:
            rows[:, self.fixed] = FIXED
        ids, targets = rows[:, :-1], rows[:, 1:].clone()
        targets[:, : self.unscored] = -100
        return ids, targets

    def step(self, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """The batch of one training step."""
        if self.pool is None:
            return self.sample(self.batch, seed * 1_000_003 + step)
        ids, targets = self.sample(self.pool, seed)
        rows = torch.randint(self.pool, (self.batch,), generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
        return ids[rows], targets[rows]


@dataclass(frozen=True)
class Row:
    """One trained toy, on fresh text. Attention is alpha of Gu et al., mean over samples, the bias first where one is.

    ``alpha``: to the first token, at twenty points of the training. ``untrained``: what is below, before it.
    ``attention`` and ``sink``: alpha and Sink_k of the bias and the first 16 tokens, mean over layers and heads.
    ``heads`` and ``shares``: by layer and head alpha and the share of samples above 0.3, of the bias and first token.
    ``by_sample``: alpha of each sample, of the bias and the first five tokens, mean over layers and heads.
    ``row_sum``, ``first_raw``: what rows sum to and what the first token gets before they are normalised to proxies.
    ``values``: norm of the first value over the mean of the others; ``hidden``: largest over layers of that of hidden
    states, taken before the norm with post-norm. ``copied``: share of symbols after a trigger that are right.
    Losses in nats.
    """

    seed: int
    loss: list[float]
    alpha: list[float]
    untrained: dict
    attention: list[float]
    sink: list[float]
    heads: list[list[list[float]]]
    shares: list[list[list[float]]]
    by_sample: list[list[float]]
    row_sum: float
    first_raw: float
    values: float
    hidden: float
    validation: float
    copied: float


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: every arm with every seed, one checkpoint each."""
    seeds = range(config["seed"], config["seed"] + config["n_seeds"])
    jobs = {
        f"{arm}, seed {seed}": partial(stored_row, change, config["recipe"], seed)
        for arm, change in config["arms"].items()
        for seed in seeds
    }
    found = checkpointed(jobs, work, progress)
    return {"metrics": {}, "curves": {arm: [found[f"{arm}, seed {seed}"] for seed in seeds] for arm in config["arms"]}}


def read(stored: dict) -> dict[str, list[Row]]:
    """Arm -> its rows, one for each seed."""
    return {arm: [Row(**row) for row in rows] for arm, rows in stored["curves"].items()}


def stored_row(change: dict, recipe: dict, seed: int) -> dict:
    return asdict(one(change, recipe, seed))


def one(change: dict, recipe: dict, seed: int) -> Row:
    """Train and measure one arm with one seed."""
    model, found, spec, probe = trained(change, recipe, seed)
    return Row(
        seed=seed,
        loss=found["loss"],
        alpha=[row["alpha"] for row in found["measured"]],
        untrained=attention_of(build(spec, seed), spec, probe[0]),
        **attention_of(model, spec, probe[0]),
        **solved(model, *probe),
    )


def trained(change: dict, recipe: dict, seed: int, steps: int | None = None) -> tuple:
    """A trained toy, its curves, its architecture, and fresh text: ids and targets. ``steps`` ends it early."""
    attention = {"strict": True} | change.get("attention", {})
    spec = Decoder(vocabulary=LANGUAGE.symbols + 1, **ARCHITECTURE | change.get("decoder", {}), attention=attention)
    text, whole = Text(**change.get("text", {})), Recipe(**recipe | change.get("recipe", {}))
    every, plan = whole.steps // 20, whole.model_copy(update={"steps": steps or whole.steps})
    model = build(spec, seed)
    probe = text.sample(100, VALIDATION_SEED)
    found = train(
        model,
        plan,
        partial(text.step, seed),
        measure=lambda model: {"alpha": alpha(model, probe[0], spec)[..., spec.attention.slots].mean().item()},
        measure_at=tuple(range(every, plan.steps + 1, every)),
        loss_every=every,
    )
    return model, found, spec, probe


@torch.no_grad()
def attention_of(model, spec: Decoder, ids: Tensor) -> dict:
    """What `Row` holds of the attention and the norms of a toy, trained or not."""
    importance, slots = alpha(model, ids, spec), spec.attention.slots
    firsts, raw = importance[..., : slots + 1], Raw(slots)
    with variants.observed(model, raw):
        model.base_model(input_ids=ids, use_cache=False)
    return {
        "attention": rounded(importance.mean(dim=(0, 1, 2))),
        "sink": rounded(sink_rate(importance).mean(dim=0)),
        "heads": rounded(firsts.mean(dim=0)),
        "shares": rounded((firsts > EPSILON).float().mean(dim=0)),
        "by_sample": rounded(importance[..., : slots + 5].mean(dim=(1, 2)), 4),
        "row_sum": raw.row_sum,
        "first_raw": raw.first,
        "values": float(geometry.observe(model, ids, variants.attend).value_norm.mean()),
        "hidden": float(geometry.over_others(states.norms(model, ids), 0).mean(dim=1).max()),
    }


@torch.no_grad()
def solved(model, ids: Tensor, targets: Tensor) -> dict:
    """Validation loss, and the share of symbols after a trigger that are right."""
    after = (ids < TRIGGERS) & (torch.arange(ids.shape[1]) > 1) & (targets >= 0)
    guess = model(input_ids=ids, use_cache=False).logits.argmax(-1)
    return {
        "validation": float(mean_loss(model, ids, targets)),
        "copied": float((guess == targets)[after].float().mean()),
    }


def rounded(values: Tensor, decimals: int = 6) -> list:
    return values.double().round(decimals=decimals).tolist()


def alpha(model, ids: Tensor, spec: Decoder) -> Tensor:
    """alpha (N, L, H, slots + 16)."""
    importance = Importance(KEYS, spec.attention.slots)
    with variants.observed(model, importance):
        model.base_model(input_ids=ids, use_cache=False)
    return importance.result()
