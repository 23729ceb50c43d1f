"""When each number of the book was made, on what machine, and whether what stands in the repository still makes it."""

import re
from collections.abc import Mapping
from datetime import date
from html import escape

from claimbook import paths
from claimbook.book.scoreboard import Chapter
from claimbook.claims.words import several
from claimbook.display.tables import Shown, table
from claimbook.errors import ClaimbookError
from claimbook.provenance import declarations, seals
from claimbook.provenance.machine import clock
from claimbook.runs import stored_runs

HARDWARE = re.compile(r", (\d+) cores(?:, (\d+) GB)?(?:, (.+))?$")  # as provenance/machine.py writes it
STATES = {"missing": "not made yet", "running": "being made", "confirmed by prefix": "confirmed"}

Stale = Mapping[str, list[str]]  # chapter -> what changed since its reference run, and the command that makes it new


def chapters(book: list[Chapter], stale: Stale, today: date) -> str:
    """How many chapters are fresh; for each, the day of its last verification, which is that of its reference run."""
    run = [chapter for chapter in book if chapter.result]
    fresh = [chapter for chapter in run if chapter.key not in stale]
    said = f"**Fresh: {len(fresh)} of {several(len(run), 'chapters')} with a reference run.** This book was built on "
    said += f"{_day(today)}; ages are counted up to that day."
    rows = [_chapter_row(chapter, chapter.key in stale, today) for chapter in book if chapter.ledger]
    shown = table(["chapter", "last verified", "state", "run took", "machine"], rows, "stacked")
    return f"{said}\n\n{_raw(shown.html)}"


def _chapter_row(chapter: Chapter, stale: bool, today: date) -> list:
    name = _page(chapter)
    if not chapter.result:
        return [name, "never", "not run yet", "—", "—"]
    made = chapter.result["provenance"]
    took = clock(chapter.result["cost"]["wall_s"])
    return [name, _made(made, today), "stale" if stale else "fresh", took, machine_kind(made["machine"])]


def _page(chapter: Chapter) -> Shown:
    said = f"{chapter.authors} {chapter.year}"
    if not paths.notebook(chapter.key).is_file():
        return Shown(escape(said), said)
    return Shown(f'<a href="../notebooks/{chapter.key}.html">{escape(said)}</a>', said)


def to_do(book: list[Chapter], stale: Stale) -> str:
    """Every chapter that is stale, with what changed and the command that makes it new."""
    lines = []
    for chapter in book:
        if reasons := stale.get(chapter.key):
            lines.append(f"- {chapter.authors} {chapter.year}, `{chapter.key}`")
            lines += [f"  - {reason}" for reason in reasons]
    return "\n".join(lines) or "Nothing is stale."


def runs(book: list[Chapter], today: date) -> str:
    """A folded table for each chapter: its stored runs, and its other accepted runs."""
    folded = [one for chapter in book if chapter.ledger for one in (_stored(chapter, today), _beside(chapter, today))]
    return _raw("\n".join(filter(None, folded))) if any(folded) else "There are no stored runs yet."


def _stored(chapter: Chapter, today: date) -> str:
    rows, spent, days = [], 0.0, []
    for name in declarations.table(chapter.key):
        state, path = _state(chapter.key, name), paths.sweep(chapter.key, name)
        if not path.is_file():
            rows.append([name, "—", "—", "—", state])
            continue
        made = seals.read(path)
        spent += made["wall_s"]
        days.append(made["started"][:10])
        rows.append([name, _made(made, today), clock(made["wall_s"]), machine_kind(made["machine"]), state])
    if not rows:
        return ""
    title = f"{chapter.authors} {chapter.year}: {several(len(rows), 'stored runs')}"
    if days:
        first, last = (_day(date.fromisoformat(one)) for one in (min(days), max(days)))
        title += f", made {first if first == last else f'{first} to {last}'}, {clock(spent)} in all"
    return _folded(title, table(["stored run", "made", "took", "machine", "state"], rows, "stacked"))


def _state(chapter: str, name: str) -> str:
    try:
        state = stored_runs.load(chapter, name)["freshness"]
    except ClaimbookError:  # there is nothing that may be read
        state = stored_runs.state(chapter, name)
    return STATES.get(state, state)


def _beside(chapter: Chapter, today: date) -> str:
    """Runs with another model or on another tier, which decide nothing."""
    rows = []
    for path in sorted(paths.results_beside(chapter.key).glob("*.json")):
        result = seals.read(path)
        made = result["provenance"]
        took = clock(result["cost"]["wall_s"])
        rows.append([path.stem, _made(made, today), took, machine_kind(made["machine"])])
    if not rows:
        return ""
    title = f"{chapter.authors} {chapter.year}: {several(len(rows), 'other accepted runs')}"
    return _folded(title, table(["run", "made", "took", "machine"], rows, "stacked"))


def _folded(title: str, shown: Shown) -> str:
    return f'<details class="runs"><summary>{escape(title)}</summary>{shown.html}</details>'


def _raw(html: str) -> str:
    return f"```{{raw}} html\n{html}\n```"


# --- words -----------------------------------------------------------------------------------------------------------


def machine_kind(said: str) -> str:
    """The kind of machine: "2 cores, 24 GB", with "GPU NVIDIA H100" where the run has recorded one."""
    found = HARDWARE.search(said)
    if found is None:
        return said
    cores, memory, gpu = found.groups()
    words = [several(int(cores), "cores"), f"{memory} GB" if memory else "", f"GPU {gpu}" if gpu else ""]
    return ", ".join(filter(None, words))


def _made(made: dict, today: date) -> str:
    """Day and age of a run: "26 Nov 2026, 1 day old"."""
    day = date.fromisoformat(made["started"][:10])
    age = (today - day).days
    old = f"{several(age, 'days')} old" if age > 0 else "the same day"
    return f"{_day(day)}, {old}"


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"
