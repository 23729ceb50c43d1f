"""Files as merges, editors, spreadsheets and other machines leave them: read as meant, or refused in one line."""

import json
import os
import subprocess

import pytest

from claimbook import files, paths
from claimbook.errors import ClaimbookError
from claimbook.provenance import machine
from claimbook.runs import checks, parameters
from conftest import CHAPTER, claimbook_command, commit, edit, git

CODE = {"cell_type": "code", "source": "x = 1", "metadata": {}, "outputs": [], "execution_count": None}
NOTEBOOK = {"cells": [CODE], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}

WHOLE = {
    "lines of a source": CODE | {"source": ["x = 1\n", "y = 2"]},
    "tags": CODE | {"metadata": {"tags": ["parameters"]}},
    "what VS Code adds": CODE | {"metadata": {"vscode": {"languageId": "python"}}, "id": "#VSC-1"},
    "an output": CODE | {"outputs": [{"output_type": "stream", "name": "stdout", "text": "a"}], "execution_count": 3},
    "an attachment": {"cell_type": "markdown", "source": "", "metadata": {}, "attachments": {}},
}


def written(folder, content, name="a.ipynb"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize("name", WHOLE)
def test_whatever_an_editor_may_write_is_read(tmp_path, name):
    nb = NOTEBOOK | {"cells": [WHOLE[name]]}
    assert files.read_notebook(written(tmp_path, nb)) == nb


FORM3 = {"worksheets": [{"cells": []}], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}
MERGE = b'{"cells": [\n<<<<<<< HEAD\n 1\n=======\n 2\n>>>>>>> theirs\n]}'
LACKS = {key: value for key, value in CODE.items() if key != "execution_count"}
DAMAGED = {
    "both sides of a merge": (MERGE, "a.ipynb holds both sides of a merge .*: resolve it in git"),
    "cut": (b'{"cells": [', "a.ipynb is damaged"),
    "empty": (b"", "a.ipynb is damaged"),
    "of another encoding": ("{}".encode("utf-16"), "a.ipynb is damaged"),
    "too deep": (b"[" * 100_000, "a.ipynb is damaged"),
    "a list": ([1], "a.ipynb is damaged .no JSON object."),
    "something else": ({"a": 1}, "no notebook of Jupyter's format 4: open and save it in JupyterLab"),
    "of format 3": (FORM3, "no notebook of Jupyter's format 4"),
    "without metadata": ({**NOTEBOOK, "metadata": None}, "no notebook of Jupyter's format 4"),
    "a cell that is none": (NOTEBOOK | {"cells": [CODE, None]}, "a.ipynb, cell 2: it is neither code, markdown nor"),
    "no source": (NOTEBOOK | {"cells": [CODE | {"source": None}]}, "cell 1: its source is no text"),
    "tags null": (NOTEBOOK | {"cells": [CODE | {"metadata": {"tags": None}}]}, "cell 1: its metadata or tags are"),
    "no outputs": (NOTEBOOK | {"cells": [CODE | {"outputs": None}]}, "cell 1: its outputs or its execution count"),
    "no count": (NOTEBOOK | {"cells": [LACKS]}, "cell 1: its outputs or its execution count are missing"),
    "an output without type": (NOTEBOOK | {"cells": [CODE | {"outputs": [{}]}]}, "cell 1: an output has no type"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_notebook_is_named_with_the_way_out(tmp_path, name):
    content, said = DAMAGED[name]
    with pytest.raises(ClaimbookError, match=said) as error:
        files.read_notebook(written(tmp_path, content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line, said",
    [("%load_ext autoreload", "line 1 is no Python"), ("tier = (", "is no Python"), ("tier = print(1)", "not `tier =")],
)
def test_a_parameters_cell_that_is_none_is_named(book, line, said):
    nb = files.read_notebook(paths.notebook(CHAPTER))
    parameters.parameters_cell(nb, CHAPTER)["source"] = line
    files.write_json(paths.notebook(CHAPTER), nb)
    with pytest.raises(ClaimbookError, match=rf"{CHAPTER}: the parameters cell may only hold .* lines.*{said}"):
        parameters.defaults(CHAPTER)


def test_a_notebook_that_was_executed_with_other_parameters_is_refused(book):
    """papermill leaves its cell in place where nothing is to be changed, and the run would be another than asked."""
    nb = files.read_notebook(paths.notebook(CHAPTER))
    at = nb["cells"].index(parameters.parameters_cell(nb, CHAPTER))
    injected = nb["cells"][at] | {"metadata": {"tags": ["injected-parameters"]}, "source": 'tier = "smoke"'}
    nb["cells"].insert(at + 1, injected)
    files.write_json(paths.notebook(CHAPTER), nb)
    with pytest.raises(ClaimbookError, match="delete the cell tagged 'injected-parameters'"):
        parameters.resolve(CHAPTER, {})


def test_a_magic_in_a_cell_stops_no_check(book):
    edit(paths.notebook(CHAPTER), "outcomes = np", "%time outcomes = np")
    assert any("stale" in line for line in checks.problems(CHAPTER))


def test_what_stands_beside_the_chapters_disturbs_nobody(book):
    """A notebook that JupyterLab made, a damaged one, and what an editor or a file server leaves beside a ledger."""
    written(book / "notebooks", NOTEBOOK, "Untitled.ipynb")
    written(book / "notebooks", b"{", "Untitled1.ipynb")
    for name in (f"._{CHAPTER}.yaml", f".#{CHAPTER}.yaml", "copy of it.yaml"):
        written(book / "data" / "claims", b"\0\5", name)
    assert parameters.notebooks() == paths.chapters() == [CHAPTER]
    assert machine.git_state()[1] and not [name for name in machine.uncommitted() if "Untitled" in name]
    done = claimbook_command(book, "status")
    assert done.returncode == 0 and f"chapter {CHAPTER}: fresh" in done.stdout
    with pytest.raises(ClaimbookError, match=r"no chapter 'Untitled' \(its notebook has no ledger under data/claims\)"):
        parameters.notebook("Untitled")


# --- the commit ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q", "inner")
    commit(tmp_path / "inner")
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path / "inner"))
    return tmp_path / "inner"


def test_a_checkout_of_another_user_has_its_commit(checkout, monkeypatch):
    own, run = machine.git_state(), subprocess.run
    other = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}  # git's own way to test it
    plain = run(["git", "rev-parse", "HEAD"], cwd=checkout, env=os.environ | other, capture_output=True)
    assert b"dubious ownership" in plain.stderr
    monkeypatch.setattr(subprocess, "run", lambda words, env, **more: run(words, env=env | other, **more))
    assert machine.git_state() == own and len(own[0]) == 40


def test_the_commit_of_a_repository_around_this_folder_is_not_ours(checkout, monkeypatch):
    (checkout / "unpacked").mkdir()
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(checkout / "unpacked"))
    assert machine.git_state() == ("", False)


def test_where_a_hook_of_git_points_does_not_count(checkout, tmp_path, monkeypatch):
    own = machine.git_state()
    git(tmp_path, "init", "-q", "other")
    commit(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "nowhere"))
    assert machine.git_state() == own != ("", False)


def test_a_note_that_cannot_be_kept_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    files.write_note(tmp_path / "file" / "note", "x")
    files.write_note(tmp_path / "notes" / "note", "x")
    assert (tmp_path / "notes" / "note").read_text() == "x"


# --- texts -----------------------------------------------------------------------------------------------------------


TEXTS = {
    "UTF-16": ("a text".encode("utf-16"), "is UTF-16 or UTF-32 .byte 0 is ff.: save it as plain text in UTF-8"),
    "Windows-1252": ("café".encode("cp1252"), "is not UTF-8 .byte 3 is e9.: save it as plain text"),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is PDF: save what it says as plain text in UTF-8"),
    "a packed text": (b"\x1f\x8b\x08\x00text", "is compressed by gzip: save what it says"),
    "a book of Word's": (b"PK\x03\x04\x14\0text", "is an archive, as .docx and .epub are: save"),
    "zero bytes": (b"a\0b", "holds zero bytes, so it is no text"),
    "RTF": (rb"{\rtf1\ansi\deff0 {\fonttbl{\f0 Times;}} A book.}", "is RTF: save what it says as plain text in UTF-8"),
    "a web page": (b"\xef\xbb\xbf\n<!DOCTYPE html><p>A book.", "is HTML: save what it says"),
    "nothing": (b"", "is empty: give plain text in UTF-8"),
    "a byte-order mark alone": (b"\xef\xbb\xbf\r\n", "is empty"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_none_is_refused_before_anything_runs(book, name):
    content, said = TEXTS[name]
    path = written(book, content, "mine.txt")
    with pytest.raises(ClaimbookError, match=f"^text '{path}' {said}"):
        parameters.resolve(CHAPTER, {"text": str(path)})


def test_a_text_is_known_by_where_it_lies(book):
    path = written(book, "\ufeffcafé\r\n".encode(), "mine.txt")
    assert parameters.resolve(CHAPTER, {"text": str(path)})["text"] == str(path)


# --- values ----------------------------------------------------------------------------------------------------------


def test_a_name_that_no_result_could_hold_is_refused(book):
    """A file's name may be any bytes; it would fail the run at its end, when the result is written."""
    with pytest.raises(ClaimbookError, match="parameter 'text' holds bytes that are no UTF-8: rename the file"):
        parameters.resolve(CHAPTER, {"text": os.fsdecode(b"caf\xe9.txt")})


@pytest.mark.parametrize("name", ["models", "text"])
def test_a_home_that_nobody_has_is_no_fault(book, name):
    with pytest.raises(ClaimbookError, match=f"unknown {name.rstrip('s')} '~nobody-of-this-name/x.y'"):
        parameters.resolve(CHAPTER, {name: "~nobody-of-this-name/x.y"})


def test_many_models_make_no_name_that_is_too_long():
    many = ",".join(f"owner/a-rather-long-name-of-a-model-{i}" for i in range(20))
    assert len(parameters.slug(many)) < 90 and parameters.slug(many) != parameters.slug(many[:-1])


@pytest.mark.parametrize("value", ["1e999", "-1"])
def test_a_number_that_is_none_is_refused(book, value):
    with pytest.raises(ClaimbookError, match=r"n_seeds (takes|must be) a (whole )?number|parameter 'n_seeds'"):
        parameters.resolve(CHAPTER, {"n_seeds": value})
