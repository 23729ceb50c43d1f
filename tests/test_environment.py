"""One lock, installed the same by every door; and the Makefile, the command line and the pages tell the same story."""

import importlib.metadata
import os
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from claimbook import paths
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
            known = variable in MAKEFILE or (target == "rerun" and variable in own)
            assert known, f"make {target} {variable}="


def test_readme_gives_the_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^make (\w+)", readme, re.MULTILINE)[:2] == ["book", "test"]


def test_continuous_integration_types_what_a_person_types():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -euo pipefail" and lines[-1] == "exec make test"
