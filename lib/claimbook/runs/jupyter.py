"""Notebook kernels for headless runs: this interpreter, reached by files instead of ports."""

import sys
import tempfile
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

LONGEST_SOCKET = 90  # a Unix socket's path may have about 107 characters; the kernel adds a few


class ThisPython(KernelSpecManager):
    """Every kernel name means the interpreter that runs Claimbook, whatever kernels the user has registered."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3 (ipykernel)", language="python")


class Kernel(AsyncKernelManager):
    """A kernel with sockets in a folder of its own.

    With TCP, kernels that start at the same time can be given the same free port ("Address already in use").
    """

    def __init__(self, **kwargs):
        folder = tempfile.TemporaryDirectory(prefix="claimbook-")
        connection = str(Path(folder.name) / "kernel.json")
        transport = "ipc" if len(connection) < LONGEST_SOCKET and sys.platform != "win32" else "tcp"
        super().__init__(kernel_spec_manager=ThisPython(), connection_file=connection, transport=transport, **kwargs)
        self._folder = folder  # goes with the manager
