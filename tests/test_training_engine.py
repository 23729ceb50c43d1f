"""The training engine: variants against loops, architectures, exact resume, corpora and their controls."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from claimbook import paths
from claimbook.errors import ClaimbookError
from claimbook.lm import geometry, pretraining, toy, training, variants
from claimbook.lm.decoder import Decoder, build
from claimbook.lm.pretraining import Chunks, Corpus
from claimbook.lm.training import Recipe, train
from claimbook.lm.variants import Attention
from claimbook.metrics.sinks import EPSILON, Importance, sink_rate

pytestmark = pytest.mark.numeric

IDS = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(0))
VARIANTS = {
    "softmax": {},
    "scaled": {"row_sum": 0.2},
    "sigmoid": {"similarity": "sigmoid", "normalised": False},
    "sigmoid over its sum": {"similarity": "sigmoid"},
    "elu1": {"similarity": "elu1", "normalised": False},
    "elu1 over its sum": {"similarity": "elu1"},
    "elu1 kernel": {"similarity": "elu1_kernel"},
    "identity kernel": {"similarity": "identity_kernel", "normalised": False},
    "identity kernel over its sum": {"similarity": "identity_kernel"},
    "mlp kernel": {"similarity": "mlp_kernel"},
    "k": {"bias": "k"},
    "k, fixed value": {"bias": "k", "value": 5.0},
    "k, even value": {"bias": "k", "value": 5.0, "value_direction": "even"},
    "k, few dimensions": {"bias": "k", "key_dims": 2},
    "kv": {"bias": "kv"},
    "kv, shared": {"bias": "kv", "shared": True},
    "v": {"bias": "v"},
    "sink logit": {"bias": "sink_logit"},
    "window": {"window": 4},
    "prefix": {"prefix": 3},
    "strict": {"strict": True},
    "strict kv": {"strict": True, "bias": "kv"},
    "alibi": {"distance": "alibi"},
    "relative": {"distance": "relative"},
    "sigmoid k": {"similarity": "sigmoid", "normalised": False, "bias": "k"},
    "kernel kv": {"similarity": "elu1_kernel", "bias": "kv"},
    "summed heads": {"summed": True},
    "summed heads, v": {"summed": True, "bias": "v"},
}


def decoder(seed=0, **options):
    spec = Decoder(**{"vocabulary": 50, "layers": 2, "width": 32, "heads": 2, "mlp": 48, "context": 16} | options)
    model = build(spec, seed)
    for parameter in model.parameters():  # far from the start, where every variant looks alike
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return model.eval()


def by_hand(module, query, key, value, scaling):
    """Attention of one head at a time and one query at a time, as the formulas of the paper's section 7 read."""
    kind, (batch, heads, length, size) = module.variant, query.shape
    out = torch.zeros_like(query)
    rows = torch.zeros(batch, heads, length, kind.slots + length)
    phi = {"elu1_kernel": lambda x: nn.functional.elu(x) + 1, "mlp_kernel": getattr(module, "kernel", None)}.get(
        kind.similarity, lambda x: x
    )
    for b in range(batch):
        for h in range(heads):
            mine = 0 if kind.shared else h
            for i in range(length):
                total, parts = 0.0, []
                for j in range(-kind.slots, length):
                    if j >= 0:
                        far = kind.window is not None and i - j >= kind.window
                        hidden = (j > i or far) and j >= kind.prefix
                        if hidden or (kind.strict and i == j):
                            continue
                        k, v = key[b, h, j], value[b, h, j]
                    elif kind.bias == "sink_logit":
                        k, v = None, torch.zeros(size)
                    else:
                        k = torch.zeros(size)
                        k[: module.bias_key.shape[1]] = module.bias_key[mine]
                        v = torch.zeros(size)
                        if kind.bias == "kv":
                            v = module.bias_value[mine]
                        elif kind.value and kind.value_direction == "first":
                            v[0] = kind.value
                        elif kind.value:
                            v += kind.value / math.sqrt(size)
                    z = module.sink_logit[h] if k is None else phi(query[b, h, i]) @ phi(k) * scaling
                    if j >= 0 and kind.distance == "alibi":
                        z = z - 2 ** (-8 * (h + 1) / heads) * (i - j)
                    elif j >= 0 and kind.distance == "relative":
                        z = z + (i - j)  # below 16 each distance is its own bucket
                    score = {
                        "softmax": lambda z: z.exp(),
                        "sigmoid": lambda z: 1 / (1 + (-z).exp()),
                        "elu1": lambda z: z + 1 if z > 0 else z.exp(),
                    }.get(kind.similarity, lambda z: z)(z)
                    parts.append((j, score, v))
                    total = total + score
                if kind.similarity in ("identity_kernel", "mlp_kernel"):
                    total = max(abs(total), torch.tensor(1.0))
                for j, score, v in parts:
                    weight = (score / total if kind.normalised else score) * kind.row_sum
                    rows[b, h, i, kind.slots + j] = weight
                    out[b, h, i] += weight * v
                if kind.bias == "v":
                    out[b, h, i] += module.bias_value[mine]
    return rows, out.sum(dim=1, keepdim=True) if kind.summed else out


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_what_its_formula_says(name):
    model = decoder(attention=Attention(**VARIANTS[name]))
    module = model.model.layers[0].self_attn
    draw = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, 2, 7, 16, generator=draw) for _ in range(3))
    with torch.no_grad():
        rows, out = by_hand(module, query, key, value, 0.25)
        assert torch.allclose(variants.scores(module, query, key, 0.25), rows, atol=1e-5)
        found, _ = variants.attend(module, query, key, value, None, scaling=0.25)
    assert torch.allclose(found.transpose(1, 2), out, atol=1e-5)


def test_the_default_is_transformers_own_llama():
    model = decoder()
    with torch.no_grad():
        ours = model(input_ids=IDS).logits
        model.set_attn_implementation("eager")
        theirs = model(input_ids=IDS).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"similarity": "sigmoid", "distance": "alibi"}, {"bias": "kv", "strict": True}, {"summed": True}]
)
def test_observing_changes_nothing_and_sees_the_rows(options):
    model, seen = decoder(attention=Attention(**options)), []

    class Keep:
        def update(self, layer, start, rows):
            seen.append(rows)

    with torch.no_grad():
        plain = model(input_ids=IDS).logits
        with variants.observed(model, Keep()):
            watched = model(input_ids=IDS).logits
    assert torch.equal(plain, watched) and model.config._attn_implementation == variants.NAME
    slots = model.model.layers[0].self_attn.variant.slots
    assert [row.shape for row in seen] == [(3, 2, 12, slots + 12)] * 2


def test_no_query_sees_the_future():
    for options in VARIANTS.values():
        if "prefix" in options:
            continue
        model = decoder(attention=Attention(**options))
        changed = IDS.clone()
        changed[:, 8:] = (changed[:, 8:] + 1) % 50
        with torch.no_grad():
            a, b = model(input_ids=IDS).logits, model(input_ids=changed).logits
        assert torch.allclose(a[:, :8], b[:, :8], atol=1e-5) and not torch.allclose(a[:, 8:], b[:, 8:], atol=1e-3)


def test_positions_matter_only_where_there_are_some():
    """Without positions a last token's logits do not depend on the order of the tokens before it, in one layer."""
    shuffled = IDS[:, [*range(6), 10, 9, 8, 7, 6, 11]]
    for positions, attention, moves in [
        ("none", {}, False),
        ("rope", {}, True),
        ("learned", {}, True),
        ("sinusoidal", {}, True),
        ("none", {"distance": "alibi"}, True),
        ("none", {"distance": "relative"}, True),
    ]:
        model = decoder(layers=1, positions=positions, attention=Attention(**attention))
        with torch.no_grad():
            a, b = model(input_ids=IDS).logits[:, -1], model(input_ids=shuffled).logits[:, -1]
        assert torch.allclose(a, b, atol=1e-4) != moves, positions


def test_relative_buckets_beyond_the_near_ones():
    bias = variants.distance_bias(Attention(distance="relative"), 2, 200)[0]
    assert bias[199, 199] == 0 and bias[199, 184] == 15 and bias[199, 183] == 16
    assert bias[199, 0] == 31 and (bias.diff(dim=1)[199] <= 0).all()


def test_norms_and_feed_forward_layers_are_as_asked_for():
    post = decoder(norm="post")
    x = torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        out = post.model.layers[0](x, position_embeddings=(torch.ones(1, 12, 16), torch.zeros(1, 12, 16)))
        weight = post.model.layers[0].post_attention_layernorm.weight
    assert torch.allclose((out / weight).square().mean(-1), torch.ones(1, 12), atol=1e-3)
    assert isinstance(post.model.norm, nn.Identity)
    plain = decoder(gated=False, activation="relu").model.layers[0].mlp
    with torch.no_grad():
        assert torch.allclose(plain(x), plain.down_proj(torch.relu(plain.up_proj(x))))
    count = {gated: sum(p.numel() for p in decoder(gated=gated).parameters()) for gated in (True, False)}
    assert count[True] - count[False] == 2 * 32 * 48


def test_weights_start_as_in_the_paper_and_the_same_for_a_seed():
    spec = Decoder(vocabulary=500, layers=3, width=128, heads=2, mlp=256)
    model, again, other = build(spec, 1), build(spec, 1), build(spec, 2)
    layer = model.model.layers[0]
    assert float(layer.self_attn.q_proj.weight.detach().std()) == pytest.approx(math.sqrt(2 / 640), rel=0.02)
    assert float(layer.mlp.down_proj.weight.detach().std()) == pytest.approx(1 / (16 * 3), rel=0.02)
    assert float(model.model.embed_tokens.weight.detach().std()) == pytest.approx(math.sqrt(2 / 640), rel=0.02)
    assert torch.equal(layer.mlp.up_proj.weight, again.model.layers[0].mlp.up_proj.weight)
    assert not torch.equal(layer.mlp.up_proj.weight, other.model.layers[0].mlp.up_proj.weight)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build(Decoder(vocabulary=20), 0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("what", "options"),
    [
        (Attention, {"similarity": "cosine"}),
        (Attention, {"sinks": 4}),
        (Attention, {"normalised": False}),
        (Attention, {"value": 5.0}),
        (Attention, {"bias": "kv", "value": 5.0}),
        (Attention, {"bias": "v", "key_dims": 2}),
        (Attention, {"similarity": "mlp_kernel", "bias": "sink_logit"}),
        (Decoder, {"vocabulary": 10, "depth": 2}),
        (Recipe, {"steps": 1, "rate": 0.1, "momentum": 0.9}),
    ],
)
def test_what_does_not_fit_is_refused(what, options):
    with pytest.raises(ValidationError):
        what(**options)


# --- training --------------------------------------------------------------------------------------------------


def batches(step):
    rows = torch.randint(0, 50, (4, 13), generator=torch.Generator().manual_seed(step))
    rows[:, 1::2] = rows[:, :-1:2]  # every second token repeats the one before it
    return rows[:, :-1], rows[:, 1:]


def fresh():
    return build(Decoder(vocabulary=50, layers=1, width=32, heads=2, mlp=48, attention=Attention(bias="kv")), 0)


def trained(work=None, steps=30, progress=lambda *_: None, precision="float32"):
    recipe = Recipe(steps=steps, rate=1e-2, warmup=5, weight_decay=0.1, precision=precision)
    model = fresh()
    found = train(
        model,
        recipe,
        batches,
        measure=lambda m: {"norm": float(m.lm_head.weight.norm())},
        measure_at=(0, 10, 30),
        loss_every=3,
        work=work,
        progress=progress,
    )
    return model, found


def test_a_killed_training_ends_in_the_same_numbers(tmp_path, monkeypatch):
    whole, expected = trained()
    assert expected["loss"][-1] < expected["loss"][0] - 0.5
    assert [row["step"] for row in expected["measured"]] == [0, 10, 30] and len(expected["loss"]) == 10
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)

    class Killed(Exception):
        pass

    def kill(fraction, message):
        if fraction >= 0.5:
            raise Killed

    for _ in range(2):  # the second attempt is killed at once, where the first one stopped
        with pytest.raises(Killed):
            trained(tmp_path, progress=kill)
    assert len(list(tmp_path.iterdir())) == 1
    resumed, found = trained(tmp_path)
    assert found == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_resumed_training_does_not_start_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    trained(tmp_path, steps=20)
    first = []
    trained(tmp_path, steps=30, progress=lambda fraction, _: first.append(fraction))
    assert min(first) > 20 / 30


def test_training_in_mixed_precision_keeps_weights_in_float32():
    model, found = trained(precision="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert found["loss"][-1] < found["loss"][0] - 0.5 and found["loss"] != trained()[1]["loss"]


def test_the_rate_warms_up_and_then_stays():
    rates = []
    recipe = Recipe(steps=4, rate=1.0, warmup=2)
    model = fresh()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate)
    for step in range(4):
        training._update(model, optimizer, recipe, step, *batches(step))
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("clip", [0.01, 0.1, 1e6])
def test_gradients_are_clipped_to_the_recipes_norm(clip):
    """Plain descent at a rate of 1 moves the weights by the gradient's norm, or by ``clip`` where that is less."""
    model, start = fresh(), fresh()
    training.mean_loss(start, *batches(0)).backward()
    norm = float(torch.cat([p.grad.flatten() for p in start.parameters()]).norm())
    recipe = Recipe(steps=1, rate=1.0, clip=clip)
    training._update(model, torch.optim.SGD(model.parameters(), lr=1.0), recipe, 0, *batches(0))
    moved = [(a - b).detach().flatten() for a, b in zip(start.parameters(), model.parameters(), strict=True)]
    assert float(torch.cat(moved).norm()) == pytest.approx(min(clip, norm), rel=1e-3) and norm > 0.2


RECIPE = Recipe(steps=3, rate=1e-2)
RECIPES = {"steps": 4, "rate": 2e-2, "warmup": 3, "weight_decay": 0.5, "betas": (0.5, 0.95), "clip": 0.05}
RECIPES |= {"precision": "bfloat16"}


@pytest.fixture(scope="module")
def by_recipe():
    model = fresh()
    train(model, RECIPE, batches)
    return model.lm_head.weight.detach()


@pytest.mark.parametrize("field", Recipe.model_fields)
def test_nothing_in_a_recipe_is_without_effect(by_recipe, field):
    model = fresh()
    train(model, RECIPE.model_copy(update={field: RECIPES[field]}), batches)
    assert not torch.allclose(model.lm_head.weight, by_recipe, atol=1e-5)


def test_targets_of_minus_100_do_not_count():
    model, (ids, targets) = fresh(), batches(0)
    masked = targets.clone()
    masked[:, :6] = -100
    logits = model(input_ids=ids).logits
    expected = torch.nn.functional.cross_entropy(logits[:, 6:].flatten(0, 1), targets[:, 6:].flatten())
    assert torch.allclose(training.mean_loss(model, ids, masked), expected)


def test_a_checkpoint_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training, "save_file", full)
    with pytest.raises(ClaimbookError, match=r"training.safetensors could not be written.*free some space"):
        trained(tmp_path)
    assert not list(tmp_path.iterdir())


# --- corpora ---------------------------------------------------------------------------------------------------

TEXTS = [f"number {i} and some words about the number {i}. " * (1 + i % 3) for i in range(200)]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    (tmp_path / "bpe.json").write_text(pretraining.train_tokenizer(TEXTS, 300).to_str())
    monkeypatch.setattr(pretraining.catalogue, "texts", lambda key: [{"title": "", "text": text} for text in TEXTS])
    pretraining.encoded.cache_clear()
    yield lambda **options: Chunks(
        Corpus(**{"texts": ("any",), "tokenizer": "bpe.json", "length": 16} | options), tmp_path
    )
    pretraining.encoded.cache_clear()


def test_chunks_are_the_documents_put_end_to_end(corpus):
    chunks = corpus()
    tokenizer = pretraining.load_tokenizer(paths.chapter_data("sink_emergence") / "bpe.json")
    assert tokenizer.get_vocab_size() == 2048 and tokenizer.token_to_id("<|end|>") == pretraining.END
    stream = chunks.training.flatten()
    ends = np.flatnonzero(stream == pretraining.END)
    assert len(ends) > 100 and pretraining.FIXED not in stream
    assert chunks.tokens == stream.size and chunks.training.shape[1] == 17


def test_every_chunk_comes_once_an_epoch_and_orders_differ(corpus):
    chunks = corpus()
    count = len(chunks.training)
    epochs = [torch.cat([chunks.batch(e * count + i, 1, seed=0)[0] for i in range(count)]) for e in range(2)]
    expected = sorted(map(tuple, chunks.training[:, :-1].tolist()))
    assert [sorted(map(tuple, epoch.tolist())) for epoch in epochs] == [expected, expected]
    assert not torch.equal(*epochs) and not torch.equal(chunks.batch(0, 8, 0)[0], chunks.batch(0, 8, 1)[0])


def test_targets_are_the_next_tokens(corpus):
    ids, targets = corpus().batch(3, 4, 0)
    assert torch.equal(ids[:, 1:], targets[:, :-1])


def test_training_and_validation_share_no_document(corpus, tmp_path):
    training_ids, held_out = pretraining.encoded(("any",), tmp_path / "bpe.json")
    assert len(held_out) == 4 and len(training_ids) == 196
    assert not {tuple(one) for one in held_out} & {tuple(one) for one in training_ids}


def test_controls_write_positions_in_training_and_validation(corpus):
    fixed = corpus(fixed=(0, 2))
    for ids, targets in (fixed.batch(0, 8, 0), fixed.held_out(4)):
        assert (ids[:, [0, 2]] == pretraining.FIXED).all() and (targets[:, 1] == pretraining.FIXED).all()
        assert (ids[:, [1, 3]] != pretraining.FIXED).all()
    drawn = corpus(random=(0,))
    first = torch.cat([drawn.batch(step, 32, 0)[0][:, 0] for step in range(40)])
    assert first.min() > pretraining.FIXED and first.max() < 300 and len(first.unique()) > 200
    assert torch.equal(drawn.batch(7, 8, 0)[0], drawn.batch(7, 8, 0)[0])
    assert torch.equal(drawn.batch(7, 8, 0)[0][:, 1:], corpus().batch(7, 8, 0)[0][:, 1:])


def test_each_random_position_is_drawn_for_itself(corpus):
    """Neither alike nor bound to another position, step or seed; and one more of them changes no other."""
    both, one = corpus(random=(0, 3)), corpus(random=(0,))
    columns = both.batch(5, 32, 1)[0][:, [0, 3]].T
    assert torch.equal(columns[0], one.batch(5, 32, 1)[0][:, 0])
    others = [both.batch(6, 32, 1)[0][:, 0], both.batch(5, 32, 2)[0][:, 0], both.batch(1, 32, 5)[0][:, 0]]
    for other in (columns[1], *others):
        assert (columns[0] == other).float().mean() < 0.2
    held_out = both.held_out(4)[0][:, [0, 3]].T
    assert not torch.equal(held_out[0], held_out[1])


def test_chunks_may_begin_with_documents(corpus, tmp_path):
    rows = corpus(start="document").training
    stream = np.concatenate(pretraining.encoded(("any",), tmp_path / "bpe.json")[0])
    begins = [0, *(np.flatnonzero(stream == pretraining.END) + 1)]
    starts = {tuple(stream[i : i + 17]) for i in begins}
    assert len(rows) > 50 and {tuple(row) for row in rows} <= starts
    assert not {tuple(row) for row in corpus().training} <= starts


def test_a_small_corpus_is_the_beginning_of_the_whole(corpus):
    small, whole = corpus(unique_tokens=340), corpus()
    assert small.tokens == 340 and np.array_equal(small.training, whole.training[:20])
    assert np.array_equal(small.validation, whole.validation)


def test_corpora_that_do_not_suffice_say_so(corpus, tmp_path):
    with pytest.raises(ClaimbookError, match="too few tokens"):
        corpus(length=100_000)
    with pytest.raises(ClaimbookError, match="validation chunks, 10000 are asked for"):
        corpus().held_out(10_000)
    (tmp_path / "bpe.json").write_text("{")
    with pytest.raises(ClaimbookError, match=r"tokenizer bpe.json cannot be read.*restore it"):
        corpus()


# --- toys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"strict": False}, {"zero_sink": True}, {"width": 16}])
def test_a_toys_attention_is_the_softmax_of_products_over_the_root_of_their_size(options):
    """One query at a time; products that are not divided, or multiplied, give other rows."""
    arm = toy.Arm(**options)
    model, draw = toy.Toy(arm, 40), torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 9, arm.width, generator=draw) for _ in range(2))
    turned = [toy.turn(x, torch.arange(9))[0].double() for x in (query, key)]
    rows = torch.zeros(9, 9).double()
    for i in range(9):
        seen = range(i if arm.strict else i + 1)
        weights = [math.exp(float(turned[0][i] @ turned[1][j]) / math.sqrt(arm.width)) for j in seen]
        for j in seen:
            rows[i, j] = weights[j] / (sum(weights) + arm.zero_sink)
    assert torch.allclose(model.attention(query, key, None)[0].double(), rows, atol=1e-5)


def test_symbols_follow_the_table_they_are_said_to_follow():
    ids = toy.Backcopy().sample(400, 100, torch.Generator().manual_seed(0))
    before, after = ids[:, 1:-1].flatten(), ids[:, 2:].flatten()
    counts = torch.zeros(40, 40)
    counts.index_put_((before, after), torch.ones(len(before)), accumulate=True)
    found = (counts / counts.sum(dim=1, keepdim=True))[toy.TRIGGERS :]
    table = torch.softmax(2 * torch.randn(40, 40, generator=torch.Generator().manual_seed(1)), dim=1)[toy.TRIGGERS :]
    unlike = (found - table).abs().sum(dim=1) / 2
    assert unlike.max() < 0.2 and unlike.mean() < 0.1


# --- the metric ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "kv", "sigmoid", "identity kernel", "sink logit", "strict"])
def test_importance_is_the_brute_force_over_whole_maps(name):
    model, rows = decoder(attention=Attention(**VARIANTS[name])), {}

    class Keep:
        def update(self, layer, start, found):
            rows.setdefault(layer, []).append(found)

    slots = Attention(**VARIANTS[name]).slots
    importance = Importance(3, slots)
    with torch.no_grad(), variants.observed(model, importance, Keep()):
        model(input_ids=IDS)
        model(input_ids=IDS[:2].flip(0))
    maps = torch.stack([torch.cat(rows[layer]) for layer in sorted(rows)], dim=1).abs()
    alpha = importance.result()
    assert alpha.shape == (5, 2, 2, slots + 3)
    for n in range(5):
        for layer in range(2):
            for head in range(2):
                for column in range(slots + 3):
                    k, total = max(0, column - slots), 0.0
                    for i in range(12):
                        row = maps[n, layer, head, i]
                        total += float(row[column] / row.sum()) if row.sum() > 0 else 0.0
                    assert float(alpha[n, layer, head, column]) == pytest.approx(total / (12 - k), abs=1e-6)


def test_the_threshold_comes_before_the_average():
    alpha = torch.tensor([[[[0.5]]], [[[0.05]]]])  # the mean, 0.275, is no sink; one of the two samples has one
    assert sink_rate(alpha, 0.3).mean() == 0.5 and sink_rate(alpha, 0.6).mean() == 0


def test_alpha_must_be_above_epsilon_not_at_it():
    alpha = torch.tensor([EPSILON, EPSILON, EPSILON + 1e-6, EPSILON - 1e-6]).view(1, 1, 4, 1)
    assert sink_rate(alpha).tolist() == [[0.25]]
    assert sink_rate(torch.full((1, 2, 2, 3), 0.5), 0.5).tolist() == [[0.0, 0.0, 0.0]]


def test_importance_adds_up_over_blocks():
    rows = torch.rand(2, 3, 10, 10, generator=torch.Generator().manual_seed(0)).tril()
    rows = rows / rows.sum(-1, keepdim=True)
    whole, parts = Importance(4), Importance(4)
    whole.update(0, 0, rows)
    for start in (0, 4, 8):
        stop = min(start + 4, 10)
        parts.update(0, start, rows[:, :, start:stop, :stop])
    assert torch.allclose(whole.result(), parts.result(), atol=1e-6)
    expected = torch.stack([rows[..., k].sum(-1) / (10 - k) for k in range(4)], dim=-1)
    assert torch.allclose(whole.result()[:, 0], expected, atol=1e-6)


def test_geometry_is_what_it_says():
    model, seen = decoder(layers=1), {}
    found = geometry.observe(model, IDS, variants.attend, first=2)

    def keep(module, query, key, value, mask, scaling=None, **options):
        seen.update(q=query, k=key, v=value)
        return variants.attend(module, query, key, value, mask, scaling=scaling)

    with torch.no_grad(), geometry.replaced(model, keep):
        hidden = model.model(input_ids=IDS, output_hidden_states=True)
    others = [t for t in range(12) if t != 2]
    ratio = seen["v"].norm(dim=-1)[..., 2] / seen["v"].norm(dim=-1)[..., others].mean(-1)
    assert torch.allclose(found.value_norm[0], ratio, atol=1e-5)
    cosine = torch.cosine_similarity(seen["q"][:, :, 3:], seen["k"][:, :, 2:3], dim=-1).mean(-1)
    assert torch.allclose(found.cosine_first[0], cosine, atol=1e-5)
    pairs = [(i, j) for i in range(3, 12) for j in range(i + 1) if j != 2]
    mean = sum(torch.cosine_similarity(seen["q"][:, :, i], seen["k"][:, :, j], dim=-1) for i, j in pairs) / len(pairs)
    assert torch.allclose(found.cosine_others[0], mean, atol=1e-5)
    last = torch.stack([state for state in hidden.hidden_states])
    assert last.shape[0] == 2 and found.hidden_norm.shape == (1, 3)
