"""The grid that everything trained here sees, and the way to it from any scan and back, by MONAI."""

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRange, Spacing, SpatialResample
from scipy import ndimage

GRID = (4.0, 4.0, 5.0)  # mm
WINDOW = (-160.0, 240.0)  # HU, to -1 ... 1
BODY = -300.0  # HU; what is denser is body or table, and what lies around it is cut off


def to_grid(image: np.ndarray, spacing) -> MetaTensor:
    """(1, X, Y, Z) on `GRID`: smoothed where the grid is coarser than the image, then linear between voxels."""
    coarser = np.maximum(np.divide(GRID, spacing), 1)
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 0.42 * np.sqrt(coarser**2 - 1), mode="nearest")
    return Spacing(GRID, mode="bilinear", padding_mode="border")(MetaTensor(smooth[None], affine=_affine(spacing)))


def from_grid(found: MetaTensor, shape: tuple, spacing) -> np.ndarray:
    """The inverse: (X, Y, Z) of ``shape`` at ``spacing``, linear between voxels."""
    back = SpatialResample(mode="bilinear", padding_mode="border")
    return back(found, dst_affine=_affine(spacing), spatial_size=shape)[0].numpy()


def body(grid: MetaTensor) -> tuple[slice, ...]:
    """Box around what is denser than air, of an image (1, X, Y, Z); everything where nothing is."""
    dense = np.asarray(grid[0]) > BODY
    return ndimage.find_objects(dense.astype(int))[0] if dense.any() else (slice(None),) * 3


def scaled(grid: MetaTensor) -> MetaTensor:
    return ScaleIntensityRange(*WINDOW, -1.0, 1.0, clip=True)(grid)


def _affine(spacing) -> torch.Tensor:
    return torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
