"""From rows to the ledger's parts and their measured controls, each by claim and name. The same for every model."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, is_dataclass

import numpy as np
from scipy.stats import spearmanr

from claimbook import stats
from claimbook.claims import rules
from claimbook.claims.verdicts import Evidence
from claimbook.metrics import retrieval as metrics
from claimbook.papers.graphmasal import harmonic
from claimbook.stats import Estimate, Exact, Votes

UNIT = "students"
PLANNER, CLOSED, CLOSED_WITHIN = "planner", "closed", "closed, same cost"
LIST, EVERYTHING, MIXED, RANDOM = "weak only", "everything", "random order", "random topics"
FREE, CHOICE = "free", "constrained"  # ways of prompting for a plan
PROMPTS = {"free": FREE, "choice": CHOICE}
ASKED = ("yes or no", "yes or no, true count", "yes or no, no graph")  # prompts for a diagnosis
ALL_WEAK, PRIOR = "all weak", "prior"
ABLATIONS = {
    "no_graph": "shuffled graph",
    "other_learner": "average learner",
    "no_mastery": "no mastery",
    "no_structure": "no structure",
}
RATED = (
    *(PLANNER, CLOSED, CLOSED_WITHIN, LIST, MIXED, RANDOM),
    *("separate", "shuffled graph", "average learner"),
)  # ways of planning whose PathSim and gain are compared
ORDER = "sim_order"  # PathSim with the library's order
GAINS = {"all_needed": "learned_all", "one_suffices": "learned_any"}


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

    def best(self, field: str, *ways: str) -> str:
        """The way of the highest mean."""
        return max(ways, key=lambda way: np.nanmean(self(field, way)))

    def way_to(self, field: str, start: str, end: str, way: str = PLANNER) -> Estimate:
        """How far a way of planning has come from one to another, up or down: 0 at the start, 1 at the end."""
        whole = self(field, end) - self(field, start)
        sign = np.sign(np.nanmean(whole))  # a ratio of means has an interval where its denominator is positive
        return ratio(sign * (self(field, way) - self(field, start)), sign * whole)


def ratio(a: np.ndarray, b: np.ndarray, unit: str = UNIT) -> Estimate:
    """Mean of ``a`` over mean of ``b``, over the units that both can be asked of."""
    both = np.isfinite(a) & np.isfinite(b)
    return stats.ratio_of_means(a[both], b[both], unit=unit)


def mean(values: np.ndarray, least: float = 0, most: float = 1, unit: str = UNIT) -> Estimate:
    return stats.mean(values[np.isfinite(values)], unit=unit, within=(least, most))


def jackknife(of: Callable[[np.ndarray], float], n: int, unit: str = UNIT) -> Estimate:
    """A positive statistic of n units that is no mean, such as a ratio of ratios, with its interval on the log scale.

    ``of(kept)`` is the statistic of the units ``kept``, indices. Its pseudo-values (Tukey 1958) stand for samples.
    """
    everyone = np.arange(n)
    whole = np.log(of(everyone))
    left_out = np.array([np.log(of(np.delete(everyone, i))) for i in everyone])
    return stats.ratio_of_exp(n * whole - (n - 1) * left_out, np.zeros(n), unit=unit)


def ratio_of_shares(a: np.ndarray, of_a: np.ndarray, b: np.ndarray, of_b: np.ndarray) -> Estimate:
    """(sum a / sum of_a) / (sum b / sum of_b), paired over students, (n,) each."""
    with np.errstate(all="ignore"):
        return jackknife(lambda at: a[at].sum() / of_a[at].sum() / (b[at].sum() / of_b[at].sum()), len(a))


def by_profile(profiles: np.ndarray, ahead: np.ndarray) -> Votes | None:
    """In how many profiles more than half of the learners are ``ahead`` (n,) of 0 and 1.

    A profile of one learner, as a smoke run may have, says nothing; None where there is no other.
    """
    series = [ahead[profiles == profile].astype(int).tolist() for profile in np.unique(profiles)]
    series = [learners for learners in series if len(learners) > 1]
    return rules.votes("more_than_half_hold", 0.5, series, "profiles") if series else None


# --- simulated learners -----------------------------------------------------------------------------------------------


def planning(rows: list) -> dict[str, Evidence]:
    """C6, C11, C14, C15, C17, C18, and what C8 says of ablations. ``rows``: of `measure.planning`."""
    of = Table(rows)
    return {
        "C6": Evidence(
            *(
                {f"{name}_below": of.ratio(ORDER, way, who) for name, way in ABLATIONS.items()}
                for who in (PLANNER, EVERYTHING)
            )
        ),
        "C8": Evidence(
            {
                "than_separate": of.ratio("cost_true", PLANNER, "separate"),
                "than_no_cost": of.ratio("cost_true", PLANNER, "no cost").of("planning"),
            },
            preconditions={"covers_as_much": of.less("coverage_true", PLANNER, "no cost").of("planning")},
        ),
        "C11": Evidence(ratings(of), ratings(of, "length")),
        "C14": Evidence({"retest": again(of, "sim")}, {"retest": again(of, "list")}),
        "C15": Evidence(*(plausible(of, who) for who in (PLANNER, RANDOM))),
        "C17": Evidence({"at_equal_cost": of.ratio("learned_all", CLOSED_WITHIN, PLANNER)}),
        "C18": Evidence(
            {
                "covers_as_many": of.less("coverage_true", LIST, PLANNER),
                "costs_less": of.ratio("cost_true", LIST, PLANNER),
                "teaches_less": of.ratio("learned_any", LIST, PLANNER),
            }
        ),
    }


def plausible(of: Table, way: str) -> dict[str, Estimate]:
    """C15: how far a way of planning has come from the planner's topics in random order to the closed plan."""
    fields = {"few_gaps": "unmet", "learned_all_needed": "learned_all", "learned_one_suffices": "learned_any"}
    return {part: of.way_to(field, MIXED, CLOSED, way) for part, field in fields.items()}


def again(of: Table, kind: str) -> Estimate:
    """C14: how much more alike two tests of one learner are than those of two, of what could be, for plans or lists."""
    same, other = (of[f"{kind}_{which}"].astype(float) for which in ("retest", "other"))
    return ratio(same - other, 1 - other)


def ratings(of: Table, by: str = ORDER) -> dict[str, Estimate]:
    """C11: rank correlation of PathSim, or of another field, with either gain."""
    return {name: mean(agreement(of, by, gain), -1, 1) for name, gain in GAINS.items()}


def agreement(of: Table, measure: str, gain: str) -> np.ndarray:
    """Rank correlation over `RATED` ways of planning, (students,); NaN where all are alike in one of the two."""
    a, b = (np.array([of(field, way) for way in RATED]).T for field in (measure, gain))
    return np.array([_spearman(x, y) for x, y in zip(a, b, strict=True)])


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    varied = np.isfinite([x, y]).all() and min(len(set(x)), len(set(y))) > 1
    return float(np.clip(spearmanr(x, y).statistic, -1, 1)) if varied else np.nan


def guarantee(costs: list[dict], traps: list[dict], covered: Iterable[float]) -> dict[str, Evidence]:
    """C4. ``costs``: of `instances`; ``traps``: of `scale.trap`; ``covered``: of `covered`."""
    worst = max(row["greedy"] / row["optimal"] / bound(row["n"]) for row in costs)
    trapped = max(row["coverage_rule"] / row["optimal"] / bound(row["n"]) for row in traps)
    return {
        "C4": Evidence(
            {"within_the_bound": Exact(round(worst, 9), len(costs)), "covers_all": Exact(min(covered))},
            {"within_the_bound": Exact(round(trapped, 9), len(traps))},
        )
    }


def bound(n: int) -> float:
    """1 + ln n, the paper's factor for n weak topics."""
    return 1 + float(np.log(n))


def instances(planned: list, scaled: list) -> list[dict]:
    """Every instance of two weak topics or more: of the students, with either sign of fan-out, and of other sizes."""
    found = []
    for row in Table(planned).rows:
        for of in (row["guarantee"], row["guarantee_use"]):
            found.append({"n": of["n_weak_reachable"], "most": of["most"]} | {k: of[k] for k in ("greedy", "optimal")})
    found += [{"n": row["weak"], **row} for row in Table(scaled).rows]
    return [row | {"harmonic": harmonic(row["most"])} for row in found if row["n"] >= 2]


def covered(rows: list) -> list[float]:
    """Share of the weak topics in reach that each plan holds, for students who have one."""
    found = []
    for row in Table(rows).rows:
        if reached := row["n_weak"] - row["unreachable"]:
            found.append(round(row["arms"][PLANNER]["coverage"] * row["n_weak"]) / reached)
    return found


def sessions(rows: list) -> dict[str, Evidence]:
    """C1: the fourth session, with the state kept or another, over the state wiped. ``rows``: of `measure.sessions`."""
    plain = Table(rows).rows

    def last(field: str, state: str) -> np.ndarray:
        return np.array([row[field][state][-1] for row in plain], dtype=float)

    def finds(state: str) -> Estimate:
        return ratio(last("f1", state), last("f1", "wiped"))

    def wastes(state: str) -> Estimate:
        return ratio_of_shares(*(last(field, of) for of in (state, "wiped") for field in ("wasted", "planned")))

    covers = last("coverage_true", "kept") - last("coverage_true", "wiped")
    return {
        "C1": Evidence(
            {"finds_more": finds("kept"), "wastes_less": wastes("kept").of("sessions")},
            {"finds_more": finds("another's"), "wastes_less": wastes("another's")},
            {"finds_more": ratio(np.ones(len(rows)), last("f1", "wiped"))},
            {"covers_as_much": mean(covers, -1, 1).of("sessions")},
        )
    }


# --- conversations ----------------------------------------------------------------------------------------------------


def conversations(rows: list) -> dict[str, Evidence]:
    """C2 and C16. ``rows``: of the stored run ``grounding``."""
    of = Table(rows)
    planned = [row for row in of.rows if row["has_plan"]]

    def every(field: str) -> Exact:
        return Exact(float(of[field].mean()), len(of))

    def steps(edges: str, among: str) -> Exact:
        return Exact(float(of[edges].sum() / of[among].sum()), len(of))

    return {
        "C2": Evidence(
            {
                "all_three": Exact(float(np.mean([in_order(row) for row in planned])), len(planned)),
                "persistent": every("kept"),
                "resumed": every("resumed_equal"),
            },
            {"persistent": every("not_kept"), "resumed": every("unsaved_equal")},
        ),
        "C16": Evidence(
            {"traced": steps("edges_in_graph", "edges")}, {"traced": steps("shuffled_in_graph", "shuffled_edges")}
        ),
    }


def in_order(row: dict) -> bool:
    """Whether a conversation passed the three agents in their order, others in between or not, and ended."""
    visits = iter(row["visited"])
    return row["ended"] and all(agent in visits for agent in ("diagnostician", "planner", "tutor"))


# --- prompted language models -----------------------------------------------------------------------------------------


def prompts(rows: list) -> dict[str, Evidence]:
    """C5, C7, C9, C12, and what C8 says of prompts. ``rows``: of one language model."""
    of = Table(rows, "plans")

    def aligned(who: str) -> dict:
        ahead = of(ORDER, who) > np.maximum(*(of(ORDER, way) for way in PROMPTS.values()))
        parts = {f"{name}_below": of.ratio(ORDER, way, who) for name, way in PROMPTS.items()}
        return parts | {"in_every_profile": by_profile(of["profile"], ahead)}

    def covers(who: str) -> dict:
        return {f"{name}_below": of.ratio("coverage_true", way, who) for name, way in PROMPTS.items()}

    def cheaper(who: str) -> dict:
        return {f"per_topic_than_{name}": per_topic(of, who, way) for name, way in PROMPTS.items()}

    return {
        "C5": Evidence(aligned(PLANNER), aligned(RANDOM)),
        "C7": Evidence(covers(PLANNER), covers(RANDOM)),
        "C8": Evidence(cheaper(PLANNER), cheaper(LIST)),
        "C9": diagnosed(Table(rows, "diagnoses")),
        "C12": Evidence(
            {"matched": Exact(float(of["facts_match"].mean()), len(of))},
            {"matched": Exact(float(of["facts_other"].mean()), len(of))},
        ),
    }


def per_topic(of: Table, way: str, other: str) -> Estimate:
    """Cost for each weak topic covered, all students together, one way over another."""
    weak = of("weak_true")
    cost, held = ([of(field, one) for one in (way, other)] for field in ("cost_true", "coverage_true"))
    held = [np.where(weak > 0, weak * np.nan_to_num(share), 0) for share in held]
    return ratio_of_shares(cost[0], held[0], cost[1], held[1])


def diagnosed(of: Table) -> Evidence:
    """C9: the best prompt over the graph; in its place the nulls call every topic weak, or read no answer."""
    there = [way for way in ASKED if way in of.rows[0][of.ways]]
    best = {field: of.best(field, *there) for field in ("f1", "f1_asked")}
    least = min(there, key=lambda way: of("brier", way).mean())

    def found(who: str, brier: str) -> dict:
        return {
            "all_topics": of.ratio("f1", best["f1"], who),
            "asked_topics": of.ratio("f1_asked", best["f1_asked"], who),
            "probabilities": of.ratio("brier", brier, least),
            "in_every_profile": by_profile(of["profile"], of("f1", who) > of("f1", best["f1"])),
        }

    return Evidence(found("graph", "graph"), found(ALL_WEAK, PRIOR))


# --- retrieval --------------------------------------------------------------------------------------------------------


def ndcg(rows: list, stage: str) -> np.ndarray:
    """nDCG@10 by section, (S,), the mean over its queries and the trainings."""
    return by_section(rows, (metrics.ndcg(row["ranks"][stage]) for row in Table(rows).rows))


def by_section(rows: list, values: Iterable) -> np.ndarray:
    """Means by section, (S,), of values by training and query, (T, Q)."""
    over = np.mean([np.asarray(of, dtype=float) for of in values], axis=0)
    return np.array([over[at].mean() for at in sections(rows)])


def sections(rows: list) -> list[np.ndarray]:
    """For each section that is asked for, which queries ask for it."""
    asked = np.array(Table(rows).rows[0]["sections"])
    return [np.flatnonzero(asked == name) for name in dict.fromkeys(asked.tolist())]


def calibration(rows: list, stage: str, queries: np.ndarray | None = None) -> float:
    """Expected calibration error of what a stage states of its first card, over queries, the mean of the trainings."""
    at = slice(None) if queries is None else queries
    plain = [(np.asarray(row["stated"][stage])[at], np.asarray(row["right"][stage])[at]) for row in Table(rows).rows]
    return float(np.mean([metrics.calibration_error(stated, right) for stated, right in plain]))


def retrieval(rows: list) -> dict[str, Evidence]:
    """C3 and C19. ``rows``: trainings of the reranker."""
    unit, plain, groups = "sections", Table(rows).rows, sections(rows)
    brier = {of: by_section(plain, (row["brier"][of] for row in plain)) for of in ("fused", "base")}

    def over(stage: str, other: str) -> Estimate:
        return ratio(ndcg(plain, stage), ndcg(plain, other), unit)

    def errors(kept: np.ndarray) -> float:
        queries = np.concatenate([groups[i] for i in kept])
        return calibration(plain, "fused", queries) / calibration(plain, "raw", queries)

    better = max(("dual", "rerank"), key=lambda stage: ndcg(plain, stage).mean())
    return {
        "C3": Evidence(
            {"calibrated": jackknife(errors, len(groups), unit).of("retrieval")},
            preconditions={"informative": ratio(brier["fused"], brier["base"], unit).of("retrieval")},
        ),
        "C19": Evidence(
            {
                "reranking_helps": over("rerank", "dual"),
                "fusion_helps": over("fused", better),
                "graph_helps": over("fused", "fused, no graph"),
            },
            {"reranking_helps": over("fresh", "dual")},
            {
                "reranking_helps": over("best", "dual"),
                "fusion_helps": over("best", better),
                "graph_helps": over("best", "fused, no graph"),
            },
        ),
    }
