"""The cohorts of simulated scans, fixed before any model was trained.

Each is a `Cohort`: what the generator draws from. A pair is a range drawn from evenly. Pixels and slices are drawn from
the ranges of the paper's training data (0.53 to 1.03 mm, 0.8 to 10 mm), pixels five times as wide, so that a scan has a
matrix of about 100 instead of 512, and slices not thinner than the anatomy's own grid (2.5 mm). What a disease, a
hospital or a scanner does to a scan is our choice; nothing is fitted to a published figure.
"""

from dataclasses import dataclass, replace

Range = tuple[float, float]


@dataclass(frozen=True)
class Cohort:
    """What one cohort of simulated scans is drawn from. HU ranges are means of a structure in one scan."""

    stream: int  # of random numbers: cohorts of one stream share anatomies, case by case
    disease: str = "ovarian"  # or "cirrhosis"
    median_ml: float = 500.0  # of the lognormal volume of ascites; 0: none
    sigma: float = 0.9  # of its logarithm; 0: all the same
    ascites_hu: Range = (4.0, 22.0)
    contrast: float = 0.9  # share of scans after intravenous contrast
    pixel_mm: Range = (3.0, 5.0)
    slices_mm: tuple[float, ...] = (2.5, 3.0, 5.0, 5.0, 5.0, 7.5)  # one is picked; slices are contiguous
    noise_hu: Range = (6.0, 16.0)  # standard deviation in a voxel
    kernel_px: Range = (0.6, 0.9)  # width of the noise's correlation, in pixels: small is a sharp kernel
    offset_hu: Range = (-3.0, 3.0)  # error of calibration
    tilt_deg: Range = (-2.0, 2.0)  # of the patient, in each of two planes
    liver: Range = (0.92, 1.08)  # size, 1 is usual
    nodular: float = 0.0  # bumps of the liver's surface, share of its radius
    spleen: Range = (0.9, 1.15)
    mesentery_hu: Range = (-105.0, -90.0)
    tumours: int = 10  # most nodules on the peritoneum and in the omentum
    bladder: Range = (0.5, 1.2)  # size; its content follows the phase
    bowel_fluid: float = 0.35  # share of loops that hold fluid
    stomach: float = 0.35  # chance of a stomach full of fluid
    effusion: float = 0.25  # chance of pleural effusion
    oedema: float = 0.15  # chance of subcutaneous oedema
    cyst: float = 0.3  # chance of a cystic mass in the pelvis
    delayed: float = 0.08  # chance of excreted contrast in the bladder, of scans after contrast


_TRAIN = Cohort(stream=0)
_NIH = {"noise_hu": (8.0, 20.0), "slices_mm": (2.5, 5.0, 5.0), "pixel_mm": (3.2, 4.6), "kernel_px": (0.5, 0.8)}
_CIRRHOSIS = {
    "disease": "cirrhosis",
    "ascites_hu": (-2.0, 14.0),
    "liver": (0.72, 0.92),
    "nodular": 0.08,
    "spleen": (1.2, 1.7),
    "mesentery_hu": (-95.0, -55.0),
    "tumours": 0,
    "cyst": 0.0,
}
_OVARIAN = replace(_TRAIN, stream=1, **_NIH)
_CIRRHOSIS_NIH = replace(
    _TRAIN, stream=2, **_NIH | _CIRRHOSIS, median_ml=400.0, contrast=0.6, oedema=0.5, effusion=0.35
)
_EXTERNAL = replace(
    _CIRRHOSIS_NIH,
    stream=3,
    contrast=0.75,
    noise_hu=(12.0, 30.0),
    kernel_px=(0.3, 0.6),
    offset_hu=(-8.0, 8.0),
    tilt_deg=(-7.0, 7.0),
    pixel_mm=(3.4, 5.0),
    slices_mm=(2.5, 5.0, 7.5),
    stomach=0.5,
)


def _free(cohort: Cohort) -> Cohort:
    """The same without ascites, other patients."""
    return replace(cohort, stream=cohort.stream + 10, median_ml=0.0)


COHORTS = {
    "train": _TRAIN,
    "train_free": _free(_TRAIN),
    "base": replace(_TRAIN, stream=4),  # new patients of the training cohort, from which one factor at a time departs
    "ovarian": _OVARIAN,
    "cirrhosis": _CIRRHOSIS_NIH,
    "external": _EXTERNAL,
    "ovarian_free": _free(_OVARIAN),
    "cirrhosis_free": _free(_CIRRHOSIS_NIH),
    "external_free": _free(_EXTERNAL),
}

# the numbers of scans that the paper's intervals imply (24, 26, 42), rounded as it states the one that agrees (25)
N = {
    "train": 32,
    "train_free": 8,
    "base": 20,
    "ovarian": 24,
    "cirrhosis": 25,
    "external": 42,
    "ovarian_free": 20,
    "cirrhosis_free": 20,
    "external_free": 20,
}

_FEW = {"bladder": (0.0, 0.0), "bowel_fluid": 0.0, "stomach": 0.0, "effusion": 0.0, "oedema": 0.0, "cyst": 0.0}
_MANY = {"bladder": (1.4, 1.7), "bowel_fluid": 0.8, "stomach": 1.0, "effusion": 1.0, "oedema": 1.0, "cyst": 1.0}

# factor -> level -> what it changes of "base"; the patient stays the same but for that
# (and a fuller belly is wider)
SHIFTS: dict[str, dict[str, dict]] = {
    "disease": {"cirrhosis": _CIRRHOSIS},
    "noise": {f"{hu} HU": {"noise_hu": (float(hu), float(hu))} for hu in (5, 20, 40, 80)},
    "kernel": {"sharp": {"kernel_px": (0.2, 0.2)}},
    "calibration": {f"{hu:+} HU": {"offset_hu": (float(hu), float(hu))} for hu in (-15, 15)},
    "tilt": {"10 degrees": {"tilt_deg": (10.0, 10.0)}},
    "contrast": {"all": {"contrast": 1.0}, "none": {"contrast": 0.0}},
    "slice": {f"{mm} mm": {"slices_mm": (float(mm),)} for mm in (3, 5, 10)},
    "distractors": {"few": _FEW, "many": _MANY},
    "density": {f"{hu} HU": {"ascites_hu": (float(hu), float(hu))} for hu in (0, 30, 45)},
    "volume": {f"{ml} mL": {"median_ml": float(ml), "sigma": 0.0} for ml in (25, 100, 1000)},
}
