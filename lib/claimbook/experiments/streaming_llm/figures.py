"""Draws rows, with a title from the numbers drawn; computes means and intervals for drawing alone."""

from itertools import pairwise

import numpy as np

from claimbook import plotting, stats
from claimbook.experiments.streaming_llm import evidence
from claimbook.experiments.streaming_llm.measure import documents, kept
from claimbook.experiments.streaming_llm.stored import STORED
from claimbook.experiments.units import columns
from claimbook.plotting import Plot


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of values (units, n) with the ends of its 95 % interval (normal approximation)."""
    middle, half = values.mean(axis=0), 1.96 * values.std(axis=0, ddof=1) / np.sqrt(max(len(values), 2))
    return middle, middle - half, middle + half


def intervals(shown, xlabel: str, at: float | None = None, label: str = "", height: float = 3.2):
    """Estimates with their intervals, top to bottom, and a line at what they are compared with."""
    fig, ax = plotting.figure(height=height)
    if shown:
        plotting.interval_plot(ax, shown, xlabel=xlabel)
    if shown and at is not None:
        plotting.reference_line(ax, at, label, axis="x")
    return fig


def eviction(rows):
    """Loss over dense around the first eviction, window and streaming."""
    fig, ax = plotting.figure()
    losses = columns(row.eviction for row in rows)
    bins = losses["dense"].shape[1]
    steps = STORED["documents"].config["bin"] * (np.arange(bins) - bins / 2 + 0.5)
    names = {"0": "window 0+256", "4": "StreamingLLM 4+252"}
    series = {label: (steps, *band(losses[key] - losses["dense"])) for key, label in names.items()}
    plotting.curves(ax, series, xlabel="tokens after the first eviction", ylabel="loss over dense, nats")
    plotting.reference_line(ax, 0, "first eviction", axis="x")
    jump = {label: mean[steps > 0].mean() - mean[steps < 0].mean() for label, (_, mean, *_) in series.items()}
    window, streaming = jump.values()
    return Plot(
        fig,
        title=f"When the first tokens go, a plain window loses {window:.2f} nats, StreamingLLM {streaming:.2f}",
        caption="Loss minus that of dense attention on the same tokens: mean over documents with its 95 % interval. "
        "Left of the line nothing has been evicted yet.",
        alt="Loss over dense attention against tokens after the first eviction, window and StreamingLLM. Left of the "
        "eviction both are equal.",
    )


def schemes(rows, others):
    """Perplexity over that with four sinks, by how many and which tokens are kept."""
    labels = {"0": "none", "1": "the first", "2": "the first 2", "8": "the first 8"}
    labels |= {kept.UNSHIFTED: "the first 4, at text positions", kept.STARTED: "start token, 3 newlines"}
    shown = {}
    for found in (rows, others):  # each compared with four sinks on its own documents
        loss = columns(row.loss for row in found)
        names = [name for name in loss if name not in ("dense", "4")]
        shown |= {labels.get(name, name): evidence.over(loss[name], loss["4"]) for name in names}
    fig = intervals(shown, "perplexity, the first 4 = 1 (log scale)", at=1, height=3.8)
    none, newlines = shown["none"].value, shown[documents.NEWLINES].value
    middle = f", with four from its middle {shown[kept.MIDDLE].value:.2f}" if kept.MIDDLE in shown else ""
    return Plot(
        fig,
        title=f"Keep the first four tokens of a text, and call that perplexity 1: without them it is {none:.2f}, "
        f"with four newlines in their place {newlines:.2f}{middle}",
        caption="Each row names the tokens that never leave the cache; the rest of its 256 are the most recent. Means "
        "over documents with 95 % intervals.",
        alt="Intervals of perplexity relative to that with the first four tokens kept, a row for each choice of kept "
        "tokens.",
    )


def recomputed(rows):
    """Loss minus that of recomputation, by scheme, with the region that C8 accepts."""
    again = columns(row.recomputed for row in rows)
    gaps = {
        label: stats.paired_difference(again[key], again["recompute"], unit="documents")
        for label, key in {"window": "0", "StreamingLLM": "4", "dense": "dense"}.items()
    }
    fig = intervals(gaps, "loss minus that of recomputation, nats", height=2.8)
    plotting.region(fig.axes[0], -0.05, 0.05)
    window, streaming = gaps["window"].value, gaps["StreamingLLM"].value
    return Plot(
        fig,
        title=f"Against recomputing each window, a plain window loses {window:.2f} nats, StreamingLLM {streaming:.3f}",
        caption="The same sampled positions under each scheme, with the same number of visible tokens; dense sees all. "
        "The hatched band is what C8 accepts.",
        alt="Loss minus that of recomputation for window, StreamingLLM and dense attention, with intervals.",
    )


def cache_sizes(rows, long_rows):
    """Perplexity ratio of each doubling of the cache, short documents and long ones."""
    shown = {}
    for loss in (columns(row.loss_by_size for row in rows), columns(row.loss for row in long_rows)):
        for a, b in pairwise(sorted(loss, key=int)):
            shown[f"{int(b):,} over {int(a):,}"] = evidence.over(loss[b], loss[a])
    last = next(reversed(shown), None)
    return Plot(
        intervals(shown, "perplexity ratio of two caches (log scale)", at=1),
        title=f"The last doubling, {last} tokens, gives {shown[last].value:.3f} times the perplexity" if last else "",
        caption="Below 1 the larger cache is better. Each pair is measured on the same documents.",
        alt="Perplexity ratio of each doubling of the cache, with intervals and a line at one.",
    )


def first_tokens(rows):
    """Attention to each of the first four tokens by layer."""
    mass = columns(row.to_first_keys for row in rows) if rows else np.empty((0, 0, 0))  # (documents, layers, keys)
    layers = np.arange(mass.shape[1])
    series = {f"token {i}": (layers, mass[:, :, i].mean(axis=0)) for i in range(mass.shape[2])}
    fig, ax = plotting.figure()
    plotting.curves(ax, series, xlabel="layer, from 0", ylabel="attention, mean over heads")
    plotting.reference_line(ax, evidence.HEAVY, "bound of C6")
    return Plot(
        fig,
        title=f"Above the two bottom layers the first token takes {100 * mass[:, 2:, 0].mean():.0f} % of all attention"
        if rows
        else "",
        caption="Means over heads, documents and the queries past the first half of each document.",
        alt="Attention to each of the first four tokens by layer.",
    )


def maps(passages: np.ndarray):
    """Mean attention maps (L, T, T) of the bottom two layers and two above."""
    count = len(passages)
    chosen = [min(layer, count - 1) for layer in (0, 1, count // 3, 2 * count // 3)]
    fig, axes = plotting.figure(1, 4, height=2.3, sharey=True)
    for ax, layer in zip(axes, chosen, strict=True):
        ax.imshow(passages[layer], vmin=0, vmax=1)
        ax.set(title=f"layer {layer}", xlabel="key", xticks=[0, passages.shape[1] - 1])
        ax.grid(visible=False)
    axes[0].set_ylabel("query")
    first = {layer: 100 * passages[layer, 1:, 0].mean() for layer in chosen}
    return Plot(
        fig,
        title=f"The first key draws {first[chosen[0]]:.0f} % in layer {chosen[0]}, "
        f"{first[chosen[-1]]:.0f} % in layer {chosen[-1]}",
        caption=f"Attention in passages of {passages.shape[1]} tokens, mean over heads and passages. Bright is much.",
        alt="Four square maps of attention, queries downwards and keys to the right, one for each of four layers.",
    )


def two_models(by_model, watched):
    """Window, one sink and newlines over four sinks, and attention to token 0 by depth, model by model."""
    fig, (above, below) = plotting.figure(2, 1, height=6.4)
    effects = {"window": "0", "1 sink": "1", "4 newlines": documents.NEWLINES}
    bars = {}
    for label, key in effects.items():
        for model, rows in by_model.items():
            loss = columns(row.loss for row in rows)
            bars[f"{label}, {plotting.model_name(model)}"] = evidence.over(loss[key], loss["4"])
    plotting.interval_plot(above, bars, xlabel="perplexity, four sinks = 1 (log scale)")
    plotting.reference_line(above, 1, "", axis="x")
    series = {}
    for model, rows in ((model, rows) for model, rows in watched.items() if rows):
        mass = columns(row.to_first_keys for row in rows)[:, :, 0].mean(axis=0)
        series[plotting.model_name(model)] = (np.linspace(0, 1, len(mass)), mass)
    plotting.curves(below, series, xlabel="depth, first to last layer", ylabel="attention to token 0")
    windows = [
        f"{plotting.model_name(model)} {bars[f'window, {plotting.model_name(model)}'].value:.2f}" for model in by_model
    ]
    return Plot(
        fig,
        title=f"Perplexity of a plain window, where four sinks give 1: {', '.join(windows)}",
        caption="Above: means over documents with 95 % intervals. Below: mean over heads and documents.",
        alt="Above, intervals of the perplexity of a plain window, one sink and four newlines by model. Below, the "
        "share of attention that goes to the first token by depth.",
    )


def encoder(rows):
    """Attention to [SEP] and [CLS] by layer, in even shares."""
    fig, ax = plotting.figure(height=3.0)
    title = ""
    if rows:
        drawn = {f"[{name.upper()}]": columns(getattr(row, name) for row in rows) for name in ("sep", "cls")}
        series = {name: (np.arange(values.shape[1]), values.mean(axis=0)) for name, values in drawn.items()}
        plotting.curves(ax, series, xlabel="layer", ylabel="attention, in even shares")
        plotting.reference_line(ax, 1, "an even share")
        means = [f"{name} {values[:, 2:].mean():.1f}" for name, values in drawn.items()]
        title = f"Even shares of attention above the two bottom layers of MiniLM: {', '.join(means)}"
    return Plot(
        fig,
        title=title,
        caption="An even share is what each token would get if all got the same. Means over heads and texts.",
        alt="Attention to the tokens SEP and CLS by layer, in even shares.",
    )


def past_window(rows):
    """Dense minus streaming by distance past the trained window."""
    fig, ax = plotting.figure()
    if rows:
        at, excess = past(rows)
        xlabel = "tokens past the trained window"
        plotting.curves(ax, {"dense minus streaming": (at, *band(excess))}, xlabel=xlabel, ylabel="loss, nats")
        plotting.reference_line(ax, 0, "trained window ends", axis="x")
    far = doubled(rows)
    return Plot(
        fig,
        title=f"Dense perplexity has doubled over streaming {far:,.0f} tokens past the trained window" if far else "",
        caption="Loss of dense attention minus that of StreamingLLM on the same tokens; mean over documents with its "
        "95 % interval. Dense is better where the curve lies below zero.",
        alt="Loss of dense attention minus that of streaming, by distance from the end of the trained window.",
    )


def past(rows) -> tuple[np.ndarray, np.ndarray]:
    """Tokens past the window (n,), and dense minus streaming loss (documents, n)."""
    config, excess = (
        STORED["beyond"].config,
        columns(row.dense for row in rows) - columns(row.streaming for row in rows),
    )
    return config["bin"] * (np.arange(excess.shape[1]) + 0.5) - config["margin"], excess


def doubled(rows) -> float | None:
    """Tokens past the window at which dense over streaming has doubled against inside it; None where it has not."""
    if not rows:
        return None
    at, excess = past(rows)
    middle = excess.mean(axis=0)
    twice = middle - middle[at < 0].mean() > np.log(2)
    return float(at[twice].min()) if twice.any() else None


def far_sinks(rows):
    """Perplexity with the sinks at each text distance over that at cache distance."""
    far = evidence.far_sinks(rows) if rows else {}
    shown = {f"{position:,} tokens away": ratio for position, ratio in far.items()}
    fig = intervals(shown, "perplexity, cache distance = 1 (log scale)", at=1, label="")
    worst = max(far, key=lambda position: far[position].value, default=None)
    title = f"Sinks that seem {worst:,} tokens away: {far[worst].value:.1f} times the perplexity" if far else ""
    return Plot(
        fig,
        title=title,
        caption="The same tokens are kept; only the distance at which the sinks seem to stand is changed.",
        alt="Perplexity with the sinks at several distances, relative to that at cache distance, with intervals.",
    )


def long_stream(stream, again):
    """Loss along a stream, and its distance from recomputation: the curves of both stored runs, {} where missing."""
    fig, (above, below) = plotting.figure(2, 1, height=5.4, sharex=True)
    title = ""
    if stream and again:
        loss, gaps = np.asarray(stream["loss"]), np.subtract(stream["sampled"], again["loss"])
        millions = np.arange(1, len(loss) + 1) * STORED["stream_4m"].config["block"] / 1e6
        averaged = [[piece.mean() for piece in np.array_split(values, 100)] for values in (millions, loss)]
        plotting.curves(above, {"StreamingLLM, all text": averaged}, xlabel="", ylabel="loss, nats")
        places, parts = (np.array_split(values, 16) for values in (np.divide(again["target"], 1e6), gaps))
        spread = [1.96 * part.std(ddof=1) / np.sqrt(len(part)) for part in parts]
        at, means = [place.mean() for place in places], [part.mean() for part in parts]
        below.errorbar(at, means, yerr=spread, fmt="o", capsize=4, color=plotting.COLOURS[1])
        below.set(xlabel="tokens read, millions", ylabel="minus recomputed", ylim=(-0.2, 0.2))
        plotting.reference_line(below, 0, "")
        title = f"Over {millions[-1]:,.3g} million tokens streaming lies {gaps.mean():+.3f} nats from recomputation"
    return Plot(
        fig,
        title=title,
        caption="Above: loss of the stream. Its steps are changes of text. Below: streaming minus recomputation at "
        "sampled places, in sixteen pieces with 95 % intervals.",
        alt="Above, loss along a long stream. Below, streaming minus recomputation along it, with intervals.",
    )


def costs(stored):
    """Time of a token by cache size, and by how much text went before."""
    fig, axes = plotting.figure(2, 1, height=6.4)
    if stored is not None:
        plots = {"cache, tokens": {"recompute": "recomputation", "stream": "StreamingLLM"}}
        plots["text so far, tokens"] = {"dense": "dense", "late": "StreamingLLM"}
        for ax, (xlabel, arms) in zip(axes, plots.items(), strict=True):
            series = {label: times(stored["curves"], arm) for arm, label in arms.items()}
            plotting.curves(ax, series, xlabel=xlabel, ylabel="ms per token")
            sizes = stored["config"]["caches"]
            ax.set(xscale="log", yscale="log")
            ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
            ax.minorticks_off()
            plotting.plain_ticks(ax.yaxis)
    return Plot(
        fig,
        title=_speedup(stored),
        caption="Medians of rounds with their quartiles, both axes logarithmic. Above: the next token from a full "
        "cache. Below: a step at that place in the text, with a cache of 256 for StreamingLLM.",
        alt="Above, milliseconds per token against cache size, recomputation and StreamingLLM. Below, against the text "
        "so far, dense and StreamingLLM.",
    )


def _speedup(stored) -> str:
    """By how much a streaming step is faster at the largest cache; nothing where no times are stored."""
    if stored is None:
        return ""
    size = max(stored["config"]["caches"])
    ratio = np.median(stored["curves"][f"recompute/{size}"]) / np.median(stored["curves"][f"stream/{size}"])
    return f"With a cache of {size:,} tokens, recomputing takes {ratio:.0f} times as long as a streaming step"


def times(seconds: dict[str, list[float]], arm: str) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """Sizes of an arm with the median time in ms and its quartiles."""
    sizes = sorted(int(name.split("/")[1]) for name in seconds if name.startswith(f"{arm}/"))
    rounds = np.array([seconds[f"{arm}/{size}"] for size in sizes])
    low, middle, high = 1000 * np.quantile(rounds, [0.25, 0.5, 0.75], axis=1)
    return sizes, middle, low, high


def sink_tokens(arms):
    """Toys: perplexity by how many initial tokens are kept, and where idle queries look."""
    fig, axes = plotting.figure(2, 1, height=6.6)
    words = {
        "caption": "Above: means over seeds. Below: where queries look that have nothing to look up; the rest goes to "
        "all other symbols.",
        "alt": "Toys. Above, streaming perplexity against the number of initial tokens kept, for four ways of training."
        " Below, the attention of idle queries to the sink token and to the first two symbols.",
    }
    if not arms:
        return Plot(fig, **words)
    kept = ["0", "1", "2", "4"]
    for i, (name, rows) in enumerate(arms.items()):
        streaming = columns(row["streaming"] for row in rows)
        look = {"marker": plotting.MARKERS[i], "linestyle": plotting.LINES[i], "label": name}
        axes[0].plot(range(4), [np.exp(streaming[count].mean()) for count in kept], **look)
    axes[0].set(xticks=range(4), xticklabels=kept, xlabel="initial tokens kept", ylabel="perplexity, streaming")
    idle = {name: columns(row["idle"] for row in rows) for name, rows in arms.items()}
    y, left = np.arange(len(idle)), np.zeros(len(idle))
    for what, colour, hatch in (("sink_tokens", 0, ""), ("first_symbols", 1, "//")):
        widths = np.array([one[what].mean() for one in idle.values()])
        label = what.replace("_", " ").replace("first symbols", "first two symbols")
        axes[1].barh(y, widths, left=left, color=plotting.COLOURS[colour], hatch=hatch, label=label)
        left += widths
    axes[1].set(yticks=y, yticklabels=idle, xlabel="attention of idle queries")
    for ax in axes:
        plotting.legend(ax)
    drawn = 100 * idle["one sink token"]["sink_tokens"].mean()
    return Plot(fig, title=f"In toys trained with one sink token it draws {drawn:.0f} % of idle attention", **words)


def facts(rows):
    """Share of right choices by how far back the fact is, in tokens: a point for each band that was asked for."""
    fig, ax = plotting.figure(height=3.2)
    title = ""
    if rows:
        bands = STORED["recall"].config["bands"]
        series = {}
        for label, scheme in (("dense", "dense"), ("StreamingLLM 4+252", "streaming")):
            shares = [evidence.found(rows, scheme, *band) for band in bands]
            ends = [[getattr(share, end) for share in shares] for end in ("value", "low", "high")]
            series[label] = ([sum(band) / 2 for band in bands], *ends)
        plotting.curves(ax, series, xlabel="distance to the fact, tokens", ylabel="right of ten candidates")
        plotting.reference_line(ax, evidence.RECENT, "edge of the cache", axis="x")
        right = 100 * np.array(series["StreamingLLM 4+252"][1])
        title = f"A rolling cache finds {right[0]:.0f} % of the nearest facts, {right[-1]:.0f} % of the evicted ones"
    plotting.reference_line(ax, 0.1, "chance")
    ax.set_ylim(0, 1.02)
    return Plot(
        fig,
        title=title,
        caption="A point for each band of distances, with its exact 95 % interval. A fact is a word in a named line.",
        alt="Share of right answers among ten against the distance to the fact, dense attention and StreamingLLM, with "
        "the edge of the cache and the line of chance.",
    )


def questions(rows):
    """Share of ARC-Easy questions right, one at a time and in a stream."""
    names = {"one_shot": "one example", "streaming": "StreamingLLM 4+252", "window": "window 0+256"}
    names["blind"] = "options alone"
    shares = {
        label: stats.mean(columns(np.mean(getattr(row, name)) for row in rows), unit="streams", within=(0, 1))
        for name, label in names.items()
    }
    told = ", ".join(f"{label} {100 * share.value:.0f} %" for label, share in shares.items()) if rows else ""
    return Plot(
        intervals(shares if rows else {}, "share of questions right", height=2.8),
        title=f"ARC-Easy, right: {told}" if rows else "",
        caption="Means over streams of questions with 95 % intervals. The model ranks the four options by likelihood.",
        alt="Share of questions right with one example, behind StreamingLLM, behind a plain window, and by the options "
        "alone, with intervals.",
    )
