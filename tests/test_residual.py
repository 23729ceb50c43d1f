"""The residual stream by block: numbers against transformers' own states, and columns against whole maps."""

import pytest
import torch

from claimbook.lm import block_outputs, tiny
from claimbook.lm.attention import observed
from claimbook.lm.residual import keys_and_values, trace
from claimbook.metrics.key_attention import VisibleColumns

pytestmark = pytest.mark.numeric

IDS = torch.randint(1, 300, (200,), generator=torch.Generator().manual_seed(0))


def model_of(name):
    return tiny.build(f"{tiny.PREFIX}{name}")[0]


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3_text", "gpt_neox", "gpt2", "falcon"])
@pytest.mark.parametrize("at", [0, 3])
def test_norms_and_cosines_are_those_of_the_states(name, at):
    model = model_of(name)
    found = trace(model, IDS, at)
    with torch.no_grad():
        first = model.base_model(IDS[None], use_cache=False, output_hidden_states=True).hidden_states[1][0]
    assert torch.allclose(found.norm[0], first.norm(dim=-1), rtol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(first, first[at][None], dim=-1)
    assert torch.allclose(found.cosine[0], cosine, atol=1e-4) and found.cosine[:, at].min() > 0.999
    assert found.given.shape == found.heads.shape == found.feed_forward_norm.shape == (2, 200)
    kept = {}
    with torch.no_grad(), block_outputs.observed(model, lambda layer, *parts: kept.update({layer: parts})):
        model.base_model(IDS[None], use_cache=False)
    assert torch.allclose(found.attention_norm[1], kept[1][1][0].norm(dim=-1), rtol=1e-3)
    assert torch.allclose(found.feed_forward_norm[1], kept[1][2][0].norm(dim=-1), rtol=1e-3)
    written, state = kept[1][2][0], kept[1][3][0]
    for direction, cosines in ((written[at], found.feed_forward_cosine), (state[at], found.feed_forward_along)):
        assert torch.allclose(cosines[1], torch.cosine_similarity(written, direction[None], dim=-1), atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mistral"])
def test_columns_are_means_over_the_queries_that_see_a_key(name):
    """Gemma's first layer and Mistral's both see 48 tokens only: a denominator of T - k would be wrong there."""
    model, columns = model_of(name), VisibleColumns()
    with torch.no_grad(), observed(model, columns):
        model.base_model(IDS[None], use_cache=False)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(IDS[None], output_attentions=True, use_cache=False).attentions
    distance = torch.arange(200)[:, None] - torch.arange(200)
    for layer, whole in enumerate(maps):
        narrow = name == "mistral" or (name == "gemma3_text" and layer == 0)
        sees = (distance >= 0) & (distance < (48 if narrow else 200))
        expected = (whole[0] * sees).sum(dim=1) / sees.sum(dim=0)
        assert torch.allclose(columns.result()[layer], expected, atol=1e-6)


def test_an_even_share_is_that_among_all_keys_in_sight():
    """A full layer: the k-th key is shared by queries k … T - 1, of which query i sees i + 1; a window: 48 at most."""
    for name, window in (("llama", 200), ("mistral", 48)):
        even = trace(model_of(name), IDS).even
        sees = torch.arange(200)[:, None] - torch.arange(200)
        sees = ((sees >= 0) & (sees < window)).float()
        expected = (sees / sees.sum(dim=1, keepdim=True)).sum(dim=0) / sees.sum(dim=0)
        assert torch.allclose(even, expected.expand(2, -1), atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_norms_of_keys_and_values_are_those_in_the_cache(name):
    model = model_of(name)
    keys, values = keys_and_values(model, IDS[:40])
    with torch.no_grad():
        cache = model(IDS[None, :40], use_cache=True).past_key_values
    for layer in range(2):
        for norms, kept in ((keys, cache.layers[layer].keys), (values, cache.layers[layer].values)):
            assert torch.allclose(norms[layer], kept[0].norm(dim=-1).mean(dim=0), rtol=1e-4)
