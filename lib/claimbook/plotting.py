"""Figures of one look, which read on a light and on a dark page, on a phone, and without colour.

Colours are those of Okabe and Ito (2008), safe for colour-blind readers, darkened where they are thin on white; every
series also has its own line style and marker. A chapter's figures are functions that return a `Plot`: the figure with
its words. `show` ends it for a notebook, twice: as a PNG of at most 200 kB, which JupyterLab shows, also in a notebook
just opened, whose HTML it does not trust; and as an SVG in the page's own colours, which the book takes.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from claimbook.errors import ClaimbookError
from claimbook.stats import Estimate

CARD, INK, SOFT, GRID = "#fbfaf7", "#22252a", "#6b7078", "#dedbd3"
COLOURS = ["#0072b2", "#c44e00", "#00805e", "#8f4f86", "#a37200", "#3a8fc4", "#22252a"]
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
WIDTH = 6.0  # inches; with 13 pt text this is still legible when a phone shows it 350 pixels wide
STRIP = 0.3  # inches below the axes that the fidelity has to itself
LARGEST = 200_000  # bytes of a PNG, and of an SVG
FOR_BOOK = "application/vnd.claimbook+html"  # a kind of output that only the book knows, see book/_ext/cards.py
NAMES = {"smollm2": "SmolLM2", "gemma-3": "Gemma-3"}
SNAPSHOT = re.compile(r"models--(?:\w[^/]*--)?([^/]+)/snapshots/[0-9a-f]{40}$")  # a folder of the hub's own cache
QUALITIES = ((160, 128), (120, 64), (96, 32), (72, 16))  # dots per inch, colours


def style() -> None:
    """Set the book's look for this process; `figure` does it too."""
    sns.set_theme(
        style="ticks",
        palette=COLOURS,
        rc={
            "figure.facecolor": CARD,
            "axes.facecolor": CARD,
            "savefig.facecolor": CARD,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": SOFT,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.grid": True,
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
            "font.size": 13,
            "axes.titlesize": 14,
            "axes.labelsize": 13,
            "xtick.labelsize": 12,
            "ytick.labelsize": 12,
            "legend.fontsize": 12,
            "legend.frameon": False,
            "legend.handlelength": 2.8,
            "lines.linewidth": 2.2,
            "lines.markersize": 6.5,
            "figure.constrained_layout.use": True,
            "image.cmap": "cividis",  # even steps in lightness: right without colour
        },
    )


def figure(rows: int = 1, columns: int = 1, *, height: float = 3.6, **options):
    """A figure of the book's width and its axes: one `Axes`, or an array of them as `plt.subplots` gives it."""
    style()
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), **options)
    plt.close(fig)  # else Jupyter draws it once more at the end of the cell
    return fig, axes


# --- what is drawn -------------------------------------------------------------------------------------------------


def curves(ax: Axes, series: Mapping[str, Sequence], *, xlabel: str, ylabel: str, marks: int = 8) -> None:
    """Draw ``{label: (x, y)}`` or ``{label: (x, y, low, high)}``: a line each, with its band.

    Each line has its own colour, style and about ``marks`` markers. The legend stands above the axes.
    """
    for i, (label, (x, y, *band)) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        every = max(1, len(x) // marks)
        look = {"color": colour, "linestyle": LINES[i % len(LINES)], "marker": MARKERS[i % len(MARKERS)]}
        ax.plot(x, y, label=label, markevery=(i * every // max(1, len(series)), every), **look)
        if band:
            ax.fill_between(x, *band, color=colour, alpha=0.18, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend(ax)


def interval_plot(ax: Axes, estimates: Mapping[str, Estimate], *, xlabel: str) -> None:
    """Draw ``{label: Estimate}`` as points with their 95 % intervals, top to bottom; ratios on a log axis.

    An estimate without an interval is drawn as a hollow point.
    """
    for i, estimate in enumerate(estimates.values()):
        bounded = np.isfinite(estimate.low) and np.isfinite(estimate.high)
        arms = [[estimate.value - estimate.low], [estimate.high - estimate.value]] if bounded else None
        look = {"color": COLOURS[0], "markerfacecolor": COLOURS[0] if bounded else CARD, "markersize": 9}
        ax.errorbar(estimate.value, i, xerr=arms, fmt="o", capsize=5, linewidth=2.4, **look)
    ax.set_yticks(range(len(estimates)), estimates)
    ax.set(xlabel=xlabel, ylim=(len(estimates) - 0.4, -0.6))
    ax.grid(axis="y", visible=False)
    if any(estimate.scale == "log" for estimate in estimates.values()):
        ax.set_xscale("log")
        plain_ticks(ax.xaxis)
        ax.xaxis.set_major_locator(_WithOne(ax.xaxis.get_major_locator()))


class _WithOne(Locator):
    """Ticks of another locator and one at 1, which ratios are compared with."""

    def __init__(self, other: Locator):
        self.other = other

    def set_axis(self, axis):
        super().set_axis(axis)
        self.other.set_axis(axis)

    def __call__(self):
        low, high = sorted(self.axis.get_view_interval())
        near = 0.08 * np.log(high / low)
        ticks = [tick for tick in self.other() if tick > 0]
        return [1.0, *(tick for tick in ticks if abs(np.log(tick)) > near)] if low <= 1 <= high else ticks


def reference_line(ax: Axes, value: float, label: str = "published", *, axis: str = "y") -> None:
    """Mark a value across the axes, such as the published one; ``axis`` names the axis it is a value of.

    Draw the published value only where the quantity is comparable (ratio, share, slope) or the fidelity is exact.
    """
    draw = ax.axhline if axis == "y" else ax.axvline
    draw(value, color=INK, linewidth=1.4, linestyle=(0, (6, 3)), zorder=1)
    look = {"fontsize": 11, "color": INK, "textcoords": "offset points"}
    if axis == "y":
        place = {"xy": (0.99, value), "xycoords": ax.get_yaxis_transform(), "xytext": (0, 2)}
        ax.annotate(label, ha="right", va="bottom", **place, **look)
    else:  # at the top, on the side where there is more room
        left = value >= np.mean(ax.get_xlim())
        place = {"xy": (value, 0.98), "xycoords": ax.get_xaxis_transform(), "xytext": (-6 if left else 6, 0)}
        ax.annotate(label, ha="right" if left else "left", va="top", **place, **look)


def region(ax: Axes, low: float, high: float, label: str = "accepted", *, axis: str = "x") -> None:
    """Hatch the region a part accepts, from the ledger; an infinite end reaches the edge of the axes."""
    start, end = ax.get_xlim() if axis == "x" else ax.get_ylim()
    low, high = max(low, min(start, end)), min(high, max(start, end))
    draw = ax.axvspan if axis == "x" else ax.axhspan
    draw(low, high, facecolor="none", edgecolor="#00805e", alpha=0.6, hatch="///", linewidth=0, zorder=0, label=label)
    (ax.set_xlim if axis == "x" else ax.set_ylim)(start, end)
    legend(ax)


def model_name(model: str) -> str:
    """A model as figures name it: one of the book's without its size, a folder without its path; in short."""
    of_the_hub = SNAPSHOT.search(model)
    name = re.sub(r"-[0-9]+[mb]$", "", of_the_hub[1] if of_the_hub else model.rstrip("/").rpartition("/")[2])
    name = NAMES.get(name, name)
    return name if len(name) <= 24 else f"{name[:23]}…"


def legend(ax: Axes, columns: int = 2) -> None:
    """The legend above the axes, where it hides nothing; none where nothing has a label."""
    if not ax.get_legend_handles_labels()[1]:
        return
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, columnspacing=1.4, borderaxespad=0.2)


def plain_ticks(axis) -> None:
    """Plain numbers on a log axis (0.5, 2, 1,000), at distances that suit its range."""
    low, high = sorted(axis.get_view_interval())
    if high < 8 * low:
        axis.set_major_locator(MaxNLocator(5))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.5g}"))
    axis.set_minor_formatter(NullFormatter())


# --- how it ends -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plot:
    """A figure and its words.

    ``title``: what it shows, in a sentence, with numbers from the data it is drawn from. ``caption``: how to read it.
    ``alt``: what can be seen, for who cannot see it. ClaimbookError where that is missing.
    """

    fig: Figure
    alt: str
    title: str = ""
    caption: str = ""

    def __post_init__(self):
        if not self.alt.strip():
            raise ClaimbookError("a figure without alt text: say what can be seen, `plotting.Plot(fig, alt=…)`")


class Shown:
    """A finished figure, as a notebook takes it: PNG, HTML for the book (`FOR_BOOK`), and its title as text."""

    def __init__(self, plot: Plot, fidelity: str):
        self.data = png(plot, fidelity)  # first, as it completes the figure
        self.html, self.text = _html(plot, self.data), plot.title or plot.alt

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        image = base64.b64encode(self.data).decode()
        return {"image/png": image, FOR_BOOK: self.html, "text/plain": self.text}

    def __repr__(self) -> str:
        return self.text


def show(plot: Plot, fidelity: str) -> Shown:
    """Finish a figure for a notebook; see `png` for ``fidelity`` and the errors."""
    return Shown(plot, fidelity)


def _html(plot: Plot, small: bytes) -> str:
    """The figure between its title and its caption: an SVG, or the PNG of one that is too large."""
    drawn, alt = svg(plot.fig, plot.alt), escape(plot.alt, quote=True)
    if len(drawn) > LARGEST:
        drawn = f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(small).decode()}">'
    title = f'<p class="plot-title">{escape(plot.title)}</p>' if plot.title else ""
    caption = f"<figcaption>{escape(plot.caption)}</figcaption>" if plot.caption else ""
    return f'<figure class="plot">{title}{drawn}{caption}</figure>'


def svg(fig: Figure, alt: str) -> str:
    """An SVG that takes text and lines from the page's colours, and the series from ``--plot-0`` and so on."""
    buffer = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):  # the salt makes ids the figure's own
        fig.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None}, bbox_inches=None)
    dropped = r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->"  # a style would hold for the whole page
    text = re.sub(dropped, "", buffer.getvalue(), flags=re.DOTALL)
    text = text[text.index("<svg") :]
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r'<rect ([^>]*)fill="(#[0-9a-f]{6})"/>', r'<rect \1style="fill: \2"/>', text)  # of a hatched area
    text = re.sub(r"(stroke|fill): (#[0-9a-f]{6})", _themed, text)
    head, body = text.split(">", 1)
    head = re.sub(r' (width|height|version|xmlns\S*)="[^"]*"', "", head)
    return f'{head} stroke-linejoin="round" role="img" aria-label="{escape(alt, quote=True)}">{body}'.strip()


def _themed(found: re.Match) -> str:
    what, colour = found.groups()
    if colour in COLOURS and colour != INK:
        return f"{what}: var(--plot-{COLOURS.index(colour)}, {colour})"
    themed = {INK: "currentColor", SOFT: f"var(--pst-color-text-muted, {SOFT})"}
    themed |= {GRID: f"currentColor; {what}-opacity: 0.15", CARD: "var(--plot-card, transparent)"}
    return f"{what}: {themed.get(colour, colour)}"


def png(plot: Plot, fidelity: str) -> bytes:
    """The finished figure as PNG bytes, at most `LARGEST`: with fewer dots and colours until it is.

    ``fidelity`` (exact, reduced, toy) stands in the lower right corner.

    ClaimbookError for an unknown fidelity, and for a figure that stays too large.
    """
    if fidelity not in ("exact", "reduced", "toy"):
        raise ClaimbookError(f"a figure's fidelity is exact, reduced or toy, not '{fidelity}'")
    fig = plot.fig
    for ax in fig.axes:
        if not ax.has_data():
            _say_empty(ax)
    strip = STRIP / fig.get_figheight()
    fig.get_layout_engine().set(rect=(0, strip, 1, 1 - strip))  # room below for the fidelity, clear of any label
    line = "--" if fidelity == "toy" else "-"
    box = {"boxstyle": "round,pad=0.3", "facecolor": CARD, "edgecolor": SOFT, "linestyle": line}
    fig.text(0.985, 0.02, fidelity, ha="right", va="bottom", fontsize=11, color=INK, bbox=box)
    for dots, colours in QUALITIES:
        data = _render(fig, dots, colours)
        if len(data) <= LARGEST:
            return data
    raise ClaimbookError(f"a figure takes {len(data):,} bytes at the lowest quality (at most {LARGEST:,}): show less")


def _say_empty(ax: Axes) -> None:
    """Axes of an experiment that this run did not do say so."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, "not measured in this run", ha="center", va="center", color=SOFT, transform=ax.transAxes)


def _render(fig: Figure, dots: int, colours: int) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dots, metadata={"Software": None}, bbox_inches=None)
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()
