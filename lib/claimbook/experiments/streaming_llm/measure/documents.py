"""Whole documents under every cache scheme: Table 1, Table 2, Table 6 and Figure 3, with documents as the unit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.streaming_llm import inputs
from claimbook.lm import corpora
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, token_losses
from claimbook.papers.streaming_llm import Scheme, losses, recompute_losses

NEWLINES = "4 newlines"


@dataclass(frozen=True)
class Row:
    """One document; losses are means in nats over identical target positions.

    ``loss``: by scheme ("dense", the number of sinks, "4 newlines"), of the targets from 1.5 times the cache on.
    ``loss_by_size``: four sinks by cache, from 1.5 times the largest on; empty for a short text. ``recomputed``: at
    random targets, "recompute" and some schemes. ``eviction``: means of ``bin`` targets around the first eviction.
    ``before_eviction``: largest difference of window and streaming before it. ``continued_verbatim``: see `corpora`.
    """

    title: str
    loss: dict[str, float]
    loss_by_size: dict[str, float]
    recomputed: dict[str, float]
    eviction: dict[str, list[float]]
    before_eviction: float
    continued_verbatim: float


def units(lm: LM, config: dict) -> dict[str, tuple[corpora.Document, int]]:
    """Documents, each with the seed of its random targets."""
    found = inputs.documents(lm, config)
    return {title: (document, config["seed"] + i) for i, (title, document) in enumerate(found.items())}


def measure(lm: LM, unit: tuple[corpora.Document, int], config: dict) -> Row:
    """One document under dense attention, every sink count, newline sinks, every cache size, and recomputation."""
    (document, seed), cache = unit, config["cache"]
    ids = document.ids
    schemes = {str(s): Scheme(s, cache - s) for s in config["sinks"]}
    curves = {"dense": dense_losses(lm, ids)}
    curves |= {name: losses(lm.model, ids, scheme).cpu() for name, scheme in schemes.items()}
    curves[NEWLINES] = losses(lm.model, with_newlines(lm, ids, 4), Scheme(4, cache - 4)).cpu()
    sizes = {str(size): losses(lm.model, ids, Scheme(4, size - 4)).cpu() for size in config["sizes"] if size != cache}
    sizes |= {str(cache): curves["4"]} if sizes else {}

    first, late = 3 * cache // 2, 3 * max([cache, *config["sizes"]]) // 2
    targets = recompute_targets(first, len(ids), config["n_recompute"], seed)
    again = recompute_losses(lm.model, ids, targets, cache + 1, start=lm.start).cpu()
    compared = {name: curves[name] for name in ("dense", "0", "4")}
    return Row(
        title=document.title,
        loss={name: mean_from(curve, first) for name, curve in curves.items()},
        loss_by_size={size: mean_from(curve, late) for size, curve in sizes.items()} if late < len(ids) else {},
        recomputed={"recompute": float(again.mean())}
        | {name: float(curve[targets - 1].mean()) for name, curve in compared.items()},
        eviction={name: binned(curve, cache, config["bin"]) for name, curve in compared.items()},
        before_eviction=largest_gap(curves["0"], curves["4"], cache),
        continued_verbatim=corpora.continued_verbatim(lm, ids),
    )


def dense_losses(lm: LM, ids: Tensor) -> Tensor:
    """Loss (T - 1,) in nats of each token but the first under full causal attention."""
    with torch.no_grad():
        part = ids.to(lm.model.device)
        return token_losses(lm.model, hidden_states(lm.model, part[None])[0, :-1], part[1:]).cpu()


def with_newlines(lm: LM, ids: Tensor, count: int, start: int = 0) -> Tensor:
    """The same text with its first ``count`` tokens replaced by newlines (Table 1, last row), but for ``start``."""
    return torch.cat([ids[:start], torch.full((count - start,), lm.single("\n")), ids[count:]])


def recompute_targets(first: int, length: int, count: int, seed: int) -> Tensor:
    """``count`` random target positions in [first, length), sorted."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randperm(length - first, generator=generator)[:count] + first).sort().values


def mean_from(curve: Tensor, first: int) -> float:
    """Mean loss of the targets at text positions ``first`` and later; curve (T - 1,) starts at position 1."""
    return float(curve[first - 1 :].mean())


def binned(curve: Tensor, cache: int, width: int, reach: int = 6) -> list[float]:
    """Mean losses in ``2 * reach`` bins of ``width`` targets, the middle edge where the first token is evicted.

    The query at position ``cache`` is the last that sees everything; the first affected target is ``cache + 2``.
    """
    start = cache + 2 - reach * width
    part = curve[start - 1 : start - 1 + 2 * reach * width]
    return part.view(2 * reach, width).mean(dim=1).tolist()


def largest_gap(a: Tensor, b: Tensor, cache: int) -> float:
    """Largest difference in nats before anything is evicted: window and streaming must be the same until then."""
    return float((a[:cache] - b[:cache]).abs().max())


EXPERIMENT = ModelExperiment("documents", Row, units, measure)
run = EXPERIMENT.run
