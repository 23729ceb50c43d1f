"""From rows to the ledger's parts and their measured controls, each by claim and name. The same for every model."""

from collections.abc import Iterable
from dataclasses import asdict, is_dataclass

import numpy as np
from scipy.stats import spearmanr

from claimbook import stats
from claimbook.claims.verdicts import Evidence
from claimbook.metrics import retrieval as metrics
from claimbook.papers.graphmasal import harmonic
from claimbook.stats import Estimate, Exact

UNIT = "students"
PLANNER, CLOSED, LIST, MIXED, RANDOM = "planner", "closed", "weak only", "random order", "random topics"
FREE, CHOICE = "free", "constrained"  # ways of prompting for a plan
YES_NO, ALL_WEAK, PRIOR = "yes or no", "all weak", "prior"  # of diagnosing
ABLATIONS = {
    "no_graph": "shuffled graph",
    "no_diagnosis": "no diagnosis",
    "no_cost": "no cost",
    "separate": "separate",
}
COVER_LESS = ("no_graph", "no_diagnosis")  # the others cover all that can be reached, by construction
CHEAPER = ("separate", "no_cost", "no_graph")
REFERENCES = {"order": "sim_order", "exact": "sim_exact"}
RATED = (
    *(PLANNER, CLOSED, "closed, same cost", LIST, MIXED, RANDOM),
    *("separate", "shuffled graph", "no diagnosis"),
)  # ways of planning whose PathSim and gain are compared


class Table:
    """Columns of rows, (n,) each: ``of("length", "planner")`` of one way, ``of["sim_other"]`` of the row itself."""

    def __init__(self, rows: Iterable, ways: str = "arms"):
        self.rows = [asdict(row) if is_dataclass(row) else row for row in rows]
        self.ways = ways

    def __call__(self, field: str, way: str = PLANNER) -> np.ndarray:
        return np.array([row[self.ways][way][field] for row in self.rows], dtype=float)

    def __getitem__(self, field: str) -> np.ndarray:
        return np.array([row[field] for row in self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def ratio(self, field: str, way: str, other: str) -> Estimate:
        """Mean of a field of one way over that of another."""
        return ratio(self(field, way), self(field, other))

    def less(self, field: str, way: str, other: str) -> Estimate:
        """Mean difference of a share, one way less another; it has an interval even where all students are alike."""
        return mean(self(field, way) - self(field, other), -1, 1)

    def way_to(self, field: str, start: str, end: str, way: str = PLANNER) -> Estimate:
        """How far a way of planning has come from one to another: 0 at the start, 1 at the end."""
        return ratio(self(field, way) - self(field, start), self(field, end) - self(field, start))


def ratio(a: np.ndarray, b: np.ndarray, unit: str = UNIT) -> Estimate:
    """Mean of ``a`` over mean of ``b``, over the units that both can be asked of."""
    both = np.isfinite(a) & np.isfinite(b)
    return stats.ratio_of_means(a[both], b[both], unit=unit)


def mean(values: np.ndarray, least: float = 0, most: float = 1, unit: str = UNIT) -> Estimate:
    return stats.mean(values[np.isfinite(values)], unit=unit, within=(least, most))


def share(held: np.ndarray, unit: str = UNIT) -> Estimate:
    return stats.proportion(int(np.sum(held)), len(held), unit=unit)


# --- simulated learners -----------------------------------------------------------------------------------------------


def planning(rows: list) -> dict[str, Evidence]:
    """C6, C11, C14, C15, C17, C18, and what C7 and C8 say of ablations. ``rows``: of `measure.planning`."""
    of = Table(rows)
    return {
        "C6": Evidence(
            {
                f"{reference}_over_{name}": of.ratio(field, PLANNER, way)
                for reference, field in REFERENCES.items()
                for name, way in ABLATIONS.items()
            }
        ),
        "C7": Evidence({f"over_{name}": of.ratio("coverage_true", PLANNER, ABLATIONS[name]) for name in COVER_LESS}),
        "C8": Evidence(
            {f"than_{name}": of.ratio("cost", PLANNER, ABLATIONS[name]) for name in CHEAPER},
            preconditions={f"covers_as_{name}": of.less("coverage", PLANNER, ABLATIONS[name]) for name in CHEAPER},
        ),
        "C11": ratings(of),
        "C14": Evidence({"retest": ratio(of["sim_retest"] - of["sim_other"], 1 - of["sim_other"])}),
        "C15": Evidence(
            {
                "few_gaps": of.way_to("unmet", MIXED, CLOSED),
                "learned_all_needed": of.way_to("learned_all", MIXED, CLOSED),
                "learned_one_suffices": of.way_to("learned_any", MIXED, CLOSED),
            }
        ),
        "C17": Evidence(
            {
                "teaches_more": of.ratio("learned_all", CLOSED, PLANNER),
                "at_equal_cost": of.ratio("learned_all", "closed, same cost", PLANNER),
            }
        ),
        "C18": Evidence(
            {
                "covers_as_many": of.less("coverage", LIST, PLANNER),
                "costs_less": of.ratio("cost", LIST, PLANNER),
                "teaches_less": of.ratio("learned_any", LIST, PLANNER),
            }
        ),
    }


def agreement(of: Table, measure: str, gain: str) -> np.ndarray:
    """Rank correlation over `RATED` ways of planning, (students,); NaN where all are alike in one of the two."""
    a, b = (np.array([of(field, way) for way in RATED]).T for field in (measure, gain))
    return np.array([_spearman(x, y) for x, y in zip(a, b, strict=True)])


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    there = np.isfinite(x) & np.isfinite(y)
    varied = min(len(set(x[there])), len(set(y[there]))) > 1
    return float(spearmanr(x[there], y[there]).statistic) if varied else np.nan


def ratings(of: Table) -> Evidence:
    """C11: does PathSim rank plans as what learners gain does? The null ranks them by their length."""
    gains = {"all_needed": "learned_all", "one_suffices": "learned_any"}
    found = {
        f"{reference}_{name}": mean(agreement(of, field, gain), -1, 1)
        for reference, field in REFERENCES.items()
        for name, gain in gains.items()
    }
    by_length = {name: mean(agreement(of, "length", gain), -1, 1) for name, gain in gains.items()}
    nulls = {f"{reference}_{name}": by_length[name] for reference in REFERENCES for name in gains}
    return Evidence(found, nulls)


def guarantee(costs: list[dict], traps: list[dict], covered: Iterable[float]) -> dict[str, Evidence]:
    """C4. ``costs``: greedy, optimal and number of weak topics (n) of each instance; ``traps``: of `scale.trap`.

    ``covered``: the share of the weak topics in reach that each plan holds.
    """
    worst = max(row["greedy"] / row["optimal"] / bound(row["n"]) for row in costs)
    trapped = max(row["coverage_rule"] / row["optimal"] / bound(row["n"]) for row in traps)
    return {
        "C4": Evidence(
            {"within_the_bound": Exact(worst, len(costs)), "covers_all": Exact(min(covered))},
            {"within_the_bound": Exact(trapped, len(traps))},
        )
    }


def bound(n: int) -> float:
    """1 + ln n, the paper's factor for n weak topics."""
    return 1 + float(np.log(n))


def instances(planned: list, scaled: list) -> list[dict]:
    """Every instance with a greedy and an exact cost: of the students, either sign of fan-out, and of other sizes."""
    found = []
    for row in Table(planned).rows:
        for of in (row["guarantee"], row["guarantee_use"]):
            found.append({"n": of["n_weak_reachable"], "most": of["most"]} | {k: of[k] for k in ("greedy", "optimal")})
    found += [{"n": row["weak"], **row} for row in Table(scaled).rows]
    return [row | {"harmonic": harmonic(row["most"])} for row in found if row["n"]]


def covered(rows: list) -> list[float]:
    """Share of the weak topics in reach that each plan holds, for students who have one."""
    found = []
    for row in Table(rows).rows:
        if reached := row["n_weak"] - row["unreachable"]:
            found.append(round(row["arms"][PLANNER]["coverage"] * row["n_weak"], 6) / reached)
    return found


def sessions(rows: list) -> dict[str, Evidence]:
    """What C1 says of a state that is kept. ``rows``: of `measure.sessions`."""

    def last(field: str, state: str) -> np.ndarray:
        return np.array([row[field][state][-1] for row in Table(rows).rows])

    def found(state: str) -> dict[str, Estimate]:
        fields = {"finds_more": "f1", "wastes_less": "wasted"}
        return {part: ratio(last(field, state), last(field, "wiped")) for part, field in fields.items()}

    ceiling = ratio(np.ones(len(rows)), last("f1", "wiped"))
    return {"C1": Evidence(found("kept"), found("another's"), {"finds_more": ceiling})}


# --- conversations ----------------------------------------------------------------------------------------------------


def conversations(rows: list) -> dict[str, Evidence]:
    """C2, C16, and what C1 says of a process that dies. ``rows``: of the stored run ``grounding``."""
    of, unit = Table(rows), "conversations"
    traced, shuffled = (of[edges].sum() / of[all_].sum() for edges, all_ in (TRACED, SHUFFLED))
    return {
        "C1": Evidence({"persistent": share(of["kept"], unit)}, {"persistent": share(of["not_kept"], unit)}),
        "C2": Evidence(
            {
                "all_three": Exact(float(np.mean([in_order(row) for row in of.rows])), len(of)),
                "resumed": Exact(float(of["resumed_equal"].mean()), len(of)),
            },
            {"resumed": Exact(float(of["unsaved_equal"].mean()), len(of))},
        ),
        "C16": Evidence({"traced": Exact(float(traced), len(of))}, {"traced": Exact(float(shuffled), len(of))}),
    }


TRACED, SHUFFLED = ("edges_in_graph", "edges"), ("shuffled_in_graph", "shuffled_edges")


def in_order(row: dict) -> bool:
    """Whether a conversation passed the three agents in their order, and ended."""
    visits = iter(row["visited"])
    return row["ended"] and all(agent in visits for agent in ("diagnostician", "planner", "tutor"))


# --- prompted language models -----------------------------------------------------------------------------------------


def prompts(rows: list) -> dict[str, Evidence]:
    """C5, C9, C12, and what C7 and C8 say of prompting. ``rows``: of one language model."""
    of, found = Table(rows, "plans"), Table(rows, "diagnoses")
    ways = {"free": FREE, "choice": CHOICE}
    return {
        "C5": aligned(of, ways),
        "C7": Evidence(
            *(
                {f"over_{name}": of.ratio("coverage_true", who, way) for name, way in ways.items()}
                for who in (PLANNER, RANDOM)
            )
        ),
        "C8": Evidence(
            {f"than_{name}": of.ratio("cost", PLANNER, way) for name, way in ways.items()}
            | {f"per_topic_than_{name}": per_topic(of, PLANNER, way) for name, way in ways.items()},
            {f"per_topic_than_{name}": per_topic(of, RANDOM, way) for name, way in ways.items()},
            preconditions={f"covers_as_{name}": of.less("coverage", PLANNER, way) for name, way in ways.items()},
        ),
        "C9": diagnosed(found),
        "C12": Evidence(
            {"matched": Exact(float(of["facts_match"].mean()), len(of))},
            {"matched": Exact(float(of["facts_other"].mean()), len(of))},
        ),
    }


def aligned(of: Table, ways: dict[str, str]) -> Evidence:
    """C5: PathSim of the planner over that of prompts; the null puts random topics in the planner's place."""

    def found(who: str) -> dict[str, Estimate]:
        both = np.maximum(*(of("sim_order", way) for way in ways.values()))
        return {
            f"{reference}_over_{name}": of.ratio(field, who, way)
            for reference, field in REFERENCES.items()
            for name, way in ways.items()
        } | {"consistently": share(of("sim_order", who) > both)}

    return Evidence(found(PLANNER), found(RANDOM))


def per_topic(of: Table, way: str, other: str) -> Estimate:
    """Cost for each weak topic covered, one way over another, over students of whom both cover one at least."""
    cost, cover = ([of(field, which) for which in (way, other)] for field in ("cost", "coverage"))
    both = (cover[0] > 0) & (cover[1] > 0)
    a, b = (np.log(c[both] / k[both]) for c, k in zip(cost, cover, strict=True))
    return stats.ratio_of_exp(a, b, unit=UNIT)


def diagnosed(of: Table) -> Evidence:
    """C9: the graph over yes-or-no prompts; the nulls call all weak, or read no answer."""

    def found(who: str, brier: str) -> dict[str, Estimate]:
        return {
            "all_topics": of.ratio("f1", who, YES_NO),
            "asked_topics": of.ratio("f1_asked", who, YES_NO),
            "probabilities": of.ratio("brier", brier, YES_NO),
            "consistently": share(of("f1", who) > of("f1", YES_NO)),
        }

    return Evidence(found("graph", "graph"), found(ALL_WEAK, PRIOR))


# --- retrieval --------------------------------------------------------------------------------------------------------


def by_section(rows: list, values: Iterable) -> np.ndarray:
    """Means by section, (S,), of values by training and query, (T, Q)."""
    sections = np.array(Table(rows).rows[0]["sections"])
    over = np.mean([np.asarray(of, dtype=float) for of in values], axis=0)
    return np.array([over[sections == name].mean() for name in dict.fromkeys(sections.tolist())])


def ndcg(rows: list, stage: str) -> np.ndarray:
    """nDCG@10 by section, the mean over its queries and the trainings."""
    return by_section(rows, (metrics.ndcg(row["ranks"][stage]) for row in Table(rows).rows))


def calibration(rows: list, stage: str) -> np.ndarray:
    """Expected calibration error of a stage by training, (T,)."""
    return np.array([metrics.calibration_error(row["stated"][stage], row["right"][stage]) for row in Table(rows).rows])


def retrieval(rows: list) -> dict[str, Evidence]:
    """C3. ``rows``: trainings of the reranker."""
    unit = "sections"
    brier = {of: by_section(rows, (row["brier"][of] for row in Table(rows).rows)) for of in ("fused", "base")}

    def over(stage: str, other: str) -> Estimate:
        return ratio(ndcg(rows, stage), ndcg(rows, other), unit)

    return {
        "C3": Evidence(
            {
                "reranking_helps": over("rerank", "dual"),
                "fusion_helps": over("fused", "dual"),
                "calibrated": ratio(calibration(rows, "fused"), calibration(rows, "fixed"), "trainings"),
                "graph_helps": over("fused", "fused, no graph"),
            },
            {"reranking_helps": over("fresh", "dual")},
            {
                "reranking_helps": over("best", "dual"),
                "fusion_helps": over("best", "dual"),
                "graph_helps": over("best", "fused, no graph"),
            },
            {"informative": ratio(brier["fused"], brier["base"], unit)},
        )
    }
