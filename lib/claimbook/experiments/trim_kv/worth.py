"""Which tokens does a score put first? Scores of a text's tokens by layer and KV head, with nothing evicted."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from claimbook.lm import eviction
from claimbook.lm.attention import replaced
from claimbook.papers.trim_kv import Gates, ages, read

RECENT = 8  # newest queries that "snapkv" averages over


@torch.no_grad()
def scores(model, ids: Tensor, reach: int, first: int, last: int) -> dict[str, Tensor]:
    """Scores (L, B, K, reach) of the first ``reach`` tokens of ids (B, T), as the rules of the same names have them.

    Attention is what queries up to ``last`` have given: "h2o" all of them, "snapkv" the ``RECENT`` newest, "tova" the
    mean of those at ``first``, ``first`` + 2, … ``last``: with ``first`` = ``last`` the newest alone. Heads that share
    a KV head are averaged; "tova" averages over the whole layer.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in ("h2o", "tova", "snapkv", "key norm", "keydiff")}

    def attend(module, query, key, value, mask, scaling=None, **options):
        logits = query.unflatten(1, (key.shape[1], -1)) @ key.unsqueeze(2).mT * scaling
        probs = logits.masked_fill(ages(query.shape[2], query.device) < 0, -torch.inf).softmax(-1)
        grouped = probs[..., : last + 1, :reach].mean(dim=2)  # (B, K, queries, reach)
        found["h2o"].append(grouped.sum(dim=2))
        found["snapkv"].append(grouped[:, :, -RECENT:].mean(dim=2))
        newest = grouped[:, :, first::2].mean(dim=(1, 2))
        found["tova"].append(newest[:, None].expand(-1, key.shape[1], -1))
        unit = normalize(key[:, :, :reach], dim=-1)
        found["key norm"].append(-key[:, :, :reach].norm(dim=-1))
        found["keydiff"].append(-cosine_similarity(unit, unit.mean(dim=2, keepdim=True), dim=-1))
        return (probs @ value.unsqueeze(2)).flatten(1, 2).transpose(1, 2), None

    with replaced(model, attend):
        model.base_model(ids, use_cache=False)
    return {name: torch.stack(parts) for name, parts in found.items()}


def unread(shape: tuple[int, ...], like: Tensor) -> dict[str, Tensor]:
    """Scores of this shape (L, B, K, T) that need no reading: "window" (the newer the better) and "random"."""
    layers, batch, heads, length = shape
    keys, positions = like.new_zeros(batch, heads, length, 1), torch.arange(length, device=like.device)
    chance = [eviction.Random().features(layer, positions, keys)[..., 0] for layer in range(layers)]
    return {"window": positions.double().expand(shape), "random": torch.stack(chance)}


def pooled(scores: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
    """One AUC (B,) for all layers and heads: tokens are ranked within each head, and their ranks averaged.

    scores (L, B, K, T); ``positive`` and ``counted`` (B, T), bool: as in `auc`.
    """
    seen = counted[:, None, None]
    ranks = torch.zeros(positive.shape, dtype=torch.float64, device=scores.device)
    for layer in scores:
        mine, others = layer[..., :, None], layer[..., None, :]
        ranks += ((others < mine) & seen).sum(dim=(1, 3)) + ((others == mine) & seen).sum(dim=(1, 3)) / 2
    return auc(ranks, positive, counted)


@torch.no_grad()
def log_betas(model, every: list[Gates], ids: Tensor) -> Tensor:
    """log beta (n, L, B, K, T) of ids (B, T) by each of n sets of gates, in one pass with nothing evicted."""
    with read(model, lambda layer, hidden: torch.stack([gates(layer, hidden) for gates in every])) as found:
        model.base_model(ids, use_cache=False)
    return torch.stack([found[layer] for layer in sorted(found)], dim=1)


def log_beta(model, gates: Gates, ids: Tensor) -> Tensor:
    """log beta (L, B, K, T) of ids (B, T), with nothing evicted."""
    return log_betas(model, [gates], ids)[0]


def by_position(model, every: list[Gates], ids: Tensor) -> Tensor:
    """Mean log beta (L, 1, K, T) of sets of gates at each position of texts (B, T), whatever stands there."""
    return log_betas(model, every, ids).mean(dim=(0, 2))[:, None]


def soft_size(log_beta: Tensor) -> Tensor:
    """S_T (…), the sum of beta ** age at the end of T tokens, of log beta (…, T)."""
    length = log_beta.shape[-1]
    return (log_beta * ages(length, log_beta.device, length - 1)[0]).exp().sum(dim=-1)


def auc(scores: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
    """Chance (B,) that a positive token scores higher than another counted one; ties count half.

    scores (B, T); ``positive`` and ``counted`` (B, T), bool.
    """
    mine, others = scores[:, :, None], scores[:, None, :]
    pairs = (positive[:, :, None] & (counted & ~positive)[:, None, :]).double()
    return ((mine > others).double() + (mine == others).double() / 2).mul(pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))
