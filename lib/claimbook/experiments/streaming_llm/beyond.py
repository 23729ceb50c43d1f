"""Past the trained window: Figure 3, dense attention against a rolling cache on whole long documents."""

from pathlib import Path

import torch
from torch import Tensor

from claimbook import files
from claimbook.lm import corpora
from claimbook.lm.load import LM, load
from claimbook.lm.losses import hidden_states, token_losses
from claimbook.papers.streaming_llm import Scheme, losses


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: ``n_documents`` documents that go ``margin`` tokens past the trained window, one checkpoint each."""
    lm = load(config["model"], "cpu", config["dtype"])
    length = lm.trained_context + config["margin"] + 1
    texts = corpora.documents(lm, config["text"], length, config["n_documents"])
    rows = []
    for i, document in enumerate(texts):
        progress(i / len(texts), document.title)
        checkpoint = work / f"{i}.json"
        if not checkpoint.exists():
            files.write_json(checkpoint, {"title": document.title} | measure(lm, document.ids, config))
        rows.append(files.read_json(checkpoint))
    return {"metrics": {"trained_context": lm.trained_context}, "curves": {"documents": rows}}


def measure(lm: LM, ids: Tensor, config: dict) -> dict:
    """Mean losses in nats per ``bin`` targets around the trained window, dense and streaming.

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
