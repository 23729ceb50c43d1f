"""The ledger of a chapter: its claims, what would confirm or contradict each, and nothing else (design, section 3).

``data/claims/<chapter>.yaml`` is written by hand and committed before the run. Every mistake in it is one
`ClaimbookError` that names the file, the claim, the key and what is allowed.
"""

from datetime import date
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from claimbook import paths, strict_yaml
from claimbook.claims.criteria import DUE, PART_TYPES, Model, Part, Text, said
from claimbook.errors import ClaimbookError
from claimbook.strict_yaml import repeated

Verdict = Literal["reproduced", "partial", "contradicted", "not_transferred", "inconclusive", "not_tested"]
Fidelity = Literal["exact", "reduced", "toy"]
Reason = Literal[
    "needs_weights",
    "needs_gpu",
    "needs_private_data",
    "needs_data",
    "needs_human_raters",
    "underspecified",
    "not_empirical",
    "cost_over_budget",
]
TITLE_WORDS = 10


class Published(Model):
    """What the paper reports, and how we came to know it."""

    value: int | float | str | list[int | float | str] | None
    unit: str | None = None
    note: str | None = None
    read_in: Literal["paper", "ocr", "transcription", "figure", "memory", "none"]


class NotTested(Model):
    not_tested: Reason
    why: Text


class Tiers(Model):
    """Fidelity of the claim's test at each tier, or why there is none."""

    cpu: Fidelity | NotTested
    gpu: Fidelity | NotTested

    @field_validator("cpu", "gpu", mode="before")
    @classmethod
    def _word_or_reason(cls, value: Any) -> Any:
        if not isinstance(value, dict) and value not in ("exact", "reduced", "toy"):
            raise ValueError(f"{value!r} is not one of exact, reduced, toy or {{not_tested: reason, why: …}}")
        return NotTested.model_validate(value) if isinstance(value, dict) else value


class Change(Model):
    """Why a claim's version was bumped, and the verdict it had before (null when it had none)."""

    version: int = Field(ge=2)
    date: date
    change: Text
    old_verdict: Verdict | None


class Cap(Model):
    """The object looked at is a relative of the paper's, so that the verdict can be neither for nor against it."""

    why: Text


class Claim(Model):
    id: str = Field(pattern=r"^C[0-9]+$")
    title: Text  # at most ten words; what cards and the scoreboard show
    text: Text
    where: Text
    source: Literal["abstract", "body", "repository", "ours"]
    kind: Literal["result", "mechanism", "efficiency", "qualitative", "premise", "theorem"]
    scope: Literal["universal", "named_models", "large_models"]
    published: Published
    preconditions: dict[str, Part] = Field({})  # what must be there before the parts that need it can say anything
    parts: list[Part] = Field([])
    cap: Cap | None = None
    reconstructed: Text | None = None  # what the paper leaves open, so that the method run is our reading of it
    deviations: list[Text] = Field([])  # how our run differs from the paper's
    decided_by: str | None = None
    weight: int = Field(ge=1, le=2)  # 2 headline, 1 supporting
    tiers: Tiers
    pilot_seen: Literal["same_model", "other_model", "none"]
    version: int = Field(ge=1)
    changelog: list[Change] = Field([])

    def tier(self, name: str) -> Fidelity | NotTested:
        """The fidelity at a tier, or why the claim is not tested there."""
        if name not in Tiers.model_fields:
            raise ClaimbookError(f"claim {self.id}: no tier {name!r}, allowed are {', '.join(Tiers.model_fields)}")
        return getattr(self.tiers, name)

    def part(self, name: str) -> Part:
        return self._named("part", name, {part.name: part for part in self.parts})

    def precondition(self, name: str) -> Part:
        return self._named("precondition", name, self.preconditions)

    def _named(self, what: str, name: str, known: dict[str, Part]) -> Part:
        if name not in known:
            raise ClaimbookError(f"claim {self.id} has no {what} {name!r}, it has {', '.join(known) or 'none'}")
        return known[name]

    @property
    def counted(self) -> bool:
        """Whether it counts in totals and rates: premises and our own claims are shown only."""
        return self.kind != "premise" and self.source != "ours"

    @property
    def due(self) -> int:
        """How many parts have no controls yet."""
        return sum(part.controls == DUE for part in self.parts)

    @field_validator("title")
    @classmethod
    def _is_short(cls, title: str) -> str:
        if "\n" in title:
            raise ValueError("a title is one line")
        if len(title.split()) > TITLE_WORDS:
            raise ValueError(f"at most {TITLE_WORDS} words, not the {len(title.split())} of {title!r}")
        return title

    @field_validator("preconditions", mode="before")
    @classmethod
    def _named_by_key(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not all(isinstance(one, dict) for one in given.values()):
            raise ValueError("must be {name: {quantity: …, type: …, bound: …, why: …}}")
        if named := [name for name, one in given.items() if "name" in one]:
            raise ValueError(f"{named[0]} is its name already: leave the key `name` out")
        return {name: {"name": name, **one} for name, one in given.items()}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Claim":
        twice = repeated(part.name for part in self.parts)
        if twice:
            raise ValueError(f"parts: the name {twice!r} is used twice")
        tested = [name for name in Tiers.model_fields if not isinstance(self.tier(name), NotTested)]
        if tested and not self.parts:
            raise ValueError(f"parts: none, so tiers.{tested[0]} must be {{not_tested: reason, why: …}}")
        for part in self.parts:
            if part.controls is None:
                raise ValueError(
                    f"part {part.name}: controls: this key is missing: {{published: …, null: …}}, or {DUE} for now"
                )
            if part.needs is not None and part.needs not in self.preconditions:
                known = ", ".join(self.preconditions) or "none"
                raise ValueError(f"part {part.name}: needs: no precondition {part.needs!r}, the claim has {known}")
        for name, part in self.preconditions.items():
            if name not in {part.needs for part in self.parts}:
                raise ValueError(f"precondition {name}: no part needs it: write `needs: {name}` where it is meant")
            if part.needs is not None or part.controls is not None:
                raise ValueError(f"precondition {name}: `needs` and `controls` belong to parts")
        if [change.version for change in self.changelog] != list(range(2, self.version + 1)):
            raise ValueError(f"changelog: version {self.version} needs one entry for each version from 2, in order")
        return self


class Paper(Model):
    title: Text
    authors: Text | list[Text]
    year: int
    bib: Text
    arxiv: str | None = None
    code: str | None = None
    licence: str | None = None


class Ledger(Model):
    chapter: str
    paper: Paper
    models: list[str]  # of the reference run; empty where no language model is run
    claims: list[Claim] = Field(min_length=1)

    def claim(self, claim_id: str) -> Claim:
        known = {claim.id: claim for claim in self.claims}
        if claim_id not in known:
            raise ClaimbookError(f"{self.chapter} has no claim {claim_id!r}, it has {', '.join(known)}")
        return known[claim_id]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Ledger":
        twice = repeated(claim.id for claim in self.claims)
        if twice:
            raise ValueError(f"claims: the id {twice} is used twice")
        for claim in self.claims:
            if claim.decided_by is not None and claim.decided_by not in self.models:
                allowed = ", ".join(self.models) or "none, as models is empty"
                raise ValueError(f"claim {claim.id}: decided_by is {claim.decided_by!r}, allowed are {allowed}")
        return self


def load(chapter: str) -> Ledger:
    """The validated ledger of a chapter; `ClaimbookError` names the first thing that is wrong."""
    path = paths.ledger(chapter)
    if not path.is_file():
        raise ClaimbookError(f"no ledger for chapter {chapter!r}, chapters are {', '.join(paths.chapters()) or 'none'}")
    name = path.relative_to(paths.root())
    data = strict_yaml.read(path, name)
    if not isinstance(data, dict) or set(data) != {"paper", "models", "claims"}:
        given = ", ".join(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise ClaimbookError(f"{name}: the keys must be paper, models, claims, not {given}")
    try:
        return Ledger.model_validate(data | {"chapter": chapter})
    except ValidationError as error:
        raise ClaimbookError(f"{name}: {_first_mistake(error, data)}") from None


def measuring_keys(ledger: Ledger, tier: str = "cpu") -> dict:
    """Everything of a ledger that can move a verdict or a drawn number, as plain JSON: what freshness hashes.

    Left out is prose (title, text, where, note, why, deviations), what only counts or sorts (weight, kind, source),
    history, and other tiers. The published value is kept, as figures draw it.
    """
    return {"models": ledger.models, "claims": {claim.id: _measuring(claim, tier) for claim in ledger.claims}}


def _measuring(claim: Claim, tier: str) -> dict:
    published = claim.published.model_dump(mode="json", include={"value", "unit"})
    judging = {key: value for key, value in criterion(claim, tier).items() if key not in ("kind", "source")}
    return {"version": claim.version, "published": published, **judging, "parts": _parts(claim.parts)}


def criterion(claim: Claim, tier: str) -> dict:
    """What makes a claim's verdict out of measurements, and whether it counts: it may change with the version only.

    Controls that are numbers are left out: they refuse a part, and move no verdict.
    """
    state = claim.tier(tier)
    parts = _parts(claim.parts)
    for part in claim.parts:
        parts[part.name] |= {"controls": [which for which in ("null", "ceiling") if part.asks_for(which)]}
    return {
        "kind": claim.kind,
        "source": claim.source,
        "scope": claim.scope,
        "decided_by": claim.decided_by,
        "capped": claim.cap is not None,
        "reconstructed": claim.reconstructed is not None,
        "tier": f"not_tested: {state.not_tested}" if isinstance(state, NotTested) else state,
        "preconditions": _parts(claim.preconditions.values()),
        "parts": parts,
    }


def _parts(parts) -> dict:
    return {part.name: part.measuring() for part in parts}


GROUPS = (("claims", "claim", "id"), ("parts", "part", "name"), ("preconditions", "precondition", "name"))


def _first_mistake(error: ValidationError, data: dict) -> str:
    """One line for the first mistake: claim, part, key, what is allowed, what was given."""
    first = error.errors()[0]
    place, message, words = list(first["loc"]), said(first), []
    for group, label, key in GROUPS:
        if place[:1] == [group] and len(place) > 1:
            data = data[group][place[1]]
            words.append(f"{label} {_called(data, key, place[1])}")
            place = place[2:]
            if label != "claim" and place and place[0] in PART_TYPES:  # pydantic names the kind of part it tried
                place = place[1:]
    if first["type"].startswith("union_tag"):
        given = first["input"]
        place, message = ["type"], f"must be one of {', '.join(PART_TYPES)}"
        message += f", not {given['type']!r}" if "type" in given else ""
    return ": ".join([*words, *([".".join(map(str, place))] if place else []), message])


def _called(data: object, key: str, place: int | str) -> str:
    """What a claim, part or precondition is called: by its own name where it has one, else by its place."""
    if isinstance(place, str):
        return place
    return data[key] if isinstance(data, dict) and key in data else f"number {place + 1}"
