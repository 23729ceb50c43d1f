"""What must hold of a model before a method may be run on it; nothing here changes a number, it only refuses.

A model that loads is not yet a model that a method can treat: weights may be missing and replaced by random ones, a
layer may keep a state in place of attention, or attend twice. Each check raises ClaimbookError with the reason in one
line. A method's own checks stand beside the method (``claimbook.papers.<chapter>.prove``).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from claimbook.errors import ClaimbookError
from claimbook.lm.attention import causal_probs, grouped_matmul, replaced
from claimbook.lm.geometry import layers

LENGTH = 24  # tokens of a check
WIDEST = 1024  # a window of attention as wide as this is looked past
TOLERANCE = 1e-3  # relative, in float32
HALF = 0.25  # in half precision, which rounds anew in every layer (Gemma-3-270M: 0.09); another computation misses by 1


def complete(name: str, info: dict) -> None:
    """Refuse weights that do not fit, by what `from_pretrained` says of its loading (``output_loading_info``).

    transformers warns and goes on with random values in place of what is missing.
    """
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    mismatched = sorted(info.get("mismatched_keys", []), key=str)
    if mismatched:
        key, stored, wanted = mismatched[0]
        raise ClaimbookError(
            f"model '{name}': {key} has the shape {tuple(stored)}, its config.json asks for {tuple(wanted)}: the "
            "weights and the config are not of one model"
        )
    if missing and (prefix := _prefix(missing, unexpected)):
        raise ClaimbookError(
            f"model '{name}': every name of its weights begins with '{prefix}' (a wrapped model was saved): save the "
            "model inside, or take the prefix off the names"
        )
    if missing or unexpected:
        what = f"{missing[0]} is missing" if missing else f"{unexpected[0]} is not known to the model"
        more = len(missing) + len(unexpected) - 1
        raise ClaimbookError(
            f"model '{name}': of its weights {what}{f', and {more} more do not fit' if more else ''}: the folder is "
            "not whole, or its config.json is that of another model"
        )


def _prefix(missing: list[str], unexpected: list[str]) -> str:
    """What stands before every missing name among the unexpected ones, such as ``_orig_mod.``; "" when nothing does."""
    tails = {key for key in unexpected if key.endswith(missing[0])}
    for key in sorted(tails, key=len):
        prefix = key.removesuffix(missing[0])
        if prefix and all(prefix + name in unexpected for name in missing):
            return prefix
    return ""


@torch.no_grad()
def finite(name: str, model) -> None:
    """Refuse weights of which one is NaN, infinite, or no number that the model was trained in; the first is named."""
    _plain(name, model)
    for key, tensor in model.named_parameters():
        # the sum is quick, but it may overflow where no weight does
        if not bool(tensor.sum(dtype=torch.float32).isfinite()) and not bool(tensor.isfinite().all()):
            raise ClaimbookError(f"model '{name}': {key} holds NaN or infinite weights: the file is damaged")


def _plain(name: str, model) -> None:
    """Refuse a folder with an adapter that is not read, or with 8-bit weights that were read as whole numbers.

    The latter is where a quantised model has lost the part of its config that says by what to scale them.
    """
    folder = Path(model.name_or_path)
    if not model.name_or_path or not folder.is_dir():
        return
    if (folder / "adapter_config.json").exists():
        raise ClaimbookError(
            f"model '{name}': beside its weights lies an adapter (adapter_config.json), which is not read: merge it "
            "into the weights, or take it away"
        )
    if getattr(model, "is_quantized", False):
        return
    for key, kind in _stored(folder):
        if key.endswith(".weight") and kind not in ("F16", "BF16", "F32", "F64"):
            raise ClaimbookError(
                f"model '{name}': {key} is stored as {kind}, and its config.json does not say by what to scale it: "
                "take the model before it was quantised"
            )


def _stored(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and type of each stored weight, of the files that transformers reads: safetensors, else pickles."""
    paths = sorted(folder.glob("*.safetensors"))
    for path in paths:
        with safe_open(path, "pt") as file:
            yield from ((key, file.get_slice(key).get_dtype()) for key in file.keys())  # noqa: SIM118  (it is no dict)
    kinds = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}
    for path in [] if paths else sorted(folder.glob("pytorch_model*.bin")):
        state = torch.load(path, map_location="meta", weights_only=True)
        tensors = {key: one for key, one in state.items() if isinstance(one, Tensor)}
        yield from ((key, kinds.get(one.dtype, str(one.dtype).removeprefix("torch."))) for key, one in tensors.items())


def vocabulary(name: str, model, tokenizer) -> None:
    """Refuse a tokenizer that yields ids for which the model has no embedding, or other ids each time."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if dropout := getattr(backend and backend.model, "dropout", None):
        raise ClaimbookError(
            f"model '{name}': its tokenizer leaves out {dropout:.0%} of its merges at random: set dropout to null in "
            "tokenizer.json"
        )
    rows, ids = model.get_input_embeddings().weight.shape[0], tokenizer.vocab_size
    if ids > rows:
        raise ClaimbookError(
            f"model '{name}': its tokenizer knows {ids} tokens, the model {rows}: they do not belong together"
        )


def one_way(name: str, model) -> None:
    """Refuse a model that reads a text both ways (BERT, T5's encoder): what it predicts it has seen."""
    attentions = [module for module in model.modules() if hasattr(module, "layer_idx")]  # not of a tower for images
    if any(getattr(module, "is_causal", True) is False for module in attentions):
        raise ClaimbookError(
            f"model '{name}': '{model.config.model_type}' attends to later tokens too: take a model that predicts the "
            "next token"
        )


def sample(model, length: int = LENGTH) -> Tensor:
    """Ids (1, length), the same for every model of a vocabulary."""
    size = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, size, (1, length), generator=torch.Generator().manual_seed(0))
    return ids.to(model.get_input_embeddings().weight.device)


def tolerance(model) -> float:
    return TOLERANCE if model.dtype == torch.float32 else HALF


@torch.no_grad()
def attention(model) -> None:
    """Refuse a model whose attention, replaced by ours, does not give what its own gives, once in every layer.

    So are linear attention and other layers that keep a state, attention computed twice, and padded or two-way kinds.
    """
    config = model.config.get_text_config()
    kind, count = model.config.model_type, config.num_hidden_layers
    if not count:
        raise ClaimbookError(f"this '{kind}' has no layers: take a model with attention")
    calls: list[int] = []

    def dense(module, query, key, value, mask, scaling=None, **options):
        calls.append(module.layer_idx)
        if value.shape[-1] != query.shape[-1]:
            raise ClaimbookError(f"the values of '{kind}' are of another width than its keys: take one of equal widths")
        return grouped_matmul(causal_probs(query, key, 0, scaling, **options), value).transpose(1, 2), None

    ids = sample(model, _past_window(config))
    try:
        own = _hidden(model, ids)
        with replaced(model, dense):
            ours = _hidden(model, ids)
    except ClaimbookError:
        raise
    except Exception as error:  # a family may hand over what no attention function expects
        raise ClaimbookError(
            f"the attention of '{kind}' cannot be replaced ({type(error).__name__}: {_first_line(error)})"
        ) from error
    if not bool(own.isfinite().all()):
        dtype = str(model.dtype).removeprefix("torch.")
        raise ClaimbookError(f"the states of '{kind}' are not finite in {dtype}: take float32 or bfloat16")
    without = sorted(set(range(count)) - set(calls))
    if without:
        raise ClaimbookError(
            f"'{kind}' has layers without attention of the usual kind ({_list(without)} of 0 to {count - 1}), which "
            "keep a state or mix tokens otherwise: take a model with attention in every layer"
        )
    if len(calls) != count:
        raise ClaimbookError(f"'{kind}' attends {len(calls)} times in {count} layers: take one that does once a layer")
    gap = distance(ours, own)
    if not gap <= tolerance(model):
        raise ClaimbookError(
            f"the attention of '{kind}' is of a kind not known here: computed by us, its states differ by {gap:.2g} "
            "(relative)"
        )
    if not any(hasattr(part, "layer_idx") for part in layers(model)[0].modules()):
        raise ClaimbookError(f"this '{kind}' has as many layers for images as for text: take its language model alone")


def _past_window(config) -> int:
    """Tokens of a text that is longer than the window of attention; `LENGTH` without one, or with a very wide one.

    A family may mask its window by itself, and not tell the attention that is replaced.
    """
    window = getattr(config, "sliding_window", None) or 0
    room = getattr(config, "max_position_embeddings", None) or WIDEST
    return LENGTH + (window if window <= min(WIDEST, room - LENGTH) else 0)


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two tensors over the largest magnitude of the second; infinite for NaN."""
    gap = float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max().clamp(min=1e-12))
    return gap if gap == gap else float("inf")


def _hidden(model, ids: Tensor) -> Tensor:
    return model.base_model(input_ids=ids, use_cache=False).last_hidden_state


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", (str(error).splitlines() or ["no message"])[0])[:160]


def _list(numbers: list[int], shown: int = 6) -> str:
    words = [str(number) for number in numbers[:shown]]
    return ", ".join(words) + (" …" if len(numbers) > shown else "")
