"""Each check, seen failing on a doctored chapter."""

import base64
import json
from types import SimpleNamespace

import pytest

from claimbook import commands, errors, paths
from claimbook.provenance import seals
from claimbook.runs import checks, parameters
from conftest import CHAPTER, edit


def notebook():
    return json.loads(paths.notebook(CHAPTER).read_text())


def save(nb):
    paths.notebook(CHAPTER).write_text(json.dumps(nb))


def cells(nb, tag):
    return [cell for cell in nb["cells"] if tag in cell["metadata"].get("tags", [])]


def image_cell(nb):
    return next(cell for cell in nb["cells"] if "plotting.show(" in "".join(cell["source"]))


def doctored_result(change):
    result = seals.read(paths.result(CHAPTER))
    change(result)
    seals.write(paths.result(CHAPTER), result)


def clear_outputs(nb):
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None


def swap_counts(nb):
    first, second = [cell for cell in nb["cells"] if cell["cell_type"] == "code"][:2]
    first["execution_count"], second["execution_count"] = second["execution_count"], first["execution_count"]


def add_error(nb):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    nb["cells"][-1]["outputs"].append(error)


def add_warning(nb):
    nb["cells"][-1]["outputs"].append({"output_type": "stream", "name": "stderr", "text": ["careful"]})


def add_nothing(nb):
    nb["cells"][-1]["outputs"].append({"output_type": "stream", "name": "stdout", "text": ["a: 74% [nan%, nan%]"]})


def inject(nb):
    cells(nb, "parameters")[0]["metadata"]["tags"].append("injected-parameters")


def untag_parameters(nb):
    cells(nb, "parameters")[0]["metadata"]["tags"] = []


def empty_claim_cell(nb):
    cells(nb, checks.CLAIM_TAG)[0]["outputs"] = []


def skip_comparison(nb):
    nb["cells"][-1]["metadata"]["tags"].append("nbval-skip")


def other_kernel(nb):
    nb["metadata"]["kernelspec"]["name"] = "my-env"


@pytest.mark.parametrize(
    "doctor, said",
    [
        (clear_outputs, "10 of 10 code cells were never executed"),
        (swap_counts, "not executed in order"),
        (add_error, "stored error ValueError"),
        (add_warning, "stderr"),
        (add_nothing, "prints nan or inf"),
        (inject, "injected parameters"),
        (untag_parameters, "one code cell tagged 'parameters', it has 0"),
        (empty_claim_cell, "a claim cell must show"),
        (skip_comparison, "escape the comparison"),
        (other_kernel, "not named python3"),
    ],
)
def test_guard_sees(book, doctor, said):
    assert checks.guard(CHAPTER) == []
    nb = notebook()
    doctor(nb)
    save(nb)
    assert any(said in line for line in checks.problems(CHAPTER))


# --- freshness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file, old, new, said",
    [
        (f"notebooks/{CHAPTER}.ipynb", "n_seeds = 40", "n_seeds = 41", "cells"),
        (f"notebooks/{CHAPTER}.ipynb", "np.isclose(variance", "np.allclose(variance", "cells"),
        (f"lib/claimbook/papers/{CHAPTER}.py", "axis=1", "axis=-1", f"module claimbook.papers.{CHAPTER}"),
        ("lib/claimbook/stats.py", "TAIL = 0.025", "TAIL = 0.05", "module claimbook.stats"),
        (f"data/claims/{CHAPTER}.yaml", "margin: 0.2", "margin: 0.3", "claims"),
    ],
)
def test_freshness_sees_a_change_and_names_it(book, file, old, new, said):
    assert checks.freshness(CHAPTER) == []
    edit(book / file, old, new)
    (line,) = checks.freshness(CHAPTER)
    assert f"stale (changed: {said}" in line and f"`claimbook rerun {CHAPTER}`" in line


def test_freshness_sees_another_package_version(book, monkeypatch):
    monkeypatch.setattr("claimbook.provenance.machine.versions", lambda: {"torch": "99.0.0"})
    assert "package torch" in checks.freshness(CHAPTER)[0]


def test_freshness_sees_another_asset(book):
    edit(book / f"lib/claimbook/papers/{CHAPTER}.py", "return rng", 'text = "kjv"\n    return rng')
    assert "asset kjv" in checks.freshness(CHAPTER)[0]


def test_freshness_sees_another_chapters_run_that_no_whole_string_names(book):
    """Its name put together at run time, as by f"…_{seed}", is none that a change could be traced by."""
    result = seals.read(paths.result(CHAPTER))
    result["provenance"]["stored"]["streaming_llm/toys"] = "fresh"
    seals.write(paths.result(CHAPTER), result)
    (line,) = checks.freshness(CHAPTER)
    assert line.startswith("stored run streaming_llm/toys of another chapter is named by no whole string")


def test_freshness_sees_a_doctored_hash_and_a_missing_result(book):
    doctored_result(lambda result: result["provenance"].update(code_hash="0" * 16))
    assert "stale (changed: the stored hash)" in checks.freshness(CHAPTER)[0]
    paths.result(CHAPTER).unlink()
    assert "no reference run" in checks.freshness(CHAPTER)[0]


# --- agreement ---------------------------------------------------------------------------------------------------


def test_agreement_sees_a_claim_that_is_only_in_the_ledger(book):
    edit(paths.ledger(CHAPTER), "  - id: C3", "  - id: C4")
    lines = checks.agreement(CHAPTER)
    for where in ("judged in the notebook", "in the stored result"):
        assert any("C4 is not " + where in line for line in lines)
        assert any("C3 is " + where + ", but not in the ledger" in line for line in lines)


@pytest.mark.parametrize("key, value", [("verdict", "contradicted"), ("fidelity", "reduced")])
def test_agreement_sees_a_result_that_says_other_than_the_notebook(book, key, value):
    doctored_result(lambda result: result["claims"]["C1"].update({key: value}))
    assert any("C1: the notebook does not print what the result says" in line for line in checks.agreement(CHAPTER))


def test_agreement_sees_a_doctored_claim_cell(book):
    edit(paths.notebook(CHAPTER), "coin_flips.C2 · reproduced", "coin_flips.C2 · contradicted")
    assert any("C2: the notebook does not print" in line for line in checks.agreement(CHAPTER))


def test_agreement_sees_an_untagged_claim_cell(book):
    nb = notebook()
    cells(nb, checks.CLAIM_TAG)[0]["metadata"]["tags"] = []
    save(nb)
    assert any("lacks the tag" in line for line in checks.agreement(CHAPTER))


def test_agreement_sees_versions_claims_shown_twice_and_parameters(book):
    doctored_result(lambda result: result["claims"]["C1"].update(version=7))
    doctored_result(lambda result: result["parameters"].update(seed=3))
    doctored_result(lambda result: result.update(tier="gpu"))
    edit(paths.notebook(CHAPTER), "coin_flips.C2 · reproduced", "coin_flips.C1 · reproduced")
    text = "\n".join(checks.agreement(CHAPTER))
    assert "C1: the result judged version 7, the ledger has 1" in text
    assert "C2 is not judged in the notebook" in text and "C1 is judged in the notebook 2 times" in text
    assert "other parameters" in text and "of tier gpu" in text


# --- form --------------------------------------------------------------------------------------------------------


def test_form_sees_prose_that_uses_what_no_cell_glues(book):
    edit(paths.notebook(CHAPTER), "`C1.halved`", "`C1.havled`")
    assert checks.form(CHAPTER) == ["the prose uses 'C1.havled', which no cell glues"]
    edit(paths.notebook(CHAPTER), "{glue:} badges", "{glue:} bagdes")
    assert any("'bagdes'" in line for line in checks.form(CHAPTER))


def test_form_sees_figures_without_words_too_large_or_not_png(book):
    nb = notebook()
    for output in image_cell(nb)["outputs"]:
        for kind in (checks.FOR_BOOK, f"{checks.GLUE}{checks.FOR_BOOK}"):
            output.get("data", {}).pop(kind, None)
    image = next(out for out in image_cell(nb)["outputs"] if "image/png" in out.get("data", {}))
    image["data"]["image/png"] = base64.b64encode(bytes(300_000)).decode()
    image["data"]["image/svg+xml"] = "<svg/>"
    save(nb)
    text = "\n".join(checks.form(CHAPTER))
    assert "without words" in text and "300 kB" in text and "image/svg+xml, not PNG" in text


def test_form_sees_measuring_in_a_removed_cell(book):
    nb = notebook()
    (measuring,) = [cell for cell in nb["cells"] if "run.take(" in "".join(cell["source"])]
    measuring["metadata"]["tags"] = ["remove-cell"]
    save(nb)
    assert any("measures (`" in line for line in checks.form(CHAPTER))


@pytest.mark.parametrize(
    ("imported", "call"),
    [
        ("from claimbook.experiments.coin_flips import measure", "measure.throw(3)"),
        ("from claimbook.experiments.coin_flips.measure import coins as money", "money.thrown.again(3)"),
        ("from claimbook.experiments.coin_flips.measure.coins import throw", "throw(3)"),
    ],
)
def test_form_sees_what_a_chapter_measures_with_in_a_removed_cell(book, imported, call):
    nb = notebook()
    first, second = [cell for cell in nb["cells"] if cell["cell_type"] == "code"][:2]
    first["source"], second["source"], second["metadata"]["tags"] = imported, f"found = {call}", ["remove-cell"]
    save(nb)
    said = f"measures (`{call.partition('(')[0]}(…`)"
    assert any(said in line for line in checks.form(CHAPTER))


@pytest.mark.parametrize("call", ["tables.table", "drawing.show"])
def test_form_sees_a_table_or_a_figure_that_is_made_and_not_shown(book, call):
    nb = notebook()
    first, second = [cell for cell in nb["cells"] if cell["cell_type"] == "code"][:2]
    first["source"] = f"{call}(['a'], [[1]])\ntables.table(['b'], [[2]])"
    second["source"] = "display(tables.table(['a'], [[1]]))\nmade = tables.table(['b'], [[2]])\nmade"
    save(nb)
    said = [line for line in checks.form(CHAPTER) if "does not show" in line]
    assert len(said) == 1 and f"(`{call}(…`)" in said[0]


def test_form_sees_a_long_cell(book):
    nb = notebook()
    nb["cells"][-1]["source"] = ["x = 1\n"] * 41
    save(nb)
    assert any("has 41 lines" in line for line in checks.form(CHAPTER))


# --- live comparison, and the command ----------------------------------------------------------------------------


def test_numbers_sees_an_estimate_outside_the_stored_interval(book):
    live = seals.read(paths.result(CHAPTER))
    assert checks.numbers(CHAPTER, live) == []
    live["claims"]["C1"]["parts"]["halved"]["estimate"] = 3.0
    live["claims"]["C2"]["parts"]["variance"]["estimate"] += 1e-13  # the processor's digits: fine
    assert [line[:2] for line in checks.numbers(CHAPTER, live)] == ["C1"]
    live["claims"]["C2"]["parts"]["variance"] |= {"estimate": 0.126, "state": "not_met"}
    del live["claims"]["C3"]
    found = checks.numbers(CHAPTER, live)
    assert [line.split(" ")[0].rstrip(":") for line in found] == ["C1", "C2", "C3"]


@pytest.mark.slow
def test_nbval_is_green_as_stored_and_red_on_a_moved_verdict(book, capfd):
    assert commands.compare_live()
    edit(paths.notebook(CHAPTER), "coin_flips.C1 · reproduced", "coin_flips.C1 · partial")
    assert not commands.compare_live()
    assert "coin_flips.C1 · partial" in capfd.readouterr().out


@pytest.mark.parametrize(("said", "tries"), [("RuntimeError: Kernel didn't respond in 60 seconds", 3), ("E assert", 1)])
def test_a_kernel_that_did_not_start_is_started_again(book, monkeypatch, said, tries):
    """Two chapters are compared at a time, and two kernels may pick one port."""
    started = []

    def red(*given, **environment):
        started.append(given)
        return SimpleNamespace(communicate=lambda: (said, None), returncode=1)

    monkeypatch.setattr(commands, "_pytest", red)
    monkeypatch.setattr(commands, "_needed", lambda *given: book)
    assert not commands.compare_live() and len(started) == tries * len(parameters.notebooks())


@pytest.mark.slow
def test_nothing_executed_is_red(book, capfd):
    for path in [*(book / "notebooks").iterdir(), *(book / "tests").iterdir()]:
        path.unlink()
    assert not commands.unit_tests()
    assert not commands.guard()
    assert not commands.compare_live()
    assert commands.check() == errors.RED
    assert "checks of stored chapters, unit tests but the slow ones\n" in capfd.readouterr().out


def test_a_damaged_result_is_a_finding_not_a_traceback(book):
    paths.result(CHAPTER).write_text("{")
    assert any("is damaged" in line for line in checks.problems(CHAPTER))
