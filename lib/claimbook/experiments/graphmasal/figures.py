"""Draws rows, with a title from the numbers drawn; means and intervals are those of `evidence`."""

import numpy as np

from claimbook import plotting, stats
from claimbook.experiments.graphmasal import evidence
from claimbook.experiments.graphmasal.evidence import CLOSED, CLOSED_WITHIN, LIST, MIXED, PLANNER, Table, mean
from claimbook.plotting import Plot

NINE = [*plotting.MARKERS, "*", "<"]
SIMULATED = "Simulated learners, means with 95 % intervals over learners."


def percent(estimate: stats.Estimate) -> stats.Estimate:
    """An estimate of a share, in percent."""
    return stats.Estimate(
        *(100 * value for value in (estimate.value, estimate.low, estimate.high)),
        n=estimate.n,
        method=estimate.method,
        unit=estimate.unit,
    )


def means(of: Table, field: str, ways: dict[str, str]) -> dict[str, stats.Estimate]:
    """Means of a share in percent by label; ``ways``: label to way."""
    return {label: percent(mean(of(field, way))) for label, way in ways.items()}


def hero(rows) -> Plot:
    """What a plan asks for too early, and what comes of it."""
    of = Table(rows)
    ways = {"planned": PLANNER, "random order": MIXED, "list of weak topics": LIST}
    ways |= {"closed": CLOSED, "closed, same cost": CLOSED_WITHIN}
    fig, axes = plotting.figure(3, 1, height=8.0, sharex=True)
    gaps, every, one = (means(of, field, ways) for field in ("unmet", "learned_all", "learned_any"))
    labels = (
        "planned, but lacks a prerequisite, %",
        "learned, if all are needed, %",
        "learned, if one suffices, %",
    )
    for ax, shown, label in zip(axes, (gaps, every, one), labels, strict=True):
        plotting.interval_plot(ax, shown, xlabel=label)
        ax.set_xlim(0, 100)
        ax.tick_params(labelbottom=True)
    return Plot(
        fig,
        title=f"Of a shortest-path plan for simulated learners, planned for what a test asked, "
        f"{gaps['planned'].value:.0f} % lacks a prerequisite when its turn comes; of the same topics in random order "
        f"{gaps['random order'].value:.0f} %",
        caption=f"{SIMULATED} Weak: tested topics that the learner does not know. Learned: of these, where a topic "
        "needs all its prerequisites, and where it needs one of them. Random order: of the planned topics. Closed: "
        "with every prerequisite that is missing; at the same cost, for as many weak topics as the plan's cost allows.",
        alt="Three panels of intervals for the plan, its topics in random order, the list of weak topics, and the "
        "closed plan, whole and at the plan's cost: gaps, and weak topics learned under two rules.",
    )


def worth(rows) -> Plot:
    """PathSim against what learners gain, a point for each way of planning."""
    of = Table(rows)
    fig, axes = plotting.figure(1, 2, height=5.0, sharey=True)
    x = {way: np.nanmean(of(evidence.ORDER, way)) for way in evidence.RATED}
    labels = ("all prerequisites\nneeded", "one prerequisite\nsuffices")
    for ax, field, label in zip(axes, evidence.GAINS.values(), labels, strict=True):
        for i, way in enumerate(evidence.RATED):
            look = {"marker": NINE[i], "color": plotting.COLOURS[i % 7], "linestyle": "", "markersize": 9}
            look |= {"markersize": 15, "fillstyle": "none"} if way == PLANNER else {}  # another lies on top of it
            ax.plot(x[way], 100 * np.nanmean(of(field, way)), label=way, **look)
        ax.set(xlabel="PathSim", ylim=(0, 104))
        ax.set_title(label, fontsize=13)
    axes[0].set_ylabel("weak topics learned, %")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=11)
    first, last = evidence.ratings(of).values()
    length = list(evidence.ratings(of, "length").values())
    return Plot(
        fig,
        title=f"PathSim and what learners gain have a rank correlation of {first.value:.2f} where all prerequisites "
        f"are needed and {last.value:.2f} where one suffices; the mere length of a plan has {length[0].value:.2f} and "
        f"{length[1].value:.2f}",
        caption="Each point is the mean of a way of planning over simulated learners; the correlations are means of "
        "each learner's own.",
        alt="Two panels of points, a shape for each of nine ways of planning: weak topics learned against PathSim.",
    )


PROMPTED = {"free": evidence.FREE, "choice": evidence.CHOICE}


def aligned(by_model: dict[str, list]) -> Plot:
    """PathSim of prompted plans, of the planner, and of what needs no planning."""
    shown = {}
    if not by_model:
        return Plot(plotting.figure()[0], alt="Prompted plans were not measured in this run.")
    for model, rows in by_model.items():
        of = Table(rows, "plans")
        ways = {f"{plotting.model_name(model)}, {way}": key for way, key in PROMPTED.items()}
        shown |= {label: mean(of(evidence.ORDER, way)) for label, way in ways.items()}
    of = Table(next(iter(by_model.values())), "plans")
    ways = {"random topics": evidence.RANDOM, "all topics": evidence.EVERYTHING, "weak topics": evidence.LIST}
    shown |= {label: mean(of(evidence.ORDER, way)) for label, way in (ways | {"planner": PLANNER}).items()}
    fig, ax = plotting.figure(height=4.0)
    plotting.interval_plot(ax, shown, xlabel="PathSim with the library's order")
    ax.set_xlim(left=0)
    best = max(
        (label for label in shown if label.endswith((", free", ", choice"))), key=lambda label: shown[label].value
    )
    easy = max(ways, key=lambda label: shown[label].value)
    return Plot(
        fig,
        title=f"The best prompt ({best}) reaches a PathSim of {shown[best].value:.2f}, the planner "
        f"{shown['planner'].value:.2f}; without any planning {easy} have {shown[easy].value:.2f}",
        caption=f"{SIMULATED} The graph of 93 chapters. Random and weak topics are sorted by depth, as a plan is; all "
        "topics (everything that the goals need) stand in the library's own order, which is the reference's.",
        alt="Intervals of PathSim for prompted plans, for lists that need no planning, and for the planner.",
    )


def found(rows, by_model: dict[str, list]) -> Plot:
    """F1 of weak topics, by diagnosis, where a language model is prompted and on the larger graph."""
    own = Table(next(iter(by_model.values())), "diagnoses") if by_model else None
    fig, axes = plotting.figure(2 if own else 1, 1, height=7.2 if own else 3.8, squeeze=False)
    axes = axes.flat
    labels = {"graph": "graph", "topic by topic": "topic", "mean score": "mean score"}
    labels |= {"another's answers": "another's answers", "graph, no answers": "prior", "all weak": "all weak"}
    large = {label: mean(Table(rows, "methods")("f1", way)) for label, way in labels.items()}
    small = {}
    if own:
        small = {label: mean(own("f1", way)) for label, way in labels.items() if way in own.rows[0]["diagnoses"]}
        for model, of in by_model.items():
            table = Table(of, "diagnoses")
            best = table.best("f1", *(way for way in evidence.ASKED if way in table.rows[0]["diagnoses"]))
            small[f"{plotting.model_name(model)}, {best.removeprefix('yes or no, ')}"] = mean(table("f1", best))
        plotting.interval_plot(axes[0], small, xlabel="F1 of weak topics, chapters")
    plotting.interval_plot(axes[-1], large, xlabel="F1 of weak topics, sections")
    for ax in axes:
        ax.set_xlim(0, 1)
    prompts = {label: one for label, one in small.items() if label not in labels}
    said = f", the best prompt {max(one.value for one in prompts.values()):.2f}" if prompts else ""
    graph = small.get("graph", large["graph"]).value
    return Plot(
        fig,
        title=f"The graph finds weak topics with an F1 of {graph:.2f}{said}; calling every topic weak has "
        f"{small.get('all weak', large['all weak']).value:.2f}",
        caption=f"{SIMULATED} Another's answers: the graph is given those of another learner. For each model its best "
        "prompt; 'true count' was told how many topics are weak.",
        alt="Intervals of F1 by diagnosis on the large graph, and above them on the small one where a model is asked.",
    )


def remembered(rows) -> Plot:
    """F1 by session, by what becomes of the state."""
    plain, fig, ax = Table(rows).rows, *plotting.figure()
    series, last = {}, {}
    for state in ("kept", "wiped", "frozen", "another's"):
        values = [mean(np.array(column)) for column in zip(*(row["f1"][state] for row in plain), strict=True)]
        last[state] = values[-1].value
        ends = ([getattr(one, end) for one in values] for end in ("value", "low", "high"))
        series[state] = (np.arange(1, len(values) + 1), *ends)
    plotting.curves(ax, series, xlabel="session", ylabel="F1 of weak topics")
    ax.set_xticks(series["kept"][0])
    kept, other, wiped = (last[state] for state in ("kept", "another's", "wiped"))
    return Plot(
        fig,
        title=f"In the fourth session a state that was kept finds weak topics with an F1 of {kept:.2f}, another "
        f"learner's state {other:.2f}, one that starts anew {wiped:.2f}",
        caption=f"{SIMULATED} Twelve topics are asked in each session. Frozen: the state of the first session. "
        "Another's: that of a learner with the same goals. The comparison is paired, learner by learner; the bands are "
        "each state's own, so that their overlap does not decide.",
        alt="Four curves of F1 over four sessions: state kept, wiped, frozen, and another learner's.",
    )


def guaranteed(costs: list[dict], tight: list[dict]) -> Plot:
    """Greedy over the optimum against the number of weak topics, with the bound."""
    fig, ax = plotting.figure(height=4.0)
    n = np.arange(2, max(row["n"] for row in costs) + 1)
    ax.plot(n, [evidence.bound(k) for k in n], color=plotting.COLOURS[1], linestyle="--", label="1 + ln |W|")
    made_up = [row for row in costs if "weak" in row]
    hard = [row | {"greedy": row["ratio"], "optimal": 1} for row in tight]
    kinds = {"learners": [row for row in costs if row not in made_up], "made-up graphs": made_up, "made hard": hard}
    looks = (("o", 0, 5), ("D", 3, 5), ("^", 2, 8))
    for (label, of), (marker, i, size) in zip(kinds.items(), looks, strict=True):
        ratios = [row["greedy"] / row["optimal"] for row in of]
        look = {"marker": marker, "color": plotting.COLOURS[i], "markersize": size, "fillstyle": "none"}
        ax.plot([row["n"] for row in of], ratios, label=label, linestyle="", **look)
    ax.set(xlabel="weak topics", ylabel="greedy cost over optimum", xscale="log", yscale="log", ylim=(0.9, 12))
    plotting.plain_ticks(ax.xaxis)
    plotting.plain_ticks(ax.yaxis)
    ax.legend(loc="upper left", ncols=2)
    worst, hardest = (max(of, key=lambda row: row["greedy"] / row["optimal"]) for of in (costs, hard))
    return Plot(
        fig,
        title=f"On {len(costs)} instances greedy pays at most {worst['greedy'] / worst['optimal']:.2f} times the "
        f"optimum, where the bound is {evidence.bound(worst['n']):.2f}; on those made to be hard up to "
        f"{hardest['greedy']:.2f} times, where it is {evidence.bound(hardest['n']):.2f}",
        caption="Summed cost of the chosen paths over that of the best choice among the same candidates (integer "
        "programming). The triangles are Chvátal's family, on which greedy pays the harmonic number.",
        alt="Cost ratios near one for learners and made-up graphs against the number of weak topics, a dashed curve "
        "of the bound far above them, and triangles just below the curve.",
    )


def stages(rows) -> Plot:
    """nDCG by stage of the retrieval."""
    plain = Table(rows).rows
    labels = {"random": "random", "untrained encoder": "untrained", "BM25": "bm25", "dual encoder": "dual"}
    labels |= {"reranker, untrained": "fresh", "reranker": "rerank", "fixed weights": "fixed", "fused": "fused"}
    labels |= {"fused, no graph": "fused, no graph", "best reranker possible": "best"}
    there = {label: stage for label, stage in labels.items() if plain and stage in plain[0]["ranks"]}
    shown = {label: mean(evidence.ndcg(plain, stage), unit="sections") for label, stage in there.items()}
    fig, ax = plotting.figure(height=4.6)
    if shown:
        plotting.interval_plot(ax, shown, xlabel="nDCG@10")
        ax.set_xlim(0, 1)
    dual, rerank, fused = (shown[label].value if shown else np.nan for label in ("dual encoder", "reranker", "fused"))
    return Plot(
        fig,
        title=f"Finding a theorem's section: the dual encoder has an nDCG@10 of {dual:.2f}, reranked {rerank:.2f}, "
        f"fused {fused:.2f}"
        if shown
        else "",
        caption=f"Means over sections with 95 % intervals; the reranker was trained {len(plain)} times. Real texts; "
        "the words of the headings are taken out of the queries.",
        alt="Intervals of nDCG at 10, a row for each stage of the retrieval and for what it is compared with.",
    )
