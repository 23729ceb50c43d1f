"""A reader's own topics, prerequisites, answers and ratings, as CSV; whatever is wrong is one line with a way out.

Ids and names that differ in case or spaces are one, as first spelt. The example in ``data/graphmasal/example`` is real
where it can be: topics and prerequisites are a part of the library's, answers and gains those of simulated learners.
``python -m claimbook.experiments.graphmasal.own_files`` makes it.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat, StringConstraints, ValidationError
from scipy.stats import spearmanr

from claimbook import paths
from claimbook.errors import ClaimbookError
from claimbook.experiments import own_tables
from claimbook.experiments.graphmasal import diagnosis, learners, topics
from claimbook.experiments.graphmasal.diagnosis import Fit
from claimbook.experiments.graphmasal.learners import Student
from claimbook.experiments.graphmasal.topics import Course
from claimbook.papers import graphmasal as method
from claimbook.papers.graphmasal import Graph

FILES = ("topics", "edges", "answers", "ratings")  # parameters that name a file
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Topic(_Row):
    id: Name
    name: str = ""
    description: str = ""


class Edge(_Row):
    """``topic`` needs ``prerequisite``."""

    prerequisite: Name
    topic: Name


class Answer(_Row):
    student: Name
    topic: Name
    correct: Literal["0", "1"]


class Rating(_Row):
    """What a rater gives a ``plan``, one of `WAYS`, of a student; more is better."""

    student: Name
    plan: Name
    rater: Name
    score: FiniteFloat


@dataclass(frozen=True)
class Own:
    """``course`` and ``students``, whose ``known`` is not known and all False; ``ratings`` may be empty."""

    course: Course
    students: list[Student]
    ratings: list[Rating]


def load(parameters: dict) -> Own:
    """The reader's files, or the example's where none is given. ClaimbookError for what cannot work."""
    given = [name for name in FILES if parameters[name]]
    missing = [name for name in FILES[:3] if name not in given]
    if given and missing:
        raise ClaimbookError(f"{', '.join(given)} needs {', '.join(missing)} too: give topics, edges and answers")
    example = paths.chapter_data("graphmasal") / "example"
    where = {name: parameters[name] or (not given and str(example / f"{name}.csv")) for name in FILES}
    course = _course(where["topics"], where["edges"])
    students = _students(where["answers"], course)
    return Own(course, students, _ratings(where["ratings"], students) if where["ratings"] else [])


def plans(course: Course, student: Student) -> dict[str, method.Path]:
    """What each of `WAYS` has a student learn, diagnosed by the graph with rates that are not fitted."""
    mastery = diagnosis.mastery("graph", course.graph, student, Fit())
    weak = diagnosis.weak(student, mastery, "asked")
    return {
        "planner": method.plan(course.graph, mastery, weak).sequence,
        "closed": method.closed_plan(course.graph, mastery, weak).sequence,
        "weak only": method.sequence(course.graph, weak, mastery),
    }


WAYS = ("planner", "closed", "weak only")


def rated(own: Own, made: dict[str, dict[str, method.Path]]) -> str:
    """How the ratings' order agrees with that of PathSim to the closed plan in the order of the file, in a line."""
    score, sim = [], []
    for rating in own.ratings:
        of = made[rating.student]
        score.append(rating.score)
        sim.append(method.path_sim(of[rating.plan], sorted(of["closed"])))
    if len(set(score)) < 2 or len(set(sim)) < 2:
        return f"{len(score)} ratings: nothing to rank"
    raters = ", ".join(sorted({rating.rater for rating in own.ratings}))
    found = spearmanr(score, sim).statistic
    return f"{len(score)} ratings ({raters}), rank correlation with PathSim: {found:.2f}"


# --- reading ----------------------------------------------------------------------------------------------------------


def _course(topics_file: str, edges_file: str) -> Course:
    listed = _rows(topics_file, Topic)
    at: dict[str, int] = {}
    for place, topic in listed:
        if own_tables.key(topic.id) in at:
            own_tables.refuse(
                topics_file, f"{place}: the id '{topic.id}' stands twice; give each topic an id of its own"
            )
        at[own_tables.key(topic.id)] = len(at)
    edges = []
    for place, edge in _rows(edges_file, Edge):
        edges.append(tuple(_known(edges_file, place, topic, at) for topic in (edge.prerequisite, edge.topic)))
    rows = [topic for _, topic in listed]
    ids = tuple(row.id for row in rows)
    try:
        graph = Graph.of(len(at), edges)
    except ValueError:
        round_ = own_tables.listed((ids[v] for v in _circle(edges)), " → ")
        own_tables.refuse(edges_file, f"prerequisites go round in a circle: {round_}; leave one of these edges out")
    return Course(ids, tuple(row.name or row.id for row in rows), tuple(row.description for row in rows), graph)


def _circle(edges: list[tuple[int, int]]) -> list[int]:
    """One circle among edges that have one, its first topic again at the end."""
    after = defaultdict(set)
    for u, v in edges:
        after[u].add(v)
    while ends := {v for of in after.values() for v in of} - {u for u, of in after.items() if of}:
        after = defaultdict(set, {u: of - ends for u, of in after.items() if of - ends})
    walk = [next(iter(after))]
    while walk[-1] not in walk[:-1]:
        walk.append(min(after[walk[-1]]))
    return walk[walk.index(walk[-1]) :]


def _students(file: str, course: Course) -> list[Student]:
    at = {own_tables.key(topic): i for i, topic in enumerate(course.ids)}
    answers: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    spelt: dict[str, str] = {}
    for place, answer in _rows(file, Answer):
        name = spelt.setdefault(own_tables.key(answer.student), answer.student)
        answers[name][_known(file, place, answer.topic, at)].append(int(answer.correct))
    return [_student(name, given, course.graph) for name, given in answers.items()]


def _student(name: str, given: dict[int, list[int]], graph: Graph) -> Student:
    asked = tuple(sorted(given))
    relevant = graph.ancestors[list(asked)].any(axis=0)
    relevant[list(asked)] = True
    known, answers = np.zeros(len(graph), dtype=bool), tuple(tuple(given[topic]) for topic in asked)
    return Student(name, "own", known, asked, tuple(np.flatnonzero(relevant).tolist()), asked, answers)


def _ratings(file: str, students: list[Student]) -> list[Rating]:
    names, ways = ({own_tables.key(one): one for one in of} for of in ([one.name for one in students], WAYS))
    found: dict[tuple[str, ...], Rating] = {}
    for place, rating in _rows(file, Rating):
        who, plan, rater = map(own_tables.key, (rating.student, rating.plan, rating.rater))
        if who not in names:
            there = own_tables.listed(sorted(names.values()))
            own_tables.refuse(file, f"{place}: no answers of student '{rating.student}'; there are {there}")
        if plan not in ways:
            own_tables.refuse(file, f"{place}: no plan '{rating.plan}'; rate {', '.join(WAYS)}")
        if (who, plan, rater) in found:
            own_tables.refuse(file, f"{place}: {rating.rater} rates this plan of {names[who]} twice; leave one out")
        found[who, plan, rater] = rating.model_copy(update={"student": names[who], "plan": ways[plan]})
    return list(found.values())


def _known(file: str, place: str, topic: str, at: dict[str, int]) -> int:
    """The number of a topic by its name."""
    if (key := own_tables.key(topic)) not in at:
        own_tables.refuse(
            file, f"{place}: the topic '{topic}' is not among the topics; add it there or correct it here"
        )
    return at[key]


def _rows(file: str, kind: type[_Row]) -> list[tuple[str, _Row]]:
    """Rows of a table with their places, each checked."""
    needed = tuple(name for name, field in kind.model_fields.items() if field.is_required())
    more = tuple(name for name in kind.model_fields if name not in needed)
    found = []
    for place, row in own_tables.rows(file, needed, more):
        given = {name: "" if value is None else str(value) for name, value in row.items()}
        try:
            found.append((place, kind.model_validate(given)))
        except ValidationError as error:
            name = error.errors()[0]["loc"][0]
            wanted = {"correct": "0 or 1", "score": "a number"}.get(name, "a text")
            own_tables.refuse(file, f"{place}: {name} must be {wanted}, not '{given[name]}'")
    return found


# --- the example ------------------------------------------------------------------------------------------------------

GOAL, STUDENTS = 28, 6  # the first topics of the library's order; learners


def derive() -> None:
    """Write the example: the library's first `GOAL` topics that need or are needed, and some simulated learners."""
    whole = topics.load("topics")
    kept = [v for v in range(len(whole.ids)) if whole.graph.parents[v] or whole.graph.children[v]][:GOAL]
    ids = [whole.ids[v] for v in kept]
    edges = [(u, v) for u, v in whole.graph.edges if u in kept and v in kept]
    graph = Graph.of(len(kept), [(kept.index(u), kept.index(v)) for u, v in edges])
    course = Course(*(tuple(of[v] for v in kept) for of in (whole.ids, whole.names, whole.descriptions)), graph)
    students = learners.cohort(course, STUDENTS, 0)
    _write("topics", [(course.ids[i], course.names[i], course.descriptions[i]) for i in range(len(ids))], Topic)
    _write("edges", [(whole.ids[u], whole.ids[v]) for u, v in edges], Edge)
    answers = [
        (one.name, ids[topic], answer)
        for one in students
        for topic, given in zip(one.asked, one.answers, strict=True)
        for answer in given
    ]
    _write("answers", answers, Answer)
    rows = [(one, way, plan) for one in students for way, plan in plans(course, one).items()]
    gains = [(one.name, way, "simulated gain", _gain(course, one, plan)) for one, way, plan in rows]
    _write("ratings", gains, Rating)


def _gain(course: Course, student: Student, plan: method.Path) -> str:
    """Topics that a learner who needs all prerequisites has learned after a plan."""
    after = learners.study(course.graph, student.known, plan)
    return str(int((after & ~student.known).sum()))


def _write(name: str, rows: list, kind: type[_Row]) -> None:
    path = paths.chapter_data("graphmasal") / "example" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([list(kind.model_fields), *rows])


if __name__ == "__main__":
    derive()
