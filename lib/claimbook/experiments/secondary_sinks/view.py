"""The chapter's figures and tables: each draws what it is given and measures nothing."""

from collections import Counter

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from claimbook import plotting, stats
from claimbook.display.tables import Shown, number, table
from claimbook.experiments.secondary_sinks import parts
from claimbook.experiments.secondary_sinks.find import TIMES, Found
from claimbook.experiments.secondary_sinks.live import Measured
from claimbook.experiments.secondary_sinks.parts import commonest, lifetimes, over_texts, starts

AROUND, NAMED = 8, 3  # tokens on the map on either side of a sink, and sinks that it shows
BLANKS = {" ": "space", "\n": "newline", "\t": "tab"}


def short(model: str) -> str:
    return model.rsplit("-", 1)[0]


def tokens_by_blocks(ax: Axes, found: Found, words: list[str], rule: str, title: str) -> None:
    """Tokens of a text, a column each, block by block: how long their states are. Around the primary and some sinks."""
    stream, sinks = found.stream, spread([sink.token for sink in found.secondary(rule)])
    columns = pieces([stream.at, *sinks], stream.norm.shape[1])
    ratio = np.log10((stream.norm / stream.norm.median(dim=1, keepdim=True).values).numpy())
    shown = np.stack([np.full(len(ratio), np.nan) if at is None else ratio[:, at] for at in columns], axis=1)
    image = ax.imshow(shown, aspect="auto", interpolation="nearest", origin="lower", vmin=np.log10(1.5), vmax=2)
    ax.grid(visible=False)
    places = [columns.index(at) for at in (stream.at, *sinks)]
    ax.set_xticks(places, [f"{at}" for at in (stream.at, *sinks)])
    ax.set(xlabel="token", ylabel="block")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    top = ax.secondary_xaxis("top")
    top.set_xticks(places, ["primary", *(f"“{word(words[at])}”" for at in sinks)], fontsize=11)
    top.tick_params(length=3)
    ax.set_title(title, loc="left", fontsize=12)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, ticks=np.log10([2, 5, 10, 20, 50, 100]))
    bar.ax.set_yticklabels(["2", "5", "10", "20", "50", "100"])
    bar.set_label("norm over the median")
    bar.outline.set_visible(False)


def spread(tokens: list[int], count: int = NAMED) -> list[int]:
    """At most ``count`` of some tokens, so far apart that their surroundings do not meet."""
    kept: list[int] = []
    for token in tokens:
        if len(kept) < count and token > (kept[-1] if kept else 0) + 2 * AROUND:
            kept.append(token)
    return kept


def pieces(places: list[int], length: int) -> list[int | None]:
    """The tokens around each of some places, of a text of ``length``, with a gap (None) of two between pieces."""
    columns: list[int | None] = []
    for place in places:
        if columns:
            columns += [None, None]
        columns += range(max(0, place - AROUND), min(length, place + AROUND + 1))
    return columns


def named(ax: Axes, title: str) -> None:
    """The name of a model in a corner that its curves leave free, and whole numbers for blocks."""
    ax.text(0.985, 0.04, title, transform=ax.transAxes, ha="right", va="bottom", fontsize=12)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def word(text: str) -> str:
    """A token as it can be read in a figure."""
    return BLANKS.get(text, text.strip() or repr(text)[1:-1])


def where_rules_look(ax: Axes, measured: Measured, title: str) -> None:
    """Norms by block: the primary, the longest sinks of every text, the median token; where the official rule looks."""
    rows = measured.rows
    blocks = np.arange(len(rows[0]["median_norm"]))
    mean = {
        "primary": np.exp(np.mean([np.log(row["primary"]["norm"]) for row in rows], axis=0)),
        "median token": np.exp(np.mean([np.log(row["median_norm"]) for row in rows], axis=0)),
    }
    sinks = [np.array(one["norm"]) for row in rows for one in row["drawn"]]
    for i, norms in enumerate(sinks):
        label = "sinks of our rule" if i == 0 else None
        ax.plot(blocks, norms, color=plotting.COLOURS[1], linewidth=0.8, alpha=0.45, label=label, zorder=1)
    for i, (label, norms) in enumerate(mean.items()):
        look = {"color": (plotting.COLOURS[0], plotting.INK)[i], "linestyle": plotting.LINES[i]}
        ax.plot(blocks, norms, label=label, **look)
    start, end = (int(np.median([row["primary"][key] for row in rows])) for key in ("start", "end"))
    ax.axvspan(start - 0.5, end - 0.5, color=plotting.COLOURS[2], alpha=0.12, label="official window")
    ax.set_yscale("log")
    plotting.plain_ticks(ax.yaxis)
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set(xlabel="block", ylabel="norm of the state")
    named(ax, title)


THRESHOLDS = [f"{k} x" for k in TIMES]


def levels(ax: Axes, rows: list[dict], rule: str, title: str) -> None:
    """How many sinks have each start and lifetime; a logarithm, as in the repository's figure."""
    blocks = len(rows[0]["median_norm"])
    counts = np.zeros((blocks, blocks))
    for start, life in zip(starts(rows, rule), lifetimes(rows, rule), strict=True):
        counts[life, start] += 1
    shown = np.where(counts, np.log10(counts.clip(min=1)), np.nan)
    image = ax.imshow(shown, aspect="auto", origin="lower", vmin=0, vmax=max(1.0, float(np.log10(counts.max() + 1))))
    ax.set(xlabel="start, block", ylabel="lifetime, blocks", title=title)
    ax.title.set_fontsize(12)
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", pad=0.02, ticks=range(5))
    bar.ax.set_xticklabels([f"{10**power:,}" for power in range(5)][: len(bar.get_ticks())])
    bar.set_label("sinks")
    bar.outline.set_visible(False)


def by_rule(measured: dict[str, Measured], rules: list[str]) -> Shown:
    """What some rules find, by model."""
    head = [
        "model",
        "rule",
        "texts with any",
        "per 1,000 tokens",
        "usual start",
        "usual lifetime",
        "drawn, %",
        "over an even share",
        "over the primary's",
    ]
    rows = []
    for model, one in measured.items():
        for rule in rules:
            rows.append([short(model), rule.replace(" x", " × median"), *_found(one.rows, rule)])
    return table(head, rows, "toy-table")


def _found(rows: list[dict], rule: str) -> list[str]:
    told = [row["rules"][rule] for row in rows]
    some = [one for one in told if one["secondary"]]
    count = sum(one["secondary"] for one in told)
    tokens = sum(row["tokens"] for row in rows)
    cells = [f"{len(some)} of {len(told)}", number(1000 * count / tokens)]
    if not some:
        return cells + ["—"] * 5
    given, even, primary = (np.array([one[name] for one in some]) for name in ("given", "even", "primary_given"))
    return [
        *cells,
        str(commonest(starts(rows, rule))),
        str(commonest(lifetimes(rows, rule))),
        f"{100 * given.mean():.1f}",
        f"{(given / even).mean():.1f}",
        f"{(given / primary).mean():.2f}",
    ]


def formation(ax: Axes, measured: dict[str, Measured]) -> None:
    """Cosines of what the start block writes with the primary's state: for sinks and like tokens, by half and model."""
    estimates = {}
    for model, one in measured.items():
        for half, words in (("feed_forward", "feed-forward"), ("attention", "attention")):
            for key, whom in (("written", "sinks"), ("like", "like tokens")):
                found = over_texts(one.rows, lambda row, key=key, half=half: _cosine(row, key, half))
                if found:
                    estimates[f"{short(model)}: {words}, {whom}"] = found
    if estimates:
        plotting.interval_plot(ax, estimates, xlabel="cosine with the primary's state")
        ax.set_xlim(-1.05, 1.05)


def _cosine(row: dict, key: str, half: str) -> float | None:
    values = [sink[key][f"{half}_along"] for sink in row["sinks"] if sink[key]]
    return float(np.mean(values)) if values else None


def score_by_norm(ax: Axes, measured: dict[str, Measured]) -> None:
    """Attention that each sink draws, against the norm of the write that made it, over its median."""
    for i, (model, one) in enumerate(measured.items()):
        sinks = [sink for row in one.rows for sink in row["sinks"]]
        if sinks:
            written = np.array([sink["written"]["feed_forward_norm"] for sink in sinks])
            given = np.array([sink["given"] for sink in sinks])
            look = {"color": plotting.COLOURS[i], "markerfacecolor": "none", "markersize": 4.5, "alpha": 0.7}
            ax.plot(written / np.median(written), 100 * given, plotting.MARKERS[i], label=short(model), **look)
    if ax.lines:
        ax.set(
            xscale="log", yscale="log", xlabel="norm of the write, over the model's median", ylabel="attention drawn, %"
        )
        plotting.plain_ticks(ax.xaxis)
        plotting.plain_ticks(ax.yaxis)
        plotting.legend(ax)


def scaling(ax: Axes, measured: dict[str, Measured]) -> None:
    """Attention to a sink whose write is scaled, over what it drew: mean over texts with 95 % intervals."""
    for i, (model, one) in enumerate(measured.items()):
        scaled = [row["scaled"]["factors"] for row in one.changes if row["scaled"]]
        if len(scaled) > 1:
            factors = [row["factor"] for row in scaled[0]]
            base = factors.index(1.0)
            drawn = np.array([[row["given"] / rows[base]["given"] for row in rows] for rows in scaled])
            means = [stats.mean(column) for column in drawn.T]
            arms = np.array([[m.value - m.low, m.high - m.value] if m.low == m.low else [0, 0] for m in means]).T
            look = {"color": plotting.COLOURS[i], "marker": plotting.MARKERS[i], "linestyle": plotting.LINES[i]}
            ax.errorbar(factors, [m.value for m in means], yerr=arms, capsize=4, label=short(model), **look)
    if ax.lines:
        ax.set(xlabel="the write of a sink, times", ylabel="attention, over unchanged")
        plotting.reference_line(ax, 1, "")
        plotting.legend(ax)


def primary(ax: Axes, measured: Measured, title: str) -> None:
    """Attention to the primary by block: beginnings as they are, without sinks, without others; and whole texts."""
    removed = [row["removed"] for row in measured.changes if row["removed"]]
    if not removed:
        return
    series = {}
    for key, label in (
        ("unchanged", "as it is"),
        ("without sinks", "without the sinks"),
        ("without others", "without other tokens"),
    ):
        mean = 100 * np.mean([row[key]["primary"] for row in removed], axis=0)
        series[label] = (np.arange(len(mean)), mean)
    whole = 100 * np.mean([row["primary"]["given"] for row in measured.rows], axis=0)
    series["as it is, whole texts"] = (np.arange(len(whole)), whole)
    plotting.curves(ax, series, xlabel="block", ylabel="attention to the primary, %")
    alive = sorted({block for row in removed for block in row["alive"]})
    counts = [sum(block in row["alive"] for row in removed) for block in alive]
    most = [block for block, count in zip(alive, counts, strict=True) if count >= len(removed) / 2]
    if most:
        ax.axvspan(min(most) - 0.5, max(most) + 0.5, color=plotting.COLOURS[1], alpha=0.10)
    ax.set_ylim(0, None)
    named(ax, title)


def directions(ax: Axes, measured: dict[str, Measured]) -> None:
    """Cosine with the primary's write of what the layer makes of each signed principal direction, sorted."""
    series = {}
    for model, one in measured.items():
        if one.probe["curves"]:
            cosines = np.sort(one.probe["curves"]["cosines"])[::-1]
            series[short(model)] = (100 * np.arange(1, len(cosines) + 1) / len(cosines), cosines)
    if series:
        plotting.curves(ax, series, xlabel="signed directions, sorted, %", ylabel="cosine with the primary's write")
        for value in (0.98, -0.98):
            plotting.reference_line(ax, value, f"{value}")
        ax.set_ylim(-1.1, 1.1)


FACTS = """primary_from primary_to official_per_1000 count texts per_1000 words start life levels contiguous covered
turned none half twice fourfold life_once life_fourfold aligned_once aligned_fourfold primary_with primary_without
loss keys primary_keys neurons neuron_share best_cosine aligned_directions exponent"""


def facts(measured: Measured | None, rule: str) -> dict[str, str | None]:
    """Numbers about one model that are no part of the ledger, as prose says them; None where they were not measured."""
    told = dict.fromkeys(FACTS.split())
    if measured is None:
        return told
    rows = measured.rows
    tokens = sum(row["tokens"] for row in rows) / 1000
    for key, edge in (("primary_from", "start"), ("primary_to", "end")):
        told[key] = f"{np.median([row['primary'][edge] for row in rows]) - (edge == 'end'):.0f}"
    for key, one in (("per_1000", rule), ("official_per_1000", "official")):
        told[key] = number(sum(row["rules"][one]["secondary"] for row in rows) / tokens)
    return told | _sinks(rows, rule) | _causes(measured.changes) | _layer(measured.probe)


def _sinks(rows: list[dict], rule: str) -> dict[str, str]:
    """What the sinks of our rule are."""
    sinks = [sink for row in rows for sink in row["sinks"]]
    told = {"count": str(len(sinks)), "texts": f"{sum(bool(row['sinks']) for row in rows)} of {len(rows)}"}
    if not sinks:
        return told
    on_end = sum(row["rules"][rule].get("contiguous", 0) for row in rows)
    return told | {
        "words": commonest_words(sinks),
        "start": str(commonest(starts(rows, rule))),
        "life": str(commonest(lifetimes(rows, rule))),
        "levels": ", ".join(f"{level} × {count}" for level, count in sorted(parts.levels(rows, rule).items())),
        "contiguous": f"{100 * on_end / len(sinks):.0f} %",
        "covered": f"{100 * np.mean([sink['like'] is not None for sink in sinks]):.0f} %",
    }


def commonest_words(sinks: list[dict], count: int = 3) -> str:
    """The tokens that are sinks most often, with their shares, in words."""
    words = Counter(word(sink["text"]) for sink in sinks)
    return ", ".join(f"“{one}” {100 * times / len(sinks):.0f} %" for one, times in words.most_common(count))


def _causes(rows: list[dict]) -> dict[str, str]:
    """What interventions changed, means over texts; lives are medians, by our rule and by direction alone."""
    scaled = [{one["factor"]: one for one in row["scaled"]["factors"]} for row in rows if row["scaled"]]
    removed, heads = ([row[key] for row in rows if row[key]] for key in ("removed", "heads"))
    if not scaled:
        return {}
    names = {"turned": -1.0, "none": 0.0, "half": 0.5, "twice": 2.0, "fourfold": 4.0}
    told = {
        name: f"{np.mean([one[factor]['given'] / one[1.0]['given'] for one in scaled]):.2f}"
        for name, factor in names.items()
    }
    for name, factor in (("once", 1.0), ("fourfold", 4.0)):
        told[f"life_{name}"] = f"{np.median([one[factor]['lifetime'] for one in scaled]):.0f}"
        told[f"aligned_{name}"] = f"{np.median([one[factor]['aligned'] for one in scaled]):.0f}"
    for name, plan in (("with", "unchanged"), ("without", "without sinks")):
        shares = [np.mean(np.array(row[plan]["primary"])[row["alive"]]) for row in removed]
        told[f"primary_{name}"] = f"{100 * np.mean(shares):.0f} %"
    told["loss"] = f"{np.mean([row['without sinks']['loss'] - row['unchanged']['loss'] for row in removed]):.3f}"
    for name in ("key", "primary_key"):
        told[f"{name}s"] = f"{np.mean([one[f'{name}_over'] for one in heads]):.2f}"
    return told


def _layer(probe: dict) -> dict[str, str]:
    """The layer alone, in words."""
    metrics, curves = probe["metrics"], probe["curves"]
    if not metrics:
        return {}
    told = {
        "best_cosine": f"{max(map(abs, curves['cosines'])):.3f}",
        "aligned_directions": f"{metrics['aligned']} of {metrics['directions']}",
        "exponent": f"{metrics['exponent']:.2f}",
    }
    if curves.get("length"):
        two, share = curves["neurons"][:2], sum(curves["contributions"][:2]) / curves["length"]
        told |= {"neurons": " and ".join(map(str, two)), "neuron_share": f"{100 * share:.0f} %"}
    return told


def expected(measured: Measured, per_1000: float) -> str:
    """How many sinks a published rate makes of the tokens that were read."""
    return f"{per_1000 * sum(row['tokens'] for row in measured.rows) / 1000:.0f}"


def side_by_side(told: dict[str, dict[str, str | None]], lines: dict[str, str]) -> Shown:
    """Numbers of every model beside one another: ``told`` by model and key, ``lines`` the words for some keys."""
    rows = [[words, *(one[key] or "—" for one in told.values())] for key, words in lines.items()]
    return table(["", *map(short, told)], rows, "toy-table")


def numbers(run, model: str | None) -> dict[str, str | None]:
    """What was measured of a model for each part of the ledger, ``{"C6.aligned": …}``, as prose says it."""
    return {
        f"{claim.id}.{part.name}": _said(run.measurement(claim.id, part.name, model))
        for claim in run.ledger.claims
        for part in claim.parts
    }


def _said(found) -> str | None:
    if isinstance(found, stats.Votes):
        return f"{found.agree} of {found.n}"
    if isinstance(found, stats.Estimate):
        decimals = int(np.clip(1 - np.floor(np.log10(found.high - found.low)), 0, 3)) if found.high > found.low else 2
        ends = f" [{found.low:.{decimals}f}, {found.high:.{decimals}f}]" if np.isfinite(found.low) else ""
        return f"{found.value:.{decimals}f}{ends}"
    return None if found is None else number(found.value)
