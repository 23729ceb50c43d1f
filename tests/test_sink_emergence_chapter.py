"""The chapter on emergence: its parts bite, its figures draw, its tiers run, and bad input gets one line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from claimbook import paths, plotting
from claimbook.claims import ledgers, verdicts
from claimbook.experiments.sink_emergence import live, parts, text_parts, toy_parts, toys, view
from claimbook.experiments.sink_emergence.stored import PRETRAINING_ARMS, STORED, TOYS
from claimbook.lm.decoder import Decoder
from claimbook.lm.geometry import Geometry
from claimbook.lm.training import Recipe
from claimbook.runs import parameters

pytestmark = pytest.mark.numeric

LEDGER = ledgers.load("sink_emergence")
SEEDS = 5


def claimbook(*words):
    command = [sys.executable, "-m", "claimbook", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=paths.root(), timeout=600)


def states(found):
    """State of each part that was measured, {claim: {part: state}}; every name must be in the ledger."""
    return {
        claim: {name: verdicts.part_state(LEDGER.claim(claim).part(name), one) for name, one in measured.items()}
        for claim, measured in found.items()
    }


# --- real models ---------------------------------------------------------------------------------------------------


def found_as(first, repeated=0.1, *, key=0.3, value=0.2, hidden=100.0, first_cosine=0.4):
    """A model of 4 layers and 2 heads whose first token draws ``first`` of the attention, and others little."""
    noise = torch.Generator().manual_seed(0)
    count, layers, heads = 100, 4, 2

    def alpha(level):
        values = 0.02 + 0.01 * torch.rand(count, layers, heads, 32, generator=noise)
        on = torch.rand(count, layers, heads, generator=noise) < 0.7
        values[..., 0] = torch.where(on, torch.tensor(level), values[..., 0])
        return values

    geometry = Geometry()
    spread = 1 + 0.05 * torch.rand(layers, 24, 1, generator=noise)
    geometry._rows = {
        layer: {
            "key_norm": key * spread[layer],
            "value_norm": value * spread[layer],
            "cosine_first": first_cosine * spread[layer].expand(-1, heads),
            "cosine_others": 0.1 * spread[layer].expand(-1, heads),
        }
        for layer in range(layers)
    }
    geometry.hidden_norm = hidden * spread[..., 0]
    return live.Found(
        natural=alpha(first),
        random=alpha(first),
        repeated=alpha(repeated),
        geometry=geometry,
        repeats={"distance": 1e-6, "above": 0, "checked": 100, "bound": 0.5},
    )


def test_a_model_with_a_sink_meets_what_the_paper_says():
    assert states(parts.protocol(found_as(0.6))) == {
        "C1": {"sink_exists": "met", "first_is_largest": "met"},
        "C2": {"random_keeps": "met", "repeated_loses": "met"},
        "C3": {"states_coincide": "met", "rotary_bound": "met"},
        "C7": {"massive": "met", "keys_smaller": "met", "values_smaller": "met", "angle_decides": "met"},
    }


def test_each_part_of_the_protocol_can_fail():
    assert states(parts.protocol(found_as(0.6, repeated=0.6)))["C2"]["repeated_loses"] == "not_met"
    other = found_as(0.6)
    other.natural[..., 5] = 0.9
    assert states(parts.protocol(other))["C1"]["first_is_largest"] == "not_met"
    weak = found_as(0.6)
    weak.natural[:, 1:, :, 0] = weak.random[:, 1:, :, 0] = 0.1
    assert states(parts.protocol(weak))["C1"]["sink_exists"] == "not_met"
    assert states(parts.protocol(weak))["C2"]["random_keeps"] == "not_met"
    wrong = states(parts.protocol(found_as(0.6, key=1.5, value=1.5, hidden=2.0, first_cosine=0.01)))["C7"]
    assert set(wrong.values()) == {"not_met"}


def test_norms_and_angles_count_in_sink_heads_only():
    found = found_as(0.6)
    found.natural[:, 0, :, 0] = 0.05  # no sink in the first layer
    found.geometry._rows[0]["key_norm"][:] = 50.0
    assert parts.protocol(found)["C7"]["keys_smaller"].value < 0.4


def domain_curves(shift=0.0, slope=-0.07, steep=-0.04, early=0.0):
    noise = np.random.default_rng(0)
    lengths, epsilons = [16, 32, 64, 128, 256], [0.2, 0.3, 0.4, 0.5]
    base = np.array([0.8, 0.7, 0.6, 0.5]) + 0.02 * noise.standard_normal((60, 1))
    steps = np.arange(5)[:, None] * (slope + steep * (np.array(epsilons) - 0.3) / 0.3)
    by_length = base[:, None, :] + steps + 0.01 * noise.standard_normal((60, 5, 4))
    blocks = 0.7 + 0.02 * noise.standard_normal((60, 8))
    blocks[:, :2] = early + 0.02 * noise.standard_normal((60, 2))

    def one(shift):
        rows = base + shift + 0.02 * noise.standard_normal((60, 1))
        return {"by_epsilon": rows.tolist(), "by_length": by_length.tolist(), "by_block": blocks.tolist()}

    return (
        {"text": one(0), "docstrings": one(shift), "kjv": one(shift), "wikibooks-recipes": one(shift)},
        epsilons,
        lengths,
    )


def test_domains_lengths_and_blocks():
    curves, epsilons, lengths = domain_curves()
    assert set(states(parts.domains(curves, "text", epsilons, lengths))["C6"].values()) == {"met"}
    curves, epsilons, lengths = domain_curves(shift=0.2, slope=0.0, steep=0.04, early=0.6)
    assert set(states(parts.domains(curves, "text", epsilons, lengths))["C6"].values()) == {"not_met"}


def test_windows_and_interventions():
    noise = np.random.default_rng(0)

    def rows(first, later):
        return [
            {
                "first": (first + 0.05 * noise.standard_normal((3, 40))).tolist(),
                "window_first": [[later + 0.01 * noise.random()] * 4] * 3,
            }
            for _ in range(20)
        ]

    assert states(parts.windows(rows(0.33, 0.02))) == {"C17": {"first_while_visible": "met", "not_window_first": "met"}}
    assert states(parts.windows(rows(0.01, 0.5)))["C17"]["not_window_first"] == "not_met"

    def losses(exchange, value):
        names = ["as it is", "exchanged in all heads", "no value in sink heads"]
        draw = 0.003 * noise.standard_normal((20, 3)) + [3.0, 3.0 + exchange, 3.0 + value]
        return [{"loss": dict(zip(names, row, strict=True))} for row in draw.tolist()]

    assert set(states(parts.interventions(losses(0.0, 0.0)))["C29"].values()) == {"met"}
    assert set(states(parts.interventions(losses(0.1, 0.6)))["C29"].values()) == {"not_met"}


def test_the_unit_is_the_sample_the_document_and_the_seed():
    """Heads, layers, lengths and steps within one are no further units."""
    noise = np.random.default_rng(0)
    rows = [{"first": noise.random((3, 4)).tolist(), "window_first": noise.random((3, 4)).tolist()} for _ in range(20)]
    losses = [
        {"loss": dict(zip(("as it is", "exchanged in all heads", "no value in sink heads"), row, strict=True))}
        for row in noise.random((20, 3)).tolist()
    ]
    curves, epsilons, lengths = domain_curves()
    protocol = parts.protocol(found_as(0.6))  # its C3 is exact
    text = text_parts.parts({"packed": decoders(0.1), "fixed": decoders(0.5), "fixed_key_bias": decoders(0.1, slots=1)})
    toy = toy_parts.parts({name: rows for name, rows in as_the_paper_says().items() if len(rows) == SEEDS})
    for unit, count, found in (
        ("samples", 100, {"C1": protocol["C1"], "C2": protocol["C2"]}),
        ("samples", 24, {"C7": protocol["C7"]}),
        ("samples", 60, parts.domains(curves, "text", epsilons, lengths)),
        ("documents", 20, parts.windows(rows)),
        ("documents", 20, parts.interventions(losses)),
        ("seeds", SEEDS, text),
        ("seeds", SEEDS, toy),
    ):
        assert {(one.n, one.unit) for measured in found.values() for one in measured.values()} == {(count, unit)}


def test_a_share_of_heads_counts_those_above_the_threshold_not_at_it():
    rows = [{"first": [[0.3, 0.3, 0.31, 0.29]], "window_first": [[0.0] * 4]}] * 3
    assert parts.windows(rows)["C17"]["first_while_visible"].value == 0.25


# --- toys ------------------------------------------------------------------------------------------------------------


def arm(first=0.45, bias=None, *, second=0.04, hidden=5.0, copied=0.99, loss=2.17, seed=0, seeds=SEEDS):
    noise = np.random.default_rng(seed)
    rows = []
    for _ in range(seeds):
        attention = [first, second, 0.03, 0.02, *[0.01] * 12]
        attention = [bias, *attention] if bias is not None else attention
        rows.append(
            {
                "attention": [a * (1 + 0.02 * noise.standard_normal()) for a in attention],
                "hidden": hidden * (1 + 0.02 * noise.standard_normal()),
                "validation": loss + 0.001 * noise.standard_normal(),
                "copied": copied,
                "alpha": [0.07, first * (1 + 0.02 * noise.standard_normal())],
                "share_of_most": 0.8 + 0.01 * noise.standard_normal(),
                "most": first + 0.01 * noise.standard_normal(),
            }
        )
    return rows


def as_the_paper_says():
    """Toys that behave as the paper's models do; every arm has noise of its own."""
    found = {name: arm(seed=i) for i, name in enumerate(n for family in TOYS.values() for n in family)}
    changed = {
        "rate 0.0003": {"first": 0.1}, "rate 0.001": {"first": 0.25}, "rate 0.01": {"first": 0.9},
        "rate 0.0003, 4000 steps": {"first": 0.2}, "rate 0.001, 1200 steps": {"first": 0.3},
        "rate 0.01, 120 steps": {"first": 0.7}, "16 samples": {"first": 0.05},
        "fixed at 2": {"first": 0.03, "second": 0.5}, "two random": {"first": 0.05, "second": 0.4},
        "three, two random": {"first": 0.05, "second": 0.4}, "three, fixed at 2": {"first": 0.03, "second": 0.5},
        "relative": {"first": 0.8},
        "decay 0.5": {"first": 0.95}, "decay 5": {"first": 0.01},
        "K bias": {"first": 0.05, "bias": 0.7}, "KV bias": {"first": 0.05, "bias": 0.7},
        "value 20": {"first": 0.6, "bias": 0.02}, "even value 20": {"first": 0.4, "bias": 0.02},
        "4 heads, K bias": {"first": 0.05, "bias": 0.7}, "4 heads, shared K bias": {"first": 0.05, "bias": 0.65},
        "1 dimensions": {"first": 0.1, "bias": 0.3}, "8 dimensions": {"first": 0.1, "bias": 0.4},
        "value 1": {"first": 0.1, "bias": 0.6}, "value 5": {"first": 0.2, "bias": 0.4},
        "sink logit": {"first": 0.1, "bias": 0.6},
        "own key seen, K bias": {"first": 0.1, "bias": 0.6},
        **{f"unfixed, {name}": {"first": 0.05, "bias": 0.7}
           for name in ("K bias", "KV bias", "sink logit", "4 heads, K bias", "4 heads, shared K bias")},
        "unfixed, V bias": {"first": 0.05},
        **{f"unfixed, {name}": {"first": 0.05, "bias": 0.02} for name in ("value 20", "even value 20")},
        **{f"unfixed, {name}": {"first": 0.05, "bias": 0.3}
           for name in ("value 1", "value 5", "1 dimensions", "8 dimensions")},
        **{name: {"first": 0.02} for name in ("elu", "identity kernel", "mlp kernel", *toy_parts.SIGMOID)},
        "rows of 2": {"first": 0.75}, "rows of 0.1": {"first": 0.1},
        "three, K bias": {"first": 0.05, "bias": 0.6, "hidden": 1.0}, "three, sigmoid": {"first": 0.05, "hidden": 1.0},
    }  # fmt: skip
    found |= {name: arm(**options, seed=100 + i) for i, (name, options) in enumerate(changed.items())}
    found |= {name: arm(seed=50 + i, seeds=20) for i, name in enumerate(TOYS["batch"])}
    for row in found["three, fixed at 3"]:
        row["attention"][:3] = [0.03, 0.03, 0.5 + 0.01 * row["hidden"]]
    return found


def test_toys_as_the_paper_has_them_meet_every_part():
    found = states(toy_parts.parts(as_the_paper_says()))
    assert {claim: set(one.values()) for claim, one in found.items()} == {claim: {"met"} for claim in found}
    measured = {claim.id: {part.name for part in claim.parts} for claim in LEDGER.claims if claim.tiers.cpu == "toy"}
    text = {name for claim in LEDGER.claims for name in (part.name for part in claim.parts) if by_text(name)}
    assert {claim: names - text for claim, names in measured.items() if claim != "C9"} == {
        c: set(p) for c, p in found.items()
    }


def by_text(part):
    return part.startswith("text_") or part in ("emerges", "not_at_first", "lower_rate_weaker", "little_data_none")


def test_toys_that_are_all_alike_fail_what_asks_for_a_difference():
    alike = {
        name: arm(bias=0.01 if "bias" in name else None, hidden=1.0, seed=i)
        for i, name in enumerate(as_the_paper_says())
    }
    for before in ("", "unfixed, "):
        alike |= {before + name: arm(bias=0.4, seed=3) for name in ("value 20", "even value 20")}
        alike |= {before + name: arm(bias=0.01, seed=3) for name in ("1 dimensions", "8 dimensions", "sink logit")}
    found = states(toy_parts.parts(alike))
    for claim, part in (
        ("C12", "toy_little_data"), ("C13", "two_random_move"), ("C14", "moves_there"), ("C15", "toy_rise"),
        ("C15", "toy_destroyed"), ("C22", "key_bias_takes"), ("C22", "key_bias_frees"), ("C23", "falls"),
        ("C22", "key_bias_takes_alone"), ("C22", "kv_bias_takes_alone"), ("C23", "falls_alone"),
        ("C23", "falls_evenly_alone"), ("C24", "few_dimensions_less"), ("C24", "few_dimensions_less_alone"),
        ("C25", "sigmoid_none"), ("C26", "double_more"), ("C26", "tenth_less"),
        ("C26", "sigmoid_never"), ("C28", "default_has"), ("C12", "toy_never"),
    ):  # fmt: skip
        assert found[claim][part] == "not_met", (claim, part)
    assert found["C28"].keys() == {"default_has"} and found["C19"].keys() == {"post_norm_has_it"}, (
        "without massive activations there is nothing to follow"
    )


def test_massive_activations_are_counted_from_a_ratio_of_one():
    found = as_the_paper_says()
    found |= {"three, K bias": arm(bias=0.6, hidden=4.5, seed=1), "three, V bias": arm(hidden=1.2, seed=2)}
    assert states(toy_parts.parts(found))["C28"] == {
        "default_has": "met", "key_bias_none": "not_met", "sigmoid_none": "met", "value_bias_has": "not_met",
    }  # fmt: skip


def test_attention_counts_above_what_even_attention_gives():
    rows = np.tril(np.ones((64, 64)), -1)  # a query does not see its own key
    rows /= np.maximum(rows.sum(axis=1, keepdims=True), 1)
    expected = (rows.sum(axis=0) / np.arange(64, 0, -1))[:16]
    assert np.allclose(toy_parts.even("default"), expected, atol=1e-6)
    beside = np.hstack([np.ones((64, 1)), np.tril(np.ones((64, 64)), -1)])
    beside /= beside.sum(axis=1, keepdims=True)
    assert np.allclose(toy_parts.even("K bias")[:2], [beside[:, 0].mean(), beside[:, 1].mean()], atol=1e-6)
    assert toy_parts.even("relative")[0] > 0.3, "the paper's relative bias alone draws to the first"
    chance = {
        name: arm(first=0.074, second=0.059, bias=0.074 if "bias" in name else None) for name in ("default", "K bias")
    }
    t = toy_parts.Toys(chance)
    assert abs(t.extra().mean()) < 0.002 and abs(t.extra_bias("K bias").mean()) < 0.002


def test_toys_without_sinks_fail_what_asks_for_one():
    found = as_the_paper_says()
    for name in (
        *toy_parts.POSITIONS,
        *toy_parts.FEED_FORWARD,
        "4 heads",
        "4 heads, summed",
        "three, post-norm",
        "V bias",
        "three, one random",
        "three, prefix 5",
    ):
        found[name] = arm(first=0.05, hidden=1.0, seed=7)
    for row in found["three, prefix 5"]:
        row["attention"][8] = 0.3
        row["share_of_most"] -= 0.5
    failed = states(toy_parts.parts(found))
    assert set(failed["C18"].values()) == set(failed["C19"].values()) == set(failed["C16"].values()) == {"not_met"}
    for claim, part in (
        ("C20", "least_of_all"),
        ("C21", "least_of_all"),
        ("C21", "summed_heads"),
        ("C22", "value_bias_does_not"),
        ("C13", "one_random_stays"),
    ):
        assert failed[claim][part] == "not_met"


def test_a_toy_that_does_not_solve_the_task_says_nothing_about_positions():
    found = as_the_paper_says() | {"none": arm(first=0.05, copied=0.3)}
    assert states(toy_parts.parts(found))["C18"]["none"] == "open"


def test_a_missing_family_leaves_its_parts_untested():
    found = as_the_paper_says()
    del found["decay 5"]
    measured = toy_parts.parts(found)
    assert "C15" not in measured and "C14" in measured and toy_parts.parts({}) == {}


# --- real text -------------------------------------------------------------------------------------------------------


def decoder(end, tenth=0.0, slots=0, hidden=1.0, loss=2.7, on_bias=0.7):
    def at(step, rate):
        rates = [on_bias] * slots + [rate, 0.0, 0.0, 0.0]
        alpha = [[[0.1] * (slots + 1)] * 4] * 6
        return {"step": step, "sink": {"0.3": rates}, "alpha": alpha, "hidden_norm": [0.9, hidden], "loss": loss}

    return {"measured": [at(0, 0.0), at(244, tenth), at(2442, end)], "tokens_per_step": 4096}


def decoders(end, tenth=0.0, count=SEEDS, hidden=1.0, loss=2.7, **options):
    noise = np.random.default_rng(int(1000 * end))

    def near(value):
        return value * (1 + 0.05 * noise.standard_normal())

    return [
        decoder(
            near(end), tenth * (1 + noise.random()), hidden=near(hidden), loss=loss + 0.01 * noise.random(), **options
        )
        for _ in range(count)
    ]


def test_parts_on_real_text_can_be_met_and_not_met():
    arms = {"packed": decoders(0.1, tenth=0.001), "fixed": decoders(0.5, hidden=8.0)}
    bias = {"fixed_key_bias": decoders(0.02, slots=1, hidden=1.1)}
    found = states(text_parts.parts(arms | bias))
    assert found == {
        "C9": {"emerges": "met", "not_at_first": "met"},
        "C14": {"text_stronger": "met"},
        "C22": {"text_bias_takes": "met", "text_bias_frees": "met", "text_same_loss": "met"},
        "C28": {"text_fixed_has": "met", "text_key_bias_none": "met"},
    }
    arms = {"packed": decoders(0.05, tenth=0.1), "fixed": decoders(0.1, hidden=2.0)}
    bias = {"fixed_key_bias": decoders(0.2, slots=1, hidden=3.0, loss=2.5, on_bias=0.01)}
    found = states(text_parts.parts(arms | bias))
    assert {state for measured in found.values() for state in measured.values()} == {"not_met"}


def test_one_seed_is_shown_and_decides_nothing():
    arms = {"fixed": decoders(0.5)} | {f"fixed_{name}": decoders(0.01, count=1) for name in ("slow", "little", "decay")}
    found = states(text_parts.parts(arms))
    assert {found[claim][part] for claim, part in (
        ("C10", "lower_rate_weaker"), ("C12", "little_data_none"), ("C15", "text_rise"))} == {"open"}  # fmt: skip


def test_the_floor():
    found = text_parts.preconditions({"packed": decoders(0.01), "fixed": decoders(0.2)})
    assert set(found) == {claim.id for claim in LEDGER.claims if claim.preconditions}
    for claim, (state, arm) in {"C9": ("not_met", "packed"), "C10": ("met", "fixed"), "C15": ("met", "fixed")}.items():
        has_a_sink = LEDGER.claim(claim).precondition("has_a_sink")
        assert (verdicts.part_state(has_a_sink, found[claim]), found[claim].arms) == (state, (arm,))
    assert set(text_parts.preconditions({"packed": decoders(0.01)})) == {"C9"}


def test_every_part_on_text_names_the_arms_it_compares():
    """A precondition counts on the arm of its part alone; C10 and C12 were once held back by an arm they do not use."""
    found = text_parts.parts(
        dict.fromkeys(("packed", "fixed", "fixed_slow", "fixed_little", "fixed_decay"), decoders(0.2))
    )
    needed = text_parts.preconditions({"packed": decoders(0.2), "fixed": decoders(0.2)})
    for claim, measured in found.items():
        for part, estimate in measured.items():
            assert LEDGER.claim(claim).part(part).needs is None or set(needed[claim].arms) <= set(estimate.arms)


def test_only_seeds_that_solve_the_task_count():
    assert list(toy_parts.Toys({"rotary": arm(copied=0.9)}).solved("rotary")) == [True] * SEEDS


def test_the_first_token_comes_after_the_bias():
    found = decoders(0.2, slots=1)
    assert text_parts.last(found).max() < 0.3 and text_parts.last(found, column="bias").min() == 0.7


# --- declarations ----------------------------------------------------------------------------------------------------


def test_every_declared_training_is_well_formed():
    recipe = STORED["toys_default"].config["recipe"]
    for arms in TOYS.values():
        for change in arms.values():
            assert change.keys() <= {"decoder", "attention", "text", "recipe"}
            Decoder(
                vocabulary=41, **toys.ARCHITECTURE | change.get("decoder", {}), attention=change.get("attention", {})
            )
            toys.Text(**change.get("text", {}))
            Recipe(**recipe | change.get("recipe", {}))
    names = [name for arms in TOYS.values() for name in arms]
    assert len(names) == len(set(names))
    assert all(
        f"text_{name}_{seed}" in STORED for name, (_, seeds) in PRETRAINING_ARMS.items() for seed in range(seeds)
    )


# --- figures ---------------------------------------------------------------------------------------------------------


def test_figures_draw_what_there_is_and_say_what_there_is_not():
    t, none = toy_parts.Toys(as_the_paper_says()), toy_parts.Toys({})
    curves, epsilons, lengths = domain_curves()
    config = {"epsilons": epsilons, "lengths": lengths}
    arms = {"packed": decoders(0.01), "fixed": decoders(0.2)}
    for draw in (
        lambda ax: view.bars(ax, t, ["default", "sigmoid"]),
        lambda ax: view.bars(ax, none, ["default"]),
        lambda ax: view.first_tokens(ax, t, {"fixed": "default"}, "attention"),
        lambda ax: view.first_tokens(ax, none, {"fixed": "default"}, "attention"),
        lambda ax: view.lengths(ax, curves, "text", config),
        lambda ax: view.lengths(ax, {}, "text", config),
        lambda ax: view.blocks(ax, {"a-1b": curves, "b-2b": {}}, "text"),
        lambda ax: view.inputs(ax, {"a": found_as(0.6)}, {"a": torch.linspace(0, 1, 100)}),
        lambda ax: view.norms(ax, {"a-1b": found_as(0.6).geometry}),
    ):
        fig, ax = plotting.figure()
        draw(ax)
        assert plotting.png(plotting.Plot(fig, "drawn"), "toy")[:4] == b"\x89PNG"
    for some in (arms, arms | {"key_bias": decoders(0.01, count=1, slots=1)}, {}):
        fig, axes = plotting.figure(2, 1, height=6.4)
        view.emergence(axes, some, 0.03)
        assert plotting.png(plotting.Plot(fig, "drawn"), "toy")
    for some in (t, none):
        fig, axes = plotting.figure(1, 2, sharey=True)
        view.biases(axes, some)
        assert plotting.png(plotting.Plot(fig, "drawn"), "toy")
    assert view.raw_table_rows(none, ["sigmoid"]) == [] and view.text_table_rows({}) == []
    row = view.text_table_rows({"key_bias": decoders(0.01, count=1, slots=1)})[0]
    assert row[:2] == ["packed text, key bias", "1"] and row[3] == "70.0"
    assert view.domain_rates(curves, config).startswith("Wikipedia") and view.domain_rates({}, config) is None


def test_figures_of_what_was_trained_draw_every_seed():
    """A curve or a dot for each, with the numbers of that seed; and the mean beside the dots is of all of them."""
    arms = {"packed": decoders(0.1), "fixed": decoders(0.5, count=3), "key_bias": decoders(0.02, slots=1)}
    _, axes = plotting.figure(2, 1, height=6.4)
    view.emergence(axes, arms, 0.03)
    drawn = [line.get_ydata()[-1] for line in axes[1].lines if len(line.get_xdata()) == 3]
    columns = {"packed": "first", "fixed": "first", "key_bias": "bias"}
    expected = [100 * end for arm, column in columns.items() for end in text_parts.last(arms[arm], column=column)]
    assert sorted(drawn) == pytest.approx(sorted(expected)) and len(drawn) == 2 * SEEDS + 3
    t = toy_parts.Toys(as_the_paper_says())
    _, ax = plotting.figure()
    view.bars(ax, t, ["sigmoid"])
    dots, mean = ax.lines[:2]
    assert list(dots.get_xdata()) == list(t.first("sigmoid")) and len(dots.get_xdata()) == SEEDS
    assert mean.get_xdata()[0] == pytest.approx(t.first("sigmoid").mean())
    _, ax = plotting.figure()
    view.first_tokens(ax, t, {"fixed": "default"}, "attention")
    assert ax.lines[0].get_ydata()[0] == pytest.approx(t.first().mean())


# --- as a rerunner meets it ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny-random-gpt2", "tiny-random-gemma3_text"])
def test_the_gpu_tier_runs_end_to_end_on_a_tiny_model(model):
    done = claimbook("rerun", "sink_emergence", "--tier", "gpu", "--device", "cpu", "--models", model)
    assert done.returncode == 0, done.stderr[-2000:]
    pointer = paths.runs() / "sink_emergence" / "latest"
    result = json.loads((pointer.parent / pointer.read_text().strip() / "result.json").read_text())
    found = result["claims"]
    assert found["C22"]["verdict"] == "not_tested" and found["C1"]["fidelity"] == "reduced"
    assert (found["C4"]["parts"]["swapped_moves"]["state"] != "untested") == (model == "tiny-random-gpt2")
    assert found["C17"]["parts"]["small_windows_prevent"]["state"] == "untested"
    assert (found["C3"]["parts"]["rotary_bound"]["state"] == "met") == (model != "tiny-random-gpt2")


def test_a_new_machine_fetches_what_a_run_opens():
    needed = parameters.needed_assets("sink_emergence", parameters.defaults("sink_emergence"))
    assert needed == ["docstrings", "gemma-3-270m", "kjv", "smollm2-135m", "wikibooks-recipes", "wikipedia-excerpt"]


@pytest.mark.slow
def test_a_text_that_is_too_short_is_one_line(tmp_path):
    (tmp_path / "mine.txt").write_text("a few words only")
    done = claimbook(
        "rerun",
        "sink_emergence",
        "--tier",
        "smoke",
        "--models",
        "tiny-random-llama",
        "--text",
        str(tmp_path / "mine.txt"),
    )
    assert done.returncode == 2 and "mine.txt' has" in done.stderr and "tokens" in done.stderr
    assert "Traceback" not in done.stderr
