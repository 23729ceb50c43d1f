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
from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, cosine_similarity, normalize, pad, scaled_dot_product_attention
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from claimbook.errors import ClaimbookError
from claimbook.lm import adapters
from claimbook.lm.attention import grouped_matmul, replaced

# --- rules ----------------------------------------------------------------------------------------------------------

Source = Callable[[int, Tensor], Tensor]
"""``source(layer, positions (q,))``: scores (B, H_kv or 1, q) of the tokens that this forward pass brings."""


class Rule:
    """What a held token is worth. The lowest scores go first; +inf is safe.

    ``features`` are made once, with the token. ``observe`` folds the attention rows of new queries into a memory
    (B, H_kv, w, n), whose last axis is the held tokens; only rules that say ``attends`` are shown any.
    """

    attends = False

    def check(self, budget: int) -> None:
        """ClaimbookError when ``budget`` has no room for what the rule always keeps."""

    def features(self, layer: int, positions: Tensor, key: Tensor) -> Tensor:
        """(B, H_kv, q, f) of new tokens at ``positions`` (q,), from their keys (B, H_kv, q, d)."""
        return key[..., :0]

    def observe(self, memory: Tensor, probs: Tensor) -> Tensor:
        """The memory after new queries' attention ``probs`` (B, H_kv, G, q, n), G query heads to a KV head."""
        return memory

    def scores(self, held: "Held") -> Tensor:
        """(B, H_kv, n)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Streaming(Rule):
    """The first ``sinks`` tokens and the newest (StreamingLLM, arXiv 2309.17453, at text positions)."""

    sinks: int = 4

    def check(self, budget: int) -> None:
        _room(budget, self.sinks, "sinks")

    def scores(self, held: "Held") -> Tensor:
        return held.positions.masked_fill(held.positions < self.sinks, torch.iinfo(torch.long).max)


@dataclass(frozen=True)
class Window(Streaming):
    """The newest tokens."""

    sinks: int = 0


@dataclass(frozen=True)
class H2O(Rule):
    """Attention received so far, summed over queries; the newest ``recent`` are safe (arXiv 2306.14048, Algorithm 1).

    The paper gives them half the budget. A KV head that serves several query heads sums over them.
    """

    recent: int
    attends = True

    def check(self, budget: int) -> None:
        _room(budget, self.recent, "recent tokens")

    def observe(self, memory: Tensor, probs: Tensor) -> Tensor:
        return memory.sum(dim=2, keepdim=True) + probs.sum(dim=(2, 3))[:, :, None]

    def scores(self, held: "Held") -> Tensor:
        return _newest_safe(held.memory[:, :, 0], self.recent)


@dataclass(frozen=True)
class TOVA(Rule):
    """Attention from the newest query, the mean over all heads of the layer (arXiv 2401.06104); the newest is safe."""

    attends = True

    def observe(self, memory: Tensor, probs: Tensor) -> Tensor:
        return probs[:, :, :, -1].mean(dim=(1, 2))[:, None, None].expand(-1, probs.shape[1], -1, -1)

    def scores(self, held: "Held") -> Tensor:
        return _newest_safe(held.memory[:, :, 0], 1)


@dataclass(frozen=True)
class SnapKV(Rule):
    """Mean attention from the newest ``window`` queries, pooled over ``kernel`` held neighbours (arXiv 2404.14469).

    The window itself is safe. The paper does this once, after the prompt; here it is done at every eviction.
    """

    window: int
    kernel: int = 5
    attends = True

    def check(self, budget: int) -> None:
        _room(budget, self.window, "tokens of the window")

    def observe(self, memory: Tensor, probs: Tensor) -> Tensor:
        return torch.cat([memory, probs.mean(dim=2)], dim=2)[:, :, -self.window :]

    def scores(self, held: "Held") -> Tensor:
        older = held.memory[..., : max(len(held) - self.window, 0)].mean(dim=2)
        pooled = avg_pool1d(older, self.kernel, stride=1, padding=self.kernel // 2) if older.shape[-1] else older
        return pad(pooled, (0, len(held) - pooled.shape[-1]), value=inf)


@dataclass(frozen=True)
class KeyNorm(Rule):
    """Keys of small norm are kept (arXiv 2406.11430)."""

    def features(self, layer: int, positions: Tensor, key: Tensor) -> Tensor:
        return -_wide(key).norm(dim=-1, keepdim=True)

    def scores(self, held: "Held") -> Tensor:
        return held.features[..., 0]


@dataclass(frozen=True)
class KeyDiff(Rule):
    """Keys unlike the mean direction of the held keys are kept (arXiv 2504.15364)."""

    def features(self, layer: int, positions: Tensor, key: Tensor) -> Tensor:
        return normalize(_wide(key), dim=-1)

    def scores(self, held: "Held") -> Tensor:
        return -cosine_similarity(held.features, held.features.mean(dim=2, keepdim=True), dim=-1)


@dataclass(frozen=True)
class Random(Rule):
    """A fixed random score for each token, batch row, layer and head: a uniform draw from all that was seen."""

    seed: int = 0

    def features(self, layer: int, positions: Tensor, key: Tensor) -> Tensor:
        rows, heads = (torch.arange(size, device=key.device) for size in key.shape[:2])
        mixed = _mix(rows[:, None, None], _mix(heads[:, None], _mix(positions, self.seed * 4096 + layer)))
        return mixed.double()[..., None]

    def scores(self, held: "Held") -> Tensor:
        return held.features[..., 0]


@dataclass(frozen=True)
class Given(Rule):
    """Scores from outside, fixed when a token is made: an oracle's, or any other's."""

    source: Source

    def features(self, layer: int, positions: Tensor, key: Tensor) -> Tensor:
        return _wide(self.source(layer, positions)).expand(*key.shape[:2], len(positions))[..., None]

    def scores(self, held: "Held") -> Tensor:
        return held.features[..., 0]


@dataclass(frozen=True)
class Decayed(Given):
    """TRIM-KV: a token of age a = t - i is worth beta^(a + offset), here as its logarithm; ``source`` gives log beta.

    ``offset`` 2: the released code, in which age counts from the tokens seen plus one, so that the newest token can
    lose. ``offset`` 0: the paper's Algorithm 1, in which the newest token has the score 1 and cannot.
    """

    offset: int = 2

    def scores(self, held: "Held") -> Tensor:
        return (held.positions[..., -1:] - held.positions + self.offset) * held.features[..., 0]


def fixed(scores: Tensor) -> Source:
    """A source that looks scores up by position: (T,), (B, T), (B, H_kv, T), or (L, B, H_kv, T) by layer too."""

    def source(layer: int, positions: Tensor) -> Tensor:
        table = scores[layer] if scores.ndim == 4 else scores
        table = table[:, None] if table.ndim == 2 else table
        return table.to(positions.device)[..., positions].expand(*(1,) * (3 - table.ndim), *table.shape[:-1], -1)

    return source


def heuristics(budget: int) -> dict[str, Rule]:
    """The rules that need no training, at a budget: H2O and SnapKV with half of it for the newest, at most 32."""
    half = max(budget // 2, 1)
    return {
        "window": Window(),
        "streaming": Streaming(min(4, budget - 1)),
        "h2o": H2O(half),
        "tova": TOVA(),
        "snapkv": SnapKV(min(half, 32)),
        "key_norm": KeyNorm(),
        "key_diff": KeyDiff(),
        "random": Random(),
    }


def _room(budget: int, safe: int, what: str) -> None:
    if not 0 <= safe < budget:
        raise ClaimbookError(f"a budget of {budget} tokens has no room for {safe} {what} that are always kept")


def _newest_safe(scores: Tensor, count: int) -> Tensor:
    newest = torch.arange(scores.shape[-1], device=scores.device) >= scores.shape[-1] - count
    return scores.masked_fill(newest, inf)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _mix(x: Tensor, salt: Tensor | int) -> Tensor:
    """A hash of 52 bits, the same on every device (SplitMix64's first two rounds)."""
    x = (x + 1) * -7046029254386353131 + salt
    x = (x ^ (x >> 30)) * -4658895280553007687
    x = (x ^ (x >> 27)) * -7723592293110705685
    return (x ^ (x >> 31)) & (2**52 - 1)


# --- one layer's cache ----------------------------------------------------------------------------------------------


@dataclass
class Held:
    """What one layer holds, in order of age: ``positions`` (B, H_kv, n), features (B, H_kv, n, f), memory."""

    rule: Rule
    budget: int
    buffer: int = 1
    positions: Tensor | None = None
    features: Tensor | None = None
    memory: Tensor | None = None

    def __post_init__(self):
        if self.budget < 1 or self.buffer < 1:
            raise ClaimbookError(f"budget {self.budget}, buffer {self.buffer}: both must be at least 1")
        self.rule.check(self.budget)

    def __len__(self) -> int:
        return 0 if self.positions is None else self.positions.shape[-1]

    def add(self, positions: Tensor, features: Tensor) -> None:
        """New tokens at ``positions`` (q,)."""
        positions = positions.expand(*features.shape[:2], -1)
        if self.positions is None:
            self.positions, self.features = positions, features
            self.memory = features.new_zeros(*positions.shape[:2], 0, len(self))
            return
        self.positions = torch.cat([self.positions, positions], dim=2)
        self.features = torch.cat([self.features, features], dim=2)
        self.memory = pad(self.memory, (0, positions.shape[2]))

    def attend(self, logits: Tensor, steps: Tensor) -> Tensor:
        """Softmax rows (B, H_kv, G, q, n) of queries at positions ``steps`` (q,), which the rule also sees."""
        late = self.positions[:, :, None] > steps[:, None]
        probs = _wide(logits).masked_fill(late[:, :, None], -inf).softmax(dim=-1)
        if self.rule.attends:
            self.memory = self.rule.observe(self.memory, probs)
        return probs

    def evict(self) -> tuple[Tensor, Tensor] | None:
        """Cut down to the budget when it is due: positions (B, H_kv, k) that go, and which slots stay, in order."""
        if len(self) < self.budget + self.buffer:
            return None
        going, staying = _lowest(self.rule.scores(self), len(self) - self.budget)
        gone = self.positions.gather(2, going)
        self.positions = self.positions.gather(2, staying)
        self.features = _pick(self.features, staying)
        self.memory = self.memory.gather(3, staying[:, :, None].expand(-1, -1, self.memory.shape[2], -1))
        return gone, staying


def _lowest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Slots of the ``count`` lowest of scores (B, H, n), and of the others, these in order. A tie: the first slot."""
    if count == 1:  # the common case, at half the time
        lowest = scores.argmin(dim=-1, keepdim=True)
        others = torch.arange(scores.shape[-1] - 1, device=scores.device)
        return lowest, others + (others >= lowest)
    order = scores.sort(dim=-1, stable=True).indices
    return order[..., :count], order[..., count:].sort(dim=-1).values


def _pick(x: Tensor, slots: Tensor) -> Tensor:
    """Rows (B, H, m, f) of ``x`` (B, H, n, f) at ``slots`` (B, H, m)."""
    return x.gather(2, slots[..., None].expand(-1, -1, -1, x.shape[-1]))


def _logits(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """(B, H_kv, G, q, n) of queries (B, H, q, d) and keys (B, H_kv, n, d)."""
    found = grouped_matmul(query * scaling, key.transpose(2, 3))
    return found.unflatten(1, (key.shape[1], -1))


# --- in one pass ----------------------------------------------------------------------------------------------------


@dataclass
class Trace:
    """``gone[layer]`` (B, H_kv, T): the first step whose query no longer sees the token; T where it stays to the end.

    Tokens evicted by the last step of the text count as staying: nobody comes after.
    """

    gone: dict[int, Tensor] = field(default_factory=dict)

    def seen(self, layer: int) -> Tensor:
        """Which keys (last axis) each query sees, its own among them: bool (B, H_kv, T, T)."""
        return _seen(self.gone[layer])

    def same(self, other: "Trace") -> Tensor:
        """The share (B,) of tokens that go at the same step in both traces, of those that go in either, by text.

        Tokens are counted in each layer and head. 1 where nothing goes.
        """
        ours, theirs = (
            torch.stack([trace.gone[layer] for layer in sorted(self.gone)]).transpose(0, 1).flatten(1)
            for trace in (self, other)
        )
        length = self.gone[0].shape[-1]
        either = (ours < length) | (theirs < length)
        shared = ((ours == theirs) & either).sum(dim=1) / either.sum(dim=1).clamp(min=1)
        return shared.masked_fill(~either.any(dim=1), 1.0)


def _seen(gone: Tensor) -> Tensor:
    steps = torch.arange(gone.shape[-1], device=gone.device)
    return (steps <= steps[:, None]) & (steps[:, None] < gone[:, :, None])


@contextmanager
def masked(model, rule: Rule, budget: int, *, prompt: int = 0, buffer: int = 1) -> Iterator[Trace]:
    """Inside the block each forward pass of ``model`` over ids (B, T), whole and without padding, evicts by ``rule``.

    The trace holds what the last pass evicted. ClaimbookError for a model, a budget or a batch that cannot be evicted.
    """
    trace, first = Trace(), max(prompt, budget)
    _check(model, rule, budget, buffer)

    def function(module, query, key, value, mask, scaling=None, **options):
        _plain(options)
        if query.shape[2] != key.shape[2]:
            raise ClaimbookError("a masked pass reads a whole text at once: it takes no cache of earlier tokens")
        held = Held(rule, budget, buffer)
        gone = _evictions(held, module.layer_idx, query.detach(), key.detach(), scaling, first)
        trace.gone[module.layer_idx], seen = gone, _seen(gone)
        most = int(seen[:, :, first:].sum(dim=-1).max()) if first < query.shape[2] else 0
        if most > budget + buffer:  # the query's own token is one of them
            raise AssertionError(f"layer {module.layer_idx}: {most} tokens seen with a budget of {budget}")
        seen = seen.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        groups = {"enable_gqa": True} if query.shape[1] > key.shape[1] else {}
        out = scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling, **groups)
        return out.transpose(1, 2), None

    with replaced(model, function):
        yield trace


@torch.no_grad()
def _evictions(held: Held, layer: int, query: Tensor, key: Tensor, scaling: float, first: int) -> Tensor:
    """Run ``held`` over a text, one token a step after the ``first``: the gone-steps (B, H_kv, T) of its tokens."""
    length, positions = key.shape[2], torch.arange(key.shape[2], device=key.device)
    features = held.rule.features(layer, positions, key)
    logits = _logits(query, key, scaling) if held.rule.attends else None
    gone = positions.new_full(key.shape[:3], length)
    start = 0
    while start < length:
        stop = max(start + 1, min(first, length))
        held.add(positions[start:stop], features[:, :, start:stop])
        if logits is not None:
            columns = held.positions[:, :, None, None].expand(-1, -1, logits.shape[2], stop - start, -1)
            held.attend(logits[:, :, :, start:stop].gather(-1, columns), positions[start:stop])
        if found := held.evict():
            gone.scatter_(2, found[0], stop)
        start = stop
    return gone


# --- as deployed ----------------------------------------------------------------------------------------------------


class EvictingLayer(DynamicLayer):
    """Keys and values of one layer, at most budget + buffer - 1 of them between steps. Counts positions by tokens seen.

    A cache that reports what it *holds* renumbers the tokens that follow, which is how the paper's own baselines came
    to be degraded.
    """

    is_croppable = False

    def __init__(self, rule: Rule, layer: int, budget: int, buffer: int, record: bool):
        super().__init__()
        self.held, self.layer, self.seen = Held(rule, budget, buffer), layer, 0
        self.log: list[tuple[int, Tensor]] | None = [] if record else None

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        positions = torch.arange(self.seen, self.seen + key_states.shape[2], device=key_states.device)
        self.held.add(positions, self.held.rule.features(self.layer, positions, key_states))
        self.seen += key_states.shape[2]
        return super().update(key_states, value_states)

    def evict(self) -> None:
        """After the attention of a step."""
        if found := self.held.evict():
            gone, staying = found
            self.keys, self.values = _pick(self.keys, staying), _pick(self.values, staying)
            if self.log is not None:
                self.log.append((self.seen, gone))
        if not len(self.held) == self.keys.shape[2] < self.held.budget + self.held.buffer:
            raise AssertionError(f"layer {self.layer} holds {self.keys.shape[2]} tokens, budget {self.held.budget}")

    def get_seq_length(self) -> int:
        """Tokens seen, which is the next token's position."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return len(self.held) + query_length, self.seen - len(self.held)

    def reset(self) -> None:
        raise ClaimbookError("an evicting cache serves one text: make another for the next")

    def reorder_cache(self, *args) -> None:
        raise ClaimbookError("an evicting cache follows one continuation: no beam search, no assisted decoding")

    crop = batch_repeat_interleave = batch_select_indices = reorder_cache


class EvictingCache(Cache):
    """A cache for transformers in which every layer and KV head holds at most ``budget`` tokens between steps."""

    def __init__(self, model, rule: Rule, budget: int, *, buffer: int = 1, record: bool = False):
        count = model.config.get_text_config().num_hidden_layers
        super().__init__(layers=[EvictingLayer(rule, i, budget, buffer, record) for i in range(count)])

    @property
    def kept(self) -> int:
        """Tokens held per layer and head now."""
        return len(self.layers[0].held)

    def bytes(self) -> int:
        """Bytes of keys and values held now, over all layers."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def trace(self) -> Trace:
        """What was evicted so far; ``record`` must have been asked for."""
        return Trace({layer.layer: self._gone(layer) for layer in self.layers})

    @staticmethod
    def _gone(layer: EvictingLayer) -> Tensor:
        if layer.log is None:
            raise ClaimbookError("this cache keeps no record: make it with record=True")
        gone = layer.held.positions.new_full((*layer.held.positions.shape[:2], layer.seen), layer.seen)
        for step, positions in layer.log:
            gone.scatter_(2, positions, step)
        return gone


@contextmanager
def evicting(model, rule: Rule, budget: int, *, buffer: int = 1, record: bool = False) -> Iterator[EvictingCache]:
    """Inside the block the cache, given as ``past_key_values`` to ``model(…)`` or ``model.generate(…)``, evicts.

    One text or a batch of equal lengths. ClaimbookError as in ``masked``.
    """
    _check(model, rule, budget, buffer)
    cache = EvictingCache(model, rule, budget, buffer=buffer, record=record)

    def function(module, query, key, value, mask, scaling=None, **options):
        _plain(options)
        layer = cache.layers[module.layer_idx]
        if layer.keys is None or layer.keys.data_ptr() != key.data_ptr():
            raise ClaimbookError("inside `evicting` the model is called with the evicting cache as past_key_values")
        steps = torch.arange(layer.seen - query.shape[2], layer.seen, device=query.device)
        probs = layer.held.attend(_logits(query, key, scaling), steps)
        out = grouped_matmul(probs.to(value.dtype).flatten(1, 2), value)
        layer.evict()
        return out.transpose(1, 2), None

    with replaced(model, function):
        yield cache


@torch.no_grad()
def decoded(model, ids: Tensor, rule: Rule, budget: int, *, prompt: int = 0, buffer: int = 1) -> tuple[Tensor, Trace]:
    """``ids`` (B, T) through an evicting cache, token by token after the prompt: logits (B, T, V), and what went."""
    with evicting(model, rule, budget, buffer=buffer, record=True) as cache:
        parts = (ids[:, :prompt], *ids[:, prompt:].split(1, dim=1))
        logits = torch.cat([model(part, past_key_values=cache).logits for part in parts if part.numel()], dim=1)
        return logits, cache.trace()


# --- what cannot be evicted -----------------------------------------------------------------------------------------


def _check(model, rule: Rule, budget: int, buffer: int) -> None:
    Held(rule, budget, buffer)
    kind = model.config.model_type
    if adapters.for_model(model):
        raise ClaimbookError(f"'{kind}' computes attention in its own way: its cache cannot be evicted here")
    if "sliding_attention" in (getattr(model.config.get_text_config(), "layer_types", None) or []):
        raise ClaimbookError(f"'{kind}' has layers with a sliding window, which bound their cache themselves")


def _plain(options: dict) -> None:
    odd = [name for name in ("sliding_window", "s_aux", "softcap", "alibi_slopes") if options.get(name) is not None]
    if odd:
        raise ClaimbookError(f"attention with {', '.join(odd)} cannot be evicted here")
