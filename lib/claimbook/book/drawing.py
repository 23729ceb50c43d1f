"""The worked example as one drawing, from row to verdict; its numbers are those that the example's text is made of."""

from html import escape

from claimbook.book.scoreboard import Standing
from claimbook.book.share import COLOURS, EMPTY
from claimbook.claims import words
from claimbook.claims.criteria import Controls, Part, accepted
from claimbook.claims.words import several
from claimbook.display import cards
from claimbook.display.tables import number, rounded, sample

WIDTH, LEFT = 360, 34  # as wide as a phone's text; steps stand right of a line that joins them
DARK = "#1c1a14"  # text on a light tile
BAR = 150  # pixels of the longer bar

DESCRIPTION = (
    "Five steps, one below the other. A document is read with the window and with streaming: {window:.2f} and "
    "{streaming:.2f} nats. {rows} such rows give a difference each. Their ratio, {ours}, is set beside the accepted "
    "region {region}. Each part gets a state: {states}. The verdict: {verdict}."
)


def drawing(losses: list[tuple[float, float]], part: Part, standing: Standing) -> str:
    """SVG in the page's own text colour. ``losses``: of each row, with the window and with streaming, in nats."""
    found, y, pieces = standing.entry["parts"][part.name], 16, []
    unit = (found["unit"] or "documents").removesuffix("s")
    steps = [
        (f"A row: one {unit}, read twice", "1", _bars(losses[0])),
        (f"{several(len(losses), 'rows')}: the loss added", "2", _dots(losses)),
        ("A ratio and its bound", "3, 4, 6", _compared(part, found)),
        ("A state for each part", "5, 7", _states(standing)),
        ("The verdict", "8", _verdict(standing)),
    ]
    for title, which, (drawn, height) in steps:
        which = f"steps {which}" if "," in which else f"step {which}"
        pieces.append(
            f'<circle cx="12" cy="{y - 5}" r="5"/><text x="{LEFT}" y="{y}"><tspan class="step">{escape(title)}</tspan>'
            f'<tspan class="muted" dx="6">{which}</tspan></text><g transform="translate({LEFT} {y})">{drawn}</g>'
        )
        last, y = y, y + height + 42
    said = DESCRIPTION.format(
        window=losses[0][0],
        streaming=losses[0][1],
        rows=len(losses),
        ours=_ours(found),
        region=accepted(part),
        states=", ".join(f"{name} {words.word(one['state'])}" for name, one in standing.entry["parts"].items()),
        verdict=standing.spoken,
    )
    return (
        f'<svg class="row-to-verdict" viewBox="0 0 {WIDTH} {y - 26}" role="img" aria-labelledby="rtv-title rtv-desc">'
        f'<title id="rtv-title">From row to verdict</title><desc id="rtv-desc">{escape(said)}</desc>'
        f'<path class="line" d="M12 11V{last - 5}"/>{"".join(pieces)}</svg>'
    )


Drawn = tuple[str, int]  # what stands below a step's title, and how high it is


def _bars(losses: tuple[float, float]) -> Drawn:
    lines = []
    for i, (name, loss) in enumerate(zip(("window", "streaming"), losses, strict=True)):
        y, width = 10 + 24 * i, BAR * loss / max(losses)
        lines.append(f'<text x="0" y="{y + 13}">{name}</text><rect x="76" y="{y}" width="{width:.1f}" height="17"/>')
        lines.append(f'<text x="{82 + width:.1f}" y="{y + 13}">{loss:.2f} nats</text>')
    return "".join(lines), 54


def _dots(losses: list[tuple[float, float]]) -> Drawn:
    """A dot for each row on an axis from 0, or from the least when that is below."""
    added = [window - streaming for window, streaming in losses]
    low, high = min(0, *added), max(1e-9, *added)
    x = [8 + (WIDTH - LEFT - 24) * (value - low) / (high - low) for value in added]
    dots = "".join(f'<circle cx="{at:.1f}" cy="20" r="5" fill-opacity=".45"/>' for at in x)
    right = WIDTH - LEFT - 16
    axis = f'<path class="line" d="M8 20H{right}"/><text x="4" y="44">{number(low)}</text>'
    return f'{axis}<text x="{right}" y="44" text-anchor="end">{number(high)} nats</text>{dots}', 44


def _compared(part: Part, found: dict) -> Drawn:
    """The strip of the claim's card, and its marks in words."""
    said = [f"{cards.MARKS['ours']} ours: {_ours(found)}, {sample(found)}", f"shaded: accepted, {accepted(part)}"]
    if isinstance(part.controls, Controls):
        figures = {"published": part.controls.published, "null": part.controls.null}
        names = {"published": "published", "null": "if the claim were false"}
        said += [
            f"{cards.MARKS[which]} {names[which]}: {' and '.join(map(str, listed))}"
            for which, listed in figures.items()
            if isinstance(listed, list)
        ]
    strip = cards.strip(part, found).replace("<svg ", f'<svg x="0" y="12" width="{cards.WIDTH}" height="20" ', 1)
    lines = "".join(f'<text x="0" y="{52 + 19 * i}">{escape(line)}</text>' for i, line in enumerate(said))
    return strip + lines, 52 + 19 * (len(said) - 1)


def _states(standing: Standing) -> Drawn:
    lines = [
        f"{cards.STATES[one['state']]} {name.replace('_', ' ')}: {words.word(one['state'])}"
        for name, one in standing.entry["parts"].items()
    ]
    drawn = "".join(f'<text x="0" y="{22 + 19 * i}">{escape(line)}</text>' for i, line in enumerate(lines))
    return drawn, 22 + 19 * (len(lines) - 1)


def _verdict(standing: Standing) -> Drawn:
    colour, said = COLOURS.get(standing.word, EMPTY), f"{words.SIGNS[standing.word][0]} {standing.spoken}"
    ink = "#fff" if colour not in (EMPTY, COLOURS["inconclusive"]) else DARK
    width = 20 + 9 * len(said)
    box = f'<rect x="0" y="10" width="{width:.0f}" height="28" rx="5" style="fill: {colour}; fill-opacity: 1"/>'
    text = f'<text x="10" y="29" data-on="{colour}" style="fill: {ink}; font-weight: 600">{escape(said)}</text>'
    return box + text, 38


def _ours(found: dict) -> str:
    return " ".join(filter(None, rounded(found["estimate"], found["interval"])))
