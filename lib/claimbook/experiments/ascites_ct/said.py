"""Figures of the prose and cells of tables, as text; each from rows or from the published figures."""

import numpy as np

from claimbook.claims.words import several
from claimbook.experiments.ascites_ct import evidence, phantoms
from claimbook.experiments.ascites_ct.baselines import Setting
from claimbook.experiments.ascites_ct.evidence import Arms, Scans
from claimbook.experiments.ascites_ct.figures import spoken
from claimbook.experiments.ascites_ct.measure import real, window
from claimbook.experiments.ascites_ct.measure.scans import Row
from claimbook.papers import ascites_ct as method

LEVEL = 0.02  # of Dice, by which the last two checks of a training that has levelled off differ at most
ARMS = {"fitted": "fitted", "cavity": "in cavity", "lowest": "lowest fifth", "fills": "fills", "forest": "forest"}
ARMS |= {"reader": "second reader", "slices": "slices_0"}
LOWEST = ("lowest fifth",)  # of the cavity: a mask that does not look at the image


def of_audit() -> dict[str, str]:
    """What the published figures imply, by cohort: scans, interval of r², Dice lost to volume at the least."""
    said = {"stated": f"{sum(figures[4] for figures in evidence.PUBLISHED.values())}"}
    for key, (cohort, figures) in zip(("lc", "ov", "uw"), evidence.PUBLISHED.items(), strict=True):
        dice, sd, least, greatest, stated, r2 = figures
        by_t, most = evidence.implied(cohort, "t"), evidence.most_dice(cohort)
        low, high = method.r2_interval(r2, evidence.FEWEST[cohort])
        said |= {
            f"n_{key}": f"{evidence.implied(cohort).n:.0f}",
            f"stated_{key}": str(stated),
            f"r2_{key}": f"{low:.2f} to {high:.2f}",
            f"t_{key}": f"{by_t.least:.0f} to {by_t.most:.0f}",
            f"half_{key}": f"{method.Z * sd / np.sqrt(stated):.4f}",
            f"has_{key}": f"{(greatest - least) / 2:.4f}",
            f"most_{key}": f"{most:.2f}",
            f"forced_{key}": f"{100 * (1 - most) / (1 - dice):.0f}",
        }
    return said


def of_shifts(rows: list[Row], states: dict[str, str], least: float) -> dict[str, str | None]:
    """How the judged changes stand, by `ChapterRun.state` of their parts, and what is kept; ``least``: asked."""
    there = evidence.judged(rows)
    if not there:
        return dict.fromkeys(("dice_base", "n_judged", "kept", "broken", "undecided", "worst", "blind"))
    kept = {part: evidence.kept(rows, level).value for part, level in there.items()}

    def listed(*wanted: str) -> str:
        names = [
            f"{spoken(there[part])} ({kept[part]:.2f})" for part in sorted(kept, key=kept.get) if states[part] in wanted
        ]
        return f"{len(names)} of {len(there)}" + (f": {', '.join(names)}" if names else "")

    drawn = {level: evidence.kept(rows, level).value for level in evidence.levels(rows)}
    worst = sorted(drawn, key=drawn.get)[:3]
    looks = set(LOWEST) <= rows[0].arms.keys()
    blind = [evidence.kept(rows, level, LOWEST, LOWEST).value for level in there.values()] if looks else []
    return {
        "dice_base": f"{Scans(evidence.at_level(rows).values())('dice').mean():.2f}",
        "n_judged": str(len(there)),
        "kept": listed("met").partition(":")[0],
        "broken": listed("not met"),
        "undecided": listed("open", "void", "untested"),
        "worst": ", ".join(f"{spoken(level)} ({drawn[level]:.2f})" for level in worst),
        "blind": f"{sum(value >= least for value in blind)} of {len(blind)}" if blind else None,
    }


def each_network(rows: list[Row]) -> list[list[str]]:
    """Lines: what each network alone keeps of its overlap at the judged changes, and two readers of theirs."""
    each = [(net,) for net in evidence.networks(rows)] + [evidence.READERS]
    return [
        [spoken(level), *(f"{evidence.kept(rows, level, one, one).value:.2f}" for one in each)]
        for level in evidence.judged(rows).values()
    ]


def of_cohorts(rows: list[Row]) -> dict[str, str | None]:
    """Dice of the ways of segmenting, what false volume there is, and what the threshold's area is."""
    of, free, nets = evidence.with_ascites(rows), evidence.without_ascites(rows), evidence.networks(rows)
    dice = {f"dice_{key}": (arm,) for key, arm in ARMS.items()} | {"dice_nets": nets}
    false = {f"false_{key}": arms for key, arms in (("nets", nets), ("fitted", ("fitted",)))}
    there = of.rows[0].arms
    return {
        **{key: f"{of('dice', arms).mean():.2f}" if set(arms) <= there.keys() else None for key, arms in dice.items()},
        **{
            key: f"{np.median([np.median([row.arms[arm].ml for arm in arms]) for row in free]):,.0f}"
            for key, arms in false.items()
        },
        "most_cavity": f"{1 / of('dice', ('in cavity',)).mean():.2f}",
        "watery": f"{of.leaves_out(nets, 'oedema').value:.2f}",
        "watery_null": f"{of.leaves_out(('threshold',), 'oedema').value:.2f}",
        "n_with": str(len(of)),
        "n_free": str(len(free)),
        **{f"area_{key}": _area(of.rows, free, (ARMS[key],)) for key in ("fitted", "lowest")},
    }


def _area(present: list[Row], absent: list[Row], arms: Arms) -> str | None:
    if not set(arms) <= present[0].arms.keys():
        return None
    found = evidence.tells_apart(present, absent, arms)
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def alarms(rows: list[Row]) -> list[list[str]]:
    """Lines: by cohort, in how many scans more than 50 mL are segmented, with ascites and without."""
    ways, lines = {"networks": evidence.networks(rows), "threshold, fitted": ("fitted",)}, []
    for cohort in evidence.COHORTS:
        cells = [
            "{} of {}".format(*evidence.alarms([row for row in rows if row.cohort == of], arms))
            for arms in ways.values()
            for of in (cohort, f"{cohort}_free")
        ]
        lines.append([f"simulated {cohort}", *cells])
    return lines


def of_fluids(rows: list[Row]) -> dict[str, str]:
    """How much of the other fluids is oedema, and what the threshold that was not fitted calls ascites, in per cent."""
    others = [fluid for fluid in phantoms.FOUND if fluid != "oedema"]
    of = {fluid: sum(row.fluids_ml[fluid] for row in rows) for fluid in phantoms.FOUND}
    return {
        "oedema": f"{100 * of['oedema'] / sum(of.values()):.0f}",
        "leak_oedema": f"{100 * evidence.leak(rows, ['oedema'], ('threshold',)):.0f}" if of["oedema"] else "0",
        "leak_others": f"{100 * evidence.leak(rows, others, ('threshold',)):.0f}",
    }


def performance(rows: list[Row], name: str, arms: Arms) -> list[str]:
    """A line of the table of cohorts; what is not defined is left empty."""
    of = evidence.performance(rows, arms)
    low, high = method.z_interval(of["dice"], of["sd"], of["n"])
    cells = (
        (of["n"], "{:.0f}"),
        ((of["dice"], of["sd"], low, high), "{:.3f} ± {:.3f} [{:.3f}, {:.3f}]"),
        (of["surface"], "{:.1f}"),
        ((of["error"], of["q1"], of["q3"]), "{:.0f} ({:.0f} to {:.0f})"),
        ((of["r2"], of["identity"]), "{:.2f}; {:.2f}"),
        (of["ccc"], "{:.2f}"),
        ((of["bias"], of["low"], of["high"]), "{:+,.0f} ({:+,.0f} to {:+,.0f})"),
    )
    return [name, *(form.format(*np.atleast_1d(cell)) if np.isfinite(cell).all() else "" for cell, form in cells)]


def on_real(rows: list[real.Row]) -> list[list[str]]:
    """Lines: what each way finds in a real image as it is, and its Dice with each painted pool."""
    arms = [arm for arm in rows[0].arms if arm not in ("nothing", "fills")] if rows else []
    plain, pools = [row for row in rows if not row.ml], [row for row in rows if row.ml]
    return [
        [arm, *(f"{row.arms[arm].ml:,.0f}" for row in plain), *(f"{row.arms[arm].dice:.2f}" for row in pools)]
        for arm in arms
    ]


def of_torso(rows: list[real.Row]) -> dict[str, str | None]:
    """What is found in the real scan without ascites, in mL, and of what was painted into it."""
    if not rows:
        return dict.fromkeys(("alarm_nets", "alarm_ends", "alarm_slices", "painted", "painted_slices"))
    (plain,), pools = [row for row in rows if not row.ml], [row for row in rows if row.ml]
    ml = [plain.arms[arm].ml for arm in evidence.networks(rows)]
    return {
        "alarm_nets": f"{np.mean(ml):,.0f}",
        "alarm_ends": f"{min(ml):,.0f} to {max(ml):,.0f}",
        "alarm_slices": f"{plain.arms['slices_0'].ml:,.0f}",
        "painted": f"{100 * evidence.painted_share(rows):.0f}",
        "painted_slices": f"{np.mean([row.arms['slices_0'].dice for row in pools]):.2f}",
    }


def of_training(trained: list[dict]) -> dict[str, str | None]:
    """Minutes, and whether stored trainings had levelled off: the last two checks of each that was checked."""
    checks = [one["curves"]["validation"] for one in trained]
    moved = [curve[-1]["dice"] - curve[-2]["dice"] for curve in checks if len(curve) > 1]
    return {
        "last_checks": ", ".join(f"{one:+.3f}" for one in moved) or None,
        "n_checked": str(len(moved)),
        "n_level": str(sum(abs(one) <= LEVEL for one in moved)),
        "minutes": f"{np.mean([one['wall_s'] for one in trained]) / 60:.0f}" if trained else None,
    }


def of_window(rows: list[window.Row]) -> dict[str, str | None]:
    """The fitted thresholds in words."""
    return {f"window_{where}": in_words(window.best(rows, where)) if rows else None for where in window.WHERE}


def in_words(setting: Setting) -> str:
    ends = f"from {setting.low} HU on" if np.isinf(setting.high) else f"{setting.low} to {setting.high} HU"
    return ends + (f", opened by {several(setting.opening, 'voxels')}" if setting.opening else "")
