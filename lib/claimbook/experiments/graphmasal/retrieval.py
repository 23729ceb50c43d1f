"""Finding the topic that a text is about, in two stages: a dual encoder, a listwise reranker, calibrated fusion.

The abstract names the stages; losses, calibration and what a card holds are our reading (reconstructed). A query is
what the library says of one theorem, the card to find is its section's: name, description, names of its prerequisites.
So that no query gives its section away, the words of its headings are taken out of it, and a query that repeats six
words of its card is left out. Training, validation and test have sections of their own; all cards stand to be found.
"""

import copy
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from rank_bm25 import BM25Okapi
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from claimbook.assets import catalogue
from claimbook.experiments.graphmasal import topics
from claimbook.experiments.units import Experiment
from claimbook.lm.load import pick_device
from claimbook.metrics.retrieval import rank_of

SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}  # of the sections
REPEATED = 6  # words in a row that a query may not share with its card
LEAST_WORDS = 6  # of a query, when its headings' words are out
LONGEST = 128  # tokens that the dual encoder reads, as it was trained
TOKENS = {"query": 32, "card": 96}
# An unofficial re-implementation fuses by these weights, nothing fitted: similarity, structure, second stage.
FIXED = (0.45, 0.10, 0.20)


@dataclass(frozen=True)
class Row:
    """One training of the reranker: place of the right card for each test query (Q,), by stage; 1 is first.

    ``sections``: ids of the right cards, (Q,). ``ranks``: {stage: (Q,)} among all cards; the later stages put the dual
    encoder's best in a new order and leave the others behind them. ``stated``, ``right``: {stage: (Q,)}, the
    probability that a stage states for the card it puts first, and whether that card is right. ``brier``: {stage:
    (Q,)}, mean squared error of what it states of the cards it orders. ``base``: share of such cards that are right on
    validation, which is what one who knows nothing would state of each.
    """

    sections: list[str]
    ranks: dict[str, list[int]]
    stated: dict[str, list[float]]
    right: dict[str, list[bool]]
    brier: dict[str, list[float]]
    base: float


# --- queries and cards ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query:
    """``text`` without the words of its headings, ``whole`` with them; ``card``: the number of its section."""

    text: str
    whole: str
    card: int


def words(text: str) -> list[str]:
    """Words in small letters, a plural's s taken off."""
    return [word.rstrip("s") or word for word in re.findall(r"[a-z0-9]+", text.lower())]


def stripped(text: str, headings: str) -> str:
    """A text without the words of its headings."""
    own = set(words(headings))
    return " ".join(part for part in text.split() if not own & set(words(part)))


def repeats(text: str, card: str, run: int = REPEATED) -> bool:
    """Whether a text and a card share ``run`` words in a row."""

    def runs(of: list[str]) -> set[tuple[str, ...]]:
        return {tuple(of[i : i + run]) for i in range(len(of) - run + 1)}

    return bool(runs(words(text)) & runs(words(card)))


def cards(course: topics.Course, grounded: bool = True) -> list[str]:
    """What is searched: name and description of each topic and, ``grounded`` in the graph, names of prerequisites.

    These stand before the description, so that no encoder's limit cuts them off.
    """
    needs = [", ".join(course.names[u] for u in parents) for parents in course.graph.parents]
    heads = [
        f"{name}. Needs: {n}." if grounded and n else f"{name}." for name, n in zip(course.names, needs, strict=True)
    ]
    return [f"{head} {text}" for head, text in zip(heads, course.descriptions, strict=True)]


def queries(course: topics.Course, broad: topics.Course, seed: int) -> dict[str, list[Query]]:
    """Queries by split, none of whose sections is in another; ``broad``: the topics above the sections."""
    numbers, above = ({topic: i for i, topic in enumerate(of.ids)} for of in (course, broad))
    mixed = np.random.default_rng(seed).permutation(len(course.ids))
    ends = np.round(np.cumsum(list(SHARES.values())) * len(mixed)).astype(int)
    split = {int(v): name for name, part in zip(SHARES, np.split(mixed, ends[:-1]), strict=True) for v in part}
    plain, found = cards(course, grounded=False), {name: [] for name in SHARES}
    for row in topics.comments():
        v = numbers[row["section"]]
        text = stripped(row["comment"], f"{course.names[v]} {broad.names[above[row['topic']]]}")
        if len(text.split()) >= LEAST_WORDS and not repeats(row["comment"], plain[v]):
            found[split[v]].append(Query(text, row["comment"], v))
    return found


def spread(found: list[Query], count: int, seed: int) -> list[Query]:
    """At most ``count`` queries, from as many sections as there are: a second of one only when all have a first."""
    seen, turn = Counter(), []
    for i in np.random.default_rng(seed).permutation(len(found)):
        turn.append((seen[found[i].card], len(turn), found[i]))
        seen[found[i].card] += 1
    return [query for *_, query in sorted(turn, key=lambda one: one[:2])[:count]]


# --- first stage ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoder:
    """A sentence encoder and its tokenizer."""

    model: nn.Module
    tokenizer: object

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @classmethod
    def load(cls, name: str, trained: bool = True, seed: int = 0) -> "Encoder":
        """``name``: a key of the catalogue or a local folder; not ``trained``: the same with random weights."""
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        folder = catalogue.get(name) if name in catalogue.load_catalogue() else name
        options = {"local_files_only": True, "trust_remote_code": False}
        model = AutoModel.from_pretrained(folder, dtype=torch.float32, **options).eval()
        if not trained:
            torch.manual_seed(seed)
            model = AutoModel.from_config(model.config).eval()
        return cls(model.requires_grad_(False).to(pick_device()), AutoTokenizer.from_pretrained(folder, **options))

    @torch.no_grad()
    def vectors(self, texts: list[str], batch: int = 32) -> np.ndarray:
        """Means over the tokens of each text, (N, D), each of length 1."""
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
        found = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for i in range(0, len(texts), batch):
            at = by_length[i : i + batch]
            part = [texts[j] for j in at]
            read = self.tokenizer(part, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
            read = {name: ids.to(self.device) for name, ids in read.items()}
            mask = read["attention_mask"][..., None]
            hidden = self.model(**read).last_hidden_state * mask
            found[at] = nn.functional.normalize(hidden.sum(1) / mask.sum(1), dim=1).cpu().numpy()
        return found


# --- second stage -----------------------------------------------------------------------------------------------------


def listnet(scores: Tensor, relevant: Tensor) -> Tensor:
    """ListNet's loss of a list (k,): cross entropy of the softmax of scores to the share of relevance of each card.

    Cao et al. (2007), Equation 7, top one; ``relevant`` (k,) of 0 and 1, not all 0.
    """
    return -(relevant / relevant.sum() * scores.log_softmax(dim=0)).sum()


class Reranker(nn.Module):
    """A cross-encoder made of a sentence encoder: its last ``joint`` layers read a query and a card together.

    The layers below read each alone, once, and are not trained (MacAvaney et al. 2020, PreTTR); with all layers joint
    it is the usual cross-encoder. A new linear head reads the score off the query's first token.
    """

    def __init__(self, encoder: Encoder, joint: int, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        layers = encoder.model.encoder.layer
        self.tokenizer, self.below = encoder.tokenizer, (encoder.model.embeddings, layers[: len(layers) - joint])
        self.joint = nn.ModuleList(copy.deepcopy(layers[len(layers) - joint :])).requires_grad_(True)
        self.head = nn.Linear(encoder.model.config.hidden_size, 1).to(encoder.device)

    @torch.no_grad()
    def read(self, texts: list[str], kind: str, batch: int = 64) -> tuple[Tensor, Tensor]:
        """What the lower layers make of queries or cards, (N, T, D), and which places hold a token, (N, T)."""
        options = {"padding": "max_length", "truncation": True, "max_length": TOKENS[kind], "return_tensors": "pt"}
        ids, there = (
            self.tokenizer(texts, **options)[name].to(self.head.weight.device)
            for name in ("input_ids", "attention_mask")
        )
        embeddings, layers = self.below
        found = []
        for part, mask in zip(ids.split(batch), there.bool().split(batch), strict=True):
            hidden = embeddings(input_ids=part, token_type_ids=torch.full_like(part, int(kind == "card")))
            for layer in layers:
                hidden = _through(layer, hidden, mask)
            found.append(hidden)
        return torch.cat(found), there.bool()

    def forward(self, query: tuple[Tensor, Tensor], card: tuple[Tensor, Tensor]) -> Tensor:
        """Scores (B, k) of queries, read as (B, T, D) and (B, T), with k cards each, (B, k, U, D) and (B, k, U)."""
        hidden, mask = (
            torch.cat([one[:, None].expand(*many.shape[:2], *one.shape[1:]), many], dim=2).flatten(0, 1)
            for one, many in zip(query, card, strict=True)
        )
        for layer in self.joint[:-1]:
            hidden = _through(layer, hidden, mask)
        return self.head(_first(self.joint[-1], hidden, mask)).view(card[1].shape[:2])


def _through(layer: nn.Module, hidden: Tensor, mask: Tensor) -> Tensor:
    """One layer of a BERT over (N, T, D), where ``mask`` (N, T) holds."""
    found = layer(hidden, attention_mask=mask[:, None, None, :])
    return found[0] if isinstance(found, tuple) else found


def _first(layer: nn.Module, hidden: Tensor, mask: Tensor) -> Tensor:
    """What a layer makes of the first token alone, (N, D): no other one is read after the last layer."""
    own, first = layer.attention.self, hidden[:, :1]
    heads = (len(hidden), -1, own.num_attention_heads, own.attention_head_size)
    q, k, v = (
        part(of).view(heads).transpose(1, 2)
        for part, of in ((own.query, first), (own.key, hidden), (own.value, hidden))
    )
    seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
    first = layer.attention.output(seen.transpose(1, 2).flatten(2), first)
    return layer.output(layer.intermediate(first), first)[:, 0]


# --- both -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """Cards, with what the graph says and ``plain``, and queries by split; and what no training changes.

    ``scores``: (Q, N) of first stages, by split and stage. ``below``: what the reranker's lower layers make of the
    queries by split, and of the cards of "dual" and "no graph". ``degree``: (N,) log of 1 + the topics that need it.
    """

    ids: tuple[str, ...]
    cards: list[str]
    plain: list[str]
    degree: np.ndarray
    queries: dict[str, list[Query]]
    scores: dict[str, dict[str, np.ndarray]]
    encoder: Encoder
    below: dict[str, tuple[Tensor, Tensor]]


def library(config: dict) -> Library:
    """Read the cards, draw the queries, and let every first stage score them."""
    course, broad = topics.load("sections"), topics.load("topics")
    asked = {
        name: spread(found, config["n_queries"][name], config["seed"])
        for name, found in queries(course, broad, config["seed"]).items()
    }
    encoder, whole, plain = Encoder.load(config["model"]), cards(course), cards(course, grounded=False)
    untrained = Encoder.load(config["model"], trained=False, seed=config["seed"])
    by_words = BM25Okapi([words(card) for card in whole])
    dual, no_graph, nothing = encoder.vectors(whole), encoder.vectors(plain), untrained.vectors(whole)
    scores = {}
    for name, found in asked.items():  # the test is the last
        texts = [query.text for query in found]
        read = encoder.vectors(texts)
        scores[name] = {"dual": read @ dual.T, "no graph": read @ no_graph.T}
    scores["test"] |= {
        "bm25": np.array([by_words.get_scores(words(text)) for text in texts]),
        "untrained": untrained.vectors(texts) @ nothing.T,
        "not stripped": encoder.vectors([query.whole for query in found]) @ dual.T,
    }
    lower = Reranker(encoder, config["joint"], seed=0)
    below = {name: lower.read([query.text for query in found], "query") for name, found in asked.items()}
    below |= {"dual": lower.read(whole, "card"), "no graph": lower.read(plain, "card")}
    degree = np.log1p([len(children) for children in course.graph.children])
    return Library(course.ids, whole, plain, degree, asked, scores, encoder, below)


def trainings(of: Library, config: dict) -> dict[str, int]:
    """Numbers of the trainings of the reranker."""
    return {f"training {i}": i for i in range(config["n_seeds"])}


def measure(of: Library, seed: int, config: dict) -> Row:
    """One training of the reranker, with the graph and without, fusions fitted on validation, all stages on test."""
    whole, plain = (
        Side(of, Reranker(of.encoder, config["joint"], seed), config["k"], graph) for graph in (True, False)
    )
    fresh = whole.second("test")
    for side in (whole, plain):
        _train(side, config, seed)
    stated = whole.stated()
    (best, truth), rng = whole.lists("test"), np.random.default_rng(seed)
    order = {"fresh": fresh, "rerank": stated["raw"], "best": truth} | {
        name: stated[name] for name in ("fixed", "fused")
    }
    ranks = {stage: _places(of, scores) for stage, scores in of.scores["test"].items()}
    ranks["random"] = [int(place) for place in rng.integers(1, len(of.ids) + 1, len(truth))]
    ranks |= {stage: _reordered(of, "dual", best, scores) for stage, scores in order.items()}
    ranks["fused, no graph"] = _reordered(of, "no graph", plain.lists("test")[0], plain.stated()["fused"])
    base = float(whole.lists("validation")[1].mean())
    return Row(
        sections=[of.ids[query.card] for query in of.queries["test"]],
        ranks=ranks,
        stated={stage: p.max(axis=1).tolist() for stage, p in stated.items()},
        right={
            stage: np.take_along_axis(truth, p.argmax(axis=1)[:, None], axis=1)[:, 0].tolist()
            for stage, p in stated.items()
        },
        brier={stage: ((p - truth) ** 2).mean(axis=1).tolist() for stage, p in (stated | {"base": base}).items()},
        base=base,
    )


class Side:
    """Both stages over cards with what the graph says, or without: the second puts the first's best in order."""

    def __init__(self, of: Library, reranker: Reranker, k: int, graph: bool):
        self.of, self.reranker, self.k, self.graph = of, reranker, k, graph
        self.first = "dual" if graph else "no graph"

    def lists(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The cards that the first stage puts first, (Q, k), and which of them are right."""
        best = np.argsort(-self.of.scores[split][self.first], axis=1, kind="stable")[:, : self.k]
        return best, best == _right(self.of, split)[:, None]

    def score(self, split: str, rows: np.ndarray, at: np.ndarray) -> Tensor:
        """The second stage's scores (B, k) of some queries, ``rows`` (B,), with cards (B, k)."""
        return self.reranker(
            tuple(one[rows] for one in self.of.below[split]), tuple(one[at] for one in self.of.below[self.first])
        )

    @torch.no_grad()
    def second(self, split: str) -> np.ndarray:
        """The second stage's scores (Q, k) of the first stage's best."""
        best = self.lists(split)[0]
        return torch.cat([self.score(split, [i], best[[i]]) for i in range(len(best))]).double().cpu().numpy()

    def stated(self) -> dict[str, np.ndarray]:
        """Probabilities (Q, k) by stage on test; "dual", "rerank" and "fused" are fitted on validation."""
        seen, new = (self._features(split) for split in ("validation", "test"))
        fits = {"dual": [0], "rerank": [1], "fused": [0, 1, 2] if self.graph else [0, 1]}
        found = {
            stage: calibrated(seen[..., at], self.lists("validation")[1], new[..., at]) for stage, at in fits.items()
        }
        cosine, second, structure = np.moveaxis(new, 2, 0)
        found["fixed"] = np.clip(np.stack([cosine, structure, expit(second)], axis=2) @ FIXED, 0, 1)
        return found | {"raw": softmax(second, axis=1)}  # as ListNet reads its scores

    def _features(self, split: str) -> np.ndarray:
        """(Q, k, 3): cosine, the second stage's score, and structure, which is how many topics need this one."""
        best = self.lists(split)[0]
        cosine = np.take_along_axis(self.of.scores[split][self.first], best, axis=1)
        return np.stack([cosine, self.second(split), self.of.degree[best] / self.of.degree.max()], axis=2)


def calibrated(seen: np.ndarray, truth: np.ndarray, new: np.ndarray) -> np.ndarray:
    """P(right) of cards (Q, k) by their scores ``new`` (Q, k, F): a logistic regression (Platt's), fitted on others."""
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=100.0))
    fit.fit(seen.reshape(-1, seen.shape[2]), truth.ravel())
    return fit.predict_proba(new.reshape(-1, new.shape[2]))[:, 1].reshape(new.shape[:2])


def _train(side: Side, config: dict, seed: int) -> None:
    """ListNet on lists of the right card and others of the dual encoder's best, drawn anew at each step."""
    rng, right = np.random.default_rng(seed), _right(side.of, "train")
    best, steps, batch = side.lists("train")[0], config["steps"], config["batch"]
    groups = [
        {"params": side.reranker.joint.parameters(), "lr": config["rate"]},
        {"params": side.reranker.head.parameters(), "lr": 10 * config["rate"]},
    ]
    optimiser = torch.optim.AdamW(groups)
    slope = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: min(10 * (i + 1), steps - i + 1) / (steps + 1))
    order = np.concatenate([rng.permutation(len(right)) for _ in range(1 + steps * batch // len(right))])
    for rows in order[: steps * batch].reshape(steps, batch):
        others = [rng.permutation(best[i][best[i] != right[i]])[: config["list"] - 1] for i in rows]
        scores = side.score("train", rows, np.column_stack([right[rows], np.array(others)]))
        first = torch.eye(scores.shape[1], device=scores.device)[0]
        loss = torch.stack([listnet(one, first) for one in scores]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slope.step()


def _right(of: Library, split: str) -> np.ndarray:
    return np.array([query.card for query in of.queries[split]])


def _places(of: Library, scores: np.ndarray) -> list[int]:
    return [rank_of(row, v) for row, v in zip(scores, _right(of, "test"), strict=True)]


def _reordered(of: Library, first: str, best: np.ndarray, scores: np.ndarray) -> list[int]:
    """Places of the right card when the best (Q, k) stand before all others, by scores (Q, k)."""
    whole = np.array(of.scores["test"][first], dtype=float)
    np.put_along_axis(whole, best, 2 + scores.argsort(axis=1, kind="stable").argsort(axis=1), axis=1)
    return _places(of, whole)


EXPERIMENT = Experiment("trainings", Row, trainings, measure, model=library)
run = EXPERIMENT.run
