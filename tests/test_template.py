"""`claimbook new`: a chapter that passes every check once it is run and accepted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from claimbook import commands, paths
from claimbook.book import scaffold
from claimbook.claims import ledgers
from claimbook.errors import ClaimbookError
from claimbook.provenance import seals
from claimbook.runs import checks, parameters
from conftest import CHAPTER, claimbook_command, edit

REPOSITORY = Path(__file__).parents[1]


def test_the_new_chapter_passes_every_check(book):
    assert checks.problems(CHAPTER) == []


@pytest.mark.slow
def test_its_test_passes(book):
    assert commands.unit_tests()


def test_its_notebook_is_valid_and_stored_as_jupyter_would_save_it(book):
    text = paths.notebook(CHAPTER).read_text()
    nb = nbformat.reads(text, as_version=4)
    nbformat.validate(nb)
    assert nbformat.writes(nb) + "\n" == text
    assert "papermill" not in nb.metadata and all("papermill" not in cell.metadata for cell in nb.cells)


def test_stored_files_name_no_folder_of_this_machine(book, finished_book):
    for path in (paths.notebook(CHAPTER), paths.result(CHAPTER)):
        assert str(finished_book) not in path.read_text()
        assert os.path.expanduser("~") not in path.read_text()


def test_its_result_has_what_the_design_asks_for(book):
    result = seals.read(paths.result(CHAPTER))
    assert result.keys() == {"chapter", "tier", "status", "parameters", "claims", "cost", "provenance"}
    assert {"verdict", "fidelity", "version", "reason", "published", "deviations", "parts"} <= result["claims"][
        "C1"
    ].keys()
    part = result["claims"]["C1"]["parts"]["halved"]
    assert {"estimate", "interval", "n", "state", "method"} <= part.keys()
    assert result["cost"].keys() == {"wall_s", "peak_mem_mb", "device"}
    expected = "git dirty code_hash modules packages assets threads python platform started"
    assert set(expected.split()) <= result["provenance"].keys()
    assert len(result["provenance"]["git"]) == 40 and result["provenance"]["dirty"] is False
    assert {"claimbook.stats", "claimbook.claims.verdicts", f"claimbook.papers.{CHAPTER}"} <= set(
        result["provenance"]["modules"]
    )


def test_our_reading_of_parameters_is_papermills(book):
    assert list(papermill.inspect_notebook(str(paths.notebook(CHAPTER)))) == list(parameters.defaults(CHAPTER))


@pytest.mark.parametrize("name", ["Coin", "coin-flips", "2coins", "class", "a__b", "_a", "", "../x", "chapter_name"])
def test_names_are_checked(book, name):
    with pytest.raises(ClaimbookError, match=r"snake_case|template"):
        scaffold.new(name)


@pytest.mark.parametrize("name", ["true", "on", "off", "yes", "no", "null"])
def test_names_that_yaml_reads_as_something_else_are_refused(book, name):
    with pytest.raises(ClaimbookError, match=f"YAML reads '{name}' as"):
        scaffold.new(name)


def test_an_existing_chapter_is_left_alone(book):
    before = paths.notebook(CHAPTER).read_text()
    with pytest.raises(ClaimbookError, match="exists already"):
        scaffold.new(CHAPTER)
    paths.ledger(CHAPTER).unlink()
    with pytest.raises(ClaimbookError, match="exists already"):
        scaffold.new(CHAPTER)
    assert not paths.ledger(CHAPTER).exists()
    assert paths.notebook(CHAPTER).read_text() == before


def test_a_planned_paper_keeps_its_place_in_the_bibliography(book):
    bibliography = book / "book/references.bib"
    assert bibliography.read_text().count(f"{{{CHAPTER},") == 1
    edit(bibliography, f"{{{CHAPTER},", "{planned_paper,")
    text = bibliography.read_text()
    scaffold.new("planned_paper")
    assert bibliography.read_text() == text
    assert ledgers.load("planned_paper").paper.bib == "planned_paper"


def test_the_command_line_tells_mistakes_in_one_line(book):
    done = claimbook_command(book, "new", "Coin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("claimbook: ") and done.stderr.count("\n") == 1


def test_a_prose_edit_leaves_the_chapter_fresh(book):
    edit(paths.notebook(CHAPTER), "Say of each difference", "Tell of each difference")
    edit(paths.ledger(CHAPTER), "by one over the root", "by 1 over the root")
    edit(book / f"lib/claimbook/papers/{CHAPTER}.py", "Averages of", "The averages of")
    assert checks.freshness(CHAPTER) == []


@pytest.mark.parametrize("name", ["aaa", "zebra"])
def test_what_it_writes_passes_the_linter(tmp_path, monkeypatch, name):
    """Where a chapter's own imports stand depends on its name."""
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    written = [tmp_path / path for path in scaffold.new(name)]
    assert [path for path in written if not path.is_file()] == []
    commands.tidy(written)
    code = [str(path) for path in written if path.suffix in (".py", ".ipynb")]
    ruff = Path(sys.executable).parent / "ruff"
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *command, *code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
