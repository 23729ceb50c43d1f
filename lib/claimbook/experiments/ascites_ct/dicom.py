"""A folder of DICOM slices as one volume. Places come from the position of each slice, not from a stated thickness."""

import struct
from collections import Counter
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
DAMAGED = (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError, struct.error)
UNEVEN = 0.1  # share of the usual distance of slices by which one may depart


def read(folder: Path) -> nibabel.Nifti1Image:
    """The one series in a folder, float32 in HU; ClaimbookError names the folder, what is wrong and the way out."""
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "DICOMDIR"))]
    if gone := [path.name for path in entries if not path.exists()]:  # a data set that was fetched in part
        _refuse(folder, f"{len(gone)} of its slices are links to nothing, {gone[0]} first: fetch the files themselves")
    files = [path for path in entries if path.is_file()]
    if any(path.name.lower().endswith((".nii", ".nii.gz")) for path in files):
        _refuse(folder, "it holds NIfTI files, which are not looked for in a folder of a folder: name it as ct_dir")
    slices = [_slice(path, folder) for path in files]
    if len(slices) < 2:
        _refuse(folder, f"it holds {len(slices)} DICOM slices: put the slices of one series there")
    series = len({str(one.SeriesInstanceUID) for one in slices})
    if series > 1 or not _alike([one.ImageOrientationPatient for one in slices]):
        word = f"{series} series" if series > 1 else "slices of several orientations"
        _refuse(folder, f"it holds {word}: give each series a folder of its own")
    if not _alike([(one.Rows, one.Columns, *one.PixelSpacing) for one in slices]):
        _refuse(folder, "its slices differ in size: give each series a folder of its own")
    across, down = np.reshape(slices[0].ImageOrientationPatient, (2, 3)).astype(float)
    slices.sort(key=lambda one: float(np.dot(np.cross(across, down), _position(one))))
    _one_scale(folder, slices)
    step = _step(folder, np.array([_position(one) for one in slices]))
    height, width = map(float, slices[0].PixelSpacing)  # of a row, of a column
    affine = np.eye(4)
    affine[:3] = np.column_stack([across * width, down * height, step, _position(slices[0])])
    voxels = np.stack([_hu(one, folder).T for one in slices], axis=2)
    return nibabel.Nifti1Image(voxels, np.diag([-1, -1, 1, 1]) @ affine)  # DICOM counts to the left and back


def _slice(path: Path, folder: Path) -> pydicom.Dataset:
    try:
        return _checked(pydicom.dcmread(path), path, folder)
    except (InvalidDicomError, OSError) as error:
        _refuse(folder, f"{path.name} is no DICOM file ({type(error).__name__}): leave only slices there")
    except DAMAGED as error:  # pydicom reads an element when it is asked for it
        _refuse(folder, f"{path.name} is damaged ({str(error).splitlines()[0]}): export the series anew")


def _checked(one: pydicom.Dataset, path: Path, folder: Path) -> pydicom.Dataset:
    """A slice that has all that a volume is made of, and stands for itself in what is said later."""
    if one.get("Modality") != "CT":
        _refuse(folder, f"{path.name} is of modality {one.get('Modality', 'unknown')}, not CT")
    if int(one.get("NumberOfFrames") or 1) > 1:
        _refuse(folder, f"{path.name} holds several frames: convert it, for example with dcm2niix")
    if lacking := [name for name in NEEDED if name not in one or one[name].is_empty]:
        _refuse(folder, f"{path.name} has no {', '.join(lacking)}: export the series anew")
    for name, count in NUMBERS.items():
        if not _are_numbers(one, name, count):
            _refuse(folder, f"{path.name}: {name} is not {count} numbers: export the series anew")
    if min(one.PixelSpacing) <= 0 or not (isinstance(one.Rows, int) and isinstance(one.Columns, int)):
        _refuse(folder, f"{path.name}: its pixels have no size, or no number: export the series anew")
    along = np.reshape(one.ImageOrientationPatient, (2, 3)).astype(float)
    if not np.allclose(along @ along.T, np.eye(2), atol=0.01):
        _refuse(folder, f"{path.name}: its rows and columns do not stand at right angles: export the series anew")
    if one.get("PhotometricInterpretation") != "MONOCHROME2":
        _refuse(folder, f"{path.name} is {one.get('PhotometricInterpretation')}, where a CT is MONOCHROME2")
    return one


def _alike(of_slices: list) -> bool:
    """Whether numbers of all slices are those of the first, but for how they were rounded and written."""
    numbers = np.array(of_slices, dtype=float)
    return np.allclose(numbers, numbers[0], rtol=0, atol=1e-4)


def _one_scale(folder: Path, slices: list[pydicom.Dataset]) -> None:
    """Refuse slices of a CT that are scaled differently: one without its intercept lies 1,024 HU off, unseen."""
    scales = [_scale(one) for one in slices]
    if len(set(scales)) > 1:
        ((usual, _),) = Counter(scales).most_common(1)
        odd = [one for one, scale in zip(slices, scales, strict=True) if scale != usual]
        said = f"{Path(odd[0].filename).name} has another rescale slope or intercept than most slices"
        _refuse(folder, f"{said} ({len(odd)} of {len(slices)} do): export the series anew")


def _scale(one: pydicom.Dataset) -> tuple[object, ...]:
    """Slope and intercept, as numbers where they are: "1" and "1.0" are one slope."""
    values = [one.get(name) for name in ("RescaleSlope", "RescaleIntercept")]
    try:
        return tuple(None if value is None else float(value) for value in values)
    except (TypeError, ValueError):
        return tuple(map(str, values))


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
        _refuse(folder, "several slices lie at one place: keep one of each, and give each series a folder")
    if (far := np.abs(lengths - usual).max()) > UNEVEN * usual:
        _refuse(folder, f"slices are {usual:.3g} mm apart, and some {far:.3g} mm more or less: are some missing?")
    return steps.mean(axis=0)


def _position(one: pydicom.Dataset) -> np.ndarray:
    return np.array(one.ImagePositionPatient, dtype=float)


def _hu(one: pydicom.Dataset, folder: Path) -> np.ndarray:
    """Pixels (rows, columns) times slope plus intercept; without either they are as stored, and `own_files` judges."""
    name = Path(one.filename).name
    try:
        return np.asarray(apply_rescale(one.pixel_array, one), dtype=np.float32)
    except TypeError:
        _refuse(folder, f"{name}: its rescale slope or intercept is no number: export the series anew")
    except DAMAGED as error:
        why = str(error).splitlines()[0]
        _refuse(folder, f"pixels of {name} cannot be read ({why}): convert it, for example with dcm2niix")


def _refuse(folder: Path, said: str) -> Never:
    raise ClaimbookError(f"'{folder.name}': {said}")
