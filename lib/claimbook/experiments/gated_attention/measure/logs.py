"""The authors' own loss logs of 3.5 trillion tokens, read without running what a pickle may hold, and their spikes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError

ASSET = "gated-attention-logs"
FILES = {"baseline": "3T-baseline.pt", "gated": "3T-gate.pt"}
WINDOW = 101  # points of the running median
DRAWN = 1_500  # points kept for the figure


@dataclass(frozen=True)
class Row:
    """Both logs at the steps that both hold. ``points``: of each log, and common. By threshold in nats and log,
    ``spikes``: how many runs of neighbouring points lie that far above the running median, and ``above``: how many
    points. ``largest`` loss after ``settled``. ``ends``: by step, mean loss of each log after it. ``drawn``: steps and
    losses, thinned to the largest of each bin.
    """

    points: dict[str, int]
    settled: int
    spikes: dict[str, dict[str, int]]
    above: dict[str, dict[str, int]]
    largest: dict[str, float]
    ends: dict[str, dict[str, float]]
    drawn: dict[str, list[float]]


def run(config: dict, work: Path, progress) -> dict:
    """Stored run."""
    row = measure(read_logs(catalogue.get(ASSET)), config)
    return {"metrics": {}, "curves": {"logs": [row.__dict__]}}


def read(stored: dict) -> Row:
    """The row of a stored run."""
    return Row(**stored["curves"]["logs"][0])


def read_logs(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and losses of each log. ClaimbookError for a file that holds anything but two equally long lists."""
    found = {}
    for name, file in FILES.items():
        log = catalogue.load_plain_pickle(folder / file)
        if not isinstance(log, dict) or {"steps", "lm_losses"} - set(log) or len(log["steps"]) != len(log["lm_losses"]):
            raise ClaimbookError(f"{file} is no log of steps and lm_losses: fetch {ASSET} again")
        order = np.argsort(log["steps"], kind="stable")
        found[name] = np.asarray(log["steps"])[order], np.asarray(log["lm_losses"], dtype=float)[order]
    return found


def measure(logs: dict[str, tuple[np.ndarray, np.ndarray]], config: dict) -> Row:
    """What `Row` holds; logs are subsampled differently, so that only steps that both hold are compared."""
    common = np.intersect1d(logs["baseline"][0], logs["gated"][0])
    at = {name: losses[np.unique(steps, return_index=True)[1]] for name, (steps, losses) in logs.items()}
    at = {name: at[name][np.isin(np.unique(steps), common)] for name, (steps, _) in logs.items()}
    later = common > config["settled"]
    thresholds = config["thresholds"]
    return Row(
        points={name: len(steps) for name, (steps, _) in logs.items()} | {"common": len(common)},
        settled=config["settled"],
        spikes={f"{t:g}": {name: spikes(one, t, later) for name, one in at.items()} for t in thresholds},
        above={f"{t:g}": {name: int((above(one, t) & later).sum()) for name, one in at.items()} for t in thresholds},
        largest={name: float(one[later].max()) for name, one in at.items()},
        ends={
            str(step): {name: float(one[common > step].mean()) for name, one in at.items()} for step in config["ends"]
        },
        drawn=thinned(common, at),
    )


def running_median(losses: Sequence[float], window: int = WINDOW) -> np.ndarray:
    """The median of the ``window`` points around each; at the ends of those there are."""
    losses, half = np.asarray(losses, dtype=float), window // 2
    padded = np.pad(losses, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of windows in which nothing is finite, whose median is NaN
        return np.nanmedian(windows, axis=1)


def above(losses: Sequence[float], threshold: float) -> np.ndarray:
    """Which points lie more than ``threshold`` nats above the running median, or are not finite."""
    losses = np.asarray(losses, dtype=float)
    finite = np.where(np.isfinite(losses), losses, np.nan)
    return ~(finite - running_median(finite) <= threshold)


def spikes(losses: Sequence[float], threshold: float, counted: np.ndarray | None = None) -> int:
    """How many runs of neighbouring points lie `above`; those that begin where ``counted`` is false are left out."""
    high = above(losses, threshold)
    begins = high & ~np.concatenate([[False], high[:-1]])
    return int((begins if counted is None else begins & counted).sum())


def thinned(steps: np.ndarray, losses: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Steps and the largest loss of each bin, so that no spike is lost to drawing."""
    bins = np.array_split(np.arange(len(steps)), min(DRAWN, len(steps)))
    drawn = {name: [round(float(one[part].max()), 4) for part in bins] for name, one in losses.items()}
    return {"steps": [int(steps[part[0]]) for part in bins]} | drawn
