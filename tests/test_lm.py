"""Loading, texts, toys: what a user can get wrong gives one line, and what is computed agrees with plain torch."""

import random

import numpy as np
import pytest
import torch

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments.streaming_llm import attention, beyond, latency, live, parts, recall, stream, toys
from claimbook.experiments.streaming_llm import documents as whole
from claimbook.lm import corpora, tiny, toy
from claimbook.lm.load import load

pytestmark = pytest.mark.numeric


def drawn(low, high, *shape):
    """Random ids, the same in every run."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def lm():
    return load("tiny-random-llama", "cpu")


@pytest.fixture
def prose(monkeypatch):
    """Three articles in place of the text assets."""
    texts = [{"title": f"article {i}", "text": f"word {i} " * count} for i, count in enumerate((10, 300, 500))]
    monkeypatch.setattr(catalogue, "texts", lambda key: texts)


# --- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("nope", {}, "model 'nope' is not known: give one of smollm2-135m"),
        ("tiny-random-nope", {}, "no tiny architecture 'nope': choose from llama"),
        ("tiny-random-llama", {"dtype": "float8"}, "dtype 'float8' is unknown: choose from float32"),
        ("tiny-random-llama", {"device": "tpu"}, "device 'tpu' is not available here: use auto or one of"),
    ],
)
def test_bad_names_give_one_line(name, options, line):
    with pytest.raises(ClaimbookError, match=line) as caught:
        load(name, **options)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_gives_one_line(monkeypatch):
    def refuse(*args, **options):
        raise OSError("We couldn't connect\nto the hub")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    with pytest.raises(ClaimbookError, match=r"model 'owner/name' could not be loaded from the hub .*network"):
        load("owner/name")


def test_a_local_folder_loads_what_was_saved_there(tmp_path, lm):
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    again, ids = load(str(tmp_path), "cpu"), lm.encode("the same words")
    assert torch.equal(again.encode("the same words"), ids)
    assert torch.equal(again.model(ids[None]).logits, lm.model(ids[None]).logits)


def test_tiny_models_are_the_same_every_time_and_leave_the_seed_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again = (tiny.build("tiny-random-qwen3")[0] for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_half_precision_gives_about_the_same_losses(lm):
    ids = lm.encode("a text of some length, " * 8)
    half = load("tiny-random-llama", "cpu", "bfloat16")
    assert torch.allclose(whole.dense_losses(half, ids), whole.dense_losses(lm, ids), atol=0.5)
    assert half.model.dtype == torch.bfloat16


# --- texts ------------------------------------------------------------------------------------------------------------


def test_a_text_begins_as_its_tokenizer_begins_it(lm, prose, tmp_path):
    from dataclasses import replace

    class WithBos:
        def __call__(self, text, add_special_tokens=True, verbose=True):
            found = lm.tokenizer(text, add_special_tokens=False)
            found["input_ids"] = [7] * add_special_tokens + found["input_ids"]
            return found

    assert len(lm.start) == 0
    begun = replace(lm, tokenizer=WithBos())
    assert begun.start.tolist() == [7]
    assert begun.document("ab").tolist() == [7, *lm.encode("ab").tolist()]
    (first, second) = corpora.documents(begun, "any", 2000)
    assert first.ids[0] == second.ids[0] == 7 and len(first.ids) == 2000
    file = tmp_path / "mine.txt"
    file.write_text("abc" * 100)
    assert [(int(part.ids[0]), len(part.ids)) for part in corpora.own_text(begun, str(file), 101)] == [(7, 101)] * 3
    assert attention.mean_map(lm, [first.ids], 16, 4).shape[1:] == (16, 16)


def test_documents_are_whole_texts_cut_to_length(lm, prose):
    found = corpora.documents(lm, "any", 2000)
    assert [document.title for document in found] == ["article 1", "article 2"]
    assert all(len(document.ids) == 2000 for document in found)
    with pytest.raises(ClaimbookError, match="'any' has 2 documents of 2000 tokens for tiny-random-llama, 3 are asked"):
        corpora.documents(lm, "any", 2000, 3)


def test_joined_texts_are_whole_documents_filled_up_with_others(lm, prose):
    found = corpora.joined(lm, "any", 2000, 2150, 2)
    assert [document.title for document in found] == ["article 1", "article 2"]
    assert [len(document.ids) for document in found] == [2150, 2150]
    assert lm.tokenizer.decode(found[0].ids[2096:2110]) == "d 1 word 0 wor", "the short article fills the gap"
    with pytest.raises(ClaimbookError, match="'any' is too short for 2 texts of 3000 tokens"):
        corpora.joined(lm, "any", 2000, 3000, 2)  # the filler is used up
    with pytest.raises(ClaimbookError, match="'any' has 1 documents of 3000 tokens for tiny-random-llama, 2 are asked"):
        corpora.joined(lm, "any", 3000, 3400, 2)


def test_a_stream_is_documents_end_to_end(lm, prose):
    ids, starts = corpora.concatenated(lm, ["any"], 100)
    assert starts == [(0, "article 0"), (70, "article 1")]
    assert lm.tokenizer.decode(ids[70:76]) == "word 1"
    with pytest.raises(ClaimbookError, match="fewer than the 100,000 asked for"):
        corpora.concatenated(lm, ["any"], 100_000)


def test_own_text(lm, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("abc" * 100)
    assert [len(part.ids) for part in corpora.own_text(lm, str(file), 120)] == [120, 120]
    with pytest.raises(ClaimbookError, match="has 300 tokens for tiny-random-llama: at least 400 are needed"):
        corpora.own_text(lm, str(file), 400)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClaimbookError, match="cannot be read as UTF-8"):
        corpora.own_text(lm, str(file), 10)


def test_verbatim_continuation_is_found_and_not_imagined(lm, monkeypatch):
    ids = drawn(1, 256, 300)
    assert corpora.continued_verbatim(lm, ids) == 0
    monkeypatch.setattr(corpora, "logits", lambda model, hidden: torch.eye(320)[memorised[:, -10:]])
    starts = torch.linspace(0, 240, 8).long()
    memorised = torch.stack([ids[s : s + 60] for s in starts.tolist()])
    assert corpora.continued_verbatim(lm, ids) == 1
    memorised[:3, -10:] += 1  # none of their tokens is right
    memorised[3, -1] += 1  # one word is another: not word for word
    assert corpora.continued_verbatim(lm, ids) == 4 / 8


# --- experiments ------------------------------------------------------------------------------------------------------


def test_a_document_is_measured_on_identical_targets(lm, prose):
    (document, _) = corpora.documents(lm, "any", 400)
    config = {"cache": 64, "sinks": [0, 4], "sizes": [32, 64], "n_recompute": 4, "bin": 4}
    row = whole.measure(lm, document, config, seed=1)
    assert set(row["loss"]) == {"dense", "0", "4", whole.NEWLINES}
    assert row["loss_by_size"]["64"] == row["loss"]["4"]
    assert row["before_eviction"] < 1e-4, "window and streaming are the same before anything is evicted"
    assert all(len(bins) == 12 for bins in row["eviction"].values())
    assert row == whole.measure(lm, document, config, seed=1)
    assert row["recomputed"] != whole.measure(lm, document, config, seed=2)["recomputed"]


def test_past_the_window_both_schemes_are_scored_on_the_same_targets(lm, monkeypatch):
    context = 64
    monkeypatch.setattr(lm.model.config, "max_position_embeddings", context)
    config = {
        "windows": 2,
        "margin": context // 4,
        "warm_up": context // 4,
        "bin": 8,
        "sinks": 4,
        "recent": 2 * context,
    }
    ids = drawn(1, 256, beyond.length(lm, config))
    found = beyond.measure(lm, ids, config)
    loss = whole.dense_losses(lm, ids)[context - config["margin"] :].view(-1, 8).mean(dim=1)
    assert found["dense"] == pytest.approx(loss.tolist(), abs=1e-4)
    assert len(found["streaming"]) == len(found["dense"]) == (context + config["margin"]) // 8
    tail = whole.dense_losses(lm, ids[context - 2 * config["margin"] :])[config["margin"] :].view(-1, 8).mean(dim=1)
    assert found["streaming"] == pytest.approx(tail.tolist(), abs=1e-4), "a cache that holds all is dense attention"


def test_parts_of_documents_are_the_ledgers():
    """Twenty documents whose losses are known: every part of C3, C4, C5, C7, C8, C13 comes out as it was put in."""
    base = np.linspace(2.0, 3.0, 20)

    def row(loss):
        named = {"0": 0.5, "1": 0.1, "2": 0.0, "4": 0.0, "8": -0.01, "dense": -0.1, whole.NEWLINES: 0.02}
        return {
            "loss": {name: loss + extra for name, extra in named.items()},
            "recomputed": {"recompute": loss - 0.03, "dense": loss, "0": loss + 0.97, "4": loss},
            "eviction": {"0": [loss] * 6 + [loss + 0.4] * 6, "dense": [loss] * 12, "4": [loss] * 12},
            "loss_by_size": {"256": loss, "512": loss - 0.05, "1024": loss - 0.15},
        }

    found = {
        f"{claim}.{part}": round(estimate.value, 3)
        for claim, measured in parts.documents([row(loss) for loss in base]).items()
        for part, estimate in measured.items()
    }
    assert found == {
        "C3.window_collapses": round(np.exp(0.5), 3),
        "C3.at_the_eviction": 0.4,
        "C4.removes_the_excess": round(0.97 - 0.9 * 1.0, 3),
        "C5.newlines_as_good": round(np.exp(0.02), 3),
        "C5.newlines_restore": round(0.48 - 0.9 * 0.5, 3),
        "C7.four_are_enough": round(np.exp(0.01), 3),
        "C7.one_is_not_enough": round(np.exp(0.1), 3),
        "C8.equals_recomputation": 0.03,
        "C13.largest_is_worse": round(np.exp(-0.1), 3),
    }


def test_parts_of_attention_are_the_ledgers():
    layers = [[0.05, 0.0], [0.05, 0.0], *([[0.4, 0.0]] * 9), [0.2, 0.0]]
    row = {"to_first_keys": layers, "near": [0.5] * 12, "far": [0.4] * 12}
    found = parts.attention([row] * 20)["C6"]
    assert found["heavy_above"].value == pytest.approx(0.38)
    assert found["light_below"].value == pytest.approx(0.05 / 0.38)
    assert found["at_any_distance"].value == pytest.approx(0.8)
    assert (found["nearly_all_layers"].agree, found["nearly_all_layers"].n) == (20, 20), "nine of ten layers suffice"


def test_pairs_are_counted_in_the_masks():
    slopes = {name: exact.value for name, exact in live.pair_slopes().items()}
    assert slopes["dense"] == pytest.approx(2, abs=0.01) and slopes["recompute"] == pytest.approx(2, abs=0.03)
    assert slopes["window"] == pytest.approx(slopes["stream"], abs=1e-3) and 0.9 < slopes["window"] < 1


def test_bins_meet_at_the_first_affected_target():
    curve = torch.arange(1.0, 400.0)  # the loss at text position t is t
    bins = whole.binned(curve, cache=64, width=4, reach=2)
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


def test_recall_asks_for_what_was_said():
    words = WordTokenizer()
    config = {"n_lines": 80, "first_query": 40, "query_every": 2, "distances": [2, 6, 30, 40]}
    ids, queries = recall.make_stream(words, config, random.Random(0))
    names = list(words.table)
    assert len(queries) == 20
    assert len({query["line"] for query in queries}) == 20, "an answer states its fact anew: no line is asked twice"
    for query in queries:
        assert ids[query["fact"]] == query["candidates"][0] == ids[query["at"] + 1]
        assert names[ids[query["at"]]] == "is"
        assert len(set(query["candidates"])) == 10
        last_stated = {int(word): at for at, word in enumerate(ids[: query["at"]])}
        spread = [last_stated[word] for word in query["candidates"]]
        assert max(spread) - min(spread) < 200, "no answer has brought a candidate nearer"
        asked, stated = names[ids[query["at"] - 1]], names[ids[query["fact"] - 2]]
        assert asked == stated, "the line asked for is the line that holds the word"


def test_recall_needs_names_of_one_token():
    class Letters(WordTokenizer):
        def encode(self, text):
            return torch.tensor([ord(letter) for letter in text])

    config = {"n_lines": 80}
    assert recall.possible(WordTokenizer(), config)
    assert not recall.possible(Letters(), config)
    assert not recall.possible(WordTokenizer(), {"n_lines": 1000})


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


def test_live_prefix_is_compared_with_the_stored_one():
    stored = {"loss": {"a": 2.0, "b": 3.0}, "curve": [1.0, 2.0, 3.0]}
    assert live.agreement({"loss": {"a": 2.0001}, "curve": [1.0, 2.0]}, stored) == "the live part equals the stored run"
    assert live.agreement({"curve": [1.0, 2.1]}, stored) == "the live part differs by 0.05"
    assert live.agreement({"curve": [1.0]}, None) == "no stored run to compare with"


# --- toys -------------------------------------------------------------------------------------------------------------


def test_the_language_copies_after_a_trigger():
    ids = toy.Backcopy().sample(64, 50, torch.Generator().manual_seed(0))
    triggered = ids[:, 1:-1] < toy.TRIGGERS
    assert triggered.any()
    assert torch.equal(ids[:, 2:][triggered], ids[:, :-2][triggered])


@pytest.mark.parametrize("options", toys.ARMS.values(), ids=toys.ARMS)
def test_a_toy_with_a_large_cache_is_dense(options):
    torch.manual_seed(0)
    model = toy.Toy(toy.Arm(**options), 40)
    ids = drawn(0, 40, 2, 30)
    assert torch.allclose(model(ids)[0], model(ids, (4, 40))[0], atol=1e-5)
    assert not torch.allclose(model(ids)[0], model(ids, (2, 8))[0], atol=1e-3)


def test_toy_attention_rows():
    ids = drawn(0, 40, 2, 30)
    torch.manual_seed(0)
    _, strict = toy.Toy(toy.Arm(), 40)(ids)
    assert torch.allclose(strict.sum(-1)[:, 1:], torch.ones(2, 29), atol=1e-5)
    assert strict.diagonal(dim1=1, dim2=2).abs().max() == 0, "a strict query does not see itself"
    _, zero = toy.Toy(toy.Arm(zero_sink=True), 40)(ids)
    assert (zero.sum(-1) < 1).all(), "the zero sink takes a share"
    _, two = toy.Toy(toy.Arm(sink_tokens=2), 40)(ids)
    assert two.shape == (2, 30, 32)


def test_training_is_deterministic_and_a_prefix_is_a_prefix():
    arm = toy.Arm(width=16, batch=4, length=16, steps=6)
    _, first = toy.train(arm, toy.Backcopy(), seed=1)
    _, again = toy.train(arm, toy.Backcopy(), seed=1)
    _, short = toy.train(toy.Arm(width=16, batch=4, length=16, steps=3), toy.Backcopy(), seed=1)
    assert first == again
    assert short == first[:3]
    assert first != toy.train(arm, toy.Backcopy(), seed=2)[1]
