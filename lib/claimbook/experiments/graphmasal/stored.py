"""What of the chapter is stored: each run's function, config and assets, and a short first part of it."""

from claimbook.provenance.declarations import Stored


def _students(run: str, n_students: int, level: str = "sections", **config) -> Stored:
    """A run over the first simulated students of a cohort, confirmed by the first of them."""
    config = {"level": level, "n_students": n_students, "seed": 0} | config
    return Stored(f"measure.{run}:run", config, prefix={"n_students": 1})


def _prompts(model: str, n_students: int) -> Stored:
    """Students of few enough topics for a prompt, put to a language model."""
    config = {"model": model, "level": "topics", "n_students": n_students, "seed": 0, "picks": 8, "most_tokens": 120}
    return Stored("prompts:run", config, assets=[model], prefix={"n_students": 1})


_RETRIEVAL = {
    "model": "minilm-l6",
    "seed": 0,
    "n_queries": {"train": 600, "validation": 91, "test": 308},
    "n_seeds": 3,
    "k": 16,  # cards reranked
    "joint": 2,  # layers that read query and card together
    "list": 8,
    "batch": 8,
    "steps": 45,
    "rate": 1e-4,
}

STORED = {
    "planning": _students("planning", 120, sinks="asked"),
    "planning_all": _students("planning", 60, sinks="all"),
    "planning_topics": _students("planning", 30, level="topics", sinks="asked"),
    "diagnosis": _students("diagnosed", 120),
    "planning_seed1": _students("planning", 60, sinks="asked", seed=1),
    "sessions": _students("sessions", 80, n_sessions=4),
    "edges": _students("edges", 40, sinks="asked", shares=[0.025, 0.05, 0.1]),
    "grounding": Stored("agents:run", {"level": "sections", "n_students": 24, "seed": 0}, prefix={"n_students": 1}),
    "retrieval": Stored("retrieval:run", _RETRIEVAL, assets=["minilm-l6"], prefix={"n_seeds": 1}),
    "prompts": _prompts("smollm2-135m", 24),
    "scale": Stored(
        "measure.scale:run",
        {"graphs": ["topics", "sections", 2000], "weak": [5, 10, 20, 40], "n_each": 3, "seed": 0},
        machine_curves=("instances",),
    ),
}
