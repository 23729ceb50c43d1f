"""The ledger's parts, computed alike for every model from rows of plain numbers: {claim: {part: measurement}}."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from claimbook import stats
from claimbook.claims.verdicts import Measurement
from claimbook.experiments.secondary_sinks.find import TIMES
from claimbook.papers import secondary_sinks as method
from claimbook.stats import Estimate, Exact, Votes

Parts = dict[str, dict[str, Measurement]]

MOST = 3.4  # secondary sinks in 1,000 tokens: ten times the largest rate published, see the ledger
MASSIVE = 10.0  # times the median norm
SHARE = (0.0, 1.0)  # the ends of a share: samples that are all equal have an interval all the same
ENOUGH = 20  # sinks, for what is said of all of a model's


# --- texts ---------------------------------------------------------------------------------------------------------


def texts(rows: list[dict], rule: str) -> Parts:
    """Everything that reading alone shows, from rows of `find.row`; claims about sinks need texts that have some."""
    layers = len(rows[0]["median_norm"])
    return _claims(
        {
            "C1": {"exists": class_share(rows)},
            "C2": {
                "primary_early": Exact(float(np.median([row["primary"]["start"] for row in rows])) / layers, len(rows)),
                "secondary_middle": _middle(starts(rows, "official"), layers),
            },
            "C3": {
                "primary_persists": Exact(float(np.median([_lasts(row) for row in rows])), len(rows)),
                **_variable(rows),
            },
            "C4": {
                "less": ratio(rows, "official", "given", "primary_given"),
                "significant": ratio(rows, "official", "given", "even"),
            },
            "C6": formation(rows, layers),
            "C7": {
                "score_follows_norm": over_texts(rows, follows_norm, (-1.0, 1.0)),
                "life_follows_norm": over_texts(rows, longer_lives_longer, SHARE),
            },
            "C8": primary(rows),
            "C13": {
                "little_meaning": over_texts(rows, little, SHARE),
                "more_than_others": over_texts(rows, lambda row: little(row) - row["little"] if row["sinks"] else None),
                "usually_none": over_texts(
                    rows, lambda row: row["same"][1] / row["same"][0] if row["same"][0] else None, SHARE
                ),
            },
            "C15": {
                "feed_forward_separates": over_texts(rows, lambda row: wins(row, "feed_forward"), SHARE),
                "attention_separates_less": over_texts(rows, _apart, (-1.0, 1.0)),
                "attention_prepares": over_texts(rows, lambda row: wins(row, "attention"), SHARE),
            },
            "C16": ours(rows, rule),
        }
    )


def class_share(rows: list[dict]) -> Estimate:
    """Share of texts in which the official rule finds a class of secondary sinks; C2 to C4 need one."""
    return stats.proportion(sum(map(has_a_class, rows)), len(rows), unit="texts").of("texts")


def has_a_class(row: dict) -> bool:
    """Whether the official rule finds secondary sinks in a text, and not so many that they are no class."""
    return 0 < row["rules"]["official"]["secondary"] <= MOST * row["tokens"] / 1000


def starts(rows: list[dict], rule: str) -> np.ndarray:
    """Start of every secondary sink of a rule, all texts together."""
    return np.array([start for row in rows for start, _, count in row["rules"][rule]["levels"] for _ in range(count)])


def lifetimes(rows: list[dict], rule: str) -> np.ndarray:
    """Lifetime of every secondary sink of a rule, all texts together."""
    return np.array([life for row in rows for _, life, count in row["rules"][rule]["levels"] for _ in range(count)])


def levels(rows: list[dict], rule: str) -> dict[tuple[int, int], int]:
    """Sink levels of a rule with their counts, all texts together, merged as `papers.secondary_sinks.levels` says."""
    pairs = zip(starts(rows, rule), lifetimes(rows, rule), strict=True)
    return method.levels([method.Sink(0, tuple(range(start, start + life))) for start, life in pairs])


def commonest(values: Iterable[int]) -> int:
    """The commonest of some whole numbers, the smallest of several."""
    counts = Counter(int(value) for value in values)
    return max(counts, key=lambda value: (counts[value], -value))


def _middle(found: np.ndarray, layers: int) -> Exact | None:
    return Exact(float(np.median(found)) / layers, len(found)) if len(found) else None


def _lasts(row: dict) -> float:
    """Where the primary ceases to be massive, as a share of the blocks; 0 where it never is."""
    massive = np.array(row["primary"]["norm"]) >= MASSIVE * np.array(row["median_norm"])
    return (int(massive.nonzero()[0][-1]) + 1) / len(massive) if massive.any() else 0.0


def _variable(rows: list[dict]) -> dict[str, Estimate]:
    every = lifetimes(rows, "official")
    if not len(every):
        return {}
    mode = commonest(every)

    def off(row: dict) -> float | None:
        lives = lifetimes([row], "official")
        return float(np.mean(np.abs(lives - mode) > 1)) if len(lives) else None

    return {"variable": over_texts(rows, off, SHARE)}


def ratio(rows: list[dict], rule: str, above: str, below: str) -> Estimate | None:
    """Mean over texts of a ratio of two numbers of `find.summary`; texts without secondary sinks have none."""
    return over_texts(rows, lambda row: _ratio(row["rules"][rule], above, below))


def _ratio(found: dict, above: str, below: str) -> float | None:
    return found[above] / found[below] if found.get(below) else None


def formation(rows: list[dict], layers: int) -> dict[str, Measurement]:
    """C6: what the blocks write where sinks start."""
    every = [sink["start"] for row in rows for sink in row["sinks"]]
    if not every:
        return {}
    block = commonest(every)

    def of_sinks(value: Callable[[dict], float | None], within=None) -> Estimate | None:
        return over_texts(rows, lambda row: _mean(value(sink) for sink in row["sinks"]), within)

    return {
        "aligned": of_sinks(lambda sink: sink["written"]["feed_forward_along"]),
        "above_attention": of_sinks(lambda s: s["written"]["feed_forward_along"] - s["written"]["attention_along"]),
        "feed_forward_makes_it": of_sinks(lambda sink: feed_forward_share(sink["written"]), SHARE),
        "not_the_token": of_sinks(
            lambda s: s["written"]["feed_forward_along"] - s["like"]["feed_forward_along"] if s["like"] else None
        ),
        "one_module": of_sinks(lambda sink: float(sink["start"] == block), SHARE),
        "middle_module": Exact(block / layers, len(every)),
    }


def feed_forward_share(written: dict) -> float:
    """Of the length along the primary that both halves of a block write, the feed-forward layer's share, in [0, 1]."""
    lengths = [max(0.0, written[f"{half}_norm"] * written[f"{half}_along"]) for half in ("attention", "feed_forward")]
    return lengths[1] / sum(lengths) if sum(lengths) else 0.0


def follows_norm(row: dict, least: int = 5) -> float | None:
    """Rank correlation of write and attention over the sinks of a text, places held fixed; 0 where these say all."""
    if len(row["sinks"]) < least:
        return None
    written, given, place = (
        rankdata(values)
        for values in zip(
            *((s["written"]["feed_forward_norm"], s["given"], s["token"]) for s in row["sinks"]), strict=True
        )
    )
    a, b = (_without(values, place) for values in (written, given))
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size > 1e-9 else 0.0


def _without(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What a straight line in ``other`` leaves of ``values``."""
    slope, shift = np.polyfit(other, values, 1)
    return values - slope * other - shift


def longer_lives_longer(row: dict, least: int = 3) -> float | None:
    """Of pairs with one start and writes that differ by half: how often the longer stays aligned longer, ties half."""
    scores = []
    for pair in combinations(row["sinks"], 2):
        short, long = sorted(pair, key=lambda sink: sink["written"]["feed_forward_norm"])
        unlike = long["written"]["feed_forward_norm"] >= 1.5 * short["written"]["feed_forward_norm"]
        if short["start"] == long["start"] and unlike:
            scores.append((np.sign(long["aligned"] - short["aligned"]) + 1) / 2)
    return float(np.mean(scores)) if len(scores) >= least else None


def primary(rows: list[dict]) -> dict[str, Measurement]:
    """C8: the attention to the primary by depth."""
    given = np.array([row["primary"]["given"] for row in rows])  # (texts, blocks)
    third = given.shape[1] // 3
    first, middle, last = given[:, :third], given[:, third:-third], given[:, -third:]
    around = np.minimum(first.mean(axis=1), last.mean(axis=1)) if third else np.full(len(given), np.nan)
    found = {"weakens": stats.paired_difference(middle.mean(axis=1), around, unit="texts")} if third else {}
    every = [sink["start"] for row in rows for sink in row["sinks"]]
    if every:
        fall = int(np.diff(given.mean(axis=0)).argmin()) + 1
        found["coincides"] = Exact(abs(fall - (commonest(every) + 1)), len(rows))
    return found


def little(row: dict) -> float | None:
    return _mean(float(sink["little"]) for sink in row["sinks"])


def wins(row: dict, half: str) -> float | None:
    """How often what half a block writes for a sink is more aligned than for like tokens, over the sinks of a text."""
    return _mean(sink["wins"][half] for sink in row["sinks"] if sink["wins"])


def _apart(row: dict) -> float | None:
    a, b = wins(row, "attention"), wins(row, "feed_forward")
    return a - b if a is not None else None


def ours(rows: list[dict], rule: str) -> dict[str, Measurement]:
    """C16: what the norm-aware rule finds."""
    with_some = [row for row in rows if any(row["rules"][f"{k} x"]["secondary"] for k in TIMES)]
    return {
        "in_most_texts": stats.proportion(sum(bool(row["sinks"]) for row in rows), len(rows), unit="texts"),
        "whatever_the_threshold": over_texts(
            with_some, lambda row: min(min(one.values()) for one in row["overlap"].values()), SHARE
        ),
        "short": over_texts(rows, lambda row: _shorter(row, rule), SHARE),
        "weaker": ratio(rows, rule, "given", "primary_given"),
        "drawn_to": ratio(rows, rule, "given", "even"),
        "above_like": over_texts(rows, _above_like),
    }


def _shorter(row: dict, rule: str) -> float | None:
    mine = _mean(float(sink["lifetime"]) for sink in row["sinks"])
    return mine / row["rules"][rule]["primary_lifetime"] if mine else None


def _above_like(row: dict) -> float | None:
    both = [(sink["given"], sink["given_like"]) for sink in row["sinks"] if sink["given_like"]]
    return float(np.mean([a for a, _ in both]) / np.mean([b for _, b in both])) if both else None


# --- interventions and the layer alone -----------------------------------------------------------------------------


def changes(rows: list[dict]) -> Parts:
    """What interventions on the beginnings of texts show, from rows of `change.changed`."""
    scaled = [{one["factor"]: one for one in row["scaled"]["factors"]} for row in rows if row["scaled"]]
    heads, removed = [row["heads"] for row in rows if row["heads"]], [row["removed"] for row in rows if row["removed"]]
    told = [one for one in heads if max(one["primary_key_over"], 1 / one["primary_key_over"]) >= 1.25]
    return _claims(
        {
            "C7": {
                "silenced": over_texts(scaled, lambda one: one[0.0]["given"] / one[1.0]["given"]),
                "score_scales": _votes(scaled, lambda one: one[4.0]["given"] >= 1.1 * one[1.0]["given"]),
                "life_scales": _votes(scaled, lambda one: one[4.0]["aligned"] > one[1.0]["aligned"]),
            },
            "C10": {
                "values_shrink": over_texts(heads, lambda one: one["value_over"]),
                "keys_join": _votes(told, lambda one: one["nearer"] > 0.5),
            },
            "C17": {
                "competition": over_texts(removed, lambda one: gain(one)),
                "loss_alike": over_texts(
                    removed, lambda one: one["without sinks"]["loss"] - one["without others"]["loss"]
                ),
            },
        }
    )


def gain(removed: dict) -> float:
    """Attention to the primary without the sinks, less that without the others, over the blocks that meet the sinks."""
    alive = removed["alive"]
    return float(
        np.mean(
            np.array(removed["without sinks"]["primary"])[alive] - np.array(removed["without others"]["primary"])[alive]
        )
    )


def probed(metrics: dict, curves: dict) -> Parts:
    """C14, and the neurons of C17; nothing where there were too few sinks."""
    if not metrics:
        return {}
    neurons = {}
    if curves.get("length"):
        neurons = {"few_neurons": Exact(sum(curves["contributions"][:5]) / curves["length"], metrics["sinks"])}
    share = metrics["aligned"] / metrics["directions"]
    return _claims({"C14": {"few_directions": Exact(share, metrics["directions"])}, "C17": neurons})


def published(model: str, rows: list[dict]) -> Parts:
    """C9, C11 and C12, for the models that they name; nothing with fewer than twenty sinks."""
    name, found, lives = model.split("/")[-1].lower(), starts(rows, "official"), lifetimes(rows, "official")
    if len(found) < ENOUGH:
        return {}
    if name in ("qwq-32b", "qwen3-14b"):
        return {"C9": {name.replace("-", "_"): Exact(len(levels(rows, "official")), len(found))}}
    if name not in ("qwen3-4b-base", "deepseek-r1-distill-qwen-14b"):
        return {}
    prefix = "qwen3" if name.startswith("qwen3") else "r1"
    told = {"C12": {f"{prefix}_start": Exact(commonest(found)), f"{prefix}_life": Exact(commonest(lives))}}
    if prefix == "qwen3":
        longest = max(row["rules"]["official"].get("longest", 0.0) for row in rows)
        told["C11"] = {"leaves_at_33": Exact(commonest(found + lives)), "some_exceed": Exact(longest)}
    return told


def chosen(by_model: list[list[dict]]) -> str:
    """The threshold whose sinks agree best with those of the others, mean over texts and models; rows of overlaps."""
    rules = [f"{k} x" for k in TIMES]
    agree = {
        rule: np.mean([np.mean([row[rule][b] for row in rows for b in rules if b != rule]) for rows in by_model])
        for rule in rules
    }
    return max(rules, key=lambda rule: agree[rule])


# --- over texts ----------------------------------------------------------------------------------------------------


def over_texts(
    rows: list[dict], value: Callable[[dict], float | None], within: tuple[float, float] | None = None
) -> Estimate | None:
    """Mean over texts of a number of each; texts that have none (None) are left out. ``within``: the number's ends."""
    found = [number for number in map(value, rows) if number is not None]
    return stats.mean(found, unit="texts", within=within) if found else None


def _votes(rows: list[dict], rule: Callable[[dict], bool]) -> Votes | None:
    return Votes(sum(bool(rule(row)) for row in rows), len(rows), 0.5, unit="texts") if rows else None


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _claims(found: dict[str, dict]) -> Parts:
    """Without the parts of which nothing was measured; all of one arm, the texts as the model reads them."""
    return {
        claim: {part: value.of("texts") for part, value in measured.items() if value is not None}
        for claim, measured in found.items()
    }
