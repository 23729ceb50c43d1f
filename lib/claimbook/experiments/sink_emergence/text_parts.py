"""The ledger's parts that training on real text decides: {claim: {part: measurement}}."""

import numpy as np

from claimbook.experiments.sink_emergence.parts import Parts
from claimbook.experiments.sink_emergence.toy_parts import less_half, seeds_mean
from claimbook.stats import Estimate

FLOOR = 0.03  # the gate of the ledger: with less of a sink, nothing can be said about what strengthens or weakens it
GATED = ("C9", "C10", "C12", "C15")


def last(rows: list[dict], step: int | None = None, column: str = "first") -> np.ndarray:
    """The sink on the first token or on the key bias, at the end of the training or after a step, (seeds,)."""
    return np.array([sink(row["measured"][-1] if step is None else _at(row, step), column) for row in rows])


def sink(found: dict, column: str = "first") -> float:
    """Sink of one measurement, in [0, 1]: on the "first" token, or on the "bias", which stands before it."""
    columns = found["sink"]["0.3"]
    return columns[0] if column == "bias" else columns[-4]


def _at(row: dict, step: int) -> dict:
    return next(found for found in row["measured"] if found["step"] == step)


def has_a_sink(arms: dict[str, list[dict]], arm: str) -> bool:
    """Whether an arm is there and above the floor."""
    return arm in arms and float(last(arms[arm]).mean()) >= FLOOR


def floor(arms: dict[str, list[dict]]) -> tuple[bool, str]:
    """Whether the gate is passed, and what was found, in words."""
    if "packed" not in arms:
        return False, "no training is stored"
    share = 100 * last(arms["packed"]).mean()
    return has_a_sink(arms, "packed"), f"{share:.1f} % of heads and samples in {len(arms['packed'])} seeds"


def parts(arms: dict[str, list[dict]]) -> Parts:
    """Every part that has the arms it needs. One or two seeds are too few to decide it, and are shown."""
    found = {}
    for claim, names, measure in _CLAIMS:
        if all(name in arms for name in names):
            found.setdefault(claim, {}).update(measure(*(arms[name] for name in names)))
    return found


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
