"""What a stored run may speak for: the same model, text, tier, dtype and device, in every chapter and nowhere else."""

from types import SimpleNamespace

import pytest

from claimbook import chapter
from claimbook.experiments.sink_emergence import inputs as emergence
from claimbook.experiments.units import Experiment
from claimbook.runs import stored_runs

MODEL, OTHER, TEXT = "smollm2-135m", "gemma-3-270m", "wikipedia-excerpt"
REFERENCE = {"tier": "cpu", "models": MODEL, "seed": 0, "device": "cpu", "dtype": "float32", "text": ""}
# what a run asks -> does evidence of MODEL in float32, and that in half precision by its own config, speak for it?
ASKED = [
    ({}, True, True),
    ({"tier": "smoke"}, True, True),
    ({"text": TEXT}, True, True),
    ({"dtype": "bfloat16"}, False, True),
    ({"dtype": "float16"}, False, False),
    ({"models": OTHER}, False, False),
    ({"models": "tiny-random-llama"}, False, False),
    ({"text": "kjv"}, False, False),
    ({"tier": "gpu"}, False, False),
]


@pytest.fixture(autouse=True)
def promoted(monkeypatch):
    """Every stored run is there and fresh: freshness is not what is asked here."""
    monkeypatch.setattr(
        stored_runs,
        "load",
        lambda chapter, name: (
            stored_runs.files.read_json(stored_runs.paths.sweep(chapter, name)) | {"freshness": "fresh"}
        ),
    )


def start(name, **asked):
    return chapter.start(name, **REFERENCE | asked)


@pytest.mark.parametrize("asked, plain, half", ASKED, ids=[str(asked) for asked, *_ in ASKED])
def test_streaming_llm(asked, plain, half):
    run = start("streaming_llm", **asked)
    model = asked.get("models", MODEL)
    spoken = {name: run.stored(name, of=model) is not None for name in ("latency", "stream_1m", "beyond")}
    assert spoken == {"latency": plain, "stream_1m": half, "beyond": half}


@pytest.mark.parametrize("asked, plain, half", ASKED, ids=[str(asked) for asked, *_ in ASKED])
def test_rows_are_stored_ones_where_these_speak_for_the_run(asked, plain, half, monkeypatch, capsys):
    run, lm = start("streaming_llm", **asked), SimpleNamespace(name=asked.get("models", MODEL))
    live = Experiment(
        "n", dict, lambda lm, config: {"one": config["n_documents"]}, lambda lm, unit, config: {"n": unit}
    )
    read = {"read": lambda stored: ["stored"]}
    monkeypatch.setattr(stored_runs, "experiment", lambda *name: SimpleNamespace(now=live.now, **read))
    rows = run.rows("documents", lm, n_documents=7)
    assert next(iter(rows)) == lm.name, "the run's own model comes first"
    if lm.name == OTHER:
        assert rows == {OTHER: ["stored"], MODEL: ["stored"]}
        return
    assert rows[lm.name] == (["stored"] if plain else [{"n": 7}]), "measured now, as the reader asked"
    assert (OTHER in rows) == ((half and run.parameters["text"] != "kjv") or lm.name.startswith("tiny"))
    assert run.rows("documents", lm, again={}, n_documents=7) == rows, "what is measured again judges nothing"
    assert len(capsys.readouterr().out.strip().splitlines()) == 1


@pytest.mark.parametrize(("seed", "seeded", "now"), [(0, True, False), (1, True, True), (1, False, False)])
def test_what_was_drawn_with_another_seed_does_not_speak(seed, seeded, now, monkeypatch, capsys):
    run, lm = start("secondary_sinks", seed=seed), SimpleNamespace(name=MODEL)
    live = SimpleNamespace(now=lambda lm, config: [config["seed"]], read=lambda stored: ["stored"])
    monkeypatch.setattr(stored_runs, "experiment", lambda *name: live)
    monkeypatch.setattr(stored_runs, "load", lambda chapter, name: {"config": {}, "freshness": "fresh"})
    monkeypatch.setattr(chapter.paths, "sweep", lambda *name: chapter.paths.root())
    rows = run.rows("texts", lm, again={}, seeded=seeded, seed=seed)
    assert rows == {MODEL: [seed] if now else ["stored"], OTHER: ["stored"]}, "others stand beside it as they are"
    line = capsys.readouterr().out.strip()
    assert line == ("no stored run to compare with" if now else "the live part differs from the stored run by inf")


@pytest.mark.parametrize("asked, plain, half", ASKED, ids=[str(asked) for asked, *_ in ASKED])
def test_sink_emergence(asked, plain, half, monkeypatch):
    run = start("sink_emergence", **asked)
    monkeypatch.setattr(emergence.protocol, "measured", lambda lm, name, key, config: "live")
    monkeypatch.setattr(emergence.real, "sliding", lambda lm: [1])
    model, text = asked.get("models", MODEL), asked.get("text") or TEXT
    lm = SimpleNamespace(name=model, check_length=lambda tokens, what: None)
    found = emergence.experiment(run, lm, "domains", text)
    live = {} if run.smoke else "live"
    assert (found != live) == (plain or model == OTHER)


def test_what_reads_no_text_speaks_whatever_the_text():
    assert start("streaming_llm", text="kjv").speaks("recall", MODEL)
    assert not start("streaming_llm", text="kjv", models=OTHER).speaks("recall", OTHER)


@pytest.mark.parametrize("device, speaks", [("cpu", True), ("cuda", False), ("mps", False)])
def test_numbers_of_one_device_do_not_speak_for_another(device, speaks):
    run = start("streaming_llm")
    run.device = device
    assert run.speaks("documents") is speaks
    assert run.speaks("toys"), "what is trained here is no run of the model"


def test_a_chapter_reads_anothers_stored_run_by_its_full_name():
    run = start("secondary_sinks")
    assert run.stored("streaming_llm/documents")["config"]["model"] == MODEL
    assert run.speaks("streaming_llm/documents", MODEL) and not run.speaks("streaming_llm/documents", OTHER)
    assert run.stored_runs == {"streaming_llm/documents": "fresh"}
