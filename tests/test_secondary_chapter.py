"""The chapter on secondary sinks as its rerunner meets it: other tiers, models, texts, and mistakes."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from claimbook import paths
from claimbook.errors import ClaimbookError
from claimbook.experiments.secondary_sinks import inputs
from claimbook.lm import corpora, tiny
from claimbook.lm.load import LM
from claimbook.runs import parameters


def claimbook(*words):
    command = [sys.executable, "-m", "claimbook", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=paths.root(), timeout=600)


@pytest.fixture(scope="module")
def lm():
    return LM("tiny", *tiny.build("tiny-random-qwen3"))


def test_no_documents_are_as_many_as_the_tier_has():
    """`documents=0` once gave an IndexError."""
    run = SimpleNamespace(text=inputs.ARTICLES, seed=0, smoke=False)
    assert inputs.settings(run)["n_texts"] == 24 and inputs.settings(run, 3)["n_texts"] == 3
    run.smoke = True
    assert inputs.settings(run)["n_texts"] == 1


def test_beginnings_are_those_of_the_texts_and_another_seed_reads_others(lm, monkeypatch):
    monkeypatch.setattr(type(lm), "trained_context", 2048)
    config = {"text": inputs.ARTICLES, "seed": 0, "skip": 38, "n_texts": 2, "length": 2048}
    whole, short = inputs.texts(lm, config), inputs.texts(lm, config | {"length": 100})
    assert list(whole) == list(short) and len(whole) == 2
    assert all(torch.equal(whole[name][:100], short[name]) for name in whole)
    others = inputs.texts(lm, config | {"seed": 1, "length": 100})
    assert not any(torch.equal(a, b) for a in short.values() for b in others.values())


def test_a_text_of_ones_own_is_cut_and_none_is_skipped(lm, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("a river runs past the mill. " * 40)
    config = {"text": str(file), "seed": 0, "skip": 38, "n_texts": 2, "length": 50}
    assert list(inputs.texts(lm, config)) == ["part 1", "part 2"]
    pieces = len(corpora.own_text(lm, str(file), 50, 99))
    with pytest.raises(ClaimbookError, match=f"makes {pieces} texts of 50 tokens .*-p documents={pieces}"):
        inputs.texts(lm, config | {"n_texts": pieces + 1})


def test_a_trace_is_the_problem_and_what_the_model_writes(lm):
    first, second = inputs.traces(lm, 2, tokens=12)
    start = inputs.prompt(lm, "Find the remainder when 7^2026 + 5^2026 is divided by 36.")
    assert torch.equal(first[: len(start)], start) and len(start) < len(first) <= len(start) + 12
    assert lm.tokenizer.decode(second).startswith("<s>Solve" if len(lm.start) else "Solve")
    with pytest.raises(ClaimbookError, match="there are 30 problems, 31 are asked for"):
        inputs.traces(lm, 31, 5)


def test_a_chat_template_stands_around_the_problem():
    lm = LM("tiny", *tiny.build("tiny-random-qwen3"))
    assert not inputs.has_chat(lm, {"text": inputs.TRACES})
    lm.tokenizer.chat_template = "{% for m in messages %}<user>{{ m['content'] }}</user>{% endfor %}"
    assert lm.tokenizer.decode(inputs.prompt(lm, "one and one")) == "<user>one and one</user>"
    assert inputs.has_chat(lm, {"text": inputs.TRACES}) and not inputs.has_chat(lm, {"text": inputs.ARTICLES})


def test_a_new_machine_fetches_what_a_run_opens_and_no_more():
    values = parameters.defaults("secondary_sinks")
    assert parameters.needed_assets("secondary_sinks", values) == ["smollm2-135m", "wikipedia-excerpt"]


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["smoke", "gpu"])
def test_a_tier_runs_end_to_end_on_a_tiny_model(tier):
    options = ["--tier", tier, "--device", "cpu", "--models", "tiny-random-qwen3", "-p", "documents=2"]
    done = claimbook("rerun", "secondary_sinks", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    pointer = paths.runs() / "secondary_sinks" / "latest"
    result = json.loads((pointer.parent / pointer.read_text().strip() / "result.json").read_text())
    found = {claim: entry["verdict"] for claim, entry in result["claims"].items()}
    if tier == "smoke":
        assert set(found.values()) == {None}
    else:
        assert found["C5"] == "not_tested" and found["C9"] == found["C12"] == found["C8"] == "inconclusive"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--models", "nope"], "unknown model 'nope'"),
        (["-p", "document=3"], "secondary_sinks has no parameter 'document'"),
        (["-p", "documents=-1"], "documents"),
        (["--text", "no-such-file.txt"], "unknown text 'no-such-file.txt'"),
    ],
)
def test_a_mistake_gives_one_line_before_anything_runs(options, line):
    done = claimbook("rerun", "secondary_sinks", *options)
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
