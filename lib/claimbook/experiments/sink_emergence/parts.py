"""The ledger's parts, computed alike for every model and every toy: {claim: {part: measurement}}."""

import numpy as np
import torch

from claimbook import stats
from claimbook.experiments.sink_emergence.live import Found
from claimbook.experiments.sink_emergence.toys import KEYS
from claimbook.stats import Estimate, Exact, Votes
from claimbook.verdicts import Measurement

Parts = dict[str, dict[str, Measurement]]

NINE_IN_TEN = 0.9
FLOOR = 0.03  # Sink_1 below which a decoder trained here has no sink to strengthen or weaken


# --- real models -------------------------------------------------------------------------------------------------


def protocol(found: Found) -> Parts:
    """C1, C2, C7 and, for rotary models, the rotary parts of C3."""
    natural, geometry, heads = found.rate("natural").numpy(), found.geometry, found.sink_heads

    def over_sinks(values: torch.Tensor) -> np.ndarray:
        """Mean over the sink heads of each sample, of values (L, B, H or H_kv)."""
        spread = values.repeat_interleave(heads.shape[2] // values.shape[2], dim=2)
        return ((spread * heads).sum(dim=(0, 2)) / heads.sum(dim=(0, 2))).numpy()

    closer = over_sinks((geometry.cosine_first > geometry.cosine_others).float()) >= NINE_IN_TEN
    first = natural[:, 0] > natural[:, 1:].max(axis=1)
    kept = int((found.rate("repeated")[:, 0] > 0).sum())
    repeats = {}
    if found.repeats:
        repeats["states_coincide"] = Exact(found.repeats["distance"])
        repeats["rotary_bound"] = Exact(found.repeats["above"], n=found.repeats["checked"])
    return {
        "C1": {
            "sink_exists": stats.mean(natural[:, 0], unit="samples"),
            "first_is_largest": Votes(int(first.sum()), len(first), 1 / 32, unit="samples"),
        },
        "C2": {
            "random_keeps": stats.mean(found.rate("random")[:, 0].numpy(), unit="samples"),
            "repeated_loses": stats.proportion(kept, len(found.repeated), unit="samples"),
        },
        "C3": repeats,
        "C7": {
            "massive": stats.mean(geometry.hidden_norm.max(dim=0).values.numpy(), unit="samples"),
            "keys_smaller": stats.mean(over_sinks(geometry.key_norm), unit="samples"),
            "values_smaller": stats.mean(over_sinks(geometry.value_norm), unit="samples"),
            "angle_decides": Votes(int(closer.sum()), len(closer), 0.5, unit="samples"),
        },
    }


def domains(curves: dict, text: str, epsilons: list[float], lengths: list[int]) -> Parts:
    """C6, from the rows of ``real.domain``; ``text`` is the one that the others are compared with."""
    base = np.array(curves[text]["by_epsilon"])[:, epsilons.index(0.3)]
    by_length = np.array(curves[text]["by_length"])  # (N, lengths, epsilons)
    blocks = np.array(curves[text]["by_block"])  # (N, L)
    quarter = blocks.shape[1] // 4
    doublings = np.log2(lengths)

    def unlike(key: str) -> Estimate:
        return stats.paired_difference(np.array(curves[key]["by_epsilon"])[:, 1], base, unit="samples")

    low, mid, high = (by_length[:, :, epsilons.index(epsilon)] for epsilon in (0.2, 0.3, 0.5))
    return {
        "C6": {
            "docstrings_alike": unlike("docstrings"),
            "bible_alike": unlike("kjv"),
            "recipes_alike": unlike("wikibooks-recipes"),
            "falls_with_length": stats.slope(doublings, mid, unit="samples"),
            "steeper_at_high_epsilon": stats.slope(doublings, high - low, unit="samples"),
            "early_blocks_fewer": stats.mean(
                blocks[:, :quarter].mean(axis=1) - blocks[:, quarter:].mean(axis=1) / 2, unit="samples"
            ),
        }
    }


def windows(rows: list[dict]) -> Parts:
    """C17, from the rows of ``real.windows``, (layers, heads) each."""
    first = np.array([row["first"] for row in rows])
    later = np.array([row["window_first"] for row in rows])
    return {
        "C17": {
            "first_while_visible": stats.mean((first > 0.3).mean(axis=(1, 2)), unit="documents"),
            "not_window_first": stats.mean(later.max(axis=(1, 2)), unit="documents"),
        }
    }


def interventions(rows: list[dict]) -> Parts:
    """C29, from the rows of ``real.losses``."""
    loss = {name: np.array([row["loss"][name] for row in rows]) for name in rows[0]["loss"]}

    def rise(name: str) -> Estimate:
        return stats.paired_difference(loss[name], loss["as it is"], unit="documents")

    return {"C29": {"non_informative": rise("exchanged in all heads"), "no_value": rise("no value in sink heads")}}


# --- toys --------------------------------------------------------------------------------------------------------


class Toys:
    """Toys by arm, seed by seed; what an arm has not measured gives None, and its parts stay untested."""

    def __init__(self, arms: dict[str, list[dict]]):
        self.arms = arms

    def first(self, arm: str = "default") -> np.ndarray:
        """Attention to the first token, (seeds,)."""
        return self.column(arm, 0)

    def bias(self, arm: str) -> np.ndarray:
        """Attention to the bias, (seeds,)."""
        return np.array([row["attention"][0] for row in self.arms[arm]])

    def has_bias(self, arm: str) -> bool:
        """Whether the arm has a bias that takes attention as a key does."""
        return len(self.arms[arm][0]["attention"]) > KEYS

    def column(self, arm: str, token: int) -> np.ndarray:
        """Attention to a token, from 0; the bias, where there is one, comes before them."""
        return np.array([row["attention"][token + len(row["attention"]) - KEYS] for row in self.arms[arm]])

    def value(self, arm: str, name: str) -> np.ndarray:
        return np.array([row[name] for row in self.arms[arm]])

    def solved(self, arm: str) -> np.ndarray:
        """Seeds that learned to copy: nine in ten symbols after a trigger are right."""
        return self.value(arm, "copied") >= NINE_IN_TEN


def seeds_mean(values: np.ndarray) -> Estimate:
    return stats.mean(values, unit="seeds")


def less_half(values: np.ndarray, of: np.ndarray) -> Estimate:
    """``values`` less half of what they are compared with, seed by seed."""
    return seeds_mean(values - of / 2)


def toys(arms: dict[str, list[dict]]) -> Parts:
    """Every part that toys decide. Nothing where a family of arms is missing."""
    t = Toys(arms)
    parts = {}
    for claim, names, measure in _TOY_CLAIMS:
        if all(name in arms for name in ("default", *names)):
            parts.setdefault(claim, {}).update(measure(t))
    return parts


def _rates(t: Toys) -> dict:
    def gain(high: str, low: str) -> Estimate:
        return seeds_mean((t.first(high) - t.first(low)) / t.first())

    return {
        "toy_fixed_steps": gain("rate 0.01", "rate 0.0003"),
        "toy_fixed_product": gain("rate 0.01, 120 steps", "rate 0.0003, 4000 steps"),
    }


def _fixed_positions(t: Toys) -> dict:
    """The fixed token against the most attended other of the first four, for each of three positions."""
    ahead, others = [], []
    for arm, at in {"default": 0, "fixed at 2": 1, "fixed at 3": 2}.items():
        first_four = np.stack([t.column(arm, token) for token in range(4)], axis=1)
        rival = np.delete(first_four, at, axis=1).max(axis=1)
        ahead.append(first_four[:, at] - rival)
        others.append(rival / first_four[:, at])
    return {
        "moves_there": seeds_mean(np.min(ahead, axis=0) / t.first()),
        "others_lose": seeds_mean(np.mean(others, axis=0)),
    }


def _prefix(t: Toys) -> dict:
    arm = "three, prefix 5"
    attention = t.value(arm, "attention")  # (seeds, 16)
    return {
        "within": seeds_mean(attention[:, :5].max(axis=1) - attention[:, 5:].max(axis=1)),
        "on_one": seeds_mean(t.value(arm, "share_of_most")),
        "is_a_sink": less_half(t.value(arm, "most"), t.first("three layers")),
    }


POSITIONS = ("none", "absolute", "learned", "relative", "alibi")


def _positions(t: Toys) -> dict:
    """Seeds that solve the task only: without it there is nothing to idle about."""
    found = {}
    for arm in POSITIONS:
        solved = t.solved(arm) & t.solved("default")
        found[arm] = less_half(t.first(arm)[solved], t.first()[solved])
    return found


FEED_FORWARD = ("relu", "silu", "relu, gated", "gelu, gated", "silu, gated")


def _least(t: Toys, arms: tuple[str, ...]) -> Estimate:
    return less_half(np.min([t.first(arm) for arm in ("default", *arms)], axis=0), t.first())


def _random_firsts(t: Toys) -> dict:
    """With three layers, as one layer cannot tell where a text begins."""
    fixed, two = t.first("three layers"), "three, two random"
    return {
        "one_random_stays": less_half(t.first("three, one random"), fixed),
        "two_random_move": seeds_mean((t.column(two, 1) - t.first(two)) / fixed),
    }


def _biases(t: Toys) -> dict:
    base = t.first()
    return {
        "key_bias_takes": less_half(t.bias("K bias"), base),
        "key_bias_frees": less_half(t.first("K bias"), base),
        "key_bias_takes_alone": less_half(t.bias("unfixed, K bias"), base),
        "kv_bias_takes": less_half(t.bias("KV bias"), base),
        "kv_bias_takes_alone": less_half(t.bias("unfixed, KV bias"), base),
        "kv_bias_frees": less_half(t.first("KV bias"), base),
        "value_bias_does_not": less_half(t.first("V bias"), base),
        "same_loss": seeds_mean(t.value("K bias", "validation") - t.value("default", "validation")),
    }


ALONE = "unfixed, "  # begins the names of the arms that have a bias and no fixed token


def both(arm: str) -> tuple[str, str]:
    """An arm with a bias beside a fixed first token, and the same without one."""
    return arm, ALONE + arm


def _fixed_values(t: Toys) -> dict:
    """What a value behind the key bias does to it, beside a fixed token and alone."""

    def falls(arm: str, without: str) -> Estimate:
        return less_half(t.bias(arm), t.bias(without))

    return {
        "falls": falls("value 20", "K bias"),
        "falls_evenly": falls("even value 20", "K bias"),
        "falls_alone": falls(ALONE + "value 20", ALONE + "K bias"),
        "falls_evenly_alone": falls(ALONE + "even value 20", ALONE + "K bias"),
        "first_rises": seeds_mean((t.first("value 20") - t.first("K bias")) / t.first()),
    }


def _designs(t: Toys) -> dict:
    """A bias shared by heads, and one of few dimensions, beside a fixed token and alone."""
    found = {}
    for suffix, before in (("", ""), ("_alone", ALONE)):
        whole = t.bias(f"{before}K bias")
        shared, own = t.bias(f"{before}4 heads, shared K bias"), t.bias(f"{before}4 heads, K bias")
        found[f"shared_takes{suffix}"] = less_half(shared, own)
        found[f"few_dimensions_less{suffix}"] = seeds_mean((whole - t.bias(f"{before}1 dimensions")) / whole)
    return found


SIGMOID = ("sigmoid", "sigmoid, decay 0.1", "sigmoid, decay 1", "sigmoid, rate 0.001", "sigmoid, rate 0.01")
THREE = ("three layers", "three, K bias", "three, V bias", "three, sigmoid")

# claim, arms that it needs beside the default, what it measures
_TOY_CLAIMS = [
    ("C10", ("rate 0.0003", "rate 0.01", "rate 0.0003, 4000 steps", "rate 0.01, 120 steps"), _rates),
    (
        "C11",
        ("batch 16", "batch 128"),
        lambda t: {"same_sink": seeds_mean((t.first("batch 128") - t.first("batch 16")) / t.first())},
    ),
    ("C12", ("16 samples",), lambda t: {"toy_little_data": less_half(t.first("16 samples"), t.first())}),
    ("C13", ("three layers", "three, one random", "three, two random"), _random_firsts),
    ("C14", ("fixed at 2", "fixed at 3"), _fixed_positions),
    (
        "C15",
        ("decay 0.5", "decay 5"),
        lambda t: {
            "toy_rise": seeds_mean((t.first("decay 0.5") - t.first()) / t.first()),
            "toy_destroyed": less_half(t.first("decay 5"), t.first()),
        },
    ),
    ("C16", ("three layers", "three, prefix 5"), _prefix),
    ("C18", POSITIONS, _positions),
    (
        "C19",
        ("three layers", "three, post-norm"),
        lambda t: {
            "post_norm_has_it": less_half(t.first("three, post-norm"), t.first("three layers")),
            "massive_before_the_norm": less_half(
                t.value("three, post-norm", "hidden"), t.value("three layers", "hidden")
            ),
        },
    ),
    ("C20", FEED_FORWARD, lambda t: {"least_of_all": _least(t, FEED_FORWARD)}),
    (
        "C21",
        ("2 heads", "4 heads", "4 heads, summed"),
        lambda t: {
            "least_of_all": _least(t, ("2 heads", "4 heads")),
            "summed_heads": less_half(t.first("4 heads, summed"), t.first()),
        },
    ),
    ("C22", ("K bias", "KV bias", "V bias", "unfixed, K bias", "unfixed, KV bias"), _biases),
    ("C23", (*both("K bias"), *both("value 20"), *both("even value 20")), _fixed_values),
    ("C24", (*both("4 heads, K bias"), *both("4 heads, shared K bias"), *both("1 dimensions")), _designs),
    (
        "C25",
        ("sigmoid", "elu", "identity kernel", "mlp kernel", "sigmoid over its sum", "elu kernel over its sum"),
        lambda t: {
            "sigmoid_none": less_half(t.first("sigmoid"), t.first()),
            "elu_none": less_half(t.first("elu"), t.first()),
            "identity_none": less_half(t.first("identity kernel"), t.first()),
            "mlp_none": less_half(t.first("mlp kernel"), t.first()),
            "sigmoid_normalised_has": less_half(t.first("sigmoid over its sum"), t.first()),
            "elu_kernel_normalised_has": less_half(t.first("elu kernel over its sum"), t.first()),
        },
    ),
    (
        "C26",
        ("rows of 2", "rows of 0.1", *SIGMOID),
        lambda t: {
            "double_more": seeds_mean((t.first("rows of 2") - t.first()) / t.first()),
            "tenth_less": less_half(t.first("rows of 0.1"), t.first()),
            "sigmoid_never": less_half(np.max([t.first(arm) for arm in SIGMOID], axis=0), t.first()),
        },
    ),
    (
        "C28",
        THREE,
        lambda t: {
            "default_has": seeds_mean(t.value("three layers", "hidden")),
            "key_bias_none": less_half(t.value("three, K bias", "hidden"), t.value("three layers", "hidden")),
            "sigmoid_none": less_half(t.value("three, sigmoid", "hidden"), t.value("three layers", "hidden")),
            "value_bias_has": less_half(t.value("three, V bias", "hidden"), t.value("three layers", "hidden")),
        },
    ),
]


# --- real text -----------------------------------------------------------------------------------------------------


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
    """Whether an arm is above the floor: below it nothing can be said about what strengthens or weakens its sink."""
    return arm in arms and float(last(arms[arm]).mean()) >= FLOOR


def text(arms: dict[str, list[dict]]) -> Parts:
    """C9, C10, C12, C14, C15, C22, C28: parts that training on real text decides.

    Those on what strengthens or weakens the default's sink only where the default has one.
    """
    parts = {}
    if has_a_sink(arms, "fixed"):
        fixed = arms["fixed"]
        parts["C28"] = {"text_fixed_has": seeds_mean(massive(fixed))}
        if "packed" in arms:
            parts["C14"] = {"text_stronger": paired(last(fixed), last(arms["packed"]))}
        if "key_bias" in arms:
            without, with_bias = together(massive(fixed), massive(arms["key_bias"]))
            parts["C28"]["text_key_bias_none"] = less_half(with_bias, without)
    if "packed" in arms and "key_bias" in arms:
        packed, bias = arms["packed"], arms["key_bias"]
        parts["C22"] = {
            "text_bias_draws": paired(last(bias, column="bias"), last(packed)),
            "text_same_loss": paired(final_loss(bias), final_loss(packed)),
        }
    if not has_a_sink(arms, "packed"):
        return parts
    default = last(arms["packed"])
    parts["C9"] = {
        "emerges": seeds_mean(default),
        "not_at_first": less_half(last(arms["packed"], step=244), default),
    }
    for claim, part, arm in (("C10", "lower_rate_weaker", "slow"), ("C12", "little_data_none", "little")):
        if arm in arms:
            parts[claim] = {part: less_half(*together(last(arms[arm]), default))}
    if "decay" in arms:
        parts["C15"] = {"text_rise": paired(last(arms["decay"]), default)}
    return parts


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


FLOORED = ("C9", "C10", "C12", "C15")  # not judged where the default has no sink, by toys neither


def judged_by_floor(arms: dict[str, list[dict]], found: Parts) -> Parts:
    """Without what the floor forbids."""
    if has_a_sink(arms, "packed"):
        return found
    return {claim: parts for claim, parts in found.items() if claim not in FLOORED}
