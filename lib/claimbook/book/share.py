"""The picture that a shared link to the book shows: the scoreboard in its colours, drawn without a browser."""

from pathlib import Path

from claimbook.book.scoreboard import Chapter, Standing
from claimbook.claims.totals import Totals
from claimbook.claims.words import several

WIDTH, HEIGHT, DPI = 12.0, 6.3, 100  # inches and dots an inch: 1200 x 630, what sites ask for
COLOURS = {  # the tiles' own, as in claimbook.css
    "reproduced": "#0b6e52",
    "partial": "#2864a6",
    "inconclusive": "#f0c65a",
    "not transferred": "#8d4a74",
    "contradicted": "#ad3b08",
}
EMPTY = "#dddddd"
TILE = 0.19


def draw(book: list[Chapter], path: Path) -> None:
    """Write the picture as PNG: title, what the book is, a row of tiles for each paper that has claims."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    with_claims = [chapter for chapter in book if chapter.standings]
    total = sum((chapter.totals for chapter in book), Totals())
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    axes.text(0.7, 5.35, "Claimbook", fontsize=44, fontweight="bold", va="center", color="#1c1a14")
    axes.text(0.7, 4.65, "Papers rerun, claim by claim", fontsize=24, va="center", color="#444444")
    step = min(0.36, 3.0 / max(len(with_claims), 1))
    most = max([len(chapter.standings) for chapter in with_claims], default=1)
    for row, chapter in enumerate(with_claims):
        y = 3.9 - row * step
        name = f"{chapter.authors} {chapter.year}"
        axes.text(0.7, y, name, fontsize=14, va="center", color="#1c1a14")
        for i, one in enumerate(chapter.standings):
            x = 3.5 + i * (WIDTH - 4.2) / most
            axes.add_patch(Rectangle((x, y - TILE / 2), TILE, TILE, **_look(one)))
    said = f"{several(total.claims, 'claims')}, {total.real.total()} of them tried on real models, data or arithmetic"
    axes.text(0.7, 0.5, said, fontsize=16, va="center", color="#444444")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _look(standing: Standing) -> dict:
    """A toy's tile is an outline, as it counts apart; what was not tested is grey."""
    colour = COLOURS.get(standing.word, EMPTY)
    toy = standing.entry.get("fidelity") == "toy"
    return {"facecolor": "white" if toy else colour, "edgecolor": colour, "linewidth": 2}
