"""A reader's own scans: NIfTI files or folders of DICOM slices, with masks by a reader and by a model of their own.

Not a medical device: nothing here may guide the care of a patient.

Every image comes out in HU, its axes towards right, anterior and superior, with the side lengths of its voxels. What is
clearly meant is read as meant: flipped and oblique axes, a tilted gantry, padding below air. What would give a wrong
volume without a word is refused in one line that names the file and the way out.
"""

import gzip
import os
import re
import unicodedata
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError

from claimbook import paths
from claimbook.errors import ClaimbookError
from claimbook.experiments import own_tables
from claimbook.experiments.ascites_ct import dicom

NOT_A_DEVICE = "Not a medical device: nothing here may guide the care of a patient."
FOLDERS = ("ct_dir", "label_dir", "prediction_dir")  # parameters
SIDE_MM = (0.1, 20.0)  # sides of a voxel that a CT of a body can have
LEAST_HU = -1024.0  # below is no HU but padding about what was scanned, which says nothing of the calibration
AIR_HU = -300.0  # a CT that holds nothing below has lost its calibration, or shows no patient
NEAR = 1e-2  # mm, or share: how far two headers may lie apart


@dataclass(frozen=True)
class Scan:
    """One scan by its files; ``label`` and ``prediction`` None where the reader gave none."""

    name: str
    image: Path
    label: Path | None = None
    prediction: Path | None = None
    patient: str = ""
    cohort: str = "own scans"
    contrast: str = ""

    def open(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, tuple[float, float, float]]:
        """Image (X, Y, Z) in HU, the two masks on its grid, and the sides of a voxel in mm; ClaimbookError."""
        with LoggingOutputSuppressor(), warnings.catch_warnings():  # what is wrong is said below, in one line
            warnings.simplefilter("ignore")
            image = _image(self.image)
            hu = _hu(self.image, image)
            masks = [path and _mask(path, image) for path in (self.label, self.prediction)]
        return hu, *masks, spacing(image.affine)


def load(parameters: dict[str, object]) -> list[Scan]:
    """The scans that the parameters name, by name; none without ``ct_dir``. Files are not opened. ClaimbookError."""
    folder, *others = (parameters[name] for name in FOLDERS)
    if not folder:
        if given := [name for name in (*FOLDERS, "cohort_csv") if parameters[name]]:
            raise ClaimbookError(f"{' and '.join(given)} without ct_dir: name the folder of the images too")
        return []
    images = _named(_files(folder, "ct_dir", series=True), "ct_dir", _without_channel)
    labels, predictions = (_matching(images, other, name) for other, name in zip(others, FOLDERS[1:], strict=True))
    table = _cohorts(parameters["cohort_csv"], images)
    return [
        Scan(stem, path, labels.get(stem), predictions.get(stem), **{"patient": stem} | table.get(stem, {}))
        for stem, path in sorted(images.items())
    ]


def check(parameters: dict[str, object]) -> None:
    """Open every file that a run would open, one after another; ClaimbookError for the first that is wrong."""
    for scan in load(parameters):
        scan.open()


# --- which files ------------------------------------------------------------------------------------------------------


def _files(folder: str, parameter: str, series: bool = False) -> list[Path]:
    """The scans of a folder, one or more: NIfTI files, with ``series`` also folders of DICOM slices."""
    place = paths.expanded(folder)
    if not os.path.isdir(place):
        raise ClaimbookError(f"{parameter}: no folder '{folder}'")
    entries = [path for path in sorted(place.iterdir()) if not path.name.startswith(".")]  # a Mac leaves ._a.nii.gz
    found = [path for path in entries if path.name.lower().endswith((".nii", ".nii.gz")) and not path.is_dir()]
    if gone := [path.name for path in entries if not path.exists()]:  # of a data set that was fetched in part
        raise ClaimbookError(f"{parameter}: {_listed(gone)} is a link to nothing: fetch the file itself")
    if odd := [path.name for path in found if not path.is_file()]:  # a pipe would be waited for, for ever
        raise ClaimbookError(f"{parameter}: {_listed(odd)} is no ordinary file: put the file itself there")
    if series:
        found += [path for path in entries if path.is_dir()]
        slices = [path for path in entries if path.name.lower().endswith(".dcm") and path.is_file()]
        if found and slices:
            raise ClaimbookError(f"{parameter}: '{folder}' holds scans and loose slices too: give the slices a folder")
        found += [place] if slices else []
    if not found:
        kinds = ".nii or .nii.gz files" + (", or a folder of DICOM slices for each scan" if series else "")
        raise ClaimbookError(f"{parameter}: '{folder}' holds nothing to read: put {kinds} there")
    return found


def _named(found: list[Path], parameter: str, named: Callable[[str], str]) -> dict[str, Path]:
    """Files by their stems, as ``named`` makes them; ClaimbookError where two have one."""
    stems = [named(_stem(path.name)) for path in found]
    if twice := [stem for stem, count in Counter(stems).items() if count > 1]:
        raise ClaimbookError(f"{parameter}: several files are called {_listed(twice)}: keep one of each")
    return dict(zip(stems, found, strict=True))


def _stem(name: str) -> str:
    """By what an image and its masks go together; a Mac writes an é of a file's name in two characters."""
    return unicodedata.normalize("NFC", re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE))


def _without_channel(stem: str) -> str:
    """nnU-Net calls the image of the case ``a`` ``a_0000``, for its first channel, and its mask ``a``."""
    return stem.removesuffix("_0000")


def _as_images(stems: list[str], images: dict[str, Path]) -> Callable[[str], str]:
    """How stems of masks or of a table's rows are read: with a channel too where so they are those of the images."""
    return _without_channel if set(map(_without_channel, stems)) == images.keys() else str


def _matching(images: dict[str, Path], folder: object, parameter: str) -> dict[str, Path]:
    """Masks by the stems of the images, each with one; none without a folder."""
    if not folder:
        return {}
    found = _files(str(folder), parameter)
    found = _named(found, parameter, _as_images([_stem(path.name) for path in found], images))
    for lacking, where in ((images.keys() - found.keys(), parameter), (found.keys() - images.keys(), "ct_dir")):
        if lacking:
            raise ClaimbookError(f"{where} has no {_listed(sorted(lacking))}: images and masks go by equal names")
    return found


def _cohorts(path: object, images: dict[str, Path]) -> dict[str, dict[str, str]]:
    """Cohort, patient and contrast by stem, of a table with stem, cohort and, if it likes, patient and contrast."""
    if not path:
        return {}
    file = Path(str(path)).name
    table = own_tables.rows(str(path), ("stem", "cohort"), ("patient", "contrast"))
    rows = [{name: "" if value is None else str(value).strip() for name, value in row.items()} for _, row in table]
    stems = [_stem(row["stem"]) for row in rows]
    stems = list(map(_as_images(stems, images), stems))
    if twice := [stem for stem, count in Counter(stems).items() if count > 1]:
        raise ClaimbookError(f"{file}: {_listed(twice)} on several lines: one line a scan")
    for lacking, where in ((images.keys() - set(stems), file), (set(stems) - images.keys(), "ct_dir")):
        if lacking:
            raise ClaimbookError(f"{where} has no {_listed(sorted(lacking))}: one line for each image")
    if empty := [stem for stem, row in zip(stems, rows, strict=True) if not row["cohort"]]:
        raise ClaimbookError(f"{file}: no cohort for {_listed(empty)}")
    return {
        stem: {"cohort": row["cohort"], "patient": row["patient"] or stem, "contrast": row["contrast"]}
        for stem, row in zip(stems, rows, strict=True)
    }


# --- what is in them --------------------------------------------------------------------------------------------------


def _image(path: Path) -> nibabel.Nifti1Image:
    """A NIfTI file or DICOM series, its axes turned towards right, anterior and superior; header checked."""
    image = dicom.read(path) if path.is_dir() else _nifti(path)
    if image.ndim == 4 and image.shape[3] == 1:
        image = image.slicer[..., 0]
    if image.ndim != 3 or min(image.shape) < 2:
        _refuse(path, f"its shape is {image.shape}: one volume of several slices is needed")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        _refuse(path, "its affine is no map to space: export it anew")
    _same_sizes(path, image)
    image = nibabel.as_closest_canonical(image)
    sides = spacing(image.affine)
    if not all(SIDE_MM[0] <= side <= SIDE_MM[1] for side in sides):
        said = " x ".join(f"{side:.3g}" for side in sides)
        _refuse(path, f"voxels of {said} mm are none of a CT: is the header in mm?")
    return image


def _nifti(path: Path) -> nibabel.Nifti1Image:
    try:
        if path.name.lower().endswith(".gz"):
            _whole(path)
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            _refuse(path, "it is no NIfTI file: convert it, for example with dcm2niix")
        np.asanyarray(image.dataobj)  # a file that was cut short shows here
    except MemoryError:
        _refuse(path, "its header asks for more memory than there is: it is damaged, or too large for this machine")
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        why = str(error).splitlines()[0] if str(error) else "it ends early"
        _refuse(path, f"it cannot be read ({why}): copy or export it anew")
    if not (image.header["qform_code"] or image.header["sform_code"]):
        _refuse(path, "its header does not say where it lies (qform and sform code 0): export it anew")
    if (unit := int(image.header["xyzt_units"]) % 8) not in (0, 2):  # unsaid, mm
        unit = {1: "metres", 3: "micrometres"}.get(unit, f"a unit {unit}, which there is not")
        _refuse(path, f"its header counts in {unit}: export it in mm")
    return image


def _whole(path: Path) -> None:
    """Read a compressed file to its end, where its checksum stands: nibabel stops before that."""
    with gzip.open(path) as file:
        while file.read(1 << 20):
            pass


def _same_sizes(path: Path, image: nibabel.Nifti1Image) -> None:
    """Refuse a header whose two statements of the voxel's size differ: one of them lies, and a volume hangs on it."""
    stated, placed = image.header.get_zooms()[:3], nibabel.affines.voxel_sizes(image.affine)
    if not any(np.allclose(stated, sides, rtol=NEAR) for sides in (placed, spacing(image.affine))):
        said = (" x ".join(f"{side:.3g}" for side in sides) for sides in (stated, placed))
        _refuse(path, f"its header gives voxels of {next(said)} mm and an affine of {next(said)} mm: export it anew")


def spacing(affine: np.ndarray) -> tuple[float, float, float]:
    """Sides in mm whose product is the volume of a voxel: of slices that a tilted gantry shears, the distance apart."""
    x = nibabel.affines.voxel_sizes(affine)[0]
    across = np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1]))  # area of a voxel within its slice
    between = abs(np.linalg.det(affine[:3, :3])) / across
    return float(x), float(across / x), float(between)


def _hu(path: Path, image: nibabel.Nifti1Image) -> np.ndarray:
    """The image in HU, padding and what is brighter than metal cut off. Refused where it cannot be HU."""
    _plain(path, image, "give HU")
    hu = np.asarray(image.dataobj, dtype=np.float32)
    if not np.isfinite(hu).all():
        _refuse(path, "it holds voxels that are no numbers: export it anew")
    inside = hu[hu >= LEAST_HU]
    for lacks, what in ((not (inside <= AIR_HU).any(), "air"), (not (inside > AIR_HU).any(), "tissue")):
        if lacks:
            said = f"its values run from {hu.min():.0f} to {hu.max():.0f}, with no {what}"
            _refuse(path, f"{said}: give HU; a rescale slope and intercept may be missing, or applied twice")
    return np.clip(hu, LEAST_HU, 3071)


def _plain(path: Path, image: nibabel.Nifti1Image, wanted: str) -> None:
    if np.issubdtype(image.get_data_dtype(), np.complexfloating) or image.get_data_dtype().fields:
        _refuse(path, f"its voxels are colours or complex numbers: {wanted}")


def _mask(path: Path, image: nibabel.Nifti1Image) -> np.ndarray:
    """A mask of 0 and 1 on the grid of the image."""
    mask = _image(path)
    _plain(path, mask, "give 0 and 1, 1 for ascites")
    if mask.shape != image.shape:
        _refuse(path, f"{mask.shape} voxels, and its image has {image.shape}: resample it to the image")
    if not np.allclose(mask.affine, image.affine, atol=NEAR):
        _refuse(path, "its header places it elsewhere than its image: resample it to the image")
    voxels = np.asarray(mask.dataobj)
    values = np.unique(voxels)
    if not np.isclose(values[:, None], (0, 1), rtol=0, atol=1e-4).any(axis=1).all():  # 255 / 255 may be 0.9999999
        _refuse(path, f"it holds {_listed([f'{value:g}' for value in values])}: give 0 and 1, 1 for ascites")
    return voxels > 0.5


def _refuse(path: Path, said: str) -> Never:
    raise ClaimbookError(f"'{path.name}': {said}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
