"""Real images without ascites: what is called ascites there, and how much of a painted pool is found.

The torso is a whole CT (asset `totalsegmentator-ct`); the slice is one slice of a CT (asset `pydicom-data`), stacked to
a slab. A pool is painted into deep fat, its lowest part first, with the image's own noise: half real, half simulated.
"""

from dataclasses import dataclass

import numpy as np
import pydicom
from scipy import ndimage

from claimbook.assets import catalogue
from claimbook.experiments.ascites_ct import own_files
from claimbook.experiments.ascites_ct.measure import scans, window
from claimbook.experiments.ascites_ct.measure.scans import Score, Segment
from claimbook.experiments.units import Experiment

SLAB = (12, 4.0)  # copies of the one slice, and mm from one to the next
INSIDE_MM = 12.0  # from the muscles' outer side inwards
FAT = (-150.0, -40.0)  # HU after smoothing
LUNG = 0.12  # share of a slice from which what is dark is lung and no gas in the bowel
LEAST = 0.02  # share of the fat that a piece of it must have
POOL_HU = 8.0


@dataclass(frozen=True)
class Row:
    """``ml``: painted in, 0 of the image as it is. ``height_cm`` of the image: a slab's mL over it are cm²."""

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
    fat = deep_fat(image, spacing)
    truth = pool(fat, ml, spacing, np.random.default_rng(config["seed"]))
    image = painted(image, truth, spacing)
    masks = scans.thresholds(image, spacing, window.fitted()["whole"]) | {"nothing": np.zeros_like(truth), "fills": fat}
    trained = scans.networks(config) if trained is None else trained
    masks |= {arm: segment(image, spacing) for arm, segment in trained.items()}
    arms = {arm: scans.score(mask, truth, spacing) for arm, mask in masks.items()}
    return Row(name, scans.ml_of(truth, spacing), round(image.shape[2] * spacing[2] / 10, 3), arms)


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


def pool(fat: np.ndarray, ml: float, spacing, rng: np.random.Generator) -> np.ndarray:
    """About ``ml`` of the deep fat (X, Y, Z), the lowest up to waves, alike in all slices; ValueError for too much."""
    region, count = np.flatnonzero(fat), round(ml * 1000 / np.prod(spacing))
    if count > len(region):
        raise ValueError(f"{ml} mL are more than the deep fat")
    waves = ndimage.gaussian_filter(rng.standard_normal(fat.shape[:2]), [20 / side for side in spacing[:2]])
    height = np.arange(fat.shape[1]) * spacing[1] + 15 * waves / waves.std()
    height = np.broadcast_to(height[:, :, None], fat.shape).ravel()[region]
    mask = np.zeros(fat.shape, dtype=bool)
    mask.ravel()[region[np.argsort(height, kind="stable")[:count]]] = True
    return mask


def painted(image: np.ndarray, mask: np.ndarray, spacing) -> np.ndarray:
    """The image with fluid in a mask: its own grain, soft at the border as partial volume is."""
    share = ndimage.gaussian_filter(mask.astype(np.float32), 0.5)
    grain = image - ndimage.gaussian_filter(image, [2 / side for side in spacing])
    return image * (1 - share) + (POOL_HU + np.clip(grain, -60, 60)) * share


def deep_fat(image: np.ndarray, spacing) -> np.ndarray:
    """Fat well within the ring of muscle and bone, in slices without lung: in the peritoneal cavity and behind it."""
    smooth = ndimage.gaussian_filter(image, [1.5 / side for side in spacing])
    fat = np.stack([_deep_fat(smooth[:, :, z], spacing[:2]) for z in range(image.shape[2])], axis=2)
    pieces, count = ndimage.label(fat)
    large = np.bincount(pieces.ravel(), minlength=count + 1) > LEAST * fat.sum()
    large[0] = False
    return large[pieces]  # without marrow and what lies between the muscles


def _deep_fat(plane: np.ndarray, spacing) -> np.ndarray:
    body = _filled(plane > -300)
    if (body & (plane < -500)).sum() > LUNG * body.sum():
        return np.zeros_like(body)
    beneath_skin = _within(body, 8, spacing)
    ring = ndimage.binary_closing(np.pad(beneath_skin & (plane > -20), 20), iterations=round(12 / spacing[0]))
    inside = _within(_filled(ring[20:-20, 20:-20]), INSIDE_MM, spacing)
    return ndimage.binary_opening(inside & (FAT[0] < plane) & (plane < FAT[1]))


def _within(mask: np.ndarray, mm: float, spacing) -> np.ndarray:
    return ndimage.distance_transform_edt(mask, spacing) > mm


def _filled(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a slice's mask, its holes filled: the body without the table."""
    pieces, count = ndimage.label(mask)
    if not count:
        return mask
    return ndimage.binary_fill_holes(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax())


EXPERIMENT = Experiment("images", Row, units, measure, model=scans.networks)
run = EXPERIMENT.run
