"""Planted mutations: each makes one wrong thing out of a right one, and the tests named beside it must turn red.

Nothing here looks at hashes: freshness would notice any change, so it is left out and the tests have to know better.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mutations import MUTATIONS

LIB = Path(__file__).parents[1] / "lib"
TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    ("wrong", "file", "before", "after", "tests"), MUTATIONS, ids=[m[0].replace(" ", "-") for m in MUTATIONS]
)
def test_mutation_is_noticed(tmp_path, wrong, file, before, after, tests):
    shutil.copytree(LIB / "claimbook", tmp_path / "claimbook", ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / "claimbook" / file
    text = source.read_text()
    assert text.count(before) == 1, f"the planted place is not there (once): {before}"
    source.write_text(text.replace(before, after))
    name, *choice = tests.split(" -k ")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(TESTS / name)]
    command += ["-k", choice[0]] if choice else []
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "CLAIMBOOK_ROOT": str(LIB.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 1, f"{wrong}: not noticed by {tests}\n{done.stdout[-2000:]}{done.stderr[-500:]}"
    assert "failed" in done.stdout


def test_the_unmutated_copy_is_green(tmp_path):
    """The mutations are red for their own sake: the same way of running is green without one."""
    shutil.copytree(LIB / "claimbook", tmp_path / "claimbook", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        str(TESTS / "test_attention.py"),
        "-k",
        "grouped_heads",
    ]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-2000:]
    code = "import claimbook; print(claimbook.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert str(tmp_path) in where.stdout, "the copy is what is tested"
