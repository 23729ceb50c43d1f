"""StreamEval in small: is a fact found while it is in the cache, and lost when it is not? (Figure 9, Table 7)

The paper's data are unpublished. Ours are lines "The REGISTER_CONTENT in line 17 is apple", some asked again later by
their number; the model's choice is the likeliest of ten words, the true one and those of the nine nearest lines.
"""

import random
from pathlib import Path

import torch
from torch import Tensor

from claimbook import files
from claimbook.lm import rotary
from claimbook.lm.attention import replaced
from claimbook.lm.load import LM, load
from claimbook.lm.losses import hidden_states, logits
from claimbook.papers.streaming_llm import Scheme, Stream

CANDIDATES = 10
WORDS = """
    apple river stone table window garden horse bread music paper silver winter doctor island castle forest
    bridge engine mirror pocket rabbit school shadow square street summer ticket travel valley village water
    wheel wolf world yellow bottle butter button camera candle carpet cheese church circle cotton desert dinner
    dragon farmer father finger flower friend guitar hammer heaven honey hotel jacket kitchen ladder lemon
    letter machine market master meadow metal minute money monkey moon morning mother mountain needle number
    ocean office orange palace pencil people pepper picture planet plant poet prince prison queen rain ring road
    rocket roof room rope rose
""".split()  # noqa: SIM905


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: ``n_streams`` generated streams, answered with dense attention and with a rolling cache."""
    lm = load(config["model"], "cpu", config["dtype"])
    rows = []
    for i in range(config["n_streams"]):
        checkpoint = work / f"{i}.json"
        if not checkpoint.exists():
            files.write_json(checkpoint, measure(lm, config, seed=config["seed"] + i))
        rows.append(files.read_json(checkpoint))
        progress((i + 1) / config["n_streams"], f"stream {i + 1}")
    return {"metrics": {"chance": 1 / CANDIDATES}, "curves": {"streams": rows}}


def measure(lm: LM, config: dict, seed: int) -> dict:
    """One stream: the distance in tokens of every query to its fact, and whether each scheme chose the right word."""
    ids, queries = make_stream(lm, config, random.Random(seed))
    scheme = Scheme(config["sinks"], config["recent"])
    state = Stream(scheme, rotary.of(lm.model))
    part, at = ids.to(lm.model.device)[None], torch.tensor([query["at"] for query in queries])
    with torch.no_grad():
        dense = hidden_states(lm.model, part)[0, at]
        with replaced(lm.model, state):
            streaming = hidden_states(lm.model, part, position_ids=torch.zeros_like(part))[0, at]
    return {
        "distance": [query["at"] - query["fact"] for query in queries],
        "lines": [query["lines"] for query in queries],
        "dense": right(lm, dense, queries),
        "streaming": right(lm, streaming, queries),
    }


def single_words(lm: LM) -> list[int]:
    """Ids of the words that are one token; the task needs more of them than candidates."""
    return [lm.single(" " + word) for word in WORDS if len(lm.encode(" " + word)) == 1]


def make_stream(lm: LM, config: dict, draw: random.Random) -> tuple[Tensor, list[dict]]:
    """Token ids of a generated stream and its queries.

    A query holds ``at`` (position of its last token), ``fact`` (position of the word asked for), ``lines`` (distance
    in lines) and ``candidates`` (ids, the true one first).
    """
    words = single_words(lm)
    pieces, queries, facts, length = [], [], [], 0
    for number in range(config["n_lines"]):
        asked = number >= config["first_query"] and number % config["query_every"] == 0
        lines = [number] if not asked else [number - draw.choice(config["distances"]), number]
        for line in lines:
            stem = lm.encode(f"The REGISTER_CONTENT in line {line} is")
            length += len(stem)
            if line < number:
                queries.append(query_about(line, number - line, length - 1, facts))
                word = facts[line][1]
            else:
                word = draw.choice(words)
                facts.append((length, word))
            pieces += [stem, torch.tensor([word]), lm.encode("\n")]
            length += 1 + len(pieces[-1])
    return torch.cat(pieces), queries


def query_about(line: int, lines: int, at: int, facts: list[tuple[int, int]]) -> dict:
    """The true word and the nine different ones of the nearest lines, so that all candidates lie equally far back."""
    position, true = facts[line]
    nearest = sorted(range(len(facts)), key=lambda other: abs(other - line))
    others = list(dict.fromkeys(facts[other][1] for other in nearest if facts[other][1] != true))
    return {"at": at, "fact": position, "lines": lines, "candidates": [true, *others[: CANDIDATES - 1]]}


def right(lm: LM, hidden: Tensor, queries: list[dict]) -> list[bool]:
    """Whether the true word, the first candidate, is the likeliest of the ten."""
    scores = logits(lm.model, hidden)
    return [int(row[query["candidates"]].argmax()) == 0 for row, query in zip(scores, queries, strict=True)]
