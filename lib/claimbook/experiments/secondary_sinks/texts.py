"""Which texts are read, documents of an asset or a reader's own file, and the stored runs that read them."""

from functools import partial
from pathlib import Path

from torch import Tensor

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments.secondary_sinks.find import find, overlaps, row
from claimbook.lm import corpora
from claimbook.lm.load import LM, load
from claimbook.provenance.declarations import checkpointed


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: the sinks of every text, one row for each."""
    lm = load(config["model"], "cpu")
    found = of_asset(lm, config["text"], config["skip"], config["n_texts"], config["length"])
    jobs = {str(i): partial(one, lm, ids, config["rule"]) for i, ids in enumerate(found)}
    return {"metrics": {"layers": lm.layers}, "curves": {"texts": list(checkpointed(jobs, work, progress).values())}}


def run_thresholds(config: dict, work: Path, progress) -> dict:
    """Stored run: on texts of its own, which of our rule's sinks each two thresholds share."""
    lm = load(config["model"], "cpu")
    found = of_asset(lm, config["text"], config["skip"], config["n_texts"], config["length"])
    jobs = {str(i): lambda ids=ids: overlaps(find(lm, ids)) for i, ids in enumerate(found)}
    return {"metrics": {}, "curves": {"texts": list(checkpointed(jobs, work, progress).values())}}


def one(lm: LM, ids: Tensor, rule: str) -> dict:
    return row(lm, find(lm, ids), rule)


def of_asset(lm: LM, key: str, skip: int, count: int, length: int) -> list[Tensor]:
    """The first ``length`` tokens of ``count`` documents of at least 2,048, after ``skip`` of them.

    ``key``: a text asset, or a reader's own text file, which is cut into pieces and of which none is skipped.
    Beginnings of any length are those of the same documents. ClaimbookError when there are too few.
    """
    if key not in catalogue.load_catalogue():
        found = corpora.own_text(lm, key, length)
        if len(found) < count:
            raise ClaimbookError(
                f"text '{key}' makes {len(found)} texts of {length} tokens for {lm.name}, {count} are asked for: "
                "give a longer text"
            )
        return [document.ids for document in found[:count]]
    documents = corpora.documents(lm, key, max(length, 2048), skip + count)
    return [document.ids[:length] for document in documents[skip:]]
