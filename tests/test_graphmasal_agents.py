"""GraphMASAL's agents, retrieval and prompts on small real objects: what is told, found, stated, killed and resumed."""

import itertools
import sqlite3
from contextlib import closing
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.store.memory import InMemoryStore
from sklearn.metrics import ndcg_score

from claimbook.experiments.graphmasal import agents, diagnosis, learners, prompts, retrieval, topics
from claimbook.experiments.graphmasal.measure import classes
from claimbook.experiments.graphmasal.retrieval import Encoder, Query, Reranker, Side
from claimbook.lm.load import load
from claimbook.metrics import retrieval as metrics

pytestmark = pytest.mark.numeric

CONFIG = {"level": "topics", "n_students": 4, "seed": 0}
unhurried = settings(deadline=None)
RANKS = st.lists(st.integers(1, 60), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def course():
    return topics.load("topics")


@pytest.fixture(scope="module")
def class_(course):
    return learners.cohort(course, 4, 0)


@pytest.fixture
def team(course, class_):
    return agents.Team(course, diagnosis.Fit(), class_[1])


hold = agents.converse


# --- agents -----------------------------------------------------------------------------------------------------------


def test_a_conversation_goes_round_the_agents_and_ends(team):
    end = hold(team)
    assert end["visited"][:4] == ["diagnostician", "planner", "tutor", "learner"]
    assert end["visited"].count("tutor") == end["turn"] == agents.TURNS
    assert [line["agent"] for line in end["transcript"]] == end["visited"]
    assert len(end["taught"]) == len(set(end["taught"])) == agents.TURNS * agents.LESSONS


def test_no_agent_sees_what_is_true_of_the_learner(team):
    """The truth turned round changes nothing but what the learner answers after the first lessons."""
    other = replace(team, student=replace(team.student, known=~team.student.known))
    first, second = (hold(one)["transcript"][:3] for one in (team, other))
    assert first == second


def test_the_diagnosis_is_that_of_the_answers(team):
    end = hold(team, without="tutor")
    expected = diagnosis.mastery("graph", team.course.graph, team.student, team.fit)
    assert end["mastery"] == pytest.approx(expected.tolist())
    assert end["weak"] == list(diagnosis.weak(team.student, expected))


def test_steps_are_edges_as_another_library_has_them(team, course):
    edges = nx.DiGraph(course.graph.edges)
    end = hold(team)
    assert end["steps"] and all(edges.has_edge(*step) for step in end["steps"])
    assert agents._true([[0, 93 - 1], *end["steps"]], course.graph) == end["steps"]


@pytest.mark.parametrize(("without", "gone"), [("diagnostician", "mastery"), ("planner", "plan"), ("tutor", "passage")])
def test_an_agent_that_is_left_out_does_nothing(team, without, gone):
    end = hold(team, without=without)
    assert without not in end["visited"] and gone not in end
    lessons = {"diagnostician": True, "planner": True, "tutor": False}
    assert bool(end["taught"]) == lessons[without]


def test_a_plan_that_is_empty_is_widened_once_and_then_ends(team):
    """Who knows nothing has no source, so that no path leads anywhere."""
    lost = replace(team.student, answers=tuple((0,) * len(given) for given in team.student.answers))
    sure = diagnosis.Fit(known=0.01, slip=0.01, guess=0.01, above=0.02, below=0.01)
    end = hold(replace(team, student=lost, fit=sure))
    assert end["visited"] == ["diagnostician", "planner", "diagnostician", "planner"]
    assert end["widened"] and end["plan"] == [] and agents._ended(end)
    assert set(end["weak"]) == set(lost.relevant)


def test_a_second_conversation_begins_from_what_the_first_has_left(team):
    store = InMemoryStore()
    agents.states(team, InMemorySaver(), store)
    later = replace(team, student=replace(team.student, asked=(), answers=()))
    again = agents.states(later, InMemorySaver(), store, without="tutor")[-1]
    assert dict(agents.remembered(store, team.student.name)).keys() == set(dict(again["answers"]))
    assert set(team.student.asked) <= set(dict(again["answers"])), "the first test is remembered"
    assert hold(later, without="tutor")["answers"] == [], "another store remembers nothing"


def test_answers_of_a_topic_asked_again_replace_the_old_ones(team):
    store, topic = InMemoryStore(), team.student.asked[0]
    store.put(agents.LAYER, team.student.name, {"answers": [[topic, [1, 1, 1]]], "mastery": []})
    end = agents.states(team, InMemorySaver(), store, without="tutor")[-1]
    assert dict(end["answers"])[topic] == list(team.student.answers[0])


class Died(Exception):
    pass


def dies(*_):
    raise Died


@pytest.mark.parametrize("kill_at", [0, 5, 6, 11])
def test_what_is_resumed_ends_as_if_nothing_had_happened(team, monkeypatch, kill_at):
    """Wherever it breaks off: an exception in place of the signal, in each agent's turn."""
    whole, saver, store = hold(team), InMemorySaver(), InMemoryStore()
    monkeypatch.setattr(agents.os, "kill", dies)
    with pytest.raises(Died):
        agents.states(replace(team, kill_at=kill_at), saver, store)
    assert agents.states(team, saver, store, resume=True)[-1] == whole
    assert agents.states(team, InMemorySaver(), store, resume=True) == []


def test_a_process_is_really_killed_and_another_goes_on(tmp_path, class_):
    """A kill in the fifth step: the checkpoint holds four, and the store what the Diagnostician had written."""
    student, fit = class_[2], classes.fitted(CONFIG)
    order = {"config": CONFIG, "fit": vars(fit), "number": 2, "kill_at": 4, "on_disk": ["talk", "learner"]}
    folder = agents.killed(tmp_path / "talk", **order)
    assert not (folder / "end.json").exists()
    with closing(sqlite3.connect(folder / "talk.sqlite")) as file:
        left = SqliteSaver(file).get_tuple({"configurable": {"thread_id": f"{student.name} "}})
    assert left.checkpoint["channel_values"]["visited"] == ["diagnostician", "planner", "tutor", "learner"]
    team = agents.Team(classes.course(CONFIG), fit, student, 0)
    after = agents.states(team, InMemorySaver(), InMemoryStore())[1:]
    assert agents.layer(folder, student.name) == agents.known(after[4]) != agents.known(after[0])
    assert agents.resumed(folder, **order) == after[-1]


def test_what_lies_in_memory_dies_with_the_process(class_):
    row = agents.measure(None, (1, class_[1]), CONFIG)
    assert (row.kept, row.not_kept, row.resumed_equal, row.unsaved_equal) == (True, False, True, False)
    assert row.edges == row.edges_in_graph > row.shuffled_in_graph
    assert 0 <= row.edges_of_sequence < row.steps_of_sequence
    assert row.ended and row.has_plan and row.whole.lessons == agents.TURNS * agents.LESSONS
    assert not row.without["tutor"].ended and row.without["tutor"].lessons == 0


# --- retrieval --------------------------------------------------------------------------------------------------------


@unhurried
@given(RANKS)
def test_ndcg_is_that_of_another_library(ranks):
    for rank, found in zip(ranks, metrics.ndcg(ranks), strict=True):
        relevance, scores = np.zeros((1, 60)), -np.arange(60.0)[None]
        relevance[0, rank - 1] = 1
        assert found == pytest.approx(ndcg_score(relevance, scores, k=10))


def test_reciprocal_rank_and_recall_by_hand():
    assert metrics.reciprocal([1, 4, 11]).tolist() == [1, 0.25, 0]
    assert metrics.among([1, 10, 11]).tolist() == [1, 1, 0]


def test_a_tie_counts_against_the_right_card():
    assert [metrics.rank_of(np.array([0.5, 0.9, 0.5]), v) for v in range(3)] == [3, 1, 3]


def test_calibration_error_by_hand():
    stated, right = np.array([0.9, 0.9, 0.2, 1.0]), np.array([1, 0, 0, 1])
    assert metrics.calibration_error(stated, right) == pytest.approx((abs(2 * 0.9 - 1) + 0.2 + 0) / 4)
    assert metrics.calibration_error(right, right) == 0


@unhurried
@given(arrays(float, 30, elements=st.floats(0, 1)), arrays(bool, 30))
def test_calibration_error_is_bounded_and_stating_the_share_has_none(stated, right):
    assert 0 <= metrics.calibration_error(stated, right) <= 1
    assert metrics.calibration_error(np.full(30, right.mean()), right) == pytest.approx(0, abs=1e-12)


def test_splits_share_no_section_and_no_query_gives_its_own_away():
    course, broad = topics.load("sections"), topics.load("topics")
    found = retrieval.queries(course, broad, 0)
    sections = {name: {query.card for query in of} for name, of in found.items()}
    assert all(sections.values())
    assert not sections["train"] & sections["test"] and not sections["validation"] & (
        sections["test"] | sections["train"]
    )
    plain = retrieval.cards(course, grounded=False)
    for query in found["test"]:
        assert not set(retrieval.words(query.text)) & set(retrieval.words(course.names[query.card]))
        assert not retrieval.repeats(query.text, plain[query.card])
        assert query.text != query.whole or not set(retrieval.words(query.whole)) & set(
            retrieval.words(course.names[query.card])
        )


def test_words_of_headings_are_taken_out_in_any_form():
    assert (
        retrieval.stripped("Every group, and Groups of rings, are sets.", "Group theory")
        == "Every and of rings, are sets."
    )
    assert retrieval.repeats("one two three four five six seven", "ZERO two, three four five six. SEVEN")
    assert not retrieval.repeats("one two three four five six", "one two three four five seven six")


def test_a_second_query_of_a_section_comes_after_all_first_ones():
    found = [Query(str(i), str(i), card) for i, card in enumerate([0, 0, 0, 1, 2])]
    assert {query.card for query in retrieval.spread(found, 3, 0)} == {0, 1, 2}
    assert len(retrieval.spread(found, 9, 0)) == 5


@unhurried
@given(arrays(np.float64, 6, elements=st.floats(-5, 5)), st.integers(0, 5))
def test_listnet_is_the_cross_entropy_of_the_right_card(scores, right):
    scores = torch.tensor(scores)
    relevant = torch.eye(6, dtype=scores.dtype)[right]
    expected = torch.nn.functional.cross_entropy(scores[None], torch.tensor([right]))
    assert float(retrieval.listnet(scores, relevant)) == pytest.approx(float(expected))


@pytest.fixture(scope="module")
def tiny():
    """A small BERT of the same build, with random weights, and a tokenizer by letters."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
    return Encoder(BertModel(config).eval().requires_grad_(False), letters)


def letters(texts, max_length, padding=None, **options):
    rows = [[1, *(2 + ord(letter) % 60 for letter in text)][:max_length] for text in texts]
    width = max_length if padding == "max_length" else max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def test_vectors_do_not_hang_on_what_else_is_read(tiny):
    texts = ["a topic", "another, longer topic of the course", "x"]
    alone = np.concatenate([tiny.vectors([text]) for text in texts])
    assert np.allclose(tiny.vectors(texts), alone, atol=1e-5)
    assert np.allclose(np.linalg.norm(alone, axis=1), 1)


@torch.no_grad()
def test_all_layers_joint_is_the_usual_cross_encoder(tiny):
    """Against the encoder itself, given query and card in one row and positions that begin anew."""
    reranker = Reranker(tiny, joint=3, seed=0)
    query, card = reranker.read(["what is it"], "query"), reranker.read(["a card", "some other card"], "card")
    found = reranker(query, tuple(one[None] for one in card))[0]
    for i, text in enumerate(["a card", "some other card"]):
        first, second = letters(["what is it"], 32)["input_ids"], letters([text], 96)["input_ids"]
        out = tiny.model(
            input_ids=torch.cat([first, second], 1),
            token_type_ids=torch.cat([torch.zeros_like(first), torch.ones_like(second)], 1),
            position_ids=torch.cat([torch.arange(first.shape[1]), torch.arange(second.shape[1])])[None],
        )
        assert float(found[i]) == pytest.approx(float(reranker.head(out.last_hidden_state[0, 0])), abs=1e-4)


def library(tiny, n=24, seed=0):
    """Cards that a query can be told from by its letters; the first stage is told nothing."""
    rng = np.random.default_rng(seed)
    cards = ["".join(rng.choice(list("abcdefgh"), 6)) for _ in range(n)]
    asked = {
        name: [Query(cards[v][:4], cards[v], v) for v in of]
        for name, of in {"train": range(12), "validation": range(12, 18), "test": range(18, n)}.items()
    }
    lower = Reranker(tiny, joint=2, seed=0)
    below = {name: lower.read([query.text for query in of], "query") for name, of in asked.items()}
    below |= {"dual": lower.read(cards, "card"), "no graph": lower.read(cards, "card")}
    scores = {
        name: {stage: rng.random((len(of), n)) for stage in ("bm25", "dual", "no graph")} for name, of in asked.items()
    }
    return retrieval.Library(tuple(map(str, range(n))), cards, cards, np.ones(n), asked, scores, tiny, below)


SMALL = {"k": 10, "joint": 2, "list": 6, "batch": 4, "steps": 3, "rate": 1e-3, "n_seeds": 1}


def test_a_second_stage_puts_the_first_stages_best_in_order_and_no_other(tiny):
    of = library(tiny)
    row = retrieval.measure(of, 0, SMALL)
    first, right = np.array(row.ranks["dual"]), 6
    assert len(row.sections) == right and set(row.stated) == set(row.right) == {
        "dual",
        "rerank",
        "fused",
        "fixed",
        "raw",
    }
    for stage in ("fresh", "rerank", "fixed", "fused"):
        ranks = np.array(row.ranks[stage])
        assert (ranks[first > 10] == first[first > 10]).all() and (ranks[first <= 10] <= 10).all()
    assert row.ranks["best"] == [1 if rank <= 10 else rank for rank in first]
    assert row.base == pytest.approx(np.mean(Side(of, None, 10, True).lists("validation")[1]))
    base, held = row.base, np.array(first) <= 10
    assert row.brier["base"] == pytest.approx(np.where(held, (0.9 * base**2 + 0.1 * (1 - base) ** 2), base**2).tolist())


def test_neither_training_nor_fusion_looks_at_the_test(tiny):
    """Other right cards on test change no probability that is stated."""
    of, other = library(tiny), library(tiny)
    other.queries["test"] = [replace(query, card=0) for query in other.queries["test"]]
    first, second = (retrieval.measure(one, 0, SMALL) for one in (of, other))
    assert first.stated == second.stated and first.base == second.base
    assert first.ranks["rerank"] != second.ranks["rerank"]


def test_training_is_what_changes_the_order(tiny):
    of = library(tiny)
    assert (
        retrieval.measure(of, 0, SMALL | {"steps": 40}).stated["raw"] != retrieval.measure(of, 0, SMALL).stated["raw"]
    )
    before = [parameter.clone() for parameter in tiny.model.parameters()]
    retrieval.measure(of, 1, SMALL)
    assert all(torch.equal(a, b) for a, b in zip(before, tiny.model.parameters(), strict=True)), "the encoder is kept"


def test_calibration_finds_the_rate_that_was_put_in():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(400, 10, 1))
    true = 1 / (1 + np.exp(2 - 1.5 * scores[..., 0]))
    found = retrieval.calibrated(scores, rng.random(true.shape) < true, scores)
    assert np.abs(found - true).mean() < 0.02


# --- prompts ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lm():
    return load("tiny-random-llama", "cpu")


def test_a_prompt_read_back_holds_the_students_answers_and_not_anothers(course, class_):
    for student, other in itertools.pairwise(class_):
        for graph in (True, False):
            shown = prompts.facts(course, student, student.relevant[::-1], graph)
            stated = prompts.results(course, prompts.example(graph) + shown)
            assert stated == prompts.given(student) != prompts.given(other)


def test_what_is_shown_are_the_topics_that_are_scored(course, class_):
    """Names in the list of topics are those of the menu, in its order, each with its own prerequisites."""
    menu = np.random.default_rng(0).permutation(class_[0].relevant).tolist()
    shown = prompts.facts(course, class_[0], menu).splitlines()
    listed = shown[1 : shown.index("Test results:")]
    for v, line in zip(menu, listed, strict=True):
        needs = ", ".join(course.names[u] for u in course.graph.parents[v])
        assert line == f"- {course.names[v]}" + (f" (needs: {needs})" if needs else "")
    assert not any("needs" in line for line in prompts.facts(course, class_[0], menu, graph=False).splitlines())


def test_a_free_reply_is_read_strictly_and_leniently(course):
    a, b = course.names[5], course.names[22]
    plan, kept = prompts.parsed(course, f"1. {a}\n- {b.lower()}s\n\nI would say more\n{a}\n")
    assert plan == [5, 22]
    assert kept == prompts.Format(named=4, strict=2, in_graph=3, lenient=2)
    assert prompts.parsed(course, "") == ([], prompts.Format(0, 0, 0, 0))


def test_every_topic_is_read_as_itself(course):
    plan, kept = prompts.parsed(course, "\n".join(course.names))
    assert plan == list(range(len(course.names))) and kept.strict == kept.lenient == len(course.names)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_likelihoods_are_those_of_the_whole_text(family):
    """Also where some layers see a window only, of 48 tokens, which what stands before is longer than."""
    lm = load(f"tiny-random-{family}", "cpu")
    reading = prompts.Reading(lm, "A student knows" + 20 * " much").more(" some of this.\n")
    texts = ["one\n", "another topic\n", "x\n"]
    for text, found in zip(texts, reading.likelihood(texts), strict=True):
        ids = torch.cat([reading.ids, lm.encode(text)])
        logits = lm.model(ids[None]).logits[0].log_softmax(-1)
        alone = sum(float(logits[i - 1, ids[i]]) for i in range(len(reading.ids), len(ids)))
        assert found == pytest.approx(alone, abs=1e-3)


@torch.no_grad()
def test_odds_are_those_of_the_whole_words_up_to_where_they_differ(lm):
    """By letters, " yes" and " no" differ after the space."""
    reading = prompts.Reading(lm, "A student knows")
    texts = ["one?", "another one?"]
    for text, found in zip(texts, reading.odds(texts, " yes", " no"), strict=True):
        yes, no = reading.likelihood([f"{text} y", f"{text} n"])
        assert found == pytest.approx(yes - no, abs=1e-3)


def test_a_row_has_every_arm_and_plans_of_the_planners_length(lm):
    config = {"level": "topics", "n_students": 1, "seed": 0, "picks": 20, "most_tokens": 5}
    (row,) = prompts.EXPERIMENT.now(lm, config)
    assert row.facts_match and not row.facts_other
    arms = ("planner", "constrained", "constrained, no graph", "random topics")
    assert len({row.plans[arm].length for arm in arms}) == 1
    assert row.plans["weak only"].coverage == 1 and {"free", "everything"} < set(row.plans)
    told = {"yes or no", "yes or no, no graph", "yes or no, true count"}
    assert set(row.diagnoses) == told | {"graph", "topic", "mean score", "prior", "all weak"}
    assert row.diagnoses["yes or no, true count"].brier == row.diagnoses["yes or no"].brier
    assert row.prompt.startswith("Topics and what each needs first:") and row.prompt.endswith(prompts.PLAN)


def test_the_true_count_takes_the_topics_that_are_thought_least_known(class_):
    student = replace(class_[0], relevant=(2, 5, 7), known=np.arange(93) == 5)
    believed = np.full(93, 0.9)
    believed[[2, 5, 7]] = 0.8, 0.3, 0.6
    assert np.flatnonzero(prompts.fewest(student, believed) == 0).tolist() == [5, 7]


class Likes:
    """A reading that likes some names, and longs for one once another stands before it."""

    def __init__(self, likes, then=None):
        self.likes, self.then = likes, then or {}

    def likelihood(self, lines):
        return np.array([self.likes[line.strip()] for line in lines], dtype=float)

    def more(self, text):
        return Likes(self.likes | self.then.get(text.strip(), {}), self.then)


def test_choice_takes_what_the_facts_make_likelier_and_weighs_anew():
    plain = np.array([-1, -9, -5, -2])
    reading = Likes({"a": -1, "b": -5, "c": -4, "d": -2}, {"b": {"d": 3}})
    assert prompts.choose(reading, plain, list("abcd"), 4, picks=1) == [1, 3, 2, 0]
    assert prompts.choose(reading, plain, list("abcd"), 2, picks=2) == [1, 2]
    assert prompts.choose(reading, plain, list("abcd"), 9, picks=4) == [1, 2, 0, 3]


class Says:
    def __init__(self, odds):
        self.by_name = odds

    def odds(self, texts, yes, no):
        return np.array(self.by_name)


def test_a_model_that_says_yes_to_all_alike_knows_nothing():
    assert prompts.known(Says([3, 3]), np.array([3, 3]), ["a", "b"]).tolist() == [0.5, 0.5]
    assert prompts.known(Says([4, 2]), np.array([3, 3]), ["a", "b"]) == pytest.approx(1 / (1 + np.exp([-1, 1])))
