"""Tiny random models of real architectures, built from their configs: nothing to download, everything to test."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from claimbook.errors import ClaimbookError

PREFIX = "tiny-random-"
_COMMON = {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_ROPE = {**_COMMON, "intermediate_size": 96, "max_position_embeddings": 512}
_GROUPED = {**_ROPE, "num_key_value_heads": 2, "head_dim": 16}
_SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
_MIXED = ["sliding_attention", "full_attention"]
CONFIGS = {
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 48},
    "qwen2": {**_ROPE, "num_key_value_heads": 2},
    "qwen3": _GROUPED,
    "gemma3_text": {**_GROUPED, "sliding_window": 48, "layer_types": _MIXED, "query_pre_attn_scalar": 16},
    "phi3": {**_ROPE, "num_key_value_heads": 2, "partial_rotary_factor": 0.5},
    "gpt_neox": {**_ROPE, "rotary_pct": 0.25},
    "opt": {**_COMMON, "ffn_dim": 96, "max_position_embeddings": 512, "word_embed_proj_dim": 64},
    "gpt2": {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "gpt_oss": {
        **_GROUPED,
        "sliding_window": 48,
        "layer_types": _MIXED,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "glm": {**_GROUPED, "partial_rotary_factor": 0.5},
    "granite": {
        **_GROUPED,
        "logits_scaling": 4.0,
        "attention_multiplier": 0.3,
        "embedding_multiplier": 2.0,
    },
    "gemma2": {
        **_GROUPED,
        "sliding_window": 48,
        "layer_types": _MIXED,
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
    "cohere": {**_GROUPED, "logit_scale": 0.25},
    "mpt": {"vocab_size": 320, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 512},
    "falcon": {**_COMMON, "new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False},
    "falcon_alibi": {**_COMMON, "new_decoder_architecture": False, "multi_query": True, "alibi": True},
}


def build(name: str, seed: int = 0, dtype: torch.dtype = torch.float32):
    """``tiny-random-<architecture>`` as (model, tokenizer): 2 layers, 64 wide, byte-level, untrained.

    The initial weights are drawn wide (std 0.2) so that positions and sinks matter in tests.
    """
    kind = name.removeprefix(PREFIX)
    if kind not in CONFIGS:
        raise ClaimbookError(f"no tiny architecture '{kind}': choose from {', '.join(CONFIGS)}")
    options = {**CONFIGS[kind], **_SPECIAL, "initializer_range": 0.2}
    config = AutoConfig.for_model(kind.removesuffix("_alibi"), **options)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    for parameter in model.parameters():  # what init leaves at exactly one value (sinks, biases) shall matter too
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    torch.random.set_rng_state(state)
    return model, byte_tokenizer()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, ids 1-256; 0 is <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0} | {symbol: i + 1 for i, symbol in enumerate(alphabet)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="<s>")
