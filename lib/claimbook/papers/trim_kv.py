"""TRIM-KV (Bui et al., arXiv 2512.03324): how long a token is worth keeping, said once, when the token is made.

A gate reads the hidden state of a new token and gives each KV head one number, the retention beta in (0, 1]; the
token's score after ``a`` steps is beta ** a. Where the budget is exceeded the lowest score leaves the cache (the rule
itself is in ``claimbook.lm.eviction``). In training nothing is evicted: the decay enters the attention, which has a
gradient, and a frozen copy of the model without decay is the teacher. Only the gates learn.

Names of parameters are those of the released weights (``linear1``, ``linear2``, ``bias``). Shapes: batch B, query
heads H, KV heads K, tokens T, width D. Known deviations: none in the equations. Where the paper and its code differ in
the capacity loss, both are here; the code's eager path, which multiplies the logit by the decay, is not what it trains
by, and is left out.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, nll_loss, pad, scaled_dot_product_attention, silu

from claimbook.errors import ClaimbookError
from claimbook.lm.attention import replaced
from claimbook.lm.eviction import Decayed

Normalisation = Literal["coded", "printed"]
SAVE_EVERY = 50  # steps


# --- the gate (section 4.1; code: RetentionGate) -------------------------------------------------------------------


class Gate(nn.Module):
    """Hidden states (B, T, D) -> log beta (B, K, T), at most 0. ``width`` None: linear, without a hidden layer.

    Weights begin at N(0, 0.02), so that all tokens begin with beta = sigmoid(bias), next to one. The log is never
    undone in training: at a bias of 18, 1 - beta is below what float32 can tell from 0.
    """

    def __init__(self, size: int, heads: int, width: int | None = 512, bias: float = 18.0):
        super().__init__()
        self.linear1 = None if width is None else nn.Linear(size, width)
        self.linear2 = nn.Linear(width or size, heads, bias=False)
        self.bias = nn.Parameter(torch.full((heads,), float(bias)))
        for layer in (self.linear1, self.linear2):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
        if self.linear1 is not None:
            nn.init.zeros_(self.linear1.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = hidden if self.linear1 is None else silu(self.linear1(hidden))
        return logsigmoid(self.linear2(inner) + self.bias).mT


class Gates(nn.ModuleList):
    """One gate for each layer of a model."""

    def forward(self, layer: int, hidden: Tensor) -> Tensor:
        """log beta (B, K, T) of what the attention of ``layer`` receives, (B, T, D), after its norm."""
        return self[layer](hidden)


def gates_for(model, width: int | None, bias: float, seed: int) -> Gates:
    """New gates for a Llama-like decoder, drawn on the cpu, then of the model's device and dtype."""
    config = model.config.get_text_config()
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        raise ClaimbookError(
            f"'{config.model_type}' has layers that see a window only: a gate has nothing to keep there"
        )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    count, heads = config.num_hidden_layers, config.num_key_value_heads
    gates = Gates([Gate(config.hidden_size, heads, width, bias) for _ in range(count)])
    torch.random.set_rng_state(state)
    return gates.to(model.device, model.dtype)


def gate_parameters(size: int, heads: int, layers: int, width: int = 512) -> int:
    """Parameters of the paper's gates for a model of so many layers and KV heads (Qwen3-4B: 47.4 million)."""
    return layers * (size * width + width + width * heads + heads)


# --- retention-gated attention (section 4.1; code: flex_attn.py, eager_attn.py) -----------------------------------


def gated_attention(query, key, value, log_beta, scaling: float) -> Tensor:
    """Causal attention (B, H, T, d) in which key i fades with its age: (t - i) log beta_i is added to its logit.

    So exp(q.k) is multiplied by beta ** (t - i), equation 5; log beta (B, K, T). All heads of a group share the beta of
    their KV head. beta = 1: plain attention. The term is the inner product of (t, 1) and (log beta_i, -i log beta_i):
    it rides on two more dimensions of queries and keys, and the library's attention does the rest.
    """
    steps = torch.arange(query.shape[2], device=query.device, dtype=query.dtype)
    clock = torch.stack([steps, torch.ones_like(steps)], dim=-1)
    query = torch.cat([query * scaling, clock.expand(*query.shape[:2], -1, -1)], dim=-1)
    key = torch.cat([key, torch.stack([log_beta, -steps * log_beta], dim=-1)], dim=-1)
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, pad(value, (0, 2))))
    return scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)[..., :-2]


def ages(length: int, device=None, start: int = 0) -> Tensor:
    """t - i (length - start, length) of queries ``start`` … and keys 0 …; negative where the key is still to come."""
    steps = torch.arange(length, device=device)
    return steps[start:, None] - steps


@contextmanager
def read(model, gates: Callable[[int, Tensor], Tensor]) -> Iterator[dict[int, Tensor]]:
    """Inside the block ``gates(layer, hidden)`` reads what each attention receives; yields log beta by layer.

    A hook before the attention of a Llama-like decoder sees what q, k and v are made of: (B, q, D) of the q tokens that
    a forward pass brings. Nothing else is changed.
    """
    found: dict[int, Tensor] = {}

    def hook(module, args, kwargs):
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        found[module.layer_idx] = gates(module.layer_idx, hidden)

    hooks = [layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True) for layer in model.base_model.layers]
    try:
        yield found
    finally:
        for one in hooks:
            one.remove()


@contextmanager
def gated(model, gates: Callable[[int, Tensor], Tensor]) -> Iterator[dict[int, Tensor]]:
    """Let ``gates`` fade the keys of ``model`` inside the block, as in training; yields log beta (B, K, T) by layer."""
    with read(model, gates) as found:

        def attend(module, query, key, value, mask, scaling=None, **options):
            out = gated_attention(query, key, value, found[module.layer_idx], scaling)
            return out.transpose(1, 2), None

        with replaced(model, attend):
            yield found


@contextmanager
def retention(model, gates: Callable[[int, Tensor], Tensor], offset: int = 2) -> Iterator[Decayed]:
    """The rule of section 4.4, for ``eviction.masked`` or ``eviction.evicting`` inside the block: plain attention, and
    the token with the lowest beta ** age goes. ``offset`` 2: the released code's age; 0: that of Algorithm 1.
    """
    with read(model, gates) as found:
        yield Decayed(lambda layer, positions: found[layer], offset)


# --- losses (sections 4.2 and 4.3) ---------------------------------------------------------------------------------


def retained(log_beta: Tensor, chunk: int = 32) -> Tensor:
    """S_t, the sum over i <= t of beta_i ** (t - i): how full a soft cache is at each step. (…, T) -> (…, T)."""
    length, parts = log_beta.shape[-1], []
    for start in range(0, length, chunk):
        stop = min(start + chunk, length)
        age = ages(stop, log_beta.device, start)
        weights = (log_beta[..., None, :stop] * age.clamp(min=0)).exp()
        parts.append(weights.masked_fill(age < 0, 0).sum(dim=-1))
    return torch.cat(parts, dim=-1)


def capacity_loss(sums: Tensor, budget: int, normalisation: Normalisation = "coded") -> Tensor:
    """How far S_t (…, T) exceeds the budget M; a scalar.

    ``printed`` (equation 8): max(0, S_t - M) / t, averaged over all steps and heads. ``coded``: over
    max(t - M, 1) with t from 0, averaged over the entries above zero only, which makes it far stronger.
    """
    excess = (sums - budget).clamp(min=0)
    steps = torch.arange(sums.shape[-1], device=sums.device)
    if normalisation == "printed":
        return (excess / (steps + 1)).mean()
    return (excess / (steps - budget).clamp(min=1)).sum() / (excess > 0).sum().clamp(min=1)


def quality_loss(student: Tensor, teacher: Tensor, targets: Tensor, terms: tuple[str, ...] = ("kl", "ntp")) -> Tensor:
    """Mean of the active terms over targets (n,) that count (not -100), from logits (n, V); in nats.

    ``kl``: of the student from the frozen teacher; ``ntp``: cross-entropy of the target. The paper writes their sum,
    the code averages them.
    """
    counted = targets != -100
    log_s, log_t, targets = student[counted].log_softmax(-1), teacher[counted].log_softmax(-1), targets[counted]
    found = []
    if "kl" in terms:
        found.append((log_t.exp() * (log_t - log_s)).sum(dim=-1).mean())
    if "ntp" in terms:
        found.append(nll_loss(log_s, targets))
    return sum(found) / len(found)


@dataclass(frozen=True)
class Objective:
    """Quality plus ``weight`` times capacity (weight 1 in the paper; 0 leaves the capacity loss out)."""

    budget: int
    terms: tuple[str, ...] = ("kl", "ntp")
    weight: float = 1.0
    normalisation: Normalisation = "coded"

    def __call__(self, student: Tensor, teacher: Tensor, targets: Tensor, log_beta: dict[int, Tensor]) -> Tensor:
        """Logits (B, T, V) of both, targets (B, T), log beta (B, K, T) by layer -> a scalar."""
        quality = quality_loss(student.flatten(0, 1), teacher.flatten(0, 1), targets.flatten(), self.terms)
        if not self.weight:
            return quality
        sums = torch.stack([retained(one) for one in log_beta.values()])
        return quality + self.weight * capacity_loss(sums, self.budget, self.normalisation)


# --- training (section 5) ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """AdamW with a linear warm-up and a cosine to ``floor`` times the rate; the paper: 2e-4, 100 steps, 1e-6."""

    steps: int
    rate: float = 2e-4
    warmup: int = 100
    floor: float = 0.005
    weight_decay: float = 0.01
    eps: float = 1e-15  # at a bias of 18 gradients are 1e-8: the usual eps would hold them back
    horizon: int | None = None  # steps that the cosine is laid out for, where fewer are made

    def at(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        whole = self.horizon or self.steps
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, whole - self.warmup)
        return self.rate * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)


def fit(
    gates: nn.Module,
    loss: Callable[[int], Tensor],
    recipe: Recipe,
    work: Path | None = None,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> list[float]:
    """Train ``gates`` in place on ``loss(step)``, which must depend on the step alone; returns the loss of each step.

    With ``work`` a killed training goes on.
    """
    optimizer = torch.optim.AdamW(gates.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay, eps=recipe.eps)
    checkpoint, losses = work / "gates.pt" if work else None, []
    if checkpoint and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        gates.load_state_dict(saved["gates"])
        optimizer.load_state_dict(saved["optimizer"])
        losses = saved["losses"]
    for step in range(len(losses), recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.at(step)
        found = loss(step)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        losses.append(found.item())
        progress((step + 1) / recipe.steps, f"loss {losses[-1]:.3f}")
        if checkpoint and (step + 1) % SAVE_EVERY == 0:
            state = {"gates": gates.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
    return losses
