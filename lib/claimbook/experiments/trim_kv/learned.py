"""What trained gates keep of an article, by layer and head: first token, newest, separators, secondary sinks."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial

import torch
from torch import Tensor

from claimbook.errors import ClaimbookError
from claimbook.experiments.models import about
from claimbook.experiments.secondary_sinks.measure.found import find
from claimbook.experiments.trim_kv import inputs, worth
from claimbook.experiments.trim_kv.pieces import Pieces, Place, assembled, model_of
from claimbook.experiments.trim_kv.rules import stored_gates, untrained
from claimbook.lm import eviction
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states
from claimbook.papers import trim_kv as method

SEPARATORS = (".", ",", ";", ":", "!", "?", "\n")
SHOWN = 6  # heads of the picture, evenly over layers and heads


@dataclass(frozen=True)
class Kept:
    """What is held at the end, each a list over layers and KV heads, layer by layer.

    ``first_kept``: 1 where the first token is held. ``recent``: the share of the held that is among the last M tokens.
    ``size``: the soft size S_T. Of older tokens, how many there are (``_n``) and how many are held (``_kept``):
    separators, all others, and secondary sinks (whether separators or not).
    """

    first_kept: list[int]
    recent: list[float]
    size: list[float]
    separator_kept: list[int]
    separator_n: list[int]
    other_kept: list[int]
    other_n: list[int]
    secondary_kept: list[int]
    secondary_n: list[int]


@dataclass(frozen=True)
class Row:
    """One article. ``gates``: one for each seed. ``picture``: of the first, its tokens and the beta of six heads."""

    document: int
    gates: list[Kept]
    untrained: Kept | None
    picture: dict


def units(lm: LM, config: dict) -> dict[Place, Callable[[], list]]:
    """What every set of gates keeps of all articles, by place in their rows."""
    ids = torch.stack(list(inputs.texts(lm, config).values()))
    kinds = cache(lambda: [kinds_of(lm, row, config["budget"]) for row in ids])
    there = ids.to(lm.model.device)

    def kept(name: str | None) -> list[dict]:
        gates = untrained(lm, config) if name is None else stored_gates(lm, config, name)
        return held(lm, there, gates, kinds(), config["budget"])

    pieces: dict[Place, Callable[[], list]] = {}
    for i, name in enumerate(config["gates"]):
        pieces["gates", i] = partial(kept, name)
    pieces["untrained",] = partial(kept, None)
    pieces["picture",] = lambda: pictures(lm, there, config)
    return pieces


def rows(pieces: dict[Place, list], config: dict) -> list[Row]:
    empty = {"gates": [], "untrained": None, "picture": {}}
    found = [empty | assembled(pieces, i) for i in range(len(next(iter(pieces.values()))))]
    return [
        Row(i, [Kept(**one) for one in row["gates"]], row["untrained"] and Kept(**row["untrained"]), row["picture"])
        for i, row in enumerate(found)
    ]


def kinds_of(lm: LM, ids: Tensor, budget: int) -> dict[str, Tensor]:
    """Tokens (T,) by kind, bool; all but "first" and "recent" are older than the last ``budget``."""
    length = len(ids)
    older = torch.arange(length) < length - budget
    older[0] = False
    separator = torch.tensor([lm.tokenizer.decode([one]).endswith(SEPARATORS) for one in ids.tolist()])
    secondary = torch.zeros_like(older)
    secondary[secondary_sinks(lm, ids)] = True
    return {
        "first": torch.arange(length) == 0,
        "recent": torch.arange(length) >= length - budget,
        "separator": older & separator,
        "other": older & ~separator,
        "secondary": older & secondary,
    }


def secondary_sinks(lm: LM, ids: Tensor) -> list[int]:
    """Places of the secondary sinks of ids (T,), as the chapter on them finds them; none where it refuses the model."""
    try:
        return [sink.token for sink in find(lm, ids, False).secondary()]
    except ClaimbookError:
        return []


@torch.no_grad()
def held(lm: LM, ids: Tensor, gates: method.Gates, kinds: list[dict[str, Tensor]], budget: int) -> list[dict]:
    """What a budget of tokens, kept by ``gates``, holds at the end of each of ids (B, T)."""
    with method.retention(lm.model, gates) as rule, eviction.masked(lm.model, rule, budget) as trace:
        hidden_states(lm.model, ids)
    stays = torch.stack([trace.gone[layer] for layer in sorted(trace.gone)]).cpu() == ids.shape[1]  # (L, B, K, T)
    sizes = method.retained(worth.log_beta(lm.model, gates, ids))[..., -1].cpu()
    return [asdict(_kept(stays[:, i], sizes[:, i], kind)) for i, kind in enumerate(kinds)]


def _kept(stays: Tensor, sizes: Tensor, kinds: dict[str, Tensor]) -> Kept:
    """stays (L, K, T), sizes (L, K)."""
    stays = stays.flatten(0, 1)
    counts = {name: (stays & kind).sum(dim=1).tolist() for name, kind in kinds.items()}
    older = {}
    for name in ("separator", "other", "secondary"):
        older |= {f"{name}_kept": counts[name], f"{name}_n": [int(kinds[name].sum())] * len(stays)}
    recent = [count / total for count, total in zip(counts["recent"], stays.sum(dim=1).tolist(), strict=True)]
    return Kept(first_kept=counts["first"], recent=recent, size=sizes.flatten().tolist(), **older)


def pictures(lm: LM, ids: Tensor, config: dict) -> list[dict]:
    """A picture of the first article; nothing of the others."""
    names = config["gates"]
    gates = stored_gates(lm, config, names[0]) if names else untrained(lm, config)
    return [picture(lm, ids[0], gates), *({} for _ in ids[1:])]


def picture(lm: LM, ids: Tensor, gates: method.Gates) -> dict:
    """Tokens as strings, and beta (T,) of six heads by name."""
    beta = worth.log_beta(lm.model, gates, ids[None])[:, 0].exp()
    layers, heads = beta.shape[:2]
    chosen = [round(i * (layers * heads - 1) / (SHOWN - 1)) for i in range(SHOWN)]
    return {
        "tokens": [lm.tokenizer.decode([one]) for one in ids.tolist()],
        "heads": {
            f"L{i // heads}H{i % heads}": [round(one, 4) for one in beta.flatten(0, 1)[i].tolist()] for i in chosen
        },
    }


EXPERIMENT = Pieces("documents", Row, units, rows, model=model_of, about=about)
run = EXPERIMENT.run
