"""What a stored number was made by, and whether that is still what stands in the repository.

A *fingerprint* is a hash of named parts: code, claims, assets, stored runs, package versions. Code is hashed by its
syntax tree without comments, docstrings and names of modules, so that neither prose nor a move costs a rerun. Each
part is kept beside the fingerprint, so that a stale result can say what moved; for the code these are the modules,
by name, which the fingerprint itself does not contain. Nothing here imports torch, and nothing records a machine's
name or folders.
"""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from claimbook import files, paths
from claimbook.codehash import (
    code_cells,
    code_hash,
    digest,
    import_closure,
    module_file,
    module_hashes,
    notebook_hash,
    notebook_imports,
    words,
)
from claimbook.errors import ClaimbookError

# Versions of these can move a number; of others the lock file speaks.
PACKAGES = ("torch", "transformers", "numpy")

Parts = dict[str, object]


# --- fingerprints ------------------------------------------------------------------------------------------------


def fingerprint(parts: Parts) -> str:
    """One hash of all parts but ``modules``, which says what ``code`` is a hash of."""
    return digest({name: part for name, part in parts.items() if name != "modules"})


# parts that are dicts -> what one entry of theirs is called
WORDS = {"assets": "asset", "packages": "package", "sweeps": "stored run", "data": "data file"}


def changed(stored: Parts, current: Parts) -> list[str]:
    """Names of the parts that differ, each as a reader would say it: ``module claimbook.stats``, ``claims``."""
    names = []
    for part in sorted((stored.keys() | current.keys()) - {"modules"}):
        old, new = stored.get(part), current.get(part)
        if old == new:
            continue
        if part == "code":
            names += _changed_modules(stored.get("modules") or {}, current.get("modules") or {})
        elif isinstance(old, dict) and isinstance(new, dict) and part in WORDS:
            names += [f"{WORDS[part]} {key}" for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        else:
            names.append(part)
    return names


def _changed_modules(old: dict, new: dict) -> list[str]:
    """Modules of today whose code ran otherwise or not at all, then those that are no longer needed."""
    moved = [name for name in new if new[name] not in old.values()]
    gone = [name for name in old if old[name] not in new.values() and name not in new]
    return [f"module {name}" for name in moved + gone] or ["module imports"]


def sweep_parts(chapter: str, name: str, config: dict | None = None) -> Parts:
    """Parts of a stored run's fingerprint: config, function, code, assets, stored runs it reads, package versions."""
    from claimbook import sweeps

    stored = sweeps.declared(chapter, name)
    module, function = sweeps.target(chapter, stored)
    return {
        "config": sweeps.normal(stored.config if config is None else config),
        "function": function,
        "code": code_hash([module]),
        "modules": module_hashes([module]),
        "assets": asset_digests(stored.assets),
        "packages": versions(),
        **data_parts(chapter),
        **_some("sweeps", {read: stored_hash(*read.split("/")) for read in stored.reads}),
    }


def _some(name: str, part: dict) -> Parts:
    return {name: part} if part else {}


def stored_hash(chapter: str, name: str) -> str:
    """Hash of what a stored run says, "missing" without it. How it was stamped and confirmed does not count."""
    path = paths.sweep(chapter, name)
    if not path.exists():
        return "missing"
    stamps = {"fingerprint", "function", "code", "modules", "confirmed"}
    return digest({key: value for key, value in files.read_json(path).items() if key not in stamps})


def sweep_fingerprint(chapter: str, name: str, config: dict | None = None) -> str:
    """Fingerprint of a stored run as declared (or with another ``config``) under the code of today."""
    return fingerprint(sweep_parts(chapter, name, config))


def chapter_parts(chapter: str, tier: str = "cpu") -> Parts:
    """Parts of a chapter's fingerprint at a tier (smoke runs stand under the claims of cpu).

    Assets are the catalogue's keys that occur as strings in the notebook's cells or in the modules it imports: a
    static over-estimate, so none that was used can be missing. So are stored runs of other chapters ("chapter/name").
    """
    from claimbook import claims, sweeps

    nb = files.read_json(_existing(paths.notebook(chapter), f"chapter '{chapter}' has no notebook"))
    names = notebook_imports(nb)
    sources = code_cells(nb) + [module_file(name).read_text(encoding="utf-8") for name in import_closure(names)]
    strings = set().union(*(words(source) for source in sources))
    return {
        "cells": notebook_hash(nb),
        "code": code_hash(names, code_cells(nb)),
        "modules": module_hashes(names),
        "claims": digest(claims.measuring_keys(claims.load(chapter), "cpu" if tier == "smoke" else tier)),
        "assets": asset_digests(strings & _catalogue().keys()),
        "sweeps": {
            **{name: stored_hash(chapter, name) for name in sweeps.table(chapter)},
            **{name: stored_hash(*name.split("/")) for name in sorted(strings) if sweeps.is_elsewhere(chapter, name)},
        },
        "packages": versions(),
        **data_parts(chapter),
    }


def chapter_fingerprint(chapter: str, tier: str = "cpu") -> str:
    """Fingerprint of a chapter under the code, claims, assets, stored runs and package versions of today."""
    return fingerprint(chapter_parts(chapter, tier))


def data_parts(chapter: str) -> Parts:
    """``{"data": {file: hash}}`` for a chapter that keeps small data sets in the repository, else nothing.

    They are text, so a checkout with other line endings has the same hashes.
    """
    folder = paths.chapter_data(chapter)
    hashes = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return _some("data", hashes)


def asset_digests(keys: Iterable[str]) -> dict[str, str]:
    """Content digest of each asset, from the catalogue; the asset itself need not be there."""
    if not keys:
        return {}
    from claimbook import assets

    return {key: assets.digest(key) for key in sorted(keys)}


def _catalogue() -> dict:
    from claimbook import assets

    return assets.load_catalogue()


def _existing(path: Path, complaint: str) -> Path:
    if not path.exists():
        raise ClaimbookError(f"{complaint} ({path.relative_to(paths.root())}): see `claimbook status`")
    return path


# --- what a run records ------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Public versions of the packages that can move a number: 2.13.0, without ``+cpu`` or ``+cu130``."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def threads() -> int:
    """Threads of a run: ``$CLAIMBOOK_THREADS``, else 2, as in the reference runs."""
    text = os.environ.get("CLAIMBOOK_THREADS", "2")
    if not text.isdigit() or int(text) < 1:
        raise ClaimbookError(f"CLAIMBOOK_THREADS must be a whole number of at least 1, not '{text}'")
    return int(text)


def limit_threads() -> None:
    """Make torch use `threads`, whether it is imported already or will be."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads())
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads())


def git_state() -> tuple[str, bool]:
    """Commit and whether anything differs from it (untracked files count); ``("", False)`` outside git."""
    commit = _git("rev-parse", "HEAD").strip()
    return (commit, bool(uncommitted())) if commit else ("", False)


def uncommitted() -> list[str]:
    """Files that differ from the commit or are untracked, from the repository's root."""
    entries = _git("status", "--porcelain", "--no-renames", "--untracked-files=all", "-z").split("\0")
    return [entry[3:] for entry in entries if entry]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(paths.root()), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def collect() -> dict:
    """What every stored result says about its making: commit, versions, threads, Python, platform, start."""
    commit, dirty = git_state()
    return {
        "git": commit,
        "dirty": dirty,
        "packages": versions(),
        "threads": threads(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine() -> str:
    """The hardware in words: processor, cores this process may use, memory; never a name or a path."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [_processor(), f"{cores} cores"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        words.append(f"{round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30)} GB")
    torch = sys.modules.get("torch")  # never imported for this
    if torch is not None and torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return ", ".join(words)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
