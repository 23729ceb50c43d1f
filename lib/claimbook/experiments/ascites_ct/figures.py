"""Draws published figures and rows, with titles from the numbers drawn."""

import numpy as np
from matplotlib.axes import Axes

from claimbook import plotting
from claimbook.experiments.ascites_ct import evidence, phantoms
from claimbook.experiments.ascites_ct.evidence import Scans
from claimbook.experiments.ascites_ct.measure.scans import Row
from claimbook.papers import ascites_ct as method
from claimbook.plotting import CARD, COLOURS, MARKERS, Plot
from claimbook.stats import Estimate

NAMES = {
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
    "slices_0": "2.5D network",
    "forest": "random forest",
    "in cavity": "threshold in the cavity",
    "largest": "threshold, largest piece",
    "fitted": "threshold, fitted",
    "threshold": "threshold",
    "lowest fifth": "lowest fifth of the cavity",
    "fills": "all of the cavity",
    "untrained": "untrained network",
}


def hero(rows: list[Row], least: float) -> Plot:
    """Dice kept when one thing changes, and what two readers keep; ``least``: what the ledger calls kept."""
    levels = evidence.levels(rows)
    kept = {level: evidence.kept(rows, level) for level in levels}
    readers = [evidence.kept(rows, level, evidence.READERS, evidence.READERS).value for level in levels]
    judged = set(evidence.JUDGED.values())
    fig, ax = plotting.figure(height=8.2)
    for i, (level, one) in enumerate(kept.items()):
        _point(ax, one, i, full=level in judged)
    ax.plot(readers, range(len(levels)), linestyle="none", marker="|", color=COLOURS[1], markersize=13, label="reader")
    ax.set_yticks(range(len(levels)), [NAMES[factor] + level for factor, level in levels])
    ax.set(xlabel="Dice, of that on unchanged scans", ylim=(len(levels) - 0.4, -0.6), xlim=(-0.02, 1.25))
    ax.grid(axis="y", visible=False)
    if levels:
        plotting.region(ax, least, np.inf, "keeps it")
    broken = sorted((kept[level].value, level) for level in judged & set(levels) if kept[level].high < least)
    said = " and ".join(f"{spoken(level)} ({value:.2f})" for value, level in broken[:2])
    ends = f"the overlap breaks most by {said}" if broken else "no judged change breaks the overlap"
    return Plot(
        fig,
        title=f"Simulated: one thing at a time, {ends}" if levels else "",
        caption="Simulated scans, the same patients with one thing changed. Full: the seven judged changes, 20 "
        "patients; hollow: 8 patients. Means of the trained networks with 95 % intervals; bars: what two "
        "simulated readers keep of their Dice with each other. How large each change is was chosen by us.",
        alt="Dice on changed simulated scans over Dice on the same patients unchanged, for each factor and level, with "
        "intervals and the region of at least 0.93.",
    )


def spoken(level: tuple[str, str]) -> str:
    return {"disease": "cirrhosis", "contrast": "no contrast"}.get(
        level[0], NAMES[level[0]].replace(":", "") + level[1]
    )


def _point(ax: Axes, one: Estimate, at: float, full: bool = True, colour: int = 0, label: str | None = None) -> None:
    bounded = np.isfinite(one.low) and np.isfinite(one.high)
    arms = [[one.value - one.low], [one.high - one.value]] if bounded else None
    look = {"color": COLOURS[colour], "markerfacecolor": COLOURS[colour] if full else CARD, "markersize": 7}
    ax.errorbar(one.value, at, xerr=arms, fmt=MARKERS[colour], capsize=3, linewidth=1.8, label=label, **look)


def audit() -> Plot:
    """Scans as stated, and as the intervals of Dice imply."""
    fig, ax = plotting.figure(height=3.2)
    for i, cohort in enumerate(evidence.PUBLISHED):
        stated, found = evidence.PUBLISHED[cohort][4], evidence.implied(cohort)
        arms = [[found.n - found.least], [found.most - found.n]]
        ax.errorbar(found.n, i, xerr=arms, fmt="o", color=COLOURS[0], capsize=4, label="implied" if not i else None)
        ax.plot(stated, i, "s", color=COLOURS[1], markerfacecolor=CARD, markersize=9, label="stated" if not i else None)
    ax.set_yticks(range(3), list(evidence.PUBLISHED))
    ax.set(xlabel="scans", xscale="log", xlim=(15, 300), ylim=(2.5, -0.5))
    plotting.plain_ticks(ax.xaxis)
    plotting.legend(ax)
    implied = [f"{evidence.implied(cohort).n:.0f}" for cohort in evidence.PUBLISHED]
    stated = [str(figures[4]) for figures in evidence.PUBLISHED.values()]
    return Plot(
        fig,
        title=f"The published intervals fit {implied[0]}, {implied[1]} and {implied[2]} scans; stated are {stated[0]}, "
        f"{stated[1]} and {stated[2]}",
        caption="From the abstract alone: an interval of mean ± 1.96 sd / √n is solved for n. The arms are what the "
        "rounding of the published figures leaves possible.",
        alt="Number of scans implied by each published interval, and as stated, for three cohorts.",
    )


def scans(cases: list[tuple[str, phantoms.Case, np.ndarray]]) -> Plot:
    """Slices of simulated scans with the true mask and a network's: (name, case, segmented)."""
    fig, axes = plotting.figure(2, max(1, (len(cases) + 1) // 2), height=5.2)
    dice = []
    for ax, (name, case, found) in zip(axes.flat, cases, strict=False):
        dice.append(method.dice(found, case.truth))
        z = int(case.truth.sum(axis=(0, 1)).argmax()) if case.truth.any() else case.truth.shape[2] // 2
        x, y, _ = case.spacing
        ax.imshow(case.image[:, :, z].T, cmap="gray", vmin=-160, vmax=240, origin="lower", aspect=y / x)
        for mask, colour, line in ((case.truth, "#ffd24d", "-"), (found, "#5ec8ff", "--")):
            if mask[:, :, z].any():
                ax.contour(mask[:, :, z].T, levels=[0.5], colors=colour, linestyles=line, linewidths=1.2)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{name}\n{case.ml:,.0f} mL, Dice {dice[-1]:.2f}", fontsize=11)
    return Plot(
        fig,
        title=f"Simulated: the network's Dice is {max(dice):.2f} on the easiest and {min(dice):.2f} on the hardest"
        if dice
        else "",
        caption="Simulated scans, one slice each, window -160 to 240 HU. Solid yellow: the true ascites; dashed blue: "
        "what the first network segments.",
        alt="Axial slices of simulated abdomens with the outline of the true ascites and of the segmented one.",
    )


def trainings(losses: list[list[dict]], validation: list[list[dict]]) -> Plot:
    """Loss along each training, and Dice on scans that it had not seen."""
    fig, axes = plotting.figure(2, 1, height=5.4, sharex=True)
    for ax, curves, key, label in zip(axes, (losses, validation), ("loss", "dice"), ("loss", "Dice"), strict=True):
        for i, curve in enumerate(curves):
            if curve:
                x, y = [one["step"] for one in curve], [one[key] for one in curve]
                marker = MARKERS[i] if key == "dice" else ""
                ax.plot(x, y, color=COLOURS[i], marker=marker, linewidth=1.2, label=f"unet_{i}")
                ax.set(xlabel="step", ylabel=label)
    if any(losses):
        plotting.legend(axes[0], 3)
    ends = [curve[-1]["dice"] for curve in validation if curve]
    return Plot(
        fig,
        title=f"Simulated: the trainings end at a Dice of {min(ends):.2f} to {max(ends):.2f} on unseen scans"
        if ends
        else "",
        caption="Above, the training loss (soft Dice and cross-entropy); below, Dice on simulated scans of the "
        "training cohort that no training used.",
        alt="Training loss of five networks against steps, and their Dice on unseen simulated scans.",
    )


def agreement(rows: list[Row]) -> Plot:
    """Segmented against true volume, by cohort."""
    fig, ax = plotting.figure(height=4.4)
    lines = []
    for i, cohort in enumerate(evidence.COHORTS):
        of = Scans(row for row in rows if row.cohort == cohort)
        if len(of) < 3:
            continue
        found = of("ml")
        ax.plot(of.true_ml, found, MARKERS[i], color=COLOURS[i], markerfacecolor=CARD, label=cohort)
        lines.append((cohort, method.pearson_r2(of.true_ml, found), method.ccc(of.true_ml, found)))
    if lines:
        ends = np.array(ax.get_xlim()).clip(10)
        ax.plot(ends, ends, color=COLOURS[-1], linewidth=1)
        ax.set(xlabel="true volume, mL", ylabel="segmented, mL", xscale="log", yscale="symlog")
        plotting.legend(ax, 3)
    said = "; ".join(f"{cohort} r² {r2:.2f}, concordance {ccc:.2f}" for cohort, r2, ccc in lines)
    return Plot(
        fig,
        title=f"Simulated: {said}",
        caption="Simulated scans; the mean volume of the trained networks. The line is agreement. r² and the "
        "concordance are of these means, where the claims take each network's own.",
        alt="Segmented against true volume of simulated scans of three cohorts, on logarithmic axes.",
    )


def rivals(rows: list[Row]) -> Plot:
    """Dice of every way of segmenting, over the scans of three cohorts."""
    of = Scans(row for row in rows if row.cohort in evidence.COHORTS)
    there = {"networks": evidence.networks(of.rows)} | {
        name: (arm,) for arm, name in ARMS.items() if arm in of.rows[0].arms
    }
    found = {name: evidence.share(of("dice", arms)) for name, arms in there.items()}
    order = sorted(found, key=lambda name: -found[name].value)
    fig, ax = plotting.figure(height=4.4)
    plotting.interval_plot(ax, {name: found[name] for name in order}, xlabel="Dice")
    ax.set_xlim(0, 1)
    nets, told = found["networks"].value, found["threshold in the cavity"].value
    return Plot(
        fig,
        title=f"Simulated: the networks' Dice is {nets:.2f}, and {told:.2f} for a threshold that is told the cavity",
        caption=f"Means over {len(of)} simulated scans with ascites, with 95 % intervals.",
        alt="Mean Dice of each way of segmenting simulated scans, from the second reader to the untrained network.",
    )


def coefficients(rows: list[Row]) -> Plot:
    """r² and concordance of the volumes when one thing changes."""
    levels = [level for level in evidence.SPREAD if level in evidence.levels(rows)]
    shown = [("", ""), *levels] if levels else []
    values = {
        name: [evidence.of_level(rows, level, of) for level in shown] for name, of in evidence.COEFFICIENTS.items()
    }
    fig, ax = plotting.figure(height=3.8)
    for i, (name, of) in enumerate(values.items()):
        ax.plot(of, range(len(of)), linestyle="none", marker=MARKERS[i], color=COLOURS[i], markersize=9, label=name)
    if shown:
        ax.set_yticks(range(len(shown)), ["unchanged", *(NAMES[factor] + level for factor, level in levels)])
        ax.set(xlabel="coefficient of the volumes", ylim=(len(shown) - 0.5, -0.5))
        plotting.legend(ax)
    changed = [np.mean(of[1:]) - of[0] for of in values.values()] if shown else []
    return Plot(
        fig,
        title=f"Simulated: over six changes r² moves by {changed[0]:+.2f}, the concordance by {changed[1]:+.2f}"
        if shown
        else "",
        caption="20 simulated patients, unchanged and with one thing changed. Each is the mean of the networks' own "
        "coefficients.",
        alt="r² and concordance of segmented volumes on unchanged simulated scans and under each of six changes.",
    )
