"""A folder of DICOM slices as one volume. Places come from the position of each slice, not from a stated thickness."""

from pathlib import Path
from typing import Never

import nibabel
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_rescale

from claimbook.errors import ClaimbookError

NEEDED = ("SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
NUMBERS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}  # how many each has
UNEVEN = 0.1  # share of the usual distance of slices by which one may depart


def read(folder: Path) -> nibabel.Nifti1Image:
    """The one series in a folder, float32 in HU; ClaimbookError names the folder, what is wrong and the way out."""
    slices = [_slice(path, folder) for path in sorted(folder.iterdir()) if path.is_file() and path.name != "DICOMDIR"]
    if len(slices) < 2:
        _refuse(folder, f"it holds {len(slices)} DICOM slices: put the slices of one series there")
    for name, word in (("SeriesInstanceUID", "series"), ("ImageOrientationPatient", "orientations")):
        if (count := len({str(one.get(name)) for one in slices})) > 1:
            _refuse(folder, f"it holds {count} {word}: give each series a folder of its own")
    if len({(one.Rows, one.Columns, *one.PixelSpacing) for one in slices}) > 1:
        _refuse(folder, "its slices differ in size: give each series a folder of its own")
    across, down = np.reshape(slices[0].ImageOrientationPatient, (2, 3)).astype(float)
    slices.sort(key=lambda one: float(np.dot(np.cross(across, down), _position(one))))
    step = _step(folder, np.array([_position(one) for one in slices]))
    height, width = map(float, slices[0].PixelSpacing)  # of a row, of a column
    affine = np.eye(4)
    affine[:3] = np.column_stack([across * width, down * height, step, _position(slices[0])])
    voxels = np.stack([_hu(one, folder).T for one in slices], axis=2)
    return nibabel.Nifti1Image(voxels, np.diag([-1, -1, 1, 1]) @ affine)  # DICOM counts to the left and back


def _slice(path: Path, folder: Path) -> pydicom.Dataset:
    try:
        one = pydicom.dcmread(path)
    except (InvalidDicomError, OSError) as error:
        _refuse(folder, f"{path.name} is no DICOM file ({type(error).__name__}): leave only slices there")
    if one.get("Modality") != "CT":
        _refuse(folder, f"{path.name} is of modality {one.get('Modality', 'unknown')}, not CT")
    if int(one.get("NumberOfFrames") or 1) > 1:
        _refuse(folder, f"{path.name} holds several frames: convert it, for example with dcm2niix")
    if lacking := [name for name in NEEDED if name not in one or one[name].is_empty]:
        _refuse(folder, f"{path.name} has no {', '.join(lacking)}: export the series anew")
    for name, count in NUMBERS.items():
        if not _are_numbers(one, name, count):
            _refuse(folder, f"{path.name}: {name} is not {count} numbers: export the series anew")
    if one.get("PhotometricInterpretation") != "MONOCHROME2":
        _refuse(folder, f"{path.name} is {one.get('PhotometricInterpretation')}, where a CT is MONOCHROME2")
    return one


def _are_numbers(one: pydicom.Dataset, name: str, count: int) -> bool:
    try:
        return len(values := one[name].value) == count and bool(np.isfinite(np.array(values, dtype=float)).all())
    except (TypeError, ValueError):  # a single number has no length; some writers have decimal commas
        return False


def _step(folder: Path, positions: np.ndarray) -> np.ndarray:
    """From one slice to the next, (3,) mm, of positions (n, 3) in order; refused where slices are missing or double."""
    steps = np.diff(positions, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    usual = float(np.median(lengths))
    if usual == 0 or lengths.min() < UNEVEN * usual:
        _refuse(folder, "several slices lie at one place: give each series a folder of its own")
    if (far := np.abs(lengths - usual).max()) > UNEVEN * usual:
        _refuse(folder, f"slices are {usual:.3g} mm apart, and some {far:.3g} mm more or less: are some missing?")
    return steps.mean(axis=0)


def _position(one: pydicom.Dataset) -> np.ndarray:
    return np.array(one.ImagePositionPatient, dtype=float)


def _hu(one: pydicom.Dataset, folder: Path) -> np.ndarray:
    """Pixels (rows, columns) times slope plus intercept; without either they are as stored, and `own_files` judges."""
    try:
        return np.asarray(apply_rescale(one.pixel_array, one), dtype=np.float32)
    except TypeError:
        _refuse(folder, "its rescale slope or intercept is empty: export the series anew")
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        _refuse(folder, f"pixels cannot be read ({str(error).splitlines()[0]}): convert it, for example with dcm2niix")


def _refuse(folder: Path, said: str) -> Never:
    raise ClaimbookError(f"'{folder.name}': {said}")
