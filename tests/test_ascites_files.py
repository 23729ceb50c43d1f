"""A reader's own scans: what is clearly meant is measured right, what would be measured wrong is refused."""

import gzip
import math
import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from claimbook.errors import ClaimbookError
from claimbook.experiments.ascites_ct import baselines, own_files
from claimbook.experiments.ascites_ct.measure import own, window
from claimbook.papers import ascites_ct as method

SHAPE, SIDES = (14, 11, 8), (2.0, 2.5, 5.0)
AFFINE = np.diag([*SIDES, 1.0])
AFFINE[:3, 3] = (-20, 30, 400)


def body() -> np.ndarray:
    """A box of soft tissue in air, brighter towards one corner, so that no two orientations look alike."""
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    hu[2:12, 2:9, 1:7] = 40 + np.add.outer(np.add.outer(np.arange(10), 2 * np.arange(7)), 3 * np.arange(6))
    return hu


def pool() -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[3:9, 2:5, 1:6] = 1
    return mask


ML = 6 * 3 * 5 * math.prod(SIDES) / 1000


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, **header) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """One scan "a" with its mask; the fitted threshold, which is a stored run, is the usual one."""
    monkeypatch.setattr(window, "fitted", lambda: {"whole": baselines.WATER})
    write(tmp_path / "ct" / "a.nii.gz", body())
    write(tmp_path / "labels" / "a.nii.gz", pool())
    return tmp_path


def given(folder: Path, **more: str) -> dict:
    """Parameters that name the folders that there are."""
    parts = {"ct_dir": "ct", "label_dir": "labels", "prediction_dir": "predictions"}
    own = {name: str(folder / part) if (folder / part).exists() else "" for name, part in parts.items()}
    return own | {"cohort_csv": ""} | more


def opened(folder: Path):
    (scan,) = own_files.load(given(folder))
    return scan.open()


def assert_right(found) -> None:
    """The image and mask as they were written, and the volume that can be counted by hand."""
    image, truth, _, spacing = found
    np.testing.assert_array_equal(image, body())
    np.testing.assert_array_equal(truth, pool() == 1)
    assert method.volume_ml(truth, spacing) == pytest.approx(ML, rel=1e-4)


def refused(folder: Path, **more: str) -> str:
    with pytest.raises(ClaimbookError) as caught:
        own_files.check(given(folder, **more))
    said = str(caught.value)
    assert "\n" not in said
    return said


# --- what is clearly meant --------------------------------------------------------------------------------------------


def test_an_anisotropic_scan_has_its_own_volume(folder):
    assert_right(opened(folder))


@pytest.mark.parametrize("codes", ["LPS", "RAI", "SPR", "ILA"])
def test_a_flipped_or_turned_file_is_turned_back(folder, codes):
    plain = nibabel.load(folder / "ct" / "a.nii.gz")
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(plain.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    nibabel.save(plain.as_reoriented(turn), folder / "ct" / "a.nii.gz")
    assert_right(opened(folder))


def test_one_volume_of_four_dimensions_is_that_volume(folder):
    write(folder / "ct" / "a.nii.gz", body()[..., None])
    assert_right(opened(folder))


def test_an_oblique_scan_keeps_its_volume(folder):
    turned = AFFINE.copy()
    cos, sin = math.cos(0.3), math.sin(0.3)
    turned[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ AFFINE[:3, :3]
    for name, voxels in (("ct", body()), ("labels", pool())):
        write(folder / name / "a.nii.gz", voxels, turned)
    assert_right(opened(folder))


def test_a_sheared_scan_counts_the_distance_between_its_slices(folder):
    """Slices of a tilted gantry, 5 mm apart, each 1.5 mm further to the front: a voxel's volume is as before."""
    tilted = AFFINE.copy()
    tilted[1, 2] = 1.5
    for name, voxels in (("ct", body()), ("labels", pool())):
        write(folder / name / "a.nii.gz", voxels, tilted)
    assert_right(opened(folder))


def test_stored_rescaling_is_applied_and_padding_is_air(folder):
    stored = body() + np.int16(1024)
    stored[:2] = -976  # padding, -2000 HU
    image = nibabel.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(1.0, -1024.0)
    nibabel.save(image, folder / "ct" / "a.nii.gz")
    hu = opened(folder)[0]
    assert hu[:2].max() == -1024
    np.testing.assert_allclose(hu[2:], body()[2:], atol=1)


def test_a_mask_that_is_nearly_one_is_one(folder):
    write(folder / "labels" / "a.nii.gz", pool() * np.float32(0.9999999))
    assert_right(opened(folder))


def test_an_empty_mask_is_a_scan_without_ascites(folder):
    write(folder / "labels" / "a.nii.gz", np.zeros(SHAPE, np.uint8))
    (row,) = own.rows(own_files.load(given(folder)), {})
    assert row.ml == 0 and math.isnan(row.arms["threshold"].dice) and math.isfinite(row.arms["threshold"].wrong_ml)


def test_a_model_of_the_readers_own_is_scored(folder):
    predicted = pool()
    predicted[3:5] = 0
    write(folder / "predictions" / "a.nii.gz", predicted)
    (row,) = own.rows(own_files.load(given(folder)), {"half": lambda image, spacing: pool() == 1, "ml": lambda *_: 7.5})
    assert row.arms["given"].dice == pytest.approx(2 * 60 / (60 + 90), abs=1e-5)
    assert row.arms["given"].ml == pytest.approx(ML * 60 / 90, rel=1e-3)
    assert row.arms["half"].dice == 1 and row.arms["ml"].ml == 7.5
    assert row.ml == pytest.approx(ML, rel=1e-3)


def test_without_a_mask_there_is_a_volume_and_no_overlap(folder):
    (folder / "labels" / "a.nii.gz").unlink()
    (folder / "labels").rmdir()
    (row,) = own.rows(own_files.load(given(folder)), {"net": lambda image, spacing: pool() == 1})
    assert math.isnan(row.ml) and math.isnan(row.arms["net"].dice) and math.isnan(row.arms["net"].wrong_ml)
    assert row.arms["net"].ml == pytest.approx(ML, rel=1e-3)


def test_cohorts_come_from_the_table(folder):
    table = folder / "cohorts.csv"
    table.write_text("﻿stem,cohort,age,contrast\na,Ward 3,61,none\n", encoding="utf-8")
    (scan,) = own_files.load(given(folder, cohort_csv=str(table)))
    assert (scan.name, scan.cohort, scan.contrast) == ("a", "Ward 3", "none")
    assert own_files.load(given(folder))[0].cohort == "own scans"


def test_a_table_may_name_files_as_they_are_called(folder):
    """With their endings; and a Mac writes an accent of a file's name as a character of its own."""
    for place in ("ct", "labels"):
        (folder / place / "a.nii.gz").rename(folder / place / "e\u0301_0000.nii.gz")
    table = folder / "cohorts.csv"
    for name in ("\u00e9", "\u00e9.nii.gz", "e\u0301_0000.NII.GZ"):
        table.write_text(f"stem,cohort\n{name},Ward 3\n", encoding="utf-8")
        (scan,) = own_files.load(given(folder, cohort_csv=str(table)))
        assert (scan.name, scan.patient, scan.cohort) == ("\u00e9", "\u00e9", "Ward 3")
    assert_right(opened(folder))


def test_cases_of_nnunet_may_be_counted_from_0000(folder):
    (folder / "ct" / "a.nii.gz").rename(folder / "ct" / "case_0000_0000.nii.gz")
    (folder / "labels" / "a.nii.gz").rename(folder / "labels" / "case_0000.nii.gz")
    assert_right(opened(folder))
    (folder / "ct" / "case_0000_0000.nii.gz").rename(folder / "ct" / "case_0000.nii.gz")  # without a channel
    assert_right(opened(folder))


def test_the_root_of_a_data_set_is_no_folder_of_scans(folder):
    (folder / "dataset").mkdir()
    (folder / "ct").rename(folder / "dataset" / "imagesTr")
    said = refused(folder, ct_dir=str(folder / "dataset"), label_dir="")
    assert (
        said == "'imagesTr': it holds NIfTI files, which are not looked for in a folder of a folder: name it as ct_dir"
    )


def test_names_of_nnunet_are_matched(folder):
    (folder / "ct" / "a.nii.gz").rename(folder / "ct" / "a_0000.nii.gz")
    assert_right(opened(folder))


def test_nothing_given_is_nothing_to_read(tmp_path):
    assert own_files.load(given(tmp_path)) == []


# --- DICOM ------------------------------------------------------------------------------------------------------------


def series(place: Path, shift: float = 0.0, order=range(SHAPE[2]), **change) -> Path:
    """Slices as a scanner writes them: rows to the back, columns to the left, each slice ``shift`` further back."""
    place.mkdir(parents=True, exist_ok=True)
    uid, voxels = generate_uid(), body()[::-1, ::-1]  # towards the left and the back
    left, back = (-(AFFINE[i, 3] + (SHAPE[i] - 1) * SIDES[i]) for i in (0, 1))
    for number, z in enumerate(order):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID, one.file_meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        one.SOPClassUID, one.SOPInstanceUID, one.SeriesInstanceUID = CTImageStorage, generate_uid(), uid
        one.Modality, one.PhotometricInterpretation, one.SamplesPerPixel = "CT", "MONOCHROME2", 1
        one.ImageOrientationPatient, one.PixelSpacing = [1, 0, 0, 0, 1, 0], [SIDES[1], SIDES[0]]
        one.ImagePositionPatient = [left, back + shift * z, AFFINE[2, 3] + SIDES[2] * z]
        one.SliceThickness = 1.0  # a header that lies
        one.Rows, one.Columns = SHAPE[1], SHAPE[0]
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.PixelData = (voxels[:, :, z].T.astype(int) + 1024).astype(np.uint16).tobytes()
        for name, value in change.items():
            if value is None:
                delattr(one, name)
            else:
                setattr(one, name, value)
        one.save_as(place / f"{number:03d}.dcm", enforce_file_format=True)
    return place


@pytest.fixture
def dicoms(folder) -> Path:
    (folder / "ct" / "a.nii.gz").unlink()
    return folder


@pytest.mark.parametrize("order", [range(SHAPE[2]), [3, 0, 7, 1, 6, 2, 5, 4]], ids=["in order", "shuffled"])
def test_a_series_is_read_by_the_places_of_its_slices(dicoms, order):
    series(dicoms / "ct" / "a", order=order)
    assert_right(opened(dicoms))


def test_a_tilted_gantry_keeps_the_volume(dicoms):
    series(dicoms / "ct" / "a", shift=1.5)
    (dicoms / "labels" / "a.nii.gz").unlink()
    (dicoms / "labels").rmdir()
    *_, spacing = opened(dicoms)
    assert math.prod(spacing) == pytest.approx(math.prod(SIDES), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order": [0, 1, 2, 4, 5, 6, 7]}, "are some missing"),
        ({"order": [0, 1, 2, 2, 3]}, "at one place"),
        ({"order": [0]}, "1 DICOM slices"),
        ({"Modality": "MR"}, "modality MR, not CT"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
        ({"ImagePositionPatient": None}, "no ImagePositionPatient"),
        ({"PixelSpacing": None}, "no PixelSpacing"),
        ({"NumberOfFrames": 3}, "several frames"),
        ({"RescaleIntercept": 0}, "rescale slope and intercept"),
        ({"RescaleIntercept": None, "RescaleSlope": None}, "rescale slope and intercept"),
        ({"PixelData": b"\0\0"}, "pixels of 000.dcm cannot be read"),
        ({"RescaleIntercept": "", "RescaleSlope": ""}, "000.dcm: its rescale slope or intercept is no number"),
        ({"PixelSpacing": [0, 0]}, "000.dcm: its pixels have no size"),
        ({"Rows": [8, 8]}, "000.dcm: its pixels have no size, or no number"),
        ({"ImageOrientationPatient": [0] * 6}, "do not stand at right angles"),
        ({"PixelSpacing": 2.0}, "PixelSpacing is not 2 numbers"),
        ({"ImagePositionPatient": [0.0, 1.0]}, "ImagePositionPatient is not 3 numbers"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1]}, "ImageOrientationPatient is not 6 numbers"),
        ({"RescaleSlope": 0}, "with no tissue"),
        ({"RescaleSlope": 0.01}, "with no tissue"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_a_series_that_lies_is_refused(dicoms, change, said):
    series(dicoms / "ct" / "a", **change)
    assert said in refused(dicoms)


def test_a_data_set_that_was_fetched_in_part_is_refused(dicoms):
    """Its files are links, some of them to nothing: left out, they would take their part of the volume with them."""
    place, store = series(dicoms / "ct" / "a"), dicoms / "store"
    place.rename(store)
    place.mkdir()
    for path in sorted(store.iterdir()):
        (place / path.name).symlink_to(path)
    assert_right(opened(dicoms))
    for name in ("006.dcm", "007.dcm"):
        (store / name).unlink()
    assert "2 of its slices are links to nothing, 006.dcm first" in refused(dicoms)
    (dicoms / "ct" / "b").symlink_to(dicoms / "gone")
    assert "ct_dir: b is a link to nothing" in refused(dicoms)


def test_a_direction_may_be_written_in_several_ways(dicoms):
    place = series(dicoms / "ct" / "a")
    for number, written in enumerate(("1.0", "1.00000001", "1")):
        one = pydicom.dcmread(place / f"00{number}.dcm")
        one.ImageOrientationPatient = [written, "-0", "0", "0.0", "1", "-0.0"]
        one.save_as(place / f"00{number}.dcm")
    (place / ".DS_Store").write_bytes(b"Bud1")
    assert_right(opened(dicoms))
    one.ImageOrientationPatient = [0.8, 0.6, 0, -0.6, 0.8, 0]
    one.save_as(place / "002.dcm")
    assert "slices of several orientations" in refused(dicoms)


def test_decimal_commas_in_a_header_are_refused(dicoms):
    for path in series(dicoms / "ct" / "a").iterdir():
        path.write_bytes(path.read_bytes().replace(b"2.5\\2.0", b"2,5\\2,0"))
    assert "PixelSpacing is not 2 numbers" in refused(dicoms)


@pytest.mark.parametrize("other", [None, "0", "-1000"])
def test_a_slice_that_is_scaled_by_itself_is_refused(dicoms, other):
    place = series(dicoms / "ct" / "a", RescaleIntercept="-1024.0")
    one = pydicom.dcmread(place / "004.dcm")
    one.RescaleIntercept = "-1024"
    one.save_as(place / "004.dcm")
    opened(dicoms)
    if other is None:
        del one.RescaleIntercept
    else:
        one.RescaleIntercept = other
    one.save_as(place / "004.dcm")
    assert "004.dcm has another rescale slope or intercept than most slices (1 of 8 do)" in refused(dicoms)


def test_a_slice_with_a_damaged_element_is_named(dicoms):
    path = series(dicoms / "ct" / "a") / "004.dcm"
    path.write_bytes(path.read_bytes().replace(b"CS\x02\x00CT", b"HS\x02\x00CT"))
    assert "004.dcm is damaged (Unknown Value Representation 'HS'" in refused(dicoms)


def test_two_series_in_a_folder_are_refused(dicoms):
    series(dicoms / "ct" / "a")
    for path in series(dicoms / "ct" / "b").iterdir():
        path.rename(dicoms / "ct" / "a" / f"b{path.name}")
    (dicoms / "ct" / "b").rmdir()
    assert "2 series" in refused(dicoms)
    (dicoms / "ct" / "a" / "notes.txt").write_text("seen by nobody")
    assert "notes.txt is no DICOM file" in refused(dicoms)


# --- NIfTI that would be measured wrong -------------------------------------------------------------------------------


def other_zooms(folder: Path) -> None:
    image = nibabel.load(write(folder / "ct" / "a.nii.gz", body()))
    image = nibabel.Nifti1Image(body(), AFFINE, image.header)
    image.header["pixdim"][1:4] = (1, 1, 1)
    image.header["qform_code"] = 0
    nibabel.save(image, folder / "ct" / "a.nii.gz")


def nowhere(folder: Path) -> None:
    image = nibabel.Nifti1Image(body(), None)
    image.header["pixdim"][1:4] = SIDES
    nibabel.save(image, folder / "ct" / "a.nii.gz")


def in_metres(folder: Path) -> None:
    image = nibabel.Nifti1Image(body(), AFFINE)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, folder / "ct" / "a.nii.gz")


def image_of(voxels: np.ndarray, affine: np.ndarray = AFFINE):
    return lambda folder: write(folder / "ct" / "a.nii.gz", voxels, affine)


def label_of(voxels: np.ndarray, affine: np.ndarray = AFFINE):
    return lambda folder: write(folder / "labels" / "a.nii.gz", voxels, affine)


def piped(folder: Path) -> None:
    (folder / "ct" / "a.nii.gz").unlink()
    os.mkfifo(folder / "ct" / "a.nii.gz")


def in_no_unit(folder: Path) -> None:
    held = bytearray(nibabel.Nifti1Image(body(), AFFINE).to_bytes())
    held[123] = 0xFF
    (folder / "ct" / "a.nii.gz").write_bytes(gzip.compress(held))


def coloured(folder: Path) -> None:
    colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, AFFINE), folder / "labels" / "a.nii.gz")


def cut_short(folder: Path) -> None:
    path = folder / "ct" / "a.nii.gz"
    path.write_bytes(path.read_bytes()[:300])


def changed_within(folder: Path) -> None:
    path = folder / "ct" / "a.nii.gz"
    held = bytearray(path.read_bytes())
    held[-6] ^= 255  # of the checksum, which stands at the end
    path.write_bytes(held)


def padded(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.int16)
    values[:2] = -2000  # as some scanners fill what lies outside of what they saw
    return values


def bent(folder: Path) -> None:
    path = folder / "ct" / "a.nii.gz"
    held = bytearray(path.read_bytes())
    held[len(held) // 2 : len(held) // 2 + 40] = b"\xff" * 40
    path.write_bytes(held)


def larger_than_memory(folder: Path) -> None:
    image = nibabel.Nifti1Image(body(), AFFINE)
    held = bytearray(image.to_bytes())
    held[40:56] = np.array([3, 30_000, 30_000, 30_000, 1, 1, 1, 1], dtype=np.int16).tobytes()
    (folder / "ct" / "a.nii.gz").write_bytes(gzip.compress(held))


MOVED = AFFINE + np.array([[0, 0, 0, 3.0], *[[0] * 4] * 3])
THIN = np.diag([0.002, 0.0025, 0.005, 1.0])
NAN = body().astype(np.float32)
NAN[0, 0, 0] = np.nan
FAULTS = {
    "zooms and affine differ": (other_zooms, "voxels of 1 x 1 x 1 mm and an affine of 2 x 2.5 x 5 mm"),
    "no place": (nowhere, "does not say where it lies"),
    "metres": (in_metres, "counts in metres"),
    "a unit that there is not": (in_no_unit, "counts in a unit 7, which there is not"),
    "a pipe": (piped, "ct_dir: a.nii.gz is no ordinary file"),
    "a mask in colours": (coloured, "its voxels are colours or complex numbers: give 0 and 1"),
    "micrometres by mistake": (image_of(body(), THIN), "is the header in mm"),
    "four dimensions": (image_of(np.stack([body()] * 2, axis=-1)), "one volume of several slices"),
    "one slice": (image_of(body()[:, :, :1]), "one volume of several slices"),
    "no rescaling": (image_of((body().astype(int) + 1024).astype(np.int16)), "rescale slope and intercept"),
    "no rescaling, padded": (image_of(padded(body().astype(int) + 1024)), "with no air"),
    "rescaled twice": (image_of((body() * 0.01 - 1024).astype(np.int16)), "with no tissue"),
    "normalised": (image_of(np.interp(body(), (-160, 240), (0, 1)).astype(np.float32)), "no air"),
    "not a number": (image_of(NAN), "no numbers"),
    "cut short": (cut_short, "cannot be read"),
    "another checksum": (changed_within, "cannot be read"),
    "bytes changed": (bent, "cannot be read"),
    "larger than memory": (larger_than_memory, "a.nii.gz"),
    "no NIfTI": (lambda folder: (folder / "ct" / "a.nii.gz").write_bytes(b"hello" * 200), "cannot be read"),
    "label of 255": (label_of(pool() * 255), "it holds 0, 255: give 0 and 1"),
    "many organs": (label_of(pool() * 3 + pool().cumsum(axis=0).astype(np.uint8)), "give 0 and 1"),
    "label of halves": (label_of(pool() * np.float32(0.5)), "give 0 and 1"),
    "label elsewhere": (label_of(pool(), MOVED), "places it elsewhere"),
    "label without header": (label_of(pool(), np.eye(4)), "places it elsewhere"),
    "label of another grid": (label_of(pool()[:-1]), "resample it to the image"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_lies_is_refused(folder, fault, said):
    fault(folder)
    line = refused(folder)
    assert said in line and "a.nii.gz" in line


def test_folders_that_do_not_match_are_refused(folder):
    assert "no folder" in refused(folder, ct_dir="/nowhere/at/all")
    assert "without ct_dir" in refused(folder, ct_dir="")
    write(folder / "ct" / "b.nii.gz", body())
    assert "label_dir has no b" in refused(folder)
    write(folder / "labels" / "b.nii.gz", pool())
    write(folder / "labels" / "c.nii.gz", pool())
    assert "ct_dir has no c" in refused(folder)
    write(folder / "ct" / "b.nii", body())
    assert "several files are called b" in refused(folder)
    (folder / "empty").mkdir()
    assert "holds nothing to read" in refused(folder, ct_dir=str(folder / "empty"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,cohort\na,x\n", "no column stem"),
        ("stem,cohort\na,x\na,y\n", "a on several lines"),
        ("stem,cohort\nb,x\n", "has no a"),
        ("stem,cohort\na,x\nb,x\n", "ct_dir has no b"),
        ("stem,cohort\na,\n", "no cohort for a"),
        ("", "it is empty: give stem, cohort"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(folder, text, said):
    (folder / "cohorts.csv").write_text(text)
    assert said in refused(folder, cohort_csv=str(folder / "cohorts.csv"))


def test_no_scan_of_a_folder_is_passed_over(dicoms):
    """Capitals in a name are no other kind of file, and loose slices beside scans may be half of one."""
    write(dicoms / "ct" / "upper.nii.gz", body()).rename(dicoms / "ct" / "A.NII.GZ")
    (scan,) = own_files.load(given(dicoms, label_dir=""))
    assert scan.name == "A"
    for path in series(dicoms / "loose").iterdir():
        path.rename(dicoms / "ct" / path.name)
    assert "holds scans and loose slices too" in refused(dicoms, label_dir="")


def test_zero_is_a_patient(folder):
    (folder / "cohorts.json").write_text('[{"stem": "a", "cohort": 0, "patient": 0}]')
    (scan,) = own_files.load(given(folder, cohort_csv=str(folder / "cohorts.json")))
    assert (scan.cohort, scan.patient) == ("0", "0")


def test_a_table_that_is_not_there_is_refused(folder):
    assert "no file" in refused(folder, cohort_csv=str(folder / "none.csv"))


def test_a_table_is_read_as_a_spreadsheet_writes_it(folder):
    table = folder / "cohorts.csv"
    table.write_text("Cohort;STEM;Patient\nspring;a;Müller\n;;\n", encoding="utf-16")
    (scan,) = own_files.load(given(folder, cohort_csv=str(table)))
    assert (scan.cohort, scan.patient, scan.contrast) == ("spring", "Müller", "")


# --- the public index -------------------------------------------------------------------------------------------------


def test_the_cohort_is_counted_by_patient_at_the_earliest_scan():
    from claimbook.experiments.ascites_ct import cohort

    found = [
        cohort.Series("p", age, "F", date, 10, "", "", "", uid)
        for age, date, uid in [(61, "2001-05-01", "3"), (60, "2000-01-01", "2"), (None, "1999-01-01", "1")]
    ]
    assert [one.age for one in cohort.patients(found)] == [60]
    assert len(cohort.patients()) == len({one.patient for one in cohort.series()})
    assert [cohort.years(age) for age in ("066Y", "", None)] == [66, None, None]
    with pytest.raises(ValueError, match="no age in years"):
        cohort.years("018M")


# --- a network of full size, cross-validated --------------------------------------------------------------------------


@pytest.mark.slow
def test_cross_validation_runs_from_end_to_end_and_keeps_patients_together(folder):
    from claimbook.experiments.ascites_ct import full_size

    for name in ("b", "c"):
        write(folder / "ct" / f"{name}.nii.gz", body())
        write(folder / "labels" / f"{name}.nii.gz", pool())
    table = folder / "cohorts.csv"
    table.write_text("stem,cohort,patient\na,x,p\nb,x,p\nc,y,q\n")
    plan = full_size.Plan(folds=2, steps=2, grid=(2.5, 2.5, 5.0), patch=(16, 16, 8), filters=(4, 4, 8))
    found = own_files.load(given(folder, cohort_csv=str(table)))
    assert sorted(sorted(scan.name for scan in fold) for fold in full_size.folds(found, plan)) == [["a", "b"], ["c"]]
    rows = list(full_size.rows(found, "cpu", plan))
    assert sorted(row.scan for row in rows) == ["a", "b", "c"]
    assert all(0 <= row.arms["cross-validated"].dice <= 1 for row in rows)
    with pytest.raises(ClaimbookError, match="5 folds need as many patients, ct_dir has 2"):
        full_size.folds(found, plan.model_copy(update={"folds": 5}))
    with pytest.raises(ClaimbookError, match="needs masks"):
        next(full_size.rows(own_files.load(given(folder, label_dir="")), "cpu", plan))
