"""Sentences of the chapter that hang on what came out, or on what is stored."""

import numpy as np

from claimbook.claims.ledgers import Claim
from claimbook.claims.verdicts import Measurement
from claimbook.claims.words import several
from claimbook.display.tables import measured
from claimbook.experiments.sink_emergence.measure.text import Row
from claimbook.experiments.sink_emergence.stored import (
    ARMS,
    FAMILIES_TO_COME,
    FIRST_HEARING,
    SEEDS,
    STORED,
    TEXT_RUNS,
    TO_COME,
)
from claimbook.metrics.sinks import EPSILON

AT_ONCE = 16  # trainings that shared one GPU when those that are stored were made


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


def minutes(run) -> dict[str, float]:
    """How long a training on text took on a GPU that others shared, and on one core of a processor."""
    made = {"gpu": [name for name in TEXT_RUNS if name in STORED], "core": FIRST_HEARING["fixed"]}
    walls = {kind: [one["wall_s"] / 60 for name in names if (one := run.stored(name))] for kind, names in made.items()}
    return {kind: float(np.mean(found)) if found else np.nan for kind, found in walls.items()}


def takes(gpu: float, core: float) -> str:
    """What the trainings that are to come would take, by the `minutes` that one took."""
    if not TO_COME:
        return ""
    rounds = -(-len(TO_COME) // AT_ONCE)
    return (
        f"On one H200, {AT_ONCE} at a time, a training took {gpu:.0f} minutes; on one core of a processor it takes "
        f"{core:.0f}. The {len(TO_COME)} that are to come are about {rounds * gpu:.0f} minutes of such a GPU, or "
        f"{len(TO_COME) * core / 60:.0f} hours of a core, and those with sigmoid train three times as long."
    )


def listed(names) -> str:
    """Names with commas, the last with "and"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
