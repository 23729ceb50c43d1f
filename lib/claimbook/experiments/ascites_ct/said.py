"""Figures of the prose and cells of tables, as text; each from rows or from the published figures."""

import numpy as np

from claimbook.claims.ledgers import Ledger
from claimbook.claims.words import several
from claimbook.experiments.ascites_ct import evidence
from claimbook.experiments.ascites_ct.baselines import Setting
from claimbook.experiments.ascites_ct.evidence import Scans
from claimbook.experiments.ascites_ct.figures import spoken
from claimbook.experiments.ascites_ct.measure import real, window
from claimbook.experiments.ascites_ct.measure.scans import Row
from claimbook.papers import ascites_ct as method

QUARTILES = {  # of the volume's error (abstract)
    evidence.FIRST: (0.132, 0.196, 0.290),
    evidence.SECOND: (0.024, 0.053, 0.097),
    evidence.THIRD: (0.045, 0.097, 0.151),
}
SHORT = ("lc", "ov", "uw")
ARMS = {"fitted": "fitted", "cavity": "in cavity", "lowest": "lowest fifth", "fills": "fills", "forest": "forest"}
ARMS |= {"reader": "second reader", "slices": "slices_0"}


def of_audit() -> dict[str, str]:
    """What the published figures imply, by cohort: scans, interval of r², Dice lost to volume at the least."""
    said = {}
    for key, cohort in zip(SHORT, evidence.PUBLISHED, strict=True):
        dice, sd, _, _, stated, r2 = evidence.PUBLISHED[cohort]
        by_z, by_t = (evidence.implied(cohort, rule) for rule in ("z", "t"))
        low, high = method.r2_interval(r2, evidence.FEWEST[cohort])
        said |= {
            f"n_{key}": f"{by_z.n:.0f}",
            f"stated_{key}": str(stated),
            f"r2_{key}": f"{low:.2f} to {high:.2f}",
            f"t_{key}": f"{by_t.least:.0f} to {by_t.most:.0f}",
            f"half_{key}": f"{1.96 * sd / np.sqrt(stated):.3f}",
            f"most_{key}": f"{most_dice(cohort):.2f}",
            f"forced_{key}": f"{100 * (1 - most_dice(cohort)) / (1 - dice):.0f}",
        }
    return said


def most_dice(cohort: str) -> float:
    """The highest mean Dice that the published quartiles of the volume's error allow.

    A quarter of the scans each has an error of 0, of the lower quartile, the median and the upper one at the least,
    and of the two signs the kinder.
    """
    return float(np.mean([method.largest_dice(error) for error in (0.0, *QUARTILES[cohort])]))


def of_shifts(ledger: Ledger, rows: list[Row]) -> dict[str, str | None]:
    """How many judged changes cost overlap, which most, and what networks and readers keep of it."""
    there = [part for part in evidence.JUDGED if evidence.JUDGED[part] in evidence.levels(rows)]
    if not there:
        return dict.fromkeys(("n_judged", "n_broken", "broken", "dice_base", "worst"))
    bound = ledger.claim("C15").part("noise").bound
    kept = {part: evidence.kept(rows, evidence.JUDGED[part]) for part in there}
    broken = sorted((one.value, part) for part, one in kept.items() if one.high < bound)
    names = [f"{spoken(evidence.JUDGED[part])} ({value:.2f})" for value, part in broken]
    return {
        "n_judged": str(len(there)),
        "n_broken": str(len(broken)),
        "broken": ", ".join(names) or "none",
        "dice_base": f"{Scans(evidence.at_level(rows).values())('dice').mean():.2f}",
        "worst": names[0] if names else "none",
    }


def each_network(rows: list[Row]) -> list[list[str]]:
    """Lines: what each network alone keeps of its overlap at the judged changes, and two readers of theirs."""
    nets = evidence.networks(rows)
    lines = []
    for part, level in evidence.JUDGED.items():
        if level in evidence.levels(rows):
            alone = [evidence.kept(rows, level, (net,), (net,)).value for net in nets]
            readers = evidence.kept(rows, level, evidence.READERS, evidence.READERS).value
            lines.append([part, *(f"{value:.2f}" for value in (*alone, readers))])
    return lines


def of_cohorts(rows: list[Row]) -> dict[str, str | None]:
    """Dice of the ways of segmenting, what false volume there is, and what the threshold's area is."""
    of = Scans(row for row in rows if row.cohort in evidence.COHORTS)
    free = [row for row in rows if row.cohort.endswith("_free")]
    nets = evidence.networks(rows)
    false = [np.median([row.arms[net].ml for net in nets]) for row in free]
    said = {f"dice_{key}": mean_dice(of, (arm,)) for key, arm in ARMS.items()}
    return said | {
        "dice_nets": mean_dice(of, nets),
        "n_with": str(len(of)),
        "n_free": str(len(free)),
        "false_ml": f"{np.median(false):,.0f}",
        "false_fitted": f"{np.median([row.arms['fitted'].ml for row in free]):,.0f}",
        "area_fitted": f"{evidence.tells_apart(of.rows, free, ('fitted',)).value:.2f}",
    }


def mean_dice(of: Scans, arms: tuple[str, ...]) -> str | None:
    there = all(arm in of.rows[0].arms for arm in arms)
    return f"{of('dice', arms).mean():.2f}" if there else None


def performance(rows: list[Row], name: str, arms: tuple[str, ...]) -> list[str]:
    """A line of the table of cohorts; figures of several networks are the means of each one's own."""
    each = [evidence.performance(rows, arm) for arm in arms]
    of = {key: np.nanmean([one[key] for one in each]) for key in each[0] if any(np.isfinite(o[key]) for o in each)}
    low, high = method.z_interval(of["dice"], of["sd"], int(of["n"])) if "dice" in of else (np.nan, np.nan)
    return [
        name,
        f"{of['n']:.0f}",
        f"{of['dice']:.3f} ± {of['sd']:.3f} [{low:.3f}, {high:.3f}]" if "dice" in of else "",
        f"{of['surface']:.1f}" if "surface" in of else "",
        f"{of['error']:.0f} ({of['q1']:.0f} to {of['q3']:.0f})",
        f"{of['r2']:.2f}" if "r2" in of else "",
        f"{of['ccc']:.2f}",
        f"{of['bias']:+,.0f} ({of['low']:+,.0f} to {of['high']:+,.0f})",
    ]


def on_real(rows: list[real.Row]) -> list[list[str]]:
    """Lines: what each way finds in a real image as it is, and its Dice with each painted pool."""
    arms = [arm for arm in rows[0].arms if arm not in ("nothing", "fills")] if rows else []
    plain, pools = [row for row in rows if not row.ml], [row for row in rows if row.ml]
    return [
        [arm, *(f"{row.arms[arm].ml:,.0f}" for row in plain), *(f"{row.arms[arm].dice:.2f}" for row in pools)]
        for arm in arms
    ]


def of_training(trained: list[dict]) -> dict[str, str | None]:
    """Minutes, and whether stored trainings had levelled off: the last two checks of each that was checked."""
    curves = [one["curves"].get("validation", []) for one in trained]
    last = [[one["dice"] for one in curve[-2:]] for curve in curves if len(curve) > 1]
    moved = [after - before for before, after in last]
    return {
        "last_checks": ", ".join(f"{one:+.3f}" for one in moved) or None,
        "n_checked": str(len(moved)),
        "n_level": str(sum(abs(one) <= 0.02 for one in moved)),
        "minutes": f"{np.mean([one['wall_s'] for one in trained]) / 60:.0f}" if trained else None,
    }


def of_window(rows: list[window.Row]) -> dict[str, str | None]:
    """The fitted thresholds in words."""
    return {f"window_{where}": in_words(window.best(rows, where)) if rows else None for where in window.WHERE}


def in_words(setting: Setting) -> str:
    ends = f"from {setting.low} HU on" if np.isinf(setting.high) else f"{setting.low} to {setting.high} HU"
    return ends + (f", opened by {several(setting.opening, 'voxels')}" if setting.opening else "")
