"""A fact in the middle of an article, asked for at its end: is it still held when nobody has looked at it?"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from claimbook.experiments.models import about
from claimbook.experiments.trim_kv import inputs, worth
from claimbook.experiments.trim_kv.pieces import Pieces, Place, assembled, model_of
from claimbook.experiments.trim_kv.rules import ORACLE, UNTRAINED, rule, stored_gates, training_text, untrained
from claimbook.lm import eviction
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, logits

OBJECTS = ("key", "map", "letter", "crown", "sword", "ring", "book", "coin", "lamp", "painting")
CITIES = ("Paris", "London", "Rome", "Berlin", "Madrid", "Vienna", "Tokyo", "Cairo", "Moscow", "Dublin")
FACT = " The golden {object} is hidden in {city}."
QUESTION = "\n\nQuestion: where is the golden {object} hidden?\nAnswer: the golden {object} is hidden in"
ATTENTION = ("h2o", "tova", "snapkv")


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
    by budget, one for each seed of the gates. ``cut_right``, ``cut_trim``: the haystack is read in full and cut down
    once, before the question. ``auc``, ``auc_trim``: chance that the fact's city ranks above another token of the
    haystack, the first four left out, before the question; ranks are averaged over layers and KV heads. "rarity": how
    rare a token is in training text. ``auc_asked``: after the question.
    """

    article: int
    depth: float
    full: bool
    right: dict[str, dict[str, bool]]
    trim: list[dict[str, bool]]
    cut_right: dict[str, dict[str, bool]]
    cut_trim: list[dict[str, bool]]
    auc: dict[str, float]
    auc_trim: list[float]
    auc_asked: dict[str, float]


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
    for m in config["budgets"]:
        for i, name in enumerate(config["gates"]):
            pieces["trim", i, str(m)] = partial(right, name, m)
            pieces["cut_trim", i, str(m)] = partial(right, name, m, cut=True)
        for name in (*config["rules"], ORACLE):
            pieces["right", name, str(m)] = partial(right, name, m)
        for name in config["cut_rules"]:
            pieces["cut_right", name, str(m)] = partial(right, name, m, cut=True)
    for place in ("auc", "auc_trim", "auc_asked"):
        pieces[place,] = partial(globals()[place], lm, found, ids, config)
    return pieces


def rows(pieces: dict[Place, list], config: dict) -> list[Row]:
    empty = {"trim": [], "cut_trim": [], "right": {}, "cut_right": {}, "auc": {}, "auc_trim": [], "auc_asked": {}}
    return [Row(**empty | assembled(pieces, i)) for i in range(len(pieces["full",]))]


@torch.no_grad()
def answered(
    lm: LM,
    needles: list[Needle],
    ids: Tensor,
    config: dict,
    name: str | None = None,
    budget: int = 0,
    cut: bool = False,
) -> list[bool]:
    """Which needles, ids (B, T), are answered right when the rule ``name`` evicts; None: nothing is evicted.

    From the first token on, the question included; ``cut``: the haystack is read whole, then cut down once.
    """
    answers = torch.tensor([one.answer for one in needles])
    if name is None:
        return (chosen(lm, ids) == answers).tolist()
    context = rule(lm, config, name, budget, ids.shape[1], told=partial(told, needles, ids))
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


# --- what each score knows of the fact, with nothing evicted ----------------------------------------------------------


def auc(lm: LM, needles: list[Needle], ids: Tensor, config: dict) -> list[dict[str, float]]:
    """Every score but the trained gates', just before the question."""
    last = needles[0].asked - 1
    hay = ids[:, : last + 1]
    scores = worth.scores(lm.model, hay, last + 1, last, last)
    scores |= worth.unread(scores["h2o"].shape, scores["h2o"])
    scores[UNTRAINED] = worth.log_beta(lm.model, untrained(lm, config), hay)
    count = torch.bincount(training_text(lm, config), minlength=int(ids.max()) + 1).to(ids.device)
    scores["rarity"] = -count[hay][None, :, None].double()
    return known(needles, scores)


def auc_trim(lm: LM, needles: list[Needle], ids: Tensor, config: dict) -> list[list[float]]:
    every = [stored_gates(lm, config, name) for name in config["gates"]]
    betas = worth.log_betas(lm.model, every, ids[:, : needles[0].asked])
    return [list(one.values()) for one in known(needles, dict(enumerate(betas)))]


def auc_asked(lm: LM, needles: list[Needle], ids: Tensor, config: dict) -> list[dict[str, float]]:
    last = ids.shape[1] - 1
    scores = worth.scores(lm.model, ids, needles[0].asked, last, last)
    return known(needles, {name: scores[name] for name in ATTENTION})


def known(needles: list[Needle], scores: dict) -> list[dict]:
    """By needle the AUC of each of the scores (L, B, K, T) of the haystack."""
    shape, device = (len(needles), needles[0].asked), next(iter(scores.values())).device
    positive = torch.zeros(shape, dtype=torch.bool, device=device)
    counted = ~positive
    positive[range(len(needles)), [one.at for one in needles]] = True
    counted[:, :4] = False
    found = {name: worth.pooled(one, positive, counted).tolist() for name, one in scores.items()}
    return [{name: values[i] for name, values in found.items()} for i in range(len(needles))]


EXPERIMENT = Pieces("needles", Row, units, rows, model=model_of, about=about)
run = EXPERIMENT.run
