"""The machine a run is made on, as far as a stored result may tell: versions, threads, commit, hardware, memory, time.

Nothing here imports torch, and nothing records a machine's name or folders.
"""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from claimbook import paths
from claimbook.errors import ClaimbookError

# Versions of these can move a number; of others the lock file speaks.
PACKAGES = ("torch", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Public versions of the packages that can move a number: 2.13.0, without ``+cpu`` or ``+cu130``."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def threads() -> int:
    """Threads of a run: ``$CLAIMBOOK_THREADS``, else 2, as in the reference runs."""
    text = os.environ.get("CLAIMBOOK_THREADS", "2")
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ClaimbookError(f"CLAIMBOOK_THREADS must be a whole number of at least 1, not '{text}'")
    return int(text)


def limit_threads() -> None:
    """Make torch use `threads`, whether it is imported already or will be."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads())
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads())


def git_state() -> tuple[str, bool]:
    """Commit and whether anything differs from it (untracked files count); ``("", False)`` outside git.

    Of this very folder: one that was unpacked inside another repository has no commit, and not that one's.
    """
    top = _git("rev-parse", "--show-toplevel").rstrip("\n")
    commit = _git("rev-parse", "HEAD").strip() if top and Path(top).resolve() == paths.root() else ""
    return (commit, bool(uncommitted())) if commit else ("", False)


def uncommitted() -> list[str]:
    """Files that differ from the commit or are untracked, from the repository's root."""
    entries = _git("status", "--porcelain", "--no-renames", "--untracked-files=all", "-z").split("\0")
    return [entry[3:] for entry in entries if entry]


def committed(path: Path) -> str:
    """A file as it was last committed, even if it was deleted since; "" where it never was."""
    name = path.relative_to(paths.root()).as_posix()
    last = _git("log", "-1", "--format=%H", "--diff-filter=AMR", "--", name).strip()
    return _git("show", f"{last}:{name}") if last else ""


def _git(*arguments: str) -> str:
    """What git says, "" where it refuses. Another user's checkout is read too: its code is run anyway.

    Variables that point elsewhere, as git itself sets them for a hook, do not count.
    """
    command = ["git", "-c", f"safe.directory={paths.root()}", "-C", str(paths.root()), *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, capture_output=True, env=own, encoding="utf-8", errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def collect() -> dict:
    """What every stored result says about its making: commit, versions, threads, Python, platform, start."""
    commit, dirty = git_state()
    return {
        "git": commit,
        "dirty": dirty,
        "packages": versions(),
        "threads": threads(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def hardware() -> str:
    """The hardware in words: processor, cores this process may use, memory; never a name or a path."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [_processor(), f"{cores} cores"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        words.append(f"{round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30)} GB")
    torch = sys.modules.get("torch")  # never imported for this
    if torch is not None and torch.cuda.is_available():
        words.append(torch.cuda.get_device_name())
    return ", ".join(words)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory() -> int:
    """Largest resident memory of this process, in bytes, and of its GPU when there is one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:  # not ru_maxrss first: on Linux it remembers the size of the process that launched this one
        for text in Path("/proc/self/status").read_text().splitlines():
            if text.startswith("VmHWM:"):
                return int(text.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def clock(seconds: float) -> str:
    """Seconds in words a person reads at a glance: 42 s, 3 min 05 s, 1 h 04 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
