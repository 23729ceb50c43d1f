"""Past the trained window: Figure 3, dense attention against a rolling cache on texts of twice its length."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from claimbook.lm import corpora
from claimbook.lm.load import LM, load
from claimbook.lm.losses import hidden_states, token_losses
from claimbook.papers.streaming_llm import Scheme, losses
from claimbook.provenance.declarations import checkpointed


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: ``n_documents`` texts of ``windows`` trained windows, one checkpoint each.

    Each is a document that reaches ``margin`` tokens past the window, filled up with shorter ones.
    """
    lm = load(config["model"], "cpu", config["dtype"])
    border, last = lm.trained_context + config["margin"] + 1, length(lm, config)
    texts = corpora.joined(lm, config["text"], border, last, config["n_documents"])
    jobs = {document.title: partial(measure, lm, document.ids, config) for document in texts}
    rows = [{"title": title} | row for title, row in checkpointed(jobs, work, progress).items()]
    return {"metrics": {"trained_context": lm.trained_context}, "curves": {"documents": rows}}


def length(lm: LM, config: dict) -> int:
    """Tokens that `measure` needs."""
    return config["windows"] * lm.trained_context + 1


def measure(lm: LM, ids: Tensor, config: dict) -> dict:
    """Mean losses in nats per ``bin`` targets, from ``margin`` before the trained window's end on, dense and streaming.

    The stream starts ``warm_up`` tokens before the first scored target; its cache is full long before.
    """
    first = lm.trained_context - config["margin"]
    scheme, tail = Scheme(config["sinks"], config["recent"]), ids[first - config["warm_up"] :]
    scored = torch.arange(len(tail)) > config["warm_up"]
    streaming = losses(lm.model, tail, scheme, score=scored)[config["warm_up"] :].cpu()
    part = ids.to(lm.model.device)
    with torch.no_grad():
        hidden = hidden_states(lm.model, part[None, :-1])[0, first:]
        dense = token_losses(lm.model, hidden, part[first + 1 :]).cpu()
    return {
        name: curve.view(-1, config["bin"]).mean(dim=1).tolist()
        for name, curve in (("dense", dense), ("streaming", streaming))
    }
