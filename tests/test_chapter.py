"""The object a notebook holds: what it takes, what it refuses, what it writes."""

import json

import numpy as np
import pytest

from claimbook import chapter, files, paths, stats
from claimbook.assets import local
from claimbook.claims import ledgers, verdicts
from claimbook.display import tables
from claimbook.errors import ClaimbookError
from claimbook.runs import parameters, stored_runs
from conftest import CHAPTER, edit

REFERENCE = {"tier": "cpu", "models": "", "seed": 0, "device": "auto", "dtype": "float32", "text": ""}
MODELS = "smollm2-135m,gemma-3-270m"


def start(**other):
    return chapter.start(CHAPTER, **(REFERENCE | other))


def spread(value=2.0):
    """An estimate near ``value`` that is precise enough."""
    return stats.mean(value + np.linspace(-0.1, 0.1, 40), unit="seeds")


def judge_all(run, value=2.0):
    run.measure("C1", "halved", spread(value))
    run.measure("C2", "variance", stats.Exact(0.125))
    for claim_id in ("C1", "C2", "C3"):
        run.judge(claim_id)
    return run


def finished(run):
    run.finish()
    return json.loads((chapter.run_folder(CHAPTER) / "result.json").read_text())


def test_claim_cells_print_one_stable_line_each(book, capsys):
    judge_all(start())
    assert capsys.readouterr().out.splitlines() == [
        "coin_flips.C1 · reproduced · toy",
        "coin_flips.C2 · reproduced · exact",
        "coin_flips.C3 · not tested (needs_gpu) · —",
    ]


def test_a_smoke_run_prints_and_stores_no_verdict(book, capsys):
    result = finished(judge_all(start(tier="smoke")))
    assert capsys.readouterr().out.splitlines()[0] == "coin_flips.C1 · smoke run, no verdict"
    assert {entry["verdict"] for entry in result["claims"].values()} == {None}
    assert all(not entry["parts"] for entry in result["claims"].values())


def test_the_result_lands_in_the_runs_folder_and_nowhere_else(book, monkeypatch, tmp_path):
    before = sorted(path for path in (book / "data").rglob("*"))
    finished(judge_all(start()))
    assert (book / "_runs" / CHAPTER / "lab" / "result.json").exists()
    monkeypatch.setenv("CLAIMBOOK_RUN_DIR", str(tmp_path / "elsewhere"))
    assert finished(judge_all(start()))["claims"]["C1"]["verdict"] == "reproduced"
    assert (tmp_path / "elsewhere" / "result.json").exists()
    assert sorted(path for path in (book / "data").rglob("*")) == before


def test_the_verdict_follows_the_measurement(book):
    assert finished(judge_all(start(), value=4.0))["claims"]["C1"]["verdict"] == "not_transferred"


PRECONDITION = """    preconditions:
      fair: {quantity: "share of heads", type: equivalent, target: 0.5, margin: 0.1, precision: {min_n: 20}, why: "w"}
"""


def test_a_part_whose_precondition_failed_is_open(book):
    ledger = paths.ledger(CHAPTER)
    edit(
        ledger,
        "    parts:\n      - name: halved",
        f"{PRECONDITION}    parts:\n      - name: halved\n        needs: fair",
    )
    heads = {fair: stats.mean(heads + np.linspace(-0.01, 0.01, 40)).of("coins") for fair, heads in ((1, 0.5), (0, 0.9))}

    def judged(*found):
        run = start()
        run.measure("C1", "halved", spread().of("coins"))
        for one in found:
            run.precondition("C1", "fair", one)
        run.judge("C1")
        return run

    assert "(only if share of heads = 0.5 ± 0.1)" in str(start().table())
    assert judged(heads[True]).judged["C1"]["verdict"] == "reproduced"
    entry = judged(heads[False]).judged["C1"]
    assert (entry["verdict"], entry["detail"]) == ("inconclusive", "precondition failed")
    assert entry["parts"]["halved"]["estimate"] == pytest.approx(2.0), "it is shown all the same"
    assert judged().judged["C1"]["parts"]["halved"]["state"] == "untested"
    with pytest.raises(ClaimbookError, match="C2 has no precondition 'fair', it has none"):
        start().precondition("C2", "fair", heads[True])
    with pytest.raises(ClaimbookError, match="was judged already: measure before"):
        judged(heads[True]).precondition("C1", "fair", heads[True])
    with pytest.raises(ClaimbookError, match="precondition 'fair' was measured already"):
        judged(heads[True], heads[True])


def test_a_null_that_is_met_voids_the_part(book):
    edit(paths.ledger(CHAPTER), "null: 1.0", "null: measured, ceiling: measured")

    def judged(value, **controls):
        run = start()
        run.measure("C1", "halved", spread(value))
        for name, found in controls.items():
            getattr(run, name)("C1", "halved", spread(found))
        run.judge("C1")
        return run

    assert judged(2.0, null=1.0).judged["C1"]["verdict"] == "reproduced"
    void = judged(2.0, null=2.0)
    assert void.state("C1", "halved") == void.judged["C1"]["parts"]["halved"]["state"] == "void"
    assert void.judged["C1"]["detail"] == "its controls fail"
    assert void.judged["C1"]["parts"]["halved"]["null"]["estimate"] == pytest.approx(2.0)
    assert judged(2.0).judged["C1"]["parts"]["halved"]["state"] == "untested", "its null was not measured"
    assert judged(4.0, ceiling=2.0).judged["C1"]["verdict"] == "not_transferred"
    assert judged(4.0, ceiling=4.0).judged["C1"]["parts"]["halved"]["state"] == "void"
    with pytest.raises(
        ClaimbookError, match="C2: the ledger does not ask for a null of part variance: write `controls:"
    ):
        start().null("C2", "variance", stats.Exact(0.5))


def test_unmeasured_parts_never_pass(book):
    run = start()
    for claim_id in ("C1", "C2", "C3"):
        run.judge(claim_id)
    given = [entry["verdict"] for entry in finished(run)["claims"].values()]
    assert given == ["inconclusive", "inconclusive", "not_tested"]


def test_what_was_not_judged_is_named_unless_the_ledger_excuses_it(book):
    run = start()
    with pytest.raises(ClaimbookError, match="not judged: C1, C2;"):
        run.finish()
    run.judge("C1")
    run.judge("C2")
    assert finished(run)["claims"]["C3"]["verdict"] == "not_tested"


@pytest.mark.parametrize(
    "claim, part, measurement, said",
    [
        ("C9", "halved", spread(), "no claim 'C9'"),
        ("C1", "doubled", spread(), "no part 'doubled'"),
        ("C1", "halved", stats.Exact(2.0), "takes Estimate, not Exact"),
        ("C2", "variance", spread(), "takes Exact, not Estimate"),
        ("C3", "anything", spread(), "no part 'anything'"),
    ],
)
def test_wrong_measurements_are_refused_where_they_are_made(book, claim, part, measurement, said):
    with pytest.raises(ClaimbookError, match=said):
        start().measure(claim, part, measurement)


def test_twice_and_too_late_are_refused(book):
    run = judge_all(start())
    with pytest.raises(ClaimbookError, match="judged already: measure before"):
        run.measure("C1", "halved", spread())
    with pytest.raises(ClaimbookError, match="was judged already"):
        run.judge("C1")
    run = start()
    run.measure("C1", "halved", spread())
    with pytest.raises(ClaimbookError, match="'halved' was measured already"):
        run.measure("C1", "halved", spread())


def test_deviations_come_from_the_ledger(book):
    claims = finished(judge_all(start()))["claims"]
    assert claims["C1"]["deviations"] == ["uniform draws, where the paper has its own data"]
    assert claims["C2"]["deviations"] == []


# --- several models ----------------------------------------------------------------------------------------------


@pytest.fixture
def two_models(book):
    edit(paths.ledger(CHAPTER), "models: []", "models: [smollm2-135m, gemma-3-270m]")
    edit(paths.ledger(CHAPTER), "    weight: 2", "    decided_by: gemma-3-270m\n    weight: 2")
    return book


def test_the_ledgers_model_decides_and_the_others_stand_beside(two_models, capsys):
    run = start(models=MODELS, device="cpu")
    run.measure("C1", "halved", spread(4.0), model="smollm2-135m")
    run.measure("C1", "halved", spread(2.0), model="gemma-3-270m")
    run.measure("C2", "variance", stats.Exact(0.125))
    run.judge("C1")
    run.judge("C2")
    entry = finished(run)["claims"]["C1"]
    assert (entry["model"], entry["verdict"]) == ("gemma-3-270m", "reproduced")
    assert entry["others"]["smollm2-135m"]["verdict"] == "not_transferred"
    assert entry["holds_in"] == "holds in 1 of 2 models"
    assert capsys.readouterr().out.splitlines()[0] == "coin_flips.C1 · reproduced · toy"


def test_without_the_ledgers_model_the_runs_first_decides(two_models):
    run = start(models="tiny-random-llama", device="cpu")
    assert run.decides(ledgers.load(CHAPTER).claim("C1")) == "tiny-random-llama"
    run.measure("C1", "halved", spread(), model="gemma-3-270m")  # of a stored run; it stands beside
    with pytest.raises(ClaimbookError, match=r"'nope' is no model of this run or its ledger \(gemma-3-270m, smollm2"):
        run.measure("C1", "halved", spread(), model="nope")


@pytest.mark.parametrize(
    ("models", "model", "verdict"),
    [("smollm2-135m", "gemma-3-270m", "reproduced"), ("tiny-random-llama", "tiny-random-llama", "inconclusive")],
)
def test_what_the_first_model_lacks_another_decides_in_its_run_alone(two_models, models, model, verdict):
    run = start(models=models, device="cpu")
    run.measure("C1", "halved", spread(2.0), model="gemma-3-270m")  # of a stored run
    run.measure("C2", "variance", stats.Exact(0.125))
    run.judge("C1")
    run.judge("C2")
    entry = finished(run)["claims"]["C1"]
    assert (entry["model"], entry["verdict"]) == (model, verdict)


def test_at_the_gpu_tier_only_the_papers_own_models_are_exact(two_models):
    own = start(tier="gpu", models="smollm2-135m", device="cpu", papers=("smollm2-135m",))
    other = start(tier="gpu", models="tiny-random-llama", device="cpu", papers=("smollm2-135m",))
    assert own.exact and not other.exact
    assert start(models="tiny-random-llama", device="cpu", papers=("smollm2-135m",)).exact, "the cpu tier says itself"


@pytest.mark.parametrize("own_models", [True, False])
@pytest.mark.parametrize("text", ["", "mine.txt", "kjv"])
@pytest.mark.parametrize("tier", ["smoke", "cpu", "gpu"])
def test_whatever_the_reader_chose_at_the_gpu_tier_makes_a_claim_reduced(capsys, tier, text, own_models):
    """The paper's own models on a reader's text are as little exact as other models on the paper's text."""
    ledger = ledgers.load("streaming_llm")
    claim = next(one for one in ledger.claims if one.tiers.gpu == "exact")
    papers = ("smollm2-135m",) if own_models else ("another",)
    parameters = REFERENCE | {"tier": tier, "text": text}
    run = chapter.ChapterRun(ledger, parameters, ["smollm2-135m"], "cpu", parts={}, about={}, papers=papers)
    run.judge(claim.id)
    expected = ("exact" if own_models and not text else "reduced") if tier == "gpu" else claim.tiers.cpu
    assert run.judged[claim.id]["fidelity"] == expected


def test_a_local_model_is_stored_without_its_path(two_models, tmp_path):
    folder = tmp_path / "models" / "mine"
    files.write_text(folder / "config.json", "{}")
    text = tmp_path / "own.txt"
    text.write_text("words")
    result = finished(judge_all(start(models=str(folder), text=str(text), device="cpu")))
    names = [result["parameters"][name] for name in ("models", "text")]
    assert names == [f"mine@{local.identity(folder)[:8]}", f"own.txt@{local.identity(text)[:8]}"]
    assert str(tmp_path / "models") not in json.dumps(result)


# --- stored runs, glue, display ----------------------------------------------------------------------------------


def test_stored_runs_missing_fresh_stale_and_unknown(book_with_sweeps):
    run = start()
    assert run.stored("short") is None
    stored_runs.run(CHAPTER, "short")
    stored_runs.promote(CHAPTER)
    assert run.stored("short")["metrics"]["total"] == 15
    assert run.stored_runs == {"short": "fresh"}
    assert run.stored("other") is None
    assert finished(judge_all(run))["provenance"]["stored"] == {"short": "fresh", "other": "missing"}
    with pytest.raises(ClaimbookError, match="no stored run 'long'"):
        run.stored("long")
    edit(book_with_sweeps / f"lib/claimbook/experiments/{CHAPTER}/toy.py", "step + 1.0", "step + 2.0")
    with pytest.raises(ClaimbookError, match="stale"):
        run.stored("short")


def test_the_beginning_of_a_stored_run_is_run_again_and_compared(book_with_sweeps, capsys):
    assert start().again("short", steps=2) == {}
    stored_runs.run(CHAPTER, "short")
    stored_runs.promote(CHAPTER)
    assert start().again("short", steps=2)["loss"] == [1.0, 2.0]
    start().again("short", steps=2, scale=1.5)
    assert start(tier="gpu").again("short", steps=2) == {}, "it speaks for no gpu run"
    assert capsys.readouterr().out.splitlines() == [
        "no stored run to compare with",
        "the live part equals the stored run",
        "the live part differs from the stored run by 0.33",
        "no stored run to compare with",
    ]


def test_glue_makes_rounded_text_once(book):
    run = start()
    for key, value, fmt in (("a", np.float64(0.12345), ".2f"), ("b", 1234567, ","), ("c", "word", "")):
        run.glue(key, value, fmt)
    assert run.glued == {"a": "0.12", "b": "1,234,567", "c": "word"}
    with pytest.raises(ClaimbookError, match="'a' is glued twice"):
        run.glue("a", 1)


def test_what_is_measured_is_there_for_the_prose_under_its_own_name(two_models):
    run = start(models=MODELS)
    run.take({"C1": {"halved": spread()}, "C2": verdicts.Evidence(parts={"variance": stats.Exact(0.125)})})
    run.measure("C1", "halved", spread(1.0), "smollm2-135m")
    assert run.glued["C1.halved"] == "2.000 [1.980, 2.020]"
    assert run.glued["C2.variance"] == "0.125"
    assert run.glued["C1.halved.smollm2-135m"].startswith("1.000 [")


@pytest.mark.parametrize(
    "measurement, said",
    [
        (stats.Votes(18, 20, 0.5), "18 of 20"),
        (stats.Exact(22.17), "22.2"),
        (stats.mean(np.full(5, 0.3)), "0.3"),
        (None, "(not measured)"),
    ],
)
def test_a_measurement_reads_as_it_would_be_said(measurement, said):
    assert tables.measured(measurement) == said


def test_outcome_badges_and_tables_say_what_was_found(book):
    run = judge_all(start())
    assert run.outcome() == "3 claims: 1 reproduced; on toys 1 reproduced; 1 not tested"
    assert str(run.badges()) == "C1 reproduced (toy) · C2 reproduced · C3 not tested"
    assert 'class="tile reproduced toy" href="#coin-flips-c1"' in run.badges().html
    assert "= 2 ± 0.2" in run.table().html and "not tested: needs gpu" in run.table().html
    assert "code hash" in str(run.finish())
    edit(paths.ledger(CHAPTER), "average of n", "<b>average</b> of n")
    assert "&lt;b&gt;average" in start().table().html


def test_cost_is_of_this_process(book):
    result = finished(judge_all(start()))
    assert 0 <= result["cost"]["wall_s"] < 60
    assert 10 < result["cost"]["peak_mem_mb"] < 100_000
    assert result["cost"]["device"] == "cpu"


# --- parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, said",
    [
        ({"tier": "gpus"}, "tier 'gpus' is unknown: choose from smoke, cpu, gpu"),
        ({"dtype": "float64"}, "dtype 'float64'"),
        ({"device": "tpu"}, "device 'tpu' is unknown: choose from auto, cpu, cuda, mps"),
        ({"device": "tpu:1"}, "device 'tpu:1' is unknown"),
        ({"seed": -1}, "seed must be a whole number from 0 to 2147483647, not -1"),
        ({"seed": True}, "seed must be a whole number from 0 to 2147483647, not True"),
        ({"seed": 2**31}, "seed must be"),
        ({"models": 3}, "models must be text, not 3"),
        ({"share": -0.5}, r"share must be a number from 0 to 10.9, not -0\.5"),
        ({"documents": -3}, "documents must be a number from 0 to 10.9, not -3"),
        ({"models": "nope"}, "unknown model 'nope'"),
        ({"models": "smolm2-135m"}, r"did you mean smollm2-135m\?"),
        ({"models": "../models/x"}, "unknown model"),
        ({"models": "smollm2-135m,smollm2-135m"}, "twice"),
        ({"models": "kjv"}, "unknown model 'kjv'"),
        ({"text": "no_such.txt"}, "unknown text 'no_such.txt'"),
        ({"text": "kjw"}, r"did you mean kjv\?"),
        ({"text": "smollm2-135m"}, "unknown text"),
    ],
)
def test_values_that_cannot_work_are_refused(book, given, said):
    with pytest.raises(ClaimbookError, match=said):
        start(**given)


def test_a_common_parameter_that_is_missing_is_named():
    needed = "needs the parameters tier, models, seed, device, dtype, text; missing: device, dtype"
    with pytest.raises(ClaimbookError, match=needed):
        parameters.check({"tier": "cpu", "models": "", "seed": -1, "text": "", "documents": 3})


@pytest.mark.parametrize("name", ["smollm2-135m", "tiny-random-gpt_neox", "owner/name", "meta-llama/Llama-2-7b-hf"])
def test_models_that_may_work_are_let_through(book, name):
    assert start(models=name, device="cpu").models == [name]


def test_a_folder_that_is_no_model_is_refused(book, tmp_path):
    with pytest.raises(ClaimbookError, match=r"holds no config\.json"):
        start(models=str(tmp_path))
