"""Progress on stderr: one line that moves on a terminal, sparse lines elsewhere."""

import sys
import time
from pathlib import Path

from tqdm import tqdm

from claimbook import files


class Progress(tqdm):
    """A bar of tqdm as the callable ``progress(fraction, message)``; in a log a line at most every half minute.

    The time left is reckoned from what this process did itself: a resumed run may begin at 40 %.
    """

    def __init__(self, label: str, stream=None):
        self.moves, self.begun = (stream or sys.stderr).isatty(), False
        super().__init__(
            desc=label,
            total=1,
            file=stream,
            bar_format="{desc}  {percentage:3.0f} % {bar:20} {remaining} left{postfix}",
            mininterval=0.2 if self.moves else 30,
            miniters=0,
            smoothing=0,
            disable=False,
        )

    def __call__(self, fraction: float, message: str = "") -> None:
        self.set_postfix_str(message, refresh=False)
        if not self.begun:
            self.begun, self.initial, self.n, self.last_print_n = True, fraction, fraction, fraction
            self.start_t = self.last_print_t = time.time()
            self.refresh()
        self.update(fraction - self.n)

    def display(self, msg=None, pos=None) -> None:
        """On a terminal as tqdm does; in a log, where no line can move, each state is a line of its own."""
        if self.begun and self.moves:
            super().display(msg, pos)
        elif self.begun and msg is None:
            print(self, file=self.fp, flush=True)

    def close(self) -> None:
        if self.n > self.last_print_n:
            self.refresh()
        self.leave = self.begun and self.moves
        super().close()


class Stopwatch:
    """Seconds spent, kept in a file so that a resumed run goes on counting."""

    def __init__(self, path: Path):
        self.path = path
        self.before = float(path.read_text() or 0) if path.exists() else 0.0

    def __enter__(self):
        self.start = self.saved = time.monotonic()
        return self

    def __exit__(self, *error):
        self.save(every=0)

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def save(self, every: float = 10.0) -> None:
        if time.monotonic() - self.saved >= every:
            files.write_text(self.path, f"{self.seconds:.1f}")
            self.saved = time.monotonic()
