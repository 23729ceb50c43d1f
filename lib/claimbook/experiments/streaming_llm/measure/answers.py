"""Question answering in a stream (Table 5): ARC-Easy, the four options ranked by likelihood.

The paper asks chat models for exact words; ours is too small for that, so it ranks. Questions follow one another in a
stream, each with its true answer, as the paper concatenates them; its prompt is unpublished.
"""

import json
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from claimbook.assets import catalogue
from claimbook.experiments.models import ModelExperiment
from claimbook.lm.load import LM
from claimbook.papers.streaming_llm import Scheme, Stream, stream


@dataclass(frozen=True)
class Row:
    """One stream: for each question asked past the first eviction, whether the likeliest option is the true one.

    ``one_shot``: with the stream's first question before it and nothing else. ``blind``: the same, and the question
    itself left out.
    """

    one_shot: list[bool]
    blind: list[bool]
    window: list[bool]
    streaming: list[bool]


def units(lm: LM, config: dict) -> dict[str, list[dict]]:
    """Streams of ``questions`` ARC-Easy items each, the first of them an example only."""
    lines = catalogue.get("arc-easy-test").read_text(encoding="utf-8").splitlines()
    size = config["questions"]
    items = [json.loads(line) for line in lines[: config["n_streams"] * size]]
    return {f"stream {i}": items[i * size : (i + 1) * size] for i in range(config["n_streams"])}


def measure(lm: LM, items: list[dict], config: dict) -> Row:
    """One stream under a window and under four sinks, and each of its questions after the example alone."""
    cache, skip = config["cache"], config["skip"]
    wide = Scheme(0, lm.trained_context)  # nothing is ever evicted
    example, asked = items[0], items[skip:]
    found = {
        "one_shot": [chosen(lm, [example, item], wide, skip=1)[0] for item in asked],
        "blind": [chosen(lm, [example, item | {"centerpiece": ""}], wide, skip=1)[0] for item in asked],
        "window": chosen(lm, items, Scheme(0, cache), skip),
        "streaming": chosen(lm, items, Scheme(4, cache - 4), skip),
    }
    right = [true(item) for item in asked]
    return Row(**{name: [a == b for a, b in zip(answers, right, strict=True)] for name, answers in found.items()})


def chosen(lm: LM, items: list[dict], scheme: Scheme, skip: int = 0) -> list[int]:
    """The likeliest option of each item but the first ``skip``, per character; all are read in a row under one cache.

    Each item is closed by its true answer, whichever was chosen.
    """
    text, state, found = lm.start, None, []
    for number, item in enumerate(items):
        text = torch.cat([text, lm.encode(f"Question: {item['centerpiece']}\nAnswer:")])
        if number >= skip:
            state, _ = read(lm, text, scheme, state)
            found.append(likeliest(lm, text, item["options"], scheme, state))
        text = torch.cat([text, lm.encode(f" {item['options'][true(item)]}\n\n")])
    return found


def likeliest(lm: LM, text: Tensor, options: list[str], scheme: Scheme, state: Stream) -> int:
    """Place of the option with the least loss per character behind ``text`` (T,), of which all but one was read."""
    scores = []
    for option in options:
        branch = replace(state, sinks=dict(state.sinks), recent=dict(state.recent))
        _, losses = read(lm, torch.cat([text, lm.encode(f" {option}")]), scheme, branch)
        scores.append(float(losses.sum()) / len(option))
    return scores.index(min(scores))


def read(lm: LM, text: Tensor, scheme: Scheme, state: Stream | None) -> tuple[Stream, Tensor]:
    """Go on reading ``text`` (T,) from where ``state`` stands to its last token but one; losses in nats on the way."""
    *_, (state, losses) = stream(lm.model, text, scheme, resume=state, segment=len(text))
    return state, losses


def true(item: dict) -> int:
    """Place of the true option."""
    return item["options"].index(item["correct_options_literal"][0])


EXPERIMENT = ModelExperiment("streams", Row, units, measure)
run = EXPERIMENT.run
