"""Draws rows, with a title from the numbers drawn; computes means and intervals for drawing alone.

Where there are no rows, as stored runs are to come or are of another tier, a figure is a line that says so.
"""

import numpy as np

from claimbook import plotting
from claimbook.experiments.trim_kv import evidence
from claimbook.experiments.trim_kv.evidence import ATTENTION, HEURISTICS, Costs
from claimbook.experiments.units import columns
from claimbook.plotting import COLOURS, LINES, MARKERS, SOFT, Plot
from claimbook.stats import mean, ratio_of_means

NOTHING = "Not drawn: the stored runs are to come, or do not speak for this run."
LABELS = {
    "trim": "TRIM-KV",
    "window": "window",
    "streaming": "StreamingLLM",
    "h2o": "H2O",
    "tova": "TOVA",
    "snapkv": "SnapKV",
    "snapkv unpooled": "SnapKV, unpooled",
    "rarity": "rarity of the word",
    "key norm": "key norm",
    "keydiff": "KeyDiff",
    "random": "random",
    "untrained": "untrained gate",
    "position": "position alone",
    "oracle": "keeps the pairs",
}
ARMS = {
    "no kl": "no distillation",
    "no ntp": "no next token",
    "linear": "linear gate",
    "printed": "capacity as printed",
    "budget 6": "trained at 6",
    "budget 24": "trained at 24",
}
SCORES = ("trim", *ATTENTION, "key norm", "keydiff", "rarity", "untrained")


def knowing(needles, toys, toy_rarity: float) -> Plot | str:
    """AUC of each score for what will be needed, before the question and with it; a panel where there are rows.

    ``toy_rarity``: of a table of counts in the toy, as `counts.rarity` has it.
    """
    panels = {"text (real model)": (evidence.by_article(needles) if needles else [], "articles")}
    panels = {name: found for name, found in (panels | {"toy (trained here)": (toys, "bases")}).items() if found[0]}
    if not panels:
        return NOTHING
    fig, axes = plotting.figure(1, len(panels), height=4.2, sharey=True, squeeze=False)
    shown = {}
    for ax, (name, (rows, unit)) in zip(axes[0], panels.items(), strict=True):
        ax.set_title(name, fontsize=12)
        shown[unit] = _knowing(ax, rows, unit, {"rarity": toy_rarity} if unit == "bases" else {})
        ax.set(xlabel="AUC", xlim=(-0.04, 1.04), xticks=(0, 0.5, 1))
        plotting.reference_line(ax, 0.5, "chance", axis="x")
        ax.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(SCORES)), [LABELS[score] for score in SCORES])
    axes[0, 0].set_ylim(len(SCORES) - 0.5, -1.1)
    where, known = ("", shown["articles"]) if "articles" in shown else ("In a toy: ", shown["bases"])
    best = max(ATTENTION, key=lambda score: known[score])
    said = (
        f"{where}before anyone asks, the gate ranks a needed token above another {100 * known['trim']:.0f} times in "
        f"100, the best attention score ({LABELS[best]}) {100 * known[best]:.0f} times, a table of word counts "
        f"{100 * known['rarity']:.0f} times"
    )
    return Plot(
        fig,
        title=said[0].upper() + said[1:],
        caption="Chance that a token which a later question needs scores higher than one it does not, mean over "
        "layers and heads. Filled: before the question, with 95 % intervals. Hollow squares: attention once the "
        "question is there.",
        alt="AUC of each score for the tokens that will be needed, before the question and with it.",
    )


def _knowing(ax, rows, unit: str, fixed: dict[str, float]) -> dict[str, float]:
    before, asked = (columns(getattr(row, name) for row in rows) for name in ("auc", "auc_asked"))
    before["trim"] = np.array([np.mean(row.auc_trim) for row in rows])
    for i, score in enumerate(SCORES):
        if score in fixed:
            ax.plot(fixed[score], i, "o", color=SOFT, markersize=8)
            continue
        _interval(ax, mean(before[score], unit=unit, within=(0, 1)), i, _colour(score), fmt="o")
        if score in asked:
            ax.plot(asked[score].mean(), i, "s", color=_colour(score), markerfacecolor="none", markersize=8)
    return {score: float(values.mean()) for score, values in before.items()} | fixed


def facts(needles) -> Plot | str:
    """Share of hidden facts that each rule loses with 64 tokens, evicting from the first token on and cut once."""
    if not needles:
        return NOTHING
    rows = evidence.by_article(needles)
    whole, cut = evidence.needle_costs(rows), evidence.needle_costs(rows, "cut_")
    rules = ["trim", *(rule for rule in (*HEURISTICS, *evidence.BLIND, "oracle") if rule in whole.rules)]
    fig, ax = plotting.figure(height=5.4)
    for found, below, look in ((whole, 0, {"fmt": "o"}), (cut, 0.3, {"fmt": "s", "markerfacecolor": "none"})):
        for i, rule in enumerate(rules):
            if rule == "trim" or rule in found.rules:
                lost = (found.trim if rule == "trim" else found.rules[rule])["64"]
                _interval(ax, mean(lost, unit=found.unit, within=(-1, 1)), i + below, _colour(rule), **look)
    labels = LABELS | {"oracle": "keeps the fact"}
    ax.set_yticks(range(len(rules)), [labels[rule] for rule in rules])
    ax.set_ylim(len(rules) - 0.3, -0.5)
    ax.set(xlabel="share of facts lost")
    ax.grid(axis="y", visible=False)
    best = whole.best("64")
    return Plot(
        fig,
        title=f"With 64 tokens the gates lose {100 * whole.trim['64'].mean():.0f} % of the facts, the best heuristic "
        f"({LABELS[best]}) {100 * whole.rules[best]['64'].mean():.0f} %",
        caption="Of what the full cache finds; means over articles with 95 % intervals. Filled: evicted from the first "
        "token on. Hollow squares: the text is read in full and cut once, before the question.",
        alt="Share of hidden facts that each eviction rule loses with 64 tokens.",
    )


def _interval(ax, found, y: float, colour, **look) -> None:
    """A mean and its interval as a horizontal bar."""
    arms = [[found.value - found.low], [found.high - found.value]]
    ax.errorbar(found.value, y, xerr=arms, color=colour, capsize=4, markersize=8, **look)


def _colour(name: str):
    """Gates, rules by attention, all others."""
    by_attention = name.removesuffix(" unpooled") in ATTENTION
    return COLOURS[0] if name == "trim" else COLOURS[1] if by_attention else SOFT


def costs(found: Costs | None, ylabel: str, what: str, log: bool = False) -> Plot | str:
    """What each rule costs, by budget: the gates, the heuristics, and what knows nothing."""
    if not found:
        return NOTHING
    fig, ax = plotting.figure(height=5.4)
    budgets = sorted(found.trim, key=int)
    _lines(ax, found, [*HEURISTICS, "random"], [int(m) for m in budgets], budgets)
    middle = budgets[len(budgets) // 2]
    best, lead = found.best(middle), found.lead(middle)
    ax.set(xlabel="tokens kept in each layer and head", ylabel=ylabel, xscale="log")
    if log:
        ax.set_yscale("log")
        plotting.plain_ticks(ax.yaxis)
    ax.set_xticks([int(m) for m in budgets], budgets)
    ax.minorticks_off()
    ax.legend(loc="lower left", bbox_to_anchor=(-0.12, 1), ncols=2, fontsize=11, labelspacing=0.3)
    return Plot(
        fig,
        title=f"With {middle} tokens TRIM-KV costs {found.trim[middle].mean():.2f} {what}, the best heuristic "
        f"({LABELS[best]}) {found.rules[best][middle].mean():.2f}: {lead.value:.2f} times as much",
        caption="Below the full cache, which costs nothing. Solid thick line: TRIM-KV, mean over trainings; the band "
        "is the 95 % interval over units.",
        alt="Cost of each eviction rule against the number of tokens kept.",
    )


def _lines(ax, found: Costs, names, x, budgets) -> None:
    values = np.array([found.trim[m] for m in budgets])  # (budgets, units)
    middle, half = values.mean(axis=1), 1.96 * values.std(axis=1, ddof=1) / np.sqrt(max(values.shape[1], 2))
    ax.plot(x, middle, color=COLOURS[0], linewidth=3.4, marker="o", label="TRIM-KV")
    ax.fill_between(x, middle - half, middle + half, color=COLOURS[0], alpha=0.18, linewidth=0)
    for i, rule in enumerate(name for name in names if name in found.rules):
        look = {"linestyle": LINES[(i + 1) % len(LINES)], "marker": MARKERS[(i + 1) % len(MARKERS)], "markersize": 5}
        colour = SOFT if rule == "random" else COLOURS[1 + i % 5]
        look |= {"color": colour, "linewidth": 1.5, "label": LABELS[rule]}
        ax.plot(x, [found.rules[rule][m].mean() for m in budgets], **look)


def ablations(rows) -> Plot | str:
    """Accuracy of gates trained otherwise, over that of gates trained as in the paper."""
    if not rows:
        return NOTHING
    fig, ax = plotting.figure(height=4.6)
    whole = evidence.over_gates(row.trim for row in rows)["16"]
    shown = {
        arm: ratio_of_means(evidence.over_gates(row.ablations[arm] for row in rows)["16"], whole, unit="bases")
        for arm in rows[0].ablations
    }
    plotting.interval_plot(
        ax,
        {ARMS.get(arm, arm): ratio for arm, ratio in shown.items()},
        xlabel="accuracy at M = 16, over the whole method's",
    )
    plotting.reference_line(ax, 1, "whole method", axis="x")
    return Plot(
        fig,
        title=f"Without the capacity loss the toy keeps {100 * shown['no capacity'].value:.0f} % of its accuracy; "
        f"without distillation {100 * shown['no kl'].value:.0f} %",
        caption="Each row changes one thing. Five bases, three to five trainings each; means with 95 % intervals.",
        alt="Ratio of accuracy for each ablation, with intervals and a line at one.",
    )


def sizes(rows, layers: int) -> Plot | str:
    """Soft size of the cache by layer and head, and which heads hold the first token or a window."""
    if not rows:
        return NOTHING
    fig, ax = plotting.figure(height=4.6)
    size = evidence.held(rows, "size").mean(axis=(0, 1)).reshape(layers, -1)
    image = ax.imshow(np.log10(size).T, aspect="auto", interpolation="nearest")
    bar = fig.colorbar(image, ax=ax, label="soft size, tokens", location="bottom", aspect=40)
    ticks = [t for t in (1, 3, 10, 30, 100, 300) if size.min() <= t <= size.max()]
    bar.set_ticks(np.log10(ticks), labels=[str(t) for t in ticks])
    sink, window = (
        (heads(evidence.held, rows).mean(axis=0) > 0.5).reshape(layers, -1)
        for heads in (evidence.sinks, evidence.windows)
    )
    for mark, where in (("S", sink), ("W", window)):
        for layer, head in np.argwhere(where):
            ax.text(layer, head, mark, ha="center", va="center", fontsize=9, color="white", fontweight="bold")
    ax.set(xlabel="layer", ylabel="KV head")
    ax.set_yticks(range(size.shape[1]))
    ax.grid(visible=False)
    return Plot(
        fig,
        title=f"{int(sink.sum())} of {sink.size} heads hold the first token to the end, {int(window.sum())} are "
        "windows",
        caption="Soft size: the sum of beta to the power of age, at the end of 512 tokens, mean over documents and "
        "trainings. S: the first token is held in nine documents of ten. W: nine in ten kept tokens are the most "
        "recent, and the soft size is below the budget of 64.",
        alt="Map of layers and KV heads coloured by soft size, with letters on heads that are sinks or windows.",
    )


# --- sentences -------------------------------------------------------------------------------------------------------


def on_text(needles, articles, long_needles, long_articles, times: float) -> str:
    """What facts hidden in text, and held-out articles, say; nothing where there are none.

    ``long_…``: rows of the gates that read ``times`` as many tokens, none where they are not there.
    """
    if not needles or not articles:
        return ""
    known, lead = evidence.knowledge(needles), evidence.text_costs(articles).lead("64")
    gate, attention, rarity = (100 * known[one] for one in ("trim", max(ATTENTION, key=known.get), "rarity"))
    more = after = ""
    if long_needles and long_articles:
        longer = evidence.trained_longer(articles, long_articles)["64"]
        more = (
            f" One training on {times:.0f} times as many tokens, made later, costs {_span(longer)} times what that "
            "heuristic costs."
        )
        after = f" ({100 * evidence.knowledge(long_needles)['trim']:.0f} times after the longer training)"
    return (
        "We trained gates for SmolLM2-135M five times. On held-out articles, with 64 tokens kept, they cost "
        f"{_span(lead)} times the loss that the best of seven heuristics costs.{more} We also hid facts in text and "
        "asked for them at the end. Before the question, the gates ranked the token that would be needed above another "
        f"one {gate:.0f} times in 100{after}, the best attention score {attention:.0f} times, and a table of word "
        f"counts {rarity:.0f} times."
    )


def _span(found) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def trained_longer(articles, needles, long_articles, long_needles) -> str:
    """What one training on more tokens changes: the gates' costs and what they know, beside the short trainings'."""
    if not (articles and needles and long_articles and long_needles):
        return "Not measured."
    long = evidence.trained_longer(articles, long_articles)
    short = {m: evidence.text_costs(articles).lead(m) for m in long}
    knows, known = (100 * evidence.knowledge(rows)["trim"] for rows in (long_needles, needles))
    lost, was = (100 * evidence.lost(rows) for rows in (long_needles, needles))
    costs = "; ".join(f"{m} tokens {one.value:.2f} ({short[m].value:.2f})" for m, one in long.items())
    return (
        f"By how many tokens are kept, it costs so many times what the best heuristic costs: {costs}. In brackets the "
        f"mean of the short trainings. Before the question it ranks the hidden city above another token {knows:.0f} "
        f"times in 100, the short ones {known:.0f} times. With 64 tokens kept, {lost:.0f} % of the facts that the full "
        f"cache finds are lost, with the short ones {was:.0f} %."
    )
