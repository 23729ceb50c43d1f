"""The chapter on attention calibration as its rerunner meets it: other tiers, models, items, and mistakes."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from claimbook import paths
from claimbook.experiments.attention_calibration import evidence, inputs, own_files, stored
from claimbook.lm import tiny
from claimbook.lm.load import LM
from claimbook.papers import attention_calibration as method
from claimbook.runs import parameters


def claimbook(*words):
    command = [sys.executable, "-m", "claimbook", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=paths.root(), timeout=600)


@pytest.fixture(scope="module")
def lm():
    """Of five layers: the two lowest and the last are never calibrated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.CONFIGS, "llama", tiny.CONFIGS["llama"] | {"num_hidden_layers": 5})
        return LM("tiny", *tiny.build("tiny-random-llama"))


def run(tier, **own):
    return SimpleNamespace(chapter="attention_calibration", tier=tier, smoke=tier == "smoke", seed=0, parameters=own)


def test_a_new_machine_fetches_what_a_run_opens_and_no_more():
    values = parameters.defaults("attention_calibration")
    needed = parameters.needed_assets("attention_calibration", values)
    assert needed == ["smollm2-135m", "trivia", "tweets", "wikipedia-excerpt"]


def test_a_model_of_the_papers_is_run_with_the_authors_heads(lm, monkeypatch):
    monkeypatch.setattr(inputs, "published", lambda model, labels: [[2, 0]] if labels else [[2, 1], [3, 1]])
    monkeypatch.setitem(inputs.LIVE, "gpu", inputs.LIVE["gpu"] | {"tasks": ["counting", "sentiment"]})
    rows = inputs.live_arms(run("gpu", questions=3), lm)
    heads = {row.task: row.heads for row in rows if row.arm == "top"}
    assert heads == {"counting": [[2, 1], [3, 1]], "sentiment": [[2, 0]]}
    assert all(len(row.gold) == 3 for row in rows) and all(row.prior for row in rows if row.arm in ("vanilla", "top"))
    assert evidence.arms(rows)["C17"].parts["on_labels"] is not None


def test_another_model_chooses_as_large_a_share_of_its_heads(lm):
    assert inputs.sixth(SimpleNamespace(layers=30, model=configured(9))) == 40
    assert inputs.sixth(SimpleNamespace(layers=18, model=configured(4))) == 10
    assert inputs.sixth(lm) >= 1


def configured(heads):
    config = SimpleNamespace(num_attention_heads=heads)
    return SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config))


def test_variants_stand_beside_the_arms_of_the_same_items(monkeypatch):
    rows = [SimpleNamespace(task=task, split=split, arm="top") for task in ("trivia", "arc_easy") for split in (0, 1)]
    frozen = SimpleNamespace(task="trivia", split=0, arm="frozen")
    monkeypatch.setattr(inputs, "rows", lambda run, kind: {"smollm2-135m": [frozen]})
    found = inputs.varied_rows(None, {"smollm2-135m": rows, "another": rows})
    assert found == {"smollm2-135m": [rows[0], frozen]}


def test_prompts_are_measured_again_in_the_stored_order(monkeypatch):
    asked = {}
    monkeypatch.setattr(inputs, "there", list)
    reads = SimpleNamespace(
        smoke=False,
        text="",
        parameters={"questions": 0},
        rows=lambda name, lm, again, **live: asked.update(live | again),
    )
    inputs.prompts(reads, None)
    assert asked["tasks"] == stored.STORED["sinks"].config["tasks"] and asked["prompts"] == inputs.AGAIN


def test_own_items_are_halved(lm):
    rows = inputs.own_rows(run("cpu", items=""), lm)
    assert {row.arm for row in rows} == {"vanilla", "top", "random_0"}
    half = len(inputs.tasks.usable(lm, own_files.task(rows[0].task))) // 2
    assert all(len(row.gold) == half for row in rows)


def test_calibrating_changes_no_weight(lm):
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    rule = method.Rule(method.calibrated_layers(lm.layers, lm.model.config.num_attention_heads), alpha=0.5)
    with method.calibrated(lm.model, rule) as tally:
        lm.model(lm.document("one two three four five six seven")[None], use_cache=False)
    assert tally.sinks > 0
    assert all((value == before[name]).all() for name, value in lm.model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["smoke", "gpu"])
def test_a_tier_runs_end_to_end_on_a_tiny_model(tier):
    options = ["--tier", tier, "--device", "cpu", "--models", "tiny-random-llama", "-p", "questions=4"]
    done = claimbook("rerun", "attention_calibration", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    pointer = paths.runs() / "attention_calibration" / "latest"
    result = json.loads((pointer.parent / pointer.read_text().strip() / "result.json").read_text())
    found = {claim: entry["verdict"] for claim, entry in result["claims"].items()}
    if tier == "smoke":
        assert set(found.values()) == {None}
    else:
        assert found["C5"] == found["C3"] == "not_tested" and found["C4"] == "inconclusive"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--models", "nope"], "unknown model 'nope'"),
        (["-p", "question=3"], "attention_calibration has no parameter 'question'"),
        (["-p", "questions=-1"], "questions must be a number from 0 to 10^9, not -1"),
        (["-p", "items=no-such-file.csv"], "no file 'no-such-file.csv': give a CSV or JSON file"),
        (["--models", "smollm2-135m,gemma-3-270m"], "one model at a time"),
    ],
)
def test_a_mistake_gives_one_line_before_anything_runs(options, line):
    done = claimbook("rerun", "attention_calibration", *options)
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
