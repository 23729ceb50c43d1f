"""One lock, installed the same by every door; and the Makefile, the command line and the pages tell the same story."""

import importlib.metadata
import os
import re
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from claimbook import commands, paths
from claimbook.cli import app
from claimbook.runs import parameters

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def pins() -> dict[str, Requirement]:
    lines = [Requirement(line) for line in LOCK.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in lines}


def version(pin: Requirement) -> str:
    return next(iter(pin.specifier)).version


# --- the lock --------------------------------------------------------------------------------------------------------


def test_the_lock_holds_exact_public_pins_and_nothing_else():
    lines = [line for line in LOCK.splitlines() if line and not line.startswith("#")]
    wrong = [line for line in lines if not re.fullmatch(r'[\w.-]+==[\w.]+(; python_version == "3\.\d+")?', line)]
    assert wrong == []
    assert len(pins()) == len(lines), "a package is pinned twice"
    assert str(pins()["torch"]) == "torch==2.13.0"
    assert not [
        name for name in pins() if name.startswith(("nvidia-", "cuda-")) or name in ("triton", "claimbook", "pip")
    ]


def test_the_lock_is_what_is_installed():
    """Public versions: a CPU and a CUDA build of torch are the same pin."""
    for name, pin in pins().items():
        if pin.marker is None or pin.marker.evaluate():
            assert importlib.metadata.version(name).split("+")[0] == version(pin), name


@pytest.mark.parametrize("line", [*PYPROJECT["project"]["dependencies"], *PYPROJECT["build-system"]["requires"]])
def test_the_lock_satisfies_what_the_project_asks_for(line):
    wanted = Requirement(line)
    pin = pins()[canonicalize_name(wanted.name)]
    assert wanted.specifier.contains(version(pin)), f"{pin} does not satisfy {wanted}"


def test_the_lock_is_closed():
    """Everything that a pinned package requires here is pinned and satisfied; torch brings its build's own."""
    missing = []
    for name, pin in pins().items():
        if name == "torch" or (pin.marker and not pin.marker.evaluate()):
            continue
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            found = pins().get(canonicalize_name(needed.name))
            if found is None or not needed.specifier.contains(version(found), prereleases=True):
                missing.append(f"{name} needs {needed}")
    assert missing == []


def test_conda_installs_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *plain, block = environment["dependencies"]
    assert block == {"pip": ["-r requirements.lock", "-e ."]}
    assert [one.split("=")[0] for one in plain] == ["python", "pip"]
    assert Requirement(f"python{PYPROJECT['project']['requires-python']}").specifier.contains(plain[0].split("=")[1])


def test_make_and_readme_install_the_same_lock():
    assert "-r requirements.lock" in MAKEFILE and "--no-deps --no-build-isolation -e ." in MAKEFILE
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install -r requirements.lock" in readme and "pip install --no-deps --no-build-isolation -e ." in readme


# --- the commands --------------------------------------------------------------------------------------------------

COMMANDS = typer.main.get_command(app).commands
OWN = {"help", "setup", "install", "clean"}  # targets that are no command


def targets() -> dict[str, str]:
    """Target -> its recipe."""
    found = re.findall(r"^([a-z]+):(?!=)[^\n]*\n((?:\t[^\n]*\n)*)", MAKEFILE, re.MULTILINE)
    return dict(found)


def test_every_command_is_a_target_and_every_target_a_command():
    assert set(targets()) - OWN == set(COMMANDS)
    for name in COMMANDS:
        assert re.search(rf"\$\(RUN\) {name}\b", targets()[name]), name


@pytest.mark.parametrize("name", sorted(set(targets()) - OWN))
def test_a_target_passes_options_that_its_command_has(name):
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    passed = re.findall(r"\$\(call flag,(\w+),(\w+)\)", targets()[name])
    assert all(flag.upper() == variable for flag, variable in passed)
    assert {f"--{flag}" for flag, _ in passed} | set(re.findall(r"--[a-z-]+", targets()[name])) <= options


ALWAYS = {"PYTHON", "VENV", "PIP_ARGS"}


def takes(target: str) -> list[str]:
    """The variables that the Makefile's table gives a target."""
    return " ".join(re.findall(rf"^takes-{target} := (.*)$", MAKEFILE, re.MULTILINE)).split()


@pytest.mark.parametrize("name", sorted(set(targets()) - {"install"}))
def test_a_target_takes_the_variables_that_its_recipe_uses(name):
    used = set(re.findall(r"\$\((?:call flag,\w+,)?([A-Z]+)\)", targets()[name]))
    assert set(takes(name)) == used - {"RUN", "MAKE", "STAMP", "INSTALLED", "OWN"}


def make(*words):
    """What `make` would do: nothing is installed, nothing is run; and it is no part of the `make` that runs us."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", "--dry-run", *words], cwd=ROOT, env=outside, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("book TIER=smoke", "`make book` takes no TIER: it takes STALE"),
        ("test CHAPTER=streaming_llm", "`make test` takes no CHAPTER: it takes no variable"),
        ("sweeps documents=20", "`make sweeps` takes no documents: it takes CHAPTER JOBS"),
        ("rerun CHAPTER=streaming_llm STALE=show", "`make rerun` takes no STALE: it takes CHAPTER TIER"),
        ("TIER=smoke", "`make help` takes no TIER"),
    ],
)
def test_make_refuses_a_variable_that_the_command_would_ignore(words, said):
    done = make(*words.split())
    assert done.returncode == 2
    assert f"claimbook: {said}" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("book STALE=show PYTHON=python3 PIP_ARGS=--no-index", "book --stale show"),
        ("rerun CHAPTER=streaming_llm TIER=smoke", "rerun streaming_llm --tier 'smoke'"),
        ("rerun CHAPTER=grocery_ranking RECIPES=mine.csv", "-p recipes='mine.csv'"),
        ("sweeps JOBS=2", "sweeps --jobs 2"),
    ],
)
def test_make_passes_on_what_the_command_takes(words, command):
    done = make(*words.split())
    assert done.returncode == 0, done.stderr
    assert command in re.sub(r"[\s\\]+", " ", done.stdout)


def test_make_passes_a_value_on_as_it_was_typed():
    typed = """my $HOME $$ "recipes" `id` it's.csv"""
    done = make("rerun", "CHAPTER=grocery_ranking", f"RECIPES={typed}", f"MODELS={typed}")
    words = shlex.split(done.stdout[done.stdout.index("-m claimbook rerun") :])
    assert f"recipes={typed}" in words and words[words.index("--models") + 1] == typed


def test_help_shows_what_each_target_takes():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True)
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("make ")}
    assert set(lines) == set(targets()) - {"install"}
    for name, line in lines.items():
        assert line.endswith(f" [{' '.join(takes(name))}]") or not takes(name)


def test_help_lists_every_target():
    described = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))
    assert described == set(targets()) - {"install"}


PAGES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_name_only_targets_and_variables_that_exist(path):
    text = path.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"`[^`\n]+`", text) + re.findall(r"^make .*$", text, re.MULTILINE))
    own = {name.upper() for chapter in paths.chapters() for name in parameters.defaults(chapter)}
    for target, rest in re.findall(r"\bmake ([a-z]+)([^`\n]*)", code):
        assert target in targets(), f"make {target}"
        for variable in re.findall(r"\b([A-Z_]+)=", rest.split("#")[0]):
            known = {*takes(target), *ALWAYS} | (own if target == "rerun" else set())
            assert variable in known, f"make {target} {variable}="


def test_readme_gives_the_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^make (\w+)", readme, re.MULTILINE)[:2] == ["book", "test"]


def test_continuous_integration_types_what_a_person_types():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -euo pipefail" and lines[-1] == "exec make test"


NOTES_ITS_KERNEL = """
import os, pytest

@pytest.mark.numeric
def test_notes_its_kernel():
    with open("kernels.txt", "a") as notes:
        names = ("OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS")
        print(*(os.environ.get(name, "own") for name in names), file=notes)
"""


@pytest.mark.slow
def test_other_kernels_are_used_where_they_are_wanted_and_nowhere_else(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_kernel.py").write_text(NOTES_ITS_KERNEL)
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")  # as some machines come
    assert commands.unit_tests() and commands.numeric_tests()
    used = (tmp_path / "kernels.txt").read_text().splitlines()
    assert used[0] == "own own 1"
    assert sorted(used[1:]) == ["Prescott own 1", "own default 1"]
