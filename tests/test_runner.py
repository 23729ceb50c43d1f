"""Rerun, compare, accept: refused before anything runs, killed at any moment, promoted only on request."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from claimbook import commands, files, paths
from claimbook.assets import catalogue, download
from claimbook.errors import ClaimbookError
from claimbook.provenance import fingerprints, machine, seals
from claimbook.runs import checks, compare, parameters, runner
from conftest import CHAPTER, claimbook_command, commit, edit, own_environment


def runs(root):
    folder = root / "_runs" / CHAPTER
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


def reference_files():
    return {path: path.read_bytes() for path in (paths.notebook(CHAPTER), paths.result(CHAPTER))}


@pytest.fixture
def no_runs(book):
    """The book without what earlier runs left."""
    shutil.rmtree(book / "_runs")
    return book


def finished_run(**changes):
    """Lay down a finished run as `rerun` would, from the stored reference; ``changes`` go into its result."""
    folder = paths.runs() / CHAPTER / "20260101T000000--x"
    folder.mkdir(parents=True, exist_ok=True)
    result = seals.read(paths.result(CHAPTER))
    parameters_ = result["parameters"] | changes.pop("parameters", {})
    files.write_json(folder / "result.json", result | {"parameters": parameters_} | changes)
    shutil.copy(paths.notebook(CHAPTER), folder / "executed.ipynb")
    files.write_text(paths.runs() / CHAPTER / "latest", folder.name)
    return folder


# --- refused before anything runs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, said",
    [
        ({"windw": "3"}, f"{CHAPTER} has no parameter 'windw'"),
        ({"n_seed": "3"}, r"no parameter 'n_seed': did you mean n_seeds or seed\?"),
        ({"n_seeds": "many"}, "parameter 'n_seeds' takes a whole number"),
        ({"n_seeds": "2.5"}, "parameter 'n_seeds' takes a whole number"),
        ({"seed": "x"}, "parameter 'seed' takes a whole number"),
        ({"models": "nope"}, "unknown model 'nope'"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"device": "cpu:7"}, "device 'cpu:7' is unknown"),
        ({"device": "cuda:٣"}, "device 'cuda:٣' is unknown"),
        ({"n_seeds": "-" * 100_000 + "1"}, "parameter 'n_seeds' takes a whole number"),
        ({"tier": "fast"}, "tier 'fast' is unknown"),
    ],
)
def test_bad_parameters(no_runs, given, said):
    with pytest.raises(ClaimbookError, match=said):
        runner.rerun(CHAPTER, given)
    assert runs(no_runs) == []


def test_a_place_for_the_result_that_cannot_be(no_runs, tmp_path):
    (tmp_path / "file").write_text("a file")
    for place in (tmp_path, tmp_path / "file" / "result.json"):
        with pytest.raises(ClaimbookError, match=f"--result {place} cannot be written.*: name a file "):
            runner.rerun(CHAPTER, {}, place)
    assert runs(no_runs) == []


def test_a_folder_for_runs_that_cannot_be(no_runs, tmp_path):
    assert not paths.runs().exists()
    paths.runs().symlink_to(tmp_path / "gone")
    with pytest.raises(ClaimbookError, match=f"cannot make the run's folder in _runs/{CHAPTER}: File exists"):
        runner.rerun(CHAPTER, {})


def test_a_parameter_that_was_deleted_or_became_a_text(no_runs):
    file = paths.notebook(CHAPTER)
    nb = files.read_notebook(file)
    (cell,) = [cell for cell in nb["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    whole = "".join(cell["source"])
    cell["source"] = "\n".join(line for line in whole.splitlines() if not line.startswith("n_seeds"))
    files.write_text(file, json.dumps(nb))
    with pytest.raises(ClaimbookError, match=f"{CHAPTER}: the parameters cell has no n_seeds: write it there again"):
        runner.rerun(CHAPTER, {})
    cell.update(source=whole, cell_type="markdown")
    files.write_text(file, json.dumps(nb))
    with pytest.raises(ClaimbookError, match="needs one code cell tagged 'parameters', it has 0"):
        runner.rerun(CHAPTER, {})


def test_few_open_files_are_told_first(no_runs, monkeypatch):
    monkeypatch.setattr(runner.resource, "getrlimit", lambda kind: (32, 32))
    with pytest.raises(ClaimbookError, match="only 32 files may be open at once, a run needs 256: say `ulimit -n 256`"):
        runner.rerun(CHAPTER, {})


def test_a_value_is_quoted_in_a_few_words(no_runs):
    for given in ({"models": "x" * 9999}, {"text": "y" * 9999}, {"n_seeds": "z" * 9999}, {"w" * 9999: 1}):
        with pytest.raises(ClaimbookError) as refused:
            runner.rerun(CHAPTER, given)
        assert len(str(refused.value)) < 1000


def test_a_path_with_commas_names_no_asset(no_runs, tmp_path):
    (tmp_path / "notes,pg19,old.txt").write_text("a text")
    values = {**parameters.defaults(CHAPTER), "text": str(tmp_path / "notes,pg19,old.txt")}
    assert "pg19" not in parameters.needed_assets(CHAPTER, values)


def test_an_adapter_is_no_model(no_runs, tmp_path):
    for name in ("config.json", "adapter_config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ClaimbookError, match="holds an adapter: merge it"):
        runner.rerun(CHAPTER, {"models": str(tmp_path)})


@pytest.mark.parametrize("chapter", ["streaming_llm", "grocery_ranking"])
def test_a_chapter_that_measures_a_model_needs_one(monkeypatch, chapter):
    monkeypatch.setattr(parameters, "_check_inputs", lambda *inputs: None)
    if parameters.defaults(chapter)["models"]:
        with pytest.raises(ClaimbookError, match="models is empty, and streaming_llm measures one: give smollm2-135m"):
            parameters.resolve(chapter, {"models": ""})
    else:
        assert parameters.resolve(chapter, {})["models"] == ""


def test_an_absent_device(no_runs, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ClaimbookError, match="device 'cuda' is not available here: use auto or one of cpu"):
        runner.rerun(CHAPTER, {"device": "cuda"})
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ClaimbookError, match="device 'cuda:7' is not available here: there is cuda:0 to cuda:1"):
        runner.rerun(CHAPTER, {"device": "cuda:7"})
    assert runs(no_runs) == []


def test_the_command_says_it_in_one_line(no_runs):
    done = claimbook_command(no_runs, "rerun", CHAPTER, "-p", "windw=3")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("claimbook: ") and done.stderr.count("\n") == 1
    done = claimbook_command(no_runs, "rerun", CHAPTER, "-p", "windw")
    assert done.returncode == 2 and "name=value" in done.stderr


def test_an_unknown_chapter(book):
    with pytest.raises(ClaimbookError, match=rf"no chapter 'coin_flip': did you mean {CHAPTER}\?"):
        runner.rerun("coin_flip")


def test_absent_and_damaged_assets(no_runs, tmp_path, monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "fetch", lambda keys: pytest.fail("nothing may be fetched"))
    with pytest.raises(ClaimbookError, match="'llama-2-7b' is not in the cache: run `claimbook fetch llama-2-7b`"):
        runner.rerun(CHAPTER, {"models": "llama-2-7b", "device": "cpu"})
    (catalogue.folder("kjv")).mkdir(parents=True)  # there once, but its manifest is gone
    with pytest.raises(ClaimbookError, match="claimbook fetch kjv"):
        runner.rerun(CHAPTER, {"text": "kjv"})
    assert runs(no_runs) == []


def test_an_asset_never_fetched_is_fetched_first(book, tmp_path, monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_CACHE", str(tmp_path / "cache"))
    asked = []
    monkeypatch.setattr(download, "fetch", asked.extend)
    runner.prepare(CHAPTER, {"text": "kjv"})
    assert asked == ["kjv"]


def test_a_full_disk(no_runs, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=5 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ClaimbookError, match="the disk is nearly full: 5 MB free"):
        runner.rerun(CHAPTER)
    assert runs(no_runs) == []


# --- running -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_rerun_agrees_shows_progress_and_leaves_the_reference_alone(no_runs):
    before = {path: path.read_bytes() for path in (no_runs / "data").rglob("*") if path.is_file()}
    done = claimbook_command(no_runs, "rerun", CHAPTER, "--result", no_runs / "_runs/copy.json")
    assert done.returncode == 0, done.said
    assert "3 of 3 verdicts are those of the reference" in done.stdout
    assert "100%" in done.stderr and "coin_flips" in done.stderr
    (folder,) = runs(no_runs)
    assert {path.name for path in folder.iterdir()} == {"executed.ipynb", "result.json", "report.md"}
    assert folder.name.endswith("--cpu--none")
    assert "| C1 | reproduced · toy | reproduced · toy |" in (folder / "report.md").read_text()
    assert (no_runs / "_runs/copy.json").read_text() == (folder / "result.json").read_text()
    assert {path: path.read_bytes() for path in (no_runs / "data").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_moved_verdict_is_red_with_the_same_parameters_and_information_with_others(no_runs, capsys):
    stored = seals.read(paths.result(CHAPTER))
    stored["claims"]["C2"]["verdict"] = "partial"
    seals.write(paths.result(CHAPTER), stored)
    assert runner.rerun(CHAPTER) == runner.MOVED
    assert "a verdict MOVED with the same parameters" in capsys.readouterr().out
    assert runner.rerun(CHAPTER, {"seed": "1", "n_seeds": "30"}) == runner.AGREES
    assert "for information, as this run differs in seed, n_seeds" in capsys.readouterr().out


def test_a_failing_notebook_is_kept_for_reading_and_is_no_result(no_runs, capsys):
    edit(paths.notebook(CHAPTER), "assert np.isclose", "assert not np.isclose")
    before = reference_files()
    assert runner.rerun(CHAPTER) == runner.FAILED
    assert "the run failed in cell [4]: AssertionError" in capsys.readouterr().err
    (folder,) = runs(no_runs)
    assert {path.name for path in folder.iterdir()} == {"executed.ipynb"}
    assert reference_files() == before
    with pytest.raises(ClaimbookError, match="no finished run to accept"):
        runner.accept(CHAPTER)


@pytest.mark.slow
def test_a_notebook_whose_metadata_a_merge_dropped_runs(no_runs):
    nb = files.read_notebook(paths.notebook(CHAPTER))
    files.write_json(paths.notebook(CHAPTER), nb | {"metadata": {}})
    assert runner.rerun(CHAPTER, {"tier": "smoke"}) == runner.AGREES


@pytest.mark.slow
def test_a_notebook_that_never_finishes_its_run_has_failed(no_runs, capsys):
    edit(paths.notebook(CHAPTER), "run.finish()", "pass")
    assert runner.rerun(CHAPTER) == runner.FAILED
    assert "must call run.finish()" in capsys.readouterr().err


@pytest.mark.slow
def test_two_at_once_and_a_kill_in_the_middle(no_runs):
    """Two runs side by side; a third is killed; then one more starts clean. The reference never moves."""
    edit(paths.notebook(CHAPTER), "outcomes = np", "import time; time.sleep(1); outcomes = np")
    before = reference_files()
    command = [sys.executable, "-m", "claimbook", "rerun", CHAPTER, "--tier", "smoke"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    pair, victim = [
        [subprocess.Popen(command, env=own_environment(no_runs), start_new_session=True, **quiet) for _ in range(count)]
        for count in (2, 1)
    ]
    deadline = time.monotonic() + 60
    while len(runs(no_runs)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(victim[0].pid, signal.SIGKILL)
    assert [process.wait(120) for process in pair] == [0, 0]
    assert reference_files() == before
    done = [folder for folder in runs(no_runs) if (folder / "result.json").exists()]
    assert len(done) == 2 and len(runs(no_runs)) == 3
    assert (no_runs / "_runs" / CHAPTER / "latest").read_text() in {folder.name for folder in done}


def test_a_kernel_that_dies_at_the_start_is_started_again(book, monkeypatch, tmp_path):
    tries = []

    def start(chapter, changed, folder):
        tries.append(folder)
        if len(tries) < 3:
            raise RuntimeError("Kernel died before replying to kernel_info")
        files.write_json(folder / "result.json", {})

    monkeypatch.setattr(runner, "_papermill", start)
    values = parameters.resolve(CHAPTER, {})
    assert runner._execute(CHAPTER, values, tmp_path) is None
    assert len(tries) == 3
    monkeypatch.setattr(runner, "_papermill", lambda *arguments: 1 / 0)
    said, code = runner._execute(CHAPTER, values, tmp_path)
    assert "ZeroDivisionError" in said and code == runner.FAILED


@pytest.mark.parametrize("written", ["half", "whole"])
def test_a_disk_that_fills_up_leaves_no_half_of_a_notebook(book, monkeypatch, capsys, written):
    def write(chapter, changed, folder):
        text = paths.notebook(CHAPTER).read_text()
        (folder / "executed.ipynb").write_text(text[: len(text) // 2] if written == "half" else text)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runner, "_papermill", write)
    assert runner.rerun(CHAPTER) == runner.FAILED
    said = capsys.readouterr().err
    assert "the disk is full: could not write executed.ipynb" in said and said.count("\n") == 1
    assert (runs(book)[-1] / "executed.ipynb").exists() == ("see _runs" in said) == (written == "whole")


def test_braces_in_a_path_are_taken_literally(tmp_path):
    assert runner._literal(tmp_path / "{seed}").format(seed=1) == str(tmp_path / "{seed}")


def test_two_runs_in_the_same_second_get_two_folders(book):
    values = parameters.resolve(CHAPTER, {})
    assert len({runner._new_folder(CHAPTER, values) for _ in range(3)}) == 3


# --- comparing ---------------------------------------------------------------------------------------------------


def test_comparison_names_what_moved_and_which_numbers(book):
    before = seals.read(paths.result(CHAPTER))
    after = json.loads(json.dumps(before))
    after["claims"]["C1"] |= {"verdict": "not_transferred", "reason": "halved not met"}
    after["claims"]["C1"]["parts"]["halved"]["estimate"] = 4.0
    comparison = compare.compare(before, after)
    assert comparison.red and [row.claim for row in comparison.moved] == ["C1"]
    assert "not transferred · toy  (halved not met; halved 4 is outside [1.9" in comparison.text()
    after["claims"]["C1"] |= {"version": 2, "criterion": "another"}
    assert "its criterion changed, version 1 to 2; halved not met" in compare.compare(before, after).text()
    assert compare.compare(before, after).headline().endswith("where one MOVED, its criterion changed")
    assert "criterion" not in compare.compare(before, after | {"tier": "gpu"}).text()
    after["cost"]["device"] = "cuda"
    assert not compare.compare(before, after).red
    assert compare.compare(before, after).differs == ["device"]
    del after["claims"]["C2"]
    assert compare.compare(before, after).moved[-1].after == "—"
    assert compare.compare(None, after).headline() == "there is no reference run yet"


# --- accepting ---------------------------------------------------------------------------------------------------


def test_accept_makes_the_run_the_reference(book):
    before = reference_files()
    folder = finished_run()
    edit(folder / "executed.ipynb", "coin_flips.C1 · reproduced", f"coin_flips.C1 · reproduced {book}/x")
    made = files.read_json(folder / "result.json")["provenance"]
    files.write_json(
        folder / "result.json", files.read_json(folder / "result.json") | {"provenance": made | {"dirty": True}}
    )
    edit(folder / "executed.ipynb", made["git"][:12], made["git"][:12] + " and uncommitted changes")
    edit(paths.notebook(CHAPTER), "Two coins", "Two fair coins")
    written = runner.accept(CHAPTER)
    assert written == list(before)
    text = paths.notebook(CHAPTER).read_text()
    assert machine.git_state()[0][:12] in text and "uncommitted" not in text
    assert "reproduced ./x" in text and "Two fair coins" in text  # its outputs, and the prose as it stands
    assert files.read_json(paths.result(CHAPTER))["provenance"]["git"] == machine.git_state()[0]


def test_accept_keeps_other_tiers_and_models_beside_the_reference(book):
    before = reference_files()
    parts = fingerprints.chapter_parts(CHAPTER, "gpu") | {"packages": {"torch": "another build, for a GPU"}}
    made = files.read_json(paths.result(CHAPTER))["provenance"]
    made |= {"parts": parts, "code_hash": fingerprints.fingerprint(parts)}
    finished_run(tier="gpu", parameters={"tier": "gpu", "models": "owner/model", "device": "cpu"}, provenance=made)
    (written,) = runner.accept(CHAPTER)
    assert written == book / f"data/results/{CHAPTER}/gpu--owner_model.json"
    assert reference_files() == before


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"tier": "smoke", "parameters": {"tier": "smoke"}}, "is a smoke run"),
        ({"status": "failed"}, "which has no verdicts"),
        ({"parameters": {"seed": 3}}, "differs from the reference in seed"),
        ({"parameters": {"n_seeds": 3, "tier": "gpu"}}, "differs from the reference in n_seeds"),
    ],
)
def test_accept_refuses_other_runs(book, changes, said):
    before = reference_files()
    finished_run(**changes)
    with pytest.raises(ClaimbookError, match=said):
        runner.accept(CHAPTER)
    assert reference_files() == before


def test_accept_refuses_uncommitted_changes_but_not_in_its_own_files(book):
    finished_run()
    stored = paths.result(CHAPTER)
    seals.write(stored, seals.read(stored) | {"status": "another"})
    assert runner.accept(CHAPTER)
    (book / "lib/claimbook/new_file.py").write_text("")
    with pytest.raises(ClaimbookError, match=r"uncommitted changes \(lib/claimbook/new_file\.py\): commit them first"):
        runner.accept(CHAPTER)


def test_accept_refuses_a_run_of_other_code(book):
    finished_run()
    edit(book / f"lib/claimbook/papers/{CHAPTER}.py", "axis=1", "axis=-1")
    commit(book)
    with pytest.raises(ClaimbookError, match=rf"changed since that run \(module claimbook\.papers\.{CHAPTER}\)"):
        runner.accept(CHAPTER)


def test_accept_refuses_code_of_the_notebook_that_is_not_committed(book):
    edit(paths.notebook(CHAPTER), "seed = 0", "seed = 3")
    finished_run(parameters={"seed": 3})
    before = reference_files()
    with pytest.raises(ClaimbookError, match=r"coin_flips\.ipynb has code that is not committed: commit it first"):
        runner.accept(CHAPTER)
    assert reference_files() == before


def test_accept_needs_git(book):
    finished_run()
    shutil.rmtree(book / ".git")
    with pytest.raises(ClaimbookError, match="not a git repository"):
        runner.accept(CHAPTER)


def test_machine_paths_are_taken_out(book):
    home = os.path.expanduser("~")
    data = {"a": [f"{book}/x", f"{paths.cache()}/y", f"{home}/z", 3]}
    assert runner.without_paths(data) == {"a": ["./x", "<cache>/y", "~/z", 3]}
    written = f"'\\n{home}/z', file://{home}/z, x{home}/z, {home}z"
    assert runner.without_paths(written) == f"'\\n~/z', file://~/z, x{home}/z, {home}z"


def test_a_home_that_is_the_root_of_all_folders_hides_nothing(book, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv("CLAIMBOOK_CACHE", "learners")
    assert runner.without_paths("<th>learners</th>, iVBORw0KGgo/AAA") == "<th>learners</th>, iVBORw0KGgo/AAA"


# --- book and all chapters ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fresh_book_executes_nothing_and_a_stale_one_runs_once(no_runs, monkeypatch, capsys):
    built = []
    monkeypatch.setattr(
        "claimbook.book.build.build", lambda stale: built.append(list(stale)) or paths.root() / "index.html"
    )
    assert commands.book("run") == 0 and runs(no_runs) == []
    edit(paths.notebook(CHAPTER), "np.isclose(variance", "np.allclose(variance")
    assert commands.book("show") == 0 and runs(no_runs) == []
    assert commands.book("run") == 0 and len(runs(no_runs)) == 1
    assert f"`claimbook accept {CHAPTER}`" in capsys.readouterr().out
    assert commands.book("run") == 0 and len(runs(no_runs)) == 1
    assert built == [[], [CHAPTER], [CHAPTER], [CHAPTER]]
    commit(no_runs)
    runner.accept(CHAPTER)
    assert checks.problems(CHAPTER) == []
    with pytest.raises(ClaimbookError, match="--stale is run or show"):
        commands.book("maybe")


def test_help_and_status_tell_the_story(book):
    done = claimbook_command(book, "--help")
    for command in ["book", "test", "rerun", "accept", "grid", "sweeps", "bench", "new", "fetch", "lab", "status"]:
        assert f"\n  {command} " in done.stdout
    assert "Exit codes" in done.stdout
    done = claimbook_command(book, "status")
    assert done.returncode == 0 and f"chapter {CHAPTER}: fresh" in done.stdout


def test_help_imports_nothing_heavy(book):
    code = "import sys, claimbook.cli; print({'torch', 'numpy', 'papermill', 'pydantic'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], env=own_environment(book), capture_output=True, text=True)
    assert done.stdout == "set()\n"
