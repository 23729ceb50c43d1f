"""Attention calibration: items, draws without leakage, scores against the plain model, arms of the right heads."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from claimbook.errors import ClaimbookError
from claimbook.experiments.attention_calibration import stored, tasks
from claimbook.experiments.attention_calibration.measure import arms, choice, cost, exact, scoring, sinks
from claimbook.experiments.attention_calibration.tasks import Item, Split, Task
from claimbook.lm.load import load
from claimbook.papers.attention_calibration import Rule

pytestmark = pytest.mark.numeric

SMALL = {"task": "counting", "choose": 3, "judge": 4, "top": 2, "seed": 0}


@pytest.fixture(scope="module")
def lm():
    return load("tiny-random-llama", "cpu")


def item(content, gold=0):
    return Item(content, ("yes", "no"), gold)


# --- items and draws -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["Is it hot?", "is it  HOT", "Is it, hot"])
def test_leakage_between_choosing_and_judging_is_detected(again):
    with pytest.raises(ClaimbookError, match="1 of 2 items to judge by are among those that heads are chosen by"):
        Split([item("Is it hot?")], [item(again), item("Is it cold?")])


@given(st.integers(0, 100), st.integers(1, 6), st.integers(1, 6))
def test_draws_are_disjoint_and_seeded(seed, choose, judge):
    items = [item(f"item {i}") for i in range(40)]
    drawn = [tasks.split(items, number, choose, judge, seed) for number in range(3)]
    every = [one for split in drawn for one in [*split.choose, *split.judge]]
    assert len(set(every)) == len(every) == 3 * (choose + judge)
    assert drawn == [tasks.split(items, number, choose, judge, seed) for number in range(3)]


def test_draws_are_shuffled_and_too_few_items_are_refused():
    items = [item(f"item {i}") for i in range(40)]
    assert tasks.split(items, 0, 20, 20).choose != items[:20]
    with pytest.raises(ClaimbookError, match="draw 2 needs 60 items, there are 40"):
        tasks.split(items, 2, 10, 10)


def test_items_twice_and_options_that_begin_alike_are_left_out(lm):
    read = [item("One?"), item("one"), Item("Two?", ("yes", "yet"), 0), Item("Three?", ("a", "b", "c"), 1)]
    found = tasks.usable(lm, Task("own", lambda: iter(read)))
    assert [one.content for one in found] == ["One?", "Three?"]


def test_nouns_are_of_one_kind_only_and_kinds_are_wrong_as_often_as_right():
    found = list(tasks.hypernyms())
    assert len({one.content for one in found}) == len(found) == 1200
    assert all(len(set(one.options)) == 4 for one in found)
    right = Counter(one.options[one.gold] for one in found)
    wrong = Counter(option for one in found for option in one.options) - right
    common = [kind for kind, count in right.items() if count >= 10]
    assert len(common) > 5 and all(0.3 < wrong[kind] / (3 * right[kind]) < 3 for kind in common if kind != "person")


def test_who_has_the_most_is_who_has_the_most():
    for one, _ in zip(tasks.counting(), range(50), strict=False):
        amounts = [int(word) for word in one.content.split() if word.isdigit()]
        assert amounts[one.gold] == max(amounts) and one.content.startswith(one.options[0])


# --- scores ----------------------------------------------------------------------------------------------------------


def drawn(lm, number=0):
    return choice.split(lm, SMALL, number)


@torch.no_grad()
def test_scores_are_the_plain_models(lm):
    task, items = tasks.TASKS["counting"], drawn(lm).judge
    found = scoring.score(lm, task, items, None).log_probs
    for one, log_probs in zip(items, found, strict=True):
        text = task.template.format(one.content) + " "  # the space is a token here
        last = lm.model(lm.document(text)[None]).logits[0, -1]
        want = last[[lm.single(option[0]) for option in one.options]].log_softmax(-1)
        torch.testing.assert_close(log_probs, want, atol=1e-4, rtol=1e-4)
    nll = scoring.score(lm, task, items, None).nll(items)
    torch.testing.assert_close(nll, torch.stack([-s[one.gold] for s, one in zip(found, items, strict=True)]))


@torch.no_grad()
def test_the_prior_is_what_empty_contents_give(lm):
    task, items = tasks.TASKS["counting"], drawn(lm).judge
    rule = Rule(choice.allowed(lm), alpha=1.5)
    with_rule, without = (scoring.prior(lm, task, items, one) for one in (rule, None))
    mean = torch.stack(
        [lm.model(tasks.prompt(lm, task, c)[None]).logits[0, -1].softmax(-1) for c in ("N/A", "[MASK]", "")]
    )
    want = mean.mean(0)[tasks.first_tokens(lm, items[0])]
    torch.testing.assert_close(without[0].exp(), want / want.sum(), atol=1e-4, rtol=1e-3)
    assert (with_rule[0] - without[0]).abs().max() > 1e-4, "the prior of an arm is measured under its rule"


def test_effects_follow_their_items_whatever_the_batch(lm):
    task, items = tasks.TASKS["counting"], drawn(lm).choose
    found, base = (one.clone() for one in vars(choice.effects(lm, task, items)).values())
    turned = choice.effects(lm, task, items[::-1])
    torch.testing.assert_close(turned.values.flip(1), found, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(
        turned.base, scoring.score(lm, task, items[::-1], None).nll(items[::-1]), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(turned.base.flip(0), base, atol=1e-5, rtol=1e-4)


def test_solved_items_stand_before_the_question(lm):
    task, items = tasks.TASKS["counting"], drawn(lm).choose
    ids = tasks.prompt(lm, task, "Who?", items[:1])
    text = lm.tokenizer.decode(ids.tolist(), skip_special_tokens=True)
    assert (
        text
        == f"{task.template.format(items[0].content)} {items[0].options[items[0].gold]}\n\n"
        + task.template.format("Who?")
        + " "
    )


# --- rows ------------------------------------------------------------------------------------------------------------


def test_arms_calibrate_the_heads_that_they_say(lm):
    names = [*stored.ARMS, "random_0", "frozen", "towards_all", "other_task"]
    rows = arms.EXPERIMENT.now(lm, SMALL | {"split": 0, "arms": names, "other": "hypernyms"})
    by = {row.arm: row for row in rows}
    heads = {name: {tuple(head) for head in row.heads} for name, row in by.items()}
    assert list(by) == names and not heads["vanilla"] and len(heads["all"]) == len(heads["towards_all"]) == 8
    effects = choice.effects(lm, tasks.TASKS["counting"], drawn(lm).choose).act
    ranked = sorted(heads["all"], key=lambda head: float(effects[head]))
    assert heads["top"] == {head for head in ranked[:2] if effects[head] < 0}
    assert heads["bottom"] == {head for head in ranked[-2:] if effects[head] > 0}
    assert heads["helpful"] == {head for head in ranked if effects[head] < 0} == heads["all"] - heads["harmful"]
    assert len(heads["random_0"]) == 2 and heads["frozen"] == heads["top"]
    judged = drawn(lm).judge
    assert all(row.gold == [one.gold for one in judged] and len(row.scores) == 4 for row in rows)
    assert by["top"].scores != by["vanilla"].scores and by["vanilla"].sinks == by["vanilla"].moved == 0
    after = scoring.score(lm, tasks.TASKS["counting"], drawn(lm).choose, Rule(_of(heads["top"], lm))).nll(
        drawn(lm).choose
    )
    before = scoring.score(lm, tasks.TASKS["counting"], drawn(lm).choose, None).nll(drawn(lm).choose)
    assert by["top"].choice_gain == pytest.approx(float((after - before).mean()), abs=1e-3)
    assert {name for name, row in by.items() if row.prior} == set(arms.PRIOR)


def _of(heads, lm):
    found = torch.zeros_like(choice.allowed(lm))
    for head in heads:
        found[head] = True
    return found


def test_heads_may_be_given_and_unknown_arms_are_refused(lm):
    config = SMALL | {"split": 0, "arms": ["top"], "heads": [[1, 3]]}
    assert arms.EXPERIMENT.now(lm, config)[0].heads == [[1, 3]]
    with pytest.raises(ClaimbookError, match="no arm 'frozen' here"):
        arms.EXPERIMENT.now(lm, config | {"arms": ["frozen"]})


def test_arms_behind_solved_items(lm):
    rows = arms.EXPERIMENT.now(lm, SMALL | {"split": 0, "arms": ["vanilla", "top"], "shots": [0, 2]})
    assert [row.arm for row in rows] == ["vanilla_0", "top_0", "vanilla_2", "top_2"]
    assert rows[1].heads == rows[3].heads and rows[0].scores != rows[2].scores and all(row.prior for row in rows)


def test_exact_effects_are_those_of_one_head_on_judged_items(lm):
    rows = exact.EXPERIMENT.now(lm, SMALL | {"split": 0, "random": 2, "heads": None})
    items = drawn(lm).judge[:3]
    first = choice.effects(lm, tasks.TASKS["counting"], items).act
    for row in rows:
        before, after = (
            scoring.score(lm, tasks.TASKS["counting"], items, rule).nll(items)
            for rule in (None, Rule(_of({(row.layer, row.head)}, lm)))
        )
        assert row.exact == pytest.approx(float((after - before).mean()), abs=1e-4)
        assert row.first_order == pytest.approx(float(first[row.layer, row.head]), abs=1e-4)
    assert sum(row.drawn for row in rows) == 2 and all(row.drawn or row.chosen for row in rows)


def test_sinks_of_prompts_their_nulls_and_no_content_word_in_sight(lm):
    config = {"tasks": ["counting"], "each": 2, "prose": 0, "prompts": None, "seed": 0}
    units = sinks.units(lm, config)
    kinds = [one.kind for one in units.values()]
    assert kinds == ["task", "task", "shuffled", "shuffled", "untrained", "untrained"]
    ids = [one.ids for one in units.values()]
    assert sorted(ids[0].tolist()) == sorted(ids[2].tolist()) and ids[0].tolist() != ids[2].tolist()
    rows = [sinks.measure(lm, one, config) for one in units.values()]
    assert all(len(row.by_position) == row.tokens and len(row.layer_columns) == 2 for row in rows)
    assert all(row.by_position[0] == 0 and not any(row.by_position[-sinks.LATE :]) for row in rows)
    assert all(row.top["text"] == "" or row.top["kind"] != "word" for row in rows)
    row, share = rows[0], sinks.mean_map(lm, ids[0]).mean(0)
    n = row.tokens
    mean = share.sum(0) / torch.arange(n, 0, -1)
    assert row.top["position"] == int(mean[1 : n - sinks.LATE].argmax()) + 1
    even = sum(1 / (k + 1) for k in range(row.top["position"], n)) / (n - row.top["position"])
    assert row.top["over_even"] == pytest.approx(float(mean[row.top["position"]]) / even, rel=1e-3)
    assert len(sinks.units(lm, config | {"prompts": 1})) == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [(" the", "function_word"), (" Paris", "word"), (".", "punctuation"), ("\n\n", "newline"), ("7", "other")],
)
def test_kinds_of_tokens(text, kind):
    assert sinks._kind(text) == kind


def test_cost_times_each_way(lm, monkeypatch):
    ids = lm.document("a" * 40)
    row = cost.measure(lm, ids, {"top": 2})
    assert row.tokens == len(ids) and min(row.on, row.off, row.sdpa) > 0


def test_stored_runs_are_small_and_say_what_they_need():
    for name, one in stored.STORED.items():
        assert one.config["model"] in one.assets, name
        if one.run.startswith("measure.arms"):
            assert set(stored.ASSETS[one.config["task"]]) <= set(one.assets), name
            assert one.prefix.get("arms", []) == one.config["arms"][:2] or "shots" in one.prefix
