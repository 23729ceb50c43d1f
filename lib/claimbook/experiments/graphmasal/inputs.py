"""What a run measures by tier, what it reads of stored runs, and the reader's own files."""

import importlib

from claimbook.errors import ClaimbookError
from claimbook.experiments.graphmasal import own_files
from claimbook.experiments.graphmasal.own_files import Own
from claimbook.provenance import declarations

# Where no stored run speaks for a run: a smoke run on the small graph, another seed on fewer students than are stored.
LIVE = {"smoke": {"level": "topics", "n_students": 6}, "cpu": {"n_students": 12}, "gpu": {"n_students": 24}}


def check(parameters: dict[str, object]) -> None:
    """ClaimbookError, before a kernel starts, for files that the chapter cannot read and for several models."""
    if "," in parameters["models"]:
        raise ClaimbookError(f"graphmasal prompts one model at a time, not '{parameters['models']}'")
    if parameters["text"]:
        raise ClaimbookError("graphmasal reads no text: leave it empty; topics= and answers= take files of your own")
    own_files.load(parameters)


def own(run) -> Own:
    """The reader's graph, learners and ratings, or the example's."""
    return own_files.load(run.parameters)


def rows(run, name: str) -> list:
    """Rows of a stored run on simulated learners where one speaks for this run and its seed, else measured now."""
    stored = declarations.table(run.chapter)
    same = [key for key in (name, f"{name}_seed{run.seed}") if key in stored and stored[key].config["seed"] == run.seed]
    kept = run.read(same[0], of="") if same and not run.smoke else []
    return kept or now(run, name, **LIVE[run.tier])


def now(run, name: str, lm=None, **live) -> list:
    """Rows measured here and now, the stored run's config changed by ``live``."""
    declared = declarations.declared(run.chapter, name)
    module, _ = declarations.target(run.chapter, declared)
    return importlib.import_module(module).EXPERIMENT.now(lm, declared.config | {"seed": run.seed} | live)


def prompted(run) -> dict[str, list]:
    """Rows of prompts by model: stored ones, and the run's own measured now where it is none of the ledger's.

    A learner takes more than a minute on a processor, so that one of the ledger's models is never prompted live there.
    """
    table = declarations.table(run.chapter)
    runs = {
        one.config["model"]: (name, one.config["seed"]) for name, one in table.items() if name.startswith("prompts")
    }
    found = {model: run.read(name, of=model) if seed == run.seed else [] for model, (name, seed) in runs.items()}
    if run.main not in runs or run.tier == "gpu":
        own = LIVE[run.tier] | {"level": "topics", "n_students": 6 if run.tier == "gpu" else 2}
        found[run.main] = now(run, "prompts", run.model(), **own)
    return {model: rows for model, rows in sorted(found.items(), key=lambda one: one[0] != run.main) if rows}


def stored(run, name: str) -> list:
    """Rows of a stored run that is too long to be measured live; none where it is not there or speaks for another."""
    declared = declarations.table(run.chapter).get(name)
    return run.read(name, of=declared.config.get("model", "")) if declared else []
