"""Draws rows; measures nothing."""

import numpy as np
from claimbook.experiments.chapter_name.inputs import SIZES

from claimbook import plotting
from claimbook.experiments.units import columns


def scatters(rows):
    """Scatter by draws in an average, beside the paper's law."""
    low, middle, high = np.quantile(columns(row.scatter for row in rows), [0.05, 0.5, 0.95], axis=0)
    law = middle[0] * np.sqrt(SIZES[0] / np.array(SIZES))
    fig, ax = plotting.figure()
    lines = {"median over seeds, 90 % of them": (SIZES, middle, low, high), "one over the root of n": (SIZES, law)}
    plotting.curves(ax, lines, xlabel="draws in an average", ylabel="scatter of averages")
    return plotting.Plot(
        fig,
        title=f"Averages of 100 draws scatter by {middle[SIZES.index(100)]:.3f}, those of 25 by {middle[0]:.3f}",
        caption="The dashed line is the paper's law, through the first point.",
        alt="Scatter of averages against the number of draws: measured, and falling as one over the root of n.",
    )
