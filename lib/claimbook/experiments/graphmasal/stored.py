"""What of the chapter is stored: each run's function, config and assets, and a short first part of it."""

from claimbook.provenance.declarations import Stored


def _students(run: str, n_students: int, level: str = "sections", **config) -> Stored:
    """A run over the first simulated students of a cohort, confirmed by the first of them."""
    config = {"level": level, "n_students": n_students, "seed": 0} | config
    return Stored(f"measure.{run}:run", config, prefix={"n_students": 1})


STORED = {
    "planning": _students("planning", 120, sinks="asked"),
    "planning_all": _students("planning", 60, sinks="all"),
    "planning_topics": _students("planning", 60, level="topics", sinks="asked"),
    "diagnosis": _students("diagnosed", 120),
    "sessions": _students("sessions", 60, n_sessions=4),
    "edges": _students("edges", 60, sinks="asked", shares=[0.025, 0.05, 0.1]),
    "scale": Stored(
        "measure.scale:run",
        {"graphs": ["topics", "sections", 2000], "weak": [5, 10, 20, 40], "n_each": 5, "seed": 0},
        machine_curves=("instances",),
    ),
}
