"""Draws rows, with a title from the numbers drawn; computes means and intervals for drawing alone."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from claimbook import plotting, stats
from claimbook.experiments.attention_calibration import evidence
from claimbook.experiments.attention_calibration.evidence import SIX, Arms, auc, loss, right
from claimbook.experiments.attention_calibration.measure.sinks import COLUMN
from claimbook.experiments.attention_calibration.stored import VARIED
from claimbook.papers import attention_calibration as method
from claimbook.plotting import Plot

NAMES = {"arc_easy": "ARC-Easy", "commonsense": "CommonsenseQA"}
REMEDIES = {  # as `evidence.changes` names them
    "ACT": "act",
    "prior corrected": "prior",
    "ACT on top": "both",
    "first token": "first",
}
HEADS = {
    "top heads": "top",
    "all heads": "all",
    "random heads": "random",
    "bottom heads": "bottom",
    "first token alone": "zero",
}


def accuracy(rows: list) -> Plot:
    """The picture of the page: what each remedy changes in accuracy, by task and over those that the model knows."""
    of, tasks = Arms(rows), shown_tasks(rows)
    known = evidence.knows(of, SIX)
    lines = {_task(name): [name] for name in tasks} | ({"mean": known} if known else {})
    changed = [evidence.changes(of, names) for names in lines.values()]
    fig, ax = plotting.figure(height=1.6 + 0.72 * max(len(lines), 2))
    _side_by_side(ax, changed)
    title = ""
    if tasks:
        ax.set_yticks(range(len(lines)), lines)
        ax.set(xlabel="change of accuracy, points", ylim=(len(lines) - 0.5, -0.5))
        plotting.reference_line(ax, 0, "", axis="x")
        plotting.legend(ax)
        means = evidence.changes(of, known or tasks)
        said = {"act": "ACT", "prior": "a one-line prior correction", "first": "scaling the first token alone"}
        told = [f"{words} {100 * np.mean(means[one]):+.1f}" for one, words in said.items() if means[one] is not None]
        where = "tasks that the model knows" if known else "these tasks"
        title = f"Points of accuracy, mean over {where}: {', '.join(told)}"
    left_out = [_task(name) for name in tasks if known and name not in known]
    return Plot(
        fig,
        title=title,
        caption="Against the model as it is, on items that chose no heads, with 95 % intervals. “ACT on top” is "
        "against the corrected model. The prior of an option is its probability behind contents that say nothing; "
        "corrected, its logarithm is subtracted. “First token”: only the attention to it is scaled."
        + (f" Not in the mean, as the model does not know it: {', '.join(left_out)}." if left_out else ""),
        alt="Change of accuracy by task: with ACT, the prior corrected, both, and the first token alone scaled.",
    )


def _side_by_side(ax, changed: list[dict]) -> None:
    """A group for each of ``changed``, from the top: what each remedy changes there, with its interval."""
    for i, (label, remedy) in enumerate(REMEDIES.items()):
        shown = {at: stats.mean(100 * one[remedy]) for at, one in enumerate(changed) if one[remedy] is not None}
        if shown:
            ends = np.transpose([(one.value - one.low, one.high - one.value) for one in shown.values()])
            look = {"color": plotting.COLOURS[i], "markersize": 8, "capsize": 3, "linewidth": 1.8, "label": label}
            places = [at + 0.17 * (i - 1.5) for at in shown]
            ax.errorbar([one.value for one in shown.values()], places, xerr=ends, fmt=plotting.MARKERS[i], **look)


def shown_tasks(rows: list) -> list[str]:
    """The tasks that rows are of, in the page's order; a reader's own behind them."""
    names = {row.task for row in rows}
    return [name for name in SIX if name in names] + sorted(names - {*SIX})


def _task(name: str) -> str:
    return NAMES.get(name, name if "/" not in name else "own items")


def which_heads(rows: list) -> Plot:
    """Loss by which heads are calibrated, against the plain model."""
    of, tasks = Arms(rows), shown_tasks(rows)
    plain, shown = of(loss, "vanilla", tasks) if tasks else None, {}
    for label, arm in HEADS.items():
        values = of.random(loss, tasks) if arm == "random" else of(loss, arm, tasks)
        change = evidence.less(values, plain)
        if tasks and change is not None:
            shown[label] = stats.mean(change, unit="items")
    title = ""
    if {"top heads", "bottom heads"} <= shown.keys():
        top, bottom = (shown[label].value for label in ("top heads", "bottom heads"))
        title = f"Calibrating the top heads changes the loss by {top:+.2f} nats, the bottom heads by {bottom:+.2f}"
    return Plot(
        _intervals(shown, "change of the loss, nats (left: better)", 0),
        title=title,
        caption="Means over the items of all tasks with 95 % intervals, on items that chose no heads. Random heads: "
        "mean over their draws.",
        alt="Change of the loss by which heads are calibrated, with intervals.",
    )


def bias_or_not(rows: list) -> Plot:
    """Accuracy gained against area under the curve gained, by task."""
    of, tasks = Arms(rows), shown_tasks(rows)
    fig, ax = plotting.figure(height=3.8)
    points = {}
    for i, name in enumerate(tasks):
        gains = [of.gain(metric, [name]) for metric in (right, auc)]
        if all(gain is not None for gain in gains):
            points[name] = tuple(100 * float(gain.mean()) for gain in gains)
            ax.plot(*points[name], plotting.MARKERS[i % 7], color=plotting.COLOURS[i % 7], markersize=10)
            ax.annotate(_task(name), points[name], xytext=(7, 5), textcoords="offset points", fontsize=11)
    title = ""
    if points:
        plotting.reference_line(ax, 0, "")
        plotting.reference_line(ax, 0, "", axis="x")
        ax.set(xlabel="accuracy gained, points", ylabel="area under the curve, × 100")
        ax.margins(0.2)
        far = max(points, key=lambda name: abs(points[name][0] - points[name][1]))
        title = (
            f"On {_task(far)} ACT moves accuracy by {points[far][0]:+.1f} points and the area under the curve by "
            f"{points[far][1]:+.1f}"
        )
    return Plot(
        fig,
        title=title,
        caption="Each mark is a task. For sentiment the area is over pairs of tweets, and no threshold moves it. Where "
        "each item has options of its own, it is the share of wrong options that score below the right one.",
        alt="Scatter of accuracy gained against area under the curve gained, a mark for each task.",
    )


def grid(rows: list) -> Plot:
    """First-order effect of calibrating each head alone, mean over draws, a panel for each of two tasks."""
    scored = [row for row in rows if row.first_order is not None]
    names = shown_tasks(scored)
    names = [name for name in ("trivia", "sentiment") if name in names] or names[:2]
    fig, axes = plotting.figure(1, max(1, len(names)), height=4.6, squeeze=False)
    maps = {name: np.mean([row.first_order for row in scored if row.task == name], axis=0) for name in names}
    title = ""
    for ax, (name, effects) in zip(axes[0], maps.items(), strict=False):
        most = max(np.abs(effects).max(), 1e-9)
        image = ax.imshow(effects, aspect="auto", origin="lower", cmap="PuOr_r", vmin=-most, vmax=most)
        ax.set(xlabel="head", ylabel="layer", title=_task(name))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(visible=False)
        bar = fig.colorbar(image, ax=ax, location="bottom", pad=0.02)
        bar.set_label("nats an item")
        bar.outline.set_visible(False)
    if maps:
        allowed = method.calibrated_layers(*next(iter(maps.values())).shape).numpy()
        shares = [f"{100 * (effects[allowed] < 0).mean():.0f} % on {_task(name)}" for name, effects in maps.items()]
        title = f"Calibrated alone, the heads that lower the loss are {' and '.join(shares)}"
    return Plot(
        fig,
        title=title,
        caption="Effect of calibrating each head alone on the loss, to first order; below 0 it helps. The two bottom "
        "layers and the last are shown and not calibrated.",
        alt="Grid of heads by layer, coloured by the effect of calibrating each, a panel for each task.",
    )


def layers(by_model: dict) -> Plot:
    """Share of heads with a later sink at alpha 5, by layer, of prompts as they are, shuffled, and untrained."""
    fig, axes = plotting.figure(max(1, len(by_model)), 1, height=3.3 * max(1, len(by_model)), squeeze=False)
    told = ""
    for ax, (model, rows) in zip(axes[:, 0], by_model.items(), strict=False):
        series = {}
        for kind in ("task", "prose", "shuffled", "untrained"):
            some = [np.array(row.flagged) / row.heads for row in rows if row.kind == kind]
            if some:
                share = 100 * np.mean(some, axis=0)
                series[kind] = (np.arange(len(share)), share)
        if series:
            of_which = f" ({plotting.model_name(model)})" if len(by_model) > 1 else ""
            plotting.curves(ax, series, xlabel="layer", ylabel=f"later sink, % of heads{of_which}")
            ax.set_ylim(0, None)
            at = next(iter(series.values()))[1]
            low, middle = (evidence.average(some) for some in (at[:2], at[2:-1]))
            told = told or (
                f"In {plotting.model_name(model)} {low:.0f} % of the heads of the two bottom layers have a later sink, "
                f"above {middle:.0f} %"
            )
    return Plot(
        fig,
        title=told,
        caption=f"Mean over prompts of {_lengths(by_model)} tokens at alpha 5, the last five left out. Untrained: "
        "a network of the same make on the same prompts.",
        alt="Share of heads with a later sink by layer: tasks, prose, shuffled tokens, an untrained network.",
    )


def _lengths(by_model: dict) -> str:
    sizes = [row.tokens for rows in by_model.values() for row in rows]
    return f"{min(sizes)} to {max(sizes)}" if sizes else "no"


def maps(average: np.ndarray, words: list[str]) -> Plot:
    """The paper's picture: a map averaged over heads and layers, colours cut at a tenth; average (L, T, T)."""
    shown = average.mean(axis=0)
    fig, ax = plotting.figure(height=5.4)
    image = ax.imshow(shown, vmin=0, vmax=COLUMN)
    ax.grid(visible=False)
    share = np.array([shown[j:, j].mean() for j in range(len(shown))])
    later = share[1:-5]
    at = 1 + int(later.argmax()) if len(later) else 0
    marked = [0, at]
    ax.set_xticks(marked, [words[j] for j in marked], rotation=30, ha="right")
    ax.set(xlabel="key", ylabel="query")
    bar = fig.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label("attention")
    bar.outline.set_visible(False)
    return Plot(
        fig,
        title=f"The first token draws {100 * share[0]:.0f} % of the attention that could see it, "
        f"the strongest later one, “{words[at]}”, {100 * share[at]:.0f} %",
        caption="One prompt, heads and layers averaged, colours cut at 0.10 as in the authors' figure. The last five "
        "tokens do not count, as few queries see them.",
        alt="Map of attention of one prompt; two columns stand out and are named.",
    )


def variants(rows: list) -> Plot:
    """Loss with the method varied, against the plain model, on the tasks of which all variants are there."""
    of, shown = Arms(rows), {}
    plain = of(loss, "vanilla", VARIED)
    for arm, label in VARIANTS.items():
        change = evidence.less(of(loss, arm, VARIED), plain)
        if change is not None:
            shown[label] = stats.mean(change, unit="items")
    best = min(shown, key=lambda label: shown[label].value, default="")
    return Plot(
        _intervals(shown, "change of the loss, nats (left: better)", 0),
        title=f"Lowest loss: {best}, {shown[best].value:+.2f} nats against the plain model" if shown else "",
        caption="Four tasks, the top heads as chosen at alpha 5 and beta 0.4 (“ACT”), or all heads. Means over items "
        "with 95 % intervals.",
        alt="Change of the loss by variant of the method, with intervals.",
    )


VARIANTS = {
    "top": "ACT",
    "alpha_3": "alpha 3",
    "alpha_7": "alpha 7",
    "fixed": "threshold 0.1",
    "beta_0.2": "beta 0.2",
    "beta_0.6": "beta 0.6",
    "not_to_first": "first token gains nothing",
    "frozen": "another prompt's places",
    "all": "all heads",
    "towards_all": "all heads, towards sinks",
    "temperature_all": "all heads, temperature 1.1",
}


def first_order(rows: list) -> Plot:
    """First-order against exact effects of single heads."""
    fig, ax = plotting.figure(height=3.8)
    title = ""
    for i, (label, some) in enumerate(
        {"drawn at random": [r for r in rows if r.drawn], "top": [r for r in rows if r.chosen]}.items()
    ):
        if some:
            look = {"color": plotting.COLOURS[i], "markerfacecolor": "none", "markersize": 6}
            pairs = [[getattr(row, key) for row in some] for key in ("first_order", "exact")]
            ax.plot(*pairs, plotting.MARKERS[i], label=label, **look)
    if rows:
        ax.axline((0, 0), slope=1, color=plotting.SOFT, linewidth=1)
        ax.set(xlabel="first-order effect, nats", ylabel="exact effect, nats")
        plotting.legend(ax)
        same = np.mean([np.sign(row.first_order) == np.sign(row.exact) for row in rows])
        title = f"First-order and exact effects of a head agree in sign in {100 * same:.0f} % of {len(rows)} cases"
    return Plot(
        fig,
        title=title,
        caption="Each mark is a head calibrated alone, on items that chose no heads. The line: both are equal.",
        alt="Scatter of exact against first-order effects, random heads and top heads.",
    )


def _intervals(shown: dict, xlabel: str, at: float):
    fig, ax = plotting.figure(height=1.2 + 0.36 * max(len(shown), 3))
    if shown:
        plotting.interval_plot(ax, shown, xlabel=xlabel)
        plotting.reference_line(ax, at, "", axis="x")
    return fig
