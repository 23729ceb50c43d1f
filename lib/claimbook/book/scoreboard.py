"""How every claim stands, read from ledgers and result files, and the words for it; pages.py puts it on pages.

Nothing here judges: verdicts come from result files, and a claim whose ledger entry has a newer version than its
result counts as not run.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from pybtex.database import parse_file

from claimbook import paths
from claimbook.claims import ledgers, words
from claimbook.claims.criteria import accepted
from claimbook.claims.totals import Totals, count
from claimbook.claims.words import NOT_TESTED, VERDICTS, several
from claimbook.display.tables import its_own, rounded, sample
from claimbook.provenance import seals


@dataclass(frozen=True)
class Standing:
    """One claim and what the reference run says about it (``entry``: its part of the result file, {} when not run)."""

    chapter: str
    claim: ledgers.Claim
    entry: dict = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The bare verdict in words; "not run" when there is none yet."""
        return words.word(self.entry["verdict"]) if self.entry else NOT_TESTED if self.untested else words.NOT_RUN

    @property
    def spoken(self) -> str:
        """The verdict with what makes it so."""
        return words.spoken(self.entry) if self.entry else self.word

    @property
    def css(self) -> str:
        return words.css(self.entry) if self.entry else words.SIGNS[self.word][1]

    @property
    def untested(self) -> ledgers.NotTested | None:
        tier = self.claim.tier("cpu")
        return tier if isinstance(tier, ledgers.NotTested) else None

    @property
    def fidelity(self) -> str:
        return words.fidelity(self.entry) if self.entry or self.untested else str(self.claim.tier("cpu"))

    @property
    def anchor(self) -> str:
        return f"{self.chapter}.{self.claim.id}"


@dataclass(frozen=True)
class Chapter:
    """A paper of the bibliography, with its ledger and reference run as far as there are any."""

    key: str
    title: str
    year: str
    ledger: ledgers.Ledger | None = None
    result: dict = field(default_factory=dict)

    @cached_property
    def standings(self) -> list[Standing]:
        known = self.result.get("claims", {})
        return [Standing(self.key, one, _current(one, known)) for one in (self.ledger.claims if self.ledger else [])]

    @property
    def state(self) -> str:
        return "planned" if self.ledger is None else "run" if self.result else "not run yet"

    @property
    def totals(self) -> Totals:
        return count((one.claim, one.entry) for one in self.standings)


def _current(claim: ledgers.Claim, known: dict) -> dict:
    entry = known.get(claim.id, {})
    return entry if entry.get("version") == claim.version else {}


def chapters() -> list[Chapter]:
    """All papers: those the bibliography marks as chapters, in its order, then any other ledger by name."""
    entries = parse_file(str(paths.root() / "book" / "references.bib")).entries
    planned = {key: entry.fields for key, entry in entries.items() if "chapter" in entry.fields.get("keywords", "")}
    keys = [*planned, *(key for key in paths.chapters() if key not in planned)]
    return [_chapter(key, planned.get(key)) for key in keys]


def _chapter(key: str, fields) -> Chapter:
    ledger = ledgers.load(key) if paths.ledger(key).is_file() else None
    result = seals.read(paths.result(key)) if paths.result(key).is_file() else {}
    title = ledger.paper.title if ledger else fields["title"].replace("{", "").replace("}", "")
    return Chapter(key, title, str(ledger.paper.year if ledger else fields["year"]), ledger, result)


# --- words ---------------------------------------------------------------------------------------------------------


def summary(book: list[Chapter]) -> str:
    """The outcome in a few sentences; every claim with a ledger is in the total, run or not."""
    total = sum((chapter.totals for chapter in book), Totals())
    states = Counter(chapter.state for chapter in book)
    with_ledger, planned = len(book) - states["planned"], states["planned"]
    lines = [f"**{with_ledger} of {several(len(book), 'papers')}** {'has' if with_ledger == 1 else 'have'} a ledger"]
    lines[0] += f", with {several(total.claims, 'claims')} in all; {planned} {_are(planned)} planned and not counted."
    if states["run"]:
        lines.append(f"On real models, data or arithmetic: {_listed(total.real)}.")
    if total.toys:
        lines.append(f"On toys, which show a mechanism at most: {_listed(total.toys)}.")
    lines.append(f"Not tested: {total.not_tested}. Not run yet: {total.not_run}.")
    if total.shown:
        lines.append(f"{total.shown} more, premises and claims of our own, {_are(total.shown)} in no total.")
    return " ".join([*lines, _revised(book)])


def _revised(book: list[Chapter]) -> str:
    """How many claims were judged by a criterion that was changed after a verdict, and what became of the verdict."""
    standings = [one for chapter in book for one in chapter.standings]
    revised = [one for one in standings if any(change.old_verdict for change in one.claim.changelog)]
    moved = [one for one in revised if one.entry and one.entry["verdict"] != one.claim.changelog[-1].old_verdict]
    return (
        f"Of {several(len(standings), 'claims')}, {len(revised)} had their criterion or its judging revised after a "
        f"verdict, and {len(moved)} of these have another verdict now; the old one and the reason are kept."
    )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _listed(counts: Counter) -> str:
    return ", ".join(f"{counts[word]} {word}" for word in VERDICTS)


def controls_due(book: list[Chapter]) -> str:
    """How many parts have not been tried on known answers yet."""
    parts = sum(len(one.claim.parts) for chapter in book for one in chapter.standings)
    due = sum((chapter.totals for chapter in book), Totals()).due
    if not due:
        return f"All {several(parts, 'parts')} were tried on known answers before they judged."
    by_chapter = ", ".join(f"`{one.key}` {one.totals.due}" for one in book if one.totals.due)
    return (
        f"**{due} of {several(parts, 'parts')} {_are(due)} still to be tried on known answers** ({by_chapter}): "
        "until then a part may be too easy to meet, or impossible."
    )


def with_interval(value: float, interval: list[float] | None) -> str:
    """Value, in bold, and interval."""
    value, low_to_high = rounded(value, interval)
    return f"**{value}** {low_to_high}".strip()


def part_text(part: ledgers.Part, entry: dict) -> str:
    """One part: quantity, what it has to be, estimate with interval, n, state."""
    state = words.word(entry["state"])
    asked = f"{part.quantity} {accepted(part)}{its_own(part)}"
    if entry["estimate"] is None:
        return f"{asked}: {state} ({entry['because']})"
    found = ", ".join(filter(None, [with_interval(entry["estimate"], entry["interval"]), sample(entry)]))
    return f"{asked}: {found}: {state}" + (f" ({entry['because']})" if entry["state"] == "void" else "")


def measured(standing: Standing) -> list[str]:
    """What we measured, a line a part; the reason where nothing was."""
    if standing.untested:
        return [f"{words.word(standing.untested.not_tested)}: {standing.untested.why}"]
    parts = standing.entry.get("parts", {})
    return [part_text(part, parts[part.name]) for part in standing.claim.parts if part.name in parts] or ["—"]
