"""What a run measures by tier, what it reads of stored runs, and the reader's own files."""

from claimbook.errors import ClaimbookError
from claimbook.experiments.graphmasal import own_files
from claimbook.experiments.graphmasal.own_files import Own
from claimbook.provenance import declarations
from claimbook.runs import stored_runs

# Where no stored run speaks for a run: a smoke run on the small graph, another seed on fewer students than are stored.
LIVE = {"smoke": {"level": "topics", "n_students": 6}, "cpu": {"n_students": 24}, "gpu": {}}


def check(parameters: dict[str, object]) -> None:
    """ClaimbookError, before a kernel starts, for files that the chapter cannot read and for several models."""
    if "," in parameters["models"]:
        raise ClaimbookError(f"graphmasal prompts one model at a time, not '{parameters['models']}'")
    own_files.load(parameters)


def own(run) -> Own:
    """The reader's graph, learners and ratings, or the example's."""
    return own_files.load(run.parameters)


def rows(run, name: str) -> list:
    """Rows of a stored run on simulated learners where it speaks for this run, else measured now."""
    same = run.seed == declarations.declared(run.chapter, name).config["seed"] and not run.smoke
    return (run.read(name, of="") if same else []) or now(run, name, **LIVE[run.tier])


def now(run, name: str, **live) -> list:
    """Rows measured here and now, the stored run's config changed by ``live``."""
    declared = declarations.declared(run.chapter, name).config
    return stored_runs.experiment(run.chapter, name).now(None, declared | {"seed": run.seed} | live)


def stored(run, name: str) -> list:
    """Rows of a stored run that is too long to be measured live; none where it does not speak for this run."""
    return run.read(name, of=declarations.declared(run.chapter, name).config.get("model", ""))
