"""Sinks of real models: the paper's protocol, its inputs, domains, lengths, windows, and two interventions."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.lm import corpora, geometry
from claimbook.lm.attention import causal_probs, grouped_matmul, observed, replaced
from claimbook.lm.load import LM, load
from claimbook.lm.losses import hidden_states, token_losses
from claimbook.metrics.sinks import EPSILON, Importance
from claimbook.papers import sink_emergence as theory
from claimbook.provenance.declarations import checkpointed

RECIPES = "wikibooks-recipes"
BATCH = 10  # samples in a pass: few enough that 1,000 tokens are held at a time


# --- inputs ------------------------------------------------------------------------------------------------------


def natural(lm: LM, key: str, count: int, length: int, *, start: bool = True) -> Tensor:
    """The first ``length`` tokens of ``count`` documents, (count, length), begun as the tokenizer begins a text.

    ``key``: a text asset, or a reader's own text file, which is cut into pieces. ``start`` False leaves out what the
    tokenizer puts in front. ClaimbookError when there are too few documents.
    """
    if key not in catalogue.load_catalogue():
        front = 0 if start else len(lm.start)
        rows = [piece.ids[front:] for piece in corpora.own_text(lm, key, length + front, count)]
        return _enough(lm, key, rows, count, length)
    rows, encode, texts = [], lm.document if start else lm.encode, passages(key)
    for text in texts[:: max(1, len(texts) // (3 * count))]:  # spread over the whole asset
        ids = encode(text[: 16 * length])  # no token is that long on average
        if len(ids) >= length:
            rows.append(ids[:length])
        if len(rows) == count:
            break
    return _enough(lm, key, rows, count, length)


def _enough(lm: LM, key: str, rows: list[Tensor], count: int, length: int) -> Tensor:
    if len(rows) < count:
        raise ClaimbookError(
            f"'{key}' has {len(rows)} documents of {length} tokens for {lm.name}, {count} are asked for"
        )
    return torch.stack(rows)


def passages(key: str) -> list[str]:
    """The documents of a text asset; of the recipes, their instructions."""
    if key != RECIPES:
        return [text["text"] for text in catalogue.texts(key)]
    recipes = json.loads(catalogue.get(key).read_text(encoding="utf-8")).values()
    return [" ".join(recipe["steps"]) for recipe in recipes if recipe["steps"]]


def ordinary(lm: LM) -> Tensor:
    """Ids that may be drawn at random: those that stand for text, without special or unused ones."""
    special = set(lm.tokenizer.all_special_ids) | set(lm.tokenizer.get_added_vocab().values())
    size = min(len(lm.tokenizer), lm.model.config.get_text_config().vocab_size)
    return torch.tensor([i for i in range(size) if i not in special])


def random(lm: LM, count: int, length: int, seed: int) -> Tensor:
    """Evenly drawn ids (count, length), nothing in front."""
    pool, draw = ordinary(lm), torch.Generator().manual_seed(seed)
    return pool[torch.randint(len(pool), (count, length), generator=draw)]


def repeated(lm: LM, count: int, length: int, seed: int) -> Tensor:
    """One evenly drawn id in each row, (count, length), nothing in front."""
    return random(lm, count, 1, seed).expand(-1, length).contiguous()


# --- the metric --------------------------------------------------------------------------------------------------


@torch.no_grad()
def importance(lm: LM, ids: Tensor, keys: int = 32) -> Tensor:
    """alpha (N, L, H, keys) of ids (N, T): mean attention to each of the first keys (section 3.2)."""
    found = Importance(keys)
    with observed(lm.model, found):
        for rows in ids.split(BATCH):
            lm.model.base_model(rows.to(lm.model.device), use_cache=False)
    return found.result()


def observe(lm: LM, ids: Tensor) -> geometry.Geometry:
    """Norms and angles around the first token of ids (N, T)."""
    return geometry.observe(lm.model, ids.to(lm.model.device), ordinary_attention)


def ordinary_attention(module, query, key, value, mask, scaling=None, **options) -> tuple[Tensor, None]:
    """What every decoder does, as an attention function for `replaced`."""
    probs = causal_probs(query, key, 0, scaling, **options)
    return grouped_matmul(probs, value).transpose(1, 2), None


# --- the theory of repeats (Propositions 1 to 4) -----------------------------------------------------------------


@torch.no_grad()
def repeats(lm: LM, ids: Tensor) -> dict:
    """A token repeated, ids (N, T): do hidden states coincide, and does any head give the first more than the bound?

    ``distance``: largest relative distance of a hidden state from the first token's, in any block; ``above``: how
    many (sample, layer, head, query) exceed the bound of Proposition 4, and ``checked`` of how many; ``bound``: the
    bound on alpha of the first token, mean over samples, layers and heads.
    """
    distances, above, checked, bounds = [], 0, 0, []

    def function(module, query, key, value, mask, scaling=None, **options):
        nonlocal above, checked
        probs = causal_probs(query, key, 0, scaling, **options)
        groups = query.shape[1] // key.shape[1]
        bound = theory.rotary_bound(query.float(), key.float().repeat_interleave(groups, 1), scaling)
        above += int((probs[..., 0].double() > bound * (1 + 1e-4)).sum())  # what float32 rounds is no exception
        checked += bound.numel()
        bounds.append(float(bound.mean()))
        return grouped_matmul(probs, value).transpose(1, 2), None

    def keep(module, inputs, output):
        state = (output[0] if isinstance(output, tuple) else output).float()
        distances.append(float(((state - state[:, :1]).norm(dim=-1) / state[:, :1].norm(dim=-1)).max()))

    hooks = [layer.register_forward_hook(keep) for layer in geometry.layers(lm.model)]
    try:
        with replaced(lm.model, function):
            lm.model.base_model(ids.to(lm.model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {"distance": max(distances), "above": above, "checked": checked, "bound": sum(bounds) / len(bounds)}


# --- domains, lengths, blocks (Figures 3, 9, 19) -----------------------------------------------------------------


class ByLength:
    """Reducer: alpha of the first token for texts that end after each of ``lengths`` tokens, from one causal pass."""

    def __init__(self, lengths: list[int]):
        self.lengths, self._sums = lengths, {}

    def update(self, layer: int, start: int, probs: Tensor) -> None:
        column = probs[..., 0].float().cpu()  # (B, H, b)
        if start == 0:
            self._sums.setdefault(layer, []).append(column)
        else:
            self._sums[layer][-1] = torch.cat([self._sums[layer][-1], column], dim=-1)

    def result(self) -> Tensor:
        """(N, lengths, L, H)."""
        columns = torch.stack([torch.cat(self._sums[layer]) for layer in sorted(self._sums)], dim=1)
        return torch.stack([columns[..., :length].mean(dim=-1) for length in self.lengths], dim=1)


@torch.no_grad()
def run_domains(config: dict, work: Path, progress) -> dict:
    """Stored run: Sink_1 by domain and epsilon, by length, and by block, one row for each sample."""
    lm = load(config["model"], "cpu")
    jobs = {key: partial(domain, lm, key, config) for key in config["texts"]}
    return {"metrics": {"layers": lm.layers}, "curves": checkpointed(jobs, work, progress)}


def domain(lm: LM, key: str, config: dict) -> dict:
    """One text asset: ``by_epsilon`` (N, epsilons) at 64 tokens; ``by_length`` (N, lengths, epsilons) where asked."""
    lengths = config["lengths"] if key == config["lengths_of"] else [config["length"]]
    ids = natural(lm, key, config["samples"], max(lengths))
    found = ByLength(lengths)
    with observed(lm.model, found):
        for rows in ids.split(BATCH):
            lm.model.base_model(rows, use_cache=False)
    alpha = found.result()  # (N, lengths, L, H)
    rates = torch.stack([(alpha > epsilon).float().mean(dim=(2, 3)) for epsilon in config["epsilons"]], dim=-1)
    at = lengths.index(config["length"])
    return {
        "by_epsilon": rates[:, at].tolist(),
        "by_length": rates.tolist() if len(lengths) > 1 else [],
        "by_block": (alpha[:, at] > EPSILON).float().mean(dim=2).tolist(),
    }


# --- windows of a real model (Figure 6) --------------------------------------------------------------------------


class WindowFirst:
    """Reducer: mean attention of queries past ``window`` to the first key that they still see, (H,) for each layer."""

    def __init__(self, window: int):
        self.window, self._sums, self._count = window, {}, {}

    def update(self, layer: int, start: int, probs: Tensor) -> None:
        rows = torch.arange(start, start + probs.shape[2])
        past = rows >= self.window
        if past.any():
            columns = (rows - self.window + 1)[past].to(probs.device)
            at = columns.view(1, 1, -1, 1).expand(*probs.shape[:2], -1, 1)
            given = probs[:, :, past.to(probs.device)].gather(3, at)[..., 0]
            self._sums[layer] = self._sums.get(layer, 0) + given.sum(dim=(0, 2)).cpu()
            self._count[layer] = self._count.get(layer, 0) + given.shape[0] * given.shape[2]

    def result(self) -> Tensor:
        """(L, H)."""
        return torch.stack([self._sums[layer] / self._count[layer] for layer in sorted(self._sums)])


class FirstWhileVisible:
    """Reducer: mean attention to the first token of the queries before position ``window``, (B, H) for each layer."""

    def __init__(self, window: int):
        self.window, self._sums = window, {}

    def update(self, layer: int, start: int, probs: Tensor) -> None:
        near = probs[:, :, : max(0, self.window - start), 0].sum(dim=2).cpu()
        self._sums[layer] = self._sums.get(layer, 0) + near

    def result(self) -> Tensor:
        """(B, L, H)."""
        return torch.stack([self._sums[layer] / self.window for layer in sorted(self._sums)], dim=1)


@torch.no_grad()
def run_windows(config: dict, work: Path, progress) -> dict:
    """Stored run: who draws attention in the sliding layers, one row for each document."""
    lm = load(config["model"], "cpu")
    ids = natural(lm, config["text"], config["n_documents"], config["length"])
    jobs = {str(i): partial(windows, lm, row) for i, row in enumerate(ids)}
    rows = list(checkpointed(jobs, work, progress).values())
    return {"metrics": {"window": lm.model.config.sliding_window, "sliding": sliding(lm)}, "curves": {"rows": rows}}


def sliding(lm: LM) -> list[int]:
    """Layers that see a window only."""
    kinds = getattr(lm.model.config.get_text_config(), "layer_types", None) or []
    return [i for i, kind in enumerate(kinds) if kind == "sliding_attention"]


def windows(lm: LM, ids: Tensor) -> dict:
    """By sliding layer and head: attention to the first token while visible, and to each window's first token."""
    size = lm.model.config.get_text_config().sliding_window
    first, later = FirstWhileVisible(size), WindowFirst(size)
    with torch.no_grad(), observed(lm.model, first, later):
        lm.model.base_model(ids[None], use_cache=False)
    layers = sliding(lm)
    return {"first": first.result()[0][layers].tolist(), "window_first": later.result()[layers].tolist()}


# --- interventions -----------------------------------------------------------------------------------------------


@torch.no_grad()
def run_interventions(config: dict, work: Path, progress) -> dict:
    """Stored run: the loss when the first token's key and value are exchanged, emptied or removed, by document."""
    lm = load(config["model"], "cpu")
    ids = natural(lm, config["text"], config["n_documents"], config["length"])
    firsts = [first_of(lm, row) for row in ids]
    jobs = {str(i): partial(losses, lm, row, firsts, i, config["loss_from"]) for i, row in enumerate(ids)}
    return {"metrics": {}, "curves": {"documents": list(checkpointed(jobs, work, progress).values())}}


def first_of(lm: LM, ids: Tensor) -> dict[str, Tensor]:
    """The first token's "key" and "value" by layer, (L, H_kv, d) each, as they enter the attention."""
    found = {"key": [], "value": []}

    def function(module, query, key, value, mask, **options):
        found["key"].append(key[0, :, 0])
        found["value"].append(value[0, :, 0])
        return ordinary_attention(module, query, key, value, mask, **options)

    with replaced(lm.model, function):
        lm.model.base_model(ids[None], use_cache=False)
    return {kind: torch.stack(rows) for kind, rows in found.items()}


def losses(lm: LM, ids: Tensor, firsts: list[dict], at: int, loss_from: int) -> dict:
    """Mean loss of document ``at`` under each intervention, and how similar its first key and value are to others'."""
    mean = {
        kind: torch.stack([one[kind] for i, one in enumerate(firsts) if i != at]).mean(dim=0) for kind in firsts[at]
    }
    similar = {
        kind: torch.cosine_similarity(firsts[at][kind], mean[kind], dim=-1).mean(dim=1).tolist() for kind in mean
    }
    alpha = importance(lm, ids[None], keys=1)[0, :, :, 0]
    sinks = alpha > EPSILON
    everywhere = torch.ones_like(sinks)
    nothing = torch.zeros_like(mean["value"])
    plans = {
        "as it is": None,
        "exchanged in sink heads": Change(sinks, key=mean["key"], value=mean["value"]),
        "exchanged in all heads": Change(everywhere, key=mean["key"], value=mean["value"]),
        "no value in sink heads": Change(sinks, value=nothing),
        "no value in all heads": Change(everywhere, value=nothing),
        "no value of a later token": Change(sinks, value=nothing, token=len(ids) // 2),
        "removed in sink heads": Change(sinks, remove=True),
        "removed in all heads": Change(everywhere, remove=True),
    }
    found = {name: losses_under(lm, ids, plan) for name, plan in plans.items()}
    return {
        "sink_heads": float(sinks.float().mean()),
        "sink_heads_under": {name: plan.sink_heads() for name, plan in plans.items() if plan},
        "similar": similar,
        "loss": {name: float(loss[loss_from - 1 :].mean()) for name, loss in found.items()},
        "early": {name: float(loss[1 : loss_from - 1].mean()) for name, loss in found.items()},
    }


class Change:
    """What to do to one token in chosen heads (L, H): another key or value (L, H_kv, d), or removal from the softmax.

    Later queries alone meet the change: the token's own output stays as it is, or its state would change as well.
    """

    def __init__(self, heads: Tensor, key=None, value=None, remove: bool = False, token: int = 0):
        self.heads, self.key, self.value, self.remove, self.token = heads, key, value, remove, token
        self._alpha: dict[int, Tensor] = {}

    def sink_heads(self) -> float:
        """Share of heads with a sink on the first token, under the change, of the text read last."""
        return float((torch.stack(list(self._alpha.values())) > EPSILON).float().mean())

    def attention(self, module, query, key, value, mask, scaling=None, **options) -> tuple[Tensor, None]:
        """Attention function for `replaced`; key and value heads are spread over the query heads that share them."""
        groups, layer, at = query.shape[1] // key.shape[1], module.layer_idx, self.token
        chosen = self.heads[layer].nonzero()[:, 0]
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
        itself = causal_probs(query[:, :, at : at + 1], key[:, :, : at + 1], at, scaling, **options)
        own = itself @ value[:, :, : at + 1]
        if self.key is not None:
            key[:, chosen, at] = self.key[layer][chosen // groups]
        if self.value is not None:
            value[:, chosen, at] = self.value[layer][chosen // groups]
        probs = causal_probs(query, key, 0, scaling, **options)
        if self.remove:
            kept = probs[:, chosen].clone()
            kept[:, :, at + 1 :, at] = 0
            probs[:, chosen] = kept / kept.sum(dim=-1, keepdim=True)
        self._alpha[layer] = probs[0, :, :, 0].mean(dim=1)
        out = probs @ value
        out[:, :, at] = own[:, :, 0]
        return out.transpose(1, 2), None


def losses_under(lm: LM, ids: Tensor, change: Change | None) -> Tensor:
    """Loss in nats of each token but the first, (T - 1,)."""
    function: Callable = ordinary_attention if change is None else change.attention
    with replaced(lm.model, function):
        hidden = hidden_states(lm.model, ids[None])[0]
    return token_losses(lm.model, hidden[:-1], ids[1:])
