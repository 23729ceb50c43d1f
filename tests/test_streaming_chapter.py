"""The StreamingLLM chapter as its rerunner meets it: other tiers, models, texts, and mistakes."""

import json
import random
import subprocess
import sys

import pytest

from claimbook import paths
from claimbook.errors import ClaimbookError
from claimbook.experiments.streaming_llm import inputs
from claimbook.runs import parameters


def claimbook(*words):
    command = [sys.executable, "-m", "claimbook", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=paths.root(), timeout=600)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A reader's own text."""
    draw, file = random.Random(0), tmp_path_factory.mktemp("text") / "mine.txt"
    words = ["river", "past", "a", "village", "where", "nobody", "knows", "how", "deep", "it", "is"]
    file.write_text(" ".join(draw.choice(words) for _ in range(2000)))
    return str(file)


def test_documents_too_short_for_the_cache_are_refused_before_a_kernel_starts():
    values = parameters.defaults("streaming_llm")
    with pytest.raises(ClaimbookError, match="length=1 is too short for a cache of 256: at least 513 tokens"):
        inputs.check(values | {"length": 1})
    inputs.check(values | {"length": 513})
    inputs.check(values | {"tier": "smoke", "length": 257})


def test_a_new_machine_fetches_what_a_run_opens_and_no_more():
    values = parameters.defaults("streaming_llm")
    assert parameters.needed_assets("streaming_llm", values) == ["smollm2-135m", "wikipedia-excerpt"]
    values |= {"models": "gemma-3-270m", "text": "kjv"}
    assert parameters.needed_assets("streaming_llm", values) == ["gemma-3-270m", "kjv", "wikipedia-excerpt"]


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["smoke", "gpu"])
def test_a_tier_runs_end_to_end_on_a_tiny_model(tier, book, monkeypatch):
    own = ["-p", "documents=1", "-p", "length=2200"] if tier == "gpu" else []
    options = ["--tier", tier, "--device", "cpu", "--models", "tiny-random-llama", "--text", book, *own]
    done = claimbook("rerun", "streaming_llm", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    pointer = paths.runs() / "streaming_llm" / "latest"
    result = json.loads((pointer.parent / pointer.read_text().strip() / "result.json").read_text())
    assert result["tier"] == tier
    assert str(book) not in json.dumps(result), "a reader's folders do not get into a result"
    verdicts = {entry["verdict"] for entry in result["claims"].values()}
    assert (
        verdicts == {None} if tier == "smoke" else verdicts <= {"inconclusive", "not_tested", "contradicted", "partial"}
    )
    if tier == "gpu":
        parts = result["claims"]["C3"]["parts"]["window_collapses"]
        assert parts["n"] == 1
        assert parts["state"] == "open", "one document decides nothing"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--models", "nope"], "unknown model 'nope'"),
        (["-p", "windw=3"], "streaming_llm has no parameter 'windw'"),
        (["-p", "documents=many"], "parameter 'documents' takes a whole number"),
        (["--tier", "big"], "tier 'big' is unknown"),
        (["--text", "no-such-file.txt"], "unknown text 'no-such-file.txt'"),
    ],
)
def test_a_mistake_gives_one_line_before_anything_runs(options, line):
    done = claimbook("rerun", "streaming_llm", *options)
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
