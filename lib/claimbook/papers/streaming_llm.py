"""StreamingLLM (Xiao et al., arXiv 2309.17453): attention sinks and a rolling cache.

A cache of ``sinks`` first tokens and the ``recent`` last ones; positions are counted *inside the cache* (section 3.2).
Eviction follows the official code: it happens after a step, so a query sees ``sinks + recent`` cached tokens and
itself. Three evaluations of one rule:

- ``losses``: exact and block-parallel, memory constant in the length of the text;
- ``RollingCache``: the real decoder, one token at a time, as it would be deployed;
- ``recompute_losses``: the sliding window with recomputation, the paper's oracle.

Known deviation: none for RoPE models; ALiBi distances are counted inside the cache as the paper says.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from claimbook.errors import ClaimbookError
from claimbook.lm import proof, rotary
from claimbook.lm.attention import grouped_matmul, replaced, softmax
from claimbook.lm.losses import hidden_states, token_losses


@dataclass(frozen=True)
class Scheme:
    """``sinks`` initial tokens + ``recent`` last tokens; ``positions`` of the sinks: in the cache, or in the text.

    ``Scheme(0, y)`` is window attention; ``Scheme(4, y)`` StreamingLLM. ``positions="text"`` keeps the sinks at their
    original distance, which the paper advises against. ``first``: the text position of the first token that is kept,
    a control of ours: tokens out of the middle of the text in place of the initial ones.
    """

    sinks: int
    recent: int
    positions: Literal["cache", "text"] = "cache"
    first: int = 0

    def __post_init__(self):
        if self.sinks < 0 or self.recent < 1 or self.first < 0:
            raise ClaimbookError(f"scheme {self.sinks}+{self.recent}: sinks must be >= 0, first >= 0 and recent >= 1")
        if self.first and self.positions == "text":
            raise ClaimbookError("tokens out of the middle of a text are kept at cache positions only")

    def __str__(self) -> str:
        return f"{self.sinks}+{self.recent}"

    @property
    def size(self) -> int:
        """Cached tokens, before the query's own."""
        return self.sinks + self.recent

    def sink_angle(self, steps: Tensor) -> Tensor:
        """Position of the query as the sinks see it, who stand at 0, 1, …, for queries at text positions ``steps``."""
        return steps if self.positions == "text" else (steps - self.first).clamp(max=self.size)


def allowed(scheme: Scheme, query: Tensor, key: Tensor) -> Tensor:
    """Which keys a query sees: text positions (b, 1) and (n,) -> bool (b, n). Section 3.2, Figure 4."""
    kept = (scheme.first <= key) & (key < scheme.first + scheme.sinks)
    return (key <= query) & ((query - key <= scheme.recent) | kept)


def pairs(scheme: Scheme, tokens: int) -> int:
    """Query-key pairs of a text of so many tokens (Figure 1); every sixteenth query stands for its neighbours."""
    keys = torch.arange(tokens)
    return 16 * sum(int(allowed(scheme, part[:, None], keys).sum()) for part in keys[15::16].split(256))


@dataclass
class Stream:
    """The rolling cache as an attention function over segments of a text; exact for any segment length.

    Queries and keys must arrive unrotated (position ids all 0). Per layer it keeps the sinks and the last ``recent``
    tokens, raw (section 3.2: "we cache the keys of tokens prior to the rotary transformation").
    """

    scheme: Scheme
    rotation: rotary.Rotary | None
    seen: int = 0
    block: int = 256
    sinks: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    recent: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self, module, query, key, value, mask, scaling=None, **options):
        layer, length = module.layer_idx, query.shape[2]
        query = query * scaling
        key, value, first = self._remember(layer, key, value)
        steps = torch.arange(self.seen, self.seen + length, device=query.device)
        held = torch.arange(first, self.seen + length, device=query.device)
        sink_key, sink_value = self.sinks[layer]

        near_query = self._turn(query, steps - first, layer)  # small angles: only distances matter
        near_key = self._turn(key, held - first, layer)
        far_query = self._turn(query, self.scheme.sink_angle(steps), layer)
        far_key = self._turn(sink_key, torch.arange(sink_key.shape[2], device=query.device), layer)

        out = torch.empty_like(query)
        for start in range(0, length, self.block):
            rows = slice(start, min(start + self.block, length))
            left = max(self._apart() - first, 0, self.seen + start - self.scheme.recent - first)
            columns = slice(left, self.seen + rows.stop - first)
            logits = torch.cat(
                [
                    grouped_matmul(far_query[:, :, rows], far_key.transpose(2, 3)),
                    grouped_matmul(near_query[:, :, rows], near_key[:, :, columns].transpose(2, 3)),
                ],
                dim=-1,
            )
            hidden, distance = self._geometry(steps[rows], held[columns], options.get("sliding_window"))
            probs = softmax(
                logits.float(),
                hidden,
                distance,
                *(options.get(name) for name in ("s_aux", "softcap", "alibi_slopes")),
            )
            values = torch.cat([sink_value, value[:, :, columns]], dim=2)
            out[:, :, rows] = grouped_matmul(probs, values)
        return out.transpose(1, 2), None

    def _turn(self, x: Tensor, positions: Tensor, layer: int) -> Tensor:
        return x if self.rotation is None else self.rotation.turn(x, positions, layer)

    def _remember(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, int]:
        """Keys and values at hand for this segment, and the text position of the first of them."""
        end = self.seen + key.shape[2]
        if self.seen == 0:
            kept = slice(self.scheme.first, self.scheme.first + self.scheme.sinks)
            self.sinks[layer] = tuple(x[:, :, kept].clone() for x in (key, value))
        else:
            old_key, old_value = self.recent[layer]
            key, value = torch.cat([old_key, key], dim=2), torch.cat([old_value, value], dim=2)
        self.recent[layer] = tuple(x[:, :, -self.scheme.recent :].clone() for x in (key, value))
        return key, value, end - key.shape[2]

    def _apart(self) -> int:
        """So many tokens of the text are never among the near ones: the initial ones, sinks from the start."""
        return 0 if self.scheme.first else self.scheme.sinks

    def _geometry(self, steps: Tensor, held: Tensor, sliding_window: int | None) -> tuple[Tensor, Tensor]:
        """What is hidden, and distances as the model sees them, over [sinks | near keys], both (b, n)."""
        sinks, near = torch.arange(self.scheme.sinks, device=steps.device), steps[:, None] - held
        not_yet = sinks > steps[:, None]
        if self.scheme.first:  # a token that is kept counts as near while it is among the recent ones
            not_yet = steps[:, None] - self.scheme.first - sinks <= self.scheme.recent
        hidden = torch.cat([not_yet, (near < 0) | (near > self.scheme.recent)], dim=1)
        distance = torch.cat([self.scheme.sink_angle(steps)[:, None] - sinks, near], dim=1)
        if sliding_window is not None:
            hidden |= distance >= sliding_window
        return hidden, distance

    def cached_bytes(self) -> int:
        """Bytes held between segments, over all layers; constant once the cache is full."""
        return sum(x.nbytes for store in (self.sinks, self.recent) for pair in store.values() for x in pair)


@torch.no_grad()
def stream(
    model,
    ids: Tensor,
    scheme: Scheme,
    *,
    segment: int = 2048,
    resume: Stream | None = None,
    score: Tensor | None = None,
) -> Iterator[tuple[Stream, Tensor]]:
    """Yield ``(stream, losses)`` after each segment of ``ids`` (T,): loss of token t given those before it, in nats.

    Segments start at ``resume.seen``. The losses of a segment are those of the tokens *following* its tokens; the last
    token of the text is only predicted. ``score`` (T,), bool: the targets to score, by text position; the others hold
    NaN and save their share of the output layer. Exact for any ``segment`` that holds the sinks.
    """
    length, needed = len(ids) - 1, max(scheme.first + scheme.sinks, 1)
    if min(segment, length) < needed:
        raise ClaimbookError(f"a first segment of {min(segment, length)} tokens has no {needed} for the sinks")
    state = resume or Stream(scheme, rotary.of(model))
    with replaced(model, state):
        for start in range(state.seen, length, segment):
            stop = min(start + segment, length)
            part, targets = ids[start:stop].to(model.device), ids[start + 1 : stop + 1].to(model.device)
            hidden = hidden_states(model, part[None], position_ids=torch.zeros_like(part)[None])[0]
            state.seen = stop
            rows = slice(None) if score is None else score[start + 1 : stop + 1].to(model.device)
            found = torch.full(part.shape, float("nan"), device=model.device)
            found[rows] = token_losses(model, hidden[rows], targets[rows])
            yield state, found


def losses(model, ids: Tensor, scheme: Scheme, *, segment: int = 2048, score: Tensor | None = None) -> Tensor:
    """Loss of each token of ``ids`` (T,) but the first, (T - 1,) in nats, under a rolling cache. See ``stream``."""
    return torch.cat([part for _, part in stream(model, ids, scheme, segment=segment, score=score)])


@torch.no_grad()
def recompute_losses(
    model, ids: Tensor, targets: Tensor, window: int, *, batch: int = 16, start: Tensor | None = None
) -> Tensor:
    """Sliding window with recomputation (Figure 1c): losses (n,) in nats of the tokens at positions ``targets`` (n,).

    Each is predicted from a fresh forward pass over the ``window`` tokens before it, at positions 0 … window - 1; the
    first of them give way to ``start`` (k,), what the model expects at the start of a text (BOS), if anything.
    """
    start = ids[:0] if start is None else start
    if int(targets.min()) < window:
        raise ClaimbookError(f"target {int(targets.min())} has fewer than {window} tokens before it")
    out = []
    for chunk in targets.split(batch):
        rows = [torch.cat([start, ids[end - window + len(start) : end]]) for end in chunk.tolist()]
        rows = torch.stack(rows).to(model.device)
        last = hidden_states(model, rows)[:, -1]
        out.append(token_losses(model, last, ids[chunk].to(model.device)))
    return torch.cat(out)


class RollingCache:
    """The decoder as deployed: one token a step, keys stored raw, turned at each step by their slot in the cache.

    Official code: ``streaming_llm/kv_cache.py`` (eviction) and ``pos_shift/modify_llama.py`` (positions).
    """

    def __init__(self, model, scheme: Scheme):
        if scheme.first:
            raise ClaimbookError("the decoder keeps the first tokens of a text: give it a scheme without `first`")
        self.model, self.scheme, self.rotation = model, scheme, rotary.of(model)
        self.seen, self.cache = 0, {}

    def __len__(self) -> int:
        """Tokens held now."""
        return self.cache[0][0].shape[2] if self.cache else 0

    @torch.no_grad()
    def step(self, token: int) -> Tensor:
        """Feed one token; the logits (V,) of the next."""
        ids = torch.tensor([[token]], device=self.model.device)
        with replaced(self.model, self._attend):
            logits = self.model(ids, position_ids=torch.zeros_like(ids), use_cache=False).logits[0, -1]
        self.seen += 1
        return logits

    def _attend(self, module, query, key, value, mask, scaling=None, **options):
        layer = module.layer_idx
        if layer in self.cache:
            key = torch.cat([self.cache[layer][0], key], dim=2)
            value = torch.cat([self.cache[layer][1], value], dim=2)
        slots = torch.arange(key.shape[2], device=key.device)
        turned_query, turned_key = query, key
        if self.rotation is not None:
            turned_query = self.rotation.turn(query, slots[-1:], layer)
            turned_key = self.rotation.turn(key, slots, layer)
        distance = slots[-1] - slots[None]
        window = options.get("sliding_window")
        hidden = torch.zeros_like(distance, dtype=torch.bool) if window is None else distance >= window
        logits = grouped_matmul(turned_query, turned_key.transpose(2, 3)).float() * scaling
        extras = (options.get(name) for name in ("s_aux", "softcap", "alibi_slopes"))
        out = grouped_matmul(softmax(logits, hidden, distance, *extras), value)
        self.cache[layer] = tuple(self._evict(x) for x in (key, value))
        return out.transpose(1, 2), None

    def _evict(self, x: Tensor) -> Tensor:
        if x.shape[2] <= self.scheme.size:
            return x
        return torch.cat([x[:, :, : self.scheme.sinks], x[:, :, -self.scheme.recent :]], dim=2)


@torch.no_grad()
def prove(model) -> None:
    """Refuse, with ClaimbookError, a model that the three evaluations above do not treat alike or not at all.

    On a few tokens: its attention can be replaced, its positions are rotary or ALiBi and the same at every length, a
    text read in two segments gives the losses of one read at once, and so does the decoder, token by token.
    """
    proof.attention(model)
    rotary.of(model)
    ids, scheme = proof.sample(model, 40)[0], Scheme(2, 9)
    whole = losses(model, ids, scheme, segment=len(ids))
    cache = RollingCache(model, scheme)
    logits = torch.stack([cache.step(token) for token in ids[:-1].tolist()]).float()
    for other, what in (
        (losses(model, ids, scheme, segment=11), "read in segments"),
        (cross_entropy(logits, ids[1:], reduction="none"), "decoded token by token"),
    ):
        if not (gap := proof.distance(other, whole)) <= proof.tolerance(model):
            raise ClaimbookError(
                f"'{model.config.model_type}' gives other losses {what} than in one pass (by {gap:.2g}, relative): it "
                "keeps something that a cache of keys and values does not hold"
            )
