"""From rows to the ledger's parts: {claim: {part: measurement}}. Nothing is measured here."""

from claimbook.experiments.chapter_name.inputs import SIZES
from claimbook.experiments.chapter_name.measure import Row

from claimbook.claims.verdicts import Measurement
from claimbook.experiments.units import columns
from claimbook.stats import mean


def scatters(rows: list[Row]) -> dict[str, dict[str, Measurement]]:
    """C1: scatter of averages of 25 draws over that of averages of 100."""
    by_size = columns(row.scatter for row in rows)  # (seeds, sizes)
    few, many = (by_size[:, SIZES.index(size)] for size in (25, 100))
    return {"C1": {"halved": mean(few / many, unit="seeds")}}
