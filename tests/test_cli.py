"""Whatever goes wrong on a command line: one line and an exit code of its own, in any terminal, and no traceback."""

import io
import os
import signal
import subprocess
import sys

import pytest

from claimbook import cli, commands, paths
from claimbook.errors import FAULT, INTERRUPTED, MOVED, NO_READER, RED, ClaimbookError
from claimbook.runs import grid
from conftest import own_environment


def ends(monkeypatch, capsys, *arguments):
    """Exit code and standard error of a command that is called in this process."""
    monkeypatch.setattr(sys, "argv", ["claimbook", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().err


def fails_with(error):
    def fail(*arguments):
        raise error

    return fail


ERRORS = {
    "a user's mistake": (ClaimbookError("no such\nthing: name another"), 2, "claimbook: no such thing: name another\n"),
    "a file of the system's": (PermissionError(13, "Permission denied", "/x"), 2, "cannot use /x (Permission denied)"),
    "no place for temporary files": (FileNotFoundError(2, "No usable temporary directory"), 2, "No usable temporary"),
    "what nobody foresaw": (
        KeyError("seed"),
        FAULT,
        "a fault of Claimbook itself (KeyError: 'seed'; test_cli.py, line",
    ),
    "an interruption": (KeyboardInterrupt(), INTERRUPTED, "interrupted; nothing under data/ was touched\n"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_failure_is_one_line_with_a_code_of_its_own(monkeypatch, capsys, name):
    error, code, said = ERRORS[name]
    monkeypatch.setattr(commands, "status", fails_with(error))
    assert (found := ends(monkeypatch, capsys, "status"))[0] == code != MOVED
    assert said in found[1] and found[1].startswith("claimbook: ") and found[1].count("\n") == 1


@pytest.mark.parametrize("words", ["nonsense", "rerun --tierr x", "grid --jobs none", "accept", "rerun a b"])
def test_a_mistyped_command_is_one_line(monkeypatch, capsys, words):
    code, said = ends(monkeypatch, capsys, *words.split())
    assert code == 2 and said.count("\n") == 1 and said.endswith(": see `claimbook --help`\n")


@pytest.mark.parametrize("words", ["--seed 3 -p seed=4", "-p seed=4 -p seed=5", "--tier smoke -p tier=cpu"])
def test_a_parameter_that_is_given_twice_is_refused(monkeypatch, capsys, words):
    code, said = ends(monkeypatch, capsys, "rerun", "streaming_llm", *words.split())
    assert code == 2 and said.endswith(" is given twice: say it once\n")


def test_folders_of_the_environment_are_those_of_the_front_process(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in {"CACHE": "models", "MIRROR": "https://example.org", "ROOT": str(tmp_path)}.items():
        monkeypatch.setenv(f"CLAIMBOOK_{name}", value)
    monkeypatch.setattr(commands, "status", fails_with(ClaimbookError("enough")))
    ends(monkeypatch, capsys, "status")
    assert os.environ["CLAIMBOOK_CACHE"] == str(tmp_path / "models"), "a kernel stands in another folder"
    assert os.environ["CLAIMBOOK_MIRROR"] == "https://example.org" and paths.root() == tmp_path


def test_a_check_that_is_red_is_no_verdict_that_moved(monkeypatch, capsys):
    assert commands._all_of(("a check", lambda: False)) == RED != MOVED
    done = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: done)
    assert grid.snakemake({}) == 3


def test_a_terminal_that_lacks_a_letter_fails_no_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", shown := io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    monkeypatch.setattr(commands, "status", lambda: print("streaming_llm · 0 s"))
    assert ends(monkeypatch, capsys, "status")[0] == 0
    shown.flush()
    assert shown.buffer.getvalue() == b"streaming_llm ? 0 s\n"


def test_what_torch_would_log_is_no_part_of_a_run(monkeypatch, capsys):
    monkeypatch.setenv("TORCH_LOGS", "nonsense")  # importing torch would raise
    monkeypatch.setattr(commands, "status", lambda: print(sorted(name for name in os.environ if "TORCH_LOGS" in name)))
    monkeypatch.setattr(sys, "argv", ["claimbook", "status"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    "words",
    [
        ("rerun", "x", "--result=~/a.json"),
        ("sweeps", "x", "--name=y", "--result=~/a.json"),
        ("sweeps", "x", "--confirm", "--before=~/a.json"),
    ],
)
def test_a_tilde_behind_an_equals_sign_is_the_home_folder(monkeypatch, capsys, tmp_path, words):
    """bash leaves it as it is; a folder called ~ in the repository invites whoever clears up to remove a home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []
    for name in ("rerun", "one_sweep", "confirm_sweeps"):
        monkeypatch.setattr(commands, name, lambda *given: seen.extend(given) or 0)
    code, _ = ends(monkeypatch, capsys, *words)
    assert code == 0 and tmp_path / "a.json" in seen


def test_a_module_of_ones_own_hides_none_of_pythons(book, tmp_path):
    (tmp_path / "random.py").write_text("guess = 7")
    command = [sys.executable, "-m", "claimbook", "rerun", "nothing"]
    done = subprocess.run(command, cwd=tmp_path, env=own_environment(book), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("claimbook: no chapter 'nothing'")


WAITS = """
import time
from claimbook import cli, commands
commands.status = lambda: (print("begun", flush=True), time.sleep(60))
cli.main()
"""


def started(root, code, *arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=own_environment(root), **pipes)


def test_ctrl_c_ends_in_the_line_that_is_promised(book):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us behind its back has it ignored
    process = started(book, WAITS, "status")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert (process.returncode, said) == (INTERRUPTED, "claimbook: interrupted; nothing under data/ was touched\n")


def test_a_reader_that_has_read_enough_is_no_failure_of_ours(book):
    process = started(book, "from claimbook import cli; cli.main()", "status")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == NO_READER


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_is_closed_fails_no_command(book, closed):
    command = f"{sys.executable} -m claimbook status {closed}"
    assert subprocess.run(command, shell=True, cwd=book, env=own_environment(book)).returncode == 0


def test_without_a_home_folder(book, monkeypatch):
    monkeypatch.delenv("CLAIMBOOK_CACHE", raising=False)
    monkeypatch.setattr("pathlib.Path.expanduser", fails_with(RuntimeError("Could not determine home directory.")))
    with pytest.raises(ClaimbookError, match="no home folder: name a folder for models and texts by CLAIMBOOK_CACHE"):
        paths.cache()
