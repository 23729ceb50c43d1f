"""A figure on a chapter's page, or the line that stands in its place."""

from claimbook import plotting
from claimbook.display.tables import Shown
from claimbook.plotting import Plot


def show(plot: Plot | str, fidelity: str):
    """A figure, finished for a notebook; or, as a string, the line that says why there is nothing to draw."""
    return Shown(f"<p>{plot}</p>", plot) if isinstance(plot, str) else plotting.show(plot, fidelity)
