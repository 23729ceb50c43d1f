"""Simulated CT scans of the abdomen with a known volume of ascites.

A patient is painted on a fine grid: body wall, peritoneal cavity, organs, and as ascites the wanted volume of the free
cavity's lowest points: gravity, the pelvis, a rim along the liver, some chance. The scanner averages the fine grid over
its own voxels (so thick slices mix tissues), adds correlated noise, and rounds to whole HU. The true volume is that of
the fine grid, not of the mask. Everything follows from cohort, index and seed.

Arrays are (X, Y, Z) towards right, anterior and superior; lengths in mm, volumes in mL.
"""

from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import ndimage

from claimbook.experiments.ascites_ct.cohorts import COHORTS, Cohort

FINE = 2.5
SHAPE = (158, 118, 130)
WARP = 5.0  # how far the anatomy is bent
FOUND = ("bladder", "gallbladder", "bowel_fluid", "stomach", "pleural_effusion", "oedema", "cyst")  # water, no ascites
LABELS = (
    "air", "fat", "muscle", "bone", "lung", "heart", "liver", "spleen", "kidney", "vessel", "wall", "faeces",
    "gas", "oral_contrast", "tumour", "uterus", "free", "ascites", *FOUND,
)  # fmt: skip
ORGANS = {name: label for label, name in enumerate(LABELS)}
_HU = {"air": -1000, "fat": -102, "muscle": 56, "bone": 320, "lung": -830, "wall": 48, "faeces": 20, "gas": -750}
_HU |= {"oral_contrast": 260, "tumour": 52, "uterus": 55, "gallbladder": 10, "bowel_fluid": 14, "stomach": 12}
_HU |= {"bladder": 5, "pleural_effusion": 9, "oedema": -25, "cyst": 14}
_ENHANCED = {"heart": 150, "liver": 108, "spleen": 122, "kidney": 175, "vessel": 155, "uterus": 95, "tumour": 78}
_PLAIN = {"heart": 42, "liver": 56, "spleen": 48, "kidney": 31, "vessel": 40, "uterus": 48, "tumour": 42}


@dataclass(frozen=True)
class Case:
    """One scan on its own grid.

    ``image`` float32, HU. ``truth``: voxels at least half of which are ascites. ``cavity``: free peritoneal cavity with
    the ascites. ``organs``: uint8, a label of `ORGANS`. ``ml``: exact volume of the ascites. ``about``: what was drawn.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    cavity: np.ndarray
    organs: np.ndarray
    spacing: tuple[float, float, float]
    ml: float
    about: dict


def case(cohort: str, index: int, seed: int = 0, **factors) -> Case:
    """Scan ``index`` of a cohort; ``factors`` change fields of its `Cohort`, and the patient's other draws stay."""
    config = replace(COHORTS[cohort], **factors)
    patient = Patient(config, (seed, config.stream, index))
    labels, ml = patient.paint()
    return _scan(f"{cohort} {index:03d}", config, patient, labels, ml)


class Patient:
    """Draws of one patient and their painting on the fine grid. Each draw has a name and depends on nothing else."""

    def __init__(self, config: Cohort, key: tuple[int, ...]):
        self.config, self.key = config, key
        self.contrast = self.draw("contrast") < config.contrast
        wanted = config.median_ml * np.exp(config.sigma * self.rng("volume").standard_normal())
        self.wanted_ml = float(wanted) if config.median_ml else 0.0
        # a fuller belly is a wider one, and bowel floats
        self.fullness = 1 - np.exp(-self.wanted_ml / 2000)
        self.width = self.draw("width", (112, 128)) + 14 * self.fullness
        self.depth = self.draw("depth", (72, 86)) + 24 * self.fullness

    def rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([*self.key, *name.encode()])

    def draw(self, name: str, between: tuple[float, float] = (0.0, 1.0)) -> float:
        return float(between[0] + (between[1] - between[0]) * self.rng(name).random())

    def smooth(self, name: str, step_mm: float, channels: int = 1) -> np.ndarray:
        """Random fields (channels, X, Y, Z) that vary over ``step_mm``, about standard normal at the knots."""
        knots = [int(np.ceil(n * FINE / step_mm)) + 1 for n in SHAPE]
        field = self.rng(name).standard_normal((channels, *knots), dtype=np.float32)
        return np.stack([_along(one, [_hats(n, k) for n, k in zip(SHAPE, knots, strict=True)]) for one in field])

    # --- painting ---------------------------------------------------------------------------------------------------

    def paint(self) -> tuple[np.ndarray, float]:
        """Labels on the fine grid, and the exact volume of ascites."""
        self.points = self._coordinates()
        self.labels = np.zeros(SHAPE, dtype=np.uint8)
        self._body()
        self._behind()
        self._upper_abdomen()
        self._pelvis()
        self._bowel()
        if self.config.tumours:
            self._tumours()
        return self.labels, self._ascites()

    def _coordinates(self) -> np.ndarray:
        """The patient's own x, y (from the middle) and z (from the pelvic floor) at every point of the fine grid."""
        x, y, z = (FINE * np.arange(n, dtype=np.float32) for n in SHAPE)
        x, y = x - x.mean(), y - y.mean()
        roll, nod = (np.tan(np.radians(self.draw(name, self.config.tilt_deg))) for name in ("roll", "nod"))
        points = self.smooth("warp", 90, 3)
        points *= WARP
        self.tilt = max(abs(roll), abs(nod))
        points[0] += x[:, None, None] - np.float32(roll) * y[:, None]
        points[1] += y[:, None] + np.float32(roll) * x[:, None, None]
        points[1] += np.float32(nod) * (z - z.mean())
        points[2] += z - np.float32(nod) * y[:, None]
        return points

    def _body(self) -> None:
        """Skin fat, muscle wall with ribs and hip bones, and inside it the chest, the peritoneal cavity, and fat."""
        x, y, z = self.points
        across = (x / self.width) ** 2
        rho = np.sqrt(across + (y / self.depth) ** 2)  # 1 on the inner side of the wall
        narrow = np.clip(0.55 + (z - 20) / 160, 0.55, 1.0)  # the pelvis tapers
        wall = 1 + self.draw("muscle", (9, 13)) / self.depth
        within, inside = rho < wall, rho < narrow
        self.labels[rho < wall + self.draw("fat", (10, 32)) / self.depth] = ORGANS["fat"]
        if self.draw("oedema") < self.config.oedema:  # more of it at the back
            wet = self.smooth("oedema patches", 22)[0] - y / self.depth > self.draw("dry")
            self.labels[wet & ~within & (self.labels == ORGANS["fat"])] = ORGANS["oedema"]
        self.labels[within] = ORGANS["muscle"]
        ribs = (z > 205) & (np.sin(z / 6) > 0.3)
        hips = (z < 95) & (rho > 0.93 * narrow + 0.12) & (rho < narrow + 0.22)
        self.labels[within & (ribs | hips)] = ORGANS["bone"]
        self.labels[inside] = ORGANS["fat"]
        diaphragm = self.draw("diaphragm", (275, 292)) - 68 * rho**2
        self._chest(inside & (z > diaphragm))
        back = np.where(z < 85, -0.62, -0.25) * self.depth - 0.5 * self.depth * across  # gutters run at the sides
        self.labels[inside & (z < diaphragm - 4) & (z > 14) & (y > back)] = ORGANS["free"]

    def _chest(self, lung: np.ndarray) -> None:
        self.labels[lung] = ORGANS["lung"]
        if self.draw("effusion") < self.config.effusion:
            low = self.points[1] < -self.depth * self.draw("effusion size", (0.1, 0.6))
            side = self.points[0] > 0 if self.draw("side") < 0.6 else True
            self.labels[lung & low & side] = ORGANS["pleural_effusion"]
        heart = (-25, 0.15 * self.depth, 312)
        self.blob("heart", "heart", heart, (48, 40, 32), ("lung",), 5)

    def _behind(self) -> None:
        """Behind the peritoneum: spine, psoas, kidneys, vessels."""
        a, b = self.width, self.depth
        everywhere = ("fat", "free", "lung", "muscle")
        self.blob("vertebrae", "bone", (0, -0.80 * b, 160), (23, 20, 400), everywhere)
        for side in (-1, 1):
            self.blob(f"psoas {side}", "muscle", (42 * side, -0.66 * b, 110), (19, 19, 85), ("fat",))
            self.blob(f"kidney {side}", "kidney", (0.5 * a * side, -0.55 * b, 165), (26, 25, 50), ("fat", "free"), 5)
        self.blob("aorta", "vessel", (-9, -0.48 * b, 180), (9, 9, 150), ("fat", "free", "bone"))
        self.blob("cava", "vessel", (17, -0.46 * b, 180), (11, 9, 150), ("fat", "free", "bone"))

    def _upper_abdomen(self) -> None:
        a, b, size = self.width, self.depth, self.draw("liver size", self.config.liver)
        self.liver = (0.46 * a, 0.08 * b, 222), tuple(size * side for side in (0.58 * a, 0.85 * b, 70))
        bumps = self.config.nodular * self.smooth("nodules", 13)[0] if self.config.nodular else None
        self.blob("liver", "liver", *self.liver, ("free",), 3, bumps)
        spleen = self.draw("spleen size", self.config.spleen)
        axes = (26 * spleen, 0.46 * b * spleen, 44 * spleen)
        self.blob("spleen", "spleen", (-0.74 * a, -0.2 * b, 222), axes, ("free",), 4)
        self.blob("gallbladder", "gallbladder", (0.36 * a, 0.42 * b, 172), (14, 15, 25), ("free", "liver"), 5)
        full = self.draw("stomach") < self.config.stomach
        where, axes = (-0.38 * a, 0.3 * b, 208), (40, 27, 38) if full else (26, 17, 28)
        self.blob("stomach", "wall", where, axes, ("free",), 5)
        inner = tuple(side - 4 for side in axes)
        content = "oral_contrast" if self.draw("oral") < 0.3 else "stomach"
        self.blob("stomach", content, where, inner, ("wall",), 5)
        level = where[1] + inner[1] * self.draw("level", (0, 0.8))
        self.blob("stomach", "gas", where, inner, (content,), 5, above=level)

    def _pelvis(self) -> None:
        b, size = self.depth, self.draw("bladder size", self.config.bladder)
        if self.draw("cyst") < self.config.cyst:
            axes = [self.draw(f"cyst {side}", (20, 42)) for side in "xyz"]
            self.blob("cyst", "tumour", (0, 0, 80), axes, ("free",), 14)
            self.blob("cyst", "cyst", (0, 0, 80), [side - 5 for side in axes], ("tumour",), 14)
        if size:
            self.blob("bladder", "bladder", (0, 0.22 * b, 36), (36 * size, 28 * size, 27 * size), ("free", "fat"), 4)
        if self.config.disease == "ovarian" or self.draw("sex") < 0.5:
            self.blob("uterus", "uterus", (0, -0.22 * b, 46), (26, 18, 24), ("free",), 6)

    def _bowel(self) -> None:
        """Colon and small bowel as chains of loops, each a wall around fluid, gas, faeces or oral contrast."""
        a, b, rng = self.width, self.depth, self.rng("bowel")
        up = 0.3 * b * self.fullness
        colon = [(side * 0.82 * a, -0.2 * b, z) for side in (-1, 1) for z in range(75, 190, 21)]
        colon += [(x, 0.45 * b + up / 2, 178) for x in range(-80, 81, 23)]
        loops = rng.uniform((-0.62 * a, -0.2 * b, 62), (0.62 * a, 0.62 * b, 182), (34, 3)) + np.array([0, up, 0])
        choice, radii = rng.random((len(colon) + 34, 2)), rng.uniform(0.8, 1.25, (len(colon) + 34, 3))
        oral = self.draw("oral") < 0.3
        for i, where in enumerate([*colon, *loops]):
            axes, is_colon = radii[i] * (15 if i < len(colon) else 13), i < len(colon)
            if choice[i, 0] < self.config.bowel_fluid:
                content = "oral_contrast" if oral and choice[i, 1] < 0.6 else "bowel_fluid"
            else:
                content = ("faeces" if choice[i, 1] < 0.6 else "gas") if is_colon else "wall"
            self.blob(f"loop {i}", "wall", where, axes, ("free",), 4)
            if content != "wall":
                self.blob(f"loop {i}", content, where, axes - 3, ("wall",), 4)

    def _tumours(self) -> None:
        """Nodules on the peritoneum, and cakes in the omentum."""
        a, b, rng = self.width, self.depth, self.rng("tumours")
        for i in range(rng.integers(self.config.tumours + 1)):
            angle, z = rng.uniform(0, 2 * np.pi), rng.uniform(50, 210)
            where = (0.9 * a * np.cos(angle), 0.85 * b * abs(np.sin(angle)) - 0.1 * b, z)
            self.blob(f"tumour {i}", "tumour", where, rng.uniform(4, 12, 3), ("free",))

    def blob(self, name, label, centre, axes, onto, jitter=0.0, bumps=None, above=None) -> None:
        """Paint an ellipsoid over the labels ``onto``; its centre jitters by name, ``bumps`` (fine grid) add to it."""
        centre = np.asarray(centre, dtype=float)
        if jitter:
            centre = centre + jitter * np.clip(self.rng(f"at {name}").standard_normal(3), -2, 2)
        middle = [(n - 1) / 2 if axis < 2 else 0 for axis, n in enumerate(SHAPE)]
        reach = np.asarray(axes) * 1.2 + WARP * 3 + self.tilt * 165
        low = np.clip(((centre - reach) / FINE + middle).astype(int), 0, SHAPE)
        high = np.clip(((centre + reach) / FINE + middle).astype(int) + 2, 0, SHAPE)
        box = tuple(slice(*ends) for ends in zip(low, high, strict=True))
        points, here = self.points[(slice(None), *box)], self.labels[box]
        inside = (_radius2(points, centre, axes) < (1 if bumps is None else 1 + 2 * bumps[box])) & _any_of(onto)[here]
        if above is not None:
            inside &= points[1] > above
        here[inside] = ORGANS[label]

    def _ascites(self) -> float:
        """Label the wanted volume of the free cavity, its lowest points first, at most 85 % of it."""
        free = np.flatnonzero(self.labels == ORGANS["free"])
        count = min(round(self.wanted_ml * 1000 / FINE**3), int(0.85 * len(free)))
        if not count:
            return 0.0
        points = self.points.reshape(3, -1)[:, free]
        rim = (np.sqrt(_radius2(points, *self.liver)) - 1) / 0.12
        height = points[1] / self.depth + 0.7 * points[2] / 200 - 0.5 * np.exp(-(rim**2))
        height += 0.3 * self.smooth("height", 45)[0].ravel()[free]
        lowest = free[np.argpartition(height, count - 1)[:count]]
        self.labels.ravel()[lowest] = ORGANS["ascites"]
        return count * FINE**3 / 1000


def _radius2(points: np.ndarray, centre, axes) -> np.ndarray:
    """Squared distance of points (3, …) from an ellipsoid's centre; 1 on its surface."""
    return sum(
        ((along - np.float32(c)) / np.float32(side)) ** 2 for along, c, side in zip(points, centre, axes, strict=True)
    )


def _any_of(names: tuple[str, ...]) -> np.ndarray:
    """Table by label: whether it is one of these."""
    return np.isin(LABELS, names)


# --- scanner ----------------------------------------------------------------------------------------------------------


def _scan(name: str, config: Cohort, patient: Patient, labels: np.ndarray, ml: float) -> Case:
    pixel = patient.draw("pixel", config.pixel_mm)
    slice_mm = config.slices_mm[int(patient.draw("slice") * len(config.slices_mm))]
    spacing = (pixel, pixel, float(slice_mm))
    noise, kernel = patient.draw("noise", config.noise_hu), patient.draw("kernel", config.kernel_px)
    image = averaged(_attenuation(patient, labels), spacing)
    image += (
        _noise(patient.rng("noise pattern"), image.shape, noise, kernel)
        + patient.draw("offset", config.offset_hu)
        - 1000
    )
    organs = nearest(labels, spacing)
    truth = averaged((labels == ORGANS["ascites"]).astype(np.float32), spacing) >= 0.5
    about = asdict(config) | {
        "contrast": bool(patient.contrast),
        "slice_mm": float(slice_mm),
        "pixel_mm": pixel,
        "noise_hu": noise,
        "kernel_px": kernel,
        "free_ml": float(_any_of(("free", "ascites"))[labels].sum() * FINE**3 / 1000),
    }
    return Case(
        name,
        np.clip(np.rint(image), -1024, 3071).astype(np.float32),
        truth,
        truth | _any_of(("free", "ascites"))[organs],
        organs,
        spacing,
        ml,
        about,
    )


def _attenuation(patient: Patient, labels: np.ndarray) -> np.ndarray:
    """HU + 1000 on the fine grid, so that 0 is air as beyond it: a mean for each structure, some texture within."""
    config, table = patient.config, np.zeros(len(LABELS), dtype=np.float32)
    means = _HU | (_ENHANCED if patient.contrast else _PLAIN)
    for label, name in enumerate(LABELS):
        if name in means:
            spread = 0.0 if name in ("air", "gas") else 3.0 + 0.06 * abs(means[name])
            table[label] = means[name] + spread * np.clip(patient.rng(f"HU {name}").standard_normal(), -2, 2)
    table[ORGANS["ascites"]] = patient.draw("ascites HU", config.ascites_hu)
    table[ORGANS["free"]] = patient.draw("mesentery HU", config.mesentery_hu)
    if patient.contrast and patient.draw("delayed") < config.delayed:
        table[ORGANS["bladder"]] = 250
    return table[labels] + 1000 + 4 * patient.smooth("texture", 18)[0]


def _noise(rng: np.random.Generator, shape: tuple, sd: float, kernel: float) -> np.ndarray:
    """Normal noise, correlated within slices by a Gaussian of ``kernel`` pixels, of standard deviation ``sd``."""
    grains = rng.standard_normal(shape, dtype=np.float32)
    grains = ndimage.gaussian_filter(grains, (kernel, kernel, 0), truncate=3)
    return grains * np.float32(sd / grains.std())


def size(spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Voxels of a scan that covers the fine grid."""
    return tuple(int(np.ceil(n * FINE / side - 1e-6)) for n, side in zip(SHAPE, spacing, strict=True))


def averaged(field: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Mean of a field (X, Y, Z) on the fine grid over each voxel of a scan; 0 beyond the grid's end."""
    weights = [_overlap(n_fine, n, side) for n_fine, n, side in zip(SHAPE, size(spacing), spacing, strict=True)]
    return _along(field.astype(np.float32), weights)


def _along(field: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """A field (X, Y, Z) with each axis mixed by its weights (new, old)."""
    x, y, z = weights
    field = y @ (field @ z.T)
    return (x @ field.reshape(len(field), -1)).reshape(len(x), len(y), len(z))


def _hats(n: int, knots: int) -> np.ndarray:
    """(n, knots): weights of linear interpolation at n points evenly from the first knot to the last."""
    at = np.linspace(0, knots - 1, n)[:, None]
    return np.clip(1 - abs(at - np.arange(knots)), 0, None).astype(np.float32)


def _overlap(n_fine: int, n: int, side: float) -> np.ndarray:
    """(n, n_fine): share of each voxel's length that lies in each fine one."""
    low, fine = side * np.arange(n)[:, None], FINE * np.arange(n_fine)
    shared = np.minimum(low + side, fine + FINE) - np.maximum(low, fine)
    return (np.clip(shared, 0, None) / side).astype(np.float32)


def nearest(labels: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Labels at the middle of each voxel of a scan."""
    at = [
        np.minimum(((np.arange(n) + 0.5) * side / FINE).astype(int), n_fine - 1)
        for n, n_fine, side in zip(size(spacing), SHAPE, spacing, strict=True)
    ]
    return labels[np.ix_(*at)]
