"""The ledger: what it accepts, and the one line a mistake gets."""

import copy
import datetime

import pytest
import yaml

from claimbook.claims import ledgers
from claimbook.errors import ClaimbookError

LEDGER = """
paper: {title: T, authors: [A, B], arxiv: "2309.17453", year: 2023, code: https://example.org, licence: MIT, bib: demo}
models: [smollm2-135m]
claims:
  - id: C3
    text: "The window collapses."
    where: "Table 1"
    source: body
    kind: result
    scope: universal
    published: {value: 955, unit: ratio, note: "5158.07 / 5.40", read_in: ocr}
    parts:
      - {name: collapses, quantity: "perplexity ratio", type: at_least, bound: 1.1,
         precision: {min_n: 20, max_halfwidth: 0.2}, why: "a tenth of the published effect"}
      - {name: bytes, quantity: "bytes per token", type: equality, target: 46080, why: "arithmetic"}
      - {name: rising, quantity: "loss by block", type: shape, rule: "rises in each block", chance: 0.0417,
         precision: {min_n: 20}, why: "the sentence"}
    decided_by: smollm2-135m
    weight: 2
    tiers: {cpu: reduced, gpu: {not_tested: needs_gpu, why: "13B parameters"}}
    pilot_seen: same_model
    version: 2
    changelog:
      - {version: 2, date: 2026-11-25, change: "bound from 1.2", old_verdict: partial}
  - id: C18
    text: "Streaming question answering works."
    where: "Table 5"
    source: abstract
    kind: premise
    scope: large_models
    published: {value: null, read_in: none}
    weight: 1
    tiers: {cpu: {not_tested: needs_weights, why: "w"}, gpu: {not_tested: needs_data, why: "w"}}
    pilot_seen: none
    version: 1
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the text of the demo chapter's ledger."""
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    path = tmp_path / "data" / "claims" / "demo.yaml"
    path.parent.mkdir(parents=True)
    return path.write_text


@pytest.fixture
def ledger(write):
    write(LEDGER)
    return ledgers.load("demo")


def test_a_ledger_is_read_with_its_types(ledger):
    claim = ledger.claim("C3")
    assert (ledger.chapter, ledger.models, claim.weight) == ("demo", ["smollm2-135m"], 2)
    assert [type(part).__name__ for part in claim.parts] == ["AtLeast", "Equality", "Shape"]
    assert claim.part("collapses").precision.min_n == 20
    assert claim.published.value == 955 and isinstance(claim.published.value, int)
    assert claim.tier("cpu") == "reduced" and claim.tier("gpu").not_tested == "needs_gpu"
    assert claim.changelog[0].date == datetime.date(2026, 11, 25)
    assert claim.counted and not ledger.claim("C18").counted


def test_a_ledger_is_not_changed_by_accident(ledger):
    with pytest.raises(ValueError, match="frozen"):
        ledger.claim("C3").part("collapses").bound = 0.5


@pytest.mark.parametrize(
    "value", ["955", "5.4", "[17.9, 12.12]", "heat map", "null", "[Llama, 3359.95]"], ids=lambda value: value
)
def test_published_values_of_all_kinds(write, value):
    write(LEDGER.replace("value: 955", f"value: {value}"))
    assert ledgers.load("demo").claim("C3").published.value == yaml.safe_load(value)


ALLOWED_TYPES = "type: must be one of at_least, at_most, equivalent, direction, rank_order, shape, equality"
MISTAKES = {  # old text: (new text, what the line says after the file's name)
    "bound: 1.1": [
        ("bund: 1.1", "claim C3: part collapses: unknown key 'bund', allowed are name, quantity, why, precision, type"),
        ("bound: high", "claim C3: part collapses: bound: input should be a valid number, not 'high'"),
        ("bound: 1e-3", "claim C3: part collapses: bound: input should be a valid number, not '1e-3'"),
        ("bound: true", "claim C3: part collapses: bound: input should be a valid number, not 'True'"),
        ("bound: .nan", "claim C3: part collapses: bound: input should be a finite number"),
        ("min_effect: 2", "claim C3: part collapses: unknown key 'min_effect', allowed are"),
    ],
    ", bound: 1.1": [("", "claim C3: part collapses: bound: this key is missing")],
    "at_least": [("atleast", f"claim C3: part collapses: {ALLOWED_TYPES}, not 'atleast'")],
    ", type: at_least": [("", f"claim C3: part collapses: {ALLOWED_TYPES}")],
    'why: "arithmetic"': [('why: " "', "claim C3: part bytes: why: string should have at least 1 character")],
    ', why: "arithmetic"': [("", "claim C3: part bytes: why: this key is missing")],
    "target: 46080": [
        ("target: 46080, precision: {min_n: 2}", "claim C3: part bytes: unknown key 'precision', allowed are"),
        ("target: 46080, tolerance: -1", "claim C3: part bytes: tolerance: input should be greater than or equal to 0"),
    ],
    "- {name: bytes": [("- 3\n      - {name: bytes", "claim C3: part number 2: ")],
    "name: bytes": [("name: collapses", "claim C3: parts: the name 'collapses' is used twice")],
    "precision: {min_n: 20}": [
        ("precision: {min_n: 20, max_halfwidth: 1}", "claim C3: part rising: precision: unknown key 'max_halfwidth'"),
        ("min_share: 0.5", "claim C3: part rising: precision: this key is missing"),
    ],
    "min_n: 20,": [
        ("min_n: 1,", "claim C3: part collapses: precision.min_n: input should be greater than or equal to 2")
    ],
    "chance: 0.0417": [("chance: 1", "claim C3: part rising: chance: input should be less than 1")],
    "kind: result": [("kind: results", "claim C3: kind: input should be 'result', 'mechanism', 'efficiency'")],
    "scope: universal": [("scope: all", "claim C3: scope: input should be 'universal', 'named_models'")],
    "read_in: ocr": [("read_in: scan", "claim C3: published.read_in: input should be 'paper', 'ocr'")],
    "weight: 2": [
        ("weight: 3", "claim C3: weight: input should be less than or equal to 2"),
        ("weight: true", "claim C3: weight: input should be a valid integer"),
        ("weight: 2\n    weight: 2", "line 5: key 'weight' is given twice"),
        ("wieght: 2", "claim C3: unknown key 'wieght', allowed are id, text, where,"),
    ],
    "cpu: reduced": [
        (
            "cpu: small",
            "claim C3: tiers.cpu: 'small' is not one of exact, reduced, toy or {not_tested: reason, why: …}",
        ),
        ("smoke: toy, cpu: reduced", "claim C3: tiers: unknown key 'smoke', allowed are cpu, gpu"),
    ],
    "needs_gpu, ": [
        ("needs_money, ", "claim C3: tiers.gpu.not_tested: input should be 'needs_weights', 'needs_gpu',"),
        ('needs_gpu, reason: "x", ', "claim C3: tiers.gpu: unknown key 'reason', allowed are not_tested, why"),
    ],
    ', why: "13B parameters"': [("", "claim C3: tiers.gpu.why: this key is missing")],
    "version: 2\n": [
        ("version: 3\n", "claim C3: changelog: version 3 needs one entry for each version from 2, in order"),
        ("version: 1\n", "claim C3: changelog: version 1 needs one entry"),
        ("version: 0\n", "claim C3: version: input should be greater than or equal to 1, not '0'"),
    ],
    "old_verdict: partial": [("old_verdict: maybe", "claim C3: changelog.0.old_verdict: input should be 'reproduced'")],
    "2026-11-25": [("soon", "claim C3: changelog.0.date: input should be a valid date, not 'soon'")],
    "id: C18": [
        ("id: C3", "claims: the id C3 is used twice"),
        ("id: 18", "claim 18: id: input should be a valid string"),
        ("id: c18", "claim c18: id: string should match pattern '^C\\d+$'"),
        ("name: C18", "claim number 2: unknown key 'name', allowed are id"),
    ],
    'cpu: {not_tested: needs_weights, why: "w"}': [
        ("cpu: toy", "claim C18: parts: none, so tiers.cpu must be {not_tested: reason, why: …}")
    ],
    "decided_by: smollm2-135m": [("decided_by: gemma", "claim C3: decided_by is 'gemma', allowed are smollm2-135m")],
    "pilot_seen: same_model": [
        ("pilot_seen: same_model\n    at_most: partial", "claim C3: at_most and at_most_why come together"),
        ("pilot_seen: same_model\n    at_most: reproduced", "claim C3: at_most: input should be 'partial'"),
    ],
    "year: 2023": [("year: late", "paper.year: input should be a valid integer, not 'late'")],
    "models: [": [
        ("modelz: [", "the keys must be paper, models, claims, not paper, modelz, claims"),
        ("stored: []\nmodels: [", "the keys must be paper, models, claims, not paper, stored, models, claims"),
    ],
    "claims:\n": [("claims: {\n", "line 5: expected the node content")],
    LEDGER: [
        ("", "the keys must be paper, models, claims, not NoneType"),
        ("- a", "the keys must be paper, models, claims, not list"),
        ("a: \x07", "not readable as YAML: unacceptable character"),
    ],
}


@pytest.mark.parametrize("old, new, line", [(old, new, line) for old, news in MISTAKES.items() for new, line in news])
def test_a_mistake_is_one_line_that_names_it(write, old, new, line):
    assert old in LEDGER
    write(LEDGER.replace(old, new, 1))
    with pytest.raises(ClaimbookError) as error:
        ledgers.load("demo")
    assert str(error.value).startswith(f"data/claims/demo.yaml: {line}")
    assert "\n" not in str(error.value)


def test_an_unknown_chapter_claim_or_part_is_named_with_those_there_are(ledger):
    with pytest.raises(ClaimbookError, match="no ledger for chapter 'nope', chapters are demo"):
        ledgers.load("nope")
    with pytest.raises(ClaimbookError, match="demo has no claim 'C4', it has C3, C18"):
        ledger.claim("C4")
    with pytest.raises(ClaimbookError, match="claim C18 has no part 'collapses', it has none"):
        ledger.claim("C18").part("collapses")


def test_every_reason_and_fidelity_of_the_design_is_known(write):
    for tier in ("exact", "reduced", "toy"):
        write(LEDGER.replace("cpu: reduced", f"cpu: {tier}"))
        assert ledgers.load("demo").claim("C3").tier("cpu") == tier
    reasons = ["weights", "gpu", "private_data", "data", "human_raters"]
    for reason in [*(f"needs_{what}" for what in reasons), "underspecified", "not_empirical", "cost_over_budget"]:
        write(LEDGER.replace("needs_weights", reason))
        assert ledgers.load("demo").claim("C18").tier("cpu").not_tested == reason


# -- what freshness hashes

PROSE = [
    ("The window collapses.", "It falls apart."),
    ("Table 1", "Table 2"),
    ("5158.07 / 5.40", "divided"),
    ("a tenth of the published effect", "a fifth"),
    ("13B parameters", "no memory"),
    ("weight: 2", "weight: 1"),
    ("bound from 1.2", "bound from 1.3"),
    ("title: T", "title: U"),
    ("pilot_seen: same_model", "pilot_seen: none"),
    ("needs_gpu", "needs_weights"),  # of the other tier
]
MEASURING = [
    ("bound: 1.1", "bound: 1.2"),
    ("at_least", "at_most"),
    ("max_halfwidth: 0.2", "max_halfwidth: 0.3"),
    ("min_n: 20}", "min_n: 21}"),
    ("target: 46080", "target: 46081"),
    ("chance: 0.0417", "chance: 0.5"),
    ("rises in each block", "rises"),
    ("perplexity ratio", "inverse perplexity ratio"),
    ("scope: universal", "scope: named_models"),
    ("cpu: reduced", "cpu: toy"),
    ("value: 955", "value: 956"),
    ("[smollm2-135m]", "[smollm2-135m, gemma-3-270m]"),
    ("decided_by: smollm2-135m", "decided_by: null"),
    ("needs_weights", "needs_data"),
    ("pilot_seen: none\n", "pilot_seen: none\n    at_most: partial\n    at_most_why: w\n"),
]


@pytest.mark.parametrize("old, new, moves", [(*e, False) for e in PROSE] + [(*e, True) for e in MEASURING])
def test_measuring_keys_move_with_what_can_move_a_verdict_only(write, ledger, old, new, moves):
    before = copy.deepcopy(ledgers.measuring_keys(ledger))
    assert old in LEDGER
    write(LEDGER.replace(old, new, 1))
    assert (ledgers.measuring_keys(ledgers.load("demo")) != before) == moves


def test_measuring_keys_know_the_tier(ledger):
    tiers = [ledgers.measuring_keys(ledger, tier)["claims"]["C3"]["tier"] for tier in ("cpu", "gpu")]
    assert tiers == ["reduced", "not_tested: needs_gpu"]
