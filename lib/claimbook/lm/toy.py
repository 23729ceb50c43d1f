"""Tiny decoders trained here, on a synthetic language in which idle attention heads need somewhere to look."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, rms_norm

TRIGGERS = 3


@dataclass(frozen=True)
class Backcopy:
    """Bigram-Backcopy (after arXiv 2410.13835): a bigram chain in which a trigger makes the next symbol a copy.

    After one of the ``TRIGGERS`` first symbols the next one repeats the symbol *before* the trigger; else it follows
    a fixed random bigram table. Only after a trigger is there anything to look up: all other queries are idle.
    """

    symbols: int = 40
    table_seed: int = 1

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """Symbols (batch, length)."""
        shape = (self.symbols, self.symbols)
        table = torch.softmax(2 * torch.randn(shape, generator=torch.Generator().manual_seed(self.table_seed)), dim=1)
        out = torch.randint(self.symbols, (batch, length), generator=generator)
        for t in range(2, length):
            drawn = torch.multinomial(table[out[:, t - 1]], 1, generator=generator)[:, 0]
            out[:, t] = torch.where(out[:, t - 1] < TRIGGERS, out[:, t - 2], drawn)
        return out


@dataclass(frozen=True)
class Arm:
    """One way to build and train the toy. ``sink_tokens`` learnable embeddings come before every sample.

    ``zero_sink`` adds a key and a value of zeros to each softmax (softmax1 of the paper's section 3.3).
    ``strict``: a query sees earlier keys only, not itself; with it the toy forms sinks within seconds.
    """

    sink_tokens: int = 0
    zero_sink: bool = False
    strict: bool = True
    width: int = 64
    steps: int = 500
    batch: int = 48
    length: int = 64
    rate: float = 3e-3


class Toy(nn.Module):
    """One layer, one head, RoPE, pre-RMSNorm, GELU; the arm's sink tokens stand before the text as tokens 0 …."""

    def __init__(self, arm: Arm, symbols: int):
        super().__init__()
        self.arm, width = arm, arm.width
        self.embed = nn.Embedding(symbols, width)
        self.sinks = nn.Parameter(torch.randn(arm.sink_tokens, width))
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, symbols, bias=False)

    def forward(self, ids: Tensor, cache: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) of the token after each symbol, and attention (B, T, S + T) of the symbols' queries.

        ``cache`` (x, y): only the x first and y last keys are kept, with positions counted inside the cache; the sink
        tokens come first, so x counts them. None: dense attention.
        """
        x = torch.cat([self.sinks.expand(len(ids), -1, -1), self.embed(ids)], dim=1)
        query, key, value = self.qkv(rms_norm(x, x.shape[-1:])).chunk(3, dim=-1)
        probs = self.attention(query, key, cache)
        x = x + self.out(probs @ value)
        x = x + self.down(gelu(self.up(rms_norm(x, x.shape[-1:]))))
        first = self.arm.sink_tokens
        return self.head(rms_norm(x, x.shape[-1:]))[:, first:], probs[:, first:]

    def attention(self, query: Tensor, key: Tensor, cache: tuple[int, int] | None) -> Tensor:
        steps = torch.arange(query.shape[1])
        distance = steps[:, None] - steps
        seen = distance > 0 if self.arm.strict else distance >= 0
        near = turn(query, steps) @ turn(key, steps).mT
        if cache is not None:
            first, recent = cache
            far = turn(query, steps.clamp(max=first + recent)) @ turn(key, steps).mT
            near = torch.where(steps < first, far, near)
            seen = seen & ((distance <= recent) | (steps < first))
        logits = (near / math.sqrt(query.shape[-1])).masked_fill(~seen, -1e9)
        if self.arm.zero_sink:
            logits = torch.cat([logits, logits.new_zeros(*logits.shape[:2], 1)], dim=-1)
        probs = torch.softmax(logits, dim=-1)[..., : len(steps)]
        return probs * seen  # the first strict query sees nothing


def turn(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary embedding of x (…, T, d) at ``positions`` (T,), pairs (i, i + d/2), base 10,000."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * 10_000 ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)


def train(arm: Arm, language: Backcopy, seed: int, progress: Callable[[float, str], None] = lambda *_: None) -> tuple:
    """A trained ``Toy`` and its training loss at every step; deterministic for a seed and a thread count."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = Toy(arm, language.symbols)
    torch.random.set_rng_state(state)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arm.rate, weight_decay=0.0)
    curve = []
    for step in range(arm.steps):
        ids = language.sample(arm.batch, arm.length + 1, generator)
        loss = mean_loss(model, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(float(loss.detach()))
        progress((step + 1) / arm.steps, f"loss {curve[-1]:.3f}")
    return model.eval(), curve


def mean_loss(model: Toy, ids: Tensor, cache: tuple[int, int] | None = None, first: int = 1) -> Tensor:
    """Mean loss in nats of the targets at symbol positions ``first + 1`` and later."""
    logits, _ = model(ids[:, :-1], cache)
    return cross_entropy(logits[:, first:].flatten(0, 1), ids[:, first + 1 :].flatten())
