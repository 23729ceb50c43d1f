"""Shared fixtures: a small book in a temporary folder, so that a test can doctor it."""

import sys

import pytest

import claimbook.experiments
from claimbook import files

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

from claimbook.sweeps import Stored

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
    package = tmp_path / "lib" / "claimbook" / "experiments"
    files.write_text(package / "demo" / "__init__.py", TABLE)
    files.write_text(package / "demo" / "toy.py", TOY)
    monkeypatch.setattr(claimbook.experiments, "__path__", [*claimbook.experiments.__path__, str(package)])
    yield tmp_path
    forget("claimbook.experiments.demo")
    if hasattr(claimbook.experiments, "demo"):
        del claimbook.experiments.demo


def forget(package):
    """Let Python import a package anew, as a new process would."""
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]


def edit(path, old, new):
    """Replace ``old`` in a file; it must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    sys.dont_write_bytecode = True
    forget("claimbook.experiments.demo")
