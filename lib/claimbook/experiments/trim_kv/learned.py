"""What trained gates keep of an article, by layer and head: first token, newest, sentence ends, secondary sinks."""

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

ENDS = (".", "!", "?")
CLASSES = 20  # random classes of token ids, as frequent as sentence ends


@dataclass(frozen=True)
class Kept:
    """What is held at the end, each a list over layers and KV heads, layer by layer.

    ``first_kept``: 1 where the first token is held. ``recent``: the share of the held that is among the last M tokens.
    ``size``: the soft size S_T. Of older tokens, how many there are (``_n``) and how many are held (``_kept``):
    sentence ends (a token that ends in . ! ?), all others, and secondary sinks (of either kind).
    """

    first_kept: list[int]
    recent: list[float]
    size: list[float]
    period_kept: list[int]
    period_n: list[int]
    other_kept: list[int]
    other_n: list[int]
    secondary_kept: list[int]
    secondary_n: list[int]


@dataclass(frozen=True)
class Row:
    """One article. ``gates``: one for each seed.

    ``expected``, for each seed, over layers and heads: how many of the article's secondary sinks would be held if they
    were held as often as whatever stands at their places in the other articles; empty where there is one article only.
    ``classes``, of the first article only: sums over even [0] and odd [1] articles of older tokens: "n" [2][20] in
    each random class, "kept" [2][seeds][20][heads]
    of them, "all_n" [2], "all_kept" [2][seeds][heads].
    """

    document: int
    gates: list[Kept]
    untrained: Kept | None
    expected: list[list[float]]
    classes: dict


def units(lm: LM, config: dict) -> dict[Place, Callable[[], list]]:
    """What every set of gates keeps of all articles, by place in their rows."""
    ids = torch.stack(list(inputs.texts(lm, config).values()))
    budget, there, names = config["budget"], ids.to(lm.model.device), config["gates"]
    kinds = cache(lambda: [kinds_of(lm, row, budget) for row in ids])
    every = [*(stored_gates(lm, config, name) for name in names), untrained(lm, config)]
    stays = cache(lambda i: held(lm, there, every[i], budget))
    soft = cache(lambda: worth.soft_size(worth.log_betas(lm.model, every, there)).cpu())

    def kept(i: int) -> list[dict]:
        return [asdict(_kept(stays(i)[:, j], soft()[i, :, j], kind)) for j, kind in enumerate(kinds())]

    pieces: dict[Place, Callable[[], list]] = {("gates", i): partial(kept, i) for i in range(len(names))}
    pieces["untrained",] = partial(kept, len(names))
    if len(ids) > 1:
        marked = lambda: [kind["secondary"] for kind in kinds()]  # noqa: E731
        pieces |= {("expected", i): lambda i=i: by_place(stays(i), marked()) for i in range(len(names))}
    found = lambda: classes(lm, ids, [stays(i) for i in range(len(names))], budget)  # noqa: E731
    pieces["classes",] = lambda: [found(), *({} for _ in ids[1:])]
    return pieces


def rows(pieces: dict[Place, list], config: dict) -> list[Row]:
    found = [
        {"gates": [], "untrained": None, "expected": [], "classes": {}} | assembled(pieces, i)
        for i in range(config["n_texts"])
    ]
    for row in found:
        row["gates"] = [Kept(**one) for one in row["gates"]]
        row["untrained"] = row["untrained"] and Kept(**row["untrained"])
    return [Row(document=i, **row) for i, row in enumerate(found)]


def kinds_of(lm: LM, ids: Tensor, budget: int) -> dict[str, Tensor]:
    """Tokens (T,) by kind, bool; all but "first" and "recent" are older than the last ``budget``."""
    old, period = older(ids, budget), ends_sentence(lm, ids)
    secondary = torch.zeros_like(old)
    secondary[secondary_sinks(lm, ids)] = True
    steps = torch.arange(len(ids))
    return {
        "first": steps == 0,
        "recent": steps >= len(ids) - budget,
        "period": old & period,
        "other": old & ~period,
        "secondary": old & secondary,
    }


def older(ids: Tensor, budget: int) -> Tensor:
    """bool (T,): neither the first token nor among the last ``budget``."""
    steps = torch.arange(ids.shape[-1])
    return (steps > 0) & (steps < ids.shape[-1] - budget)


def ends_sentence(lm: LM, ids: Tensor) -> Tensor:
    return torch.tensor([lm.tokenizer.decode([one]).endswith(ENDS) for one in ids.tolist()])


def secondary_sinks(lm: LM, ids: Tensor) -> list[int]:
    """Places of the secondary sinks of ids (T,), as the chapter on them finds them; none where it refuses the model."""
    try:
        return [sink.token for sink in find(lm, ids, False).secondary()]
    except ClaimbookError:
        return []


@torch.no_grad()
def held(lm: LM, ids: Tensor, gates: method.Gates, budget: int) -> Tensor:
    """Which tokens of ids (B, T) are held at the end, when ``gates`` keep a budget of them: bool (L, B, K, T)."""
    with method.retention(lm.model, gates) as rule, eviction.masked(lm.model, rule, budget) as trace:
        hidden_states(lm.model, ids)
    return torch.stack([trace.gone[layer] for layer in sorted(trace.gone)]).cpu() == ids.shape[1]


def _kept(stays: Tensor, sizes: Tensor, kinds: dict[str, Tensor]) -> Kept:
    """stays (L, K, T), sizes (L, K)."""
    stays = stays.flatten(0, 1)
    counts = {name: (stays & kind).sum(dim=1).tolist() for name, kind in kinds.items()}
    old = {}
    for name in ("period", "other", "secondary"):
        old |= {f"{name}_kept": counts[name], f"{name}_n": [int(kinds[name].sum())] * len(stays)}
    share = [round(count / total, 6) for count, total in zip(counts["recent"], stays.sum(dim=1).tolist(), strict=True)]
    return Kept(
        first_kept=counts["first"], recent=share, size=[round(one, 4) for one in sizes.flatten().tolist()], **old
    )


def by_place(stays: Tensor, marked: list[Tensor]) -> list[list[float]]:
    """Of each article's marked tokens (T,), how many each head holds of what stands at their places in the others.

    stays (L, B, K, T), B at least 2; a mean over the other articles for each place, summed: over layers and heads.
    """
    others = (stays.sum(dim=1, keepdim=True) - stays.int()) / (stays.shape[1] - 1)
    found = [(others[:, j] * mark).sum(dim=-1).flatten() for j, mark in enumerate(marked)]
    return [[round(one, 4) for one in row.tolist()] for row in found]


def classes(lm: LM, ids: Tensor, stays: list[Tensor], budget: int) -> dict:
    """Random classes of token ids (B, T), and what of their older tokens is held, ``stays`` (L, B, K, T) by seed."""
    old = older(ids, budget)
    wanted = int(sum((ends_sentence(lm, row) & old).sum() for row in ids))
    members = random_classes(lm, ids[:, old], wanted)
    held_old = [one.transpose(1, 2).flatten(0, 1)[..., old] for one in stays]  # (heads, B, n)
    inside = torch.stack([torch.isin(ids[:, old], one) for one in members])  # (classes, B, n)
    halves = (slice(0, None, 2), slice(1, None, 2))
    return {
        "n": [inside[:, half].sum(dim=(1, 2)).tolist() for half in halves],
        "kept": [
            [[(one[:, half] & some[half]).sum(dim=(1, 2)).tolist() for some in inside] for one in held_old]
            for half in halves
        ],
        "all_n": [len(ids[half]) * int(old.sum()) for half in halves],
        "all_kept": [[one[:, half].sum(dim=(1, 2)).tolist() for one in held_old] for half in halves],
    }


def random_classes(lm: LM, ids: Tensor, wanted: int) -> list[Tensor]:
    """Classes of token ids, none of them a sentence end, drawn until each has about ``wanted`` tokens among ``ids``."""
    known, counts = ids.unique(return_counts=True)
    plain = ~ends_sentence(lm, known)
    known, counts = known[plain], counts[plain]
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(CLASSES):
        order = torch.randperm(len(known), generator=generator)
        enough = int((counts[order].cumsum(0) < wanted).sum()) + 1
        found.append(known[order[:enough]])
    return found


EXPERIMENT = Pieces("documents", Row, units, rows, model=model_of, about=about)
run = EXPERIMENT.run
