"""From rows to the ledger's parts, the same for every model: {claim: {part: measurement}}. Nothing is measured here."""

import numpy as np

from claimbook import stats
from claimbook.claims import rules
from claimbook.claims.verdicts import Evidence, Measurement
from claimbook.experiments.streaming_llm.measure import (
    answers,
    attention,
    beyond,
    distance,
    documents,
    encoder,
    kept,
    memory,
    recall,
    sizes,
)
from claimbook.experiments.streaming_llm.stored import STORED
from claimbook.experiments.units import columns
from claimbook.papers.streaming_llm import Scheme, pairs
from claimbook.stats import Estimate, Exact, mean, paired_difference, ratio_of_exp

Parts = dict[str, Evidence | dict[str, Measurement]]

HEAVY = 0.25  # the ledger's word for C6: half of the attention that Figure 12 shows
RECENT = 252  # tokens that the rolling cache of the recall task holds beside its sinks
PAPERS_LENGTH = 4_000_000  # tokens of the paper's stream
ANSWERS = ("one_shot", "blind", "window", "streaming")
EDGE = 400  # tokens back: facts evicted a short while ago lie nearer, those evicted long ago beyond
# Another chapter's trainings, each named in full: by these words a change of one makes this chapter stale.
DECODERS = [
    "sink_emergence/text_fixed_10",
    "sink_emergence/text_fixed_11",
    "sink_emergence/text_fixed_12",
    "sink_emergence/text_fixed_13",
    "sink_emergence/text_fixed_14",
]
PACKED = [
    "sink_emergence/text_packed_10",
    "sink_emergence/text_packed_11",
    "sink_emergence/text_packed_12",
    "sink_emergence/text_packed_13",
    "sink_emergence/text_packed_14",
]


def over(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Perplexity ratio of two schemes by their losses (n,) on the same documents."""
    return ratio_of_exp(a, b, unit="documents")


def restored(saved: np.ndarray, all_of_it: np.ndarray) -> Estimate:
    """Loss saved (n,) beyond nine tenths of what could be saved, in nats."""
    return mean(saved - 0.9 * all_of_it, unit="documents")


def schemes(rows: list[documents.Row]) -> Parts:
    """C3, C4, C5, C7 and C8: whole documents under every scheme."""
    loss, again = columns(row.loss for row in rows), columns(row.recomputed for row in rows)
    eviction = columns(row.eviction for row in rows)
    excess = eviction["0"] - eviction["dense"]  # (documents, bins)
    middle = excess.shape[1] // 2
    newlines = loss[documents.NEWLINES]
    return {
        "C3": {
            "window_collapses": over(loss["0"], loss["4"]),
            "at_the_eviction": paired_difference(
                excess[:, middle:].mean(axis=1), excess[:, :middle].mean(axis=1), unit="documents"
            ),
        },
        "C4": {"removes_the_excess": restored(again["0"] - again["4"], again["0"] - again["recompute"])},
        "C5": {
            "newlines_as_good": over(newlines, loss["4"]),
            "newlines_restore": restored(loss["0"] - newlines, loss["0"] - loss["4"]),
        },
        "C7": {
            "four_are_enough": over(loss["4"], loss["8"]),
            "one_is_not_enough": over(loss["1"], loss["4"]),
            "two_are_not_enough": over(loss["2"], loss["4"]),
        },
        "C8": {"equals_recomputation": paired_difference(again["4"], again["recompute"], unit="documents")},
    }


def middle_tokens(rows: list[kept.Row]) -> Parts:
    """The null of C5: four tokens out of the middle of the same documents in place of the first."""
    loss = columns(row.loss for row in rows)
    nulls = {
        "newlines_as_good": over(loss[kept.MIDDLE], loss["4"]),
        "newlines_restore": restored(loss["0"] - loss[kept.MIDDLE], loss["0"] - loss["4"]),
    }
    return {"C5": Evidence(nulls=nulls)}


def cache_sizes(rows: list[sizes.Row]) -> Parts:
    """C13: the cache that fills the trained window against half of it."""
    loss = columns(row.loss for row in rows)
    half, whole = sorted(loss, key=int)[-2:]
    return {"C13": {"window_filled_is_worse": over(loss[whole], loss[half])}}


def first_token(rows: list[attention.Row]) -> Parts:
    """C6, in the layers above the bottom two that can see the first token from where the queries stand.

    A layer with a sliding window cannot: it gives exactly 0. Nothing for a model without layers above the bottom two;
    no ratio with the bottom two where these see nothing.
    """
    mass = columns(row.to_first_keys for row in rows)[:, :, 0]  # (documents, layers)
    sees = (mass > 0).any(axis=0)
    bottom, layers = np.flatnonzero(sees[:2]), 2 + np.flatnonzero(sees[2:])
    if not len(layers):
        return {}
    above = mass[:, layers].mean(axis=1)
    far, near = (columns(getattr(row, name) for row in rows)[:, layers].mean(axis=1) for name in ("far", "near"))
    heavy = [[head >= HEAVY for layer in layers for head in row.heads[layer]] for row in rows]
    parts = {
        "heavy_above": mean(above, unit="documents", within=(0, 1)),
        "nearly_all_heads": rules.votes("nine_in_ten_hold", 0.5, heavy, unit="documents"),
        "at_any_distance": mean(far / near, unit="documents"),
    }
    if len(bottom):
        parts["light_below"] = mean(mass[:, bottom].mean(axis=1) / above, unit="documents")
    return {"C6": parts}


def separator(rows: list[encoder.Row]) -> Parts:
    """C21: what [SEP], and the more drawing of [SEP] and [CLS], draw above the bottom two layers, in even shares."""
    sep, cls = (columns(getattr(row, name) for row in rows)[:, 2:].mean(axis=1) for name in ("sep", "cls"))
    return {
        "C21": {
            "a_token_draws": mean(np.maximum(sep, cls), unit="documents"),
            "sep_draws": mean(sep, unit="documents"),
        }
    }


def past_window(rows: list[beyond.Row]) -> Parts:
    """C2: dense over streaming after the trained window's end, and at twice its length, over that before the end."""
    excess = columns(row.dense for row in rows) - columns(row.streaming for row in rows)
    part = STORED["beyond"].config["margin"] // STORED["beyond"].config["bin"]
    before, after, late = (
        excess[:, at].mean(axis=1) for at in (slice(part), slice(part, 2 * part), slice(-part, None))
    )
    return {"C2": {"fails_past_window": over(after, before), "fails_at_twice_the_window": over(late, before)}}


def far_sinks(rows: list[distance.Row]) -> dict[int, Estimate]:
    """Perplexity with the sinks at each text distance (in tokens) over that at cache distance."""
    cache, text = columns(row.cache for row in rows), columns(row.text for row in rows).T
    places = STORED["distance"].config["positions"]
    return {position: over(loss, cache) for position, loss in zip(places, text, strict=True)}


def positions(rows: list[distance.Row]) -> Parts:
    """C10: sinks four trained windows away."""
    return {"C10": {"beyond_trained_distance": far_sinks(rows)[distance.FAR]}}


def long_stream(sampled: np.ndarray, again: np.ndarray, at: np.ndarray, tokens: int) -> Parts:
    """C9: losses (n,) of the stream and of recomputation at the same places ``at`` (n,), in order; ``tokens`` read."""
    gap, millions, parts = np.asarray(sampled) - np.asarray(again), np.divide(at, 1e6), 25
    blocks = [block.mean() for block in np.array_split(gap, len(gap) // 10)]
    slopes = [np.polyfit(millions[i::parts], gap[i::parts], 1)[0] for i in range(parts)]  # each from end to end
    return {
        "C9": {
            "level": mean(blocks, unit="blocks of ten samples"),
            "no_drift": mean(slopes, unit="interleaved samples"),
            "full_length": Exact(tokens) if tokens >= PAPERS_LENGTH else None,  # a shorter run has not tried it
        }
    }


def stream_memory(held: list[int], resident: list[float]) -> Parts:
    """C1: bytes cached and memory of the process, segment by segment of a stream."""
    tenths = np.array_split(resident, 10)
    return {
        "C1": {
            "stream_memory_constant": Exact(held[-1] / held[0]),
            "process_memory_flat": Exact(max(tenths[-1]) / max(tenths[1])),
        }
    }


def step_times(seconds: dict[str, list[float]], bytes_per_token: dict[str, float], sizes: list[int]) -> Parts:
    """C1, C11 and C12: rounds in which every arm was timed once, see `measure.latency`; medians, as machines stall."""
    log = {arm: np.log(times) for arm, times in seconds.items()}

    def ratio(a: str, b: str) -> Estimate:
        return stats.median_ratio(log[a], log[b], unit="rounds")

    def slope(arm: str) -> Estimate:
        times = np.stack([log[f"{arm}/{size}"] for size in sizes])  # (sizes, rounds)
        return stats.median(np.polyfit(np.log(sizes), times, 1)[0], unit="rounds")

    speedup = np.stack([np.exp(log[f"recompute/{size}"] - log[f"stream/{size}"]) for size in sizes], axis=1)
    return {
        "C1": Evidence(
            parts={
                "dense_memory_grows": Exact(bytes_per_token["measured"] / bytes_per_token["formula"]),
                "dense_time_grows": ratio("dense/4096", "dense/256"),
                "stream_time_constant": ratio("late/4096", "late/512"),
            },
            nulls={"stream_time_constant": ratio("dense/4096", "dense/512")},
        ),
        "C11": {
            "faster_at_4096": ratio("recompute/4096", "stream/4096"),
            "grows_with_cache": rules.votes("strictly_rising", 0.00834, speedup, unit="rounds"),
        },
        "C12": {"recompute_slope": slope("recompute"), "stream_slope": slope("stream")},
    }


def step_memory(rows: list[memory.Row]) -> Parts:
    """C11: peak memory of a streaming step over recomputation; its null is dense attention."""
    log = {arm: np.log(megabytes) for arm, megabytes in columns(row.megabytes for row in rows).items()}
    arms = {arm: ratio_of_exp(log[arm], log["recompute"], unit="rounds") for arm in ("stream", "dense")}
    return {"C11": Evidence(parts={"equal_memory": arms["stream"]}, nulls={"equal_memory": arms["dense"]})}


def counted_pairs() -> Parts:
    """C12: log-log slopes of the query-key pairs that each scheme's mask lets through (Figure 1).

    Dense over the text's length, 1,024 to 16,384 tokens; the others over the cache size, 256 to 4,096, for a text of
    16,384. Recomputation takes a whole causal window for each token.
    """
    sizes, lengths, text = [256, 512, 1024, 2048, 4096], [1024, 4096, 16_384], 16_384

    def slope(x: list[int], y: list[int]) -> Exact:
        return Exact(float(np.polyfit(np.log(x), np.log(y), 1)[0]))

    return {
        "C12": {
            "dense_pairs": slope(lengths, [pairs(Scheme(0, tokens), tokens) for tokens in lengths]),
            "recompute_pairs": slope(sizes, [text * pairs(Scheme(0, size), size) for size in sizes]),
            "window_pairs": slope(sizes, [pairs(Scheme(0, size), text) for size in sizes]),
            "stream_pairs": slope(sizes, [pairs(Scheme(4, size - 4), text) for size in sizes]),
        }
    }


def sink_tokens(arms: dict[str, list[dict]]) -> Parts:
    """C14 to C17, from toys trained with and without sink tokens, an entry for each seed."""
    streaming, idle = (
        {arm: columns(row[key] for row in rows) for arm, rows in arms.items()} for key in ("streaming", "idle")
    )
    plain, zero, one, two = "vanilla", "zero sink", "one sink token", "two sink tokens"

    def ratio(arm: str, kept: str, least: str = "4") -> Estimate:
        return ratio_of_exp(streaming[arm][kept], streaming[arm][least], unit="seeds").of(arm)

    validation = {arm: columns(row["validation"] for row in arms[arm]) for arm in (one, plain)}
    curve = {arm: columns(row["curve"] for row in arms[arm]) for arm in (one, plain)}  # (seeds, every 25 steps)
    late = np.abs(curve[plain][:, 2:] - curve[plain][:, :-2]).mean(axis=1)  # 50 steps
    left = idle[plain]["first_symbols"] * (1 - idle[one]["sink_tokens"])
    return {
        "C14": Evidence(
            parts={
                "one_is_enough": ratio(one, "1"),
                "vanilla_needs_more": ratio(plain, "1"),
                "zero_sink_needs_more": ratio(zero, "1"),
            },
            preconditions={
                "learnable_collapses": ratio(one, "0"),
                "vanilla_collapses": ratio(plain, "0"),
                "zero_sink_collapses": ratio(zero, "0"),
            },
        ),
        "C15": Evidence(
            parts={
                "same_loss": paired_difference(validation[one], validation[plain], unit="seeds"),
                "same_curve": mean(np.abs(curve[one] - curve[plain]).mean(axis=1), unit="seeds"),
            },
            nulls={"same_curve": mean(late, unit="seeds")},
        ),
        "C16": Evidence(
            parts={
                "sink_draws": mean(idle[one]["sink_tokens"] / idle[one]["even_share"], unit="seeds"),
                "others_draw_less": paired_difference(left, idle[one]["first_symbols"], unit="seeds").of(plain),
            },
            preconditions={
                "initial_tokens_drawn": mean(
                    idle[plain]["first_symbols"] / (2 * idle[plain]["even_share"]), unit="seeds"
                ).of(plain)
            },
        ),
        "C17": Evidence(
            parts={"two_not_better": ratio_of_exp(streaming[two]["2"], streaming[one]["1"], unit="seeds").of(two, one)},
            preconditions={"learnable_collapses": ratio(one, "0")},
        ),
    }


def in_all_layers(decoders: list[dict], packed: list[dict]) -> Parts:
    """C16: the least that any layer gives the token that begins every text, in even shares, by seed; mean over heads.

    Its null: decoders whose texts begin anywhere (``packed``).
    """
    even = np.mean(1 / np.arange(1, 65))  # of the first of 64 tokens, where each query shares evenly

    def least(trained: list[dict]) -> Estimate:
        last = columns(decoder["measured"][-1]["alpha"] for decoder in trained)[..., 0].mean(axis=2)  # (seeds, layers)
        return mean(last.min(axis=1) / even, unit="seeds")

    return {"C16": Evidence(parts={"in_all_layers": least(decoders)}, nulls={"in_all_layers": least(packed)})}


def found(rows: list[recall.Row], scheme: str, near: int, far: int) -> Estimate:
    """Share of right choices by stream, for facts more than ``near`` and at most ``far`` tokens back."""
    shares = []
    for row in rows:
        asked = [right for right, back in zip(getattr(row, scheme), row.distance, strict=True) if near < back <= far]
        shares += [np.mean(asked)] if asked else []  # a stream need not ask at every distance
    return mean(shares, unit="streams", within=(0, 1)).of("recall")


def facts(rows: list[recall.Row]) -> Parts:
    """C19: facts that are cached, those at the far end of the cache, and those that are evicted."""
    longest = max(max(row.distance) for row in rows)
    return {
        "C19": Evidence(
            parts={
                "found_within": found(rows, "streaming", 0, RECENT),
                "found_at_the_edge": found(rows, "streaming", 3 * RECENT // 4, RECENT),
                "lost_past_the_edge": found(rows, "streaming", RECENT, EDGE),
                "lost_beyond": found(rows, "streaming", EDGE, longest),
            },
            nulls={
                "lost_past_the_edge": found(rows, "dense", RECENT, EDGE),
                "lost_beyond": found(rows, "dense", EDGE, longest),
            },
            preconditions={"facts_in_reach": found(rows, "dense", RECENT, longest)},
        )
    }


def questions(rows: list[answers.Row]) -> Parts:
    """C18: shares of right answers by stream, above those of the options alone."""
    right = {name: columns(np.mean(getattr(row, name)) for row in rows) for name in ANSWERS}
    above = {name: shares - right["blind"] for name, shares in right.items()}

    def kept_of(name: str, share: float) -> Estimate:
        return mean(above[name] - share * above["one_shot"], unit="streams").of("answers")

    return {
        "C18": Evidence(
            parts={"window_fails": kept_of("window", 0.5), "stream_keeps": kept_of("streaming", 0.9)},
            nulls={"stream_keeps": mean(-0.9 * above["one_shot"], unit="streams").of("answers")},
            preconditions={"can_answer": mean(above["one_shot"], unit="streams").of("answers")},
        )
    }
