"""Notebook kernels for headless runs: this interpreter, reached by files instead of ports, without its user's settings.

A kernel has a temporary folder of its own, for its sockets and for all that it and its libraries would leave elsewhere.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from claimbook import paths
from claimbook.provenance import machine

LONGEST_SOCKET = 90  # a Unix socket's path may have about 107 characters; the kernel adds a few
PREFIX = "claimbook-run-"
YOUNG = 60  # seconds: a folder may be about to be locked


def settings(folder: Path) -> dict[str, str]:
    """Variables with which a kernel is the same for every user; ``folder`` takes what it leaves.

    No start-up files or profile of IPython, no look of figures, backend or filter of warnings but our own, asserts that
    are carried out, text in UTF-8 whatever the locale is, and the threads of a run for libraries that count them early.
    """
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        "IPYTHONDIR": str(folder / "ipython"),
        **dict.fromkeys(("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONOPTIMIZE"), ""),
        "PYTHONUTF8": "1",
        "MATPLOTLIBRC": str(paths.matplotlibrc()),
        "MPLCONFIGDIR": str(paths.cache() / "matplotlib"),  # its list of fonts takes seconds to make: kept
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TMPDIR": str(folder),
        **dict.fromkeys(threads, str(machine.threads())),
    }


class ThisPython(KernelSpecManager):
    """Every kernel name means the interpreter that runs Claimbook, whatever kernels the user has registered."""

    def __init__(self, folder: Path):
        super().__init__()
        self._folder = folder

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        env = {name: value.replace("$", "$$") for name, value in settings(self._folder).items()}  # Jupyter fills in $…
        return KernelSpec(argv=argv, display_name="Python 3 (ipykernel)", language="python", env=env)


class Kernel(AsyncKernelManager):
    """A kernel with sockets in a folder of its own.

    With TCP, kernels that start at the same time can be given the same free port ("Address already in use").
    """

    def __init__(self, **kwargs):
        sweep()
        folder = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        lock = FileLock(Path(folder.name) / "lock")
        lock.acquire()
        connection = str(Path(folder.name) / "kernel.json")
        transport = "ipc" if len(connection) < LONGEST_SOCKET and sys.platform != "win32" else "tcp"
        specs = ThisPython(Path(folder.name))
        super().__init__(kernel_spec_manager=specs, connection_file=connection, transport=transport, **kwargs)
        self._folder = folder, lock  # they go with the manager


def sweep() -> None:
    """Remove the folders of runs that were killed: nobody holds their locks any more."""
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/lock"):
        try:
            if time.time() - file.stat().st_mtime > YOUNG:
                with FileLock(file, timeout=0):
                    shutil.rmtree(file.parent, ignore_errors=True)
        except (Timeout, OSError):  # it is at work, or another user's
            continue
