"""Simulated scans: known volumes, what a factor changes and what it leaves, and the way to the networks' grid."""

from dataclasses import asdict, replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claimbook.experiments.ascites_ct import grid, phantoms, training
from claimbook.experiments.ascites_ct.cohorts import COHORTS, SHIFTS, N
from claimbook.papers import ascites_ct as method

pytestmark = pytest.mark.numeric

SPACING = (4.1, 3.3, 5.0)


@lru_cache(maxsize=16)
def case(cohort="base", index=1, seed=0, factor="", level=""):
    return phantoms.case(cohort, index, seed, **SHIFTS.get(factor, {}).get(level, {}))


def losses(found: dict) -> list[float]:
    return [row["loss"] for row in found["training"]]


@lru_cache
def ball(radius: float) -> np.ndarray:
    """Ball in the middle of the fine grid, as 0 and 1."""
    squares = [(phantoms.FINE * (np.arange(n) + 0.5 - n / 2)) ** 2 for n in phantoms.SHAPE]
    return (sum(np.ix_(*squares)) <= radius**2).astype(np.float32)


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 2.5), (5.0, 5.0, 10.0), SPACING])
def test_a_ball_keeps_its_volume_through_the_scanner(spacing):
    radius, fine = 60.0, ball(60.0)
    exact = 4 / 3 * np.pi * radius**3 / 1000
    shares = phantoms.averaged(fine, spacing)
    assert shares.sum() * np.prod(spacing) / 1000 == pytest.approx(fine.sum() * phantoms.FINE**3 / 1000, rel=1e-4)
    # a mask may err by half a voxel along its whole surface
    surface = 4 * np.pi * radius**2 * np.linalg.norm(spacing) / 2 / 1000
    assert abs(method.volume_ml(shares >= 0.5, spacing) - exact) < surface / 4
    assert np.allclose(phantoms.averaged(fine, (phantoms.FINE,) * 3), fine, atol=1e-5)


@given(st.tuples(*[st.floats(2.5, 12)] * 3))
@settings(max_examples=20, deadline=None)
def test_a_scan_covers_all_and_its_labels_lie_where_its_means_are(spacing):
    labels = np.zeros(phantoms.SHAPE, dtype=np.uint8)
    labels[40:120, 30:90, 20:100] = 1
    shares, nearest = phantoms.averaged(labels.astype(np.float32), spacing), phantoms.nearest(labels, spacing)
    assert shares.shape == nearest.shape == phantoms.size(spacing)
    assert all(
        n * side >= fine * phantoms.FINE - 1e-4
        for n, side, fine in zip(nearest.shape, spacing, labels.shape, strict=True)
    )
    assert (nearest[shares > 0.99] == 1).all()
    assert (nearest[shares < 0.01] == 0).all()


def test_a_case_is_made_by_cohort_index_and_seed_alone():
    first, again = phantoms.case("external", 3), phantoms.case("external", 3)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.truth, again.truth)
    for other in (("external", 4, 0), ("external", 3, 1), ("cirrhosis", 3, 0)):
        assert abs(phantoms.case(*other).ml - first.ml) > 0.1


def test_the_volume_is_known():
    for cohort in ("train", "ovarian", "cirrhosis", "external"):
        scan = case(cohort, 2)
        grid_ml = method.volume_ml(scan.truth, scan.spacing)
        assert 25 < scan.ml < scan.about["free_ml"]
        assert grid_ml == pytest.approx(scan.ml, rel=0.08, abs=8)
        assert not (scan.truth & ~scan.cavity).any()
    assert case(factor="volume", level="100 mL").ml == pytest.approx(100, abs=0.02)
    for cohort in ("train_free", "ovarian_free", "cirrhosis_free", "external_free"):
        free = case(cohort, 0)
        assert free.ml == 0
        assert not free.truth.any()
        assert free.cavity.any()


def test_densities_are_those_of_ct():
    for cohort in ("ovarian", "external"):
        scan = case(cohort, 2)
        hu = {name: np.median(scan.image[scan.organs == label]) for name, label in phantoms.ORGANS.items()
              if (scan.organs == label).sum() > 200}  # fmt: skip
        assert scan.image.dtype == np.float32
        assert np.array_equal(scan.image, np.rint(scan.image))
        assert scan.image.min() >= -1024
        assert scan.image.max() <= 3071
        assert hu["air"] < -950
        assert -135 < hu["fat"] < -80
        assert -30 < hu["ascites"] < 45
        assert hu["liver"] > 40
        assert hu["bone"] > 200


def test_the_noise_is_as_strong_as_drawn():
    scan = case(factor="noise", level="40 HU")
    air = scan.image[(scan.organs == phantoms.ORGANS["lung"])]
    quiet = case(factor="noise", level="5 HU").image[(scan.organs == phantoms.ORGANS["lung"])]
    assert scan.about["noise_hu"] == 40
    assert (air - quiet).std() == pytest.approx(35, rel=0.1)  # the same pattern, 40 - 5 times it


def test_a_factor_changes_one_thing_and_leaves_the_patient():
    base = case()
    for factor, level in (("noise", "20 HU"), ("contrast", "none"), ("density", "30 HU"), ("calibration", "+15 HU")):
        changed = case(factor=factor, level=level)
        assert np.array_equal(changed.truth, base.truth)
        assert np.array_equal(changed.organs, base.organs)
        assert not np.array_equal(changed.image, base.image)
    thick = case(factor="slice", level="10 mm")
    assert thick.spacing == (*base.spacing[:2], 10.0)
    assert thick.ml == base.ml
    many, few = case(factor="distractors", level="many"), case(factor="distractors", level="few")
    volume = {name: [(scan.organs == phantoms.ORGANS[name]).sum() for scan in (few, many)] for name in phantoms.FOUND}
    assert all(volume[name][0] == 0 < volume[name][1] for name in ("bladder", "pleural_effusion", "oedema", "cyst"))
    assert all(volume[name][0] < volume[name][1] for name in ("bowel_fluid", "stomach"))


def test_cohorts_differ_in_more_than_the_seed():
    same = {"base": "train"}  # new patients of the training cohort, on purpose
    for name, cohort in COHORTS.items():
        for other, fields in COHORTS.items():
            if name != other and same.get(name) != other and same.get(other) != name:
                assert asdict(replace(cohort, stream=0)) != asdict(replace(fields, stream=0)), (name, other)
    streams = [cohort.stream for cohort in COHORTS.values()]
    assert len(set(streams)) == len(streams)
    assert N.keys() == COHORTS.keys()
    assert [N[name] for name in ("ovarian", "cirrhosis", "external")] == [24, 25, 42]  # what the intervals imply
    known = {field for cohort in COHORTS.values() for field in asdict(cohort)}
    assert all(change.keys() <= known for levels in SHIFTS.values() for change in levels.values())


# --- the networks' grid and training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [SPACING, (3.0, 3.0, 2.5), (5.0, 5.0, 10.0)])
def test_a_mask_comes_back_from_the_grid(spacing):
    mask = phantoms.averaged(ball(60.0), spacing) >= 0.5
    seen = grid.to_grid(mask.astype(np.float32), spacing)
    back = grid.from_grid(seen, mask.shape, spacing)
    assert method.dice(back >= 0.5, mask) > 0.94
    assert back.shape == mask.shape
    on_grid = float(np.asarray(seen).sum() * np.prod(grid.GRID) / 1000)
    assert on_grid == pytest.approx(method.volume_ml(mask, spacing), rel=0.03)


def test_a_training_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PATCH", (24, 16, 16))
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    recipe = training.Recipe(seed=3, steps=4, batch=1, report_every=1, scans={"train": 1})
    whole = training.build("unet", 3)
    curve = training.train(whole, recipe)
    half = training.build("unet", 3)
    training.train(half, recipe.model_copy(update={"stop": 2}), tmp_path)
    rest = training.build("unet", 0)
    assert losses(training.train(rest, recipe, tmp_path)) == pytest.approx(losses(curve), rel=1e-4)
    for one, other in zip(whole.parameters(), rest.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_patches_are_cut_from_scan_and_mask_alike():
    rng = np.random.default_rng(0)
    label = rng.random((20, 9, 30)) < 0.2
    image = np.where(label, 1.0, -1.0).astype(np.float32)
    for _ in range(10):
        patch, mask = training._patch(image, label, (8, 12, 16), rng)
        assert patch.shape == mask.shape == (8, 12, 16)
        assert np.array_equal(patch > 0, mask)


@pytest.mark.parametrize("kind", ["unet", "slices"])
def test_a_network_segments_on_the_scans_own_grid(kind, monkeypatch):
    monkeypatch.setattr(training, "PATCH", (32, 32, 16))
    network = training.build(kind, 0)
    assert sum(p.numel() for p in network.parameters()) <= 500_000
    image = case().image[20:50, 20:45, :12]
    found = training.Segmenter(kind, network).probability(image, SPACING)
    assert found.shape == image.shape
    assert 0 <= found.min() <= found.max() <= 1
    assert training.Segmenter(kind, network)(image, SPACING).dtype == bool
