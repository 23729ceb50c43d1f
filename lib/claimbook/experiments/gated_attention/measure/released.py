"""The paper's released models, gated and not: their sinks, massive activations and scores. For the gpu tier.

Their own code is not run: they are Qwen3 models whose q_proj also holds the gate's rows, grouped by key-value head.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from claimbook.errors import ClaimbookError
from claimbook.experiments.gated_attention.measure.onset import texts
from claimbook.experiments.gated_attention.measure.seen import FirstToken, Scores, even, mean
from claimbook.experiments.gated_attention.measure.text import largest
from claimbook.lm.attention import observed
from claimbook.lm.load import LM, pick_device, pick_dtype
from claimbook.papers import gated_attention as method

FOLDERS = {"none": "1B_baseline", "headwise": "1B_gate_headwise", "elementwise": "1B_gate_elementwise"}
FLAGS = {"headwise": "headwise_attn_output_gate", "elementwise": "elementwise_attn_output_gate"}
OTHER_CODE = ("auto_map", "architectures", "model_type", "transformers_version", "dtype", "torch_dtype")


@dataclass(frozen=True)
class Row:
    """One document read by one model: F-Attn as ``share`` and ``even``, what even attention gives; ``massive``: M-Act,
    mean over layers; ``score``, ``zeros``, ``before``, ``after`` as in `text.at_the_end`, None without a gate.
    """

    share: float
    even: float
    massive: float
    score: float | None
    zeros: float | None
    before: float | None
    after: float | None


def load(folder: Path, device: str = "auto", dtype: str = "bfloat16") -> LM:
    """A released model with its gate. ClaimbookError for a folder that holds no such model."""
    if not (folder / "config.json").is_file():
        raise ClaimbookError(f"{folder.name} has no config.json: give the folder of the released models")
    given = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kinds = [kind for kind, flag in FLAGS.items() if given.get(flag)]
    drop = {*OTHER_CODE, *FLAGS.values()}
    model = Qwen3ForCausalLM(Qwen3Config(**{key: value for key, value in given.items() if key not in drop}))
    method.attach(model, *(method.GATES[kind] for kind in kinds))
    weights = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    if kinds:
        sizes = method.shape(model)
        for key in [key for key in weights if key.endswith("q_proj.weight")]:
            weights[key], gate = method.unpack(weights[key], sizes, "by_group")
            weights[key.replace("q_proj.weight", "gates.0.linear.weight")] = gate
    try:
        left = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ClaimbookError(f"{folder.name}: the weights are not those of its config.json") from error
    missing = set(left.missing_keys) - ({"lm_head.weight"} if model.config.tie_word_embeddings else set())
    if missing or left.unexpected_keys:
        raise ClaimbookError(f"{folder.name}: {min([*missing, *left.unexpected_keys])} is missing or unknown")
    model.tie_weights()
    model = model.to(pick_device(device), pick_dtype(dtype)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return LM(folder.name, model, tokenizer)


@torch.no_grad()
def measure(lm: LM, ids: torch.Tensor) -> Row:
    """The row of one document, ids (T,)."""
    seen, scores, ids = FirstToken(), Scores(), ids[None].to(lm.model.device)
    with method.watched(lm.model, scores), observed(lm.model, seen):
        massive = largest(lm.model, ids)
    return Row(
        share=float(seen.result().mean()),
        even=even(ids.shape[1]),
        massive=mean(massive),
        score=mean(float(one.mean()) for one in scores.by_token.values()),
        zeros=mean(scores.zero.values()),
        before=mean(before for before, _ in scores.sizes.values()),
        after=mean(after for _, after in scores.sizes.values()),
    )


def rows(folder: str, text: str, device: str, dtype: str, count: int = 64, length: int = 2048) -> dict[str, list[Row]]:
    """Rows of the three models that lie in a folder, one for each document, the same for all."""
    found = {}
    for name, place in FOLDERS.items():
        lm = load(Path(folder) / place, device, dtype)
        found[name] = [measure(lm, document.ids) for document in texts(lm, text, length, count)]
        del lm
    return found
