"""Draws rows, with a title from the numbers drawn; computes means and intervals for drawing alone.

Where there are no rows, as stored runs are to come or are of another tier, a figure is a line that says so: see `show`.
"""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from claimbook import plotting, stats
from claimbook.claims import words
from claimbook.display.tables import Shown, table
from claimbook.experiments.sink_emergence import evidence
from claimbook.experiments.sink_emergence.measure.text import Row
from claimbook.experiments.sink_emergence.stored import FIRST_SEED, TEXT_RUNS, seeds, text_run
from claimbook.plotting import Plot

KINDS = {"natural": "natural text", "random": "random tokens", "repeated": "one token repeated"}
TEXT_ARMS = {  # arm on text -> its name in figures and tables
    "packed": "packed text",
    "learned": "packed, learnt positions",
    "learned_prefix": "packed, learnt positions, prefix of 5",
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

NO_TRAININGS = "Not drawn: no trainings on text are stored for this run."
NO_TOYS = "Not drawn: none of these toys is stored for this run."
NOT_MEASURED = "Not drawn: this was not measured in this run."


# --- real models -----------------------------------------------------------------------------------------------------


def inputs(found: dict, bare: dict) -> Plot:
    """Sink_1 by kind of input and model, with intervals over samples; also without a start token."""
    shown = {}
    for model, one in found.items():
        for kind, label in KINDS.items():
            shown[f"{plotting.model_name(model)}: {label}"] = percent(one.rate(kind)[:, 0].numpy())
        if bare[model] is not None:
            shown[f"{plotting.model_name(model)}: text, no start token"] = percent(bare[model].numpy())
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


def lengths_and_layers(by_model: dict[str, dict], main: str, text: str, config: dict) -> Plot | str:
    """Sink_1 against the length of the text, a line for each epsilon; below by depth, a line for each model."""
    if not by_model.get(main):
        return NOT_MEASURED
    fig, (above, below) = plotting.figure(2, 1, height=6.6)
    rates = 100 * np.array(by_model[main][text]["by_length"]).mean(axis=0)  # (lengths, epsilons)
    series = {f"ε = {e:g}": (config["lengths"], rates[:, i]) for i, e in enumerate(config["epsilons"])}
    plotting.curves(above, series, xlabel="length of the text, tokens", ylabel="sink, %")
    above.set_xscale("log", base=2)
    above.set_xticks(config["lengths"], config["lengths"])
    above.set_ylim(0, 102)
    layers = {
        plotting.model_name(model): 100 * np.array(curves[text]["by_block"]).mean(axis=0)
        for model, curves in by_model.items()
        if curves
    }
    series = {model: (100 * np.arange(len(one)) / (len(one) - 1), one) for model, one in layers.items()}
    plotting.curves(below, series, xlabel="depth of the layer, %", ylabel="sink, %")
    below.set_ylim(0, 102)
    start, end = rates[[0, -1], config["epsilons"].index(0.3)]
    return Plot(
        fig,
        title=f"From {config['lengths'][0]} to {config['lengths'][-1]} tokens the share of sinks goes from "
        f"{start:.0f} to {end:.0f} %",
        caption="Above: by threshold. C6 is judged from 32 tokens on, as an even share of 16 tokens is more than the "
        "lowest threshold. Below: by layer, at a threshold of 0.3.",
        alt="Above, share of heads with a sink against text length, one line for each threshold. Below, the "
        "same by depth of the layer, for each model.",
    )


def norms(found: dict) -> Plot:
    """Norm of the first hidden state over the others', by depth of the layer."""
    fig, ax = plotting.figure(height=3.4)
    series = {}
    for model, one in found.items():
        ratio = one.geometry.hidden_norm.mean(dim=1).numpy()
        series[plotting.model_name(model)] = (100 * np.arange(len(ratio)) / (len(ratio) - 1), ratio)
    plotting.curves(ax, series, xlabel="depth of the layer, %", ylabel="norm, first over others")
    ax.set_yscale("log")
    plotting.plain_ticks(ax.yaxis)
    plotting.reference_line(ax, 1, "")
    largest = " and ".join(f"{ratio.max():.0f}" for _, ratio in series.values())
    return Plot(
        fig,
        title=f"In the layer where it is longest the first token's hidden state is {largest} times as long as the "
        "others', in the mean",
        caption="Mean over samples of natural text, in the title of " + " and ".join(series) + ".",
        alt="Norm of the first hidden state over the mean of the others, by depth of the layer, for each model.",
    )


def interventions(curves: dict) -> Plot | str:
    """Rise of the loss of later tokens under each intervention on the first one."""
    if not curves:
        return NOT_MEASURED
    losses = evidence.losses(curves["documents"])
    shown = {name: evidence.rise(losses, name) for name in losses if name != "as it is"}
    fig, ax = plotting.figure(height=3.8)
    plotting.interval_plot(ax, shown, xlabel="rise of the loss, nats")
    plotting.reference_line(ax, 0, "", axis="x")
    exchanged, emptied = (shown[name].value for name in ("exchanged in all heads", "no value in sink heads"))
    return Plot(
        fig,
        title=f"The mean over other texts in the first token's place costs {exchanged:.3f} nats, its value emptied "
        f"{emptied:.2f}",
        caption="Rise of the loss of tokens from 32 on, mean over documents with its 95 % interval.",
        alt="Rise of the loss for seven interventions on the first token, with intervals, around a line at none.",
    )


# --- decoders trained on text ----------------------------------------------------------------------------------------


def millions(arm: str, row: Row) -> np.ndarray:
    """Training tokens, in millions, at each measured point."""
    config = TEXT_RUNS[text_run(arm, FIRST_SEED)].config
    return np.array([point["step"] for point in row.measured]) * config["batch"] * config["corpus"]["length"] / 1e6


SINKS = {  # what the hero draws: arm -> its name, and whose sink
    "fixed": ("first token, always the same", evidence.first),
    "learned": ("first token, packed text, learnt positions", evidence.first),
    "packed": ("first token, packed text", evidence.first),
    "key_bias": ("key bias, packed text", lambda row, at: row.measured[at]["sink"]["0.3"][0]),
}


def birth(arms: dict[str, list[Row]]) -> Plot | str:
    """Above: attention to the first token by head while one decoder trains. Below: the sink of every seed and arm."""
    if not {"fixed", "packed"} <= arms.keys():
        return NO_TRAININGS
    fig, (top, bottom) = plotting.figure(2, 1, height=7.8, height_ratios=[1.3, 1])
    _heads(top, arms["fixed"][-1])
    drawn, ends = [], {}
    for i, (arm, (label, of)) in enumerate(SINKS.items()):
        look = {"color": plotting.COLOURS[i], "linestyle": plotting.LINES[i], "linewidth": 1.8}
        for row in arms.get(arm, []):
            sinks = [100 * of(row, at) for at in range(len(row.measured))]
            bottom.plot(millions(arm, row), sinks, **look)
            ends.setdefault(arm, []).append(sinks[-1])
        if arm in arms:
            drawn.append(Line2D([], [], label=f"{label} ({words.several(len(arms[arm]), 'seeds')})", **look))
    bottom.set(xlabel="training tokens, millions", ylabel="sink, %", ylim=(-0.5, None))
    bottom.legend(handles=drawn, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    top.set_xlim(bottom.get_xlim())
    means, read = {arm: np.mean(one) for arm, one in ends.items()}, millions("fixed", arms["fixed"][-1])[-1]
    return Plot(
        fig,
        title=f"{'A' if means['fixed'] >= 3 else 'No'} sink grows on a first token that is always the same: "
        f"{means['fixed']:.1f} % of heads and samples after {read:.0f} million tokens, {means['packed']:.1f} % on "
        "ordinary text",
        caption="Above: each row is a head of one small decoder, the last layer on top; bright is attention to the "
        "first token. Below: a line for each seed.",
        alt="Above, attention to a first token that is always the same against training tokens, a row for each head "
        "of a small decoder. Below, the share of heads and samples with a sink against training tokens, a line for "
        f"each seed. At the end, in %: {'; '.join(f'{SINKS[arm][0]} {one:.1f}' for arm, one in means.items())}.",
    )


STEPS = plt.get_cmap("cividis", 12)  # few colours, so that a small PNG keeps those of the lines


def _heads(ax, row: Row) -> None:
    alpha = np.array([point["alpha"] for point in row.measured])[..., -5]  # (times, layers, heads)
    at = millions("fixed", row)
    edges = np.concatenate([at[:1], (at[1:] + at[:-1]) / 2, at[-1:]])
    layers, per_layer = alpha.shape[1:]
    rows = alpha.reshape(len(alpha), -1).T
    image = ax.pcolormesh(edges, np.arange(len(rows) + 1), rows, vmin=0, cmap=STEPS, rasterized=True)
    ax.set_yticks(per_layer * (np.arange(layers) + 0.5), range(1, layers + 1))
    ax.set_ylabel(f"layer ({per_layer} heads each)")
    ax.grid(visible=False)
    for edge in range(1, layers):
        ax.axhline(per_layer * edge, color="white", linewidth=0.6)
    bar = ax.figure.colorbar(image, ax=ax, location="top", aspect=40, pad=0.02)
    bar.set_label(f"attention that a head gives to the first token (seed {row.seed})")
    bar.outline.set_visible(False)


def text_table(arms: dict[str, list[Row]]) -> Shown:
    """The arms on text that are stored: how many of their seeds, means over these at the end; see `evidence.norm`."""
    head = ["decoder", "seeds", "sink on the first, %", "sink on the bias, %", "largest norm ratio", "loss"]
    return table(head, [_ends(arm, arms[arm]) for arm in TEXT_ARMS if arm in arms], "toy-table")


def _ends(arm: str, found: list[Row]) -> list[str]:
    has_bias = len(found[0].measured[-1]["sink"]["0.3"]) > 5
    return [
        TEXT_ARMS[arm],
        f"{len(found)} of {len(seeds(arm))}",
        f"{100 * np.mean([evidence.first(row) for row in found]):.1f}",
        f"{100 * np.mean([evidence.bias(row) for row in found]):.1f}" if has_bias else "—",
        f"{np.mean([evidence.norm(row) for row in found]):.1f}",
        f"{np.mean([evidence.loss(row) for row in found]):.3f}",
    ]


STREAMED = {
    "window": "the last 32",
    "first kept": "the first and the last 31",
    "first four kept": "the first 4 and the last 28",
}


def streamed(arms: dict[str, list[Row]]) -> Plot | str:
    """What is lost when the first tokens leave a cache of 32, by arm and seed: loss over that of seeing everything."""
    shown = [arm for arm in ("fixed", "packed", "learned", "key_bias") if arms.get(arm)]
    if not {"fixed", "packed"} <= set(shown):
        return NO_TRAININGS
    costs = {
        name: [streamed_losses(arms[arm], name) - streamed_losses(arms[arm], "all") for arm in shown]
        for name in STREAMED
    }  # by seed
    fig, ax = plotting.figure(height=4.6)
    for j, (name, label) in enumerate(STREAMED.items()):
        ax.plot(
            np.concatenate(costs[name]),
            np.repeat(np.arange(len(shown)), list(map(len, costs[name]))) + 0.2 * (j - 1),
            plotting.MARKERS[j],
            color=plotting.COLOURS[j],
            label=label,
        )
    ax.set_yticks(range(len(shown)), [TEXT_ARMS[arm].replace(", ", ",\n") for arm in shown])
    ax.set(xlabel="loss beyond seeing everything, nats", ylim=(len(shown) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    plotting.reference_line(ax, 0, "", axis="x")
    plotting.legend(ax, columns=1)
    fixed, packed = (round(np.mean([evidence.kept_first(row) for row in arms[arm]]), 2) for arm in ("fixed", "packed"))
    return Plot(
        fig,
        title=f"{_of_how_many(arms['fixed'], arms['packed'])} to lose the first token from a small cache costs "
        f"{fixed + 0:.2f} nats where it is always the same, {packed + 0:.2f} on ordinary text",  # + 0: no "-0.00"
        caption="Decoders that read 128 tokens through a cache of 32 keys; loss of the second half over that of the "
        "same decoder seeing all keys. A key bias is always seen. A mark for each seed: "
        f"{', '.join(f'{len(arms[arm])} of {TEXT_ARMS[arm]}' for arm in shown)}.",
        alt="Loss beyond that of full attention for three caches of 32 keys, by decoder, a mark for each seed.",
    )


def streamed_losses(rows: list[Row], name: str) -> np.ndarray:
    return np.array([row.end["streamed"][name] for row in rows])


def _of_how_many(*arms: list[Row]) -> str:
    """Of how many decoders a title speaks."""
    if all(len(rows) == 1 for rows in arms):
        return "In one decoder of each kind,"
    return f"In the mean of {' and '.join(str(len(rows)) for rows in arms)} decoders,"


# --- toys ------------------------------------------------------------------------------------------------------------


def bars(
    t: evidence.Arms, arms: tuple[str, ...], by: str, height: float = 5.2, of: str = "of the attention", note: str = ""
) -> Plot | str:
    """Attention to the first token, a row for each arm, a ring for each seed.

    ``by``: what the arms differ in; ``of``: what the numbers are shares of; ``note``: what more the caption says.
    """
    if not (shown := [arm for arm in arms if t.has(arm)]):
        return NO_TOYS
    fig, ax = plotting.figure(height=height)
    means = {}
    for i, arm in enumerate(shown):
        values = [row.attention[evidence.column(row, 0)] for row in t.arms[arm]]
        _dots(ax, i, values, plotting.COLOURS[0], "o")
        means[arm] = np.mean(values)
    _rows(ax, t, shown)
    low, high = (pick(means, key=means.get) for pick in (min, max))
    return Plot(
        fig,
        title=f"By {by} a toy's first token draws from {means[low]:.2f} ({low}) to {means[high]:.2f} ({high}) {of}",
        caption=" ".join(filter(None, [CAPTION, note])),
        alt=f"Attention of toys to their first token by {by}, a row for each kind and a ring for each seed.",
    )


CAPTION = (
    "A ring for each seed, a bar for their mean. Dotted: an even share without a distance bias; dashed: the default's "
    "mean."
)
FOUR = ("4 heads, K bias", "4 heads, shared K bias")
BIASES = ("K bias", "KV bias", "value 5", "value 20", "even value 20", "1 dimension", "8 dimensions", *FOUR)


def biases(t: evidence.Arms) -> Plot | str:
    """Attention to the first token and to the bias, without a fixed token."""
    if not t.has("unfixed", "unfixed, K bias"):
        return NO_TOYS
    shown = [arm for arm in ("unfixed", *(f"unfixed, {name}" for name in BIASES)) if t.has(arm)]
    fig, ax = plotting.figure(height=5.2)
    for i, arm in enumerate(shown):
        rows = t.arms[arm]
        _dots(ax, i - 0.15, [row.attention[evidence.column(row, 0)] for row in rows], plotting.COLOURS[0], "o")
        if arm != "unfixed":
            _dots(ax, i + 0.15, [row.attention[0] for row in rows], plotting.COLOURS[1], "s")
    _rows(ax, t, ["no bias", *(arm.removeprefix("unfixed, ") for arm in shown[1:])])
    drawn = [100 * evidence.sink("unfixed, K bias", None)(row) for row in t.arms["unfixed, K bias"]]  # by seed
    return Plot(
        fig,
        title=f"Without a fixed token a toy's key bias is a sink in {np.mean(drawn):.0f} % of samples, from "
        f"{min(drawn):.0f} to {max(drawn):.0f} % by seed",
        caption="Rings: to the first token; squares: to the bias. " + CAPTION,
        alt="Attention of toys without a fixed token to their first token and to their key bias, by kind of bias, each "
        "with its seeds.",
    )


def _dots(ax, y: float, values: list[float], colour: str, marker: str) -> None:
    ax.plot(values, np.full(len(values), y), marker, color=colour, markerfacecolor="none", markersize=6)
    ax.plot([np.mean(values)], [y], "|", color=colour, markersize=15, markeredgewidth=2.6)


def _rows(ax, t: evidence.Arms, labels: list[str]) -> None:
    """Labels, and two lines: what an even share gives the first token, and what the default toy has."""
    ax.set_yticks(range(len(labels)), labels)
    ax.set(xlabel="attention", ylim=(len(labels) - 0.4, -0.6), xlim=(-0.02, 1.0))
    ax.grid(axis="y", visible=False)
    ax.axvline(evidence.even_toy("default")[0], color=plotting.INK, linewidth=1.4, linestyle=":", zorder=1)
    if t.has("default"):
        mean = np.mean([row.attention[0] for row in t.arms["default"]])
        ax.axvline(mean, color=plotting.INK, linewidth=1.4, linestyle=(0, (6, 3)), zorder=1)


def ordered(t: evidence.Arms) -> Plot | str:
    """Attention to the first token against rate over batch size, a mark for each rate."""
    if not t.has(*evidence.ORDERED):
        return NO_TOYS
    fig, ax = plotting.figure(height=3.6)
    found = {}
    for i, rate in enumerate(("rate 0.001", "rate 0.003", "rate 0.009")):
        means = {
            evidence.ORDERED[arm]: np.mean([row.attention[0] for row in t.arms[arm]])
            for arm in evidence.ORDERED
            if arm.startswith(rate)
        }
        ax.plot(*zip(*means.items(), strict=True), "osD"[i], linestyle="-", color=plotting.COLOURS[i], label=rate)
        found |= means
    ax.set_xscale("log")
    ax.set(xlabel="learning rate over batch size", ylabel="attention to the first token")
    plotting.legend(ax, columns=3)
    return Plot(
        fig,
        title=f"From a small rate over batch to a large one the toy's attention to its first token goes from "
        f"{found[min(found)]:.2f} to {found[max(found)]:.2f}",
        caption="Six toys at a fixed product of rate and steps; means over seeds. Toys of equal ratio stand above each "
        "other.",
        alt="Attention to the first token against the ratio of learning rate to batch size, a line for each rate.",
    )
