"""The paper's training cohort in the public index: every CT series of TCGA-OV that Imaging Data Commons holds.

``data/ascites_ct/tcga_ov_series.csv`` is derived from the index, and derived again by::

    claimbook fetch idc-index
    python -m claimbook.experiments.ascites_ct.cohort

That needs pyarrow (``pip install pyarrow``), which the book does not install. Everything else reads the CSV.
"""

import csv
import re
from dataclasses import dataclass, fields
from pathlib import Path

from claimbook import paths
from claimbook.errors import ClaimbookError

ASSET = "idc-index"
FILE = "tcga_ov_series.csv"
COLUMNS = {  # of the index, by our name
    "patient": "PatientID",
    "age": "PatientAge",
    "sex": "PatientSex",
    "date": "StudyDate",
    "slices": "instanceCount",
    "manufacturer": "Manufacturer",
    "scanner": "ManufacturerModelName",
    "description": "SeriesDescription",
    "series": "SeriesInstanceUID",
}


@dataclass(frozen=True)
class Series:
    """One CT series. ``age`` in years on its day, None where the index has none; ``date`` as 2001-12-31 (shifted)."""

    patient: str
    age: int | None
    sex: str
    date: str
    slices: int
    manufacturer: str
    scanner: str
    description: str
    series: str


def series() -> list[Series]:
    """All CT series of TCGA-OV, by patient, date and series."""
    with (paths.chapter_data("ascites_ct") / FILE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return [
        Series(**row | {"age": int(row["age"]) if row["age"] else None, "slices": int(row["slices"])}) for row in rows
    ]


def patients(found: list[Series] | None = None) -> list[Series]:
    """The earliest series of each patient, one with an age before one without."""
    first: dict[str, Series] = {}
    for one in sorted(series() if found is None else found, key=lambda one: (one.age is None, one.date, one.series)):
        first.setdefault(one.patient, one)
    return [first[patient] for patient in sorted(first)]


def years(age: str | None) -> int | None:
    """A DICOM age ("066Y") in whole years; None where it is empty.

    ValueError for any other form, such as months: none of these patients has one.
    """
    if not age:
        return None
    if not (found := re.fullmatch(r"(\d{3})Y", age)):
        raise ValueError(f"'{age}' is no age in years as DICOM writes it")
    return int(found[1])


def derive() -> None:
    """Write the CSV anew from the asset `ASSET`. ClaimbookError where pyarrow is not installed."""
    from claimbook.assets import catalogue

    try:
        from pyarrow import parquet
    except ImportError:
        raise ClaimbookError("reading the index needs pyarrow: pip install pyarrow") from None
    of = [("collection_id", "=", "tcga_ov"), ("Modality", "=", "CT")]
    table = parquet.read_table(catalogue.get(ASSET), columns=list(COLUMNS.values()), filters=of).to_pylist()
    rows = [{name: row[column] for name, column in COLUMNS.items()} for row in table]
    rows = [row | {"age": years(row["age"]), "date": str(row["date"])} for row in rows]
    source = catalogue.info(ASSET).files[0]
    _write(paths.chapter_data("ascites_ct") / FILE, f"# from {source.name}, sha256 {source.sha256}, MIT", rows)


def _write(path: Path, header: str, rows: list[dict]) -> None:
    rows = sorted(rows, key=lambda row: (row["patient"], row["date"], row["series"]))
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{header}\n")
        writer = csv.DictWriter(file, [field.name for field in fields(Series)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    derive()
