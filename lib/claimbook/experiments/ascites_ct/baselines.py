"""Ways to a mask without a network: thresholds, what a mask must beat, and a second reader as what could be reached.

Images in HU and masks (X, Y, Z) on the scan's own grid, spacings in mm.
"""

import numpy as np
from scipy import ndimage

WATER = (-15.0, 28.0)  # HU that count as fluid, ends included
SMOOTH_MM = 3.0  # standard deviation of the filter before a threshold
READER_MM = 2.0  # standard deviation of a reader's line from the true one; ours
READER_REACH_MM = 12.0  # over which a reader's deviations are alike; ours
SIX = ndimage.generate_binary_structure(3, 1)


def threshold(image: np.ndarray, spacing, window: tuple[float, float] = WATER) -> np.ndarray:
    """Voxels of the density of water after smoothing."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), [SMOOTH_MM / side for side in spacing])
    return (window[0] <= smooth) & (smooth <= window[1])


def opened(mask: np.ndarray) -> np.ndarray:
    """A mask without what is thinner than three voxels."""
    return ndimage.binary_opening(mask, SIX)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask, by voxels; the first of several; an empty mask stays empty."""
    pieces, count = ndimage.label(mask, SIX)
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax() if count else np.zeros_like(mask)


def read(truth: np.ndarray, spacing, rng: np.random.Generator) -> np.ndarray:
    """A reader's mask: the true surface moved in and out by smooth random amounts."""
    if not truth.any():
        return truth.copy()
    depth = ndimage.distance_transform_edt(truth, spacing) - ndimage.distance_transform_edt(~truth, spacing)
    drift = ndimage.gaussian_filter(rng.standard_normal(truth.shape), [READER_REACH_MM / side for side in spacing])
    half = min(spacing) / 2  # distances are between centres of voxels: the surface lies half a voxel nearer
    return depth - np.sign(depth) * half > READER_MM * drift / drift.std()
