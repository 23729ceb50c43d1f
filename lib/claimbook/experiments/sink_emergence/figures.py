"""Draws rows, with a title from the numbers drawn; computes means and intervals for drawing alone."""

import numpy as np
from matplotlib.lines import Line2D

from claimbook import plotting, stats
from claimbook.display.tables import Shown, table
from claimbook.experiments.sink_emergence import evidence
from claimbook.experiments.sink_emergence.measure.text import Row
from claimbook.experiments.sink_emergence.stored import STORED, text_run
from claimbook.plotting import Plot

KINDS = {"natural": "natural text", "random": "random tokens", "repeated": "one token repeated"}
TEXT_ARMS = {  # arm on text -> its name in figures and tables
    "packed": "packed text",
    "learned": "packed, learnt positions",
    "learned_prefix": "packed, learnt positions, prefix of 5",
    "learned_first_random": "packed, learnt positions, first token random",
    "learned_two_random": "packed, learnt positions, first two random",
    "learned_second_random": "packed, learnt positions, second random",
    "key_bias": "packed, K bias",
    "key_bias_value": "packed, K bias, value 20",
    "key_bias_one_dimension": "packed, K bias, one dimension",
    "key_bias_shared": "packed, K bias shared",
    "fixed": "first token fixed",
    "fixed_key_bias": "fixed, K bias",
    "fixed_key_bias_value": "fixed, K bias, value 20",
    "fixed_kv_bias": "fixed, KV bias",
    "fixed_kv_bias_shared": "fixed, KV bias shared",
    "fixed_value_bias": "fixed, V bias",
    "fixed_slow": "fixed, a quarter of the rate",
    "fixed_little": "fixed, a fiftieth of the data",
    "fixed_decay": "fixed, decay 0.5",
    "fixed_decay_5": "fixed, decay 5",
    "fixed_post_norm": "fixed, post-norm",
    "fixed_sigmoid": "fixed, sigmoid, three times as long",
    "fixed_long": "fixed, chunks of 512",
    "fixed_long_window": "fixed, chunks of 512, window 32",
}

# --- real models -----------------------------------------------------------------------------------------------------


def short(model: str) -> str:
    return model.rsplit("-", 1)[0]


def inputs(found: dict, bare: dict) -> Plot:
    """Sink_1 by kind of input and model, with intervals over samples; also without a start token."""
    shown = {}
    for model, one in found.items():
        for kind, label in KINDS.items():
            shown[f"{short(model)}: {label}"] = percent(one.rate(kind)[:, 0].numpy())
        if bare[model] is not None:
            shown[f"{short(model)}: text, no start token"] = percent(bare[model].numpy())
    fig, ax = plotting.figure(height=3.4)
    plotting.interval_plot(ax, shown, xlabel="sink on the first token, %")
    ax.set_xlim(-3, 103)
    text, drawn, same = (next(iter(found.values())).rate(kind)[:, 0].mean() * 100 for kind in KINDS)
    return Plot(
        fig,
        title=f"The first token is a sink in {text:.0f} % of heads and samples, with random tokens in {drawn:.0f} %, "
        f"with one token repeated in {same:.0f} %",
        caption="Share of heads and samples in which the first token draws more than 0.3 of the attention: mean over "
        "samples of 64 tokens with its 95 % interval. The title is of the first model.",
        alt="Share of heads and samples with a sink on the first token, for natural text, random tokens and one token "
        "repeated, by model.",
    )


def percent(values: np.ndarray) -> stats.Estimate:
    return stats.mean(100 * values, unit="samples")


def lengths_and_layers(by_model: dict[str, dict], main: str, text: str, config: dict) -> Plot:
    """Sink_1 against the length of the text, a line for each epsilon; below by depth, a line for each model."""
    fig, (above, below) = plotting.figure(2, 1, height=6.6)
    title = ""
    if curves := by_model.get(main):
        rates = 100 * np.array(curves[text]["by_length"]).mean(axis=0)  # (lengths, epsilons)
        series = {f"ε = {e:g}": (config["lengths"], rates[:, i]) for i, e in enumerate(config["epsilons"])}
        plotting.curves(above, series, xlabel="length of the text, tokens", ylabel="sink, %")
        above.set_xscale("log", base=2)
        above.set_xticks(config["lengths"], config["lengths"])
        above.set_ylim(0, 102)
        at = config["epsilons"].index(0.3)
        title = (
            f"From {config['lengths'][0]} to {config['lengths'][-1]} tokens the share of sinks falls from "
            f"{rates[0, at]:.0f} to {rates[-1, at]:.0f} %"
        )
    series = {}
    for model, curves in by_model.items():
        if curves:
            rates = 100 * np.array(curves[text]["by_block"]).mean(axis=0)
            series[short(model)] = (100 * np.arange(len(rates)) / (len(rates) - 1), rates)
    if series:
        plotting.curves(below, series, xlabel="depth of the layer, %", ylabel="sink, %")
        below.set_ylim(0, 102)
    return Plot(
        fig,
        title=title,
        caption="Above: by threshold. C6 is judged from 32 tokens on, as an even share of 16 tokens is more than the "
        "lowest threshold. Below: by layer, at a threshold of 0.3.",
        alt="Above, share of heads with a sink against text length, falling, one line for each threshold. Below, the "
        "same by depth of the layer, for each model.",
    )


def norms(found: dict) -> Plot:
    """Norm of the first hidden state over the others', by depth of the layer."""
    fig, ax = plotting.figure(height=3.4)
    series = {}
    for model, one in found.items():
        ratio = one.geometry.hidden_norm.mean(dim=1).numpy()
        series[short(model)] = (100 * np.arange(len(ratio)) / (len(ratio) - 1), ratio)
    plotting.curves(ax, series, xlabel="depth of the layer, %", ylabel="norm, first over others")
    ax.set_yscale("log")
    plotting.plain_ticks(ax.yaxis)
    plotting.reference_line(ax, 1, "")
    largest = " and ".join(f"{ratio.max():.0f}" for _, ratio in series.values())
    return Plot(
        fig,
        title=f"The first token's hidden state is up to {largest} times as long as the others'",
        caption="Mean over samples of natural text, " + " and ".join(series) + ".",
        alt="Norm of the first hidden state over the mean of the others, by depth of the layer, for each model.",
    )


def rises(curves: dict, which: str = "loss") -> dict[str, stats.Estimate]:
    """Rise of the loss under each intervention, of "early" tokens or of later ones; empty where none was measured."""
    if not curves:
        return {}
    rows = curves["documents"]
    base = np.array([row[which]["as it is"] for row in rows])
    names = [name for name in rows[0][which] if name != "as it is"]
    return {name: stats.paired_difference([row[which][name] for row in rows], base, unit="documents") for name in names}


def interventions(curves: dict) -> Plot:
    shown = rises(curves)
    fig, ax = plotting.figure(height=3.8)
    if shown:
        plotting.interval_plot(ax, shown, xlabel="rise of the loss, nats")
        plotting.reference_line(ax, 0, "", axis="x")
    exchanged, emptied = (shown.get(name) for name in ("exchanged in all heads", "no value in sink heads"))
    return Plot(
        fig,
        title=f"Another text's first token in its place costs {exchanged.value:.3f} nats, its value emptied "
        f"{emptied.value:.2f}"
        if shown
        else "",
        caption="Rise of the loss of tokens from 32 on, mean over documents with its 95 % interval.",
        alt="Rise of the loss for seven interventions on the first token, with intervals. Exchanging it costs next to "
        "nothing; emptying its value or removing it in sink heads costs most.",
    )


# --- decoders trained on text ----------------------------------------------------------------------------------------


def millions(arm: str, row: Row) -> np.ndarray:
    """Training tokens, in millions, at each measured point."""
    config = STORED[text_run(arm, row.seed)].config
    return np.array([point["step"] for point in row.measured]) * config["batch"] * config["corpus"]["length"] / 1e6


SINKS = {  # what the hero draws: arm -> its name, and whose sink
    "fixed": ("first token, always the same", evidence.first),
    "learned": ("first token, packed text, learnt positions", evidence.first),
    "packed": ("first token, packed text", evidence.first),
    "key_bias": ("key bias, packed text", lambda row, at: row.measured[at]["sink"]["0.3"][0]),
}


def birth(arms: dict[str, list[Row]]) -> Plot:
    """Above: attention to the first token by head while one decoder trains. Below: the sink of every seed and arm."""
    fig, (top, bottom) = plotting.figure(2, 1, height=7.8, height_ratios=[1.3, 1])
    if "fixed" in arms:
        _heads(top, arms["fixed"][0])
    drawn, ends = [], {}
    for i, (arm, (label, of)) in enumerate(SINKS.items()):
        look = {"color": plotting.COLOURS[i], "linestyle": plotting.LINES[i], "linewidth": 1.8}
        for row in arms.get(arm, []):
            sinks = [100 * of(row, at) for at in range(len(row.measured))]
            bottom.plot(millions(arm, row), sinks, alpha=0.8, **look)
            ends.setdefault(arm, []).append(sinks[-1])
        if arm in arms:
            drawn.append(Line2D([], [], label=f"{label} ({seeds(arms[arm])})", **look))
    bottom.set(xlabel="training tokens, millions", ylabel="sink, %", ylim=(-0.5, None))
    if drawn:
        bottom.legend(handles=drawn, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
        top.set_xlim(bottom.get_xlim())
    means = {arm: np.mean(one) for arm, one in ends.items()}
    return Plot(
        fig,
        title=f"A sink grows on a first token that is always the same: {means['fixed']:.1f} % of heads and samples "
        f"after ten million tokens, {means['packed']:.1f} % on ordinary text"
        if {"fixed", "packed"} <= means.keys()
        else "",
        caption="Above: each row is a head of one small decoder, the last layer on top; bright is attention to the "
        "first token. Below: every seed.",
        alt="Above, a row for each head of a small decoder; with the first token always the same one head or two "
        "brighten in the course of the training. Below, the share of heads and samples with a sink against training "
        "tokens, a line for each seed: it rises with a fixed first token and for a key bias, and stays at zero on "
        "packed text.",
    )


def _heads(ax, row: Row) -> None:
    alpha = np.array([point["alpha"] for point in row.measured])[..., -5]  # (times, layers, heads)
    at = millions("fixed", row)
    edges = np.concatenate([at[:1], (at[1:] + at[:-1]) / 2, at[-1:]])
    layers, per_layer = alpha.shape[1:]
    rows = alpha.reshape(len(alpha), -1).T
    image = ax.pcolormesh(edges, np.arange(len(rows) + 1), rows, vmin=0, rasterized=True)
    ax.set_yticks(per_layer * (np.arange(layers) + 0.5), range(1, layers + 1))
    ax.set_ylabel(f"layer ({per_layer} heads each)")
    ax.grid(visible=False)
    for edge in range(1, layers):
        ax.axhline(per_layer * edge, color="white", linewidth=0.6)
    bar = ax.figure.colorbar(image, ax=ax, location="top", aspect=40, pad=0.02)
    bar.set_label(f"attention that a head gives to the first token (seed {row.seed})")
    bar.outline.set_visible(False)


def seeds(rows: list) -> str:
    return f"{len(rows)} seed{'s' if len(rows) > 1 else ''}"


def text_table(arms: dict[str, list[Row]]) -> Shown:
    """Every arm trained on text at its end, means over seeds; norms are those of `evidence.norm`."""
    head = ["decoder", "seeds", "sink on the first, %", "sink on the bias, %", "largest norm ratio", "loss"]
    rows = []
    for arm, label in TEXT_ARMS.items():
        if arm in arms:
            found = arms[arm]
            has_bias = len(found[0].measured[-1]["sink"]["0.3"]) > 5
            rows.append(
                [
                    label,
                    str(len(found)),
                    f"{100 * np.mean([evidence.first(row) for row in found]):.1f}",
                    f"{100 * np.mean([evidence.bias(row) for row in found]):.1f}" if has_bias else "—",
                    f"{np.mean([evidence.norm(row) for row in found]):.1f}",
                    f"{np.mean([evidence.loss(row) for row in found]):.3f}",
                ]
            )
    return table(head, rows, "toy-table")


STREAMED = {
    "window": "the last 32",
    "first kept": "the first and the last 31",
    "first four kept": "the first 4 and the last 28",
}


def streamed(arms: dict[str, list[Row]]) -> Plot:
    """What is lost when the first tokens leave a cache of 32, by arm: loss over that of seeing everything."""
    fig, ax = plotting.figure(height=3.6)
    shown, gains = {}, {}
    for arm in ("fixed", "packed", "learned", "key_bias"):
        losses = {
            name: np.array([row.end["streamed"][name] for row in arms.get(arm, [])]) for name in ("all", *STREAMED)
        }
        if len(losses["all"]) > 1:
            for name, label in STREAMED.items():
                shown[f"{TEXT_ARMS[arm]}: {label}"] = stats.paired_difference(losses[name], losses["all"], unit="seeds")
            gains[arm] = (losses["window"] - losses["first kept"]).mean()
    if shown:
        plotting.interval_plot(ax, shown, xlabel="loss beyond that of seeing everything, nats")
    return Plot(
        fig,
        title=f"To keep the first token in a small cache saves {gains['fixed']:.3f} nats where it is a sink, "
        f"{gains['packed']:.3f} where there is none"
        if {"fixed", "packed"} <= gains.keys()
        else "",
        caption="Decoders that read 128 tokens through a cache of 32 keys; loss of the second half over that of the "
        "same decoder seeing all keys. Means over seeds with 95 % intervals.",
        alt="Loss beyond that of full attention for three caches of 32 keys, by decoder. With a fixed first token the "
        "cache that keeps it loses least.",
    )


# --- toys ------------------------------------------------------------------------------------------------------------


def bars(t: evidence.Toys, arms: list[str], title: str, alt: str, base: str = "default", height: float = 5.2) -> Plot:
    """Attention to the first token, a row for each arm, a dot for each seed; even attention and ``base`` are marked."""
    fig, ax = plotting.figure(height=height)
    shown = [arm for arm in arms if t.has(arm)]
    for i, arm in enumerate(shown):
        _dots(ax, i, [row.attention[t.column(row, 0)] for row in t.arms[arm]], plotting.COLOURS[0], "o")
    _rows(ax, t, shown, base)
    return Plot(fig, title=title, caption=CAPTION, alt=alt)


CAPTION = "A ring for each seed, a bar for their mean. Lines: what an even share would give, and the default's mean."
FOUR = ("4 heads, K bias", "4 heads, shared K bias")
BIASES = ("K bias", "KV bias", "value 5", "value 20", "even value 20", "1 dimension", "8 dimensions", *FOUR)


def biases(t: evidence.Toys) -> Plot:
    """Attention to the first token and to the bias, without a fixed token."""
    fig, ax = plotting.figure(height=5.2)
    shown = [arm for arm in ("unfixed", *(f"unfixed, {name}" for name in BIASES)) if t.has(arm)]
    for i, arm in enumerate(shown):
        rows = t.arms[arm]
        _dots(ax, i - 0.15, [row.attention[t.column(row, 0)] for row in rows], plotting.COLOURS[0], "o")
        if arm != "unfixed":
            _dots(ax, i + 0.15, [row.attention[0] for row in rows], plotting.COLOURS[1], "s")
    _rows(ax, t, shown, "default")
    drawn = t.mean_sink("unfixed, K bias", None)
    return Plot(
        fig,
        title=f"Without a fixed token a key bias is a sink in {100 * drawn.value:.0f} % of samples" if drawn else "",
        caption="Rings: to the first token; squares: to the bias. " + CAPTION,
        alt="Attention of toys without a fixed token to their first token and to their key bias, by kind of bias, each "
        "with its seeds.",
    )


def _dots(ax, y: float, values: list[float], colour: str, marker: str) -> None:
    ax.plot(values, np.full(len(values), y), marker, color=colour, markerfacecolor="none", markersize=6)
    ax.plot([np.mean(values)], [y], "|", color=colour, markersize=15, markeredgewidth=2.6)


def _rows(ax, t: evidence.Toys, shown: list[str], base: str) -> None:
    """Labels, and two lines: what an even share gives the first token, and what ``base`` has."""
    if not shown:
        return
    ax.set_yticks(range(len(shown)), shown)
    ax.set(xlabel="attention", ylim=(len(shown) - 0.4, -0.6), xlim=(-0.02, 1.0))
    ax.grid(axis="y", visible=False)
    ax.axvline(evidence.even_toy("default")[0], color=plotting.INK, linewidth=1.4, linestyle=":", zorder=1)
    if t.has(base):
        mean = np.mean([row.attention[t.column(row, 0)] for row in t.arms[base]])
        ax.axvline(mean, color=plotting.INK, linewidth=1.4, linestyle=(0, (6, 3)), zorder=1)


def ordered(t: evidence.Toys) -> Plot:
    """Attention to the first token against rate over batch size, a mark for each rate."""
    fig, ax = plotting.figure(height=3.6)
    found = {}
    for i, rate in enumerate(("rate 0.001", "rate 0.003", "rate 0.009")):
        arms = [arm for arm in evidence.ORDERED if arm.startswith(rate) and t.has(arm)]
        x = [evidence.ORDERED[arm] for arm in arms]
        y = [np.mean([row.attention[0] for row in t.arms[arm]]) for arm in arms]
        if arms:
            ax.plot(x, y, "osD"[i], linestyle="-", color=plotting.COLOURS[i], label=rate)
            found |= dict(zip(x, y, strict=True))
    if found:
        ax.set_xscale("log")
        ax.set(xlabel="learning rate over batch size", ylabel="attention to the first token")
        plotting.legend(ax, columns=3)
    return Plot(
        fig,
        title=f"From a small rate over batch to a large one the toy's sink falls from {found[min(found)]:.2f} to "
        f"{found[max(found)]:.2f}"
        if found
        else "",
        caption="Six toys at a fixed product of rate and steps; means over seeds. Toys of equal ratio stand above each "
        "other.",
        alt="Attention to the first token against the ratio of learning rate to batch size, falling.",
    )
