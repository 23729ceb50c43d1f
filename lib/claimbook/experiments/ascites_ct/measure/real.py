"""Real images without ascites: what is called ascites there, and how much of a painted pool is found.

The torso is a whole CT (asset `totalsegmentator-ct`); the slice is one slice of a CT (asset `pydicom-data`), stacked to
a slab. A pool is painted into deep fat, its lowest part first, with the image's own noise: half real, half simulated.
"""

from dataclasses import dataclass

import numpy as np
import pydicom
from scipy import ndimage

from claimbook.assets import catalogue
from claimbook.experiments.ascites_ct import baselines, own_files
from claimbook.experiments.ascites_ct.measure import scans
from claimbook.experiments.ascites_ct.measure.scans import Score, Segment
from claimbook.experiments.units import Experiment

SLAB = (12, 4.0)  # copies of the one slice, and mm from one to the next
DEEP_MM = 30.0  # from the skin: beyond it lies no fat under the skin
FAT = (-150.0, -40.0)  # HU after smoothing
POOL_HU = 8.0


@dataclass(frozen=True)
class Row:
    """``ml``: painted, 0 in the image as it is. ``height_cm`` of the image: a slab's mL over it are its slice's cm²."""

    image: str
    ml: float
    height_cm: float
    arms: dict[str, Score]

    def __post_init__(self):
        scans.restore(self.arms)


def units(trained, config: dict) -> dict[str, tuple[str, float]]:
    return {f"{image} {ml} mL": (image, ml) for image, wanted in config["pools"].items() for ml in wanted}


def measure(trained: dict[str, Segment] | None, unit: tuple[str, float], config: dict) -> Row:
    name, ml = unit
    image, spacing = IMAGES[name]()
    image, truth = painted(image, spacing, ml, config["seed"])
    water = baselines.threshold(image, spacing)
    masks = {"threshold": water, "opened": baselines.opened(water), "nothing": np.zeros_like(truth)}
    trained = scans.networks(config) if trained is None else trained
    masks |= {arm: segment(image, spacing) for arm, segment in trained.items()}
    arms = {arm: scans.score(mask, truth, spacing) for arm, mask in masks.items()}
    return Row(name, scans.ml_of(truth, spacing), _height(image, spacing), arms)


def torso() -> tuple[np.ndarray, tuple]:
    """(X, Y, Z) in HU and the sides of a voxel in mm."""
    image, *_, spacing = own_files.Scan("torso", catalogue.get("totalsegmentator-ct")).open()
    return image, spacing


def slab() -> tuple[np.ndarray, tuple]:
    """The one slice, turned as the torso is, as often as `SLAB` says."""
    found = pydicom.dcmread(catalogue.get("pydicom-data"))
    hu = found.pixel_array.astype(np.float32) * float(found.RescaleSlope) + float(found.RescaleIntercept)
    # rows go backwards to front (orientation 1, 0, 0, 0, -1, 0), columns from the patient's right to the left
    upright = np.clip(hu, -1024, 3071).T[::-1]
    side, depth = (float(one) for one in reversed(found.PixelSpacing))
    return np.repeat(upright[:, :, None], SLAB[0], axis=2), (side, depth, SLAB[1])


IMAGES = {"torso": torso, "slice": slab}


def painted(image: np.ndarray, spacing, ml: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The image with a pool of about ``ml`` in the lowest deep fat, and its mask; ValueError for too large a one."""
    region = np.flatnonzero(deep_fat(image, spacing))
    count = round(ml * 1000 / np.prod(spacing))
    if count > len(region):
        raise ValueError(f"{ml} mL are more than the deep fat")
    truth = np.zeros(image.shape, dtype=bool)
    if not count:
        return image, truth
    waves = np.random.default_rng(seed).standard_normal(image.shape[:2])  # one field for all slices
    waves = ndimage.gaussian_filter(waves, [20 / side for side in spacing[:2]])
    height = np.arange(image.shape[1])[None, :] * spacing[1] + 15 * waves / waves.std()
    height = np.broadcast_to(height[:, :, None], image.shape).ravel()[region]
    truth.ravel()[region[np.argsort(height, kind="stable")[:count]]] = True
    share = ndimage.gaussian_filter(truth.astype(np.float32), 0.5)  # partial volume at the border
    grain = image - ndimage.gaussian_filter(image, [2 / side for side in spacing])
    return image * (1 - share) + (POOL_HU + np.clip(grain, -60, 60)) * share, truth


def deep_fat(image: np.ndarray, spacing) -> np.ndarray:
    """Fat far from the skin, in slices without lung: in the peritoneal cavity, and some behind it."""
    smooth = ndimage.gaussian_filter(image, [1.5 / side for side in spacing])
    body = np.stack([_filled(smooth[:, :, z] > -300) for z in range(image.shape[2])], axis=2)
    lung = (body & (smooth < -500)).sum(axis=(0, 1)) > 0.04 * body.sum(axis=(0, 1))
    deep = np.stack(
        [ndimage.distance_transform_edt(body[:, :, z], spacing[:2]) > DEEP_MM for z in range(image.shape[2])], axis=2
    )
    fat = deep & (FAT[0] < smooth) & (smooth < FAT[1])
    fat[:, :, lung] = False
    return fat


def _filled(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a slice's mask, its holes filled: the body without the table."""
    pieces, count = ndimage.label(mask)
    if not count:
        return mask
    return ndimage.binary_fill_holes(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax())


def _height(image: np.ndarray, spacing) -> float:
    return round(image.shape[2] * spacing[2] / 10, 3)


EXPERIMENT = Experiment("images", Row, units, measure, model=scans.networks)
run = EXPERIMENT.run
