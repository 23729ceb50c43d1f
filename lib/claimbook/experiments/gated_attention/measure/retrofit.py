"""A gate put into a finished model, untrained: with weights of zero under a doubled sigmoid, and with random ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from claimbook.experiments.gated_attention.measure.onset import documents
from claimbook.experiments.gated_attention.measure.seen import FirstToken
from claimbook.experiments.models import ModelExperiment
from claimbook.lm.attention import observed
from claimbook.lm.corpora import Document
from claimbook.lm.load import LM
from claimbook.papers import gated_attention as method

NAMES = ("as it is", "zero", "half", "elementwise", "headwise")  # the last two have random weights, in several draws


@dataclass(frozen=True)
class Row:
    """One document, by what was put in: mean ``loss`` in nats, F-Attn as ``share``, and ``gap``, the largest difference
    of a logit from the model as it is over the largest logit; means over draws of weights.
    """

    title: str
    loss: dict[str, float]
    share: dict[str, float]
    gap: dict[str, float]


@contextmanager
def put_in(model, name: str, seed: int) -> Iterator[None]:
    """Inside the block the model has the gate of that name; "half": every score is a half."""
    if name == "as it is":
        yield
        return
    gate = {"zero": "elementwise", "half": "independent"}.get(name, name)
    with method.attached(model, method.GATES[gate], seed=seed):
        if name == "zero":
            for gating in method.gatings(model):
                gating.linear.weight.data.zero_()
                gating.score = lambda hidden, gating=gating: 2 * method.Gating.score(gating, hidden)
        yield


@torch.no_grad()
def measure(lm: LM, document: Document, config: dict) -> Row:
    ids = document.ids[None].to(lm.model.device)
    plain, found = None, {}
    for name in NAMES:
        draws = range(config["draws"]) if name in ("elementwise", "headwise") else range(1)
        values = []
        for draw in draws:
            seen = FirstToken()
            with put_in(lm.model, name, config["seed"] + draw), observed(lm.model, seen):
                logits: Tensor = lm.model(input_ids=ids, use_cache=False).logits[0].float()
            plain = logits if plain is None else plain
            loss = float(cross_entropy(logits[:-1], ids[0, 1:]))
            gap = float((logits - plain).abs().max() / plain.abs().max())
            values.append([loss, float(seen.result().mean()), gap])
        found[name] = torch.tensor(values, dtype=torch.float64).mean(dim=0).tolist()
    loss, share, gap = ({name: values[i] for name, values in found.items()} for i in range(3))
    return Row(document.title, loss, share, gap)


EXPERIMENT = ModelExperiment("documents", Row, documents, measure)


def run(config: dict, work: Path, progress) -> dict:
    """Stored run."""
    return EXPERIMENT.run(config, work, progress)
