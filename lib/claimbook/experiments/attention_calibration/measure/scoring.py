"""Options of items scored by one forward pass each, with calibration or without; heads, by one backward pass."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from claimbook.experiments.attention_calibration.tasks import CONTENT_FREE, Item, Task, first_tokens, prompt
from claimbook.lm import losses
from claimbook.lm.load import LM
from claimbook.papers import attention_calibration as method
from claimbook.papers.attention_calibration import Rule, Tally

BATCH = 16  # prompts of one length at a time: nothing is padded
SHOWN = 5  # significant digits that are kept


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of each item's options, in nats, normalised over them; and what calibration did."""

    log_probs: list[Tensor]
    tally: Tally

    def nll(self, items: list[Item]) -> Tensor:
        """(n,): of the right options."""
        return torch.stack([-one[item.gold] for one, item in zip(self.log_probs, items, strict=True)])


def batches(prompts: list[Tensor]) -> Iterator[list[int]]:
    """Places of prompts of one length, the shortest first; none alone where its length has another."""
    by_length: dict[int, list[int]] = {}
    for place, ids in enumerate(prompts):
        by_length.setdefault(len(ids), []).append(place)
    for length in sorted(by_length):
        places = by_length[length]
        count = -(-len(places) // BATCH)  # as equal as can be
        yield from (places[i::count] for i in range(count))


@torch.no_grad()
def score(lm: LM, task: Task, items: list[Item], rule: Rule | None, shots: list[Item] | tuple = ()) -> Scores:
    """The options of each item behind its prompt, and behind solved items where there are ``shots``."""
    prompts = [prompt(lm, task, item.content, shots) for item in items]
    found: dict[int, Tensor] = {}
    with method.calibrated(lm.model, rule) as tally:
        for places in batches(prompts):
            last = _last_logits(lm, [prompts[place] for place in places])
            for place, logits in zip(places, last, strict=True):
                found[place] = logits[first_tokens(lm, items[place])].log_softmax(-1).cpu()
    return Scores([found[place] for place in range(len(items))], tally)


@torch.no_grad()
def prior(lm: LM, task: Task, items: list[Item], rule: Rule | None) -> list[Tensor]:
    """The same with nothing in the prompt: mean probability over contents that say nothing, as its logarithm."""
    with method.calibrated(lm.model, rule):
        last = [_last_logits(lm, [prompt(lm, task, content)])[0] for content in CONTENT_FREE]
    mean = torch.stack(last).log_softmax(-1).logsumexp(0).cpu()
    return [mean[first_tokens(lm, item)].log_softmax(-1) for item in items]


def head_effects(lm: LM, task: Task, items: list[Item], rules: list[Rule]) -> tuple[Tensor, Tensor]:
    """Effect to first order of each rule in each head on the loss of each item, (R, n, L, H), and the losses (n,)."""
    prompts = [prompt(lm, task, item.content) for item in items]
    effects, base = {}, {}
    for places in batches(prompts):

        def loss(logits: Tensor, places=places) -> Tensor:
            options = [(first_tokens(lm, items[place]), items[place].gold) for place in places]
            return torch.stack(
                [-row[ids].log_softmax(-1)[gold] for row, (ids, gold) in zip(logits, options, strict=True)]
            )

        ids = torch.stack([prompts[place] for place in places]).to(lm.model.device)
        found, losses_now = method.first_order(lm.model, ids, loss, rules)
        effects |= dict(zip(places, found.unbind(1), strict=True))
        base |= dict(zip(places, losses_now, strict=True))
    order = range(len(items))
    return torch.stack([effects[place] for place in order], dim=1), torch.stack([base[place] for place in order])


def _last_logits(lm: LM, prompts: list[Tensor]) -> Tensor:
    """Logits (B, V) behind prompts of one length."""
    ids = torch.stack(prompts).to(lm.model.device)
    return losses.logits(lm.model, losses.hidden_states(lm.model, ids)[:, -1])


def short(values: Tensor | float) -> list | float:
    """Numbers as they are kept: five significant digits."""
    if isinstance(values, Tensor):
        return [short(one) for one in values] if values.ndim else short(float(values))
    return float(np.format_float_positional(values, SHOWN, unique=False, fractional=False, trim="0"))


def places(heads: Tensor) -> list[list[int]]:
    """Heads, bool (L, H), as [layer, head] each."""
    return heads.nonzero().tolist()
