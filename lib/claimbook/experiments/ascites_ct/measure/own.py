"""The same rows of a reader's own scans. What only a simulation can know, such as the cavity, is NaN or left out."""

import math
from collections.abc import Iterator

import numpy as np

from claimbook.experiments.ascites_ct.measure import scans, window
from claimbook.experiments.ascites_ct.measure.scans import Row, Score, Segment
from claimbook.experiments.ascites_ct.own_files import Scan


def rows(found: list[Scan], trained: dict[str, Segment]) -> Iterator[Row]:
    """One row a scan, opened one after another; arm "given" is the mask that the reader's own model made."""
    for scan in found:
        image, truth, given, spacing = scan.open()
        masks = scans.thresholds(image, spacing, window.fitted()["whole"]) | ({} if given is None else {"given": given})
        masks |= {name: segment(image, spacing) for name, segment in trained.items()}
        ml = math.nan if truth is None else scans.ml_of(truth, spacing)
        yield Row(
            scan.name,
            scan.cohort,
            "",
            "",
            scan.contrast,
            round(spacing[2], 3),
            math.nan,
            ml,
            ml,
            math.nan,
            {},
            {name: _score(mask, truth, spacing) for name, mask in masks.items()},
        )


def _score(mask: np.ndarray | float, truth: np.ndarray | None, spacing) -> Score:
    """As `scans.score`; without a truth the segmented volume alone."""
    if truth is None and isinstance(mask, np.ndarray):
        return scans.score(scans.ml_of(mask, spacing), mask, spacing)
    return scans.score(mask, truth, spacing)
