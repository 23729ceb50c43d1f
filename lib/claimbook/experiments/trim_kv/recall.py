"""Delayed recall under every rule and budget: a row for each base, put together from what was measured one by one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import torch
from torch import Tensor

from claimbook.experiments.trim_kv import delayed_recall as toy
from claimbook.experiments.trim_kv import worth
from claimbook.experiments.trim_kv.pieces import Pieces, Place, artefact, assembled, heuristics
from claimbook.experiments.trim_kv.rules import ORACLE, POSITION, UNTRAINED, asked
from claimbook.lm import eviction
from claimbook.papers import trim_kv as method

TRIM = "trim"
RULES = (*heuristics(8), ORACLE)
ATTENTION = ("h2o", "tova", "snapkv")
GENERAL, NARROW, UNSEEN = "general", "narrow", "held out"


@dataclass(frozen=True)
class Row:
    """One base. Accuracies are shares of six answers a text; budgets and lengths are keys, "16"; lists are over seeds
    of the gates.

    ``full``: with everything kept. ``rules``: by rule and budget; "oracle" keeps the pair tokens, "untrained" are the
    gates of seed 0 as initialised, "position" keeps by the mean log beta of trained gates at each position, whatever
    the token. ``auc``, ``auc_trim``: chance that a pair token ranks above noise just before the first question, ranks
    averaged over layers and heads, mean over texts; ``auc_asked``: after the last question. ``ablations``: by arm.
    ``longer``: by length, on the same texts for all rules. ``transfer``: on noise that neither gates had seen.
    """

    base: int
    full: float
    rules: dict[str, dict[str, float]]
    trim: list[dict[str, float]]
    auc: dict[str, float] = field(default_factory=dict)
    auc_trim: list[float] = field(default_factory=list)
    auc_asked: dict[str, float] = field(default_factory=dict)
    ablations: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    longer: dict[str, dict] = field(default_factory=dict)
    transfer: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A stored base and the gates that were trained on it, by arm and seed."""

    model: torch.nn.Module
    tensors: dict[str, Tensor]

    def gates(self, arm: str, seed: int) -> method.Gates:
        return toy.gates_of(self.model, self.tensors, arm, seed)

    def whole(self, config: dict) -> list[method.Gates]:
        """Those trained as the method has it, by seed."""
        return [self.gates(toy.WHOLE, seed) for seed in range(config["seeds"])]

    def untrained(self) -> method.Gates:
        return method.gates_for(self.model, toy.ARMS[toy.WHOLE].width, toy.ARMS[toy.WHOLE].bias, 0)

    def texts(
        self, config: dict, length: int | None = None, count: int | None = None, noise: str = "all"
    ) -> tuple[Tensor, Tensor]:
        """Ids and targets of the texts that are measured, the same for every rule."""
        ids, targets = toy.sample(count or config["n_texts"], toy.EVALUATION, length or config["length"], noise)
        return ids.to(self.model.device), targets.to(self.model.device)


def subject(config: dict) -> Subject:
    seed = config["base"]
    return Subject(toy.base(seed), artefact(f"toy_gates_{seed}"))


# --- what is measured, by its place in the row ------------------------------------------------------------------------


def units(subject: Subject, config: dict) -> dict[Place, Callable[[], object]]:
    """Everything of a row by its place in it."""
    return dict(_units(subject, config))


def _units(subject: Subject, config: dict) -> Iterator[tuple[Place, Callable[[], object]]]:
    accurate, seeds = partial(accuracy, subject, config), range(config["seeds"])
    budgets, few = config["budgets"], config["transfer_budgets"]
    yield ("full",), partial(accurate, None)
    for m, g in product(budgets, seeds):
        yield ("trim", g, str(m)), partial(accurate, TRIM, m, gates=(toy.WHOLE, g))
    for m, rule in product(budgets, (*RULES, UNTRAINED, POSITION)):
        yield ("rules", rule, str(m)), partial(accurate, rule, m)
    for place in ("auc", "auc_trim", "auc_asked"):
        yield (place,), partial(globals()[place], subject, config)
    arms = [arm for arm in config["arms"] if arm not in (toy.WHOLE, GENERAL, NARROW)]
    for arm, m in product(arms, config["arm_budgets"]):
        for g in range(toy.seeds_of(arm, config)):
            yield ("ablations", arm, g, str(m)), partial(accurate, TRIM, m, gates=(arm, g))
    for length in config["lengths"]:
        longer = partial(accurate, length=length, count=config["n_long"])
        yield ("longer", str(length), "full"), partial(longer, None)
        for m, g in product(config["long_budgets"], seeds):
            yield ("longer", str(length), "trim", g, str(m)), partial(longer, TRIM, m, gates=(toy.WHOLE, g))
        for m, rule in product(config["long_budgets"], RULES):
            yield ("longer", str(length), "rules", rule, str(m)), partial(longer, rule, m)
    unseen = partial(accurate, noise=UNSEEN)
    yield ("transfer", "full"), partial(unseen, None)
    for arm, m, g in product((GENERAL, NARROW), few, range(config["n_seeds"])):
        yield ("transfer", arm, g, str(m)), partial(unseen, TRIM, m, gates=(arm, g))
    for m, rule in product(few, (*RULES, UNTRAINED, POSITION)):
        yield ("transfer", "rules", rule, str(m)), partial(unseen, rule, m)


@torch.no_grad()
def accuracy(
    subject: Subject,
    config: dict,
    rule: str | None,
    budget: int = 0,
    gates: tuple[str, int] = (toy.WHOLE, 0),
    length: int | None = None,
    count: int | None = None,
    noise: str = "all",
) -> float:
    """Share of answers that are right when ``rule`` keeps ``budget`` tokens; None: all are kept."""
    ids, targets = subject.texts(config, length, count, noise)
    if rule is None:
        return float(toy.right(subject.model, ids, targets).double().mean()) / toy.PAIRS
    own = subject.untrained if rule == UNTRAINED else partial(subject.gates, *gates)
    position = partial(by_position, subject, config, ids.shape[1])
    context = asked(subject.model, rule, budget, own, position, partial(pairs_first, ids))
    with context as one, eviction.masked(subject.model, one, budget):
        return float(toy.right(subject.model, ids, targets).double().mean()) / toy.PAIRS


def pairs_first(ids: Tensor) -> Tensor:
    """Scores (B, T) of one who knows: pair tokens stay, then the newest."""
    return torch.arange(ids.shape[1], device=ids.device).double().masked_fill(toy.is_pair(ids), torch.inf)


def by_position(subject: Subject, config: dict, length: int) -> Tensor:
    """Of texts that are not measured; see `worth.by_position`."""
    ids = toy.sample(64, toy.EVALUATION + 1, length)[0].to(subject.model.device)
    return worth.by_position(subject.model, subject.whole(config), ids)


# --- which score tells what will be needed ----------------------------------------------------------------------------


def before(subject: Subject, config: dict) -> tuple[Tensor, int, Tensor, Tensor]:
    """Texts, how many of their tokens come before the first question, and which of these are pairs, and count."""
    ids, _ = subject.texts(config)
    reach = config["length"] - toy.ASKED
    needed = toy.is_pair(ids[:, :reach])
    counted = torch.ones_like(needed)
    counted[:, 0] = False  # BOS
    return ids, reach, needed, counted


def auc(subject: Subject, config: dict) -> dict[str, float]:
    ids, reach, needed, counted = before(subject, config)
    found = worth.scores(subject.model, ids, reach, reach - 1, reach - 1)
    found |= worth.unread(found["h2o"].shape, found["h2o"])
    found[UNTRAINED] = worth.log_beta(subject.model, subject.untrained(), ids)[..., :reach]
    found[POSITION] = by_position(subject, config, config["length"])[..., :reach].expand_as(found["h2o"])
    return {name: float(worth.pooled(one, needed, counted).mean()) for name, one in found.items()}


def auc_trim(subject: Subject, config: dict) -> list[float]:
    ids, reach, needed, counted = before(subject, config)
    betas = worth.log_betas(subject.model, subject.whole(config), ids)[..., :reach]
    return [float(worth.pooled(one, needed, counted).mean()) for one in betas]


def auc_asked(subject: Subject, config: dict) -> dict[str, float]:
    """The same of attention when all has been asked; "tova": the mean over the rows of the six questions."""
    ids, reach, needed, counted = before(subject, config)
    found = worth.scores(subject.model, ids, reach, reach, config["length"] - 2)
    return {name: float(worth.pooled(found[name], needed, counted).mean()) for name in ATTENTION}


def rows(pieces: dict[Place, object], config: dict) -> list[Row]:
    """The one row of a base."""
    return [Row(base=config["base"], **{"rules": {}, "trim": []} | assembled(pieces))]


EXPERIMENT = Pieces("bases", Row, units, rows, model=subject)
run = EXPERIMENT.run
