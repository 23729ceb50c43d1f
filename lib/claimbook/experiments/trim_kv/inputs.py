"""Models and texts of the chapter by tier, and what is read of them; the reader's own by parameter."""

import os

import numpy as np
from torch import Tensor

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments.trim_kv import gsm8k
from claimbook.lm import corpora
from claimbook.lm.load import LM

PAPERS = ("Qwen/Qwen3-1.7B", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B", "Qwen/Qwen3-14B")
MODEL = "smollm2-135m"  # for which gates are stored
TOYS = tuple(f"toy_{seed}" for seed in range(5))
TEXTS = {"smoke": "wikipedia-excerpt", "cpu": "wikipedia-excerpt", "gpu": "wikipedia-excerpt"}


def texts(lm: LM, config: dict) -> dict[str, Tensor]:
    """The first ``n_texts`` texts of at least ``length`` tokens by title, cut to it.

    Of an asset that trained the gates, none of what they read: the first ``skip`` articles alone. Or parts of the
    reader's own file. ClaimbookError when there are too few.
    """
    key, count, length = config["text"], config["n_texts"], config["length"]
    if key not in catalogue.load_catalogue():
        found = corpora.own_text(lm, key, length, count)
    else:
        found = []
        for text in list(catalogue.texts(key))[: config["skip"]]:
            if len(found) < count and len(ids := lm.document(text["text"])) >= length:
                found.append(corpora.Document(text["title"], ids[:length]))
    if len(found) < count:
        raise ClaimbookError(f"'{key}' has {len(found)} texts of {length} tokens for {lm.name}, {count} are asked for")
    return {f"{i}: {document.title}": document.ids for i, document in enumerate(found[:count])}


def settings(run) -> dict:
    """What is other than in the stored runs where rows are measured now: the run's text, fewer units.

    Empty where no gates are stored for the model: then no such rows are measured.
    """
    if run.tier == "gpu" or MODEL not in run.models:
        return {}
    return {"text": run.text, "seed": run.seed, "n_texts": 2, "n_needles": 2, "n_articles": 2}


def last_losses(run, arm: str = "") -> list[float]:
    """Loss at the end of the training, nats, by base: of the toy's bases, or of an arm of the gates on them."""
    found, runs = [], "toy_gates" if arm else "toy_base"
    for seed in range(len(TOYS)) if run.tier != "gpu" else ():
        curves = run.stored(f"{runs}_{seed}")["curves"]
        ends = [curve[-4:] for name, curve in curves.items() if not arm or name.startswith(f"{arm}.")]
        found.append(float(np.mean(ends)))
    return found


def check(parameters: dict) -> None:
    """ClaimbookError for a model without gates, and for gates of one's own that are not there or not asked for."""
    tier, model, gates = parameters["tier"], parameters["models"], parameters["gates"]
    if tier != "gpu" and gates:
        raise ClaimbookError("gates of your own are read at the gpu tier alone, `--tier gpu`")
    if tier != "gpu" and model != MODEL and not model.startswith("tiny-random-"):
        raise ClaimbookError(f"no gates are stored for '{model}': take {MODEL}, or the gpu tier with released gates")
    if tier == "gpu" and not gates and model not in PAPERS:
        raise ClaimbookError(f"no gates are released for '{model}': take {' or '.join(PAPERS)}, or `-p gates=FILE`")
    if gates and not os.path.isfile(gates) and gates.count("/") != 1:
        raise ClaimbookError(f"gates '{gates}' are neither a file nor a hub id (owner/name)")
    if tier == "gpu":
        catalogue.get(gsm8k.ASSET)
    if gates and os.path.isfile(gates):
        gsm8k.read(gates)
