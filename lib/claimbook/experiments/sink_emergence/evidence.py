"""From rows to the ledger's parts, preconditions and measured nulls: {claim: Evidence}. Nothing is measured here."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch

from claimbook import stats
from claimbook.claims import rules
from claimbook.claims.verdicts import Evidence, Measurement
from claimbook.experiments.sink_emergence import inputs
from claimbook.experiments.sink_emergence.measure import text as trainings
from claimbook.experiments.sink_emergence.measure import toys as language
from claimbook.experiments.sink_emergence.measure.protocol import Found
from claimbook.experiments.sink_emergence.stored import SEEDS as ENOUGH
from claimbook.experiments.sink_emergence.stored import TOYS
from claimbook.lm import variants
from claimbook.stats import Estimate, Exact

Found_ = dict[str, Evidence]

SEEDS, SAMPLES, DOCUMENTS = "seeds", "samples", "documents"
BARE = "nothing in front"  # the arm of random and repeated tokens, and of text without its start token
NEXT_TO_NONE = 0.05  # of natural text's sink: what a repeated token may keep, C2

# --- real models -----------------------------------------------------------------------------------------------------


def protocol(found: Found, bare: torch.Tensor | None = None) -> Found_:
    """C1, C2, C7, C33 and, for models with rotary positions, their parts of C3.

    ``bare`` (N,): Sink_1 on natural text without the tokenizer's start token, where it puts one in front.
    """
    natural, repeated = found.rate("natural").numpy(), found.rate("repeated")[:, 0].numpy()
    text = natural[:, 0] if bare is None else bare.numpy()  # in the arm of random and repeated tokens
    heads, geometry = found.sink_heads, found.geometry

    def over_sinks(values: torch.Tensor) -> np.ndarray:
        """Mean over the sink heads of each sample, of values (L, B, H or H_kv)."""
        spread = values.repeat_interleave(heads.shape[2] // values.shape[2], dim=2)
        return ((spread * heads).sum(dim=(0, 2)) / heads.sum(dim=(0, 2))).numpy()

    def any_head(rates: np.ndarray) -> Estimate:
        return stats.proportion(int((rates > 0).sum()), len(rates), unit=SAMPLES)

    closer = geometry.cosine_first > geometry.cosine_others
    by_sample = [closer[:, i][heads[:, i]].int().tolist() for i in range(heads.shape[1])]
    many = [held for held in by_sample if len(held) >= 10]  # fewer heads agree by luck too often
    parts = {
        "C1": {
            "sink_exists": share(natural[:, 0], SAMPLES),
            "first_is_largest": rules.votes("first_is_largest", 1 / 32, natural.tolist(), unit=SAMPLES),
        },
        "C2": {
            "random_keeps": share(found.rate("random")[:, 0].numpy(), SAMPLES).of(BARE),
            "repeated_none": less(repeated, NEXT_TO_NONE, text).of(BARE),
            "repeated_loses": any_head(repeated).of(BARE),
        },
        "C7": {
            "massive": stats.mean(geometry.hidden_norm.max(dim=0).values.numpy(), unit=SAMPLES),
            "keys_smaller": stats.mean(over_sinks(geometry.key_norm), unit=SAMPLES),
            "values_smaller": stats.mean(over_sinks(geometry.value_norm), unit=SAMPLES),
            "angle_decides": rules.votes("nine_in_ten_hold", 0.011, many, unit=SAMPLES),
        },
        "C33": {"all_massive": stats.mean(found.repeated_norms, unit=SAMPLES).of(BARE)},
    }
    nulls = {"C2": {"repeated_loses": any_head(text)}}
    preconditions = {claim: {"has_a_sink": share(text, SAMPLES).of(BARE)} for claim in ("C2", "C33")}
    if found.theory:  # of text that does not repeat, as a null
        parts["C3"], nulls["C3"] = (
            {"states_coincide": Exact(found.theory[kind]["distance"])} for kind in ("repeated", "natural")
        )
    return together(parts, nulls, preconditions)


def schemes(repeated: dict[str, float], random: dict[str, float]) -> Found_:
    """C3 without positions and with distance biases: deviations for one token repeated and, as nulls, random ones."""
    names = {
        "uniform_without_positions": "none",
        "alibi_by_distance": "alibi",
        "relative_by_distance": "relative",
    }
    return {
        "C3": Evidence(
            parts={part: Exact(repeated[scheme]) for part, scheme in names.items()},
            nulls={part: Exact(random[scheme]) for part, scheme in names.items()},
        )
    }


def exchanged(rates: dict[str, np.ndarray], natural: np.ndarray, model: str) -> Found_:
    """C4 and C30 in a pre-trained model with learnt positions, from the rows of ``protocol.exchanged``, (N,) each."""
    before = share(rates["before"], SAMPLES).of(model)
    return {
        "C4": Evidence(
            parts={
                "replaced_loses": less(rates["replaced"], 0.057, rates["before"]).of(model),
                "swapped_moves": less(rates["swapped"], 0.46, rates["before"]).of(model),
            },
            preconditions={"has_a_sink": before},
        ),
        "C30": Evidence(
            parts={"repeated_keeps": less(rates["before"], 0.4, natural).of(model)},
            preconditions={"has_a_sink": share(natural, SAMPLES).of(model)},
        ),
    }


def chat(tuned: np.ndarray, base: np.ndarray) -> Found_:
    """C5: Sink_1 of the same samples in a chat model and in its base model, (N,) each."""
    return {"C5": Evidence(parts={"alike": stats.paired_difference(tuned, base, unit=SAMPLES)})}


def domains(curves: dict, text: str, epsilons: list[float], lengths: list[int]) -> Found_:
    """C6, from the rows of ``real.domain``; ``text`` is the one that the others are compared with."""
    at = epsilons.index(0.3)
    base = np.array(curves[text]["by_epsilon"])[:, at]
    whole = [i for i, length in enumerate(lengths) if length >= 32]  # shorter ones reach 0.2 by even attention alone
    by_length = np.array(curves[text]["by_length"])[:, whole]  # (N, lengths, epsilons)
    layers = np.array(curves[text]["by_block"])  # (N, L)
    quarter, doublings = layers.shape[1] // 4, np.log2(lengths)[whole]

    def unlike(key: str) -> Estimate:
        return stats.paired_difference(np.array(curves[key]["by_epsilon"])[:, at], base, unit=SAMPLES)

    low, mid, high = (by_length[:, :, epsilons.index(epsilon)] for epsilon in (0.2, 0.3, 0.5))
    parts = {
        **{part: unlike(key) for part, key in inputs.DOMAINS.items()},
        "falls_with_length": stats.slope(doublings, mid, unit=SAMPLES),
        "steeper_at_high_epsilon": stats.slope(doublings, high - low, unit=SAMPLES),
        "early_layers_fewer": stats.ratio_of_means(
            layers[:, :quarter].mean(axis=1), layers[:, quarter:].mean(axis=1), unit=SAMPLES
        ),
    }
    return {"C6": Evidence(parts=parts)}


def windows(rows: list[dict]) -> Found_:
    """C17, from the rows of ``real.windows``, (layers, heads) each; its null is the text's own first token."""
    first, later = (np.array([row[key] for row in rows]) for key in ("first", "window_first"))
    parts = {
        "first_while_visible": share((first > 0.3).mean(axis=(1, 2)), DOCUMENTS),
        "not_window_first": share(later.max(axis=(1, 2)), DOCUMENTS),
    }
    return {"C17": Evidence(parts=parts, nulls={"not_window_first": share(first.max(axis=(1, 2)), DOCUMENTS)})}


def interventions(rows: list[dict]) -> Found_:
    """C29, from the rows of ``real.losses``; its nulls are the value emptied and the key taken away."""
    found = losses(rows)
    names = {"non_informative": "exchanged in all heads", "no_value": "no value in sink heads"}
    nulls = {"non_informative": "no value in sink heads", "no_value": "removed in sink heads"}
    parts, nulls = ({part: rise(found, name) for part, name in one.items()} for one in (names, nulls))
    return {"C29": Evidence(parts=parts, nulls=nulls)}


def losses(rows: list[dict]) -> dict[str, np.ndarray]:
    """Loss of later tokens under each intervention, and "as it is", by document."""
    return {name: np.array([row["loss"][name] for row in rows]) for name in rows[0]["loss"]}


def rise(found: dict[str, np.ndarray], name: str) -> Estimate:
    """Rise of the loss under an intervention."""
    return stats.paired_difference(found[name], found["as it is"], unit=DOCUMENTS)


# --- what parts compare ----------------------------------------------------------------------------------------------


def share(values: np.ndarray, unit: str) -> Estimate:
    return stats.mean(values, unit=unit, within=(0, 1))


def less(a: np.ndarray, x: float, b: np.ndarray) -> Estimate:
    """Mean of a less x times b: judged as their ratio would be, with an interval even where a is 0 throughout."""
    return stats.mean(np.asarray(a) - x * np.asarray(b), unit=SAMPLES)


def together(parts: dict, nulls: dict, preconditions: dict, ceilings: dict | None = None) -> Found_:
    """Evidence by claim out of measurements by claim and name; what has no measurement is left out."""
    kinds = {"parts": parts, "nulls": nulls, "preconditions": preconditions, "ceilings": ceilings or {}}
    claims = {claim for kind in kinds.values() for claim in kind}

    def measured(kind: dict, claim: str) -> dict[str, Measurement]:
        return {name: one for name, one in kind.get(claim, {}).items() if one is not None}

    return {claim: Evidence(**{name: measured(kind, claim) for name, kind in kinds.items()}) for claim in claims}


class Arms:
    """Rows by arm, compared seed by seed. What too few seeds are stored of, or two kinds of device, is not measured."""

    def __init__(self, arms: dict[str, list]):
        self.arms = arms

    def has(self, *arms: str) -> bool:
        return all(self.arms.get(arm) for arm in arms)

    def by_seed(self, *arms: str) -> list[tuple]:
        """For each seed that all these arms have, the row of each; none where there are fewer than five such seeds."""
        if not self.has(*arms) or len({getattr(row, "device", "cpu") for arm in arms for row in self.arms[arm]}) > 1:
            return []
        rows = [{row.seed: row for row in self.arms[arm]} for arm in arms]
        found = [tuple(one[seed] for one in rows) for seed in rows[0] if all(seed in one for one in rows)]
        return found if len(found) >= ENOUGH else []

    def estimate(self, make: Callable, of: Callable, *arms: str) -> Estimate | None:
        """``make`` of what ``of`` gives of the rows of each seed; None where these arms measure nothing."""
        rows = self.by_seed(*arms)
        return make([of(*row) for row in rows]).of(*dict.fromkeys(arms)) if rows else None

    def mean(self, arm: str, of: Callable) -> Estimate | None:
        """Mean over the seeds of an arm, of a share."""
        return self.estimate(lambda values: share(np.array(values), SEEDS), of, arm)

    def geometric(self, arm: str, of: Callable) -> Estimate | None:
        """Geometric mean over the seeds of an arm, of a positive ratio."""
        return self.estimate(
            lambda logs: stats.ratio_of_exp(logs, np.zeros(len(logs)), unit=SEEDS), lambda row: np.log(of(row)), arm
        )

    def less(self, a: str, of: Callable, x: float, b: str, base: Callable) -> Estimate | None:
        """``of`` the rows of a less x times ``base`` of those of b; judged as their ratio would be, see `less`."""
        return self.difference(lambda row, other: of(row) - x * base(other), a, b)

    def difference(self, of: Callable, *arms: str) -> Estimate | None:
        return self.estimate(partial(stats.mean, unit=SEEDS), of, *arms)

    def share_less(self, a: str, of: Callable, x: float, b: str, base: Callable) -> Estimate | None:
        """As `less`, of two shares: it has an interval even where both are the same in all seeds."""
        make = partial(stats.mean, unit=SEEDS, within=(-x, 1))
        return self.estimate(make, lambda row, other: of(row) - x * base(other), a, b)

    def over(self, above: Callable, below: Callable, *arms: str) -> Estimate | None:
        """Mean over the mean, over seeds, of what two functions give of the rows of each seed."""

        def make(pairs: list[tuple]) -> Estimate:
            return stats.ratio_of_means(*np.transpose(pairs), unit=SEEDS)

        return self.estimate(make, lambda *rows: (above(*rows), below(*rows)), *arms)

    def ratio(self, a: str, above: Callable, b: str, below: Callable) -> Estimate | None:
        """Mean of ``above`` the rows of a over the mean of ``below`` those of b."""
        return self.over(lambda row, other: above(row), lambda row, other: below(other), a, b)

    def left(self, a: str, sink: Callable, b: str, base: Callable, fall: Callable) -> Estimate | None:
        """Share of the sink of b that a has, minus the share of ``fall``, the fall of b's loss, that a has.

        A network that learnt nothing and one that differs in nothing both give 0.
        """

        def beyond_what_is_learnt(row, other) -> float:
            return sink(row) - fall(row) / fall(other) * base(other)

        return self.over(beyond_what_is_learnt, lambda row, other: base(other), a, b)

    def learnt(self, a: str, b: str, what: Callable) -> Estimate | None:
        """``what`` the rows of b are, times the share of b's fall of the loss that a reaches at its best point."""
        return self.difference(lambda row, other: what(other) * most_fallen(row) / fallen(other), a, b)

    def seeds_from(self, least: int) -> "Arms":
        """The rows of the seeds from one on."""
        return Arms({arm: [row for row in rows if row.seed >= least] for arm, rows in self.arms.items()})


# --- decoders trained on text ----------------------------------------------------------------------------------------


def first(row: trainings.Row, at: int = -1) -> float:
    """Sink_1 at one of the measured points."""
    return nth(row, 1, at)


def nth(row: trainings.Row, k: int, at: int = -1) -> float:
    """Sink_k, k from 1."""
    return row.measured[at]["sink"]["0.3"][k - 6]  # five tokens, after the bias where there is one


def bias(row: trainings.Row) -> float:
    """Sink_* at the end."""
    return row.measured[-1]["sink"]["0.3"][0]


def loss(row: trainings.Row) -> float:
    return row.measured[-1]["loss"]


def fallen(row: trainings.Row) -> float:
    """How far the loss has fallen since before the training."""
    return row.measured[0]["loss"] - loss(row)


def most_fallen(row: trainings.Row) -> float:
    """How far the loss had fallen at its best point."""
    return row.measured[0]["loss"] - min(point["loss"] for point in row.measured)


def as_far(row: trainings.Row, loss: float) -> int:
    """The first measured point at which a training's loss has come down to ``loss``, else its last."""
    return next((at for at, point in enumerate(row.measured) if point["loss"] <= loss), len(row.measured) - 1)


def norm(row: trainings.Row, at: int = -1) -> float:
    """Norm of the first state over that of later ones, largest over layers after the first.

    In the first layer a first query sees itself alone, which makes its state large in untrained networks too.
    """
    return max(layer[0] for layer in row.measured[at]["norms"][1:])


def at_a_twentieth(row: trainings.Row) -> float:
    steps = row.measured[-1]["step"]
    return first(row, next(i for i, point in enumerate(row.measured) if point["step"] >= steps // 20))


def largest(row: trainings.Row) -> float:
    """The largest Sink_1 of any measured point."""
    return max(first(row, at) for at in range(len(row.measured)))


def after_the_loss(row: trainings.Row) -> float:
    """Share of the whole fall of the loss done at the first point where Sink_1 exceeds half of what it ends with."""
    losses = [point["loss"] for point in row.measured]
    at = next(i for i in range(len(losses)) if first(row, i) > first(row) / 2 or i == len(losses) - 1)
    return (losses[0] - losses[at]) / (losses[0] - losses[-1])


def within_prefix(row: trainings.Row, prefix: int = 5) -> float:
    """Attention to the most attended token of the prefix over that plus that to the most attended of the next eleven.

    Mean over samples; 0.56 under even attention, as more queries see a prefix.
    """
    attended = given(row, prefix)
    inside, after = attended[:, :prefix].max(axis=1), attended[:, prefix:].max(axis=1)
    return float((inside / (inside + after)).mean())


def on_one(row: trainings.Row, prefix: int = 5) -> float:
    """Share of the prefix's attention that its most attended token draws, mean over samples."""
    attended = given(row, prefix)[:, :prefix]
    return float((attended.max(axis=1) / attended.sum(axis=1)).mean())


def given(row: trainings.Row, prefix: int) -> np.ndarray:
    """Mean attention to each of the first 16 tokens from the queries that see it, (samples, 16), under a prefix.

    All 64 queries see a token of the prefix, where alpha divides by fewer.
    """
    attended = np.array(row.end["attended"])
    seen = 64 - np.arange(attended.shape[1])
    return attended * np.where(np.arange(attended.shape[1]) < prefix, seen / 64, 1)


def short(row: trainings.Row) -> float:
    """Sink_1 over 32 tokens."""
    return row.end["short"][-5]


def kept_first(row: trainings.Row) -> float:
    """What the first token is worth in a cache of 32: loss with the last 32 less that with it and the last 31, nats."""
    return row.end["streamed"]["window"] - row.end["streamed"]["first kept"]


def no_sink(row: trainings.Row | language.Row) -> float:
    """The best possible of a network that should have none."""
    return 0.0


def beyond_one(row: trainings.Row) -> float:
    return norm(row) - 1


def rise_less(x: float) -> Callable:
    """Of rows of arms a, b and base: Sink_1 of a minus that of b, less x times that of base."""
    return lambda a, b, base: first(a) - first(b) - x * first(base)


def text(arms: dict[str, list[trainings.Row]]) -> Found_:
    """What decoders trained on text decide."""
    d = Arms(arms)
    fixed_first = d.mean("fixed", first)
    massive = d.geometric("fixed", norm)
    parts = {
        "C9": {
            "emerges": d.mean("learned", first),
            "fixed_not_at_first": d.less("fixed", at_a_twentieth, 0.5, "fixed", first),
            "fixed_after_the_loss": d.mean("fixed", after_the_loss),
        },
        "C10": {"lower_rate_weaker": d.less("fixed_slow", first, 0.4, "fixed", first)},
        "C12": {
            "little_data_none": d.less("fixed_little", first, 0.23, "fixed", first),
            "little_data_never": d.less("fixed_little", largest, 0.23, "fixed", first),
        },
        "C14": {
            "text_stronger": d.less("fixed", first, 2.02, "packed", first),
            "text_others_lose": d.less("fixed", lambda r: max(nth(r, k) for k in (2, 3, 4, 5)), 0.5, "fixed", first),
        },
        "C15": {
            "text_rise": d.less("fixed_decay", first, 1.5, "fixed", first),
            "text_destroyed": d.left("fixed_decay_5", first, "fixed", first, fallen),
        },
        "C16": {"within": d.mean("learned_prefix", within_prefix), "on_one": d.mean("learned_prefix", on_one)},
        "C19": {
            "post_norm_has_it": d.less("fixed_post_norm", first, 0.37, "fixed", first),
            "massive_before_the_norm": d.less("fixed_post_norm", beyond_one, 0.5, "fixed", beyond_one),
        },
        "C22": {
            "bias_takes": d.mean("key_bias", bias),
            "no_harm": d.less("key_bias", loss, 1.0, "packed", loss),
            "beside_fixed_takes": d.less("fixed_key_bias", bias, 0.49, "fixed", first),
            "beside_fixed_frees": d.less("fixed_key_bias", first, 0.5, "fixed", first),
            "v_keeps_beyond_k": d.difference(rise_less(0.48), "fixed_value_bias", "fixed_key_bias", "fixed"),
        },
        "C23": {
            "falls": d.less("key_bias_value", bias, 0.143, "key_bias", bias),
            "first_rises": d.difference(rise_less(0.71), "fixed_key_bias_value", "fixed_key_bias", "fixed"),
        },
        "C24": {
            "one_dimension_draws": d.mean("key_bias_one_dimension", bias),
            "one_dimension_less": d.less("key_bias_one_dimension", bias, 0.68, "key_bias", bias),
            "shared_takes": d.less("key_bias_shared", bias, 0.47, "key_bias", bias),
            "shared_kv_returns": d.difference(rise_less(0.34), "fixed_kv_bias_shared", "fixed_kv_bias", "fixed"),
        },
        "C25": {"text_sigmoid_none": d.less("fixed_sigmoid", first, 0.156, "fixed", first)},
        "C28": {
            "default_has": massive,
            "key_bias_none": d.less("fixed_key_bias", beyond_one, 0.5, "fixed", beyond_one),
            "sigmoid_none": d.less("fixed_sigmoid", beyond_one, 0.5, "fixed", beyond_one),
            "value_bias_has": d.less("fixed_value_bias", beyond_one, 0.5, "fixed", beyond_one),
        },
        "C31": {"small_prevents": d.less("fixed_long_window", short, 0.5, "fixed_long", short)},
        "C32": {"returns": d.less("fixed_key_bias_value", beyond_one, 0.37, "fixed", beyond_one)},
    }
    bias_draws = d.mean("key_bias", bias)
    preconditions = {
        "C9": {"fixed_has_a_sink": fixed_first},
        **{claim: {"has_a_sink": fixed_first} for claim in ("C10", "C14", "C15")},
        "C12": {"little_learns": d.learnt("fixed_little", "fixed", first)},
        "C16": {"has_a_sink": d.mean("learned_prefix", lambda r: max(nth(r, k) for k in range(1, 6)))},
        "C19": {"has_a_sink": fixed_first, "has_massive": massive},
        **{claim: {"bias_has_a_sink": bias_draws, "fixed_has_a_sink": fixed_first} for claim in ("C22", "C23", "C24")},
        "C25": {"loss_matches": d.less("fixed_sigmoid", loss, 1.0, "fixed", loss)},
        "C28": {
            "has_massive": massive,
            "beside_learns": d.learnt("fixed_key_bias", "fixed", beyond_one),
            "sigmoid_learns": d.learnt("fixed_sigmoid", "fixed", beyond_one),
        },
        "C31": {"learns": d.learnt("fixed_long_window", "fixed_long", short)},
        "C32": {"has_massive": massive},
    }
    preconditions["C22"] |= {"beside_learns": d.learnt("fixed_key_bias", "fixed", first)}
    nulls = {
        "C12": stopped_early(d),
        "C15": {"text_destroyed": d.over(left_by_stopping, lambda row, other: first(other), "fixed_decay_5", "fixed")},
        "C28": {"default_has": d.geometric("fixed", lambda r: norm(r, 0))},
        "C32": {"returns": d.less("fixed_key_bias_value", lambda r: norm(r, 0) - 1, 0.37, "fixed", beyond_one)},
    }
    ceilings = {"C15": {"text_destroyed": d.left("fixed_decay_5", no_sink, "fixed", first, fallen)}}
    return together(parts, nulls, preconditions, ceilings)


def stopped_early(d: Arms) -> dict[str, Estimate | None]:
    """Nulls of C12: decoders that read all of the data, stopped at the best loss of those that have little of it."""

    def less_at_the_end(of: Callable) -> Estimate | None:
        def stopped(row: trainings.Row, other: trainings.Row) -> float:
            at = as_far(other, min(point["loss"] for point in row.measured))
            return of(other, at) - 0.23 * first(other)

        return d.difference(stopped, "fixed_little", "fixed")

    return {
        "little_data_none": less_at_the_end(first),
        "little_data_never": less_at_the_end(lambda other, at: max(first(other, i) for i in range(at + 1))),
    }


def left_by_stopping(row: trainings.Row, other: trainings.Row) -> float:
    """Null of C15, see `Arms.left`: of ``other`` itself, stopped where its loss is that of ``row`` at the end."""
    at = as_far(other, loss(row))
    return first(other, at) - (other.measured[0]["loss"] - other.measured[at]["loss"]) / fallen(other) * first(other)


# --- toys ------------------------------------------------------------------------------------------------------------


@cache
def even_share(variant: variants.Attention, length: int, heads: int = 1) -> np.ndarray:
    """alpha of the bias (where there is one) and of each token under even attention, (slots + length,).

    Even over the keys in sight; with a distance bias, what that bias alone gives, mean over heads.
    """
    weights = variants.visible(variant, length).float()[None]
    if variant.distance != "none":
        weights = weights * torch.exp(variants.distance_bias(variant, heads, length))
    weights = torch.nn.functional.pad(weights, (variant.slots, 0), value=1.0)
    rows = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    queries = torch.cat([torch.full((variant.slots,), length), length - torch.arange(length)])
    return (rows.sum(dim=1).mean(dim=0) / queries).numpy()


@cache
def even_toy(arm: str) -> np.ndarray:
    """`even_share` of a toy's arm."""
    change = next(arms[arm] for arms in TOYS.values() if arm in arms)
    variant = variants.Attention(**{"strict": True} | change.get("attention", {}))
    return even_share(variant, language.Text().length, change.get("decoder", {}).get("heads", 1))


def column(row: language.Row, token: int | None) -> int:
    """Where a token's attention stands in a row, token from 0; None: the bias."""
    return 0 if token is None else len(row.attention) - language.KEYS + token


def extra(arm: str, token: int | None = 0) -> Callable:
    """Of a row of an arm: attention to a token, or (None) to the bias, beyond an even share."""
    level = even_toy(arm)
    return lambda row: row.attention[at := column(row, token)] - level[at]


def sink(arm: str, token: int | None = 0) -> Callable:
    """Of a row of any arm: Sink_k of a token, or (None) Sink_*."""
    return lambda row: row.sink[column(row, token)]


def untrained(row: language.Row) -> float:
    """Sink_1 before training, of an arm without a bias."""
    return row.untrained["sink"][0]


def learnt(row: language.Row) -> float:
    """How far the loss on fresh text has fallen below that of an even guess."""
    return np.log(language.FIXED + 1) - row.validation


def untaught(row: language.Row) -> float:
    """Extra attention to the first token before training, of the default toy."""
    return row.untrained["attention"][0] - even_toy("default")[0]


UNSEEN = 20  # C11: the first seed of other batches that no version before the fifth trained
POSITIONS = ("none", "absolute", "learned", "relative", "alibi")
FEED_FORWARD = {  # part of C20 -> its arm, and half of the published ratio to GeLU
    "relu": ("relu", 0.57),
    "silu": ("silu", 0.61),
    "relu_gated": ("relu, gated", 0.47),
    "gelu_gated": ("gelu, gated", 0.61),
    "silu_gated": ("silu, gated", 0.62),
}
SIGMOID = {
    "sigmoid_decay_01": "sigmoid, decay 0.1",
    "sigmoid_decay_1": "sigmoid, decay 1",
    "sigmoid_low_rate": "sigmoid, rate 0.001",
    "sigmoid_high_rate": "sigmoid, rate 0.01",
}
PLACES = {"second": ("three, fixed at 2", 1), "third": ("three, fixed at 3", 2)}
DEFAULT, THREE = ("default", 0), ("three layers", 0)


def toys(arms: dict[str, list[language.Row]]) -> Found_:
    """What toys decide."""
    t = Arms(arms)

    def over(a: tuple, b: tuple, of: Callable = extra) -> Estimate | None:
        """One arm and token over another: ``a`` and ``b`` are (arm, token)."""
        return t.ratio(a[0], of(*a), b[0], of(*b))

    def to_default(arm: str, token: int | None = 0, of: Callable = extra) -> Estimate | None:
        return over((arm, token), DEFAULT, of)

    def has_a_sink(arm: str, token: int | None = 0) -> Estimate | None:
        return t.mean(arm, sink(arm, token))

    parts = {
        "C10": {
            "toy_fixed_steps": over(("rate 0.00075", 0), ("rate 0.006", 0)),
            "toy_fixed_product": over(("rate 0.00075, 3200 steps", 0), ("rate 0.006", 0)),
        },
        "C11": {
            "small_batch_has": sinks_of(t.seeds_from(UNSEEN), "batch 16", 0.5),
            "large_batch_has": sinks_of(t.seeds_from(UNSEEN), "batch 128", 0.5),
        },
        "C12": {"toy_little_data": to_default("16 samples"), "toy_never": highest(t, "16 samples")},
        "C14": {f"moves_to_{place}": over(at, THREE) for place, at in PLACES.items()}
        | {f"others_lose_to_{place}": rivals(t, *at) for place, at in PLACES.items()},
        "C15": {"toy_rise": to_default("decay 3.3"), "toy_destroyed": to_what_is_learnt(t, "decay 33")},
        "C18": {scheme: over((scheme, 0), ("rotary", 0), sink) for scheme in POSITIONS},
        "C20": {part: sinks_of(t, arm, half) for part, (arm, half) in FEED_FORWARD.items()},
        "C21": {
            "two_heads": to_default("2 heads", of=sink),
            "four_heads": to_default("4 heads", of=sink),
            "summed_heads": over(("4 heads, summed", 0), ("4 heads", 0), sink),
        },
        "C22": {
            "toy_k_takes": to_default("unfixed, K bias", None),
            "toy_kv_takes": to_default("unfixed, KV bias", None),
            "toy_v_keeps_beyond_k": keeps_beyond(t, "V bias", "K bias"),
        },
        "C23": {
            "toy_falls": over(("unfixed, value 20", None), ("unfixed, K bias", None)),
            "toy_falls_evenly": over(("unfixed, even value 20", None), ("unfixed, K bias", None)),
        },
        "C24": {
            "toy_shared_takes": over(("unfixed, 4 heads, shared K bias", None), ("unfixed, 4 heads, K bias", None)),
            "toy_one_dimension_less": over(("unfixed, 1 dimension", None), ("unfixed, K bias", None)),
        },
        "C25": {
            "sigmoid_none": to_default("sigmoid"),
            "elu_none": to_default("elu"),
            "identity_none": to_default("identity kernel"),
            "mlp_none": to_default("mlp kernel"),
            "sigmoid_normalised_has": to_default("sigmoid over its sum"),
            "elu_kernel_normalised_has": to_default("elu kernel over its sum"),
        },
        "C26": {"double_more": to_default("rows of 2"), "tenth_less": to_default("rows of 0.1")}
        | {part: to_default(arm) for part, arm in SIGMOID.items()},
        "C34": ordered(t),
    }
    default = has_a_sink("default")
    preconditions = {
        "C10": {"toy_has_a_sink": has_a_sink("rate 0.006")},
        "C11": {"has_a_sink": t.seeds_from(UNSEEN).mean("default", sink("default"))},
        **{claim: {"has_a_sink": default} for claim in ("C20", "C21", "C26")},
        **{claim: {"toy_has_a_sink": default} for claim in ("C12", "C15", "C22", "C25")},
        "C14": {"toy_has_a_sink": has_a_sink("three layers")}
        | {f"{place}_has_a_sink": has_a_sink(*at) for place, at in PLACES.items()},
        "C18": {"has_a_sink": has_a_sink("rotary")},
        "C23": {"toy_bias_has_a_sink": has_a_sink("unfixed, K bias", None)},
        "C24": {
            "toy_bias_has_a_sink": has_a_sink("unfixed, K bias", None),
            "four_heads_bias_has_a_sink": has_a_sink("unfixed, 4 heads, K bias", None),
        },
    }
    preconditions["C21"]["four_have_a_sink"] = has_a_sink("4 heads")
    never_trained = t.ratio("default", untaught, "default", extra("default"))
    nulls = {
        "C12": dict.fromkeys(("toy_little_data", "toy_never"), never_trained),
        "C15": {"toy_destroyed": never_trained},  # and of the fall of the loss it has none
        "C18": {"relative": t.ratio("relative", untrained, "rotary", sink("rotary"))},
    }
    all_attention = t.ratio("default", lambda row: 1 - even_toy("default")[0], "default", extra("default"))
    ceilings = {"C15": {"toy_rise": all_attention, "toy_destroyed": to_what_is_learnt(t, "decay 33", no_sink)}}
    return together(parts, nulls, preconditions, ceilings)


def strength(t: Arms, arm: str) -> Estimate | None:
    """Extra attention to the first token in an arm over the default's."""
    return t.ratio(arm, extra(arm), "default", extra("default"))


def sinks_of(t: Arms, arm: str, x: float) -> Estimate | None:
    """Sink_1 of an arm less x times the default's."""
    return t.share_less(arm, sink(arm), x, "default", sink("default"))


def to_what_is_learnt(t: Arms, arm: str, of: Callable | None = None) -> Estimate | None:
    """Share of the default's extra attention that an arm has, minus its share of the fall of the loss."""
    return t.left(arm, of or extra(arm), "default", extra("default"), learnt)


def keeps_beyond(t: Arms, a: str, b: str) -> Estimate | None:
    """Extra attention to the first token in one arm beyond that in another, over the default's."""

    def beyond(row: language.Row, other: language.Row, _) -> float:
        return extra(a)(row) - extra(b)(other)

    return t.over(beyond, lambda row, other, base: extra("default")(base), a, b, "default")


def highest(t: Arms, arm: str) -> Estimate | None:
    """Largest extra attention to the first token at any point of the training, over the default's at its end."""
    level = even_toy(arm)[0]
    return t.ratio(arm, lambda row: max(row.alpha) - level, "default", extra("default"))


def rivals(t: Arms, arm: str, fixed: int) -> Estimate | None:
    """Extra attention to the most attended other of the first four tokens, over that to the fixed one."""
    others = [extra(arm, token) for token in range(4) if token != fixed]
    return t.ratio(arm, lambda row: max(other(row) for other in others), arm, extra(arm, fixed))


# toy -> its rate over its batch size; pairs of equal ratio, lower rate and smaller batch first; pairs a third apart
ORDERED = {
    "rate 0.001, batch 16": 1e-3 / 16,
    "rate 0.001, batch 48": 1e-3 / 48,
    "rate 0.003, batch 16": 3e-3 / 16,
    "rate 0.003, batch 48": 3e-3 / 48,
    "rate 0.003, batch 144": 3e-3 / 144,
    "rate 0.009, batch 48": 9e-3 / 48,
}
EQUAL = (
    ("rate 0.001, batch 16", "rate 0.003, batch 48"),
    ("rate 0.001, batch 48", "rate 0.003, batch 144"),
    ("rate 0.003, batch 16", "rate 0.009, batch 48"),
)
THIRDS = (
    ("rate 0.001, batch 48", "rate 0.001, batch 16"),
    ("rate 0.003, batch 48", "rate 0.003, batch 16"),
    ("rate 0.003, batch 144", "rate 0.003, batch 48"),
)


def ordered(t: Arms) -> dict[str, Measurement]:
    """C34: the sink against rate over batch, and whether more than the ratio counts."""

    def of(*rows: language.Row) -> list[float]:
        return [extra(arm)(row) for arm, row in zip(ORDERED, rows, strict=True)]

    def ratio_alone(values: list[list[float]]) -> Estimate:
        at = dict(zip(ORDERED, np.transpose(values), strict=True))  # toy -> extra attention by seed
        apart, fall = (np.mean([at[a] - at[b] for a, b in pairs], axis=0) for pairs in (EQUAL, THIRDS))
        return stats.ratio_of_means(apart, fall, unit=SEEDS)

    slope = partial(stats.slope, np.log10([*ORDERED.values()]), unit=SEEDS)
    makes = {"falls": slope, "ratio_alone_counts": ratio_alone}
    return {part: t.estimate(make, of, *ORDERED) for part, make in makes.items()}
