"""From measurements to part states to a claim's verdict: pure, and the only place where a verdict is made.

**State of a part** (`part_state`)

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

**Verdict of a claim** (`claim_verdict`): which states occur among its parts, by the first row that fits

| met | not_met | untested | open | verdict |
|---|---|---|---|---|
| yes | no | no | no | ``reproduced`` |
| no | yes | no | no | ``contradicted`` inside the claim's scope, else ``not_transferred`` |
| yes | at least one of the two | | any | ``partial`` |
| otherwise | | | | ``inconclusive`` |

A claim whose gate is closed is inconclusive whatever the states of its parts.

A verdict is given as soon as the open parts can no longer change it: with one part met and one not, or one that cannot
be tested, the claim is partial whatever the rest turns out to be; met and open alone may still become reproduced, not
met and open alone contradicted, so both are inconclusive. So is a claim of which nothing was measured, or only parts
that failed beside parts untested: ``not_tested`` is never derived, the ledger alone states it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from claimbook.claims.ledgers import Claim, Equality, Fidelity, NotTested, Part, RankOrder, Shape, Verdict
from claimbook.errors import ClaimbookError
from claimbook.stats import Estimate, Exact, Votes, proportion

Measurement = Estimate | Votes | Exact | None

LEVEL = 0.05
ENOUGH_UNITS = 20  # with fewer, a verdict says what it speaks for
CLOSED = "the gate is closed"  # begins the reason of a claim that its gate keeps from being judged
MECHANISM = {
    "reproduced": "mechanism seen",
    "partial": "mechanism partly seen",
    "contradicted": "mechanism not seen",
    "not_transferred": "mechanism not seen",
    "inconclusive": "mechanism unclear",
}


@dataclass(frozen=True)
class PartResult:
    """A judged part, as it stands in a result file: plain JSON values, null where a number is not finite."""

    state: str
    because: str
    estimate: float | None = None
    interval: list[float] | None = None
    n: int = 0
    method: str = ""
    scale: str = "linear"
    unit: str = ""


@dataclass(frozen=True)
class Judgement:
    """A judged claim; ``reason`` is None for reproduced, the ledger's reason for not_tested, else what is wrong."""

    claim: str
    version: int
    verdict: Verdict
    fidelity: Fidelity | None
    reason: str | None
    published: int | float | str | list | None
    parts: dict[str, PartResult] = field(default_factory=dict)
    speaks_for: str | None = None

    def as_json(self) -> dict:
        """The claim's entry in a result file, without deviations, which only the notebook knows."""
        entry = asdict(self)
        del entry["claim"]
        return entry


def part_state(part: Part, measurement: Measurement) -> str:
    """``met``, ``not_met``, ``open`` or ``untested``; `ClaimbookError` for the wrong kind of measurement."""
    return _state_because(part, measurement)[0]


def claim_verdict(states: Mapping[str, str], inside_scope: bool) -> Verdict:
    """Verdict by the table above; ``states`` maps part names to states, and is not empty."""
    seen = set(states.values())
    if not seen or not seen <= {"met", "not_met", "open", "untested"}:
        raise ClaimbookError(f"a verdict needs part states met, not_met, open or untested, not {sorted(seen)}")
    if seen == {"met"}:
        return "reproduced"
    if seen == {"not_met"}:
        return "contradicted" if inside_scope else "not_transferred"
    if "met" in seen and seen & {"not_met", "untested"}:
        return "partial"
    return "inconclusive"


def inside_scope(claim: Claim, fidelity: Fidelity) -> bool:
    """Whether a failure here speaks against the claim: stated for all, or run on the paper's own models."""
    return claim.scope == "universal" or fidelity == "exact"


def spoken(verdict: Verdict, fidelity: Fidelity | None) -> str:
    """The verdict as the book says it: in words of its own for a toy, which never reads as reproduced."""
    if fidelity == "toy" and verdict != "not_tested":
        return MECHANISM[verdict]
    return verdict.replace("_", " ")


def judge(
    claim: Claim,
    tier: str,
    measurements: Mapping[str, Measurement],
    exact: bool = True,
    closed: str | None = None,
) -> Judgement:
    """Judge a claim at a tier (cpu or gpu) from its parts' measurements, by part name; an absent one is untested.

    Not ``exact``: what ran is not what the tier names (another model or text), so its "exact" reads "reduced".
    ``closed``: what was found in place of what the claim's gate asks for; then the claim is inconclusive, whatever
    its parts, which keep their states.
    """
    fidelity = claim.tier(tier)
    if fidelity == "exact" and not exact:
        fidelity = "reduced"
    for name in measurements:
        claim.part(name)
    if isinstance(fidelity, NotTested):
        if any(measurement is not None for measurement in measurements.values()):
            raise ClaimbookError(f"claim {claim.id} was measured, but its ledger says not_tested at tier {tier}")
        return _judgement(claim, "not_tested", None, fidelity.not_tested)
    parts = {part.name: _part_result(part, measurements.get(part.name)) for part in claim.parts}
    verdict = claim_verdict({name: part.state for name, part in parts.items()}, inside_scope(claim, fidelity))
    reason = _reason(parts)
    if verdict == "reproduced" and claim.at_most:
        verdict, reason = claim.at_most, f"at most {claim.at_most}: {claim.at_most_why}"
    if closed is not None:
        verdict, reason = "inconclusive", f"{CLOSED} ({claim.gate}): {closed}"
    return _judgement(claim, verdict, fidelity, reason, parts, _speaks_for(parts))


def holds_in(verdicts: Mapping[str, Verdict]) -> str:
    """A universal claim on several models, by model: "holds in 2 of 3 models"."""
    held = sum(verdict == "reproduced" for verdict in verdicts.values())
    return f"holds in {held} of {len(verdicts)} model{'s' if len(verdicts) != 1 else ''}"


@dataclass(frozen=True)
class Tally:
    """Totals of a scoreboard: total = all verdicts + all mechanisms + not_tested; ``shown`` stands outside."""

    total: int
    verdicts: dict[str, int]  # of real models, data or arithmetic, by spoken verdict
    mechanisms: dict[str, int]  # of toys, in their own words
    not_tested: int
    shown: int  # premises and our own claims: in no total and no rate


def tally(rows: Iterable[tuple[Claim, Verdict, Fidelity | None]]) -> Tally:
    """Count (claim, verdict, fidelity) rows for a scoreboard."""
    rows = list(rows)
    counted = [(verdict, fidelity) for claim, verdict, fidelity in rows if claim.counted]
    tested = [row for row in counted if row[0] != "not_tested"]
    return Tally(
        total=len(counted),
        verdicts=dict(Counter(spoken(*row) for row in tested if row[1] != "toy")),
        mechanisms=dict(Counter(spoken(*row) for row in tested if row[1] == "toy")),
        not_tested=len(counted) - len(tested),
        shown=len(rows) - len(counted),
    )


def _state_because(part: Part, measurement: Measurement) -> tuple[str, str]:
    """A part's state, and what decided it in a few words."""
    if measurement is None:
        return "untested", "no measurement"
    _check_kind(part, measurement)
    if isinstance(measurement, Votes):
        return _voted_state(part, measurement)
    if isinstance(measurement, Exact):
        if not math.isfinite(measurement.value):
            return "open", "the value is not finite"
        return _region_state(part.region, measurement.value, measurement.value)
    return _missed_precision(part, measurement) or _region_state(part.region, measurement.low, measurement.high)


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
    if wanted is Votes and not math.isclose(measurement.chance, part.chance, rel_tol=1e-3):
        raise ClaimbookError(f"part {part.name}: chance is {part.chance} in the ledger, not {measurement.chance}")
    if part.type == "direction" and getattr(measurement, "scale", "linear") == "log":
        raise ClaimbookError(f"part {part.name}: direction judges differences; for a ratio use at_least or at_most")


def _missed_precision(part: Part, estimate: Estimate) -> tuple[str, str] | None:
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return "open", "no interval"
    if not (estimate.low < estimate.high and estimate.low <= estimate.value <= estimate.high):
        return "open", "the interval has no width or leaves out its value"
    if estimate.n < part.precision.min_n:
        return "open", f"n = {estimate.n} is below {part.precision.min_n}"
    limit = part.precision.max_halfwidth
    if limit is not None and not estimate.halfwidth <= limit:
        return "open", f"half-width {estimate.halfwidth:.3g} is above {limit:g}"
    return None


def _region_state(region: tuple[float, float], low: float, high: float) -> tuple[str, str]:
    start, end = region
    if start <= low and high <= end:
        return "met", "wholly in the accepted region"
    if high < start or end < low:
        return "not_met", "wholly outside the accepted region"
    return "open", "the interval crosses the edge of the accepted region"


def _voted_state(part: RankOrder | Shape, votes: Votes) -> tuple[str, str]:
    if votes.n < part.precision.min_n:
        return "open", f"n = {votes.n} is below {part.precision.min_n}"
    count = f"{votes.agree} of {votes.n} agree, P = {votes.p_value:.2g} by chance"
    if votes.p_value <= LEVEL and votes.agree >= part.min_share * votes.n:
        return "met", count
    return "not_met" if proportion(votes.agree, votes.n).high < 0.5 else "open", count


def _part_result(part: Part, measurement: Measurement) -> PartResult:
    state, because = _state_because(part, measurement)
    if measurement is None:
        return PartResult(state, because)
    if isinstance(measurement, Exact):
        return PartResult(state, because, _finite(measurement.value), None, measurement.n, measurement.method)
    if isinstance(measurement, Votes):
        share = proportion(measurement.agree, measurement.n, unit=measurement.unit)
        method = f"{measurement.rule or part.rule}; {share.method}"
    else:
        share, method = measurement, measurement.method
    ends = [_finite(share.low), _finite(share.high)]
    interval = None if None in ends else ends
    return PartResult(state, because, _finite(share.value), interval, share.n, method, share.scale, share.unit)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _reason(parts: Mapping[str, PartResult]) -> str | None:
    """Each part that is not met, by name and cause."""
    failed = [f"{name} {part.state.replace('_', ' ')} ({part.because})" for name, part in parts.items()]
    return "; ".join(line for line, part in zip(failed, parts.values(), strict=True) if part.state != "met") or None


def _speaks_for(parts: Mapping[str, PartResult]) -> str | None:
    """The smallest sample among the parts, when it is too small to generalise."""
    sampled = [(part.n, part.unit) for part in parts.values() if part.unit]
    n, unit = min(sampled, default=(ENOUGH_UNITS, ""))
    return f"these {n} {unit} only" if n < ENOUGH_UNITS else None


def _judgement(claim: Claim, verdict, fidelity, reason, parts=None, speaks_for=None) -> Judgement:
    value = claim.published.value
    return Judgement(claim.id, claim.version, verdict, fidelity, reason, value, parts or {}, speaks_for)
