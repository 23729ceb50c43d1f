"""From rows to the ledger's parts, the same for every model: {claim: Evidence}. Nothing is measured here.

Items are the units; arms of one draw share them, so that differences are paired. The mean over items is the mean over
tasks, as each task has as many.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import log_softmax
from scipy.stats import norm, spearmanr

from claimbook import stats
from claimbook.claims.verdicts import Evidence, Measurement
from claimbook.experiments.attention_calibration import tasks
from claimbook.experiments.attention_calibration.measure.sinks import LITTLE, STRONG
from claimbook.experiments.attention_calibration.stored import SOLVED, VARIED
from claimbook.experiments.units import columns
from claimbook.papers import attention_calibration as method
from claimbook.stats import Estimate

Found = dict[str, Evidence]

OPTIONS = ("trivia", "hypernyms", "counting", "arc_easy", "commonsense")  # each item has options of its own
LABELS = "sentiment"  # all items have the same two
SIX = (*OPTIONS, LABELS)
KNOWN = 0.55  # area under the curve of a task that a model can do
FEWEST = {6: 4, 5: 3}  # tasks that a mean is over, of so many
BEYOND_NOISE = 1.96
WEIGHTS = np.arange(0, 2.01, 0.05)  # of the prior: among these the best is the ceiling
TEMPERATURES = 2.0 ** np.arange(-3, 5.01, 0.125)  # of scores: among these is the best


# --- one arm ---------------------------------------------------------------------------------------------------------


def right(scores: np.ndarray, gold: np.ndarray, labels: bool) -> np.ndarray:
    """(n,) 1 where the option with the highest score is the right one; of scores (n, options), as all below."""
    return (scores.argmax(axis=1) == gold).astype(float)


def loss(scores: np.ndarray, gold: np.ndarray, labels: bool) -> np.ndarray:
    """(n,) nats of the right option, by log-probabilities normalised over the options."""
    return -_own(scores, gold)[:, 0]


def auc(scores: np.ndarray, gold: np.ndarray, labels: bool) -> np.ndarray:
    """(n,) numbers whose mean is the area under the curve.

    With options of its own an item has an area itself: the share of its wrong options that score below the right one.
    With two shared labels it is one area over all pairs of items; an item's number is the area and its influence on
    it, so that their spread is that of DeLong et al. (1988).
    """
    if not labels:
        own, wrong = _own(scores, gold), np.isfinite(scores).sum(axis=1) - 1  # options that are not there are -inf
        below = ((scores < own) & np.isfinite(scores)).sum(axis=1) + 0.5 * ((scores == own).sum(axis=1) - 1)
        return below / wrong
    margin, positive = scores[:, 1] - scores[:, 0], gold == 1
    if positive.all() or not positive.any():
        return np.full(len(gold), np.nan)  # no pair
    above = _share_below(margin[positive], margin[~positive])  # of positives: share of negatives below each
    below = 1 - _share_below(margin[~positive], margin[positive])
    area, share = above.mean(), positive.mean()
    values = np.empty(len(gold))
    values[positive], values[~positive] = (above - area) / share, (below - area) / (1 - share)
    return area + values


def _own(scores: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """(n, 1): of the right options."""
    return np.take_along_axis(scores, gold[:, None], axis=1)


def _share_below(these: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each of these, the share of the others that lie below it, ties half."""
    return ((others < these[:, None]) + 0.5 * (others == these[:, None])).mean(axis=1)


@dataclass(frozen=True)
class Arms:
    """Rows of arms, read by task and arm. What is not there is None, and its parts stay untested."""

    rows: list

    @cached_property
    def _by(self) -> dict:
        """By task, draw and arm: scores and prior (n, options), -inf and 0 where an item has fewer; gold (n,)."""
        return {
            (row.task, row.split, row.arm): (
                _padded(row.scores, -np.inf),
                None if row.prior is None else _padded(row.prior, 0.0),
                np.array(row.gold),
            )
            for row in self.rows
        }

    def __call__(self, metric: Callable, arm: str, names: Iterable[str], weight: float = 0.0) -> np.ndarray | None:
        """``metric`` of each item (n,), over tasks and draws; scores less ``weight`` times the prior.

        None where the arm is missing in one of them; nothing, of no task.
        """
        if arm not in {one for _, _, one in self._by}:
            return None
        found = []
        for name in names:
            splits = sorted({split for task, split, _ in self._by if task == name})
            some = [self._by.get((name, split, arm)) for split in splits]
            if not some or any(one is None or (weight and one[1] is None) for one in some):
                return None
            found += [metric(corrected(*one[:2], weight), one[2], is_labels(name)) for one in some]
        return np.concatenate(found) if found else np.empty(0)

    def gain(self, metric: Callable, names: Iterable[str], a: str = "top", b: str = "vanilla", weight: float = 0.0):
        """(n,) ``metric`` of arm ``a`` less that of ``b``."""
        return less(self(metric, a, names, weight), self(metric, b, names, weight))

    def random(self, metric: Callable, names: Iterable[str]) -> np.ndarray | None:
        """(n,) ``metric``, mean over the arms of random heads."""
        drawn = sorted({arm for _, _, arm in self._by if arm.startswith("random_")})
        found = [self(metric, arm, names) for arm in drawn]
        return None if not found or any(one is None for one in found) else np.mean(found, axis=0)


def _padded(values: list[list[float]], fill: float) -> np.ndarray:
    """(n, most options) of lists of several lengths."""
    found = np.full((len(values), max(map(len, values))), fill)
    for line, one in zip(found, values, strict=True):
        line[: len(one)] = one
    return found


def is_labels(task: str) -> bool:
    """Whether the items of a task share their options; a reader's own are read as options of their own."""
    return task in tasks.TASKS and tasks.TASKS[task].labels


def corrected(scores: np.ndarray, prior: np.ndarray | None, weight: float = 1.0) -> np.ndarray:
    """Log-probabilities of options (n, options) less ``weight`` times their prior, normalised over the options."""
    if not weight:
        return scores
    return method.prior_corrected(torch.tensor(scores), weight * torch.tensor(prior)).numpy()


def less(a: np.ndarray | None, b: np.ndarray | None, share: float = 1.0) -> np.ndarray | None:
    """(n,) ``a`` less a share of ``b``; None where one is missing."""
    return None if a is None or b is None else a - share * b


def over_items(values: np.ndarray | None, *names: str) -> Estimate | None:
    """Their mean; marked with the tasks, as preconditions have to be of the same."""
    return None if values is None else stats.mean(values, unit="items").of(*names)


# --- does it help, and why -------------------------------------------------------------------------------------------


def arms(rows: list) -> Found:
    """C2, C4, C17, C18 and C20; means over tasks are over those that the model knows."""
    of = Arms(rows)
    known = knows(of, SIX)
    each = {name: over_items(of.gain(right, [name]), name) for name in SIX}
    random = of.random(right, known)
    return {
        "C2": Evidence(
            parts={
                "some_hurt": over_items(of.gain(right, known)),
                "some_hurt_beyond_chance": over_items(less(of(right, "top", known), random)),
                "some_help": over_items(of.gain(right, known, "vanilla", "bottom")),
                "some_help_beyond_chance": over_items(less(random, of(right, "bottom", known))),
            }
        ),
        "C4": Evidence(
            parts={"on_average": over_items(of.gain(right, known))} | {f"on_{name}": one for name, one in each.items()},
            preconditions={f"knows_{name}": over_items(of(auc, "vanilla", [name]), name) for name in SIX},
        ),
        "C17": prior_gives(of),
        "C18": beyond_prior(of, known),
        "C20": Evidence(
            parts={"as_good": over_items(of.gain(right, known, "zero", "top"))},
            nulls={"as_good": over_items(of.gain(right, known, "vanilla", "top"))},
        ),
    }


def knows(of: Arms, names: Iterable[str]) -> list[str]:
    """The tasks that the plain model can do: an area of `KNOWN` or more, with its interval; none of too few."""
    areas = {name: over_items(of(auc, "vanilla", [name])) for name in names}
    found = [name for name, area in areas.items() if area is not None and area.low >= KNOWN]
    return found if len(found) >= FEWEST[len(areas)] else []


def prior_gives(of: Arms) -> Evidence:
    """C17: what the correction gains, less half of what ACT gains; the ceiling is the best correction in hindsight."""
    parts, needed, ceilings = {}, {}, {}
    both = (("labels", [LABELS], best_threshold), ("options", knows(of, OPTIONS), best_weight))
    for kind, names, best in both:
        where = names or OPTIONS
        act, plain = of.gain(right, names), of(right, "vanilla", names)
        needed[f"gains_on_{kind}"] = over_items(act, *where)
        gained = less(of(right, "vanilla", names, weight=1.0), plain)
        parts[f"on_{kind}"] = over_items(less(gained, act, 0.5), *where)
        hindsight = less(best(of, names), plain) if plain is not None else None
        ceilings[f"on_{kind}"] = over_items(less(hindsight, act, 0.5), *where)
    return Evidence(parts=parts, preconditions=needed, ceilings=ceilings)


def best_threshold(of: Arms, names: list[str]) -> np.ndarray | None:
    """(n,) which items are right where each draw has the threshold that suits its own items best."""

    def at_best(scores: np.ndarray, gold: np.ndarray, labels: bool) -> np.ndarray:
        margin, positive = scores[:, 1] - scores[:, 0], gold == 1
        cuts = np.concatenate([[-np.inf], np.sort(margin)])
        hits = (margin[None] > cuts[:, None]) == positive
        return hits[hits.mean(axis=1).argmax()].astype(float)

    return of(at_best, "vanilla", names)


def best_weight(of: Arms, names: Iterable[str]) -> np.ndarray | None:
    """(n,) which items are right where each task subtracts the multiple of its prior that suits its items best."""
    return _best(names, max, lambda name: [of(right, "vanilla", [name], weight) for weight in WEIGHTS])


def at_best_temperature(of: Arms, arm: str, names: Iterable[str]) -> np.ndarray | None:
    """(n,) nats, prior corrected, each task at the temperature that suits its scores best: being less sure is free."""

    def at(temperature: float) -> Callable:
        return lambda scores, gold, labels: loss(log_softmax(scores / temperature, axis=1), gold, labels)

    return _best(names, min, lambda name: [of(at(t), arm, [name], weight=1.0) for t in TEMPERATURES])


def corrected_where_it_helps(of: Arms, arm: str, names: Iterable[str]) -> np.ndarray | None:
    """(n,) which items are right where the prior is corrected in those tasks only in which that suits the arm."""
    return _best(names, max, lambda name: [of(right, arm, [name], weight) for weight in (0.0, 1.0)])


def changes(of: Arms, names: list[str]) -> dict[str, np.ndarray | None]:
    """What each remedy changes in accuracy, (n,) by item, against the plain model; "both" and "best" are of ACT with
    the prior corrected on both sides, everywhere or `corrected_where_it_helps`.
    """
    plain = of(right, "vanilla", names)
    return {
        "act": of.gain(right, names),
        "random": less(of.random(right, names), plain),
        "prior": less(of(right, "vanilla", names, 1.0), plain),
        "first": of.gain(right, names, "zero"),
        "both": of.gain(right, names, weight=1.0),
        "best": less(*(corrected_where_it_helps(of, arm, names) for arm in ("top", "vanilla"))),
    }


def kept_where_frozen(rows: list) -> float | None:
    """Share of the gain in loss that is left at the places of another prompt's sinks; None: not measured."""
    of = Arms(rows)
    frozen, top = (of.gain(loss, VARIED, "vanilla", arm) for arm in ("frozen", "top"))
    return None if frozen is None or top is None else float(frozen.mean() / top.mean())


def _best(names: Iterable[str], pick: Callable, tried: Callable[[str], list]) -> np.ndarray | None:
    """(n,) of each task what has the largest or smallest mean of all that was tried; None where one is missing."""
    found = [tried(name) for name in names]
    if any(one is None for some in found for one in some):
        return None
    return np.concatenate([pick(some, key=np.mean) for some in found]) if found else np.empty(0)


def beyond_prior(of: Arms, known: list[str]) -> Evidence:
    """C18: what calibration adds that no change of the prior can."""
    lowered = less(*(at_best_temperature(of, arm, known) for arm in ("vanilla", "top")))
    return Evidence(
        parts={
            "labels_apart": over_items(of.gain(auc, [LABELS])),
            "corrected_accuracy": over_items(of.gain(right, known, weight=1.0)),
            "corrected_likelihood": over_items(lowered),
            "beats_random_heads": over_items(less(of(auc, "top", known), of.random(auc, known))),
        }
    )


# --- variants of the method ------------------------------------------------------------------------------------------


def variants(rows: list) -> Found:
    """C3, C10, C13 and C15: the same top heads, or all, calibrated in other ways, and behind solved examples."""
    of = Arms(rows)
    gained = {arm: less(of(loss, "vanilla", VARIED), of(loss, arm, VARIED)) for arm in ("top", "frozen", *KEEPS)}
    whole = over_items(gained["top"], "variants")
    half = {arm: less(gained[arm], gained["top"], 0.5) for arm in gained}  # gained, less half of the gain
    lost = less(gained["top"], gained["frozen"])
    return {
        "C3": Evidence(
            parts={"adapting_matters": over_items(less(lost, gained["top"], 0.5), "variants")},
            preconditions={"lowers_loss": whole},
        ),
        "C10": Evidence(
            parts={
                "away_beats_towards": over_items(of.gain(right, VARIED, "all", "towards_all")),
                "towards_hurts": over_items(of.gain(right, VARIED, "vanilla", "towards_all")),
                "away_beats_temperature": over_items(of.gain(right, VARIED, "all", "temperature_all")),
            }
        ),
        "C13": behind_examples(of),
        "C15": Evidence(
            parts={name: over_items(half[arm], "variants") for arm, name in KEEPS.items()}
            | {
                "beta_lower_not_in_proportion": over_items(less(gained["top"], gained["beta_0.2"], 6 / 7), "variants"),
                "beta_higher_not_in_proportion": over_items(less(gained["beta_0.6"], gained["top"], 5 / 6), "variants"),
            },
            preconditions={"lowers_loss": whole},
        ),
    }


KEEPS = {"alpha_3": "alpha_3", "alpha_7": "alpha_7", "beta_0.2": "beta_lower", "beta_0.6": "beta_higher"}


def behind_examples(of: Arms) -> Evidence:
    """C13: what calibrating gains behind four solved items, and without any against the plain model behind four."""
    return Evidence(
        parts={"helps_with_examples": over_items(of.gain(right, SOLVED, "top_4", "vanilla_4"))}
        | {f"replaces_on_{name}": over_items(of.gain(right, [name], "top", "vanilla_4")) for name in SOLVED},
        nulls={f"replaces_on_{name}": over_items(of.gain(right, [name], "vanilla", "vanilla_4")) for name in SOLVED},
    )


# --- heads -----------------------------------------------------------------------------------------------------------


def heads(rows: list) -> Found:
    """C9: first-order effects of all heads, and which of them are the top and the bottom ones, of ``rows`` of arms."""
    scored = [row for row in rows if row.first_order is not None]
    if not scored:
        return {}
    allowed = method.calibrated_layers(*np.shape(scored[0].first_order)).numpy()
    noise = [_beyond_noise([row for row in scored if row.task == name]) for name in sorted({r.task for r in scored})]
    parts: dict[str, Measurement] = {}
    for name, sign in (("some_help", -1), ("some_hurt", 1)):
        share = np.mean([sign * t[allowed] > BEYOND_NOISE for t in noise], axis=0)  # of tasks, by head
        parts[name] = stats.mean(share, unit="heads", within=(0, 1))
    top, bottom = (_sets(rows, arm) for arm in ("top", "bottom"))
    count = int(allowed.sum())
    parts["mostly_early"] = _by_task({key: early(some, allowed) for key, some in top.items()})
    parts["same_for_both_kinds"] = _by_task(shared(top, top, count))
    nulls = {
        "mostly_early": _by_task({key: early(some, allowed) for key, some in bottom.items()}),
        "same_for_both_kinds": _by_task(shared(top, bottom, count)),
    }
    return {"C9": Evidence(parts, nulls, ceilings={"same_for_both_kinds": _by_task(shared_within(top, count))})}


def _sets(rows: list, arm: str) -> dict[tuple[str, int], set]:
    """The heads that an arm calibrates, by task and draw."""
    return {(row.task, row.split): {(layer, head) for layer, head in row.heads} for row in rows if row.arm == arm}


def _beyond_noise(draws: list) -> np.ndarray:
    """(L, H): mean effect of each head over the draws of a task, in its standard errors."""
    effect, error = (columns(getattr(row, name) for row in draws) for name in ("first_order", "se"))
    total = np.sqrt((error**2).sum(axis=0)) / len(draws)
    return np.divide(effect.mean(axis=0), total, out=np.zeros(total.shape), where=total > 0)


def early(top: set, allowed: np.ndarray) -> float:
    """Share of the top heads in the lowest third of the calibrated layers, over the share of heads there."""
    layers = np.flatnonzero(allowed.any(axis=1))
    third = layers[: max(1, len(layers) // 3)]
    return average([layer in third for layer, _ in top]) * len(layers) / len(third)


def shared(top: dict, others: dict, count: int) -> dict:
    """Heads that the labels' top shares with those of each other task in the same draw, over chance."""
    return {
        (name, split): overlap(some, top[LABELS, split], count)
        for (name, split), some in others.items()
        if name != LABELS and (LABELS, split) in top
    }


def shared_within(top: dict, count: int) -> dict:
    """Heads that the top of a draw shares with that of another draw of the same task, over chance."""
    return {
        (name, f"{a} {b}"): overlap(top[name, a], top[name, b], count)
        for name, a in top
        for b in range(a)
        if (name, b) in top
    }


def overlap(a: set, b: set, count: int) -> float:
    """Heads in both sets, over what two random sets of these sizes share among ``count``."""
    return len(a & b) * count / (len(a) * len(b)) if a and b else np.nan


def _by_task(found: dict, within: tuple | None = None) -> Estimate | None:
    """Mean over tasks of what draws of a task give."""
    names = sorted({name for name, _ in found})
    if not names:
        return None
    means = [np.mean([value for (task, _), value in found.items() if task == name]) for name in names]
    return stats.mean(means, unit="tasks", within=within)


def exact(rows: list) -> Found:
    """C19: exact effects of single heads beside first-order ones; ranks within a task."""
    drawn: dict[str, list] = {}
    for row in rows:
        if row.drawn:
            drawn.setdefault(row.task, []).append((row.first_order, row.exact))
    lowered = [[-getattr(row, key) for row in rows if row.chosen] for key in ("exact", "first_order")]
    return {
        "C19": Evidence(
            parts={
                "ranks_alike": rank_correlation([np.array(pairs) for pairs in drawn.values()]),
                "of_the_right_size": stats.ratio_of_means(*lowered, unit="heads"),
            }
        )
    }


def transfer(arms: list, rows: list, task: str) -> float | None:
    """Spearman's of first-order effects on the items that chose heads and exact ones on others; None: not measured."""
    chosen = [row.first_order for row in arms if row.task == task and row.first_order is not None and row.split == 0]
    drawn = [row for row in rows if row.task == task and row.drawn]
    if not chosen or not drawn:
        return None
    return float(spearmanr([chosen[0][row.layer][row.head] for row in drawn], [row.exact for row in drawn]).statistic)


def rank_correlation(tables: list[np.ndarray]) -> Estimate:
    """Spearman's of pairs (n, 2), averaged over tables on Fisher's scale; its variance there is Bonett and Wright's."""
    found = np.array([spearmanr(table).statistic for table in tables]).clip(-1 + 1e-9, 1 - 1e-9)
    variances = [(1 + rho**2 / 2) / (len(table) - 3) for rho, table in zip(found, tables, strict=True)]
    spread = np.sqrt(sum(variances)) / len(tables)
    low, value, high = np.tanh(np.arctanh(found).mean() + np.array([-1, 0, 1]) * norm.ppf(0.975) * spread)
    return Estimate(value, low, high, sum(map(len, tables)), "Spearman's, Fisher's interval", unit="heads")


# --- hidden sinks ----------------------------------------------------------------------------------------------------


def sinks(rows: list) -> Found:
    """C1, C7 and C8: later columns of prompts and of prose; the null is an untrained network on the same."""
    real, null = ([row for row in rows if row.top and (row.kind == "untrained") == flag] for flag in (False, True))
    asked = [row for row in real if row.kind == "task"]
    prose = [row for row in real if row.kind == "prose"]
    bare = {kind: [row for row in null if (row.task == "prose") == (kind == "prose")] for kind in ("task", "prose")}
    meaning = [float(row.top["kind"] in LITTLE) - halfway(row) for row in prose]
    return {
        "C1": Evidence(
            parts={
                "in_task_prompts": over_tasks(asked, over_even),
                "in_prose": _mean([over_even(row) for row in prose]),
                "means_little": _mean(meaning),
            },
            nulls={
                "in_task_prompts": over_tasks(bare["task"], over_even),
                "in_prose": _mean([over_even(row) for row in bare["prose"]]),
                "means_little": _mean([row.little - halfway(row) for row in prose]),
            },
            ceilings={"means_little": _mean([1 - halfway(row) for row in prose])},
        ),
        "C7": Evidence(parts={"exactly_one": one_column(asked)}, nulls={"exactly_one": one_column(bare["task"])}),
        "C8": _layers(asked, bare["task"]),
    }


def over_tasks(rows: list, of: Callable, within: tuple | None = None) -> Estimate | None:
    """``of`` each prompt, mean over tasks: prompts of one share their template and are no independent units."""
    return _by_task({(row.task, i): float(of(row)) for i, row in enumerate(rows)}, within)


def over_even(row) -> float:
    """Attention to a prompt's strongest later token, over even attention at its place."""
    return row.top["over_even"]


def halfway(row) -> float:
    """Half of the way from the share of later tokens that mean little to all."""
    return (1 + row.little) / 2


def one_column(rows: list) -> Estimate | None:
    """Share of prompts with exactly one strong later column."""
    return over_tasks(rows, lambda row: row.columns == 1, within=(0, 1))


def _layers(asked: list, untrained: list) -> Evidence:
    def share(rows: list, name: str, layers: slice) -> Estimate | None:
        return over_tasks(rows, lambda row: average(np.array(getattr(row, name))[layers] >= STRONG), within=(0, 1))

    def second(rows: list) -> Estimate | None:
        return over_tasks(rows, lambda row: more_at_the_top(row.layer_columns))

    bottom, middle = slice(method.FIRST_LAYER), slice(method.FIRST_LAYER, -method.LAST_LAYERS)
    return Evidence(
        parts={
            "none_at_the_bottom": share(asked, "layer_best", bottom),
            "there_in_the_middle": share(asked, "layer_over_even", middle),
            "second_at_the_top": second(asked),
        },
        nulls={
            "none_at_the_bottom": share(asked, "layer_best", middle),
            "there_in_the_middle": share(untrained, "layer_over_even", middle),
            "second_at_the_top": second(untrained),
        },
    )


def more_at_the_top(counts: list[int]) -> float:
    """Later columns of a layer, mean over the last fifth of the layers less that over the others above layer 1."""
    top = len(counts) - max(1, len(counts) // 5)
    return average(counts[top:]) - average(counts[method.FIRST_LAYER : top])


def average(values) -> float:
    """The mean, NaN of nothing: a model may have no layer there."""
    return float(np.mean(values)) if len(values) else np.nan


def _mean(values: list) -> Estimate | None:
    return stats.mean(values, unit="prompts") if len(values) else None


# --- cost ------------------------------------------------------------------------------------------------------------


def cost(rows: list) -> Found:
    """C16: rounds in which each way was timed once; medians, as machines stall."""
    log = {name: np.log([getattr(row, name) for row in rows]) for name in ("on", "off", "sdpa")}
    return {
        "C16": Evidence(
            parts={
                "against_eager": stats.median_ratio(log["on"], log["off"], unit="rounds"),
                "against_fused": stats.median_ratio(log["on"], log["sdpa"], unit="rounds"),
            }
        )
    }
