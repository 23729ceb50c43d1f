"""One row for each student: how well each diagnosis finds the topics that are not known."""

from dataclasses import dataclass

import numpy as np

from claimbook.experiments.graphmasal import diagnosis
from claimbook.experiments.graphmasal.learners import Student, another
from claimbook.experiments.graphmasal.measure import classes
from claimbook.experiments.units import Experiment
from claimbook.papers.graphmasal import WEAK


@dataclass(frozen=True)
class Found:
    """Of topics taken as weak against those not known: over all that the goals need, and over those asked.

    ``f1`` is 0 where one is missed and none found, and 1 where there is nothing to find and nothing is found.
    ``brier``: mean square of mastery less truth.
    """

    precision: float
    recall: float
    f1: float
    f1_asked: float
    brier: float
    brier_asked: float


@dataclass(frozen=True)
class Row:
    """``methods``: `Found` by `diagnosis.METHODS`, and by the graph with "another's answers" and with "true rates".

    ``weak``: the share of relevant topics not known.
    """

    student: str
    profile: str
    weak: float
    methods: dict[str, Found]


def measure(model, student: Student, config: dict) -> Row:
    graph, fit = classes.course(config).graph, classes.fitted(config)
    believed = {name: diagnosis.mastery(name, graph, student, fit) for name in diagnosis.METHODS}
    other = another(student, graph, classes.luck(student, config, 2))
    believed["another's answers"] = diagnosis.mastery("graph", graph, other, fit)
    believed["true rates"] = diagnosis.mastery("graph", graph, student, classes.true_rates(config))
    weak = float(1 - student.known[list(student.relevant)].mean())
    return Row(student.name, student.profile, weak, {name: found(student, of) for name, of in believed.items()})


def found(student: Student, mastery: np.ndarray) -> Found:
    """Any diagnosis, mastery (N,), against the truth."""
    relevant, asked = list(student.relevant), list(student.asked)
    precision, recall, f1 = agreement(mastery[relevant] <= WEAK, ~student.known[relevant])
    return Found(
        precision,
        recall,
        f1,
        agreement(mastery[asked] <= WEAK, ~student.known[asked])[2],
        float(np.mean((mastery[relevant] - student.known[relevant]) ** 2)),
        float(np.mean((mastery[asked] - student.known[asked]) ** 2)),
    )


def agreement(taken: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 of booleans (n,); precision of nothing, and recall of nothing, are 1."""
    both = int((taken & true).sum())
    precision = both / int(taken.sum()) if taken.any() else 1.0
    recall = both / int(true.sum()) if true.any() else 1.0
    total = int(taken.sum()) + int(true.sum())
    return precision, recall, 2 * both / total if total else 1.0


EXPERIMENT = Experiment("students", Row, classes.students, measure)
run = EXPERIMENT.run
