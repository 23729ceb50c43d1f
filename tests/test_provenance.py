"""Fingerprints: what must not move them, and what must."""

import importlib.metadata
import json
import os
import socket
import subprocess

import nbformat.v4 as nb4
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimbook import files, paths
from claimbook.errors import ClaimbookError
from claimbook.provenance import codehash, fingerprints, machine, seals
from claimbook.runs import stored_runs
from conftest import REPOSITORY, edit

SOURCE = '''
"""Module."""
def double(x):
    """Twice."""
    return 2 * x  # why


class Box:
    """A box."""

    size: int = 3
'''


@pytest.mark.parametrize(
    "old, new",
    [
        ("# why", "# another reason"),
        ("Twice.", "Two times."),
        ("A box.", "Box."),
        ("Module.", "M."),
        ("\n\n\nclass", "\nclass"),
        ("2 * x", "(2  *  x)"),
        ('    """Twice."""\n', ""),
    ],
)
def test_prose_and_layout_do_not_move_the_hash(old, new):
    assert old in SOURCE
    assert codehash.ast_hash(SOURCE.replace(old, new)) == codehash.ast_hash(SOURCE)


@pytest.mark.parametrize(
    "old, new", [("2 * x", "3 * x"), ("2 * x", "x * 2"), ("2 * x", "2.0 * x"), ("size", "side"), ("(x)", "(x=1)")]
)
def test_code_moves_the_hash(old, new):
    assert codehash.ast_hash(SOURCE.replace(old, new)) != codehash.ast_hash(SOURCE)


def test_a_string_that_is_no_docstring_counts():
    assert codehash.ast_hash("x = 'a'") != codehash.ast_hash("x = 'b'")
    assert codehash.ast_hash("x = '1'") != codehash.ast_hash("x = 1")
    assert codehash.ast_hash("x = None") != codehash.ast_hash("x = ...")


def test_the_hash_does_not_depend_on_how_this_python_dumps_trees():
    """Frozen value: a stored book must not become stale by a newer Python."""
    assert codehash.ast_hash("x: int = f(1, *a, k='é')\n@d\nasync def g(a, /, b=2): return [i for i in a if i]") == (
        "b09e984f65284941"
    )


def test_left_out_names_do_not_count():
    assert codehash.ast_hash("STORED = {}\ny = 1", {"STORED"}) == codehash.ast_hash(
        "STORED = {1: 2}\ny = 1", {"STORED"}
    )
    assert codehash.ast_hash("STORED: dict = {}\ny = 1", {"STORED"}) == codehash.ast_hash("y = 1")
    assert codehash.ast_hash("STORED = {}") != codehash.ast_hash("STORED = {1: 2}")


def test_magics_are_tolerated_and_count():
    cell = "%matplotlib inline\nimport claimbook.paths\nif x:\n    !ls {y}\nlen?"
    assert codehash.ast_hash(cell) != codehash.ast_hash(cell.replace("inline", "agg"))
    assert codehash.imports(cell) == {"claimbook", "claimbook.paths"}
    assert codehash.ast_hash("%%bash\nls") != codehash.ast_hash("%%bash\nls -l")
    assert codehash.ast_hash("a = (7\n% 2)") == codehash.ast_hash("a = 7 % 2")
    assert codehash.ast_hash("this is not python") != codehash.ast_hash("nor is this")


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.lists(st.text())))
def test_digest_ignores_the_order_of_keys(data):
    assert codehash.digest(data) == codehash.digest(dict(reversed(data.items())))


# --- imports -----------------------------------------------------------------------------------------------------


def package(root, **sources):
    """Write modules ``claimbook.zoo.…``; ``__`` in a name stands for a dot, ``init`` for the package itself."""
    for name, source in sources.items():
        files.write_text(
            root / "lib/claimbook/zoo" / (name.replace("__", "/").replace("init", "__init__") + ".py"), source
        )


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    package(tmp_path, init="", a="", b="x = 1", sub__init="from . import c", sub__c="", sub__d="")
    return tmp_path


@pytest.mark.parametrize(
    "source, found",
    [
        ("import claimbook.zoo.a", {"claimbook", "claimbook.zoo", "claimbook.zoo.a"}),
        ("from claimbook.zoo import a", {"claimbook", "claimbook.zoo", "claimbook.zoo.a"}),
        ("from claimbook.zoo.b import x", {"claimbook", "claimbook.zoo", "claimbook.zoo.b"}),
        ("from claimbook.zoo import a, missing", {"claimbook", "claimbook.zoo", "claimbook.zoo.a"}),
        ("def f():\n    from claimbook.zoo import b", {"claimbook", "claimbook.zoo", "claimbook.zoo.b"}),
        ("import claimbook.zoo.a as q, numpy", {"claimbook", "claimbook.zoo", "claimbook.zoo.a"}),
        ("from claimbook.zoo.b import *", {"claimbook", "claimbook.zoo", "claimbook.zoo.b"}),
        ("import numpy\nfrom torch import nn", set()),
    ],
)
def test_imports(zoo, source, found):
    assert codehash.imports(source) == found


def test_relative_imports(zoo):
    base = {"claimbook", "claimbook.zoo"}
    assert codehash.imports("from . import a", "claimbook.zoo.b") == base | {"claimbook.zoo.a"}
    assert codehash.imports("from .b import x", "claimbook.zoo", True) == base | {"claimbook.zoo.b"}
    sub = base | {"claimbook.zoo.sub"}
    assert codehash.imports("from . import d", "claimbook.zoo.sub", True) == sub | {"claimbook.zoo.sub.d"}
    assert codehash.imports("from ..b import x", "claimbook.zoo.sub.c") == base | {"claimbook.zoo.b"}


def test_closure_is_transitive_includes_packages_and_survives_cycles(zoo):
    package(zoo, a="from claimbook.zoo import b", b="import claimbook.zoo.sub.d\nfrom claimbook.zoo import a")
    expected = ["claimbook", *(f"claimbook.zoo{end}" for end in ("", ".a", ".b", ".sub", ".sub.c", ".sub.d"))]
    assert codehash.import_closure(["claimbook.zoo.a"]) == expected


def test_closure_leaves_out_plumbing(zoo):
    package(zoo, a="from claimbook.errors import ClaimbookError\nfrom claimbook import paths, sweeps")
    assert codehash.import_closure(["claimbook.zoo.a"]) == ["claimbook", "claimbook.zoo", "claimbook.zoo.a"]


def test_a_change_far_away_moves_the_hash_of_its_module_only(zoo):
    package(zoo, a="def f():\n    from .b import x")
    before = codehash.module_hashes(["claimbook.zoo.a"])
    package(zoo, b="x = 2")
    after = codehash.module_hashes(["claimbook.zoo.a"])
    assert {name for name in after if after[name] != before[name]} == {"claimbook.zoo.b"}


@pytest.mark.parametrize(
    "source",
    [
        "import claimbook.zoo.sub.c",
        "import claimbook.zoo.sub.c as other",
        "import claimbook.zoo.sub",
        "import numpy, claimbook.zoo.sub.c",
        "from claimbook.zoo import sub",
        "from claimbook.zoo import a, sub",
        "from claimbook.zoo.sub import c",
        "from claimbook.zoo.sub import c, d",
        "from claimbook.zoo.sub.c import x",
        "from claimbook.zoo.sub.c import *",
        "from . import sub",
        "from .sub import c",
        "from .sub.c import x",
        "from .b import y",
        "def f():\n    from .sub import c",
        "if True:\n    import claimbook.zoo.sub.d",
    ],
)
def test_whatever_way_a_module_is_imported_a_change_in_it_counts(zoo, source):
    """Also where it is the package that imports its submodule, or a module in between."""
    package(zoo, e=source, b="from .sub.c import x as y")
    before = codehash.code_hash(["claimbook.zoo.e"])
    package(zoo, sub__c="x = 2")
    assert codehash.code_hash(["claimbook.zoo.e"]) != before


def test_only_plumbing_itself_is_plumbing(zoo):
    files.write_text(zoo / "lib/claimbook/filesystem.py", "")
    package(zoo, e="from claimbook import filesystem, paths\nimport claimbook.runs.checks")
    expected = ["claimbook", "claimbook.filesystem", "claimbook.zoo", "claimbook.zoo.e"]
    assert codehash.import_closure(["claimbook.zoo.e"]) == expected


IMPORTS = """from claimbook.zoo import b
from claimbook.zoo.b import x as y

def f(z):
    from claimbook.zoo.sub import c
    return b.x + y + z
"""


def test_a_move_or_a_rename_of_a_module_costs_nothing(zoo):
    package(zoo, a=IMPORTS, sub__init="")
    before = codehash.code_hash(["claimbook.zoo.a"])
    moved = IMPORTS.replace("zoo import b", "zoo.den import bear").replace("zoo.b import", "zoo.den.bear import")
    package(zoo, a=moved.replace("b.x", "bear.x").replace("zoo.sub import c", "zoo import c as d"))
    package(zoo, den__init='"""A room."""', den__bear="x = 1", c="")
    assert codehash.code_hash(["claimbook.zoo.a"]) == before
    (zoo / "lib/claimbook/zoo/a.py").rename(zoo / "lib/claimbook/zoo/e.py")
    assert codehash.code_hash(["claimbook.zoo.e"]) == before


@pytest.mark.parametrize(
    "changed",
    [
        {"b": "x = 2"},
        {"sub__c": "q = 1"},
        {"a": IMPORTS.replace("zoo import b", "zoo import d as b")},
        {"a": IMPORTS.replace("x as y", "w as y")},
        {"a": IMPORTS.replace("b.x + y + z", "b.x + z + y")},
        {"a": IMPORTS.replace("b.x + y", "b.x + b")},
        {"a": IMPORTS.replace("f(z)", "f(y)")},
    ],
)
def test_what_is_imported_counts(zoo, changed):
    package(zoo, a=IMPORTS, b="x = w = 1", d="x = w = 3")
    begin = ["claimbook.zoo.a", "claimbook.zoo.d"]
    before = codehash.code_hash(begin)
    package(zoo, **changed)
    assert codehash.code_hash(begin) != before


def test_a_name_that_is_an_argument_too_keeps_its_name(zoo):
    """Else a function that returns its argument would have the hash of one that returns the module."""
    package(zoo, a="from claimbook.zoo import b as m\ndef f(m):\n    return m")
    one = codehash.code_hash(["claimbook.zoo.a"])
    package(zoo, a="from claimbook.zoo import b as q\ndef f(m):\n    return q")
    assert codehash.code_hash(["claimbook.zoo.a"]) != one


def test_cells_share_the_names_they_import(zoo):
    one = ["from claimbook.zoo import b", "b.x"]
    package(zoo, den__init="", den__b="x = 1")
    names = ["claimbook.zoo.a"]
    assert codehash.code_hash(names, one) == codehash.code_hash(names, ["from claimbook.zoo.den import b", "b.x"])
    assert codehash.code_hash(names, one) != codehash.code_hash(names, ["from claimbook.zoo import a as b", "b.x"])
    assert codehash.notebook_hash(notebook(*one)) == codehash.notebook_hash(
        notebook("from claimbook.zoo import a", "a.x")
    )


def test_the_table_of_stored_runs_binds_no_module_in_its_package(demo):
    assert "claimbook.experiments.demo" not in codehash.import_closure(["claimbook.experiments.demo.toy"])
    assert "claimbook.experiments.demo" in codehash.import_closure(["claimbook.experiments.demo"])
    both = codehash.imports("from claimbook.experiments.demo import STORED, toy")
    assert both >= {"claimbook.experiments.demo", "claimbook.experiments.demo.toy"}, "a name of the table binds it"


# --- notebooks ---------------------------------------------------------------------------------------------------


def notebook(*cells):
    return nb4.new_notebook(cells=[nb4.new_code_cell(cell) for cell in cells])


def test_notebook_hash_ignores_prose_outputs_and_injected_parameters():
    nb = notebook("x = 1", "y = 2")
    other = notebook("x = 1  # note", "x = 5", "y = 2", "")
    other.cells[1].metadata.tags = ["injected-parameters"]
    other.cells[0].outputs = [nb4.new_output("stream", text="hello")]
    other.cells.append(nb4.new_markdown_cell("prose"))
    assert codehash.notebook_hash(nb) == codehash.notebook_hash(other)
    assert codehash.notebook_hash(nb) != codehash.notebook_hash(notebook("y = 2", "x = 1"))


def test_words_are_where_asset_keys_stand():
    assert {"smollm2-135m", "kjv"} <= codehash.words("models = 'smollm2-135m, kjv'")


# --- fingerprints and what is recorded ---------------------------------------------------------------------------


def test_changed_names_the_parts():
    packages, code = {"torch": "1"}, {"a": "1", "b": "2", "d": "4"}
    old = {"cells": "1", "code": "x", "modules": code, "packages": packages, "claims": "9"}
    new = {
        "cells": "1",
        "code": "y",
        "modules": {"a": "1", "b": "3", "c": "5"},
        "packages": {"torch": "2"},
        "claims": "8",
    }
    assert fingerprints.changed(old, new) == ["claims", "module b", "module c", "module d", "package torch"]
    assert fingerprints.changed(old, old) == []
    assert fingerprints.fingerprint(old) != fingerprints.fingerprint(new)
    assert fingerprints.changed(old, old | {"code": "y"}) == ["module imports"]


@pytest.fixture
def small_chapter(demo):
    """The chapter ``demo``: a notebook that names an asset and another chapter's run, a ledger, data, a stored run."""
    cells = "from claimbook.experiments.demo import toy", "keys = 'kjv', 'streaming_llm/toys'"
    files.write_json(demo / "notebooks/demo.ipynb", notebook(*cells))
    for name in ("data/assets.yaml", "data/claims/streaming_llm.yaml", "data/sweeps/streaming_llm/toys.json"):
        files.write_text(demo / name, (REPOSITORY / name).read_text())
    files.write_text(demo / "data/claims/demo.yaml", (REPOSITORY / "data/claims/streaming_llm.yaml").read_text())
    files.write_text(demo / "data/demo/table.csv", "1,2")
    stored_runs.run("demo", "short")
    stored_runs.promote("demo")
    return demo


def put(root, name, **entries):
    """Change what a stored run says."""
    path = root / "data/sweeps" / f"{name}.json"
    seals.write(path, seals.read(path) | entries)


INPUTS = {
    "cells": lambda root: edit(root / "notebooks/demo.ipynb", "keys = ", "more = "),
    "module claimbook.experiments.demo.toy": lambda root: edit(
        root / "lib/claimbook/experiments/demo/toy.py", "step + 1.0", "step + 2.0"
    ),
    "claims": lambda root: edit(root / "data/claims/demo.yaml", "bound: 1.1, precision", "bound: 1.2, precision"),
    "asset kjv": lambda root: edit(root / "data/assets.yaml", "convert: kjv@", "convert: kjv@9"),
    "stored run short": lambda root: put(root, "demo/short", curves={"loss": [1.0]}),
    "stored run other": lambda root: (stored_runs.run("demo", "other"), stored_runs.promote("demo")),
    "stored run streaming_llm/toys": lambda root: put(root, "streaming_llm/toys", metrics={"doctored": 1}),
    "data file table.csv": lambda root: edit(root / "data/demo/table.csv", "2", "3"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_of_a_chapter_is_in_its_fingerprint_and_is_named(small_chapter, name):
    before = fingerprints.chapter_parts("demo")
    INPUTS[name](small_chapter)
    after = fingerprints.chapter_parts("demo")
    also = ["module imports"] if name == "cells" else []  # cells are hashed with what they import, too
    assert fingerprints.changed(before, after) == [name, *also]
    assert fingerprints.fingerprint(before) != fingerprints.fingerprint(after)


def test_a_chapters_packages_and_tier_are_in_its_fingerprint(small_chapter, monkeypatch):
    before = fingerprints.chapter_fingerprint("demo")
    assert (
        fingerprints.chapter_fingerprint("demo", "gpu") != before == fingerprints.chapter_fingerprint("demo", "smoke")
    )
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "99.0"})
    assert fingerprints.chapter_fingerprint("demo") != before


def test_a_fingerprint_names_no_module():
    old = {"code": "x", "modules": {"claimbook.lm.load": "1"}}
    assert fingerprints.fingerprint(old) == fingerprints.fingerprint(old | {"modules": {"claimbook.models.load": "1"}})


def test_line_endings_of_a_checkout_move_no_hash(small_chapter):
    """A clone on Windows, or an archive: the same modules, cells and data with other line breaks."""
    before = fingerprints.chapter_fingerprint("demo")
    text = [path for path in small_chapter.rglob("*") if path.suffix in (".py", ".csv", ".yaml", ".ipynb", ".txt")]
    assert {".py", ".ipynb", ".yaml"} <= {path.suffix for path in text}
    for path in text:
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert fingerprints.chapter_fingerprint("demo") == before


def test_git_gives_every_checkout_the_same_line_endings():
    root, names = paths.root(), ["lib/x.py", "notebooks/x.ipynb", "data/claims/x.yaml", "data/x.csv", "Makefile"]
    said = subprocess.run(["git", "check-attr", "eol", *names], cwd=root, capture_output=True, text=True).stdout
    assert [line.rsplit(": ", 1)[1] for line in said.splitlines()] == ["lf"] * len(names)


@pytest.mark.parametrize("build", ["2.13.0", "2.13.0+cpu", "2.13.0+cu130"])
def test_versions_are_public(monkeypatch, build):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: build)
    assert machine.versions() == dict.fromkeys(machine.PACKAGES, "2.13.0")


def test_nothing_recorded_names_this_machine():
    text = json.dumps([machine.collect(), machine.hardware()])
    for secret in (socket.gethostname(), os.getcwd(), os.path.expanduser("~")):
        assert secret not in text
    assert {"git", "dirty", "packages", "threads", "python", "platform", "started"} <= machine.collect().keys()


def test_outside_git_the_commit_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    assert machine.git_state() == ("", False)


@pytest.mark.parametrize("text", ["0", "two", "-1", "1.5", "", "²", "٣"])
def test_threads_must_be_a_whole_number(monkeypatch, text):
    monkeypatch.setenv("CLAIMBOOK_THREADS", text)
    with pytest.raises(ClaimbookError, match="CLAIMBOOK_THREADS"):
        machine.threads()
