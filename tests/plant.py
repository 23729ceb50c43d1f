"""Runs chosen tests on a copy of the library, in which a mistake may have been planted.

Each run is a process of its own, forked from a server that has imported torch and its like but nothing of claimbook:
no run leaves anything to the next, and none waits seconds for the imports that are the same in all of them.
"""

import json
import multiprocessing
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TIMEOUT = 300  # seconds; a mistake may have made an endless loop
PLUGINS = ["pytest", "_hypothesis_pytestplugin", "anyio.pytest_plugin", "xdist.plugin"]
HEAVY = ["hypothesis.strategies", "inflect", "pandas", "pydantic", "scipy.stats", "seaborn", "torch"]
HEAVY += ["implicit.als", "mlxtend.frequent_patterns", "sklearn.feature_extraction.text", "sklearn.linear_model"]
HEAVY += ["transformers.convert_slow_tokenizer", "transformers.models.llama.modeling_llama"]

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(PLUGINS + HEAVY)  # only to save time: what is not there is passed over


@dataclass
class Outcome:
    """How a run of pytest ended."""

    code: int  # of pytest: 0 all passed, 1 some failed, 2 not collected, 5 no tests
    failures: list[tuple[str, str]]  # when ("collect", "setup", "call" or "teardown"), and the name of the exception
    said: str


def copy_library(folder: Path) -> Path:
    """The package, copied into ``folder``; bytecode stays behind, so that none can hide a mistake."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(REPOSITORY / "lib" / "claimbook", folder / "claimbook", ignore=ignored))


def run(folder: Path, tests: str) -> Outcome:
    """Run tests, such as ``test_stats.py -k mean``, on the copy in ``folder`` up to the first that fails."""
    process = processes.Process(target=_run_in_fork, args=(folder, tests))
    process.start()
    process.join(TIMEOUT)
    process.kill()
    said, note = (folder / "said.txt").read_text(errors="replace"), folder / "outcome.json"
    assert note.exists(), f"{tests}: died, or did not end in {TIMEOUT} s\n{said[-2000:]}"
    return Outcome(**json.loads(note.read_text()), said=said)


def _run_in_fork(folder: Path, tests: str) -> None:
    import pytest

    _enter(folder)
    name, *choice = tests.split(" -k ")
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:nbval", *(["-k", choice[0]] if choice else [])]
    failures = Failures()
    code = pytest.main([*options, str(REPOSITORY / "tests" / name)], plugins=[failures])
    elsewhere = {name: one.__file__ for name, one in _ours().items() if not Path(one.__file__).is_relative_to(folder)}
    assert _ours() and not elsewhere, f"the copy is not what was tested: {elsewhere}"
    (folder / "outcome.json").write_text(json.dumps({"code": code, "failures": failures.seen}))


def _enter(folder: Path) -> None:
    """Make the copy what is imported, here and in processes that tests start; all output goes to said.txt."""
    import torch
    from hypothesis import Phase, settings

    with (folder / "said.txt").open("w") as said:
        os.dup2(said.fileno(), sys.__stdout__.fileno())
        os.dup2(said.fileno(), sys.__stderr__.fileno())
    os.chdir(folder)
    assert not _ours(), "a fork starts without claimbook"
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(folder), "CLAIMBOOK_ROOT": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ |= {"OMP_NUM_THREADS": "1", "CLAIMBOOK_THREADS": "1"}
    torch.set_num_threads(1)
    # one example that fails is enough, no smaller one is wanted; and the same examples each time
    settings.register_profile("planted", phases=[Phase.explicit, Phase.generate], derandomize=True)
    settings.load_profile("planted")


def _ours() -> dict:
    """The modules of claimbook that are imported."""
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "claimbook"}


class Failures:
    """A plugin of pytest that notes when and of what a test failed."""

    def __init__(self):
        self.seen = []

    def pytest_exception_interact(self, call):
        self.seen.append((call.when, call.excinfo.typename))
