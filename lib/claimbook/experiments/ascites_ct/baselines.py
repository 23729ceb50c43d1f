"""Ways to a mask without a network: thresholds, what a mask must beat, and a second reader as what could be reached.

Images in HU and masks (X, Y, Z) on the scan's own grid, spacings in mm.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SMOOTH_MM = 3.0  # standard deviation of the filter before a threshold
READER_MM = 2.0  # standard deviation of a reader's line from the true one; ours
READER_REACH_MM = 12.0  # over which a reader's deviations are alike; ours
SIX = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True)
class Setting:
    """A threshold: HU that count as fluid, ends included, and by how many voxels what is found is opened."""

    low: float
    high: float
    opening: int


WATER = Setting(-15.0, 28.0, 0)  # as usually read off a scale; fitted to nothing


def smoothed(image: np.ndarray, spacing) -> np.ndarray:
    """What a threshold is applied to."""
    return ndimage.gaussian_filter(image.astype(np.float32), [SMOOTH_MM / side for side in spacing])


def fluid(smooth: np.ndarray, setting: Setting, within: np.ndarray | None = None) -> np.ndarray:
    """Voxels of a density, ``within`` a mask where there is one, without what is thinner than the opening."""
    mask = (setting.low <= smooth) & (smooth <= setting.high)
    mask = mask if within is None else mask & within
    return ndimage.binary_opening(mask, SIX, iterations=setting.opening) if setting.opening else mask


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask, by voxels; the first of several; an empty mask stays empty."""
    pieces, count = ndimage.label(mask, SIX)
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax() if count else np.zeros_like(mask)


def lowest(cavity: np.ndarray, share: float = 0.2) -> np.ndarray:
    """The lowest share of a cavity (X, Y, Z), the back being below: what knows gravity and nothing else."""
    inside = np.flatnonzero(cavity)
    order = np.argsort(np.unravel_index(inside, cavity.shape)[1], kind="stable")
    mask = np.zeros_like(cavity)
    mask.ravel()[inside[order[: round(share * len(inside))]]] = True
    return mask


def read(truth: np.ndarray, spacing, rng: np.random.Generator) -> np.ndarray:
    """A reader's mask: the true surface moved in and out by smooth random amounts."""
    if not truth.any():
        return truth.copy()
    depth = ndimage.distance_transform_edt(truth, spacing) - ndimage.distance_transform_edt(~truth, spacing)
    drift = ndimage.gaussian_filter(rng.standard_normal(truth.shape), [READER_REACH_MM / side for side in spacing])
    half = min(spacing) / 2  # distances are between centres of voxels: the surface lies half a voxel nearer
    return depth - np.sign(depth) * half > READER_MM * drift / drift.std()
