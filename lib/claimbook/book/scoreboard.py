"""How every claim stands, read from ledgers and result files, and the words for it; pages.py puts it on pages.

Nothing here judges: verdicts come from result files, and a claim whose ledger entry has a newer version than its
result counts as not run.
"""

from dataclasses import dataclass, field
from functools import cached_property

from pybtex.database import parse_file

from claimbook import paths
from claimbook.claims import ledgers, words
from claimbook.claims.totals import Totals, count
from claimbook.claims.words import NOT_TESTED, VERDICTS, several
from claimbook.display.tables import rounded
from claimbook.provenance import seals

STATES = ("run", "not run yet", "planned")  # of a chapter, in the order of the book


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
    def revised(self) -> bool:
        """Whether its criterion, or how it is judged, was changed after a verdict."""
        return any(change.old_verdict for change in self.claim.changelog)

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
    authors: str = ""  # "Xiao et al."
    subject: str = ""  # the field of research, as the bibliography says it

    @cached_property
    def standings(self) -> list[Standing]:
        known = self.result.get("claims", {})
        return [Standing(self.key, one, _current(one, known)) for one in (self.ledger.claims if self.ledger else [])]

    @property
    def state(self) -> str:
        run, never, planned = STATES
        return planned if self.ledger is None else run if self.result else never

    @property
    def totals(self) -> Totals:
        return count((one.claim, one.entry) for one in self.standings)


def _current(claim: ledgers.Claim, known: dict) -> dict:
    entry = known.get(claim.id, {})
    return entry if entry.get("version") == claim.version else {}


def chapters() -> list[Chapter]:
    """All papers in the one order of the book: with results first, then with a ledger, then planned.

    Among these, papers that the bibliography marks as chapters stand in its order, then any other ledger by name.
    """
    entries = parse_file(str(paths.root() / "book" / "references.bib")).entries
    marked = {key: entry for key, entry in entries.items() if "chapter" in _keywords(entry)}
    keys = [*marked, *(key for key in paths.chapters() if key not in marked)]
    found = [_chapter(key, marked.get(key)) for key in keys]
    return sorted(found, key=lambda chapter: STATES.index(chapter.state))


def _chapter(key: str, entry) -> Chapter:
    ledger = ledgers.load(key) if paths.ledger(key).is_file() else None
    result = seals.read(paths.result(key)) if paths.result(key).is_file() else {}
    title = ledger.paper.title if ledger else entry.fields["title"].replace("{", "").replace("}", "")
    year = str(ledger.paper.year if ledger else entry.fields["year"])
    subject = ", ".join(word for word in _keywords(entry) if word != "chapter") if entry else ""
    return Chapter(key, title, year, ledger, result, _authors(ledger, entry), subject)


def _keywords(entry) -> list[str]:
    """What the bibliography says of a paper beside its reference: "chapter", and its field of research."""
    return [word.strip() for word in entry.fields.get("keywords", "").split(",")]


def _authors(ledger: ledgers.Ledger | None, entry) -> str:
    """The authors as a reference names them: "Nath and Sen", "Xiao et al."."""
    if entry:
        names = [" ".join(person.last_names) for person in entry.persons.get("author", [])]
    else:
        listed = ledger.paper.authors
        names = [listed] if isinstance(listed, str) else [name.split()[-1] for name in listed]
    return f"{names[0]} et al." if len(names) > 2 else " and ".join(names)


def by_line(chapter: Chapter) -> str:
    """Who wrote a paper, when, and in which field: "Xiao et al. 2024 · language models"."""
    return " · ".join(filter(None, [f"{chapter.authors} {chapter.year}".strip(), chapter.subject]))


# --- words ---------------------------------------------------------------------------------------------------------


def summary(book: list[Chapter]) -> str:
    """The outcome in a table between two sentences; every claim with a ledger is in the total, run or not."""
    total = sum((chapter.totals for chapter in book), Totals())
    with_ledger = sum(chapter.state != "planned" for chapter in book)
    planned = len(book) - with_ledger
    first = f"The book takes **{several(total.claims, 'claims')}** from {several(with_ledger, 'papers')}"
    first += f"; {several(planned, 'more papers')} {_are(planned)} planned and not counted." if planned else "."
    untried = [f"{total.not_tested} could not be tested"]
    untried += [f"{total.not_run} {_are(total.not_run)} not run yet"] if total.not_run else []
    last = f"Beside these, {', '.join(untried)}."
    if total.shown:
        last += f" {total.shown} more {_are(total.shown)} premises or claims of our own: shown, and not counted."
    return f"{first}\n\n{_outcomes(total)}\n\n{last}"


EXPLAINED = {  # verdicts in the order of a summary, and what the words alone do not say
    "reproduced": "",
    "partial": "",
    "not transferred": ": did not hold on what we could run",
    "contradicted": "",
    "inconclusive": "",
}


def _outcomes(total: Totals) -> str:
    """Table of verdicts by what was tried; verdicts that no claim got are left out."""
    tried = {"real models, data or arithmetic": total.real, "toys, which show a mechanism at most": total.toys}
    lines = [f"| claims tried on | {' | '.join(tried)} |", "|---|--:|--:|"]
    for word, more in EXPLAINED.items():
        if any(counts[word] for counts in tried.values()):
            lines.append(f"| {VERDICTS[word][0]} {word}{more} | {' | '.join(str(n[word]) for n in tried.values())} |")
    lines.append(f"| all | {' | '.join(f'**{counts.total()}**' for counts in tried.values())} |")
    return "\n".join(lines)


def revised(book: list[Chapter]) -> str:
    """How many claims were judged by a criterion that was changed after a verdict, and what became of the verdict."""
    standings = [one for chapter in book for one in chapter.standings]
    changed = [one for one in standings if one.revised]
    moved = [one for one in changed if one.entry and one.entry["verdict"] != one.claim.changelog[-1].old_verdict]
    if not changed:
        return f"No criterion of the {several(len(standings), 'claims')} was revised after a verdict."
    return (
        f"**Not every criterion lasted.** Of {several(len(standings), 'claims')} in all, {len(changed)} had their "
        f"criterion, or how it is judged, revised after a verdict; {len(moved)} of these have another verdict now. "
        "Each carries a mark, the old verdict and the reason."
    )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def controls_due(book: list[Chapter]) -> str:
    """How many parts have not been tried on known answers yet."""
    parts = sum(len(one.claim.parts) for chapter in book for one in chapter.standings)
    due = sum((chapter.totals for chapter in book), Totals()).due
    if not due:
        return (
            f"A claim is judged by its parts, {parts} in all. Each part was first tried on known answers: the paper's "
            "own figure must meet it, and what is seen where the claim is false must not."
        )
    by_chapter = ", ".join(f"`{one.key}` {one.totals.due}" for one in book if one.totals.due)
    return (
        f"**{due} of {several(parts, 'parts')} {_are(due)} still to be tried on answers known beforehand** "
        f"({by_chapter}): "
        "until then a part may be too easy to meet, or impossible."
    )


def with_interval(value: float, interval: list[float] | None) -> str:
    """Value, in bold, and interval."""
    value, low_to_high = rounded(value, interval)
    return f"**{value}** {low_to_high}".strip()
