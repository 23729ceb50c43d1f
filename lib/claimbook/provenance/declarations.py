"""Declarations of stored runs, and what the function of one is given to keep its checkpoints.

A chapter declares its stored runs in ``claimbook.experiments.<chapter>.stored``::

    STORED = {"stream_1m": Stored("stream:run", config={"n_tokens": 1_000_000}, assets=["smollm2-135m"])}

``claimbook.runs.stored_runs`` carries them out.
"""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from claimbook import files, paths
from claimbook.errors import ClaimbookError
from claimbook.provenance.codehash import module_file


@dataclass(frozen=True)
class Stored:
    """Declaration of one stored run.

    ``run``: "module:function", the module dotted in full or relative to the chapter's experiments package.
    ``config``: everything that defines the run, the seed included; JSON-able. ``assets``: keys of the catalogue.
    ``prefix``: overrides of ``config`` that make a short first part of the same run, for `confirm`; None: cannot be
    confirmed. ``machine_curves``: curves that time or weigh the machine, which `confirm` does not compare. ``reads``:
    stored runs, as "chapter/name", that this one reads.
    """

    run: str
    config: dict
    assets: list[str] = field(default_factory=list)
    prefix: dict | None = None
    machine_curves: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


def table(chapter: str) -> dict[str, Stored]:
    """The stored runs a chapter declares; empty when it declares none."""
    name = f"claimbook.experiments.{chapter}.stored"
    try:
        return importlib.import_module(name).STORED
    except ModuleNotFoundError as error:
        if error.name not in (name, name.rpartition(".")[0]):
            raise
    return {}


def declared(chapter: str, name: str) -> Stored:
    """One declared stored run; ClaimbookError lists the names there are."""
    runs = table(chapter)
    if name not in runs:
        raise ClaimbookError(f"{chapter} declares no stored run '{name}': it has {', '.join(runs) or 'none'}")
    return runs[name]


def place(chapter: str, name: str) -> tuple[str, str]:
    """Chapter and name of a stored run as a chapter calls it: its own by ``name``, another's by "chapter/name"."""
    other, slash, own = name.rpartition("/")
    return (other, own) if slash else (chapter, name)


def is_elsewhere(chapter: str, text: str) -> bool:
    """Whether a string names a stored run of another chapter."""
    other, _, name = text.partition("/")
    return other != chapter and other in paths.chapters() and name in table(other)


def target(chapter: str, stored: Stored) -> tuple[str, str]:
    """Full module name and function name of a stored run."""
    module, _, function = stored.run.partition(":")
    if not module.startswith("claimbook."):
        module = f"claimbook.experiments.{chapter}.{module}"
    if not function or module_file(module) is None:
        raise ClaimbookError(f"stored run of {chapter} names '{stored.run}': write it as 'module:function'")
    return module, function


def normal(config: dict) -> dict:
    """The config as JSON gives it back (tuples become lists), so that stored and declared ones compare."""
    return json.loads(json.dumps(config, default=files.plain))


def checkpointed(jobs: dict[str, Callable[[], dict]], work: Path, progress) -> dict[str, dict]:
    """Results of ``jobs`` by name, in order, each kept in ``work`` when it is done: a killed run goes on from them."""
    for i, (name, job) in enumerate(jobs.items()):
        progress(i / len(jobs), name)
        checkpoint = work / f"{i}.json"
        if not checkpoint.exists():
            files.write_json(checkpoint, job())
    return {name: files.read_json(work / f"{i}.json") for i, name in enumerate(jobs)}
