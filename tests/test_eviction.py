"""Bounded caches: one pass, a real cache, a decoder of plain loops and kvpress agree on every eviction."""

from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from claimbook.errors import ClaimbookError
from claimbook.lm import eviction, tiny
from claimbook.lm.eviction import (
    H2O,
    TOVA,
    Decayed,
    Given,
    Held,
    KeyDiff,
    KeyNorm,
    Random,
    SnapKV,
    Streaming,
    Window,
    decoded,
    evicting,
    fixed,
    heuristics,
    masked,
)

pytestmark = pytest.mark.numeric

TOKENS = 40


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BETA = 1 - 0.3 * drawn(2, 3, 2, TOKENS) ** 3  # layers, rows, KV heads, tokens
ORACLE = drawn(3, TOKENS, seed=1)
RULES = {
    "window": Window(),
    "streaming": Streaming(2),
    "h2o": H2O(5),
    "tova": TOVA(),
    "snapkv": SnapKV(4, kernel=3),
    "key_norm": KeyNorm(),
    "key_diff": KeyDiff(),
    "random": Random(3),
    "oracle": Given(fixed(ORACLE)),
    "trim": Decayed(fixed(BETA.log())),
    "trim_printed": Decayed(fixed(BETA.log()), offset=0),
}
FAMILIES = ("llama", "qwen2", "qwen3", "phi3", "gpt_neox", "gpt2", "opt", "granite")


@pytest.fixture(scope="module")
def llama():
    return tiny.build("tiny-random-llama", dtype=torch.float64)[0].requires_grad_(False)


@pytest.fixture(scope="module")
def ids():
    return torch.randint(1, 300, (3, TOKENS), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def in_one_pass(model, ids, rule, budget, **options):
    with masked(model, rule, budget, **options) as trace:
        return model(ids).logits, trace


def distance(one, other):
    return float((one - other).abs().max())


# --- a decoder of plain loops ---------------------------------------------------------------------------------------


@torch.no_grad()
def plain(model, ids, worth, budget):
    """Logits (T, V) of a Llama that decodes ``ids`` (T,), with a list of kept tokens for each layer and KV head."""
    layers, config, out = model.model.layers, model.config, []
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    kept = {(n, h): [] for n in range(len(layers)) for h in range(kv_heads)}
    keys, values, rows = {}, {}, {}
    for t, token in enumerate(ids):
        x = model.model.embed_tokens(token.view(1, 1))
        for n, layer in enumerate(layers):
            attention, y = layer.self_attn, layer.input_layernorm(x)
            q, k, v = (
                f(y).view(-1, attention.head_dim) for f in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            turns = model.model.rotary_emb(y, torch.tensor([[t]]))
            q, k = (one[0, :, 0] for one in apply_rotary_pos_emb(q[None, :, None], k[None, :, None], *turns))
            mixed = []
            for h in range(kv_heads):
                kept[n, h].append(t)
                keys[n, h, t], values[n, h, t] = k[h], v[h]
            for head in range(heads):
                h = head // (heads // kv_heads)
                logits = torch.stack([q[head] @ keys[n, h, i] for i in kept[n, h]]) * attention.scaling
                probs = logits.softmax(0)
                rows[n, head, t] = {i: float(p) for i, p in zip(kept[n, h], probs, strict=True)}
                mixed.append(sum(p * values[n, h, i] for p, i in zip(probs, kept[n, h], strict=True)))
            for h in range(kv_heads):
                if len(kept[n, h]) > budget:
                    scores = worth(n, h, t, kept[n, h], rows, keys)
                    kept[n, h].pop(scores.index(min(scores)))
            x = x + attention.o_proj(torch.cat(mixed)[None, None])
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        out.append(model.lm_head(model.model.norm(x))[0, 0])
    return torch.stack(out)


def by_h2o(n, h, t, kept, rows, keys):
    received = [sum(rows[n, 2 * h + g, s].get(i, 0) for g in (0, 1) for s in range(t + 1)) for i in kept]
    return received[:-5] + [inf] * 5


def by_tova(n, h, t, kept, rows, keys):
    return [sum(rows[n, head, t].get(i, 0) for head in range(4)) for i in kept[:-1]] + [inf]


def by_snapkv(n, h, t, kept, rows, keys):
    def mean(i):
        return sum(rows[n, 2 * h + g, s][i] for g in (0, 1) for s in range(t - 3, t + 1)) / 8

    means = [0, *(mean(i) for i in kept[:-4]), 0]
    return [sum(means[j : j + 3]) / 3 for j in range(len(means) - 2)] + [inf] * 4


def by_key_diff(n, h, t, kept, rows, keys):
    held = [keys[n, h, i] / keys[n, h, i].norm() for i in kept]
    mean = sum(held) / len(held)
    return [-float(one @ mean / mean.norm()) for one in held]


PLAIN = {
    "window": lambda n, h, t, kept, rows, keys: kept,
    "streaming": lambda n, h, t, kept, rows, keys: [inf if i < 2 else i for i in kept],
    "h2o": by_h2o,
    "tova": by_tova,
    "snapkv": by_snapkv,
    "key_norm": lambda n, h, t, kept, rows, keys: [-float(keys[n, h, i].norm()) for i in kept],
    "key_diff": by_key_diff,
    "oracle": lambda n, h, t, kept, rows, keys: [float(ORACLE[0, i]) for i in kept],
    "trim": lambda n, h, t, kept, rows, keys: [float(BETA[n, 0, h, i]) ** (t - i + 2) for i in kept],
    "trim_printed": lambda n, h, t, kept, rows, keys: [float(BETA[n, 0, h, i]) ** (t - i) for i in kept],
}


@pytest.mark.parametrize("name", PLAIN)
def test_masked_pass_equals_a_decoder_of_plain_loops(llama, ids, name):
    expected = plain(llama, ids[0], PLAIN[name], 10)
    found, _ = in_one_pass(llama, ids, RULES[name], 10)
    assert distance(found[0], expected) < 1e-8


# --- one pass and a real cache --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [0, 25])
@pytest.mark.parametrize("buffer", [1, 4])
@pytest.mark.parametrize("name", RULES)
def test_masked_pass_equals_the_evicting_cache(llama, ids, name, prompt, buffer):
    logits, trace = in_one_pass(llama, ids, RULES[name], 10, prompt=prompt, buffer=buffer)
    expected, real = decoded(llama, ids, RULES[name], 10, prompt=prompt, buffer=buffer)
    assert distance(logits, expected) < 1e-8
    assert (trace.same(real) == 1).all()
    assert distance(logits, llama(ids).logits) > 1e-3  # something was missed


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rule", [H2O(5), Decayed(fixed(-drawn(TOKENS)))], ids=["h2o", "trim"])
def test_families_evict_alike_in_one_pass_and_in_a_cache(ids, family, rule):
    model = tiny.build(f"tiny-random-{family}", dtype=torch.float64)[0].requires_grad_(False)
    logits, _ = in_one_pass(model, ids, rule, 10)
    assert distance(logits, decoded(model, ids, rule, 10)[0]) < 1e-8
    assert distance(in_one_pass(model, ids, rule, TOKENS)[0], model(ids).logits) < 1e-6


@pytest.mark.parametrize("name", RULES)
def test_a_full_budget_is_the_full_cache(llama, ids, name):
    full = llama(ids).logits
    logits, trace = in_one_pass(llama, ids, RULES[name], TOKENS)
    assert distance(logits, full) < 1e-6
    assert distance(decoded(llama, ids, RULES[name], TOKENS)[0], full) < 1e-6
    assert all((gone == TOKENS).all() for gone in trace.gone.values())


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(RULES)),
    budget=st.integers(6, 24),
    buffer=st.integers(1, 6),
    prompt=st.integers(0, TOKENS),
    length=st.integers(2, TOKENS),
    seed=st.integers(0, 1000),
)
def test_laws_of_every_rule(llama, name, budget, buffer, prompt, length, seed):
    ids = torch.randint(1, 300, (3, length), generator=torch.Generator().manual_seed(seed))
    logits, trace = in_one_pass(llama, ids, RULES[name], budget, prompt=prompt, buffer=buffer)
    again, real = decoded(llama, ids, RULES[name], budget, prompt=prompt, buffer=buffer)
    assert distance(logits, again) < 1e-8
    assert (trace.same(real) == 1).all()
    first = max(prompt, budget)
    for layer in trace.gone:
        seen = trace.seen(layer)
        own = torch.arange(length)
        assert seen[:, :, own, own].all()  # a token takes part in its own step
        assert not seen.triu(1).any()
        assert (seen[:, :, 1:] <= (seen[:, :, :-1] | torch.eye(length).bool()[1:])).all()  # gone is gone
        assert (seen[:, :, first:].sum(-1) <= budget + buffer).all()
        assert (seen[:, :, :first].sum(-1) == torch.arange(1, length + 1)[:first]).all()  # all of the prompt


@pytest.mark.parametrize("name", [name for name in RULES if name != "random"])
def test_rows_of_a_batch_do_not_meet(llama, ids, name):
    rule = RULES[name]
    whole, _ = in_one_pass(llama, ids, rule, 10)
    alone, _ = in_one_pass(llama, ids[:1], _first_row(rule), 10)
    assert distance(whole[:1], alone) < 1e-8


def _first_row(rule):
    tables = {RULES["oracle"]: ORACLE[:1], RULES["trim"]: BETA[:, :1].log(), RULES["trim_printed"]: BETA[:, :1].log()}
    if rule not in tables:
        return rule
    return Given(fixed(tables[rule])) if type(rule) is Given else Decayed(fixed(tables[rule]), rule.offset)


# --- generation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("prompt", [4, 20])
def test_generate_evicts_and_keeps_positions(llama, ids, name, prompt):
    made = TOKENS - prompt
    with evicting(llama, RULES[name], 10, record=True) as cache:
        text = llama.generate(
            ids[:, :prompt],
            attention_mask=torch.ones_like(ids[:, :prompt]),
            past_key_values=cache,
            max_new_tokens=made,
            min_new_tokens=made,
            do_sample=False,
        )
    assert cache.get_seq_length() == TOKENS - 1  # tokens seen, not tokens kept; the last is only predicted
    assert cache.kept == 10
    logits, trace = in_one_pass(llama, text[:, :-1], RULES[name], 10, prompt=prompt)
    logits[:, :, 0] = -inf  # generate may not end
    assert (logits[:, prompt - 1 :].argmax(-1) == text[:, prompt:]).all()
    assert (trace.same(cache.trace()) == 1).all()


def test_the_cache_does_not_grow(llama, ids):
    with torch.no_grad(), evicting(llama, TOVA(), 10, buffer=3) as cache:
        sizes = []
        for token in ids.split(1, dim=1):
            llama(token, past_key_values=cache)
            sizes.append((cache.kept, cache.bytes()))
    assert max(kept for kept, _ in sizes) == 12  # budget + buffer - 1
    assert min(kept for kept, _ in sizes[12:]) == 10
    per_token = 2 * 3 * 2 * 2 * 16 * 8  # layers, rows, KV heads, key and value, head size, bytes
    assert all(size == kept * per_token for kept, size in sizes)


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule"),
    [("key_norm", KeyNorm()), ("key_diff", KeyDiff()), ("snapkv", SnapKV(6, kernel=5)), ("tova", TOVA())],
)
def test_scores_equal_kvpress(name, rule):
    with np.load(Path(__file__).parent / "kvpress" / "scores.npz") as stored:
        query, key, expected = (torch.from_numpy(stored[array]) for array in ("query", "key", name))
    positions = torch.arange(key.shape[2])
    held = Held(rule, key.shape[2])
    held.add(positions, rule.features(0, positions, key))
    held.attend(eviction._logits(query, key, key.shape[-1] ** -0.5), positions)
    found = rule.scores(held)
    safe = found.isinf()
    assert safe.sum(-1).eq({"snapkv": 6, "tova": 1}.get(name, 0)).all()
    # kvpress has no infinity: it lifts what is safe above the highest score
    assert (expected[safe] > expected[~safe].max()).all() if safe.any() else True
    torch.testing.assert_close(found[~safe], expected[~safe], rtol=1e-4, atol=1e-6)


def test_both_exponents_on_the_worked_case():
    beta = torch.tensor([0.99, 0.5, 0.9, 0.6], dtype=torch.float64)

    def kept(offset):
        held = Held(rule := Decayed(fixed(beta.log()), offset), budget=2)
        for t in range(4):
            held.add(torch.tensor([t]), rule.features(0, torch.tensor([t]), torch.zeros(1, 1, 1, 1)))
            held.evict()
        return held.positions.flatten().tolist()

    assert kept(2) == [0, 2]  # as coded: the newest can lose
    assert kept(0) == [0, 3]  # as printed: it cannot


def test_a_tie_is_lost_by_the_older():
    held = Held(rule := Given(fixed(torch.zeros(5))), budget=3)
    positions = torch.arange(5)
    held.add(positions, rule.features(0, positions, torch.zeros(1, 1, 5, 1)))
    gone, staying = held.evict()
    assert sorted(gone.flatten().tolist()) == [0, 1]
    assert staying.flatten().tolist() == [2, 3, 4]


def test_scores_in_half_precision_are_compared_in_single():
    rule = Decayed(fixed(torch.full((3,), -1.5e-8, dtype=torch.bfloat16)))
    positions = torch.tensor([0, 1000, 1001])
    held = Held(rule, budget=2)
    features = rule.features(0, torch.arange(3), torch.zeros(1, 1, 3, 1, dtype=torch.bfloat16))
    held.add(positions, features)
    assert rule.scores(held).unique().numel() == 3


def test_random_scores_are_a_fair_draw():
    key, positions = torch.zeros(2, 3, 2000, 1), torch.arange(2000)
    scores = Random(1).features(0, positions, key)[..., 0] / 2**52
    assert abs(float(scores.mean()) - 0.5) < 0.01
    assert abs(float(scores.var()) - 1 / 12) < 0.005
    assert scores.unique().numel() == scores.numel()
    correlation = torch.corrcoef(
        torch.cat([scores.flatten(0, 1), Random(1).features(1, positions, key)[0, :, :, 0], positions[None].double()])
    )
    assert float((correlation - torch.eye(len(correlation))).abs().max()) < 0.1
    one_by_one = [Random(1).features(0, p[None], key[:, :, :1])[..., 0] / 2**52 for p in positions[:20]]
    assert (torch.cat(one_by_one, dim=2) == scores[:, :, :20]).all()


# --- refusals -------------------------------------------------------------------------------------------------------


def test_left_padding_is_refused(llama, ids):
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    with masked(llama, Window(), 10), pytest.raises(ClaimbookError, match="equal lengths"):
        llama(ids, attention_mask=mask)
    with evicting(llama, Window(), 10) as cache, pytest.raises(ClaimbookError, match="equal lengths"):
        llama.generate(ids, attention_mask=mask, past_key_values=cache, max_new_tokens=2)


def test_beams_are_refused(llama, ids):
    with evicting(llama, Window(), 10) as cache, pytest.raises(ClaimbookError, match="no beam search"):
        llama.generate(ids, past_key_values=cache, max_new_tokens=4, num_beams=2)


@pytest.mark.parametrize(
    ("rule", "budget", "buffer", "message"),
    [
        (Window(), 0, 1, "must be at least 1"),
        (Window(), 4, 0, "must be at least 1"),
        (Streaming(4), 4, 1, "no room for 4 sinks"),
        (H2O(6), 6, 1, "no room for 6 recent tokens"),
        (SnapKV(8), 5, 1, "no room for 8 tokens of the window"),
    ],
)
def test_budgets_without_room_are_refused(llama, rule, budget, buffer, message):
    for way in (masked, evicting):
        with pytest.raises(ClaimbookError, match=message), way(llama, rule, budget, buffer=buffer):
            pass


@pytest.mark.parametrize(
    ("family", "message"), [("gemma3_text", "sliding window"), ("mpt", "own way"), ("mistral", "sliding_window")]
)
def test_models_that_bound_or_compute_attention_themselves_are_refused(ids, family, message):
    model = tiny.build(f"tiny-random-{family}")[0]
    with pytest.raises(ClaimbookError, match=message), masked(model, Window(), 10):
        model(ids)
    with pytest.raises(ClaimbookError, match=message), evicting(model, Window(), 10) as cache:
        model(ids, past_key_values=cache)


def test_each_way_wants_its_own_cache(llama, ids):
    with evicting(llama, Window(), 10), pytest.raises(ClaimbookError, match="as past_key_values"):
        llama(ids)
    with masked(llama, Window(), 10), pytest.raises(ClaimbookError, match="takes no cache"):
        llama(ids[:, 5:], past_key_values=llama(ids[:, :5]).past_key_values)
    with evicting(llama, Window(), 10) as cache:
        llama(ids, past_key_values=cache)
        with pytest.raises(ClaimbookError, match="record=True"):
            cache.trace()
        with pytest.raises(ClaimbookError, match="serves one text"):
            cache.reset()


def test_heuristics_fit_every_budget():
    for budget in (2, 8, 64):
        for rule in heuristics(budget).values():
            Held(rule, budget)
