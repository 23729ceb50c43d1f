"""A model's rotary position embedding, lifted out of it, so that a method can choose the angles itself.

With every position id at 0 a model hands over *unrotated* queries and keys; ``Rotary`` then turns them by any
position. That it turns them exactly as the model does is checked on the model itself before first use.
"""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from claimbook.errors import ClaimbookError
from claimbook.lm.attention import causal_probs, grouped_matmul, replaced

COUNTED = 2**23  # positions that float32 tells apart by half a step; a configuration may speak of a thousand million
FAR = 0.1  # relative tolerance far out, where a model's own float32 angles are coarse; other frequencies miss by 1

_known: WeakKeyDictionary = WeakKeyDictionary()


class Rotary:
    """Rotation by position for each layer of a model.

    ``layout`` says how the rotated dimensions pair up: ``half`` (i with i + n/2, as Llama and GPT-NeoX), or
    ``interleaved`` (2i with 2i + 1, as GPT-J). Only the first ``2 * len(inv_freq)`` dimensions turn (partial rotary).
    """

    def __init__(self, model, layout: str):
        self.layout = layout
        self._frequencies = _inverse_frequencies(model)

    def turn(self, x: Tensor, positions: Tensor, layer: int) -> Tensor:
        """x (…, n, d) turned by ``positions`` (n,), in tokens, with the frequencies of ``layer``."""
        inv_freq = self._frequencies[layer]
        if inv_freq is None:  # a layer without positions
            return x
        angles = positions.to(x.device, torch.float64)[:, None] * inv_freq.to(x.device, torch.float64)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        width = 2 * inv_freq.numel()
        rotated, rest = x[..., :width], x[..., width:]
        if self.layout == "half":
            a, b = rotated[..., : width // 2], rotated[..., width // 2 :]
            out = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
        else:
            a, b = rotated[..., ::2], rotated[..., 1::2]
            out = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
        return torch.cat([out, rest], dim=-1) if rest.shape[-1] else out


def of(model) -> Rotary | None:
    """The checked rotation of ``model``; None for a model with ALiBi.

    Raises ClaimbookError where positions are learned or the rotation is of a kind not known here.
    """
    if model not in _known:
        _known[model] = _checked(model)
    return _known[model]


def _checked(model) -> Rotary | None:
    if _uses_alibi(model):
        return None
    if _rotary_module(model) is None:
        raise ClaimbookError(
            f"'{model.config.model_type}' has neither rotary positions nor ALiBi: learned absolute positions are out "
            "of the method's scope (StreamingLLM, section 3.2); take a model with RoPE or ALiBi"
        )
    for layout in ("half", "interleaved"):
        if _agrees(model, rotary := Rotary(model, layout)):
            if not _fixed(model, rotary):
                raise ClaimbookError(
                    f"the rotary frequencies of '{model.config.model_type}' change with the length of the text (rope "
                    f"type {_rope_type(model)}, beyond {_trained(model)} tokens), so a cache has no one rotation: take "
                    "a model whose frequencies are fixed"
                )
            return rotary
    raise ClaimbookError(f"the rotary embedding of '{model.config.model_type}' is of a kind not known here")


def _uses_alibi(model) -> bool:
    return model.config.model_type == "mpt" or bool(getattr(model.config, "alibi", False))


def _rotary_module(model):
    return next((m for name, m in model.named_modules() if name.split(".")[-1] == "rotary_emb"), None)


def _inverse_frequencies(model) -> list[Tensor | None]:
    """inv_freq (n,) of each layer, in radians per token; families with layer types have one per type."""
    module, config = _rotary_module(model), model.config.get_text_config()
    if hasattr(module, "inv_freq"):
        return [module.inv_freq] * config.num_hidden_layers
    return [getattr(module, f"{kind}_inv_freq", None) for kind in config.layer_types]


def _trained(model) -> int:
    """The longest text, in tokens, that the configuration speaks of: frequencies that change do so beyond it."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    lengths = [config.max_position_embeddings, rope.get("original_max_position_embeddings")]
    return max(length for length in lengths if length)


def _fixed(model, rotary: Rotary) -> bool:
    """Are the frequencies past the longest text the same? Schemes that change them put others into the module."""
    before = [x if x is None else x.clone() for x in _inverse_frequencies(model)]
    agrees = _agrees(model, rotary, min(_trained(model), COUNTED), FAR, layers=1)
    pairs = zip(before, _inverse_frequencies(model), strict=True)
    return agrees and all(a is b or torch.equal(a, b) for a, b in pairs)


def _rope_type(model) -> str:
    return str((getattr(model.config.get_text_config(), "rope_parameters", None) or {}).get("rope_type", "unknown"))


@torch.no_grad()
def _agrees(model, rotary: Rotary, begin: int = 0, tolerance: float = 1e-3, length: int = 12, layers=None) -> bool:
    """Do our rotations of unrotated queries and keys equal the model's own, from position ``begin``?

    ``layers``: only so many from the first are compared; what rounds in one comes back larger in the next.
    """
    ids = torch.arange(1, length + 1, device=model.device)[None] % model.config.get_text_config().vocab_size
    steps = begin + torch.arange(length, device=model.device)
    native, lifted = _Recorder(lambda x, layer: x), _Recorder(lambda x, layer: rotary.turn(x, steps, layer))
    with replaced(model, native):
        model(ids, position_ids=steps[None], use_cache=False)
    with replaced(model, lifted):
        model(ids, position_ids=torch.zeros_like(steps)[None], use_cache=False)
    if not all(bool(x.isfinite().all()) for x in native.seen):
        dtype = str(model.dtype).removeprefix("torch.")
        raise ClaimbookError(f"the states of '{model.config.model_type}' are not finite in {dtype}: take another dtype")
    tolerance = tolerance if model.dtype == torch.float32 else max(tolerance, 0.05)
    return all(
        (ours - theirs).abs().max() <= tolerance * theirs.abs().max()
        for ours, theirs in list(zip(lifted.seen, native.seen, strict=True))[: layers and 2 * layers]
    )


class _Recorder:
    """Dense causal attention that keeps the queries and keys it was given, after ``position``."""

    def __init__(self, position):
        self.position, self.seen = position, []

    def __call__(self, module, query, key, value, mask, scaling=None, **options):
        query, key = self.position(query, module.layer_idx), self.position(key, module.layer_idx)
        self.seen += [query.float(), key.float()]
        out = grouped_matmul(causal_probs(query, key, 0, scaling, **options), value)
        return out.transpose(1, 2), None
