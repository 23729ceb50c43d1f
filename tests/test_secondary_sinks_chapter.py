"""The chapter on secondary sinks: its parts bite, its figures draw, its tiers run, and bad input gets one line."""

import copy
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import planted as planted_model
from claimbook import paths, plotting, stats
from claimbook.claims import ledgers, verdicts
from claimbook.experiments.secondary_sinks import change, find, live, parts, probe, traces, view
from claimbook.experiments.secondary_sinks.stored import RULE, STORED
from claimbook.lm import block_outputs, residual, tiny
from claimbook.lm.load import LM
from claimbook.runs import parameters, stored_runs

pytestmark = pytest.mark.numeric

LEDGER = ledgers.load("secondary_sinks")
LAYERS, TEXTS = 30, 24


def claimbook(*words):
    command = [sys.executable, "-m", "claimbook", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=paths.root(), timeout=600)


def state(found, claim, part):
    """State of one part; "untested" where it was not measured."""
    return verdicts.part_state(LEDGER.claim(claim).part(part), found.get(claim, {}).get(part))


# --- parts: rows as they would be if the paper were right, and what each part needs to fail ----------------------


def written(*values):
    names = ("attention_norm", "attention_along", "feed_forward_norm", "feed_forward_along")
    return dict(zip(names, values, strict=True))


def sink(i, **change):
    """A secondary sink as the paper has it: written by the feed-forward layer of block 14, longer ones draw more."""
    size = 100.0 + 40 * i
    return {
        "token": [300, 40, 900, 600, 1200][i],
        "start": 14,
        "lifetime": 8,
        "text": ".",
        "little": True,
        "first": True,
        "aligned": 6 + i,
        "given": 0.01 * (i + 1),
        "given_like": 0.001,
        "state": size,
        "written": written(5.0, 0.4, size, 0.97),
        "like": written(5.0, 0.2, 8.0, 0.1),
        "wins": {"attention": 0.75, "feed_forward": 0.99},
    } | change  # fmt: skip


def varied(value, draw):
    """Floats a little off, as texts differ."""
    if isinstance(value, dict):
        return {key: varied(one, draw) for key, one in value.items()}
    if isinstance(value, list):
        return [varied(one, draw) for one in value]
    return value * (1 - 0.02 * draw.random()) if isinstance(value, float) and value != 1.0 else value


def rule(count, start=14, life=8, given=0.03, **change):
    told = {"flagged": count, "secondary": count, "levels": [[start, life, count]] if count else []}
    told |= {"primary_lifetime": 25}
    return told | ({"given": given, "even": 0.001, "primary_given": 0.3} if count else {}) | change


def a_text(i=0, **change):
    draw = np.random.default_rng(i)
    given = np.full(LAYERS, 0.5) + 0.01 * draw.normal(size=LAYERS)
    given[10:20] -= 0.1
    given[15] -= 0.2
    norms = np.full(LAYERS, 20.0)
    norms[3:28] = 900.0
    return {
        "tokens": 2048,
        "primary": {"token": 0, "start": 3, "end": 28, "norm": norms.tolist(), "given": given.tolist(), "heads": []},
        "median_norm": [10.0] * LAYERS,
        "rules": {
            "official": rule(2, life=8 + 3 * (i % 2), given=0.03 + 0.001 * draw.normal()),
            **{f"{k} x": rule(5, given=0.03 + 0.001 * draw.normal()) for k in find.TIMES},
        },
        "overlap": {a: {b: 0.9 + 0.01 * draw.random() for b in ("3 x", "4 x")} for a in ("3 x", "4 x")},
        "sinks": [
            varied(sink(j, lifetime=8 + i % 2, little=bool(j or i % 2)), draw) for j in range(5)
        ],
        "drawn": [{"token": 300, "norm": [10.0] * LAYERS, "given": [0.0] * LAYERS, "heads": []}],
        "little": 0.3 + 0.01 * draw.random(),
        "same": [200, 190 + i % 3],
    } | change  # fmt: skip


def texts(change=lambda row: None, each=lambda one: None):
    """Rows of all texts, each changed in place, and each of its sinks."""
    rows = [a_text(i) for i in range(TEXTS)]
    for row in rows:
        change(row)
        for one in row["sinks"]:
            each(one)
    return rows


def found(change=lambda row: None, each=lambda one: None):
    return parts.texts(texts(change, each), "4 x")


def put(*path, value):
    """A change of a row or a sink: what stands under nested keys."""

    def change(row):
        for key in path[:-1]:
            row = row[key]
        row[path[-1]] = value(row[path[-1]]) if callable(value) else value

    return change


def test_if_the_paper_is_right_every_part_of_a_text_is_met():
    measured = found()
    named = {(claim, part) for claim, some in measured.items() for part in some}
    assert {(claim, part): state(measured, claim, part) for claim, part in named} == dict.fromkeys(named, "met")
    causal = {"silenced", "score_scales", "life_scales"}
    for claim in ("C1", "C2", "C3", "C4", "C6", "C7", "C8", "C13", "C15", "C16"):
        assert {part.name for part in LEDGER.claim(claim).parts} - causal == set(measured[claim])


FAILING = [
    ("C1", "exists", put("rules", "official", value=rule(0)), None),
    ("C1", "exists", put("rules", "official", value=rule(8)), None),  # so many are no class
    ("C2", "primary_early", put("primary", "start", value=11), None),
    ("C2", "secondary_middle", put("rules", "official", value=rule(2, start=3)), None),
    ("C3", "primary_persists", put("primary", "norm", value=lambda norms: [*norms[:20], *[50.0] * 10]), None),
    ("C3", "primary_persists", put("median_norm", value=[200.0] * LAYERS), None),  # never massive
    ("C4", "less", put("rules", "official", "given", value=lambda given: given + 0.4), None),
    ("C4", "significant", put("rules", "official", "even", value=0.02), None),
    ("C6", "aligned", None, put("written", "feed_forward_along", value=lambda one: one - 0.2)),
    ("C6", "above_attention", None, put("written", "attention_along", value=0.95)),
    ("C6", "feed_forward_makes_it", None, put("written", "attention_norm", value=5000.0)),
    ("C6", "not_the_token", None, put("like", "feed_forward_along", value=0.9)),
    ("C6", "middle_module", None, put("start", value=2)),
    ("C7", "score_follows_norm", None, put("given", value=lambda given: 0.1 - given)),
    ("C7", "life_follows_norm", None, put("aligned", value=7)),
    ("C8", "weakens", put("primary", "given", value=lambda given: [1 - one for one in given]), None),
    ("C8", "coincides", None, put("start", value=20)),
    ("C13", "little_meaning", None, put("little", value=False)),
    ("C13", "more_than_others", put("little", value=0.95), None),
    ("C13", "usually_none", put("same", value=[200, 40]), None),
    ("C15", "feed_forward_separates", None, put("wins", "feed_forward", value=0.6)),
    ("C15", "attention_separates_less", None, put("wins", "feed_forward", value=0.6)),
    ("C15", "attention_prepares", None, put("wins", "attention", value=0.4)),
    ("C16", "in_most_texts", put("sinks", value=[]), None),
    ("C16", "whatever_the_threshold", put("overlap", "3 x", "4 x", value=0.1), None),
    ("C16", "short", None, put("lifetime", value=24)),
    ("C16", "weaker", put("rules", "4 x", "given", value=lambda given: given + 0.4), None),
    ("C16", "drawn_to", put("rules", "4 x", "even", value=0.02), None),
    ("C16", "above_like", None, put("given_like", value=lambda one: 0.03)),
]


@pytest.mark.parametrize(("claim", "part", "change", "each"), FAILING)
def test_a_part_fails_when_what_it_says_is_not_so(claim, part, change, each):
    changed = found(change or (lambda row: None), each or (lambda one: None))
    assert state(changed, claim, part) == "not_met", changed[claim][part]


def test_texts_are_the_unit_not_their_sinks():
    """Every sink told twice changes no estimate: sinks of one text say nothing of other texts."""

    def twice(row):
        row["sinks"] = [copy.deepcopy(one) for one in row["sinks"] for _ in range(2)]
        official = row["rules"]["official"]
        official["secondary"] *= 2
        official["levels"] = [[start, life, 2 * count] for start, life, count in official["levels"]]

    # texts with few sinks and texts with many weigh alike, too: in every other text three of the five are left out
    once, doubled = [], []
    for i, row in enumerate(texts()):
        row["sinks"] = row["sinks"][: 5 - 3 * (i % 2)]
        once.append(row)
        doubled.append(copy.deepcopy(row))
        twice(doubled[-1])
    before, after = parts.texts(once, "4 x"), parts.texts(doubled, "4 x")
    for claim, measured in before.items():
        for part, found in measured.items():
            again = after[claim][part]
            assert found.value == pytest.approx(again.value), (claim, part)
            if isinstance(found, stats.Estimate):
                assert (found.n, found.unit) == (again.n, "texts") and 0 < found.n <= TEXTS, (claim, part)
                assert (found.low, found.high) == pytest.approx((again.low, again.high)), (claim, part)


def test_interventions_count_texts():
    for measured in parts.changes([changed(i) for i in range(TEXTS)]).values():
        assert {(found.n, found.unit) for found in measured.values()} == {(TEXTS, "texts")}


def test_a_bound_that_is_just_reached():
    """On which side of each bound of the parts its end lies."""
    row = a_text(tokens=5000)
    for count, a_class in ((17, True), (18, False)):  # 3.4 in 1,000
        row["rules"]["official"]["secondary"] = count
        assert parts.has_a_class(row) == a_class
    row = a_text()
    row["primary"]["norm"], row["median_norm"] = [50.0, 100.0, 99.9], [10.0] * 3
    assert parts._lasts(row) == pytest.approx(2 / 3), "ten times the median is massive"
    row["sinks"] = [
        sink(0, start=14, aligned=life, written=written(5.0, 0.4, size, 0.97))
        for life, size in ((3, 100.0), (5, 150.0), (7, 225.0))
    ]
    assert parts.longer_lives_longer(row) == 1, "longer by half is unlike"
    rows = texts(put("rules", "official", value=lambda _: rule(2, life=8)))
    rows[0]["rules"]["official"]["levels"] = [[14, 9, 2]]
    assert found_variable(rows) == 0, "one block more is as long"
    rows[0]["rules"]["official"]["levels"] = [[14, 10, 2]]
    assert found_variable(rows) == pytest.approx(1 / TEXTS)
    told = [changed(0, fourfold=0.0)]
    told[0]["heads"]["primary_key_over"] = 1.25
    scaled = {one["factor"]: one for one in told[0]["scaled"]["factors"]}
    scaled[1.0]["given"], scaled[4.0]["given"] = 1.0, 1.1
    measured = parts.changes(told)
    assert measured["C10"]["keys_join"].n == 1 and measured["C7"]["score_scales"].agree == 1
    twenty = texts(put("rules", "official", value=rule(2)))[:10]
    assert parts.published("Qwen/QwQ-32B", twenty), "twenty sinks are enough"


def found_variable(rows):
    return parts.texts(rows, "4 x")["C3"]["variable"].value


def test_sinks_that_start_in_many_blocks_are_not_one_modules():
    rows = texts()
    for row in rows:
        for i, one in enumerate(row["sinks"]):
            one["start"] = 10 + i
    assert state(parts.texts(rows, "4 x"), "C6", "one_module") == "not_met"


def test_without_sinks_nothing_is_said_of_them():
    measured = found(lambda row: row.update(sinks=[], same=[0, 0], rules={key: rule(0) for key in row["rules"]}))
    unsaid = {"C2": "secondary_middle", "C3": "variable", "C4": "less", "C6": "aligned", "C13": "usually_none"}
    assert {state(measured, *one) for one in unsaid.items()} == {"untested"}
    assert state(measured, "C16", "in_most_texts") == state(measured, "C1", "exists") == "not_met"


def test_lives_that_are_all_alike_never_read_as_variable():
    """Nor as surely not: none of 24 texts says little of one in a hundred."""
    assert state(found(put("rules", "official", value=rule(2))), "C3", "variable") == "open"


def test_position_alone_does_not_make_a_norm_law():
    """Late tokens that are both longer and more attended to: with places held fixed nothing is left."""
    row = a_text()
    for i, one in enumerate(row["sinks"]):
        one["token"] = 100 * i + 50
    assert parts.follows_norm(row) == pytest.approx(0, abs=1e-6)
    row["sinks"] = row["sinks"][:4]
    assert parts.follows_norm(row) is None, "too few"


def test_ties_count_half_and_like_writes_are_no_pair():
    row = a_text()
    for one in row["sinks"]:
        one["aligned"] = 7
    assert parts.longer_lives_longer(row) == 0.5
    for one in row["sinks"]:
        one["written"]["feed_forward_norm"] = 100.0
    assert parts.longer_lives_longer(row) is None


# --- interventions -----------------------------------------------------------------------------------------------


def changed(i, fourfold=0.05, none=0.004, life=(0, 7, 9), value=0.3, nearer=1.0, gain=0.08, loss=0.001):
    draw = np.random.default_rng(i)
    small = 0.001 * draw.random()

    def factor(factor, given, aligned):
        return {
            "factor": factor,
            "written": 1.0,
            "given": given + small,
            "lifetime": 3,
            "aligned": aligned,
            "primary": 0.3,
        }

    def removed(level, loss):
        return {"primary": [level + small] * LAYERS, "loss": loss + small}

    return {
        "sinks": 3,
        "scaled": {"factors": [factor(0.0, none, life[0]), factor(1.0, 0.03, life[1]), factor(4.0, fourfold, life[2])]},
        "removed": {
            "sinks": 3, "like": 3, "alive": [15, 16, 17],
            "unchanged": removed(0.5, 3.0),
            "without sinks": removed(0.5 + gain + small, 3.0 + loss + small),
            "without others": removed(0.5, 3.0),
        },
        "heads": {"value_over": value + small, "key_over": 0.5, "primary_key_over": 0.5, "nearer": nearer},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "part", "wrong"),
    [
        ("C7", "silenced", {"none": 0.028}),
        ("C7", "score_scales", {"fourfold": 0.03}),
        ("C7", "life_scales", {"life": (0, 7, 7)}),
        ("C10", "values_shrink", {"value": 0.9}),
        ("C10", "keys_join", {"nearer": 0.2}),
        ("C17", "competition", {"gain": 0.0}),
        ("C17", "loss_alike", {"loss": 0.3}),
    ],
)
def test_interventions_decide_both_ways(claim, part, wrong):
    assert state(parts.changes([changed(i) for i in range(TEXTS)]), claim, part) == "met"
    assert state(parts.changes([changed(i, **wrong) for i in range(TEXTS)]), claim, part) == "not_met"


def test_keys_that_are_alike_anyway_say_nothing():
    rows = [changed(i) for i in range(TEXTS)]
    for row in rows:
        row["heads"]["primary_key_over"] = 1.1
    assert state(parts.changes(rows), "C10", "keys_join") == "untested"
    empty = {"sinks": 0, "scaled": {}, "removed": {}, "heads": {}}
    assert parts.changes([empty] * TEXTS) == {"C7": {}, "C10": {}, "C17": {}}


def test_the_layer_alone_decides_both_ways():
    metrics = {"aligned": 15, "directions": 1004, "exponent": 2.03, "sinks": 251}
    curves = {"scales": [1, 19], "contributions": [40.0, 20.0, 1, 1, 1], "length": 100.0}
    measured = parts.probed(metrics, curves)
    every = (("C14", "few_directions"), ("C17", "few_neurons"))
    assert {state(measured, *one) for one in every} == {"met"}
    for wrong, claim, part in (
        ({"aligned": 2}, "C14", "few_directions"),
        ({"aligned": 500}, "C14", "few_directions"),
    ):
        assert state(parts.probed(metrics | wrong, curves), claim, part) == "not_met"
    assert state(parts.probed(metrics, curves | {"length": 1000.0}), "C17", "few_neurons") == "not_met"
    assert parts.probed({}, {}) == {}


# --- the paper's own models --------------------------------------------------------------------------------------


def test_published_levels_are_counted_for_the_models_they_name():
    rows = texts(put("rules", "official", value=rule(2, start=16, life=18)))
    measured = parts.published("Qwen/Qwen3-4B-Base", rows)
    assert [state(measured, "C12", name) for name in ("qwen3_start", "qwen3_life")] == ["met", "met"]
    assert state(measured, "C11", "leaves_at_33") == "met", "a sink in blocks 16 to 33 is none after block 34"
    assert state(measured, "C11", "some_exceed") == "not_met"
    rows[0]["rules"]["official"]["longest"] = 1.2
    assert state(parts.published("Qwen/Qwen3-4B-Base", rows), "C11", "some_exceed") == "met"
    other = parts.published("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", rows)
    assert state(other, "C12", "r1_start") == "not_met" and "C11" not in other
    for model, part, count in (("Qwen/QwQ-32B", "qwq_32b", 3), ("Qwen/Qwen3-14B", "qwen3_14b", 6)):
        layered = texts()
        for row in layered:
            row["rules"]["official"]["levels"] = [[5 + 3 * i, 10, 1] for i in range(count)]
        assert state(parts.published(model, layered), "C9", part) == "met"
        assert state(parts.published(model, rows), "C9", part) == "not_met"
    assert parts.published("Qwen/QwQ-32B", rows[:9]) == {}, "eighteen sinks are too few"
    assert parts.published("smollm2-135m", rows) == {}


def test_the_models_that_the_ledger_judges_exactly_are_those_that_are_counted():
    rows = texts(put("rules", "official", value=rule(2)))
    assert all(parts.published(model, rows) for model in live.PAPERS)


def test_the_threshold_is_the_one_that_agrees_best_with_the_others():
    names = [f"{k} x" for k in find.TIMES]

    def row(best):
        return {a: {b: 1.0 if a == b else 0.9 if best in (a, b) else 0.1 for b in names} for a in names}

    assert [parts.chosen([[row(name)] * 3]) for name in names] == names
    assert parts.chosen([[row("3 x")], [row("5 x")], [row("5 x")]]) == "5 x", "models count alike"
    stored = [paths.sweep("secondary_sinks", f"thresholds{suffix}") for suffix in ("", "_gemma")]
    assert parts.chosen([json.loads(path.read_text())["curves"]["texts"] for path in stored]) == RULE


# --- live and stored ---------------------------------------------------------------------------------------------


def planted_lm():
    return LM("planted", planted_model.model((4, 7)), tiny.byte_tokenizer())


def test_what_is_read_again_is_compared_number_by_number():
    lm, ids = planted_lm(), planted_model.text(length=160)
    stored = json.loads(json.dumps(find.row(lm, find.find(lm, ids), RULE)))
    run = SimpleNamespace(agreement=stored_runs.agreement)
    assert live.again(run, lm, [ids], [stored] * 3) == "the live part equals the stored run"
    for path, value in ((("primary", "start"), 3), (("sinks",), []), (("median_norm", 2), 99.0), (("little",), 0.5)):
        doctored, at = copy.deepcopy(stored), None
        at = doctored
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        assert "differs from the stored run" in live.again(run, lm, [ids], [doctored])
    assert live.again(run, lm, [ids[:100]], [stored]) == "texts were not read again at this tier"


def test_stored_runs_are_of_texts_that_did_not_choose_the_threshold():
    read, others = STORED["texts"].config, STORED["thresholds"].config
    assert read["skip"] >= 2, "the first two were looked at while the tools were tested"
    assert others["skip"] >= read["skip"] + read["n_texts"]
    assert read["rule"] == STORED["changes"].config["rule"] == STORED["probe_gemma"].config["rule"] == RULE


# --- figures -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured():
    lm, ids = planted_lm(), planted_model.text(length=160)
    ids[40] = planted_model.SECONDARY
    with block_outputs.scaled(lm.model, 4, [40], 0.0), block_outputs.scaled(lm.model, 7, [40], 0.0):
        shown = find.find(lm, ids)
        rows = [find.row(lm, shown, RULE)] * 3
        some = [change.changed(lm, ids, RULE)] * 3
        alone = probe.probed(lm, [ids] * 3, RULE)
    assert alone["metrics"]["block"] == 4 and rows[0]["sinks"] and some[0]["scaled"]
    words = [lm.tokenizer.decode([one]) for one in ids.tolist()]
    return {"planted-model": live.Measured(rows, some, alone, shown, words)}


def without_sinks(one):
    rows = [a_text(sinks=[], drawn=[], same=[0, 0]) for _ in range(3)]
    for row in rows:
        row["rules"] = {key: rule(0) for key in row["rules"]}
    return live.Measured(rows, [{"sinks": 0, "scaled": {}, "removed": {}, "heads": {}}] * 3, shown=one.shown)


@pytest.mark.parametrize("any_sinks", [True, False])
def test_every_figure_draws(measured, any_sinks):
    ((name, one),) = measured.items()
    shown = one if any_sinks else without_sinks(one)
    drawings = [
        lambda ax: view.where_rules_look(ax, shown, name),
        lambda ax: view.levels(ax, shown.rows, RULE, name),
        lambda ax: view.formation(ax, {name: shown}),
        lambda ax: view.score_by_norm(ax, {name: shown}),
        lambda ax: view.scaling(ax, {name: shown}),
        lambda ax: view.primary(ax, shown, name),
        lambda ax: view.directions(ax, {name: shown}),
        lambda ax: view.tokens_by_blocks(ax, one.shown, one.words, RULE, name),
    ]
    for draw in drawings:
        fig, ax = plotting.figure()
        draw(ax)
        assert len(plotting.png(plotting.Plot(fig, "drawn"), "toy")) > 2000
    table = str(view.by_rule({name: shown}, ["official", *view.THRESHOLDS]))
    assert "4 × median" in table and ("0 of 3" in table or any_sinks)
    told = view.facts(shown, RULE)
    assert (told["count"], told["texts"]) == (("6", "3 of 3") if any_sinks else ("0", "0 of 3"))
    assert told.keys() == set(view.FACTS.split()) == view.facts(None, RULE).keys()
    assert (told["fourfold"] is not None) == (told["words"] is not None) == any_sinks
    assert "sinks | 6" in str(view.side_by_side({name: told}, {"count": "sinks"})) or not any_sinks


def test_the_map_names_the_sinks(measured):
    (one,) = measured.values()
    _, ax = plotting.figure()
    view.tokens_by_blocks(ax, one.shown, one.words, RULE, "planted")
    (top,) = ax.child_axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "30"], "12 is too near the primary to be apart"
    assert top.get_xticklabels()[0].get_text() == "primary"
    assert view.spread([3, 30, 40, 60, 90, 120]) == [30, 60, 90]
    assert view.pieces([0, 30], 36) == [*range(9), None, None, *range(22, 36)]


# --- as its rerunner meets it ------------------------------------------------------------------------------------


def test_a_trace_is_the_problem_and_what_the_model_writes():
    lm = LM("tiny", *tiny.build("tiny-random-qwen3"))
    first, second = traces.traces(lm, 2, tokens=12)
    start = traces.prompt(lm, "Find the remainder when 7^2026 + 5^2026 is divided by 36.")
    assert torch.equal(first[: len(start)], start) and len(start) < len(first) <= len(start) + 12
    assert lm.tokenizer.decode(second).startswith("<s>Solve" if len(lm.start) else "Solve")
    with pytest.raises(Exception, match="there are 30 problems, 31 are asked for"):
        traces.traces(lm, 31, 5)


def test_a_chat_template_stands_around_the_problem():
    lm = LM("tiny", *tiny.build("tiny-random-qwen3"))
    lm.tokenizer.chat_template = "{% for m in messages %}<user>{{ m['content'] }}</user>{% endfor %}"
    assert lm.tokenizer.decode(traces.prompt(lm, "one and one")) == "<user>one and one</user>"


def test_a_new_machine_fetches_what_a_run_opens_and_no_more():
    values = parameters.defaults("secondary_sinks")
    assert parameters.needed_assets("secondary_sinks", values) == ["gemma-3-270m", "smollm2-135m", "wikipedia-excerpt"]


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["smoke", "gpu"])
def test_a_tier_runs_end_to_end_on_a_tiny_model(tier):
    options = ["--tier", tier, "--device", "cpu", "--models", "tiny-random-qwen3", "-p", "documents=2"]
    done = claimbook("rerun", "secondary_sinks", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    pointer = paths.runs() / "secondary_sinks" / "latest"
    result = json.loads((pointer.parent / pointer.read_text().strip() / "result.json").read_text())
    found = {claim: entry["verdict"] for claim, entry in result["claims"].items()}
    if tier == "smoke":
        assert set(found.values()) == {None}
    else:
        assert found["C5"] == "not_tested" and found["C9"] == found["C12"] == "inconclusive"
        assert found["C2"] == "inconclusive"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--models", "nope"], "unknown model 'nope'"),
        (["-p", "document=3"], "secondary_sinks has no parameter 'document'"),
        (["--text", "no-such-file.txt"], "unknown text 'no-such-file.txt'"),
    ],
)
def test_a_mistake_gives_one_line_before_anything_runs(options, line):
    done = claimbook("rerun", "secondary_sinks", *options)
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", list(tiny.CONFIGS))
def test_a_text_is_told_for_every_family(name):
    """Nothing is known of a family in this chapter's code; where a row can be had, everything in it is finite."""
    lm = LM(name, *tiny.build(f"tiny-random-{name}"))
    ids = torch.randint(1, 300, (120,), generator=torch.Generator().manual_seed(0))
    told = find.row(lm, find.find(lm, ids), RULE)
    numbers = [*told["primary"]["norm"], *told["primary"]["given"], *told["median_norm"], told["little"]]
    assert len(told["median_norm"]) == 2 and np.isfinite(numbers).all()
    assert change.changed(lm, ids, RULE).keys() == {"sinks", "scaled", "removed", "heads"}
    keys, values = residual.keys_and_values(lm.model, ids)
    assert keys.shape == values.shape == (2, 120) and bool(torch.isfinite(keys).all())
