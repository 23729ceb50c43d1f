"""The ledger's parts that training on real text decides: {claim: {part: measurement}}."""

import numpy as np

from claimbook.experiments.sink_emergence.parts import Parts
from claimbook.experiments.sink_emergence.toy_parts import less_half, seeds_mean
from claimbook.stats import Estimate

NEEDS_A_SINK = {"C9": "packed", "C10": "fixed", "C12": "fixed", "C15": "fixed"}  # claim -> the arm that has to have one


def last(rows: list[dict], step: int | None = None, column: str = "first") -> np.ndarray:
    """The sink on the first token or on the key bias, at the end of the training or after a step, (seeds,)."""
    return np.array([sink(row["measured"][-1] if step is None else _at(row, step), column) for row in rows])


def sink(found: dict, column: str = "first") -> float:
    """Sink of one measurement, in [0, 1]: on the "first" token, or on the "bias", which stands before it."""
    columns = found["sink"]["0.3"]
    return columns[0] if column == "bias" else columns[-4]


def _at(row: dict, step: int) -> dict:
    return next(found for found in row["measured"] if found["step"] == step)


def parts(arms: dict[str, list[dict]]) -> Parts:
    """Every part that has the arms it needs. One or two seeds are too few to decide it, and are shown."""
    found = {}
    for claim, names, measure in _CLAIMS:
        if all(name in arms for name in names):
            measured = measure(*(arms[name] for name in names))
            found.setdefault(claim, {}).update({part: estimate.of(*names) for part, estimate in measured.items()})
    return found


def preconditions(arms: dict[str, list[dict]]) -> dict[str, Estimate]:
    """The sink of the arm that a claim's parts on real text start from, by claim."""
    return {claim: seeds_mean(last(arms[arm])).of(arm) for claim, arm in NEEDS_A_SINK.items() if arm in arms}


# claim, arms that it needs, what it measures
_CLAIMS = [
    (
        "C9",
        ("packed",),
        lambda packed: {
            "emerges": seeds_mean(last(packed)),
            "not_at_first": less_half(last(packed, step=244), last(packed)),
        },
    ),
    (
        "C10",
        ("fixed", "fixed_slow"),
        lambda fixed, slow: {"lower_rate_weaker": less_half(*together(last(slow), last(fixed)))},
    ),
    (
        "C12",
        ("fixed", "fixed_little"),
        lambda fixed, little: {"little_data_none": less_half(*together(last(little), last(fixed)))},
    ),
    ("C14", ("fixed", "packed"), lambda fixed, packed: {"text_stronger": paired(last(fixed), last(packed))}),
    ("C15", ("fixed", "fixed_decay"), lambda fixed, decay: {"text_rise": paired(last(decay), last(fixed))}),
    (
        "C22",
        ("fixed", "fixed_key_bias"),
        lambda fixed, bias: {
            "text_bias_takes": less_half(*together(last(bias, column="bias"), last(fixed))),
            "text_bias_frees": less_half(*together(last(bias), last(fixed))),
            "text_same_loss": paired(final_loss(bias), final_loss(fixed)),
        },
    ),
    ("C28", ("fixed",), lambda fixed: {"text_fixed_has": seeds_mean(massive(fixed))}),
    (
        "C28",
        ("fixed", "fixed_key_bias"),
        lambda fixed, bias: {"text_key_bias_none": less_half(*together(massive(bias) - 1, massive(fixed) - 1))},
    ),
]


def paired(a: np.ndarray, b: np.ndarray) -> Estimate:
    """``a`` minus ``b``, over the seeds that both have."""
    a, b = together(a, b)
    return seeds_mean(a - b)


def together(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = min(len(a), len(b))
    return a[:both], b[:both]


def massive(rows: list[dict]) -> np.ndarray:
    """Norm of the first hidden state over the mean of the others at the end, largest over blocks, (seeds,)."""
    return np.array([max(row["measured"][-1]["hidden_norm"]) for row in rows])


def final_loss(rows: list[dict]) -> np.ndarray:
    """Validation loss at the end, in nats, (seeds,)."""
    return np.array([row["measured"][-1]["loss"] for row in rows])
