"""Learning paths: the planner against networkx and brute force, simulated learners, diagnosis against enumeration."""

import itertools
import math
from dataclasses import asdict, replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from claimbook.assets import catalogue
from claimbook.experiments.graphmasal import diagnosis, learners, topics
from claimbook.experiments.graphmasal.diagnosis import Fit
from claimbook.experiments.graphmasal.learners import Student
from claimbook.experiments.graphmasal.measure import classes, diagnosed, edges, planning, real, scale, sessions
from claimbook.papers import graphmasal as method
from claimbook.papers.graphmasal import Graph

pytestmark = pytest.mark.numeric
DIAMOND = Graph.of(5, [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)])  # 3 needs both 1 and 2


@st.composite
def graphs(draw, most=8):
    """Small graphs without circles, whose topics are numbered in no special order."""
    n = draw(st.integers(2, most))
    name = draw(st.permutations(range(n)))
    pairs = [(u, v) for u in range(n) for v in range(u + 1, n)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=2 * n))
    return Graph.of(n, [(name[u], name[v]) for u, v in chosen])


@st.composite
def learning(draw, most=8):
    """A graph, mastery that is sure of some topics and not of others, and weak topics."""
    graph = draw(graphs(most))
    mastery = np.array(draw(st.lists(st.sampled_from([0.1, 0.3, 0.6, 0.9]), min_size=len(graph), max_size=len(graph))))
    return graph, mastery, [v for v in range(len(graph)) if mastery[v] <= method.WEAK]


def as_networkx(graph: Graph) -> nx.DiGraph:
    there = nx.DiGraph(graph.edges)
    there.add_nodes_from(range(len(graph)))
    return there


# --- the graph --------------------------------------------------------------------------------------------------------


@given(graphs())
def test_graph_agrees_with_networkx(graph):
    there = as_networkx(graph)
    assert list(graph.order) == list(nx.lexicographical_topological_sort(there))
    for v in range(len(graph)):
        assert set(np.flatnonzero(graph.ancestors[v])) == nx.ancestors(there, v)
        longest = nx.dag_longest_path_length(there.subgraph(nx.ancestors(there, v) | {v}))
        assert graph.depth[v] == longest
        assert set(graph.children[v]) == set(there.successors(v))
    assert set(graph.reduced().edges) == set(nx.transitive_reduction(there).edges)


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match=r"circle through \[1, 2\]"):
        Graph.of(3, [(0, 1), (1, 2), (2, 1)])
    with pytest.raises(ValueError, match="numbered 0 to 2"):
        Graph.of(3, [(0, 3)])


# --- the planner ------------------------------------------------------------------------------------------------------


@given(learning())
def test_candidate_paths_are_cheapest(case):
    graph, mastery, weak = case
    costs, sources = method.cost(graph, mastery), np.flatnonzero(mastery >= method.KNOWN)
    there = nx.DiGraph()
    there.add_weighted_edges_from((u, v, costs[v]) for u, v in graph.edges)
    there.add_nodes_from(range(len(graph)))
    found = method.candidate_paths(graph, costs, sources, weak)
    expected = {(s, w) for s in sources for w in weak if nx.has_path(there, s, w)}
    assert set(found) == expected
    for (source, sink), path in found.items():
        assert path[0] == source and path[-1] == sink and set(itertools.pairwise(path)) <= set(graph.edges)
        assert method.path_cost(path, costs) == pytest.approx(nx.dijkstra_path_length(there, source, sink))


@st.composite
def covers(draw):
    """Rows that cover some of up to five columns, at prices."""
    rows = draw(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=7))
    price = draw(st.lists(st.floats(0.1, 10), min_size=len(rows), max_size=len(rows)))
    return np.array(rows), np.array(price)


@given(covers())
def test_greedy_keeps_its_bound_and_the_optimum_is_one(case):
    cover, price = case
    reachable = cover.any(axis=0)
    subsets = [list(s) for k in range(len(cover) + 1) for s in itertools.combinations(range(len(cover)), k)]
    least = min(price[s].sum() for s in subsets if (cover[s].any(axis=0) == reachable).all())
    best, greedy = method.optimal_cover(cover, price), method.greedy_cover(cover, price)
    assert price[best].sum() == pytest.approx(least)
    assert (cover[best].any(axis=0) == reachable).all() and (cover[greedy].any(axis=0) == reachable).all()
    most = int(cover.sum(axis=1).max())
    assert price[greedy].sum() <= method.harmonic(most) * least * (1 + 1e-9)
    if most:
        assert method.harmonic(most) <= 1 + math.log(most) + 1e-12
    assert (cover[method.greedy_cover(cover, price, "coverage")].any(axis=0) == reachable).all()


def test_greedy_takes_what_covers_most_for_its_price():
    cover = np.array([[1, 1, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]], dtype=bool)
    assert method.greedy_cover(cover, np.array([1.0, 1.0, 3.0])) == [0, 1]
    assert method.greedy_cover(cover, np.array([1.0, 1.0, 3.0]), "coverage") == [2]
    with pytest.raises(ValueError, match="cost-effectiveness or coverage"):
        method.greedy_cover(cover, np.ones(3), "other")


def test_families_reach_the_bound_and_break_the_other_rule():
    for row in scale.tight():
        assert row["ratio"] == pytest.approx(row["bound"] / 1.01)
    for row in scale.trap():
        assert row["greedy"] == pytest.approx(row["optimal"])
        assert row["coverage_rule"] > (1 + math.log(row["n"])) * row["optimal"]


@given(learning(7))
def test_optimal_union_agrees_with_brute_force(case):
    graph, mastery, weak = case
    costs, sources = method.cost(graph, mastery), set(np.flatnonzero(mastery >= method.KNOWN).tolist())
    there = as_networkx(graph)
    reachable = [w for w in weak if any(nx.has_path(there, s, w) for s in sources)]
    others = [v for v in range(len(graph)) if v not in sources]

    def joins(chosen) -> bool:
        part = there.subgraph(set(chosen) | sources)
        return all(w in part and any(nx.has_path(part, s, w) for s in sources) for w in reachable)

    subsets = [s for k in range(len(others) + 1) for s in itertools.combinations(others, k)]
    least = min(costs[list(s)].sum() for s in subsets if joins(s))
    found = method.optimal_union(graph, costs, sorted(sources), weak)
    assert joins(found) and costs[found].sum() == pytest.approx(least)


@given(learning(), st.sampled_from(["cost-effectiveness", "coverage", "optimal", "separate"]))
def test_plans_cover_what_can_be_reached_in_order(case, choose):
    graph, mastery, weak = case
    made = method.plan(graph, mastery, weak, choose=choose)
    there = as_networkx(graph)
    sources = np.flatnonzero(mastery >= method.KNOWN)
    reachable = {w for w in weak if any(nx.has_path(there, s, w) for s in sources)}
    assert set(made.sequence) & set(weak) == reachable
    assert not weak or method.coverage(made.sequence, weak) == len(reachable) / len(weak)
    assert all(mastery[v] < method.KNOWN for v in made.sequence)
    place = {v: i for i, v in enumerate(made.sequence)}
    assert all(place[u] < place[v] for u, v in graph.edges if u in place and v in place)
    assert set(made.sequence) == {v for path in made.paths for v in path if mastery[v] < method.KNOWN}


@given(learning())
def test_closed_plans_leave_nothing_unmet(case):
    graph, mastery, weak = case
    closed = method.closed_plan(graph, mastery, weak).sequence
    assert set(weak) <= set(closed)
    assert set(method.plan(graph, mastery, weak).sequence) <= set(closed)
    # a topic taken as known may itself lack something: then what needs it alone is met
    assert not method.unmet(graph, closed, mastery >= method.KNOWN).any()


def test_a_path_leaves_one_of_two_prerequisites_out():
    mastery = np.array([0.9, 0.1, 0.1, 0.1, 0.1])
    made = method.plan(DIAMOND, mastery, [4])
    assert len(made.paths) == 1 and len(made.sequence) == 3
    assert method.unmet(DIAMOND, made.sequence, mastery > 0.5).tolist() == [False, True, False]
    assert method.closed_plan(DIAMOND, mastery, [4]).sequence == (1, 2, 3, 4)
    assert method.unmet(DIAMOND, (4, 3, 2, 1), mastery > 0.5).tolist() == [True, True, False, False]


def test_what_no_source_leads_to_is_not_covered():
    graph = Graph.of(3, [(0, 1)])
    assert method.coverage(method.plan(graph, np.array([0.9, 0.1, 0.1]), [1, 2]).sequence, [1, 2]) == 0.5
    assert method.plan(graph, np.zeros(3), [1, 2]) == method.Plan(())
    assert method.optimal_union(graph, np.ones(3), [], [1]) == []


def test_cost_by_hand_and_both_signs():
    mastery = np.array([1.0, 0.5, 0.0, 0.0, 0.0])
    load, use = (method.cost(DIAMOND, mastery, fan=fan) for fan in ("load", "use"))
    assert load[1] == pytest.approx(0.5 * 0.5 + 0.3 * 1 / 4 + 0.2 * 1 / 2)
    assert use[0] == pytest.approx(method.LEAST_COST)  # known, a beginning, and the most used: free, but for the least
    assert use[4] == pytest.approx(0.5 + 0.3 + 0.2)
    assert load[0] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="load or use"):
        method.cost(DIAMOND, mastery, fan="other")


sequences = st.lists(st.integers(0, 6), unique=True, max_size=6)


@given(sequences, sequences)
def test_path_sim_is_a_similarity(p, q):
    there = method.path_sim(p, q)
    assert 0 <= there <= 1 + 1e-12 and there == pytest.approx(method.path_sim(q, p))
    assert (there == pytest.approx(1)) == (p == q)
    if p:
        assert method.path_sim(p, []) == 0

    def distance(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))

    assert method.edits(p, q) == distance(p[:4], q[:4]) if max(len(p), len(q)) <= 4 else True


def test_path_sim_by_hand():
    # topics 2 of 4, pairs 1 of 3, one substitution and one insertion in a length of 4
    assert method.path_sim([0, 1, 2], [0, 1, 3, 4]) == pytest.approx(0.4 * 2 / 5 + 0.3 * 1 / 4 + 0.3 * (1 - 2 / 4))


# --- the library's topics ---------------------------------------------------------------------------------------------

LIBRARY = """
$(
####
  BEGINNINGS
####
$)
$(
#*#*
  Logic
#*#*
How to reason.  See [Frege] p. 26 and ~ ax-1 .
$)
$(
=-=-
  Axioms
=-=-
$)
  $( An axiom that says ` ph ` .  (Contributed by NM, 1-Jan-1990.) $)
  ax-1 $a |- ph $.
  wi $a wff ( ph -> ps ) $.
  $( First. $)
  one $p |- ph $= ( wi ax-1 ) ABC $.
$(
#*#*
  SETS
#*#*
$)
  $( Second. $)
  two $p |- ps $= ( one wi ) AB $.
  $( Third. $)
  three $p |- ch $= ( two ) A $.
$(
####
  GUIDES AND MISCELLANEA
####
$)
  $( Not of the course. $)
  four $p |- ch $= ( two ) A $.
"""


def test_topics_are_read_off_the_library():
    found = topics.headings(LIBRARY)
    assert topics.names(found["topics"]) == ["Logic", "Sets"]
    assert topics.names(found["sections"]) == ["Axioms", "Sets"]
    assert found["topics"][0].text == "How to reason. See and ax-1."
    assert [label for label, _, _ in found["topics"][1].theorems] == ["two", "three"]
    assert found["topics"][0].theorems[0][1] == "An axiom that says ph."
    assert topics.citations(found["topics"]) == []  # one theorem alone cites the topic before
    both = [replace(found["topics"][1], theorems=[("two", "", {"one"}), ("three", "", {"one", "two"})])]
    assert topics.citations([found["topics"][0], *both]) == [(0, 1, 1.0)]


def test_equal_titles_are_told_apart():
    twice = [topics.Heading(title, "") for title in ("Examples", "Sets", "Examples")]
    assert topics.names(twice) == ["Examples (1)", "Sets", "Examples (2)"]


@pytest.mark.parametrize("level, size", [("topics", 93), ("sections", 661)])
def test_stored_topics(level, size):
    course = topics.load(level)
    assert len(course.ids) == len(set(course.ids)) == len(set(course.names)) == len(course.graph) == size
    assert all(u < v for u, v in course.graph.edges)  # proofs cite what came before
    assert course.graph.order == tuple(range(size))
    assert course.graph.reduced().edges == course.graph.edges
    assert course.at(course.ids[3], course.ids[1]) == [3, 1]
    with pytest.raises(ValueError, match="at least 2%"):
        topics.load(level, 0.01)
    ids = set(course.ids)
    assert {row[level[:-1]] for row in topics.comments()} <= ids


# --- learners ---------------------------------------------------------------------------------------------------------


def test_students_know_what_they_need_but_for_holes(monkeypatch):
    course = topics.load("topics")
    monkeypatch.setattr(learners, "PROFILES", {"sure": learners.Profile(0.5, holes=0.0)})
    for student in learners.cohort(course, 6, 3):
        needed = course.graph.ancestors[np.flatnonzero(student.known)].any(axis=0)
        assert (student.known | ~needed).all()
        assert set(student.goals) <= set(student.relevant) and set(student.asked) <= set(student.relevant)
        assert 0 < student.known[list(student.relevant)].mean() <= 0.5
        assert student.known.sum() == student.known[list(student.relevant)].sum()


def test_cohorts_are_repeatable_and_diverse():
    course = topics.load("topics")
    few, many = learners.cohort(course, 6, 0), learners.cohort(course, 12, 0)
    assert [s.answers for s in few] == [s.answers for s in many[:6]]
    assert {s.profile for s in few} == set(learners.PROFILES)
    assert few[0].answers != learners.cohort(course, 1, 1)[0].answers
    other = learners.another(few[0], course.graph, np.random.default_rng(0))
    assert other.goals == few[0].goals and other.asked == few[0].asked and (other.known != few[0].known).any()
    again = learners.retested(few[0], course.graph, np.random.default_rng(0))
    assert (again.known == few[0].known).all() and again.answers != few[0].answers


def test_answers_follow_what_is_known():
    rng, known = np.random.default_rng(0), np.array([True, True, False, False, False])

    def share(topic, known):
        return np.mean(np.concatenate([learners._answers(topic, known, DIAMOND, rng) for _ in range(2000)]))

    assert [share(v, known) for v in range(4)] == pytest.approx([0.9, 0.9, 0.2, 0.2], abs=0.025)
    lapsed = np.array([False, True, False, False, False])  # half of the items of 1 need 0 too
    assert share(1, lapsed) == pytest.approx((0.9 + 0.2) / 2, abs=0.03)


def test_studying_by_three_rules():
    known = np.array([True, False, False, False, False])
    assert learners.study(DIAMOND, known, [1, 3, 4], "all").tolist() == [True, True, False, False, False]
    assert learners.study(DIAMOND, known, [1, 3, 4], "any").tolist() == [True, True, False, True, True]
    assert learners.study(DIAMOND, known, [4, 3, 1], "any").tolist() == [True, True, False, False, False]
    assert learners.study(DIAMOND, known, [1, 2, 3, 4], "all").all()
    half = [learners.study(DIAMOND, known, [1, 3], "share", seed)[3] for seed in range(400)]
    assert np.mean(half) == pytest.approx(0.5, abs=0.08)
    assert known.tolist() == [True, False, False, False, False]
    assert learners.study(DIAMOND, np.zeros(5, bool), [0], "all")[0]
    with pytest.raises(ValueError, match="all, any or share"):
        learners.study(DIAMOND, known, [], "other")


# --- diagnosis --------------------------------------------------------------------------------------------------------


def exact(graph: Graph, seen: np.ndarray, fit: Fit) -> np.ndarray:
    """P(known | evidence) by enumeration of all states."""
    total, sums = 0.0, np.zeros(len(graph))
    for state in itertools.product([False, True], repeat=len(graph)):
        weight = 1.0
        for v, parents in enumerate(graph.parents):
            chance = fit.above if all(state[u] for u in parents) else fit.below
            weight *= (chance if state[v] else 1 - chance) * (math.exp(seen[v]) if state[v] else 1.0)
        total, sums = total + weight, sums + weight * np.array(state)
    return sums / total


@settings(max_examples=12, deadline=None)
@given(graphs(6), st.lists(st.sampled_from([-3.0, 0.0, 0.0, 2.0]), min_size=6, max_size=6))
def test_graph_posterior_agrees_with_enumeration(graph, seen):
    seen, fit = np.array(seen[: len(graph)]), Fit(above=0.8, below=0.15)
    found = np.mean([diagnosis.by_graph(graph, seen, range(len(graph)), fit, seed) for seed in range(8)], axis=0)
    assert found == pytest.approx(exact(graph, seen, fit), abs=0.05)


@given(graphs())
def test_topics_drawn_at_once_do_not_touch(graph):
    groups = diagnosis._independent(graph, np.arange(len(graph)))
    assert sorted(v for group in groups for v in group.topics) == list(range(len(graph)))
    for group in groups:
        for u, v in itertools.combinations(group.topics.tolist(), 2):
            assert u not in graph.parents[v] and v not in graph.parents[u]
            assert not set(graph.children[u]) & set(graph.children[v])


def student(known, asked, answers, relevant=None, graph=DIAMOND) -> Student:
    relevant = tuple(range(len(graph))) if relevant is None else relevant
    return Student("novice 0", "novice", np.array(known), (relevant[-1],), relevant, asked, answers)


def test_evidence_and_simple_diagnoses_by_hand():
    fit = Fit(known=0.5, slip=0.1, guess=0.2)
    one = student([True] * 5, (1, 3), ((1, 1), (0, 1)))
    seen = diagnosis.evidence(5, one, fit)
    assert seen[[0, 2, 4]].tolist() == [0, 0, 0]
    assert math.exp(seen[1]) == pytest.approx((0.9 / 0.2) ** 2)
    assert math.exp(seen[3]) == pytest.approx(0.9 / 0.2 * 0.1 / 0.8)
    topic = diagnosis.mastery("topic", DIAMOND, one, fit)
    assert topic[1] == pytest.approx(0.81 / (0.81 + 0.04)) and topic[0] == 0.5
    assert diagnosis.mastery("topic, rest weak", DIAMOND, one, fit)[[0, 1]].tolist() == [0, topic[1]]
    assert diagnosis.mastery("mean score", DIAMOND, one, fit).tolist() == [0.75, 1, 0.75, 0.5, 0.75]
    assert diagnosis.mastery("all weak", DIAMOND, one, fit).tolist() == [0] * 5
    prior, graph = (diagnosis.mastery(name, DIAMOND, one, fit) for name in ("prior", "graph"))
    assert graph[0] > prior[0]  # what the answers to 1 say of 0, which it needs
    assert diagnosis.weak(one, topic) == (3,) or topic[3] > 0.5
    assert diagnosis.weak(one, np.array([0, 0, 0, 1, 1.0]), "all") == (0, 1, 2)
    assert diagnosis.weak(one, np.array([0, 0, 0, 1, 1.0]), "asked") == (1,)
    with pytest.raises(ValueError, match="asked or all"):
        diagnosis.weak(one, topic, "other")


def test_equal_evidence_is_diagnosed_alike():
    seen = np.array([0.0, 1.5, 0, -1, 0])
    found = diagnosis.by_graph(DIAMOND, np.array([seen, -seen, seen]), [0, 1, 2, 3], Fit(known=0.4))
    assert (found[0] == found[2]).all() and (found[0] != found[1]).any()
    assert (found[:, 4] == 0.4).all()


def test_fit_finds_rates_without_the_truth():
    chain, rng = Graph.of(6, itertools.pairwise(range(6))), np.random.default_rng(1)
    true = Fit(0.5, 0.1, 0.2, 0.85, 0.1)
    made = []
    for _ in range(300):
        known = np.zeros(6, dtype=bool)
        for v in range(6):
            known[v] = rng.random() < (true.above if all(known[u] for u in chain.parents[v]) else true.below)
        right = np.where(known, 1 - true.slip, true.guess)
        made.append(student(known, tuple(range(6)), tuple((rng.random(4) < p).astype(int) for p in right), graph=chain))
    found = diagnosis.fit(chain, made)
    for name in ("slip", "guess", "above", "below"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), abs=0.05), name
    oracle = diagnosis.true_rates(chain, made)
    assert (oracle.slip, oracle.guess) == pytest.approx((0.1, 0.2)) and oracle.above == pytest.approx(0.85, abs=0.04)


def test_agreement_by_hand():
    taken, true = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert diagnosed.agreement(taken, true) == (0.5, 0.5, 0.5)
    assert diagnosed.agreement(taken & False, true) == (1, 0, 0)
    assert diagnosed.agreement(taken & False, true & False) == (1, 1, 1)
    found = diagnosed.found(student([True, False, False, True, True], (1, 3), ()), np.array([0.9, 0.4, 0.8, 0.2, 1.0]))
    assert (found.precision, found.recall, found.f1_asked) == (0.5, 0.5, 2 / 3)
    assert found.brier == pytest.approx((0.01 + 0.16 + 0.64 + 0.64 + 0) / 5)


# --- rows -------------------------------------------------------------------------------------------------------------

CONFIG = {"level": "topics", "n_students": 2, "seed": 0, "sinks": "asked", "n_sessions": 3, "shares": [0.05]}


def test_score_by_hand():
    one = student([True, False, False, False, False], (1, 4), ((0,), (0,)))
    mastery = np.array([0.9, 0.1, 0.1, 0.1, 0.1])
    path = planning.score(DIAMOND, one, mastery, (1, 4), (1, 3, 4))
    assert (path.length, path.wasted, path.weak_true, path.coverage, path.coverage_true) == (3, 0, 2, 1, 1)
    assert path.unmet == path.unmet_believed == pytest.approx(1 / 3, abs=1e-5)
    assert (path.learned_all, path.learned_any, path.new_all, path.new_any) == (0.5, 1, 1, 3)
    assert path.cost == pytest.approx(method.cost(DIAMOND, mastery)[[1, 3, 4]].sum())
    assert path.cost_true == pytest.approx(method.cost(DIAMOND, planning.truth(one))[[1, 3, 4]].sum())
    assert path.sim_exact == 1 and path.sim_order == pytest.approx(method.path_sim((1, 3, 4), (1, 2, 3, 4)), abs=1e-5)
    closed = planning.score(DIAMOND, one, mastery, (1, 4), (1, 2, 3, 4))
    assert (closed.unmet, closed.learned_all, closed.goals, closed.sim_order) == (0, 1, 1, 1)
    nothing = planning.score(DIAMOND, one, mastery, (1, 4), ())
    assert math.isnan(nothing.unmet) and (nothing.coverage, nothing.learned_any, nothing.sim_order) == (0, 0, 0)
    again = planning.score(DIAMOND, one, mastery, (1, 4), (0, 1))
    assert again.wasted == 1 and again.new_all == 1


def test_planning_rows():
    row = asdict(planning.EXPERIMENT.now(None, CONFIG)[1])
    arms, kept, more = row["arms"], row["guarantee"], 1 + 1e-9
    assert kept["optimal"] <= kept["greedy"] * more <= method.harmonic(kept["most"]) * kept["optimal"] * more
    assert kept["union_optimal"] <= kept["union_greedy"] * more and kept["optimal"] <= kept["separate"] * more
    assert row["unreachable"] == row["n_weak"] - kept["n_weak_reachable"]
    assert arms["empty"]["coverage"] == 0 and math.isnan(arms["empty"]["unmet"])
    assert arms["everything"]["unmet"] == 0 and arms["everything"]["coverage_true"] == 1
    assert arms["closed, oracle mastery"]["unmet"] == 0 and arms["closed, oracle mastery"]["learned_all"] == 1
    assert arms["random order"]["length"] == arms["planner"]["length"] == arms["random topics"]["length"]
    assert arms["random order"]["cost"] == pytest.approx(arms["planner"]["cost"])
    assert arms["closed, same cost"]["cost"] <= arms["planner"]["cost"] + 1e-6
    assert arms["closed"]["unmet_believed"] == 0 and arms["weak only"]["coverage"] == 1
    assert arms["oracle mastery"]["wasted"] == 0
    assert row["list_other"] < row["list_retest"] <= 1 and row["sim_other"] < 1


def test_a_list_needs_no_graph():
    one = student([True] * 5, (1, 3, 4), ((0, 1), (1, 1), (0, 0)))
    assert planning.listed(DIAMOND, one) == (1, 4)
    assert math.isnan(planning._alike((), (1,))) and planning._alike((1,), (1,)) == 1


def test_rows_hang_on_the_seed_and_nothing_else():
    first, again = (planning.EXPERIMENT.now(None, CONFIG | {"n_students": 1})[0] for _ in range(2))
    assert first.arms["planner"] == again.arms["planner"] and first.sim_retest == again.sim_retest
    other = planning.EXPERIMENT.now(None, CONFIG | {"n_students": 1, "seed": 1})[0]
    assert other.arms["planner"] != first.arms["planner"]


@given(graphs())
def test_a_shuffled_graph_keeps_counts_and_depths(graph):
    wrong = planning.shuffled(graph, np.random.default_rng(0))
    assert wrong.depth == graph.depth
    for right, drawn in zip(graph.parents, wrong.parents, strict=True):
        assert sorted(graph.depth[u] for u in right) == sorted(graph.depth[u] for u in drawn)


@given(learning(), st.floats(0, 5))
def test_a_closed_plan_within_a_budget_is_closed(case, budget):
    graph, mastery, weak = case
    assume(weak)
    made = planning.closed_within(graph, mastery, weak, budget)
    assert not method.unmet(graph, made, mastery >= method.KNOWN).any()
    assert method.cost(graph, mastery)[list(made)].sum() <= budget + 1e-6
    assert planning.closed_within(graph, mastery, weak, 1e9) == method.closed_plan(graph, mastery, weak).sequence


def test_diagnosis_rows():
    row = diagnosed.EXPERIMENT.now(None, CONFIG)[0]
    assert set(row.methods) == {*diagnosis.METHODS, "another's answers", "true rates"}
    assert row.methods["all weak"].recall == 1 and row.methods["all weak"].precision == pytest.approx(row.weak)
    assert row.methods["graph"] != row.methods["prior"] != row.methods["another's answers"]


def test_sessions_begin_alike():
    row = sessions.EXPERIMENT.now(None, CONFIG | {"n_students": 1})[0]
    for of in (row.f1, row.brier, row.cost, row.wasted, row.planned, row.coverage_true):
        assert set(of) == set(sessions.STATES) and {len(values) for values in of.values()} == {3}
        assert len({values[0] for values in of.values()}) == 1
    assert row.brier["kept"][2] != row.brier["wiped"][2] != row.brier["frozen"][2]


def test_edges_and_scale_rows():
    row = edges.EXPERIMENT.now(None, CONFIG | {"n_students": 1})[0]
    same = planning.EXPERIMENT.now(None, CONFIG | {"n_students": 1})[0].arms
    assert (row.unmet, row.unmet_closed) == (same["planner"].unmet, same["closed"].unmet)
    assert (row.n_topics, row.n_edges) == (93, len(topics.load("topics").graph.edges))
    for row in scale.EXPERIMENT.now(None, {"graphs": ["topics", 200], "weak": [5], "n_each": 1, "seed": 0}):
        assert row.weak == 5 and row.optimal <= row.greedy <= method.harmonic(row.most) * row.optimal * (1 + 1e-9)


def test_the_diagnosis_is_fitted_to_other_students():
    config = CONFIG | {"n_students": 6}
    there, training = classes._training("topics", topics.SHARE, 0)
    answers = {s.answers for s in classes.students(None, config).values()}
    assert len(training) == classes.TRAINING and not answers & {s.answers for s in training}
    assert 0.05 < classes.fitted(config).slip < 0.2 and len(classes.average(config)) == len(there.graph)


# --- real answers -----------------------------------------------------------------------------------------------------


def test_rates_of_one_topic_are_found():
    rng = np.random.default_rng(0)
    knows, right, guess = rng.random(3000) < 0.6, np.linspace(0.7, 0.95, 10), np.linspace(0.1, 0.4, 10)
    solved = (rng.random((3000, 10)) < np.where(knows[:, None], right, guess)).astype(float)
    known, found_right, found_guess = real.rates(solved, apart=True)
    assert known == pytest.approx(0.6, abs=0.03)
    assert found_right == pytest.approx(right, abs=0.04) and found_guess == pytest.approx(guess, abs=0.05)
    _, same, _ = real.rates(solved, apart=False)
    assert np.ptp(same) == 0 and same[0] == pytest.approx(right.mean(), abs=0.04)


@pytest.mark.skipif(not catalogue.present("maths-test"), reason="`claimbook fetch maths-test`; see QUARANTINES.md")
def test_real_answers_are_foretold_from_others():
    solved = real.answers()
    assert solved.shape == (1008, 28) and set(np.unique(solved)) == {0, 1}
    rows = real.EXPERIMENT.now(None, {"seed": 0})
    assert sorted(row.pupil for row in rows) == list(range(1008))
    brier = {way: np.mean([row.brier[way] for row in rows]) for way in real.METHODS}
    assert brier["known or not, items apart"] < brier["items alone"] < 0.25
    alike = real.foretold(solved[10:], solved[:2][:, :14], np.arange(14), np.arange(14, 28))
    assert (alike["items alone"][0] == solved[10:, 14:].mean(axis=0)).all()
