"""A network of nnU-Net's size, cross-validated by patient on a reader's own scans; for a GPU. Never run at this size.

For TCGA-OV-AS, which a reader may download under its licence (non-commercial), or any other scans with masks. MONAI's
DynUNet has the shape of nnU-Net; grid, patch and rate follow its defaults as remembered. Not kept: deep supervision,
low-resolution and gamma augmentation, an ensemble over folds.
"""

from collections.abc import Iterator

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import (
    Compose,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    Spacing,
    SpatialPadd,
)
from pydantic import BaseModel, ConfigDict

from claimbook.errors import ClaimbookError
from claimbook.experiments.ascites_ct import grid
from claimbook.experiments.ascites_ct.measure import own, scans
from claimbook.experiments.ascites_ct.own_files import Scan

KEYS = ("image", "label")


class Plan(BaseModel):
    """``grid``: mm, what the network sees. ``steps`` of each fold; nnU-Net has 250,000. ``filters`` by level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    folds: int = 5
    steps: int = 25_000
    batch: int = 2
    rate: float = 0.01
    grid: tuple[float, float, float] = (0.8, 0.8, 5.0)
    patch: tuple[int, int, int] = (160, 160, 48)
    filters: tuple[int, ...] = (32, 64, 128, 256, 320)


def rows(found: list[Scan], device: str, plan: Plan) -> Iterator[scans.Row]:
    """One row a scan, its arm "cross-validated" by a network that saw no scan of the same patient.

    ClaimbookError for scans without masks and for fewer patients than folds.
    """
    if without := [scan.name for scan in found if scan.label is None]:
        raise ClaimbookError(f"cross-validation needs masks: label_dir has none for {', '.join(without[:5])}")
    for i, fold in enumerate(folds(found, plan)):
        network = trained([scan for scan in found if scan not in fold], device, plan, i)

        def segment(image: np.ndarray, spacing, network=network) -> np.ndarray:
            return predicted(network, image, spacing, device, plan)

        yield from own.rows(fold, {"cross-validated": segment})


def folds(found: list[Scan], plan: Plan) -> list[list[Scan]]:
    """Scans of each fold; all of a patient's in one."""
    patients = sorted({scan.patient for scan in found})
    if len(patients) < plan.folds:
        raise ClaimbookError(f"{plan.folds} folds need as many patients, ct_dir has {len(patients)}: give more scans")
    order = np.random.default_rng(plan.seed).permutation(len(patients))
    place = {patients[one]: i % plan.folds for i, one in enumerate(order)}
    return [[scan for scan in found if place[scan.patient] == i] for i in range(plan.folds)]


def build(plan: Plan) -> torch.nn.Module:
    """Halves within slices at every level, between slices from the second on, as slices are thick."""
    levels = len(plan.filters)
    strides = [1, (2, 2, 1), *[2] * (levels - 2)]
    kernels = [(3, 3, 1), *[3] * (levels - 1)]
    norm = ("instance", {"affine": True})
    return DynUNet(3, 1, 2, kernels, strides, strides[1:], filters=plan.filters, norm_name=norm, res_block=False)


def trained(found: list[Scan], device: str, plan: Plan, fold: int) -> torch.nn.Module:
    """SGD with Nesterov momentum and polynomial decay, as nnU-Net; scans are kept in memory on the network's grid."""
    torch.manual_seed(plan.seed + fold)
    vary = augmentation(plan).set_random_state(plan.seed + fold)
    network, loss_of = build(plan).to(device), DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)
    optimizer = torch.optim.SGD(network.parameters(), plan.rate, momentum=0.99, nesterov=True, weight_decay=3e-5)
    kept, rng = [on_grid(scan, plan) for scan in found], np.random.default_rng([plan.seed, fold])
    for step in range(plan.steps):
        optimizer.param_groups[0]["lr"] = plan.rate * (1 - step / plan.steps) ** 0.9
        patches = [vary(kept[rng.integers(len(kept))])[0] for _ in range(plan.batch)]
        images, labels = (torch.stack([torch.as_tensor(one[key]) for one in patches]).to(device) for key in KEYS)
        loss = loss_of(network(images.float()), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
    return network.eval()


def augmentation(plan: Plan) -> Compose:
    turn = {"prob": 0.2, "rotate_range": (0, 0, 0.5), "scale_range": (0.2, 0.2, 0), "padding_mode": "border"}
    return Compose(
        [
            SpatialPadd(KEYS, plan.patch, mode="edge"),
            RandCropByPosNegLabeld(KEYS, "label", plan.patch, pos=1, neg=2),
            RandAffined(KEYS, mode=("bilinear", "nearest"), **turn),
            RandFlipd(KEYS, prob=0.5, spatial_axis=0),
            RandGaussianNoised("image", prob=0.15, std=0.1),
            RandScaleIntensityd("image", prob=0.15, factors=0.25),
        ]
    )


def on_grid(scan: Scan, plan: Plan) -> dict[str, torch.Tensor]:
    """Image, scaled, and mask (1, X, Y, Z) of a scan on the plan's grid."""
    image, truth, _, spacing = scan.open()
    label = to_grid(truth.astype(np.float32), spacing, plan) >= 0.5
    return {"image": grid.scaled(to_grid(image, spacing, plan)), "label": label.float()}


@torch.no_grad()
def predicted(network: torch.nn.Module, image: np.ndarray, spacing, device: str, plan: Plan) -> np.ndarray:
    """Mask (X, Y, Z) on the image's own grid."""
    found = to_grid(image, spacing, plan)
    seen = grid.scaled(found).as_tensor()[None]
    logits = sliding_window_inference(seen, plan.patch, 1, network, 0.5, "gaussian", sw_device=device, device="cpu")
    probability = MetaTensor(logits.softmax(dim=1)[:, 1], affine=found.affine)
    return grid.from_grid(probability, image.shape, spacing) >= 0.5


def to_grid(image: np.ndarray, spacing, plan: Plan) -> MetaTensor:
    """(1, X, Y, Z) on the plan's grid."""
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    return Spacing(plan.grid, mode="bilinear", padding_mode="border")(MetaTensor(image[None], affine=affine))
