"""StreamingLLM: what is measured of a unit, and what the parts make of rows written by hand, true and false."""

import random
from dataclasses import asdict

import numpy as np
import pytest
import torch

from claimbook import paths
from claimbook.claims import ledgers, verdicts
from claimbook.experiments.streaming_llm import evidence, inputs
from claimbook.experiments.streaming_llm.measure import (
    answers,
    attention,
    beyond,
    documents,
    encoder,
    kept,
    latency,
    memory,
    recall,
    sizes,
    stream,
)
from claimbook.lm import corpora
from claimbook.lm.load import load
from claimbook.papers.streaming_llm import Scheme
from claimbook.provenance import seals

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def lm():
    return load("tiny-random-llama", "cpu")


def drawn(low, high, *shape):
    """Random ids, the same in every run."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(0))


def document(length):
    return corpora.Document("one", drawn(1, 256, length))


# --- measuring --------------------------------------------------------------------------------------------------------


def test_a_document_is_measured_on_identical_targets(lm):
    config = {"cache": 64, "sinks": [0, 4], "sizes": [32, 64], "n_recompute": 4, "bin": 4}
    row = documents.measure(lm, (document(400), 1), config)
    assert set(row.loss) == {"dense", "0", "4", documents.NEWLINES}
    assert row.loss_by_size["64"] == row.loss["4"]
    assert row.before_eviction < 1e-4, "window and streaming are the same before anything is evicted"
    assert all(len(bins) == 12 for bins in row.eviction.values())
    assert row == documents.measure(lm, (document(400), 1), config)
    assert row.recomputed != documents.measure(lm, (document(400), 2), config).recomputed
    without = documents.measure(lm, (document(400), 1), config | {"sizes": []})
    assert asdict(without) == asdict(row) | {"loss_by_size": {}}, "the sizes alone are left out"


def test_what_is_kept_is_compared_on_the_targets_of_the_documents(lm):
    config = {"cache": 64, "middle": 20, "sinks": [0, 4], "sizes": [], "n_recompute": 4, "bin": 4}
    row, whole = kept.measure(lm, document(300), config), documents.measure(lm, (document(300), 0), config)
    assert {name: row.loss[name] for name in ("0", "4")} == {name: whole.loss[name] for name in ("0", "4")}
    assert row.loss[kept.MIDDLE] not in (row.loss["0"], row.loss["4"])
    assert kept.STARTED not in row.loss, "this tokenizer puts nothing before a text"


def test_newlines_behind_a_start_token_leave_it(lm):
    ids = drawn(1, 256, 20)
    assert documents.with_newlines(lm, ids, 4, start=1).tolist() == [
        int(ids[0]),
        *[lm.single("\n")] * 3,
        *ids[4:].tolist(),
    ]


def test_caches_are_compared_behind_the_larger_one(lm):
    row = sizes.measure(lm, document(120), {"caches": [16, 64]})
    dense = documents.dense_losses(lm, document(120).ids)
    assert set(row.loss) == {"16", "64"} and row.loss["16"] != row.loss["64"]
    assert sizes.units(lm, {"caches": [16, 64], "length": 64}) == {}, "no target lies behind the cache"
    large = sizes.measure(lm, document(120), {"caches": [100, 118]})
    assert large.loss["118"] == pytest.approx(float(dense[117:].mean()), abs=1e-4), "nothing was evicted yet"


def test_past_the_window_both_schemes_are_scored_on_the_same_targets(lm, monkeypatch):
    context = 64
    monkeypatch.setattr(lm.model.config, "max_position_embeddings", context)
    near = {"windows": 2, "margin": context // 4, "warm_up": context // 4}
    config = near | {"bin": 8, "sinks": 4, "recent": 2 * context}
    text = document(2 * context + 1)
    found = beyond.measure(lm, text, config)
    loss = documents.dense_losses(lm, text.ids)[context - config["margin"] :].view(-1, 8).mean(dim=1)
    assert found.dense == pytest.approx(loss.tolist(), abs=1e-4)
    assert len(found.streaming) == len(found.dense) == (context + config["margin"]) // 8
    tail = text.ids[context - 2 * config["margin"] :]
    dense = documents.dense_losses(lm, tail)[config["margin"] :].view(-1, 8).mean(dim=1)
    assert found.streaming == pytest.approx(dense.tolist(), abs=1e-4), "a cache that holds all is dense attention"
    assert inputs.long_texts(lm, config | {"at_most": 2 * context}) == {}, "no longer text than the reader allows"


def test_attention_is_kept_by_head_and_by_layer(lm):
    row = attention.measure(lm, document(1024), {})
    heads, layers = np.array(row.heads), np.array(row.to_first_keys)
    assert heads.shape == (2, 4) and layers.shape == (2, 4)
    assert heads.mean(axis=1) == pytest.approx(layers[:, 0], abs=1e-6)


def test_bins_meet_at_the_first_affected_target():
    curve = torch.arange(1.0, 400.0)  # the loss at text position t is t
    bins = documents.binned(curve, cache=64, width=4, reach=2)
    assert bins == [59.5, 63.5, 67.5, 71.5]  # targets 58-61, 62-65 | 66-69, 70-73


def test_sampled_positions_are_one_per_stretch():
    config = {"n_tokens": 10_000, "sample_every": 1000, "seed": 0}
    positions = stream.sampled(config)
    assert (positions // 1000).tolist() == list(range(1, 10))
    assert torch.equal(stream.sampled(config | {"n_tokens": 4_000}), positions[:3]), "a prefix samples the same"


class WordTokenizer:
    """One id for each word and for each line's end, in order of appearance."""

    def __init__(self):
        self.table = {}

    def encode(self, text):
        words = [word for word in text.replace("\n", " \n").split(" ") if word]
        return torch.tensor([self.table.setdefault(word, len(self.table)) for word in words])

    start = torch.tensor([], dtype=torch.long)

    def single(self, text):
        return int(self.encode(text))


RECALL = {"n_lines": 80, "first_query": 40, "query_every": 2, "bands": [[0, 40], [40, 100], [240, 300]], "recent": 100}


def test_recall_asks_for_what_was_said():
    words = WordTokenizer()
    ids, queries = recall.make_stream(words, RECALL, random.Random(0))
    names = list(words.table)
    assert len(queries) == 20
    assert len({query["fact"] for query in queries}) == 20, "an answer states its fact anew: no line is asked twice"
    for i, query in enumerate(queries):
        low, high = RECALL["bands"][i % 3]
        assert low < query["at"] - query["fact"] <= high
        assert ids[query["fact"]] == query["candidates"][0] == ids[query["at"] + 1]
        assert names[ids[query["at"]]] == "is"
        assert len(set(query["candidates"])) == len(query["candidates"]) > 1
        last_stated = {int(word): at for at, word in enumerate(ids[: query["at"]])}
        cached = {query["at"] - last_stated[word] <= RECALL["recent"] for word in query["candidates"]}
        assert len(cached) == 1, "all candidates are cached, or all are evicted"
        asked, stated = names[ids[query["at"] - 1]], names[ids[query["fact"] - 2]]
        assert asked == stated, "the line asked for is the line that holds the word"


def test_recall_needs_names_of_one_token():
    class Letters(WordTokenizer):
        def encode(self, text):
            return torch.tensor([ord(letter) for letter in text])

    config = {"n_lines": 80, "seed": 3, "n_streams": 2}
    assert list(recall.units(WordTokenizer(), config).values()) == [3, 4]
    assert recall.units(Letters(), config) == {}
    assert recall.units(WordTokenizer(), config | {"n_lines": 1000}) == {}


ITEMS = [
    {
        "centerpiece": f"What is {word}?",
        "options": ["red", f"so {word}", "a long one"],
        "correct_options_literal": [right],
    }
    for word, right in (("ice", "red"), ("fire", "so fire"), ("snow", "a long one"))
]


def test_an_option_is_scored_as_if_the_whole_text_were_read_anew(lm):
    wide = Scheme(0, 1000)
    text = ""
    expected = []
    for item in ITEMS:
        text += f"Question: {item['centerpiece']}\nAnswer:"
        scores = []
        for option in item["options"]:
            ids = lm.encode(f"{text} {option}")
            tail = len(lm.encode(f" {option}"))
            scores.append(float(documents.dense_losses(lm, ids)[-tail:].sum()) / len(option))
        expected.append(scores.index(min(scores)))
        text += f" {item['correct_options_literal'][0]}\n\n"
    assert answers.chosen(lm, ITEMS, wide) == expected
    assert [answers.true(item) for item in ITEMS] == [0, 1, 2]


def test_a_stream_of_questions_is_scored_behind_the_first_ones(lm):
    row = answers.measure(lm, ITEMS, {"cache": 16, "skip": 1})
    assert {len(values) for values in asdict(row).values()} == {2}


def test_timing_arms_take_one_tokens_work(lm):
    ids = drawn(1, 256, 200)
    arms = latency.make_arms(lm, ids, {"caches": [32, 64], "contexts": [48, 96], "recent": 20})
    assert set(arms) == {
        f"{arm}/{n}" for arm, n in [("recompute", 32), ("stream", 32), ("recompute", 64), ("stream", 64)]
    } | {f"{arm}/{n}" for arm in ("dense", "late") for n in (48, 96)}
    assert all(latency.seconds(arm) > 0 for arm in arms.values())
    size = latency.dense_bytes_per_token(lm, ids, 50, 100)
    assert size["measured"] == size["formula"] == 2 * 2 * 2 * 16 * 4


def test_a_step_of_dense_decoding_can_be_repeated(lm):
    ids = drawn(1, 256, 50)
    step = latency.dense_step(lm, ids[:40], ids[40])
    step()
    step()  # a cache that was not cropped would have grown, and transformers would take other positions


@pytest.mark.slow
def test_memory_is_that_of_the_arm_alone():
    config = {"model": "tiny-random-llama", "text": "docstrings", "cache": 64, "context": 100_000}
    row = memory.measure(None, 0, config)
    assert list(row.megabytes) == list(memory.ARMS)
    kept_keys = 100_000 * 2 * 2 * 2 * 16 * 4 / 2**20  # tokens, layers, keys and values, heads, dimensions, bytes
    assert row.megabytes["dense"] - row.megabytes["stream"] > kept_keys / 2
    assert row.megabytes["stream"] < 1.2 * row.megabytes["model"]


# --- the ledger's parts on rows made by hand --------------------------------------------------------------------------

BASE = np.linspace(2.0, 3.0, 20)


def whole(loss, **changed):
    """A document as the paper would have it, in nats over ``loss``."""
    named = {"0": 0.5, "1": 0.1, "2": 0.06, "4": 0.0, "8": -0.01, "dense": -0.1, documents.NEWLINES: 0.02} | changed
    return documents.Row(
        title=str(loss),
        loss={name: loss + extra for name, extra in named.items()},
        recomputed={"recompute": loss - 0.03, "dense": loss, "0": loss + 0.97, "4": loss},
        eviction={"0": [loss] * 6 + [loss + 0.4] * 6, "dense": [loss] * 12, "4": [loss] * 12},
        loss_by_size={},
        before_eviction=0.0,
        continued_verbatim=0.0,
    )


def values(found):
    """{claim.part: value} of evidence."""
    plain = {claim: getattr(one, "parts", one) for claim, one in found.items()}
    every = ((f"{claim}.{part}", one) for claim, parts in plain.items() for part, one in parts.items())
    return {name: one.value for name, one in every if hasattr(one, "value")}


def states(claim_id, one):
    """How the parts of a claim stand on evidence, {part: state}."""
    claim = ledgers.load("streaming_llm").claim(claim_id)
    one = one if isinstance(one, verdicts.Evidence) else verdicts.Evidence(parts=one)
    return {part.name: verdicts.judged_part(claim, part, one).state for part in claim.parts}


def test_parts_of_documents_are_the_ledgers():
    assert values(evidence.schemes([whole(loss) for loss in BASE])) == pytest.approx(
        {
            "C3.window_collapses": np.exp(0.5),
            "C3.at_the_eviction": 0.4,
            "C4.removes_the_excess": 0.97 - 0.9 * 1.0,
            "C5.newlines_as_good": np.exp(0.02),
            "C5.newlines_restore": 0.48 - 0.9 * 0.5,
            "C7.four_are_enough": np.exp(0.01),
            "C7.one_is_not_enough": np.exp(0.1),
            "C7.two_are_not_enough": np.exp(0.06),
            "C8.equals_recomputation": 0.03,
        }
    )


def spread(changed):
    """Twenty documents whose effects differ a little, so that each has an interval."""
    return [whole(loss, **{name: extra + 0.01 * loss for name, extra in changed.items()}) for loss in BASE]


def test_window_attention_that_holds_meets_nothing():
    collapses = evidence.schemes(spread({"0": 0.5}))["C3"]
    holds = evidence.schemes(spread({"0": 0.0}))["C3"]
    assert states("C3", collapses)["window_collapses"] == "met"
    assert states("C3", holds)["window_collapses"] == "not_met"


def test_newlines_judge_only_where_the_middle_of_the_text_fails():
    found = evidence.schemes(spread({documents.NEWLINES: 0.0, "0": 0.5}))["C5"]

    def judged(middle):
        rows = [kept.Row("", {"0": x + 0.5, "4": x, kept.MIDDLE: x + middle + 0.001 * i}) for i, x in enumerate(BASE)]
        nulls = evidence.middle_tokens(rows)["C5"].nulls
        return states("C5", verdicts.Evidence(parts=found, nulls=nulls))

    assert judged(0.45) == {"newlines_as_good": "met", "newlines_restore": "met"}
    assert judged(0.0) == {"newlines_as_good": "void", "newlines_restore": "void"}, "any four tokens do"


def test_parts_of_attention_are_the_ledgers():
    layers = [[0.05, 0.0], [0.05, 0.0], *([[0.4, 0.0]] * 9), [0.2, 0.0]]

    def row(heavy):
        heads = [[0.0] * 4] * 2 + [[0.3] * 4] * 9 + [[0.3] * heavy + [0.1] * (4 - heavy)]
        return attention.Row("", layers, near=[0.5] * 12, far=[0.4] * 12, heads=heads)

    found = evidence.first_token([row(0)] * 20)["C6"]
    assert found["heavy_above"].value == pytest.approx(0.38)
    assert found["light_below"].value == pytest.approx(0.05 / 0.38)
    assert found["at_any_distance"].value == pytest.approx(0.8)
    assert (found["nearly_all_heads"].agree, found["nearly_all_heads"].n) == (20, 20), "nine in ten heads suffice"
    few = [attention.Row("", layers, [0.5] * 12, [0.4] * 12, [[0.0] * 4] * 2 + [[0.3] * 3 + [0.1]] * 10)] * 20
    assert evidence.first_token(few)["C6"]["nearly_all_heads"].agree == 0, "three heads in four do not"


def test_layers_that_cannot_see_the_first_token_are_left_out():
    """Two layers of a sliding window at the bottom and one above, among layers of full attention."""
    layers, heads = [[0.0]] * 2 + [[0.4], [0.0], [0.4]], [[0.0] * 4] * 2 + [[0.4] * 4, [0.0] * 4, [0.4] * 4]
    row = attention.Row("", layers, near=[0.5] * 5, far=[0.0, 0.0, 0.4, 0.0, 0.4], heads=heads)
    found = evidence.first_token([row] * 20)["C6"]
    assert found["heavy_above"].value == pytest.approx(0.4) and found["at_any_distance"].value == pytest.approx(0.8)
    assert found["nearly_all_heads"].agree == 20 and "light_below" not in found
    blind = attention.Row("", [[0.0]] * 5, [0.5] * 5, [0.0] * 5, [[0.0] * 4] * 5)
    assert evidence.first_token([blind] * 20) == {}


def test_an_encoder_without_sep_may_have_another_sink():
    rows = [encoder.Row("", sep=[1.0] * 6, cls=[40.0 + i % 3] * 6) for i in range(20)]
    found = evidence.separator(rows)["C21"]
    assert found["a_token_draws"].value == pytest.approx(40.95, abs=0.1) and found["sep_draws"].value == 1.0


def test_pairs_are_counted_in_the_masks():
    slopes = values(evidence.counted_pairs())
    assert slopes["C12.dense_pairs"] == pytest.approx(2, abs=0.01)
    assert slopes["C12.recompute_pairs"] == pytest.approx(2, abs=0.03)
    assert slopes["C12.window_pairs"] == pytest.approx(slopes["C12.stream_pairs"], abs=1e-3)
    assert 0.9 < slopes["C12.window_pairs"] < 1


def test_a_stream_that_leaves_recomputation_behind_is_no_longer_level():
    at, noise = np.arange(1, 501) * 2000, np.random.default_rng(0).normal(0, 0.1, 500)
    for drift, level, state in ((0.0, 0.0, "met"), (0.5, 0.25, "not_met")):
        found = evidence.long_stream(3 + noise + drift * at / 1e6, np.full(500, 3.0), at, 1_000_000)["C9"]
        assert found["level"].value == pytest.approx(level, abs=0.02)
        assert states("C9", found)["no_drift"] == state
    assert states("C9", found)["full_length"] == "untested"
    assert states("C9", evidence.long_stream(noise, noise, at, 4_000_000)["C9"])["full_length"] == "met"


def test_shards_give_the_losses_of_the_stream_that_was_read_in_one_go():
    """The stored runs: a million tokens in half precision, four in single precision; by pieces of 200,000 tokens."""
    whole, shards = (seals.read(paths.sweep("streaming_llm", name))["curves"] for name in ("stream_1m", "stream_4m"))
    tokens, losses = np.array(whole["tokens"]), np.array(whole["loss"])
    for i, piece in enumerate(np.array_split(shards["loss"][:500], 5)):
        here = (tokens > 200_000 * i) & (tokens <= 200_000 * (i + 1))
        assert losses[here].mean() == pytest.approx(piece.mean(), abs=0.01)


def test_no_sample_of_a_stream_is_left_out():
    at, gap = np.arange(1, 500) * 2000, np.zeros(499)
    for place in (0, -1):
        moved = gap.copy()
        moved[place] = 50.0
        found = evidence.long_stream(moved, gap, at, 1_000_000)["C9"]
        assert found["level"].value != 0 and found["no_drift"].value != 0


def test_a_process_that_grows_is_not_flat():
    draw = np.random.default_rng(0)
    for growth, state in ((0.0, "met"), (0.5, "not_met")):
        resident = 1000 * (1 + growth * np.linspace(0, 1, 200)) + draw.normal(0, 2, 200)
        found = evidence.stream_memory([10] * 200, resident)["C1"]
        assert states("C1", found)["process_memory_flat"] == state
    assert states("C1", evidence.stream_memory([10, 11], resident)["C1"])["stream_memory_constant"] == "not_met"


def test_times_of_steps_become_ratios_and_slopes():
    sizes, rounds = [256, 512, 1024, 2048, 4096], np.linspace(0.99, 1.01, 20)
    seconds = {f"recompute/{size}": size * rounds for size in sizes} | {f"stream/{size}": 50 * rounds for size in sizes}
    seconds |= {f"dense/{size}": (100 + size / 10) * rounds for size in sizes} | {
        f"late/{size}": 60 * rounds for size in sizes
    }
    found = evidence.step_times(seconds, {"measured": 2.0, "formula": 2.0}, sizes)
    assert values(found) == pytest.approx(
        {
            "C1.dense_memory_grows": 1.0,
            "C1.dense_time_grows": (100 + 409.6) / 125.6,
            "C1.stream_time_constant": 1.0,
            "C11.faster_at_4096": 4096 / 50,
            "C12.recompute_slope": 1.0,
            "C12.stream_slope": 0.0,
        },
        abs=1e-9,
    )
    assert found["C11"]["grows_with_cache"].agree == 20
    assert found["C1"].nulls["stream_time_constant"].value == pytest.approx((100 + 409.6) / (100 + 51.2))


def test_memory_is_equal_only_where_dense_attention_takes_more():
    def judged(stream_mb, dense_mb):
        rows = [
            memory.Row({"model": 1000, "recompute": 1100 + i, "stream": stream_mb + i, "dense": dense_mb + i})
            for i in range(5)
        ]
        return states("C11", evidence.step_memory(rows)["C11"])["equal_memory"]

    assert judged(1150, 1800) == "met"
    assert judged(1400, 1800) == "not_met"
    assert judged(1150, 1100) == "void", "the arm that keeps everything takes no more: nothing was weighed"


def facts(near, edge, past, evicted, dense):
    """Forty streams in which each kind of fact is found with the probability given."""
    draw, rows = np.random.default_rng(0), []
    for _ in range(40):
        distance = [40, 100, 150, 220, 230, 240, 300, 350, 500, 600]
        chance = [near] * 3 + [edge] * 3 + [past] * 2 + [evicted] * 2
        streaming, whole = (list(draw.random(10) < p) for p in (np.array(chance), np.full(10, dense)))
        rows.append(recall.Row(distance, [10] * 10, whole, streaming))
    return rows


@pytest.mark.parametrize(
    "shares, expected",
    [
        ((0.9, 0.8, 0.05, 0.05, 0.9), {"found_within": "met", "found_at_the_edge": "met", "lost_beyond": "met"}),
        ((0.9, 0.1, 0.05, 0.05, 0.9), {"found_at_the_edge": "not_met", "lost_beyond": "met"}),
        ((0.9, 0.8, 0.9, 0.05, 0.9), {"lost_past_the_edge": "not_met", "lost_beyond": "met"}),
        ((0.9, 0.8, 0.05, 0.9, 0.9), {"found_within": "met", "lost_past_the_edge": "met", "lost_beyond": "not_met"}),
        ((0.9, 0.8, 0.05, 0.05, 0.05), {"found_within": "open", "found_at_the_edge": "open", "lost_beyond": "open"}),
    ],
)
def test_facts_are_told_by_where_they_lie(shares, expected):
    found = states("C19", evidence.facts(facts(*shares))["C19"])
    assert {part: found[part] for part in expected} == expected


@pytest.mark.parametrize(
    "window, streaming, one, expected",
    [
        (0.30, 0.80, 0.8, {"window_fails": "met", "stream_keeps": "met"}),
        (0.78, 0.80, 0.8, {"window_fails": "not_met", "stream_keeps": "met"}),
        (0.30, 0.40, 0.8, {"window_fails": "met", "stream_keeps": "not_met"}),
        (0.30, 0.32, 0.32, {"window_fails": "open", "stream_keeps": "open"}),  # the question is not read
    ],
)
def test_questions_are_judged_above_what_the_options_give(window, streaming, one, expected):
    draw, rows = np.random.default_rng(1), []
    for _ in range(40):
        shares = {"one_shot": one, "blind": 0.3, "window": window, "streaming": streaming}
        rows.append(answers.Row(**{name: list(draw.random(200) < share) for name, share in shares.items()}))
    assert states("C18", evidence.questions(rows)["C18"]) == expected


def toy(first, sink, streaming):
    """A toy of one seed: attention of idle queries to its first symbols and its sink token, losses by tokens kept."""
    idle = {"sink_tokens": sink, "first_symbols": first, "total": 1.0, "even_share": 0.02}
    return {"streaming": streaming, "idle": idle, "validation": 2.0, "curve": [2.5 - 0.02 * i for i in range(20)]}


def test_dilution_alone_is_no_drawing_less():
    even = {"0": 2.5, "1": 2.0, "2": 2.0, "4": 2.0}

    def judged(beside):
        arms = {
            "vanilla": [toy(0.5 + 0.001 * i, 0.0, even) for i in range(5)],
            "zero sink": [toy(0.5, 0.0, even)] * 5,
            "one sink token": [toy(beside + 0.001 * i, 0.4, even) for i in range(5)],
            "two sink tokens": [toy(0.1, 0.4, even)] * 5,
        }
        return states("C16", evidence.sink_tokens(arms)["C16"])["others_draw_less"]

    assert judged(0.1) == "met"
    assert judged(0.5 * 0.6) == "not_met", "what the sink takes is lost by all in proportion"


def test_all_layers_means_each():
    def decoders(lowest):
        return [{"measured": [{"alpha": [[[lowest], [lowest + 0.001 * i]], [[0.9], [0.7]]]}]} for i in range(5)]

    def judged(fixed, packed):
        return states("C16", evidence.in_all_layers(decoders(fixed), decoders(packed))["C16"])["in_all_layers"]

    assert judged(0.5, 0.05) == "met"
    assert judged(0.1, 0.05) == "not_met", "one layer that draws little is enough"
    assert judged(0.5, 0.5) == "void", "decoders without a token that begins all texts draw as much"
