"""A fact in the middle of an article, asked for at its end: is it still held when nobody has looked at it?"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from claimbook.experiments.models import about
from claimbook.experiments.trim_kv import inputs, worth
from claimbook.experiments.trim_kv.pieces import Pieces, Place, assembled, model_of
from claimbook.experiments.trim_kv.rules import UNTRAINED, rule, stored_gates, untrained
from claimbook.lm import eviction
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, logits

OBJECTS = ("key", "map", "letter", "crown", "sword", "ring", "book", "coin", "lamp", "painting")
CITIES = ("Paris", "London", "Rome", "Berlin", "Madrid", "Vienna", "Tokyo", "Cairo", "Moscow", "Dublin")
FACT = " Remember this: the golden {object} is hidden in {city}."
QUESTION = "\n\nQuestion: where is the golden {object} hidden?\nAnswer: the golden {object} is hidden in"
ATTENTION = ("h2o", "tova", "snapkv")


@dataclass(frozen=True)
class Needle:
    """``ids`` (T,): article, fact, article, question. The fact's city is the token ``at``; ``asked``: first token of
    the question; ``answer``: the city's place in `CITIES`; ``depth``: where in the article the fact stands, 0 to 1."""

    ids: Tensor
    at: int
    asked: int
    answer: int
    depth: float


@dataclass(frozen=True)
class Row:
    """One needle: whether the right one of ten cities is the likeliest; see `worth.scores` for the scores of ``auc``.

    ``full``: with everything kept. ``right``: by rule and budget, ``trim``: by budget, one for each seed of the gates.
    ``auc``, ``auc_trim``: chance that the fact's city has a higher score than another token of the haystack, the first
    four left out, before the question; mean over layers and KV heads. ``auc_asked``: after the question.
    """

    depth: float
    full: bool
    right: dict[str, dict[str, bool]]
    trim: list[dict[str, bool]]
    auc: dict[str, float]
    auc_trim: list[float]
    auc_asked: dict[str, float]


def needles(lm: LM, config: dict) -> list[Needle]:
    """Needles in the config's articles, each in an article of its own or another part of one; all of one length."""
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
        start = 0 if i < len(haystacks) else int(drawn[2] * (len(article) - length))
        hay = article[start : start + length]
        place = 8 + int(drawn[3] * (length - 16))
        ids = torch.cat([hay[:place], fact, hay[place:], question])
        at = place + int((fact == cities[answer]).nonzero()[-1])
        found.append(Needle(ids, at, len(ids) - len(question), answer, drawn[3]))
    return found


def units(lm: LM, config: dict) -> dict[Place, Callable[[], list]]:
    """What is measured of all needles at once, by place in their rows."""
    found = needles(lm, config)
    ids = torch.stack([one.ids for one in found]).to(lm.model.device)
    answers = torch.tensor([one.answer for one in found])
    right = partial(answered, lm, ids, answers, config)
    pieces: dict[Place, Callable[[], list]] = {("depth",): lambda: [one.depth for one in found], ("full",): right}
    for budget in config["budgets"]:
        for i, name in enumerate(config["gates"]):
            pieces["trim", i, str(budget)] = partial(right, name, budget)
        for name in config["rules"]:
            pieces["right", name, str(budget)] = partial(right, name, budget)
    for i, name in enumerate(config["gates"]):
        pieces["auc_trim", i] = partial(gate_worths, lm, found, ids, config, name)
    pieces["auc",] = partial(worths, lm, found, ids, config, asked=False)
    pieces["auc_asked",] = partial(worths, lm, found, ids, config, asked=True)
    return pieces


def rows(pieces: dict[Place, list], config: dict) -> list[Row]:
    empty = {"right": {}, "trim": [], "auc": {}, "auc_trim": [], "auc_asked": {}}
    return [Row(**empty | assembled(pieces, i)) for i in range(len(pieces["full",]))]


@torch.no_grad()
def answered(
    lm: LM, ids: Tensor, answers: Tensor, config: dict, name: str | None = None, budget: int = 0
) -> list[bool]:
    """Which of ids (B, T) are answered right when the rule ``name`` evicts from the first token on; None: nothing."""
    if name is None:
        return (chosen(lm, ids) == answers).tolist()
    with rule(lm, config, name, budget) as one, eviction.masked(lm.model, one, budget):
        return (chosen(lm, ids) == answers).tolist()


def chosen(lm: LM, ids: Tensor) -> Tensor:
    """The likeliest of the ten cities (B,) after ids (B, T)."""
    cities = torch.tensor([lm.single(f" {city}") for city in CITIES], device=ids.device)
    return logits(lm.model, hidden_states(lm.model, ids)[:, -1])[:, cities].argmax(dim=1).cpu()


def worths(lm: LM, needles: list[Needle], ids: Tensor, config: dict, asked: bool) -> list[dict[str, float]]:
    """AUC of every score for each needle, before or after the question."""
    found = []
    for i, one in enumerate(needles):  # one at a time: all attention of a text is held
        row = ids[i : i + 1]
        last = len(one.ids) - 1 if asked else one.asked - 1
        scores = worth.scores(lm.model, row[:, : last + 1], one.asked, last, last)
        if asked:
            scores = {name: scores[name] for name in ATTENTION}
        else:
            scores |= worth.unread(scores["h2o"].shape, scores["h2o"])
            scores[UNTRAINED] = worth.log_beta(lm.model, untrained(lm, config), row)[..., : one.asked]
        found.append({name: one_sided([one], values)[0] for name, values in scores.items()})
    return found


def gate_worths(lm: LM, needles: list[Needle], ids: Tensor, config: dict, name: str) -> list[float]:
    return one_sided(needles, worth.log_beta(lm.model, stored_gates(lm, config, name), ids))


def one_sided(needles: list[Needle], scores: Tensor) -> list[float]:
    """AUC, mean over layers and heads, of the city of each needle against its haystack; scores (L, B, K, T)."""
    positive = torch.zeros(scores.shape[1], scores.shape[-1], dtype=torch.bool)
    counted = torch.zeros_like(positive)
    for i, one in enumerate(needles):
        positive[i, one.at] = True
        counted[i, 4 : one.asked] = True
    found = worth.auc(scores, positive.to(scores.device), counted.to(scores.device))
    return found.mean(dim=(0, 2)).tolist()


EXPERIMENT = Pieces("needles", Row, units, rows, model=model_of, about=about)
run = EXPERIMENT.run
