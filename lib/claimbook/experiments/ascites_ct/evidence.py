"""From published figures and rows to the ledger's parts and their measured controls, each by claim and name."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from claimbook import stats
from claimbook.claims.verdicts import Evidence
from claimbook.experiments.ascites_ct.cohort import Series
from claimbook.experiments.ascites_ct.cohorts import SHIFTS
from claimbook.experiments.ascites_ct.measure import real
from claimbook.experiments.ascites_ct.measure.scans import Row
from claimbook.papers import ascites_ct as method
from claimbook.stats import Estimate, Exact

NETWORK = "unet_"  # with the seed of its training
UNTRAINED, FILLS, READERS = ("untrained",), ("fills",), ("second reader",)
COHORTS = ("ovarian", "cirrhosis", "external")
JUDGED = {  # part of C15: the factor and the level that it judges
    "disease": ("disease", "cirrhosis"),
    "contrast": ("contrast", "none"),
    "noise": ("noise", "40 HU"),
    "slices": ("slice", "10 mm"),
    "distractors": ("distractors", "many"),
    "density": ("density", "30 HU"),
    "volume": ("volume", "100 mL"),
}
COEFFICIENTS = {"r²": method.pearson_r2, "concordance": method.ccc}
SPREAD = [level for part, level in JUDGED.items() if part != "volume"]  # whose volumes differ between patients
Arms = tuple[str, ...]  # of several, the mean; (): the trained networks
ratio = partial(stats.ratio_of_means, unit="scans")

# --- published figures ------------------------------------------------------------------------------------------------

PUBLISHED = {  # cohort: Dice, its sd, the ends of its interval, patients as stated, r² (abstract)
    "cirrhosis, NIH": (0.855, 0.061, 0.831, 0.878, 25, 0.79),
    "ovarian cancer, NIH": (0.826, 0.153, 0.764, 0.887, 166, 0.98),
    "cirrhosis, Wisconsin": (0.830, 0.107, 0.798, 0.863, 124, 0.97),
}
QUARTILES = (0.132, 0.196, 0.290), (0.024, 0.053, 0.097), (0.045, 0.097, 0.151)  # of the volume's error, likewise
FIRST, SECOND, THIRD = PUBLISHED
FEWEST = {FIRST: 25, SECOND: 24, THIRD: 42}  # scans as implied, and as stated where the two agree


def audit() -> dict[str, dict[str, Exact]]:
    """C13 and C14, from the abstract alone."""
    first, stated = implied(FIRST), PUBLISHED[FIRST][4]
    outside = max(0.0, stated - first.most, first.least - stated)
    return {
        "C13": {
            "first_fits": Exact(outside),
            "second_does_not": Exact(overstated(SECOND)),
            "third_does_not": Exact(overstated(THIRD)),
        },
        "C14": {"than_ovarian": Exact(apart(SECOND, FIRST)), "than_elsewhere": Exact(apart(THIRD, FIRST))},
    }


def implied(cohort: str, rule: str = "z") -> method.Implied:
    """Number of scans behind a published interval of Dice."""
    _, sd, low, high, *_ = PUBLISHED[cohort]
    return method.implied_n(sd, low, high, rule=rule)


def overstated(cohort: str) -> float:
    """Stated number over the most that the interval leaves possible, by the rule that is kindest to it."""
    return PUBLISHED[cohort][4] / max(implied(cohort, rule).most for rule in ("z", "t"))


def apart(cohort: str, other: str) -> float:
    """Difference of two correlations as Fisher's z, over its standard error, from the fewest scans."""
    z = [math.atanh(math.sqrt(PUBLISHED[one][5])) for one in (cohort, other)]
    return (z[0] - z[1]) / math.sqrt(sum(1 / (FEWEST[one] - 3) for one in (cohort, other)))


def most_dice(cohort: str) -> float:
    """The highest mean Dice that the published quartiles of the volume's error allow.

    A quarter of the scans each has an error of 0, of the lower quartile, the median and the upper one at the least,
    and of the two signs the kinder.
    """
    quartiles = dict(zip(PUBLISHED, QUARTILES, strict=True))[cohort]
    return float(np.mean([method.largest_dice(error) for error in (0.0, *quartiles)]))


def trained_on(patients: list[Series]) -> dict[str, dict[str, Exact]]:
    """C6, of the index: one series for each patient."""
    ages = np.array([one.age for one in patients if one.age is not None], dtype=float)
    female = np.mean([one.sex == "F" for one in patients])
    ages = {"mean_age": Exact(float(ages.mean())), "sd_age": Exact(float(ages.std(ddof=1)))}
    return {"C6": {"patients": Exact(len(patients)), "all_female": Exact(float(female))} | ages}


# --- simulated scans --------------------------------------------------------------------------------------------------


def networks(rows: list) -> Arms:
    """The trained networks that rows were measured with: the five of the stored runs, fewer of a live one.

    The untrained one of a smoke run for which nothing is stored.
    """
    return tuple(arm for arm in rows[0].arms if arm.startswith(NETWORK)) or UNTRAINED


class Scans:
    """Columns (n,) of the rows with ascites on their grid: ``of("dice", ("fitted",))``, a mean over several arms."""

    def __init__(self, rows: Iterable[Row]):
        self.rows = [row for row in rows if row.grid_ml > 0]
        self.true_ml = np.array([row.ml for row in self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def each(self, field: str, arms: Arms = ()) -> np.ndarray:
        """A field of the scores, (arms, n)."""
        arms = arms or networks(self.rows)
        return np.array([[getattr(row.arms[arm], field) for row in self.rows] for arm in arms], dtype=float)

    def __call__(self, field: str, arms: Arms = ()) -> np.ndarray:
        return self.each(field, arms).mean(axis=0)

    def against(self, arm: str) -> np.ndarray:
        """Volume of the mask that an arm is scored against: the truth's, of the second reader the first one's."""
        return np.array([row.arms["reader"].ml if arm in READERS else row.grid_ml for row in self.rows])

    def forced(self, arms: Arms = ()) -> np.ndarray:
        """Dice that the error of the volume takes at the least, (n,)."""
        arms = arms or networks(self.rows)
        errors = [method.relative_error(self("ml", (arm,)), self.against(arm)) for arm in arms]
        return 1 - np.vectorize(method.largest_dice)(errors).mean(axis=0)

    def leaves_out(self, arms: Arms = (), but: str = "") -> Estimate:
        """Share of the fluids that are no ascites which is segmented, over the share of the ascites that is.

        ``but``: a fluid that does not count.
        """
        arms = arms or networks(self.rows)

        def summed(ml: dict[str, float]) -> float:
            return sum(value for fluid, value in ml.items() if fluid != but)

        wrong = np.mean([[summed(row.arms[arm].by_organ) for row in self.rows] for arm in arms], axis=0)
        right = self("ml", arms) - self("wrong_ml", arms)
        fluids = np.array([summed(row.fluids_ml) for row in self.rows])
        ascites = np.array([row.grid_ml for row in self.rows])

        def of(at: np.ndarray) -> float:  # of mL summed over scans, as some hold little of either
            return float(wrong[at].sum() / fluids[at].sum() / (right[at].sum() / ascites[at].sum()))

        return jackknife(of, len(self), "scans")


def with_ascites(rows: list[Row]) -> Scans:
    """The scans of the three test cohorts."""
    return Scans(row for row in rows if row.cohort in COHORTS)


def without_ascites(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.cohort.endswith("_free")]


def cohorts(rows: list[Row]) -> dict[str, Evidence]:
    """C17, C18, C19; ``rows`` of the stored run ``scans``."""
    of, free = with_ascites(rows), without_ascites(rows)
    rivals = {"than_threshold": "fitted", "than_in_cavity": "in cavity", "than_forest": "forest"}
    rivals = {part: (arm,) for part, arm in rivals.items() if arm in of.rows[0].arms}
    better = (
        {part: ratio(dice, of("dice", rival)) for part, rival in rivals.items()}
        for dice in (of("dice"), of("dice", UNTRAINED), np.ones(len(of)))
    )
    trainings = stats.mean([forced_share(of, (net,)).value for net in networks(rows)], unit="networks")
    forced = ({"forced": one} for one in (trainings, forced_share(of, FILLS), forced_share(of, READERS)))
    told = (
        {"tells_apart": tells_apart(of.rows, free, arms), "leaves_out": of.leaves_out(also)}
        for arms, also in (((), ()), (UNTRAINED, ("threshold",)))
    )
    return {"C17": Evidence(*better), "C18": Evidence(*forced), "C19": Evidence(*told)}


def forced_share(of: Scans, arms: Arms) -> Estimate:
    """Missing Dice that the error of the volume alone would cause, over the missing Dice."""
    return ratio(of.forced(arms), 1 - of("dice", arms))


def alarms(rows: list[Row], arms: Arms, at: float = 50.0) -> tuple[int, int]:
    """Scans in which more than ``at`` mL are segmented, by the median of the arms, and how many there are."""
    found = [np.median([row.arms[arm].ml for arm in arms]) for row in rows]
    return int(np.sum(np.array(found) > at)), len(found)


def tells_apart(present: list[Row], absent: list[Row], arms: Arms = ()) -> Estimate:
    """Area under the ROC curve of the volume, the median of the arms', scans with against scans without ascites.

    The error has a part from each sample (DeLong 1988): how often a scan lies beyond those of the other one. The two
    half-widths add up as roots of squares.
    """
    with_it, without = (
        np.array([np.median([row.arms[arm].ml for arm in arms or networks(rows)]) for row in rows])
        for rows in (present, absent)
    )
    wins = (with_it[:, None] > without) + 0.5 * (with_it[:, None] == without)
    parts = [stats.mean(wins.mean(axis=axis), unit="scans", within=(0, 1)) for axis in (1, 0)]
    area = float(wins.mean())
    below, above = (math.hypot(*(area - getattr(part, end) for part in parts)) for end in ("low", "high"))
    ends = max(area - below, 0.0), min(area + above, 1.0)
    return Estimate(area, *ends, sum(wins.shape), "area under the ROC curve, errors of both samples", unit="scans")


def leak(rows: list[Row], fluids: Iterable[str], arms: Arms) -> float:
    """Share of fluids that are no ascites, of the mL summed over scans, that is called so; the mean of the arms."""
    fluids = list(fluids)
    found = sum(row.arms[arm].by_organ[fluid] for row in rows for arm in arms for fluid in fluids)
    return found / len(arms) / sum(row.fluids_ml[fluid] for row in rows for fluid in fluids)


def biased(true_ml: np.ndarray) -> dict[str, dict[str, Exact]]:
    """C20: volumes with a half and 100 mL added, against the true ones."""
    wrong = 1.5 * true_ml + 100
    return {
        "C20": {"r2_blind": Exact(method.pearson_r2(true_ml, wrong)), "ccc_sees": Exact(method.ccc(true_ml, wrong))}
    }


def performance(rows: Iterable[Row], arms: Arms) -> dict[str, float]:
    """What the paper reports of a cohort, and what it leaves out; of several networks the mean of each one's own."""
    of = Scans(rows)
    each = [_performance(of, arm) for arm in arms]
    return {key: finite_mean([one[key] for one in each]) for key in each[0]}


def _performance(of: Scans, arm: str) -> dict[str, float]:
    dice, surface, found = (of(field, (arm,)) for field in ("dice", "surface_mm", "ml"))
    true = of.against(arm) if arm in READERS else of.true_ml
    error = 100 * abs(method.relative_error(found, true))
    limits, varies = method.bland_altman(true, found), np.ptp(found) > 0
    return {
        "n": len(of),
        "dice": dice.mean(),
        "sd": dice.std(ddof=1),
        "surface": finite_mean(surface),
        **dict(zip(("q1", "error", "q3"), np.percentile(error, (25, 50, 75)), strict=True)),
        "r2": method.pearson_r2(true, found) if varies else math.nan,
        "identity": method.identity_r2(true, found),
        "ccc": method.ccc(true, found),
        "bias": limits.bias,
        "low": limits.low,
        "high": limits.high,
    }


def finite_mean(values) -> float:
    """The mean of those that are finite; NaN where none is."""
    finite = np.asarray(values)[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


# --- one factor at a time ---------------------------------------------------------------------------------------------


def patient(row: Row) -> int:
    """The number of a scan in its cohort ("base 007"), which scans of one patient share."""
    return int(row.scan.split()[1])


def at_level(rows: list[Row], factor: str = "", level: str = "") -> dict[int, Row]:
    """Scans of the patients of "base" with one thing changed, by patient; as they are without a factor."""
    return {patient(row): row for row in rows if (row.cohort, row.factor, row.level) == ("base", factor, level)}


def levels(rows: list[Row]) -> list[tuple[str, str]]:
    """Factors and levels that were measured, as the generator lists them."""
    there = {(row.factor, row.level) for row in rows}
    return [(factor, level) for factor, given in SHIFTS.items() for level in given if (factor, level) in there]


def judged(rows: list[Row]) -> dict[str, tuple[str, str]]:
    """Those of `JUDGED` that were measured."""
    return {part: level for part, level in JUDGED.items() if level in levels(rows)}


def paired(rows: list[Row], factor: str, level: str) -> tuple[Scans, Scans]:
    """The patients changed and as they are, those alone of whom there are both."""
    changed, plain = at_level(rows, factor, level), at_level(rows)
    both = [one for one in sorted(changed.keys() & plain.keys()) if min(changed[one].grid_ml, plain[one].grid_ml) > 0]
    return Scans(changed[one] for one in both), Scans(plain[one] for one in both)


def kept(rows: list[Row], level: tuple[str, str], arms: Arms = (), of: Arms = ()) -> Estimate:
    """Dice of ``arms`` on changed scans, over that of ``of`` on the same patients as they are; the networks' own."""
    changed, plain = paired(rows, *level)
    return ratio(changed("dice", arms), plain("dice", of), unit="patients")


def shifts(rows: list[Row]) -> dict[str, Evidence]:
    """C15 and C16; ``rows`` of the stored run ``shifts``."""
    there = judged(rows)
    keeps = (
        {part: kept(rows, level, arms, of) for part, level in there.items()}
        for arms, of in (((), ()), (FILLS, ()), (READERS, READERS))
    )
    found = {"C15": Evidence(*keeps)}
    if len(there) == len(JUDGED):
        found["C16"] = Evidence(
            {"r2_stays": change(rows, method.pearson_r2), "ccc_falls": change(rows, method.ccc)},
            {"r2_stays": change(rows, method.pearson_r2, another=1)},
        )
    return found


def change(rows: list[Row], coefficient: Callable, another: int = 0) -> Estimate:
    """Coefficient of true and segmented volumes, mean over `SPREAD` and networks, less that of unchanged scans.

    ``another``: take the segmented volume of the patient so many places further on changed scans.
    """
    plain = at_level(rows)
    changed = [at_level(rows, *level) for level in SPREAD]
    patients = sorted(set(plain).intersection(*changed))
    volumes = [_volumes(of, patients) for of in (plain, *changed)]
    volumes[1:] = [(true, np.roll(found, another, axis=1)) for true, found in volumes[1:]]

    def of(at: np.ndarray) -> float:
        base, *others = (np.mean([coefficient(true[at], one[at]) for one in found]) for true, found in volumes)
        return float(np.mean(others) - base)

    return jackknife(of, len(patients))


def of_level(rows: list[Row], level: tuple[str, str], coefficient: Callable) -> float:
    """A coefficient of true and segmented volumes at a level, the mean of the networks' own."""
    at = at_level(rows, *level)
    true, found = _volumes(at, sorted(at))
    return float(np.mean([coefficient(true, one) for one in found]))


def _volumes(rows: dict[int, Row], patients: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """True volumes (n,), and those of the networks (5, n), in mL."""
    found = [[rows[one].arms[arm].ml for one in patients] for arm in networks(list(rows.values()))]
    return np.array([rows[one].ml for one in patients]), np.array(found)


@np.errstate(all="ignore")  # what cannot be computed of so few is NaN, and its part stays open
def jackknife(of: Callable[[np.ndarray], float], n: int, unit: str = "patients") -> Estimate:
    """A statistic of n units that is no mean, of the indices kept; pseudo-values stand for samples (Tukey 1958)."""
    everyone = np.arange(n)
    whole = of(everyone)
    left_out = np.array([of(np.delete(everyone, i)) for i in everyone])
    found = stats.mean(n * whole - (n - 1) * left_out, unit=unit)
    moved = whole - found.value  # the interval stands around the statistic, as the page shows it elsewhere
    ends = {"value": whole, "low": found.low + moved, "high": found.high + moved}
    return replace(found, **ends, method=f"jackknife over {unit}: {found.method}")


# --- real images ------------------------------------------------------------------------------------------------------


def on_torso(rows: list[real.Row]) -> dict[str, Evidence]:
    """C21, of the one real scan: as it is, and with pools painted in."""
    (plain,) = [row for row in rows if not row.ml]
    trained = networks(rows)
    alarm = plain.arms["fitted"].ml
    found = float(np.mean([plain.arms[arm].ml for arm in trained]))
    dice = painted_dice(rows)
    less = Exact(found / alarm if alarm else math.nan)
    return {
        "C21": Evidence(
            {"threshold_alarms": Exact(alarm), "network_alarms_less": less.of("torso")},
            preconditions={"finds_inserted": Exact(dice).of("torso")},
        )
    }


def painted_share(rows: list[real.Row]) -> float:
    """Share of the painted mL that the trained networks find, mean over pools and networks; NaN without a pool."""
    found = [(row.arms[arm].ml - row.arms[arm].wrong_ml) / row.ml for row in rows if row.ml for arm in networks(rows)]
    return float(np.mean(found or math.nan))


def painted_dice(rows: list[real.Row]) -> float:
    """Mean Dice of the trained networks with the pools that were painted into a real image; NaN without a pool."""
    return float(np.mean([row.arms[arm].dice for row in rows if row.ml for arm in networks(rows)] or math.nan))
