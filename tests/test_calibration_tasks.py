"""Attention calibration: items, draws without leakage, scores against the plain model, arms of the right heads."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from claimbook.errors import ClaimbookError
from claimbook.experiments.attention_calibration import own_files, stored, tasks
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
    with pytest.raises(ClaimbookError, match="draw 2 needs 60 items, there are 40 whose options"):
        tasks.split(items, 2, 10, 10)


def test_items_twice_and_options_that_begin_alike_are_left_out(lm):
    read = [item("One?"), item("one"), Item("Two?", ("yes", "yet"), 0), Item("Three?", ("a", "b", "c"), 1)]
    found = tasks.usable(lm, Task("own", lambda: iter(read)))
    assert [one.content for one in found] == ["One?", "Three?"]


def test_an_option_without_a_token_leaves_its_item_out(lm):
    class FewWords:
        """Knows no letter of "no"."""

        def __call__(self, text, **options):
            return lm.tokenizer(text.replace(" no", ""), **options)

        def decode(self, ids):
            return lm.tokenizer.decode(ids)

    poor = replace(lm, tokenizer=FewWords())
    assert len(tasks.first_tokens(poor, item("Is it?"))) == 1
    assert tasks.usable(poor, Task("own", lambda: iter([item("Is it?")]))) == []


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_a_prompt_that_a_model_has_no_positions_for_is_refused(lm, kind):
    learned, own = load(f"tiny-random-{kind}", "cpu"), Task("own", iter)
    assert len(tasks.prompt(learned, own, "w" * (512 - len(tasks.prompt(learned, own, ""))))) == learned.longest == 512
    assert lm.longest is None and len(tasks.prompt(lm, own, "word " * 200)) > 1000
    with pytest.raises(ClaimbookError, match=f"tokens, and tiny-random-{kind} has 512 positions: take a model that"):
        tasks.prompt(learned, own, "word " * 200)


def test_what_json_holds_as_a_number_or_a_list_is_an_option(tmp_path):
    rows = [{"question": f"{i}?", "options": [0, "1", True], "answer": [0, 1, True][i % 3]} for i in range(18)]
    (tmp_path / "own.json").write_text(json.dumps(rows))
    found = own_files.own_items(str(tmp_path / "own.json"))
    assert found[0].options == ("0", "1", "true") and [one.gold for one in found] == [0, 1, 2] * 6


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
    found, base = vars(choice.effects(lm, task.name, tuple(items))).values()
    turned = choice.effects(lm, task.name, tuple(items[::-1]))
    torch.testing.assert_close(turned.values.flip(1), found, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(
        turned.base, scoring.score(lm, task, items[::-1], None).nll(items[::-1]), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(turned.base.flip(0), base, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(turned.se, found[0].std(0) / 3**0.5, atol=1e-6, rtol=1e-3)


def test_batches_are_of_one_length_and_leave_nobody_alone_who_need_not_be():
    lengths = [5] * (scoring.BATCH + 1) + [7, 6, 6]
    found = [list(places) for places in scoring.batches([torch.zeros(n) for n in lengths])]
    assert sorted(place for places in found for place in places) == list(range(len(lengths)))
    assert all(len({lengths[place] for place in places}) == 1 for places in found)
    assert sorted(len(places) for places in found) == [1, 2, scoring.BATCH // 2, scoring.BATCH // 2 + 1]


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


def counted(splits=(0,), **more):
    return SMALL | {"splits": list(splits)} | more


def test_arms_calibrate_the_heads_that_they_say(lm):
    names = [*stored.ARMS, "random_0", "random_1", "frozen", "towards_all"]
    rows = arms.EXPERIMENT.now(lm, counted(arms=names))
    by = {row.arm: row for row in rows}
    heads = {name: {tuple(head) for head in row.heads} for name, row in by.items()}
    assert list(by) == names and not heads["vanilla"] and len(heads["all"]) == len(heads["towards_all"]) == 8
    items = tuple(drawn(lm).choose)
    effects = choice.effects(lm, "counting", items).act
    ranked = sorted(heads["all"], key=lambda head: float(effects[head]))
    assert heads["top"] == {head for head in ranked[:2] if effects[head] < 0}
    assert heads["bottom"] == {head for head in ranked[-2:] if effects[head] > 0}
    assert len(heads["random_0"]) == 2 and heads["frozen"] == heads["top"]
    judged = drawn(lm).judge
    assert all(row.gold == [one.gold for one in judged] and len(row.scores) == 4 for row in rows)
    assert by["top"].scores != by["vanilla"].scores and by["vanilla"].sinks == by["vanilla"].moved == 0
    task, rule = tasks.TASKS["counting"], Rule(_of(heads["top"], lm))
    after, before = (scoring.score(lm, task, items, one).nll(items) for one in (rule, None))
    assert by["top"].choice_gain == pytest.approx(float((after - before).mean()), abs=1e-3)
    torch.testing.assert_close(torch.tensor(by["top"].first_order), effects, atol=1e-6, rtol=1e-3)
    assert {name for name, row in by.items() if row.prior} == {"vanilla", "top"}
    assert [name for name, row in by.items() if row.first_order] == ["top"]


def test_draws_of_random_heads_are_each_tasks_own(lm):
    def some(**config):
        rows = arms.EXPERIMENT.now(lm, counted((0, 1), arms=["random_0", "random_1"], top=4, judge=1) | config)
        return [tuple(map(tuple, row.heads)) for row in rows]

    every = [*some(), *some(task="hypernyms"), *some(seed=1)]
    assert len(set(every)) > 6 and some() == some()


def _of(heads, lm):
    found = torch.zeros_like(choice.allowed(lm))
    for head in heads:
        found[head] = True
    return found


def test_heads_may_be_given_and_unknown_arms_are_refused(lm):
    config = counted(arms=["vanilla", "top", "random_0"], heads=[[1, 3]])
    rows = arms.EXPERIMENT.now(lm, config)
    assert rows[1].heads == [[1, 3]] and len(rows[2].heads) == 1
    assert rows[0].prior and rows[1].prior and rows[1].choice_gain is rows[1].first_order is None
    for name, heads in (("frozen", [[1, 3]]), ("nonsense", None)):
        with pytest.raises(ClaimbookError, match=f"no arm '{name}' here"):
            arms.EXPERIMENT.now(lm, config | {"arms": [name], "heads": heads})


def test_arms_behind_solved_items(lm):
    names = ["vanilla", "top", "vanilla_4", "top_4"]
    rows = arms.EXPERIMENT.now(lm, counted(arms=names, choose=5))
    assert [row.arm for row in rows] == names
    assert rows[1].heads == rows[3].heads and rows[0].scores != rows[2].scores and rows[2].prior is None
    solved = arms._solved([item(f"{i}?", gold=i % 3 == 0) for i in range(6)], 4)
    assert [one.gold for one in solved] == [0, 1, 0, 1]


def test_exact_effects_are_those_of_one_head_on_judged_items(lm):
    rows = exact.EXPERIMENT.now(lm, SMALL | {"split": 0, "items": 3, "random": 2, "heads": None})
    items = drawn(lm).judge[:3]
    first = choice.effects(lm, "counting", tuple(items)).act
    for row in rows:
        before, after = (
            scoring.score(lm, tasks.TASKS["counting"], items, rule).nll(items)
            for rule in (None, Rule(_of({(row.layer, row.head)}, lm)))
        )
        assert row.exact == pytest.approx(float((after - before).mean()), abs=1e-4)
        assert row.first_order == pytest.approx(float(first[row.layer, row.head]), abs=1e-4)
    assert sum(row.drawn for row in rows) == 2 and all(row.drawn or row.chosen for row in rows)


def test_sinks_of_prompts_and_their_nulls(lm):
    config = {"tasks": ["counting"], "each": 2, "prose": 0, "prompts": None, "seed": 0}
    units = sinks.units(lm, config)
    kinds = [one.kind for one in units.values()]
    assert kinds == ["task", "task", "shuffled", "shuffled", "untrained", "untrained"]
    ids = [one.ids for one in units.values()]
    assert sorted(ids[0].tolist()) == sorted(ids[2].tolist()) and ids[0].tolist() != ids[2].tolist()
    rows = [sinks.measure(lm, one, config) for one in units.values()]
    assert all(row.heads == 4 and len(row.flagged) == len(row.layer_columns) == 2 for row in rows)
    assert all(0 < row.top["position"] < row.tokens - sinks.LATE for row in rows)
    assert all(set(row.top) == {"position", "kind", "template", "over_even"} for row in rows)  # no word is kept
    row, share = rows[0], sinks.mean_map(lm, ids[0]).mean(0)
    n = row.tokens
    mean = share.sum(0) / torch.arange(n, 0, -1)
    assert row.top["position"] == int(mean[1 : n - sinks.LATE].argmax()) + 1
    even = sum(1 / (k + 1) for k in range(row.top["position"], n)) / (n - row.top["position"])
    assert row.top["over_even"] == pytest.approx(float(mean[row.top["position"]]) / even, rel=1e-3)
    assert len(sinks.units(lm, config | {"prompts": 1})) == 1


def test_a_column_that_even_attention_gives_is_not_strong():
    even = torch.tensor([[1 / (k + 1) if j <= k else 0.0 for j in range(26)] for k in range(26)])
    share = even.sum(0) / torch.arange(26, 0, -1)
    assert share[1] > sinks.COLUMN and not sinks.strong(share, share).any()
    high = share.clone()
    high[10] = 0.12
    assert sinks.strong(high, share).nonzero()[:, 0].tolist() == [10]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" the", "function_word"),
        (" Paris", "word"),
        (".", "punctuation"),
        ("\n\n", "newline"),
        ("7", "other"),
        (" ", "space"),
    ],
)
def test_kinds_of_tokens(text, kind):
    assert sinks._kind(text) == kind


def test_cost_times_each_way(lm):
    row = cost.measure(lm, lm.document("a" * 40), {"top": 2})
    assert min(row.on, row.off, row.sdpa) > 0


def test_stored_runs_say_what_they_need_and_begin_with_their_prefix():
    for name, one in stored.STORED.items():
        assert one.config["model"] in one.assets, name
        if one.run.startswith("measure.arms"):
            assert set(stored.ASSETS[one.config["task"]]) <= set(one.assets), name
            units = list(arms.units(None, one.config))
            first = list(arms.units(None, one.config | one.prefix))
            assert first == units[: len(first)] != units, name
    assert stored.ASSETS.keys() == tasks.TASKS.keys()
