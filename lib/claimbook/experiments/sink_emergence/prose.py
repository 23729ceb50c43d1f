"""Sentences of the chapter that hang on what came out, or on what is stored."""

from collections.abc import Callable

import numpy as np

from claimbook.claims.ledgers import Claim
from claimbook.claims.verdicts import Measurement
from claimbook.claims.words import several
from claimbook.display.tables import measured
from claimbook.experiments.sink_emergence import evidence
from claimbook.experiments.sink_emergence.measure.text import Row
from claimbook.experiments.sink_emergence.stored import (
    ARMS,
    FAMILIES_TO_COME,
    SEEDS,
    STORED,
    TEXT_RUNS,
    TO_COME,
)
from claimbook.metrics.sinks import EPSILON

FEED_FORWARD = {  # as the paper calls them -> arm of the toys
    "GeLU": "default",
    "ReLU": "relu",
    "Swish": "silu",
    "ReGLU": "relu, gated",
    "GeGLU": "gelu, gated",
    "SwiGLU": "silu, gated",
}
BATCHES = {"16": "batch 16", "48": "default", "128": "batch 128"}
NO_SINK = 0.03  # of heads and samples, as the ledger's preconditions have it
AT_ONCE = 14  # trainings that shared one GPU when those that are stored were made


def bound(allowed: float | None) -> str:
    """What the bound of proposition 4 leaves room for, mean over layers, heads and queries."""
    if allowed is None:
        return "(not measured)"
    said = "so that it excludes a sink" if allowed <= EPSILON else "so that it does not exclude a sink by itself"
    return f"{allowed:.2f} of the attention, {said}"


def informs(state: str) -> str:
    """C29: do later tokens read what the first one says of its document? ``state``: of `non_informative`."""
    return {
        "met": "Later tokens hardly read the first one as information on its document.",
        "not met": "Later tokens do read the first one as information on its document.",
    }.get(state, "Whether later tokens read the first one as information on its document stays open.")


def contributes(state: str, informative: str) -> str:
    """C29: do later tokens need its value? ``state``: of `no_value`, beside that of `non_informative`."""
    constant = " What they rely on is the same for every document, as a bias is." if informative == "met" else ""
    return {
        "met": "They do not need its value.",
        "not met": "They rely on its value." + constant,
    }.get(state, "Whether they rely on its value stays open.")


def rates(t: evidence.Arms, arms: dict[str, str]) -> str | None:
    """Sink_1 of toys, mean over seeds, by name: "100 % (GeLU), 95 % (ReGLU)"; None where none is there."""
    found = {name: 100 * _mean(t, arm, evidence.sink(arm)) for name, arm in arms.items() if t.has(arm)}
    return ", ".join(f"{rate:.0f} % ({name})" for name, rate in found.items()) or None


def strengths(t: evidence.Arms, arms: dict[str, str]) -> str | None:
    """Extra attention to the first token over the default's by name: "1.07 (ReLU)"; None where none is there."""
    found = {name: evidence.strength(t, arm) for name, arm in arms.items() if arm != "default"}
    return ", ".join(f"{one.value:.2f} ({name})" for name, one in found.items() if one) or None


def doses(parts: dict[str, Measurement]) -> str:
    """C15 on toys, where those at the paper's doses of decay are there."""
    if "toy_rise" not in parts:
        return "Toys at equal doses, decays of 3.3 and 33, are to come."
    rise, left = (measured(parts[name]) for name in ("toy_rise", "toy_destroyed"))
    return (
        f"At equal doses, a decay of 3.3 gives {rise} times what no decay gives. With a decay of 33 the share of the "
        f"sink that is left, minus the share of the fall of the loss that is left, is {left}."
    )


def proxies(t: evidence.Arms, arm: str = "rows of 0.1") -> str:
    """What a proxy hides where rows sum to little."""
    if not t.has(arm):
        return ""
    proxy, raw, row_sum = (
        _mean(t, arm, of) for of in (lambda row: row.attention[0], lambda row: row.first_raw, lambda row: row.row_sum)
    )
    return (
        f"Scores are over the sum of their row: where rows sum to {row_sum:.1f}, {proxy:.2f} is {raw:.2f} of attention."
    )


def cache(arms: dict[str, list[Row]]) -> str | None:
    """What the first token is worth in a small cache with learnt positions, beside its sink; None without decoders."""
    if not (rows := arms.get("learned")):
        return None
    sink, worth = (float(np.mean([of(row) for row in rows])) for of in (evidence.first, evidence.kept_first))
    said = (
        f"With learnt positions, where {100 * sink:.1f} % of heads and samples have a sink, to lose the first token "
        f"costs {worth:.3f} nats ({several(len(rows), 'seeds')})."
    )
    return said + (" So it is worth something there without a sink." if sink < NO_SINK and worth > 0 else "")


def _mean(t: evidence.Arms, arm: str, of: Callable) -> float:
    return float(np.mean([of(row) for row in t.arms[arm]]))


def ordered(parts: dict[str, Measurement]) -> str:
    """C34, where its toys are there."""
    if not parts:
        return "Not measured: these toys are to come."
    falls, apart = (measured(parts[name]) for name in ("falls", "ratio_alone_counts"))
    return (
        f"For each decade of rate over batch the attention changes by {falls}. What a lower rate with a smaller batch "
        f"changes at an equal ratio is {apart} of what a third of the batch changes at an equal rate; 0 would mean "
        "that the ratio alone counts."
    )


def stored(arms: dict[str, list[Row]]) -> str:
    """How many trainings on text and which toys are there, of those that the ledger asks for."""
    done, ready = sum(map(len, arms.values())), sum(len(rows) >= SEEDS for rows in arms.values())
    said = f"All {len(TEXT_RUNS)} trainings on text are stored."
    if done < len(TEXT_RUNS):
        said = (
            f"Of {len(TEXT_RUNS)} trainings on text {done} are stored. An arm is judged from {SEEDS} seeds on, which "
            f"{ready} of {len(ARMS)} have."
        )
    return said + (f" Of the toys {listed(FAMILIES_TO_COME)} are to come." if FAMILIES_TO_COME else "")


def waiting(claims: list[Claim], states: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Claims that wait for trainings, whole and in part; ``states``: of the parts of each claim that asks for text."""
    ids = [claim.id for claim in claims if "untested" in states.get(claim.id, [])]
    whole = [claim for claim in ids if set(states[claim]) == {"untested"}]
    return whole, [claim for claim in ids if claim not in whole]


def waits(whole: list[str], part: list[str]) -> str:
    """Which claims wait, see `waiting`."""
    said = [f"Nothing is measured of {several(len(whole), 'claims')}: {listed(whole)}."] if whole else []
    said += [f"Some parts are untested of {several(len(part), 'claims')}: {listed(part)}."] if part else []
    return " ".join(said) or "No claim waits for a training."


STATES = ("met", "not met", "void", "open", "untested")


def tally(states: list[str]) -> dict[str, int]:
    """How many parts stand how, in the words of `Run.state`; ValueError for another word, which would count none."""
    if unknown := set(states) - set(STATES):
        raise ValueError(f"no states of a part: {unknown}")
    return {state.replace(" ", "_"): states.count(state) for state in STATES}


def minutes(run) -> float:
    """How long a training on text took, on a GPU that others shared; NaN where none is stored."""
    walls = [one["wall_s"] / 60 for name in TEXT_RUNS if name in STORED and (one := run.stored(name))]
    return float(np.mean(walls)) if walls else np.nan


def takes(gpu: float) -> str:
    """What the trainings that are to come would take, by the `minutes` that one took."""
    if not TO_COME:
        return ""
    rounds = -(-len(TO_COME) // AT_ONCE)
    return (
        f"On one H200, {AT_ONCE} processes at a time under CUDA MPS, a training took {gpu:.1f} minutes. The "
        f"{len(TO_COME)} that are to come are about {rounds * gpu:.0f} minutes of such a GPU."
    )


def listed(names) -> str:
    """Names with commas, the last with "and"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
