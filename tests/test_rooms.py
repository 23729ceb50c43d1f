"""The rooms: no arrow upwards, no circle, and a page that says where things are and keeps saying it truly."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LIBRARY = REPOSITORY / "lib" / "claimbook"
PAGE = (REPOSITORY / "book" / "how_it_is_built.md").read_text()
ROOMS = sorted(path.name for path in LIBRARY.iterdir() if (path / "__init__.py").is_file())


def lint(config):
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    command[2] = (
        f"from importlinter.cli import lint_imports; raise SystemExit(lint_imports(config_filename={config!r}))"
    )
    return subprocess.run([*command], cwd=REPOSITORY, capture_output=True, text=True)


def test_rooms_import_downwards_and_in_no_circle():
    done = lint(str(REPOSITORY / "pyproject.toml"))
    assert done.returncode == 0, done.stdout[-3000:]
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(("layers", "said"), [('"stats",', "Missing layer"), ('"claims | assets",\n    "stats",', "")])
def test_the_linter_can_fail(tmp_path, layers, said):
    """A room that is left out, or one that stands too low, is told."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    assert layers in text
    swapped = "\n    ".join(reversed(layers.split("\n    ")))
    broken = text.replace(layers, "" if said else swapped)
    (tmp_path / "pyproject.toml").write_text(broken)
    done = lint(str(tmp_path / "pyproject.toml"))
    assert done.returncode == 1 and (said in done.stdout or "BROKEN" in done.stdout)


def test_the_top_holds_a_dozen_files_at_most():
    assert len(list(LIBRARY.glob("*.py"))) <= 12


def test_every_room_says_what_may_be_touched_there():
    for room in ROOMS:
        text = (LIBRARY / room / "__init__.py").read_text()
        assert text.startswith('"""') and len(text) > 80, room
        assert "import" not in text.split('"""')[2], f"{room}: a room's __init__ holds its docstring alone"


def test_the_page_names_every_room_and_only_files_that_exist():
    named = re.findall(
        r"`((?:lib|book|data|notebooks|tests)/[\w./]+|[A-Z][a-z]+file|[\w.]+\.(?:toml|lock|yml)|\.ci/run)`", PAGE
    )
    assert len(named) > 40
    for name in named:
        assert (REPOSITORY / name).exists(), f"how_it_is_built.md names {name}, which is not there"
    for room in ROOMS:
        assert f"`lib/claimbook/{room}/`" in PAGE, f"how_it_is_built.md does not name the room {room}"


def test_the_page_leads_to_every_file_at_the_top_and_in_the_rooms_that_people_change():
    """Each module is named, or stands in a room of chapters, where one stands for all."""
    small = {"__init__", "__main__", "errors", "files", "paths", "strict_yaml"}
    for path in LIBRARY.glob("*.py"):
        assert path.stem in small or f"lib/claimbook/{path.name}" in PAGE, path.name
