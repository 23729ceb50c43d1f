"""What the page's text and tables say of rows: means as text, by key. Nothing is judged here."""

import numpy as np

from claimbook.experiments.graphmasal import evidence
from claimbook.experiments.graphmasal.evidence import CLOSED, CLOSED_WITHIN, MIXED, PLANNER, Table
from claimbook.metrics import retrieval as metrics

WAYS = {"planner": PLANNER, "mixed": MIXED, "closed": CLOSED, "within": CLOSED_WITHIN}
WAYS |= {"oracle": "oracle mastery", "closed_oracle": "closed, oracle mastery"}
FIELDS = {"gap": "unmet", "all": "learned_all", "any": "learned_any", "share": "learned_share"}
DIAGNOSES = {"graph": "graph", "topic": "topic", "scores": "mean score", "weak": "all weak"}
STAGES = ("bm25", "dual", "rerank", "fused")
PROMPTED = ("first_prompted", "n_prompted", "easy", "length_free", "length_choice", "length_small", "reply", "sampled")
LISTS = {evidence.RANDOM: "as many random topics", evidence.EVERYTHING: "the list of all topics that the goals need"}


def of_plans(rows: list) -> dict[str, str]:
    """Of `measure.planning`."""
    of = Table(rows)
    said = {f"{key}_{name}": in_percent(of(field, way)) for name, way in WAYS.items() for key, field in FIELDS.items()}
    said |= {f"length_{name}": f"{of('length', way).mean():.0f}" for name, way in WAYS.items()}
    empty = np.isnan(of["sim_retest"].astype(float))
    return said | {
        "n_students": str(len(of)),
        "gap_believed": in_percent(of("unmet_believed")),
        "n_unreachable": str(int((of["unreachable"] > 0).sum())),
        "n_empty": str(int((of("length") == 0).sum())),
        "cost_ratio": f"{of('cost_true', CLOSED).mean() / of('cost_true').mean():.1f}",
        "sim_fan": f"{np.nanmean(abs(of('sim_order') - of('sim_order', 'fan use'))):.3f}",
        "sim_everything": f"{np.nanmean(of('sim_order', 'everything')):.2f}",
        "sim_own": f"{np.nanmean(of('sim_order')):.2f}",
        "retest": f"{np.nanmean(of['sim_retest'].astype(float)):.2f}",
        "other": f"{np.nanmean(of['sim_other'].astype(float)):.2f}",
        "n_empty_retest": str(int(empty.sum())),
    }


def of_others(rows: dict[str, list]) -> dict[str, str]:
    """Of the planner on other sinks and on another graph, by name."""
    fields = {"gap": "unmet", "all": "learned_all"}
    return {f"{key}_{name}": in_percent(Table(of)(field)) for name, of in rows.items() for key, field in fields.items()}


def of_costs(rows: list, costs: list[dict]) -> dict[str, str]:
    """Of `evidence.instances`, and of what ``rows`` say of shared topics counted once and of the other greedy rule."""
    ratios = np.array([row["greedy"] / row["optimal"] for row in costs])
    paid = [row["guarantee"] for row in Table(rows).rows if row["guarantee"]["optimal"] > 0]
    unions = np.array([of["union_greedy"] / of["union_optimal"] for of in paid])
    return {
        "worst": f"{ratios.max():.2f}",
        "n_instances": str(len(costs)),
        "mean_ratio": f"{ratios.mean():.3f}",
        "of_harmonic": f"{max(ratios / [row['harmonic'] for row in costs]):.2f}",
        "union": f"{unions.max():.2f}",
        "union_mean": f"{unions.mean():.2f}",
        "coverage_rule": f"{max(of['coverage_rule'] / of['optimal'] for of in paid):.2f}",
    }


def of_prompts(by_model: dict[str, list]) -> dict[str, str | None]:
    """Of prompted models, figures of the first; a sentence for the answer."""
    said = {"prompted": ", ".join(by_model) or "none, as no run of them speaks for this one"}
    if not by_model:
        return said | dict.fromkeys(PROMPTED) | {"answer_prompts": "No language model was prompted in this run."}
    first, rows = next(iter(by_model.items()))
    of = Table(rows, "plans")
    prompt = of.best(evidence.ORDER, *evidence.PROMPTS.values())
    easy = of.best(evidence.ORDER, evidence.RANDOM, evidence.EVERYTHING)
    one = next((row for row in of.rows if row["reply"].strip()), of.rows[0])
    sims = [f"{np.mean(of(evidence.ORDER, way)):.2f}" for way in (PLANNER, prompt, easy)]
    lengths = [f"{np.mean(of('length', way)):.0f}" for way in (evidence.FREE, evidence.CHOICE, PLANNER)]
    reply = " / ".join(one["reply"].strip().split("\n")[:5]) or "(nothing)"
    answer = (
        f"Of prompting only small models could be asked: by PathSim, likeness to a reference, {first} reaches "
        f"{sims[1]}, the planner {sims[0]}, and {LISTS[easy]}, which takes no planning, {sims[2]}."
    )
    figures = dict(zip(PROMPTED, [first, str(len(of)), LISTS[easy], *lengths, reply, one["student"]], strict=True))
    return said | figures | {"answer_prompts": answer}


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
    return f"{np.mean(values):.1f}" if field in ("length", "cost_true") else in_percent(values)


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
