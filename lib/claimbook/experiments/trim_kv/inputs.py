"""Models and texts of the chapter by tier, and what is read of them; the reader's own by parameter."""

from torch import Tensor

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.lm import corpora
from claimbook.lm.load import LM

PAPERS = ("Qwen/Qwen3-1.7B", "Qwen/Qwen3-4B")
TEXTS = {"smoke": "wikipedia-excerpt", "cpu": "wikipedia-excerpt", "gpu": "wikipedia-excerpt"}


def texts(lm: LM, config: dict) -> dict[str, Tensor]:
    """The first ``n_texts`` texts of at least ``length`` tokens by title, cut to it.

    Of an asset that trained the gates, none of what they read: the first ``skip`` articles alone. Or parts of the
    reader's own file. ClaimbookError when there are too few.
    """
    key, count, length = config["text"], config["n_texts"], config["length"]
    if key not in catalogue.load_catalogue():
        found = corpora.own_text(lm, key, length)
    else:
        found = []
        for text in list(catalogue.texts(key))[: config["skip"]]:
            if len(found) < count and len(ids := lm.document(text["text"])) >= length:
                found.append(corpora.Document(text["title"], ids[:length]))
    if len(found) < count:
        raise ClaimbookError(f"'{key}' has {len(found)} texts of {length} tokens for {lm.name}, {count} are asked for")
    return {f"{i}: {document.title}": document.ids for i, document in enumerate(found[:count])}
