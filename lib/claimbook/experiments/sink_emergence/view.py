"""The chapter's figures and tables: each draws what it is given and measures nothing."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from claimbook import plotting, stats
from claimbook.display.tables import Shown, table
from claimbook.experiments.sink_emergence.live import Found
from claimbook.experiments.sink_emergence.stored import TOYS
from claimbook.experiments.sink_emergence.text_parts import last, sink
from claimbook.experiments.sink_emergence.toy_parts import Toys, both, even
from claimbook.lm.geometry import Geometry

TOKENS_A_STEP = "tokens_per_step"
DOMAINS = {"docstrings": "docstrings", "kjv": "Bible", "wikibooks-recipes": "recipes"}
KINDS = {"natural": "natural text", "random": "random tokens", "repeated": "one token repeated"}


# --- real models -------------------------------------------------------------------------------------------------


def inputs(ax: Axes, found: dict[str, Found], bare: dict) -> None:
    """Sink_1 by kind of input and model, with intervals over samples; also without a start token."""
    estimates = {}
    for model, one in found.items():
        for kind, label in KINDS.items():
            estimates[f"{model}: {label}"] = percent(one.rate(kind)[:, 0].numpy())
        if bare[model] is not None:
            estimates[f"{model}: text, no start token"] = percent(bare[model].numpy())
    plotting.interval_plot(ax, estimates, xlabel="sink on the first token, %")
    ax.set_xlim(-3, 103)


def percent(values: np.ndarray) -> stats.Estimate:
    return stats.mean(100 * values, unit="samples")


def lengths(ax: Axes, curves: dict, text: str, config: dict) -> None:
    """Sink_1 against the length of the text, a line for each epsilon."""
    if not curves:
        return
    rates = 100 * np.array(curves[text]["by_length"]).mean(axis=0)  # (lengths, epsilons)
    series = {f"ε = {e:g}": (config["lengths"], rates[:, i]) for i, e in enumerate(config["epsilons"])}
    plotting.curves(ax, series, xlabel="length of the text, tokens", ylabel="sink, %")
    ax.set_xscale("log", base=2)
    ax.set_xticks(config["lengths"], config["lengths"])
    ax.set_ylim(0, 102)


def blocks(ax: Axes, by_model: dict[str, dict], text: str) -> None:
    """Sink_1 by depth of the block, a line for each model."""
    series = {}
    for model, curves in by_model.items():
        if curves:
            rates = 100 * np.array(curves[text]["by_block"]).mean(axis=0)
            series[short(model)] = (100 * np.arange(len(rates)) / (len(rates) - 1), rates)
    if series:
        plotting.curves(ax, series, xlabel="depth of the block, %", ylabel="sink, %")
        ax.set_ylim(0, 102)


def short(model: str) -> str:
    return model.rsplit("-", 1)[0]


def domain_rates(curves: dict, config: dict) -> str | None:
    """Sink_1 in per cent by domain, in words."""
    if not curves:
        return None
    at = config["epsilons"].index(0.3)
    rates = {key: 100 * np.array(one["by_epsilon"])[:, at].mean() for key, one in curves.items()}
    return ", ".join(f"{DOMAINS.get(key, 'Wikipedia')} {rate:.1f}" for key, rate in rates.items())


def norms(ax: Axes, by_model: dict[str, Geometry]) -> None:
    """Norm of the first hidden state over the others', by depth of the block."""
    series = {}
    for model, geometry in by_model.items():
        ratio = geometry.hidden_norm.mean(dim=1).numpy()
        series[short(model)] = (100 * np.arange(len(ratio)) / (len(ratio) - 1), ratio)
    plotting.curves(ax, series, xlabel="depth of the block, %", ylabel="norm, first over others")
    ax.set_yscale("log")
    plotting.plain_ticks(ax.yaxis)
    plotting.reference_line(ax, 1, "")


def rises(curves: dict, which: str = "loss") -> dict[str, stats.Estimate]:
    """Rise of the loss under each intervention, of "early" tokens or of later ones; empty where none was measured."""
    if not curves:
        return {}
    rows = curves["documents"]
    base = np.array([row[which]["as it is"] for row in rows])
    names = [name for name in rows[0][which] if name != "as it is"]
    return {name: stats.paired_difference([row[which][name] for row in rows], base, unit="documents") for name in names}


def sinks_under(curves: dict, name: str) -> str | None:
    """How many heads still have a sink on the first token under an intervention, in words."""
    if not curves:
        return None
    before, after = (
        100 * np.mean([row["sink_heads"] for row in curves["documents"]]),
        100 * np.mean([row["sink_heads_under"][name] for row in curves["documents"]]),
    )
    return f"A sink on the first token is left in {after:.0f} % of heads, against {before:.0f} % without the change."


# --- trained here ------------------------------------------------------------------------------------------------


# arm on real text -> its name in figures, and which column of the sink metric is drawn
SINKS = {
    "fixed": ("first token, always the same", "first"),
    "packed": ("first token, packed text", "first"),
    "fixed_key_bias": ("key bias beside that token", "bias"),
    "key_bias": ("key bias, packed text", "bias"),
}


def emergence(axes, arms: dict[str, list[dict]], floor: float) -> None:
    """Above: attention to the first token by head while one decoder trains. Below: the sink of every seed and arm.

    ``floor``: the sink without which nothing is judged, in [0, 1].
    """
    top, bottom = axes
    if "fixed" in arms:
        heads(top, arms["fixed"][0])
    drawn = []
    for i, (arm, (label, column)) in enumerate(SINKS.items()):
        for row in arms.get(arm, []):
            x, y = sink_curve(row, column)
            look = {"color": plotting.COLOURS[i], "linestyle": plotting.LINES[i], "linewidth": 1.8}
            bottom.plot(x, 100 * y, alpha=0.8, **look)
        if arm in arms:
            drawn.append(Line2D([], [], label=f"{label} ({seeds(arms[arm])})", **look))
    if drawn:
        drawn.append(
            bottom.axhline(
                100 * floor, color="black", linewidth=1.2, linestyle=":", label="floor: below, nothing is judged"
            )
        )
        bottom.set(xlabel="training tokens, millions", ylabel="sink, %", ylim=(-0.5, None))
        bottom.legend(handles=drawn, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
        top.set_xlim(bottom.get_xlim())


def seeds(rows: list) -> str:
    return f"{len(rows)} seed{'s' if len(rows) > 1 else ''}"


def heads(ax: Axes, row: dict) -> None:
    """Attention to the first token, a row of pixels for each head, the last layer on top."""
    alpha = np.array([found["alpha"] for found in row["measured"]])[..., -1]  # (times, layers, heads)
    millions = np.array([_millions(row, found["step"]) for found in row["measured"]])
    edges = np.concatenate([millions[:1], (millions[1:] + millions[:-1]) / 2, millions[-1:]])
    layers, per_layer = alpha.shape[1:]
    rows = alpha.reshape(len(alpha), -1).T
    image = ax.pcolormesh(edges, np.arange(len(rows) + 1), rows, vmin=0, rasterized=True)
    ax.set_yticks(per_layer * (np.arange(layers) + 0.5), range(1, layers + 1))
    ax.set_ylabel(f"layer ({per_layer} heads each)")
    ax.grid(visible=False)
    for edge in range(1, layers):
        ax.axhline(per_layer * edge, color="white", linewidth=0.6)
    bar = ax.figure.colorbar(image, ax=ax, location="top", aspect=40, pad=0.02)
    bar.set_label("attention that a head gives to the first token (seed 0)")
    bar.outline.set_visible(False)


def sink_curve(row: dict, column: str = "first") -> tuple[np.ndarray, np.ndarray]:
    """Training tokens in millions and the sink of one decoder, on its first token or its key bias."""
    steps = [found["step"] for found in row["measured"]]
    return np.array([_millions(row, step) for step in steps]), np.array(
        [sink(found, column) for found in row["measured"]]
    )


def _millions(row: dict, step: int) -> float:
    return step * row[TOKENS_A_STEP] / 1e6


def training_tokens(row: dict) -> float:
    """Training tokens of one decoder, in millions."""
    return _millions(row, row["measured"][-1]["step"])


def strongest(rows: list[dict], column: int = -1) -> float:
    """Attention that the strongest head gives to the first token (or, with column 0, to the bias), mean over seeds."""
    return float(np.mean([np.array(row["measured"][-1]["alpha"])[..., column].max() for row in rows]))


def turn(rows: list[dict]) -> str:
    """When half of the final sink is reached, in words: between which two measurements, over all seeds."""
    before, after = [], []
    for row in rows:
        millions, sinks = sink_curve(row)
        at = int(np.argmax(sinks >= sinks[-1] / 2))
        before.append(millions[max(0, at - 1)])
        after.append(millions[at])
    return (
        f"Half of it is reached between {min(before):.0f} and {max(after):.0f} million tokens in each of {seeds(rows)}."
    )


TEXT_ARMS = {
    "packed": "packed text",
    "packed_long": "packed text, three times as long",
    "key_bias": "packed text, key bias",
    "fixed": "first token fixed",
    "fixed_key_bias": "fixed, key bias",
    "fixed_slow": "fixed, a quarter of the rate",
    "fixed_little": "fixed, a fiftieth of the data",
    "fixed_decay": "fixed, decay 0.5",
    "fixed_sigmoid": "fixed, sigmoid",
}


def text_table(arms: dict[str, list[dict]]) -> Shown:
    """Every arm trained on real text at its end: sinks, attention, norms and loss."""
    head = [
        "decoder",
        "seeds",
        "sink on the first, %",
        "sink on the bias, %",
        "most attention of a head",
        "largest norm ratio",
        "loss",
    ]
    return table(head, text_table_rows(arms), "toy-table")


def text_table_rows(arms: dict[str, list[dict]]) -> list[list[str]]:
    """A row for each arm, means over seeds; norms are the first hidden state's over the mean of the others."""
    rows = []
    for arm, label in TEXT_ARMS.items():
        if arm in arms:
            found = arms[arm]
            ends = [row["measured"][-1] for row in found]
            bias = arm in ("key_bias", "fixed_key_bias")
            rows.append(
                [
                    label,
                    str(len(found)),
                    f"{100 * last(found).mean():.1f}",
                    f"{100 * last(found, column='bias').mean():.1f}" if bias else "—",
                    f"{strongest(found, 0):.2f} to the bias" if bias else f"{strongest(found):.2f} to the first",
                    f"{np.mean([max(end['hidden_norm']) for end in ends]):.1f}",
                    f"{np.mean([end['loss'] for end in ends]):.3f}",
                ]
            )
    return rows


def toy_labels(t: Toys, arms: list[str]) -> list[str]:
    return [arm for arm in arms if arm in t.arms]


def bars(ax: Axes, t: Toys, arms: list[str]) -> None:
    """Attention to the first token, a row for each arm, a dot for each seed; half of the first arm's is marked."""
    shown = toy_labels(t, arms)
    for i, arm in enumerate(shown):
        _seeds(ax, i, t.first(arm), plotting.COLOURS[0], "o")
    if _finish(ax, t, shown, "attention to the first token", arms[0]):
        plotting.legend(ax, columns=1)


BIASES = {"no bias": ("default", "two random")} | {
    label: both(arm)
    for label, arm in {
        "K bias": "K bias",
        "KV bias": "KV bias",
        "V bias": "V bias",
        "sink logit": "sink logit",
        "K bias, value 1": "value 1",
        "K bias, value 5": "value 5",
        "K bias, value 20": "value 20",
        "K bias, even value 20": "even value 20",
        "4 heads, K bias": "4 heads, K bias",
        "4 heads, shared": "4 heads, shared K bias",
        "1 of 64 dimensions": "1 dimensions",
        "8 of 64 dimensions": "8 dimensions",
    }.items()
}


def biases(axes, t: Toys) -> None:
    """As `bars`, with the attention to the bias too: left with a fixed first token, right without one."""
    for ax, side, title in zip(axes, (0, 1), ("first token fixed", "no fixed token"), strict=True):
        for i, arms in enumerate(BIASES.values()):
            if arms[side] in t.arms:
                _seeds(ax, i - 0.15, t.first(arms[side]), plotting.COLOURS[0], "o")
                if t.has_bias(arms[side]):
                    _seeds(ax, i + 0.15, t.bias(arms[side]), plotting.COLOURS[1], "s")
        lines = _finish(ax, t, list(BIASES) if t.arms else [], "attention")
        ax.set_title(title, loc="left")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=label)
        for colour, marker, label in (
            (plotting.COLOURS[0], "o", "to the first token"),
            (plotting.COLOURS[1], "s", "to the bias"),
        )
    ]
    axes[0].figure.legend(handles=[*handles, *lines], loc="outside upper left", ncols=2)


def _seeds(ax: Axes, y: float, values: np.ndarray, colour: str, marker: str) -> None:
    ax.plot(values, np.full(len(values), y), marker, color=colour, markerfacecolor="none", markersize=6)
    ax.plot([values.mean()], [y], "|", color=colour, markersize=15, markeredgewidth=2.6)


def _finish(ax: Axes, t: Toys, shown: list[str], xlabel: str, base: str = "default") -> list[Line2D]:
    """Labels, and two lines, returned: what even attention gives, and half of what ``base`` has beyond it."""
    if not shown:
        return []
    ax.set_yticks(range(len(shown)), shown)
    ax.set(xlabel=xlabel, ylim=(len(shown) - 0.4, -0.6), xlim=(-0.02, 1.0))
    ax.grid(axis="y", visible=False)
    if base not in t.arms:
        return []
    level = even(base)[0]
    half = (level + t.first(base).mean()) / 2
    return [
        ax.axvline(x, color=plotting.INK, linewidth=1.4, linestyle=line, zorder=1, label=label)
        for x, line, label in ((level, ":", "even attention"), (half, (0, (6, 3)), f"half of {base}"))
    ]


def first_tokens(ax: Axes, t: Toys, arms: dict[str, str], ylabel: str) -> None:
    """Attention to each of the first five tokens, mean over seeds, a line for each arm."""
    series = {}
    for label, arm in arms.items():
        if arm in t.arms:
            series[label] = (np.arange(1, 6), [t.column(arm, token).mean() for token in range(5)])
    if series:
        plotting.curves(ax, series, xlabel="token", ylabel=ylabel)
        ax.set_xticks(range(1, 6))
        ax.set_ylim(0, 1.08 * max(max(y) for _, y in series.values()))
        plotting.legend(ax, columns=2)


def toy_means(t: Toys) -> dict[str, tuple[float | None, float | None]]:
    """Mean attention to the first token and to the bias of every toy there is or could be, for prose."""
    found = {}
    for arm in (name for family in TOYS.values() for name in family):
        there = arm in t.arms
        bias = t.bias(arm).mean() if there and t.has_bias(arm) else None
        found[arm] = (t.first(arm).mean() if there else None, bias)
    return found


def raw_table(t: Toys, arms: list[str]) -> Shown:
    """What a proxy hides: raw scores, norms of the first token, loss."""
    head = [
        "toy",
        "attention to first",
        "raw row sum",
        "raw score of first",
        "value norm",
        "hidden norm",
        "loss",
        "copied",
    ]
    return table(head, raw_table_rows(t, arms), "toy-table")


def raw_table_rows(t: Toys, arms: list[str]) -> list[list[str]]:
    """A row for each arm, means over seeds; norms are the first token's over the mean of the others."""
    names = ["row_sum", "first_raw", "values", "hidden", "validation", "copied"]
    return [
        [arm, f"{t.first(arm).mean():.2f}", *(f"{t.value(arm, name).mean():.2f}" for name in names)]
        for arm in toy_labels(t, arms)
    ]
