"""One row for each simulated scan: what every way of segmenting it finds, against the known truth.

Stored as ``scans``, the test cohorts and their controls, and as ``shifts``, new patients of the training cohort of whom
one thing at a time is changed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from claimbook.experiments.ascites_ct import baselines, phantoms, training
from claimbook.experiments.ascites_ct.baselines import Setting
from claimbook.experiments.ascites_ct.cohorts import SHIFTS
from claimbook.experiments.ascites_ct.measure import window
from claimbook.experiments.units import Experiment
from claimbook.papers import ascites_ct as method

# (image in HU, spacing in mm) -> mask on the same grid; or the volume alone, in mL
Segment = Callable[[np.ndarray, tuple], np.ndarray | float]


@dataclass(frozen=True)
class Score:
    """A mask against the truth of one scan, on the scan's own grid.

    ``dice``: NaN without ascites; ``surface_mm``: NaN too where one mask is empty. ``ml``: segmented. ``wrong_ml``:
    segmented outside the ascites, ``by_organ`` how much of that lies in each fluid that is none.
    """

    ml: float
    dice: float
    surface_mm: float
    wrong_ml: float
    by_organ: dict[str, float]


@dataclass(frozen=True)
class Row:
    """``ml``: exact volume of the ascites; ``grid_ml``: of the true mask. ``free_ml``: of the cavity.

    ``factor`` and ``level``: what was changed, "" of nothing. ``fluids_ml``: how much of each fluid there is that is no
    ascites. ``arms``: a `Score` by way of segmenting; "second reader" is one reader's mask against
    another's, not the truth.
    """

    scan: str
    cohort: str
    factor: str
    level: str
    contrast: bool | str
    slice_mm: float
    noise_hu: float
    ml: float
    grid_ml: float
    free_ml: float
    fluids_ml: dict[str, float]
    arms: dict[str, Score]

    def __post_init__(self):
        restore(self.arms)


def restore(arms: dict) -> None:
    """Make scores again of what a stored run gives back of them."""
    arms.update({name: Score(**arm) for name, arm in arms.items() if isinstance(arm, dict)})


# --- units ------------------------------------------------------------------------------------------------------------


def units(networks, config: dict) -> dict[str, tuple]:
    """(cohort, index, factor, level) by name: ``cohorts`` then levels of ``shifts``, each with a number of scans."""
    plain = {f"{cohort} {i}": (cohort, i, "", "") for cohort, n in config["cohorts"].items() for i in range(n)}
    changed = {
        f"{factor} {level} {i}": ("base", i, factor, level)
        for factor, levels in config.get("shifts", {}).items()
        for level, n in levels.items()
        for i in range(n)
    }
    return plain | changed


def networks(config: dict) -> dict[str, Segment]:
    """The trained networks that a config names, each as something that segments."""
    return {name: training.load(name) for name in config["networks"]}


# --- one scan ---------------------------------------------------------------------------------------------------------


def measure(trained: dict[str, Segment] | None, unit: tuple, config: dict) -> Row:
    cohort, index, factor, level = unit
    case = phantoms.case(cohort, index, config["seed"], **(SHIFTS[factor][level] if factor else {}))
    trained = networks(config) if trained is None else trained
    fitted = window.fitted(config.get("window_scans", 0))
    masks = untaught(case, fitted) | {name: segment(case.image, case.spacing) for name, segment in trained.items()}
    readers = [
        baselines.read(case.truth, case.spacing, np.random.default_rng([config["seed"], index, i])) for i in (1, 2)
    ]
    arms = {
        name: score(mask, case.truth, case.spacing, case.organs)
        for name, mask in (masks | {"reader": readers[0]}).items()
    }
    arms["second reader"] = score(readers[1], readers[0], case.spacing, case.organs)
    return Row(
        case.name,
        cohort,
        factor,
        level,
        case.about["contrast"],
        case.about["slice_mm"],
        round(case.about["noise_hu"], 2),
        round(case.ml, 2),
        ml_of(case.truth, case.spacing),
        round(case.about["free_ml"], 1),
        _by_organ(np.ones_like(case.truth), case.organs, case.spacing),
        arms,
    )


def thresholds(image: np.ndarray, spacing, fitted: Setting) -> dict[str, np.ndarray]:
    """What a threshold finds, with the usual window and with the fitted one."""
    smooth = baselines.smoothed(image, spacing)
    return {"threshold": baselines.fluid(smooth, baselines.WATER), "fitted": baselines.fluid(smooth, fitted)}


def untaught(case: phantoms.Case, fitted: dict[str, Setting]) -> dict[str, np.ndarray]:
    """Thresholds; one where someone has outlined the cavity; parts or all of that cavity; nothing."""
    found = thresholds(case.image, case.spacing, fitted["whole"])
    smooth = baselines.smoothed(case.image, case.spacing)
    return found | {
        "largest": baselines.largest(found["fitted"]),
        "in cavity": baselines.fluid(smooth, fitted["in_cavity"], case.cavity),
        "lowest fifth": baselines.lowest(case.cavity),
        "fills": case.cavity,
        "nothing": np.zeros_like(case.truth),
    }


def score(mask: np.ndarray | float, truth: np.ndarray, spacing, organs: np.ndarray | None = None) -> Score:
    """What a mask is worth, or a volume alone, which overlaps with nothing."""
    if not isinstance(mask, np.ndarray):
        return Score(round(float(mask), 2), math.nan, math.nan, math.nan, {})
    wrong = mask & ~truth
    return Score(
        ml_of(mask, spacing),
        _rounded(method.dice(mask, truth), 5),
        _rounded(method.surface_mm(mask, truth, spacing), 3),
        ml_of(wrong, spacing),
        {} if organs is None else _by_organ(wrong, organs, spacing),
    )


def _by_organ(mask: np.ndarray, organs: np.ndarray, spacing) -> dict[str, float]:
    counts = np.bincount(organs[mask], minlength=len(phantoms.LABELS))
    unit = math.prod(spacing) / 1000
    return {name: round(float(counts[phantoms.ORGANS[name]] * unit), 2) for name in phantoms.FOUND}


def ml_of(mask: np.ndarray, spacing) -> float:
    """Volume of a mask in mL, as rows keep it."""
    return round(method.volume_ml(mask, spacing), 2)


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) if math.isfinite(value) else math.nan


EXPERIMENT = Experiment("scans", Row, units, measure, model=networks)
run = EXPERIMENT.run
