"""What holds by construction, shown on a tiny random model with untrained gates."""

import torch
from torch import Tensor

from claimbook.experiments.trim_kv import worth
from claimbook.papers import trim_kv as method

TOKENS, FIRST = 32, 16  # of a text, and of its part that stays


def two_texts() -> tuple[Tensor, Tensor]:
    """Ids (1, T) of two texts with the same first half."""
    drawn = torch.randint(1, 300, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    drawn[1, :FIRST] = drawn[0, :FIRST]
    return drawn[:1], drawn[1:]


def said_once(model, gates: method.Gates) -> float:
    """Largest change of log beta of the first half when the second half is another."""
    one, other = (worth.log_beta(model, gates, ids)[..., :FIRST] for ids in two_texts())
    return float((one - other).abs().max())


def looked_at(model) -> float:
    """The same of the attention that these tokens have received at the end of each text."""
    one, other = (worth.scores(model, ids, FIRST, TOKENS - 1, TOKENS - 1)["h2o"] for ids in two_texts())
    return float((one - other).abs().max())


def learning(model, gates: method.Gates) -> float:
    """The share of the gates' tensors that a next-token loss gives a gradient, through the decay."""
    ids, _ = two_texts()
    with method.gated(model, gates):
        logits = model(ids, use_cache=False).logits
    torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).backward()
    return sum(one.grad is not None and bool(one.grad.any()) for one in gates.parameters()) / len(
        list(gates.parameters())
    )
