"""Verdicts: the tables of `claimbook.verdicts`, and laws no measurement may break."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from claimbook import stats
from claimbook.claims import rules, totals, verdicts, words
from claimbook.claims.criteria import Part
from claimbook.claims.ledgers import Claim
from claimbook.claims.verdicts import Evidence, across, claim_verdict, inside_scope, part_state
from claimbook.errors import ClaimbookError
from claimbook.stats import Estimate, Exact, Votes

pytestmark = pytest.mark.numeric

STATES = ("met", "not_met", "open", "untested")  # of a measurement alone
ALL_STATES = (*STATES, "void")


def part(type, name="p", precision=(20, None), **keys):
    """A part; ``precision`` is (min_n, max_halfwidth), or None for a deterministic one."""
    keys = {"controls": "due"} | keys | {"name": name, "quantity": "q", "why": "w", "type": type}
    if type in ("rank_order", "shape"):
        keys = {"rule": "rising", "chance": 0.25, "min_share": 0.0, "precision": {"min_n": precision[0]}} | keys
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


def _written(part):
    """A part as a ledger has it."""
    keys = part.model_dump(exclude_none=True)
    if isinstance(keys["controls"], dict):  # given as {"null": "measured"}
        keys["controls"]["published"] = {"none": "w"}
    return keys


def judge(claim, tier, measured, exact=True, **evidence):
    """`verdicts.judge` on parts that are measured, with nulls, ceilings and preconditions as they are given."""
    return verdicts.judge(claim, tier, Evidence(dict(measured), **evidence), exact)


def claim(parts, tier="reduced", **keys):
    given = {
        "id": "C3",
        "title": "t",
        "text": "t",
        "where": "w",
        "source": "body",
        "kind": "result",
        "scope": "named_models",
        "published": {"value": 955, "read_in": "ocr"},
        "parts": [_written(part) for part in parts],
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
    for measured in (stats.mean(sample), stats.paired_difference(sample, sample), stats.median(sample)):
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
        ("met void", True, "partial"),
        ("met void open", True, "partial"),
        ("void", True, "inconclusive"),
        ("void not_met", True, "inconclusive"),
        ("void open untested", True, "inconclusive"),
    ],
)
def test_the_table_of_verdicts(states, inside, verdict):
    assert claim_verdict(dict(enumerate(states.split())), inside) == verdict


def all_states(sizes=(1, 2, 3, 4)):
    return [states for size in sizes for states in itertools.product(ALL_STATES, repeat=size)]


@pytest.mark.parametrize("inside", [True, False])
def test_every_combination_obeys_the_design(inside):
    for states in all_states():
        verdict = claim_verdict(dict(enumerate(states)), inside)
        assert (verdict == "reproduced") == (set(states) == {"met"})
        assert (verdict in ("contradicted", "not_transferred")) == (set(states) == {"not_met"})
        assert verdict != "contradicted" or inside
        assert verdict != "partial" or ("met" in states and {"not_met", "untested", "void"} & set(states))
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
        with pytest.raises(ClaimbookError, match="met, not_met, open, untested or void"):
            claim_verdict(states, True)


@pytest.mark.parametrize("scope", ["universal", "named_models", "large_models"])
@pytest.mark.parametrize("fidelity", ["exact", "reduced", "toy"])
def test_scope(scope, fidelity):
    expected = fidelity != "toy" and (scope == "universal" or fidelity == "exact")
    assert inside_scope(claim([AT_LEAST], scope=scope), fidelity) == expected
    assert not inside_scope(claim([AT_LEAST], scope=scope, reconstructed="no formula"), fidelity)


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
        "arms": [],
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
    assert judge(claim([AT_LEAST], scope="universal", tier="toy"), "cpu", against).verdict == "not_transferred"
    guessed = claim([AT_LEAST], scope="universal", reconstructed="no formula is given")
    assert judge(guessed, "cpu", against).verdict == "not_transferred" and judge(guessed, "cpu", against).reconstructed


def test_a_related_object_speaks_neither_for_nor_against():
    capped = claim([AT_LEAST], cap={"why": "an encoder, not BERT"}, scope="universal")
    judged = judge(capped, "cpu", {"p": estimate(1.2, 1.4)})
    assert (judged.verdict, judged.detail, judged.reason) == ("partial", "capped", "capped: an encoder, not BERT")
    judged = judge(capped, "cpu", {"p": estimate(0.1, 0.2)})
    assert (judged.verdict, judged.detail) == ("inconclusive", "capped")
    assert judged.reason.startswith("capped: an encoder, not BERT; p not met")
    assert judge(capped, "cpu", {"p": estimate(0.1, 1.2)}).detail == "too noisy"


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
    one = Estimate(1.3, math.nan, math.nan, 1, "by hand", unit="seeds")
    assert judge(claim([few]), "cpu", {"p": one}).speaks_for == "this 1 seed only"
    assert judge(claim([few]), "cpu", {"p": stats.mean([], unit="seeds")}).speaks_for is None
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


def test_holds_in_k_of_k_and_what_follows():
    """A claim for all models is reproduced only where no other real model fails a part that the deciding one meets."""
    one = claim([AT_LEAST, BAND], scope="universal")
    holds, near = estimate(1.2, 1.4), estimate(-0.05, 0.05)
    good = judge(one, "cpu", {"p": holds, "band": near})
    fails = judge(one, "cpu", {"p": estimate(0.1, 0.2), "band": near})
    noisy = judge(one, "cpu", {"p": estimate(0.1, 1.2), "band": near})
    assert across(one, good, {}) == (good, None)
    assert across(one, good, {"b": good, "c": noisy}) == (good, "holds in 2 of 3 models")
    judged, holds_in = across(one, good, {"b": fails})
    assert (judged.verdict, judged.detail, judged.reason) == ("partial", "holds in 1 of 2 models", "b fails p")
    assert holds_in == "holds in 1 of 2 models"
    assert across(one, fails, {"b": good}) == (fails, "holds in 1 of 2 models")
    toy = claim([AT_LEAST, BAND], tier="toy", scope="universal")
    assert across(toy, good, {"b": judge(toy, "cpu", {"p": estimate(0.1, 0.2), "band": near})})[0] == good
    named = claim([AT_LEAST, BAND])
    assert across(named, good, {"b": fails}) == (good, None)


def test_totals():
    result, premise = claim([AT_LEAST]), claim([AT_LEAST], kind="premise")
    ours = claim([AT_LEAST, BAND], source="ours")
    rows = [
        (result, {"verdict": "reproduced", "fidelity": "reduced"}),
        (result, {"verdict": "reproduced", "fidelity": "toy"}),
        (result, {"verdict": "not_transferred", "fidelity": "reduced"}),
        (result, {"verdict": "not_tested", "fidelity": None}),
        (result, None),
        (premise, {"verdict": "reproduced", "fidelity": "exact"}),
        (ours, {"verdict": "reproduced", "fidelity": "exact"}),
    ]
    total = totals.count(rows)
    assert total.real == {"reproduced": 1, "not transferred": 1} and total.toys == {"reproduced": 1}
    assert (total.not_tested, total.not_run, total.shown, total.claims, total.due) == (1, 1, 2, 5, 8)
    said = "5 claims: 1 reproduced, 1 not transferred; on toys 1 reproduced; 1 not tested; 1 not run; "
    assert total.in_words() == said + "2 more shown, in no total"
    assert totals.count([]).in_words() == "0 claims: none judged"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["reproduced", "partial", "inconclusive", "contradicted", "not_transferred", "not_tested", None]
            ),
            st.sampled_from(["exact", "reduced", "toy"]),
            st.sampled_from(["result", "premise"]),
        )
    )
)
def test_totals_add_up(rows):
    total = totals.count([(claim([AT_LEAST], kind=kind), {"verdict": v, "fidelity": f}) for v, f, kind in rows])
    assert total.claims + total.shown == len(rows)
    assert total + totals.Totals() == total


@pytest.mark.parametrize(
    "count, plural, said",
    [
        (0, "seeds", "0 seeds"),
        (1, "seeds", "1 seed"),
        (2, "seeds", "2 seeds"),
        (1, "queries", "1 query"),
        (1, "claims", "1 claim"),
        (1, "classes", "1 class"),
        (1, "boxes", "1 box"),
        (1, "premises", "1 premise"),
        (1, "series", "1 series"),
        (1, "caches", "1 cache"),
        (1, "batches", "1 batch"),
        (1, "axes", "1 axis"),
        (1, "interleaved samples", "1 interleaved sample"),
        (1, "blocks of 20,000 tokens", "1 block of 20,000 tokens"),
        (1200, "samples", "1,200 samples"),
    ],
)
def test_counts_read_right(count, plural, said):
    assert words.several(count, plural) == said


def test_verdicts_in_words():
    def said(verdict, detail=None):
        return words.spoken({"verdict": verdict, "detail": detail})

    assert said("partial", "3 of 4") == "partial, 3 of 4"
    assert said("inconclusive", "leans against") == "inconclusive: leans against"
    assert said("not_transferred") == "not transferred" and said(None) == "no verdict"
    assert words.fidelity({"fidelity": "toy", "reconstructed": True}) == "toy, reconstructed"
    assert words.css({"verdict": "not_transferred", "fidelity": "toy"}) == "not-transferred toy"


def test_exact_is_said_only_of_what_the_tier_names():
    one = claim([AT_LEAST], scope="named_models", tiers={"cpu": "reduced", "gpu": "exact"})
    below = {one.parts[0].name: Estimate(-5.0, -5.1, -4.9, 40, "made up")}
    assert (judge(one, "gpu", below).verdict, judge(one, "gpu", below).fidelity) == ("contradicted", "exact")
    other = judge(one, "gpu", below, exact=False)
    assert (other.verdict, other.fidelity) == ("not_transferred", "reduced")


# -- controls and preconditions

CONTROLLED = {"published": {"none": "w"}, "null": "measured", "ceiling": "measured"}
GUARDED = part("at_least", bound=1.0, controls=CONTROLLED)
NULL_ONLY = part("at_least", bound=1.0, controls={"published": {"none": "w"}, "null": "measured"})
MEASUREMENT = {
    "met": estimate(1.2, 1.4),
    "not_met": estimate(0.1, 0.2),
    "open": estimate(0.5, 1.5),
    "untested": None,
}


@pytest.mark.parametrize("own", STATES)
@pytest.mark.parametrize("null", STATES)
@pytest.mark.parametrize("ceiling", STATES)
def test_the_table_of_controls(own, null, ceiling):
    """A null guards what is met and a ceiling what is not met; an absent one leaves nothing standing."""
    given = {"nulls": {"p": MEASUREMENT[null]}, "ceilings": {"p": MEASUREMENT[ceiling]}}
    state = judge(claim([GUARDED]), "cpu", {"p": MEASUREMENT[own]}, **given).parts["p"].state
    expected = {
        "met": {"met": "void", "not_met": "met", "open": "open", "untested": "untested"}[null],
        "not_met": {"met": "not_met", "not_met": "void", "open": "open", "untested": "untested"}[ceiling],
    }
    assert state == expected.get(own, own)


@pytest.mark.parametrize("own", STATES)
@pytest.mark.parametrize("needed", STATES)
def test_the_table_of_preconditions(own, needed):
    one = claim([part("at_least", bound=1.0, needs="there")], preconditions=THERE)
    on_arm = {state: found and found.of("run/arm") for state, found in MEASUREMENT.items()}
    judged = judge(one, "cpu", {"p": on_arm[own]}, preconditions={"there": on_arm[needed]})
    held = {"met": own, "not_met": "open", "open": "open", "untested": "untested"}[needed]
    assert judged.parts["p"].state == (own if own == "untested" else held)
    said = {"not_met": "precondition failed", "open": "precondition open"}.get(needed)
    assert judged.detail == said if said else "precondition" not in str(judged.detail), "even where nothing else is"


THERE = {"there": {"quantity": "q", "type": "at_least", "bound": 1.0, "precision": {"min_n": 20}, "why": "w"}}


def test_a_precondition_is_measured_on_the_arm_of_its_part():
    one = claim([part("at_least", bound=1.0, needs="there")], preconditions=THERE)
    met = MEASUREMENT["met"]
    for arms in (("text_fixed_slow", "text_fixed"), ("text_fixed",)):
        judged = judge(one, "cpu", {"p": met.of(*arms)}, preconditions={"there": met.of("text_fixed")})
        assert judged.verdict == "reproduced"
    with pytest.raises(
        ClaimbookError, match="there was measured on text_packed, part p on text_fixed_slow, text_fixed: m"
    ):
        judge(
            one, "cpu", {"p": met.of("text_fixed_slow", "text_fixed")}, preconditions={"there": met.of("text_packed")}
        )
    for own, needed in ((met, met.of("a")), (met.of("a"), met)):
        with pytest.raises(ClaimbookError, match="part p and its precondition there must each say which stored run"):
            judge(one, "cpu", {"p": own}, preconditions={"there": needed})


def test_controls_that_the_ledger_does_not_ask_for_are_refused():
    met = MEASUREMENT["met"]
    with pytest.raises(ClaimbookError, match="C3: the ledger does not ask for a null of part p"):
        judge(claim([AT_LEAST]), "cpu", {"p": met}, nulls={"p": met})
    with pytest.raises(ClaimbookError, match="C3: the ledger does not ask for a ceiling of part p"):
        judge(claim([NULL_ONLY]), "cpu", {"p": met}, ceilings={"p": met})
    with pytest.raises(ClaimbookError, match="claim C3 has no precondition 'there', it has none"):
        judge(claim([AT_LEAST]), "cpu", {"p": met}, preconditions={"there": met})


@given(measurements(), measurements(), measurements(), measurements(), st.booleans())
def test_no_evidence_yields_a_verdict_that_the_table_does_not_allow(own, null, ceiling, needed, capped):
    """Brute force over kinds: what is absent never passes, and what a null meets never counts."""
    guarded = GUARDED.model_copy(update={"needs": "there"})
    one = claim([guarded], preconditions=THERE, scope="universal", **({"cap": {"why": "w"}} if capped else {}))
    own, needed = (found and found.of("arm") for found in (own, needed))
    try:
        judged = judge(
            one, "cpu", {"p": own}, nulls={"p": null}, ceilings={"p": ceiling}, preconditions={"there": needed}
        )
    except ClaimbookError:
        return
    states = {name: state_or_refused(guarded, found) for name, found in zip("onc", (own, null, ceiling), strict=True)}
    there = state_or_refused(one.precondition("there"), needed)
    state = judged.parts["p"].state
    assert state in ALL_STATES and judged.verdict in ("reproduced", "partial", "contradicted", "inconclusive")
    if state in ("met", "not_met"):
        assert own is not None and there == "met" and states["o"] == state
        assert state != "met" or states["n"] == "not_met"
        assert state != "not_met" or states["c"] == "met"
    if state == "void":
        assert states["n"] == "met" if states["o"] == "met" else states["c"] == "not_met"
    assert judged.verdict in {
        "met": ("partial",) if capped else ("reproduced",),
        "not_met": ("inconclusive",) if capped else ("contradicted",),
    }.get(state, ("inconclusive",))
    json.dumps(judged.as_json(), allow_nan=False)


def test_an_inconclusive_says_why():
    two = [AT_LEAST, BAND]
    against, noisy, holds = estimate(0.1, 0.2), estimate(-1, 1), estimate(1.2, 1.4)

    def why(**measured):
        return judge(claim(two), "cpu", measured).detail

    assert why(p=against, band=noisy) == why(p=against) == "leans against"
    assert why(p=holds, band=noisy) == why(band=noisy) == "too noisy"
    assert why() == "not measured"
    void = judge(claim([NULL_ONLY]), "cpu", {"p": holds}, nulls={"p": holds})
    assert (void.verdict, void.detail) == ("inconclusive", "its controls fail")
    assert void.reason == "p void (nothing at all meets it too; its null: wholly in the accepted region)"
    assert judge(claim(two), "cpu", {"p": holds, "band": estimate(1, 2)}).detail == "1 of 2"


def test_a_null_that_shows_no_effect_lets_the_part_stand():
    """No effect at all has no spread, a null of votes is luck, and no half-width is asked of what lies far away."""
    precise = part("at_least", bound=1.0, precision=(20, 0.2), controls=NULL_ONLY.controls.model_dump())
    for null in (stats.mean([0.0] * 40), estimate(-60, -40), estimate(0.1, 0.9)):
        assert judge(claim([precise]), "cpu", {"p": MEASUREMENT["met"]}, nulls={"p": null}).verdict == "reproduced"
    for null in (stats.mean([1.0] * 40), stats.mean([2.0] * 40)):
        assert judge(claim([precise]), "cpu", {"p": MEASUREMENT["met"]}, nulls={"p": null}).parts["p"].state == "void"
    for null in (stats.mean([0.0] * 4), stats.mean([0.0]), stats.mean([math.nan] * 40)):
        assert judge(claim([precise]), "cpu", {"p": MEASUREMENT["met"]}, nulls={"p": null}).parts["p"].state == "open"
    voted = part("shape", rule="more_than_half_hold", chance=0.5, controls=NULL_ONLY.controls.model_dump())
    agree = Votes(40, 40, 0.5, "more_than_half_hold")
    for null, state in ((20, "met"), (24, "met"), (30, "void")):
        found = judge(claim([voted]), "cpu", {"p": agree}, nulls={"p": Votes(null, 40, 0.5, "more_than_half_hold")})
        assert found.parts["p"].state == state


def test_votes_follow_the_rule_of_the_ledger_and_luck_is_not_underrated():
    rising = part(
        "shape", rule="strictly_rising", chance=1 / 120, controls={"published": {"none": "w"}, "null": "measured"}
    )
    with pytest.raises(ClaimbookError, match="part p: the rule is strictly_rising in the ledger, not 'anything else'"):
        part_state(rising, Votes(40, 40, 1 / 120, "anything else"))
    votes = rules.votes("strictly_rising", 1 / 120, [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
    assert (votes.agree, votes.n, votes.rule) == (1, 2, "strictly_rising")
    with pytest.raises(ClaimbookError, match=r"a series of 3 follows it by luck in 0\.167 of cases"):
        rules.votes("strictly_rising", 1 / 120, [[1, 2, 3]])


@pytest.mark.parametrize(
    "rule, follows, not_so",
    [
        ("strictly_rising", [1, 2, 3], [1, 2, 2]),
        ("strictly_falling", [3, 2, 1], [1, 2, 3]),
        ("first_is_largest", [3, 1, 2], [3, 3, 1]),
        ("a_tenth_more_at_the_end", [1, 0.5, 1.1], [0, 0, 0]),
        ("a_tenth_more_at_the_end", [1, 1.2], [-1, -1.05]),
        ("more_than_half_hold", [1, 1, 0], [1, 0]),
        ("nine_in_ten_hold", [1] * 9 + [0], [1] * 8 + [0] * 2),
    ],
)
def test_rules(rule, follows, not_so):
    assert rules.follows(rule, follows) and not rules.follows(rule, not_so)
    for series in ([1.0], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(ClaimbookError, match="at least two finite numbers"):
            rules.follows(rule, series)
    if "hold" in rule:
        with pytest.raises(ClaimbookError, match="takes a series of 0 and 1"):
            rules.follows(rule, [100, -1])


@pytest.mark.parametrize("rule", sorted(rules.NAMED))
@pytest.mark.parametrize("length", [2, 3, 5, 11])
def test_luck_is_as_rare_as_a_rule_says(rule, length):
    """By simulation: series in random order, or of coin tosses; what a rule calls luck is not less than that."""
    rng = np.random.default_rng(5)
    cases = rng.integers(0, 2, (4000, length)) if "hold" in rule else rng.random((4000, length)) + 0.5
    share = np.mean([rules.follows(rule, series) for series in cases.tolist()])
    assert share <= rules.least_chance(rule, length) + 0.03


def test_a_claim_judged_at_the_gpu_tier_alone_counts_as_it_was_judged():
    one = claim([AT_LEAST], tiers={"cpu": {"not_tested": "needs_gpu", "why": "w"}, "gpu": "exact"})
    assert totals.count([(one, {"verdict": "reproduced", "fidelity": "exact"})]).real == {"reproduced": 1}
    assert totals.count([(one, None)]).not_tested == 1


def test_a_capped_claim_holds_nowhere_and_fails_nowhere():
    capped = claim([AT_LEAST], cap={"why": "w"}, scope="universal")
    good = judge(capped, "cpu", {"p": MEASUREMENT["met"]})
    assert across(capped, good, {"b": good}) == (good, None)
