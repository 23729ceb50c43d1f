"""What a stored number was made by, and whether that is still what stands in the repository.

A *fingerprint* is a hash of named parts: code, claims, assets, stored runs, package versions. Code is hashed by its
syntax tree without comments, docstrings and names of modules, so that neither prose nor a move costs a rerun. Each
part is kept beside the fingerprint, so that a stale result can say what moved; for the code these are the modules,
by name, which the fingerprint itself does not contain. Nothing here imports torch, and nothing records a machine's
name or folders.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from claimbook import files, paths
from claimbook.assets import catalogue
from claimbook.claims import ledgers
from claimbook.errors import ClaimbookError
from claimbook.provenance import declarations, machine, seals
from claimbook.provenance.codehash import (
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

    stored = declarations.declared(chapter, name)
    module, function = declarations.target(chapter, stored)
    return {
        "config": declarations.normal(stored.config if config is None else config),
        "function": function,
        "code": code_hash([module]),
        "modules": module_hashes([module]),
        "assets": asset_digests(stored.assets),
        "packages": machine.versions(),
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
    return digest({key: value for key, value in seals.read(path).items() if key not in stamps})


def sweep_fingerprint(chapter: str, name: str, config: dict | None = None) -> str:
    """Fingerprint of a stored run as declared (or with another ``config``) under the code of today."""
    return fingerprint(sweep_parts(chapter, name, config))


def chapter_parts(chapter: str, tier: str = "cpu") -> Parts:
    """Parts of a chapter's fingerprint at a tier (smoke runs stand under the claims of cpu).

    Assets are the catalogue's keys that occur as strings in the notebook's cells or in the modules it imports: a
    static over-estimate, so none that was used can be missing. So are stored runs of other chapters ("chapter/name").
    """
    nb = files.read_notebook(_existing(paths.notebook(chapter), f"chapter '{chapter}' has no notebook"))
    names = notebook_imports(nb)
    sources = code_cells(nb) + [module_file(name).read_text(encoding="utf-8") for name in import_closure(names)]
    strings = set().union(*(words(source) for source in sources))
    return {
        "cells": notebook_hash(nb),
        "code": code_hash(names, code_cells(nb)),
        "modules": module_hashes(names),
        "claims": digest(ledgers.measuring_keys(ledgers.load(chapter), "cpu" if tier == "smoke" else tier)),
        "assets": asset_digests(strings & catalogue.load_catalogue().keys()),
        "sweeps": {
            **{name: stored_hash(chapter, name) for name in declarations.table(chapter)},
            **{name: stored_hash(*name.split("/")) for name in strings if declarations.is_elsewhere(chapter, name)},
        },
        "packages": machine.versions(),
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

    return {key: catalogue.digest(key) for key in sorted(keys)}


def _existing(path: Path, complaint: str) -> Path:
    if not path.exists():
        raise ClaimbookError(f"{complaint} ({path.relative_to(paths.root())}): see `claimbook status`")
    return path
