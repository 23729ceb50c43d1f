"""What the page's text and tables say of rows: means as text, by key. Nothing is judged here."""

import numpy as np
from scipy.stats import spearmanr

from claimbook.claims import verdicts
from claimbook.display import tables
from claimbook.experiments.graphmasal import evidence
from claimbook.experiments.graphmasal.evidence import CLOSED, CLOSED_WITHIN, LIST, MIXED, PLANNER, RANDOM, Table
from claimbook.metrics import retrieval as metrics

WAYS = {"planner": PLANNER, "mixed": MIXED, "closed": CLOSED, "within": CLOSED_WITHIN}
WAYS |= {"oracle": "oracle mastery", "closed_oracle": "closed, oracle mastery", "list": LIST, "random": RANDOM}
FIELDS = {"gap": "unmet", "all": "learned_all", "any": "learned_any", "share": "learned_share"}
FIELDS |= {"covered": "coverage_true"}
DIAGNOSES = {"graph": "graph", "topic": "topic", "scores": "mean score", "weak": "all weak"}
DIAGNOSES |= {"another": "another's answers", "true": "true rates"}
STAGES = ("bm25", "dual", "rerank", "fused")
PROMPTED = ("first_prompted", "n_prompted", "length_choice", "length_small", "reply", "sampled", "n_free")
PROMPTED += ("small_planner", "small_choice", "small_random", "small_list", "small_everything")
FIRST_SCREEN = ("C4", "C5", "C6", "C7", "C8", "C15")  # the claims of its first sentence
SINKS = ("C15", "C17", "C18")  # judged again with every weak topic as a sink


def of_plans(rows: list) -> dict[str, str]:
    """Of `measure.planning`."""
    of = Table(rows)
    said = {f"{key}_{name}": in_percent(of(field, way)) for name, way in WAYS.items() for key, field in FIELDS.items()}
    said |= {f"length_{name}": f"{of('length', way).mean():.0f}" for name, way in WAYS.items()}
    said |= {f"sim_{name}": f"{of(evidence.ORDER, way).mean():.2f}" for name, way in WAYS.items()}
    said |= {
        f"exact_{name}": f"{of.ratio('sim_exact', way, PLANNER).value:.2f}" for name, way in evidence.ABLATIONS.items()
    }
    said |= {
        f"list_to_{part}": f"{round(found.value, 2) + 0:.2f}" for part, found in evidence.plausible(of, LIST).items()
    }
    for name, gain in evidence.GAINS.items():
        said[f"agree_ten_{name}"] = f"{agreement_with_everything(of, gain):.2f}"
        said[f"agree_exact_{name}"] = f"{np.nanmean(evidence.agreement(of, 'sim_exact', gain)):.2f}"
    for profile in ("novice", "advanced"):
        at = of["profile"] == profile
        for name in ("within", "planner"):
            said[f"{profile}_{name}"] = in_percent(of("learned_all", WAYS[name])[at])
    empty = np.isnan(of["sim_retest"].astype(float))
    return said | {
        "n_weak": f"{of['n_weak'].mean():.0f}",
        "n_missing": f"{of('weak_true').mean():.0f}",
        "known_planner": in_percent(of("wasted").sum() / of("length").sum()),
        "known_closed": in_percent(of("wasted", CLOSED).sum() / of("length", CLOSED).sum()),
        "cost_within": f"{of.ratio('cost_true', CLOSED_WITHIN, PLANNER).value:.2f}",
        "list_learns": f"{of.ratio('learned_all', LIST, PLANNER).value:.2f}",
        "exact_oracle_itself": f"{of('sim_exact', 'oracle mastery').mean():.2f}",
        "n_students": str(len(of)),
        "gap_believed": in_percent(of("unmet_believed")),
        "n_unreachable": str(int((of["unreachable"] > 0).sum())),
        "n_empty": str(int((of("length") == 0).sum())),
        "cost_ratio": f"{of('cost_true', CLOSED).mean() / of('cost_true').mean():.1f}",
        "sim_fan": f"{np.nanmean(abs(of('sim_order') - of('sim_order', 'fan use'))):.3f}",
        "sim_everything": f"{np.nanmean(of('sim_order', 'everything')):.2f}",
        "retest": f"{np.nanmean(of['sim_retest'].astype(float)):.2f}",
        "other": f"{np.nanmean(of['sim_other'].astype(float)):.2f}",
        "n_empty_retest": str(int(empty.sum())),
    }


def agreement_with_everything(of: Table, gain: str) -> float:
    """C11's mean rank correlation, had the list of all that the goals need been a tenth way of planning."""
    ways = (*evidence.RATED, evidence.EVERYTHING)
    both = (np.array([of(field, way) for way in ways]).T for field in (evidence.ORDER, gain))
    each = [spearmanr(x, y).statistic for x, y in zip(*both, strict=True) if np.ptp(x) > 0 and np.ptp(y) > 0]
    return float(np.nanmean(each)) if each else np.nan


def of_others(rows: dict[str, list]) -> dict[str, str]:
    """Of the planner on other sinks and on another graph, by name."""
    fields = {"gap": "unmet", "all": "learned_all"}
    return {f"{key}_{name}": in_percent(Table(of)(field)) for name, of in rows.items() for key, field in fields.items()}


def of_costs(rows: list, costs: list[dict]) -> dict[str, str]:
    """Of `evidence.instances`, and of what ``rows`` say of shared topics counted once and of the other greedy rule."""
    ratios = np.array([row["greedy"] / row["optimal"] for row in costs])
    learners = evidence.instances(rows, [])
    of_harmonic = max((row["greedy"] / row["optimal"] / row["harmonic"] for row in learners), default=np.nan)
    paid = [row["guarantee"] for row in Table(rows).rows if row["guarantee"]["optimal"] > 0]
    unions = np.array([of["union_greedy"] / of["union_optimal"] for of in paid])
    return {
        "worst": f"{ratios.max():.2f}",
        "worst_bound": f"{evidence.bound(costs[ratios.argmax()]['n']):.1f}",
        "worst_weak": str(costs[ratios.argmax()]["n"]),
        "n_instances": str(len(costs)),
        "mean_ratio": f"{ratios.mean():.3f}",
        "of_harmonic": f"{of_harmonic:.2f}",
        "n_learners": str(len(learners) // 2),
        "union": f"{unions.max():.2f}",
        "union_mean": f"{unions.mean():.2f}",
        "coverage_rule": f"{max(of['coverage_rule'] / of['optimal'] for of in paid):.2f}",
    }


def of_prompts(by_model: dict[str, list]) -> dict[str, str | None]:
    """Of prompted models, figures of the first; the end of a sentence for the answer."""
    said = {"prompted": ", ".join(by_model) or "none, as no run of them speaks for this one"}
    if not by_model:
        return said | dict.fromkeys(PROMPTED) | {"answer_prompts": "no language model was prompted in this run"}
    first, rows = next(iter(by_model.items()))
    of = Table(rows, "plans")
    prompt = of.best(evidence.ORDER, *evidence.PROMPTS.values())
    one = next((row for row in of.rows if row["reply"].strip()), of.rows[0])
    likeness = {way: of(evidence.ORDER, way).mean() for way in of.rows[0][of.ways]}
    shown = (PLANNER, evidence.CHOICE, RANDOM, LIST, evidence.EVERYTHING)
    reply = " / ".join(one["reply"].strip().split("\n")[:5]) or "(nothing)"
    answer = (
        f"in likeness to a reference (PathSim, 1 is the same plan) {first} reaches {likeness[prompt]:.2f}, "
        f"the planner {likeness[PLANNER]:.2f}, and as many random topics {likeness[RANDOM]:.2f}"
    )
    if likeness[prompt] < likeness[RANDOM]:
        answer += ", so that the model is too weak to compare with"
    lengths = [f"{of('length', way).mean():.0f}" for way in (evidence.CHOICE, PLANNER)]
    n_free = str(int((of("coverage_true", evidence.FREE) > 0).sum()))
    sims = [f"{likeness[way]:.2f}" for way in shown]
    figures = [first, str(len(of)), *lengths, reply, one["student"], n_free, *sims]
    return said | dict(zip(PROMPTED, figures, strict=True)) | {"answer_prompts": answer}


def of_lines(by_model: dict[str, list]) -> dict[str, str | None]:
    """How many lines the first model wrote freely, and how many of them name a topic, read leniently."""
    kept = [row["format"]["free"] for row in Table(next(iter(by_model.values()), [])).rows]
    return {f"lines_{name}": str(sum(one[name] for one in kept)) if kept else None for name in ("named", "lenient")}


def of_sessions(rows: list) -> dict[str, str]:
    """Of `measure.sessions`: F1 of the fourth session by state, and for how many learners the plans cover alike."""
    plain = Table(rows).rows
    last = {state: np.mean([row["f1"][state][-1] for row in plain]) for state in ("kept", "another's", "wiped")}
    covered = np.array([[row["coverage_true"][of][-1] for of in ("kept", "wiped")] for row in plain])
    alike = int((covered[:, 0] == covered[:, 1]).sum())
    said = {f"session_{state.removesuffix(chr(39) + 's')}": f"{f1:.3f}" for state, f1 in last.items()}
    return said | {"n_sessions": str(len(plain)), "n_alike": str(alike)}


def of_pupils(brier: list[dict[str, float]]) -> dict[str, str]:
    """Of real answers: Brier scores by what foretells."""
    keys = dict(zip(("items", "scores", "known", "apart"), brier[0], strict=True))
    return {f"pupils_{key}": f"{np.mean([of[name] for of in brier]):.2f}" for key, name in keys.items()}


def fared(judged: dict[str, dict]) -> str:
    """How the claims of the first sentence fared; a smoke run has no verdict."""
    by: dict[str, list[str]] = {}
    for claim in FIRST_SCREEN:
        by.setdefault((judged[claim]["verdict"] or "without a verdict").replace("_", " "), []).append(claim)
    names = {verdict: f"{', '.join(claims[:-1])} and {claims[-1]} are" for verdict, claims in by.items() if claims[1:]}
    return ", ".join(f"{names.get(verdict, f'{claims[0]} is')} {verdict}" for verdict, claims in by.items())


def readings(ledger, tier: str, asked: list, wide: list) -> tuple[list[list[str]], dict[str, str | None]]:
    """The parts of `SINKS` with the weak topics that a test asked as sinks, and with all: lines of a table, and texts.

    A line: part, value and state by reading, and of the second the control. Without rows of the second: nothing.
    """
    if not wide:
        return [], dict.fromkeys(("n_turned", "n_read", "n_wide", "null_wide"))
    lines, turned = [], 0
    both = [evidence.planning(rows) for rows in (asked, wide)]
    for claim in map(ledger.claim, SINKS):
        turned += len({verdicts.judge(claim, tier, of[claim.id]).verdict for of in both}) > 1
        for part in claim.parts:
            line = [f"{claim.id} {part.name.replace('_', ' ')}"]
            for of in both:
                state = verdicts.judged_part(claim, part, of[claim.id]).state.replace("_", " ")
                line += [tables.measured(of[claim.id].parts[part.name]), state]
            null = both[1][claim.id].nulls.get(part.name)
            lines.append([*line, tables.measured(null) if null else ""])
    null = f"{both[1]['C15'].nulls['few_gaps'].value:.2f}"
    return lines, {"n_turned": str(turned), "n_read": str(len(SINKS)), "n_wide": str(len(wide)), "null_wide": null}


def of_diagnoses(rows: list) -> dict[str, str]:
    """Of `measure.diagnosed`."""
    of = Table(rows, "methods")
    fields = ("f1", "f1_asked")
    return {f"{field}_{key}": f"{of(field, way).mean():.2f}" for key, way in DIAGNOSES.items() for field in fields}


def of_talks(rows: list) -> dict[str, str | None]:
    """Of the stored run ``grounding``."""
    plain = Table(rows).rows
    edges, steps = (sum(row[name] for row in plain) for name in ("edges_of_sequence", "steps_of_sequence"))
    return {
        "n_talks": str(len(plain)),
        "n_silent": str(sum(not row["has_plan"] for row in plain)),
        "in_sequence": f"{100 * edges / steps:.0f}" if steps else None,
    }


def of_stages(rows: list) -> dict[str, str | None]:
    """Of the retrieval's trainings."""
    said = {f"ndcg_{stage}": f"{evidence.ndcg(rows, stage).mean():.2f}" if rows else None for stage in STAGES}
    sections = len(evidence.sections(rows)) if rows else None
    return said | {"n_sections": sections, "n_queries": len(Table(rows).rows[0]["sections"]) if rows else None}


# --- cells of tables --------------------------------------------------------------------------------------------------


def in_percent(values) -> str:
    """Mean of shares in percent, of those that can be asked."""
    values = np.asarray(values, dtype=float)
    return f"{100 * np.nanmean(values):.0f}" if np.isfinite(values).any() else ""


def plain(values: np.ndarray, field: str) -> str:
    """Mean of a field of a plan's score, PathSim to two digits, shares in percent."""
    if field.startswith("sim_"):
        return f"{np.nanmean(values):.2f}"
    return f"{np.mean(values):.1f}" if field in ("length", "wasted", "cost_true") else in_percent(values)


def reached(found: list[dict]) -> list[str]:
    """What conversations reached: the share that ended, lessons, weak topics covered and learned."""
    ended, lessons = (np.mean([one[name] for one in found]) for name in ("ended", "lessons"))
    shares = [in_percent([one[name] for one in found]) for name in ("coverage_true", "learned_any")]
    return [f"{100 * ended:.0f} %", f"{lessons:.1f}", *(f"{share} %" if share else "" for share in shares)]


def quality(rows: list, stage: str) -> list[str]:
    """nDCG@10, MRR@10, recall@10 of a stage, and the calibration error of what it states."""
    plain = Table(rows).rows
    measures = (metrics.ndcg, metrics.reciprocal, metrics.among)
    there = stage in plain[0]["ranks"]
    values = [np.mean([of(row["ranks"][stage]) for row in plain]) if there else None for of in measures]
    values.append(evidence.calibration(plain, stage) if stage in plain[0]["stated"] else None)
    return ["" if value is None else f"{value:.3f}" for value in values]
