"""Stored runs: what costs more than a chapter's two minutes is run once, promoted as one small JSON, and read back.

A chapter declares them, see ``claimbook.provenance.declarations``. The function named, ``run(config, work, progress)
-> {"metrics": …, "curves": …}``, may keep checkpoints in ``work``: a killed run goes on from there. It may leave one
artefact, such as trained weights: ``"artefact"`` then holds the path of a safetensors file in ``work``. Results land in
``_runs/sweeps/<chapter>/`` and reach ``data/sweeps/<chapter>/`` only when they are complete and promoted.
"""

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from claimbook import files, paths
from claimbook.errors import ClaimbookError
from claimbook.provenance import declarations, fingerprints, machine, seals
from claimbook.runs.progress import Progress, Stopwatch

TOLERANCE = 1e-3  # relative: how far what is run again may lie from what is stored
LEAST = 5e-2  # numbers next to zero are compared as if they were so large: below 5e-5 all is rounding
ARTEFACT = ".safetensors"
MODULE, PACKAGE = "module ", "package "  # what may have moved where the beginning, run again, agrees
GLANCE = 0.2  # seconds in which another process, which only asks whether a run is going on, has let go of its lock


# --- declarations ------------------------------------------------------------------------------------------------


def way_out(chapter: str) -> str:
    return f"`claimbook sweeps {chapter}` makes it anew"


def scratch(chapter: str, name: str) -> Path:
    """Where a run leaves its result before it is promoted."""
    return paths.runs() / "sweeps" / chapter / f"{name}.json"


# --- running -----------------------------------------------------------------------------------------------------


def run(chapter: str, name: str, force: bool = False) -> Path:
    """Carry out one stored run and return the file of its result under ``_runs``.

    A result there that is fresh is kept unless ``force``. A run that was killed goes on from its checkpoints, which
    belong to one fingerprint: after a change of code or config it starts anew. Raises ClaimbookError when the same
    run is going on in another process or the disk is full.
    """
    stored = declarations.declared(chapter, name)
    path = scratch(chapter, name)
    parts = fingerprints.sweep_parts(chapter, name)
    mark = fingerprints.fingerprint(parts)
    with _alone(chapter, name):
        if not force and _reads_fresh(path, mark):
            return path
        work = _work_folder(path, mark, force)
        result = _header(chapter, name, parts) | _carry_out(chapter, stored, parts["config"], work, f"{chapter}/{name}")
        result["machine"] = machine.hardware()  # by now torch is there, which knows the GPU
        if "artefact" in result:
            result["artefact"] = _keep(Path(result["artefact"]), path.with_suffix(ARTEFACT))
        files.write_json(path, result)
        shutil.rmtree(work, ignore_errors=True)
    return path


def _header(chapter: str, name: str, parts: dict) -> dict:
    return {
        "chapter": chapter,
        "name": name,
        "fingerprint": fingerprints.fingerprint(parts),
        **{key: part for key, part in parts.items() if key != "packages"},
        **machine.collect(),
    }


def _carry_out(chapter: str, stored: declarations.Stored, config: dict, work: Path, label: str) -> dict:
    """Call the run's function; its wall time adds up over kills and resumptions."""
    module, function = declarations.target(chapter, stored)
    call = getattr(importlib.import_module(module), function, None)
    if call is None:
        raise ClaimbookError(f"stored run {label}: module {module} has no function '{function}'")
    machine.limit_threads()
    with Stopwatch(work / ".seconds") as clock, Progress(label) as progress:

        def report(fraction: float, message: str = "") -> None:
            clock.save()
            progress(fraction, message)

        result = call(config, work, report)
    if not isinstance(result, dict) or not result.keys() >= {"metrics", "curves"}:
        raise ClaimbookError(f"stored run {label}: {function} must return a dict with 'metrics' and 'curves'")
    return {"wall_s": round(clock.seconds, 1), **result}


def _keep(made: Path, place: Path) -> str:
    """Copy an artefact to its place, whole or not at all; its sha256. ClaimbookError when the run left no such file."""
    if made.suffix != ARTEFACT or not made.is_file():
        raise ClaimbookError(f"a stored run's artefact is a {ARTEFACT} file in its work folder, not '{made.name}'")
    files.copy(made, place)
    return files.sha256(place)


def _work_folder(path: Path, mark: str, anew: bool) -> Path:
    """Scratch folder of this very fingerprint; those of other fingerprints are swept away."""
    work = path.with_name(f"{path.stem}.work-{mark}")
    for old in path.parent.glob(f"{path.stem}.work-*"):
        if anew or old != work:
            shutil.rmtree(old, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    return work


def has_fresh_scratch(chapter: str, name: str) -> bool:
    """Whether ``_runs`` holds a finished result that may be promoted."""
    return _reads_fresh(scratch(chapter, name), fingerprints.sweep_fingerprint(chapter, name))


def _reads_fresh(path: Path, mark: str) -> bool:
    return path.exists() and files.read_json(path).get("fingerprint") == mark


def _alone(chapter: str, name: str):
    """Hold the run's lock, for a ``with``; it goes with the process, so a killed run never blocks the next one."""
    try:
        return FileLock(_lock(chapter, name)).acquire(timeout=GLANCE)
    except Timeout as error:
        raise ClaimbookError(f"stored run {chapter}/{name} is going on in another process: wait for it") from error


def _lock(chapter: str, name: str) -> Path:
    return scratch(chapter, name).with_suffix(".lock")


def _is_running(chapter: str, name: str) -> bool:
    """Whether the lock is held; no file is made to find out, and who may not write there does not see it."""
    if not os.access(_lock(chapter, name), os.W_OK):
        return False
    try:
        with _alone(chapter, name):
            return False
    except ClaimbookError:
        return True


# --- reading -----------------------------------------------------------------------------------------------------


def load(chapter: str, name: str) -> dict:
    """The promoted result of a stored run, with ``"freshness"`` added: "fresh" or "confirmed by prefix".

    ClaimbookError when it is missing or stale; the line says what changed and which command makes it anew.
    """
    path = paths.sweep(chapter, name)
    if not path.exists():
        raise ClaimbookError(f"stored run {chapter}/{name} is missing: {way_out(chapter)}")
    result = seals.read(path)
    parts = fingerprints.sweep_parts(chapter, name)
    freshness = _freshness(result, parts)
    if freshness is None:
        raise ClaimbookError(f"stored run {chapter}/{name} is stale ({_reason(result, parts)}): {way_out(chapter)}")
    _check_artefact(result, path)
    return result | {"freshness": freshness}


def artefact_faults(chapter: str, name: str) -> list[str]:
    """What is wrong with the artefact of a promoted stored run, in a line; none where it left none."""
    path = paths.sweep(chapter, name)
    try:
        if path.exists():
            _check_artefact(seals.read(path), path)
    except ClaimbookError as error:
        return [str(error)]
    return []


def _check_artefact(result: dict, path: Path) -> None:
    file = path.with_suffix(ARTEFACT)
    if "artefact" in result and not (file.is_file() and files.sha256(file) == result["artefact"]):
        what = "damaged" if file.exists() else "missing"
        raise ClaimbookError(
            f"stored run {result['chapter']}/{result['name']}: its artefact {file.name} is {what}: restore it from git "
            f"or make it anew ({way_out(result['chapter'])})"
        )


def tensors(chapter: str, name: str) -> dict:
    """The tensors that a stored run left as its artefact, by name. ClaimbookError where it left none; see `load`."""
    from safetensors.torch import load_file

    if "artefact" not in load(chapter, name):
        raise ClaimbookError(f"stored run {chapter}/{name} has no artefact")
    return load_file(paths.sweep(chapter, name).with_suffix(ARTEFACT))


def state(chapter: str, name: str) -> str:
    """``fresh``, ``stale``, ``missing`` or ``running`` of one promoted stored run."""
    if _is_running(chapter, name):
        return "running"
    path = paths.sweep(chapter, name)
    if not path.exists():
        return "missing"
    return "fresh" if _freshness(seals.read(path), fingerprints.sweep_parts(chapter, name)) else "stale"


def status(chapter: str) -> dict[str, str]:
    """State of every stored run that a chapter declares."""
    return {name: state(chapter, name) for name in declarations.table(chapter)}


def _freshness(result: dict, parts: dict) -> str | None:
    """How a stored result stands to the parts of today; None: stale. Not every change can be confirmed."""
    mark, moved = fingerprints.fingerprint(parts), _moved(result, parts)
    if result.get("fingerprint") == mark and not moved:
        return "fresh"
    confirmed = any(note["fingerprint"] == mark for note in result.get("confirmed", []))
    return "confirmed by prefix" if confirmed and all(name.startswith((MODULE, PACKAGE)) for name in moved) else None


def _reason(result: dict, parts: dict) -> str:
    return "changed: " + (", ".join(_moved(result, parts)) or "its fingerprint")


def _moved(result: dict, parts: dict) -> list[str]:
    """What changed since ``result``, read from the parts it stores; the names of `provenance.changed`."""
    return fingerprints.changed({key: result.get(key) for key in parts}, parts)


# --- experiments measured unit by unit ---------------------------------------------------------------------------


def experiment(chapter: str, name: str):
    """The experiment that a stored run is of; see `claimbook.experiments.units`."""
    module, _ = declarations.target(chapter, declarations.declared(chapter, name))
    return importlib.import_module(module).EXPERIMENT


def alike(chapter: str, name: str) -> dict[str, str | None]:
    """The stored runs of the same experiment, with the model of each."""
    run = declarations.declared(chapter, name).run
    return {key: one.config.get("model") for key, one in declarations.table(chapter).items() if one.run == run}


def beginning(chapter: str, name: str, shorter: dict) -> dict:
    """The curves of a stored run whose config is changed by ``shorter``, carried out here and now."""
    stored = declarations.declared(chapter, name)
    module, function = declarations.target(chapter, stored)
    with tempfile.TemporaryDirectory() as work:
        run = getattr(importlib.import_module(module), function)
        return run(stored.config | shorter, Path(work), lambda *progress: None)["curves"]


def agreement(now, stored) -> str:
    """One stable line: do rows or curves measured now equal the beginning of the stored ones?

    What only the stored ones have, being of a longer list of settings, does not count.
    """
    if stored is None:
        return "no stored run to compare with"
    if not files.as_json(now):
        return "nothing was measured to compare with the stored run"
    difference = _difference(*(files.as_json(one) for one in (now, stored)), partly=True)
    return (
        "the live part equals the stored run"
        if difference <= TOLERANCE
        else f"the live part differs from the stored run by {difference:.2g}"
    )


# --- promoting and confirming ------------------------------------------------------------------------------------


def promote(chapter: str, names: list[str] | None = None) -> list[str]:
    """Copy finished, fresh results from ``_runs`` to ``data/sweeps``; returns the names promoted.

    Without ``names``: all that differ from what is stored. A name asked for that has no fresh result is an error.
    """
    done = []
    for name in names or declarations.table(chapter):
        path = scratch(chapter, name)
        if not has_fresh_scratch(chapter, name):
            if names:
                raise ClaimbookError(f"stored run {chapter}/{name} has no fresh result: {way_out(chapter)}")
            continue
        result, stored = files.read_json(path), paths.sweep(chapter, name)
        _check_artefact(result, path)
        if not stored.exists() or seals.read(stored) != result:
            _store(chapter, name, result)
            done.append(name)
    return done


def _store(chapter: str, name: str, result: dict) -> None:
    """Write a result where stored runs lie, after its artefact: a kill in between leaves one that says "damaged"."""
    path, made = paths.sweep(chapter, name), scratch(chapter, name).with_suffix(ARTEFACT)
    if "artefact" in result and made.is_file() and files.sha256(made) == result["artefact"]:
        files.copy(made, path.with_suffix(ARTEFACT))
    seals.write(path, result)


def confirm(chapter: str, name: str, before: Path | None = None) -> float | None:
    """After a change of code or packages alone: rerun the declared prefix and, when it agrees, accept the stored run.

    The prefix is compared with what is stored, which another processor or a GPU may have made, or, with ``before``,
    with what the code of an earlier checkout gives on this machine: a folder in which the stored run is fresh; that
    says nothing of packages. The same for a result that was never promoted, as it came to its end after the code had
    changed or on another machine. A run is confirmed without a prefix of its own where one that differs from it by the
    seed alone, and was made alike, has been. Returns the largest relative difference, or None when the stored run needs
    no confirmation. ClaimbookError when it cannot be confirmed (config or an asset changed; no prefix declared; not
    fresh in ``before``) or the prefix disagrees.
    """
    stored, path = declarations.declared(chapter, name), paths.sweep(chapter, name)
    results = [seals.read(path)] if path.exists() else []
    results += [files.read_json(place) for place in (scratch(chapter, name),) if place.exists()]
    if not results:
        raise ClaimbookError(f"stored run {chapter}/{name} is missing: there is nothing to confirm")
    result, parts = max(results, key=lambda one: one["started"]), fingerprints.sweep_parts(chapter, name)
    mark = fingerprints.fingerprint(parts)
    if _freshness(result, parts):
        return None
    confirmable = (MODULE,) if before else (MODULE, PACKAGE)
    moved = [part for part in _moved(result, parts) if not part.startswith(confirmable)]
    if moved or stored.prefix is None:
        reason = f"{', '.join(moved)} changed" if moved else "it declares no prefix"
        raise ClaimbookError(f"stored run {chapter}/{name} cannot be confirmed ({reason}): {way_out(chapter)}")
    if not before and (note := _note_of_another_seed(chapter, name, result)):
        _store(chapter, name, result | {"confirmed": [*result.get("confirmed", []), note | {"fingerprint": mark}]})
        return note["max_rel_diff"]
    config = parts["config"] | declarations.normal(stored.prefix)
    with _alone(chapter, name):
        work = _work_folder(scratch(chapter, f"{name}.prefix"), mark, anew=True)
        reference = _as_before(chapter, name, config, work, before) if before else result["curves"]
        first = _carry_out(chapter, stored, config, work, f"{chapter}/{name} prefix")
        shutil.rmtree(work, ignore_errors=True)
    difference = prefix_difference(first["curves"], reference, stored.machine_curves)
    if not difference <= TOLERANCE:
        raise ClaimbookError(
            f"stored run {chapter}/{name} is not confirmed: its prefix differs by {difference:.2g} "
            f"(at most {TOLERANCE:g}): {way_out(chapter)}"
        )
    note = {"fingerprint": mark, "prefix": stored.prefix, "max_rel_diff": difference}
    note |= {"against": "the code before, on one machine"} if before else {}
    _store(chapter, name, result | {"confirmed": [*result.get("confirmed", []), note]})
    return difference


def _note_of_another_seed(chapter: str, name: str, result: dict) -> dict | None:
    """The note of a run that differs by its seed alone, was made alike and is confirmed by a prefix of its own."""

    def without_seed(config: dict) -> dict:
        return {key: value for key, value in config.items() if key != "seed"}

    def made(one: dict) -> dict:
        parts = ("function", "code", "modules", "assets", "data", "sweeps", "packages", "machine")
        return {part: one.get(part) for part in parts} | {"config": without_seed(one["config"])}

    stored = declarations.declared(chapter, name)
    for other, one in declarations.table(chapter).items():
        path = paths.sweep(chapter, other)
        alike = one.run == stored.run and without_seed(one.config) == without_seed(stored.config)
        if other == name or not alike or "seed" not in one.config or not path.exists():
            continue
        confirmed, mark = seals.read(path), fingerprints.sweep_fingerprint(chapter, other)
        for note in confirmed.get("confirmed", []):
            if note["fingerprint"] == mark and "of" not in note and made(confirmed) == made(result):
                return note | {"of": other}
    return None


# Run in an earlier checkout, by that checkout's own code: the prefix of a stored run, its curves as JSON.
_CARRY_OUT = """
import importlib, json, pathlib, sys
from claimbook.provenance import declarations
chapter, name, config, work, out = sys.argv[1:]
module, function = declarations.target(chapter, declarations.declared(chapter, name))
run = getattr(importlib.import_module(module), function)
curves = run(json.loads(config), pathlib.Path(work), lambda *progress: None)["curves"]
plain = lambda value: value.tolist() if hasattr(value, "tolist") else str(value)
pathlib.Path(out).write_text(json.dumps(curves, default=plain))
"""


def _as_before(chapter: str, name: str, config: dict, work: Path, before: Path) -> dict:
    """Curves of a prefix by the code of the checkout at ``before``, in which the stored run must be fresh."""
    own = os.environ | {"CLAIMBOOK_ROOT": str(before), "PYTHONPATH": str(before / "lib")}
    own |= {"OMP_NUM_THREADS": str(machine.threads()), "MKL_NUM_THREADS": str(machine.threads())}
    command = [sys.executable, "-m", "claimbook", "sweeps", chapter, "--list"]
    listed = subprocess.run(command, env=own, cwd=before, capture_output=True, encoding="utf-8", errors="replace")
    if f"{chapter}/{name}: fresh" not in listed.stdout:
        raise ClaimbookError(f"stored run {chapter}/{name} is not fresh in {before}: name a checkout in which it is")
    apart, out = work / "before", work / "before.json"
    apart.mkdir()
    arguments = [chapter, name, json.dumps(config), str(apart), str(out)]
    done = subprocess.run([sys.executable, "-c", _CARRY_OUT, *arguments], env=own, cwd=before, stderr=subprocess.PIPE)
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
        raise ClaimbookError(f"stored run {chapter}/{name}: the code in {before} failed: {reason}")
    return files.read_json(out)


def prefix_difference(first: dict, whole: dict, skip: tuple[str, ...] = ()) -> float:
    """Largest relative difference between curves and the beginnings of the stored ones.

    Curves are nested dicts of lists of numbers (or of equal-length lists). A curve that only one side has, one that is
    longer than the stored one, an empty one and NaN on one side count as infinitely different; so does no curve.
    """
    names = (first.keys() | whole.keys()) - set(skip)
    return max(
        (_difference(files.as_json(first.get(name)), files.as_json(whole.get(name))) for name in names),
        default=math.inf,
    )


def _difference(a, b, partly: bool = False) -> float:
    """Largest relative difference; ``partly``: b may have keys that a lacks."""
    if isinstance(a, dict) and isinstance(b, dict) and (a.keys() <= b.keys() if partly else a.keys() == b.keys()):
        return max((_difference(a[key], b[key], partly) for key in a), default=0.0)
    if isinstance(a, list) and isinstance(b, list) and 0 < len(a) <= len(b):
        return max(_difference(x, y, partly) for x, y in zip(a, b, strict=False))
    if a == b == []:
        return 0.0
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        if a == b or (math.isnan(a) and math.isnan(b)):
            return 0.0
        difference = abs(a - b) / max(abs(a), abs(b), LEAST)
        return math.inf if math.isnan(difference) else difference
    return 0.0 if a == b and not isinstance(a, (dict, list)) else math.inf
