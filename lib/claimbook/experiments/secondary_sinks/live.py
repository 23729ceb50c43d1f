"""What the notebook runs live, by tier, and when a stored run speaks for it."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from claimbook.errors import ClaimbookError
from claimbook.experiments.secondary_sinks import change, probe, texts, traces
from claimbook.experiments.secondary_sinks.find import Found, find, row
from claimbook.experiments.secondary_sinks.stored import MODELS, RULE, STORED, TEXT
from claimbook.lm import corpora
from claimbook.lm.load import LM, load
from claimbook.papers import secondary_sinks as method

PAPERS = ("Qwen/Qwen3-4B-Base", "Qwen/Qwen3-14B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "Qwen/QwQ-32B")
AGAIN = {"smoke": 1, "cpu": 8}  # texts of the stored run that are read again, of the run's first model
SEEN = {"smoke": 200, "cpu": 512, "gpu": 512}  # tokens of the text that the map shows
TRACE = 16_384  # tokens that a model writes about a problem at the gpu tier, at most, as in the paper
BEGINNING = STORED["changes"].config["length"]


@dataclass(frozen=True)
class Measured:
    """One model: rows of texts and of interventions, the layer alone, and one text in full for the map."""

    rows: list[dict]
    changes: list[dict] = field(default_factory=list)
    probe: dict = field(default_factory=lambda: {"metrics": {}, "curves": {}})
    shown: Found | None = None
    words: list[str] = field(default_factory=list)
    again: str = ""  # whether what was read again agrees with what is stored


def measure(run, name: str, text: str, n_texts: int) -> Measured:
    """Everything about one model of a run: stored where a stored run speaks for it, else measured now."""
    lm = load(name, run.device, run.parameters["dtype"], method.prove)
    stored = speaks(run, name, text)
    n_again = AGAIN.get(run.tier, 1) if stored and name == run.models[0] else 1
    inputs = ids_of(lm, run, text, n_again if stored else n_texts)
    chat = run.tier == "gpu" and not run.parameters["text"] and bool(lm.tokenizer.chat_template)
    found = find(lm, inputs[0][: SEEN[run.tier]], chat)
    seen = {"shown": found, "words": [lm.tokenizer.decode([one]) for one in found.ids.tolist()]}
    if stored:
        rows = stored["texts"]["curves"]["texts"]
        said = again(run, lm, inputs, rows) if name == run.models[0] else ""
        return Measured(rows, stored["changes"]["curves"]["texts"], stored["probe"], again=said, **seen)
    rows = [row(lm, find(lm, ids, chat), RULE) for ids in inputs]
    if run.smoke:
        return Measured(rows, **seen)
    beginnings = [ids[:BEGINNING] for ids in inputs]
    changed = [change.changed(lm, ids, RULE, chat) for ids in beginnings]
    return Measured(rows, changed, probe.probed(lm, beginnings, RULE, chat=chat), **seen)


def speaks(run, name: str, text: str) -> dict[str, dict]:
    """The model's stored runs by experiment, all or none: those of the reference's models, text, seed and dtype."""
    if name not in MODELS or text != TEXT or run.seed:
        return {}
    named = {key: f"{key}{MODELS[name]}" for key in ("texts", "changes", "probe")}
    if not all(run.speaks(stored, name) for stored in named.values()):
        return {}
    found = {key: run.stored(stored) for key, stored in named.items()}
    return found if all(found.values()) else {}


def ids_of(lm: LM, run, text: str, count: int) -> list[Tensor]:
    """What is read: documents of the stored run, or with a seed others; another text; at the gpu tier traces.

    Texts are cut to what the model was trained on. ClaimbookError when there are too few.
    """
    if run.tier == "gpu" and not run.parameters["text"]:
        return traces.traces(lm, count, min(TRACE, lm.trained_context // 2))
    config = STORED["texts"].config
    length = min(SEEN["smoke"] if run.smoke else config["length"], lm.trained_context)
    if text != TEXT or not run.seed:
        skip = config["skip"] if text == TEXT else 0
        return texts.of_asset(lm, text, skip, 1 if run.smoke else count, length)
    used = STORED["thresholds"].config["skip"] + STORED["thresholds"].config["n_texts"]
    every = [document.ids[:length] for document in corpora.documents(lm, TEXT, config["length"])[used:]]
    if count > len(every):
        raise ClaimbookError(f"'{TEXT}' has {len(every)} other documents for {lm.name}: lower documents={count}")
    return [every[i] for i in np.random.default_rng(run.seed).permutation(len(every))[:count]]


@torch.no_grad()
def again(run, lm: LM, inputs: list[Tensor], rows: list[dict]) -> str:
    """One stable line: do texts read now give what is stored of them?"""
    if len(inputs[0]) < rows[0]["tokens"]:
        return "texts were not read again at this tier"
    return run.agreement([row(lm, find(lm, ids), RULE) for ids in inputs], rows)
