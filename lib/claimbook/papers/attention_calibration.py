"""Attention calibration, ACT (Yu et al., ICML 2024, arXiv 2406.15765): hidden sinks found and turned down, no training.

The paper's body could not be read; the rules are re-derived from what the authors' repository does (commit a267af7, no
licence file) and from notes on the paper. The method is `column_share`, `find_sinks` and `calibrate`, applied to the
attention map of each head that `choose` keeps. Layers, heads and tokens count from 0.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.errors import ClaimbookError
from claimbook.lm import block_outputs, losses, proof
from claimbook.lm.attention import causal_probs, grouped_matmul, replaced

ALPHA, BETA = 5.0, 0.4
FIXED = 0.1  # the repository's threshold, whatever the length: the paper's where N = 50
FIRST_LAYER, LAST_LAYERS = 2, 1  # layers left alone at the bottom and at the top


def prove(model) -> None:
    """Refuse, with ClaimbookError, a model whose attention cannot be replaced or whose outputs do not add up."""
    proof.attention(model)
    block_outputs.writers(model)


# --- the method: one attention map -----------------------------------------------------------------------------------


def column_share(probs: Tensor, lengths: Tensor | None = None, window: int | None = None) -> Tensor:
    """a (B, H, N): mean attention that each token gets from the queries that can see it, of maps (B, H, N, N).

    ``lengths`` (B,): true lengths of texts padded on the right; rows of padding are not counted, a of padding is 0.
    ``window``: queries that see a token at most, in layers with sliding attention. Source: column sums over
    (N, N - 1, …, 1) in the repository.
    """
    batch, _, size, _ = probs.shape
    lengths = torch.full((batch,), size) if lengths is None else lengths
    place = torch.arange(size, device=probs.device)
    left = lengths.to(probs.device)[:, None] - place  # (B, N): queries from each token to the end of its text
    sums = (probs * (left > 0)[:, None, :, None]).sum(dim=2)
    return torch.where((left > 0)[:, None], sums / left.clamp(min=1, max=window)[:, None], 0.0)


def find_sinks(
    share: Tensor, alpha: float = ALPHA, lengths: Tensor | None = None, fixed: float | None = None
) -> Tensor:
    """Hidden sinks, bool (B, H, N): tokens but the first with a share above alpha / N, N the true length of the text.

    ``fixed``: the repository's threshold instead. Token 0 is never one (the repository leaves out the first that it
    flags, which is another token where token 0 lies below the threshold).
    """
    if fixed is None:
        length = share.shape[-1] if lengths is None else lengths.to(share.device)[:, None, None]
        fixed = alpha / length
    sinks = share > fixed
    sinks[..., 0] = False
    return sinks


def calibrate(probs: Tensor, sinks: Tensor, beta: float = BETA, first_receives: bool = True) -> Tensor:
    """Maps (B, H, N, N) in which every row gives its sinks ``beta`` of what it gave, and the others the rest.

    The others, token 0 among them, gain in proportion to what they had, so rows keep their sums and zeros stay zero. A
    row without others, such as row 0, stays as it is. ``beta`` above 1, an ablation, moves attention towards sinks, as
    far as the others have any. ``first_receives=False``, another: token 0 gains nothing.
    """
    columns = sinks[:, :, None, :]
    gains = ~columns
    if not first_receives:
        gains = gains & (torch.arange(probs.shape[-1], device=probs.device) > 0)
    given = (probs * columns).sum(dim=-1, keepdim=True)
    had = (probs * gains).sum(dim=-1, keepdim=True)
    moved = torch.where(had > 0, torch.maximum((1 - beta) * given, -had), 0.0)
    tiny = torch.finfo(probs.dtype).tiny  # where nothing is given or had, nothing is moved
    less, more = 1 - moved / given.clamp(min=tiny), 1 + moved / had.clamp(min=tiny)
    return torch.where(columns, probs * less, torch.where(gains, probs * more, probs))


def tempered(probs: Tensor, temperature: float) -> Tensor:
    """An ablation of the paper: rows at a temperature above 1 are flatter; what token 0 has stays its own."""
    rest = probs[..., 1:]
    flat = rest ** (1 / temperature)
    scale = rest.sum(dim=-1, keepdim=True) / flat.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
    return torch.cat([probs[..., :1], flat * scale], dim=-1)


def first_scaled(probs: Tensor, factor: float | Tensor) -> Tensor:
    """ZeroTuning (arXiv 2505.11739), the rival: token 0 alone, times ``factor``, a number or (h,), rows normalised."""
    factor = torch.as_tensor(factor, dtype=probs.dtype, device=probs.device).reshape(-1, 1, 1)
    scaled = torch.cat([probs[..., :1] * factor, probs[..., 1:]], dim=-1)
    return scaled * (probs.sum(dim=-1, keepdim=True) / scaled.sum(dim=-1, keepdim=True))


# --- the method in a model -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """How the maps of some heads are changed; ``heads`` bool (L, H).

    ``fixed``: see `find_sinks`; ``first_receives``: see `calibrate`. ``frozen``: sinks are where another text of the
    batch has them. In place of sinks: ``temperature``, see `tempered`; ``first``, a number or (L, H), see
    `first_scaled`.
    """

    heads: Tensor
    alpha: float = ALPHA
    beta: float = BETA
    fixed: float | None = None
    first_receives: bool = True
    frozen: bool = False
    temperature: float | None = None
    first: float | Tensor | None = None

    def sinks(self, probs: Tensor, lengths: Tensor | None = None, window: int | None = None) -> Tensor:
        """Which tokens are turned down, bool (B, H, N), of maps (B, H, N, N)."""
        if self.temperature is not None or self.first is not None:
            return torch.zeros(probs.shape[:3], dtype=torch.bool, device=probs.device)
        sinks = find_sinks(column_share(probs, lengths, window), self.alpha, lengths, self.fixed)
        return sinks.roll(1, dims=0) if self.frozen else sinks

    def changed(self, probs: Tensor, sinks: Tensor, layer: int, heads: Tensor) -> Tensor:
        """The maps (B, h, N, N) of the given heads (h,) of a layer, changed."""
        if self.temperature is not None:
            return tempered(probs, self.temperature)
        if self.first is not None:
            return first_scaled(probs, self.first[layer, heads] if isinstance(self.first, Tensor) else self.first)
        return calibrate(probs, sinks, self.beta, self.first_receives)


@dataclass
class Tally:
    """What calibration did, summed: maps changed, sinks found in them, and the share of each map's attention moved."""

    maps: int = 0
    sinks: int = 0
    moved: float = 0.0

    def add(self, before: Tensor, after: Tensor, sinks: Tensor, lengths: Tensor | None) -> None:
        """Maps before and after (B, h, N, N), and the sinks (B, h, N); rows of padding are not counted."""
        size = before.shape[-1]
        rows = torch.full((len(before),), size) if lengths is None else lengths
        real = torch.arange(size, device=before.device) < rows.to(before.device)[:, None]
        moved = (after - before).abs().sum(dim=-1) / 2 * real[:, None]
        self.maps += before.shape[0] * before.shape[1]
        self.sinks += int(sinks.sum())
        self.moved += float((moved.sum(dim=-1) / real.sum(dim=-1)[:, None]).sum())


@contextmanager
def calibrated(model, rule: Rule | None, lengths: Tensor | None = None) -> Iterator[Tally]:
    """Inside the block the heads of ``rule`` attend as it says, whole texts at a time; None: the model's own attention.

    Both ways attention is computed by the same function, probabilities in float32, so that nothing but the rule
    differs. ``lengths`` (B,) of texts padded on the right. ClaimbookError for a query with a cache: the paper's rule
    needs the whole map.
    """
    tally = Tally()

    def function(module, query, key, value, mask, scaling=None, **options):
        _whole(query, key)
        probs = causal_probs(query, key, 0, scaling, **options)
        layer = module.layer_idx
        if rule is not None and bool(rule.heads[layer].any()):
            heads = rule.heads[layer].nonzero()[:, 0].to(query.device)
            before = probs[:, heads]
            sinks = rule.sinks(before, lengths, options.get("sliding_window"))
            after = rule.changed(before, sinks, layer, heads.cpu())
            tally.add(before, after, sinks, lengths)
            probs[:, heads] = after
        return grouped_matmul(probs, value).transpose(1, 2), None

    with replaced(model, function):
        yield tally


def _whole(query: Tensor, key: Tensor) -> None:
    if query.shape[2] != key.shape[2]:
        raise ClaimbookError("calibration needs the whole map of a text: run the model without a cache")


# --- which heads -----------------------------------------------------------------------------------------------------


def calibrated_layers(layers: int, heads: int) -> Tensor:
    """Heads that may be calibrated, bool (L, H): those of layers 2 to L - 2; of all where there are fewer than four."""
    allowed = torch.ones(layers, heads, dtype=torch.bool)
    if layers >= FIRST_LAYER + LAST_LAYERS + 1:
        allowed[:FIRST_LAYER] = allowed[layers - LAST_LAYERS :] = False
    return allowed


Loss = Callable[[Tensor], Tensor]


def first_order(model, ids: Tensor, loss: Loss, rules: list[Rule]) -> tuple[Tensor, Tensor]:
    """Effect of each rule in each head alone on the loss of each text, to first order: (R, B, L, H), and losses (B,).

    ``loss``: of the last token's logits (B, V), one a text. A factor before what a rule changes of a head's output, 0
    here and 1 where it is applied, has this gradient: one backward pass in place of one run a head. Ours: the paper
    tries every head (see `choose`). ``ids`` (B, T), none padded.
    """
    factors: dict[int, Tensor] = {}

    def function(module, query, key, value, mask, scaling=None, sliding_window=None, **options):
        _whole(query, key)
        if unknown := [name for name in ("s_aux", "softcap", "alibi_slopes") if options.get(name) is not None]:
            raise ClaimbookError(f"heads cannot be scored in a family with {unknown[0]}: name them by hand")
        probs = _causal(query * scaling, key, sliding_window)
        factor = torch.zeros(len(rules), *query.shape[:2], device=query.device, requires_grad=True)
        factors[module.layer_idx] = factor
        out = grouped_matmul(probs, value)
        for one, rule in zip(factor, rules, strict=True):
            change = _change(rule, probs.detach(), value.detach(), module.layer_idx, sliding_window)
            out = out + one[..., None, None].to(out.dtype) * change
        return out.transpose(1, 2), None

    with torch.enable_grad(), replaced(model, function):
        last = losses.hidden_states(model, ids)[:, -1]
        found = loss(losses.logits(model, last))
        found.sum().backward()
    effects = torch.stack([factors[layer].grad for layer in sorted(factors)], dim=2)
    return effects.cpu(), found.detach().cpu()


def _causal(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """The same as `lm.attention.causal_probs` for whole texts, as torch can differentiate it."""
    place = torch.arange(key.shape[2], device=key.device)
    distance = place[:, None] - place
    hidden = (distance < 0) | (distance >= (window or key.shape[2]))
    logits = grouped_matmul(query, key.transpose(2, 3)).float()
    return logits.masked_fill(hidden, float("-inf")).softmax(dim=-1)


@torch.no_grad()
def _change(rule: Rule, probs: Tensor, value: Tensor, layer: int, window: int | None) -> Tensor:
    """What a rule changes of the outputs (B, H, T, d) of all heads of a layer."""
    changed = rule.changed(probs, rule.sinks(probs, window=window), layer, torch.arange(probs.shape[1]))
    return grouped_matmul(changed - probs, value)


@dataclass(frozen=True)
class Choice:
    """Sets of heads, each bool (L, H), by the effect of calibrating one alone; below 0 the loss falls."""

    top: Tensor
    bottom: Tensor


def choose(effects: Tensor, allowed: Tensor, count: int) -> Choice:
    """The ``count`` best and worst of the allowed heads (L, H) by their effects (L, H).

    The paper keeps the heads that, calibrated alone, raise accuracy on items held out for it. ``top`` holds fewer where
    fewer help, ``bottom`` where fewer hurt; of equal effects the lower layer and head comes first.
    """
    helpful, hurt = allowed & (effects < 0), allowed & (effects > 0)
    return Choice(_lowest(effects, helpful, count), _lowest(-effects, hurt, count))


def _lowest(effects: Tensor, among: Tensor, count: int) -> Tensor:
    order = effects.masked_fill(~among, float("inf")).flatten().argsort(stable=True)
    found = torch.zeros(effects.numel(), dtype=torch.bool)
    found[order[: min(count, int(among.sum()))]] = True
    return found.view_as(among)


def at_random(allowed: Tensor, count: int, seed: int) -> Tensor:
    """``count`` of the allowed heads (L, H), drawn at random: bool (L, H)."""
    places = allowed.flatten().nonzero()[:, 0]
    drawn = torch.zeros(allowed.numel(), dtype=torch.bool)
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))
    drawn[places[order[:count]]] = True
    return drawn.view_as(allowed)


# --- the control that the paper lacks --------------------------------------------------------------------------------


def prior_corrected(log_probs: Tensor, prior: Tensor) -> Tensor:
    """Log-probabilities of options (n, options), less those that the prompt gives them whatever its content.

    Contextual calibration (Zhao et al., ICML 2021, arXiv 2102.09690); normalised over the options.
    """
    return (log_probs - prior).log_softmax(dim=-1)
