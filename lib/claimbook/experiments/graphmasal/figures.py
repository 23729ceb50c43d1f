"""Draws rows, with a title from the numbers drawn; means and intervals are those of `evidence`."""

import numpy as np

from claimbook import plotting, stats
from claimbook.experiments.graphmasal import evidence
from claimbook.experiments.graphmasal.evidence import CLOSED, MIXED, PLANNER, Table, mean
from claimbook.plotting import Plot

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
    ways = {"planned": PLANNER, "random order": MIXED, "closed": CLOSED}
    fig, axes = plotting.figure(3, 1, height=6.0, sharex=True)
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
        title=f"Of what a shortest-path plan asks to learn, {gaps['planned'].value:.0f} % lacks a prerequisite; where "
        f"all are needed, learners learn {every['planned'].value:.0f} % of their weak topics, with a plan that is "
        f"closed under prerequisites {every['closed'].value:.0f} %",
        caption=f"{SIMULATED} Learned: of the weak topics that were tested, if all prerequisites of one are needed, "
        "or if one suffices. Random order: of the planned topics. Closed: with all that the weak topics need.",
        alt="Three panels of intervals for the planned path, its topics in random order and the closed plan: gaps, and "
        "weak topics learned under two rules. The plan lies between the other two.",
    )


def worth(rows) -> Plot:
    """PathSim against what learners gain, a point for each way of planning."""
    of = Table(rows)
    fig, axes = plotting.figure(1, 2, height=4.2, sharey=True)
    x = {way: np.nanmean(of(evidence.ORDER, way)) for way in evidence.RATED}
    for ax, field, label in zip(axes, evidence.GAINS.values(), ("all needed", "one suffices"), strict=True):
        for i, way in enumerate(evidence.RATED):
            gain = 100 * np.nanmean(of(field, way))
            marker, colour = plotting.MARKERS[i % 7], plotting.COLOURS[i % 7]
            style = "full" if i < 7 else "none"
            ax.plot(x[way], gain, marker=marker, color=colour, fillstyle=style, linestyle="", label=way)
        ax.set(xlabel="PathSim", title=label, ylim=(0, 104))
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


def aligned(by_model: dict[str, list]) -> Plot:
    """PathSim of prompted plans, of the planner, and of what needs no planning."""
    shown = {}
    if not by_model:
        return Plot(plotting.figure()[0], alt="Prompted plans were not measured in this run.")
    for model, rows in by_model.items():
        of = Table(rows, "plans")
        ways = {f"{model}, free": evidence.FREE, f"{model}, choice": evidence.CHOICE}
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
        caption=f"{SIMULATED} The graph of 93 chapters. Random, all and weak topics stand in an order that is free.",
        alt="Intervals of PathSim for prompted plans, for lists that need no planning, and for the planner.",
    )


def found(rows, by_model: dict[str, list]) -> Plot:
    """F1 of weak topics, by diagnosis, where a language model is prompted and on the larger graph."""
    own = Table(next(iter(by_model.values())), "diagnoses") if by_model else None
    fig, axes = plotting.figure(2, 1, height=6.6)
    labels = {"graph": "graph", "topic by topic": "topic", "mean score": "mean score"}
    labels |= {"graph, no answers": "prior", "all weak": "all weak"}
    large = {label: mean(Table(rows, "methods")("f1", way)) for label, way in labels.items()}
    small = {}
    if own:
        small = {label: mean(own("f1", way)) for label, way in labels.items() if way in own.rows[0]["diagnoses"]}
        for model, of in by_model.items():
            table = Table(of, "diagnoses")
            best = table.best("f1", *(way for way in evidence.ASKED if way in table.rows[0]["diagnoses"]))
            small[f"{model}, {best.removeprefix('yes or no, ')}"] = mean(table("f1", best))
        plotting.interval_plot(axes[0], small, xlabel="F1 of weak topics, graph of chapters")
    plotting.interval_plot(axes[1], large, xlabel="F1 of weak topics, graph of sections")
    for ax in axes:
        ax.set_xlim(0, 1)
    prompts = {label: one for label, one in small.items() if label not in labels}
    said = f", the best prompt {max(one.value for one in prompts.values()):.2f}" if prompts else ""
    graph = small.get("graph", large["graph"]).value
    return Plot(
        fig,
        title=f"The graph finds weak topics with an F1 of {graph:.2f}{said}; calling every topic weak has "
        f"{small.get('all weak', large['all weak']).value:.2f}",
        caption=f"{SIMULATED} For each model its best prompt; 'true count' was told how many topics are weak.",
        alt="Two panels of intervals of F1 by diagnosis: with prompts on the small graph, without on the large one.",
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
    return Plot(
        fig,
        title=f"In the fourth session a state that was kept finds weak topics with an F1 of {last['kept']:.2f}, one "
        f"that starts anew {last['wiped']:.2f}",
        caption=f"{SIMULATED} Twelve topics are asked in each session. Frozen: the state of the first session. "
        "Another's: that of a learner with the same goals.",
        alt="Four curves of F1 over four sessions: state kept, wiped, frozen, and another learner's.",
    )


def guaranteed(costs: list[dict], tight: list[dict]) -> Plot:
    """Greedy over the optimum against the number of weak topics, with the bound."""
    fig, ax = plotting.figure(height=4.0)
    n = np.arange(2, max(row["n"] for row in costs) + 1)
    ratios = np.array([row["greedy"] / row["optimal"] for row in costs])
    ax.plot(n, [evidence.bound(k) for k in n], color=plotting.COLOURS[1], linestyle="--", label="1 + ln |W|")
    look = {"linestyle": "", "alpha": 0.5, "color": plotting.COLOURS[0], "marker": "o", "markersize": 5}
    ax.plot([row["n"] for row in costs], ratios, label="learners and made-up graphs", **look)
    look |= {"alpha": 1, "color": plotting.COLOURS[2], "marker": "^", "markersize": 8}
    ax.plot([row["n"] for row in tight], [row["ratio"] for row in tight], label="made to be hard", **look)
    ax.set(xlabel="weak topics", ylabel="greedy cost over optimum", xscale="log")
    plotting.plain_ticks(ax.xaxis)
    plotting.legend(ax)
    return Plot(
        fig,
        title=f"On {len(costs)} instances greedy pays at most {ratios.max():.2f} times the optimum; on those made to "
        f"be hard up to {max(row['ratio'] for row in tight):.2f} times",
        caption="Summed cost of the chosen paths over that of the best choice among the same candidates (integer "
        "programming). The triangles are Chvátal's family, on which greedy pays the harmonic number.",
        alt="Cost ratios near one for all learners against the number of weak topics, a dashed curve of the bound far "
        "above them, and triangles just below the curve.",
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
