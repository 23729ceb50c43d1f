"""Sinks of real models: inputs, the metric on every architecture, the theory of repeats, windows, interventions."""

import numpy as np
import pytest
import torch

from claimbook.errors import ClaimbookError
from claimbook.experiments.sink_emergence.measure import real, states, text, toys
from claimbook.lm import geometry, tiny, variants
from claimbook.lm.attention import observed, replaced
from claimbook.lm.decoder import Decoder, build
from claimbook.lm.load import load
from claimbook.lm.losses import hidden_states, token_losses
from claimbook.metrics.sinks import Importance, sink_rate
from claimbook.papers import sink_emergence as theory

pytestmark = pytest.mark.numeric

ARCHITECTURES = [name for name in tiny.CONFIGS]
PLAIN = ["llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3", "gpt_neox", "opt", "gpt2", "glm"]
IDS = torch.randint(1, 300, (3, 40), generator=torch.Generator().manual_seed(0))


def lm_of(name):
    return load(f"{tiny.PREFIX}{name}", "cpu")


def maps(lm, ids):
    """Whole attention maps (N, L, H, T, T) as transformers itself gives them."""
    lm.model.set_attn_implementation("eager")
    with torch.no_grad():
        return torch.stack(lm.model(input_ids=ids, output_attentions=True, use_cache=False).attentions, dim=1)


@pytest.mark.parametrize("name", PLAIN)
def test_the_metric_is_the_brute_force_on_transformers_own_maps(name):
    lm = lm_of(name)
    alpha = real.importance(lm, IDS, keys=5)
    whole = maps(lm, IDS)
    expected = torch.stack([whole[..., k].sum(-1) / (40 - k) for k in range(5)], dim=-1)
    assert torch.allclose(alpha, expected, atol=1e-6)
    rate = sink_rate(alpha, 0.05)
    brute = torch.zeros(3, 5)
    for n in range(3):
        for k in range(5):
            brute[n, k] = sum(float(a) > 0.05 for a in expected[n, :, :, k].flatten()) / expected[0, ..., 0].numel()
    assert torch.allclose(rate, brute) and 0 < rate.mean() < 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_measured_without_changes(name):
    lm = lm_of(name)
    assert real.importance(lm, IDS, keys=4).shape[0] == 3
    seen = real.observe(lm, IDS[:2])
    layers = lm.model.config.get_text_config().num_hidden_layers
    assert seen.hidden_norm.shape == (layers, 2) and torch.isfinite(seen.cosine_first).all()


def test_observing_geometry_leaves_the_model_alone():
    lm = lm_of("qwen3")
    with torch.no_grad():
        before = lm.model(input_ids=IDS).logits
        real.observe(lm, IDS)
        assert torch.equal(lm.model(input_ids=IDS).logits, before)


# --- inputs ------------------------------------------------------------------------------------------------------


def test_random_tokens_are_ordinary_ones():
    lm = lm_of("llama")
    ids = real.random(lm, 50, 64, seed=1)
    assert ids.min() > 0 and ids.max() < 257 and len(ids.unique()) > 200  # 0 is <s>; the model has unused rows
    assert torch.equal(ids, real.random(lm, 50, 64, seed=1)) and not torch.equal(ids, real.random(lm, 50, 64, seed=2))
    same = real.repeated(lm, 20, 8, seed=1)
    assert (same == same[:, :1]).all() and len(same[:, 0].unique()) > 10


def test_natural_samples_begin_with_their_documents(monkeypatch):
    documents = [{"text": f"{i} " + "word " * 40} for i in range(30)] + [{"text": "short"}]
    monkeypatch.setattr(real.catalogue, "texts", lambda key: documents)
    monkeypatch.setattr(real.catalogue, "load_catalogue", lambda: {"any": None})
    lm = lm_of("llama")
    with_start, without = (real.natural(lm, "any", 10, 32, start=start) for start in (True, False))
    assert with_start.shape == without.shape == (10, 32)
    assert lm.tokenizer.decode(without[3]).startswith("3 word")
    assert torch.equal(with_start, torch.stack([lm.document(documents[i]["text"])[:32] for i in range(10)]))
    with pytest.raises(ClaimbookError, match=r"has 30 documents of 32 tokens.*31 are asked for"):
        real.natural(lm, "any", 31, 32)


# --- the theory of repeats -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3_text", "gpt_neox"])
def test_repeats_coincide_and_obey_the_bound(name):
    found = real.repeats(lm_of(name), real.repeated(lm_of(name), 4, 40, seed=0))
    assert found["distance"] < 1e-4 and found["above"] == 0 and found["checked"] == 4 * 2 * 4 * 40
    assert 1 / 40 < found["bound"] <= 1


def test_repeats_do_not_coincide_where_positions_are_learnt():
    lm = lm_of("gpt2")
    assert real.repeats(lm, real.repeated(lm, 4, 40, seed=0))["distance"] > 0.1


def test_a_text_without_repeats_is_not_taken_for_one():
    assert real.repeats(lm_of("llama"), IDS)["distance"] > 0.1


def test_the_bound_bites():
    """A query that gives the first key more than two equal vectors can is caught."""
    query = torch.full((1, 4), 0.1).expand(6, 4)
    bound = theory.rotary_bound(query, query, 0.5)
    assert bound[0] == 1 and (bound.diff() < 0).all()
    xi = 0.5 * 0.04
    assert float(bound[5]) == pytest.approx(1 / (1 + 5 * 2.718281828 ** (-2 * xi)))
    logits = torch.tensor([xi, -xi, -xi, -xi, -xi, -xi])  # the best that angles alone can do
    assert float(torch.softmax(logits, 0)[0]) == pytest.approx(float(bound[5]), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"positions": "none"}, lambda heads: theory.uniform(12).expand(heads, 12, 12)),
        ({"positions": "none", "attention": {"distance": "alibi"}}, None),
        ({"positions": "none", "attention": {"distance": "relative"}}, None),
    ],
)
def test_attention_to_a_repeated_token_is_set_by_positions_alone(options, expected):
    spec = Decoder(vocabulary=50, layers=2, width=32, heads=2, mlp=48, **options)
    model, rows = build(spec, 0), []

    class Keep:
        def update(self, layer, start, found):
            rows.append(found)

    with torch.no_grad(), variants.observed(model, Keep()):
        model(input_ids=torch.full((1, 12), 7))
    if expected is None:
        want = theory.by_distance(variants.distance_bias(spec.attention, 2, 12)).expand(2, 12, 12)
    else:
        want = expected(2)
    for found in rows:
        assert torch.allclose(found[0], want, atol=1e-5)


def test_positions_are_exchanged_and_put_back():
    lm = lm_of("gpt2")
    table = lm.model.transformer.wpe.weight
    before = table.detach().clone()
    with theory.positions_exchanged(lm.model, 0, 4, swap=False):
        assert torch.equal(table[0], before[4]) and torch.equal(table[4], before[4])
    with theory.positions_exchanged(lm.model, 0, 4, swap=True):
        assert torch.equal(table[0], before[4]) and torch.equal(table[4], before[0])
    assert torch.equal(table, before)
    opt = lm_of("opt").model
    offset = opt.model.decoder.embed_positions.offset
    assert torch.equal(theory.position_table(opt)[0], opt.model.decoder.embed_positions.weight[offset])
    with pytest.raises(ClaimbookError, match="'llama' has no learnt position embeddings"):
        theory.position_table(lm_of("llama").model)


# --- lengths and windows -------------------------------------------------------------------------------------------


def test_one_pass_gives_every_length():
    lm = lm_of("llama")
    found = real.ByLength([10, 25, 40])
    with torch.no_grad(), observed(lm.model, found, block=16):
        lm.model(input_ids=IDS)
        lm.model(input_ids=IDS[:1])
    alpha = found.result()
    assert alpha.shape == (4, 3, 2, 4)
    for i, length in enumerate((10, 25, 40)):
        assert torch.allclose(alpha[:3, i], real.importance(lm, IDS[:, :length], keys=1)[..., 0], atol=1e-5)


def test_windows_are_read_off_whole_maps():
    lm, window = lm_of("mistral"), 48
    ids = torch.randint(1, 300, (1, 100), generator=torch.Generator().manual_seed(1))
    first, later = real.FirstWhileVisible(window), real.WindowFirst(window)
    with torch.no_grad(), observed(lm.model, first, later, block=16):
        lm.model(input_ids=ids)
    whole = maps(lm, ids)[0]
    diagonal = torch.stack([whole[:, :, i, i - window + 1] for i in range(window, 100)], dim=-1).mean(-1)
    assert torch.allclose(later.result(), diagonal, atol=1e-6)
    assert torch.allclose(first.result()[0], whole[:, :, :window, 0].sum(-1) / window, atol=1e-6)
    assert float(whole[0, 0, 60, 60 - window]) == 0 and float(whole[0, 0, 60, 60 - window + 1]) > 0


def test_sliding_layers_are_named():
    assert real.sliding(lm_of("gemma3_text")) == [0] and real.sliding(lm_of("llama")) == []


# --- interventions ---------------------------------------------------------------------------------------------------


def by_hand(lm, ids, edit):
    """Loss with whole maps; keys and values edited by ``edit(layer, key, value)``, the first token's output kept."""

    def function(module, query, key, value, mask, scaling=None, **options):
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1).clone(), value.repeat_interleave(groups, 1).clone()
        own = value[:, :, 0].clone()  # its only key is itself
        hidden = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).triu(1)
        key, value = edit(module.layer_idx, key, value)
        probs = torch.softmax((query @ key.mT * scaling).masked_fill(hidden, -1e30), -1)
        probs = edit.after(module.layer_idx, probs) if hasattr(edit, "after") else probs
        out = probs @ value
        out[:, :, 0] = own
        return out.transpose(1, 2), None

    with torch.no_grad(), replaced(lm.model, function):
        hidden = hidden_states(lm.model, ids[None])[0]
        return float(token_losses(lm.model, hidden[7:-1], ids[8:]).mean())


def mean_loss(lm, ids, change):
    return float(real.losses_under(lm, ids, change)[7:].mean())


def test_a_change_leaves_the_tokens_own_output_alone():
    """Only later queries meet it: the first token's state, and so what others see of it further up, stays."""
    lm, ids = lm_of("llama"), IDS[:1]
    everywhere, nothing = torch.ones(2, 4, dtype=torch.bool), torch.zeros(2, 2, 16)
    for token in (0, 5):
        with torch.no_grad():
            before = lm.model.base_model(ids).last_hidden_state
            with replaced(lm.model, real.Change(everywhere, value=nothing, token=token).attention):
                after = lm.model.base_model(ids).last_hidden_state
        assert torch.allclose(before[:, : token + 1], after[:, : token + 1], atol=1e-5)
        assert not torch.allclose(before[:, token + 1 :], after[:, token + 1 :], atol=1e-3)


def test_sinks_under_a_change_are_counted_anew():
    lm, ids = lm_of("llama"), IDS[0]
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    removed = real.Change(everywhere, remove=True)
    with torch.no_grad():
        real.losses_under(lm, ids, removed)
    assert removed.sink_heads() == 0  # only the first query, of 40, still gives it anything


def test_interventions_do_what_they_say():
    lm, ids = lm_of("llama"), IDS[0]
    firsts = [real.first_of(lm, row) for row in IDS]
    alpha = real.importance(lm, ids[None], keys=1)[0, :, :, 0]
    heads = alpha > alpha.median()  # some heads of each layer, not all
    mean = {kind: (firsts[1][kind] + firsts[2][kind]) / 2 for kind in ("key", "value")}

    def exchange(layer, key, value):
        for h in heads[layer].nonzero()[:, 0].tolist():
            key[0, h, 0], value[0, h, 0] = mean["key"][layer, h // 2], mean["value"][layer, h // 2]
        return key, value

    def empty(layer, key, value):
        for h in heads[layer].nonzero()[:, 0].tolist():
            value[0, h, 0] = 0
        return key, value

    def remove(layer, key, value):
        return key, value

    def without_first(layer, probs):
        for h in heads[layer].nonzero()[:, 0].tolist():
            probs[0, h, 1:, 0] = 0
            probs[0, h] = probs[0, h] / probs[0, h].sum(-1, keepdim=True)
        return probs

    remove.after = without_first
    nothing = torch.zeros_like(mean["value"])
    with torch.no_grad():
        base = mean_loss(lm, ids, None)
        for change, edit in (
            (real.Change(heads, key=mean["key"], value=mean["value"]), exchange),
            (real.Change(heads, value=nothing), empty),
            (real.Change(heads, remove=True), remove),
        ):
            found = mean_loss(lm, ids, change)
            assert found == pytest.approx(by_hand(lm, ids, edit), abs=1e-5) and abs(found - base) > 1e-4
        no_heads = torch.zeros_like(heads)
        assert mean_loss(lm, ids, real.Change(no_heads, value=nothing)) == pytest.approx(base, abs=1e-6)
        plain = lm.model(input_ids=ids[None]).logits[0, 7:-1]
        assert base == pytest.approx(float(torch.nn.functional.cross_entropy(plain, ids[8:])), abs=1e-4)


def test_a_document_is_never_its_own_reference():
    """With two documents the mean over the others is the other one."""
    lm = lm_of("llama")
    firsts = [real.first_of(lm, row) for row in IDS[:2]]
    with torch.no_grad():
        found = real.losses(lm, IDS[0], firsts, 0, 8)
        change = real.Change(torch.ones(2, 4, dtype=torch.bool), key=firsts[1]["key"], value=firsts[1]["value"])
        assert found["loss"]["exchanged in all heads"] == pytest.approx(mean_loss(lm, IDS[0], change))
    assert found["early"].keys() == found["loss"].keys() and found["early"]["as it is"] != found["loss"]["as it is"]
    assert len(found["similar"]["key"]) == 2 and found["loss"].keys() >= {"as it is", "removed in sink heads"}


# --- toys ------------------------------------------------------------------------------------------------------------


def test_the_toys_text_is_as_described():
    ids, targets = toys.Text().sample(20, 0)
    assert ids.shape == (20, 64) and (ids[:, 0] == toys.FIXED).all() and (ids[:, 1:] < toys.FIXED).all()
    assert torch.equal(ids[:, 1:], targets[:, :-1])
    at = [(n, t) for n in range(20) for t in range(3, 63) if ids[n, t] < 3]
    assert at and all(ids[n, t + 1] == ids[n, t - 1] for n, t in at)
    third, _ = toys.Text(fixed=2).sample(5, 0)
    assert (third[:, 2] == toys.FIXED).all() and (third[:, :2] < toys.FIXED).all()
    free, _ = toys.Text(fixed=None).sample(5, 0)
    assert (free < toys.FIXED).all()
    _, scored = toys.Text(unscored=4).sample(5, 0)
    assert (scored[:, :4] == -100).all() and (scored[:, 4:] >= 0).all()


def test_one_random_token_means_that_the_second_follows_from_it():
    """Bigrams of the language recur; pairs of even draws are all different."""
    pairs = {
        name: toys.Text(fixed=None, bigram_from=n).sample(4000, 0)[0][:, :2] for name, n in (("one", 1), ("two", 2))
    }
    counts = {name: torch.unique(rows, dim=0, return_counts=True)[1].max() for name, rows in pairs.items()}
    assert counts["one"] > 3 * counts["two"]


def test_a_pool_holds_so_many_samples():
    source = toys.Text(pool=4, batch=32)
    rows = torch.cat([source.step(0, step)[0] for step in range(5)])
    assert len(torch.unique(rows, dim=0)) == 4
    assert torch.equal(source.step(0, 3)[0], source.step(0, 3)[0])
    assert len(torch.unique(toys.Text(batch=32).step(0, 1)[0], dim=0)) == 32


def test_each_seed_and_each_step_of_a_toy_reads_a_text_of_its_own():
    """And none of them the text that it is tested on."""
    for source in (toys.Text(batch=8), toys.Text(batch=8, pool=64)):
        seen = [source.step(seed, step)[0] for seed in range(3) for step in range(3)]
        seen.append(source.sample(8, toys.VALIDATION_SEED)[0])
        for i, one in enumerate(seen):
            assert not any(torch.equal(one, other) for other in seen[:i])
    rows = [set(map(tuple, toys.Text(batch=64, pool=8).step(seed, 0)[0].tolist())) for seed in (0, 1)]
    assert not rows[0] & rows[1], "a pool is its seed's own"


def test_a_toy_measures_what_it_says():
    spec = Decoder(
        vocabulary=41, layers=2, width=32, heads=2, mlp=48, attention={"bias": "k", "strict": True, "row_sum": 0.5}
    )
    model = build(spec, 0)
    ids, targets = toys.Text(length=20).sample(6, 0)
    found, rows = toys.attention_of(model, spec, ids) | toys.solved(model, ids, targets), {}

    class Keep:
        def update(self, layer, start, weights):
            rows[layer] = weights

    with torch.no_grad(), variants.observed(model, Keep()):
        model(input_ids=ids)
    whole = torch.stack([rows[0], rows[1]])
    assert found["row_sum"] == pytest.approx(float(whole[..., 10:, 1:].sum(-1).mean()), abs=1e-6)
    assert found["first_raw"] == pytest.approx(float(whole[..., 10:, 1].mean()), abs=1e-6)
    bias = (whole[..., 0] / whole.sum(-1)).mean()
    assert found["attention"][0] == pytest.approx(float(bias), abs=1e-5) and len(found["attention"]) == 17
    guess = model(input_ids=ids).logits.argmax(-1)
    right = [bool(guess[n, t] == targets[n, t]) for n in range(6) for t in range(2, 20) if ids[n, t] < 3]
    assert found["copied"] == pytest.approx(sum(right) / len(right))
    assert np.mean(found["by_sample"], axis=0) == pytest.approx(found["attention"][:6], abs=1e-4)
    assert np.shape(found["heads"]) == np.shape(found["shares"]) == (2, 2, 2)


def test_norms_are_taken_before_the_norm():
    for norm in ("pre", "post"):
        model = build(Decoder(vocabulary=41, layers=2, width=32, mlp=48, norm=norm), 0)
        model.model.layers[0].mlp.down_proj.weight.data *= 50
        with torch.no_grad():
            found = geometry.over_others(states.norms(model, IDS[:, :12] % 41), 0)
            after = geometry.observe(model, IDS[:, :12] % 41, variants.attend).hidden_norm
        assert found.shape == (2, 3) and (norm == "pre" or torch.allclose(after, torch.ones(2, 3), atol=1e-2))
        assert (found - 1).abs().max() > 0.02


def test_a_short_run_is_the_beginning_of_a_long_one():
    recipe = {"steps": 40, "rate": 3e-3}
    whole, part = toys.one({}, recipe, 3), toys.trained({}, recipe, 3, steps=10)[1]
    assert part["loss"] == whole.loss[:5] and len(whole.loss) == 20
    assert [row["alpha"] for row in part["measured"]] == whole.alpha[:5]


# --- decoders trained on text ----------------------------------------------------------------------------------------


def test_a_cache_keeps_its_first_and_last_keys():
    model = build(Decoder(vocabulary=41, layers=2, width=32, heads=2, mlp=48), 0)
    ids = IDS[:, :20] % 41
    targets = ids.roll(-1, 1)
    whole = text.streamed(model, ids, targets, None, 10)
    assert text.streamed(model, ids, targets, (0, 20), 10) == pytest.approx(whole, abs=1e-6), "room for all"
    assert text.streamed(model, ids, targets, (19, 1), 10) == pytest.approx(whole, abs=1e-6)
    plain = build(Decoder(vocabulary=41, layers=2, width=32, heads=2, mlp=48, attention={"window": 6}), 0)
    with torch.no_grad():
        logits = plain(input_ids=ids).logits[:, 10:]
    window = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[:, 10:].flatten())
    assert text.streamed(model, ids, targets, (0, 6), 10) == pytest.approx(float(window), abs=1e-5)


@pytest.mark.parametrize("options", [{}, {"bias": "k"}, {"similarity": "sigmoid"}, {"row_sum": 0.5}])
def test_what_is_left_of_a_row_is_made_whole_again(options):
    variant = variants.Attention(**options)
    rows = torch.rand(1, 1, 8, 8 + variant.slots).tril(variant.slots)
    rows = variant.row_sum * rows / rows.sum(dim=-1, keepdim=True)
    kept = text.evicted(rows, (1, 2), variant)
    assert kept.sum(dim=-1).flatten().tolist() == pytest.approx([variant.row_sum] * 8, abs=1e-6)
    tokens = kept[0, 0, :, variant.slots :]
    assert all((tokens[t, j] > 0) == (j <= t and (j < 1 or t - j < 2)) for t in range(8) for j in range(8))


def test_rows_that_need_not_sum_to_one_are_left_as_they_are():
    variant = variants.Attention(similarity="sigmoid", normalised=False)
    rows = torch.rand(1, 1, 5, 5).tril()
    kept = text.evicted(rows, (0, 2), variant)
    assert torch.equal(kept[kept > 0], rows[kept > 0])


def test_a_prefix_is_not_scored():
    targets = torch.arange(12).view(2, 6)
    assert torch.equal(text.scored(targets, 0), targets)
    assert (text.scored(targets, 2)[:, :2] == -100).all() and torch.equal(
        text.scored(targets, 2)[:, 2:], targets[:, 2:]
    )
    assert targets[0, 0] == 0, "what was given stays as it is"


def test_proxies_of_rows_that_sum_to_less():
    rows = torch.tensor([[[[0.2, 0.0], [0.1, 0.1]]]])
    found = Importance(2)
    found.update(0, 0, rows)
    assert found.result().flatten().tolist() == pytest.approx([0.75, 0.5])
