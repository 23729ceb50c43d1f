"""A fact in the middle of an article, asked for at its end: is it still held when nobody has looked at it?"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from claimbook.experiments.models import about
from claimbook.experiments.trim_kv import inputs, worth
from claimbook.experiments.trim_kv.pieces import Pieces, Place, assembled, model_of
from claimbook.experiments.trim_kv.rules import UNTRAINED, rule, stored_gates, training_text, untrained
from claimbook.lm import eviction
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, logits

OBJECTS = ("key", "map", "letter", "crown", "sword", "ring", "book", "coin", "lamp", "painting")
CITIES = ("Paris", "London", "Rome", "Berlin", "Madrid", "Vienna", "Tokyo", "Cairo", "Moscow", "Dublin")
FACT = " The golden {object} is hidden in {city}."
QUESTION = "\n\nQuestion: where is the golden {object} hidden?\nAnswer: the golden {object} is hidden in"
ATTENTION = ("h2o", "tova", "snapkv")
ORACLE = "oracle"


@dataclass(frozen=True)
class Needle:
    """``ids`` (T,): article, fact, article, question. The fact's city is the token ``at``; ``asked``: first token of
    the question; ``answer``: the city's place in `CITIES`; ``depth``: where in the haystack the fact
    stands, 0 to 1; ``fact``: its first token and the one after its last."""

    ids: Tensor
    at: int
    asked: int
    answer: int
    depth: float
    article: int
    fact: tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One needle in held-out article ``article``: whether the right one of ten cities is the likeliest.

    ``full``: with everything kept. ``right``: by rule and budget ("oracle" keeps the fact, then the newest); ``trim``:
    by budget, one for each seed of the gates; ``trim_printed``: with the ages of Algorithm 1. ``cut_right``,
    ``cut_trim``: the haystack is read in full and cut down once, before the question.
    ``auc``, ``auc_trim``: chance that the fact's city ranks above another token of the haystack, the first four left
    out, before the question; ranks are averaged over layers and KV heads. "rarity": how rare a token is in training
    text. ``auc_asked``: after the question. ``auc_heads``: by layer and head, "trim" by the first gates.
    """

    article: int
    depth: float
    full: bool
    right: dict[str, dict[str, bool]]
    trim: list[dict[str, bool]]
    trim_printed: list[dict[str, bool]]
    cut_right: dict[str, dict[str, bool]]
    cut_trim: list[dict[str, bool]]
    auc: dict[str, float]
    auc_trim: list[float]
    auc_asked: dict[str, float]
    auc_heads: dict[str, list[float]]


def needles(lm: LM, config: dict) -> list[Needle]:
    """Needles in held-out articles in turn, all of one length; ``least`` tokens of hay or more follow each fact."""
    haystacks = list(inputs.texts(lm, config | {"n_texts": config["n_articles"]}).values())
    cities = [lm.single(f" {city}") for city in CITIES]
    found = []
    for i in range(config["n_needles"]):
        generator = torch.Generator().manual_seed(config["seed"] * 1_000_003 + i)
        drawn = torch.rand(4, generator=generator).tolist()
        thing, answer = OBJECTS[int(10 * drawn[0])], int(10 * drawn[1])
        fact = lm.encode(FACT.format(object=thing, city=CITIES[answer]))
        question = lm.encode(QUESTION.format(object=thing))
        article = haystacks[i % len(haystacks)]
        length = config["tokens"] - len(fact) - len(question)
        start = int(drawn[2] * (len(article) - length))
        hay = article[start : start + length]
        place = 8 + int(drawn[3] * (length - config["least"] - 8))
        ids = torch.cat([hay[:place], fact, hay[place:], question])
        at = place + int((fact == cities[answer]).nonzero()[-1])
        span = (place, place + len(fact))
        found.append(Needle(ids, at, len(ids) - len(question), answer, place / length, i % len(haystacks), span))
    return found


def units(lm: LM, config: dict) -> dict[Place, Callable[[], list]]:
    """What is measured of all needles at once, by place in their rows."""
    found = needles(lm, config)
    ids = torch.stack([one.ids for one in found]).to(lm.model.device)
    right = partial(answered, lm, found, ids, config)
    pieces: dict[Place, Callable[[], list]] = {
        ("article",): lambda: [one.article for one in found],
        ("depth",): lambda: [one.depth for one in found],
        ("full",): right,
    }
    for budget in config["budgets"]:
        for i, name in enumerate(config["gates"]):
            pieces["trim", i, str(budget)] = partial(right, name, budget)
        for name in config["rules"]:
            pieces["right", name, str(budget)] = partial(right, name, budget)
    for budget in config["once_budgets"]:
        for i, name in enumerate(config["gates"]):
            pieces["trim_printed", i, str(budget)] = partial(right, name, budget, offset=0)
            pieces["cut_trim", i, str(budget)] = partial(right, name, budget, cut=True)
        for name in config["rules"]:
            pieces["cut_right", name, str(budget)] = partial(right, name, budget, cut=True)
    for i, name in enumerate(config["gates"]):
        pieces["auc_trim", i] = partial(gate_worths, lm, found, ids, config, name)
    pieces["auc",] = partial(worths, lm, found, ids, config, asked=False)
    pieces["auc_asked",] = partial(worths, lm, found, ids, config, asked=True)
    pieces["auc_heads",] = partial(by_head, lm, found, ids, config)
    return pieces


def rows(pieces: dict[Place, list], config: dict) -> list[Row]:
    lists = {"trim": [], "trim_printed": [], "cut_trim": [], "auc_trim": []}
    empty = lists | {"right": {}, "cut_right": {}, "auc": {}, "auc_asked": {}, "auc_heads": {}}
    return [Row(**empty | assembled(pieces, i)) for i in range(len(pieces["full",]))]


@torch.no_grad()
def answered(
    lm: LM,
    needles: list[Needle],
    ids: Tensor,
    config: dict,
    name: str | None = None,
    budget: int = 0,
    offset: int = 2,
    cut: bool = False,
) -> list[bool]:
    """Which needles, ids (B, T), are answered right when the rule ``name`` evicts; None: nothing is evicted.

    From the first token on, the question included; ``cut``: the haystack is read whole, then cut down once.
    """
    answers = torch.tensor([one.answer for one in needles])
    if name is None:
        return (chosen(lm, ids) == answers).tolist()
    facts = nullcontext(eviction.Given(eviction.fixed(told(needles, ids))))
    context = facts if name == ORACLE else rule(lm, config, name, budget, ids.shape[1], offset)
    (prompt,) = {one.asked for one in needles} if cut else {0}
    with context as one, eviction.masked(lm.model, one, budget, prompt=prompt):
        return (chosen(lm, ids) == answers).tolist()


def told(needles: list[Needle], ids: Tensor) -> Tensor:
    """Scores (B, T) of one who knows: the fact stays, then the newest."""
    scores = torch.arange(ids.shape[1], device=ids.device).double().repeat(len(ids), 1)
    for row, one in zip(scores, needles, strict=True):
        row[slice(*one.fact)] = torch.inf
    return scores


def chosen(lm: LM, ids: Tensor) -> Tensor:
    """The likeliest of the ten cities (B,) after ids (B, T)."""
    cities = torch.tensor([lm.single(f" {city}") for city in CITIES], device=ids.device)
    return logits(lm.model, hidden_states(lm.model, ids)[:, -1])[:, cities].argmax(dim=1).cpu()


def worths(lm: LM, needles: list[Needle], ids: Tensor, config: dict, asked: bool) -> list[dict[str, float]]:
    """AUC of every score for each needle, before or after the question."""
    count = torch.bincount(training_text(lm, config), minlength=int(ids.max()) + 1).to(ids.device)
    found = []
    for i, one in enumerate(needles):  # one at a time: all attention of a text is held
        row = ids[i : i + 1]
        scores = seen_by(lm, one, row, asked)
        if not asked:
            scores |= worth.unread(scores["h2o"].shape, scores["h2o"])
            scores[UNTRAINED] = worth.log_beta(lm.model, untrained(lm, config), row)[..., : one.asked]
            scores["rarity"] = -count[row[None, :, None, : one.asked]].double()
        found.append({name: float(worth.pooled(values, *marked(one, values))) for name, values in scores.items()})
    return found


def seen_by(lm: LM, needle: Needle, row: Tensor, asked: bool) -> dict[str, Tensor]:
    """Scores of the haystack, of row (1, T): after the question those of attention alone."""
    last = len(needle.ids) - 1 if asked else needle.asked - 1
    scores = worth.scores(lm.model, row[:, : last + 1], needle.asked, last, last)
    return {name: scores[name] for name in ATTENTION} if asked else scores


def gate_worths(lm: LM, needles: list[Needle], ids: Tensor, config: dict, name: str) -> list[float]:
    gates = stored_gates(lm, config, name)
    values = [
        worth.log_beta(lm.model, gates, row[None])[..., : one.asked] for one, row in zip(needles, ids, strict=True)
    ]
    return [float(worth.pooled(one, *marked(needle, one))) for needle, one in zip(needles, values, strict=True)]


def by_head(lm: LM, needles: list[Needle], ids: Tensor, config: dict) -> list[dict[str, list[float]]]:
    """AUC by layer and head for each needle, before the question, in two digits."""
    names, found = config["gates"][:1], []
    for one, row in zip(needles, ids, strict=True):
        scores = seen_by(lm, one, row[None], asked=False)
        scores = {name: scores[name] for name in ATTENTION}
        for name in names:
            scores["trim"] = worth.log_beta(lm.model, stored_gates(lm, config, name), row[None])[..., : one.asked]
        heads = {name: worth.auc(values, *marked(one, values)).flatten().tolist() for name, values in scores.items()}
        found.append({name: [round(value, 2) for value in values] for name, values in heads.items()})
    return found


def marked(needle: Needle, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Which tokens (1, T) are the fact's city, and which are counted."""
    positive = torch.zeros(1, scores.shape[-1], dtype=torch.bool, device=scores.device)
    counted = torch.zeros_like(positive)
    positive[0, needle.at] = True
    counted[0, 4 : needle.asked] = True
    return positive, counted


EXPERIMENT = Pieces("needles", Row, units, rows, model=model_of, about=about)
run = EXPERIMENT.run
