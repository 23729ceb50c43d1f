"""Draws rows, with a title from the numbers drawn; computes means and intervals for drawing alone."""

from collections import Counter

import numpy as np
from matplotlib.ticker import MaxNLocator

from claimbook import plotting, stats
from claimbook.experiments.secondary_sinks import evidence
from claimbook.experiments.secondary_sinks.measure.changes import NO_OTHERS, NO_SINKS, UNCHANGED
from claimbook.experiments.secondary_sinks.stored import TIMES
from claimbook.plotting import Plot, model_name

BLANKS = {" ": "space", "\n": "newline", "\t": "tab"}


def word(text: str) -> str:
    """A token as it can be read in a figure or in prose."""
    return BLANKS.get(text, text.strip() or repr(text)[1:-1])


def commonest_words(sinks: list[dict], count: int = 3) -> str:
    """The tokens that are sinks most often, with their shares, in words."""
    words = Counter(word(sink["text"]) for sink in sinks)
    some = [(one, 100 * times / len(sinks)) for one, times in words.most_common(count)]
    named = {"space": "the space character"}
    return ", ".join(f"{named.get(one, f'“{one}”')} ({share:.0f} %)" for one, share in some if share >= 1)


def panels(count: int, height: float):
    """A figure with one panel above the other for each model, and these axes."""
    fig, axes = plotting.figure(max(count, 1), 1, height=height * max(count, 1), squeeze=False)
    return fig, list(axes[:, 0])


def named(ax, model: str) -> None:
    """The name of a model in a corner that its curves leave free, and whole numbers for layers."""
    ax.text(0.985, 0.04, model_name(model), transform=ax.transAxes, ha="right", va="bottom", fontsize=12)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def lives(by_model):
    """Norms by layer: the primary, the longest sinks of every text, the median token; where the official rule looks."""
    fig, axes = panels(len(by_model), 3.7)
    for ax, (model, rows) in zip(axes, by_model.items(), strict=True):
        for norms in (norms for row in rows for norms in row.norms):
            ax.plot(norms, color=plotting.COLOURS[1], linewidth=0.8, alpha=0.45, zorder=1)
        ax.plot([], color=plotting.COLOURS[1], label="sinks of our rule")
        means = {"primary": [row.primary["norm"] for row in rows], "median token": [row.median_norm for row in rows]}
        looks = ({"color": plotting.COLOURS[0]}, {"color": plotting.INK, "linestyle": plotting.LINES[1]})
        for (label, norms), look in zip(means.items(), looks, strict=True):
            ax.plot(np.exp(np.log(norms).mean(axis=0)), label=label, **look)
        start, end = window(rows)
        ax.axvspan(start - 0.5, end - 0.5, color=plotting.COLOURS[2], alpha=0.12, label="official rule looks here")
        ax.set(yscale="log", xlabel="layer", ylabel="norm of the state")
        plotting.plain_ticks(ax.yaxis)
        ax.yaxis.set_major_formatter("{x:,.0f}")
        named(ax, model)
    plotting.legend(axes[0])
    model, rows = next(iter(by_model.items()))
    counts = Counter(evidence.starts(rows))
    most = f"start in layer {evidence.commonest(counts.elements())}" if counts else "are not there"
    return Plot(
        fig,
        title=f"{model_name(model)}'s later sinks {most}, and the authors' rule looks from layer {window(rows)[0]} on",
        caption="Length of a token's state by layer, on a logarithmic axis: the first token (mean over texts), the "
        "three longest sinks that our rule finds in each text, and the median of all tokens.",
        alt="Norms by layer for each model: primary, sinks of our rule, median token, and the shaded layers in which "
        "the official rule looks.",
    )


def window(rows) -> tuple[int, int]:
    """Where the official rule looks: first layer, and the first behind, median over texts."""
    return tuple(int(np.median([row.primary[edge] for row in rows])) for edge in ("start", "end"))


def thresholds(by_model):
    """Sinks of a text by threshold of our rule, mean with interval, and how far two thresholds agree."""
    fig, ax = plotting.figure(height=3.4)
    for i, (model, rows) in enumerate(by_model.items()):
        counts = np.array([[row.rules[f"{k} x"]["secondary"] for k in TIMES] for row in rows])
        look = {"color": plotting.COLOURS[i], "linestyle": plotting.LINES[i], "marker": plotting.MARKERS[i]}
        ax.plot(TIMES, counts.mean(axis=0), label=model_name(model), **look)
    ax.set(xlabel="threshold, times the median norm", ylabel="sinks in a text", ylim=(0, None))
    ax.set_xticks(TIMES)
    plotting.legend(ax)
    rows = next(iter(by_model.values()))
    counts = [np.mean([row.rules[f"{k} x"]["secondary"] for row in rows]) for k in (TIMES[0], TIMES[-1])]
    return Plot(
        fig,
        title=f"How many sinks there are is a matter of the threshold: {counts[0]:.0f} in a text of "
        f"{model_name(next(iter(by_model)))} at {TIMES[0]} times the median, {counts[1]:.0f} at {TIMES[-1]}",
        caption="Mean over texts of the tokens that our rule flags and labels secondary, by its threshold.",
        alt="Number of sinks in a text against the threshold of our rule, a line for each model.",
    )


def levels(by_model):
    """How many sinks have each start and lifetime; a logarithm, as in the repository's figure."""
    fig, axes = plotting.figure(1, max(len(by_model), 1), height=4.2, squeeze=False)
    told = []
    for ax, (model, rows) in zip(axes[0], by_model.items(), strict=True):
        size = len(rows[0].median_norm)
        counts = np.zeros((size, size))
        for start, life in zip(evidence.starts(rows), evidence.lifetimes(rows), strict=True):
            counts[life, start] += 1
        shown = np.where(counts, np.log10(counts.clip(min=1)), np.nan)
        top = max(1.0, float(np.log10(counts.max() + 1)))
        image = ax.imshow(shown, aspect="auto", origin="lower", vmin=0, vmax=top)
        ax.set(xlabel="start, layer", ylabel="lifetime, layers", title=model_name(model))
        ax.title.set_fontsize(12)
        bar = fig.colorbar(image, ax=ax, location="bottom", pad=0.02, ticks=range(int(top) + 1))
        bar.ax.set_xticklabels([f"{10**power:,}" for power in range(int(top) + 1)])
        bar.set_label("sinks")
        bar.outline.set_visible(False)
        first = Counter(evidence.starts(rows)).most_common(1)
        told += [
            f"{100 * n / counts.sum():.0f} % of {model_name(model)}'s sinks start in layer {at}" for at, n in first
        ]
    return Plot(
        fig,
        title="; ".join(told),
        caption="Sinks of our rule by the first layer after which they are one and the number of such layers, what the "
        "paper calls a level. All texts together.",
        alt="Heat maps of starts and lifetimes, one for each model.",
    )


def formation(by_model):
    """Cosines of what the start layer writes with the primary's direction, for sinks and like tokens."""
    shown = {}
    for model, rows in by_model.items():
        for half, words in (("feed_forward", "feed-forward"), ("attention", "attention")):
            key = f"{half}_cosine"
            for whom, of in (("sinks", lambda sink: sink), ("like tokens", lambda sink: sink["like"])):
                found = evidence.over_texts(
                    rows,
                    lambda row, of=of, key=key: _mean(one[key] for sink in row.sinks if (one := of(sink))),
                    (-1.0, 1.0),
                )
                if found:
                    shown[f"{model_name(model)}: {words}, {whom}"] = found
    fig, ax = plotting.figure(height=1.2 + 0.42 * max(len(shown), 3))
    if shown:
        plotting.interval_plot(ax, shown, xlabel="cosine with the primary")
        ax.set_xlim(-1.05, 1.05)
    first = list(shown.values())[:3]
    title = ""
    if len(first) == 3:
        own, like, attention = (one.value for one in first)
        title = (
            f"In {model_name(next(iter(by_model)))} the feed-forward write of a sink points the primary's way "
            f"(cosine {own:.2f}); attention's does not ({attention:.2f}), nor that of a like token ({like:.2f})"
        )
    return Plot(
        fig,
        title=title,
        caption="Writes in the layer where a sink starts, for sinks and for the same token elsewhere; means over texts "
        "with 95 % intervals.",
        alt="Intervals of cosines with the primary's direction, by model, half of the layer, and kind of token.",
    )


def told_apart(by_model):
    """How often a linear probe is right, layer by layer, beside position alone and shuffled labels."""
    shown = {}
    for model, rows in by_model.items():
        if not rows:
            continue
        read = {
            f"attention, layer {rows[0].first + i}": [row.attention[i] for row in rows] for i in range(_width(rows))
        }
        read |= {
            "feed-forward, what enters": [row.enters for row in rows],
            "feed-forward, what it writes": [row.feed_forward for row in rows],
            "waves of position": [row.waves for row in rows],
            "shuffled labels": [row.shuffled for row in rows],
        }
        shown |= {f"{model_name(model)}: {name}": _share(values) for name, values in read.items()}
    fig, ax = plotting.figure(height=1.2 + 0.38 * max(len(shown), 3))
    title = ""
    if shown:
        plotting.interval_plot(ax, shown, xlabel="share of pairs told right")
        plotting.reference_line(ax, 0.5, "chance", axis="x")
        model, rows = next((model, rows) for model, rows in by_model.items() if rows)
        first, last = (np.mean([row.attention[at] for row in rows]) for at in (0, -1))
        title = (
            f"In {model_name(model)} attention tells a sink from the same token elsewhere {100 * first:.0f} % of the "
            f"time in layer {rows[0].first}, {100 * last:.0f} % in the layer where sinks start"
        )
    return Plot(
        fig,
        title=title,
        caption="A linear probe made on all other texts, position regressed out, ranks a text's sinks and like tokens. "
        "Means over texts with 95 % intervals.",
        alt="Intervals of how often a probe is right, a row for each thing it looks at.",
    )


def _width(rows) -> int:
    return len(rows[0].attention)


def _share(values) -> stats.Estimate:
    return stats.mean(values, unit="texts", within=(0.0, 1.0))


def score_by_norm(by_model):
    """Attention that each sink draws, against the norm of the write that made it, over its median."""
    fig, ax = plotting.figure(height=3.8)
    for i, (model, rows) in enumerate(by_model.items()):
        sinks = [sink for row in rows for sink in row.sinks]
        if sinks:
            written, given = (np.array([sink[key] for sink in sinks]) for key in ("feed_forward_norm", "given"))
            look = {"color": plotting.COLOURS[i], "markerfacecolor": "none", "markersize": 4.5, "alpha": 0.7}
            ax.plot(written / np.median(written), 100 * given, plotting.MARKERS[i], label=model_name(model), **look)
    if ax.lines:
        ax.set(xscale="log", yscale="log", xlabel="norm of the write, over its median", ylabel="attention drawn, %")
        plotting.plain_ticks(ax.xaxis)
        plotting.plain_ticks(ax.yaxis)
        plotting.legend(ax)
    found = [evidence.follows_norm(row.sinks) for row in next(iter(by_model.values()))]
    there = [one for one in found if one is not None]
    told = f": rank correlation {np.mean(there):.2f} within a text" if there else ""
    return Plot(
        fig,
        title=f"Longer writes go with more attention in {model_name(next(iter(by_model)))}{told}",
        caption="Each mark is a sink. The correlation is the mean over texts, position held fixed.",
        alt="Scatter of the attention that sinks draw against the norm of their write, both logarithmic, by model.",
    )


def scaling(by_model):
    """Attention to a sink whose write is scaled or turned, over what it drew: means over texts with intervals."""
    fig, ax = plotting.figure(height=3.8)
    told = ""
    for i, (model, rows) in enumerate(by_model.items()):
        some = [row for row in rows if row.scaled]
        if not some:
            continue
        once = [next(one["given"] for one in row.scaled if one["factor"] == 1.0) for row in some]
        curve = {one["factor"]: evidence.ratio((row.scaled[j]["given"] for row in some), once)
                 for j, one in enumerate(some[0].scaled)}  # fmt: skip
        turned = evidence.ratio((row.turned["at right angles"] for row in some), once)
        look = {"color": plotting.COLOURS[i], "capsize": 4}
        ax.errorbar(
            [*curve],
            [one.value for one in curve.values()],
            yerr=_arms(curve.values()),
            marker=plotting.MARKERS[i],
            linestyle=plotting.LINES[i],
            label=model_name(model),
            **look,
        )
        ax.errorbar([1 + 0.12 * (i + 1)], [turned.value], yerr=_arms([turned]), marker="x", markersize=10, **look)
        told = told or (
            f"Without its write a sink of {model_name(model)} keeps {100 * curve[0.0].value:.0f} % of its attention, "
            f"with it turned to right angles {100 * turned.value:.0f} %, with four times it "
            f"{100 * curve[4.0].value:.0f} %"
        )
    if ax.lines:
        ax.set(xlabel="the write of a sink, times", ylabel="attention, over unchanged")
        plotting.reference_line(ax, 1, "")
        plotting.legend(ax)
    return Plot(
        fig,
        title=told,
        caption="The sink with the median write of each text. Crosses: as long a write, at right angles to the "
        "primary's direction. Ratios of means over texts with 95 % intervals.",
        alt="Attention to a sink over what it drew unchanged, against the factor by which its write is scaled.",
    )


def _arms(found) -> np.ndarray:
    """Arms of intervals below and above, (2, n); none where there is no interval."""
    arms = [[one.value - one.low, one.high - one.value] for one in found]
    return np.nan_to_num(np.array(arms)).T


def primary(by_model):
    """Attention to the primary by layer: as it is, without the sinks' writes, without others'."""
    shown = {model: [row for row in rows if row.primary] for model, rows in by_model.items()}
    shown = {model: rows for model, rows in shown.items() if rows}
    fig, axes = panels(len(shown), 3.6)
    names = {UNCHANGED: "as it is", NO_SINKS: NO_SINKS, f"{NO_SINKS}, in proportion": "shared in proportion"}
    names |= {NO_OTHERS: "without other tokens"}
    told = ""
    for ax, (model, rows) in zip(axes, shown.items(), strict=False):
        means = {name: 100 * np.mean([row.primary[name] for row in rows], axis=0) for name in names}
        series = {names[name]: (np.arange(len(mean)), mean) for name, mean in means.items()}
        plotting.curves(ax, series, xlabel="layer", ylabel="attention to the primary, %")
        counts = Counter(layer for row in rows for layer in row.meets)
        most = [layer for layer, count in counts.items() if count >= len(rows) / 2]
        if most:
            ax.axvspan(min(most) - 0.5, max(most) + 0.5, color=plotting.COLOURS[1], alpha=0.10)
            with_them, without = (means[name][most].mean() for name in (UNCHANGED, NO_SINKS))
            told = told or (
                f"In the layers that meet {model_name(model)}'s sinks the primary draws {with_them:.0f} % of the "
                f"attention, and {without:.0f} % once their writes are taken away"
            )
        ax.set_ylim(0, None)
        if ax is not axes[0]:
            ax.get_legend().remove()
        named(ax, model)
    return Plot(
        fig,
        title=told,
        caption="Mean over the beginnings of texts, heads and queries. Shaded: layers that meet sinks in most texts. "
        "“Shared in proportion”: what the primary would draw had all others gained alike.",
        alt="Attention to the primary by layer under three interventions, a panel for each model.",
    )


def directions(by_model):
    """Cosine with the primary's write of what the layer makes of each signed principal direction, sorted."""
    fig, ax = plotting.figure(height=3.4)
    series, told = {}, ""
    for model, rows in by_model.items():
        for row in rows:
            cosines = np.sort(row.cosines)[::-1]
            series[model_name(model)] = (100 * np.arange(1, len(cosines) + 1) / len(cosines), cosines)
            told = told or (
                f"Beyond 0.98: {int((np.abs(cosines) > 0.98).sum())} of {model_name(model)}'s {len(cosines)} signed "
                f"directions, the nearest at {np.abs(cosines).max():.3f}"
            )
    if series:
        plotting.curves(ax, series, xlabel="signed directions, sorted, %", ylabel="cosine with the primary's write")
        for value in (0.98, -0.98):
            plotting.reference_line(ax, value, f"{value}")
        ax.set_ylim(-1.1, 1.15)
    return Plot(
        fig,
        title=told,
        caption="Principal directions of what enters the layer for sinks and like tokens, each fed to it alone, both "
        "ways round.",
        alt="Sorted cosines of the layer's output with the primary's write, a line for each model.",
    )


def keys_and_values(by_model):
    """Norms of keys and values over ordinary ones: of sinks, of the primary, and of writes at right angles."""
    shown, told = {}, ""
    for model, rows in by_model.items():
        norms = [row.norms for row in rows if row.norms]
        if not norms:
            continue
        usual = [one["ordinary_value"] for one in norms]
        values = {words: evidence.ratio((one[key] for one in norms), usual) for key, words in
                  (("value", "value of a sink"), ("turned_value", "value, write at right angles"))}  # fmt: skip
        keys = {words: stats.mean([one[key] for one in norms], unit="texts") for key, words in
                (("key", "key of a sink"), ("turned_key", "key, write at right angles"),
                 ("primary_key", "key of the primary"))}  # fmt: skip
        shown |= {f"{model_name(model)}: {words}": found for words, found in (values | keys).items()}
        own, turned = (one.value for one in values.values())
        told = told or (
            f"The value of a sink of {model_name(model)} is {own:.2f} times as long as an ordinary one; with its write "
            f"at right angles it is {turned:.2f} times"
        )
    fig, ax = plotting.figure(height=1.2 + 0.4 * max(len(shown), 3))
    if shown:
        plotting.interval_plot(ax, shown, xlabel="norm, ordinary tokens = 1")
        plotting.reference_line(ax, 1, "ordinary", axis="x")
    return Plot(
        fig,
        title=told,
        caption="In the layers of a sink's life; means over texts with 95 % intervals.",
        alt="Intervals of norms of values and keys over those of ordinary tokens, by model.",
    )


def _mean(values) -> float | None:
    there = list(values)
    return float(np.mean(there)) if there else None
