"""Which four tokens are kept, and where they seem to be: what Table 1's newlines are to be compared with."""

from dataclasses import dataclass

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.streaming_llm import inputs
from claimbook.experiments.streaming_llm.measure.documents import mean_from, with_newlines
from claimbook.lm import corpora
from claimbook.lm.load import LM
from claimbook.papers.streaming_llm import Scheme, losses

MIDDLE, STARTED, UNSHIFTED = "4 out of the middle", "start and newlines", "text positions"


@dataclass(frozen=True)
class Row:
    """One document: mean loss in nats by what is kept, at the targets of `documents`."""

    title: str
    loss: dict[str, float]


def measure(lm: LM, document: corpora.Document, config: dict) -> Row:
    """Four tokens out of the middle of the text, the first four at their distance in the text, and newlines.

    The newlines stand behind the token that the model's tokenizer puts before every text; without one, there is no
    such arm, as it is the one of `documents`.
    """
    ids, cache = document.ids, config["cache"]
    streaming = Scheme(4, cache - 4)
    arms = {
        "0": (ids, Scheme(0, cache)),
        "4": (ids, streaming),
        MIDDLE: (ids, Scheme(4, cache - 4, first=config["middle"])),
        UNSHIFTED: (ids, Scheme(4, cache - 4, positions="text")),
    }
    if len(lm.start):
        arms[STARTED] = (with_newlines(lm, ids, 4, start=len(lm.start)), streaming)
    first = 3 * cache // 2
    return Row(document.title, {name: mean_from(losses(lm.model, *arm).cpu(), first) for name, arm in arms.items()})


EXPERIMENT = ModelExperiment("documents", Row, inputs.documents, measure)
run = EXPERIMENT.run
