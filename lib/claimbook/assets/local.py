"""A reader's own model folders and files: how they are named in a list, and what tells one from another."""

import functools
import hashlib
import os
from pathlib import Path

from claimbook import files, paths


def names(text: str, separator: str = ",") -> list[str]:
    """The names in a list such as "smollm2-135m,/my/model"; a path that exists may itself hold the separator."""
    parts, found = text.split(separator), []
    while parts:
        ends = [end for end in range(len(parts), 1, -1) if _exists(separator.join(parts[:end]).strip())]
        end = ends[0] if ends else 1
        found.append(separator.join(parts[:end]).strip())
        parts = parts[end:]
    return [name for name in found if name]


def _exists(name: str) -> bool:
    return bool(name) and os.path.exists(paths.expanded(name))  # os.path: a list may be too long for a name


def public(value: object) -> object:
    """A parameter's value as it may be stored: a local folder or file loses its path and gets its `identity`.

    ``/data/a/checkpoint-500`` becomes ``checkpoint-500@1f2e3d4c``, so that two folders of one name are two models.
    """
    if not isinstance(value, str) or os.sep not in value:
        return value
    return ",".join(_public(Path(name)) if Path(name).is_absolute() else name for name in names(value))


def _public(path: Path) -> str:
    return f"{path.name}@{identity(path)[:8]}" if path.exists() else path.name


def identity(path: Path) -> str:
    """sha256 of where a folder or file lies and of what it holds; of a folder, the files directly in it.

    Weights that are trained again at the same place are another model, as are equal ones at another place.
    """
    path = path.resolve()
    held = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    stamps = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in held)
    return _identity(path, stamps)


@functools.lru_cache(maxsize=64)
def _identity(path: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Kept in the cache by stamps too: hashing weights takes a second per gigabyte."""
    asked = hashlib.sha256(repr((str(path), stamps)).encode()).hexdigest()
    note = paths.cache() / "identities" / asked[:32]
    if note.is_file():
        return note.read_text()
    folder = path if path.is_dir() else path.parent
    content = [(name, files.sha256(folder / name)) for name, _, _ in stamps]
    found = hashlib.sha256(repr((str(path), content)).encode()).hexdigest()
    files.write_note(note, found)
    return found
