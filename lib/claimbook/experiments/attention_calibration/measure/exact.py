"""Are first-order effects true? Random heads and the chosen ones, each calibrated alone and run in full."""

from dataclasses import dataclass

import torch

from claimbook.experiments.attention_calibration import inputs, tasks
from claimbook.experiments.attention_calibration.measure import choice
from claimbook.experiments.attention_calibration.measure.scoring import places, score, short
from claimbook.experiments.models import ModelExperiment
from claimbook.lm.load import LM
from claimbook.papers import attention_calibration as method
from claimbook.papers.attention_calibration import Rule


@dataclass(frozen=True)
class Row:
    """One head calibrated alone: change of the loss against no calibration, in nats, on items that chose no heads.

    ``drawn``: at random; ``chosen``: one of the top heads; a head may be both. ``exact_se``: over items.
    ``accuracy_gain``: change of the share of items that are right, by which the paper keeps heads.
    """

    task: str
    layer: int
    head: int
    drawn: bool
    chosen: bool
    first_order: float
    exact: float
    exact_se: float
    accuracy_gain: float


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
    task, split, allowed = inputs.task(config["task"]), choice.split(lm, config, config["split"]), choice.allowed(lm)
    top = method.choose(choice.effects(lm, task, split.choose).act, allowed, config["top"]).top
    items = split.judge[: config["choose"]]
    effects, before = choice.effects(lm, task, items).act, score(lm, task, items, None).log_probs
    drawn = method.at_random(allowed, config["random"], config["seed"])
    heads = [*places(drawn), *places(top & ~drawn)]

    def told(layer: int, head: int) -> tuple[bool, bool, float]:
        return bool(drawn[layer, head]), bool(top[layer, head]), float(effects[layer, head])

    return {
        f"layer {layer}, head {head}": Head(layer, head, *told(layer, head), items, before)
        for layer, head in heads[: config["heads"]]
    }


def measure(lm: LM, one: Head, config: dict) -> Row:
    """One head: a forward pass for each item."""
    alone = torch.zeros_like(choice.allowed(lm))
    alone[one.layer, one.head] = True
    after = score(lm, inputs.task(config["task"]), one.items, Rule(alone)).log_probs
    gold = [item.gold for item in one.items]
    change = torch.stack([b[g] - a[g] for b, a, g in zip(one.before, after, gold, strict=True)])
    right = [sum(int(s.argmax()) == g for s, g in zip(scores, gold, strict=True)) for scores in (one.before, after)]
    return Row(
        task=config["task"],
        layer=one.layer,
        head=one.head,
        drawn=one.drawn,
        chosen=one.chosen,
        first_order=short(one.first_order),
        exact=short(float(change.mean())),
        exact_se=short(float(change.std(correction=min(1, len(gold) - 1)) / len(gold) ** 0.5)),
        accuracy_gain=short((right[1] - right[0]) / len(gold)),
    )


EXPERIMENT = ModelExperiment("heads", Row, units, measure)
run = EXPERIMENT.run
