"""What a table of word counts knows of delayed recall: pair tokens are rare, noise is not."""

import torch

from claimbook.experiments.trim_kv import delayed_recall as toy
from claimbook.experiments.trim_kv import worth

TEXTS, SEED = 256, 1


def rarity(length: int = 96) -> float:
    """AUC of a token's rarity for being a pair, before the first question: counted on some texts, tried on others."""
    counted, _ = toy.sample(TEXTS, SEED, length)
    ids, _ = toy.sample(TEXTS, toy.EVALUATION, length)
    often, ids = torch.bincount(counted.flatten(), minlength=toy.VOCABULARY), ids[:, 1 : length - toy.ASKED]
    return float(worth.auc(-often[ids].double(), toy.is_pair(ids), torch.ones_like(ids, dtype=torch.bool)).mean())
