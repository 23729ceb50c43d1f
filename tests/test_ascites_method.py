"""The measures of the chapter on ascites: each against another implementation, or what can be counted by hand."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, stats
from sklearn.metrics import r2_score, roc_auc_score

from claimbook.experiments.ascites_ct import baselines, phantoms
from claimbook.experiments.ascites_ct.baselines import Setting
from claimbook.experiments.ascites_ct.measure import real, scans, window
from claimbook.papers import ascites_ct as method

pytestmark = pytest.mark.numeric

MASKS = hnp.arrays(bool, (5, 4, 3))
VOLUMES = st.lists(st.tuples(st.floats(1, 5000), st.floats(0, 5000)), min_size=4, max_size=30).filter(
    lambda pairs: min(np.ptp(column) for column in zip(*pairs, strict=True)) > 1
)
PUBLISHED = {"NIH-LC": (0.061, 0.831, 0.878), "NIH-OV": (0.153, 0.764, 0.887), "UofW-LC": (0.107, 0.798, 0.863)}


def ball(radius: float, spacing, size: float = 60.0) -> np.ndarray:
    """Voxels whose centre lies in a ball of ``radius`` mm, off centre, in a cube of ``size`` mm."""
    axes = [np.arange(0, size, side) - size / 2 + 0.37 * side for side in spacing]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 <= radius**2


# --- one scan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 0.7, 5), (0.98, 0.98, 2.5), (4, 4, 4)])
def test_a_ball_has_its_volume_within_a_layer_of_half_voxels(spacing):
    radius = 20
    reach = np.linalg.norm(spacing) / 2  # a voxel is counted wrong only if the surface cuts it
    bounds = [4 / 3 * math.pi * (radius + way * reach) ** 3 / 1000 for way in (-1, 1)]
    assert bounds[0] <= method.volume_ml(ball(radius, spacing), spacing) <= bounds[1]


def test_volume_is_that_of_the_grid_it_is_on():
    mask = np.zeros((4, 5, 6), bool)
    mask[1:3, 1:4, 2:4] = True
    assert method.volume_ml(mask, (0.5, 2.0, 5.0)) == pytest.approx(12 * 5 / 1000)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, -1, 1), (1, 1, math.nan), (1, 1, math.inf)])
def test_a_spacing_that_is_no_length_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing"):
        method.volume_ml(np.ones((2, 2, 2), bool), spacing)


@given(MASKS, MASKS)
@settings(max_examples=60, deadline=None)
def test_dice_is_that_of_monai_and_scipy(predicted, truth):
    import torch
    from monai.metrics import compute_dice

    found = method.dice(predicted, truth)
    theirs = compute_dice(*(torch.tensor(mask)[None, None].float() for mask in (predicted, truth)), ignore_empty=True)
    if not truth.any():
        assert math.isnan(found) and math.isnan(float(theirs))
        return
    assert found == pytest.approx(float(theirs), abs=1e-6)
    from scipy.spatial.distance import dice as dissimilarity

    assert found == pytest.approx(1 - dissimilarity(predicted.ravel(), truth.ravel()))
    assert 0 <= found <= 1
    assert found == method.dice(predicted[::-1], truth[::-1])


@pytest.mark.parametrize("other", [np.ones((5, 4), bool), np.ones((5, 4, 3), float), np.ones((5, 4, 4), bool)])
def test_masks_of_another_kind_or_grid_are_refused(other):
    with pytest.raises(ValueError, match="two boolean masks"):
        method.dice(np.ones((5, 4, 3), bool), other)


def distances_by_scipy(a: np.ndarray, b: np.ndarray, spacing) -> float:
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
    to = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return float(np.concatenate([to[1][edges[0]], to[0][edges[1]]]).mean())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 5.0)])
def test_surface_distance_is_that_of_distance_transforms(spacing):
    rng = np.random.default_rng(0)
    truth = np.pad(ball(12, spacing, 40), 3)
    predicted = ndimage.binary_dilation(truth, iterations=2) & (rng.random(truth.shape) > 0.02)
    found = method.surface_mm(predicted, truth, spacing)
    assert found == pytest.approx(distances_by_scipy(predicted, truth, spacing), rel=1e-4)
    assert method.surface_mm(truth, truth, spacing) == 0
    assert math.isnan(method.surface_mm(np.zeros_like(truth), truth, spacing))


def test_relative_error_is_signed_and_undefined_without_ascites():
    found = method.relative_error([0, 50, 150, 10], [100, 100, 100, 0])
    np.testing.assert_allclose(found, [-1, -0.5, 0.5, np.nan])


# --- a cohort ---------------------------------------------------------------------------------------------------------


@given(VOLUMES)
@settings(max_examples=60, deadline=None)
def test_agreement_of_volumes_is_that_of_scipy_and_scikit_learn(pairs):
    true, predicted = np.array(pairs).T
    assert method.pearson_r2(true, predicted) == pytest.approx(stats.linregress(true, predicted).rvalue ** 2, abs=1e-9)
    assert method.identity_r2(true, predicted) == pytest.approx(r2_score(true, predicted), rel=1e-9, abs=1e-9)
    found = method.ccc(true, predicted)
    # Lin's own form: correlation times the bias correction of scale and place
    scale = true.std() / predicted.std()
    place = (true.mean() - predicted.mean()) ** 2 / (true.std() * predicted.std())
    r = stats.pearsonr(true, predicted).statistic
    assert found == pytest.approx(r * 2 / (scale + 1 / scale + place), abs=1e-9)
    assert found**2 <= method.pearson_r2(true, predicted) + 1e-9
    agreement = method.bland_altman(true, predicted)
    assert agreement.bias == pytest.approx(predicted.mean() - true.mean(), abs=1e-6)
    assert agreement.high - agreement.low == pytest.approx(2 * 1.96 * np.std(predicted - true, ddof=1))


def test_a_bias_is_seen_by_concordance_and_not_by_the_squared_correlation():
    true = np.linspace(100, 3000, 30)
    assert method.pearson_r2(true, 0.5 * true + 200) == pytest.approx(1)
    assert method.ccc(true, 0.5 * true + 200) < 0.8
    assert method.ccc(true, true) == pytest.approx(1) == method.identity_r2(true, true)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 6), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_auc_is_that_of_scikit_learn(present, absent):
    labels = [1] * len(present) + [0] * len(absent)
    assert method.auc(present, absent) == pytest.approx(roc_auc_score(labels, present + absent))


# --- what published figures imply: from the abstract's figures alone --------------------------------------------------


def test_the_published_intervals_imply_26_24_and_42_scans():
    found = {name: method.implied_n(*figures) for name, figures in PUBLISHED.items()}
    assert {name: round(one.n, 1) for name, one in found.items()} == {"NIH-LC": 25.9, "NIH-OV": 23.8, "UofW-LC": 41.6}
    stated = {"NIH-LC": 25, "NIH-OV": 166, "UofW-LC": 124}
    assert {name: one.holds(stated[name]) for name, one in found.items()} == {
        "NIH-LC": True,
        "NIH-OV": False,
        "UofW-LC": False,
    }
    by_t = {name: round(method.implied_n(*figures, rule="t").n) for name, figures in PUBLISHED.items()}
    assert by_t == {"NIH-LC": 28, "NIH-OV": 26, "UofW-LC": 44}


@given(st.floats(0.02, 0.3), st.integers(5, 400), st.floats(0.5, 0.9))
@settings(max_examples=100, deadline=None)
def test_the_number_of_scans_comes_back_from_a_rounded_interval(sd, n, mean):
    low, high = method.z_interval(mean, sd, n)
    rounded = [round(figure, 3) for figure in (sd, low, high)]
    if rounded[2] - rounded[1] > 0.004:
        assert method.implied_n(*rounded).holds(n)


@pytest.mark.parametrize("n", [5, 26, 44, 300])
def test_the_number_behind_a_t_interval_comes_back(n):
    half = stats.t.ppf(0.975, n - 1) * 0.1 / math.sqrt(n)
    assert method.implied_n(0.1, 0.8 - half, 0.8 + half, rule="t").n == pytest.approx(n, rel=1e-6)


def test_an_interval_that_rounding_could_close_is_refused():
    with pytest.raises(ValueError, match="too coarsely rounded"):
        method.implied_n(0.01, 0.9, 0.9005)


@given(MASKS.filter(lambda mask: mask.any()), MASKS)
@settings(max_examples=200, deadline=None)
def test_no_overlap_beats_what_the_volume_error_allows(truth, predicted):
    error = predicted.sum() / truth.sum() - 1
    found = method.dice(predicted, truth)
    assert found <= method.largest_dice(error) + 1e-12
    if found > 0:
        least, most = method.error_range(found)
        assert least - 1e-9 <= error <= most + 1e-9


@given(st.integers(1, 60), st.integers(0, 60))
def test_the_bound_is_reached_by_nested_masks(n_true, n_predicted):
    truth, predicted = (np.arange(60) < n for n in (n_true, n_predicted))
    assert method.dice(predicted, truth) == pytest.approx(method.largest_dice(n_predicted / n_true - 1))


def test_the_bounds_of_the_published_errors():
    assert [round(method.largest_dice(e), 3) for e in (-0.196, 0.196, -0.053, 0.053)] == [0.891, 0.911, 0.973, 0.974]


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_of_r2_is_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=30)
    theirs = stats.pearsonr(x, x + rng.normal(size=30))
    ends = theirs.confidence_interval()
    low, high = method.r2_interval(theirs.statistic**2, 30)
    assert (low, high) == pytest.approx((max(ends.low, 0) ** 2, ends.high**2))


def test_the_intervals_of_the_published_r2():
    rounded = {(r2, n): tuple(round(end, 3) for end in method.r2_interval(r2, n)) for r2, n in [(0.79, 25), (0.98, 24)]}
    assert rounded == {(0.79, 25): (0.579, 0.903), (0.98, 24): (0.954, 0.991)}


# --- masks without a network ------------------------------------------------------------------------------------------


def test_fluid_is_a_window_with_its_ends_less_what_is_thin():
    smooth = np.full((9, 9, 9), 100.0)
    smooth[2:7, 2:7, 2:7] = 0.0
    smooth[4, 4, 7:] = 20.0  # a thread, of which the opening keeps its root
    found = baselines.fluid(smooth, Setting(0.0, 20.0, 0))
    assert found.sum() == 125 + 2
    opened = baselines.fluid(smooth, Setting(0.0, 20.0, 1))
    assert not opened[4, 4, 8:].any() and 80 < opened.sum() <= 125
    assert not baselines.fluid(smooth, Setting(0.0, 20.0, 0), within=np.zeros_like(found)).any()


def test_the_largest_piece_is_kept_alone():
    mask = np.zeros((9, 5, 5), bool)
    mask[:2], mask[4:8] = True, True
    assert baselines.largest(mask).sum() == 4 * 25 and not baselines.largest(mask)[:2].any()
    assert not baselines.largest(np.zeros_like(mask)).any()


def test_the_lowest_fifth_of_a_cavity_lies_at_its_back():
    cavity = np.zeros((4, 20, 3), bool)
    cavity[:, 5:15] = True
    found = baselines.lowest(cavity)
    assert found[:, 5:7].all() and found.sum() == 4 * 2 * 3


def test_a_reader_strays_by_millimetres_and_not_by_litres(monkeypatch):
    spacing = (2.0, 2.0, 5.0)
    truth = np.pad(ball(22, spacing, 60), 4)
    masks = [baselines.read(truth, spacing, np.random.default_rng(i)) for i in (0, 0, 1)]
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()
    assert 0.8 < method.dice(masks[0], truth) < 0.99
    assert 0.5 < method.surface_mm(masks[0], truth, spacing) < 4
    assert not baselines.read(np.zeros_like(truth), spacing, np.random.default_rng(0)).any()
    monkeypatch.setattr(baselines, "READER_MM", 0.0)
    assert (baselines.read(truth, spacing, np.random.default_rng(0)) == truth).all()


def test_the_best_window_is_that_of_the_highest_mean_and_not_at_an_edge():
    def row(**best) -> window.Row:
        whole = [float(setting == Setting(-10, 40, 1)) for setting in window.SETTINGS]
        return window.Row("train 000", whole, best.get("in_cavity", whole))

    assert window.best([row(), row()], "whole") == Setting(-10, 40, 1)
    edge = [float(setting == Setting(window.LOWS[0], 40, 1)) for setting in window.SETTINGS]
    with pytest.raises(ValueError, match="widen"):
        window.best([row(in_cavity=edge)], "in_cavity")


def test_a_pool_is_painted_into_fat_at_the_bottom():
    spacing, image = (3.0, 3.0, 3.0), np.full((40, 40, 10), -100.0, dtype=np.float32)
    fat = np.zeros(image.shape, bool)
    fat[5:35, 5:35] = True
    rng = np.random.default_rng(0)
    mask = real.pool(fat, 50.0, spacing, rng)
    assert method.volume_ml(mask, spacing) == pytest.approx(50, abs=0.03)
    assert not (mask & ~fat).any() and np.argwhere(mask)[:, 1].mean() < np.argwhere(fat)[:, 1].mean() - 5
    painted = real.painted(image, mask, spacing)
    assert np.median(painted[mask]) == pytest.approx(real.POOL_HU, abs=10)
    far = ~ndimage.binary_dilation(mask, iterations=5)
    np.testing.assert_array_equal(painted[far], image[far])
    with pytest.raises(ValueError, match="more than the deep fat"):
        real.pool(fat, 5000.0, spacing, rng)


def test_no_mask_is_scored_as_more_than_a_volume():
    found = scans.score(12.345, np.ones((2, 2, 2), bool), (1, 1, 1))
    assert found.ml == 12.35 or found.ml == 12.34
    assert math.isnan(found.dice) and found.by_organ == {}


def test_wrong_volumes_are_told_apart_by_organ():
    organs = np.full((4, 4, 4), phantoms.ORGANS["free"], dtype=np.uint8)
    organs[0], organs[1] = phantoms.ORGANS["ascites"], phantoms.ORGANS["bladder"]
    found = scans.score(np.ones((4, 4, 4), bool), organs == phantoms.ORGANS["ascites"], (10, 10, 10), organs)
    assert (found.ml, found.wrong_ml, found.by_organ["bladder"]) == (64, 48, 16)
    assert sum(found.by_organ.values()) == 16 and found.dice == pytest.approx(2 * 16 / (64 + 16))


def test_a_row_comes_back_from_a_stored_run_as_it_was():
    score = scans.Score(1.0, 0.5, 2.0, 0.0, {})
    row = real.Row("torso", 0.0, 33.6, {"nothing": score})
    (back,) = real.EXPERIMENT.read({"curves": {"images": [asdict(row)]}})
    assert back == row and back.arms["nothing"].dice == 0.5
