"""What the position of the sinks is worth: section 3.2, with the distance to them set at will."""

from functools import partial
from pathlib import Path

from torch import Tensor

from claimbook.lm import corpora
from claimbook.lm.load import LM, load
from claimbook.papers.streaming_llm import Scheme, stream
from claimbook.provenance.declarations import checkpointed


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: each document with its sinks at the text distances of the config, and at cache distance."""
    lm = load(config["model"], "cpu", config["dtype"])
    texts = corpora.documents(lm, config["text"], 2 * config["part"] + 1, config["n_documents"])
    jobs = {document.title: partial(measure, lm, document.ids, config) for document in texts}
    rows = [{"title": title} | row for title, row in checkpointed(jobs, work, progress).items()]
    return {"metrics": {"trained_context": lm.trained_context}, "curves": {"documents": rows}}


def measure(lm: LM, ids: Tensor, config: dict) -> dict:
    """Mean loss in nats of the second ``part`` tokens of ``ids``, by where the sinks are said to be."""
    scheme = Scheme(config["sinks"], config["recent"])
    text = Scheme(config["sinks"], config["recent"], positions="text")
    return {
        "cache": loss_at(lm, ids, scheme, config["part"], config["part"]),
        "text": [loss_at(lm, ids, text, config["part"], position) for position in config["positions"]],
    }


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
