"""StreamEval in small: is a fact found while it is in the cache, and lost when it is not? (Figure 9, Table 7)

The paper's data are unpublished; its lines read "The REGISTER_CONTENT in line 17 is" and a number. Ours have names and
words in place of the numbers, "… in line Johnson is apple", and some are asked again later, each once. The model's
choice is the likeliest of ten words, the true one and nine of other lines.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.streaming_llm.measure.words import NAMES, WORDS
from claimbook.lm import rotary
from claimbook.lm.attention import replaced
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, logits
from claimbook.papers.streaming_llm import Scheme, Stream

CANDIDATES = 10


@dataclass(frozen=True)
class Row:
    """One stream, an entry for each query: how far back its fact is, in tokens, and who chose right of how many."""

    distance: list[int]
    candidates: list[int]
    dense: list[bool]
    streaming: list[bool]


def units(lm: LM, config: dict) -> dict[str, int]:
    """Seeds of the streams; none where the tokenizer has too few words of one token, as a byte-level one."""
    if min(len(single(lm, pool)) for pool in (WORDS, NAMES)) < config["n_lines"]:
        return {}
    return {f"stream {seed}": seed for seed in range(config["seed"], config["seed"] + config["n_streams"])}


def measure(lm: LM, seed: int, config: dict) -> Row:
    """One stream, answered with dense attention and with a rolling cache."""
    ids, queries = make_stream(lm, config, random.Random(seed))
    state = Stream(Scheme(config["sinks"], config["recent"]), rotary.of(lm.model))
    part, at = ids.to(lm.model.device)[None], torch.tensor([query["at"] for query in queries])
    with torch.no_grad():
        dense = hidden_states(lm.model, part)[0, at]
        with replaced(lm.model, state):
            streaming = hidden_states(lm.model, part, position_ids=torch.zeros_like(part))[0, at]
    return Row(
        distance=[query["at"] - query["fact"] for query in queries],
        candidates=[len(query["candidates"]) for query in queries],
        dense=right(lm, dense, queries),
        streaming=right(lm, streaming, queries),
    )


def single(lm: LM, words: list[str]) -> list[int]:
    """Ids of the ``words`` that are one token, a space before them."""
    return [lm.single(" " + word) for word in words if len(lm.encode(" " + word)) == 1]


def make_stream(lm: LM, config: dict, draw: random.Random) -> tuple[Tensor, list[dict]]:
    """Token ids of a generated stream and its queries.

    Lines state one fact each; behind every ``query_every``-th from ``first_query`` on, one is asked for that lies in
    one of the ``bands``, in tokens, each band in turn. A query holds ``at`` (position of its last token), ``fact``
    (position of its word) and ``candidates`` (ids, the true one first).
    """
    words, names = (draw.sample(single(lm, pool), config["n_lines"]) for pool in (WORDS, NAMES))
    before, after, end = lm.encode("The REGISTER_CONTENT in line"), lm.encode(" is"), lm.encode("\n")
    pieces, facts, queries, length = [lm.start], [], [], len(lm.start)

    def write(name: int, word: int) -> int:
        """Add a line; the position of its word."""
        nonlocal length
        pieces.extend([before, torch.tensor([name]), after, torch.tensor([word]), end])
        at = length + len(before) + 1 + len(after)
        length = at + 1 + len(end)
        return at

    for number, (name, word) in enumerate(zip(names, words, strict=True)):
        if number >= config["first_query"] and number % config["query_every"] == 0:
            at = length + len(before) + len(after)  # of the last token before the word
            band = config["bands"][len(queries) % len(config["bands"])]
            query = query_about(facts, at, band, config["recent"], draw)
            facts.remove(query.pop("line"))  # an answer states its fact anew, so no line is asked for twice
            write(*query.pop("said"))
            queries.append(query)
        facts.append((write(name, word), name, word))
    return torch.cat(pieces), queries


def query_about(facts: list[tuple], at: int, band: list[int], recent: int, draw: random.Random) -> dict:
    """A query at position ``at`` for one of the facts (position, name, word) in a ``band`` of distances.

    The candidates: its word, and those of the nearest facts on the same side of the cache's edge, so that a word is
    not told from another by whether it is still cached.
    """
    low, high = band
    line = draw.choice([fact for fact in facts if low < at - fact[0] <= high])
    cached = at - line[0] <= recent
    same_side = [fact for fact in facts if (at - fact[0] <= recent) == cached]
    nearest = sorted(same_side, key=lambda fact: abs(fact[0] - line[0]))  # the line itself first
    candidates = [word for _, _, word in nearest[:CANDIDATES]]
    return {"line": line, "said": line[1:], "at": at, "fact": line[0], "candidates": candidates}


def right(lm: LM, hidden: Tensor, queries: list[dict]) -> list[bool]:
    """Whether the true word, the first candidate, is the likeliest of its candidates."""
    scores = logits(lm.model, hidden)
    return [int(row[query["candidates"]].argmax()) == 0 for row, query in zip(scores, queries, strict=True)]


EXPERIMENT = ModelExperiment("streams", Row, units, measure)
run = EXPERIMENT.run
