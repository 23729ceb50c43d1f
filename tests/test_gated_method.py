"""The gate against an explicit computation, its sizes against the paper's table, and what can be derived."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import silu

from claimbook.errors import ClaimbookError
from claimbook.lm import decoder, geometry, tiny, variants
from claimbook.papers import gated_attention as method
from claimbook.papers.gated_attention import GATES, PAPER, Gate, Shape

SIZES = Shape(layers=2, width=64, queries=4, keys=2, size=16)  # of the tiny Llama, with grouped queries
IDS = torch.arange(1, 13)[None] * 7 % 320


def llama():
    model, _ = tiny.build("tiny-random-llama")
    return model


@torch.no_grad()
def logits(model, ids=IDS):
    return model(input_ids=ids, use_cache=False).logits


def attention_by_hand(attention, x, cos, sin, gate: Gate):
    """One layer's attention in einsums, head by head, on x (T, d): what any variant of the gate must give."""
    q, k, v = (getattr(attention, f"{name}_proj").weight for name in "qkv")
    T, H, K, S = len(x), SIZES.queries, SIZES.keys, SIZES.size
    query, key = (torch.einsum("td,hsd->hts", x, w.view(-1, S, 64)) for w in (q, k))
    value = torch.einsum("td,hsd->hts", x, v.view(K, S, 64))
    gating = attention.gates[0]
    heads = {"attention": H, "query": H, "key": K, "value": K, "output": 1}[gate.place]

    def change(y):  # (heads, T, size)
        if gate.source == "norm":
            return y / (y.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * gating.scale
        if gate.source == "silu":
            return y * torch.sigmoid(y)
        if gate.source == "parameter":
            raw = gating.free.view(heads, 1, -1).expand(-1, T, -1)
        else:
            raw = torch.einsum("td,hsd->hts", x, gating.linear.weight.view(heads, -1, 64))
        act = {
            "sigmoid": lambda z: 1 / (1 + torch.exp(-z)),
            "ns_sigmoid": lambda z: 0.5 + 0.5 / (1 + torch.exp(-z)),
            "silu": lambda z: z / (1 + torch.exp(-z)),
            "identity": lambda z: z,
        }[gate.activation](raw)
        if gate.scores == "shared":
            act = act.mean(0, keepdim=True)
        return y * act if gate.combine == "multiply" else y + act

    if gate.place == "query":
        query = change(query)
    if gate.place == "key":
        key = change(key)
    if gate.place == "value":
        value = change(value)
    rotate = lambda y: y * cos + torch.cat([-y[..., S // 2 :], y[..., : S // 2]], -1) * sin  # noqa: E731
    query, key = rotate(query), rotate(key)
    hidden = torch.ones(T, T).triu(1).bool()
    heads_out = []
    for h in range(H):
        scores = (query[h] @ key[h // (H // K)].T / math.sqrt(S)).masked_fill(hidden, float("-inf"))
        heads_out.append(torch.softmax(scores, -1) @ value[h // (H // K)])
    out = torch.stack(heads_out)
    if gate.place == "attention":
        out = change(out)
    flat = out.transpose(0, 1).reshape(T, H * S) @ attention.o_proj.weight.T
    return change(flat[None])[0] if gate.place == "output" else flat


@pytest.mark.parametrize("name", GATES)
@torch.no_grad()
def test_every_gate_is_what_the_einsum_says(name):
    model, gate = llama(), GATES[name]
    method.attach(model, gate, seed=3)
    for gating in method.gatings(model):  # what starts at zero or one shall matter too
        for parameter in gating.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    attention = geometry.layers(model)[1].self_attn
    x = torch.randn(1, 12, 64, generator=torch.Generator().manual_seed(2))
    cos, sin = model.model.rotary_emb(x, torch.arange(12)[None])
    ours, _ = attention(hidden_states=x, position_embeddings=(cos, sin), attention_mask=None)
    expected = attention_by_hand(attention, x[0], cos[0], sin[0], gate)
    assert (ours[0] - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("place", ["attention", "value", "key", "query", "output"])
def test_a_gate_at_one_changes_nothing(place):
    model = llama()
    before = logits(model)
    with method.attached(model, Gate(place=place)):
        assert (logits(model) - before).abs().max() > 1e-3 * before.abs().max()
        for gating in method.gatings(model):
            gating.score = lambda hidden, gating=gating: torch.ones(*hidden.shape[:2], gating.heads, 1)
        assert (logits(model) - before).abs().max() <= 1e-6 * before.abs().max()
    assert not method.gatings(model) and torch.equal(logits(model), before)


def test_a_gate_reads_its_own_token_only():
    """A later token changes no earlier score, and the score of a token is the one of its normed input."""
    model = llama()
    method.attach(model, Gate())
    seen = []
    for ids in (IDS, torch.cat([IDS[:, :-1], IDS[:, :1]], dim=1)):
        scores = {}
        with method.watched(model, lambda i, score, before, after, scores=scores: scores.update({i: score})):
            logits(model, ids)
        seen.append(scores)
    assert sorted(seen[0]) == [0, 1] and seen[0][0].shape == (1, 12, 4, 16)
    assert torch.allclose(seen[0][1][:, :-1], seen[1][1][:, :-1], atol=1e-6)
    assert not torch.allclose(seen[0][0][:, -1], seen[1][0][:, -1])
    layer = geometry.layers(model)[0]
    x = layer.input_layernorm(model.model.embed_tokens(IDS))
    expected = torch.sigmoid(x @ layer.self_attn.gates[0].linear.weight.T).view(1, 12, 4, 16)
    assert torch.allclose(seen[0][0], expected, atol=1e-6)


def test_scores_have_the_shapes_of_grouped_queries():
    shapes = {
        "elementwise": (4, 16), "headwise": (4, 1), "shared": (1, 16), "value": (2, 16), "value headwise": (2, 1),
        "key": (2, 16), "query": (4, 16), "output": (1, 64), "independent": (4, 16),
    }  # fmt: skip
    for name, expected in shapes.items():
        score = method.Gating(GATES[name], SIZES).score(torch.zeros(2, 5, 64))
        assert score.shape == (2, 5, *expected), name
        assert torch.allclose(score, torch.full_like(score, 0.5)), name


@given(st.floats(-60, 60))
def test_a_gate_that_cannot_close_stays_above_a_half(x):
    score = float(method.ACTIVATIONS["ns_sigmoid"](torch.tensor(x)))
    assert 0.5 <= score <= 1
    assert float(method.ACTIVATIONS["silu"](torch.tensor(x))) == pytest.approx(float(silu(torch.tensor(x))), abs=1e-6)


@pytest.mark.parametrize("name", GATES)
def test_added_parameters_are_those_of_the_modules(name):
    model = llama()
    before = sum(parameter.numel() for parameter in model.parameters())
    method.attach(model, GATES[name])
    assert sum(p.numel() for p in model.parameters()) - before == method.added(GATES[name], method.shape(model))


def test_the_printed_column_and_the_row_that_does_not_add_up():
    """Table 1, in millions; all but the row of four more experts."""
    printed = {
        "elementwise": 201, "value": 25, "key": 25, "query": 201, "output": 100, "headwise": 1.6,
        "value headwise": 0.2, "shared": 201, "value shared": 25,
    }  # fmt: skip
    for name, value in printed.items():
        assert method.added(GATES[name], PAPER) / 1e6 == pytest.approx(value, rel=0.02), name
    more = {row: count / 1e6 for row, count in method.expansions(PAPER, keys=8, queries=48, experts=4).items()}
    assert more["keys"] == pytest.approx(50, rel=0.01) and more["queries"] == pytest.approx(201, rel=0.01)
    assert more["experts"] == pytest.approx(452.98, abs=0.01)


def test_feed_forward_layers_pay_for_the_gate():
    """28 layers of the paper: 6,144 less 683; here a decoder with and one without have as many parameters."""
    dense = Shape(layers=28, width=2048, queries=16, keys=8, size=128)
    assert method.matched(6144, (Gate(),), dense) == 6144 - 683
    sizes = Shape(layers=4, width=128, queries=4, keys=4, size=32)
    counts = []
    for gates in ((), (Gate(),), (Gate(), Gate(place="value"))):
        mlp = method.matched(320, gates, sizes)
        model = decoder.build(decoder.Decoder(vocabulary=50, layers=4, width=128, heads=4, mlp=mlp), 0)
        method.attach(model, *gates)
        counts.append(sum(parameter.numel() for parameter in model.model.layers.parameters()))
    assert max(counts) / min(counts) < 1.002
    with pytest.raises(ClaimbookError, match="cannot pay"):
        method.matched(20, (Gate(),), sizes)


def test_gates_are_trained_and_drawn_by_the_seed():
    models = [llama() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        method.attach(model, Gate(), seed=seed)
    same, other = (method.gatings(models[i])[0].linear.weight for i in (1, 2))
    assert torch.equal(method.gatings(models[0])[0].linear.weight, same) and not torch.equal(same, other)
    models[0](input_ids=IDS, use_cache=False).logits.sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for gating in method.gatings(models[0]) for p in gating.parameters())


@pytest.mark.parametrize("packing", ["by_group", "by_head"])
@pytest.mark.parametrize("name", ["elementwise", "headwise"])
@torch.no_grad()
def test_both_packings_hold_the_same_gate(packing, name):
    """What the released code and Qwen3-Next compute from one matrix, view by view, is query and gate apart."""
    generator = torch.Generator().manual_seed(0)
    rows = 64 if name == "elementwise" else 4
    query, gate, x = (torch.randn(n, 64, generator=generator) for n in (64, rows, 5))
    packed = method.pack(query, gate, SIZES, packing)
    once = x @ packed.T  # (T, rows)
    if packing == "by_group":  # modeling_qwen3.py: view(T, kv heads, -1), split, then reshape to heads
        both = once.view(5, 2, -1).split([2 * 16, rows // 2], dim=-1)
    else:  # Qwen3-Next: view(T, heads, -1), then chunk
        both = once.view(5, 4, -1).split([16, rows // 4], dim=-1)
    assert torch.allclose(both[0].reshape(5, 4, 16), (x @ query.T).view(5, 4, 16), atol=1e-4)
    assert torch.allclose(both[1].reshape(5, 4, -1), (x @ gate.T).view(5, 4, -1), atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(method.unpack(packed, SIZES, packing), (query, gate), strict=True))
    with pytest.raises(ClaimbookError, match="65 rows hold no gate"):
        method.unpack(torch.zeros(65, 64), SIZES, packing)


def test_a_flat_split_of_the_packed_rows_is_garbage():
    query, gate = torch.zeros(64, 64), torch.ones(64, 64)
    packed = method.pack(query, gate, SIZES, "by_group")
    assert not torch.equal(packed[:64], query)
    assert not torch.equal(method.unpack(packed, SIZES, "by_head")[0], query)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=12), st.floats(-20, 20))
@settings(max_examples=50)
def test_an_extra_logit_is_a_gate(values, sink):
    plain, extra = torch.tensor(values, dtype=torch.float64), torch.tensor([sink], dtype=torch.float64)
    expected = torch.softmax(torch.cat([plain, extra]), dim=0)[:-1]
    assert torch.allclose(torch.softmax(plain, 0) * method.sink_logit_as_gate(plain, extra), expected, atol=1e-12)


@torch.no_grad()
def test_an_extra_logit_is_a_gate_in_a_decoder():
    """The library's own attention with a sink logit, against plain rows times the gate."""
    spec = decoder.Decoder(vocabulary=50, heads=2, attention=variants.Attention(bias="sink_logit"))
    module = decoder.build(spec, 0).model.layers[0].self_attn
    module.sink_logit += torch.tensor([0.7, -1.0])
    query, key = (torch.randn(1, 2, 9, 32, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    rows = variants.scores(module, query, key, 0.2)[..., 1:]
    raw = (0.2 * query @ key.mT).masked_fill(torch.ones(9, 9).triu(1).bool(), float("-inf"))
    gate = method.sink_logit_as_gate(raw, module.sink_logit[:, None, None])
    assert torch.allclose(rows, torch.softmax(raw, -1) * gate, atol=1e-6)


SMALL = Shape(layers=1, width=16, queries=4, keys=2, size=4)


@pytest.mark.parametrize("name", ["none", *GATES])
def test_which_gates_leave_one_linear_map(name):
    """Those that are constant, or add what is linear; places outside the pair do not touch it."""
    gates = () if name == "none" else (GATES[name],)
    linear = {"none", "key", "query", "output", "independent", "additive identity"}
    share = method.nonlinear_share(gates, SMALL, tokens=256)
    assert (share < 1e-9) if name in linear else (0.1 < share < 1.5), share


def test_state_of_the_random_numbers_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    method.nonlinear_share((Gate(),), SMALL, tokens=128)
    method.attach(llama(), Gate())
    assert torch.equal(torch.rand(1), expected)


@given(st.floats(0.01, 0.5), st.integers(100, 100_000), st.integers(1, 8))
def test_a_fixed_gap_leaks_more_in_longer_texts(share, at, times):
    assert method.leak(share, at, at) == pytest.approx(share, rel=1e-6)
    longer = method.leak(share, at, at * times)
    logits_of_others = -math.log((at - 1) * (1 - share) / share)  # below the sink's, which is 0
    row = math.exp(logits_of_others) * (at * times - 1)
    assert longer == pytest.approx(row / (1 + row), rel=1e-6) and longer >= share * (1 - 1e-9)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"place": "output", "scores": "headwise"}, "no heads"),
        ({"source": "norm", "activation": "silu"}, "has no scores"),
        ({"place": "middle"}, "place"),
    ],
)
def test_gates_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Gate(**wrong)


def test_a_family_without_projections_is_refused():
    model, _ = tiny.build("tiny-random-gpt2")
    with pytest.raises(ClaimbookError, match="gpt2"):
        method.attach(model, Gate())
    with pytest.raises(ClaimbookError, match="gpt2"):
        method.prove(model)
    method.prove(llama())


def test_norms_of_queries_and_keys_are_those_of_qwen3():
    """A Llama with normed queries and keys gives what transformers' Qwen3 gives with the same weights."""
    theirs, _ = tiny.build("tiny-random-qwen3")
    ours = llama()
    method.norm_queries_and_keys(ours)
    weights = {
        name.replace("q_norm.weight", "query_norm.scale").replace("k_norm.weight", "key_norm.scale"): value
        for name, value in theirs.state_dict().items()
    }
    ours.load_state_dict(weights)
    for norm in ours.modules():
        if hasattr(norm, "variance_epsilon"):
            norm.variance_epsilon = theirs.model.norm.variance_epsilon
    ours.model.rotary_emb = theirs.model.rotary_emb
    assert (logits(ours) - logits(theirs)).abs().max() < 1e-4 * logits(theirs).abs().max()
