"""The ledger: what it accepts, and the one line a mistake gets."""

import copy
import datetime

import pytest
import yaml

from claimbook import paths
from claimbook.claims import ledgers
from claimbook.errors import ClaimbookError

LEDGER = """
paper: {title: T, authors: [A, B], arxiv: "2309.17453", year: 2023, code: https://example.org, licence: MIT, bib: demo}
models: [smollm2-135m]
claims:
  - id: C3
    title: "The window collapses"
    text: "The window collapses."
    where: "Table 1"
    source: body
    kind: result
    scope: universal
    published: {value: 955, unit: ratio, note: "5158.07 / 5.40", read_in: ocr}
    parts:
      - {name: collapses, quantity: "perplexity ratio", type: at_least, bound: 1.1,
         precision: {min_n: 20, max_halfwidth: 0.2}, why: "a tenth of the published effect",
         needs: sinks, controls: {published: [955, 1.48], null: 1.0}}
      - {name: bytes, quantity: "bytes per token", type: equality, target: 46080, why: "arithmetic", controls: due}
      - {name: rising, quantity: "loss by block", type: shape, rule: strictly_rising, chance: 0.0417, min_share: 0.5,
         precision: {min_n: 20}, why: "the sentence",
         controls: {published: {series: [1, 2, 3, 4]}, null: {series: [1, 1, 1, 1]}}}
    preconditions:
      sinks: {quantity: "share of sinks", type: at_least, bound: 0.3, precision: {min_n: 5}, why: "there must be some"}
    deviations: ["another text"]
    decided_by: smollm2-135m
    weight: 2
    tiers: {cpu: reduced, gpu: {not_tested: needs_gpu, why: "13B parameters"}}
    pilot_seen: same_model
    version: 2
    changelog:
      - {version: 2, date: 2026-11-25, change: "bound from 1.2", old_verdict: partial}
  - id: C18
    title: "Streaming answers"
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
        ("bund: 1.1", "claim C3: part collapses: unknown key 'bund', allowed are name, quantity, why, needs, controls"),
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
        ("target: 46080, precision: {min_n: 2}", "claim C3: part bytes: precision: input should be None"),
        ("target: 46080, tolerance: -1", "claim C3: part bytes: tolerance: input should be greater than or equal to 0"),
    ],
    "- {name: bytes": [("- 3\n      - {name: bytes", "claim C3: part number 2: ")],
    "name: bytes": [("name: collapses", "claim C3: parts: the name 'collapses' is used twice")],
    "precision: {min_n: 20}": [
        ("precision: {min_n: 20, max_halfwidth: 1}", "claim C3: part rising: precision: unknown key 'max_halfwidth'"),
        ("needs: sinks", "claim C3: part rising: precision: this key is missing"),
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
        ("wieght: 2", "claim C3: unknown key 'wieght', allowed are id, title, text, where,"),
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
        ("id: c18", "claim c18: id: string should match pattern '^C[0-9]+$'"),
        ("name: C18", "claim number 2: unknown key 'name', allowed are id"),
    ],
    'cpu: {not_tested: needs_weights, why: "w"}': [
        ("cpu: toy", "claim C18: parts: none, so tiers.cpu must be {not_tested: reason, why: …}")
    ],
    "decided_by: smollm2-135m": [("decided_by: gemma", "claim C3: decided_by is 'gemma', allowed are smollm2-135m")],
    "pilot_seen: same_model": [
        ("pilot_seen: same_model\n    cap: {}", "claim C3: cap.why: this key is missing"),
        ("pilot_seen: same_model\n    reconstructed: true", "claim C3: reconstructed: input should be a valid string"),
    ],
    'title: "The window collapses"': [
        ("", "claim C3: title: this key is missing"),
        ("title: a b c d e f g h i j k", "claim C3: title: at most 10 words, not the 11 of 'a b c d e f g h i j k'"),
    ],
    ", min_share: 0.5": [("", "claim C3: part rising: min_share: this key is missing")],
    "controls: due": [
        (
            "controls: {published: {none: x}, null: {none: x}}",
            "claim C3: part bytes: controls: neither a published",
        ),
        ("controls: {published: 1" + "0" * 400 + ", null: 0}", "claim C3: part bytes: controls: published: value: "),
        ("note: x", "claim C3: part bytes: unknown key 'note'"),
        (
            "controls: later",
            "claim C3: part bytes: controls: 'later' is not {published: …, null: …, ceiling: …} or due",
        ),
        ("controls: {published: 46080}", "claim C3: part bytes: controls: null: this key is missing"),
        (
            "controls: {published: 46081, null: 0}",
            "claim C3: part bytes: controls.published: the paper's own 46081 fails",
        ),
    ],
    ", controls: due": [
        ("", "claim C3: part bytes: controls: this key is missing: {published: …, null: …}, or due for")
    ],
    "null: 1.0": [
        (
            "null: 1.2",
            "claim C3: part collapses: controls.null: 1.2 meets the part (≥ 1.1): nothing at all would meet it",
        ),
        ("null: none", "claim C3: part collapses: controls: null: 'none' is not a number, measured or {none: why}"),
        ("null: {none: 3}", "claim C3: part collapses: controls: null: none: input should be a valid string"),
        ("null: 1.0, ceiling: 1.0", "claim C3: part collapses: controls.ceiling: the best possible 1 fails the part"),
        (
            "null: 1.0, ceiling: {none: x}",
            "claim C3: part collapses: controls: ceiling: a part that has no ceiling leaves",
        ),
        (
            "null: {value: 1, fails: x}",
            "claim C3: part collapses: controls.null: `fails` belongs to a published figure",
        ),
        ("null: {series: [1, 2]}", "claim C3: part collapses: controls.null: takes a value, a series is for a rule"),
        ("nul: 1.0", "claim C3: part collapses: controls: unknown key 'nul', allowed are published, null, ceiling"),
    ],
    "published: [955, 1.48]": [
        (
            "published: [955, 1.0]",
            "claim C3: part collapses: controls.published: the paper's own 1 fails the part (≥ 1.1)",
        ),
        (
            "published: {value: 2, fails: x}",
            "claim C3: part collapses: controls.published: 2 is said to fail, but the part",
        ),
        (
            "published: {metric: other, value: 3}",
            "claim C3: part collapses: controls: published: why: this key is missing",
        ),
        ("published: []", "claim C3: part collapses: controls: published: [] is not a number, {value: …, fails: why},"),
        (
            "published: {fails: x}",
            "claim C3: part collapses: controls: published: a figure has a value, or for a rule a",
        ),
    ],
    "strictly_rising": [
        ("rises in each block", "claim C3: part rising: controls.published: no rule 'rises in each block', there are"),
        ("strictly_falling", "claim C3: part rising: controls.published: the paper's own [1, 2, 3, 4] fails the part"),
    ],
    "{series: [1, 2, 3, 4]}": [
        ("4", "claim C3: part rising: controls.published: a rule takes a {series: [numbers]}"),
        (
            "{series: [1]}",
            "claim C3: part rising: controls.published: rule strictly_rising takes a series of at least two",
        ),
        (
            "{series: [1, 2, 3]}",
            "claim C3: part rising: controls.published: chance is 0.0417, but strictly_rising holds",
        ),
    ],
    "needs: sinks": [("needs: sink", "claim C3: part collapses: needs: no precondition 'sink', the claim has sinks")],
    "needs: sinks, ": [("", "claim C3: precondition sinks: no part needs it: write `needs: sinks` where it is meant")],
    "bound: 0.3": [
        ("bound: low", "claim C3: precondition sinks: bound: input should be a valid number, not 'low'"),
        ("bound: 0.3, name: other", "claim C3: preconditions: sinks is its name already: leave the key `name` out"),
        ("bound: 0.3, needs: sinks", "claim C3: precondition sinks: `needs` and `controls` belong to parts"),
    ],
    "sinks: {quantity": [("Sinks: {quantity", "claim C3: precondition Sinks: name: string should match pattern")],
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
    ('title: "The window', 'title: "A window'),
    ("another text", "other texts"),
    ("there must be some", "there may be none"),
    ("pilot_seen: same_model", "pilot_seen: none"),
    ("needs_gpu", "needs_weights"),  # of the other tier
]
MEASURING = [
    ("bound: 1.1", "bound: 1.2"),
    ("equality, target", "at_most, bound"),
    ("max_halfwidth: 0.2", "max_halfwidth: 0.3"),
    ("min_n: 20}", "min_n: 21}"),
    ("target: 46080", "target: 46081"),
    ("chance: 0.0417", "chance: 0.5"),
    ("controls: due", "controls: {published: 46080, null: 0}"),
    ("null: 1.0", "null: 0.9"),
    ("null: 1.0", "null: measured"),
    ("[955, 1.48]", "[955, 1.49]"),
    ("[955, 1.48]", "[955, 1.48, {value: 1, fails: Falcon}]"),
    ("bound: 0.3", "bound: 0.4"),
    ("perplexity ratio", "inverse perplexity ratio"),
    ("scope: universal", "scope: named_models"),
    ("cpu: reduced", "cpu: toy"),
    ("value: 955", "value: 956"),
    ("[smollm2-135m]", "[smollm2-135m, gemma-3-270m]"),
    ("decided_by: smollm2-135m", "decided_by: null"),
    ("needs_weights", "needs_data"),
    ("pilot_seen: none\n", "pilot_seen: none\n    cap: {why: w}\n"),
    ("pilot_seen: none\n", "pilot_seen: none\n    reconstructed: w\n"),
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


def test_a_key_that_is_written_null_is_the_word(write):
    """YAML reads it as nothing at all, and `null` is what the field calls such a control."""
    write(LEDGER)
    assert ledgers.load("demo").claim("C3").part("collapses").controls.null[0].value == 1.0


def test_the_papers_table_may_fail_its_own_sentence_with_a_reason(write):
    write(LEDGER.replace("[955, 1.48]", "[955, {value: 1.0, fails: one sink is enough}]"))
    figures = ledgers.load("demo").claim("C3").part("collapses").controls.published
    assert [(figure.value, figure.fails) for figure in figures] == [(955, None), (1.0, "one sink is enough")]


def test_what_makes_a_verdict_is_the_same_with_other_numbers_as_controls(write, ledger):
    """Filling in controls needs no new version; asking for a measured one, moving a bound or a precondition does."""

    def criterion(old, new):
        assert old in LEDGER
        write(LEDGER.replace(old, new, 1))
        return ledgers.criterion(ledgers.load("demo").claim("C3"), "cpu")

    before = ledgers.criterion(ledger.claim("C3"), "cpu")
    same = [("controls: due", "controls: {published: 46080, null: 0}"), ("[955, 1.48]", "955")]
    other = [("null: 1.0", "null: measured"), ("bound: 1.1", "bound: 1.2"), ("bound: 0.3", "bound: 0.2")]
    other += [("cpu: reduced", "cpu: toy"), ("scope: universal", "scope: named_models")]
    assert all(criterion(old, new) == before for old, new in same)
    assert not any(criterion(old, new) == before for old, new in other)


DUE: dict[str, int] = {}


@pytest.mark.parametrize("chapter", paths.chapters())
def test_controls_that_are_due_become_fewer(chapter):
    """A part without controls may be met by nothing at all. Lower the number when some are written; never raise it."""
    assert sum(claim.due for claim in ledgers.load(chapter).claims) == DUE.get(chapter, 0)
