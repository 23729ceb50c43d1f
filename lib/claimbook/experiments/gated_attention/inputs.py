"""Which stored rows speak for a run, and what is measured or trained again while the page runs."""

import os
from pathlib import Path

from claimbook.errors import ClaimbookError
from claimbook.experiments.gated_attention.measure import logs, released, text, toys
from claimbook.experiments.gated_attention.stored import ARMS, TOY_RUNS, TOYS, seeds, text_run

TEXT = "wikipedia-excerpt"
LIVE_STEPS = {"smoke": 30, "cpu": 60}  # of the toy that is trained again
LIVE = {"smoke": {"n_documents": 2, "length": 64}}  # of what is measured on a model or text that no stored run is of


def check(parameters: dict[str, object]) -> None:
    """ClaimbookError, before a kernel starts, for several models, and for a folder that is not there."""
    folder = parameters.get("released")
    if folder and not Path(folder).is_absolute():
        raise ClaimbookError(f"released is '{folder}': give its whole path, as a notebook runs in another folder")
    if folder and not all(os.path.isfile(Path(folder, name, "config.json")) for name in released.FOLDERS.values()):
        raise ClaimbookError(f"'{folder}' does not hold {', '.join(released.FOLDERS.values())}, a config.json in each")
    if "," in parameters["models"]:
        raise ClaimbookError(f"gated_attention reads one model at a time, not '{parameters['models']}'")


def toy_rows(run) -> dict[str, list[toys.Row]]:
    """Every arm of the toys that is stored; none at the gpu tier."""
    found = {}
    for family in TOYS if run.tier != "gpu" else ():
        if stored := run.stored(f"toys_{family}"):
            found |= toys.read(stored)
    return found


def text_rows(run) -> dict[str, list[text.Row]]:
    """Every arm trained on text that is stored, by seed; none at the gpu tier."""
    found = {}
    for arm in ARMS if run.tier != "gpu" else ():
        if rows := [text.read(stored) for seed in seeds(arm) if (stored := run.stored(text_run(arm, seed)))]:
            found[arm] = rows
    return found


def real_rows(run, lm, name: str) -> dict[str, list]:
    """Rows of "onset" or "retrofit" by model: stored ones where they are, and of the run's own model."""
    return run.rows(name, lm, text=run.text, **LIVE.get(run.tier, {"draws": 1}))


def released_rows(run) -> dict[str, list[released.Row]]:
    """Rows of the paper's released models, at the gpu tier where their folder is given."""
    if run.tier != "gpu" or not run.parameters["released"]:
        return {}
    return released.rows(run.parameters["released"], run.text, run.device, run.parameters["dtype"])


def audited(run) -> logs.Row | None:
    """The audit of the authors' logs, stored."""
    stored = run.stored("logs")
    return logs.read(stored) if stored else None


def toy_again(run, arm: str = "none") -> list[float]:
    """The loss of a stored toy, its first steps trained once more with its own seed."""
    config = TOY_RUNS["toys_plain"].config
    steps = LIVE_STEPS.get(run.tier, 60)
    _, found, _, _, _ = toys.trained(config["arms"][arm], config["recipe"], config["seed"], steps)
    return found["loss"]
