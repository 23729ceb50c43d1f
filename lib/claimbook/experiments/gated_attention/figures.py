"""Draws rows, with a title from the numbers drawn; computes means and intervals for drawing alone.

Where there are no rows, as stored runs are missing or are of another tier, a figure is a line that says so: see `show`.
"""

import numpy as np

from claimbook import plotting, stats
from claimbook.display.tables import table
from claimbook.experiments.gated_attention import evidence
from claimbook.experiments.gated_attention.measure import exact, logs, onset, retrofit, text, toys
from claimbook.experiments.gated_attention.stored import ARMS, RATES, at_rate
from claimbook.plotting import Plot

NO_TOYS = "Not drawn: none of these toys is stored for this run."
NO_TRAININGS = "Not drawn: no trainings on text are stored for this run."
NO_MODELS = "Not drawn: no rows of real models are stored for this run."
BRIEF = {  # arms of decoders on text that are drawn over the steps, in its legend
    "elementwise": "each dimension",
    "headwise": "one a head",
    "independent": "ignores the input",
    "halved": "none, starts at half",
    "wide": "wider layers",
}
LEADS = ("elementwise", "elementwise_added", "headwise_added", "independent")  # drawn against a smaller start, too
NAMES = {  # of gates, as readers know them
    "none": "no gate",
    "elementwise": "after attention, each dimension",
    "headwise": "after attention, one a head",
    "shared": "after attention, heads share",
    "value": "on values",
    "value headwise": "on values, one a head",
    "key": "on keys",
    "query": "on queries",
    "output": "after the output layer",
    "ns": "NS-sigmoid, cannot close",
    "independent": "a gate that ignores the input",
    "silu gate": "SiLU in place of sigmoid",
    "additive silu": "SiLU, added",
    "additive identity": "a linear addition",
    "norm": "norm in place of a gate",
    "bare silu": "SiLU of the output itself",
    "elementwise and value": "after attention and on values",
    "elementwise value": "after attention and on values",
    "value shared": "on values, heads share",
    "wide": "none, wider feed-forward layers",
    "halved": "none, attention starts at half",
    "quartered": "none, attention starts at a quarter",
    "eighth": "none, attention starts at an eighth",
    "independent doubled": "ignores the input, starts as none",
}


def name(arm: str) -> str:
    """An arm as readers know it: "4 heads, shared", "value_added"."""
    gate = arm.split(", ")[-1].removesuffix("_added").replace("_", " ")
    return NAMES.get(gate, NAMES["none"] if arm in ("4 heads", "strict") else gate)


def over(values) -> stats.Estimate:
    return stats.mean(np.array(values, dtype=float), unit="seeds")


# --- the hero, and the other toys ------------------------------------------------------------------------------------


def sinks(arms: dict[str, list[toys.Row]], shown: tuple[str, ...], what: str = "") -> Plot | str:
    """F-Attn by variant on the seeds that all have, with what even attention gives; ``what`` begins the caption."""
    rows = [*zip(*evidence.Arms(arms).by_seed(*shown), strict=True)]
    if not rows:
        return NO_TOYS
    values = {arm: [row.share[-1] for row in found] for arm, found in zip(shown, rows, strict=True)}
    fig, ax = plotting.figure(height=1.3 + 0.42 * len(values))
    for i, seeds_of in enumerate(values.values()):
        ax.plot(seeds_of, [i + 0.28] * len(seeds_of), marker="|", linestyle="", color=plotting.SOFT, markersize=9)
    drawn = {name(arm): over(seeds_of) for arm, seeds_of in values.items()}
    plotting.interval_plot(ax, drawn, xlabel="attention to the first token")
    even = rows[0][0].even
    plotting.reference_line(ax, even, "even", axis="x")
    ax.set_xlim(left=0)
    base, *others = shown
    stays = {arm: evidence.left(dict(zip(shown, rows, strict=True)), arm, base).value for arm in others}
    return Plot(
        fig,
        title="Of what the first token draws beyond an even share, "
        + " and ".join(f"{stays[arm]:.0%} stays ({name(arm)})" for arm in others[:2]),
        caption=f"{what}Toys: mean of {len(rows[0])} seeds with its 95 % interval; ticks are seeds. Even attention "
        f"gives {even:.2f}." + published(shown),
        alt=f"Attention to the first token for {len(drawn)} variants of gates, with intervals.",
    )


def published(arms: tuple[str, ...]) -> str:
    """The figures of Table 4 for these arms, in a sentence."""
    known = [f"{name(arm)} {exact.TABLE_4[arm][2]:.3f}" for arm in arms if arm in exact.TABLE_4]
    return f" Published for 15 billion parameters, where even attention is 0.002: {', '.join(known)}." if known else ""


def scores(arms: dict[str, list[toys.Row]]) -> Plot | str:
    """Mean score when idle and when there is something to look up, by variant."""
    shown = {arm: rows for arm, rows in arms.items() if rows[0].score is not None and "strict" not in arm}
    if not shown:
        return NO_TOYS
    fig, ax = plotting.figure(height=1.3 + 0.42 * len(shown))
    for i, rows in enumerate(shown.values()):
        idle, busy = (np.mean([getattr(row, f"score_{kind}") for row in rows]) for kind in ("idle", "busy"))
        ax.plot([idle, busy], [i, i], color=plotting.SOFT, linewidth=1.6, zorder=1)
        ax.plot(idle, i, marker="o", color=plotting.COLOURS[0], linestyle="", label="" if i else "idle")
        ax.plot(busy, i, marker="^", color=plotting.COLOURS[1], linestyle="", label="" if i else "busy")
    ax.set_yticks(range(len(shown)), [name(arm) + (" (4 heads)" if "heads" in arm else "") for arm in shown])
    ax.set(xlabel="mean score of the gate", xlim=(0, 1), ylim=(len(shown) - 0.4, -0.6))
    plotting.legend(ax)
    rows = next(iter(shown.values()))
    return Plot(
        fig,
        title=f"The gate is open to {np.mean([row.score_idle for row in rows]):.2f} when there is nothing to look up, "
        f"to {np.mean([row.score_busy for row in rows]):.2f} when there is",
        caption="Mean over seeds. The title is of the first row. A query after a trigger is busy, it has something "
        "to look up; else it is idle. A score of 1 lets everything through.",
        alt="Mean gate score at idle and at busy queries for each variant.",
    )


# --- logs ------------------------------------------------------------------------------------------------------------


def spikes(row: logs.Row | None) -> Plot | str:
    """Both released logs, above the loss as it is and below near its end."""
    if row is None:
        return "Not drawn: the audit of the logs is not part of this run."
    fig, ax = plotting.figure(height=3.8)
    steps = np.array(row.drawn["steps"]) / 1000
    series = {"without the gate": (steps, row.drawn["baseline"]), "with the gate": (steps, row.drawn["gated"])}
    plotting.curves(ax, series, xlabel="step, thousands", ylabel="training loss, nats", marks=6)
    ax.set_ylim(1.8, 4)
    found = row.spikes["0.1"]
    return Plot(
        fig,
        title=f"In the authors' logs the loss spikes {found['baseline']} times without the gate and {found['gated']} "
        "times with it",
        caption=f"The {row.points['common']:,} steps that both logs hold, the largest loss of each bin; spikes above 4 "
        f"are cut off (the largest is {row.largest['baseline']:.1f}). A spike: neighbouring points more than 0.1 nats "
        f"above the running median of {logs.WINDOW}, after step {row.settled:,}.",
        alt="Training loss of the authors' two runs against steps: the one without the gate has many spikes, the gated "
        "one has none.",
    )


# --- decoders on text ------------------------------------------------------------------------------------------------


def gains(arms: dict[str, list[text.Row]]) -> Plot | str:
    """Change of the loss against no gate in the course of the training, by arm, at the usual rate."""
    shown = [arm for kind in BRIEF for arm in (kind, f"{kind}_added")]
    drawn = {arm: found for arm in shown if (found := evidence.gaps(arms, arm))}
    if not drawn:
        return NO_TRAININGS
    leads = {arm: found for arm in LEADS if (found := evidence.gaps(arms, arm, "halved"))}
    fig, axes = plotting.figure(2, 1, height=7.2, sharex=True) if leads else plotting.figure()
    above, *below = np.atleast_1d(axes)
    plotting.curves(above, _courses(drawn), xlabel="" if leads else "step", ylabel="change of the loss")
    plotting.reference_line(above, 0, "no gate")
    for ax in below:
        plotting.curves(ax, _courses(leads), xlabel="step", ylabel="from half the start")
        plotting.reference_line(ax, 0, "none, starts at half")
        ax.get_legend().remove()  # these lines are the first ones above
    return Plot(
        fig,
        title=head_start(arms),
        caption="In nats, seed by seed, on held-out text; mean with its 95 % interval. "
        + (
            "Above, against the decoder without a gate; below, against one whose attention starts by writing half. "
            * bool(leads)
        )
        + "A plus: parameters are added. The others have about as many as the decoder without a gate.",
        alt="Change of the loss by kind of gate over the steps of the training, with intervals, against no gate"
        + (", and below against a smaller start without a gate." if leads else "."),
    )


def _courses(found: dict[str, dict[int, stats.Estimate]]) -> dict[str, tuple]:
    """Lines with their bands, by name, of estimates at each step."""
    ends = ("value", "low", "high")
    return {
        BRIEF[arm.removesuffix("_added")] + plus(arm): (
            [*one],
            *([getattr(x, end) for x in one.values()] for end in ends),
        )
        for arm, one in found.items()
    }


def plus(arm: str) -> str:
    """What stands behind the name of an arm that has more parameters than the decoder without a gate."""
    return " +" if "decoder" in ARMS[arm] or not ARMS[arm].get("matched", True) else ""


def kinds(arms: dict[str, list[text.Row]]) -> Plot | str:
    """Change of the loss against no gate by kind and place, at the usual rate, beside that by a smaller start."""
    paired, rated = evidence.Arms(arms), tuple(filter(None, RATES))
    shown = [arm for arm in arms if arm != "none" and not arm.endswith(rated) and "unnormed" not in arm]
    found = {arm: one for arm in shown if (one := paired.mean(evidence.change, arm, "none"))}
    if len(found) < 2 or "halved" not in found:
        return NO_TRAININGS
    found = dict(sorted(found.items(), key=lambda item: item[1].value))
    values = [one.value for one in found.values()]
    cut = int(np.argmax(np.diff(values))) + 1  # where the widest gap is
    among = "among them" if [*found].index("halved") < cut else "not among them"
    fig, ax = plotting.figure(height=1.3 + 0.42 * len(found))
    plotting.interval_plot(
        ax, {name(arm) + plus(arm): one for arm, one in found.items()}, xlabel="change of the loss, nats"
    )
    plotting.reference_line(ax, 0, "no gate", axis="x")
    plotting.reference_line(ax, found["halved"].value, "", axis="x")
    return Plot(
        fig,
        title=f"{cut} of {len(values)} variants change the loss by {values[0]:.2f} to {values[cut - 1]:.2f} nats, "
        f"a smaller start without a gate {among}; the others by {values[cut]:+.2f} to {values[-1]:+.2f}",
        caption="Against the decoder without a gate, seed by seed: mean of the last quarter with its 95 % interval. "
        "The left dashed line has no gate either, and attention starts by writing half. A plus: parameters are added.",
        alt="Change of the loss for each variant with its interval, beside no gate and a smaller start without one.",
    )


def rates(arms: dict[str, list[text.Row]]) -> Plot | str:
    """Loss against the rate, with and without the gate."""
    series = {}
    for arm, label in (("none", "no gate"), ("elementwise", "gate after attention")):
        found = {RATES[suffix]: arms[at_rate(arm, suffix)] for suffix in RATES if at_rate(arm, suffix) in arms}
        points = {rate: over([evidence.loss(row) for row in rows]) for rate, rows in sorted(found.items())}
        if len(points) > 1:
            series[label] = [
                [*points],
                *([getattr(one, end) for one in points.values()] for end in ("value", "low", "high")),
            ]
    if len(series) < 2:
        return "Not drawn: no trainings at other rates are stored for this run."
    fig, ax = plotting.figure(height=3.6)
    plotting.curves(ax, series, xlabel="learning rate", ylabel="loss, nats")
    ax.set_xscale("log")
    ends = {label: (min(one[1]), one[1][-1]) for label, one in series.items()}
    return Plot(
        fig,
        title="At the largest rate the loss rises by "
        + " and ".join(f"{last - best:.2f} ({label})" for label, (best, last) in ends.items()),
        caption="Mean over seeds with its 95 % interval. A training that diverges has the loss of an even guess, 7.62.",
        alt="Loss against learning rate, one line without and one with the gate.",
    )


# --- real models -----------------------------------------------------------------------------------------------------


def beginnings(by_model: dict[str, list[onset.Row]]) -> Plot | str:
    """Above: F-Attn by depth of the layer. Below: the first token's largest component over the median one."""
    if not by_model:
        return NO_MODELS
    fig, (above, below) = plotting.figure(2, 1, height=6.4, sharex=True)
    shares, sizes = {}, {}
    for model, rows in by_model.items():
        share = np.mean([row.share for row in rows], axis=0)
        depth = np.arange(1, len(share) + 1)
        shares[plotting.model_name(model)] = (depth, share)
        sizes[plotting.model_name(model)] = (depth, np.mean([np.array(row.first) / row.median for row in rows], axis=0))
    plotting.curves(above, shares, xlabel="", ylabel="on the first token")
    plotting.curves(below, sizes, xlabel="layer", ylabel="largest over median")
    below.set_yscale("log")
    below.get_legend().remove()
    plotting.reference_line(below, evidence.TIMES, "")
    model, rows = next(iter(by_model.items()))
    places = [(evidence.writes(row), evidence.begins(row)) for row in rows]
    known = [one for one in places if None not in one]
    said = "no layer writes a massive activation and has a sink after it"
    if known:
        at, sink = max(set(known), key=known.count)
        said = f"layer {at + 1} writes the massive activation, and the sink begins at layer {sink + 1}"
    return Plot(
        fig,
        title=f"In {plotting.model_name(model)} {said}",
        caption="Mean over documents; layers are counted from 1. Above: attention to the first token. Below: the "
        "largest component of its state after each layer over the median one; from "
        f"{evidence.TIMES:,} on, the dashed line, it is massive.",
        alt="Above, attention to the first token by layer; below, size of its largest component, on a log axis.",
    )


def before(by_model: dict[str, list[onset.Row]]) -> str:
    """Whether the first model has a weaker sink before the massive activation, in a sentence."""
    found = evidence.earlier(next(iter(by_model.values()), []))
    if found is None:
        return "No layer before one that writes a massive activation can be named."
    layer, times, share = found
    return (
        f"The first sink is not the only one. Before the layer that the title names, after layer {layer}, the largest "
        f"component is {times:,.0f} times the median, and the first token draws up to {share:.2f} of the attention."
    )


def put_in(by_model: dict[str, list[retrofit.Row]]) -> Plot | str:
    """Rise of the loss by what is put in, for each model."""
    if not by_model:
        return NO_MODELS
    labels = {"zero": "weights of zero, doubled", "half": "every score a half"}
    labels |= {"elementwise": "random, each dimension", "headwise": "random, one a head"}
    named = {plotting.model_name(model): rows for model, rows in by_model.items()}
    rises = {
        (model, kind): stats.mean(np.array([row.loss[kind] - row.loss["as it is"] for row in rows]), unit="documents")
        for model, rows in named.items()
        for kind in labels
    }
    fig, ax = plotting.figure(height=1.3 + 0.42 * len(rises))
    plotting.interval_plot(
        ax, {f"{model}: {labels[kind]}": one for (model, kind), one in rises.items()}, xlabel="rise of the loss, nats"
    )
    said = [
        f"{rises[model, 'elementwise'].value:.1f} nats, a constant half {abs(rises[model, 'half'].value):.1f} ({model})"
        for model in named
    ]
    return Plot(
        fig,
        title=f"A random gate costs {'; '.join(said)}",
        caption="Mean over documents with its 95 % interval, of three draws each. Nothing is trained.",
        alt="Rise of the loss for four gates that are put into finished models.",
    )


# --- without training ------------------------------------------------------------------------------------------------


def linearity(found: exact.Exact) -> Plot:
    """Error of the best linear map, by variant, with the published perplexity beside."""
    published = {row: value[3] for row, value in exact.TABLE_4.items()}
    published |= {"norm": 5.847, "bare silu": 5.975, "additive identity": 5.882, "additive silu": 5.821}
    shown = {arm: found.linear[arm] for arm in published if arm in found.linear}
    fig, ax = plotting.figure(height=1.3 + 0.4 * len(shown))
    ax.barh(range(len(shown)), [*shown.values()], color=plotting.COLOURS[0], height=0.6)
    for i, (arm, value) in enumerate(shown.items()):
        ax.text(value + 0.02, i, f"{published[arm]:.3f}", va="center", fontsize=11)
    ax.set_yticks(range(len(shown)), [name(arm) for arm in shown])
    ax.set(xlabel="error of the best linear map", xlim=(0, 1.2), ylim=(len(shown) - 0.4, -0.6))
    linear = [name(arm) for arm in shown if shown[arm] < 1e-3 and arm != "none"]
    return Plot(
        fig,
        title=f"Linear, and yet of lower perplexity in the paper: {' and '.join(linear)}",
        caption="Attention is frozen, weights are random. The bar is the error of the best linear map on tokens that "
        "it was not fitted to, over the size of the output. Numbers beside the bars: published perplexity.",
        alt="Bars of the error of the best linear map, by variant, with perplexities beside.",
    )


def added(found: exact.Exact):
    """The column of added parameters: printed, and by arithmetic."""
    rows = [
        [NAMES.get(row, row), f"{ours:,.2f}", f"{printed:g}", "" if abs(ours - printed) <= 0.031 * ours else "differs"]
        for row, (ours, printed) in found.added.items()
    ]
    return table(["what is added", "arithmetic, M", "printed, M", ""], rows, "toy-table")


def on_text(arms: dict[str, list[text.Row]]) -> str:
    """What the decoders on text say of the loss."""
    if not evidence.gaps(arms, "elementwise"):
        return "Small decoders on text, which say whether the gate lowers the loss, are not part of this run."
    paired = evidence.Arms(arms)
    first, even = np.mean([np.mean(row.end["share"]) for row in arms["none"]]), arms["none"][0].end["even"]
    gate = paired.mean(evidence.change, "elementwise", "none")
    said = [
        f"Our small decoders on text, toys too, are trained too briefly for a sink: the first token draws {first:.3f} "
        f"of the attention, where an even share is {even:.3f}. So they speak of the loss alone. Over the last quarter "
        f"of the training a gate lowers it by {falls(gate)} nats, at equal parameters."
    ]
    if start := paired.mean(evidence.change, "halved", "none"):
        most = "Most of that needs no gate" if start.value < gate.value / 2 else "Not all of that needs a gate"
        halved = "output layers of attention that are initialised at half their size"
        said.append(f"{most}: {halved} lower it by {falls(start)} without one.")
    if beyond := evidence.from_smaller_start(paired, "elementwise")[0]:
        still = ", so that it is open whether it helps beyond that" if beyond.low < 0 < beyond.high else ""
        said.append(f"Against the best of the smaller initialisations the gate lowers it by {falls(beyond)}{still}.")
    return " ".join(said)


def best_rates(arms: dict[str, list[text.Row]]) -> str | None:
    """At which of the rates the mean loss is lowest, without and with the gate; None without rows of each."""
    paired, best = evidence.Arms(arms), []
    for arm in ("none", "elementwise"):
        rows = paired.by_seed(*(at_rate(arm, suffix) for suffix in RATES))
        if not rows:
            return None
        losses = np.mean([[evidence.loss(row) for row in one] for one in rows], axis=0)
        best.append(f"{list(RATES.values())[losses.argmin()]:g}")
    return best[0] if best[0] == best[1] else f"{best[0]} without and {best[1]} with the gate"


def falls(one: stats.Estimate) -> str:
    """By how much a change lowers the loss, with its interval."""
    return f"{-one.value:.3f} [{-one.high:.3f}, {-one.low:.3f}]"


def head_start(arms: dict[str, list[text.Row]]) -> str:
    """How the gap between the gate and none goes, and that of a constant."""
    gaps, steps = evidence.gaps(arms, "elementwise"), evidence.ahead(arms)
    if not gaps:
        return ""
    last, most = max(gaps), min(gaps, key=lambda step: gaps[step].value)
    said = (
        f"A gate changes the loss by {gaps[most].value:+.2f} nats at step {most}, {gaps[last].value:+.2f} at the last"
    )
    if constant := evidence.gaps(arms, "independent"):
        said += f", a gate that ignores its input by {constant[most].value:+.2f} and {constant[last].value:+.2f}"
    return said + (f". The first reaches the same loss {steps} of {last} steps sooner" if steps else "")
