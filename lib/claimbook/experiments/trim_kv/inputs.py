"""Models and texts of the chapter by tier, and what is read of them; the reader's own by parameter."""

from pathlib import Path

from torch import Tensor

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.lm import corpora
from claimbook.lm.load import LM

PAPERS = ("Qwen/Qwen3-1.7B", "Qwen/Qwen3-4B")
MODEL = "smollm2-135m"  # for which gates are stored
GATES = tuple(f"gates_{seed}" for seed in range(5))
TOYS = tuple(f"toy_{seed}" for seed in range(5))
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


def settings(run) -> dict:
    """What is other than in the stored runs where rows are measured now: the run's text and gates, smaller sizes."""
    gates = GATES if MODEL in run.models else ("untrained",)  # a tiny random model stands for the plumbing
    return {"text": run.text, "seed": run.seed, "gates": list(gates), "n_texts": 2, "n_needles": 2, "n_articles": 2}


def check(parameters: dict) -> None:
    """ClaimbookError for a model without gates, and for released gates that are not there or not asked for."""
    tier, model, gates = parameters["tier"], parameters["models"], parameters["gates"]
    if tier == "gpu":
        if not Path(gates).is_file():
            raise ClaimbookError(f"the gpu tier needs released gates, `-p gates=trimkv_weights.pth`, not '{gates}'")
    elif gates:
        raise ClaimbookError("gates of your own belong to the gpu tier, `--tier gpu`")
    elif model != MODEL and not model.startswith("tiny-random-"):
        raise ClaimbookError(f"no gates are stored for '{model}': take {MODEL}, or the gpu tier with a file of gates")
