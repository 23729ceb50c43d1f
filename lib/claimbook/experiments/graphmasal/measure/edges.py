"""One row for each student and share of citing theorems that makes an edge: does the finding hang on that share?"""

from dataclasses import dataclass

from claimbook.experiments.graphmasal.measure import classes, planning
from claimbook.experiments.units import Experiment
from claimbook.papers import graphmasal as method


@dataclass(frozen=True)
class Row:
    """Fields of `planning.Score` of the planner; ``…_closed`` and ``…_random``: of the closed plan, in random order."""

    share: float
    n_topics: int
    n_edges: int
    student: str
    unmet: float
    unmet_closed: float
    unmet_random: float
    learned_all: float
    learned_any: float


def units(model, config: dict) -> dict[str, tuple]:
    found = {}
    for share in config["shares"]:
        of = config | {"share": share}
        found |= {f"{share}: {name}": (student, of) for name, student in classes.students(model, of).items()}
    return found


def measure(model, unit: tuple, config: dict) -> Row:
    student, of = unit
    graph = classes.course(of).graph
    mastery, weak, planner = planning.planned(graph, student, classes.fitted(of), config["sinks"])
    closed = method.closed_plan(graph, mastery, weak).sequence
    mixed = classes.luck(student, of, 3).permutation(planner).astype(int).tolist()
    plan, whole, random = (
        planning.score(graph, student, mastery, weak, sequence, config["sinks"])
        for sequence in (planner, closed, mixed)
    )
    return Row(
        of["share"],
        len(graph),
        len(graph.edges),
        student.name,
        plan.unmet,
        whole.unmet,
        random.unmet,
        plan.learned_all,
        plan.learned_any,
    )


EXPERIMENT = Experiment("students", Row, units, measure)
run = EXPERIMENT.run
