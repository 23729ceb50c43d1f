"""Past the trained window: Figure 3, dense attention against a rolling cache on texts of twice its length."""

from dataclasses import dataclass

import torch

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.streaming_llm.inputs import long_texts
from claimbook.lm import corpora
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, token_losses
from claimbook.papers.streaming_llm import Scheme, losses


@dataclass(frozen=True)
class Row:
    """One text: mean losses in nats per ``bin`` targets, from ``margin`` before the trained window's end on."""

    title: str
    dense: list[float]
    streaming: list[float]


def measure(lm: LM, document: corpora.Document, config: dict) -> Row:
    """One text, dense and streaming.

    The stream starts ``warm_up`` tokens before the first scored target; its cache is full long before.
    """
    ids, first = document.ids, lm.trained_context - config["margin"]
    scheme, tail = Scheme(config["sinks"], config["recent"]), torch.cat([lm.start, ids[first - config["warm_up"] :]])
    before = len(lm.start) + config["warm_up"]
    streaming = losses(lm.model, tail, scheme, score=torch.arange(len(tail)) > before)[before:].cpu()
    part = ids.to(lm.model.device)
    with torch.no_grad():
        hidden = hidden_states(lm.model, part[None, :-1])[0, first:]
        dense = token_losses(lm.model, hidden, part[first + 1 :]).cpu()
    bins = (curve.view(-1, config["bin"]).mean(dim=1).tolist() for curve in (dense, streaming))
    return Row(document.title, *bins)


EXPERIMENT = ModelExperiment("documents", Row, long_texts, measure)
run = EXPERIMENT.run
