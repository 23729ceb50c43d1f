"""Attention calibration: evidence on rows made by hand, true and false; the reader's own items; figures draw rows."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import bootstrap, mannwhitneyu, spearmanr

from claimbook.claims import ledgers, verdicts
from claimbook.errors import ClaimbookError
from claimbook.experiments.attention_calibration import evidence, inputs, own_files
from claimbook.experiments.attention_calibration.evidence import LABELS, SIX, Arms, auc, loss, right
from claimbook.experiments.attention_calibration.stored import SOLVED, VARIED

pytestmark = pytest.mark.numeric
LEDGER = ledgers.load("attention_calibration")


def state(found, claim, part):
    return verdicts.judged_part(LEDGER.claim(claim), LEDGER.claim(claim).part(part), found[claim]).state


def states(found, claim):
    return {part.name: state(found, claim, part.name) for part in LEDGER.claim(claim).parts}


# --- arms ------------------------------------------------------------------------------------------------------------


def normalised(scores):
    return [(one - np.logaddexp.reduce(one)).tolist() for one in scores]


def row(name, task, split, skill=1.0, bias=0.0, n=360, prior=True, sure=1.0):
    """Items of four options (two labels): the right one scores ``skill`` more than the others, one option ``bias``.

    ``sure``: what all scores but the bias are times.

    In sentiment the biased one is "positive"; elsewhere each item has another. Arms of a draw share their noise. More
    items than are judged, so that no interval takes a bootstrap.
    """
    rng = np.random.default_rng([split, *task.encode()])
    options = 2 if task == LABELS else 4
    gold, favoured = rng.integers(options, size=n), rng.integers(options, size=n)
    scores = 0.7 * rng.normal(size=(n, options))
    scores[np.arange(n), gold] += skill
    scores *= sure
    said = np.zeros((n, options))
    said[np.arange(n), np.ones(n, int) if task == LABELS else favoured] = bias
    return SimpleNamespace(
        arm=name,
        task=task,
        split=split,
        heads=[],
        gold=gold.tolist(),
        scores=normalised(scores + said),
        prior=normalised(said) if prior else None,
        choice_gain=-0.1,
        first_order=None,
        se=None,
        sinks=0.5,
        moved=0.02,
    )


def world(**arms):
    """Rows of all six tasks in three draws; {arm: {skill: …, bias: …}}; random heads do as the plain model."""
    arms = {"vanilla": {}, "top": {}, "bottom": {}, "zero": {}} | arms
    arms |= {f"random_{i}": arms["vanilla"] for i in range(3)}
    return [row(name, task, split, **how) for task in SIX for split in range(3) for name, how in arms.items()]


def test_a_method_that_makes_the_model_better():
    found = evidence.arms(world(top={"skill": 2.0}, bottom={"skill": 0.3}, zero={"skill": 1.0}))
    assert set(states(found, "C2").values()) == {"met"}
    assert set(states(found, "C4").values()) == {"met"}
    assert set(states(found, "C18").values()) == {"met"}
    assert set(states(found, "C17").values()) == {"not_met"} or "void" in states(found, "C17").values()
    assert states(found, "C20") == {"as_good": "not_met"}


def test_a_method_that_only_takes_a_bias_away():
    found = evidence.arms(world(vanilla={"bias": 3.0}, top={"bias": 0.0}, zero={"skill": 1.1}))
    assert states(found, "C4")["on_average"] == "met" and states(found, "C4")["on_sentiment"] == "met"
    assert set(states(found, "C17").values()) == {"met"}
    told = states(found, "C18")
    assert "met" not in (told["labels_apart"], told["corrected_accuracy"], told["corrected_likelihood"])
    assert states(found, "C20") == {"as_good": "met"}


def test_a_correction_that_does_harm_is_left_out_where_it_does():
    of = Arms(world(vanilla={"bias": 0.0}, top={"bias": 3.0}))
    for arm in ("vanilla", "top"):
        each = [[of(right, arm, [name], weight).mean() for weight in (0.0, 1.0)] for name in SIX]
        best = evidence.corrected_where_it_helps(of, arm, SIX).mean()
        assert best == pytest.approx(np.mean(np.max(each, axis=1)))
    assert evidence.corrected_where_it_helps(of, "nowhere", SIX) is None
    changes = {name: values.mean() for name, values in evidence.changes(of, [*SIX]).items()}
    assert changes["act"] == pytest.approx(of.gain(right, SIX).mean()) and changes["act"] < changes["best"]


def test_how_much_is_kept_at_the_places_of_another_prompt():
    rows = varied(top={"skill": 2.0}, frozen={"skill": 1.5})
    assert 0 < evidence.kept_where_frozen(rows) < 1
    assert evidence.kept_where_frozen([row for row in rows if row.arm != "frozen"]) is None


def test_a_method_that_makes_the_model_less_sure_only():
    found = evidence.arms(world(vanilla={"sure": 3.0}, top={"sure": 1.0}))
    assert of_loss(found) < 0.001 and states(found, "C18")["corrected_likelihood"] != "met"
    better = evidence.arms(world(vanilla={"sure": 3.0}, top={"skill": 2.0}))
    assert states(better, "C18")["corrected_likelihood"] == "met"


def of_loss(found):
    return abs(found["C18"].parts["corrected_likelihood"].value)


def test_heads_that_lose_less_than_random_ones_are_not_shown_to_have_hurt():
    rows = world(vanilla={"skill": 2.0}, top={"skill": 1.5}, bottom={"skill": 1.5})
    rows = [row(r.arm, r.task, r.split, skill=1.0) if r.arm.startswith("random_") else r for r in rows]
    told = states(evidence.arms(rows), "C2")
    assert told["some_hurt_beyond_chance"] == "met" and told["some_hurt"] == "not_met"
    assert told["some_help"] == "met" and told["some_help_beyond_chance"] == "not_met"


def test_a_method_that_does_nothing():
    found = evidence.arms(world(vanilla={"skill": 1.2}, top={"skill": 1.2}, bottom={"skill": 1.2}))
    for claim in ("C2", "C4", "C17", "C18"):
        assert "met" not in states(found, claim).values()
    assert states(found, "C20")["as_good"] != "met"  # as good as nothing


def test_a_rival_that_the_plain_model_matches_says_nothing():
    found = evidence.arms(world(vanilla={"skill": 1.2}, top={"skill": 1.1}, zero={"skill": 1.3}))
    assert states(found, "C20") == {"as_good": "void"}


def test_a_method_that_hurts():
    found = evidence.arms(world(vanilla={"skill": 2.0}, top={"skill": 1.0}, bottom={"skill": 2.0}))
    assert set(states(found, "C4").values()) == {"not_met"}
    assert set(states(found, "C2").values()) <= {"not_met", "open"} and states(found, "C2")["some_hurt"] == "not_met"


def test_a_mean_is_over_tasks_that_the_model_knows():
    rows = [replace_skill(one) if one.task in ("counting", "commonsense") else one for one in world(top={"skill": 2.0})]
    of = Arms(rows)
    assert evidence.knows(of, SIX) == [name for name in SIX if name not in ("counting", "commonsense")]
    found = evidence.arms(rows)
    assert found["C4"].parts["on_average"].n == 4 * 3 * 360
    assert states(found, "C4")["on_counting"] == "open"  # its precondition is not met
    few = [one for one in rows if one.task in ("trivia", "sentiment", "counting", "commonsense")]
    assert states(evidence.arms(few), "C17")["on_options"] == "open"
    assert evidence.knows(Arms(few), SIX) == [] and states(evidence.arms(few), "C4")["on_average"] == "open"


def replace_skill(one):
    return row(one.arm, one.task, one.split, skill=0.0)


def test_what_was_not_measured_is_untested():
    rows = [one for one in world(top={"skill": 2.0}) if one.arm in ("vanilla", "top")]
    found = evidence.arms(rows)
    told = states(found, "C2")
    assert told.pop("some_hurt") == "met" and set(told.values()) == {"untested"}
    assert states(found, "C4")["on_average"] == "met"
    bare = [SimpleNamespace(**{**vars(one), "prior": None}) for one in rows]
    assert states(evidence.arms(bare), "C18")["corrected_accuracy"] == "untested"


def arrays(one):
    return np.array(one.scores), np.array(one.gold)


def test_the_area_of_labels_is_that_of_all_pairs_and_its_spread_that_of_resampling():
    scores, gold = arrays(row("vanilla", LABELS, 0, skill=0.6))
    margin, found = scores[:, 1] - scores[:, 0], auc(scores, gold, True)
    u = mannwhitneyu(margin[gold == 1], margin[gold == 0]).statistic
    assert found.mean() == pytest.approx(u / ((gold == 1).sum() * (gold == 0).sum()))

    def area(take):
        return auc(scores[take], gold[take], True).mean()

    again = bootstrap((np.arange(len(gold)),), area, n_resamples=400, vectorized=False, rng=0, method="basic")
    assert found.std(ddof=1) / np.sqrt(len(gold)) == pytest.approx(again.standard_error, rel=0.15)


def test_a_threshold_moves_no_area_and_the_best_one_is_found_in_hindsight():
    plain, moved = (row("vanilla", LABELS, 0, skill=1.0, bias=bias) for bias in (0.0, 5.0))
    assert auc(*arrays(plain), True) == pytest.approx(auc(*arrays(moved), True))
    assert right(*arrays(moved), True).mean() < 0.6
    best = evidence.best_threshold(Arms([moved]), [LABELS])
    assert best.mean() >= right(*arrays(plain), True).mean()


def test_measures_of_an_item_by_hand():
    scores, gold = np.log([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]), np.array([1, 2])
    assert right(scores, gold, False).tolist() == [0, 1]
    assert loss(scores, gold, False) == pytest.approx(-np.log([0.3, 0.5]))
    assert auc(scores, gold, False).tolist() == [0.5, 1.0]  # of two wrong options one is below, both are


def test_items_of_fewer_options_are_read_as_they_are():
    long = row("vanilla", "trivia", 0, skill=1.0, bias=1.0, n=2)
    ragged = SimpleNamespace(**{**vars(long), "scores": [long.scores[0], [-0.1, -2.4]], "gold": [long.gold[0], 0]})
    ragged.prior = [long.prior[0], [-0.7, -0.7]]
    of = Arms([ragged])
    assert of(right, "vanilla", ["trivia"])[1] == 1 and of(auc, "vanilla", ["trivia"])[1] == 1.0
    assert of(loss, "vanilla", ["trivia"], weight=1.0)[1] == pytest.approx(np.log1p(np.exp(-2.3)))


def test_options_corrected_by_their_own_prior():
    one = row("vanilla", "trivia", 0, skill=1.0, bias=2.0)
    clean = row("vanilla", "trivia", 0, skill=1.0)
    assert evidence.corrected(np.array(one.scores), np.array(one.prior)) == pytest.approx(np.array(clean.scores))
    assert evidence.best_weight(Arms([one]), ["trivia"]).mean() >= right(*arrays(clean), False).mean()


# --- variants --------------------------------------------------------------------------------------------------------


def varied(**arms):
    base = {name: {"skill": 1.0} for name in ("vanilla", "all", "towards_all", "temperature_all")}
    base |= {name: {"skill": 2.0} for name in ("top", "frozen", *evidence.KEEPS)}
    return [row(name, task, 0, **how) for task in VARIED for name, how in (base | arms).items()]


def test_adapting_and_direction_matter():
    bad = {"skill": 0.5}
    found = evidence.variants(varied(frozen={"skill": 1.1}, towards_all=bad, temperature_all=bad))
    assert states(found, "C3") == {"adapting_matters": "met"}
    assert set(states(found, "C10").values()) == {"met"}
    assert set(states(found, "C15").values()) == {"met"}


def test_nothing_hangs_on_adapting_or_direction():
    flat = {name: {"skill": 1.0} for name in evidence.KEEPS}
    found = evidence.variants(varied(**flat, towards_all={"skill": 1.5}))
    assert states(found, "C3") == {"adapting_matters": "not_met"}
    assert states(found, "C10")["towards_hurts"] == "not_met" and "met" not in states(found, "C10").values()
    told = states(found, "C15")
    assert told.pop("beta_lower_not_in_proportion") == "met"  # it falls as beta does, and the part on half says so
    assert set(told.values()) == {"not_met"}


def test_a_gain_in_proportion_to_beta_is_sensitive():
    """Two thirds of a gain are more than half of it: only what is beyond proportion tells one from a flat curve."""
    rows = {
        "vanilla": {"skill": 1.0},
        "top": {"skill": 2.0},
        "beta_0.2": {"skill": 2.6},  # in loss, with these skills, about four thirds
        "beta_0.6": {"skill": 1.6},
    }
    told = states(evidence.variants(varied(**rows)), "C15")
    assert told["beta_lower"] == "met" and told["beta_lower_not_in_proportion"] != "met"
    assert told["beta_higher"] == "met" and told["beta_higher_not_in_proportion"] != "met"


def test_without_a_gain_there_is_nothing_to_keep():
    found = evidence.variants(varied(top={"skill": 1.0}))
    assert set(states(found, "C15").values()) == {"open"} and states(found, "C3") == {"adapting_matters": "open"}


def test_a_task_that_is_to_come_leaves_the_variants_untested():
    found = evidence.variants([one for one in varied() if one.task != "counting"])
    assert set(states(found, "C3").values()) | set(states(found, "C15").values()) == {"untested"}


def test_examples_replaced_or_not():
    def behind(**skills):
        rows = [row(name, task, 0, skill=skill) for task in SOLVED for name, skill in skills.items()]
        return evidence.variants(rows)

    good = behind(vanilla=0.3, vanilla_4=1.0, top=1.5, top_4=2.0)
    assert set(states(good, "C13").values()) == {"met"}
    free = behind(vanilla=2.0, vanilla_4=1.0, top=2.0, top_4=1.0)
    assert states(free, "C13")["replaces_on_trivia"] == "void"  # the plain model needs no examples either
    bad = behind(vanilla=0.3, vanilla_4=2.0, top=0.3, top_4=1.0)
    assert set(states(bad, "C13").values()) == {"not_met"}


# --- heads -----------------------------------------------------------------------------------------------------------


def scored(top, bottom, help_=0.2, hurt=0.2, layers=30, heads=9):
    """Rows of arms of all tasks and draws: effects of all heads, top and bottom heads as `heads_in` gives them."""
    rng = np.random.default_rng(0)
    kind = rng.random((layers, heads))
    effect = np.where(kind < help_, -0.05, np.where(kind > 1 - hurt, 0.05, 0.0))
    noise = 0.01 * np.ones((layers, heads))
    rows = []
    for task in SIX:
        for split in range(3):
            of = {"task": task, "split": split, "se": noise.tolist()}
            rows.append(SimpleNamespace(arm="top", heads=top(task, split), first_order=effect.tolist(), **of))
            rows.append(SimpleNamespace(arm="bottom", heads=bottom(task, split), first_order=None, **of))
    return evidence.heads(rows)


def heads_in(layers, same):
    """40 heads in the given layers, for all tasks and draws the same ones (of a seed) or others in each."""

    def some(task, split):
        rng = np.random.default_rng(7 if same else [split, *task.encode()])
        return rng.permutation([(layer, head) for layer in layers for head in range(9)])[:40].tolist()

    return some


def test_early_heads_shared_by_all():
    found = scored(heads_in(range(2, 11), same=True), heads_in(range(11, 29), same=False))
    told = states(found, "C9")
    assert told["some_help"] == told["some_hurt"] == "met"
    one = found["C9"].parts
    assert one["mostly_early"].value == pytest.approx(3.0)
    assert one["same_for_both_kinds"].value == pytest.approx(243 / 40)
    assert found["C9"].nulls["mostly_early"].value == found["C9"].nulls["same_for_both_kinds"].value == 0


def test_heads_anywhere_and_of_each_task_its_own():
    told = states(scored(*[heads_in(range(2, 29), same=False)] * 2, help_=0.0, hurt=0.0), "C9")
    assert told["some_help"] == told["some_hurt"] == "not_met"
    assert told["mostly_early"] != "met"
    assert told["same_for_both_kinds"] == "void"  # two draws of one task share no more


def test_best_and_worst_heads_in_the_same_place_say_nothing():
    early = heads_in(range(2, 7), same=False)  # 40 of 45: shared by all, for better or worse
    found = scored(early, early)
    one = found["C9"].parts["same_for_both_kinds"]
    assert one.value > 2.06 and found["C9"].nulls["same_for_both_kinds"].value > 2.06
    assert found["C9"].nulls["mostly_early"].value == pytest.approx(3.0)
    assert evidence.heads([SimpleNamespace(arm="top", first_order=None)]) == {}  # heads that the authors chose


def test_overlap_and_noise_by_hand():
    assert evidence.overlap({(2, 0), (3, 1)}, {(2, 0), (4, 4)}, 8) == 2.0  # one shared, half of one by chance
    assert evidence.early({(2, 0), (9, 0)}, np.ones((9, 3), bool)) == pytest.approx(1.5)
    draws = [SimpleNamespace(first_order=[[-0.3]], se=[[0.1]]), SimpleNamespace(first_order=[[-0.1]], se=[[0.1]])]
    assert evidence._beyond_noise(draws)[0, 0] == pytest.approx(-0.2 / (np.sqrt(0.02) / 2))


def singles(true):
    rng = np.random.default_rng(2)
    rows = []
    for task in SOLVED:
        for i in range(60):
            first = -0.02 - 0.03 * rng.random() if i >= 30 else 0.05 * rng.normal()
            said = true(first, rng)
            rows.append(
                SimpleNamespace(task=task, layer=i, head=0, drawn=i < 30, chosen=i >= 30, first_order=first, exact=said)
            )
    return rows


def test_first_order_effects_true_and_false():
    good = evidence.exact(singles(lambda first, rng: 0.9 * first + 0.003 * rng.normal()))
    assert set(states(good, "C19").values()) == {"met"}
    bad = evidence.exact(singles(lambda first, rng: 0.01 * rng.normal()))
    assert set(states(bad, "C19").values()) == {"not_met"}
    rows = [one for one in singles(lambda first, rng: first + 0.05 * rng.normal()) if one.task == "trivia"]
    some = [(one.first_order, one.exact) for one in rows if one.drawn]
    found = evidence.exact(rows)["C19"].parts["ranks_alike"]
    assert found.value == pytest.approx(spearmanr(some).statistic) and -1 < found.low < found.value < found.high < 1


def test_the_interval_of_a_rank_correlation_covers_the_true_one():
    rng, rho = np.random.default_rng(0), 0.9
    true = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's of a normal pair
    covered = 0
    for _ in range(400):
        tables = [rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 30) for _ in range(2)]
        found = evidence.rank_correlation(tables)
        covered += found.low <= true <= found.high
    assert covered >= 365


# --- prompts ---------------------------------------------------------------------------------------------------------


def prompts(times, kind="punctuation", columns=1, bottom=0.5, middle=4.0, late=2):
    rng = np.random.default_rng(3)
    rows = []
    kinds = [(what, task) for what in ("task", "untrained") for task in evidence.SIX]
    for what, task in (*kinds, ("prose", "prose"), ("untrained", "prose")):
        bare = what == "untrained"
        for _ in range(4 if task in evidence.SIX else 24):
            near = 1 + 0.05 * rng.random()
            layers = [bottom] * 2 + [middle * near] * 28
            rows.append(
                SimpleNamespace(
                    kind=what,
                    task=task,
                    tokens=40,
                    top={"over_even": near if bare else times * near, "kind": "word" if bare else kind},
                    little=0.4 + 0.1 * rng.random(),
                    columns=0 if bare else columns,
                    layer_over_even=[near] * 30 if bare else layers,
                    layer_best=[near] * 30 if bare else layers,
                    layer_columns=[0] * 30 if bare else [1] * 24 + [late] * 6,
                )
            )
    return rows


def test_hidden_sinks_as_the_paper_draws_them():
    found = evidence.sinks(prompts(4.0))
    for claim in ("C1", "C7"):
        assert set(states(found, claim).values()) == {"met"}
    told = states(found, "C8")
    assert told.pop("second_at_the_top") == "open"  # the same in each prompt made by hand: without spread
    assert set(told.values()) == {"met"}


def test_prompts_of_one_task_are_one_unit():
    rows = prompts(4.0)
    for one in rows:
        one.columns = 1 if one.task in ("trivia", "counting", "sentiment") and one.kind == "task" else 0
    part = evidence.sinks(rows)["C7"].parts["exactly_one"]
    assert (part.value, part.n, part.unit) == (0.5, 6, "tasks")
    assert states(evidence.sinks(rows), "C7") == {"exactly_one": "open"}


def test_scores_of_choosing_items_against_effects_on_others():
    scores = [[0.0, 1.0], [2.0, 3.0]]
    arms = [SimpleNamespace(task="trivia", split=0, first_order=scores)]
    exact = [
        SimpleNamespace(task="trivia", drawn=True, layer=i, head=j, exact=-x)
        for i, row in enumerate(scores)
        for j, x in enumerate(row)
    ]
    assert evidence.transfer(arms, exact, "trivia") == pytest.approx(-1)
    assert evidence.transfer(arms, exact, "sentiment") is None


def test_no_hidden_sinks():
    found = evidence.sinks(prompts(1.0, kind="word", columns=0, bottom=3.0, middle=3.0, late=0))
    told = states(found, "C1") | states(found, "C7") | states(found, "C8")
    assert "met" not in (told["in_task_prompts"], told["in_prose"], told["means_little"], told["exactly_one"])
    assert told["none_at_the_bottom"] in ("not_met", "void")


def test_what_an_untrained_network_has_too_is_void():
    rows = prompts(4.0)
    same = [replace_top(one) if one.kind == "untrained" else one for one in rows]
    assert states(evidence.sinks(same), "C1")["in_prose"] == "void"


def replace_top(one):
    return SimpleNamespace(**{**vars(one), "top": one.top | {"over_even": one.top["over_even"] * 4}})


def test_layers_by_hand():
    assert evidence.more_at_the_top([0, 0, 1, 1, 1, 1, 1, 1, 2, 2]) == 1.0  # the last fifth less layers 2 to 7


def test_time():
    rng = np.random.default_rng(4)

    def rounds(on, sdpa):
        noise = 1 + 0.01 * rng.random((20, 3))
        return [SimpleNamespace(on=on * a, off=b, sdpa=sdpa * c) for a, b, c in noise]

    assert set(states(evidence.cost(rounds(1.02, 1.0)), "C16").values()) == {"met"}
    assert set(states(evidence.cost(rounds(1.5, 0.5)), "C16").values()) == {"not_met"}


# --- the reader's items and the published lists ----------------------------------------------------------------------

LINES = [f"question {i},yes|no,{'yes' if i % 2 else 'no'}" for i in range(16)]


def test_own_items(tmp_path):
    file = tmp_path / "items.csv"
    file.write_text("question,options,answer\n" + "\n".join(LINES))
    items = own_files.own_items(str(file))
    assert len(items) == 16 and items[1].options == ("yes", "no") and items[1].gold == 0
    assert own_files.task(str(file)).labels


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["text,options,answer", *LINES], "no column question"),
        (["question,options,answer", *LINES[:4]], "it holds 4 items, 16 are needed"),
        (["question,options,answer", *LINES, "q,yes|no,maybe"], "line 18: the answer 'maybe' is none of the options"),
        (["question,options,answer", *LINES, "q,yes,yes"], "line 18: two options at least"),
        (["question,options,answer", *LINES, "q,yes|Yes,yes"], "line 18: an option stands twice"),
        (["question,options,answer", *LINES, LINES[0]], "line 18: the question stands twice"),
        (["question,options,answer", *LINES, ",yes|no,yes"], "line 18: the question is empty"),
        (["question,options,answer", *LINES, "q,yes|no"], "line 18: 2 cells under 3 columns"),
    ],
)
def test_bad_items_are_one_line(tmp_path, lines, said):
    file = tmp_path / "items.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(ClaimbookError, match=said.replace("(", r"\(")) as error:
        inputs.check({"models": "smollm2-135m", "text": "", "items": str(file)})
    assert "\n" not in str(error.value) and file.name in str(error.value)


def test_bad_files_are_one_line(tmp_path):
    file = tmp_path / "items.csv"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClaimbookError, match="begins as utf-16 text and does not go on so"):
        own_files.own_items(str(file))
    with pytest.raises(ClaimbookError, match="no file"):
        own_files.own_items(str(tmp_path / "nowhere.csv"))
    with pytest.raises(ClaimbookError, match="one model at a time"):
        inputs.check({"models": "a,b", "text": "", "items": ""})


def test_the_example_can_be_read():
    from claimbook import paths

    assert len(own_files.own_items(str(paths.chapter_data("attention_calibration") / "example.csv"))) == 40


def test_published_lists_begin_at_layer_two_and_are_not_executed(tmp_path, monkeypatch):
    file = tmp_path / "augment_index.py"
    file.write_text("indices_comb_MC = [[0, 3], [], [5]]\naug_indices_comb_classification = [[1]]\n")
    monkeypatch.setattr(inputs.catalogue, "get", lambda key: file)
    assert inputs.published("llama-2-7b-chat", labels=False) == [[2, 0], [2, 3], [4, 5]]
    assert inputs.published("llama-2-7b-chat", labels=True) == [[2, 1]]
    assert inputs.published("smollm2-135m", labels=True) is None
    file.write_text("indices_comb_MC = __import__('os').getcwd()\n")
    with pytest.raises(ValueError, match="malformed"):
        inputs.published("llama-2-7b-chat", labels=False)
