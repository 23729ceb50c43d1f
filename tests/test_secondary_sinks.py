"""Detectors of secondary sinks: planted ones are found where they are, off-by-ones and signs turn these tests red."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import planted as planted_model
from claimbook.experiments.secondary_sinks import change, find, probe
from claimbook.lm import block_outputs, residual, tiny
from claimbook.lm.load import LM
from claimbook.lm.residual import trace
from claimbook.papers import secondary_sinks as method
from claimbook.papers.secondary_sinks import Sink

pytestmark = pytest.mark.numeric

LAYERS, TOKENS, WIDTH = 12, 20, 16
START, LIFE, TOKEN = 4, 5, 9


def planted(sign=1.0, anisotropic=0.0):
    """States (L, T, d): a primary at 0, massive in blocks 2 to 9, and a token that joins it in blocks 4 to 8."""
    draw = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(WIDTH, generator=draw), dim=0)
    states = torch.randn(LAYERS, TOKENS, WIDTH, generator=draw) + anisotropic * direction
    states[2:10, 0] = 500 * direction
    states[START : START + LIFE, TOKEN] += sign * 80 * direction
    return states


def seen(states, at=0):
    return states.norm(dim=-1), torch.nn.functional.cosine_similarity(states, states[:, at : at + 1], dim=-1)


def test_the_primary_is_the_longest_of_the_first_tokens():
    norms, _ = seen(planted())
    assert method.primary(norms) == 0
    swapped = norms[:, [1, 0, *range(2, TOKENS)]]
    assert method.primary(swapped) == 1
    assert method.primary(norms[:, [2, 1, 0]], candidates=2) == 1 or method.primary(norms[:, [2, 1, 0]], 3) == 2


def test_the_clipper_is_the_steepest_rise_and_the_steepest_fall_after_it():
    norms, _ = seen(planted())
    assert method.clipper(norms[:, 0]) == (2, 10)
    assert method.clipper(torch.tensor([9.0, 1.0, 1.0, 8.0, 8.0, 3.0])) == (3, 5), "an earlier fall does not count"
    assert method.clipper(torch.tensor([1.0, 1.0, 1.0, 8.0])) == (3, 4), "a rise in the last block has no fall"


@pytest.mark.parametrize("rule", ["official", "by_norm"])
def test_a_planted_sink_is_found_where_it_is(rule):
    norms, cosines = seen(planted())
    flags = method.official(norms, cosines, 0) if rule == "official" else method.by_norm(norms, cosines, 0, 5)
    assert method.sinks(flags) == [Sink(TOKEN, tuple(range(START, START + LIFE)))]


def test_a_sink_that_points_the_other_way_is_one_for_the_official_rule_alone():
    norms, cosines = seen(planted(sign=-1.0))
    assert [one.token for one in method.sinks(method.official(norms, cosines, 0))] == [TOKEN]
    assert method.sinks(method.by_norm(norms, cosines, 0, 5)) == []


def test_without_a_norm_the_official_rule_flags_all_where_states_are_alike():
    norms, cosines = seen(planted(anisotropic=30.0))
    assert len(method.sinks(method.official(norms, cosines, 0))) == TOKENS - 1
    assert [one.token for one in method.sinks(method.by_norm(norms, cosines, 0, 2))] == [TOKEN]


def test_what_comes_before_the_massive_primary_escapes_the_official_rule():
    states = planted()
    states[0:2, 5] = 40 * states[2, 0] / 500
    states[0:2, 0] = states[2, 0] / 10
    norms, cosines = seen(states)
    assert method.clipper(norms[:, 0]) == (2, 10)
    assert 5 not in [one.token for one in method.sinks(method.official(norms, cosines, 0))]
    assert Sink(5, (0, 1)) in method.sinks(method.by_norm(norms, cosines, 0, 5))


def test_no_sink_is_found_where_none_is():
    states = planted()
    states[:, TOKEN] = torch.randn(LAYERS, WIDTH, generator=torch.Generator().manual_seed(1))
    norms, cosines = seen(states)
    assert method.sinks(method.official(norms, cosines, 0)) == method.sinks(method.by_norm(norms, cosines, 0, 3)) == []


def test_tokens_up_to_the_primary_are_no_secondary_sinks():
    states = planted()
    states = states[:, [1, TOKEN, 0, *range(3, TOKENS)]]  # the primary at 2, the aligned token before it
    norms, cosines = seen(states, at=2)
    found = {one.token for one in method.sinks(method.official(norms, cosines, 2))}
    assert found == {TOKEN}, "its copy after the primary alone"


def test_lifetimes_count_flagged_blocks_and_gaps_are_told():
    flags = torch.zeros(6, 3, dtype=torch.bool)
    flags[1:5, 1] = True
    flags[[0, 2, 3], 2] = True
    on_end, with_gap = method.sinks(flags)
    assert (on_end.token, on_end.level, on_end.contiguous, on_end.attended) == (1, (1, 4), True, [2, 3, 4, 5])
    assert (with_gap.token, with_gap.level, with_gap.contiguous, with_gap.attended) == (2, (0, 3), False, [1, 3, 4])


def test_labels_as_in_the_repository():
    assert [method.label(lifetime, 48) for lifetime in (4, 5, 32, 33)] == [
        "noise", "secondary", "secondary", "primary-like",
    ]  # fmt: skip
    assert method.label(4, 18) == "primary-like", "its constants do not suit a shallow model"
    assert [method.rescaled_label(lifetime, 20) for lifetime in (2, 3, 17, 18)] == [
        "noise", "secondary", "secondary", "primary-like",
    ]  # fmt: skip


def test_thresholds_must_be_passed_and_ends_of_labels_belong_to_them():
    """A state exactly at the cosine, or exactly so many times the median, is none; the official labels begin at 28."""
    norms, cosines = torch.ones(4, 5), torch.zeros(4, 5)
    norms[:, 0] = torch.tensor([1.0, 500.0, 500.0, 1.0])
    for at in (method.COSINE, -method.COSINE):
        cosines[:, 3] = at
        assert not method.official(norms, cosines, 0).any()
        cosines[:, 3] = 1.001 * at
        assert method.official(norms, cosines, 0)[1:3, 3].all()
    cosines[:, 3], norms[:, 3] = method.COSINE, 9.0
    assert not method.by_norm(norms, cosines, 0, 3).any()
    cosines[:, 3], norms[:, 3] = 0.95, 3.0
    assert not method.by_norm(norms, cosines, 0, 3).any() and not method.long(norms, 3)[:, 3].any()
    norms[:, 3] = 3.001
    assert method.by_norm(norms, cosines, 0, 3)[:, 3].all()
    assert method.aligned_for(torch.tensor([method.COSINE, 0.91, method.COSINE, 1.0]), 0) == 1
    deep, shallow = method.SHALLOWEST, method.SHALLOWEST - 1
    assert method.official_label(2, deep, 10) == "noise" and method.official_label(2, shallow, 10) == "secondary"


def test_a_level_of_just_five_in_a_hundred_tokens_is_kept():
    found = [level(3, 9)] * 19 + [level(5, 2)]
    assert method.levels(found) == {(3, 9): 19, (5, 2): 1}
    assert method.levels([level(3, 9), *found]) == {(3, 9): 20}


def level(start, lifetime):
    return Sink(0, tuple(range(start, start + lifetime)))


def test_levels_merge_neighbouring_lifetimes_of_one_start():
    """The published counts of R1-Distill-Qwen-14B: all start at 22, lifetimes 22 to 24 and a few of 2 to 4."""
    lifetimes = {22: 98, 23: 114, 24: 45, 2: 3, 3: 3, 4: 2, 16: 1, 17: 1, 18: 1, 20: 1, 21: 1}
    found = [level(22, lifetime) for lifetime, count in lifetimes.items() for _ in range(count)]
    assert method.levels(found) == {(22, 23): 98 + 114 + 45 + 1 + 1}
    assert method.levels(found, least=0.0) == {(22, 3): 8, (22, 18): 3, (22, 23): 259}
    assert method.levels([level(16, 18), level(17, 18)]) == {(16, 18): 1, (17, 18): 1}
    assert method.levels([]) == {}


def test_alignment_is_counted_from_the_start_on_gaps_and_all():
    cosines = torch.tensor([0.99, 0.2, 0.95, 0.5, 0.5, 0.97, 0.96])
    assert [method.aligned_for(cosines, start) for start in (0, 2, 3, 6)] == [3, 2, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=30))
def test_levels_lose_no_token(pairs):
    found = [level(start, lifetime) for start, lifetime in pairs]
    assert sum(method.levels(found, least=0.0).values()) == len(found)


# --- in a model: sinks planted by hand -----------------------------------------------------------------------------


def found_in(built, rule, **options):
    stream = trace(built, planted_model.text())
    at = method.primary(stream.norm)
    flags = rule(stream.norm, stream.cosine, at, **options)
    return at, method.sinks(flags), stream


@pytest.mark.parametrize("first, last", [(4, 7), (3, 8), (5, 6)])
def test_a_model_with_a_planted_sink(first, last):
    """Written by block ``first``, taken back by block ``last``: flagged after blocks first … last - 1, no other."""
    built = planted_model.model((first, last))
    for rule, options in ((method.official, {}), (method.by_norm, {"times": 3})):
        at, found, stream = found_in(built, rule, **options)
        assert at == 0
        assert found == [Sink(place, tuple(range(first, last))) for place in (12, 30)]
        assert stream.norm[first, 12] == pytest.approx(60.5, abs=2)
    assert stream.feed_forward_along[first, 12] > 0.99, "written along the primary's state"
    assert stream.feed_forward_cosine[first, 12] == pytest.approx(0, abs=1e-3), "whose own write came earlier"


def test_a_model_without_a_planted_sink():
    built = planted_model.model(norm=0.0)
    assert found_in(built, method.official)[1] == found_in(built, method.by_norm, times=3)[1] == []


def test_a_planted_sink_that_points_the_other_way():
    built = planted_model.model(norm=-60.0)
    assert len(found_in(built, method.official)[1]) == 2 and found_in(built, method.by_norm, times=3)[1] == []


def test_scaling_a_write_scales_the_sink():
    """Twice the write and the same taking-back leaves a state that lives on; none leaves no sink from the start."""
    built = planted_model.model((4, 7))
    with block_outputs.scaled(built, 4, [12], 0.0):
        _, gone, _ = found_in(built, method.by_norm, times=3)
    assert all(sink.token != 12 or sink.start == 7 for sink in gone), "what is taken back was never there"
    with block_outputs.scaled(built, 4, [12], 2.0):
        _, longer, stream = found_in(built, method.by_norm, times=3)
    assert stream.norm[4, 12] == pytest.approx(120, abs=3)
    assert next(sink for sink in longer if sink.token == 12).lifetime > 3
    assert next(sink for sink in longer if sink.token == 30).lifetime == 3


def test_a_text_is_told_in_plain_numbers():
    built = planted_model.model((4, 7))
    lm = LM("planted", built, tiny.byte_tokenizer())
    ids = planted_model.text(length=160, at=(12, 30))
    ids[40] = 7  # of the same kind, but no sink: block 4 is kept from writing for it
    with block_outputs.scaled(built, 4, [40], 0.0), block_outputs.scaled(built, 7, [40], 0.0):
        found = find.find(lm, ids)
        told = json.loads(json.dumps(find.row(lm, found, "3 x")))
    assert told["primary"]["token"] == 0 and (told["primary"]["start"], told["primary"]["end"]) == (2, 9)
    assert [sink["token"] for sink in told["sinks"]] == [12, 30] and told["rules"].keys() == {
        "official",
        *(f"{k} x" for k in find.TIMES),
    }
    sink = told["sinks"][0]
    drawn = told["drawn"][0]
    assert len(drawn["norm"]) == len(drawn["given"]) == len(told["median_norm"]) == planted_model.BLOCKS
    assert sink["start"] == 4 and sink["lifetime"] == sink["aligned"] == 3 and sink["first"]
    assert not told["sinks"][1]["first"], "the same token came before"
    assert sink["written"]["feed_forward_along"] > 0.99 > abs(sink["like"]["feed_forward_along"])
    assert sink["wins"]["feed_forward"] == 1 and sink["given"] == pytest.approx(
        float(found.stream.given[5:8, 12].mean()), rel=1e-3
    ), "the attention of block 4 comes before what it writes"
    assert (
        told["same"] == [3, 1]
        and told["rules"]["3 x"]["contiguous"] == 2
        and told["rules"]["3 x"]["levels"] == [[4, 3, 2]]
    )
    assert told["rules"]["official"]["longest"] == pytest.approx(60.5 / 500, rel=0.05), (
        "over the primary's, while a sink"
    )
    assert told["overlap"]["3 x"]["8 x"] == told["overlap"]["8 x"]["3 x"]
    assert find.controls(found, "3 x") == {12: [40], 30: [40]}


def test_tokens_too_near_the_end_to_be_scored_are_left_out():
    lm = LM("planted", planted_model.model((4, 7)), tiny.byte_tokenizer())
    found = find.find(lm, planted_model.text(length=90, at=(12, 30)))
    assert [sink.token for sink in found.sinks["official"]] == [12]


def test_the_primary_need_not_be_the_first_token():
    lm = LM("planted", planted_model.model((4, 7)), tiny.byte_tokenizer())
    ids = planted_model.text(length=160)
    ids[[0, 1]] = ids[[1, 0]]
    assert find.find(lm, ids).stream.at == 1


# --- interventions -------------------------------------------------------------------------------------------------


def planted_text():
    lm = LM("planted", planted_model.model((4, 7)), tiny.byte_tokenizer())
    ids = planted_model.text(length=160, at=(12, 30))
    return lm, find.find(lm, ids)


def test_the_write_of_one_sink_is_scaled():
    lm, found = planted_text()
    sink = found.sinks["3 x"][0]
    told = change.scaling(lm, found, sink, "3 x", factors=(0.0, 1.0, 2.0))
    written = [row["written"] for row in told["factors"]]
    assert written[0] == 0 and written[2] == pytest.approx(2 * written[1], rel=1e-3) and written[1] > 50
    unchanged = told["factors"][1]
    assert unchanged["lifetime"] == sink.lifetime == 3
    assert unchanged["given"] == pytest.approx(float(found.stream.given[5:8, 12].mean()), abs=1e-6)
    assert told["factors"][2]["lifetime"] > 3
    assert [sink.token for sink in find.find(lm, found.ids).sinks["3 x"]] == [12, 30], "nothing stays behind"


def test_sinks_are_removed_and_so_are_as_many_like_tokens():
    lm, found = planted_text()
    told = change.removal(lm, found, "3 x")
    assert told["sinks"] == 2 and told["like"] == 0, "no other token of this kind: neighbours stand in"
    assert [place for _, place in change.others(found, "3 x")[0]] == [11, 29]
    ids = found.ids.clone()
    ids[40] = 7
    with block_outputs.scaled(lm.model, 4, [40], 0.0), block_outputs.scaled(lm.model, 7, [40], 0.0):
        found = find.find(lm, ids)
        told = change.removal(lm, found, "3 x")
    assert told["sinks"] == 2 and told["like"] == 1 and told["alive"] == [5, 6, 7]
    assert told["unchanged"]["loss"] == told["without others"]["loss"] != told["without sinks"]["loss"]
    assert len(told["unchanged"]["primary"]) == planted_model.BLOCKS


def test_a_scaled_write_is_followed_the_other_way_round_too():
    lm, found = planted_text()
    told = change.scaling(lm, found, found.secondary("3 x")[0], "3 x", factors=(-1.0, 1.0, 4.0))
    turned, once, fourfold = told["factors"]
    assert turned["written"] == pytest.approx(once["written"], rel=1e-3) and turned["aligned"] == 0
    assert fourfold["aligned"] >= once["aligned"] == 3


def test_keys_and_values_of_sinks_are_told_beside_ordinary_ones():
    lm, found = planted_text()
    told = change.keys_and_values(lm, found, found.secondary("3 x"))
    keys, values = residual.keys_and_values(lm.model, found.ids)
    usual = [i for i in range(1, 160 - find.LATE) if i not in (12, 30)]
    expected = [(values[5:8, token] / values[5:8, usual].median(dim=1).values).mean() for token in (12, 30)]
    assert told["value_over"] == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)
    assert 0 <= told["nearer"] <= 1 and keys.shape == (planted_model.BLOCKS, 160)


def test_the_probe_names_the_neuron_that_writes_a_planted_sink():
    lm, found = planted_text()
    told = probe.probed(lm, [found.ids, planted_model.text(length=160, at=(20, 40))], "3 x")
    assert told == {"metrics": {}, "curves": {}}, "no like tokens to compare with"
    inputs = probe.inputs_of(lm, found.ids, 4)
    # the write alone is scaled by neuron 1, which the planting gave to the secondary sinks
    told = probe.neurons(lm, 4, inputs[[12, 30]], probe.layer(lm, 4, inputs[[12]])[0])
    assert told["neurons"][0] == 1 and told["contributions"][0] / told["length"] == pytest.approx(1, abs=1e-3)


def test_principal_directions_are_the_widest_first_and_of_length_one():
    points = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9, 1, 3, 1])
    directions = probe.principal(points)
    assert torch.allclose(directions @ directions.T, torch.eye(5), atol=1e-5)
    assert directions[0].abs().argmax() == 1 and directions[1].abs().argmax() == 3


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt_neox", "phi3"])
def test_the_probed_layer_is_the_one_that_writes(name):
    """The layer alone, fed with its inputs, gives what the model's hooks see it write: with the norm behind it too."""
    lm = LM(name, *tiny.build(f"tiny-random-{name}"))
    ids, kept = torch.randint(1, 300, (30,), generator=torch.Generator().manual_seed(0)), {}
    with torch.no_grad(), block_outputs.observed(lm.model, lambda layer, *parts: kept.update({layer: parts[2][0]})):
        lm.model.base_model(ids[None], use_cache=False)
    with torch.no_grad():
        assert torch.allclose(probe.layer(lm, 1, probe.inputs_of(lm, ids, 1)), kept[1], atol=1e-4)
