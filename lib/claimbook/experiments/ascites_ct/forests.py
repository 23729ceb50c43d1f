"""What a segmentation is compared with and that needs no network: a random forest for voxels, another for the volume.

Both are trained in seconds on the networks' training scans of seed 0.
"""

import numpy as np
from monai.data import MetaTensor
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from claimbook.experiments.ascites_ct import phantoms
from claimbook.experiments.ascites_ct.cohorts import N
from claimbook.experiments.ascites_ct.grid import body, from_grid, to_grid

SCALES_MM = (3.0, 6.0, 12.0, 24.0)
FLUID = (-60.0, 90.0)  # HU after the smallest filter; nothing else is asked about
VOXELS = 1500  # of each training scan
BINS = np.arange(-100.0, 101.0, 10.0)  # HU


class Forest:
    """Random forest on densities and edges at several scales; called as `training.Segmenter` is."""

    def __init__(self, scans: dict[str, int] | None = None, seed: int = 0):
        rng, features, labels = np.random.default_rng(seed), [], []
        for case in _training(scans, seed):
            grid = to_grid(case.image, case.spacing)
            truth = np.asarray(to_grid(case.truth.astype(np.float32), case.spacing)[0]) >= 0.5
            asked = np.flatnonzero(_asked(grid))
            asked = rng.choice(asked, min(VOXELS, len(asked)), replace=False)
            features.append(_features(grid).reshape(-1, 2 * len(SCALES_MM))[asked])
            labels.append(truth.ravel()[asked])
        self.forest = RandomForestClassifier(24, max_depth=14, min_samples_leaf=5, random_state=seed)
        self.forest.fit(np.concatenate(features), np.concatenate(labels))

    def __call__(self, image: np.ndarray, spacing) -> np.ndarray:
        """Mask (X, Y, Z) of an image in HU."""
        grid = to_grid(image, spacing)
        asked, found = _asked(grid), np.zeros(grid.shape, dtype=np.float32)
        if asked.any():
            found[0][asked] = self.forest.predict_proba(_features(grid)[asked])[:, 1]
        return from_grid(MetaTensor(found, affine=grid.affine), image.shape, spacing) >= 0.5


class Regressor:
    """The volume without a segmentation: a random forest on how many mL of the body have which density."""

    def __init__(self, scans: dict[str, int] | None = None, seed: int = 0):
        cases = list(_training(scans, seed))
        self.forest = RandomForestRegressor(200, min_samples_leaf=2, random_state=seed)
        self.forest.fit([_histogram(case.image, case.spacing) for case in cases], [case.ml for case in cases])

    def __call__(self, image: np.ndarray, spacing) -> float:
        """mL of ascites in an image in HU."""
        return float(self.forest.predict([_histogram(image, spacing)])[0])


def _training(scans: dict[str, int] | None, seed: int):
    scans = scans or {cohort: N[cohort] for cohort in ("train", "train_free")}
    return (phantoms.case(cohort, i, seed) for cohort, n in scans.items() for i in range(n))


def _features(grid: MetaTensor) -> np.ndarray:
    """(X, Y, Z, 2 scales): HU and strength of edges after filters of each width."""
    image, sides = np.asarray(grid[0]), np.diag(np.asarray(grid.affine))[:3]
    widths = [[mm / side for side in sides] for mm in SCALES_MM]
    smooth = [ndimage.gaussian_filter(image, width) for width in widths]
    edges = [ndimage.gaussian_gradient_magnitude(image, width) for width in widths]
    return np.stack([*smooth, *edges], axis=-1)


def _asked(grid: MetaTensor) -> np.ndarray:
    """Voxels dense as fluid, within the box of the body."""
    sides = np.diag(np.asarray(grid.affine))[:3]
    smooth = ndimage.gaussian_filter(np.asarray(grid[0]), [SCALES_MM[0] / side for side in sides])
    asked, box = np.zeros(smooth.shape, dtype=bool), body(grid)
    asked[box] = (FLUID[0] <= smooth[box]) & (smooth[box] <= FLUID[1])
    return asked


def _histogram(image: np.ndarray, spacing) -> np.ndarray:
    """mL in each bin of density."""
    return np.histogram(np.asarray(to_grid(image, spacing)[0]), BINS)[0] * np.prod(spacing) / 1000
