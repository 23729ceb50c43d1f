"""From measurements to part states to a claim's verdict: pure, and the only place where a verdict is made.

**State of a part by its own measurement** (`part_state`)

| state | when |
|---|---|
| ``met`` | the two-sided 95 % interval lies wholly in the accepted region |
| ``not_met`` | it lies wholly outside |
| ``open`` | it straddles the edge, is not finite or has no width, or n or half-width miss the stated precision |
| ``untested`` | no measurement was given: the asset or the stored run is absent |

A deterministic part (``equality``, or a part without ``precision``) compares an `Exact` with the region, and is open
only when that is not finite. A voted part (``rank_order``, ``shape``) is met when P(X >= agree | n, chance) <= 0.05 and
the share asked for agrees; not met when it is not met and the 95 % Clopper-Pearson interval of the agreeing share lies
wholly below one half; else open.

**What controls and preconditions make of it** (`judged_part`). Each is judged like the part, by the same region or
rule. A control is asked for units enough and no half-width; without spread it stands as its value; votes that luck
explains are not met. A null guards what is met, a ceiling what is not met, a precondition both:

| state of the control | precondition: any part | measured null: a met part | measured ceiling: a part not met |
|---|---|---|---|
| ``met`` | stands | ``void``: nothing at all meets it too | stands |
| ``not_met`` | ``open`` | stands | ``void``: the best possible does not meet it either |
| ``open`` | ``open`` | ``open`` | ``open`` |
| ``untested`` | ``untested`` | ``untested`` | ``untested`` |

**Verdict of a claim** (`claim_verdict`): which states occur among its parts, by the first row that fits

| met | not_met | untested or void | open | verdict |
|---|---|---|---|---|
| yes | no | no | no | ``reproduced`` |
| no | yes | no | no | ``contradicted`` inside the claim's scope, else ``not_transferred`` |
| yes | at least one of the two | | any | ``partial`` |
| otherwise | | | | ``inconclusive`` |

A verdict is given as soon as the open parts can no longer change it: with one part met and one not, or one that cannot
be tested, the claim is partial whatever the rest turns out to be; met and open alone may still become reproduced, not
met and open alone contradicted, so both are inconclusive. So is a claim of which nothing was measured, or only parts
that failed beside parts untested: ``not_tested`` is never derived, the ledger alone states it.

A toy or a reconstruction lies outside every scope. A cap acts last and both ways: ``reproduced`` becomes ``partial``,
``contradicted`` and ``not_transferred`` become ``inconclusive``. A claim for all models that the deciding one
reproduces is ``partial`` where another real model fails a part (`across`).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from claimbook.claims import words
from claimbook.claims.criteria import MEASURED, Equality, Part, RankOrder, Shape
from claimbook.claims.ledgers import Claim, Fidelity, NotTested, Verdict
from claimbook.claims.rules import NAMED
from claimbook.errors import ClaimbookError
from claimbook.stats import Estimate, Exact, Votes, proportion

Measurement = Estimate | Votes | Exact | None

LEVEL = 0.05
ENOUGH_UNITS = 20  # with fewer, a verdict says what it speaks for
CAPPED = "capped"


@dataclass
class Evidence:
    """What was measured of a claim on one model, by name of the part or precondition; what is absent is untested."""

    parts: dict[str, Measurement] = field(default_factory=dict)
    nulls: dict[str, Measurement] = field(default_factory=dict)
    ceilings: dict[str, Measurement] = field(default_factory=dict)
    preconditions: dict[str, Measurement] = field(default_factory=dict)


@dataclass(frozen=True)
class PartResult:
    """A judged part, as it stands in a result file: plain JSON values, null where a number is not finite.

    ``null``, ``ceiling`` and ``precondition``: what was measured of them, judged likewise.
    """

    state: str
    because: str
    estimate: float | None = None
    interval: list[float] | None = None
    n: int = 0
    method: str = ""
    scale: str = "linear"
    unit: str = ""
    arms: tuple[str, ...] = ()  # the stored runs and arms it was measured on, as far as that is said
    null: "PartResult | None" = None
    ceiling: "PartResult | None" = None
    precondition: "PartResult | None" = None


@dataclass(frozen=True)
class Judgement:
    """A judged claim; ``reason`` is None for reproduced, the ledger's reason for not_tested, else what is wrong.

    ``detail``: the verdict in a few words more: "3 of 4", "leans against".
    """

    claim: str
    version: int
    verdict: Verdict
    detail: str | None
    fidelity: Fidelity | None
    reconstructed: bool
    reason: str | None
    published: int | float | str | list | None
    parts: dict[str, PartResult] = field(default_factory=dict)
    speaks_for: str | None = None

    def as_json(self) -> dict:
        """The claim's entry in a result file."""
        entry = asdict(self)
        del entry["claim"]
        for part in entry["parts"].values():
            for control in ("null", "ceiling", "precondition"):
                if part[control] is None:
                    del part[control]
                else:
                    part[control] = {k: v for k, v in part[control].items() if v is not None or k == "interval"}
        return entry


# --- a part --------------------------------------------------------------------------------------------------------


def part_state(part: Part, measurement: Measurement) -> str:
    """``met``, ``not_met``, ``open`` or ``untested``; `ClaimbookError` for the wrong kind of measurement."""
    return _state_because(part, measurement)[0]


def judged_part(claim: Claim, part: Part, evidence: Evidence) -> PartResult:
    """A part with its precondition and its measured controls, by the table above.

    ClaimbookError where the precondition was measured on something else than the part.
    """
    own = evidence.parts.get(part.name)
    found = _part_result(part, own)
    if found.state in ("met", "not_met"):
        found = _controlled(part, found, evidence)
    if part.needs is None:
        return found
    needed = evidence.preconditions.get(part.needs)
    if own is not None:
        _check_same_arm(claim, part, own, needed)
    precondition = _part_result(claim.precondition(part.needs), needed)
    found = replace(found, precondition=precondition)
    if own is None or precondition.state == "met":
        return found
    state = "untested" if precondition.state == "untested" else "open"
    said = precondition.state.replace("_", " ")
    return replace(found, state=state, because=f"its precondition {part.needs} is {said}: {precondition.because}")


def _controlled(part: Part, found: PartResult, evidence: Evidence) -> PartResult:
    """A part that is met beside its measured null, one that is not met beside its measured ceiling."""
    name, given, fails_when, says = {
        "met": ("null", evidence.nulls, "met", "nothing at all meets it too"),
        "not_met": ("ceiling", evidence.ceilings, "not_met", "the best possible does not meet it either"),
    }[found.state]
    if not part.asks_for(name):
        return found
    control = _part_result(part, _sure(part, given.get(part.name)), asked_precisely=False)
    found = replace(found, **{name: control})
    if control.state == fails_when:
        return replace(found, state="void", because=f"{says}; its {name}: {control.because}")
    if control.state in ("open", "untested"):
        return replace(found, state=control.state, because=f"its {name} is {control.state}: {control.because}")
    return found


def _sure(part: Part, control: Measurement) -> Measurement:
    """A control that shows no spread, such as an effect of 0 in every document, stands as its value."""
    enough = isinstance(control, Estimate) and part.precision is not None and control.n >= part.precision.min_n
    enough = enough and math.isfinite(control.value)
    if enough and not (math.isfinite(control.low) and math.isfinite(control.high)):
        return replace(control, low=control.value, high=control.value)
    return control


def _check_same_arm(claim: Claim, part: Part, own: Measurement, needed: Measurement) -> None:
    if needed is None:
        return
    if not all(own.arms) or not all(needed.arms) or not (own.arms and needed.arms):
        raise ClaimbookError(
            f"claim {claim.id}: part {part.name} and its precondition {part.needs} must each say which stored run and "
            f"arm they were measured on: `estimate.of(…)`"
        )
    if not set(needed.arms) <= set(own.arms):
        raise ClaimbookError(
            f"claim {claim.id}: precondition {part.needs} was measured on {', '.join(needed.arms)}, part {part.name} "
            f"on {', '.join(own.arms)}: measure both on the same"
        )


# --- a claim -------------------------------------------------------------------------------------------------------


def claim_verdict(states: Mapping[str, str], inside_scope: bool) -> Verdict:
    """Verdict by the table above; ``states`` maps part names to states, and is not empty."""
    seen = set(states.values())
    if not seen or not seen <= {"met", "not_met", "open", "untested", "void"}:
        raise ClaimbookError(f"a verdict needs part states met, not_met, open, untested or void, not {sorted(seen)}")
    if seen == {"met"}:
        return "reproduced"
    if seen == {"not_met"}:
        return "contradicted" if inside_scope else "not_transferred"
    if "met" in seen and seen & {"not_met", "untested", "void"}:
        return "partial"
    return "inconclusive"


def inside_scope(claim: Claim, fidelity: Fidelity) -> bool:
    """Whether a failure here speaks against the claim: stated for all, or run on the paper's own models.

    A toy is never what a claim speaks of, nor is our reading of a method that the paper leaves open.
    """
    if fidelity == "toy" or claim.reconstructed:
        return False
    return claim.scope == "universal" or fidelity == "exact"


def judge(claim: Claim, tier: str, evidence: Evidence, exact: bool = True) -> Judgement:
    """Judge a claim at a tier (cpu or gpu) on one model.

    Not ``exact``: what ran is not what the tier names (another model or text), so its "exact" reads "reduced".
    ClaimbookError for evidence that the ledger does not ask for.
    """
    fidelity = claim.tier(tier)
    if fidelity == "exact" and not exact:
        fidelity = "reduced"
    _check_asked_for(claim, evidence)
    if isinstance(fidelity, NotTested):
        if any(measurement is not None for measurement in evidence.parts.values()):
            raise ClaimbookError(f"claim {claim.id} was measured, but its ledger says not_tested at tier {tier}")
        return _judgement(claim, "not_tested", None, None, fidelity.not_tested)
    parts = {part.name: judged_part(claim, part, evidence) for part in claim.parts}
    verdict = claim_verdict({name: part.state for name, part in parts.items()}, inside_scope(claim, fidelity))
    detail, reason = _detail(verdict, parts), _reason(parts)
    if claim.cap and verdict in ("reproduced", "contradicted", "not_transferred"):
        verdict = "partial" if verdict == "reproduced" else "inconclusive"
        detail, reason = CAPPED, "; ".join(filter(None, [f"{CAPPED}: {claim.cap.why}", reason]))
    return _judgement(claim, verdict, detail, fidelity, reason, parts, _speaks_for(parts))


def _check_asked_for(claim: Claim, evidence: Evidence) -> None:
    for name in evidence.parts:
        claim.part(name)
    for name in evidence.preconditions:
        claim.precondition(name)
    for which, given in (("null", evidence.nulls), ("ceiling", evidence.ceilings)):
        for name in given:
            if not claim.part(name).asks_for(which):
                raise ClaimbookError(
                    f"claim {claim.id}: the ledger does not ask for a {which} of part {name} ({which}: {MEASURED})"
                )


def _detail(verdict: Verdict, parts: Mapping[str, PartResult]) -> str | None:
    """What a verdict that is neither for nor against comes from, in a few words."""
    states = [part.state for part in parts.values()]
    if verdict == "partial":
        return f"{states.count('met')} of {len(states)}"
    if verdict != "inconclusive":
        return None
    needed = [part.precondition.state for part in parts.values() if part.precondition]
    if "not_met" in needed or "open" in needed:
        return "precondition failed" if "not_met" in needed else "precondition open"
    if "met" not in states and "not_met" in states:
        return "leans against"
    if "open" in states:
        return "too noisy"
    return "its controls fail" if "void" in states else "not measured"


def across(claim: Claim, deciding: Judgement, others: Mapping[str, Judgement]) -> tuple[Judgement, str | None]:
    """A claim for all models on several of them: the verdict, and in how many it holds ("holds in 2 of 3 models").

    ``others``: judgements of the models beside the deciding one, by name. Where one of them, a real model inside the
    scope, fails a part that the deciding one meets, reproduced becomes partial. Without others: unchanged, and None.
    """
    if claim.scope != "universal" or claim.cap or not others or deciding.verdict == "not_tested":
        return deciding, None
    held = sum(one.verdict == "reproduced" for one in (deciding, *others.values()))
    holds = f"holds in {held} of {words.several(1 + len(others), 'models')}"
    fails = [f"{model} fails {name}" for model, one in others.items() for name in _failed(claim, deciding, one)]
    if deciding.verdict != "reproduced" or not fails:
        return deciding, holds
    return replace(deciding, verdict="partial", detail=holds, reason="; ".join(fails)), holds


def _failed(claim: Claim, deciding: Judgement, other: Judgement) -> list[str]:
    """Parts that the deciding model meets and another model inside the scope does not."""
    if other.fidelity is None or not inside_scope(claim, other.fidelity):
        return []
    return [
        name for name, part in other.parts.items() if part.state == "not_met" and deciding.parts[name].state == "met"
    ]


# --- how a state comes about ---------------------------------------------------------------------------------------


def _state_because(part: Part, measurement: Measurement, asked_precisely: bool = True) -> tuple[str, str]:
    """A part's state, and what decided it in a few words; controls are not asked for a half-width."""
    if measurement is None:
        return "untested", "no measurement"
    _check_kind(part, measurement)
    if isinstance(measurement, Votes):
        return _voted_state(part, measurement, asked_precisely)
    if isinstance(measurement, Exact):
        if not math.isfinite(measurement.value):
            return "open", "the value is not finite"
        return _region_state(part.region, measurement.value, measurement.value)
    return _missed_precision(part, measurement, asked_precisely) or _region_state(
        part.region, measurement.low, measurement.high
    )


def _check_kind(part: Part, measurement: Measurement) -> None:
    if isinstance(part, RankOrder | Shape):
        wanted, why = Votes, "it is judged by votes"
    elif isinstance(part, Equality) or part.precision is None:
        wanted, why = Exact, "it states no precision, so it is deterministic"
    else:
        wanted, why = Estimate, "it states a precision, so it is sampled"
    if not isinstance(measurement, wanted):
        given = type(measurement).__name__
        raise ClaimbookError(f"part {part.name} ({part.type}) takes {wanted.__name__}, not {given}: {why}")
    if wanted is Votes and part.rule in NAMED and measurement.rule != part.rule:
        raise ClaimbookError(f"part {part.name}: the rule is {part.rule} in the ledger, not {measurement.rule!r}")
    if wanted is Votes and not math.isclose(measurement.chance, part.chance, rel_tol=1e-3):
        raise ClaimbookError(f"part {part.name}: chance is {part.chance} in the ledger, not {measurement.chance}")
    if part.type == "direction" and getattr(measurement, "scale", "linear") == "log":
        raise ClaimbookError(f"part {part.name}: direction judges differences; for a ratio use at_least or at_most")


def _missed_precision(part: Part, estimate: Estimate, asked_precisely: bool) -> tuple[str, str] | None:
    if not asked_precisely and estimate.low == estimate.value == estimate.high:
        return None
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return "open", "no interval"
    if not (estimate.low < estimate.high and estimate.low <= estimate.value <= estimate.high):
        return "open", "the interval has no width or leaves out its value"
    if estimate.n < part.precision.min_n:
        return "open", f"n = {estimate.n} is below {part.precision.min_n}"
    limit = part.precision.max_halfwidth
    if asked_precisely and limit is not None and not estimate.halfwidth <= limit:
        return "open", f"half-width {estimate.halfwidth:.3g} is above {limit:g}"
    return None


def _region_state(region: tuple[float, float], low: float, high: float) -> tuple[str, str]:
    start, end = region
    if start <= low and high <= end:
        return "met", "wholly in the accepted region"
    if high < start or end < low:
        return "not_met", "wholly outside the accepted region"
    return "open", "the interval crosses the edge of the accepted region"


def _voted_state(part: RankOrder | Shape, votes: Votes, asked_precisely: bool) -> tuple[str, str]:
    """A control of votes that luck explains is not met; a part needs to be shown wrong."""
    if votes.n < part.precision.min_n:
        return "open", f"n = {votes.n} is below {part.precision.min_n}"
    count = f"{votes.agree} of {votes.n} agree, P = {votes.p_value:.2g} by chance"
    if votes.p_value <= LEVEL and votes.agree >= part.min_share * votes.n:
        return "met", count
    wrong = not asked_precisely or proportion(votes.agree, votes.n).high < 0.5
    return "not_met" if wrong else "open", count


def _part_result(part: Part, measurement: Measurement, asked_precisely: bool = True) -> PartResult:
    state, because = _state_because(part, measurement, asked_precisely)
    if measurement is None:
        return PartResult(state, because)
    if isinstance(measurement, Exact):
        return PartResult(
            state, because, _finite(measurement.value), None, measurement.n, measurement.method, arms=measurement.arms
        )
    if isinstance(measurement, Votes):
        share = proportion(measurement.agree, measurement.n, unit=measurement.unit)
        method = f"{measurement.rule or part.rule}; {share.method}"
    else:
        share, method = measurement, measurement.method
    ends = [_finite(share.low), _finite(share.high)]
    interval = None if None in ends else ends
    return PartResult(
        state, because, _finite(share.value), interval, share.n, method, share.scale, share.unit, measurement.arms
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _reason(parts: Mapping[str, PartResult]) -> str | None:
    """Each part that is not met, by name and cause."""
    failed = [
        f"{name} {part.state.replace('_', ' ')} ({part.because})" for name, part in parts.items() if part.state != "met"
    ]
    return "; ".join(failed) or None


def _speaks_for(parts: Mapping[str, PartResult]) -> str | None:
    """The smallest sample among the parts, when it is too small to generalise."""
    sampled = [(part.n, part.unit) for part in parts.values() if part.unit and part.n]
    n, unit = min(sampled, default=(ENOUGH_UNITS, ""))
    return f"{'this' if n == 1 else 'these'} {words.several(n, unit)} only" if n < ENOUGH_UNITS else None


def _judgement(claim: Claim, verdict, detail, fidelity, reason, parts=None, speaks_for=None) -> Judgement:
    reconstructed = claim.reconstructed is not None and fidelity is not None
    value = claim.published.value
    return Judgement(
        claim.id, claim.version, verdict, detail, fidelity, reconstructed, reason, value, parts or {}, speaks_for
    )
