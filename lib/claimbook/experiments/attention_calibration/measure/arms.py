"""Does it help, and why: the same items without and with calibration, in chosen, other and random heads."""

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.errors import ClaimbookError
from claimbook.experiments.attention_calibration import own_files, tasks
from claimbook.experiments.attention_calibration.measure import choice
from claimbook.experiments.attention_calibration.measure.scoring import places, prior, score, short
from claimbook.experiments.models import ModelExperiment
from claimbook.lm.load import LM
from claimbook.papers import attention_calibration as method
from claimbook.papers.attention_calibration import Rule

TOWARDS = 1.6  # beta of arms that move attention towards sinks: as far as 0.4 moves it away
EVERYWHERE = {"all": {}, "towards_all": {"beta": TOWARDS}, "temperature_all": {"temperature": 1.1}}
OF_TOP = {
    "top": {},
    "alpha_3": {"alpha": 3.0},
    "alpha_7": {"alpha": 7.0},
    "fixed": {"fixed": method.FIXED},
    "beta_0.2": {"beta": 0.2},
    "beta_0.6": {"beta": 0.6},
    "not_to_first": {"first_receives": False},
    "frozen": {"frozen": True},
}
SOLVED = {"vanilla_4": 4, "top_4": 4}  # arms behind so many solved items


@dataclass(frozen=True)
class Row:
    """One arm on the items of one draw that heads were not chosen by.

    ``heads``: [layer, head] of what was calibrated. ``scores``: log-probability of each option, in nats, normalised
    over the options of an item. ``sinks``: of a map, mean; ``moved``: mean share of a map's attention. ``prior``, of
    the plain model and the top heads: scores behind prompts that say nothing. Of the top heads alone: ``choice_gain``,
    change of the mean loss on the items that chose them, in nats; ``first_order`` (L, H), effect of calibrating each
    head alone on the loss of these items, nats an item, below 0 it helps; ``se``, its standard error over the items.
    """

    arm: str
    task: str
    split: int
    heads: list[list[int]]
    gold: list[int]
    scores: list[list[float]]
    sinks: float
    moved: float
    prior: list[list[float]] | None = None
    choice_gain: float | None = None
    first_order: list[list[float]] | None = None
    se: list[list[float]] | None = None


def units(lm: LM, config: dict) -> dict[str, tuple[int, str]]:
    """The arms of each draw, in the order of ``config``."""
    return {f"split {n}, {arm}": (n, arm) for n in config["splits"] for arm in config["arms"]}


def measure(lm: LM, unit: tuple[int, str], config: dict) -> Row:
    """One arm: a forward pass for each item."""
    number, arm = unit
    name, drawn = config["task"], choice.split(lm, config, number)
    task, rule = own_files.task(name), _rule(lm, arm, drawn, number, config)
    shots = _solved(drawn.choose, SOLVED.get(arm, 0))
    found = score(lm, task, drawn.judge, rule, shots)
    maps = max(1, found.tally.maps)
    more = _of_top(lm, task, drawn, rule) if arm == "top" and not config.get("heads") else {}
    if arm in ("vanilla", "top"):
        more["prior"] = [short(one) for one in prior(lm, task, drawn.judge, rule)]
    return Row(
        arm=arm,
        task=name,
        split=number,
        heads=[] if rule is None else places(rule.heads),
        gold=[item.gold for item in drawn.judge],
        scores=[short(one) for one in found.log_probs],
        sinks=short(found.tally.sinks / maps),
        moved=short(found.tally.moved / maps),
        **more,
    )


def _of_top(lm: LM, task: tasks.Task, drawn: tasks.Split, rule: Rule) -> dict:
    """What is known of the items that chose the top heads."""
    effects = choice.effects(lm, task.name, tuple(drawn.choose))
    after = score(lm, task, drawn.choose, rule).nll(drawn.choose)
    gain = short(float((after - effects.base).mean()))
    return {"choice_gain": gain, "first_order": short(effects.act), "se": short(effects.se)}


def _rule(lm: LM, arm: str, drawn: tasks.Split, number: int, config: dict) -> Rule | None:
    """How the heads of an arm attend; ``heads`` of the config are taken for the top ones in place of chosen ones."""
    allowed, count, given = choice.allowed(lm), config["top"], config.get("heads")
    if arm.startswith("vanilla"):
        return None
    if arm in EVERYWHERE:
        return Rule(allowed, **EVERYWHERE[arm])
    if arm.startswith("random_"):
        seed = zlib.crc32(f"{config['seed']} {config['task']} {number} {arm}".encode())
        return Rule(method.at_random(allowed, len(given) if given else count, seed))
    if given and arm == "top":
        return Rule(_given(given, allowed))
    kind = arm.removesuffix("_4")
    if given or kind not in ("bottom", "zero", *OF_TOP):
        raise ClaimbookError(f"there is no arm '{arm}' here")
    effects = choice.effects(lm, config["task"], tuple(drawn.choose))
    if kind == "zero":
        gain, factors = effects.first_token
        return Rule(method.choose(gain, allowed, count).top, first=factors)
    chosen = method.choose(effects.act, allowed, count)
    return Rule(chosen.bottom) if kind == "bottom" else Rule(chosen.top, **OF_TOP[kind])


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


EXPERIMENT = ModelExperiment("arms", Row, units, measure)
run = EXPERIMENT.run
