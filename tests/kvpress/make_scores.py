"""Scores of NVIDIA's kvpress on random tensors, for tests/test_eviction.py. Run in an environment of its own:

    pip install torch==2.13.0 kvpress==0.5.5 "transformers<5.3"
    python tests/kvpress/make_scores.py

writes scores.npz beside it: rotated queries (B, H, T, d), keys (B, H_kv, T, d), and scores (B, H_kv, T) by press.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding, apply_rotary_pos_emb

from kvpress import KeyDiffPress, KnormPress, SnapKVPress, TOVAPress

BATCH, HEADS, KV_HEADS, TOKENS, SIZE, WIDTH = 2, 4, 2, 40, 8, 32
PRESSES = {
    "key_norm": KnormPress(),
    "key_diff": KeyDiffPress(),
    "snapkv": SnapKVPress(window_size=6, kernel_size=5),
    "tova": TOVAPress(),
}


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, attn_implementation="eager"
    )
    module = LlamaAttention(config, layer_idx=0)
    for parameter in module.parameters():
        parameter.normal_(std=0.3)
    hidden = torch.randn(BATCH, TOKENS, WIDTH)
    turns = LlamaRotaryEmbedding(config)(hidden, torch.arange(TOKENS)[None])
    query = module.q_proj(hidden).view(BATCH, TOKENS, HEADS, SIZE).transpose(1, 2)
    key = module.k_proj(hidden).view(BATCH, TOKENS, KV_HEADS, SIZE).transpose(1, 2)
    query, key = apply_rotary_pos_emb(query, key, *turns)
    found = {
        name: press.score(module, hidden, key, key, None, {"position_embeddings": turns})
        for name, press in PRESSES.items()
    }
    arrays = {name: x.numpy().astype(np.float32) for name, x in {"query": query, "key": key, **found}.items()}
    np.savez_compressed(Path(__file__).with_name("scores.npz"), **arrays)


if __name__ == "__main__":
    main()
