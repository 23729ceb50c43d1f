"""What a hand changes in a stored file, or moves after a result, is seen: one doctored copy for each way."""

import re

import pytest

from claimbook import commands, files, paths
from claimbook.book import pages
from claimbook.errors import ClaimbookError
from claimbook.provenance import seals
from claimbook.runs import checks, compare, parameters, runner, stored_runs
from conftest import CHAPTER, claimbook_command, commit, edit


def seen(said, capsys):
    """Whether the guard, which `make test` and `make check` run first, is red and says so."""
    assert not commands.guard()
    return said in capsys.readouterr().out


def change_a_digit(path, after):
    """Change the first digit that follows ``after`` in a file."""
    text = path.read_text()
    at = re.search(r"\d", text[text.index(after) + len(after) :]).start() + text.index(after) + len(after)
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


def test_an_untouched_book_is_sound(book, capsys):
    assert commands.guard() and "sound" in capsys.readouterr().out


@pytest.mark.parametrize("after", ['"estimate": ', '"interval": [', '"n": ', '"wall_s": ', '"version": '])
def test_a_digit_of_a_result(book, capsys, after):
    change_a_digit(paths.result(CHAPTER), after)
    assert seen("data/results/coin_flips.json is not as it was stored: a hand changed it", capsys)


def test_a_stored_run_that_nothing_declares_any_more(book, capsys):
    seals.write(paths.sweep(CHAPTER, "left_behind"), {"metrics": {}, "curves": {}})
    assert seen("left_behind.json is of no declared stored run: delete it", capsys)


def test_a_verdict_in_the_result_of_another_model(book, capsys):
    other = paths.results_beside(CHAPTER) / "cpu--gemma-3-270m.json"
    result = seals.read(paths.result(CHAPTER))
    seals.write(other, result | {"parameters": result["parameters"] | {"models": "gemma-3-270m"}})
    assert commands.guard()
    renamed = other.rename(other.with_name("gpu--llama-2-7b.json"))
    assert seen("gpu--llama-2-7b.json holds another run than its name says", capsys)
    renamed.rename(other)
    edit(other, '"verdict": "reproduced"', '"verdict": "contradicted"')
    assert seen("coin_flips/cpu--gemma-3-270m.json is not as it was stored", capsys)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("kind: result", "kind: premise", "C1: its criterion is another than the one that judged"),
        ("source: abstract", "source: ours", "C1: its criterion is another than the one that judged"),
    ],
)
def test_a_ledger_that_says_other_than_the_result(book, capsys, old, new, said):
    """What costs no rerun, as it measures nothing, but moves a total."""
    ledger = paths.ledger(CHAPTER)
    ledger.write_text(ledger.read_text().replace(old, new, 1))
    assert seen(said, capsys)


PLACES = {  # what a notebook stores of what a reader sees
    "printed": lambda output: (output, "text"),
    "shown": lambda output: (output.get("data", {}), "text/html"),
    "glued": lambda output: (output.get("data", {}), f"{checks.GLUE}text/plain"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_digit_that_the_notebook_printed_showed_or_glued(book, capsys, place):
    assert not checks.untouched(CHAPTER)
    nb = files.read_json(paths.notebook(CHAPTER))
    outputs = [output for cell in nb["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]
    holder, key = next((h, k) for h, k in map(PLACES[place], outputs) if re.search(r"\d", str(h.get(k, ""))))
    text = "".join(holder[key])
    holder[key] = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), text, count=1)
    files.write_json(paths.notebook(CHAPTER), nb)
    assert seen("the notebook's outputs are not those of the accepted run", capsys)


@pytest.mark.parametrize("after", ['"loss": [', '"total": ', '"wall_s": ', '"scale": '])
def test_a_digit_of_a_stored_run(book_with_sweeps, after):
    stored_runs.run(CHAPTER, "short")
    stored_runs.promote(CHAPTER)
    assert not checks.untouched(CHAPTER)
    change_a_digit(paths.sweep(CHAPTER, "short"), after)
    assert "data/sweeps/coin_flips/short.json is not as it was stored" in checks.untouched(CHAPTER)[0]
    with pytest.raises(ClaimbookError, match=r"short\.json is not as it was stored: a hand changed it"):
        stored_runs.load(CHAPTER, "short")
    with pytest.raises(ClaimbookError, match="not as it was stored"):
        stored_runs.confirm(CHAPTER, "short")


def test_an_artefact_that_is_not_the_one_that_was_left(book_with_sweeps):
    stored_runs.run(CHAPTER, "short")
    stored_runs.promote(CHAPTER)
    path = paths.sweep(CHAPTER, "short")
    path.with_suffix(".safetensors").write_bytes(b"weights")
    seals.write(path, seals.read(path) | {"artefact": files.sha256(path.with_suffix(".safetensors"))})
    assert not checks.untouched(CHAPTER)
    path.with_suffix(".safetensors").write_bytes(b"Weights")
    assert "its artefact short.safetensors is damaged" in checks.untouched(CHAPTER)[0]
    path.with_suffix(".safetensors").unlink()
    assert "its artefact short.safetensors is missing" in checks.untouched(CHAPTER)[0]


FAULT = {"times": 1, "ended": {}, "failed": "since 1", "made": ""}


def test_a_digit_of_the_benchmarks_the_families_of_models_or_the_faults(book):
    for path, page, data in (
        (paths.root() / "data/results/benchmarks.json", pages.benchmarks, {"rows": [], "machine": "m", "threads": 2}),
        (paths.root() / "data/model_families.json", pages.families, {"llama": {"attention": "works since 1"}}),
        (paths.root() / "data/faults.json", pages.faults, {"kill": FAULT}),
    ):
        seals.write(path, data | ({"date": "2026"} if "threads" in data else {}))
        page()
        change_a_digit(path, "threads" if "threads" in data else "since ")
        with pytest.raises(ClaimbookError, match="is not as it was stored"):
            page()


def rerun_after(book, old, new):
    """Change the ledger, commit, and lay down the run that the ledger of now would give."""
    edit(paths.ledger(CHAPTER), old, new)
    commit(book)
    assert claimbook_command(book, "rerun", CHAPTER).returncode == 0


def test_a_criterion_that_moves_needs_a_new_version(book, capsys):
    """Stale at once; and what `make rerun` then gives is not accepted as long as the version is the old one."""
    edit(paths.ledger(CHAPTER), "margin: 0.2", "margin: 0.3")
    assert seen("stale (changed: claims)", capsys)
    rerun_after(book, "margin: 0.3", "margin: 0.4")
    still = r"coin_flips\.C1: its criterion changed .*, and its version is still 1: give the claim version 2"
    with pytest.raises(ClaimbookError, match=still):
        runner.accept(CHAPTER)
    paths.result(CHAPTER).unlink()
    commit(book)
    with pytest.raises(ClaimbookError, match=still):
        runner.accept(CHAPTER)
    rerun_after(book, "    pilot_seen: none\n    version: 1\n  - id: C2", f"{SECOND_VERSION}  - id: C2")
    with pytest.raises(ClaimbookError, match="changelog: version 2 must have old_verdict: reproduced, as was stored"):
        runner.accept(CHAPTER)
    rerun_after(book, "old_verdict: partial", "old_verdict: reproduced")
    assert runner.accept(CHAPTER) == [paths.notebook(CHAPTER), paths.result(CHAPTER)]


SECOND_VERSION = """    pilot_seen: none
    version: 2
    changelog: [{ version: 2, date: 2026-01-01, change: "a wider margin", old_verdict: partial }]
"""


def test_a_version_never_falls_and_a_claim_never_goes(book):
    before = seals.read(paths.result(CHAPTER))
    for change, said in (
        ({"C1": {"version": 2}}, "version 2 was judged before"),
        ({"C9": {}}, "C9 was judged and is gone"),
    ):
        claims = {name: before["claims"].get(name, {}) | more for name, more in change.items()}
        seals.write(paths.result(CHAPTER), before | {"claims": before["claims"] | claims})
        commit(book)
        with pytest.raises(ClaimbookError, match=said):
            runner._check_versions(CHAPTER, before, paths.result(CHAPTER))


def test_a_changelog_speaks_of_the_references_verdicts(book):
    """A result beside it may have had another, and is brought up to the new version all the same."""
    result, beside = seals.read(paths.result(CHAPTER)), paths.results_beside(CHAPTER) / "cpu--other.json"
    seals.write(beside, result | {"claims": {"C1": result["claims"]["C1"] | {"verdict": "contradicted"}}})
    edit(paths.ledger(CHAPTER), "    pilot_seen: none\n    version: 1\n  - id: C2", f"{SECOND_VERSION}  - id: C2")
    commit(book)
    result["claims"]["C1"]["version"] = 2
    runner._check_versions(CHAPTER, result, beside)
    with pytest.raises(ClaimbookError, match="must have old_verdict: reproduced, as was stored"):
        runner._check_versions(CHAPTER, result, paths.result(CHAPTER))


def test_on_an_accelerator_no_run_becomes_the_reference(book):
    result = seals.read(paths.result(CHAPTER))
    for device, name in (("cuda", "cpu--none--cuda.json"), ("cpu", f"{CHAPTER}.json")):
        result["cost"]["device"] = device
        assert runner._target(CHAPTER, result, {"device"}).name == name


def test_a_run_in_another_dtype_or_on_another_device_has_a_name_of_its_own(book):
    values = parameters.resolve(CHAPTER, {})
    names = {
        parameters.beside(CHAPTER, values | {"dtype": dtype}, device).name
        for dtype in ("float32", "bfloat16")
        for device in ("cpu", "cuda", "cuda:1")
    }
    assert len(names) == 6 and {"cpu--none.json", "cpu--none--bfloat16--cuda-1.json"} <= names


def test_a_seed_that_moves_nothing_is_said_to(book):
    """Stored runs have seeds of their own; a run with another seed that only reads them shows no stability."""
    before = seals.read(paths.result(CHAPTER))
    after = files.as_json(before)
    after["parameters"]["seed"] = 7
    said = compare.compare(before, after).headline()
    assert ". 1 of 1 estimate did not move at all, as they rest on stored runs or data that" in said
    after["claims"]["C1"]["parts"]["halved"]["estimate"] += 1e-6
    assert compare.compare(before, after).headline().endswith("as this run differs in seed")
    assert "did not move" not in compare.compare(before, files.as_json(before)).headline()


def test_what_makes_a_verdict_so_may_change_without_moving_it(book):
    before = seals.read(paths.result(CHAPTER))
    after = files.as_json(before)
    after["claims"]["C1"]["detail"] = "another"
    assert not compare.compare(before, after).red
    after["claims"]["C1"]["verdict"] = "partial"
    assert compare.compare(before, after).red
