"""One row for each student over several sessions: what it is worth that the learner's state is kept and updated.

Each session asks a few topics anew. Between sessions the student learns and forgets, which no diagnosis is told; it
does so alike whatever is remembered.
"""

from dataclasses import dataclass, replace

import numpy as np

from claimbook.experiments.graphmasal import diagnosis
from claimbook.experiments.graphmasal.learners import PROFILES, Student, another, retested, study, tested
from claimbook.experiments.graphmasal.measure import classes
from claimbook.experiments.graphmasal.measure.diagnosed import found
from claimbook.experiments.graphmasal.measure.planning import missing, truth
from claimbook.experiments.units import Experiment
from claimbook.papers import graphmasal as method
from claimbook.papers.graphmasal import Graph

ASKED = 12  # topics a session
STUDIED = 0.1  # share of what is missing that is learned between sessions
FADES = 0.9  # what is left of remembered evidence a session later
STATES = ("kept", "wiped", "scrambled", "another's", "frozen")


@dataclass(frozen=True)
class Row:
    """By what becomes of the learner's state, one value a session.

    It is "kept" and updated; "wiped"; "scrambled": kept, but dealt to other topics; "another's": kept, of
    one with the same profile and goals, tested on the same topics; or "frozen" in the first session. ``f1`` and
    ``brier`` over all that the goals need; ``cost`` of the plan made from that diagnosis, at true mastery;
    ``wasted``: how many of its ``planned`` topics are known already; ``coverage_true`` of the asked topics not known.
    """

    student: str
    profile: str
    f1: dict[str, list[float]]
    brier: dict[str, list[float]]
    cost: dict[str, list[float]]
    wasted: dict[str, list[int]]
    planned: dict[str, list[int]]
    coverage_true: dict[str, list[float]]


def measure(model, student: Student, config: dict) -> Row:
    graph, fit = classes.course(config).graph, classes.fitted(config)
    rng = classes.luck(student, config, 4)
    row = Row(student.name, student.profile, *({state: [] for state in STATES} for _ in range(6)))
    kept = others = np.zeros(len(graph))
    other, first = another(student, graph, rng), None
    for _ in range(config["n_sessions"]):
        student = tested(student, graph, rng, ASKED)
        other = retested(replace(other, asked=student.asked), graph, rng)
        seen, others_seen = (diagnosis.evidence(len(graph), of, fit) for of in (student, other))
        scrambled = np.zeros(len(graph))
        scrambled[list(student.relevant)] = kept[rng.permutation(student.relevant)]
        evidence = np.array([kept + seen, seen, scrambled + seen, others + seen])
        believed = list(diagnosis.by_graph(graph, evidence, student.relevant, fit))
        first = believed[0] if first is None else first
        for state, mastery in zip(STATES, [*believed, first], strict=True):
            _add(row, state, graph, student, mastery)
        kept, others = FADES * (kept + seen), FADES * (others + others_seen)
        student, other = (replace(of, known=_later(graph, of, rng)) for of in (student, other))
    return row


def _add(row: Row, state: str, graph: Graph, student: Student, mastery: np.ndarray) -> None:
    """One session's diagnosis and plan, put into the row."""
    diagnosed = found(student, mastery)
    planned = list(method.plan(graph, mastery, diagnosis.weak(student, mastery, "asked")).sequence)
    row.f1[state].append(diagnosed.f1)
    row.brier[state].append(diagnosed.brier)
    row.cost[state].append(float(method.cost(graph, truth(student))[planned].sum()))
    row.wasted[state].append(int(student.known[planned].sum()))
    row.planned[state].append(len(planned))
    row.coverage_true[state].append(method.coverage(planned, missing(student)))


def _later(graph: Graph, student: Student, rng: np.random.Generator) -> np.ndarray:
    """What is known (N,) by the next session: some of what was missing is studied, some of all is forgotten."""
    lacking = method.sequence(graph, [v for v in student.relevant if not student.known[v]], student.known)
    known = study(graph, student.known, lacking[: round(STUDIED * len(lacking))])
    return known & (rng.random(len(graph)) >= PROFILES[student.profile].forgets)


EXPERIMENT = Experiment("students", Row, classes.students, measure)
run = EXPERIMENT.run
