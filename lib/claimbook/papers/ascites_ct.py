"""How ascites on CT is measured and a measurement is judged (Hou et al. 2024, arXiv 2406.15979).

The abstract gives Dice with the standard deviation and a 95 % interval, the median error of the volume with its
interquartile range, and r². The full text could not be read: which formula stands behind each is our reading, said in
each docstring. The network is nnU-Net; here it is only something that gives a mask.

Masks are boolean arrays (X, Y, Z) on the scan's own grid, spacings in mm, volumes in mL.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

Z = 1.96  # of a two-sided 95 % interval, as rounded in published tables

# --- one scan ---------------------------------------------------------------------------------------------------------


def volume_ml(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Number of positive voxels times the volume of one, in mL, on the grid that the scan was made on.

    ValueError for a spacing that is no length: such a volume would be silently 0, negative or mirrored.
    """
    if len(spacing) != mask.ndim or not all(0 < side < math.inf for side in spacing):
        raise ValueError(f"a spacing of {tuple(spacing)} mm is none for {mask.ndim} dimensions")
    return float(np.count_nonzero(mask) * np.prod(np.asarray(spacing, dtype=float)) / 1000)


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """2 |P ∩ T| / (|P| + |T|); NaN where the truth is empty, as no overlap can be had there. In [0, 1]."""
    _same_grid(predicted, truth)
    if not truth.any():
        return math.nan
    return float(2 * np.count_nonzero(predicted & truth) / (np.count_nonzero(predicted) + np.count_nonzero(truth)))


def surface_mm(predicted: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """Mean distance between the two surfaces, both ways together (MONAI), in mm; NaN where one mask is empty."""
    import torch
    from monai.metrics import compute_average_surface_distance

    _same_grid(predicted, truth)
    if not (predicted.any() and truth.any()):
        return math.nan
    both = [torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (predicted, truth)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of MONAI, about itself
        found = compute_average_surface_distance(*both, include_background=True, symmetric=True, spacing=list(spacing))
    return float(found)


def relative_error(predicted_ml, true_ml) -> np.ndarray:
    """Signed error of volumes, (n,) each, over the true ones: -1 is "nothing found"; NaN where there is nothing."""
    predicted_ml, true_ml = np.asarray(predicted_ml, dtype=float), np.asarray(true_ml, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(true_ml > 0, (predicted_ml - true_ml) / true_ml, np.nan)


def _same_grid(predicted: np.ndarray, truth: np.ndarray) -> None:
    """ValueError for masks that are no masks, or of two grids."""
    if predicted.shape != truth.shape or predicted.dtype != bool or truth.dtype != bool:
        kinds = " and ".join(f"{mask.dtype} {mask.shape}" for mask in (predicted, truth))
        raise ValueError(f"two boolean masks of one shape are needed, not {kinds}")


# --- a cohort ---------------------------------------------------------------------------------------------------------


def pearson_r2(true_ml, predicted_ml) -> float:
    """Squared correlation of volumes, (n,) each: our reading of the paper's "r²". It is blind to any bias a + b V."""
    return float(np.corrcoef(true_ml, predicted_ml)[0, 1] ** 2)


def identity_r2(true_ml, predicted_ml) -> float:
    """1 - SSE / SST around the line "predicted = true"; it can be negative."""
    true_ml, predicted_ml = np.asarray(true_ml, dtype=float), np.asarray(predicted_ml, dtype=float)
    return float(1 - ((predicted_ml - true_ml) ** 2).sum() / ((true_ml - true_ml.mean()) ** 2).sum())


def ccc(true_ml, predicted_ml) -> float:
    """Concordance correlation 2 s_xy / (s_x² + s_y² + (mean_x - mean_y)²), moments over n (Lin 1989)."""
    x, y = np.asarray(true_ml, dtype=float), np.asarray(predicted_ml, dtype=float)
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


@dataclass(frozen=True)
class Agreement:
    """Bland and Altman (1986): mean difference, predicted less true, and its 95 % limits, all in mL."""

    bias: float
    low: float
    high: float


def bland_altman(true_ml, predicted_ml) -> Agreement:
    difference = np.asarray(predicted_ml, dtype=float) - np.asarray(true_ml, dtype=float)
    bias, spread = float(difference.mean()), float(difference.std(ddof=1))
    return Agreement(bias, bias - Z * spread, bias + Z * spread)


def auc(present_ml, absent_ml) -> float:
    """Chance that a scan with ascites has more segmented than one without, ties a half (Mann and Whitney)."""
    present_ml, absent_ml = np.asarray(present_ml, dtype=float), np.asarray(absent_ml, dtype=float)
    found = stats.mannwhitneyu(present_ml, absent_ml).statistic
    return float(found / (len(present_ml) * len(absent_ml)))


# --- what published figures imply -------------------------------------------------------------------------------------


def z_interval(mean: float, sd: float, n: int) -> tuple[float, float]:
    """mean ± 1.96 sd / √n: how the paper's intervals of Dice were made, by the cohort whose n agrees (our reading)."""
    half = Z * sd / math.sqrt(n)
    return mean - half, mean + half


@dataclass(frozen=True)
class Implied:
    """The number of scans that an interval implies, and the least and most that rounding leaves possible."""

    n: float
    least: float
    most: float

    def holds(self, stated: int) -> bool:
        """Whether the stated number may lie behind the interval."""
        return self.least <= stated <= self.most


def implied_n(sd: float, low: float, high: float, *, rule: str = "z", rounding: float = 0.0005) -> Implied:
    """Number of scans behind a mean's 95 % interval; ``rule``: "z" or "t" (Student).

    Each of the three figures may be off by ``rounding``, half a unit of its last digit; `Implied` takes the worst of
    all. ValueError for an interval that rounding alone could close.
    """
    half = (high - low) / 2
    if not 0 < rounding < min(sd, half):
        raise ValueError(f"an interval from {low} to {high} with sd {sd} is too coarsely rounded to imply a number")
    solve = {"z": _n_by_z, "t": _n_by_t}[rule]
    return Implied(solve(sd, half), solve(sd - rounding, half + rounding), solve(sd + rounding, half - rounding))


def _n_by_z(sd: float, half: float) -> float:
    return (Z * sd / half) ** 2


def _n_by_t(sd: float, half: float) -> float:
    def excess(n: float) -> float:
        return stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n) - half

    return float(optimize.brentq(excess, 1.01, 10 + 4 * _n_by_z(sd, half)))


def largest_dice(error: float) -> float:
    """The largest Dice that a signed relative volume error e allows: 2 min(1, 1 + e) / (2 + e), for e >= -1."""
    return 2 * min(1.0, 1 + error) / (2 + error)


def error_range(dice: float) -> tuple[float, float]:
    """The signed relative volume errors that a Dice in (0, 1] allows, as `largest_dice` solved for e."""
    return -2 * (1 - dice) / (2 - dice), 2 * (1 - dice) / dice


def r2_interval(r2: float, n: int) -> tuple[float, float]:
    """95 % interval of a squared correlation over n scans (Fisher 1915); 0 at the low end where r may be 0."""
    r = np.tanh(np.arctanh(math.sqrt(r2)) + np.array([-1, 1]) * stats.norm.ppf(0.975) / math.sqrt(n - 3))
    return float(max(r[0], 0) ** 2), float(r[1] ** 2)
