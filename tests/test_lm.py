"""Loading, texts, toys: what a user can get wrong gives one line, and what is computed agrees with plain torch."""

from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments.streaming_llm.measure import attention, documents, toys
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
    assert torch.allclose(documents.dense_losses(half, ids), documents.dense_losses(lm, ids), atol=0.5)
    assert half.model.dtype == torch.bfloat16


# --- texts ------------------------------------------------------------------------------------------------------------


def test_a_text_begins_as_its_tokenizer_begins_it(lm, prose, tmp_path):
    class WithBos:
        def __call__(self, text, add_special_tokens=True, **options):
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
    assert [(int(part.ids[0]), len(part.ids)) for part in corpora.own_text(begun, str(file), 101, 9)] == [(7, 101)] * 3
    assert attention.mean_map(lm, [first.ids], 16, 4).shape[1:] == (16, 16)


def test_a_piece_gets_no_space_that_a_tokenizer_begins_every_text_with(lm):
    """As Llama-2's does: a line break alone would be two tokens, and a word in the middle would stand off."""
    core = Tokenizer(models.BPE(vocab={one: i for i, one in enumerate("▁ab\n")}, merges=[]))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    begins = replace(lm, tokenizer=PreTrainedTokenizerFast(tokenizer_object=core))
    assert begins.document("a b").tolist() == [0, 1, 0, 2], "a whole text begins as it was trained to"
    assert begins.encode("ab").tolist() == [1, 2] and begins.encode(" a").tolist() == [0, 1]
    assert begins.single("\n") == 3 and len(begins.start) == 0
    assert lm.encode("\na").tolist() == lm.document("\na").tolist()


@pytest.mark.parametrize("special", ["", "<s> "])
def test_a_vocabulary_of_words_begins_a_text_too(lm, special):
    core = Tokenizer(models.BPE(vocab={"<s>": 0, "b": 1, "c": 2}, merges=[]))
    core.post_processor = processors.TemplateProcessing(single=f"{special}$A <s>", special_tokens=[("<s>", 0)])
    words = replace(lm, tokenizer=PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="<s>"))
    assert words.encode("a").tolist() == []
    assert words.start.tolist() == [0] * bool(special)
    nothing = Tokenizer(models.BPE(vocab={"<s>": 0}, merges=[]))
    with pytest.raises(ClaimbookError, match="turns no text into tokens"):
        _ = replace(lm, tokenizer=PreTrainedTokenizerFast(tokenizer_object=nothing, bos_token="<s>")).start


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
    assert [len(part.ids) for part in corpora.own_text(lm, str(file), 120, 9)] == [120, 120]
    with pytest.raises(ClaimbookError, match="has 300 tokens for tiny-random-llama: at least 400 are needed"):
        corpora.own_text(lm, str(file), 400, 9)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClaimbookError, match="cannot be read as UTF-8"):
        corpora.own_text(lm, str(file), 10, 9)
    file.write_bytes(b"\xef\xbb\xbf" + b"abc" * 10)
    (part,) = corpora.own_text(lm, str(file), 10, 1)
    assert lm.tokenizer.decode(part.ids) == "abcabcabca", "a byte-order mark is no part of a text"


def test_no_more_of_a_text_is_tokenised_than_is_asked_for(lm, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("".join(f"line {i}\n" for i in range(100_000)))
    read, whole = [], corpora.own_text(lm, str(file), 50, 100_000)
    noting = replace(lm, tokenizer=lambda text, **options: read.append(len(text)) or lm.tokenizer(text, **options))
    few = corpora.own_text(noting, str(file), 50, 3)
    assert [(one.title, one.ids.tolist()) for one in few] == [(one.title, one.ids.tolist()) for one in whole[:3]]
    assert max(read) <= 16 * 150
    scarce = replace(lm, tokenizer=lambda text, **options: lm.tokenizer(text[::40], **options))  # of long tokens
    assert [len(one.ids) for one in corpora.own_text(scarce, str(file), 50, 3)] == [50] * 3


def test_a_control_token_in_a_text_is_text(lm, tmp_path):
    """Its name means nothing there: else whoever writes it could begin a text anew in the middle."""
    file = tmp_path / "mine.txt"
    file.write_text("a<s> b</s>c" * 4)
    assert 0 in lm.encode("a<s> b").tolist(), "the book's own texts are read as their trainers read them"
    (part,) = corpora.own_text(lm, str(file), 20, 1)
    assert 0 not in part.ids.tolist()
    assert lm.tokenizer.decode(part.ids).startswith("a<s> b</s>ca<s> b")
    assert 0 in lm.encode("a<s> b").tolist(), "reading one text changes no other"


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
