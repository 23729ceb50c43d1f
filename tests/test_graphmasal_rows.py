"""GraphMASAL: evidence on rows made by hand, true and false; a reader's own files; figures draw what rows hold."""

import json
import math

import numpy as np
import pytest

from claimbook.claims import ledgers, verdicts
from claimbook.errors import ClaimbookError
from claimbook.experiments.graphmasal import evidence, figures, inputs, own_files, said
from claimbook.experiments.graphmasal.evidence import (
    CHOICE,
    CLOSED,
    CLOSED_WITHIN,
    EVERYTHING,
    FREE,
    LIST,
    PLANNER,
    RANDOM,
)

pytestmark = pytest.mark.numeric
PROFILES = ("novice", "intermediate", "advanced", "gappy", "forgetful", "multi-goal")


def states(found):
    """How each part that has evidence stands: {"C5.free_below": "met"}."""
    ledger, told = ledgers.load("graphmasal"), {}
    for claim_id, one in found.items():
        claim = ledger.claim(claim_id)
        for part in claim.parts:
            if part.name in one.parts:
                told[f"{claim_id}.{part.name}"] = verdicts.judged_part(claim, part, one).state
    return told


def spread(rng, value):
    """A number near a value and not below 0, so that there is an interval."""
    return max(0.0, float(value + 0.02 * rng.normal()))


def score(rng, **of):
    """A plan's score: what is not named is the same for all ways."""
    base = {"length": 30, "sim_order": 0.2, "coverage_true": 0.5, "cost_true": 10.0, "unmet": 0.7}
    base |= {"learned_all": 0.1, "learned_any": 0.3, "weak_true": 20, "coverage": 0.5, "cost": 10.0}
    return {name: spread(rng, value) if isinstance(value, float) else value for name, value in (base | of).items()}


GOOD = {
    PLANNER: {"sim_order": 0.6, "coverage_true": 0.9, "unmet": 0.2, "learned_all": 0.6, "learned_any": 0.7},
    CLOSED: {"sim_order": 0.8, "unmet": 0.05, "learned_all": 0.9, "learned_any": 0.9, "length": 25},
    CLOSED_WITHIN: {"sim_order": 0.7, "unmet": 0.05, "learned_all": 0.8, "learned_any": 0.8},
    LIST: {
        "sim_order": 0.1,
        "coverage_true": 0.9,
        "cost_true": 5.0,
        "learned_all": 0.1,
        "learned_any": 0.1,
        "length": 40,
    },
    "separate": {"sim_order": 0.4, "cost_true": 14.0, "learned_all": 0.3, "learned_any": 0.5},
    "shuffled graph": {"sim_order": 0.3, "learned_all": 0.2, "learned_any": 0.4},
    "no cost": {"cost_true": 15.0, "coverage_true": 0.9},
}
WAYS = sorted({*evidence.RATED, *evidence.ABLATIONS.values(), EVERYTHING, "no cost"})  # one order, one draw


def planned(n=80, good=GOOD, retest=0.8, listed=0.3):
    rng = np.random.default_rng(0)
    return [
        {
            "profile": PROFILES[i % 6],
            "n_weak": 20,
            "unreachable": 2,
            "sim_retest": spread(rng, retest),
            "sim_other": spread(rng, 0.3),
            "list_retest": spread(rng, listed),
            "list_other": spread(rng, 0.3),
            "arms": {way: score(rng, **good.get(way, {})) for way in WAYS},
        }
        for i in range(n)
    ]


def test_planning_that_is_as_the_paper_says():
    told = states(evidence.planning(planned()))
    assert set(told.values()) == {"met"} and len(told) == 16, told


def test_planning_that_changes_nothing_meets_no_part():
    same = {way: {} for way in WAYS}
    told = states(evidence.planning(planned(good=same, retest=0.3)))
    never = {part: state for part, state in told.items() if part != "C18.covers_as_many"}
    assert "met" not in never.values(), told
    assert told["C8.than_separate"] == told["C14.retest"] == told["C6.no_graph_below"] == "not_met"


def test_nulls_that_do_as_well_void_what_is_met():
    alike = GOOD | {EVERYTHING: GOOD[PLANNER], RANDOM: GOOD[PLANNER]}
    told = states(evidence.planning(planned(good=alike, listed=0.8)))
    assert told["C6.no_mastery_below"] == told["C15.few_gaps"] == told["C14.retest"] == "void"


def test_a_plan_that_covers_less_is_not_cheap():
    told = states(evidence.planning(planned(good=GOOD | {PLANNER: GOOD[PLANNER] | {"coverage_true": 0.4}})))
    assert told["C8.than_no_cost"] == "open"


def test_agreement_ranks_ways_for_each_learner():
    rows = planned(6)
    for row in rows:
        for i, way in enumerate(evidence.RATED):
            row["arms"][way] |= {"sim_order": i / 10, "learned_all": i**2, "learned_any": 5.0, "length": -i}
    of = evidence.Table(rows)
    assert np.allclose(evidence.agreement(of, "sim_order", "learned_all"), 1)
    assert np.allclose(evidence.agreement(of, "length", "learned_all"), -1)
    assert np.isnan(evidence.agreement(of, "sim_order", "learned_any")).all(), "all plans gain alike"


def test_jackknife_of_a_mean_is_the_mean():
    values = np.random.default_rng(1).normal(size=40)
    found = evidence.jackknife(lambda at: math.exp(values[at].mean()), 40)
    assert math.isclose(math.log(found.value), values.mean(), rel_tol=1e-9)
    error = values.std(ddof=1) / math.sqrt(40)
    assert 1.9 * error < found.halfwidth < 2.6 * error


def test_a_ratio_of_shares_sums_over_all_students():
    """One who covers nothing still pays: the ratio is of sums, not a mean of ratios."""
    cost, held = np.array([4.0, 4.0, 4.0, 8.0]), np.array([2.0, 0.0, 2.0, 4.0])
    found = evidence.ratio_of_shares(cost, held, np.array([3.0, 5.0, 4.0, 4.0]), np.array([2.0, 2.0, 3.0, 1.0]))
    others = [np.log((20 - c) / (8 - k) / ((16 - d) / (8 - h))) for c, k, d, h in
              zip(cost, held, (3, 5, 4, 4), (2, 2, 3, 1), strict=True)]  # fmt: skip
    pseudo = 4 * math.log(20 / 8 / (16 / 8)) - 3 * np.array(others)
    assert math.isclose(found.value, math.exp(pseudo.mean()), rel_tol=1e-9)


# --- the guarantee ----------------------------------------------------------------------------------------------------


def test_the_guarantee_is_judged_by_its_worst_instance():
    trap = [{"n": 5, "coverage_rule": 5.0, "optimal": 1.0}]
    good, edge = {"n": 4, "greedy": 1.1, "optimal": 1.0}, {"n": 2, "greedy": 1.7, "optimal": 1.0}
    assert states(evidence.guarantee([good], trap, [1.0]))["C4.within_the_bound"] == "met"
    found = states(evidence.guarantee([good, edge], trap, [1.0, 0.9]))
    assert found["C4.within_the_bound"] == found["C4.covers_all"] == "not_met", "1 + ln 2 is 1.69"
    assert states(evidence.guarantee([good], [good | {"coverage_rule": 1.0}], [1.0]))["C4.within_the_bound"] == "void"


def test_instances_have_two_weak_topics_at_least():
    one = {"n_weak_reachable": 1, "most": 1, "greedy": 1.0, "optimal": 1.0}
    rows = [{"guarantee": one, "guarantee_use": one | {"n_weak_reachable": 3}}]
    scaled = [{"weak": 5, "most": 2, "greedy": 2.0, "optimal": 1.0}]
    assert [(row["n"], row["harmonic"]) for row in evidence.instances(rows, scaled)] == [(3, 1.0), (5, 1.5)]


def test_what_cannot_be_reached_need_not_be_covered():
    arms = {PLANNER: {"coverage": 0.9}}
    assert evidence.covered([{"n_weak": 20, "unreachable": 2, "arms": arms}]) == [1.0]
    assert evidence.covered([{"n_weak": 20, "unreachable": 1, "arms": arms}]) == [18 / 19]
    assert evidence.covered([{"n_weak": 2, "unreachable": 2, "arms": arms}]) == [], "nothing in reach"


# --- sessions and conversations ---------------------------------------------------------------------------------------


def remembered(kept, wiped, wasted=2.0, covers=0.5):
    rng = np.random.default_rng(2)
    rows = []
    for _ in range(70):
        f1 = {"kept": kept, "wiped": wiped, "another's": wiped, "frozen": wiped}
        waste = {"kept": wasted, "wiped": 6.0, "frozen": 6.0, "another's": 6.0}
        rows.append(
            {
                "f1": {state: [0.9, spread(rng, value)] for state, value in f1.items()},
                "wasted": {state: [0, spread(rng, value)] for state, value in waste.items()},
                "planned": {state: [9, 20 + spread(rng, 0)] for state in f1},
                "coverage_true": {s: [0.1, spread(rng, covers if s == "kept" else 0.5)] for s in f1},
            }
        )
    return evidence.sessions(rows)


def test_the_last_session_judges_a_state():
    assert set(states(remembered(0.8, 0.5)).values()) == {"met"}
    assert set(states(remembered(0.5, 0.5, wasted=6.0)).values()) == {"not_met"}
    assert states(remembered(0.8, 0.5, covers=0.3))["C1.wastes_less"] == "open", "who plans nothing wastes nothing"
    assert states(remembered(0.95, 0.94))["C1.finds_more"] == "void", "not even an F1 of 1 would be a tenth more"


def talk(**of):
    return {
        "visited": ["diagnostician", "planner", "tutor", "learner"],
        "ended": True,
        "has_plan": True,
        "resumed_equal": True,
        "unsaved_equal": False,
        "kept": True,
        "not_kept": False,
        "edges": 10,
        "edges_in_graph": 10,
        "shuffled_edges": 10,
        "shuffled_in_graph": 2,
    } | of


def test_every_conversation_counts():
    assert set(states(evidence.conversations([talk() for _ in range(20)])).values()) == {"met"}
    silent = talk(has_plan=False, visited=["diagnostician"], edges=0, edges_in_graph=0)
    assert set(states(evidence.conversations([talk(), silent])).values()) == {"met"}, "nothing weak, nothing to teach"
    for wrong, part in (
        ({"visited": ["planner", "diagnostician", "tutor"]}, "C2.all_three"),
        ({"kept": False}, "C2.persistent"),
        ({"resumed_equal": False}, "C2.resumed"),
        ({"edges_in_graph": 9}, "C16.traced"),
    ):
        told = states(evidence.conversations([*(talk() for _ in range(20)), talk(**wrong)]))
        assert [name for name, state in told.items() if state != "met"] == [part]


# --- prompts ----------------------------------------------------------------------------------------------------------


def prompted(prompt=0.25, easy=0.2, f1=0.4, weak=0.35):
    rng = np.random.default_rng(3)
    plans = {PLANNER: {"sim_order": 0.6, "coverage_true": 0.9}, FREE: {"sim_order": prompt, "coverage_true": 0.2}}
    plans |= {CHOICE: plans[FREE], RANDOM: {"sim_order": easy, "coverage_true": 0.15}}
    plans |= {EVERYTHING: {"sim_order": 0.9}, LIST: {"coverage_true": 0.9, "cost_true": 50.0}}
    found = {"graph": (0.8, 0.1), "prior": (0.5, 0.29), "all weak": (weak, 0.5)}
    found |= {way: (f1, 0.3) for way in evidence.ASKED[:2]}
    return [
        {
            "profile": PROFILES[i % 6],
            "facts_match": True,
            "facts_other": False,
            "plans": {way: score(rng, **of) for way, of in plans.items()},
            "diagnoses": {
                way: {"f1": spread(rng, f), "f1_asked": spread(rng, f), "brier": spread(rng, brier)}
                for way, (f, brier) in found.items()
            },
        }
        for i in range(48)
    ]


def test_prompts_that_are_worse():
    told = states(evidence.prompts(prompted()))
    assert set(told.values()) == {"met"}, told


def test_prompts_that_are_as_good():
    told = states(evidence.prompts(prompted(prompt=0.6, f1=0.8)))
    failed = {"C5.free_below", "C5.choice_below", "C9.all_topics", "C9.asked_topics"}
    assert {told[part] for part in failed} == {"not_met"}
    assert told["C5.in_every_profile"] != "met" and told["C9.in_every_profile"] != "met"


def test_a_prompt_that_loses_to_doing_nothing_says_nothing():
    told = states(evidence.prompts(prompted(prompt=0.1, easy=0.4, f1=0.2, weak=0.6)))
    assert told["C5.free_below"] == told["C9.all_topics"] == told["C9.in_every_profile"] == "void"


def test_one_profile_behind_is_not_consistent():
    rows = prompted()
    for row in rows:
        if row["profile"] == "gappy":
            row["plans"][FREE]["sim_order"] = 0.9
    assert evidence.prompts(rows)["C5"].parts["in_every_profile"].agree == 5
    assert states(evidence.prompts(rows))["C5.in_every_profile"] != "met"


# --- retrieval --------------------------------------------------------------------------------------------------------

STAGES = ("dual", "rerank", "fresh", "fused", "fused, no graph", "best", "bm25", "random", "untrained", "fixed")


def trainings(ranks, sure=0.85, raw=0.4):
    """Two trainings, 80 sections of two queries; ``ranks``: the place of the right card by stage, others tenth."""
    rng, n = np.random.default_rng(4), 160
    place = {stage: [max(1, ranks.get(stage, 9) + int(rng.integers(0, 2))) for _ in range(n)] for stage in STAGES}
    right = (rng.random(n) < 0.9).tolist()
    stated = {"fused": [sure] * n, "raw": [raw] * n, "fixed": [0.5] * n, "dual": [0.5] * n, "rerank": [0.5] * n}
    row = {
        "sections": [f"s{i // 2}" for i in range(n)],
        "ranks": place,
        "stated": stated,
        "right": dict.fromkeys(stated, right),
        "brier": {"fused": (0.02 + 0.01 * rng.random(n)).tolist(), "base": (0.06 + 0.01 * rng.random(n)).tolist()},
    }
    return [row, row]


def test_stages_that_each_help_and_stages_that_do_not():
    told = states(evidence.retrieval(trainings({"dual": 6, "rerank": 3, "fused": 1, "best": 1, "fused, no graph": 3})))
    assert set(told.values()) == {"met"}, told
    told = states(evidence.retrieval(trainings({"dual": 3, "rerank": 6, "fused": 3, "best": 1, "fused, no graph": 3})))
    assert {told[f"C19.{part}"] for part in ("reranking_helps", "fusion_helps", "graph_helps")} == {"not_met"}


def test_calibration_is_a_ratio_of_errors():
    assert states(evidence.retrieval(trainings({"best": 1}, sure=0.6, raw=0.7)))["C3.calibrated"] == "not_met"


def test_sections_weigh_alike():
    rows = [{"sections": ["a", "a", "a", "b"], "ranks": {"dual": [1, 1, 1, 99]}}]
    assert evidence.ndcg(rows, "dual").tolist() == [1.0, 0.0]


# --- a reader's own files ---------------------------------------------------------------------------------------------

TOPICS = "id,name\na,Adding\nb,Multiplying\nc,Dividing\n"
EDGES = "prerequisite,topic\na,b\nb,c\n"
ANSWERS = "student,topic,correct\nAnn,a,1\nAnn,a,1\nAnn,a,1\nAnn,b,0\nAnn,c,0\nAnn,c,0\n"


def test_a_profile_of_one_learner_says_nothing():
    ahead = np.ones(3)
    assert evidence.by_profile(np.array([0, 1, 1]), ahead).n == 1
    assert evidence.by_profile(np.array([0, 1, 2]), ahead) is None


RATINGS = "student,plan,rater,score\nAnn,planner,Bo,4.5\nAnn,closed,Bo,4\n"


def given(folder, **of):
    """Parameters that name the files of a folder, some with another text."""
    texts = {"topics": TOPICS, "edges": EDGES, "answers": ANSWERS, "ratings": RATINGS} | of
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return {name: str(folder / f"{name}.csv") for name in texts} | {"models": "", "text": ""}


def test_own_files_make_a_course_and_learners(tmp_path):
    own = own_files.load(given(tmp_path))
    (ann,) = own.students
    assert own.course.graph.edges == [(0, 1), (1, 2)] and ann.answers == ((1, 1, 1), (0,), (0, 0))
    assert own_files.plans(own.course, ann)["closed"] == (1, 2) and len(own.ratings) == 2


def test_the_example_is_read_where_nothing_is_given():
    own = own_files.load(dict.fromkeys(own_files.FILES, ""))
    assert len(own.students) == own_files.STUDENTS and {rating.plan for rating in own.ratings} == set(own_files.WAYS)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("topics", "id,name\na,A\na,B\n", "line 3: the id 'a' stands twice"),
        ("topics", "id,name\na,A\nA,B\n", "line 3: the id 'A' stands twice"),
        ("topics", "name\nA\n", "no column id"),
        ("topics", "id,name\n", "no rows"),
        ("edges", EDGES + "c,a\n", "circle: a → b → c → a"),
        ("edges", EDGES + "a,z\n", "line 4: the topic 'z' is not among the topics"),
        ("edges", "from,to\na,b\n", "no column prerequisite, topic"),
        ("answers", "student,topic,correct\nAnn,a,yes\n", "line 2: correct must be 0 or 1, not 'yes'"),
        ("answers", "student,topic,correct\nAnn,a\n", "line 2: 2 cells under 3 columns"),
        ("answers", "student,topic,correct\nAnn,q,1\n", "the topic 'q' is not among"),
        ("ratings", "student,plan,rater,score\nBob,planner,Bo,1\n", "no answers of student 'Bob'"),
        ("ratings", "student,plan,rater,score\nAnn,mine,Bo,1\n", "no plan 'mine'; rate planner, closed"),
        ("ratings", RATINGS + "ann, Planner,bo,2\n", "line 4: bo rates this plan of Ann twice"),
        ("ratings", "student,plan,rater,score\nAnn,planner,Bo,good\n", "score must be a number, not 'good'"),
        ("ratings", "student,plan,rater,score\nAnn,planner,Bo,nan\n", "score must be a number, not 'nan'"),
        ("ratings", "student,plan,rater,score\nAnn,planner,Bo,1e400\n", "score must be a number, not '1e400'"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, name, text, said):
    with pytest.raises(ClaimbookError) as error:
        inputs.check(given(tmp_path, **{name: text}))
    assert said in str(error.value) and "\n" not in str(error.value) and name in str(error.value)


def test_names_that_differ_in_case_or_spaces_are_one(tmp_path):
    answers = ANSWERS.replace("Ann,b", "ANN , B").replace("Ann,c,0\nAnn,c,0", "Ann,c,0\nann,C,1")
    own = own_files.load(given(tmp_path, edges=EDGES.upper().replace("A,B", " A,b"), answers=answers))
    assert own.course.ids == ("a", "b", "c") and own.course.graph.edges == [(0, 1), (1, 2)]
    (ann,) = own.students
    assert ann.name == "Ann" and ann.answers == ((1, 1, 1), (0,), (0, 1))


def test_two_pupils_stay_two(tmp_path):
    """Weiß and Weiss are not spellings of one name, nor is what folding of case makes of other letters."""
    answers = "student,topic,correct\nWei\u00df,a,1\nWeiss,a,0\n"
    own = own_files.load(given(tmp_path, answers=answers, ratings="student,plan,rater,score\nWeiss,closed,Bo,1\n"))
    assert [student.name for student in own.students] == ["Wei\u00df", "Weiss"]


def test_an_accent_is_one_character_or_two(tmp_path):
    """As a Mac writes it beside what a spreadsheet writes; refused, the two would look the same."""
    one, two = "alg\u00e8bre", "alge\u0300bre"
    texts = (text.replace("a,", f"{name},") for text, name in ((TOPICS, one), (EDGES, two), (ANSWERS, two)))
    own = own_files.load(given(tmp_path, **dict(zip(("topics", "edges", "answers"), texts, strict=True))))
    assert own.course.ids[0] == one and own.students[0].answers == ((1, 1, 1), (0,), (0, 0))


def test_a_long_circle_is_named_in_short(tmp_path):
    ids = [f"t{i}" for i in range(3000)]
    edges = [f"{u},{v}" for u, v in zip(ids, ids[1:] + ids[:1], strict=True)]
    texts = {"topics": "\n".join(["id", *ids]), "edges": "\n".join(["prerequisite,topic", *edges])}
    with pytest.raises(ClaimbookError, match="and 2981 more; leave one of these edges out") as error:
        own_files.load(given(tmp_path, **texts))
    assert len(str(error.value)) < 500


def test_files_that_are_missing_and_models_that_are_several(tmp_path):
    with pytest.raises(ClaimbookError, match="edges needs topics, answers too"):
        inputs.check(dict.fromkeys(own_files.FILES, "") | {"edges": str(tmp_path), "models": "", "text": ""})
    with pytest.raises(ClaimbookError, match=r"no file .*none.csv': give a CSV or JSON file with id"):
        inputs.check(given(tmp_path) | {"topics": str(tmp_path / "none.csv")})
    with pytest.raises(ClaimbookError, match="one model at a time"):
        inputs.check(dict.fromkeys(own_files.FILES, "") | {"models": "a,b"})
    with pytest.raises(ClaimbookError, match="graphmasal reads no text"):
        inputs.check(given(tmp_path) | {"text": "wikipedia-excerpt"})


def test_tables_are_read_as_spreadsheets_and_scripts_write_them(tmp_path):
    """What the one reader of tables takes as meant is tried in test_grocery_files.py; here, that it is asked."""
    files = given(tmp_path, edges="\ufeff" + EDGES.replace(",", ";").replace("topic", " Topic "))
    own = own_files.load(files)
    assert own.course.graph.edges == [(0, 1), (1, 2)]
    rows = [line.split(",") for line in ANSWERS.split()[1:]]
    rows = [{"student": student, "topic": topic, "correct": int(correct)} for student, topic, correct in rows]
    (tmp_path / "answers.csv").write_text(json.dumps(rows), encoding="utf-16")
    (again,) = own_files.load(files).students
    assert again.answers == own.students[0].answers


# --- figures ----------------------------------------------------------------------------------------------------------


def test_titles_state_what_was_drawn():
    rows = planned()
    assert "20 % lacks a prerequisite" in figures.hero(rows).title
    assert "lacks" not in figures.worth(rows).title
    assert "nDCG@10 of" in figures.stages(trainings({"dual": 6, "rerank": 3, "fused": 1})).title
    assert figures.stages([]).title == "", "nothing is said of what was not measured"
    told = figures.aligned({"small": prompted()}).title
    assert "planner 0.6" in told and "small, " in told


def test_the_text_takes_its_numbers_from_rows():
    rows = [row | {"reply": "Adding\nDividing\n", "student": "Ann"} for row in prompted()]
    texts = said.of_prompts({"small": rows})
    assert "small reaches 0.2" in texts["answer_prompts"] and "planner 0.6" in texts["answer_prompts"]
    assert texts["reply"] == "Adding / Dividing" and texts["n_prompted"] == "48"
    assert said.of_prompts({})["n_prompted"] is None
    assert said.of_talks([talk(edges_of_sequence=3, steps_of_sequence=12)])["in_sequence"] == "25"
    assert said.quality(trainings({"dual": 1}), "dual")[2] == "1.000"
    assert said.of_stages([])["ndcg_dual"] is None
    assert said.in_percent([0.25, float("nan")]) == "25" and said.in_percent([]) == ""
