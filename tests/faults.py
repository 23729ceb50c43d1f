"""What machines do to runs, done on purpose to a small book: killed, interrupted, without disk, network or rights.

``python tests/faults.py`` takes some minutes and writes ``data/faults.json``, which the book shows; it is no part of
``make test``. Each fault is a function that does it some times, and asserts what must hold afterwards; it gives back
how the commands ended. What needs a small disk or no network needs Linux, and a system that lets us unshare them.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from claimbook import files, paths
from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.provenance import seals
from claimbook.runs import jupyter, runner
from conftest import CHAPTER, _make_book, commit, own_environment

KILLS = 10
WAIT = 30  # seconds in which a process whose parent was killed must be gone
LARGEST = 50_000_000  # bytes of a file that is damaged: larger ones take long to copy
RESULT = paths.root() / "data" / "faults.json"

STORED = """
from claimbook.provenance.declarations import Stored

STORED = {"slow": Stored("slow:run", config={"steps": 40})}
"""
SLOW = '''
import time

from claimbook import files


def run(config, work, progress):
    """Sums, a checkpoint after each."""
    sums = files.read_json(work / "sums.json")["sums"] if (work / "sums.json").exists() else []
    for step in range(len(sums), config["steps"]):
        sums.append(sum(sums) / 3 + step)
        files.write_json(work / "sums.json", {"sums": sums})
        progress(step / config["steps"])
        time.sleep(0.05)
    return {"metrics": {"last": sums[-1]}, "curves": {"sums": sums}}
'''
RERUN = ("rerun", CHAPTER, "--tier", "smoke")
SWEEP = ("sweeps", "demo", "--name", "slow")


@dataclass
class Book:
    """A repository with one small chapter and one stored run; its commands have a temporary folder of their own."""

    root: Path
    temporary: Path
    untouched: str = ""

    @classmethod
    def new(cls, folder: Path) -> "Book":
        book = cls(folder / "book", folder / "temporary")
        book.temporary.mkdir()
        _make_book(book.root)
        demo = book.root / "lib" / "claimbook" / "experiments" / "demo"
        for name, text in (("__init__", ""), ("stored", STORED), ("slow", SLOW)):
            files.write_text(demo / f"{name}.py", text)
        commit(book.root)
        book.untouched = book.digest()
        return book

    @property
    def made(self) -> Path:
        """The result of the stored run."""
        return self.root / "_runs" / "sweeps" / "demo" / "slow.json"

    def digest(self) -> str:
        """Of all that a run must not touch."""
        kept = [path for room in ("data", "notebooks") for path in sorted((self.root / room).rglob("*"))]
        content = [(str(path), path.read_bytes()) for path in kept if path.is_file()]
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def start(self, *arguments: str, unshare: str = "", first: str = "true", **environment: str) -> subprocess.Popen:
        """A command; ``unshare`` gives it a network or mounts of its own, in which the shell runs ``first``."""
        command = [sys.executable, "-m", "claimbook", *arguments]
        if unshare:
            command = ["unshare", "--map-root-user", f"--{unshare}", "sh", "-c", f'{first}\nexec "$@"', "sh", *command]
        own = own_environment(self.root) | {"TMPDIR": str(self.temporary)} | environment
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
        return subprocess.Popen(command, cwd=self.root, env=own, start_new_session=True, **pipes)

    def run(self, *arguments: str, **more: str) -> str:
        return self.ended(self.start(*arguments, **more))

    def ended(self, process: subprocess.Popen) -> str:
        """How a command ended, in words: its exit code and the one line that it said."""
        said = process.communicate(timeout=300)[1]
        lines = [line for line in said.splitlines() if line.startswith("claimbook: ")]
        assert "Traceback" not in said and process.returncode != 1, said
        assert self.digest() == self.untouched, f"data/ or notebooks/ changed: {said}"
        if process.returncode in (0, -signal.SIGKILL):
            return "killed" if process.returncode else "exit 0"
        assert len(lines) == 1, f"exit {process.returncode} and {len(lines)} lines: {said}"
        line = lines[0].removeprefix("claimbook: ").replace(str(self.root), ".").split("; see _runs")[0]
        return f"exit {process.returncode}: {re.sub(r'[0-9]{8}T[0-9]{6}', '<time>', line)}"

    def sweep(self) -> dict:
        """The stored run's numbers, once it has come to its end."""
        assert self.run(*SWEEP) == "exit 0"
        made = files.read_json(self.made)
        return {key: made[key] for key in ("metrics", "curves")}

    def nothing_is_left(self) -> None:
        """No process, and after one more run no file in the temporary folder."""
        until = time.monotonic() + WAIT
        while kernels := _processes(self.temporary):
            assert time.monotonic() < until, f"still running: {kernels}"
            time.sleep(0.2)
        for lock in self.temporary.glob(f"{jupyter.PREFIX}*/lock"):
            os.utime(lock, (1, 1))  # as if it had been killed a while ago
        assert self.run(*RERUN) == "exit 0", "the next run"
        left = [path.name for path in self.temporary.iterdir()]
        assert not left, f"left in the temporary folder: {left}"


def _processes(folder: Path) -> list[int]:
    """All processes whose command line names a folder, as that of a kernel does."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found += [int(file.parent.name)] if os.fsencode(folder) in file.read_bytes() else []
    return found


def _duration(book: Book, *arguments: str) -> float:
    begun = time.monotonic()
    assert book.run(*arguments) == "exit 0"
    return time.monotonic() - begun


# --- killed and interrupted ------------------------------------------------------------------------------------------


def _killed(book: Book, *arguments: str) -> list[str]:
    """A command, killed at random moments of its life; one that came to its end before is begun anew."""
    book.made.unlink(missing_ok=True)
    ended, longest, moments = [], _duration(book, *arguments), random.Random(0)
    while len(ended) < KILLS:
        book.made.unlink(missing_ok=True)
        process = book.start(*arguments)
        time.sleep(moments.uniform(0, longest))
        process.kill()
        if (how := book.ended(process)) == "killed":
            ended.append(how)
        else:
            longest *= 0.9  # the machine has become faster
    return ended


SIGNS = {RERUN: (f"{CHAPTER}/*/executed.ipynb", '"execution_count": 2'), SWEEP: ("sweeps/demo/*/sums.json", "[")}


def _underway(book: Book, arguments: tuple[str, ...]) -> subprocess.Popen:
    """A run in its middle, as a file shows that it writes; a stored run has no result yet."""
    book.made.unlink(missing_ok=True)
    pattern, sign = SIGNS[arguments]
    runs, begun = book.root / "_runs", time.time()
    process = book.start(*arguments)
    while not any(sign in file.read_text() for file in runs.glob(pattern) if file.stat().st_mtime > begun):
        assert process.poll() is None, "it ended before it was in its middle"
        time.sleep(0.02)
    return process


def killed_rerun(book: Book) -> list[str]:
    ended = _killed(book, *RERUN)
    book.nothing_is_left()
    return ended


def killed_kernel(book: Book) -> list[str]:
    process = _underway(book, RERUN)
    os.kill(_processes(book.temporary)[0], signal.SIGKILL)
    ended = [book.ended(process)]
    book.nothing_is_left()
    return ended


def killed_stored_run(book: Book) -> list[str]:
    whole = book.sweep()
    ended = _killed(book, *SWEEP)
    assert book.sweep() == whole, "other numbers than of a run that nobody killed"
    return ended


def interrupted(book: Book) -> list[str]:
    ended = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us behind its back has it ignored
    for arguments in SIGNS:
        process = _underway(book, arguments)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that it started
        ended.append(book.ended(process))
    assert all(one.startswith("exit 130: interrupted") for one in ended), ended
    book.nothing_is_left()
    return ended


def two_reruns(book: Book) -> list[str]:
    return [book.ended(process) for process in [book.start(*RERUN), book.start(*RERUN)]]


def two_stored_runs(book: Book) -> list[str]:
    pair = [book.start(*SWEEP, "--force"), book.start(*SWEEP, "--force")]
    return [book.ended(process) for process in pair]


# --- assets ----------------------------------------------------------------------------------------------------------


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    """One bit, in the middle."""
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))


def damaged_assets(damage: Callable[[Path], None]) -> Callable[[Book], list[str]]:
    """The fault of one damage to a file of every asset that is here, each asked for as a run asks before its kernel."""

    def fault(book: Book) -> list[str]:
        there = [key for key in catalogue.load_catalogue() if catalogue.present(key)]
        assert there, "no asset is here"
        return [_refused(book, key, damage) for key in there]

    return fault


def _refused(book: Book, key: str, damage: Callable[[Path], None]) -> str:
    """How a run is told of a damaged copy of an asset; what is not damaged is linked, not copied."""
    place = catalogue.folder(key)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / key / place.name
        held = [path for path in place.rglob("*") if path.is_file()]
        for path in held:
            (copy / path.relative_to(place)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(place)).symlink_to(path)
        sizes = {path: path.stat().st_size for path in held if path.name != catalogue.MANIFEST}
        largest = max(sizes, key=lambda path: (sizes[path] <= LARGEST, sizes[path]))
        victim = copy / largest.relative_to(place)
        victim.unlink()
        files.copy(largest, victim)
        damage(victim)
        before, os.environ["CLAIMBOOK_CACHE"] = os.environ.get("CLAIMBOOK_CACHE"), folder
        try:
            runner.fetch_missing([key])
        except ClaimbookError as error:
            return str(error).replace(victim.name, "…").replace(f"'{key}'", "…").replace(key, "…")
        finally:
            os.environ.pop("CLAIMBOOK_CACHE") if before is None else os.environ.update(CLAIMBOOK_CACHE=before)
    raise AssertionError(f"{key} was taken as it is")


# --- disks and networks ----------------------------------------------------------------------------------------------


def small_disk(megabytes: int) -> str:
    return f"mount -t tmpfs -o size={megabytes}m tmpfs _runs"


# once the run has begun to write its notebook, the rest of the disk is taken
FILLED = "(until ls _runs/*/*/executed.ipynb; do sleep 0.05; done; cat /dev/zero > _runs/ballast) > /dev/null 2>&1 &"
READ_ONLY = 'mount --bind "$PWD" "$PWD"; mount -o remount,bind,ro "$PWD"; cd "$PWD"'


def full_before(book: Book) -> list[str]:
    return [book.run(*RERUN, unshare="mount", first=small_disk(50))]


def full_in_the_middle(book: Book) -> list[str]:
    ended = [book.run(*RERUN, unshare="mount", first=f"{small_disk(220)}\n{FILLED}")]
    ended += [book.run(*SWEEP, unshare="mount", first=f"{small_disk(1)}; head -c 1040000 /dev/zero > _runs/ballast")]
    assert all("the disk is full" in one for one in ended), ended
    return ended


def read_only(book: Book) -> list[str]:
    latest = book.root / "_runs" / CHAPTER / "latest"
    latest.write_text(next(run.name for run in latest.parent.glob("*--cpu--*")))  # one that could be accepted
    commands = (RERUN, (*SWEEP, "--force"), ("grid",), ("accept", CHAPTER), ("new", "another"), ("status",))
    return [book.run(*arguments, unshare="mount", first=READ_ONLY) for arguments in commands]


def no_network(book: Book) -> list[str]:
    ended = [book.run(*RERUN, unshare="net")]
    assert ended == ["exit 0"], f"a run needs no network: {ended}"
    return [*ended, _fetched(book, unshare="net")]


def bad_proxy(book: Book) -> list[str]:
    proxies = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "http://127.0.0.1:9")
    return [_fetched(book, NO_PROXY="", no_proxy="", **proxies)]


def _fetched(book: Book, **more: str) -> str:
    """A fetch that can only come from the network."""
    own = {"CLAIMBOOK_CACHE": str(book.root.parent / "empty"), "CLAIMBOOK_MIRROR": "", "PIP_CONFIG_FILE": os.devnull}
    own |= {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_INDEX_URL": "https://pypi.org/simple"}
    return book.run("fetch", "kjv", **own, PIP_RETRIES="1", **more)


FAULTS: dict[str, Callable[[Book], list[str]]] = {
    "a rerun is killed (kill -9) at a random moment": killed_rerun,
    "a stored run is killed at a random moment, and goes on": killed_stored_run,
    "the kernel of a rerun is killed": killed_kernel,
    "Ctrl-C in a rerun and in a stored run": interrupted,
    "two reruns of a chapter at once": two_reruns,
    "the same stored run twice at once": two_stored_runs,
    "a file of an asset is cut in half": damaged_assets(cut),
    "a bit of an asset is flipped": damaged_assets(flip),
    "a file of an asset is missing": damaged_assets(Path.unlink),
    "the disk is full before a run": full_before,
    "the disk fills up in the middle of a run": full_in_the_middle,
    "the repository can only be read": read_only,
    "there is no network": no_network,
    "the proxy is wrong": bad_proxy,
}


def main(only: str = "") -> int:
    """All faults, or those whose name holds a word; 1 when something did not hold. Rows of others stay as stored."""
    rows = seals.read(RESULT) if RESULT.exists() else {}
    rows = {name: rows[name] for name in FAULTS if name in rows}
    with tempfile.TemporaryDirectory(prefix="claimbook-faults-") as folder:
        book = Book.new(Path(folder))
        for name, fault in FAULTS.items():
            if only in name:
                rows[name] = _done(fault, book) | {"made": date.today().isoformat()}
                seals.write(RESULT, rows)
                print(name, json.dumps(rows[name], ensure_ascii=False, indent=1), flush=True)
    return any(row["failed"] for row in rows.values())


def _done(fault: Callable[[Book], list[str]], book: Book) -> dict:
    try:
        ended, failed = Counter(fault(book)), ""
    except (AssertionError, subprocess.TimeoutExpired) as error:
        ended, failed = Counter(), " ".join(str(error).split())[-300:]
    return {"times": sum(ended.values()), "ended": dict(ended), "failed": failed}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
