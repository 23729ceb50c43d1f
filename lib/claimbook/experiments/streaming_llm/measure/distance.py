"""What the position of the sinks is worth: section 3.2, with the distance to them set at will."""

from dataclasses import dataclass

from torch import Tensor

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.streaming_llm import inputs
from claimbook.lm import corpora
from claimbook.lm.load import LM
from claimbook.papers.streaming_llm import Scheme, stream

FAR = 32_768  # tokens: four times the trained window of the model that decides


@dataclass(frozen=True)
class Row:
    """One document: mean loss in nats of its second ``part`` tokens.

    ``cache``: with sinks at cache distance, ``text``: at each text distance of the config.
    """

    title: str
    cache: float
    text: list[float]


def units(lm: LM, config: dict) -> dict[str, corpora.Document]:
    """Documents of two parts; none where `inputs.settings` forbids so long a text, or `FAR` is no four windows."""
    needed = 2 * config["part"] + 1
    if 4 * lm.trained_context != FAR or needed > (config.get("at_most") or needed):
        return {}
    return inputs.documents(lm, config | {"length": needed})


def measure(lm: LM, document: corpora.Document, config: dict) -> Row:
    """One document by where its sinks are said to be."""
    ids, sinks, recent, part = document.ids, config["sinks"], config["recent"], config["part"]
    text = Scheme(sinks, recent, positions="text")
    return Row(
        title=document.title,
        cache=loss_at(lm, ids, Scheme(sinks, recent), part, part),
        text=[loss_at(lm, ids, text, part, position) for position in config["positions"]],
    )


def loss_at(lm: LM, ids: Tensor, scheme: Scheme, part: int, position: int) -> float:
    """Mean loss of the second ``part`` tokens when the stream is told that they begin at text ``position``.

    The cache holds the same sinks and recent tokens whatever the position, so nothing but the sinks' distance moves.
    """
    segments = stream(lm.model, ids, scheme, segment=part)
    state, _ = next(segments)
    state.seen = position
    _, losses = next(segments)
    segments.close()
    return float(losses.mean())


EXPERIMENT = ModelExperiment("documents", Row, units, measure)
run = EXPERIMENT.run
