"""Hidden states and token losses without a (T, V) tensor of logits."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def hidden_states(model, ids: Tensor, **options) -> Tensor:
    """Last hidden states (B, T, D) of ``ids`` (B, T), before the output layer."""
    return model.base_model(ids, use_cache=False, **options).last_hidden_state


def token_losses(model, hidden: Tensor, targets: Tensor, chunk: int = 512) -> Tensor:
    """Cross-entropy (n,) in nats of ``targets`` (n,) given hidden states (n, D), ``chunk`` rows at a time."""
    if not len(targets):
        return hidden.new_empty(0, dtype=torch.float32)
    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    return torch.cat([cross_entropy(logits(model, rows), ids, reduction="none") for rows, ids in parts])


def logits(model, hidden: Tensor) -> Tensor:
    """Output logits in float32 of hidden states (…, D), with the caps and scales that families apply after the head."""
    config = model.config.get_text_config()
    out = model.get_output_embeddings()(hidden).float()
    if cap := getattr(config, "final_logit_softcapping", None):
        out = torch.tanh(out / cap) * cap
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        out = out / divisor
    if factor := getattr(config, "logit_scale", None):  # Cohere, MPT
        out = out * factor
    return out
