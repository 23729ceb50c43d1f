"""Key-value caches of bounded size: one engine for every rule that keeps at most M tokens per layer and KV head.

The same rule runs in two ways. ``masked``: one forward pass over a whole text, each query seeing only what the rule
has kept; exact, and how everything is measured. ``evicting``: a real cache that drops keys and values, for decoding
and ``generate``. Both see the same evictions, step by step (tests/test_eviction.py).

One step, in both: the newest token's query sees all that is held *and itself*; then, when ``budget + buffer`` tokens
are held or more, the lowest scores go until ``budget`` are left. A tie is lost by the older token. A token that is
gone stays gone. Keys keep the positions that they were made at: nothing is renumbered. The first max(prompt, budget)
tokens are read at once, with full attention among them, and cut down once: a prompt longer than the budget is
prefilled as the papers do it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Source = Callable[[int, Tensor], Tensor]  # layer, positions (q,) of the tokens of this pass -> scores (B, H_kv or 1, q)


@dataclass(frozen=True)
class Window: ...  # the newest
@dataclass(frozen=True)
class Streaming: sinks: int = 4  # StreamingLLM: the first few and the newest
@dataclass(frozen=True)
class H2O: recent: int  # attention received so far, summed; the newest ``recent`` are safe (budget // 2 in the paper)
@dataclass(frozen=True)
class TOVA: ...  # attention from the newest query, mean over all heads of the layer
@dataclass(frozen=True)
class SnapKV: window: int; kernel: int = 5  # mean attention from the newest ``window`` queries, pooled; these are safe
@dataclass(frozen=True)
class KeyNorm: ...  # small keys are kept
@dataclass(frozen=True)
class KeyDiff: ...  # keys unlike the mean key are kept
@dataclass(frozen=True)
class Random: seed: int = 0  # a fixed random score per token, layer and head
@dataclass(frozen=True)
class Given: source: Source  # scores from outside: an oracle, or ``fixed(tensor)``
@dataclass(frozen=True)
class Decayed: source: Source; offset: int = 2  # TRIM-KV: log beta times (age + offset); 2 released code, 0 as printed


def fixed(scores: Tensor) -> Source:
    """A source that reads (T,), (B, T), (B, H_kv, T) or (L, B, H_kv, T) by position."""
    raise NotImplementedError


def heuristics(budget: int) -> dict:
    """Every rule without training, at a budget, by name: window, streaming, h2o, tova, snapkv, key_norm, key_diff,
    random."""
    raise NotImplementedError


class Trace:
    """What a masked pass evicted: ``gone[layer]`` (B, H_kv, T), the first step at which a token is no longer seen,
    T where it is held to the end."""

    gone: dict[int, Tensor]

    def seen(self, layer: int) -> Tensor:
        """Bool (B, H_kv, T, T): which keys (last) each query sees."""


@contextmanager
def masked(model, rule, budget: int, *, prompt: int = 0, buffer: int = 1) -> Iterator[Trace]:
    """Inside the block each forward pass of ``model`` over ids (B, T), without a cache, evicts by ``rule``."""
    raise NotImplementedError
    yield


@contextmanager
def evicting(model, rule, budget: int, *, buffer: int = 1, record: bool = False) -> Iterator["EvictingCache"]:
    """Inside the block ``model(…, past_key_values=cache)`` and ``model.generate(…, past_key_values=cache)`` evict."""
    raise NotImplementedError
    yield


def losses(model, ids: Tensor, rule, budget: int, *, prompt: int = 0, buffer: int = 1) -> Tensor:
    """Loss (B, T - 1), in nats, of each token of ``ids`` (B, T) but the first, under ``masked``."""
    raise NotImplementedError


def decoded(model, ids: Tensor, rule, budget: int, *, prompt: int = 0, buffer: int = 1) -> tuple[Tensor, Trace]:
    """The same text through ``evicting``, token by token after the prompt: logits (B, T, V) and what was evicted."""
    raise NotImplementedError
