"""Detectors of secondary sinks: planted ones are found where they are, off-by-ones and signs turn these tests red."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import planted as planted_model
from claimbook.lm import block_outputs
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
    assert (on_end.token, on_end.level, on_end.attended) == (1, (1, 4), [2, 3, 4, 5])
    assert (with_gap.token, with_gap.level, with_gap.attended) == (2, (0, 3), [1, 3, 4])


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
    assert [method.aligned_on_end(cosines, start) for start in (0, 2, 3, 5)] == [1, 1, 0, 1], "a gap ends it"
    assert method.aligned_on_end(torch.tensor([0.95, 0.99, 0.91, 0.99]), 0) == 3, "the last layer is read by none"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=30))
def test_levels_lose_no_token(pairs):
    found = [level(start, lifetime) for start, lifetime in pairs]
    assert sum(method.levels(found, least=0.0).values()) == len(found)


# --- the official rule, derived a second time ------------------------------------------------------------------------


def official_again(states: list[list[list[float]]], candidates: int) -> tuple[int, dict[int, tuple[list[int], str]]]:
    """The repository's rule from its description, in plain Python: the primary, and {token: (layers, label)}.

    The primary is the candidate with the largest mean norm. Its window goes from behind the largest step of its norm up
    to the largest step down that follows. In it a later token counts where its cosine with the primary is beyond 0.9
    either way. All but fifteen layers or more is like a primary, four or fewer is noise.
    """
    depth, length = len(states), len(states[0])

    def norm(layer, token):
        return math.sqrt(sum(x * x for x in states[layer][token]))

    at = max(range(candidates), key=lambda token: sum(norm(layer, token) for layer in range(depth)))
    steps = [norm(layer + 1, at) - norm(layer, at) for layer in range(depth - 1)]
    start = steps.index(max(steps)) + 1
    behind = steps[start:]
    end = start + 1 + behind.index(min(behind)) if behind else depth
    found = {}
    for token in range(at + 1, length):
        layers = []
        for layer in range(start, end):
            dot = sum(x * y for x, y in zip(states[layer][token], states[layer][at], strict=True))
            if abs(dot) > 0.9 * norm(layer, token) * norm(layer, at):
                layers.append(layer)
        if layers:
            kind = "primary-like" if len(layers) >= depth - 15 else "secondary" if len(layers) > 4 else "noise"
            found[token] = (layers, kind)
    return at, found


@pytest.mark.parametrize("case", range(300))
def test_the_official_rule_agrees_with_a_second_derivation(case):
    """Random states with tokens that join the first for some layers, either way round, at any depth."""
    draw = torch.Generator().manual_seed(case)
    depth, length, candidates = int(torch.randint(28, 49, (1,), generator=draw)), 12, 2 + case % 2
    states = torch.randn(depth, length, 8, generator=draw, dtype=torch.float64)
    begin, last = sorted(torch.randint(0, depth + 1, (2,), generator=draw).tolist())
    first = int(torch.randint(0, candidates, (1,), generator=draw))
    direction = torch.randn(8, generator=draw, dtype=torch.float64)
    states[begin:last, first] += 100 * direction
    for token in range(candidates, length, 3):
        on, off = sorted(torch.randint(0, depth + 1, (2,), generator=draw).tolist())
        states[on:off, token] += float(torch.randn(1, generator=draw)) * 20 * direction
    norms = states.norm(dim=-1)
    at = method.primary(norms, candidates)
    cosines = torch.cosine_similarity(states, states[:, at : at + 1], dim=-1)
    sinks = method.sinks(method.official(norms, cosines, at))
    ours = {one.token: (list(one.layers), method.label(one.lifetime, depth)) for one in sinks}
    assert (at, ours) == official_again(states.tolist(), candidates)


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
