"""Attention calibration: laws of the operator, loops as its oracle, tiny models of both families, the head scores."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claimbook.errors import ClaimbookError
from claimbook.lm import losses, tiny
from claimbook.papers import attention_calibration as act

pytestmark = pytest.mark.numeric

WORKED = [[1, 0, 0, 0], [0.6, 0.4, 0, 0], [0.4, 0.5, 0.1, 0], [0.3, 0.5, 0.1, 0.1]]


def maps(size, seed=0, batch=2, heads=3, dtype=torch.float64, sharp=3.0):
    """Random causal maps (B, H, N, N); sharp ones have sinks."""
    draw = torch.Generator().manual_seed(seed)
    logits = sharp * torch.randn(batch, heads, 1, size, generator=draw, dtype=dtype)
    logits = logits + torch.randn(batch, heads, size, size, generator=draw, dtype=dtype)
    hidden = torch.ones(size, size).triu(1).bool()
    return logits.masked_fill(hidden, float("-inf")).softmax(-1)


def by_loops(probs, alpha=5.0, beta=0.4, length=None):
    """The rule of the paper for one map (N, N), token by token, as an oracle."""
    probs = np.array(probs.tolist())
    size = length or len(probs)
    share = [sum(probs[k, j] for k in range(j, size)) / (size - j) for j in range(size)]
    sinks = [j for j in range(1, size) if share[j] > alpha / size]
    out = probs.copy()
    for k in range(size):
        others = [j for j in range(size) if j not in sinks]
        had = sum(probs[k, j] for j in others)
        if had == 0:
            continue
        freed = sum((1 - beta) * probs[k, j] for j in sinks)
        for j in range(size):
            out[k, j] = beta * probs[k, j] if j in sinks else probs[k, j] * (1 + freed / had)
    return out, sinks


def whole(probs, **options):
    beta, first = options.pop("beta", act.BETA), options.pop("first_receives", True)
    return act.calibrate(probs, act.find_sinks(act.column_share(probs), **options), beta, first)


# --- the operator ----------------------------------------------------------------------------------------------------


def test_the_worked_case():
    probs = torch.tensor(WORKED, dtype=torch.float64)[None, None]
    share = act.column_share(probs)
    assert share[0, 0].tolist() == pytest.approx([0.575, 1.4 / 3, 0.1, 0.1])
    assert act.find_sinks(share, alpha=1)[0, 0].tolist() == [False, True, False, False]
    assert not act.find_sinks(share).any(), "five times an even share cannot be reached by a text of four tokens"
    want = [[1, 0, 0, 0], [0.84, 0.16, 0, 0], [0.64, 0.20, 0.16, 0], [0.48, 0.20, 0.16, 0.16]]
    torch.testing.assert_close(whole(probs, alpha=1)[0, 0], torch.tensor(want, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 30), st.integers(0, 10_000), st.sampled_from([1.0, 2.0, 5.0]), st.floats(0, 1))
def test_loops_agree(size, seed, alpha, beta):
    probs = maps(size, seed, batch=1, heads=2)
    found = whole(probs, alpha=alpha, beta=beta)
    for head in range(2):
        torch.testing.assert_close(found[0, head], torch.tensor(by_loops(probs[0, head], alpha, beta)[0]))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10_000), st.floats(0, 5), st.booleans())
def test_rows_keep_their_sums_and_nothing_sees_ahead(size, seed, beta, first):
    probs = maps(size, seed)
    found = whole(probs, alpha=1.5, beta=beta, first_receives=first)
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found.sum(-1)))
    assert (found >= -1e-12).all() and (found.triu(1) == 0).all()
    assert ((found == 0) | (probs > 0)).all(), "no attention where there was none"


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 30), st.integers(0, 10_000))
def test_a_sink_has_more_the_larger_beta_is(size, seed):
    probs = maps(size, seed)
    sinks = act.find_sinks(act.column_share(probs), alpha=2)
    held = [(act.calibrate(probs, sinks, beta) * sinks[:, :, None]).sum(-1) for beta in (0, 0.4, 1, 1.6, 100)]
    assert all((b >= a - 1e-12).all() for a, b in itertools.pairwise(held))
    torch.testing.assert_close(held[2], (probs * sinks[:, :, None]).sum(-1))


def test_beta_1_and_an_infinite_alpha_change_nothing():
    probs = maps(20)
    torch.testing.assert_close(whole(probs, beta=1.0), probs)
    assert torch.equal(whole(probs, alpha=float("inf")), probs)


def test_token_0_is_spared_and_receives():
    probs = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0.5, 0.4, 0.1]], dtype=torch.float64)[None, None]
    sinks = act.find_sinks(act.column_share(probs), alpha=0.5)
    assert sinks[0, 0].tolist() == [False, True, False]
    assert whole(probs, alpha=0.5)[0, 0, 2].tolist() == pytest.approx([0.7, 0.16, 0.14])
    assert whole(probs, alpha=0.5, first_receives=False)[0, 0, 2].tolist() == pytest.approx([0.5, 0.16, 0.34])
    assert whole(probs, alpha=0.5, first_receives=False)[0, 0, 1].tolist() == pytest.approx([0.9, 0.1, 0]), "none else"


def official(probs):
    """What the repository does, re-derived from its description: flagged above 0.1, the first flagged is left out."""
    size = len(probs)
    share = probs.sum(0) / np.arange(size, 0, -1)
    sinks = np.nonzero(share > 0.1)[0][1:]
    out = probs.copy()
    out[:, sinks] *= 0.4
    freed = probs.sum(1) - out.sum(1)
    others = np.setdiff1d(np.arange(size), sinks)
    out[:, others] += freed[:, None] * probs[:, others] / probs[:, others].sum(1, keepdims=True)
    return out


def test_the_official_rule_is_the_papers_at_50_tokens():
    compared = 0
    for seed in range(20):
        probs = maps(50, seed, batch=1, heads=1)
        probs[..., 0] += 0.3
        probs = probs / probs.sum(-1, keepdim=True)
        want = torch.tensor(official(probs[0, 0].numpy()))
        torch.testing.assert_close(whole(probs)[0, 0], want)
        torch.testing.assert_close(whole(probs, fixed=act.FIXED)[0, 0], want)
        compared += bool((want != probs[0, 0]).any())
    assert compared > 10, "most of the maps have sinks"


def test_padding_on_the_right_changes_no_share():
    short, padded = maps(12, batch=1), torch.zeros(1, 3, 17, 17, dtype=torch.float64)
    padded[..., :12, :12] = short
    padded[..., 12:, :] = maps(17, 5, batch=1)[..., 12:, :]  # rows of padding attend to the text
    lengths = torch.tensor([12])
    share = act.column_share(padded, lengths)
    torch.testing.assert_close(share[..., :12], act.column_share(short))
    assert (share[..., 12:] == 0).all()
    assert torch.equal(act.find_sinks(share, 2, lengths)[..., :12], act.find_sinks(act.column_share(short), 2))
    assert act.find_sinks(share, 2, lengths).any()


def test_a_window_counts_the_queries_that_see_a_token():
    even = torch.ones(6, 6, dtype=torch.float64).tril() - torch.ones(6, 6, dtype=torch.float64).tril(-3)
    share = act.column_share((even / 3)[None, None], window=3)
    assert share[0, 0].tolist() == pytest.approx([1 / 3] * 6)


def test_single_precision_agrees_with_double():
    probs = maps(30)
    torch.testing.assert_close(whole(probs.float()).double(), whole(probs), atol=1e-6, rtol=0)


def test_temperature_spares_token_0_and_flattens_the_rest():
    probs = maps(10)
    found = act.tempered(probs, 1.1)
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found.sum(-1)))
    torch.testing.assert_close(found[..., 0], probs[..., 0])
    assert (found[..., 5:, 1:].amax(-1) < probs[..., 5:, 1:].amax(-1)).all()
    torch.testing.assert_close(act.tempered(probs, 1.0), probs)


def test_first_scaled_is_a_shift_of_one_logit():
    logits = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    shifted = logits.clone()
    shifted[:, 0, :, 0] += np.log(2.5)
    shifted[:, 1, :, 0] += np.log(0.4)
    found = act.first_scaled(logits.softmax(-1), torch.tensor([2.5, 0.4]))
    torch.testing.assert_close(found, shifted.softmax(-1), atol=1e-7, rtol=1e-6)


# --- in a model ------------------------------------------------------------------------------------------------------

FAMILIES = ["llama", "gemma3_text"]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    found, _ = tiny.build(f"tiny-random-{request.param}")
    return found.requires_grad_(False)


def texts(batch=3, length=60, seed=0):
    return torch.randint(0, 320, (batch, length), generator=torch.Generator().manual_seed(seed))


def every(model):
    return torch.ones(2, model.config.num_attention_heads, dtype=torch.bool)


@torch.no_grad()
def states(model, ids, rule, lengths=None):
    with act.calibrated(model, rule, lengths) as tally:
        return losses.hidden_states(model, ids), tally


@torch.no_grad()
def test_without_a_rule_the_model_is_itself_and_with_one_it_is_not(model):
    ids = texts()
    before = model.config._attn_implementation
    own = losses.hidden_states(model, ids)
    torch.testing.assert_close(states(model, ids, None)[0], own, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(states(model, ids, act.Rule(every(model), beta=1.0))[0], own, atol=1e-4, rtol=1e-4)
    changed, tally = states(model, ids, act.Rule(every(model), alpha=1.5))
    assert (changed - own).abs().max() > 1e-2 and tally.sinks > 0 and 0 < tally.moved < tally.maps
    assert tally.maps == 3 * 2 * 4
    assert model.config._attn_implementation == before
    torch.testing.assert_close(losses.hidden_states(model, ids), own)


def test_the_maps_are_the_models_own_calibrated(model):
    """Attention as transformers gives it, calibrated by loops: the outputs of the first layer agree."""
    ids = texts(batch=1, length=30)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        probs = model(ids, output_attentions=True, use_cache=False).attentions[0][0]
    want = [by_loops(head, alpha=1.5)[0] for head in probs]
    seen = {}

    class Spy(act.Rule):
        def changed(self, before, sinks, layer, heads):
            seen[layer] = super().changed(before, sinks, layer, heads)
            return seen[layer]

    states(model, ids, Spy(every(model), alpha=1.5))
    torch.testing.assert_close(seen[0][0].double(), torch.tensor(np.array(want)), atol=1e-5, rtol=1e-4)


def test_only_the_heads_named_are_changed(model):
    ids, heads = texts(), torch.zeros(2, 4, dtype=torch.bool)
    torch.testing.assert_close(states(model, ids, act.Rule(heads, alpha=1))[0], states(model, ids, None)[0])
    heads[1, 2] = True
    _, tally = states(model, ids, act.Rule(heads, alpha=1.5))
    assert tally.maps == 3


def test_neither_neighbours_nor_padding_matter(model):
    ids, rule = texts(), act.Rule(every(model), alpha=1.5)
    together = states(model, ids, rule)[0]
    torch.testing.assert_close(together[1:2], states(model, ids[1:2], rule)[0], atol=1e-5, rtol=1e-4)
    padded = torch.cat([ids, torch.full((3, 7), 5)], dim=1)
    found, tally = states(model, padded, rule, torch.tensor([60, 60, 60]))
    torch.testing.assert_close(found[:, :60], together, atol=1e-5, rtol=1e-4)
    assert tally.sinks == states(model, ids, rule)[1].sinks


def test_frozen_sinks_are_another_texts(model):
    ids, rule = texts(), act.Rule(every(model), alpha=1.5, frozen=True)
    alone = states(model, ids[:1], rule)[0]
    adaptive = states(model, ids[:1], act.Rule(every(model), alpha=1.5))[0]
    torch.testing.assert_close(alone, adaptive, msg="alone, a text has its own")
    assert (states(model, ids, rule)[0][:1] - adaptive).abs().max() > 1e-3


def test_a_cache_is_refused(model):
    with pytest.raises(ClaimbookError, match="without a cache"), act.calibrated(model, None):
        cache = model(texts(1, 5)).past_key_values
        model(texts(1, 1), past_key_values=cache)


# --- heads -----------------------------------------------------------------------------------------------------------


def gold(logits):
    return -logits.log_softmax(-1)[:, 7]


def test_first_order_is_the_slope_of_the_loss(model):
    """Against a finite difference: one head's change, scaled by hand."""
    ids = texts(batch=2, length=60)
    rules = [act.Rule(every(model), alpha=1.5), act.Rule(every(model), first=0.4)]
    effects, base = act.first_order(model, ids, gold, rules)
    assert effects.shape == (2, 2, 2, 4)
    for index, rule in enumerate(rules):
        for layer, head in [(0, 1), (1, 3)]:
            heads = torch.zeros(2, 4, dtype=torch.bool)
            heads[layer, head] = True
            step = 1e-2

            class Part(act.Rule):
                def changed(self, before, sinks, layer, heads, rule=rule, step=step):
                    return before + step * (rule.changed(before, sinks, layer, heads) - before)

            options = {name: getattr(rule, name) for name in ("alpha", "first")}
            with torch.no_grad(), act.calibrated(model, Part(heads, **options)):
                moved = gold(losses.logits(model, losses.hidden_states(model, ids)[:, -1]))
            with torch.no_grad(), act.calibrated(model, None):
                still = gold(losses.logits(model, losses.hidden_states(model, ids)[:, -1]))
            torch.testing.assert_close(still, base, atol=1e-4, rtol=1e-4)
            slope = (moved - still) / step
            torch.testing.assert_close(effects[index, :, layer, head], slope, atol=2e-2, rtol=0.1)


def test_families_that_cannot_be_scored_are_refused():
    model, _ = tiny.build("tiny-random-gemma2")
    with pytest.raises(ClaimbookError, match="softcap"):
        act.first_order(model.requires_grad_(False), texts(), gold, [act.Rule(every(model))])


def test_layers_that_are_left_alone():
    allowed = act.calibrated_layers(30, 9)
    assert allowed.any(1).nonzero()[:, 0].tolist() == list(range(2, 29)) and int(allowed.sum()) == 243
    assert int(act.calibrated_layers(32, 32).sum()) == 29 * 32
    assert act.calibrated_layers(2, 4).all()


def test_heads_are_chosen_by_sign_and_rank():
    effects = torch.tensor([[-3.0, 1.0], [-1.0, 0.0], [-2.0, -9.0]])
    allowed = torch.tensor([[True, True], [True, True], [True, False]])
    choice = act.choose(effects, allowed, 2)
    assert choice.top.tolist() == [[True, False], [False, False], [True, False]]
    assert choice.bottom.tolist() == [[False, True], [False, False], [False, False]], "no more than hurt"
    assert int(act.choose(effects, allowed, 40).top.sum()) == 3, "no more than help"


@given(st.integers(0, 60), st.integers(0, 1000))
def test_random_heads_are_allowed_ones(count, seed):
    allowed = act.calibrated_layers(12, 6)
    drawn = act.at_random(allowed, count, seed)
    assert int(drawn.sum()) == min(count, 54) and not (drawn & ~allowed).any()
    assert torch.equal(drawn, act.at_random(allowed, count, seed))


def test_the_prior_is_taken_off():
    scores = torch.tensor([[-1.0, -2.0], [-3.0, -3.5]])
    prior = torch.tensor([-0.5, -2.5])
    found = act.prior_corrected(scores, prior)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2))
    torch.testing.assert_close(found[:, 0] - found[:, 1], torch.tensor([-1.0, -1.5]))
    torch.testing.assert_close(act.prior_corrected(scores, torch.zeros(2)), scores.log_softmax(-1))
