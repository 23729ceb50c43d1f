"""Writing a file so that it is either the old one or the new one, never half of either."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from pathlib import Path

from claimbook.errors import ClaimbookError

FULL = (errno.ENOSPC, errno.EDQUOT)  # what the system says of a full disk, or of a full share of one


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically; errors as `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def copy(source: Path, path: Path) -> None:
    """Copy a file atomically; errors as `replacing`."""
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def replacing(path: Path, *also: type[Exception]) -> Iterator[Path]:
    """A temporary file beside ``path`` to be written in the block; at its end it is flushed and renamed to ``path``.

    ClaimbookError when the disk is full or the folder cannot be written; ``path`` is then untouched. ``also``: what
    the library that writes raises then in place of an OSError.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.fchmod(handle, 0o644)  # mkstemp makes private files; ours are meant to be read by others
        os.close(handle)
        yield Path(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, *also) as error:
        raise ClaimbookError(not_written(path, error)) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_note(path: Path, text: str) -> None:
    """Write what saves time and no more; a cache that may be read only, or a full disk, goes without."""
    with suppress(ClaimbookError):
        write_text(path, text)


def write_json(path: Path, data: dict) -> None:
    """Write ``data`` as readable JSON, atomically; numpy numbers and arrays become plain ones."""
    text = json.dumps(data, indent=1, ensure_ascii=False, default=plain)
    text = re.sub(r'\[\n[^\[\]{}"]*?\]', lambda match: " ".join(match[0].split()), text)  # numbers on one line
    write_text(path, text + "\n")


def as_json(data):
    """Data as JSON gives them back: plain numbers, lists for tuples and arrays, keys as text."""
    return json.loads(json.dumps(data, default=plain))


def read_json(path: Path) -> dict:
    """Read a JSON object; ClaimbookError names the file when it is damaged."""
    try:
        data = json.loads(text := path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and re.search(r"^<{7} .*^>{7} ", text, re.MULTILINE | re.DOTALL):
            raise ClaimbookError(f"{path.name} holds both sides of a merge (<<<<<<<): resolve it in git") from error
        raise ClaimbookError(f"{path.name} is damaged ({error}): restore it from git or produce it again") from error
    if not isinstance(data, dict):
        raise ClaimbookError(f"{path.name} is damaged (no JSON object): restore it from git or produce it again")
    return data


def read_notebook(path: Path) -> dict:
    """Read a Jupyter notebook of format 4; ClaimbookError says what is damaged, as a merge or an editor can leave it.

    By hand, as importing nbformat takes seconds, which `status` and `book` have not.
    """
    nb, way_out = read_json(path), "open and save it in JupyterLab, or restore it from git"
    if nb.get("nbformat") != 4 or not isinstance(nb.get("cells"), list) or not isinstance(nb.get("metadata"), dict):
        raise ClaimbookError(f"{path.name} is no notebook of Jupyter's format 4: {way_out}")
    for number, cell in enumerate(nb["cells"], 1):
        if fault := _cell_fault(cell):
            raise ClaimbookError(f"{path.name}, cell {number}: {fault}: {way_out}")
    return nb


def _cell_fault(cell: object) -> str:
    """What of a notebook's cell is not as Jupyter writes it; "" when nothing is."""
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw"):
        return "it is neither code, markdown nor raw"
    if not _is_text(cell.get("source")):
        return "its source is no text"
    metadata = cell.get("metadata")
    if not isinstance(metadata, dict) or not _are(str, metadata.get("tags", [])):
        return "its metadata or tags are damaged"
    if cell["cell_type"] != "code":
        return ""
    if "execution_count" not in cell or not _are(dict, cell.get("outputs")):
        return "its outputs or its execution count are missing"
    return "" if all("output_type" in output for output in cell["outputs"]) else "an output has no type"


def _is_text(value: object) -> bool:
    return isinstance(value, str) or _are(str, value)


def _are(kind: type, values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def plain(value):
    """JSON fallback for what is not a plain Python value: numpy and torch scalars and arrays, paths, tuples."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if is_dataclass(value):
        return vars(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return value.name  # a full path would carry this machine's folders into a tracked file
    raise TypeError(f"cannot store a {type(value).__name__} as JSON")


def not_written(path: Path, error: Exception) -> str:
    """Why a file could not be written, in a line; ``error``: the system's, or what a library made of it."""
    cause = error if isinstance(error, OSError) else error.__context__ or error  # torch hides what the system said
    if any(os.strerror(number) in str(cause) for number in FULL):
        return f"the disk is full: could not write {path.name} (nothing was changed); free some space and run again"
    return f"could not write {path.name} in {path.parent}: {getattr(cause, 'strerror', None) or cause}"
