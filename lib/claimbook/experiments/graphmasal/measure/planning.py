"""One row for each student: what the planner and its rivals plan from the same diagnosis, and what a plan is worth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from claimbook.experiments.graphmasal import diagnosis
from claimbook.experiments.graphmasal.diagnosis import Fit
from claimbook.experiments.graphmasal.learners import Student, another, retested, study
from claimbook.experiments.graphmasal.measure import classes
from claimbook.experiments.units import Experiment
from claimbook.papers import graphmasal as method
from claimbook.papers.graphmasal import KNOWN, Graph

Topics = Sequence[int]
DIGITS = 6  # of what a plan is worth


@dataclass(frozen=True)
class Score:
    """A plan against what is true of the student, who is simulated. NaN where there is nothing to ask.

    ``coverage`` of the topics diagnosed as weak; ``coverage_true`` of those not known, ``weak_true`` of them. ``cost``:
    summed over the plan's topics at the diagnosed mastery; ``cost_true`` at the true one; ``cost_use`` with the other
    sign of fan-out. ``wasted``: planned topics that are known already. ``unmet``: share of planned topics with a
    prerequisite that is neither known nor planned before; ``unmet_believed`` by the diagnosis. ``learned_…``: share of
    the weak topics learned by the rule of `study`; ``new_…``: topics learned in all; ``goals``: share of the goals
    known after it, by the rule "all". ``sim_order``: PathSim with all that is missing, in the library's order;
    ``sim_exact``: with the cheapest plan by true mastery.
    """

    length: int
    wasted: int
    weak_true: int
    coverage: float
    coverage_true: float
    cost: float
    cost_true: float
    cost_use: float
    unmet: float
    unmet_believed: float
    learned_all: float
    learned_any: float
    learned_share: float
    new_all: int
    new_any: int
    goals: float
    sim_order: float
    sim_exact: float


@dataclass(frozen=True)
class Guarantee:
    """Summed costs of the paths chosen: by greedy's two rules, by the optimum, one path a sink.

    ``most``: sinks on the path that has most. ``union_…``: cost of all topics on the paths, each counted once.
    """

    paths: int
    most: int
    n_weak_reachable: int
    greedy: float
    coverage_rule: float
    optimal: float
    separate: float
    union_greedy: float
    union_optimal: float


@dataclass(frozen=True)
class Row:
    """``arms``: a `Score` by way of planning. ``guarantee`` with fan-out as load, ``guarantee_use`` as use.

    ``sim_retest``: PathSim of the plans from two tests of the student on the same topics; ``sim_other``: of the student
    and another of the same profile and goals, tested on the same topics. ``list_…``: the same of lists that need
    neither graph nor planner. NaN where one of the two is empty.
    """

    student: str
    profile: str
    n_sources: int
    n_weak: int
    unreachable: int
    guarantee: Guarantee
    guarantee_use: Guarantee
    sim_retest: float
    sim_other: float
    list_retest: float
    list_other: float
    length_retest: int
    arms: dict[str, Score]


def truth(student: Student) -> np.ndarray:
    """Mastery as an oracle has it, (N,)."""
    return np.where(student.known, 0.95, 0.05)


def measure(model, student: Student, config: dict) -> Row:
    graph, fit, sinks = classes.course(config).graph, classes.fitted(config), config["sinks"]
    mastery, weak, planner = planned(graph, student, fit, sinks)
    again = retested(student, graph, classes.luck(student, config, 1))
    other = another(student, graph, classes.luck(student, config, 2))
    plans = [planner, *(planned(graph, of, fit, sinks)[2] for of in (again, other))]
    lists = [listed(graph, of) for of in (student, again, other)]
    arms = ways(graph, student, mastery, weak, sinks, classes.luck(student, config, 3)) | unseen(
        graph, student, diagnosis.mastery("prior", graph, student, fit), classes.average(config), sinks
    )
    references = by_truth(graph, student, sinks)
    load, use = (guarantee(graph, mastery, weak, fan) for fan in ("load", "use"))
    return Row(
        student.name,
        student.profile,
        int((mastery >= KNOWN).sum()),
        len(weak),
        len(weak) - load.n_weak_reachable,
        load,
        use,
        *(_alike(made[0], of) for made in (plans, lists) for of in made[1:]),
        len(plans[1]),
        {way: score(graph, student, mastery, weak, sequence, sinks, references) for way, sequence in arms.items()},
    )


def planned(graph: Graph, student: Student, fit: Fit, sinks: str) -> tuple[np.ndarray, Topics, Topics]:
    """Mastery diagnosed from a student's test, weak topics, and the planner's sequence."""
    mastery = diagnosis.mastery("graph", graph, student, fit)
    weak = diagnosis.weak(student, mastery, sinks)
    return mastery, weak, method.plan(graph, mastery, weak).sequence


def listed(graph: Graph, student: Student) -> Topics:
    """What was asked and has a mean score of a half or less, in the library's order."""
    return diagnosis.weak(student, diagnosis.mean_score(len(graph), student))


def _alike(a: Topics, b: Topics) -> float:
    return method.path_sim(a, b) if len(a) and len(b) else math.nan


def guarantee(graph: Graph, mastery: np.ndarray, weak: Topics, fan: str) -> Guarantee:
    costs, sources = method.cost(graph, mastery, fan=fan), np.flatnonzero(mastery >= KNOWN)
    paths = method.candidate_paths(graph, costs, sources, weak)
    plans = {
        rule: method.plan(graph, mastery, weak, fan=fan, choose=rule)
        for rule in ("cost-effectiveness", "coverage", "optimal", "separate")
    }
    steps = {v for path in plans["cost-effectiveness"].paths for v in path[1:]} - set(sources.tolist())
    return Guarantee(
        len(paths),
        int(method.covered(list(paths.values()), weak).sum(axis=1).max(initial=0)),
        len({sink for _, sink in paths}),
        *(found.price for found in plans.values()),
        _sum(costs, steps),
        _sum(costs, method.optimal_union(graph, costs, sources, weak)),
    )


def unseen(graph: Graph, student: Student, prior: np.ndarray, average: np.ndarray, sinks: str) -> dict[str, Topics]:
    """The planner on another mastery (N,) than the diagnosed: of the graph without answers, of an average learner."""
    found = {}
    for way, mastery in {"no diagnosis": prior, "average learner": average}.items():
        found[way] = method.plan(graph, mastery, diagnosis.weak(student, mastery, sinks)).sequence
    return found


def ways(
    graph: Graph, student: Student, mastery: np.ndarray, weak: Topics, sinks: str, rng: np.random.Generator
) -> dict[str, Topics]:
    """What each way of planning has the student learn, from the same diagnosis; but an oracle's sees the truth."""

    def paths(there=graph, mastery=mastery, weak=weak, **of) -> Topics:
        return method.plan(there, mastery, weak, **of).sequence

    lacking = missing(student, sinks)
    planner, costs = paths(), method.cost(graph, mastery)
    union = method.optimal_union(graph, costs, np.flatnonzero(mastery >= KNOWN), weak)
    unknown = [v for v in student.relevant if mastery[v] < KNOWN]
    return {
        "planner": planner,
        "fan use": paths(fan="use"),
        "no mastery": paths(weights=(0, 0.3, 0.2)),
        "no structure": paths(weights=(0.5, 0, 0)),
        "no cost": paths(weights=(0, 0, 0)),
        "coverage rule": paths(choose="coverage"),
        "optimal": paths(choose="optimal"),
        "optimal union": method.sequence(graph, union, mastery),
        "separate": paths(choose="separate"),
        "closed": method.closed_plan(graph, mastery, weak).sequence,
        "closed, same cost": closed_within(graph, mastery, weak, _sum(costs, planner)),
        "shuffled graph": method.sequence(graph, paths(shuffled(graph, rng)), mastery),
        "oracle mastery": paths(mastery=truth(student), weak=lacking),
        "closed, oracle mastery": method.closed_plan(graph, truth(student), lacking).sequence,
        "random order": rng.permutation(planner).astype(int).tolist(),
        "random topics": method.sequence(graph, rng.permutation(unknown)[: len(planner)], mastery),
        "weak only": method.sequence(graph, weak, mastery),
        "everything": [v for v in graph.order if v in set(student.relevant)],
        "empty": (),
    }


def score(
    graph: Graph,
    student: Student,
    mastery: np.ndarray,
    weak: Topics,
    sequence: Topics,
    sinks: str = "asked",
    references: tuple[Topics, Topics] | None = None,
) -> Score:
    """What any plan is worth, however made; ``mastery`` (N,) and ``weak`` are the diagnosis it was made from."""
    known, lacking = student.known, missing(student, sinks)
    whole, exact = references or by_truth(graph, student, sinks)
    after = {rule: study(graph, known, sequence, rule) for rule in ("all", "any", "share")}
    found = (
        len(sequence),
        int(known[list(sequence)].sum()),
        len(lacking),
        method.coverage(sequence, weak),
        method.coverage(sequence, lacking),
        _sum(method.cost(graph, mastery), sequence),
        _sum(method.cost(graph, truth(student)), sequence),
        _sum(method.cost(graph, mastery, fan="use"), sequence),
        _mean(method.unmet(graph, sequence, known)),
        _mean(method.unmet(graph, sequence, mastery >= KNOWN)),
        *(_mean(then[list(lacking)]) for then in after.values()),
        *(int((after[rule] & ~known).sum()) for rule in ("all", "any")),
        _mean(after["all"][list(student.goals)]),
        method.path_sim(sequence, whole),
        method.path_sim(sequence, exact),
    )
    return Score(*(round(value, DIGITS) if isinstance(value, float) else value for value in found))


def missing(student: Student, sinks: str = "asked") -> list[int]:
    """Topics not known, among those "asked" or "all" relevant ones."""
    return [v for v in diagnosis.pool(student, sinks) if not student.known[v]]


def by_truth(graph: Graph, student: Student, sinks: str = "asked") -> tuple[Topics, Topics]:
    """All that the missing topics need, in the library's own order; and the cheapest paths to them by true mastery."""
    mastery, lacking = truth(student), missing(student, sinks)
    exact = method.optimal_union(graph, method.cost(graph, mastery), np.flatnonzero(student.known), lacking)
    return sorted(method.closed_plan(graph, mastery, lacking).sequence), method.sequence(graph, exact, mastery)


def closed_within(graph: Graph, mastery: np.ndarray, weak: Topics, budget: float) -> Topics:
    """The closed plan for as many sinks as the budget pays, each time the sink that costs least. Ours."""
    needs = (graph.ancestors | np.eye(len(graph), dtype=bool))[list(weak)] & (mastery < KNOWN)  # (W, N)
    costs, bought = method.cost(graph, mastery), np.zeros(len(graph), dtype=bool)
    while needs.any():
        price = np.where(needs.any(axis=1), (needs * costs).sum(axis=1).round(9), np.inf)
        cheapest = int(np.argmin(price))
        if price[cheapest] > budget:
            break
        budget, bought = budget - price[cheapest], bought | needs[cheapest]
        needs = needs & ~bought
    return method.sequence(graph, np.flatnonzero(bought), mastery)


def shuffled(graph: Graph, rng: np.random.Generator) -> Graph:
    """A wrong graph: each topic with as many prerequisites of each depth as before, but drawn anew among that depth."""
    edges, depth = [], np.array(graph.depth)
    for v, parents in enumerate(graph.parents):
        for level in sorted({depth[u] for u in parents}):
            count = sum(depth[u] == level for u in parents)
            edges += [(int(u), v) for u in rng.choice(np.flatnonzero(depth == level), count, replace=False)]
    return Graph.of(len(graph), edges)


def _sum(costs: np.ndarray, topics) -> float:
    return float(sum(costs[v] for v in sorted(set(topics))))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


EXPERIMENT = Experiment("students", Row, classes.students, measure)
run = EXPERIMENT.run
