"""Does it help, and why: the same items without and with calibration, in chosen, other and random heads."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from claimbook.errors import ClaimbookError
from claimbook.experiments.attention_calibration import inputs, tasks
from claimbook.experiments.attention_calibration.measure import choice
from claimbook.experiments.attention_calibration.measure.scoring import places, prior, score, short
from claimbook.experiments.models import ModelExperiment
from claimbook.lm.load import LM
from claimbook.papers import attention_calibration as method
from claimbook.papers.attention_calibration import Rule

PRIOR = ("vanilla", "top", "all", "helpful", "harmful", "zero", "random_0")  # arms of which the prior is measured
CHOSEN = ("top", "helpful", "harmful")  # arms that are also seen on the items that chose their heads
TOWARDS = 1.6  # beta of arms that move attention towards sinks: as far as 0.4 moves it away
VARIANTS = {  # of the top heads
    "top": {},
    "alpha_3": {"alpha": 3.0},
    "alpha_7": {"alpha": 7.0},
    "alpha_10": {"alpha": 10.0},
    "fixed": {"fixed": method.FIXED},
    "beta_0": {"beta": 0.0},
    "beta_0.2": {"beta": 0.2},
    "beta_0.6": {"beta": 0.6},
    "beta_0.8": {"beta": 0.8},
    "towards": {"beta": TOWARDS},
    "temperature": {"temperature": 1.1},
    "not_to_first": {"first_receives": False},
    "frozen": {"frozen": True},
}


@dataclass(frozen=True)
class Row:
    """One arm on the items of one draw that heads were not chosen by.

    ``heads``: [layer, head] of what was calibrated. ``scores``: log-probability of each option, in nats, normalised
    over the options of an item; ``prior``: the same behind a prompt that says nothing, where it was measured.
    ``choice_gain``: change of the mean loss on the items that chose the heads, in nats. ``sinks``: of a map, mean;
    ``moved``: mean share of a map's attention.
    """

    arm: str
    task: str
    split: int
    heads: list[list[int]]
    gold: list[int]
    scores: list[list[float]]
    prior: list[list[float]] | None
    choice_gain: float | None
    sinks: float
    moved: float


@dataclass(frozen=True)
class Arm:
    """How one arm attends, and what it is measured on; ``before``: mean loss of the choosing items without a rule."""

    name: str
    rule: Rule | None
    split: tasks.Split
    shots: list[tasks.Item]
    before: float | None


def units(lm: LM, config: dict) -> dict[str, Arm]:
    """The arms of ``config`` in its order; with ``shots``, those behind so many solved items each."""
    drawn = choice.split(lm, config, config["split"])
    rules, before = _rules(lm, config, drawn)
    arms = {name: Arm(name, rules(name), drawn, [], before) for name in config["arms"]}
    if "shots" not in config:
        return arms
    return {
        f"{name}_{count}": replace(arm, name=f"{name}_{count}", shots=_solved(drawn.choose, count))
        for count in config["shots"]
        for name, arm in arms.items()
    }


def _rules(lm: LM, config: dict, drawn: tasks.Split):
    """The rule of an arm by its name, and the mean loss of the choosing items where heads are chosen by them."""
    allowed, count = choice.allowed(lm), config["top"]
    if config.get("heads"):
        top = _given(config["heads"], allowed)
        known = {"vanilla": None, "all": Rule(allowed), "top": Rule(top)}
        count, before = int(top.sum()), None
    else:
        effects = choice.effects(lm, inputs.task(config["task"]), drawn.choose)
        chosen = method.choose(effects.act, allowed, count)
        gain, factors = effects.first_token
        known = {"vanilla": None, "all": Rule(allowed), "towards_all": Rule(allowed, beta=TOWARDS)}
        known |= {name: Rule(getattr(chosen, name)) for name in ("helpful", "harmful", "bottom")}
        known |= {name: Rule(chosen.top, **options) for name, options in VARIANTS.items()}
        known |= {"zero": Rule(method.choose(gain, allowed, count).top, first=factors)}
        before = float(effects.base.mean())

    def rule(name: str) -> Rule | None:
        if name.startswith("random_"):
            seed = 1000 * (config["seed"] + 1) + 100 * config["split"] + int(name.removeprefix("random_"))
            return Rule(method.at_random(allowed, count, seed))
        if name == "other_task":
            return Rule(_of_another(lm, config, allowed))
        if name not in known:
            raise ClaimbookError(f"there is no arm '{name}' here: there are {', '.join(known)}, random_0 and so on")
        return known[name]

    return rule, before


def _of_another(lm: LM, config: dict, allowed: Tensor) -> Tensor:
    """The top heads of the task ``other``."""
    elsewhere = config | {"task": config["other"]}
    items = choice.split(lm, elsewhere, config["split"]).choose
    found = choice.effects(lm, inputs.task(config["other"]), items).act
    return method.choose(found, allowed, config["top"]).top


def _given(heads: list[list[int]], allowed: Tensor) -> Tensor:
    """Heads given as [layer, head] each, in place of chosen ones: bool (L, H)."""
    found = torch.zeros_like(allowed)
    for layer, head in heads:
        found[layer, head] = True
    return found


def _solved(items: list[tasks.Item], count: int) -> list[tasks.Item]:
    """``count`` of the choosing items, solved before the question: right answers at different places in turn."""
    left, found = list(items), []
    while left and len(found) < count:
        wanted = len(found) % 2
        found.append(next((item for item in left if item.gold == wanted), left[0]))
        left.remove(found[-1])
    return found


def measure(lm: LM, arm: Arm, config: dict) -> Row:
    """One arm: a forward pass for each item, and three for the prior."""
    task, items, kind = inputs.task(config["task"]), arm.split.judge, arm.name
    if "shots" in config:
        kind = kind.rpartition("_")[0]
    found = score(lm, task, items, arm.rule, arm.shots)
    said = prior(lm, task, items, arm.rule, arm.shots) if kind in PRIOR else None
    gain = None
    if kind in CHOSEN and not arm.shots and arm.before is not None:
        gain = float(score(lm, task, arm.split.choose, arm.rule).nll(arm.split.choose).mean()) - arm.before
    maps = max(1, found.tally.maps)
    return Row(
        arm=arm.name,
        task=config["task"],
        split=config["split"],
        heads=[] if arm.rule is None else places(arm.rule.heads),
        gold=[item.gold for item in items],
        scores=[short(one) for one in found.log_probs],
        prior=said and [short(one) for one in said],
        choice_gain=None if gain is None else short(gain),
        sinks=short(found.tally.sinks / maps),
        moved=short(found.tally.moved / maps),
    )


EXPERIMENT = ModelExperiment("arms", Row, units, measure)
run = EXPERIMENT.run
