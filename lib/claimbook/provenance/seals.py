"""Seals of stored files: a number that is changed by hand does not pass for one that was measured.

Whatever is promoted (results, stored runs, benchmarks) carries the hash of all else in it. That is no lock: who means
to forge can compute a new seal. It keeps a slip of the hand, a merge or a search-and-replace from looking like one.
"""

from pathlib import Path

from claimbook import files, paths
from claimbook.errors import ClaimbookError
from claimbook.provenance.codehash import digest

KEY = "seal"


def write(path: Path, data: dict) -> None:
    """Write ``data`` as JSON with its seal, atomically."""
    files.write_json(path, {KEY: digest(files.as_json(data)), **data})


def read(path: Path) -> dict:
    """The data of a sealed file, without its seal. ClaimbookError when it is damaged or was changed by hand."""
    data = files.read_json(path)
    if data.pop(KEY, None) != digest(data):
        name = path.relative_to(paths.root()) if path.is_relative_to(paths.root()) else path.name
        raise ClaimbookError(f"{name} is not as it was stored: a hand changed it; restore it from git or make it anew")
    return data


def outputs(nb: dict) -> str:
    """Hash of all that a stored notebook's cells printed, drew and glued; its result file keeps it."""
    return digest([cell["outputs"] for cell in nb["cells"] if cell["cell_type"] == "code"])
