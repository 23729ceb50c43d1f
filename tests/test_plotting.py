"""Figures read on a phone, on light and dark pages, and without colour."""

import io

import numpy as np
import pytest
from matplotlib import colors
from PIL import Image

from claimbook import plotting
from claimbook.errors import ClaimbookError
from claimbook.stats import Estimate


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = np.array(colors.to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_and_lines_stand_out_from_the_card():
    assert contrast(plotting.INK, plotting.CARD) > 7
    assert all(contrast(colour, plotting.CARD) > 3 for colour in plotting.COLOURS)


def test_series_differ_without_colour():
    looks = list(zip(map(str, plotting.LINES), plotting.MARKERS, strict=True))
    assert len(set(plotting.LINES)) == len(set(plotting.MARKERS)) == len(set(looks)) == len(plotting.COLOURS)


def test_every_kind_of_figure_becomes_a_small_png():
    rng = np.random.default_rng(0)
    fig, axes = plotting.figure(1, 3)
    x = np.arange(50)
    plotting.curves(axes[0], {"a": (x, x), "b": (x, x + 1, x, x + 2)}, xlabel="token", ylabel="loss")
    plotting.reference_line(axes[0], 20)
    ratios = {"a": Estimate(2, 1.5, 2.5, 24, "", "log"), "b": Estimate(1, np.nan, np.nan, 1, "", "log")}
    plotting.interval_plot(axes[1], ratios, xlabel="ratio")
    plotting.region(axes[1], 1.1, np.inf)
    plotting.reference_line(axes[1], 2, axis="x")
    plotting.heatmap(axes[2], rng.random((600, 600)), xlabel="key", ylabel="query", label="attention")
    image = plotting.show(fig, "toy")
    assert len(image.data) <= plotting.LARGEST
    assert Image.open(io.BytesIO(image.data)).width >= 350


def test_text_is_legible_on_a_phone():
    """At 350 pixels for the width of a figure, 12 points are at least 9 pixels."""
    fig, ax = plotting.figure()
    ax.plot([0, 1])
    plotting.png(fig, "exact")
    sizes = [label.get_fontsize() for label in [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label]]
    assert min(sizes) / 72 / plotting.WIDTH * 350 >= 9


@pytest.mark.parametrize("fidelity", ["", "Exact", "smoke", None])
def test_a_figure_names_its_fidelity(fidelity):
    fig, _ = plotting.figure()
    with pytest.raises(ClaimbookError, match="exact, reduced or toy"):
        plotting.png(fig, fidelity)


def test_a_figure_that_stays_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(plotting, "LARGEST", 1000)
    fig, _ = plotting.figure()
    with pytest.raises(ClaimbookError, match="show less"):
        plotting.png(fig, "exact")


def test_axes_without_data_say_so():
    fig, axes = plotting.figure(1, 2)
    axes[0].plot([1, 2], [1, 2])
    plotting.png(fig, "reduced")
    assert [text.get_text() for text in axes[1].texts] == ["not measured in this run"]
    assert not axes[0].texts
