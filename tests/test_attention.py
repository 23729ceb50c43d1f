"""Attention observed and replaced on tiny random models of every family, against transformers' own tensors."""

import pytest
import torch
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from claimbook.errors import ClaimbookError
from claimbook.lm import adapters, tiny
from claimbook.lm.attention import causal_probs, grouped_matmul, observed, replaced
from claimbook.metrics.attention import ColumnMass, KeyMass, MeanMap

pytestmark = pytest.mark.numeric

LENGTH = 70  # past the sliding window of 48
REGISTRY = [kind for kind in tiny.CONFIGS if kind not in ("mpt", "falcon", "falcon_alibi")]


@pytest.fixture(scope="module", params=tiny.CONFIGS)
def model(request):
    return tiny.build(tiny.PREFIX + request.param)[0]


@pytest.fixture(scope="module")
def ids():
    return torch.randint(1, 300, (2, LENGTH), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_observing_changes_no_output(model, ids):
    expected = model(ids).logits
    with observed(model, KeyMass(2), block=16):
        assert torch.allclose(model(ids).logits, expected, atol=2e-5)
    assert torch.equal(model(ids).logits, expected), "the former attention is back"


@torch.no_grad()
@pytest.mark.parametrize("kind", REGISTRY)
def test_reducers_equal_the_full_tensors(kind, ids):
    model = tiny.build(tiny.PREFIX + kind)[0]
    model.set_attn_implementation("eager")
    full = torch.stack(model(ids, output_attentions=True).attentions).float()  # (L, B, H, T, T)
    keys, columns, maps = KeyMass(3), ColumnMass(), MeanMap()
    with observed(model, keys, columns, block=16):
        model(ids)
    with observed(model, maps, block=LENGTH):
        model(ids)
    assert full.std() > 0.01, "the tiny model attends to something"
    assert torch.allclose(keys.result(), full.mean(1)[..., :3], atol=1e-6)
    assert torch.allclose(maps.result(), full.mean(dim=(1, 2)), atol=1e-6)
    visible = torch.arange(LENGTH, 0, -1)
    assert torch.allclose(columns.result(), full.mean(1).sum(dim=2) / visible, atol=1e-6)


def test_a_column_that_is_divided_by_the_wrong_count_is_noticed():
    uniform = torch.ones(1, 1, 4, 4).tril() / torch.arange(1, 5).view(4, 1)
    mass = ColumnMass()
    mass.update(0, 0, uniform)
    assert torch.allclose(mass.result()[0, 0], torch.tensor([25 / 48, 13 / 36, 7 / 24, 1 / 4]))


def test_registries_and_models_are_left_as_they_were(model, ids):
    before = set(AttentionInterface._global_mapping), set(AttentionMaskInterface._global_mapping)
    implementation = model.config._attn_implementation
    with pytest.raises(RuntimeError, match="inside"), replaced(model, lambda *args, **options: None):
        raise RuntimeError("inside")
    assert (set(AttentionInterface._global_mapping), set(AttentionMaskInterface._global_mapping)) == before
    assert model.config._attn_implementation == implementation
    assert not any("forward" in vars(module) for module in model.modules()), "adapters leave no trace"


@torch.no_grad()
def test_replacing_reaches_every_layer(model, ids):
    seen = set()

    def nothing(module, query, key, value, mask, scaling=None, **options):
        seen.add(module.layer_idx)
        return torch.zeros_like(query).transpose(1, 2), None

    normal = model(ids).logits
    with replaced(model, nothing):
        without = model(ids).logits
    assert seen == {0, 1}
    assert not torch.allclose(normal, without, atol=0.1)


@torch.no_grad()
def test_padding_is_refused_not_ignored(ids):
    model = tiny.build("tiny-random-llama")[0]
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    with pytest.raises(ClaimbookError, match="padded"), observed(model, KeyMass(1)):
        model(ids, attention_mask=mask)


def test_a_family_out_of_reach_is_named(monkeypatch):
    model = tiny.build("tiny-random-llama")[0]
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", lambda self: False)
    with pytest.raises(ClaimbookError, match=r"'llama' cannot be replaced.*falcon, mpt"), replaced(model, print):
        pass


def test_grouped_heads_are_paired_as_transformers_pairs_them():
    draw = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 6, 5, 4, generator=draw), torch.randn(2, 3, 4, 7, generator=draw)
    assert torch.allclose(grouped_matmul(left, right), left @ right.repeat_interleave(2, dim=1), atol=1e-6)


def test_a_sliding_window_hides_what_lies_at_its_width():
    probs = causal_probs(torch.zeros(1, 1, 6, 2), torch.zeros(1, 1, 6, 2), 0, 1.0, sliding_window=3)
    assert probs[0, 0, 5].tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])


def test_a_sink_logit_takes_its_share():
    probs = causal_probs(torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2), 0, 1.0, s_aux=torch.tensor([0.0, -1e9]))
    assert probs.flatten().tolist() == pytest.approx([0.5, 1.0])


def test_a_map_of_a_long_sequence_is_refused():
    with pytest.raises(ValueError, match="one block"):
        MeanMap().update(0, 16, torch.ones(1, 1, 4, 20))


def test_adapters_are_listed():
    assert set(adapters.ADAPTERS) == {"mpt", "falcon"}
