"""A criterion: a quantity, the region that would confirm the claim, and the known answers on which it is tried.

**Controls.** Before a part may judge a measurement it is tried on answers that are known, when the ledger is loaded:

- the paper's own figures, put into the part's quantity, lie inside the region;
- the null, what would be seen were the sentence false, lies outside;
- the ceiling, the best that could be seen, lies inside.

A part that fails is refused. A null or ceiling that is ``measured`` is tried when the run has measured it, see
``claimbook.claims.verdicts``.
"""

import math
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

from claimbook.claims import rules
from claimbook.errors import ClaimbookError

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Interval = tuple[float, float]
DUE = "due"  # controls that are still to be written; how many there are is shown, and may only fall
MEASURED = "measured"


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

    @classmethod
    def read(cls, given: Any) -> Any:
        """An instance, or the first mistake as one line: a `ValueError`, so that validators may call it."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(": ".join([*map(str, first["loc"]), said(first)])) from None


def said(mistake: Any) -> str:
    """What pydantic found wrong, in a line: what is allowed and what was given."""
    message, given = mistake["msg"].removeprefix("Value error, "), mistake["input"]
    if mistake["type"] == "missing":
        return "this key is missing"
    shown = isinstance(given, dict | list) or repr(given) in message
    return message[0].lower() + message[1:] + ("" if shown else f", not {str(given)[:60]!r}")


# --- controls ----------------------------------------------------------------------------------------------------


class Figure(Model):
    """A known answer: a number, or for a rule the ``series`` it runs on.

    ``fails``: why a figure of the paper itself lies outside the region, which is shown as a finding.
    """

    value: float | None = Field(None, ge=-1e300, le=1e300)
    series: list[int | float] | None = None
    fails: Text | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> "Figure":
        if (self.value is None) == (self.series is None):
            raise ValueError("a figure has a value, or for a rule a series")
        return self

    def __str__(self) -> str:
        return str(self.series) if self.value is None else f"{self.value:g}"


class OtherMetric(Model):
    """A published figure in another metric than the part's: shown, not checked."""

    metric: Literal["other"]
    value: int | float | str | list[int | float | str]
    why: Text


class Without(Model):
    """No such control, and the reason."""

    none: Text


class Controls(Model):
    """The known answers of one part."""

    published: list[Figure] | OtherMetric | Without
    null: list[Figure] | Literal["measured"] | Without
    ceiling: list[Figure] | Literal["measured"] | None = None

    @field_validator("published", mode="before")
    @classmethod
    def _published(cls, given: Any) -> Any:
        if isinstance(given, dict) and "metric" in given:
            return OtherMetric.read(given)
        return _figures(given, "a number, {value: …, fails: why}, {metric: other, value: …, why: …} or {none: why}")

    @field_validator("null", mode="before")
    @classmethod
    def _null(cls, given: Any) -> Any:
        return given if given == MEASURED else _figures(given, "a number, measured or {none: why}")

    @field_validator("ceiling", mode="before")
    @classmethod
    def _ceiling(cls, given: Any) -> Any:
        if isinstance(given, dict) and "none" in given:
            raise ValueError("a part that has no ceiling leaves the key out")
        return given if given in (None, MEASURED) else _figures(given, "a number or measured")


def _figures(given: Any, allowed: str) -> list[Figure] | Without:
    """Known answers as they are written: one or a list of numbers and figures, or why there is none."""
    if isinstance(given, dict) and "none" in given:
        return Without.read(given)
    several = given if isinstance(given, list) else [given]
    if not several or any(isinstance(one, bool) or not isinstance(one, int | float | dict) for one in several):
        raise ValueError(f"{given!r} is not {allowed}; for a rule a figure is {{series: [numbers]}}")
    return [Figure.read(one if isinstance(one, dict) else {"value": one}) for one in several]


# --- parts -------------------------------------------------------------------------------------------------------


class Precision(Model):
    """What a sampled quantity must reach to be judged; ratios state their half-width on the log scale."""

    min_n: int = Field(ge=2)
    max_halfwidth: float | None = Field(None, gt=0)


class _Part(Model):
    """``needs``: the claim's precondition without which the part says nothing."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    quantity: Text
    why: Text
    needs: str | None = None
    controls: Controls | Literal["due"] | None = None

    @field_validator("controls", mode="before")
    @classmethod
    def _written_or_due(cls, given: Any) -> Any:
        if given is not None and given != DUE and not isinstance(given, dict):
            raise ValueError(f"{given!r} is not {{published: …, null: …, ceiling: …}} or {DUE}")
        return given if given in (None, DUE) else Controls.read(given)

    @model_validator(mode="after")
    def _stands_its_controls(self):
        if isinstance(self.controls, Controls):
            _try_on_known_answers(self, self.controls)
            _tries_something(self, self.controls)
        return self

    def asks_for(self, which: Literal["null", "ceiling"]) -> bool:
        """Whether the run has to measure this control of the part."""
        return isinstance(self.controls, Controls) and getattr(self.controls, which) == MEASURED

    def measuring(self) -> dict:
        """What can move how the part is judged, as plain JSON: all but prose."""
        keys = self.model_dump(mode="json", exclude={"why", "name", "controls"}, exclude_none=True)
        return keys | ({"controls": _numbers(self.controls)} if self.controls else {})


class _Region(_Part):
    """A part with an accepted region. With ``precision`` it is sampled and takes an Estimate, without it an Exact."""

    precision: Precision | None = None

    def accepts(self, figure: Figure) -> bool:
        """Whether a known answer lies in the accepted region. ValueError for a series."""
        if figure.value is None:
            raise ValueError("takes a value, a series is for a rule")
        low, high = self.region
        return low <= figure.value <= high


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


class Equality(_Region):
    """A deterministic number; takes an Exact."""

    type: Literal["equality"]
    target: float
    tolerance: float = Field(0, ge=0)
    precision: None = None

    @property
    def region(self) -> Interval:
        return self.target - self.tolerance, self.target + self.tolerance


class MinVotes(Model):
    min_n: int = Field(ge=2)


class _Voted(_Part):
    """Judged per seed or document by ``rule``, which holds by luck with probability ``chance``; takes Votes.

    The rule is one of ``claimbook.claims.rules``; in words alone only as long as the controls are due.
    """

    rule: Text
    chance: float = Field(gt=0, lt=1)
    min_share: float = Field(ge=0, le=1)  # asked beyond chance: the share of units that must agree
    precision: MinVotes

    def accepts(self, figure: Figure) -> bool:
        """Whether a known series follows the rule. ValueError for a number, an unknown rule, too small a chance."""
        if figure.series is None:
            raise ValueError("a rule takes a {series: [numbers]}")
        try:
            held = rules.follows(self.rule, figure.series)
        except ClaimbookError as error:
            raise ValueError(str(error)) from None
        by_luck = rules.least_chance(self.rule, len(figure.series))
        if self.chance < 0.99 * by_luck:
            raise ValueError(f"chance is {self.chance:g}, but {self.rule} holds by luck in {by_luck:.3g} of cases")
        return held


class RankOrder(_Voted):
    type: Literal["rank_order"]


class Shape(_Voted):
    type: Literal["shape"]


Part = Annotated[AtLeast | AtMost | Equivalent | Direction | RankOrder | Shape | Equality, Field(discriminator="type")]
PART_TYPES = ("at_least", "at_most", "equivalent", "direction", "rank_order", "shape", "equality")


def accepted(part: Part) -> str:
    """The accepted region, or the rule, in signs: ``≥ 1.22``."""
    match part.type:
        case "at_least":
            return f"≥ {_plain(part.bound)}"
        case "at_most":
            return f"≤ {_plain(part.bound)}"
        case "equivalent":
            return f"= {_plain(part.target)} ± {_plain(part.margin)}"
        case "direction":
            return f"≥ {_plain(part.min_effect)}" if part.sign > 0 else f"≤ −{_plain(part.min_effect)}"
        case "equality":
            return f"= {_plain(part.target)}" + (f" ± {_plain(part.tolerance)}" if part.tolerance else "")
    return f"({part.rule.replace('_', ' ')})"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e9 else f"{value:g}"


def _try_on_known_answers(part: Part, controls: Controls) -> None:
    """ValueError for the first known answer on which the part is wrong; which is why it may not judge."""
    for figure in _listed(controls.published):
        inside = _accepts(part, "published", figure)
        if inside and figure.fails:
            raise ValueError(
                f"controls.published: {figure} is said to fail, but the part accepts it ({accepted(part)})"
            )
        if not inside and not figure.fails:
            raise ValueError(
                f"controls.published: the paper's own {figure} fails the part ({accepted(part)}): "
                "correct the part, or say with `fails: why` that the paper's table fails its sentence"
            )
    for figure in _listed(controls.null):
        if _accepts(part, "null", figure):
            raise ValueError(f"controls.null: {figure} meets the part ({accepted(part)}): nothing at all would meet it")
    for figure in _listed(controls.ceiling):
        if not _accepts(part, "ceiling", figure):
            raise ValueError(
                f"controls.ceiling: the best possible {figure} fails the part ({accepted(part)}), so that nothing could"
            )


def _tries_something(part: Part, controls: Controls) -> None:
    """ValueError for a part with neither figure nor null, unless precision alone is its test, as of a drift."""
    nothing = isinstance(controls.published, Without) and isinstance(controls.null, Without)
    if nothing and getattr(part.precision, "max_halfwidth", None) is None:
        raise ValueError("controls: neither a published figure nor a null: such a part states precision.max_halfwidth")
    if isinstance(part, _Voted) and part.rule not in rules.NAMED:
        raise ValueError(f"rule: no rule {part.rule!r}, there are {', '.join(rules.NAMED)}")


def _accepts(part: Part, which: str, figure: Figure) -> bool:
    if figure.fails and which != "published":
        raise ValueError(f"controls.{which}: `fails` belongs to a published figure")
    try:
        return part.accepts(figure)
    except ValueError as error:
        raise ValueError(f"controls.{which}: {error}") from None


def _listed(control: object) -> list[Figure]:
    return control if isinstance(control, list) else []


def _numbers(controls: Controls | str) -> object:
    """Controls without their prose."""
    if isinstance(controls, str):
        return controls
    return {name: _bare(getattr(controls, name)) for name in Controls.model_fields}


def _bare(control: object) -> object:
    if isinstance(control, list):
        return [[one.series if one.value is None else one.value, one.fails is not None] for one in control]
    if isinstance(control, OtherMetric):
        return {"other": control.value}
    return None if isinstance(control, Without) else control
