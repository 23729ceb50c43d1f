"""StreamEval in small: is a fact found while it is in the cache, and lost when it is not? (Figure 9, Table 7)

The paper's data are unpublished; its lines read "The REGISTER_CONTENT in line 17 is" and a number. Ours have names and
words in place of the numbers, "… in line Johnson is apple", and some are asked again later, each once. The model's
choice is the likeliest of ten words, the true one and those of the nine nearest lines.
"""

import random
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from claimbook.lm import rotary
from claimbook.lm.attention import replaced
from claimbook.lm.load import LM, load
from claimbook.lm.losses import hidden_states, logits
from claimbook.papers.streaming_llm import Scheme, Stream
from claimbook.provenance.declarations import checkpointed

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
NAMES = """
    Adams Allen Baker Bell Brown Carter Clark Cook Cooper Cox Davis Edwards Evans Fisher Ford Foster Gordon Graham Gray
    Green Hall Harris Hill Howard Hughes Hunt Irving Jackson James Johnson Jones Kelly Kennedy King Knight Lee Lewis
    Long Marshall Martin Mason Miller Mitchell Moore Morgan Morris Murphy Murray Nelson Oliver Palmer Parker Perry
    Peterson Phillips Powell Price Quinn Reed Richardson Roberts Rogers Ross Russell Sanders Scott Shaw Simpson Smith
    Stewart Stone Sullivan Taylor Thomas Thompson Tucker Turner Walker Wallace Ward Warren Watson Webb Wells West White
    Williams Wilson Wood Wright Young
""".split()  # noqa: SIM905


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: ``n_streams`` generated streams, answered with dense attention and with a rolling cache."""
    lm = load(config["model"], "cpu", config["dtype"])
    seeds = range(config["seed"], config["seed"] + config["n_streams"])
    jobs = {f"stream {seed}": partial(measure, lm, config, seed) for seed in seeds}
    rows = list(checkpointed(jobs, work, progress).values())
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


def single(lm: LM, words: list[str]) -> list[int]:
    """Ids of the ``words`` that are one token, a space before them."""
    return [lm.single(" " + word) for word in words if len(lm.encode(" " + word)) == 1]


def possible(lm: LM, config: dict) -> bool:
    """Whether the tokenizer has a name and a word of one token for every line; a byte-level one has none."""
    return min(len(single(lm, pool)) for pool in (WORDS, NAMES)) >= config["n_lines"]


def make_stream(lm: LM, config: dict, draw: random.Random) -> tuple[Tensor, list[dict]]:
    """Token ids of a generated stream and its queries.

    A query holds ``line`` (the one asked for), ``at`` (position of its last token), ``fact`` (position of its word),
    ``lines`` (distance in lines) and ``candidates`` (ids, the true one first).
    """
    words, names = (draw.sample(single(lm, pool), config["n_lines"]) for pool in (WORDS, NAMES))
    before, after, end = lm.encode("The REGISTER_CONTENT in line"), lm.encode(" is"), lm.encode("\n")
    pieces, queries, facts, length = [lm.start], [], [], len(lm.start)
    for number in range(config["n_lines"]):
        lines = [number]
        if number >= config["first_query"] and number % config["query_every"] == 0:
            # an answer states its fact anew, so no line is asked for twice
            asked = {query["line"] for query in queries}
            back = [number - distance for distance in config["distances"]]
            lines = [draw.choice([line for line in back if line not in asked]), number]
        for line in lines:
            stem = torch.cat([before, torch.tensor([names[line]]), after])
            length += len(stem)
            if line < number:
                queries.append(query_about(line, number - line, length - 1, facts, asked))
                word = facts[line][1]
            else:
                word = words[line]
                facts.append((length, word))
            pieces += [stem, torch.tensor([word]), end]
            length += 1 + len(end)
    return torch.cat(pieces), queries


def query_about(line: int, lines: int, at: int, facts: list[tuple[int, int]], asked: set[int]) -> dict:
    """The true word and those of the nine nearest lines; all stated once, about equally far back.

    An answer states its word anew, so a line that was ``asked`` for already gives no candidate.
    """
    nearest = sorted(set(range(len(facts))) - asked, key=lambda other: abs(other - line))  # the line itself first
    candidates = [facts[other][1] for other in nearest[:CANDIDATES]]
    return {"line": line, "at": at, "fact": facts[line][0], "lines": lines, "candidates": candidates}


def right(lm: LM, hidden: Tensor, queries: list[dict]) -> list[bool]:
    """Whether the true word, the first candidate, is the likeliest of the ten."""
    scores = logits(lm.model, hidden)
    return [int(row[query["candidates"]].argmax()) == 0 for row, query in zip(scores, queries, strict=True)]
