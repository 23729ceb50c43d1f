"""Snakemake: nothing to do in a fresh clone, whatever the times of files; the same jobs on Slurm."""

import os
import signal
import subprocess
import sys
import time

import pytest

from claimbook import files, paths
from claimbook.errors import RED, ClaimbookError
from claimbook.runs import grid
from conftest import CHAPTER, claimbook_command, commit, edit, git, own_environment


def wanted(**config):
    return [job.target for job in grid.plan(config).values() if job.wanted]


def snakemake(root, *arguments):
    command = [sys.executable, "-m", "snakemake", "--directory", str(root), "--snakefile", str(root / "Snakefile")]
    done = subprocess.run([*command, *arguments], env=own_environment(root), capture_output=True, text=True)
    done.said = done.stdout + done.stderr
    return done


def test_a_fresh_clone_has_no_jobs(book, tmp_path, monkeypatch):
    git(tmp_path, "clone", "-q", str(book), "clone")
    done = snakemake(tmp_path / "clone", "--dry-run", "--cores", "1")
    assert done.returncode == 0 and "Nothing to be done" in done.said, done.said
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path / "clone"))
    (tmp_path / "clone/notebooks" / f"{CHAPTER}.ipynb").touch()
    assert wanted() == []


def test_what_is_stale_is_wanted(book):
    edit(paths.notebook(CHAPTER), "np.isclose(variance", "np.allclose(variance")
    (target,) = wanted()
    assert target.startswith(f"_runs/grid/{CHAPTER}/cpu--none--s0--")


def test_chapters_tiers_models_and_seeds_multiply(book):
    targets = wanted(
        only="runs", chapters=CHAPTER, tiers="smoke cpu", models="tiny-random-llama owner/x", seeds="0 1 2"
    )
    assert len(targets) == 2 * 2 * 3
    assert any("/smoke--owner_x--s2--" in target for target in targets)
    assert len(wanted(only="runs", seeds="0 1")) == 1  # seed 0 is the reference
    command = next(iter(grid.plan({"only": "runs", "seeds": "1"}).values())).command
    assert f"rerun {CHAPTER} --tier cpu --models '' --seed 1 --result _runs/grid/" in command


@pytest.mark.parametrize(
    "config, said",
    [
        ({"chapter": CHAPTER}, "the grid knows"),
        ({"only": "walks"}, "the grid knows"),
        ({"models": "nope"}, "unknown model 'nope'"),
        ({"seeds": "one"}, "takes a whole number"),
        ({"only": "runs", "chapters": "nowhere"}, "no chapter 'nowhere'"),
    ],
)
def test_mistakes_are_one_line(book, config, said):
    with pytest.raises(ClaimbookError, match=said):
        grid.plan(config)


def test_a_tree_for_reading_only_is_one_line(book, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ClaimbookError, match="where Snakemake keeps its notes: use a copy"):
        grid.snakemake({})


@pytest.mark.slow
def test_a_grid_run_makes_its_result_and_is_not_made_again(book):
    arguments = ("grid", CHAPTER, "--tiers", "smoke", "--seeds", "0")
    done = claimbook_command(book, *arguments)
    assert done.returncode == 0, done.said
    (result,) = (book / "_runs/grid" / CHAPTER).glob("*.json")
    assert files.read_json(result)["tier"] == "smoke"
    assert len(list((book / "_runs/benchmarks" / CHAPTER).glob("*.tsv"))) == 1
    assert "Nothing to be done" in claimbook_command(book, *arguments, "--dry-run").said
    assert git_clean(book)


@pytest.mark.slow
def test_stored_runs_are_made_promoted_and_then_fresh(book_with_sweeps):
    commit(book_with_sweeps)
    done = claimbook_command(book_with_sweeps, "sweeps", CHAPTER, "--jobs", "1")
    assert done.returncode == 0, done.said
    assert "promoted: coin_flips/short" in done.stdout and "promoted: coin_flips/other" in done.stdout
    assert "coin_flips/short: fresh" in claimbook_command(book_with_sweeps, "sweeps", "--list").stdout
    assert (
        "Nothing to be done" in snakemake(book_with_sweeps, "--dry-run", "--cores", "1", "--config", "only=sweeps").said
    )
    edit(book_with_sweeps / f"lib/claimbook/experiments/{CHAPTER}/toy.py", "step + 1.0", "1.0 + step")
    done = claimbook_command(book_with_sweeps, "sweeps", CHAPTER, "--confirm")
    assert "coin_flips/short: confirmed" in done.stdout and "declares no prefix" in done.stderr
    assert done.returncode == RED


def test_a_chapter_waits_for_its_stored_runs(book_with_sweeps):
    assert [target.split("/")[-1].split("--")[0] for target in wanted()] == ["short", "other"]


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_data_alone_and_the_next_run_goes_on(book_with_sweeps):
    edit(
        book_with_sweeps / f"lib/claimbook/experiments/{CHAPTER}/toy.py",
        "        progress(",
        "        __import__('time').sleep(0.5)\n        progress(",
    )
    commit(book_with_sweeps)
    command = [sys.executable, "-m", "claimbook", "sweeps", CHAPTER]
    environment = own_environment(book_with_sweeps)
    going = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((book_with_sweeps / "_runs").glob("sweeps/*/short.work-*/done.txt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.2)
    os.killpg(going.pid, signal.SIGKILL)
    going.wait()
    assert git_clean(book_with_sweeps)
    done = claimbook_command(book_with_sweeps, "sweeps", CHAPTER)
    assert done.returncode == 0, done.said
    assert files.read_json(paths.sweep(CHAPTER, "short"))["metrics"]["resumed_at"] > 0


def test_a_failing_stored_run_leaves_data_alone(book_with_sweeps):
    edit(book_with_sweeps / f"lib/claimbook/experiments/{CHAPTER}/toy.py", "curve = []", "curve = 1 / 0")
    commit(book_with_sweeps)
    done = claimbook_command(book_with_sweeps, "sweeps", CHAPTER, "--name", "short")
    assert done.returncode != 0 and "ZeroDivisionError" in done.said
    assert git_clean(book_with_sweeps)


def test_slurm_submits_the_same_jobs(book_with_sweeps):
    profile = book_with_sweeps / "lib/claimbook/runs/profiles/slurm"
    done = snakemake(book_with_sweeps, "--profile", str(profile), "--dry-run")
    assert done.returncode == 0, done.said
    assert "mem_mb=8000" in done.said and f"{CHAPTER}/short--" in done.said
    assert (
        "-m claimbook sweeps coin_flips --name short"
        in snakemake(book_with_sweeps, "--profile", str(profile), "--dry-run", "--printshellcmds").said
    )


def git_clean(root):
    done = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True)
    return done.stdout == ""
