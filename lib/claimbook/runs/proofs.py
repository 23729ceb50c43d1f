"""Whether a chapter's method can treat a model, found out before a kernel starts.

A method says so by ``prove(model)`` in ``claimbook.papers.<chapter>``. The model is loaded once for it, in a process of
its own whose memory goes with it. That it can is kept in the cache under the fingerprint of model and method; that it
cannot is asked anew, as the reason may have been the machine's, such as memory that was short. Models of a hub are
proven when the notebook loads them: they would else be fetched and loaded twice.
"""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from claimbook import files, paths
from claimbook.assets import catalogue, local
from claimbook.errors import ClaimbookError
from claimbook.provenance import machine
from claimbook.provenance.codehash import code_hash, digest, module_file
from claimbook.runs import parameters


def check(chapter: str, values: dict[str, object]) -> None:
    """ClaimbookError, in one line, for a model of the run that is not whole or that the chapter cannot treat."""
    method = f"claimbook.papers.{chapter}"
    if module_file(method) is None:
        return
    for name in parameters.model_names(values["models"]):
        content = _content(name)
        if content is None:
            continue
        mark = digest([content, values["dtype"], code_hash([method, "claimbook.lm.load"]), machine.versions()])
        note = paths.cache() / "proofs" / mark
        if note.exists():
            continue
        if refused := _ask(method, name, values):
            reason = refused.removeprefix(f"model '{name}'").removeprefix(":").strip()
            raise ClaimbookError(f"{chapter} cannot be run on model '{name}': {reason}")
        files.write_note(note, name)


def _content(name: str) -> str | None:
    """What identifies a model by its weights; None for one that is built here or that a hub would send."""
    if name in catalogue.load_catalogue():
        return catalogue.digest(name)
    return local.identity(Path(name)) if Path(name).is_dir() else None


def _ask(method: str, name: str, values: dict[str, object]) -> str:
    """The reason for a refusal, "" for none."""
    device = parameters.pick_device(values["device"], name)
    command = [sys.executable, "-m", "claimbook.runs.proofs", method, name, device, str(values["dtype"])]
    done = subprocess.run(command, capture_output=True, cwd=paths.root(), encoding="utf-8", errors="replace")
    if done.returncode not in (0, 2):
        raise ClaimbookError(f"model '{name}' could not be tried: {_last_line(done.stderr)}")
    return _last_line(done.stderr) if done.returncode else ""


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it ended without a word"])[-1]


def main(method: str, name: str, device: str, dtype: str) -> int:
    """Load and prove one model; 2 and the reason on standard error when it is refused."""
    from claimbook.lm import load

    try:
        lm = load.load(name, device, dtype)
        if refused := refusal(getattr(importlib.import_module(method), "prove", None), lm.model):
            raise ClaimbookError(refused)
    except ClaimbookError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def refusal(prove: Callable | None, model) -> str:
    """Why a method's own check refuses a model, in one line; "" when it does not."""
    try:
        if prove:
            prove(model)
    except ClaimbookError as error:
        return str(error)
    except Exception as error:  # a family may be built in a way that no check foresaw: that too is a refusal
        first = (str(error).splitlines() or ["no message"])[0][:160]
        return f"'{model.config.model_type}' is built in a way not known here ({type(error).__name__}: {first})"
    return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
