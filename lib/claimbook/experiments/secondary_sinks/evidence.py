"""From rows to the ledger's parts, the same for every model: {claim: {part: measurement}}. Nothing is measured here.

The unit is the text: what is said of sinks is averaged over those of a text first. A text in which a quantity is
undefined is left out.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from claimbook import stats
from claimbook.claims import rules
from claimbook.claims.verdicts import Evidence, Measurement
from claimbook.experiments.secondary_sinks.measure import changes, layer, separation, texts, thresholds
from claimbook.experiments.secondary_sinks.measure.changes import NO_OTHERS, NO_PRIMARY, NO_SINKS, UNCHANGED
from claimbook.experiments.secondary_sinks.stored import RULE, TIMES
from claimbook.papers import secondary_sinks as method
from claimbook.stats import Estimate, Exact, Votes

Parts = dict[str, Evidence | dict[str, Measurement]]

EARLY = 0.306  # of the layers: see the ledger, C2
MOST = 3.4  # secondary sinks in 1,000 tokens: ten times the largest rate published, see the ledger
SHARE, CORRELATION = (0.0, 1.0), (-1.0, 1.0)  # the ends of a quantity: samples that are all equal have an interval
ENOUGH = 20  # sinks, for what is said of all of a model's
NEVER_WRONG = 1 - 1e-9  # a share of pairs that is one but for rounding
ALIGNED = 0.98  # the repository's threshold for writes


# --- reading -------------------------------------------------------------------------------------------------------


def reading(rows: list[texts.Row]) -> Parts:
    """C1 to C4, C6 to C8, C13 and C16: what reading alone shows."""
    layers = len(rows[0].median_norm)
    return (
        {"C1": {"exists": class_share(rows)}}
        | official(rows, layers)
        | {"C6": formation(rows, layers), "C7": norm_law(rows), "C8": own_life(rows), "C13": meaning(rows)}
        | {"C16": ours(rows)}
    )


def class_share(rows: list[texts.Row]) -> Estimate:
    """Share of texts in which the official rule finds a class of secondary sinks."""
    return share(rows, has_a_class).of("texts")


def has_a_class(row: texts.Row) -> bool:
    """Whether the official rule finds secondary sinks in a text, and not so many that they are no class."""
    return 0 < row.rules["official"]["secondary"] <= MOST * row.tokens / 1000


def official(rows: list[texts.Row], layers: int) -> Parts:
    """C2, C3 and C4: the sinks of the official rule; nothing is said of them where they are no class."""
    needed = {"has_a_class": class_share(rows)}
    lives = lifetimes(rows, "official")
    usual = commonest(lives) if lives else 0

    def drawn(above: str, below: str) -> Estimate | None:
        some = [one for row in rows if above in (one := row.rules["official"])]
        return ratio((one[above] for one in some), (one[below] for one in some))

    def early(row: texts.Row) -> bool:
        return row.primary["start"] <= EARLY * layers

    def middle(row: texts.Row) -> float | None:
        return _mean(layers / 3 <= start < 2 * layers / 3 for start in starts([row], "official"))

    def persists(row: texts.Row) -> bool:
        return row.primary["end"] >= min(0.9 * layers, layers - 2)

    def other(row: texts.Row) -> float | None:
        return _mean(life != usual for life in lifetimes([row], "official"))

    found = {
        "C2": Evidence({"primary_early": share(rows, early), "secondary_middle": over_texts(rows, middle, SHARE)}),
        "C3": Evidence({"primary_persists": share(rows, persists), "variable": over_texts(rows, other, SHARE)}),
        "C4": Evidence(
            {"less": drawn("given", "primary_given"), "significant": drawn("given", "even")},
            nulls={"significant": drawn("like_given", "like_even")},
        ),
    }
    for one in found.values():
        one.parts = {name: part and part.of("texts") for name, part in one.parts.items()}
        one.preconditions = needed
    return found


def starts(rows: list[texts.Row], rule: str = RULE) -> list[int]:
    """Start of every secondary sink of a rule, all texts together."""
    return [start for row in rows for start, _, count in row.rules[rule]["levels"] for _ in range(count)]


def lifetimes(rows: list[texts.Row], rule: str = RULE) -> list[int]:
    """Lifetime of every secondary sink of a rule, all texts together."""
    return [life for row in rows for _, life, count in row.rules[rule]["levels"] for _ in range(count)]


def levels(rows: list[texts.Row], rule: str) -> dict[tuple[int, int], int]:
    """Sink levels of a rule with their counts, all texts together, merged as `papers.secondary_sinks.levels` says."""
    pairs = zip(starts(rows, rule), lifetimes(rows, rule), strict=True)
    return method.levels([method.Sink(0, tuple(range(start, start + life))) for start, life in pairs])


def commonest(values: Iterable[int]) -> int:
    """The commonest of some whole numbers, the smallest of several."""
    counts = Counter(int(value) for value in values)
    return max(counts, key=lambda value: (counts[value], -value))


def formation(rows: list[texts.Row], layers: int) -> Evidence:
    """C6: what the layers write where sinks start."""
    some = [row for row in rows if row.sinks]
    if not some:
        return Evidence()
    start = commonest(starts(rows))

    def of(value: Callable[[dict], float], within=CORRELATION) -> Estimate | None:
        return over_texts(some, lambda row: _mean(map(value, row.sinks)), within)

    def made(write: str) -> Estimate | None:
        return ratio(*([_mean(sink[key] for sink in row.sinks) for row in some] for key in (write, "state_along")))

    return Evidence(
        {
            "aligned": of(lambda sink: sink["feed_forward_cosine"]),
            "feed_forward_makes_it": made("written_along"),
            "one_module": of(lambda sink: float(sink["start"] == start), SHARE),
            "middle_module": Exact(start / layers, len(starts(rows))),
        },
        nulls={"aligned": of(lambda sink: sink["next_cosine"]), "feed_forward_makes_it": made("attended_along")},
    )


def norm_law(rows: list[texts.Row]) -> Evidence:
    """C7, as far as reading shows it: norm and attention, norm and life."""

    def follows(write: str) -> Estimate | None:
        return over_texts(rows, lambda row: follows_norm(row.sinks, write), CORRELATION)

    return Evidence(
        {
            "score_follows_norm": follows("feed_forward_norm"),
            "life_follows_norm": over_texts(rows, lambda row: longer_lives_longer(row.sinks), SHARE),
        },
        nulls={"score_follows_norm": follows("attention_norm")},
    )


def follows_norm(sinks: list[dict], write: str = "feed_forward_norm", least: int = 5) -> float | None:
    """Rank correlation of a write's norm and the attention drawn, position held fixed.

    None, undefined, for fewer than ``least`` sinks and where position leaves nothing of either's ranks.
    """
    if len(sinks) < least:
        return None
    written, given, place = (rankdata([sink[key] for sink in sinks]) for key in (write, "given_common", "token"))
    a, b = (without(values, place) for values in (written, given))
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size > 1e-9 else None


def without(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What a straight line in ``other`` leaves of ``values``."""
    slope, shift = np.polyfit(other, values, 1)
    return values - slope * other - shift


def longer_lives_longer(sinks: list[dict], least: int = 3) -> float | None:
    """Of pairs with one start and writes that differ by half: how often the longer stays aligned longer, ties half."""
    scores = []
    for pair in combinations(sinks, 2):
        short, long = sorted(pair, key=lambda sink: sink["feed_forward_norm"])
        if short["start"] == long["start"] and long["feed_forward_norm"] >= 1.5 * short["feed_forward_norm"]:
            scores.append((np.sign(long["aligned"] - short["aligned"]) + 1) / 2)
    return float(np.mean(scores)) if len(scores) >= least else None


def own_life(rows: list[texts.Row]) -> Evidence:
    """C8, by depth: the attention to the primary within its own massive life, where that is there first."""
    every = starts(rows)
    first = over_texts(rows, lambda row: _mean(sink["in_massive_life"] for sink in row.sinks), SHARE)
    pairs = [pair for row in rows if (pair := dip(row))]
    parts = {"dips": ratio(*zip(*pairs, strict=True)) if pairs else None}
    fall = steepest_fall(rows)
    if every and fall is not None:
        parts["coincides"] = Exact(abs(fall - (commonest(every) + 1)), len(rows))
    return Evidence(
        {name: part and part.of("texts") for name, part in parts.items()},
        preconditions={"primary_comes_first": first and first.of("texts")},
    )


def over_median(rows: list[texts.Row]) -> np.ndarray:
    """Norm of the primary's state over the median of all tokens, by layer (L,), median over texts."""
    return np.median([np.divide(row.primary["norm"], row.median_norm) for row in rows], axis=0)


def massive_life(row: texts.Row) -> tuple[int, np.ndarray]:
    """The first layer whose attention meets the massive primary, and what that draws from there to its end."""
    first, last = row.primary["start"] + 1, row.primary["end"]
    return first, np.array(row.primary["given"][first : last + 1])


def dip(row: texts.Row) -> tuple[float, float] | None:
    """Attention to the primary in the middle third of its massive life, and the smaller of that in the two others."""
    _, given = massive_life(row)
    third = len(given) // 3
    return (given[third:-third].mean(), min(given[:third].mean(), given[-third:].mean())) if third else None


def steepest_fall(rows: list[texts.Row]) -> int | None:
    """The layer in which the mean attention to the primary has fallen most, within its usual massive life."""
    lives = Counter((row.primary["start"], row.primary["end"]) for row in rows)
    usual = max(lives, key=lambda life: (lives[life], life))
    first, last = usual[0] + 1, usual[1]
    given = np.mean([row.primary["given"] for row in rows], axis=0)[first : last + 1]
    return first + 1 + int(np.diff(given).argmin()) if len(given) > 1 else None


def meaning(rows: list[texts.Row]) -> Evidence:
    """C13: content words among sinks beside all tokens, and the same token elsewhere."""
    some = [row for row in rows if row.sinks]

    def none(of: str) -> Estimate | None:
        return over_texts(rows, lambda row: one[1] / one[0] if (one := getattr(row, of))[0] else None, SHARE)

    def beyond_half(content: Callable[[texts.Row], float]) -> Estimate | None:
        return over_texts(some, lambda row: content(row) - row.content / 2, CORRELATION)

    return Evidence(
        {
            "few_content_words": beyond_half(lambda row: _mean(sink["content"] for sink in row.sinks)),
            "usually_none": none("same"),
        },
        nulls={"few_content_words": beyond_half(lambda row: row.content)},
    )


def ours(rows: list[texts.Row]) -> Evidence:
    """C16: what our own rule finds."""
    some = [row for row in rows if row.sinks]
    beside = [sinks for row in some if (sinks := [sink["like"] for sink in row.sinks if sink["like"]])]
    with_any = [row for row in rows if any(row.rules[f"{k} x"]["secondary"] for k in TIMES)]
    lasting = [row.lived for row in rows if row.lived["others"]]
    return Evidence(
        {
            "whatever_the_threshold": over_texts(
                with_any,
                lambda row: min(b for one in row.overlap.values() for b in one.values() if b is not None),
                SHARE,
            ),
            "short": ratio((_mean(one["others"]) for one in lasting), (one["primary"] for one in lasting)),
            "weaker": ratio(*([row.rules[RULE][key] for row in some] for key in ("given", "primary_given"))),
            "drawn_to": ratio(*([_mean(s[key] for s in row.sinks) for row in some] for key in ("given", "even"))),
        },
        nulls={"drawn_to": ratio(*([_mean(s[key] for s in sinks) for sinks in beside] for key in ("given", "even")))},
    )


def chosen(by_model: list[list[thresholds.Row]]) -> str:
    """The threshold whose sinks agree best with those of the others, mean over texts and models."""
    names = [f"{k} x" for k in TIMES]
    agree = {
        a: np.mean([_mean(row.overlap[a][b] for row in rows for b in names if b != a) for rows in by_model])
        for a in names
    }
    return max(names, key=lambda name: agree[name])


# --- interventions -------------------------------------------------------------------------------------------------


def interventions(rows: list[changes.Row]) -> Parts:
    """C7, C8, C10, C16 and C17: writes scaled, turned and taken away."""
    some = [row for row in rows if row.sinks]
    scaled = [{one["factor"]: one for one in row.scaled} for row in some]

    def drawn(values: Iterable[float]) -> Estimate | None:
        return ratio(values, (one[1.0]["given"] for one in scaled))

    def votes(rule: str, chance: float, series: Callable[[dict], list[float]]) -> Votes | None:
        return rules.votes(rule, chance, map(series, scaled), "texts") if some else None

    def back(one: dict) -> int:
        return one["aligned"] - one["on_end"]

    return {
        "C7": Evidence(
            {
                "silenced": drawn(one[0.0]["given"] for one in scaled),
                "score_scales": votes(
                    "strictly_rising", 1 / 24, lambda one: [one[factor]["given"] for factor in changes.FACTORS]
                ),
                "stays_longer": votes("strictly_rising", 0.5, lambda one: [one[1.0]["on_end"], one[4.0]["on_end"]]),
                "comes_back": votes("strictly_rising", 0.5, lambda one: [back(one[1.0]), back(one[4.0])]),
            },
            nulls={"silenced": drawn(row.without_next for row in some)},
        ),
        "C8": Evidence(
            {"weaker_beside_them": met(some, UNCHANGED, NO_SINKS)},
            nulls={"weaker_beside_them": met(some, UNCHANGED, f"{NO_SINKS}, in proportion")},
        ),
        "C10": keys_and_values(some),
        "C16": Evidence(
            {"in_most_texts": share(rows, lambda row: row.sinks)},
            nulls={"in_most_texts": share(rows, lambda row: row.untrained)},
        ),
        "C17": Evidence(
            {
                "direction_counts": drawn(row.turned["at right angles"] for row in some),
                "from_the_primary": met(some, NO_SINKS, f"{NO_SINKS}, in proportion"),
                "loss_alike": loss(some, NO_SINKS),
            },
            nulls={
                "direction_counts": drawn(row.turned["straight along"] for row in some),
                "from_the_primary": met(some, NO_OTHERS, f"{NO_OTHERS}, in proportion"),
                "loss_alike": loss(some, NO_PRIMARY),
            },
        ),
    }


def met(rows: list[changes.Row], above: str, below: str) -> Estimate | None:
    """Attention to the primary under one plan over that under another, in the layers that meet the sinks."""
    return ratio(*([float(np.array(row.primary[plan])[row.meets].mean()) for row in rows] for plan in (above, below)))


def loss(rows: list[changes.Row], plan: str) -> Estimate | None:
    """Loss under a plan, less that without the others, in nats."""
    return over_texts(rows, lambda row: row.loss[plan] - row.loss[NO_OTHERS])


def keys_and_values(rows: list[changes.Row]) -> Evidence:
    """C10: as it is, and with the writes at right angles."""
    norms = [row.norms for row in rows]
    told = [one for one in norms if max(one["primary_key"], 1 / one["primary_key"]) >= 1.25 and len(one["nearer"]) > 1]

    def values(key: str) -> Estimate | None:
        return ratio((one[key] for one in norms), (one["ordinary_value"] for one in norms))

    def nearer(key: str) -> Votes | None:
        return rules.votes("more_than_half_hold", 0.5, [one[key] for one in told], "texts") if told else None

    return Evidence(
        {"values_shrink": values("value"), "keys_join": nearer("nearer")},
        nulls={"values_shrink": values("turned_value"), "keys_join": nearer("turned_nearer")},
    )


# --- inside the layer ----------------------------------------------------------------------------------------------


def told_apart(rows: list[separation.Row]) -> Parts:
    """C15: what a linear probe sees, position regressed out."""

    def right(value: Callable[[separation.Row], float]) -> Estimate:
        return over_texts(rows, value, SHARE)

    def too_soon(row: separation.Row) -> float:
        return (row.attention[0] - 0.5) - (row.attention[-1] - 0.5) / 2

    def errs(row: separation.Row) -> bool:
        return row.enters < NEVER_WRONG

    return {
        "C15": Evidence(
            {
                "attention_separates": right(lambda row: row.attention[-1]),
                "little_by_little": over_texts(rows, too_soon, CORRELATION).of("separation"),
                "completed_by_feed_forward": share(rows, lambda row: errs(row) and row.feed_forward >= NEVER_WRONG),
            },
            nulls={"attention_separates": right(lambda row: row.waves)},
            ceilings={"completed_by_feed_forward": share(rows, errs)},
            preconditions={
                "five_layers_before": share(rows, lambda row: len(row.attention) > separation.EARLIER).of("separation")
            },
        )
    }


def alone(rows: list[layer.Row]) -> Parts:
    """C14, and the neurons of C17: the layer that makes the sinks, fed by hand."""
    (row,) = rows
    found = {
        "C14": Evidence({"few_directions": beyond(row.cosines)}, nulls={"few_directions": beyond(row.next_cosines)})
    }
    if row.makes:  # in layers like Llama's
        own, like = (ratio(*zip(*by_text, strict=True)) for by_text in (row.makes, row.like_makes))
        found["C17"] = Evidence({"few_neurons": own}, nulls={"few_neurons": like})
    return found


def beyond(cosines: list[float]) -> Exact:
    """Share of signed directions whose cosine passes the repository's threshold, either way."""
    return Exact(float(np.mean(np.abs(cosines) > ALIGNED)), len(cosines))


# --- the paper's own models ----------------------------------------------------------------------------------------


def published(model: str, rows: list[texts.Row]) -> Parts:
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
        longest = max(row.rules["official"].get("longest", 0.0) for row in rows)
        ends = commonest(start + life for start, life in zip(found, lives, strict=True))
        told["C11"] = {"leaves_at_33": Exact(ends), "some_exceed": Exact(longest)}
    return told


# --- over texts ----------------------------------------------------------------------------------------------------


def over_texts(rows: list, value: Callable[..., float | None], within: tuple[float, float] | None = None):
    """Mean over texts of a number of each, undefined ones (None) left out. ``within``: the number's ends."""
    found = [number for number in map(value, rows) if number is not None]
    return stats.mean(found, unit="texts", within=within) if found else None


def share(rows: list, holds: Callable[..., object]) -> Estimate:
    """Share of texts in which something holds."""
    return stats.proportion(sum(bool(holds(row)) for row in rows), len(rows), unit="texts")


def ratio(above: Iterable[float], below: Iterable[float]) -> Estimate | None:
    """Ratio of means over the same texts; None without texts."""
    above, below = list(above), list(below)
    return stats.ratio_of_means(above, below, unit="texts") if above else None


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None
