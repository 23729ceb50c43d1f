"""A run beside the reference, verdict by verdict."""

import math
from dataclasses import dataclass, replace

from claimbook import paths
from claimbook.claims.words import fidelity, several, spoken
from claimbook.display import tables
from claimbook.provenance import seals
from claimbook.provenance.machine import clock

CHANGED = "its criterion changed"


@dataclass(frozen=True)
class Row:
    """One claim in both runs; ``numbers``: parts whose estimate lies outside the reference's interval.

    ``sampled``: how many parts have an interval in both runs; ``equal``: how many of these have the very same estimate.
    """

    claim: str
    before: str
    after: str
    reason: str
    numbers: list[str]
    moved: bool  # the verdict or the fidelity, not what makes it so
    sampled: int = 0
    equal: int = 0


@dataclass(frozen=True)
class Comparison:
    """``differs``: in what the settings differ; with any, moved verdicts are information."""

    result: dict
    has_reference: bool
    differs: list[str]
    rows: list[Row]

    @property
    def moved(self) -> list[Row]:
        return [row for row in self.rows if row.moved]

    @property
    def red(self) -> bool:
        """Same parameters, and a verdict moved."""
        return self.has_reference and not self.differs and not self.smoke and bool(self.moved)

    @property
    def smoke(self) -> bool:
        return self.result["tier"] == "smoke"

    def headline(self) -> str:
        """The outcome in one sentence."""
        if self.smoke:
            return "smoke run: everything works, no verdicts"
        if not self.has_reference:
            return "there is no reference run yet"
        count = f"{len(self.rows) - len(self.moved)} of {len(self.rows)} verdicts are those of the reference"
        if self.differs:
            return f"{count}; for information, as this run differs in {', '.join(self.differs)}{self._seed_says()}"
        if self.moved and all(row.reason.startswith(CHANGED) for row in self.moved):
            return f"{count}: where one MOVED, {CHANGED}"
        return f"{count}" + (": a verdict MOVED with the same parameters" if self.moved else "")

    def _seed_says(self) -> str:
        """A warning where another seed changed nothing, as it does wherever a stored run speaks."""
        equal, sampled = sum(row.equal for row in self.rows), sum(row.sampled for row in self.rows)
        if "seed" not in self.differs or not equal:
            return ""
        return (
            f". {equal} of {several(sampled, 'estimates')} did not move at all, as they rest on stored runs or data "
            "that this seed does not touch: of these this run shows no stability"
        )

    def text(self) -> str:
        """For the terminal."""
        result, width = self.result, max((len(row.before) for row in self.rows), default=9)
        models = result["parameters"].get("models") or "no language model"
        lines = [f"\n{result['chapter']} · tier {result['tier']} · {models} · {clock(result['cost']['wall_s'])}"]
        lines += [f"{'claim':6} {'reference':{width}}  this run"]
        for row in self.rows:
            lines.append(f"{row.claim:6} {row.before:{width}}  {row.after if row.moved else 'same'}{_why(row)}")
        return "\n".join([*lines, self.headline()])

    def markdown(self) -> str:
        """The report kept with the run."""
        result = self.result
        lines = [
            f"# Rerun of {result['chapter']}\n",
            f"{self.headline()}.\n",
            f"Parameters: {', '.join(f'`{name}={value!r}`' for name, value in result['parameters'].items())}\n",
            f"Cost: {tables.cost(result)}.\n",
            "| claim | reference | this run | remarks |",
            "|---|---|---|---|",
        ]
        for row in self.rows:
            remarks = "; ".join([*([row.reason] if row.reason else []), *row.numbers])
            lines.append(f"| {row.claim} | {row.before} | {row.after} | {remarks.replace('|', '/')} |")
        return "\n".join(lines) + "\n"


def _why(row: Row) -> str:
    remarks = [*([row.reason] if row.moved and row.reason else []), *row.numbers]
    return f"  ({'; '.join(remarks)})" if remarks else ""


def reference(chapter: str) -> dict | None:
    """The promoted reference result, if there is one."""
    path = paths.result(chapter)
    return seals.read(path) if path.exists() else None


def compare(before: dict | None, after: dict) -> Comparison:
    """Two result files of a chapter, claim by claim."""
    old = before["claims"] if before else {}
    rows = [_row(claim, old.get(claim), after["claims"].get(claim)) for claim in {**after["claims"], **old}]
    if before and before["tier"] == after["tier"]:  # another tier has criteria of its own
        rows = [_with_criterion(row, old.get(row.claim), after["claims"].get(row.claim)) for row in rows]
    return Comparison(after, before is not None, _differences(before, after) if before else [], rows)


def _row(claim: str, before: dict | None, after: dict | None) -> Row:
    reason = (after or {}).get("reason") or ""
    if not (before and after):
        return Row(claim, _words(before), _words(after), reason, [], moved=True)
    pairs = [(part, after["parts"].get(name, {})) for name, part in before["parts"].items()]
    sampled = [(old["estimate"], new["estimate"]) for old, new in pairs if old["interval"] and new.get("interval")]
    equal = sum(math.isclose(old, new, rel_tol=1e-12) for old, new in sampled)
    moved = any(before[key] != after[key] for key in ("verdict", "fidelity"))
    numbers = outside(before, after)
    return Row(claim, _words(before), _words(after), reason, numbers, moved, len(sampled), equal)


def _with_criterion(row: Row, before: dict | None, after: dict | None) -> Row:
    """The row with a word on the ledger, where the two runs were not judged alike."""
    if not (before and after) or before.get("criterion") == after.get("criterion"):
        return row
    changed = f"{CHANGED}, version {before['version']} to {after['version']}"
    return replace(row, reason="; ".join(filter(None, [changed, row.reason])))


def _words(entry: dict | None) -> str:
    if entry is None:
        return "—"
    return f"{spoken(entry)} · {fidelity(entry)}" if entry["fidelity"] else spoken(entry)


def _differences(before: dict, after: dict) -> list[str]:
    """Names of parameters that differ; a device counts by what it resolved to."""
    old, new = before["parameters"], after["parameters"]
    names = [name for name in {**old, **new} if name != "device" and old.get(name) != new.get(name)]
    if before["cost"]["device"] != after["cost"]["device"]:
        names.append("device")
    return names


def outside(before: dict, after: dict) -> list[str]:
    """Parts of a claim whose estimate in ``after`` lies outside the interval in ``before``, in words.

    A number without an interval (deterministic, with the ledger's tolerance) must be in the same state: its last digits
    are those of the processor.
    """
    found = []
    for name, part in after.get("parts", {}).items():
        old = before.get("parts", {}).get(name)
        if old is None or old["estimate"] is None:
            continue
        if part["estimate"] is None:
            found.append(f"{name} has no estimate, reference {old['estimate']:.4g}")
        elif old["interval"] is None and part["state"] != old["state"]:
            found.append(f"{name} {part['estimate']:.4g} is {part['state']}, reference {old['estimate']:.4g}")
        elif old["interval"] and not old["interval"][0] <= part["estimate"] <= old["interval"][1]:
            low, high = old["interval"]
            found.append(f"{name} {part['estimate']:.4g} is outside [{low:.4g}, {high:.4g}]")
    return found
