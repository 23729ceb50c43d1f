"""What a kernel takes from its user and the machine, and what it leaves: nothing."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from claimbook import paths
from claimbook.runs import jupyter

ASK = """
import json, locale, os, sys, tempfile, warnings
import matplotlib
from IPython.core.interactiveshell import InteractiveShell
from IPython.paths import get_ipython_dir
print(json.dumps({
    "rc": matplotlib.matplotlib_fname(), "dpi": matplotlib.rcParams["figure.dpi"], "styles": matplotlib.get_configdir(),
    "backend": os.environ["MPLBACKEND"], "ipython": get_ipython_dir(), "startup": os.environ["PYTHONSTARTUP"],
    "encoding": locale.getpreferredencoding(), "warnings": sys.warnoptions, "temporary": tempfile.gettempdir(),
    "threads": os.environ["OPENBLAS_NUM_THREADS"], "asserts": __debug__,
}))
"""


@pytest.fixture
def odd_user(tmp_path, monkeypatch):
    """A user with settings of every kind; yields the folder that holds them."""
    home = tmp_path / "home"
    startup = home / ".ipython" / "profile_default" / "startup" / "00.py"
    for file, text in ((startup, "tier = 'gpu'"), (home / "matplotlibrc", "figure.dpi: 7"), (home / "start.py", "1/0")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    own = {"HOME": home, "IPYTHONDIR": home / ".ipython", "MATPLOTLIBRC": home, "MPLCONFIGDIR": home}
    own |= {
        "PYTHONSTARTUP": home / "start.py",
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "MPLBACKEND": "TkAgg",
        "LC_ALL": "C",
    }
    own |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OPENBLAS_NUM_THREADS": "64", "CLAIMBOOK_THREADS": "1"}
    for name, value in own.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("CLAIMBOOK_CACHE", str(tmp_path / "cache"))
    return home


def test_a_kernel_has_none_of_its_users_settings(odd_user, tmp_path):
    spec = jupyter.ThisPython(tmp_path / "own").get_kernel_spec("python3")
    (tmp_path / "own").mkdir()
    done = subprocess.run([sys.executable, "-c", ASK], env=os.environ | spec.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert str(odd_user) not in done.stdout and found["dpi"] == 100
    assert found["ipython"] == str(tmp_path / "own" / "ipython") and found["temporary"] == str(tmp_path / "own")
    assert found["styles"] == str(paths.cache() / "matplotlib") and found["startup"] == ""
    assert (
        found["backend"].endswith("backend_inline")
        and found["warnings"] == []
        and found["threads"] == "1"
        and found["asserts"]
    )
    assert found["encoding"].lower() in ("utf-8", "utf8")


HOLD = """
import filelock, sys, time
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_what_killed_runs_left_goes_with_the_next_and_what_is_at_work_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, young, working = (tmp_path / f"{jupyter.PREFIX}{name}" for name in ("killed", "young", "working"))
    for folder in (killed, young, working):
        folder.mkdir()
        (folder / "lock").touch()
        os.utime(folder / "lock", None if folder is young else (1, 1))
    (tmp_path / "another").mkdir()
    held = subprocess.Popen([sys.executable, "-c", HOLD, str(working / "lock")], stdout=subprocess.PIPE)
    try:
        held.stdout.readline()
        os.utime(working / "lock", (1, 1))
        jupyter.sweep()
        assert not killed.exists() and young.exists() and working.exists() and (tmp_path / "another").exists()
    finally:
        held.kill()
        held.wait()


def test_a_kernels_folder_is_locked_and_goes_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kernel = jupyter.Kernel(kernel_name="python3")
    folder = Path(kernel.connection_file).parent
    assert folder.parent == tmp_path
    os.utime(folder / "lock", (1, 1))
    jupyter.sweep()
    assert folder.exists()
    kernel._folder[0].cleanup()
    assert not folder.exists()
