"""What must hold before anything is measured, on tiny random models.

One masked pass is a cache that evicts, positions survive it, beta is said once, and the decay has a gradient.
"""

from contextlib import nullcontext

import torch
from torch import Tensor

from claimbook.experiments.trim_kv import worth
from claimbook.experiments.trim_kv.pieces import heuristics
from claimbook.lm import eviction, tiny
from claimbook.papers import trim_kv as method

TOKENS, BUDGET = 48, 12
FIRST = 16  # tokens that two texts share, before as many others


def engine() -> dict[str, float]:
    """Largest differences of logits on a tiny random Llama in float64, two texts of 48 tokens, M = 12.

    ``difference``: masked pass from evicting cache, over all rules; ``trim``: of TRIM-KV alone. ``full_budget``: a
    budget that is never reached, from the full cache. Nulls: ``unmasked``, the full cache from the evicting one, the
    rule that changes least; ``renumbered``, TRIM-KV where the model is told what the cache keeps, not what it has seen.
    """
    model = tiny.build("tiny-random-llama", dtype=torch.float64)[0].requires_grad_(False)
    ids = torch.randint(1, 300, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    gates = method.gates_for(model, 16, 3.0, 0).requires_grad_(False)
    for gate in gates:
        gate.linear2.weight *= 100  # as initialised they tell tokens apart by so little that they act as a window
    full = model(ids).logits
    found = {"full_budget": 0.0, "unmasked": float("inf")}
    differences = {}
    for name, rule in {**heuristics(BUDGET), "trim": None}.items():
        with method.retention(model, gates) if name == "trim" else nullcontext(rule) as one:
            logits, (real, _) = _masked(model, ids, one, BUDGET), eviction.decoded(model, ids, one, BUDGET)
            differences[name] = _distance(logits, real)
            found["unmasked"] = min(found["unmasked"], _distance(full, real))
            found["full_budget"] = max(found["full_budget"], _distance(full, _masked(model, ids, one, TOKENS)))
            if name == "trim":
                never, _ = eviction.decoded(model, ids, one, TOKENS)
                found["full_budget"] = max(found["full_budget"], _distance(full, never))
                found["renumbered"] = _distance(logits, _renumbered(model, ids, one, BUDGET))
    return found | {"difference": max(differences.values()), "trim": differences["trim"]}


def worked_case() -> dict[str, list[int]]:
    """The tokens held after four, M = 2, beta = .99, .5, .9, .6: by the code's age, and by Algorithm 1's.

    With the code's age (offset 2) the newest token goes, .6 ** 2 < .9 ** 3; by Algorithm 1 its score is .6 ** 0 = 1.
    """
    beta = torch.tensor([0.99, 0.5, 0.9, 0.6], dtype=torch.float64)
    held = {}
    for name, offset in {"coded": 2, "printed": 0}.items():
        rule = eviction.Decayed(eviction.fixed(beta.log()), offset)
        cache = eviction.Held(rule, budget=2)
        for token in torch.arange(4):
            cache.add(token[None], rule.features(0, token[None], beta.new_zeros(1, 1, 1, 1)))
            cache.evict()
        held[name] = cache.positions.flatten().tolist()
    return held


@torch.no_grad()
def _masked(model, ids: Tensor, rule: eviction.Rule, budget: int) -> Tensor:
    with eviction.masked(model, rule, budget):
        return model(ids).logits


@torch.no_grad()
def _renumbered(model, ids: Tensor, rule: eviction.Rule, budget: int) -> Tensor:
    with eviction.evicting(model, rule, budget) as cache:
        steps = [
            model(token, past_key_values=cache, position_ids=torch.tensor([[cache.kept]])).logits
            for token in ids.split(1, dim=1)
        ]
        return torch.cat(steps, dim=1)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


# --- what holds by construction --------------------------------------------------------------------------------------


def two_texts() -> tuple[Tensor, Tensor]:
    """Ids (1, T) of two texts with the same first half."""
    drawn = torch.randint(1, 300, (2, 2 * FIRST), generator=torch.Generator().manual_seed(0))
    drawn[1, :FIRST] = drawn[0, :FIRST]
    return drawn[:1], drawn[1:]


def said_once(model, gates: method.Gates) -> float:
    """Largest change of log beta of the first half when the second half is another."""
    one, other = (worth.log_beta(model, gates, ids)[..., :FIRST] for ids in two_texts())
    return float((one - other).abs().max())


def looked_at(model) -> float:
    """The same of the attention that these tokens have received at the end of each text."""
    one, other = (worth.scores(model, ids, FIRST, 2 * FIRST - 1, 2 * FIRST - 1)["h2o"] for ids in two_texts())
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
