"""Verdicts: the tables of `claimbook.verdicts`, and laws no measurement may break."""

import itertools
import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from claimbook import stats
from claimbook.claims import verdicts
from claimbook.claims.ledgers import Claim, Part
from claimbook.claims.verdicts import claim_verdict, inside_scope, judge, part_state, spoken, tally
from claimbook.errors import ClaimbookError
from claimbook.stats import Estimate, Exact, Votes

pytestmark = pytest.mark.numeric

STATES = ("met", "not_met", "open", "untested")


def part(type, name="p", precision=(20, None), **keys):
    """A part; ``precision`` is (min_n, max_halfwidth), or None for a deterministic one."""
    keys |= {"name": name, "quantity": "q", "why": "w", "type": type}
    if type in ("rank_order", "shape"):
        keys = {"rule": "rising", "chance": 0.25, "precision": {"min_n": precision[0]}} | keys
    elif precision and type != "equality":
        keys["precision"] = {"min_n": precision[0], "max_halfwidth": precision[1]}
    return TypeAdapter(Part).validate_python(keys)


AT_LEAST = part("at_least", bound=1.0)
SAMPLED = [
    AT_LEAST,
    part("at_most", bound=-0.5),
    part("equivalent", target=0.5, margin=0.3),
    part("direction", sign=1, min_effect=0.2),
    part("direction", sign=-1, min_effect=0.2),
    part("at_least", bound=0.1, precision=(5, 0.25)),
]
VOTED = [part("rank_order"), part("shape", chance=0.5), part("shape", min_share=0.6)]
DETERMINED = [part("equality", target=4, tolerance=0.5), part("at_most", bound=3, precision=None)]
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


def estimate(low, high, value=None, n=20, scale="linear"):
    return Estimate((low + high) / 2 if value is None else value, low, high, n, "by hand", scale, "documents")


def measurements():
    votes = st.builds(
        lambda n, share, chance: Votes(round(n * share), n, chance),
        st.integers(0, 50),
        st.floats(0, 1),
        st.sampled_from([0.25, 0.5]),
    )
    estimates = st.builds(Estimate, ANY_FLOAT, ANY_FLOAT, ANY_FLOAT, st.integers(0, 50), st.just("by hand"))
    return st.one_of(st.none(), votes, estimates, st.builds(Exact, ANY_FLOAT))


def claim(parts, tier="reduced", **keys):
    given = {
        "id": "C3",
        "text": "t",
        "where": "w",
        "source": "body",
        "kind": "result",
        "scope": "named_models",
        "published": {"value": 955, "read_in": "ocr"},
        "parts": [part.model_dump() for part in parts],
        "weight": 2,
        "tiers": {"cpu": tier, "gpu": {"not_tested": "needs_gpu", "why": "w"}},
        "pilot_seen": "none",
        "version": 1,
    }
    return Claim.model_validate(given | keys)


# -- the state of a part


@pytest.mark.parametrize(
    "sampled, low, high, state",
    [
        (AT_LEAST, 1.0, 1.5, "met"),
        (AT_LEAST, 0.9, 1.5, "open"),
        (AT_LEAST, 0.2, 1.0, "open"),
        (AT_LEAST, 0.2, 0.99, "not_met"),
        (SAMPLED[1], -2, -0.5, "met"),
        (SAMPLED[1], -0.4, 0.0, "not_met"),
        (SAMPLED[2], 0.3, 0.7, "met"),
        (SAMPLED[2], 0.1, 0.9, "open"),
        (SAMPLED[2], -1.0, 0.1, "not_met"),
        (SAMPLED[2], 0.9, 1.0, "not_met"),
        (SAMPLED[3], 0.2, 0.4, "met"),
        (SAMPLED[3], 0.1, 0.4, "open"),
        (SAMPLED[3], 0.01, 0.19, "not_met"),
        (SAMPLED[4], -0.4, -0.2, "met"),
        (SAMPLED[4], -0.1, 0.4, "not_met"),
    ],
)
def test_an_interval_is_compared_with_the_region(sampled, low, high, state):
    assert part_state(sampled, estimate(low, high)) == state


def test_no_difference_needs_a_narrow_interval_not_one_that_contains_zero():
    same = part("equivalent", target=0.0, margin=0.1)
    assert part_state(same, estimate(-5, 5)) == "open"
    assert part_state(same, estimate(-0.05, 0.05)) == "met"


def test_precision_that_is_missed_leaves_open():
    sampled = part("at_least", bound=1.0, precision=(20, 0.2))
    assert part_state(sampled, estimate(2.0, 2.3)) == "met"
    assert part_state(sampled, estimate(2.0, 2.3, n=19)) == "open"
    assert part_state(sampled, estimate(2.0, 2.5)) == "open"
    assert part_state(sampled, estimate(0.1, 0.6)) == "open"
    assert part_state(sampled, estimate(20.0, 29.0, scale="log")) == "met"  # half-width 0.19 on the log scale
    assert part_state(sampled, estimate(20.0, 31.0, scale="log")) == "open"


def test_precision_that_is_just_reached_is_enough():
    assert part_state(part("at_least", bound=1.0, precision=(20, 0.25)), estimate(2.0, 2.5)) == "met"
    assert part_state(part("shape", min_share=0.5), Votes(10, 20, 0.25)) == "met"
    assert part_state(part("shape", min_share=0.5), Votes(19, 40, 0.25)) == "open"


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_a_width_that_is_not_a_number_is_within_no_limit(low):
    """A ratio's interval that reaches zero has no width on the log scale."""
    found = estimate(low, 4.0, scale="log")
    assert math.isnan(found.halfwidth)
    for sampled in (
        part("at_least", bound=-2.0, precision=(20, 9.9)),
        part("at_most", bound=-2.0, precision=(20, 9.9)),
    ):
        assert part_state(sampled, found) == "open"


def test_a_deterministic_part_takes_an_exact_value():
    equal, most = DETERMINED
    assert [part_state(equal, Exact(x)) for x in (4, 4.5, 3.4, math.nan)] == ["met", "met", "not_met", "open"]
    assert [part_state(most, Exact(x)) for x in (3, 3.1, math.inf)] == ["met", "not_met", "open"]


@pytest.mark.parametrize(
    "low, high", [(-math.inf, math.inf), (-math.inf, 0.0), (2.0, math.inf), (math.nan, 2.0), (2, 2)]
)
@pytest.mark.parametrize("sampled", SAMPLED)
def test_an_interval_without_two_finite_ends_or_without_width_leaves_open(sampled, low, high):
    assert part_state(sampled, Estimate(2.0, low, high, 20, "by hand")) == "open"
    assert part_state(sampled, Estimate(-2.0, low, high, 20, "by hand")) == "open"


def test_a_chance_rounded_in_the_ledger_is_the_same_chance():
    assert part_state(part("shape", chance=0.0417), Votes(20, 20, 1 / 24)) == "met"


def test_votes_are_met_beyond_chance_and_not_met_below_one_half():
    rule = part("shape", precision=(5, None), chance=0.25)
    assert part_state(rule, Votes(9, 20, 0.25)) == "met"  # P = 0.041
    assert part_state(rule, Votes(8, 20, 0.25)) == "open"  # P = 0.10, share up to 0.64
    assert part_state(rule, Votes(5, 20, 0.25)) == "not_met"  # share at most 0.49
    assert part_state(rule, Votes(4, 4, 0.25)) == "open"  # n
    assert part_state(part("shape", chance=0.25, min_share=0.5), Votes(9, 20, 0.25)) == "open"


@pytest.mark.parametrize(
    "asked, given",
    [
        (AT_LEAST, Exact(5)),
        (AT_LEAST, Votes(20, 20, 0.25)),
        (VOTED[0], estimate(5, 6)),
        (VOTED[0], Votes(20, 20, 0.5)),
        (DETERMINED[0], estimate(3.9, 4.1)),
        (DETERMINED[1], estimate(1, 2)),
        (SAMPLED[3], estimate(5, 6, scale="log")),
    ],
)
def test_the_wrong_kind_of_measurement_is_refused(asked, given):
    with pytest.raises(ClaimbookError, match="part p"):
        part_state(asked, given)


# -- laws of a part


def state_or_refused(asked, measurement):
    try:
        return part_state(asked, measurement)
    except ClaimbookError:
        return "refused"


@given(st.sampled_from(SAMPLED + VOTED + DETERMINED), measurements())
def test_met_and_not_met_only_by_evidence(asked, measurement):
    """Brute force over kinds: what is decided is finite, precise enough, and on the right side."""
    state = state_or_refused(asked, measurement)
    assert state in (*STATES, "refused")
    assert (state == "untested") == (measurement is None)
    if state not in ("met", "not_met"):
        return
    if isinstance(measurement, Votes):
        assert measurement.n >= asked.precision.min_n
        assert state == "not_met" or measurement.p_value <= 0.05
        return
    start, end = asked.region
    if isinstance(measurement, Exact):
        assert math.isfinite(measurement.value)
        assert (state == "met") == (start <= measurement.value <= end)
        return
    assert measurement.n >= asked.precision.min_n
    assert -math.inf < measurement.low < measurement.high < math.inf
    inside = [start <= x <= end for x in (measurement.low, measurement.value, measurement.high)]
    assert all(inside) if state == "met" else not any(inside)


@given(st.floats(-3, 3), st.floats(0.001, 3), st.sampled_from(["linear", "log"]), st.sampled_from([0.1, 0.5]))
def test_what_is_decided_is_as_precise_as_was_asked(low, width, scale, limit):
    found = estimate(low, low + width, scale=scale)
    if part_state(part("at_least", bound=-5.0, precision=(5, limit)), found) != "open":
        assert found.halfwidth <= limit


@given(
    st.sampled_from(SAMPLED + DETERMINED[1:]), st.lists(st.sampled_from([math.nan, math.inf, 0.0, 7.0]), max_size=25)
)
def test_no_bad_data_decides_anything(asked, sample):
    """Constant, empty, single or not finite samples: through the statistics, nothing is met and nothing not met."""
    if len(set(sample)) > 1 and all(map(math.isfinite, sample)):
        sample = sample[:1]
    for measured in (stats.mean(sample), stats.paired_difference(sample, sample), stats.prediction_interval(sample)):
        assert state_or_refused(asked, measured) in ("open", "refused")


@given(st.sampled_from(SAMPLED), st.floats(-3, 3), st.floats(0.001, 2), st.floats(0, 2), st.floats(0, 2))
def test_a_wider_interval_decides_no_more(asked, low, width, left, right):
    value = low + width / 2
    narrow = part_state(asked, estimate(low, low + width, value))
    wide = part_state(asked, estimate(low - left, low + width + right, value))
    assert wide in (narrow, "open")


@given(st.sampled_from(SAMPLED), st.floats(-3, 3), st.floats(0.001, 2), st.integers(2, 60), st.integers(0, 30))
def test_fewer_units_decide_no_more(asked, low, width, n, fewer):
    assume(n - fewer >= 0)
    many = part_state(asked, estimate(low, low + width, n=n))
    assert part_state(asked, estimate(low, low + width, n=n - fewer)) in (many, "open")


@given(st.sampled_from([AT_LEAST, SAMPLED[3]]), st.floats(-3, 3), st.floats(0.001, 2), st.floats(0, 5))
def test_moving_up_never_loses_a_lower_bound(asked, low, width, shift):
    order = {"not_met": 0, "open": 1, "met": 2}
    before = part_state(asked, estimate(low, low + width))
    assert order[part_state(asked, estimate(low + shift, low + width + shift))] >= order[before]


@given(st.sampled_from(VOTED), st.integers(0, 60), st.data())
def test_more_agreement_never_loses(asked, n, data):
    few = data.draw(st.integers(0, n))
    many = data.draw(st.integers(few, n))
    order = {"not_met": 0, "open": 1, "met": 2}
    states = [part_state(asked, Votes(agree, n, asked.chance)) for agree in (few, many)]
    assert order[states[1]] >= order[states[0]]


# -- the verdict of a claim


@pytest.mark.parametrize(
    "states, inside, verdict",
    [
        ("met met", True, "reproduced"),
        ("met not_met", True, "partial"),
        ("met untested", True, "partial"),
        ("met not_met open", True, "partial"),
        ("met untested open", False, "partial"),
        ("met open", True, "inconclusive"),
        ("not_met not_met", True, "contradicted"),
        ("not_met not_met", False, "not_transferred"),
        ("not_met open", True, "inconclusive"),
        ("not_met untested", True, "inconclusive"),
        ("open", True, "inconclusive"),
        ("untested", True, "inconclusive"),
        ("untested open", True, "inconclusive"),
    ],
)
def test_the_table_of_verdicts(states, inside, verdict):
    assert claim_verdict(dict(enumerate(states.split())), inside) == verdict


def all_states(sizes=(1, 2, 3, 4)):
    return [states for size in sizes for states in itertools.product(STATES, repeat=size)]


@pytest.mark.parametrize("inside", [True, False])
def test_every_combination_obeys_the_design(inside):
    for states in all_states():
        verdict = claim_verdict(dict(enumerate(states)), inside)
        assert (verdict == "reproduced") == (set(states) == {"met"})
        assert (verdict in ("contradicted", "not_transferred")) == (set(states) == {"not_met"})
        assert verdict != "contradicted" or inside
        assert verdict != "partial" or ("met" in states and {"not_met", "untested"} & set(states))
        assert verdict != "not_tested"


def test_a_verdict_that_is_given_cannot_be_changed_by_its_open_parts():
    resolved = ("met", "not_met")
    for states in all_states((1, 2, 3)):
        verdict = claim_verdict(dict(enumerate(states)), True)
        choices = [resolved if state == "open" else (state,) for state in states]
        outcomes = {claim_verdict(dict(enumerate(choice)), True) for choice in itertools.product(*choices)}
        assert verdict == "inconclusive" or outcomes == {verdict}


def test_no_states_and_unknown_states_are_refused():
    for states in ({}, {"p": "passed"}):
        with pytest.raises(ClaimbookError, match="met, not_met, open or untested"):
            claim_verdict(states, True)


@pytest.mark.parametrize("scope", ["universal", "named_models", "large_models"])
@pytest.mark.parametrize("fidelity", ["exact", "reduced", "toy"])
def test_scope(scope, fidelity):
    expected = scope == "universal" or fidelity == "exact"
    assert inside_scope(claim([AT_LEAST], scope=scope), fidelity) == expected


def test_a_toy_never_reads_as_a_verdict():
    words = {verdict: spoken(verdict, "toy") for verdict in verdicts.MECHANISM}
    assert words == {
        "reproduced": "mechanism seen",
        "partial": "mechanism partly seen",
        "contradicted": "mechanism not seen",
        "not_transferred": "mechanism not seen",
        "inconclusive": "mechanism unclear",
    }
    assert spoken("not_transferred", "reduced") == "not transferred"
    assert spoken("not_tested", None) == spoken("not_tested", "toy") == "not tested"


# -- judging a claim

BAND = part("equivalent", "band", target=0.0, margin=0.1)
BYTES = part("equality", "bytes", target=46080)


def test_judging_says_everything_a_result_file_needs():
    judged = judge(claim([AT_LEAST, BYTES]), "cpu", {"p": estimate(1.2, 1.4), "bytes": Exact(46080)})
    entry = json.loads(json.dumps(judged.as_json(), allow_nan=False))
    assert entry["verdict"] == "reproduced" and entry["fidelity"] == "reduced" and entry["reason"] is None
    assert entry["version"] == 1 and entry["published"] == 955 and entry["speaks_for"] is None
    assert entry["parts"]["p"] == {
        "state": "met",
        "because": "wholly in the accepted region",
        "estimate": pytest.approx(1.3),
        "interval": [1.2, 1.4],
        "n": 20,
        "method": "by hand",
        "scale": "linear",
        "unit": "documents",
    }
    assert entry["parts"]["bytes"]["estimate"] == 46080 and entry["parts"]["bytes"]["interval"] is None


@given(measurements(), measurements())
def test_results_are_json_and_agree_with_their_parts(first, second):
    try:
        judged = judge(
            claim([AT_LEAST, VOTED[0].model_copy(update={"name": "rule"})]), "cpu", {"p": first, "rule": second}
        )
    except ClaimbookError:
        return
    json.dumps(judged.as_json(), allow_nan=False)
    assert judged.verdict == claim_verdict({name: part.state for name, part in judged.parts.items()}, False)
    assert (judged.reason is None) == (judged.verdict == "reproduced")


def test_an_absent_measurement_never_passes():
    two = claim([AT_LEAST, BAND], scope="universal")
    clear = estimate(1.2, 1.4)
    assert judge(two, "cpu", {}).verdict == "inconclusive"
    assert judge(two, "cpu", {"p": clear, "band": None}).verdict == "partial"
    judged = judge(two, "cpu", {"p": clear})
    assert judged.verdict == "partial" and judged.reason == "band untested (no measurement)"


def test_each_part_that_fails_is_named_with_its_cause():
    judged = judge(claim([AT_LEAST, BAND]), "cpu", {"p": estimate(0.1, 0.2), "band": estimate(-1, 1, n=4)})
    assert judged.reason == "p not met (wholly outside the accepted region); band open (n = 4 is below 20)"


def test_scope_decides_between_contradicted_and_not_transferred():
    against = {"p": estimate(0.1, 0.2)}
    assert judge(claim([AT_LEAST]), "cpu", against).verdict == "not_transferred"
    assert judge(claim([AT_LEAST], tier="exact"), "cpu", against).verdict == "contradicted"
    assert judge(claim([AT_LEAST], scope="universal"), "cpu", against).verdict == "contradicted"


def test_a_related_object_is_at_most_partial():
    capped = claim([AT_LEAST], at_most="partial", at_most_why="an encoder, not BERT")
    judged = judge(capped, "cpu", {"p": estimate(1.2, 1.4)})
    assert judged.verdict == "partial" and judged.reason == "at most partial: an encoder, not BERT"
    assert judge(capped, "cpu", {"p": estimate(0.1, 0.2)}).verdict == "not_transferred"
    assert judge(capped, "cpu", {"p": estimate(0.1, 1.2)}).verdict == "inconclusive"


def test_not_tested_comes_from_the_ledger_alone():
    judged = judge(claim([AT_LEAST]), "gpu", {})
    assert (judged.verdict, judged.fidelity, judged.reason, judged.parts) == ("not_tested", None, "needs_gpu", {})
    with pytest.raises(ClaimbookError, match="C3 was measured, but its ledger says not_tested at tier gpu"):
        judge(claim([AT_LEAST]), "gpu", {"p": estimate(1.2, 1.4)})


def test_unknown_parts_and_tiers_are_refused():
    with pytest.raises(ClaimbookError, match="C3 has no part 'windw', it has p"):
        judge(claim([AT_LEAST]), "cpu", {"windw": estimate(1, 2)})
    with pytest.raises(ClaimbookError, match="no tier 'smoke', allowed are cpu, gpu"):
        judge(claim([AT_LEAST]), "smoke", {})


def test_a_small_sample_says_what_it_speaks_for():
    few = part("at_least", bound=1.0, precision=(5, None))
    seeds = Estimate(1.3, 1.2, 1.4, 5, "by hand", unit="seeds")
    assert judge(claim([few]), "cpu", {"p": seeds}).speaks_for == "these 5 seeds only"
    assert judge(claim([AT_LEAST, BYTES]), "cpu", {"p": estimate(1, 2), "bytes": Exact(0)}).speaks_for is None


def test_a_claim_speaks_for_the_smallest_of_its_samples():
    parts = [part("at_least", name, bound=1.0, precision=(5, None)) for name in ("few", "some", "many")]
    for order in itertools.permutations(parts):
        found = {
            "few": Estimate(1.3, 1.2, 1.4, 5, "by hand", unit="seeds"),
            "some": Estimate(1.3, 1.2, 1.4, 12, "by hand", unit="scans"),
            "many": estimate(1.2, 1.4, n=40),
        }
        assert judge(claim(list(order)), "cpu", found).speaks_for == "these 5 seeds only"
    assert judge(claim(parts[2:]), "cpu", {"many": estimate(1.2, 1.4, n=20)}).speaks_for is None, "20 are enough"


def test_holds_in_k_of_k():
    assert verdicts.holds_in({"a": "reproduced", "b": "reproduced"}) == "holds in 2 of 2 models"
    assert verdicts.holds_in({"a": "partial"}) == "holds in 0 of 1 model"


def test_totals():
    result, premise = claim([AT_LEAST]), claim([AT_LEAST], kind="premise")
    ours = claim([AT_LEAST], source="ours")
    counts = tally(
        [
            (result, "reproduced", "reduced"),
            (result, "reproduced", "toy"),
            (result, "not_transferred", "reduced"),
            (result, "not_tested", None),
            (premise, "reproduced", "exact"),
            (ours, "reproduced", "exact"),
        ]
    )
    assert counts.verdicts == {"reproduced": 1, "not transferred": 1}
    assert counts.mechanisms == {"mechanism seen": 1}
    assert (counts.not_tested, counts.shown, counts.total) == (1, 2, 4)


@given(st.lists(st.tuples(st.sampled_from(sorted(verdicts.MECHANISM)), st.sampled_from(["exact", "reduced", "toy"]))))
def test_totals_add_up(rows):
    counts = tally([(claim([AT_LEAST]), *row) for row in rows])
    assert counts.total == len(rows) == sum(counts.verdicts.values()) + sum(counts.mechanisms.values())


def test_exact_is_said_only_of_what_the_tier_names():
    one = claim([AT_LEAST], scope="named_models", tiers={"cpu": "reduced", "gpu": "exact"})
    below = {one.parts[0].name: Estimate(-5.0, -5.1, -4.9, 40, "made up")}
    assert (judge(one, "gpu", below).verdict, judge(one, "gpu", below).fidelity) == ("contradicted", "exact")
    other = judge(one, "gpu", below, exact=False)
    assert (other.verdict, other.fidelity) == ("not_transferred", "reduced")
