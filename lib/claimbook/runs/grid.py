"""What Snakemake has to do: runs of chapters (tier x models x seed) and stored runs that are stale or missing.

The Snakefile asks here. A target's name ends in the fingerprint of what makes it, so staleness is decided by our own
hash and never by the time a file was written: in a fresh clone nothing is wanted.
"""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass

from claimbook import paths
from claimbook.assets import local
from claimbook.errors import AGREES, FAILED, MOVED, ClaimbookError
from claimbook.provenance import fingerprints, machine, seals
from claimbook.runs import compare, parameters, stored_runs

FOLDER = "_runs/grid"


@dataclass(frozen=True)
class Job:
    """One target and the command that makes it."""

    target: str
    arguments: tuple[str, ...]
    wanted: bool

    @property
    def command(self) -> str:
        """For a shell. A run of which a verdict moved has a result too."""
        words = [sys.executable, "-m", "claimbook", *self.arguments, "--result", self.target]
        return shlex.join(words) + f" || [ $? -eq {MOVED} ]"


def plan(config: dict) -> dict[str, Job]:
    """All jobs by target; ``wanted`` marks those to be done.

    ``config`` (Snakemake's ``--config``): ``only`` (runs or sweeps), and lists separated by spaces: ``chapters``,
    ``tiers``, ``models`` (each may be several, by commas), ``seeds``. By default all chapters with their own
    parameters, and all stored runs; a chapter whose stored runs have to be made first waits for its turn.
    """
    unknown = config.keys() - {"only", "chapters", "tiers", "models", "seeds"}
    if unknown or config.get("only") not in (None, "runs", "sweeps"):
        raise ClaimbookError(f"the grid knows only=runs|sweeps, chapters, tiers, models, seeds, not {dict(config)}")
    only, jobs = config.get("only"), []
    for chapter in _words(config, "chapters") or paths.chapters():
        stored = _sweeps(chapter) if only != "runs" else []
        ready = paths.notebook(chapter).exists() and not any(job.wanted for job in stored)
        jobs += stored + (_runs(chapter, config) if only == "runs" or (only is None and ready) else [])
    return {job.target: job for job in jobs}


def _words(config: dict, key: str) -> list[str]:
    """The values of a list; the path of a model may hold spaces itself."""
    return local.names(str(config.get(key, "")), " ")


def _runs(chapter: str, config: dict) -> list[Job]:
    if not paths.notebook(chapter).exists() and not config.get("chapters"):
        return []  # a ledger whose notebook is still to come
    defaults = parameters.defaults(chapter)
    jobs = []
    for tier in _words(config, "tiers") or [defaults["tier"]]:
        mark = fingerprints.chapter_fingerprint(chapter, tier)
        for models in _words(config, "models") or [defaults["models"]]:
            for seed in _words(config, "seeds") or [str(defaults["seed"])]:
                jobs.append(_run(chapter, tier, models, seed, mark))
    return jobs


def _run(chapter: str, tier: str, models: str, seed: str, mark: str) -> Job:
    values = parameters.resolve(chapter, {"tier": tier, "models": models, "seed": seed})
    target = f"{FOLDER}/{chapter}/{tier}--{parameters.slug(values['models'])}--s{seed}--{mark}.json"
    arguments = ("rerun", chapter, "--tier", tier, "--models", models, "--seed", seed)
    wanted = not any(_is_this(result, values, mark) for result in _promoted(chapter, values))
    return Job(target, arguments, wanted)


def _promoted(chapter: str, values: dict) -> list[dict]:
    device = parameters.pick_device(values["device"], values["models"])
    beside = parameters.beside(chapter, values, device)
    other = [seals.read(beside)] if beside.exists() else []
    return [result for result in (compare.reference(chapter), *other) if result]


def _is_this(result: dict, values: dict, mark: str) -> bool:
    same = all(result["parameters"].get(name) == local.public(value) for name, value in values.items())
    return same and result["provenance"]["code_hash"] == mark


def _sweeps(chapter: str) -> list[Job]:
    jobs = []
    for name, state in stored_runs.status(chapter).items():
        target = f"{FOLDER}/{chapter}/{name}--{fingerprints.sweep_fingerprint(chapter, name)}.json"
        jobs.append(Job(target, ("sweeps", chapter, "--name", name), state != "fresh"))
    return jobs


def snakemake(config: dict, jobs: int = 1, dry: bool = False, more: list[str] | None = None) -> int:
    """Run Snakemake on this machine; `AGREES`, or `FAILED` when a job failed, which Snakemake then names.

    No lock of its own: it would outlive a killed run, and stored runs have locks that do not.
    """
    if not os.access(paths.root(), os.W_OK):  # a tree for reading only: Snakemake would end in a traceback
        raise ClaimbookError(f"nothing can be written in {paths.root()}, where Snakemake keeps its notes: use a copy")
    paths.runs().mkdir(exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(paths.root() / "Snakefile")]
    command += ["--directory", str(paths.root()), "--cores", str(jobs * machine.threads())]
    command += ["--nolock", "--rerun-incomplete", "--keep-going", *(["--dry-run"] if dry else []), *(more or [])]
    options = [f"{key}={value}" for key, value in config.items() if value]
    done = subprocess.run(command + (["--config", *options] if options else []))
    return FAILED if done.returncode else AGREES
