"""Shared fixtures: a small book in a temporary folder, so that a test can doctor it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

import claimbook.experiments
from claimbook import files

REPOSITORY = Path(__file__).parents[1]
CHAPTER = "coin_flips"  # made from the template; needs no model
SHARED = "CLAIMBOOK_TESTS_SHARED"  # names the folder that all processes of one run of the tests share


def pytest_configure(config):
    """Make the shared folder in the first process; workers and forks of it inherit its name."""
    if SHARED not in os.environ:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="claimbook-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(SHARED), ignore_errors=True))


TOY = '''"""A stored run that needs no model."""


def run(config, work, progress):
    """Sum numbers, remembering how far it came."""
    note = work / "done.txt"
    begin = int(note.read_text()) if note.exists() else 0
    curve = []
    for step in range(config["steps"]):
        if step >= begin and step == config.get("die_at") and not (work / "died.txt").exists():
            (work / "died.txt").write_text("once")
            raise KeyboardInterrupt
        note.write_text(str(step))
        progress((step + 1) / config["steps"], f"step {step}")
        curve.append(config["scale"] * (step + 1.0))
    curves = {"loss": curve, "seconds": [0.1] * len(curve)}
    return {"metrics": {"total": sum(curve), "resumed_at": begin}, "curves": curves}
'''

TABLE = '''"""Stored runs of the demo chapter."""

from claimbook.provenance.declarations import Stored

STORED = {
    "short": Stored(
        "toy:run", config={"steps": 5, "scale": 1.0}, prefix={"steps": 2}, machine_curves=("seconds",)
    ),
    "other": Stored("claimbook.experiments.demo.toy:run", config={"steps": 3, "scale": 2.0}),
}
'''


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A repository whose only chapter, ``demo``, has two stored runs; yields its root."""
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    yield from declare_stored_runs(tmp_path, "demo", monkeypatch)


def declare_stored_runs(root, chapter, monkeypatch):
    """Give a chapter two stored runs, for this process and for others; a fixture's body."""
    experiments = root / "lib" / "claimbook" / "experiments"
    files.write_text(experiments / chapter / "__init__.py", "")
    files.write_text(experiments / chapter / "stored.py", TABLE.replace("demo", chapter))
    files.write_text(experiments / chapter / "toy.py", TOY)
    monkeypatch.setattr(claimbook.experiments, "__path__", [*claimbook.experiments.__path__, str(experiments)])
    yield root
    forget(f"claimbook.experiments.{chapter}")
    if hasattr(claimbook.experiments, chapter):
        delattr(claimbook.experiments, chapter)


def forget(package):
    """Let Python import a package anew, as a new process would."""
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]


def edit(path, old, new):
    """Replace ``old`` in a file; it must be there. Experiments are imported anew."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    sys.dont_write_bytecode = True  # two edits in one second would else meet the first one's bytecode
    for chapter in ("demo", CHAPTER):
        forget(f"claimbook.experiments.{chapter}")


# --- a whole book with one chapter from the template ---------------------------------------------------------------


def claimbook_command(root, *arguments, **environment):
    """Run ``claimbook …`` in a repository as a person would; its standard output and error together."""
    command = [sys.executable, "-m", "claimbook", *map(str, arguments)]
    done = subprocess.run(command, cwd=root, env=own_environment(root) | environment, capture_output=True, text=True)
    done.said = done.stdout + done.stderr
    return done


def own_environment(root):
    """This environment, with the code of the repository at ``root`` in front."""
    return os.environ | {"CLAIMBOOK_ROOT": str(root), "PYTHONPATH": str(root / "lib")}


def git(root, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def commit(root):
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "change")


@pytest.fixture(scope="session")
def finished_book():
    """The repository without its chapters, and one made, run and accepted by the commands a person types; made once."""
    root = Path(os.environ[SHARED]) / "book"
    made = root.with_name("book-is-made")
    with FileLock(root.with_name("book.lock")):
        if not made.exists():
            shutil.rmtree(root, ignore_errors=True)  # what another process began and did not finish
            _make_book(root)
            made.touch()
    return root


def _make_book(root):
    for name in ("lib", "book"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "_generated"))
    for name in ("Snakefile", ".gitignore", "pyproject.toml", "data/assets.yaml"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    git(root, "init", "-q")
    for arguments in (["new", CHAPTER], ["rerun", CHAPTER], ["accept", CHAPTER]):
        done = claimbook_command(root, *arguments)
        assert done.returncode == 0, done.said
        commit(root)


@pytest.fixture
def book(finished_book, tmp_path, monkeypatch):
    """A copy of `finished_book` to doctor; it is the repository for code called in this process, and for kernels."""
    root = tmp_path / "book"
    shutil.copytree(finished_book, root, symlinks=True)
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(root))
    monkeypatch.setenv("PYTHONPATH", str(root / "lib"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # what a run sets is undone after the test
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    return root


@pytest.fixture
def book_with_sweeps(book, monkeypatch):
    """`book`, its chapter having two stored runs that are still to be made."""
    yield from declare_stored_runs(book, CHAPTER, monkeypatch)
