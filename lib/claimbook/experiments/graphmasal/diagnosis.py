"""From a test's answers to what a learner knows: with the graph, topic by topic, by mean scores. Ours (reconstructed).

All start from the same evidence: how much likelier a topic's answers are if it is known. "topic" is Bayesian knowledge
tracing within one test (Corbett and Anderson 1995). "graph" adds what prerequisites say: a topic is known with
probability ``above`` if all that it needs is known, and else with ``below``; its posterior is sampled (Gibbs).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit, logit

from claimbook.experiments.graphmasal.learners import GUESS, SLIP, Student
from claimbook.papers.graphmasal import WEAK, Graph

CHAINS, BURN_IN, SWEEPS = 32, 20, 20
ROUNDS, STEPS = 8, 10  # of the fit, and sweeps in each
METHODS = ("graph", "topic", "topic, rest weak", "mean score", "prior", "all weak")  # of `mastery`


@dataclass(frozen=True)
class Fit:
    """Rates of the fitted model, the same for all topics and items: known, slip, guess, and the two of the graph."""

    known: float = 0.5
    slip: float = 0.1
    guess: float = 0.2
    above: float = 0.8
    below: float = 0.1


def evidence(n: int, student: Student, fit: Fit) -> np.ndarray:
    """(N,) log of P(answers | known) / P(answers | not known) of each topic, 0 for one that was not asked."""
    found = np.zeros(n)
    for topic, answers in zip(student.asked, student.answers, strict=True):
        found[topic] = _ratio(sum(answers), len(answers) - sum(answers), fit)
    return found


def _ratio(right, wrong, fit: Fit):
    """The log of how much likelier so many right and wrong answers are if the topic is known."""
    return right * np.log((1 - fit.slip) / fit.guess) + wrong * np.log(fit.slip / (1 - fit.guess))


def by_topic(seen: np.ndarray, fit: Fit) -> np.ndarray:
    """P(known | its own answers), shape of ``seen``, the evidence; the mean rate where nothing was asked."""
    return expit(logit(fit.known) + seen)


def by_graph(graph: Graph, seen: np.ndarray, topics: Sequence[int], fit: Fit, seed: int = 0) -> np.ndarray:
    """P(known | all answers), shape of ``seen`` (…, N), by Gibbs sampling in `CHAINS` chains.

    ``topics`` hold all that they need; what lies outside was not asked, so that it says nothing of them, and keeps the
    mean rate.
    """
    rng, topics = np.random.default_rng(seed), np.sort(topics)
    evidence = np.repeat(np.atleast_2d(seen)[:, topics].T, CHAINS, axis=1)

    def draws() -> np.ndarray:  # the same for each row of ``seen``, so that equal evidence is diagnosed alike
        return np.tile(rng.random((len(topics), CHAINS)), evidence.shape[1] // CHAINS)

    known = draws() < by_topic(evidence, fit)
    groups, total = _independent(graph, topics), np.zeros(evidence.shape)
    for sweep in range(BURN_IN + SWEEPS):
        chance = _sweep(groups, known, evidence, fit, draws())
        total += chance if sweep >= BURN_IN else 0
    found = np.full(np.atleast_2d(seen).shape, fit.known)
    found[:, topics] = total.reshape(len(topics), -1, CHAINS).mean(axis=2).T / SWEEPS
    return found.reshape(np.shape(seen))


@dataclass(frozen=True)
class Group:
    """``topics`` (n,) that no edge joins and that share no child, so that they can be drawn at once.

    ``parents`` (n, N) and ``child_parents`` (E, N) sparse 0/1; ``edges`` (2, E): place of a topic in ``topics``, child.
    """

    topics: np.ndarray
    parents: csr_array
    child_parents: csr_array
    edges: np.ndarray


def _independent(graph: Graph, topics: np.ndarray) -> list[Group]:
    """Groups of ``topics`` (sorted), which are numbered anew by their places."""
    place = {int(v): i for i, v in enumerate(topics)}
    needs = np.zeros((len(topics), len(topics)))
    for v, i in place.items():
        needs[i, [place[u] for u in graph.parents[v]]] = 1
    joined = (needs + needs.T + needs.T @ needs > 0) & ~np.eye(len(needs), dtype=bool)
    colour = np.full(len(topics), -1)
    for i, others in enumerate(joined):  # the smallest colour that no neighbour has
        colour[i] = min(set(range(len(topics))) - set(colour[others].tolist()))
    groups = []
    for number in range(colour.max() + 1):
        members = np.flatnonzero(colour == number)
        children, owners = np.nonzero(needs[:, members])
        edges = np.array([owners, children])
        groups.append(Group(members, csr_array(needs[members]), csr_array(needs[children]), edges))
    return groups


def _sweep(groups: list[Group], known: np.ndarray, seen: np.ndarray, fit: Fit, draws: np.ndarray) -> np.ndarray:
    """Draw every topic of ``known`` (N, C) anew given all others, in place; the probabilities used, same shape."""
    chance = np.zeros(known.shape)
    if_known, if_not = np.log(fit.above / fit.below), np.log((1 - fit.above) / (1 - fit.below))  # of a child
    for group in groups:
        unknown = (~known).astype(float)
        ready = group.parents @ unknown == 0
        odds = seen[group.topics] + np.where(ready, logit(fit.above), logit(fit.below))
        owners, children = group.edges  # a child speaks if all else that it needs is known
        others_known = group.child_parents @ unknown - unknown[group.topics[owners]] == 0
        np.add.at(odds, owners, others_known * np.where(known[children], if_known, if_not))
        chance[group.topics] = expit(odds)
        known[group.topics] = draws[group.topics] < chance[group.topics]
    return chance


def fit(graph: Graph, students: list[Student], seed: int = 0) -> Fit:
    """Rates fitted to the answers of other students, whose knowledge stays hidden (stochastic EM from the defaults)."""
    rng, found = np.random.default_rng(seed), Fit()
    right, count = (np.zeros((len(graph), len(students))) for _ in range(2))
    relevant = np.zeros(right.shape, dtype=bool)
    for column, student in enumerate(students):
        relevant[list(student.relevant), column] = True
        for topic, answers in zip(student.asked, student.answers, strict=True):
            right[topic, column], count[topic, column] = sum(answers), len(answers)
    known, groups = rng.random(right.shape) < 0.5, _independent(graph, np.arange(len(graph)))
    for _ in range(ROUNDS):
        for _ in range(STEPS):
            _sweep(groups, known, _ratio(right, count - right, found), found, rng.random(known.shape))
        ready = np.array([known[list(parents)].all(axis=0) for parents in graph.parents])
        found = Fit(
            known=_share(known[count > 0]),
            slip=1 - _share(right[known].sum(), count[known].sum()),
            guess=_share(right[~known].sum(), count[~known].sum()),
            above=_share(known[relevant & ready]),
            below=_share(known[relevant & ~ready]),
        )
    return found


def true_rates(graph: Graph, students: list[Student]) -> Fit:
    """The rates as an oracle has them: those of the simulation for answers, and of the students' knowledge."""
    known = np.array([student.known for student in students]).T
    relevant = np.array([np.isin(np.arange(len(graph)), student.relevant) for student in students]).T
    ready = np.array([known[list(parents)].all(axis=0) for parents in graph.parents])
    slip, guess = (a / (a + b) for a, b in (SLIP, GUESS))
    above, below = _share(known[relevant & ready]), _share(known[relevant & ~ready])
    return Fit(_share(known[relevant]), slip, guess, above, below)


def _share(yes, of=None) -> float:
    """A share kept off 0 and 1: of booleans, or of two sums."""
    yes, of = (yes.sum(), yes.size) if of is None else (yes, of)
    return float((yes + 1) / (of + 2))


def mean_score(n: int, student: Student) -> np.ndarray:
    """(N,) the mean score of each topic; where nothing was asked, that of the whole test."""
    means = [float(np.mean(answers)) for answers in student.answers]
    found = np.full(n, np.mean(means))
    found[list(student.asked)] = means
    return found


def mastery(method: str, graph: Graph, student: Student, fit: Fit, seed: int = 0) -> np.ndarray:
    """(N,) by one of `METHODS`. "prior" is the graph without answers; "rest weak" takes what was not asked as weak."""
    seen = evidence(len(graph), student, fit)
    asked = np.isin(np.arange(len(graph)), student.asked)
    return {
        "graph": lambda: by_graph(graph, seen, student.relevant, fit, seed),
        "topic": lambda: by_topic(seen, fit),
        "topic, rest weak": lambda: np.where(asked, by_topic(seen, fit), 0.0),
        "mean score": lambda: mean_score(len(graph), student),
        "prior": lambda: by_graph(graph, 0 * seen, student.relevant, fit, seed),
        "all weak": lambda: np.zeros(len(graph)),
    }[method]()


def weak(student: Student, mastery: np.ndarray, sinks: str = "asked") -> tuple[int, ...]:
    """Topics of mastery `WEAK` or less: among those "asked", or among "all" relevant ones."""
    return tuple(v for v in pool(student, sinks) if mastery[v] <= WEAK)


def pool(student: Student, sinks: str) -> tuple[int, ...]:
    """The topics that can be sinks of a plan: those "asked", or "all" relevant ones."""
    if sinks not in ("asked", "all"):
        raise ValueError(f"sinks must be asked or all, not {sinks!r}")
    return student.asked if sinks == "asked" else student.relevant
