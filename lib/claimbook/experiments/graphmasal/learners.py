"""Simulated learners: what they know, what they answer, what they learn from a plan.

They are drawn from another model than any diagnosis fits. What is known is closed under prerequisites, but for holes
(knowledge space theory, with lapses). Answers follow DINA (Junker and Sijtsma 2001): half of the items need a
prerequisite of their topic too, and each item slips and is guessed at rates of its own.
"""

from dataclasses import dataclass, replace

import numpy as np

from claimbook.experiments.graphmasal.topics import Course
from claimbook.papers.graphmasal import Graph


@dataclass(frozen=True)
class Profile:
    """``share`` of what the goals need that is known at first, less ``holes``; ``goals``; ``forgets`` a session."""

    share: float
    holes: float = 0.1
    goals: int = 2
    forgets: float = 0.02


PROFILES = {
    "novice": Profile(0.25),
    "intermediate": Profile(0.5),
    "advanced": Profile(0.75),
    "gappy": Profile(0.6, holes=0.3),
    "forgetful": Profile(0.6, forgets=0.1),
    "multi-goal": Profile(0.5, goals=4),
}
ASKED = 40  # topics of a test, or two thirds of the relevant ones where they are fewer
ITEMS = (2, 4)  # items a topic, from and to
SLIP, GUESS = (2, 18), (2, 8)  # Beta distributions of the items' rates: means 0.1 and 0.2
DEEP = 0.25  # goals are among the share of topics that need most


@dataclass(frozen=True)
class Student:
    """``known`` (N,) is the truth that no method sees; ``relevant``: the goals and all that they need.

    ``asked``: the topics of the test; ``answers``: 1 or 0 for each item of each of them.
    """

    name: str
    profile: str
    known: np.ndarray
    goals: tuple[int, ...]
    relevant: tuple[int, ...]
    asked: tuple[int, ...] = ()
    answers: tuple[tuple[int, ...], ...] = ()


def cohort(course: Course, n: int, seed: int) -> list[Student]:
    """``n`` students, the profiles in turn. The first of a larger cohort are the same."""
    profiles = list(PROFILES)
    return [student(course, profiles[i % len(profiles)], i, np.random.default_rng([seed, i])) for i in range(n)]


def student(course: Course, profile: str, number: int, rng: np.random.Generator) -> Student:
    """One student and one test. What lies off the goals' prerequisites is not known, and never asked."""
    graph, about = course.graph, PROFILES[profile]
    needs = graph.ancestors.sum(axis=1)
    deep = np.flatnonzero(needs >= np.quantile(needs, 1 - DEEP))
    goals = np.sort(rng.choice(deep, min(about.goals, len(deep)), replace=False))
    relevant = np.flatnonzero(graph.ancestors[goals].any(axis=0) | np.isin(np.arange(len(graph)), goals))
    made = Student(f"{profile} {number}", profile, np.zeros(len(graph), bool), *map(_plain, (goals, relevant)))
    return tested(replace(made, known=_state(graph, made, rng)), graph, rng)


def another(student: Student, graph: Graph, rng: np.random.Generator) -> Student:
    """Another learner with the same goals and profile, tested on the same topics."""
    return retested(replace(student, known=_state(graph, student, rng)), graph, rng)


def _state(graph: Graph, student: Student, rng: np.random.Generator) -> np.ndarray:
    """What is known, (N,): closed under prerequisites, then with holes."""
    about, relevant = PROFILES[student.profile], list(student.relevant)
    known = np.zeros(len(graph), dtype=bool)
    for topic in rng.permutation(relevant):  # with all that it needs, unless that would be more than the share
        more = known | graph.ancestors[topic]
        more[topic] = True
        known = more if more[relevant].mean() <= about.share else known
    return known & (rng.random(len(graph)) >= about.holes)


def _plain(topics: np.ndarray) -> tuple[int, ...]:
    return tuple(topics.tolist())


def tested(student: Student, graph: Graph, rng: np.random.Generator, most: int = ASKED) -> Student:
    """The student with a test on ``most`` of the relevant topics, two thirds of them at most."""
    count = max(1, min(most, 2 * len(student.relevant) // 3))
    asked = np.sort(rng.choice(student.relevant, count, replace=False))
    return retested(replace(student, asked=_plain(asked)), graph, rng)


def retested(student: Student, graph: Graph, rng: np.random.Generator) -> Student:
    """The student with new answers on the same topics."""
    return replace(student, answers=tuple(_answers(topic, student.known, graph, rng) for topic in student.asked))


def _answers(topic: int, known: np.ndarray, graph: Graph, rng: np.random.Generator) -> tuple[int, ...]:
    """DINA: an item is solved by who knows all that it needs, but for slips, and else by guessing."""
    found = []
    for _ in range(rng.integers(ITEMS[0], ITEMS[1] + 1)):
        also = rng.choice(graph.parents[topic]) if graph.parents[topic] and rng.random() < 0.5 else topic
        solved = 1 - rng.beta(*SLIP) if known[topic] and known[also] else rng.beta(*GUESS)
        found.append(int(rng.random() < solved))
    return tuple(found)


def study(graph: Graph, known: np.ndarray, planned, rule: str = "all", seed: int = 0) -> np.ndarray:
    """What is known (N,) after going through a plan in its order.

    A topic is learned if "all" of its prerequisites are known by then, if "any" is, or, with "share", with the
    probability of the share that are. One without prerequisites is always learned.
    """
    if rule not in ("all", "any", "share"):
        raise ValueError(f"rule must be all, any or share, not {rule!r}")
    known, luck = known.copy(), np.random.default_rng(seed).random(len(graph))
    for topic in planned:
        parents = list(graph.parents[topic])
        met = known[parents].mean() if parents else 1.0
        known[topic] |= {"all": met == 1, "any": met > 0, "share": luck[topic] < met}[rule]
    return known
