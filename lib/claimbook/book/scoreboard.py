"""How every claim stands, read from ledgers and result files, and the words for it; pages.py puts it on pages.

Nothing here judges: verdicts come from result files, and a claim whose ledger entry has a newer version than its
result counts as not run.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from pybtex.database import parse_file

from claimbook import files, paths
from claimbook.claims import ledgers, verdicts
from claimbook.display import number, rounded
from claimbook.progress import clock

NOT_RUN = "not run"

# In the order they are shown: the word, its symbol (readable without colour) and its CSS class.
WORDS = {
    "reproduced": ("✓", "reproduced"),
    "partial": ("½", "partial"),
    "inconclusive": ("?", "inconclusive"),
    "not transferred": ("≠", "not-transferred"),
    "contradicted": ("✗", "contradicted"),
    "mechanism seen": ("✓", "reproduced toy"),
    "mechanism partly seen": ("½", "partial toy"),
    "mechanism unclear": ("?", "inconclusive toy"),
    "mechanism not seen": ("✗", "contradicted toy"),
    "not tested": ("–", "not-tested"),
    NOT_RUN: ("·", "not-run"),
}
REAL = list(WORDS)[:5]
TOY = list(WORDS)[5:9]


@dataclass(frozen=True)
class Standing:
    """One claim and what the reference run says about it (``entry``: its part of the result file, {} when not run)."""

    chapter: str
    claim: ledgers.Claim
    entry: dict = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The spoken verdict; `NOT_RUN` when there is none yet."""
        if self.entry:
            return verdicts.spoken(self.entry["verdict"], self.entry["fidelity"])
        return "not tested" if self.untested else NOT_RUN

    @property
    def untested(self) -> ledgers.NotTested | None:
        tier = self.claim.tier("cpu")
        return tier if isinstance(tier, ledgers.NotTested) else None

    @property
    def fidelity(self) -> str:
        return self.entry.get("fidelity") or ("—" if self.untested else str(self.claim.tier("cpu")))

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
    def counts(self) -> Counter:
        """Spoken verdicts of the claims that count: premises and our own claims stand outside every total."""
        return Counter(one.word for one in self.standings if one.claim.counted)


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
    result = files.read_json(paths.result(key)) if paths.result(key).is_file() else {}
    title = ledger.paper.title if ledger else fields["title"].replace("{", "").replace("}", "")
    return Chapter(key, title, str(ledger.paper.year if ledger else fields["year"]), ledger, result)


# --- words ---------------------------------------------------------------------------------------------------------


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def summary(book: list[Chapter]) -> str:
    """The outcome in a few sentences; every claim with a ledger is in the total, run or not."""
    counts = sum((chapter.counts for chapter in book), Counter())
    states = Counter(chapter.state for chapter in book)
    outside = sum(not one.claim.counted for chapter in book for one in chapter.standings)
    with_ledger = len(book) - states["planned"]
    lines = [f"**{with_ledger} of {plural(len(book), 'paper')}** {'has' if with_ledger == 1 else 'have'} a ledger"]
    lines[0] += f", with {plural(counts.total(), 'claim')} in all; {states['planned']} are planned and not counted."
    if states["run"]:
        real = ", ".join(f"{counts[word]} {word}" for word in REAL)
        lines.append(f"On real models, data or arithmetic: {real}.")
    if any(counts[word] for word in TOY):
        toys = ", ".join(f"{counts[word]} {word.removeprefix('mechanism ')}" for word in TOY)
        lines.append(f"Mechanisms on toys: {toys}.")
    lines.append(f"Not tested: {counts['not tested']}. Not run yet: {counts[NOT_RUN]}.")
    if outside:
        lines.append(f"{plural(outside, 'premise')} or claims of our own stand outside these totals.")
    return " ".join(lines)


def with_interval(value: float, interval: list[float] | None) -> str:
    """Value, in bold, and interval."""
    value, low_to_high = rounded(value, interval)
    return f"**{value}** {low_to_high}".strip()


def part_text(part: ledgers.Part, entry: dict) -> str:
    """One part: quantity, estimate with interval, n, state."""
    state = entry["state"].replace("_", " ")
    if entry["estimate"] is None:
        return f"{part.quantity}: {state} ({entry['because']})"
    count = f", n = {entry['n']} {entry['unit']}".rstrip() if entry["n"] > 1 else ""
    return f"{part.quantity}: {with_interval(entry['estimate'], entry['interval'])}{count}: {state}"


def measured(standing: Standing) -> list[str]:
    """What we measured, a line a part; the reason where nothing was."""
    if standing.untested:
        return [f"{standing.untested.not_tested.replace('_', ' ')}: {standing.untested.why}"]
    parts = standing.entry.get("parts", {})
    return [part_text(part, parts[part.name]) for part in standing.claim.parts if part.name in parts] or ["—"]


READ_IN = {
    "ocr": "read in a text conversion",
    "transcription": "read in others' notes",
    "figure": "read off a figure",
    "memory": "from memory",
}


def published(claim: ledgers.Claim) -> str:
    """The paper's figure with its note and, where it was not read in the paper itself, how we know it."""
    about = claim.published
    values = about.value if isinstance(about.value, list) else [about.value]
    text = ", ".join(number(one) if isinstance(one, int | float) else one for one in values if one is not None)
    text = f"{text} {about.unit or ''}".strip() if text else "—"
    notes = "; ".join(filter(None, [about.note, READ_IN.get(about.read_in)]))
    return f"{text} ({notes})" if notes else text


def cost(result: dict) -> str:
    spent = result.get("cost")
    if not spent:
        return "—"
    return f"{clock(spent['wall_s'])}, {number(spent['peak_mem_mb'])} MB, {spent['device']}"
