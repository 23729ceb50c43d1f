"""The ledger of a chapter: its claims, what would confirm or contradict each, and nothing else (design, section 3).

``data/claims/<chapter>.yaml`` is written by hand and committed before the run. Every mistake in it is one
`ClaimbookError` that names the file, the claim, the key and what is allowed.
"""

import math
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from claimbook import paths
from claimbook.claims import strict_yaml
from claimbook.claims.strict_yaml import repeated
from claimbook.errors import ClaimbookError

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
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Interval = tuple[float, float]


class Model(BaseModel):
    """Strict about types, closed to unknown keys, not to be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        unknown = set(data) - set(cls.model_fields) if isinstance(data, dict) else ()
        if unknown:
            raise ValueError(f"unknown key {min(unknown, key=str)!r}, allowed are {', '.join(cls.model_fields)}")
        return data


class Precision(Model):
    """What a sampled quantity must reach to be judged; ratios state their half-width on the log scale."""

    min_n: int = Field(ge=2)
    max_halfwidth: float | None = Field(None, gt=0)


class _Part(Model):
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    quantity: Text
    why: Text


class _Region(_Part):
    """A part with an accepted region. With ``precision`` it is sampled and takes an Estimate, without it an Exact."""

    precision: Precision | None = None


class AtLeast(_Region):
    type: Literal["at_least"]
    bound: float

    @property
    def region(self) -> Interval:
        return self.bound, math.inf


class AtMost(_Region):
    type: Literal["at_most"]
    bound: float

    @property
    def region(self) -> Interval:
        return -math.inf, self.bound


class Equivalent(_Region):
    type: Literal["equivalent"]
    target: float
    margin: float = Field(gt=0)

    @property
    def region(self) -> Interval:
        return self.target - self.margin, self.target + self.margin


class Direction(_Region):
    """A difference or slope of the stated sign, at least ``min_effect`` in size; for ratios use at_least or at_most."""

    type: Literal["direction"]
    sign: Literal[1, -1]
    min_effect: float = Field(gt=0)

    @property
    def region(self) -> Interval:
        return (self.min_effect, math.inf) if self.sign == 1 else (-math.inf, -self.min_effect)


class Equality(_Part):
    """A deterministic number; takes an Exact."""

    type: Literal["equality"]
    target: float
    tolerance: float = Field(0, ge=0)

    @property
    def region(self) -> Interval:
        return self.target - self.tolerance, self.target + self.tolerance


class MinVotes(Model):
    min_n: int = Field(ge=2)


class _Voted(_Part):
    """Judged per seed or document by ``rule``, which holds by luck with probability ``chance``; takes Votes."""

    rule: Text
    chance: float = Field(gt=0, lt=1)
    min_share: float = Field(0, ge=0, le=1)  # asked beyond chance: the share of units that must agree
    precision: MinVotes


class RankOrder(_Voted):
    type: Literal["rank_order"]


class Shape(_Voted):
    type: Literal["shape"]


Part = Annotated[AtLeast | AtMost | Equivalent | Direction | RankOrder | Shape | Equality, Field(discriminator="type")]
PART_TYPES = ("at_least", "at_most", "equivalent", "direction", "rank_order", "shape", "equality")


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


class Claim(Model):
    id: str = Field(pattern=r"^C\d+$")
    text: Text
    where: Text
    source: Literal["abstract", "body", "repository", "ours"]
    kind: Literal["result", "mechanism", "efficiency", "qualitative", "premise", "theorem"]
    scope: Literal["universal", "named_models", "large_models"]
    published: Published
    parts: list[Part] = []
    gate: Text | None = None  # what must be there before the parts can say anything; closed: inconclusive, parts shown
    decided_by: str | None = None
    weight: int = Field(ge=1, le=2)  # 2 headline, 1 supporting
    tiers: Tiers
    pilot_seen: Literal["same_model", "other_model", "none"]
    version: int = Field(ge=1)
    changelog: list[Change] = []
    at_most: Literal["partial"] | None = None  # a mechanism seen in a related object can be no more
    at_most_why: Text | None = None

    def tier(self, name: str) -> Fidelity | NotTested:
        """The fidelity at a tier, or why the claim is not tested there."""
        if name not in Tiers.model_fields:
            raise ClaimbookError(f"claim {self.id}: no tier {name!r}, allowed are {', '.join(Tiers.model_fields)}")
        return getattr(self.tiers, name)

    def part(self, name: str) -> Part:
        known = {part.name: part for part in self.parts}
        if name not in known:
            raise ClaimbookError(f"claim {self.id} has no part {name!r}, it has {', '.join(known) or 'none'}")
        return known[name]

    @property
    def counted(self) -> bool:
        """Whether it counts in totals and rates: premises and our own claims are shown only."""
        return self.kind != "premise" and self.source != "ours"

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Claim":
        twice = repeated(part.name for part in self.parts)
        if twice:
            raise ValueError(f"parts: the name {twice!r} is used twice")
        tested = [name for name in Tiers.model_fields if not isinstance(self.tier(name), NotTested)]
        if tested and not self.parts:
            raise ValueError(f"parts: none, so tiers.{tested[0]} must be {{not_tested: reason, why: …}}")
        if (self.at_most is None) != (self.at_most_why is None):
            raise ValueError("at_most and at_most_why come together")
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

    Left out is prose (text, where, note, why), what only counts or sorts (weight, kind, source), history, and other
    tiers. The published value is kept, as figures draw it.
    """
    return {"models": ledger.models, "claims": {claim.id: _measuring(claim, tier) for claim in ledger.claims}}


def _measuring(claim: Claim, tier: str) -> dict:
    keys = claim.model_dump(mode="json", include={"version", "scope", "decided_by", "at_most", "gate"})
    parts = {part.name: part.model_dump(mode="json", exclude={"why", "name"}) for part in claim.parts}
    state = claim.tier(tier)
    tested = f"not_tested: {state.not_tested}" if isinstance(state, NotTested) else state
    published = claim.published.model_dump(mode="json", include={"value", "unit"})
    return {**keys, "parts": parts, "tier": tested, "published": published}


def _first_mistake(error: ValidationError, data: dict) -> str:
    """One line for the first mistake: claim, part, key, what is allowed, what was given."""
    first = error.errors()[0]
    place, given, message = list(first["loc"]), first["input"], first["msg"].removeprefix("Value error, ")
    words = []
    for group, label, key in (("claims", "claim", "id"), ("parts", "part", "name")):
        if place[:1] == [group] and len(place) > 1:
            data = data[group][place[1]]
            known = isinstance(data, dict) and key in data
            words.append(f"{label} {data[key] if known else f'number {place[1] + 1}'}")
            place = place[2:]
            if label == "part" and place and place[0] in PART_TYPES:  # pydantic names the kind of part it tried
                place = place[1:]
    if first["type"].startswith("union_tag"):
        place, message = ["type"], f"must be one of {', '.join(PART_TYPES)}"
        given = given.get("type", given)
    if first["type"] == "missing":
        message = "this key is missing"
    elif not isinstance(given, dict | list) and repr(given) not in message:
        message += f", not {str(given)[:60]!r}"
    return ": ".join([*words, *([".".join(map(str, place))] if place else []), message[0].lower() + message[1:]])
