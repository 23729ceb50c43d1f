"""What blocks write into the residual stream: found in every family, scaled where asked, refused where it cannot be."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from claimbook.errors import ClaimbookError
from claimbook.lm import block_outputs, geometry, tiny

pytestmark = pytest.mark.numeric

IDS = torch.randint(1, 300, (1, 12), generator=torch.Generator().manual_seed(0))


def model_of(name):
    return tiny.build(f"{tiny.PREFIX}{name}")[0]


def seen(model):
    """(before, attention, feed_forward, after) of every block."""
    rows = {}
    with torch.no_grad(), block_outputs.observed(model, lambda layer, *parts: rows.update({layer: parts})):
        model.base_model(input_ids=IDS, use_cache=False)
    return [rows[layer] for layer in sorted(rows)]


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_a_blocks_output_is_its_input_and_its_two_writes(name):
    model = model_of(name)
    with torch.no_grad():
        states = model.base_model(input_ids=IDS, use_cache=False, output_hidden_states=True).hidden_states
    found = seen(model)
    assert len(found) == 2
    for layer, (before, attention, feed_forward, after) in enumerate(found):
        assert torch.allclose(before + attention + feed_forward, after, atol=1e-4)
        assert torch.allclose(before, states[layer], atol=1e-5)
        assert attention.norm() > 0 and feed_forward.norm() > 0


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_the_writes_are_those_of_the_modules(name):
    """By hand, from the block's own parts: which write is attention's and which is the feed-forward layer's."""
    model = model_of(name)
    block, (before, attention, feed_forward, _) = geometry.layers(model)[0], seen(model)[0]
    with torch.no_grad():
        if name == "llama":
            by_hand = block.mlp(block.post_attention_layernorm(before + attention))
        else:
            normed = block.pre_feedforward_layernorm(before + attention)
            by_hand = block.post_feedforward_layernorm(block.mlp(normed))
    assert torch.allclose(feed_forward, by_hand, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt_oss", "opt", "falcon"])
def test_a_write_is_scaled_for_the_chosen_tokens_alone(name):
    model = model_of(name)
    plain = seen(model)
    with block_outputs.scaled(model, 0, [3, 7], 4.0):
        *_, feed_forward, after = seen(model)[0]
    chosen = torch.zeros(12, dtype=torch.bool)
    chosen[[3, 7]] = True
    assert torch.allclose(feed_forward[:, chosen], 4 * plain[0][2][:, chosen], atol=1e-4)
    assert torch.allclose(feed_forward[:, ~chosen], plain[0][2][:, ~chosen], atol=1e-5)
    assert not torch.allclose(after[:, chosen], plain[0][3][:, chosen], atol=1e-2)
    assert all(torch.equal(a, b) for a, b in zip(seen(model)[0], plain[0], strict=True)), "nothing stays behind"


def test_observing_leaves_the_model_alone():
    model = model_of("gemma3_text")
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        seen(model)
        assert torch.equal(model(input_ids=IDS).logits, before)


def test_a_family_that_does_not_add_up_is_one_clear_line(monkeypatch):
    model = model_of("llama")
    monkeypatch.setattr(block_outputs, "_FEED_FORWARD", ("input_layernorm",))
    with pytest.raises(ClaimbookError, match=r"the writes of 'llama' cannot be told apart \(input and writes miss"):
        block_outputs.writers(model)
    monkeypatch.setattr(block_outputs, "_FEED_FORWARD", ("nowhere", "mlp.nowhere"))
    with pytest.raises(ClaimbookError, match=r"a block has none of nowhere, mlp\.nowhere"):
        block_outputs.writers(model)


def test_hooks_go_when_a_run_fails():
    model = model_of("llama")

    def fails(*parts):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), block_outputs.observed(model, fails):
        model.base_model(input_ids=IDS)
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, nn.Module))


def test_writes_that_are_scaled_on_their_way_are_refused():
    """Granite may multiply what a block writes: then input and writes are not the output."""
    config = {**tiny.CONFIGS["granite"], "residual_multiplier": 0.5, "bos_token_id": 0, "eos_token_id": 0}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("granite", **config)).eval()
    with pytest.raises(ClaimbookError, match="writes of 'granite' cannot be told apart"):
        block_outputs.writers(model)
