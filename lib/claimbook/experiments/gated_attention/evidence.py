"""From rows to the ledger's parts, preconditions and measured nulls: {claim: Evidence}. Nothing is measured here."""

import math
from collections.abc import Callable

import numpy as np

from claimbook import stats
from claimbook.claims.verdicts import Evidence, Measurement
from claimbook.experiments.gated_attention.measure import logs as log_files
from claimbook.experiments.gated_attention.measure import onset, released, retrofit, text, toys
from claimbook.experiments.gated_attention.measure.exact import BETWEEN, LINEAR, MISPRINT
from claimbook.experiments.gated_attention.measure.exact import Exact as Arithmetic
from claimbook.experiments.gated_attention.stored import LAST, RATES, STARTS, at_rate
from claimbook.stats import Estimate, Exact

Found = dict[str, Evidence]

SEEDS, DOCUMENTS = "seeds", "documents"
ENOUGH = 5  # seeds below which an arm measures nothing
WORST = math.log(2048)  # loss of an even guess: what a training that diverged counts as
SUFFERS, DEAD = 0.107, 1.0  # rises of the loss: from which a rate is too high, and from which all count alike, C7
SPIKE, FAILED = 0.3, 0.5  # nats above the running median, see `spikes`; above the lowest of it at the end
HALF_SHARE = 0.2335  # half of the paper's F-Attn
MASSIVE, TIMES = 100, 1000  # a massive activation: at least so large, and so many times the median component


def together(parts: dict, nulls: dict | None = None, preconditions: dict | None = None) -> Found:
    """Evidence by claim out of measurements by claim and name; what has no measurement is left out."""
    kinds = {"parts": parts, "nulls": nulls or {}, "preconditions": preconditions or {}}

    def measured(kind: dict, claim: str) -> dict[str, Measurement]:
        return {name: one for name, one in kind.get(claim, {}).items() if one is not None}

    claims = {claim for kind in kinds.values() for claim in kind}
    return {claim: Evidence(**{name: measured(kind, claim) for name, kind in kinds.items()}) for claim in claims}


class Arms:
    """Rows by arm, compared seed by seed. Arms of too few common seeds, or of two kinds of device, measure nothing."""

    def __init__(self, arms: dict[str, list]):
        self.arms = arms

    def by_seed(self, *arms: str) -> list[tuple]:
        """For each seed that all these arms have, the row of each."""
        rows = [{row.seed: row for row in self.arms.get(arm, [])} for arm in arms]
        if len({getattr(row, "device", "cpu") for one in rows for row in one.values()}) > 1:
            return []
        found = [tuple(one[seed] for one in rows) for seed in rows[0] if all(seed in one for one in rows)]
        return found if len(found) >= ENOUGH else []

    def mean(self, of: Callable, *arms: str, within: tuple[float, float] | None = None) -> Estimate | None:
        """Mean over seeds of what ``of`` gives of the row of each arm."""
        values = np.array([of(*rows) for rows in self.by_seed(*arms)], dtype=float)
        return stats.mean(values, unit=SEEDS, within=within).of(*dict.fromkeys(arms)) if len(values) else None

    def share(self, holds: Callable, *arms: str) -> Estimate | None:
        """Share of seeds for which ``holds`` of the row of each arm."""
        rows = self.by_seed(*arms)
        return (
            stats.proportion(sum(bool(holds(*one)) for one in rows), len(rows), unit=SEEDS).of(*arms) if rows else None
        )

    def ratio(self, above: Callable, below: Callable, arm: str) -> Estimate | None:
        """Mean of ``above`` over that of ``below``, over the rows of an arm."""
        pairs = [(above(row), below(row)) for (row,) in self.by_seed(arm)]
        return stats.ratio_of_means(*np.transpose(pairs), unit=SEEDS).of(arm) if pairs else None


# --- without training ------------------------------------------------------------------------------------------------


def exact(found: Arithmetic) -> Found:
    """C15, C24, C25, C28, C33."""
    misses = {row: abs(printed - ours) / ours for row, (ours, printed) in found.added.items() if row != MISPRINT}
    elementwise, none = Exact(found.linear["elementwise"]), Exact(found.linear["none"])
    parts = {
        "C15": {"adds_up": Exact(max(misses.values()), n=len(misses))},
        "C24": {
            "low_rank": Exact(found.rank),
            "merges": none,
            "gates_prevent": Exact(min(found.linear[name] for name in BETWEEN), n=len(BETWEEN)),
        },
        "C25": {"linear": Exact(max(found.linear[name] for name in LINEAR), n=len(LINEAR))},
        "C28": {"leaks_more": Exact(found.leak / 0.05)},
        "C33": {f"ranks_{column}": Exact(value) for column, value in found.ranks.items()},
    }
    nulls = {"C24": {"merges": elementwise, "gates_prevent": none}, "C25": {"linear": elementwise}}
    return together(parts, nulls)


def logs(row: log_files.Row) -> Found:
    """C23."""
    spikes, ends = row.spikes["0.1"], row.ends["340000"]
    parts = {
        "spikes_vanish": Exact(spikes["gated"] / spikes["baseline"], n=spikes["baseline"]),
        "ends_lower": Exact(ends["gated"] - ends["baseline"]),
    }
    return {"C23": Evidence(parts=parts)}


# --- toys ------------------------------------------------------------------------------------------------------------


def extra(row: toys.Row) -> float:
    """Attention to the first token beyond an even share."""
    return row.share[-1] - row.even


def less(x: float) -> Callable:
    """Of rows of arms a and b: extra attention of a less x times that of b; a further arm is the precondition's."""
    return lambda a, b, *others: extra(a) - x * extra(b)


def ungated(*rows: toys.Row) -> float:
    """Of the rows of arms of which the last has no gate: its extra attention, on the seeds that all have."""
    return extra(rows[-1])


def left(arms: dict[str, list[toys.Row]], arm: str, base: str = "none") -> Estimate | None:
    """What an arm leaves of the extra attention of a base, as a share; seeds of the two in pairs."""
    pairs = [(extra(a), extra(b)) for a, b in Arms(arms).by_seed(arm, base)]
    return stats.ratio_of_means(*np.transpose(pairs), unit=SEEDS).of(arm, base) if pairs else None


def hinges(arms: dict[str, list[toys.Row]]) -> int:
    """How many single seeds C12.elementwise_removes hangs on: without one its interval reaches the bound."""
    seeds = [row.seed for row in arms["none"]]
    without = ({arm: [row for row in rows if row.seed != seed] for arm, rows in arms.items()} for seed in seeds)
    found = (Arms(left_out).mean(less(0.31), "elementwise", "none") for left_out in without)
    return sum(one.low <= 0 <= one.high for one in found if one)


def toy(arms: dict[str, list[toys.Row]]) -> Found:
    """What toys decide: C11, C12, C22, C32, C34, C35, and their parts of C10."""
    t = Arms(arms)
    removes = t.mean(less(0.31), "elementwise", "none")
    parts = {
        "C10": {
            "toy_sparse": t.mean(lambda row: row.score, "elementwise", within=(0, 1)),
            "toy_near_zero": t.mean(lambda row: row.zeros, "elementwise", within=(0, 1)),
        },
        "C11": {
            "independent_keeps": t.mean(less(2.8), "independent", "elementwise", "none"),
            "value_keeps": t.mean(less(2.5), "value", "elementwise", "none"),
            "value_does_not_reduce": t.mean(less(0.8), "value", "none"),
        },
        "C12": {
            "elementwise_removes": removes,
            "headwise_removes": t.mean(less(0.39), "headwise", "none"),
        },
        "C22": {
            "shared_keeps_most": t.mean(less(0.5), "4 heads, shared", "4 heads"),
            "shared_keeps_more": t.mean(less(2.5), "4 heads, shared", "4 heads, elementwise", "4 heads"),
        },
        "C32": {"closes": t.ratio(lambda row: row.score_idle, lambda row: row.score_busy, "elementwise")},
        "C34": {
            "elementwise_leaves": t.mean(less(0.5), "strict, elementwise", "strict"),
            "headwise_leaves": t.mean(less(0.5), "strict, headwise", "strict"),
        },
        "C35": {
            "ns_as_it_is": t.mean(less(0.8), "ns", "none"),
            "ns_keeps_more": t.mean(less(3.1), "ns", "elementwise", "none"),
        },
    }
    sinks = {
        "C11": ("value", "none"),
        "C12": ("none",),
        "C22": ("4 heads, shared", "4 heads"),
        "C34": ("strict",),
        "C35": ("ns", "none"),
    }
    preconditions = {claim: {"has_a_sink": t.mean(ungated, *compared)} for claim, compared in sinks.items()}
    preconditions["C11"]["gate_removes"] = preconditions["C35"]["gate_removes"] = removes
    preconditions["C22"]["gate_removes"] = t.mean(less(0.31), "4 heads, elementwise", "4 heads")
    seen = {  # the same gates where a query sees itself
        "elementwise_leaves": t.mean(less(0.5), "elementwise", "none"),
        "headwise_leaves": t.mean(less(0.5), "headwise", "none"),
    }
    return together(parts, {"C34": seen}, preconditions)


# --- decoders on text ------------------------------------------------------------------------------------------------


def loss(row: text.Row) -> float:
    """Loss of held-out text, mean of the last measured points; what diverged, or is worse, counts as an even guess."""
    values = [point["loss"] for point in row.measured[-LAST:]]
    return WORST if None in values else min(WORST, float(np.mean(values)))


def loss_at(row: text.Row, place: int) -> float:
    """The loss at one of the measured points, capped as in `loss`."""
    value = row.measured[place]["loss"]
    return WORST if value is None else min(WORST, value)


def change(row: text.Row, base: text.Row) -> float:
    """What an arm changes of the loss of a base."""
    return loss(row) - loss(base)


def gaps(arms: dict[str, list[text.Row]], arm: str, base: str = "none") -> dict[int, Estimate]:
    """What an arm changes of the loss of a base, at each measured step; empty where it measures nothing."""
    paired, steps = Arms(arms), [point["step"] for point in arms[base][0].measured] if base in arms else []

    def at(place: int) -> Estimate | None:
        return paired.mean(lambda row, other: loss_at(row, place) - loss_at(other, place), arm, base)

    return {step: found for place, step in enumerate(steps) if (found := at(place))}


def ahead(arms: dict[str, list[text.Row]], arm: str = "elementwise") -> int | None:
    """How many steps before the last an arm's mean loss is what the loss without a gate is at the last.

    Between measured points it is taken to fall evenly; None where that loss is not reached.
    """
    pairs = Arms(arms).by_seed(arm, "none")
    if not pairs:
        return None
    steps = [point["step"] for point in pairs[0][0].measured]
    gated, none = np.mean([[[loss_at(row, i) for i in range(len(steps))] for row in pair] for pair in pairs], axis=0)
    reached = next((i for i, value in enumerate(gated) if value <= none[-1]), None)
    if not reached:
        return None
    step = np.interp(-none[-1], -gated[reached - 1 : reached + 1], steps[reached - 1 : reached + 1])
    return round(steps[-1] - step)


def share_of(x: float) -> Callable:
    """Of rows of a variant, the gate and none: the variant's change of the loss, less x times the gate's."""
    return lambda variant, gate, none: change(variant, none) - x * change(gate, none)


def beyond_of(x: float) -> Callable:
    """Of rows of a variant, none, the gate and one that ignores its input: what the variant changes of the loss without
    a gate, less x times what the gate changes of that with one that ignores its input."""
    return lambda variant, none, gate, constant: change(variant, none) - x * change(gate, constant)


def spikes(row: text.Row, base: text.Row, warmup: int = 50) -> int:
    """Spikes after the warm-up of the loss less that of ``base``, which trained on the same batches: one that is hard
    for both is no spike. To diverge is none either, see `fails`."""
    loss, other = (np.array([np.nan if value is None else value for value in one.loss], float) for one in (row, base))
    apart = loss - other
    return log_files.spikes(apart, SPIKE, np.isfinite(apart) & (np.arange(len(apart)) >= warmup))


def fails(row: text.Row) -> bool:
    """Whether a training ends not finite, or far above its lowest median."""
    losses = np.array([np.nan if value is None else value for value in row.loss], dtype=float)
    return not np.mean(losses[-20:]) <= np.nanmin(log_files.running_median(losses)) + FAILED


def vanish(gated: text.Row, none: text.Row, base: text.Row) -> bool:
    """Whether a gated training does not fail and has at most a tenth of the spikes of one without, which has some."""
    without = spikes(none, base)
    return without > 0 and not fails(gated) and 10 * spikes(gated, base) <= without


def rise(high: text.Row, usual: text.Row) -> float:
    """How much higher the loss is at a higher rate; two that are lost are alike, whatever each fell from."""
    return min(DEAD, change(high, usual))


def suffers(t: Arms, suffix: str) -> Estimate | None:
    """How much the loss without a gate rises at a higher rate; a fall is no rise."""
    return t.mean(lambda *rows: max(0.0, rise(*rows)), at_rate("none", suffix), "none", within=(0, DEAD))


def first_too_high(t: Arms) -> str | None:
    """The first rate at which the loss without a gate rises too much beyond doubt, else the highest; None: no rows."""
    higher = [suffix for suffix in sorted(RATES, key=RATES.get) if RATES[suffix] > RATES[""]]
    rises = {suffix: suffers(t, suffix) for suffix in higher}
    if not all(rises.values()):
        return None
    return next((suffix for suffix in higher if rises[suffix].low >= SUFFERS), higher[-1])


def tolerated(t: Arms) -> tuple[Estimate | None, Estimate | None]:
    """C7 at the first rate that is too high: the rise with the gate less that without, and that without."""
    if (high := first_too_high(t)) is None:
        return None, None
    arms = (at_rate("elementwise", high), "elementwise", at_rate("none", high), "none")
    less = t.mean(lambda g_high, g, n_high, n: rise(g_high, g) - rise(n_high, n), *arms)
    return less, suffers(t, high)


def at_best_rates(t: Arms) -> tuple[Estimate | None, Exact | None]:
    """What the gate changes of the loss, each arm at the rate that suits it best, and which share of these rates is the
    lowest or the highest, so that one further might suit it better.

    A seed is judged at the rates that are best on the others. None without rows of each.
    """
    rates = sorted(RATES, key=RATES.get)
    arms = {arm: [at_rate(arm, suffix) for suffix in rates] for arm in ("elementwise", "none")}
    rows = t.by_seed(*arms["elementwise"], *arms["none"])
    if not rows:
        return None, None
    losses = np.array([[loss(row) for row in one] for one in rows]).reshape(len(rows), 2, len(rates))
    best = np.array([np.delete(losses, i, axis=0).mean(axis=0).argmin(axis=-1) for i in range(len(rows))])
    gated, none = np.take_along_axis(losses, best[..., None], axis=-1)[..., 0].T
    at_an_edge = np.isin(best, (0, len(rates) - 1))
    of = (*arms["elementwise"], *arms["none"])
    return stats.mean(gated - none, unit=SEEDS).of(*of), Exact(float(at_an_edge.mean()), n=at_an_edge.size).of(*of)


def from_smaller_start(t: Arms, gate: str) -> tuple[Estimate | None, Exact | None]:
    """What a gate changes of the loss without one from the smaller start with the lowest mean loss, and 1 where that is
    the smallest tried, so that a smaller one still might suit better, else 0. None without rows of each."""
    rows = t.by_seed(gate, *STARTS)
    if not rows:
        return None, None
    losses = np.array([[loss(row) for row in one] for one in rows])
    best = 1 + int(losses[:, 1:].mean(axis=0).argmin())
    lower = stats.mean(losses[:, 0] - losses[:, best], unit=SEEDS).of(gate, *STARTS)
    return lower, Exact(float(best == len(STARTS)), n=len(rows)).of(*STARTS)


def decoders(arms: dict[str, list[text.Row]]) -> Found:
    """What decoders trained on text decide."""
    t = Arms(arms)
    tolerates, baseline = tolerated(t)

    def gain(variant: str, x: float) -> Estimate | None:
        return t.mean(share_of(x), variant, "elementwise_added", "none")

    def beyond(variant: str, x: float) -> Estimate | None:
        return t.mean(beyond_of(x), variant, "none", "elementwise_added", "independent")

    lower, (lower_at_best, at_an_edge) = t.mean(change, "elementwise", "none"), at_best_rates(t)
    inside = t.mean(change, "elementwise_added", "output_added")
    beside_start, smallest = from_smaller_start(t, "elementwise")
    parts = {
        "C1": {
            "loss_lower": lower,
            "at_best_rates": lower_at_best,
            "from_smaller_start": beside_start,
        },
        "C2": {
            "value_helps": t.mean(change, "value_added", "output_added"),
            "key_does_not": beyond("key_added", 0.5),
            "query_does_not": beyond("query_added", 0.5),
            "output_does_not": inside,
        },
        "C3": {"headwise_beats_more": t.mean(change, "headwise_added", "wide")},
        "C4": {"headwise_nearly": gain("headwise_added", 0.5)},
        "C6": {
            "spikes_vanish": t.share(vanish, "elementwise_faster", "none_faster", "none"),
            "ends_no_higher": t.mean(change, "elementwise_faster", "none_faster"),
        },
        "C7": {"tolerates": tolerates},
        "C9": {
            "norm_helps": beyond("norm", 0.56),
            "addition_helps": beyond("additive_silu_added", 0.65),
            "outside_does_not": inside,
        },
        "C10": {
            "sparse": t.mean(score, "elementwise", within=(0, 1)),
            "near_zero": t.mean(lambda row: row.end["zeros"], "elementwise", within=(0, 1)),
            "headwise_sparse": t.mean(score, "headwise_added", within=(0, 1)),
        },
        "C19": {"shrinks": t.ratio(lambda row: row.end["after"], lambda row: row.end["before"], "elementwise")},
        "C21": {"ahead_of_values": t.mean(change, "elementwise_added", "value_added")},
        "C31": {
            "loss_lower": lower,
            "at_best_rates": lower_at_best,
            "beyond_scale": t.mean(share_of(0.7), "independent", "elementwise", "none"),
        },
        "C36": {"linear_helps": beyond("additive_identity_added", 0.45)},
        "C38": {
            "start_has_most": t.mean(share_of(0.5), "halved", "elementwise", "none"),
            "start_not_factor": t.mean(change, "halved", "independent_doubled"),
            "gate_helps_beyond": t.mean(
                lambda halved, gate, none: change(gate, halved), "halved", "elementwise_added", "none"
            ),
        },
    }  # fmt: skip
    reads = {"reading_helps": t.mean(change, "elementwise_added", "independent")}
    preconditions = dict.fromkeys(("C2", "C9", "C36"), reads) | {
        "C1": {"inside_the_grid": at_an_edge, "inside_the_starts": smallest},
        "C4": {"gate_helps": t.mean(change, "elementwise_added", "none")},
        "C6": {"has_spikes": t.share(lambda row, base: spikes(row, base) > 0, "none_faster", "none")},
        "C7": {"baseline_suffers": baseline},
        "C31": {
            "no_sink": t.mean(lambda row: float(np.mean(row.end["share"])) - row.end["even"], "none"),
            "inside_the_grid": at_an_edge,
        },
        "C38": {"start_gains": t.mean(share_of(0.5), "halved", "elementwise_added", "none")},
    }
    nulls = {
        "C1": {"from_smaller_start": from_smaller_start(t, "independent")[0]},
        "C4": {"headwise_nearly": gain("independent", 0.5)},
    }
    return together(parts, nulls, preconditions)


def score(row: text.Row) -> float:
    """Mean score over gates."""
    return float(np.mean(row.end["score"]))


def seeds_needed(arms: dict[str, list[text.Row]], effect: float, *pair: str) -> int | None:
    """How many seeds of each of a pair of arms tell an effect in nats from half of it, by the spread of their pairs."""
    values = [change(*rows) for rows in Arms(arms).by_seed(*pair)]
    return math.ceil((4 * 1.96 * np.std(values, ddof=1) / effect) ** 2) if values else None


# --- real models -----------------------------------------------------------------------------------------------------


def writes(row: onset.Row) -> int | None:
    """The first layer after which the first token's state is massive; None where none is."""
    return next((i for i, (first, median) in enumerate(zip(row.first, row.median, strict=True))
                 if first >= MASSIVE and first >= TIMES * median), None)  # fmt: skip


def begins(row: onset.Row) -> int | None:
    """The first layer with a sink."""
    return next((i for i, share in enumerate(row.share) if share >= HALF_SHARE), None)


def earlier(rows: list[onset.Row]) -> tuple[int, float, float] | None:
    """Before the layer that writes the massive activation: the layer, from 1, after which the first token's largest
    component is most times the median, how many times on average, and the largest F-Attn of a layer there."""
    at = [writes(row) for row in rows]
    stop = min(at) if at and None not in at else 0
    if stop == 0:
        return None
    times = np.mean([np.array(row.first[:stop]) / np.array(row.median[:stop]) for row in rows], axis=0)
    shares = np.mean([row.share[:stop] for row in rows], axis=0)
    return int(times.argmax()) + 1, float(times.max()), float(shares.max())


def feed_forward(row: onset.Row) -> np.ndarray:
    """Share of the feed-forward part in what each layer writes for the first token."""
    a, f = np.array(row.attention), np.array(row.feed_forward)
    return f / (a + f)


def real(rows: list[onset.Row]) -> Found:
    """C26, and as a null of its last part the same share in the median layer."""
    there = [
        (at := writes(row)) is not None and (sink := begins(row)) is not None and 0 <= sink - at <= 2 for row in rows
    ]
    massive = [row for row in rows if writes(row) is not None]

    def over(values: list[float]) -> Estimate:
        return stats.mean(np.array(values), unit=DOCUMENTS, within=(0, 1))

    parts = {
        "has_a_sink": over([float(np.mean(row.share)) for row in rows]),
        "begins_there": stats.proportion(sum(there), len(there), unit=DOCUMENTS),
    }
    nulls = {}
    if massive:
        parts["feed_forward_writes"] = over([float(feed_forward(row)[writes(row)]) for row in massive])
        nulls["feed_forward_writes"] = over([float(np.median(feed_forward(row))) for row in massive])
    return {"C26": Evidence(parts=parts, nulls=nulls)}


def put_in(rows: list[retrofit.Row]) -> Found:
    """C30."""

    def rises(name: str) -> np.ndarray:
        return np.array([row.loss[name] - row.loss["as it is"] for row in rows])

    parts = {
        "random_hurts": stats.mean(rises("elementwise"), unit=DOCUMENTS),
        "zero_does_not": Exact(float(np.abs(rises("zero")).max()), n=len(rows)),
    }
    nulls = {
        "random_hurts": stats.mean(rises("half"), unit=DOCUMENTS),
        "zero_does_not": Exact(float(np.abs(rises("elementwise")).max())),
    }
    return {"C30": Evidence(parts=parts, nulls=nulls)}


def models(rows: dict[str, list[released.Row]]) -> Found:
    """C12, C13 and parts of C10 and C19 on the released models, document by document."""
    none, one = rows["none"], rows["elementwise"]

    def above(row: released.Row) -> float:
        return row.share - row.even

    def removes(name: str, x: float) -> Estimate:
        pairs = zip(rows[name], none, strict=True)
        return stats.mean(np.array([above(a) - x * above(b) for a, b in pairs]), unit=DOCUMENTS).of(name, "none")

    def smaller(name: str) -> Estimate:
        a, b = ([row.massive for row in rows[key]] for key in (name, "none"))
        return stats.ratio_of_means(a, b, unit=DOCUMENTS).of(name, "none")

    def average(name: str, of: str, within: tuple[float, float] | None = (0, 1)) -> Estimate:
        values = np.array([getattr(row, of) for row in rows[name]])
        return stats.mean(values, unit=DOCUMENTS, within=within)

    parts = {
        "C10": {
            "sparse": average("elementwise", "score"),
            "near_zero": average("elementwise", "zeros"),
            "headwise_sparse": average("headwise", "score"),
        },
        "C12": {
            "elementwise_removes": removes("elementwise", 0.31),
            "headwise_removes": removes("headwise", 0.39),
        },
        "C13": {f"{name}_smaller": smaller(name) for name in ("elementwise", "headwise")},
        "C19": {"shrinks": stats.ratio_of_means([r.after for r in one], [r.before for r in one], unit=DOCUMENTS)},
    }
    preconditions = {
        "C12": {"has_a_sink": stats.mean(np.array([above(row) for row in none]), unit=DOCUMENTS).of("none")},
        "C13": {"has_massive": average("none", "massive", None).of("none")},
    }
    return together(parts, preconditions=preconditions)
