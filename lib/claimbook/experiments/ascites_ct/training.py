"""Small networks that segment ascites, trained on simulated scans, with MONAI.

The paper's network is nnU-Net at full size. Kept of its recipe (from memory of the defaults): soft Dice and
cross-entropy, instance norm and leaky ReLU, patches of which a third are centred on the structure, polynomial decay of
the rate, random noise, brightness, contrast and gamma, overlapping windows with Gaussian weights. Not kept: the size,
the resolution (a grid of 4 x 4 x 5 mm), SGD, rotation and mirroring, five folds, deep supervision.
"""

import json
import os
import time
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandGaussianNoise,
    RandScaleIntensity,
    RandShiftIntensity,
)
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from claimbook import paths
from claimbook.experiments.ascites_ct import forests, phantoms
from claimbook.experiments.ascites_ct.cohorts import N
from claimbook.experiments.ascites_ct.grid import body, from_grid, scaled, to_grid
from claimbook.papers import ascites_ct as method

PATCH = (88, 72, 40)  # voxels of the grid
SAVE_EVERY = 60.0  # seconds
VALIDATED = 4  # scans


class Recipe(BaseModel):
    """``kind``: "unet" sees patches of a volume, "slices" three neighbouring slices of which it segments the middle.

    ``scans``: how many of each cohort; the next of "train" validate, after the steps of ``validate_at`` (0: before the
    first). Nothing is chosen by them. ``stop`` ends a training early, its rates those of all ``steps``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int
    kind: str = "unet"
    scans: dict[str, int] = {cohort: N[cohort] for cohort in ("train", "train_free")}
    steps: int
    stop: int | None = None
    batch: int  # patches in a step
    rate: float = 3e-3
    weight_decay: float = 1e-4
    report_every: int = 10
    validate_at: tuple[int, ...] = ()


# --- training ---------------------------------------------------------------------------------------------------------


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: one network, its weights as the artefact, its loss along the way."""
    recipe, started = Recipe(**config), time.monotonic()
    network = build(recipe.kind, recipe.seed)
    curves = train(network, recipe, work, progress)
    save_file(network.state_dict(), path := work / "weights.safetensors")
    return {
        "metrics": {
            "parameters": sum(p.numel() for p in network.parameters()),
            "steps": recipe.stop or recipe.steps,
            "dice_of_training_scans": dice_of(network, recipe, range(VALIDATED)),
            "seconds": round(time.monotonic() - started, 1),
        },
        "curves": curves,
        "artefact": str(path),
    }


def build(kind: str, seed: int) -> torch.nn.Module:
    """A network at its initial weights; logits of no ascites and of ascites."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(
            spatial_dims=3 if kind == "unet" else 2,
            in_channels=1 if kind == "unet" else 3,
            out_channels=2,
            channels=(16, 32, 64, 64) if kind == "unet" else (24, 48, 96, 96),
            strides=(2, 2, 2),
            num_res_units=1,
            norm=("instance", {"affine": True}),
            act="leakyrelu",
        )


def train(network: torch.nn.Module, recipe: Recipe, work: Path | None = None, progress=lambda *_: None) -> dict:
    """Train in place. "training": the mean loss of every ``report_every`` steps; "validation": Dice at some steps.

    With ``work``, a killed training goes on.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    checkpoint = work / "training.safetensors" if work else None
    state = {"done": 0, "recent": [], "training": [], "validation": []}
    if checkpoint and checkpoint.exists():
        state = _resume(checkpoint, network, optimizer)
    elif 0 in recipe.validate_at:
        state["validation"].append(_validated(network, recipe, 0))
    saved = time.monotonic()
    for step in range(state["done"], recipe.stop or recipe.steps):
        optimizer.param_groups[0]["lr"] = recipe.rate * (1 - step / recipe.steps) ** 0.9
        state["recent"].append(_update(network, optimizer, *batch(recipe, step)))
        state["done"] = step + 1
        if len(state["recent"]) == recipe.report_every:
            state["training"].append({"step": step + 1, "loss": float(np.mean(state["recent"]))})
            state["recent"] = []
            progress((step + 1) / recipe.steps, f"loss {state['training'][-1]['loss']:.3f}")
        if step + 1 in recipe.validate_at:
            state["validation"].append(_validated(network, recipe, step + 1))
        if checkpoint and time.monotonic() - saved > SAVE_EVERY:
            _save(checkpoint, network, optimizer, state)
            saved = time.monotonic()
    return {"training": state["training"], "validation": state["validation"]}


def _update(network: torch.nn.Module, optimizer: torch.optim.Optimizer, images, labels) -> float:
    """One step; returns its loss, soft Dice and cross-entropy."""
    network.train()
    loss_of = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    loss = loss_of(network(images), labels)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
    optimizer.step()
    return float(loss.detach())


def _validated(network: torch.nn.Module, recipe: Recipe, step: int) -> dict:
    first = recipe.scans["train"]
    return {"step": step, "dice": dice_of(network, recipe, range(first, first + VALIDATED))}


def dice_of(network: torch.nn.Module, recipe: Recipe, indices) -> float:
    """Mean Dice over scans of the training cohort."""
    segment = Segmenter(recipe.kind, network)
    cases = [phantoms.case("train", i, recipe.seed) for i in indices]
    return float(np.mean([method.dice(segment(case.image, case.spacing), case.truth) for case in cases]))


def batch(recipe: Recipe, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches and labels of one step; it depends on the recipe's seed and the step alone."""
    rng = np.random.default_rng([recipe.seed, step])
    scans = [(cohort, i) for cohort, n in recipe.scans.items() for i in range(n)]
    chosen = [example(*scans[rng.integers(len(scans))], recipe.seed) for _ in range(recipe.batch)]
    shape = PATCH if recipe.kind == "unet" else (*PATCH[:2], 3)
    images, labels = zip(*(_patch(image, label, shape, rng) for image, label in chosen), strict=True)
    vary = _variation().set_random_state(seed=int(rng.integers(2**31)))
    images = torch.stack([torch.as_tensor(vary(image[None])) for image in images])
    labels = torch.stack([torch.from_numpy(label[None]).float() for label in labels])
    if recipe.kind == "slices":
        return images[:, 0].movedim(-1, 1), labels[..., 1]
    return images, labels


@lru_cache(maxsize=128)
def example(cohort: str, index: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image, scaled, and true mask of a simulated scan on the network's grid, cut to the body."""
    case = phantoms.case(cohort, index, seed)
    image = to_grid(case.image, case.spacing)
    truth = to_grid(case.truth.astype(np.float32), case.spacing)
    box = body(image)
    return np.asarray(scaled(image)[0][box]), np.asarray(truth[0][box]) >= 0.5


def _patch(image: np.ndarray, label: np.ndarray, shape: tuple, rng: np.random.Generator):
    """A patch of image and label, one time in three around a point of ascites, else anywhere; air beyond the scan."""
    at = np.argwhere(label) if rng.random() < 1 / 3 else []
    centre = at[rng.integers(len(at))] if len(at) else rng.integers(image.shape)
    low = [
        int(np.clip(c - side // 2, 0, max(n - side, 0))) for c, side, n in zip(centre, shape, image.shape, strict=True)
    ]
    box = tuple(slice(start, start + side) for start, side in zip(low, shape, strict=True))
    short = [(0, max(0, side - n)) for side, n in zip(shape, image.shape, strict=True)]
    return np.pad(image[box], short, constant_values=-1), np.pad(label[box], short)


def _variation() -> Compose:
    return Compose(
        [
            RandGaussianNoise(prob=0.15, std=0.1),
            RandScaleIntensity(prob=0.15, factors=0.25),
            RandShiftIntensity(prob=0.15, offsets=0.1),
            RandAdjustContrast(prob=0.15, gamma=(0.7, 1.5)),
        ]
    )


def _save(path: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Weights, moments and what was found so far, in one file that is either the old one or the new one."""
    tensors = dict(network.state_dict())
    for i, parameter in enumerate(network.parameters()):
        tensors |= {f"{key} {i}": value for key, value in optimizer.state[parameter].items()}
    save_file(tensors, part := path.with_suffix(".part"), metadata={"state": json.dumps(state)})
    os.replace(part, path)


def _resume(path: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    tensors = load_file(path)
    for i, parameter in enumerate(network.parameters()):
        optimizer.state[parameter] = {key: tensors.pop(f"{key} {i}") for key in ("step", "exp_avg", "exp_avg_sq")}
    network.load_state_dict(tensors)
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["state"])


# --- use --------------------------------------------------------------------------------------------------------------


def load(name: str):
    """What a stored run trained: called with an image in HU and its spacing, it gives a mask on the same grid.

    "untrained" is a network at its initial weights. "forest" and "regressor" (which gives mL) are trained now.
    FileNotFoundError without the weights.
    """
    if name in ("forest", "regressor"):
        return forests.Forest() if name == "forest" else forests.Regressor()
    kind = "slices" if name.startswith("slices") else "unet"
    network = build(kind, 0).eval()
    if name != "untrained":
        network.load_state_dict(load_file(paths.sweep("ascites_ct", name).with_suffix(".safetensors")))
    return Segmenter(kind, network)


class Segmenter:
    """A network and how it is applied: windows on its own grid, its probabilities taken back to the scan's."""

    def __init__(self, kind: str, network: torch.nn.Module):
        self.kind, self.network = kind, network.eval()

    def __call__(self, image: np.ndarray, spacing) -> np.ndarray:
        """Mask (X, Y, Z) of an image in HU: voxels that are more probably ascites than not."""
        return self.probability(image, spacing) >= 0.5

    @torch.no_grad()
    def probability(self, image: np.ndarray, spacing) -> np.ndarray:
        """Probability of ascites, float32, on the image's own grid."""
        grid = to_grid(image, spacing)
        box = body(grid)
        inside = scaled(grid)[0][box].as_tensor()[None, None]
        found = torch.zeros(grid.shape)
        found[(0, *box)] = self.windows(inside)[0]
        return from_grid(MetaTensor(found, affine=grid.affine), image.shape, spacing)

    def windows(self, scaled_image: torch.Tensor) -> torch.Tensor:
        """Probability (1, X, Y, Z) from a scaled image (1, 1, X, Y, Z)."""
        apply = partial(sliding_window_inference, predictor=self.network, overlap=0.25, mode="gaussian", cval=-1.0)
        if self.kind == "unet":
            return apply(scaled_image, PATCH, 1).softmax(dim=1)[:, 1]
        slices = scaled_image[0, 0].movedim(-1, 0)
        below, above = slices[[0, *range(len(slices) - 1)]], slices[[*range(1, len(slices)), -1]]
        logits = apply(torch.stack([below, slices, above], dim=1), PATCH[:2], 16)
        return logits.softmax(dim=1)[:, 1].movedim(0, -1)[None]
