"""Draws published figures and rows, with titles from the numbers drawn."""

import numpy as np
from matplotlib.axes import Axes

from claimbook import plotting, stats
from claimbook.experiments.ascites_ct import evidence, phantoms
from claimbook.experiments.ascites_ct.evidence import Scans
from claimbook.experiments.ascites_ct.measure import real
from claimbook.experiments.ascites_ct.measure.scans import Row
from claimbook.papers import ascites_ct as method
from claimbook.plotting import CARD, COLOURS, MARKERS, SOFT, Plot
from claimbook.stats import Estimate

NAMES = {  # of a factor, before its level
    "disease": "",
    "noise": "noise ",
    "kernel": "kernel: ",
    "calibration": "calibration ",
    "tilt": "tilt ",
    "contrast": "contrast: ",
    "slice": "slices ",
    "distractors": "other fluids: ",
    "density": "ascites ",
    "volume": "ascites ",
}
ARMS = {
    "second reader": "second reader",
    "slices_0": "network on three slices",
    "forest": "random forest",
    "in cavity": "threshold in the cavity",
    "largest": "threshold, largest piece",
    "fitted": "threshold, fitted",
    "threshold": "threshold",
    "lowest fifth": "lowest fifth of the cavity",
    "fills": "all of the cavity",
    "untrained": "untrained network",
}


def audit() -> Plot:
    """Scans as stated, and as the intervals of Dice imply."""
    fig, ax = plotting.figure(height=3.2)
    found = [evidence.implied(cohort) for cohort in evidence.PUBLISHED]
    stated = [figures[4] for figures in evidence.PUBLISHED.values()]
    for i, one in enumerate(found):
        ends = [[one.n - one.least], [one.most - one.n]]
        ax.errorbar(one.n, i, xerr=ends, fmt="o", color=COLOURS[0], capsize=4, label=None if i else "implied")
    ax.plot(stated, range(3), "s", color=COLOURS[1], markerfacecolor=CARD, markersize=9, label="stated")
    ax.set_yticks(range(3), list(evidence.PUBLISHED))
    ax.set(xlabel="scans", xscale="log", xlim=(15, 300), ylim=(2.5, -0.5))
    plotting.plain_ticks(ax.xaxis)
    plotting.legend(ax)
    return Plot(
        fig,
        title="The published intervals fit {:.0f}, {:.0f} and {:.0f} scans; stated are {}, {} and {}".format(
            *(one.n for one in found), *stated
        ),
        caption="From the abstract alone: an interval of mean ± 1.96 sd / √n is solved for n. The arms are what the "
        "rounding of the published figures leaves possible.",
        alt="Number of scans implied by each published interval, and as stated, for three cohorts.",
    )


def hero(rows: list[Row], least: float, states: dict[str, str], torso: list[real.Row]) -> Plot:
    """Dice kept when one thing changes, what two readers keep, and what is left on a real scan with painted fluid.

    ``least``: what the ledger calls kept; ``states``: how each of its parts stands, as in "not met".
    """
    levels, judged, pools = evidence.levels(rows), evidence.judged(rows), [row for row in torso if row.ml]
    names = [NAMES[factor] + level for factor, level in levels] + [f"real CT, {row.ml:,.0f} mL" for row in pools]
    fig, ax = plotting.figure(height=9.4)
    for i, level in enumerate(levels):
        readers = evidence.kept(rows, level, evidence.READERS, evidence.READERS).value
        look = {"marker": "|", "color": COLOURS[1], "markersize": 14, "markeredgewidth": 2.5, "linestyle": "none"}
        ax.plot(readers, i, label=None if i else "two readers", **look)
        _point(ax, evidence.kept(rows, level), i, full=level in judged.values(), label=None if i else "networks")
    plain = Scans(evidence.at_level(rows).values())("dice").mean()
    for i, row in enumerate(pools if levels else (), len(levels)):
        each = [row.arms[arm].dice / plain for arm in evidence.networks(torso)]
        ends = [[np.mean(each) - min(each)], [max(each) - np.mean(each)]]
        look = {
            "color": COLOURS[3],
            "markersize": 8,
            "linewidth": 1.8,
            "label": None if row is not pools[0] else "real CT",
        }
        ax.errorbar(np.mean(each), i, xerr=ends, fmt="D", **look)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="Dice, of that on unchanged scans", ylim=(len(names) - 0.4, -0.6))
    ax.set_xlim(-0.02, max(1.25, ax.get_xlim()[1]))
    ax.grid(axis="y", visible=False)
    factors = [factor for factor, _ in levels] + ["real"] * len(pools)
    for edge in (i for i in range(1, len(factors)) if factors[i] != factors[i - 1]):
        ax.axhline(edge - 0.5, color=SOFT, linewidth=2 if factors[edge] == "real" else 0.5)
    if levels:
        plotting.region(ax, least, np.inf, "keeps it")
    broken = sorted(
        (evidence.kept(rows, level).value, level) for part, level in judged.items() if states[part] == "not met"
    )
    told = "no change is shown to break the overlap"
    if broken:
        (left, worst), verb = broken[0], "breaks the overlap:" if len(broken) == 1 else "break the overlap, most of all"
        told = f"{len(broken)} of {len(judged)} judged changes {verb} {spoken(worst)} ({left:.2f} of it left)"
    beside = ""
    if drawn := [level for level in levels if level not in judged.values() and evidence.kept(rows, level).high < least]:
        beside = f"Of the changes that are only drawn, these break it too: {', '.join(map(spoken, drawn))}. "
    if pools:
        beside += f"With simulated fluid painted into a real CT the Dice is {evidence.painted_dice(torso):.2f}, on "
        beside += f"unchanged simulated scans {plain:.2f}. "
    return Plot(
        fig,
        title=f"Simulated, one thing changed at a time: {told}" if levels else "",
        caption=f"{beside}{len(evidence.at_level(rows))} simulated patients, as they are and with one thing changed. "
        "Full: the judged changes; hollow: changes that are only drawn, some of the patients. Means of the networks "
        "with 95 % intervals. Bars: what two simulated readers keep of their Dice with each other; where they lose as "
        "much, nothing is said against a network. The size of each change was our choice. Below: one real CT without "
        "ascites, with simulated fluid painted in, partly behind the peritoneum; its Dice is over the mean Dice of the "
        "simulated patients unchanged, and its bars go from the lowest to the highest of the networks.",
        alt="Dice on changed simulated scans over Dice on the same patients unchanged, for each factor and level, with "
        f"intervals and the region of at least {least}; below, Dice on a real CT with painted fluid over the same.",
    )


def spoken(level: tuple[str, str]) -> str:
    """A factor and its judged level in running text."""
    short = {"disease": "cirrhosis", "contrast": "no contrast", "distractors": f"{level[1]} other fluids"}
    return short.get(level[0], NAMES[level[0]] + level[1])


def _point(ax: Axes, one: Estimate, at: float, full: bool, label: str | None) -> None:
    ends = [[one.value - one.low], [one.high - one.value]] if np.isfinite([one.low, one.high]).all() else None
    look = {"color": COLOURS[0], "markerfacecolor": COLOURS[0] if full else CARD, "markersize": 7}
    ax.errorbar(one.value, at, xerr=ends, fmt="o", capsize=3, linewidth=1.8, label=label, **look)


def scans(cases: list[tuple[str, phantoms.Case, np.ndarray]]) -> Plot:
    """Slices of simulated scans with the true mask and a network's: (name, case, segmented)."""
    fig, axes = plotting.figure(2, max(1, (len(cases) + 1) // 2), height=5.2)
    dice = [method.dice(found, case.truth) for _, case, found in cases]
    for ax, (name, case, found), one in zip(axes.flat, cases, dice, strict=False):
        z = int(case.truth.sum(axis=(0, 1)).argmax())  # where most of it is
        x, y, _ = case.spacing
        ax.imshow(case.image[:, :, z].T, cmap="gray", vmin=-160, vmax=240, origin="lower", aspect=y / x)
        for mask, colour, line in ((case.truth, "#ffd24d", "-"), (found, "#5ec8ff", "--")):
            if mask[:, :, z].any():
                ax.contour(mask[:, :, z].T, levels=[0.5], colors=colour, linestyles=line, linewidths=1.2)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{name}\n{case.ml:,.0f} mL, Dice {one:.2f}", fontsize=11)
    return Plot(
        fig,
        title=f"Simulated: on {len(cases)} scans the network's Dice goes from {min(dice):.2f} to {max(dice):.2f}",
        caption="Simulated scans, one slice each, window -160 to 240 HU. Solid yellow: the true ascites; dashed blue: "
        "what the first network segments.",
        alt="Axial slices of simulated abdomens with the outline of the true ascites and of the segmented one.",
    )


def trainings(losses: list[list[dict]], validation: list[list[dict]]) -> Plot:
    """Loss along each training, and Dice on scans that it had not seen."""
    fig, axes = plotting.figure(2, 1, height=5.4, sharex=True)
    for ax, curves, key, label in zip(axes, (losses, validation), ("loss", "dice"), ("loss", "Dice"), strict=True):
        for i, curve in enumerate(curves):
            points = zip(*((one["step"], one[key]) for one in curve), strict=True)
            ax.plot(
                *points, color=COLOURS[i], marker=MARKERS[i] if key == "dice" else "", linewidth=1.2, label=f"seed {i}"
            )
        ax.set(ylabel=label)
    axes[1].set(xlabel="step")
    if losses:
        plotting.legend(axes[0], 3)
    ends = [curve[-1]["dice"] for curve in validation]
    return Plot(
        fig,
        title=f"Simulated: the trainings end at a Dice of {min(ends):.2f} to {max(ends):.2f} on unseen scans"
        if ends
        else "",
        caption="Above, the training loss (soft Dice and cross-entropy); below, Dice on simulated scans of the "
        "training cohort that no training used.",
        alt="Training loss of the networks against steps, and their Dice on unseen simulated scans.",
    )


def rivals(rows: list[Row]) -> Plot:
    """Dice of every way of segmenting, over the scans of three cohorts."""
    of = evidence.with_ascites(rows)
    there = {name: (arm,) for arm, name in ARMS.items() if arm in of.rows[0].arms}
    found = {
        name: stats.mean(of("dice", arms), unit="scans", within=(0, 1))
        for name, arms in {"networks": (), **there}.items()
    }
    fig, ax = plotting.figure(height=4.4)
    order = sorted(found, key=lambda name: -found[name].value)
    plotting.interval_plot(ax, {name: found[name] for name in order}, xlabel="Dice")
    ax.set_xlim(0, 1)
    nets, told = found["networks"].value, found["threshold in the cavity"].value
    return Plot(
        fig,
        title=f"Simulated: the networks' Dice is {nets:.2f}, and {told:.2f} for a threshold that is told the cavity",
        caption=f'Means over {len(of)} simulated scans with ascites, with 95 % intervals. What stands "in" or "of the '
        'cavity" knows its true outline, organs and bowel cut out.',
        alt="Mean Dice of each way of segmenting simulated scans, the best above.",
    )


def agreement(rows: list[Row]) -> Plot:
    """Segmented against true volume, by cohort."""
    fig, ax = plotting.figure(height=4.4)
    lines = []
    for i, cohort in enumerate(evidence.COHORTS):
        of = Scans(row for row in rows if row.cohort == cohort)
        if len(of) > 2:
            ax.plot(of.true_ml, of("ml"), MARKERS[i], color=COLOURS[i], markerfacecolor=CARD, label=cohort)
            one = evidence.performance(of.rows, evidence.networks(of.rows))
            r2, ccc = one["r2"], one["ccc"]
            lines.append(f"{cohort} r² {r2:.2f}, concordance {ccc:.2f}")
    if lines:
        ends = np.array(ax.get_xlim()).clip(10)
        ax.plot(ends, ends, color=COLOURS[-1], linewidth=1)
        scale = "log" if min(min(line.get_ydata()) for line in ax.lines) > 0 else "symlog"  # who finds nothing has 0
        ax.set(xlabel="true volume, mL", ylabel="segmented, mL", xscale="log", yscale=scale)
        plotting.legend(ax, 3)
    return Plot(
        fig,
        title=f"Simulated: {'; '.join(lines)}" if lines else "",
        caption="Simulated scans; the mean volume of the trained networks. The line is agreement. r² and the "
        "concordance are the means of each network's own.",
        alt="Segmented against true volume of simulated scans of three cohorts, on logarithmic axes.",
    )


def coefficients(rows: list[Row]) -> Plot:
    """r² and concordance of the volumes when one thing changes."""
    levels = [level for level in evidence.SPREAD if level in evidence.levels(rows)]
    fig, ax = plotting.figure(height=3.8)
    moved = []
    for i, (name, coefficient) in enumerate(evidence.COEFFICIENTS.items() if levels else ()):
        of = [evidence.of_level(rows, level, coefficient) for level in (("", ""), *levels)]
        look = {"marker": MARKERS[i], "color": COLOURS[i], "markerfacecolor": "none", "markersize": 8 + 4 * i}
        ax.plot(of, range(len(of)), linestyle="none", markeredgewidth=2, label=name, **look)
        moved.append(f"{name} moves by {np.mean(of[1:]) - of[0]:+.2f}")
    if levels:
        ax.set_yticks(range(len(levels) + 1), ["unchanged", *(NAMES[factor] + level for factor, level in levels)])
        ax.set(xlabel="coefficient of the volumes", ylim=(len(levels) + 0.5, -0.5))
        plotting.legend(ax)
    return Plot(
        fig,
        title=f"Simulated: over {len(levels)} changes {' and '.join(moved)}" if levels else "",
        caption=f"{len(evidence.at_level(rows))} simulated patients, as they are and with one thing changed. Each "
        "coefficient is the mean of the networks' own.",
        alt="r² and concordance of segmented volumes on unchanged simulated scans and under each change.",
    )
