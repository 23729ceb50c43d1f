"""Progress on stderr: one line that moves on a terminal, sparse lines elsewhere."""

import sys
import time
from pathlib import Path

from claimbook import files


class Progress:
    """Callable ``progress(fraction, message)``; shows percent, message and the time that is left.

    On a terminal one line is rewritten; else a line is printed at most every ``every`` seconds, so logs stay short.
    The time left is reckoned from what this process did itself: a resumed run may begin at 40 %.
    """

    def __init__(self, label: str, stream=None, every: float = 30.0):
        self.label, self.stream = label, stream or sys.stderr
        self.tty = self.stream.isatty()
        self.every = 0.2 if self.tty else every
        self.began: tuple[float, float] | None = None  # (time, fraction) of the first call
        self.shown = -float("inf")
        self.width = 0

    def __call__(self, fraction: float, message: str = "") -> None:
        now = time.monotonic()
        if self.began is None:
            self.began = (now, fraction)
        if now - self.shown < self.every and fraction < 1:
            return
        self.shown = now
        self._show(f"{self.label}  {100 * min(max(fraction, 0), 1):3.0f} %{self._left(now, fraction)}  {message}")

    def _left(self, now: float, fraction: float) -> str:
        spent, done = now - self.began[0], fraction - self.began[1]
        if done <= 0 or spent < 1 or fraction >= 1:
            return ""
        return f"  {clock(spent * (1 - fraction) / done)} left"

    def _show(self, line: str) -> None:
        if self.tty:
            self.stream.write("\r" + line.ljust(self.width))
            self.width = len(line)
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.tty and self.width:
            self.stream.write("\n")
            self.stream.flush()


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


def clock(seconds: float) -> str:
    """Seconds in words a person reads at a glance: 42 s, 3 min 05 s, 1 h 04 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
