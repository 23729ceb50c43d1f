"""TRIM-KV: what the ledger's parts make of rows written by hand, true and false."""

from types import SimpleNamespace as Row

import numpy as np
import pytest
import torch

from claimbook.claims import ledgers, verdicts
from claimbook.errors import ClaimbookError
from claimbook.experiments.trim_kv import counts, evidence, figures, inputs

pytestmark = pytest.mark.numeric

LEDGER = ledgers.load("trim_kv")
HEADS = 90


def states(claim_id, one):
    """How the parts of a claim stand on evidence, {part: state}."""
    claim = LEDGER.claim(claim_id)
    one = one if isinstance(one, verdicts.Evidence) else verdicts.Evidence(parts=one)
    return {part.name: verdicts.judged_part(claim, part, one).state for part in claim.parts}


def parts(one):
    return getattr(one, "parts", one)


def spread(i, k=2):
    """A little noise that differs from unit to unit, and is 0 on average over five; another series for k = 1 … 4."""
    return 0.005 * ((k * i + i * i) % 5 - 2)


def everywhere(number, keys):
    return dict.fromkeys(keys, number)


# --- delayed recall ---------------------------------------------------------------------------------------------------

BUDGETS = ("6", "8", "12", "16", "24", "32", "48")
ABLATIONS = {
    "no capacity": 0.3,
    "no kl": 0.7,
    "no ntp": 0.7,
    "linear": 0.7,
    "bias 0": 0.6,
    "bias 18": 0.75,
    "printed": 0.6,
    "budget 6": 0.6,
    "budget 24": 0.9,
}


def toy(
    i, trim=0.8, best=0.4, blind=0.2, oracle=1.0, longer=(0.95, 0.97), worse=0.6, auc=(0.5, 0.9), asked=0.9, **arms
):
    """A base as the paper would have it; ``longer``: full cache and gates at 160 tokens; ``auc``: attention, gates."""
    e = spread(i)
    rules = {rule: everywhere(best - 0.02 * place + e, BUDGETS) for place, rule in enumerate(evidence.HEURISTICS)}
    rules |= {rule: everywhere(blind + e, BUDGETS) for rule in evidence.BLIND}
    rules["oracle"] = everywhere(oracle - 0.001 * abs(e), BUDGETS)
    own = [everywhere(trim + spread(i, 1) + d, BUDGETS) for d in (-0.02, 0.0, 0.02)]
    full, more = longer
    return Row(
        base=i,
        full=1.0,
        rules=rules,
        trim=own,
        auc=everywhere(auc[0] + e, evidence.ATTENTION)
        | everywhere(0.5 + e, ("key norm", "keydiff", "untrained", "position")),
        auc_trim=[auc[1] + e] * 3,
        auc_asked=everywhere(asked + e, evidence.ATTENTION),
        ablations={
            arm: [everywhere(value + spread(i, k % 4 + 1), BUDGETS)] * 3
            for k, (arm, value) in enumerate((ABLATIONS | arms).items())
        },
        longer={
            length: {
                "full": full + e / 10,
                "trim": [{"32": more - 0.1, "48": more + spread(i, 1) / 20}] * 3,
                "rules": everywhere({"48": worse + e}, evidence.HEURISTICS) | {"oracle": {"48": 0.99 + e / 20}},
            }
            for length in ("160",)
        },
        transfer={
            "full": 1.0,
            "general": [everywhere(0.7 + e, BUDGETS)],
            "narrow": [everywhere(0.6 + e, BUDGETS) | {"12": 0.4 + spread(i, 1)}],
            "rules": everywhere(everywhere(0.3 + e, BUDGETS), (*evidence.HEURISTICS, *evidence.BLIND)),
        },
    )


def toys(**changed):
    return [toy(i, **changed) for i in range(5)]


def test_the_gates_lead_over_the_best_heuristic_not_over_the_first():
    found = evidence.toy_costs(toys())
    assert found.best("16") == "window" and found.best("16", ("oracle",)) == "oracle"
    assert found.lead("16").value == pytest.approx(0.2 / 0.6, abs=0.02)
    other = [toy(i) for i in range(5)]
    for row in other:
        row.rules["keydiff"] = everywhere(0.7 + spread(row.base), BUDGETS)
    assert evidence.toy_costs(other).best("16") == "keydiff"
    assert evidence.toy_costs(other).lead("16").value == pytest.approx(0.2 / 0.3, abs=0.03)


def test_ranks_on_the_toy_both_ways():
    true, level = evidence.ranks(toys())["C23"], evidence.ranks(toys(trim=0.4))["C23"]
    assert states("C23", true) == {"at_8": "met", "at_16": "met", "at_24": "met", "four_times": "void"}
    assert true.nulls["four_times"].value == pytest.approx(1), "made rows are the same at every budget"
    assert [states("C23", level)[f"at_{m}"] for m in (8, 16, 24)] == ["not_met"] * 3


def test_a_lead_that_blind_rules_have_too_is_void():
    found = evidence.ranks(toys(blind=0.9))["C23"]
    assert states("C23", found)["at_16"] == "void"


def test_a_bound_that_keeping_the_pairs_misses_judges_nothing():
    found = evidence.ranks(toys(trim=0.4, oracle=0.35))["C23"]
    assert states("C23", found)["at_16"] == "void"


def test_a_quarter_of_the_budget_is_compared_with_four_times_it():
    rows = toys()
    for row in rows:
        for rule in evidence.HEURISTICS:
            row.rules[rule]["48"] += 0.45
        row.rules["window"]["12"] = 0.1
    found = evidence.ranks(rows)["C23"]
    assert found.parts["four_times"].value == pytest.approx(0.2 / 0.15, abs=0.15)
    assert states("C23", found)["four_times"] == "not_met"
    for row in rows:
        for training in row.trim:
            training["12"] = 0.95 + spread(row.base) / 2
    assert states("C23", evidence.ranks(rows)["C23"])["four_times"] == "met"


def test_a_proxy_is_blind_only_where_the_question_opens_its_eyes():
    def proxies(rarity=0.5, **changed):
        return states("C24", evidence.proxies(toys(**changed), rarity)["C24"])

    assert proxies() == {"attention_is_blind": "met", "gate_knows": "met"}
    assert proxies(asked=0.5)["attention_is_blind"] == "void"
    assert proxies(auc=(0.9, 0.6)) == {"attention_is_blind": "not_met", "gate_knows": "not_met"}
    turned = proxies(auc=(0.1, 0.9))
    assert turned["attention_is_blind"] == "not_met", "a score that is always wrong tells as much as one that is right"
    assert proxies(rarity=1.0)["gate_knows"] == "void", "counting words is enough"


def test_a_table_of_counts_knows_the_pairs_of_the_toy():
    assert counts.rarity() == 1.0


UNSURE = [0.5, 0.52, 0.49, 0.51, 0.5]  # losses of bases, nats


def test_ablations_both_ways():
    true = evidence.ablations(toys(blind=0.75), UNSURE)
    level = evidence.ablations(toys(blind=0.75, **dict.fromkeys(ABLATIONS, 0.85)), UNSURE)
    for claim in ("C14", "C15", "C16", "C27"):
        assert set(states(claim, true[claim]).values()) == {"met"}
        assert set(states(claim, level[claim]).values()) == {"not_met"}
    assert true["C14"].parts["capacity"].value == pytest.approx(0.3 / 0.8, abs=0.01)
    assert true["C15"]["large_bias"].value == pytest.approx(0.6 / 0.75, abs=0.01), "against bias 18, not the default"
    assert true["C16"]["too_small"].value == pytest.approx(0.6 / 0.9, abs=0.01)


def test_a_loss_is_missed_only_where_the_teacher_is_unsure_and_training_counts():
    sure = states("C14", evidence.ablations(toys(), [0.0007, 0.0008, 0.0007, 0.0006, 0.0007])["C14"])
    assert sure == {"capacity": "void", "kl": "open", "ntp": "open"}, "untrained gates lose as much"


def test_beating_the_full_cache_counts_only_where_that_is_near_one():
    true = evidence.longer(toys())["C11"]
    assert true.parts["fewer_errors"].value == pytest.approx(0.03 / 0.05, abs=0.02)
    assert states("C11", true) == {"fewer_errors": "met"}
    assert states("C11", evidence.longer(toys(longer=(0.95, 0.93)))["C11"]) == {"fewer_errors": "not_met"}
    assert states("C11", evidence.longer(toys(longer=(0.5, 0.8)))["C11"]) == {"fewer_errors": "open"}
    assert states("C11", evidence.longer(toys(worse=0.98))["C11"]) == {"fewer_errors": "void"}, "any evictor does"


def test_transfer_both_ways():
    rows = toys()
    assert set(states("C17", evidence.transfer(rows)["C17"]).values()) == {"met"}
    for row in rows:
        row.transfer["narrow"] = [{m: 0.8 + spread(row.base, int(m) // 8) for m in BUDGETS}]
        row.transfer["general"] = [everywhere(0.4 + spread(row.base), BUDGETS)]
    assert set(states("C17", evidence.transfer(rows)["C17"]).values()) == {"not_met"}
    for row in rows:
        row.transfer["general"] = [everywhere(0.7 + spread(row.base, 1), BUDGETS)]
        row.transfer["rules"]["position"] = everywhere(0.7 + spread(row.base, 3), BUDGETS)
    assert states("C17", evidence.transfer(rows)["C17"])["general_transfers"] == "void"
    for row in rows:
        row.transfer["general"] = [everywhere(0.3 + spread(row.base, 1), BUDGETS)]
    assert states("C17", evidence.transfer(rows)["C17"])["narrow_faster"] == "open", "chance cannot be worsened"


# --- text -------------------------------------------------------------------------------------------------------------

FEW = ("32", "64", "128")


def text(i, trim=0.1, best=0.3, wrong=0.5, blind=0.8):
    """A document: what each rule costs in nats, at 32, 64 and 128 tokens half as much each time."""
    loss, e, share = 3.0 + 0.2 * np.sin(i), 1 + spread(i), {"32": 1.0, "64": 0.5, "128": 0.25}

    def cost(nats, k=2):
        return {m: loss + nats * (1 + spread(i, k)) * share[m] for m in FEW}

    losses = {rule: cost(best + 0.05 * place) for place, rule in enumerate(evidence.HEURISTICS)}
    losses |= {rule: cost(blind, 3) for rule in evidence.BLIND}
    renumbered = {"snapkv": {m: losses["snapkv"][m] + wrong * e for m in FEW}}
    return Row(
        document=i,
        full=loss,
        losses=losses,
        trim=[cost(trim, 1)] * 5,
        renumbered=renumbered,
    )


def test_text_both_ways():
    true, level = (evidence.texts([text(i, trim) for i in range(20)]) for trim in (0.05, 0.3))
    assert set(states("C7", true["C7"]).values()) == {"met", "untested"}
    assert set(states("C7", level["C7"]).values()) == {"not_met", "untested"}
    assert true["C7"].parts["text_64"].value == pytest.approx(0.05 / 0.3, rel=0.01)
    assert true["C22"].parts["text_32_against_128"].value == pytest.approx(0.05 / 0.075, rel=0.01)
    assert true["C22"].nulls["text_32_against_128"].value == pytest.approx(4, rel=0.01)
    assert states("C22", true["C22"]) == {"text_32_against_128": "met"}
    assert states("C22", level["C22"]) == {"text_32_against_128": "not_met"}


def test_a_lead_that_position_alone_has_too_is_void():
    rows = [text(i, 0.05) for i in range(20)]
    assert states("C7", evidence.texts(rows)["C7"])["text_64"] == "met"
    for i, row in enumerate(rows):
        row.losses["position"] = text(i, 0.07).trim[0]
    assert states("C7", evidence.texts(rows)["C7"])["text_64"] == "void"


def test_single_trainings_and_printed_ages_stand_beside():
    rows = [text(i, trim=0.1) for i in range(20)]
    for row in rows:
        row.trim = [row.trim[0]] * 4 + [{m: row.full + 2 * (loss - row.full) for m, loss in row.trim[0].items()}]
        row.trim_printed = row.trim[-1:]
    assert evidence.single_trainings(rows) == pytest.approx([1 / 3] * 4 + [2 / 3], rel=0.01)
    assert evidence.printed(rows).value == pytest.approx(2 / 3, rel=0.01)
    assert evidence.single_trainings([]) == []


def test_wrong_positions_both_ways():
    assert states("C25", evidence.texts([text(i) for i in range(20)])["C25"]) == {"degraded": "met"}
    assert states("C25", evidence.texts([text(i, wrong=0.01) for i in range(20)])["C25"]) == {"degraded": "not_met"}


def needle(i, full=0.9, trim=0.8, best=0.3, auc=(0.6, 0.9, 0.5), asked=0.9, oracle=0.9, cut=0.8):
    """A hidden fact; shares of needles that are found, and AUC of attention, gates, and of scores without training."""
    e = spread(i)

    def found(share):
        return {m: (i + 0.5) / 40 < share for m in FEW}

    return Row(
        article=i,
        full=(i + 0.5) / 40 < full,
        right=everywhere(found(best), evidence.HEURISTICS)
        | everywhere(found(0.1), evidence.BLIND)
        | {"oracle": found(oracle)},
        trim=[found(trim)] * 5,
        cut_right=everywhere(found(best), evidence.HEURISTICS),
        cut_trim=[found(cut)] * 5,
        auc=everywhere(auc[0] + e, evidence.ATTENTION)
        | everywhere(0.5 + e, ("untrained", "key norm", "keydiff"))
        | {"rarity": auc[2] + e},
        auc_trim=[auc[1] + e] * 5,
        auc_asked=everywhere(asked + e, evidence.ATTENTION),
    )


def test_needles_both_ways():
    true = evidence.needles([needle(i) for i in range(40)])
    assert states("C1", true["C1"]) == {"blind_before_asking": "met"}
    assert states("C2", true["C2"]) == {"knows_before_asking": "met"}
    assert states("C7", true["C7"])["needle_64"] == states("C7", true["C7"])["needle_64_cut"] == "met"
    other = evidence.needles([needle(i, trim=0.25, cut=0.25, auc=(0.9, 0.6, 0.5)) for i in range(40)])
    assert states("C1", other["C1"]) == {"blind_before_asking": "not_met"}
    assert states("C2", other["C2"]) == {"knows_before_asking": "not_met"}
    assert states("C7", other["C7"])["needle_64"] == states("C7", other["C7"])["needle_64_cut"] == "not_met"


def test_facts_in_one_article_are_one_unit():
    rows = [needle(i) for i in range(40)]
    for row in rows:
        row.article //= 2
    assert evidence.needles(rows)["C1"].parts["blind_before_asking"].n == 20
    assert [row.full for row in evidence.by_article(rows)][17:] == [1.0, 0.0, 0.0]
    assert evidence.by_article(rows[:2])[0].auc["h2o"] == pytest.approx(0.6 + (spread(0) + spread(1)) / 2)


def test_what_scores_know_is_named():
    assert evidence.knowledge([needle(i) for i in range(40)])["trim"] == pytest.approx(0.9)
    assert evidence.knowledge([]) == {}


def test_needles_that_say_nothing():
    lost = evidence.needles([needle(i, full=0.3, trim=0.3, best=0.05) for i in range(40)])
    assert states("C7", lost["C7"])["needle_64"] == "open", "what the model cannot find it cannot lose"
    rare = evidence.needles([needle(i, auc=(0.6, 0.9, 0.9), asked=0.6) for i in range(40)])
    assert states("C2", rare["C2"]) == {"knows_before_asking": "void"}, "a table of word counts knows as much"
    assert states("C1", rare["C1"]) == {"blind_before_asking": "void"}, "not even the question makes it tell"
    budget = evidence.needles([needle(i, trim=0.25, oracle=0.3) for i in range(40)])
    assert states("C7", budget["C7"])["needle_64"] == "void", "not even the fact itself in the cache suffices"


# --- what gates learned -----------------------------------------------------------------------------------------------


def kept(i, g=0, sinks=30, windows=9, periods=20, later=0.5, secondary=2):
    """What 90 heads keep: the first few hold the first token, the last few are windows, the rest are in between."""
    head = np.arange(HEADS)
    window = head >= HEADS - windows
    size = np.where(head < HEADS // 2, 200.0, 200.0 * later) * (1 + head % 3)
    size *= 1 + spread(i) + spread(g, 1) * head / HEADS
    return Row(
        first_kept=(head < sinks).astype(int),
        recent=np.where(window, 1.0, 0.5),
        size=np.where(window, 30.0, size),
        period_kept=np.where(window, 0, periods + i % 3),
        period_n=[50] * HEADS,
        other_kept=np.where(window, 0, 20),
        other_n=[400] * HEADS,
        secondary_kept=np.where(window, 0, secondary * (1 + spread(i))),
        secondary_n=[4] * HEADS,
    )


def classes(ratio):
    """Sums of twenty random classes: in head 5 each is ``ratio`` times as frequent as in the text."""
    kept = np.full((2, 5, 20, HEADS), 50)
    kept[..., 5] = 50 * ratio
    n, old = np.full((2, 20), 500), np.full((2, 5, HEADS), 450)
    return {"kept": kept.tolist(), "n": n.tolist(), "all_kept": old.tolist(), "all_n": [4500, 4500]}


def learned(ratio=1.2, expected=0.2, **changed):
    untrained = kept(0, windows=0)
    untrained.recent, untrained.size = np.ones(HEADS), 400.0 + np.arange(HEADS)
    gates = [[kept(i, g, **changed) for g in range(5)] for i in range(20)]
    by_place = [[expected] * HEADS] * 5
    return [
        Row(gates=one, untrained=untrained, expected=by_place, classes={} if i else classes(ratio))
        for i, one in enumerate(gates)
    ]


def test_what_was_learned_both_ways():
    true = evidence.learned(learned())
    assert true["C12"].parts["sink_heads"].value == 30 and true["C12"].parts["window_heads"].value == 9
    assert set(states("C12", true["C12"]).values()) == {"met"}
    assert set(states("C13", true["C13"]).values()) == {"met"}
    assert states("C28", evidence.learned(learned(secondary=3))["C28"]) == {"kept_more": "met"}
    other = evidence.learned(learned(sinks=12, windows=0, periods=3, later=1.5, secondary=0.1))
    assert set(states("C12", other["C12"]).values()) == {"not_met"}, "12 of 90 hold the first token by luck"
    assert states("C13", other["C13"])["later_sparser"] == "not_met"
    assert states("C28", other["C28"]) == {"kept_more": "not_met"}


def test_a_training_without_sinks_decides_for_all():
    rows = learned()
    for row in rows:
        row.gates[3].first_kept = np.zeros(HEADS)
    assert evidence.learned(rows)["C12"].parts["sink_heads"].value == 0


def test_windows_everywhere_are_no_finding():
    everywhere_windows = evidence.learned(learned(windows=HEADS, sinks=90))["C12"].parts["window_heads"]
    assert everywhere_windows.value == 90
    assert states("C12", {"window_heads": everywhere_windows})["window_heads"] == "not_met"


def test_secondary_sinks_are_compared_with_all_others_as_old():
    found = evidence.secondary(learned())
    kept_by = 81 * 2 / (90 * 4)  # window heads hold none
    others = 81 * (21 + 20 - 2) / (90 * (450 - 4))
    assert found.parts["kept_more"].value == pytest.approx(kept_by / others, rel=0.02)
    assert found.nulls["kept_more"].value == pytest.approx(0.2 / 4 / others, rel=0.02)
    held_by_place = evidence.learned(learned(secondary=3, expected=2.5))["C28"]
    assert states("C28", held_by_place) == {"kept_more": "void"}, "whatever stands there is held as often"
    (alone,) = learned()[:1]
    alone.expected = []
    assert evidence.secondary([alone]) == {"kept_more": None}
    rows = learned()
    for row in rows[:10]:
        for one in row.gates:
            one.secondary_kept = one.secondary_n = [0] * HEADS
    assert evidence.secondary(rows).parts["kept_more"].n == 10, "documents without a secondary sink have nothing to say"


def test_a_gist_head_is_measured_on_other_documents_than_it_is_chosen_on():
    rows = learned(periods=5)
    for row in rows[::2]:  # one head keeps nothing but sentence ends, in the documents of the choice alone
        for one in row.gates:
            one.period_kept[3], one.other_kept[3] = 50, 0
    assert evidence.sentence_ends(rows).value == pytest.approx((6 / 26) / (50 / 450), rel=0.05)


def test_a_gist_head_must_beat_the_best_head_of_a_random_class():
    assert evidence.random_classes(learned(ratio=3)).value == pytest.approx(3)
    assert states("C12", evidence.learned(learned(ratio=3))["C12"])["gist_head"] == "void"


def test_a_gate_as_initialised_has_learned_no_window():
    assert evidence.windows(evidence.untrained, learned()).sum() == 0, "recent tokens, but of the text's soft size"


# --- caches, time and problems ----------------------------------------------------------------------------------------


NUMBERS = 30 * 3 * 64  # layers, heads, tokens


def step(i, kept_generate=64, last=100, same=0.999, numbers=1, positions=1):
    return Row(
        same={"trim": same - abs(spread(i)) / 100, "h2o": same + 0.0005},
        window_same=0.5 + spread(i),
        kept_generate=kept_generate,
        tokens_full=300,
        bytes=[100, 100, 100, last],
        bytes_full=[100, 200, 300, 400],
        extra=4 * numbers * NUMBERS,
        extra_positions=4 * positions * NUMBERS,
        key_bytes=4 * 64 * NUMBERS,
    )


def test_a_real_cache_both_ways():
    true = evidence.steps([step(i) for i in range(20)], 64, 64)
    assert set(states("C4", true["C4"]).values()) == {"met"}
    assert states("C18", true["C18"]) == {"one_number": "met", "with_positions": "not_met"}
    assert states("C26", true["C26"])["same_evictions"] == "met"
    wrong = [step(i) for i in range(19)] + [step(19, kept_generate=65, last=101)]
    other = evidence.steps(wrong, 64, 64)
    assert set(states("C4", other["C4"]).values()) == {"not_met"}, "one token in one document is one too many"
    flips = evidence.steps([step(i, same=0.9) for i in range(20)], 64, 64)
    assert states("C26", flips["C26"])["same_evictions"] == "not_met"
    two = evidence.steps([step(0, numbers=2, positions=0)], 64, 64)
    assert states("C18", two["C18"]) == {"one_number": "not_met", "with_positions": "not_met"}


def rounds(trim, full, engine=20.0, streaming=11.0):
    ms = {"trim": trim, "snapkv": 10.0, "full": full, "streaming": streaming, "full_engine": engine}
    noise = [{name: 1 + spread(i, k) for k, name in enumerate(ms)} for i in range(20)]
    return [Row(ms={name: value * one[name] for name, value in ms.items()}) for one in noise]


def test_time_both_ways():
    assert set(states("C6", evidence.latency(rounds(10.0, 19.0))["C6"]).values()) == {"met"}
    assert set(states("C6", evidence.latency(rounds(13.0, 13.5))["C6"]).values()) == {"not_met"}


def test_time_is_compared_with_the_faster_of_two():
    slow_library = evidence.latency(rounds(10.0, 30.0, engine=10.2))["C6"]
    assert states("C6", slow_library) == {"as_fast_as_snapkv": "void", "faster_than_full": "not_met"}
    assert states("C6", evidence.latency(rounds(10.0, 19.0, streaming=5.0))["C6"])["as_fast_as_snapkv"] == "not_met"


def test_problems_leave_the_gates_out_of_the_heuristics():
    right = {"trim": 90, "snapkv": 30, "h2o": 20, "streaming": 10}
    rows = [
        Row(full=i < 95, right={rule: everywhere(i < share, ("64", "128")) for rule, share in right.items()})
        for i in range(100)
    ]
    found = evidence.problems(rows)["C29"]
    assert found["at_64"].value == pytest.approx(5 / 65)
    assert states("C29", found)["at_64"] == "open", "two hundred problems are asked for"
    assert states("C29", evidence.problems(rows * 2)["C29"])["at_64"] == "met"


def test_every_part_of_a_tested_claim_has_its_evidence():
    docs = range(20)
    found = {}
    for one in (
        evidence.needles([needle(i) for i in range(40)]),
        evidence.texts([text(i) for i in docs]),
        evidence.toys(toys(), UNSURE, 0.5),
        evidence.learned(learned()),
        evidence.steps([step(i) for i in docs], 64, 64),
        evidence.latency(rounds(10.0, 19.0)),
    ):
        for claim, given in one.items():
            found.setdefault(claim, set()).update(parts(given))
    by_hand = {"C3", "C5", "C19", "C20"}  # arithmetic in the notebook
    for claim in LEDGER.claims:
        if not isinstance(claim.tiers.cpu, ledgers.NotTested) and claim.id not in by_hand:
            names = {part.name for part in claim.parts} - ({"equal", "full_budget"} if claim.id == "C26" else set())
            assert found[claim.id] == names


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures_draw_rows_and_the_lack_of_them():
    needles, bases, documents = [needle(i) for i in range(40)], toys(), [text(i) for i in range(20)]
    heads = learned()
    drawn = [
        figures.knowing(needles, bases, 1.0),
        figures.facts(needles),
        figures.costs(evidence.text_costs(documents), "nats", "nats", log=True),
        figures.ablations(bases),
        figures.sizes(heads, 30),
    ]
    assert all(plot.title for plot in drawn)
    empty = [
        figures.knowing([], [], 1.0),
        figures.facts([]),
        figures.costs(None, "nats", "nats"),
        figures.ablations([]),
        figures.sizes([], 30),
    ]
    assert set(empty) == {figures.NOTHING}
    assert figures.knowing([], bases, 1.0).title.startswith("In a toy: before anyone asks")


def test_one_longer_training_stands_beside_the_short_ones():
    articles, long_articles = ([text(i, trim) for i in range(20)] for trim in (0.3, 0.15))
    needles, long_needles = ([needle(i, full=1.0, trim=right) for i in range(20)] for right in (0.1, 0.6))
    for row in long_articles:
        row.losses.clear()  # the heuristics are those of the short trainings' rows
    costs = evidence.trained_longer(articles, long_articles)
    assert costs["64"].value == pytest.approx(0.5, rel=0.01) and costs.keys() == {"32", "64", "128"}
    said = figures.trained_longer(articles, needles, long_articles, long_needles)
    assert f"{100 * evidence.lost(long_needles):.0f} % of the facts" in said
    assert said.endswith(f"with the short ones {100 * evidence.lost(needles):.0f} %.")
    assert evidence.lost(long_needles) < evidence.lost(needles)
    assert figures.trained_longer(articles, needles, [], []) == "Not measured."


def test_the_sentence_on_text_needs_facts_and_articles():
    needles, documents = [needle(i) for i in range(40)], [text(i) for i in range(20)]
    assert figures.on_text([], documents, [], [], 2.0) == figures.on_text(needles, [], [], [], 2.0) == ""
    assert "times in 100, the best attention score" in figures.on_text(needles, documents, [], [], 2.0)
    assert "on 3 times as many tokens" in figures.on_text(needles, documents, needles, documents, 3.0)


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"models": "gemma-3-270m"}, "no gates are stored for 'gemma-3-270m': take smollm2-135m"),
        ({"gates": "mine.pth"}, "read at the gpu tier alone"),
        ({"tier": "gpu"}, "no gates are released for 'smollm2-135m': take Qwen/Qwen3-1.7B"),
        ({"tier": "gpu", "gates": "nowhere.pth"}, "gates 'nowhere.pth' are neither a file nor a hub id"),
    ],
)
def test_what_has_no_gates_is_refused(changed, said):
    with pytest.raises(ClaimbookError, match=said):
        inputs.check({"tier": "cpu", "models": "smollm2-135m", "gates": ""} | changed)


def test_what_has_gates_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs.catalogue, "get", lambda key: key)
    torch.save({"gate": torch.ones(2)}, tmp_path / "own.pth")
    for tier, models, gates in (
        ("cpu", "smollm2-135m", ""),
        ("smoke", "tiny-random-llama", ""),
        ("gpu", "Qwen/Qwen3-4B", ""),
        ("gpu", "tiny-random-llama", str(tmp_path / "own.pth")),
        ("gpu", "owner/model", "owner/gates"),
    ):
        inputs.check({"tier": tier, "models": models, "gates": gates})


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([torch.ones(2)], "are no state dict"),
        ({1: torch.ones(2)}, "are no state dict"),
        ({"gate": [1.0]}, "gate holds no finite floating-point numbers"),
        ({"gate": torch.ones(2, dtype=torch.int8)}, "gate holds no finite floating-point numbers"),
        ({"gate": torch.ones(2, dtype=torch.complex64)}, "gate holds no finite floating-point numbers"),
        ({"gate": torch.tensor([1.0, float("nan")])}, "gate holds no finite floating-point numbers"),
        ({"gate": torch.ones(2).to_sparse()}, "gate holds no finite floating-point numbers"),
        (b"no tensors", "neither a file that torch.save wrote of tensors alone nor on the hub"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_gates_that_cannot_be_used_are_refused_before_a_model_is_loaded(tmp_path, monkeypatch, held, said):
    monkeypatch.setattr(inputs.catalogue, "get", lambda key: key)
    path = tmp_path / "own.pth"
    path.write_bytes(held) if isinstance(held, bytes) else torch.save(held, path)
    with pytest.raises(ClaimbookError, match=said):
        inputs.check({"tier": "gpu", "models": "tiny-random-llama", "gates": str(path)})


def test_problems_that_are_not_fetched_are_missed_before_a_model_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("CLAIMBOOK_CACHE", str(tmp_path))
    with pytest.raises(ClaimbookError, match="gsm8k-test"):
        inputs.check({"tier": "gpu", "models": "Qwen/Qwen3-4B", "gates": ""})


def test_rows_are_measured_of_the_model_that_has_gates():
    def run(tier="cpu", models=("smollm2-135m",)):
        return Row(tier=tier, models=models, text="", seed=0)

    assert inputs.settings(run())["n_texts"] == 2
    assert inputs.settings(run(tier="gpu")) == inputs.settings(run(models=("tiny-random-llama",))) == {}
