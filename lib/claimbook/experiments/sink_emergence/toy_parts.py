"""The ledger's parts that toys decide: {claim: {part: measurement}}.

What they compare is *extra* attention: above what even attention over the keys in sight would give, 0.07 for the first
of 64 tokens. A mean attention has no zero otherwise, and half of a default would be within reach of chance.
"""

from functools import cache

import numpy as np
import torch

from claimbook import stats
from claimbook.experiments.sink_emergence.parts import NINE_IN_TEN, Parts
from claimbook.experiments.sink_emergence.stored import TOYS
from claimbook.experiments.sink_emergence.toys import KEYS, Text
from claimbook.lm import variants
from claimbook.stats import Estimate

MASSIVE = 3  # ratio of norms that the ledger calls massive


@cache
def even(arm: str) -> np.ndarray:
    """What a toy's bias (where there is one) and its first 16 tokens get from even attention, (slots + 16,).

    Even over the keys in sight; with a distance bias, what that bias alone gives, mean over heads.
    """
    change = next(arms[arm] for arms in TOYS.values() if arm in arms)
    variant = variants.Attention(**{"strict": True} | change.get("attention", {}))
    length = Text().length
    weights = variants.visible(variant, length).float()[None]
    if variant.distance != "none":
        heads = change.get("decoder", {}).get("heads", 1)
        weights = weights * torch.exp(variants.distance_bias(variant, heads, length))
    weights = torch.nn.functional.pad(weights, (variant.slots, 0), value=1.0)
    rows = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    queries = torch.cat([torch.full((variant.slots,), length), length - torch.arange(length)])
    return (rows.sum(dim=1).mean(dim=0) / queries)[: variant.slots + KEYS].numpy()


class Toys:
    """Toys by arm, seed by seed: attention as measured, and the extra of it that parts compare."""

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

    def extra(self, arm: str = "default", token: int = 0) -> np.ndarray:
        """Attention to a token, from 0, above what even attention would give it, (seeds,)."""
        level = even(arm)
        return self.column(arm, token) - level[token + len(level) - KEYS]

    def extra_bias(self, arm: str) -> np.ndarray:
        """The same for the bias, (seeds,)."""
        return self.bias(arm) - even(arm)[0]

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


def parts(arms: dict[str, list[dict]]) -> Parts:
    """Every part that toys decide. Nothing where a family of arms is missing."""
    t = Toys(arms)
    found = {}
    for claim, names, measure in _CLAIMS:
        if all(name in arms for name in ("default", *names)):
            found.setdefault(claim, {}).update(measure(t))
    return found


def _rates(t: Toys) -> dict:
    def gain(high: str, low: str) -> Estimate:
        return seeds_mean((t.extra(high) - t.extra(low)) / t.extra())

    return {
        "toy_fixed_steps": gain("rate 0.01", "rate 0.0003"),
        "toy_fixed_product": gain("rate 0.01, 120 steps", "rate 0.0003, 4000 steps"),
    }


FIXED_PLACES = {"three layers": 0, "three, fixed at 2": 1, "three, fixed at 3": 2}


def _fixed_positions(t: Toys) -> dict:
    """The fixed token against the most attended other of the first four, for each of three positions."""
    ahead, others = [], []
    for arm, at in FIXED_PLACES.items():
        first_four = np.stack([t.extra(arm, token) for token in range(4)], axis=1)
        rival = np.delete(first_four, at, axis=1).max(axis=1)
        ahead.append(first_four[:, at] - rival)
        others.append(rival / first_four[:, at])
    return {
        "moves_there": seeds_mean(np.min(ahead, axis=0) / t.extra("three layers")),
        "others_lose": seeds_mean(np.mean(others, axis=0)),
    }


def _prefix(t: Toys) -> dict:
    arm = "three, prefix 5"
    extra = t.value(arm, "attention") - even(arm)  # (seeds, 16)
    return {
        "within": seeds_mean(extra[:, :5].max(axis=1) - extra[:, 5:].max(axis=1)),
        "on_one": seeds_mean(t.value(arm, "share_of_most")),
        "is_a_sink": less_half(t.value(arm, "most") - even(arm)[:5].max(), t.extra("three layers")),
    }


POSITIONS = ("none", "absolute", "learned", "relative", "alibi")


def _positions(t: Toys) -> dict:
    """Seeds that solve the task only: without it there is nothing to idle about."""
    found = {}
    for arm in POSITIONS:
        solved = t.solved(arm) & t.solved("rotary")
        found[arm] = less_half(t.extra(arm)[solved], t.extra("rotary")[solved])
    return found


FEED_FORWARD = ("relu", "silu", "relu, gated", "gelu, gated", "silu, gated")


def _least(t: Toys, arms: tuple[str, ...]) -> Estimate:
    return less_half(np.min([t.extra(arm) for arm in ("default", *arms)], axis=0), t.extra())


def _random_firsts(t: Toys) -> dict:
    """With three layers, as one layer cannot tell where a text begins."""
    fixed, two = t.extra("three layers"), "three, two random"
    return {
        "one_random_stays": less_half(t.extra("three, one random"), fixed),
        "two_random_move": seeds_mean((t.extra(two, 1) - t.extra(two)) / fixed),
    }


def _biases(t: Toys) -> dict:
    base = t.extra()
    return {
        "key_bias_takes": less_half(t.extra_bias("K bias"), base),
        "key_bias_frees": less_half(t.extra("K bias"), base),
        "key_bias_takes_alone": less_half(t.extra_bias("unfixed, K bias"), base),
        "kv_bias_takes": less_half(t.extra_bias("KV bias"), base),
        "kv_bias_takes_alone": less_half(t.extra_bias("unfixed, KV bias"), base),
        "kv_bias_frees": less_half(t.extra("KV bias"), base),
        "value_bias_does_not": less_half(t.extra("V bias"), base),
        "same_loss": seeds_mean(t.value("K bias", "validation") - t.value("default", "validation")),
    }


ALONE = "unfixed, "  # begins the names of the arms that have a bias and no fixed token


def both(arm: str) -> tuple[str, str]:
    """An arm with a bias beside a fixed first token, and the same without one."""
    return arm, ALONE + arm


def _fixed_values(t: Toys) -> dict:
    """What a value behind the key bias does to it, beside a fixed token and alone."""

    def falls(arm: str, without: str) -> Estimate:
        return less_half(t.extra_bias(arm), t.extra_bias(without))

    return {
        "falls": falls("value 20", "K bias"),
        "falls_evenly": falls("even value 20", "K bias"),
        "falls_alone": falls(ALONE + "value 20", ALONE + "K bias"),
        "falls_evenly_alone": falls(ALONE + "even value 20", ALONE + "K bias"),
        "first_rises": seeds_mean((t.extra("value 20") - t.extra("K bias")) / t.extra()),
    }


def _designs(t: Toys) -> dict:
    """A bias shared by heads, and one of few dimensions, beside a fixed token and alone."""
    found = {}
    for suffix, before in (("", ""), ("_alone", ALONE)):
        whole = t.extra_bias(f"{before}K bias")
        shared, own = t.extra_bias(f"{before}4 heads, shared K bias"), t.extra_bias(f"{before}4 heads, K bias")
        found[f"shared_takes{suffix}"] = less_half(shared, own)
        found[f"few_dimensions_less{suffix}"] = seeds_mean((whole - t.extra_bias(f"{before}1 dimensions")) / whole)
    return found


SIGMOID = ("sigmoid", "sigmoid, decay 0.1", "sigmoid, decay 1", "sigmoid, rate 0.001", "sigmoid, rate 0.01")
THREE = ("three layers", "three, K bias", "three, V bias", "three, sigmoid")


def _followers(t: Toys, arms: dict[str, str]) -> dict:
    """Massive activations of other arms, counted from a ratio of 1; nothing where the default has none."""
    default = t.value("three layers", "hidden")
    if default.mean() < MASSIVE:
        return {}
    return {part: less_half(t.value(arm, "hidden") - 1, default - 1) for part, arm in arms.items()}


# claim, arms that it needs beside the default, what it measures
_CLAIMS = [
    ("C10", ("rate 0.0003", "rate 0.01", "rate 0.0003, 4000 steps", "rate 0.01, 120 steps"), _rates),
    (
        "C11",
        ("batch 16", "batch 48", "batch 128"),
        lambda t: {"same_sink": seeds_mean((t.extra("batch 128") - t.extra("batch 16")) / t.extra("batch 48"))},
    ),
    (
        "C12",
        ("16 samples",),
        lambda t: {
            "toy_little_data": less_half(t.extra("16 samples"), t.extra()),
            "toy_never": less_half(t.value("16 samples", "alpha").max(axis=1) - even("16 samples")[0], t.extra()),
        },
    ),
    ("C13", ("three layers", "three, one random", "three, two random"), _random_firsts),
    ("C14", tuple(FIXED_PLACES), _fixed_positions),
    (
        "C15",
        ("decay 0.5", "decay 5"),
        lambda t: {
            "toy_rise": seeds_mean((t.extra("decay 0.5") - t.extra()) / t.extra()),
            "toy_destroyed": less_half(t.extra("decay 5"), t.extra()),
        },
    ),
    ("C16", ("three layers", "three, prefix 5"), _prefix),
    ("C18", ("rotary", *POSITIONS), _positions),
    (
        "C19",
        ("three layers", "three, post-norm"),
        lambda t: {
            "post_norm_has_it": less_half(t.extra("three, post-norm"), t.extra("three layers")),
            **_followers(t, {"massive_before_the_norm": "three, post-norm"}),
        },
    ),
    ("C20", FEED_FORWARD, lambda t: {"least_of_all": _least(t, FEED_FORWARD)}),
    (
        "C21",
        ("2 heads", "4 heads", "4 heads, summed"),
        lambda t: {
            "least_of_all": _least(t, ("2 heads", "4 heads")),
            "summed_heads": less_half(t.extra("4 heads, summed"), t.extra("4 heads")),
        },
    ),
    ("C22", ("K bias", "KV bias", "V bias", "unfixed, K bias", "unfixed, KV bias"), _biases),
    ("C23", (*both("K bias"), *both("value 20"), *both("even value 20")), _fixed_values),
    ("C24", (*both("4 heads, K bias"), *both("4 heads, shared K bias"), *both("1 dimensions")), _designs),
    (
        "C25",
        ("sigmoid", "elu", "identity kernel", "mlp kernel", "sigmoid over its sum", "elu kernel over its sum"),
        lambda t: {
            "sigmoid_none": less_half(t.extra("sigmoid"), t.extra()),
            "elu_none": less_half(t.extra("elu"), t.extra()),
            "identity_none": less_half(t.extra("identity kernel"), t.extra()),
            "mlp_none": less_half(t.extra("mlp kernel"), t.extra()),
            "sigmoid_normalised_has": less_half(t.extra("sigmoid over its sum"), t.extra()),
            "elu_kernel_normalised_has": less_half(t.extra("elu kernel over its sum"), t.extra()),
        },
    ),
    (
        "C26",
        ("rows of 2", "rows of 0.1", *SIGMOID),
        lambda t: {
            "double_more": seeds_mean((t.extra("rows of 2") - t.extra()) / t.extra()),
            "tenth_less": less_half(t.extra("rows of 0.1"), t.extra()),
            "sigmoid_never": less_half(np.max([t.extra(arm) for arm in SIGMOID], axis=0), t.extra()),
        },
    ),
    (
        "C28",
        THREE,
        lambda t: {
            "default_has": seeds_mean(t.value("three layers", "hidden")),
            **_followers(
                t,
                {"key_bias_none": "three, K bias", "sigmoid_none": "three, sigmoid", "value_bias_has": "three, V bias"},
            ),
        },
    ),
]
