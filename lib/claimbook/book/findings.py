"""The finding cards of the front page: ``book/findings.yaml``, with every number taken from the results.

A card names a claim and the values it compares. Its sentence has a place for each number, and `less` states the order
that the sentence relies on. A card of a claim that was not run is left out; one that refers to nothing, or whose order
the results no longer show, is an error.
"""

import math
import re
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from claimbook import paths, strict_yaml
from claimbook.book import scoreboard
from claimbook.book.scoreboard import Chapter, Standing
from claimbook.claims.criteria import Controls, Model, Part, Text
from claimbook.display.cards import badge
from claimbook.display.tables import anchor_id, number, rounded, sample
from claimbook.errors import ClaimbookError

FILE = "book/findings.yaml"


class Reference(Model):
    """One number: of a part of a claim, ours or what it is compared with."""

    label: Text
    claim: str | None = None
    part: str | None = None
    model: str | None = None
    take: Literal["ours", "null", "published", "bound"] = "ours"
    percent: bool = False


class Plot(Model):
    title: Text
    start: float = 0.0
    log: bool = False


class Card(Model):
    chapter: str
    claim: str
    part: str
    sentence: Text
    plot: Plot
    values: dict[str, Reference]
    less: list[str]


@dataclass(frozen=True)
class Value:
    """A number with its interval (its own value twice where there is none), as a sentence and a plot show it."""

    label: str
    value: float
    low: float
    high: float
    ours: bool
    percent: bool
    sample: str

    def __str__(self) -> str:
        interval = [self.low, self.high] if self.high > self.low else None
        text = rounded(self.value, interval)[0] if interval else number(self.value)
        return f"{text}\u00a0%" if self.percent else text


def load() -> list[Card]:
    """The cards as they are written; ClaimbookError names the file and what is wrong. No file, no cards."""
    path = paths.root() / FILE
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[Card]).validate_python(strict_yaml.read(path, FILE) or [])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(one) for one in first["loc"])
        raise ClaimbookError(f"{FILE}: {place or 'cards'}: {first['msg']}") from None


def shown(book: list[Chapter]) -> str:
    """The cards as one piece of HTML for a Markdown page; a line in their place when nothing was run."""
    drawn = [_drawn(card, *found) for card in load() if (found := _values(card, book))]
    if not drawn:
        return "No finding was run yet."
    return "\n".join(["```{raw} html", '<div class="findings">', *drawn, "</div>", "```"])


def _values(card: Card, book: list[Chapter]) -> tuple[Chapter, Standing, dict[str, Value]] | None:
    """The card's values by name, None where its chapter or claim has no result; ClaimbookError for a false card."""
    chapter = next((one for one in book if one.key == card.chapter), None)
    standings = {one.claim.id: one for one in chapter.standings} if chapter else {}
    if chapter is None or card.claim not in standings:
        raise ClaimbookError(f"{FILE}: there is no claim {card.chapter}.{card.claim}")
    if not standings[card.claim].entry:
        return None
    values = {name: _value(card, one, standings) for name, one in card.values.items()}
    _refuse_false(card, values)
    return chapter, standings[card.claim], values


def _value(card: Card, reference: Reference, standings: dict[str, Standing]) -> Value:
    claim, name = reference.claim or card.claim, reference.part or card.part
    where = f"{FILE}: {card.chapter}.{claim} {name}"
    standing = standings.get(claim)
    part = next((one for one in standing.claim.parts if one.name == name), None) if standing else None
    if part is None:
        raise ClaimbookError(f"{where}: there is no such part")
    entry = standing.entry
    if reference.model:
        entry = entry.get("others", {}).get(reference.model, {})
    found = entry.get("parts", {}).get(name, {})
    given = found if reference.take == "ours" else found.get(reference.take, {})
    value, interval = given.get("estimate"), given.get("interval")
    if value is None and reference.take != "ours":
        value = _stated(part, reference.take)
    if value is None:
        model = f" on {reference.model}" if reference.model else ""
        raise ClaimbookError(f"{where}: no value of '{reference.take}'{model}; take another, or drop the card")
    low, high = interval or [value, value]
    times = 100 if reference.percent else 1
    ours = reference.take == "ours"
    numbers = (times * value, times * low, times * high)
    return Value(reference.label, *numbers, ours, reference.percent, sample(found) if ours else "")


def _stated(part: Part, take: str) -> float | None:
    """What the ledger states of a part: its bound, or the first of its known answers."""
    if take == "bound":
        names = ("bound", "min_effect", "min_share")
        return next((getattr(part, name) for name in names if getattr(part, name, None) is not None), None)
    listed = getattr(part.controls, take) if isinstance(part.controls, Controls) else None
    return listed[0].value if isinstance(listed, list) else None


def _refuse_false(card: Card, values: dict[str, Value]) -> None:
    """ClaimbookError unless the card's numbers stand in the order that it states, their intervals apart."""
    where = f"{FILE}: {card.chapter}.{card.claim}"
    used = {name.split(".")[0] for name in re.findall(r"\{([\w.]+)\}", card.sentence)}
    if unknown := sorted((used | set(card.less)) - set(values)):
        raise ClaimbookError(f"{where}: no value is called {', '.join(unknown)}; it has {', '.join(values)}")
    if len(card.less) < 2:
        raise ClaimbookError(f"{where}: 'less' has to name two values or more, or nothing could make the card false")
    for lower, higher in pairwise(card.less):
        if not values[lower].high < values[higher].low:
            raise ClaimbookError(
                f"{where}: '{lower}' ({values[lower]}) is not below '{higher}' ({values[higher]}) any more: "
                "write another sentence, or drop the card"
            )


# --- HTML ------------------------------------------------------------------------------------------------------------


class _Bold:
    """A value whose number stands out in a sentence; ``{ours.sample}`` stays as it is."""

    def __init__(self, value: Value):
        self.sample, self._shown = value.sample, str(value)

    def __str__(self) -> str:
        return f"<strong>{self._shown}</strong>"


def _drawn(card: Card, chapter: Chapter, standing: Standing, values: dict[str, Value]) -> str:
    bold = {name: _Bold(value) for name, value in values.items()}
    sentence = escape(" ".join(card.sentence.split())).format(**bold)
    address = f"../notebooks/{card.chapter}.html#{anchor_id(standing.anchor)}"
    about = scoreboard.by_line(chapter)
    whose = "our own claim" if standing.claim.source == "ours" else "the paper's claim"
    return (
        f'<article class="finding"><p class="finding-paper">{escape(about)}</p>'
        f'<p class="finding-sentence">{sentence}</p>'
        f"{bars(list(values.values()), card.plot, describe=' '.join(card.sentence.split()).format(**values))}"
        f'<p class="finding-verdict">{badge(standing.entry)} <span class="tag">{escape(standing.fidelity)}</span> '
        f'<span class="tag">{whose}</span></p>'
        f'<p class="finding-link"><a href="{address}">{standing.claim.id}: {escape(standing.claim.title)}</a></p>'
        "</article>"
    )


WIDTH, ROW, TOP = 320, 34, 4  # of a small plot and of a bar with its label, in pixels


def bars(values: list[Value], plot: Plot, describe: str) -> str:
    """A bar per value from ``plot.start`` on: ours filled, what it is compared with outlined, intervals as lines."""
    ends = [end for one in values for end in (one.low, one.high)] + [plot.start]
    forth = (lambda x: math.log(x)) if plot.log else (lambda x: x)
    low, high = min(map(forth, ends)), max(map(forth, ends))

    def at(value: float) -> float:
        return (WIDTH - 4) * (forth(value) - low) / ((high - low) or 1) + 2

    rows = []
    for i, one in enumerate(values):
        y, zero, end = TOP + i * ROW, at(plot.start), at(one.value)
        look = 'class="ours" fill="currentColor"' if one.ours else 'fill="none" stroke="currentColor"'
        rows.append(
            f'<text x="0" y="{y + 11}">{escape(one.label)}</text>'
            f'<text x="{WIDTH}" y="{y + 11}" text-anchor="end" font-weight="600">{escape(str(one))}</text>'
            f'<rect {look} x="{min(zero, end):.1f}" y="{y + 16}" width="{max(abs(end - zero), 1.5):.1f}" height="10"/>'
        )
        if one.high > one.low:
            start, stop = at(one.low), at(one.high)
            rows.append(f'<path class="interval" d="M{start:.1f} {y + 21}H{stop:.1f}" stroke="currentColor"/>')
    height = TOP + len(values) * ROW
    beside = "".join(f"M{at(plot.start):.1f} {TOP + i * ROW + 14}v14" for i in range(len(values)))  # each bar, no label
    axis = f'<path d="{beside}" stroke="currentColor" opacity=".5"/>'
    listed = ", ".join(f"{one.label} {one}" for one in values)
    return (
        f'<figure class="small-plot"><figcaption>{escape(plot.title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(f"{plot.title}: {listed}", quote=True)}">'
        f"<title>{escape(plot.title)}</title><desc>{escape(describe)}</desc>{axis}{''.join(rows)}</svg></figure>"
    )
