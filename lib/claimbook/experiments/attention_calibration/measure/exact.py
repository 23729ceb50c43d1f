"""Are first-order effects true? Random heads and the chosen ones, each calibrated alone and run in full."""

from dataclasses import dataclass

import torch

from claimbook.experiments.attention_calibration import own_files, tasks
from claimbook.experiments.attention_calibration.measure import choice
from claimbook.experiments.attention_calibration.measure.scoring import places, score, short
from claimbook.experiments.models import ModelExperiment
from claimbook.lm.load import LM
from claimbook.papers import attention_calibration as method
from claimbook.papers.attention_calibration import Rule


@dataclass(frozen=True)
class Row:
    """One head calibrated alone: change of the loss against no calibration, in nats, on items that chose no heads.

    ``drawn``: at random; ``chosen``: one of the top heads; a head may be both. ``first_order``: the same by one
    backward pass over the same items.
    """

    task: str
    layer: int
    head: int
    drawn: bool
    chosen: bool
    first_order: float
    exact: float


@dataclass(frozen=True)
class Head:
    """A head, and the items and scores without calibration that it is compared with."""

    layer: int
    head: int
    drawn: bool
    chosen: bool
    first_order: float
    items: list[tasks.Item]
    before: list[torch.Tensor]


def units(lm: LM, config: dict) -> dict[str, Head]:
    """``random`` heads of all that may be calibrated, then the top ones not drawn; the first ``heads`` of these."""
    name, split, allowed = config["task"], choice.split(lm, config, config["split"]), choice.allowed(lm)
    top = method.choose(choice.effects(lm, name, tuple(split.choose)).act, allowed, config["top"]).top
    items = split.judge[: config["items"]]
    effects = choice.effects(lm, name, tuple(items)).act
    before = score(lm, own_files.task(name), items, None).log_probs
    drawn = method.at_random(allowed, config["random"], config["seed"])
    return {
        f"layer {layer}, head {head}": Head(
            layer, head, bool(drawn[layer, head]), bool(top[layer, head]), float(effects[layer, head]), items, before
        )
        for layer, head in [*places(drawn), *places(top & ~drawn)][: config["heads"]]
    }


def measure(lm: LM, one: Head, config: dict) -> Row:
    """One head: a forward pass for each item."""
    alone = torch.zeros_like(choice.allowed(lm))
    alone[one.layer, one.head] = True
    after = score(lm, own_files.task(config["task"]), one.items, Rule(alone)).log_probs
    golds = [item.gold for item in one.items]
    change = torch.stack([b[gold] - a[gold] for b, a, gold in zip(one.before, after, golds, strict=True)])
    return Row(
        task=config["task"],
        layer=one.layer,
        head=one.head,
        drawn=one.drawn,
        chosen=one.chosen,
        first_order=short(one.first_order),
        exact=short(float(change.mean())),
    )


EXPERIMENT = ModelExperiment("heads", Row, units, measure)
run = EXPERIMENT.run
