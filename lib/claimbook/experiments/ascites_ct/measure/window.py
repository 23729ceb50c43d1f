"""One row for each training scan: the Dice of thresholds by their window of density and opening. The best is a rival.

A network learns from these scans, and so may the threshold that it is compared with: over the whole scan, and within
the true cavity.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy import ndimage

from claimbook import files, paths
from claimbook.errors import ClaimbookError
from claimbook.experiments.ascites_ct import baselines, phantoms
from claimbook.experiments.ascites_ct.baselines import Setting
from claimbook.experiments.units import Experiment
from claimbook.papers import ascites_ct as method

LOWS = (-70, -60, -50, -40, -30, -20, -10, 0)  # HU
HIGHS = (20, 25, 30, 40, 50, 100, math.inf)  # HU; the last is no end, as within the cavity little is denser
OPENINGS = (0, 1, 2)  # voxels
WHERE = ("whole", "in_cavity")
SETTINGS = tuple(Setting(*setting) for setting in product(LOWS, HIGHS, OPENINGS))


@dataclass(frozen=True)
class Row:
    """Dice of each of `SETTINGS`, in the whole scan and within the true cavity."""

    scan: str
    whole: list[float]
    in_cavity: list[float]


def units(model, config: dict) -> dict[str, int]:
    return {f"train {i}": i for i in range(config["scans"])}


def measure(model, index: int, config: dict) -> Row:
    case = phantoms.case("train", index, config["seed"])
    smooth = baselines.smoothed(case.image, case.spacing)
    (box,) = ndimage.find_objects(case.cavity.astype(int))
    inner = _dice(smooth[box], case.truth[box], case.cavity[box])
    return Row(case.name, _dice(smooth, case.truth), inner)


def _dice(smooth: np.ndarray, truth: np.ndarray, within: np.ndarray | None = None) -> list[float]:
    return [round(method.dice(baselines.fluid(smooth, setting, within), truth), 4) for setting in SETTINGS]


def best(rows: list[Row], where: str) -> Setting:
    """The setting of the highest mean Dice, "whole" or "in_cavity". ValueError for one at the edge of the grid."""
    setting = _best(rows, where)
    if setting.low in (LOWS[0], LOWS[-1]) or setting.high == HIGHS[0] or setting.opening == OPENINGS[-1]:
        raise ValueError(f"the best is {setting}, at the edge of the grid: widen it")
    return setting


def _best(rows: list[Row], where: str) -> Setting:
    return SETTINGS[int(np.mean([getattr(row, where) for row in rows], axis=0).argmax())]


@lru_cache(maxsize=2)
def fitted(scans: int = 0) -> dict[str, Setting]:
    """What the stored run found best, by where; ClaimbookError without it. With ``scans``: what so few tell now."""
    if scans:
        few = EXPERIMENT.now(None, {"seed": 0, "scans": scans})
        return {where: _best(few, where) for where in WHERE}
    path = paths.sweep("ascites_ct", "window")
    if not path.exists():
        raise ClaimbookError("stored run ascites_ct/window is missing: `claimbook sweeps ascites_ct` makes it")
    rows = EXPERIMENT.read(files.read_json(path))
    return {where: best(rows, where) for where in WHERE}


EXPERIMENT = Experiment("scans", Row, units, measure)
run = EXPERIMENT.run
