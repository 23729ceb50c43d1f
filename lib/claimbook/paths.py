"""Where everything lives; the only module that knows the layout.

Functions, not constants, so that a test can point ``CLAIMBOOK_ROOT`` at a doctored copy.
"""

import functools
import importlib.util
import os
from pathlib import Path

from claimbook.errors import ClaimbookError


def root() -> Path:
    """Repository root: ``$CLAIMBOOK_ROOT``, else the checkout this package is installed from."""
    return _resolved(os.environ.get("CLAIMBOOK_ROOT") or "", os.getcwd())


@functools.lru_cache(maxsize=16)
def _resolved(path: str, folder: str) -> Path:
    """An absolute path; it is asked for some hundred thousand times while hashes of code are made."""
    return Path(folder, path or Path(__file__).parents[2]).resolve()


def cache() -> Path:
    """Folder of fetched and converted assets: ``$CLAIMBOOK_CACHE``, else ``~/.cache/claimbook``."""
    try:
        return Path(os.environ.get("CLAIMBOOK_CACHE") or "~/.cache/claimbook").expanduser()
    except RuntimeError:
        raise ClaimbookError("there is no home folder: name a folder for models and texts by CLAIMBOOK_CACHE") from None


def expanded(text: str) -> Path:
    """A path as a user typed it; "~" of somebody who has no home stays as it is, and names nothing."""
    return Path(os.path.expanduser(text))


def notebook(chapter: str) -> Path:
    return root() / "notebooks" / f"{chapter}.ipynb"


def ledger(chapter: str) -> Path:
    return root() / "data" / "claims" / f"{chapter}.yaml"


def result(chapter: str) -> Path:
    """Promoted result of the reference run."""
    return root() / "data" / "results" / f"{chapter}.json"


def results_beside(chapter: str) -> Path:
    """Folder of the other promoted runs of a chapter."""
    return root() / "data" / "results" / chapter


def sweep(chapter: str, name: str) -> Path:
    """Promoted stored run."""
    return root() / "data" / "sweeps" / chapter / f"{name}.json"


def chapter_data(chapter: str) -> Path:
    """Small data sets of a chapter, kept in the repository."""
    return root() / "data" / chapter


def runs() -> Path:
    """Scratch space of runs; nothing in it is tracked."""
    return root() / "_runs"


def matplotlibrc() -> Path:
    """matplotlib's own settings, which stand in for those that a user may have."""
    return Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data" / "matplotlibrc"


def chapters() -> list[str]:
    """Names of all chapters, by their ledgers; what an editor or a file server leaves beside these has no such name."""
    return sorted(path.stem for path in (root() / "data" / "claims").glob("*.yaml") if path.stem.isidentifier())
