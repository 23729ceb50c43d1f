"""Draws rows and points, with titles from the numbers drawn."""

import numpy as np
import pandas as pd

from claimbook import plotting
from claimbook.experiments.grocery_ranking.evidence import BAYES, HELD, INDEX, INSIDE, METHOD, RANDOM, Protocol, share
from claimbook.plotting import Plot

OURS = "Our reading of formulas that could not be read."


def trade_off(points: dict[str, list[dict]], rows: pd.DataFrame, beside: pd.DataFrame):
    """Best matches kept against recipes scored: every n and theta of the ranking, and the other gates."""
    inside = Protocol(rows, INSIDE)
    ways = {name: inside for name in (INDEX, BAYES, RANDOM)} | {"LSH": Protocol(beside, INSIDE)}
    fig, ax = plotting.figure(height=4.6)
    for i, (label, grid) in enumerate(points.items()):
        x, y = (100 * np.array([point[key] for point in grid]) for key in ("scored", "kept"))
        best = [j for j in np.argsort(x) if not ((x < x[j]) & (y >= y[j])).any()]  # what no cheaper setting beats
        ax.plot(x, y, ".", color=plotting.COLOURS[i], alpha=0.35, markersize=4)
        ax.plot(x[best], y[best], color=plotting.COLOURS[i], linestyle=plotting.LINES[i], label=label)
    chosen = [100 * inside(measure, METHOD).mean() for measure in ("scored", "kept")]
    ax.plot(*chosen, "o", color=plotting.COLOURS[0], markersize=10, label="item ranking, as chosen")
    for i, (name, protocol) in enumerate(ways.items(), len(points)):
        at = [100 * protocol(measure, name).mean() for measure in ("scored", "kept")]
        ax.plot(*at, plotting.MARKERS[i % 7], color=plotting.COLOURS[i % 7], markersize=9, label=name)
    ax.plot([0, 100], [0, 100], color=plotting.SOFT, linewidth=1)
    ax.set(xlabel="recipes scored, %", ylabel="best match kept, %", xlim=(0, 100), ylim=(0, 104))
    plotting.legend(ax)
    index, method = ([100 * inside(measure, way).mean() for measure in ("kept", "scored")] for way in (INDEX, METHOD))
    return Plot(
        fig,
        title=f"An inverted index keeps {index[0]:.0f} % of the best matches, scoring {index[1]:.0f} % of the recipes; "
        f"item ranking keeps {method[0]:.0f} %, scoring {method[1]:.0f} %",
        caption="In the database. Dots are all list lengths n and thresholds theta, the lines join those that no "
        f"cheaper one beats; the straight line is a blind search. {OURS}",
        alt="Share of best matches kept against share of recipes scored. The curve of item ranking lies above the "
        "diagonal of a blind search; the inverted index, naive Bayes and LSH lie high above the curve.",
    )


def recalls(rows: pd.DataFrame, beside: pd.DataFrame):
    """Recall at 10 of hidden items, held out, of each recommender; with and without staples."""
    held, others = Protocol(rows, HELD), Protocol(beside, HELD)
    ways = {name: held for name in (METHOD, "brute force", "popularity", "item-kNN, cosine")}
    ways |= {name: others for name in beside[HELD]["recall"]}
    measures = {"all items": "recall", "without staples": "recall without staples"}
    found = {name: [share(protocol(key, name)) for key in measures.values()] for name, protocol in ways.items()}
    order = sorted(found, key=lambda name: -found[name][0].value)
    fig, ax = plotting.figure(height=5.2)
    for j, label in enumerate(measures):
        values = [found[name][j] for name in order]
        middle = np.array([100 * value.value for value in values])
        arms = [[100 * (v.value - v.low) for v in values], [100 * (v.high - v.value) for v in values]]
        face = plotting.COLOURS[j] if j == 0 else plotting.CARD
        look = {"color": plotting.COLOURS[j], "markerfacecolor": face, "capsize": 3, "label": label}
        ax.errorbar(middle, np.arange(len(order)), xerr=arms, fmt=plotting.MARKERS[j], **look)
    ax.set_yticks(range(len(order)), order)
    ax.set(xlabel="recall at 10 of hidden items, %", ylim=(len(order) - 0.5, -0.5))
    plotting.legend(ax)
    own, popular = (100 * found[name][0].value for name in (METHOD, "popularity"))
    return Plot(
        fig,
        title=f"Of a dish that the database lacks, item ranking finds {own:.0f} % of the missing items in ten "
        f"recommended ones, popularity {popular:.0f} %",
        caption="Means over judged recipes with 95 % intervals. Staples are salt, pepper, oil and their like. "
        f"{OURS} The other recommenders have their libraries' settings; five of them "
        "were asked one drawing of baskets, the rest five.",
        alt="Recall at ten of hidden items for nine recommenders, held out, with and without pantry staples.",
    )


def told_apart(rows: pd.DataFrame):
    """AUC of ranked items, without what titles name, and of random items."""
    inside, held = Protocol(rows, INSIDE), Protocol(rows, HELD)
    shown = {
        "in the database": share(inside("auc", "ranked")),
        "held out": share(held("auc", "ranked")),
        "held out, without named items": share(held("auc", "without names")),
        "held out, in any order": share(held("auc", "any order")),
        "held out, random items": share(held("auc", "random items")),
        "database, meaningless labels": share(inside("meaningless", "auc")),
    }
    fig, ax = plotting.figure(height=4.0)
    plotting.interval_plot(ax, shown, xlabel="AUC")
    ax.set_xlim(0.45, 1)
    plotting.reference_line(ax, 0.5, "chance", axis="x")
    named, bare = shown["held out"].value, shown["held out, without named items"].value
    return Plot(
        fig,
        title=f"Held out, ranked items tell a dish from its siblings with an AUC of {named:.2f}, and of {bare:.2f} "
        "without what its title names",
        caption="How often a recipe scores higher for its own subcategory than a recipe of a sibling does. Means over "
        f"judged recipes with 95 % intervals. {OURS}",
        alt="Area under the curve of six ways to score recipes: ranked items in the database highest, random items "
        "of the dish lowest.",
    )


def knobs(points: list[dict], lengths: tuple[int, ...] = (5, 20, 80)):
    """Best matches kept, and recipes scored, against theta, for some list lengths, on the paper's two categories."""
    fig, axes = plotting.figure(2, 1, height=6.2, sharex=True)
    for ax, key, label in zip(axes, ("kept", "scored"), ("best match kept, %", "recipes scored, %"), strict=True):
        if not points:
            continue
        series = {}
        for n in lengths:
            own = [point for point in points if point["n"] == n]
            series[f"n = {n}"] = ([point["theta"] for point in own], [100 * point[key] for point in own])
        plotting.curves(ax, series, xlabel="threshold theta" if ax is axes[1] else "", ylabel=label)
        ax.set_ylim(0, 104)
    if points:
        axes[1].get_legend().remove()
    longest = {point["theta"]: 100 * point["scored"] for point in points if point["n"] == lengths[-1]}
    return Plot(
        fig,
        title=f"On rice and chicken, lists of {lengths[-1]} search {longest[0.0]:.0f} % of the recipes "
        f"at a threshold of 0, and {longest[0.1]:.0f} % at 0.1"
        if points
        else "",
        caption=f"In the database, recipes of the two categories alone. {OURS}",
        alt="Best matches kept, and recipes scored, against the threshold for three list lengths; both fall as the "
        "threshold grows.",
    )
