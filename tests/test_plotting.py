"""Figures read on a phone, on light and dark pages, and without colour."""

import io
import re
import warnings

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
    axes[2].imshow(rng.random((600, 600)))
    image = plotting.show(plotting.Plot(fig, "three kinds"), "toy")
    assert len(image.data) <= plotting.LARGEST
    assert Image.open(io.BytesIO(image.data)).width >= 350


def test_text_is_legible_on_a_phone():
    """At 350 pixels for the width of a figure, 12 points are at least 9 pixels."""
    fig, ax = plotting.figure()
    ax.plot([0, 1])
    plotting.png(plotting.Plot(fig, "a line"), "exact")
    sizes = [label.get_fontsize() for label in [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label]]
    assert min(sizes) / 72 / plotting.WIDTH * 350 >= 9


@pytest.mark.parametrize("fidelity", ["", "Exact", "smoke", None])
def test_a_figure_names_its_fidelity(fidelity):
    fig, _ = plotting.figure()
    with pytest.raises(ClaimbookError, match="exact, reduced or toy"):
        plotting.png(plotting.Plot(fig, "a line"), fidelity)


def test_a_figure_that_stays_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(plotting, "LARGEST", 1000)
    fig, _ = plotting.figure()
    with pytest.raises(ClaimbookError, match="show less"):
        plotting.png(plotting.Plot(fig, "a line"), "exact")


def test_axes_without_data_say_so():
    fig, axes = plotting.figure(1, 2)
    axes[0].plot([1, 2], [1, 2])
    plotting.png(plotting.Plot(fig, "a line"), "reduced")
    assert [text.get_text() for text in axes[1].texts] == ["not measured in this run"]
    assert not axes[0].texts


def test_a_figure_says_what_it_shows():
    fig, ax = plotting.figure()
    ax.plot([1, 2], [1, 2])
    shown = plotting.show(plotting.Plot(fig, "a line & more", title="It <rises>", caption="Read left to right."), "toy")
    assert str(shown) == "It <rises>"
    for words in ("It &lt;rises&gt;", 'aria-label="a line &amp; more"', "<figcaption>Read left", ">toy</text>"):
        assert words in shown.html
    with pytest.raises(ClaimbookError, match="without alt text"):
        plotting.Plot(fig, " ")


def test_a_figure_takes_the_colours_of_the_page():
    fig, ax = plotting.figure()
    plotting.curves(ax, {"a": ([1, 2], [1, 2]), "b": ([1, 2], [2, 1])}, xlabel="token", ylabel="loss")
    drawn = plotting.show(plotting.Plot(fig, "two lines"), "reduced").html
    assert "var(--plot-0, #0072b2)" in drawn and "var(--plot-1, #c44e00)" in drawn and "currentColor" in drawn
    assert plotting.CARD not in drawn and f"fill: {plotting.INK}" not in drawn
    assert "http" not in drawn


def test_ids_of_two_figures_do_not_meet():
    ids = []
    for alt in ("one", "two"):
        fig, ax = plotting.figure()
        plotting.curves(ax, {"a": ([1, 2], [1, 2])}, xlabel="token", ylabel="loss")
        ids.append(set(re.findall(r' id="([^"]+)"', plotting.show(plotting.Plot(fig, alt), "toy").html)))
    assert all(ids) and not ids[0] & ids[1]


def test_a_figure_too_large_for_a_vector_is_an_image():
    fig, ax = plotting.figure()
    ax.scatter(*np.random.default_rng(0).random((2, 3000)))
    drawn = plotting.show(plotting.Plot(fig, "a cloud"), "toy").html
    assert '<img alt="a cloud" src="data:image/png;base64,' in drawn and "<svg" not in drawn


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("smollm2-135m", "SmolLM2"),
        ("gemma-3-270m", "Gemma-3"),
        ("llama-2-7b", "llama-2"),
        ("/home/anna/runs/checkpoint-1500", "checkpoint-1500"),
        ("/cache/hub/models--me--chatty/snapshots/" + "0123456789" * 4, "chatty"),
        ("/cache/hub/models--gpt2/snapshots/" + "0123456789" * 4, "gpt2"),
        ("/models/" + "a" * 40, "a" * 23 + "…"),
    ],
)
def test_a_model_is_named_in_short_and_without_its_path(model, named):
    assert plotting.model_name(model) == named


def test_a_legend_of_nothing_is_none():
    _, ax = plotting.figure()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plotting.legend(ax)
    assert ax.get_legend() is None
