"""What the commands do beyond calling one function: steps of `book`, `check` and `test`, lists, loops over chapters."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from claimbook import files, paths
from claimbook.errors import AGREES, RED, ClaimbookError
from claimbook.provenance import declarations
from claimbook.provenance.machine import clock
from claimbook.runs import parameters, stored_runs
from claimbook.runs.freshness import freshness

CELL_TIMEOUT = 900  # seconds; a chapter takes two minutes on a quiet machine


def pairs(words: list[str]) -> dict[str, str]:
    """``name=value`` words of the command line."""
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise ClaimbookError(f"-p takes name=value, not '{wrong[0]}'")
    names = [word.partition("=")[0] for word in words]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ClaimbookError(f"{twice[0]} is given twice: say it once")
    return dict(word.split("=", 1) for word in words)


# --- running and accepting ---------------------------------------------------------------------------------------


def rerun(chapter: str | None, given: dict[str, str], result: Path | None) -> int:
    """Rerun one chapter or all; the worst exit code."""
    from claimbook.runs import runner

    if result and chapter is None:
        raise ClaimbookError("--result needs a chapter")
    if chapter is None:
        for name in parameters.notebooks():
            runner.prepare(name, given)  # a mistake is told before the first of them runs
    return max((runner.rerun(name, given, result) for name in parameters.notebooks(chapter)), default=0)


def accept(chapter: str) -> None:
    """Accept the latest run and say what the checks think of the stored chapter."""
    from claimbook.book import build as pages
    from claimbook.runs import checks, runner

    for path in runner.accept(chapter):
        print(f"written: {path.relative_to(paths.root())}")
    if (paths.root() / "README.md").exists() and pages.update_readme():
        print("written: README.md (its scoreboard)")
    for line in checks.problems(chapter):
        print(f"to do: {line}")
    print("next: look at the page (`claimbook book`), and commit what was written")


# --- book --------------------------------------------------------------------------------------------------------


def book(stale: str) -> int:
    """Run what is stale (or only mark it), then build."""
    from claimbook.book import build as pages
    from claimbook.runs import checks

    if stale not in ("run", "show"):
        raise ClaimbookError(f"--stale is run or show, not '{stale}'")
    names = stale_chapters()
    code = _run_stale(names) if stale == "run" else 0
    try:
        print(f"book: {pages.build(stale=names).relative_to(paths.root())}")
    except ClaimbookError:
        for name in parameters.notebooks():  # what lies behind it is often a notebook without its outputs
            for line in checks.problems(name):
                print(line, file=sys.stderr)
        raise
    return code


def stale_chapters() -> dict[str, list[str]]:
    """Chapters whose stored result was not made by what stands in the repository, each with what changed."""
    return {name: found for name in parameters.notebooks() if (found := freshness(name))}


def _run_stale(names: Iterable[str]) -> int:
    from claimbook.runs import runner

    worst = 0
    for name in names:
        if not runner.has_current_run(name):
            worst = max(worst, runner.rerun(name))
        if runner.has_current_run(name):
            print(f"{name} was stale and has been run: `claimbook accept {name}` makes that run the reference")
    return worst


# --- check and test ----------------------------------------------------------------------------------------------

Step = tuple[str, Callable[[], bool]]

LINTERS = (("ruff", "check"), ("ruff", "format", "--check"), ("lint-imports", "--no-logo", "--no-cache"))
UNIT_TESTS = ("tests", "-p", "no:nbval")  # that plugin takes two seconds in each process, and only notebooks need it
# Two workers, or one on a machine with one core. Whoever is done takes tests from the other's end, so that a file
# stays with one worker, and with what it has made, almost to the end.
WORKERS = ("-n", "logical", "--maxprocesses", "2", "--dist", "worksteal")
KERNELS = {  # other code for the same sums than the reference runs used
    "OPENBLAS_CORETYPE": "Prescott",  # a processor without AVX
    "ATEN_CPU_CAPABILITY": "default",  # torch without vector instructions of its own
}


def check() -> int:
    """What answers in under ten minutes."""
    return _all_of(
        ("lint", lint),
        ("checks of stored chapters", guard),
        ("unit tests but the slow ones", lambda: unit_tests("-m", "not slow")),
    )


def test() -> int:
    """Everything; assets first, as some unit tests read them too."""
    return _all_of(
        ("assets the notebooks need", needed_assets),
        ("lint", lint),
        ("checks of stored chapters", guard),
        ("unit tests", unit_tests),
        ("numeric tests on other kernels", numeric_tests),
        ("notebooks compared live", compare_live),
        ("book, warnings as errors", strict_book),
    )


def _all_of(*steps: Step) -> int:
    """All steps, each announced with its time, none skipped because another failed; `RED` when any is."""
    red = []
    for number, (name, step) in enumerate(steps, 1):
        print(f"\n=== {number}/{len(steps)} {name}", flush=True)
        began = time.monotonic()
        ok = _survives(step)
        red += [] if ok else [name]
        print(
            f"=== {number}/{len(steps)} {name}: {'ok' if ok else 'RED'}, {clock(time.monotonic() - began)}", flush=True
        )
    print(f"\n{'red: ' + ', '.join(red) if red else 'all green'}")
    return RED if red else AGREES


def _survives(step: Callable[[], bool]) -> bool:
    try:
        return step()
    except ClaimbookError as error:
        print(f"claimbook: {error}", file=sys.stderr)
        return False


def lint() -> bool:
    """The linters, which are installed beside this Python."""
    beside = Path(sys.executable).parent
    codes = [subprocess.run([beside / name, *options], cwd=paths.root()).returncode for name, *options in LINTERS]
    return not any(codes)


def tidy(written: list[Path]) -> None:
    """A new chapter's files as the linter wants them: order and line breaks depend on the chapter's name."""
    code = [path for path in written if path.suffix in (".py", ".ipynb")]
    ruff = Path(sys.executable).parent / "ruff"
    for command in (["check", "--fix", "--select", "I"], ["format"]):
        subprocess.run([ruff, *command, "--quiet", *code], cwd=paths.root())


def unit_tests(*options: str) -> bool:
    return _pytest([*UNIT_TESTS, *WORKERS, *options], threads=1).wait() == 0  # pytest's code for "no tests" is 5: red


def numeric_tests() -> bool:
    """The numeric tests once for each of KERNELS, all at the same time."""
    arguments = [*UNIT_TESTS, "-m", "numeric and not slow"]
    running = {name: _pytest(arguments, 1, stdout=subprocess.PIPE, **{name: KERNELS[name]}) for name in KERNELS}
    for name, process in running.items():
        print(f"{name}={KERNELS[name]}\n{process.communicate()[0]}", end="", flush=True)
    return not any(process.returncode for process in running.values())


def guard() -> bool:
    """All checks on all stored chapters; red when there is none."""
    from claimbook.runs import checks

    found = [line for name in parameters.notebooks() for line in checks.problems(name)]
    print("\n".join(found) or f"sound: {', '.join(parameters.notebooks()) or 'there is no chapter'}")
    return bool(parameters.notebooks()) and not found


def needed_assets() -> bool:
    """Fetch what is missing: the only step that may ask the network."""
    from claimbook.runs import runner

    for name in parameters.notebooks():
        runner.fetch_missing(parameters.needed_assets(name, parameters.defaults(name)))
    return True


def compare_live() -> bool:
    """nbval on every chapter, then the live numbers against the stored intervals; red when nothing was compared.

    Two chapters at a time, a thread each: much of a chapter runs on one core.
    """
    good = []
    with ThreadPoolExecutor(2) as pool:
        for ok, said in pool.map(_compare_one, parameters.notebooks()):
            print(said, flush=True)
            good.append(ok)
    return bool(good) and all(good)


def _compare_one(chapter: str) -> tuple[bool, str]:
    """Whether a chapter's notebook gives what is stored, and what is said of it."""
    from claimbook.runs import checks, jupyter, runner

    folder = paths.runs() / chapter / "nbval"
    live = folder / "result.json"
    live.unlink(missing_ok=True)
    options = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    options.append(f"--nbval-sanitize-with={Path(checks.__file__).with_name('nbval_sanitize.cfg')}")
    for _ in range(runner.STARTS):
        with tempfile.TemporaryDirectory(prefix="claimbook-") as own:
            environment = jupyter.settings(Path(own)) | {
                "CLAIMBOOK_RUN_DIR": folder,
                "CLAIMBOOK_CACHE": _needed(chapter, own),
            }
            process = _pytest([*options, str(paths.notebook(chapter))], 1, stdout=subprocess.PIPE, **environment)
            said = process.communicate()[0]
        if not (process.returncode and runner.is_start_failure(said)):
            break
    if process.returncode or not live.exists():
        return False, f"{said}{chapter}: RED"
    found = checks.numbers(chapter, files.read_json(live))
    lines = found or ["live numbers within the stored intervals"]
    return not found, said + "\n".join(f"{chapter}: {line}" for line in lines)


def _needed(chapter: str, own: str) -> Path:
    """A cache of nothing but what `needed_assets` fetches: what else lies here is not on a new machine."""
    cache = Path(own) / "cache"
    cache.mkdir()
    for key in parameters.needed_assets(chapter, parameters.defaults(chapter)):
        (cache / key).symlink_to(paths.cache().resolve() / key)
    return cache


def _pytest(arguments: list[str], threads: int, stdout: int | None = None, **environment) -> subprocess.Popen:
    """pytest in a process of its own; a kernel that this shell names is the run's only where the run asks for it."""
    own = {"CLAIMBOOK_THREADS": threads, "OMP_NUM_THREADS": threads, "CLAIMBOOK_ROOT": paths.root()}
    own |= {"JUPYTER_PREFER_ENV_PATH": "1", **environment}
    inherited = {name: value for name, value in os.environ.items() if name not in KERNELS}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    given = inherited | {name: str(value) for name, value in own.items()}
    return subprocess.Popen(command, cwd=paths.root(), env=given, stdout=stdout, encoding="utf-8", errors="replace")


def strict_book() -> bool:
    from claimbook.book import build as pages

    print(pages.build(strict=True, stale=stale_chapters()).relative_to(paths.root()))
    return True


# --- stored runs -------------------------------------------------------------------------------------------------


def one_sweep(chapter: str | None, name: str, force: bool, result: Path | None) -> None:
    """One stored run in this process; what a Snakemake job calls."""
    _check_chapter_of(name, chapter)
    path = stored_runs.run(chapter, name, force)
    if result:
        files.write_json(result, files.read_json(path))
    print(path.relative_to(paths.root()))


def _check_chapter_of(name: str | None, chapter: str | None) -> None:
    if name and chapter is None:
        raise ClaimbookError("--name needs a chapter")


def list_sweeps(chapter: str | None) -> None:
    for name in _with_sweeps(chapter):
        for run, state in stored_runs.status(name).items():
            print(f"{name}/{run}: {state}{_remark(name, run, state)}")


def _remark(chapter: str, name: str, state: str) -> str:
    if state == "fresh":
        result = stored_runs.load(chapter, name)
        note = ", confirmed by prefix" if result["freshness"] != "fresh" else ""
        return f" ({clock(result['wall_s'])}{note})"
    return " (made, not yet promoted)" if stored_runs.has_fresh_scratch(chapter, name) else ""


def make_sweeps(chapter: str | None, jobs: int) -> int:
    """Make what is stale or missing by Snakemake, then promote all that is complete."""
    from claimbook.runs import grid

    names = _with_sweeps(chapter)
    code = grid.snakemake({"only": "sweeps", "chapters": " ".join(names)}, jobs) if names else 0
    for name in names:
        promoted = [f"promoted: {name}/{run}" for run in stored_runs.promote(name)]
        print("\n".join(promoted) or f"{name}: nothing to promote")
    return code


def confirm_sweeps(chapter: str | None, before: Path | None = None, only: str | None = None) -> int:
    """Confirm stored runs made stale by code alone, all or one; `RED` when one could not be: `stored_runs.confirm`."""
    _check_chapter_of(only, chapter)
    if before and not (before / "lib" / "claimbook").is_dir():
        raise ClaimbookError(f"--before takes a checkout of this repository, such as a git worktree, not '{before}'")
    code = AGREES
    for name in _with_sweeps(chapter):
        for run in [only] if only else declarations.table(name):
            try:
                difference = stored_runs.confirm(name, run, before and before.resolve())
                agrees = "fresh" if difference is None else f"confirmed, prefix within {difference:.1g}"
                print(f"{name}/{run}: {agrees}")
            except ClaimbookError as error:
                print(f"claimbook: {error}", file=sys.stderr)
                code = RED
    return code


def _with_sweeps(chapter: str | None) -> list[str]:
    """The chapter named, or all with a ledger, that declare stored runs."""
    known = paths.chapters()
    if chapter is not None and chapter not in known:
        raise ClaimbookError(f"no chapter '{chapter}': there is {', '.join(known) or 'none'}")
    return [name for name in ([chapter] if chapter else known) if declarations.table(name)]


# --- status ------------------------------------------------------------------------------------------------------


def status() -> None:
    """A line per chapter, stored run and asset."""
    from claimbook.assets import catalogue

    for name in paths.chapters():
        if paths.notebook(name).exists():
            print(f"chapter {name}: {'; '.join(freshness(name)) or 'fresh'}")
        else:
            print(f"chapter {name}: a ledger, no notebook yet")
        for run, state in stored_runs.status(name).items():
            print(f"  stored run {run}: {state}")
    for key, asset in catalogue.load_catalogue().items():
        print(f"asset {key}: {'there' if catalogue.present(key) else 'not fetched'} ({asset.disk / 1e6:.0f} MB)")
