"""Stored runs: run, resume, go stale, be confirmed; and nothing half-written, ever."""

import errno
import io
import math
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from claimbook import commands, files, paths
from claimbook.errors import RED, ClaimbookError
from claimbook.provenance import declarations, fingerprints, machine, seals
from claimbook.runs import stored_runs
from claimbook.runs.progress import Progress
from conftest import CHAPTER, REPOSITORY, edit

TOY = "lib/claimbook/experiments/demo/toy.py"
TABLE = "lib/claimbook/experiments/demo/stored.py"


def store(name="short"):
    stored_runs.run("demo", name)
    stored_runs.promote("demo", [name])


def test_a_run_is_scratch_until_promoted(demo):
    assert stored_runs.status("demo") == {"short": "missing", "other": "missing"}
    path = stored_runs.run("demo", "short")
    assert path == demo / "_runs/sweeps/demo/short.json"
    assert stored_runs.status("demo")["short"] == "missing"
    assert stored_runs.promote("demo") == ["short"]
    assert stored_runs.status("demo") == {"short": "fresh", "other": "missing"}
    assert stored_runs.promote("demo") == []


def test_what_a_result_holds(demo):
    store()
    result = stored_runs.load("demo", "short")
    assert result["metrics"] == {"total": 15.0, "resumed_at": 0}
    assert result["curves"]["loss"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert result["config"] == {"steps": 5, "scale": 1.0}
    assert result["freshness"] == "fresh"
    assert result["fingerprint"] == fingerprints.sweep_fingerprint("demo", "short")
    expected = "chapter name config fingerprint metrics curves wall_s machine threads packages assets started modules"
    assert set(expected.split()) <= result.keys()


def test_a_fresh_result_is_not_made_again_unless_forced(demo):
    before = stored_runs.run("demo", "short").stat().st_mtime_ns
    assert stored_runs.run("demo", "short").stat().st_mtime_ns == before
    assert stored_runs.run("demo", "short", force=True).stat().st_mtime_ns > before


def test_a_finished_result_of_other_code_is_made_again(demo):
    stored_runs.run("demo", "short")
    edit(demo / TOY, "step + 1.0", "step + 2.0")
    assert files.read_json(stored_runs.run("demo", "short"))["curves"]["loss"][0] == 2.0


def test_comments_leave_it_fresh(demo):
    store()
    edit(demo / TOY, "remembering how far it came", "with a memory")
    assert stored_runs.status("demo")["short"] == "fresh"


@pytest.mark.parametrize(
    "file, old, new, said",
    [
        (TOY, "step + 1.0", "step + 2.0", "module claimbook.experiments.demo.toy"),
        (TABLE, '"steps": 5', '"steps": 6', "config"),
    ],
)
def test_a_change_makes_it_stale_and_is_named(demo, file, old, new, said):
    store()
    edit(demo / file, old, new)
    assert stored_runs.status("demo")["short"] == "stale"
    with pytest.raises(ClaimbookError, match=rf"stale \(changed: {said}\): `claimbook sweeps demo`"):
        stored_runs.load("demo", "short")


def test_another_runs_entry_does_not_matter(demo):
    store()
    edit(demo / TABLE, '"steps": 3', '"steps": 4')
    assert stored_runs.status("demo")["short"] == "fresh"


def test_an_asset_or_a_package_makes_it_stale(demo, monkeypatch):
    store()
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "99.0.0"})
    assert stored_runs.status("demo")["short"] == "stale"
    monkeypatch.undo()
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(demo))


@pytest.mark.parametrize("key, value", [("fingerprint", "0"), ("config", {"steps": 9}), ("assets", {"x": "1"})])
def test_a_doctored_header_is_stale(demo, key, value):
    store()
    path = paths.sweep("demo", "short")
    seals.write(path, seals.read(path) | {key: value})
    assert stored_runs.status("demo")["short"] == "stale"


def test_missing_damaged_and_unknown_are_one_line_each(demo):
    with pytest.raises(ClaimbookError, match="is missing: `claimbook sweeps demo`"):
        stored_runs.load("demo", "short")
    with pytest.raises(ClaimbookError, match="no stored run 'shrt': it has short, other"):
        stored_runs.run("demo", "shrt")
    paths.sweep("demo", "short").parent.mkdir(parents=True)
    paths.sweep("demo", "short").write_text('{"chapter": ')
    with pytest.raises(ClaimbookError, match=r"short\.json is damaged"):
        stored_runs.load("demo", "short")
    with pytest.raises(ClaimbookError, match="no fresh result"):
        stored_runs.promote("demo", ["short"])
    with pytest.raises(ClaimbookError, match="nothing to confirm"):
        stored_runs.confirm("demo", "other")


def test_a_chapter_without_experiments_has_no_stored_runs(demo):
    assert declarations.table("nowhere") == {}


def test_a_wrong_target_is_one_line(demo):
    edit(demo / TABLE, '"toy:run"', '"toy:walk"')
    with pytest.raises(ClaimbookError, match="no function 'walk'"):
        stored_runs.run("demo", "short")
    edit(demo / TABLE, '"toy:walk"', '"toy.run"')
    with pytest.raises(ClaimbookError, match="write it as 'module:function'"):
        stored_runs.run("demo", "short")


# --- interruption ------------------------------------------------------------------------------------------------


def test_a_killed_run_resumes_and_leaves_nothing_half_written(demo):
    edit(demo / TABLE, '"scale": 1.0}', '"scale": 1.0, "die_at": 3}')
    with pytest.raises(KeyboardInterrupt):
        stored_runs.run("demo", "short")
    assert not stored_runs.scratch("demo", "short").exists()
    result = files.read_json(stored_runs.run("demo", "short"))
    assert result["metrics"]["resumed_at"] == 2
    assert result["metrics"]["total"] == 15.0
    assert not list((demo / "_runs/sweeps/demo").glob("*.work-*"))


def test_jobs_that_are_done_are_not_done_again(tmp_path):
    done, said = [], []

    def job(name, fails=False):
        if fails:
            raise KeyboardInterrupt
        done.append(name)
        return {"name": name}

    jobs = {"first": lambda: job("first"), "second": lambda: job("second", fails=True)}
    with pytest.raises(KeyboardInterrupt):
        declarations.checkpointed(jobs, tmp_path, lambda share, label: said.append((share, label)))
    jobs["second"] = lambda: job("second")
    found = declarations.checkpointed(jobs, tmp_path, lambda share, label: None)
    assert found == {"first": {"name": "first"}, "second": {"name": "second"}}
    assert done == ["first", "second"]
    assert said == [(0, "first"), (0.5, "second")]


def test_checkpoints_of_other_code_are_not_resumed(demo):
    edit(demo / TABLE, '"scale": 1.0}', '"scale": 1.0, "die_at": 3}')
    with pytest.raises(KeyboardInterrupt):
        stored_runs.run("demo", "short")
    edit(demo / TOY, "step + 1.0", "step + 2.0")
    with pytest.raises(KeyboardInterrupt):
        stored_runs.run("demo", "short")
    assert files.read_json(stored_runs.run("demo", "short"))["metrics"]["resumed_at"] == 2


def test_a_run_going_on_elsewhere_is_seen_and_its_death_frees_the_lock(demo):
    code = f"""
        import sys
        sys.path.insert(0, {str(paths.Path(stored_runs.__file__).parents[2])!r})
        from claimbook.runs import stored_runs
        with stored_runs._alone("demo", "short"):
            print("held", flush=True)
            sys.stdin.read()
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    assert stored_runs.status("demo")["short"] == "running"
    with pytest.raises(ClaimbookError, match="going on in another process"):
        stored_runs.run("demo", "short")
    other.kill()
    other.communicate()
    assert stored_runs.status("demo")["short"] == "missing"
    stored_runs.run("demo", "short")


def test_asking_whether_a_run_is_going_on_leaves_nothing(demo):
    stored_runs.status("demo")
    assert not (demo / "_runs").exists()
    stored_runs.run("demo", "short")
    before = sorted((demo / "_runs").rglob("*"))
    stored_runs.status("demo")
    assert sorted((demo / "_runs").rglob("*")) == before


def test_a_look_at_a_run_does_not_keep_it_from_beginning(demo):
    looks = threading.Event()

    def look():
        with stored_runs._alone("demo", "short"):
            looks.set()
            time.sleep(0.05)

    other = threading.Thread(target=look)
    other.start()
    assert looks.wait(20)
    stored_runs.run("demo", "short")
    other.join()


def test_whatever_works_on_a_run_holds_its_lock(demo):
    """Seen from within the work, and kept out while another holds it: running, and confirming by a prefix."""
    store()
    note = 'note = work / "done.txt"'
    asks = "from claimbook.runs import stored_runs\n    assert stored_runs.state('demo', 'short') == 'running'"
    edit(demo / TOY, note, f"{asks}\n    {note}")
    with stored_runs._alone("demo", "short"):
        for work in (stored_runs.run, stored_runs.confirm):
            with pytest.raises(ClaimbookError, match="demo/short is going on in another process"):
                work("demo", "short")
        with stored_runs._alone("demo", "other"):
            pass  # another run has a lock of its own
    assert stored_runs.status("demo") == {"short": "stale", "other": "missing"}
    assert stored_runs.confirm("demo", "short") == 0
    stored_runs.run("demo", "short", force=True)
    assert stored_runs.status("demo")["short"] == "fresh"


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "old.json"
    files.write_json(path, {"a": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ClaimbookError, match=r"the disk is full: could not write old\.json"):
        files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_lists_of_numbers_take_one_line_and_text_is_kept(tmp_path):
    data = {"curve": [1, 2.5, None], "text": "keep [1  2] and [\n 3 ]", "nested": [[1, 2], [3]], "empty": []}
    files.write_json(tmp_path / "x.json", data)
    assert files.read_json(tmp_path / "x.json") == data
    assert '"curve": [ 1, 2.5, null ]' in (tmp_path / "x.json").read_text()


# --- confirming --------------------------------------------------------------------------------------------------


def test_a_refactor_is_confirmed_by_the_prefix(demo):
    store()
    assert stored_runs.confirm("demo", "short") is None
    edit(demo / TOY, 'config["scale"] * (step + 1.0)', '(step + 1.0) * config["scale"] * 1.0000001')
    assert stored_runs.confirm("demo", "short") == pytest.approx(1e-7, rel=0.1)
    result = stored_runs.load("demo", "short")
    assert result["freshness"] == "confirmed by prefix"
    assert result["confirmed"][0]["prefix"] == {"steps": 2}
    assert stored_runs.status("demo")["short"] == "fresh"
    edit(demo / TOY, "1.0000001", "1.01")
    assert stored_runs.status("demo")["short"] == "stale"


def test_a_run_that_ended_after_the_code_had_changed_can_be_confirmed(demo):
    stored_runs.run("demo", "short")
    edit(demo / TOY, "step + 1.0", "1.0 + step")
    assert stored_runs.promote("demo") == []
    assert stored_runs.confirm("demo", "short") == 0
    assert stored_runs.load("demo", "short")["freshness"] == "confirmed by prefix"
    assert stored_runs.promote("demo") == []


def test_a_prefix_that_disagrees_confirms_nothing(demo):
    store()
    edit(demo / TOY, "(step + 1.0)", "(step + 1.01)")
    with pytest.raises(ClaimbookError, match="its prefix differs by"):
        stored_runs.confirm("demo", "short")
    assert stored_runs.status("demo")["short"] == "stale"


def test_config_and_runs_without_prefix_cannot_be_confirmed(demo):
    store()
    store("other")
    edit(demo / TOY, "step + 1.0", "1.0 + step")
    with pytest.raises(ClaimbookError, match="declares no prefix"):
        stored_runs.confirm("demo", "other")
    edit(demo / TABLE, '"steps": 5', '"steps": 6')
    with pytest.raises(ClaimbookError, match=r"cannot be confirmed \(config changed\)"):
        stored_runs.confirm("demo", "short")


def test_a_run_made_with_other_packages_is_confirmed_by_its_prefix(demo, monkeypatch):
    """As on a GPU's machine. Old code run with today's packages would say nothing of the packages then."""
    store()
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "99.0.0"})
    with pytest.raises(ClaimbookError, match=r"cannot be confirmed \(package .*torch"):
        stored_runs.confirm("demo", "short", before=demo)
    assert stored_runs.status("demo")["short"] == "stale"
    assert stored_runs.confirm("demo", "short") == 0
    assert stored_runs.load("demo", "short")["freshness"] == "confirmed by prefix"
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "99.1.0"})
    assert stored_runs.status("demo")["short"] == "stale"


def test_a_result_of_another_machine_is_confirmed_before_it_is_stored(demo, monkeypatch):
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "1.0.0"})
    stored_runs.run("demo", "short")
    monkeypatch.undo()
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(demo))
    assert stored_runs.status("demo")["short"] == "missing"
    assert stored_runs.confirm("demo", "short") == 0
    assert stored_runs.load("demo", "short")["packages"] == {"torch": "1.0.0"}


@pytest.fixture
def seeds(demo, monkeypatch):
    """Two runs that differ by their seed, made with other packages and stored nowhere; yields their names."""
    edit(demo / TABLE, '{"steps": 5', '{"seed": 0, "steps": 5')
    edit(
        demo / TABLE,
        "STORED = {",
        """STORED = {
    "next": Stored("toy:run", {"seed": 1, "steps": 5, "scale": 1.0}, prefix={"steps": 2}),""",
    )
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "1.0.0"})
    for name in ("short", "next"):
        stored_runs.run("demo", name)
    monkeypatch.undo()
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(demo))
    return "short", "next"


def test_another_seed_is_confirmed_with_the_first(seeds, monkeypatch):
    first, second = seeds
    assert stored_runs.confirm("demo", first) == 0
    monkeypatch.setattr(stored_runs, "_carry_out", None)  # nothing is run again
    assert stored_runs.confirm("demo", second) == 0
    assert stored_runs.load("demo", second)["freshness"] == "confirmed by prefix"
    assert stored_runs.load("demo", second)["confirmed"][0]["of"] == first


@pytest.mark.parametrize("key, value", [("machine", "another"), ("packages", {"torch": "2.0.0"}), ("modules", {})])
def test_a_seed_that_was_made_otherwise_needs_a_prefix_of_its_own(seeds, key, value):
    first, second = seeds
    stored_runs.confirm("demo", first)
    path = stored_runs.scratch("demo", second)
    files.write_json(path, files.read_json(path) | {key: value})
    stored_runs.confirm("demo", second)
    assert "of" not in stored_runs.load("demo", second)["confirmed"][0]


def test_a_confirmation_does_not_cover_a_doctored_config(demo):
    store()
    edit(demo / TOY, "step + 1.0", "1.0 + step")
    stored_runs.confirm("demo", "short")
    path = paths.sweep("demo", "short")
    seals.write(path, seals.read(path) | {"config": {"steps": 5, "scale": 3.0}})
    assert stored_runs.status("demo")["short"] == "stale"


@pytest.mark.parametrize(
    "first, whole, difference",
    [
        ({"a": [1.0]}, {"a": [1.0, 2.0]}, 0),
        ({"a": [1.0]}, {"a": [1.1]}, 0.1 / 1.1),
        ({"a": {"b": [[1, 2]]}}, {"a": {"b": [[1, 2], [3, 4]]}}, 0),
        ({"a": [float("nan")]}, {"a": [float("nan")]}, 0),
        ({"a": [float("nan")]}, {"a": [1.0]}, float("inf")),
        ({"a": [1.0, 2.0]}, {"a": [1.0]}, float("inf")),
        ({"a": []}, {"a": [1.0]}, float("inf")),
        ({"a": [{"b": [], "c": {}, "d": 1}]}, {"a": [{"b": [], "c": {}, "d": 1}]}, 0),
        ({}, {}, float("inf")),
        ({"a": [1.0]}, {"a": [1.0], "b": [1.0]}, float("inf")),
        ({"a": ["x"]}, {"a": ["y"]}, float("inf")),
        ({"a": ["x"]}, {"a": ["x"]}, 0),
    ],
)
def test_prefix_difference(first, whole, difference):
    assert stored_runs.prefix_difference(first, whole) == pytest.approx(difference)


# --- progress ----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_sparse_in_a_log_and_one_line_on_a_terminal():
    for stream, lines in ((io.StringIO(), 2), (Terminal(), 1)):
        with Progress("demo/short", stream) as progress:
            for step in range(100):
                progress(step / 99, f"step {step}")
        text = stream.getvalue()
        assert text.count("\n") == lines and text.endswith("\n")
        assert "100 %" in text and "step 99" in text


def test_progress_in_a_log_is_a_line_every_half_minute_and_the_last_state():
    with Progress("demo/short", stream := io.StringIO()) as progress:
        for step in range(9):
            progress((step + 1) / 10, f"step {step}")
            progress.last_print_t -= 11  # seconds go by
    lines = stream.getvalue().splitlines()
    assert [line.split("left, ")[1] for line in lines] == ["step 0", "step 3", "step 6", "step 8"]
    assert lines[0].startswith("demo/short   10 %")
    assert not set("\r\x1b") & set(stream.getvalue())


def test_the_time_left_is_reckoned_from_what_this_process_did():
    with Progress("demo/short", io.StringIO()) as progress:
        progress.start_t -= 1000  # loading a model is no part of it
        progress(0.4, "resumed")
        assert "40 %" in str(progress) and "? left, resumed" in str(progress)
        progress.start_t -= 60
        progress(0.7, "half of the rest")
        assert "70 %" in str(progress) and "01:00 left, half of the rest" in str(progress)


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_run_that_tells_nothing_shows_nothing(stream):
    with Progress("demo/short", stream):
        pass
    assert stream.getvalue() == ""


def test_clock():
    assert [machine.clock(s) for s in (0.4, 59, 65, 3840)] == ["0 s", "59 s", "1 min 05 s", "1 h 04 min"]


# --- what a fingerprint holds, artefacts, runs of other chapters ----------------------------------------------------

ARTEFACT = '''
from safetensors.torch import save_file
import torch


def run(config, work, progress):
    """Leave a tensor."""
    save_file({"weight": torch.full((2,), float(config["steps"]))}, work / "weights.safetensors")
    return {"metrics": {}, "curves": {}, "artefact": work / "weights.safetensors"}
'''


@pytest.fixture
def with_artefact(demo):
    files.write_text(demo / "lib/claimbook/experiments/demo/toy.py", ARTEFACT)
    stored_runs.run("demo", "short")
    stored_runs.promote("demo", ["short"])
    return demo / "data/sweeps/demo/short.safetensors"


def test_a_run_leaves_one_artefact_with_its_hash(with_artefact):
    assert stored_runs.tensors("demo", "short")["weight"].tolist() == [5.0, 5.0]
    assert files.sha256(with_artefact) == stored_runs.load("demo", "short")["artefact"]


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_an_artefact_that_is_not_what_was_stored_is_refused(with_artefact, fault):
    with_artefact.unlink() if fault == "missing" else with_artefact.write_bytes(b"x")
    with pytest.raises(ClaimbookError, match=rf"artefact short\.safetensors is {fault}.*`claimbook sweeps demo`"):
        stored_runs.load("demo", "short")


def test_a_run_without_the_artefact_it_names_is_refused(demo):
    wrong = ARTEFACT.replace('"artefact": work / "weights.safetensors"', '"artefact": work / "w.pt"')
    files.write_text(demo / "lib/claimbook/experiments/demo/toy.py", wrong)
    with pytest.raises(ClaimbookError, match=r"safetensors file in its work folder, not 'w.pt'"):
        stored_runs.run("demo", "short")


def test_tensors_of_a_run_without_an_artefact_are_refused(demo):
    stored_runs.run("demo", "other")
    stored_runs.promote("demo", ["other"])
    with pytest.raises(ClaimbookError, match="demo/other has no artefact"):
        stored_runs.tensors("demo", "other")


@pytest.mark.parametrize(
    "change",
    [
        ("toy:run", "toy:go"),  # another function of the same module
        ('"steps": 5', '"steps": 6'),
        ('"scale": 1.0', '"scale": 1.5'),
        ('machine_curves=("seconds",)', 'machine_curves=("seconds",), assets=["kjv"]'),
        ('machine_curves=("seconds",)', 'machine_curves=("seconds",), reads=("demo/other",)'),
    ],
)
def test_every_input_of_a_stored_run_is_in_its_fingerprint(demo, change):
    table = demo / "lib/claimbook/experiments/demo/stored.py"
    files.write_text(demo / "data/assets.yaml", (REPOSITORY / "data/assets.yaml").read_text())
    before = fingerprints.sweep_fingerprint("demo", "short")
    edit(table, *change)
    assert fingerprints.sweep_fingerprint("demo", "short") != before


def test_a_run_that_reads_another_is_stale_when_that_one_changes(demo):
    table = demo / "lib/claimbook/experiments/demo/stored.py"
    edit(table, 'machine_curves=("seconds",)', 'machine_curves=("seconds",), reads=("demo/other",)')
    before = fingerprints.sweep_fingerprint("demo", "short")
    stored_runs.run("demo", "other")
    stored_runs.promote("demo", ["other"])
    after = fingerprints.sweep_fingerprint("demo", "short")
    assert after != before
    path = demo / "data/sweeps/demo/other.json"
    seals.write(path, seals.read(path) | {"confirmed": [], "modules": {}})
    assert fingerprints.sweep_fingerprint("demo", "short") == after, "stamps do not count"
    seals.write(path, seals.read(path) | {"metrics": {"total": 7}})
    assert fingerprints.sweep_fingerprint("demo", "short") != after, "what it says counts"


@pytest.mark.parametrize("key", ["metrics", "curves", "config", "assets", "artefact", "wall_s"])
def test_what_a_stored_run_says_is_in_its_hash(demo, key):
    """Whoever reads it may use any of it; only stamps and confirmations are left out."""
    store()
    before, path = fingerprints.stored_hash("demo", "short"), paths.sweep("demo", "short")
    seals.write(path, seals.read(path) | {key: {"doctored": 1}})
    assert fingerprints.stored_hash("demo", "short") != before


def test_a_finished_result_that_is_stale_is_not_promoted(demo):
    stored_runs.run("demo", "short")
    edit(demo / "lib/claimbook/experiments/demo/toy.py", "step + 1.0", "step + 2.0")
    assert not stored_runs.has_fresh_scratch("demo", "short")
    assert stored_runs.promote("demo") == []
    with pytest.raises(ClaimbookError, match="no fresh result"):
        stored_runs.promote("demo", ["short"])


def test_another_chapters_run_goes_by_its_full_name(demo):
    assert declarations.place("demo", "short") == ("demo", "short")
    assert declarations.place("demo", "streaming_llm/toys") == ("streaming_llm", "toys")
    for chapter in ("demo", "streaming_llm"):
        files.write_text(demo / f"data/claims/{chapter}.yaml", "")
    assert declarations.is_elsewhere("demo", "streaming_llm/toys")
    for text in ("demo/short", "streaming_llm/none", "streaming_llm", "", "nowhere/toys", "a/b/c"):
        assert not declarations.is_elsewhere("demo", text), text


# --- confirmed by the code before, on one machine ---------------------------------------------------------------------


@pytest.fixture
def moved_on(book_with_sweeps, tmp_path):
    """A book whose stored run another processor made, its checkout before a refactor, and the refactor's place."""
    stored_runs.run(CHAPTER, "short")
    stored_runs.promote(CHAPTER, ["short"])
    path = paths.sweep(CHAPTER, "short")
    result = seals.read(path)
    result["curves"]["loss"] = [1.01 * value for value in result["curves"]["loss"]]
    seals.write(path, result)
    before = shutil.copytree(book_with_sweeps, tmp_path / "before", symlinks=True)
    return before, book_with_sweeps / f"lib/claimbook/experiments/{CHAPTER}/toy.py"


def test_where_another_processor_made_it_the_code_before_is_asked_on_this_one(moved_on):
    before, toy = moved_on
    edit(toy, "step + 1.0", "1.0 + step")
    with pytest.raises(ClaimbookError, match=r"its prefix differs by 0\.0099"):
        stored_runs.confirm(CHAPTER, "short")
    assert stored_runs.confirm(CHAPTER, "short", before) == 0
    result = stored_runs.load(CHAPTER, "short")
    assert result["freshness"] == "confirmed by prefix" and "on one machine" in result["confirmed"][-1]["against"]
    assert result["curves"]["loss"][0] == 1.01, "what is stored stays"


def test_the_code_before_confirms_no_change_of_numbers(moved_on):
    before, toy = moved_on
    edit(toy, "step + 1.0", "step + 1.1")
    with pytest.raises(ClaimbookError, match="is not confirmed: its prefix differs"):
        stored_runs.confirm(CHAPTER, "short", before)


def test_a_checkout_in_which_the_run_is_stale_confirms_nothing(moved_on):
    before, toy = moved_on
    for place in (toy, before / toy.relative_to(toy.parents[4])):
        edit(place, "step + 1.0", "1.0 + step")
    with pytest.raises(ClaimbookError, match=r"is not fresh in .*before: name a checkout in which it is"):
        stored_runs.confirm(CHAPTER, "short", before)


def test_a_module_that_was_moved_since_is_found_where_it_was(moved_on):
    before, toy = moved_on
    toy.rename(toy.with_name("moved.py"))
    edit(toy.with_name("stored.py"), '"toy:run"', '"moved:run"')
    edit(toy.with_name("moved.py"), "step + 1.0", "1.0 + step")
    assert stored_runs.confirm(CHAPTER, "short", before) == 0


def test_one_run_is_confirmed_by_name(moved_on, capsys):
    before, toy = moved_on
    edit(toy, "step + 1.0", "1.0 + step")
    assert commands.confirm_sweeps(CHAPTER, before, "short") == 0
    assert capsys.readouterr().out == f"{CHAPTER}/short: confirmed, prefix within 0\n"
    assert commands.confirm_sweeps(CHAPTER, before, "nope") == RED
    with pytest.raises(ClaimbookError, match="--name needs a chapter"):
        commands.confirm_sweeps(None, before, "short")


def test_before_takes_a_checkout(moved_on, tmp_path):
    with pytest.raises(ClaimbookError, match="--before takes a checkout of this repository"):
        commands.confirm_sweeps(CHAPTER, tmp_path / "nowhere")


def test_what_is_none_on_both_sides_agrees():
    assert stored_runs.prefix_difference({"a": [{"x": None, "y": 1.0}]}, {"a": [{"x": None, "y": 1.0}, {}]}) == 0
    assert stored_runs.prefix_difference({"a": [None]}, {"a": [1.0]}) == math.inf
