"""What of the chapter is stored: each run's function, config and assets, and a short first part of it."""

from claimbook.experiments.ascites_ct.cohorts import SHIFTS, N
from claimbook.provenance.declarations import Stored

UNETS = [f"unet_{seed}" for seed in range(5)]
JUDGED = ("disease cirrhosis", "contrast none", "noise 40 HU", "slice 10 mm", "distractors many")
JUDGED += ("density 30 HU", "volume 100 mL")  # levels of which a claim speaks: all patients
RECIPES = {
    "unet": {"steps": 1200, "batch": 2, "validate_at": [0, 400, 800, 1000, 1200]},
    "slices": {"steps": 900, "batch": 16, "validate_at": [0, 450, 750, 900]},
}
DRAWN = 8  # patients of a level that is only drawn


def _trained(kind: str, seed: int) -> Stored:
    """A training on the training cohort of its own seed; its weights are the run's artefact."""
    return Stored("training:run", {"kind": kind, "seed": seed} | RECIPES[kind], prefix={"stop": 10})


def _shifts() -> Stored:
    """New patients of the training cohort, as they are and with one thing changed, `DRAWN` of a level only drawn."""
    n = N["base"]
    shifts = {
        factor: {level: n if f"{factor} {level}" in JUDGED else DRAWN for level in levels}
        for factor, levels in SHIFTS.items()
    }
    return _measured(0, UNETS, cohorts={"base": n}, shifts=shifts)


def _measured(seed: int, networks: list[str], **config) -> Stored:
    """Scans measured with networks that are stored themselves; confirmed by the first of them."""
    reads = ("ascites_ct/window", *(f"ascites_ct/{name}" for name in networks if name.startswith(("unet", "slices"))))
    config = {"seed": seed, "networks": networks} | config
    first = {"cohorts": {next(iter(config["cohorts"])): 1}, "shifts": {}}
    return Stored("measure.scans:run", config, prefix=first, reads=reads)


def _real(image: str, asset: str, *pools: int) -> Stored:
    """A real image as it is, and with pools of so many mL painted in."""
    config = {"seed": 0, "networks": [*UNETS, "slices_0", "forest", "untrained"], "pools": {image: [0, *pools]}}
    reads = tuple(f"ascites_ct/{name}" for name in ("window", *UNETS, "slices_0"))
    return Stored("measure.real:run", config, assets=[asset], prefix={"pools": {image: [0]}}, reads=reads)


_TESTED = {name: n for name, n in N.items() if not name.startswith(("train", "base"))}
_EVERY = [*UNETS, "slices_0", "forest", "regressor", "untrained"]

STORED = {
    **{name: _trained("unet", seed) for seed, name in enumerate(UNETS)},
    "slices_0": _trained("slices", 0),
    "window": Stored("measure.window:run", {"seed": 0, "scans": N["train"]}, prefix={"scans": 1}),
    "scans": _measured(0, _EVERY, cohorts=_TESTED, shifts={}),
    "shifts": _shifts(),
    "torso": _real("torso", "totalsegmentator-ct", 100, 250, 500, 1000),
    "slice": _real("slice", "pydicom-data", 50, 100),
}
