"""Every decoder family that transformers builds from a config, tried: which methods can treat it, and why not others.

``python -m claimbook.runs.families`` tries them all, in some minutes, and writes ``data/model_families.json``, which
the book shows; a test tries them again.
"""

from collections.abc import Callable

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from claimbook import paths
from claimbook.errors import ClaimbookError
from claimbook.lm import proof, tiny
from claimbook.papers import secondary_sinks, streaming_llm
from claimbook.provenance import seals
from claimbook.runs import proofs

WORKS = "works"
METHODS: dict[str, Callable] = {
    "attention": proof.attention,
    "secondary sinks": secondary_sinks.prove,
    "streaming": streaming_llm.prove,
}
LARGEST = 20_000_000  # weights; a config that gives more has sizes of its own kind, which were not cut down

_SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
_EXPERTS = {
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
}
_COMPRESSED = {  # keys and values through a narrow layer (DeepSeek)
    **_SIZES,
    **_EXPERTS,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "qk_head_dim": 16,
    "v_head_dim": 16,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "first_k_dense_replace": 1,
}
_GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "rotary_dim": 8}


def names() -> list[str]:
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def build(kind: str):
    """A tiny random model of a family. ClaimbookError when none of our small configs makes one that runs."""
    problem = ""
    for options in _options(kind):
        try:
            config = AutoConfig.for_model(kind, **options)
            with torch.device("meta"):
                weights = sum(one.numel() for one in AutoModelForCausalLM.from_config(config).parameters())
            if weights > LARGEST:
                problem = problem or "its config has sizes of another kind: several models in one, or many experts"
                continue
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
            with torch.no_grad():
                model(proof.sample(model), use_cache=False)
        except Exception as error:  # each family refuses in its own way
            problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}"
            continue
        return model
    raise ClaimbookError(f"not built from a small config ({problem})")


def _options(kind: str) -> list[dict]:
    special = {key: _SIZES[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range")}
    known = [tiny.CONFIGS[kind] | special] if kind in tiny.CONFIGS else []
    without = {key: value for key, value in _SIZES.items() if key not in ("head_dim", "num_key_value_heads")}
    return [*known, _SIZES, _SIZES | _EXPERTS, _COMPRESSED, without, without | _GPT]


def tried(kind: str) -> dict[str, str]:
    """By method: "works", or the reason why not."""
    try:
        model = build(kind)
    except ClaimbookError as error:
        return dict.fromkeys(METHODS, f"not tried: {error}")
    found = {}
    for name, prove in METHODS.items():
        if name != "attention" and found["attention"] != WORKS:
            found[name] = found["attention"]
            continue
        found[name] = proofs.refusal(prove, model) or WORKS
    return found


def main() -> None:
    logging.set_verbosity_error()
    found = {kind: tried(kind) for kind in names()}
    seals.write(path(), found)
    for method in METHODS:
        print(f"{method}: {sum(row[method] == WORKS for row in found.values())} of {len(found)} families")


def path():
    return paths.root() / "data" / "model_families.json"


if __name__ == "__main__":
    main()
