"""What secondary sinks do: one write scaled, all of them taken away beside tokens that are none, keys and values."""

from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from claimbook.experiments.secondary_sinks import texts
from claimbook.experiments.secondary_sinks.find import LATE, Found, controls, find
from claimbook.lm import block_outputs, residual
from claimbook.lm.load import LM, load
from claimbook.lm.losses import hidden_states, token_losses
from claimbook.lm.residual import Stream
from claimbook.papers import secondary_sinks as method
from claimbook.provenance.declarations import checkpointed

FACTORS = (-1.0, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of the write that makes a sink; -1: as long, but the other way


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: every intervention on the beginnings of the texts, one row for each."""
    lm = load(config["model"], "cpu")
    beginnings = texts.of_asset(lm, config["text"], config["skip"], config["n_texts"], config["length"])
    jobs = {str(i): partial(changed, lm, ids, config["rule"]) for i, ids in enumerate(beginnings)}
    return {"metrics": {"layers": lm.layers}, "curves": {"texts": list(checkpointed(jobs, work, progress).values())}}


def changed(lm: LM, ids: Tensor, rule: str, chat: bool = False) -> dict:
    """One text: the sink with the median write scaled, all sinks removed, keys and values. Empty without sinks."""
    found = find(lm, ids, chat)
    sinks = found.secondary(rule)
    written = sorted(sinks, key=lambda sink: float(found.stream.feed_forward_norm[sink.start, sink.token]))
    return {
        "sinks": len(sinks),
        "scaled": scaling(lm, found, written[(len(written) - 1) // 2], rule) if sinks else {},
        "removed": removal(lm, found, rule),
        "heads": keys_and_values(lm, found, sinks) if sinks else {},
    }


def scaling(lm: LM, found: Found, sink: method.Sink, rule: str, factors: tuple[float, ...] = FACTORS) -> dict:
    """The write that makes ``sink`` multiplied by each of ``factors``: how long the state, the attention, the life.

    ``given``, ``primary``: mean attention to the token and to the primary, over the blocks that meet the token while it
    is a sink unchanged. ``lifetime``: blocks in which ``rule`` flags it; ``aligned``: in how many its state is
    aligned, whatever the norm. ``written``: norm of the scaled write.
    """
    alive, times = sink.attended, int(rule.split()[0])
    rows = []
    for factor in factors:
        with block_outputs.scaled(lm.model, sink.start, [sink.token], factor):
            stream = residual.trace(lm.model, found.ids, found.stream.at)
        flags = method.by_norm(stream.norm, stream.cosine, stream.at, times)
        rows.append(
            {
                "factor": factor,
                "written": float(stream.feed_forward_norm[sink.start, sink.token]),
                "given": float(stream.given[alive, sink.token].mean()),
                "lifetime": int(flags[:, sink.token].sum()),
                "aligned": method.aligned_for(stream.cosine[:, sink.token], sink.start),
                "primary": float(stream.given[alive, stream.at].mean()),
            }
        )
    return {"token": sink.token, "start": sink.start, "lifetime": sink.lifetime, "factors": rows}


def removal(lm: LM, found: Found, rule: str) -> dict:
    """Without the writes that make the sinks of ``rule``, and without those of as many like tokens, for comparison.

    Each of "unchanged", "without sinks", "without others": what the primary is given by block, and the mean loss in
    nats. ``alive``: blocks whose attention meets one of the sinks; ``like``: how many of the others have a sink's id,
    the rest being neighbours. Empty without sinks.
    """
    pairs, like = others(found, rule)
    if not pairs:
        return {}
    plans = {
        "unchanged": {},
        "without sinks": _by_block((sink.start, sink.token) for sink, _ in pairs),
        "without others": _by_block((sink.start, other) for sink, other in pairs),
    }
    told = {}
    for name, plan in plans.items():
        with ExitStack() as stack:
            for block, tokens in plan.items():
                stack.enter_context(block_outputs.scaled(lm.model, block, tokens, 0.0))
            stream, loss = residual.trace(lm.model, found.ids, found.stream.at), mean_loss(lm, found.ids)
        told[name] = {"primary": _of_primary(stream), "loss": loss}
    alive = sorted({block for sink, _ in pairs for block in sink.attended})
    return {"sinks": len(pairs), "like": like, "alive": alive, **told}


def others(found: Found, rule: str) -> tuple[list[tuple[method.Sink, int]], int]:
    """Each sink with a token that is none: the nearest like one that is free, else the nearest of all; and how many."""
    beside, flagged = controls(found, rule), {sink.token for sink in found.sinks[rule]}
    scored = range(found.stream.at + 1, len(found.ids) - LATE)
    pairs, taken, like = [], set(flagged), 0
    for sink in found.secondary(rule):
        free = [other for other in beside[sink.token] if other not in taken]
        like += bool(free)
        free = free or sorted(set(scored) - taken, key=lambda place, sink=sink: abs(place - sink.token))
        pairs.append((sink, free[0]))
        taken.add(free[0])
    return pairs, like


def keys_and_values(lm: LM, found: Found, sinks: list[method.Sink]) -> dict:
    """Norms of the sinks' keys and values, of the primary's and (median) of ordinary tokens', while the sinks live.

    ``…_over``: the sinks' over the ordinary ones', mean over sinks and the blocks of their lives; ``nearer``: share of
    sinks whose key norm is nearer, in ratio, to the primary's than to the ordinary ones'.
    """
    keys, values = residual.keys_and_values(lm.model, found.ids)
    flagged = {sink.token for some in found.sinks.values() for sink in some if some is not found.sinks["official"]}
    usual = [i for i in range(found.stream.at + 1, len(found.ids) - LATE) if i not in flagged]
    ratios, nearer = defaultdict(list), []
    for sink in sinks:
        life = sink.attended
        for name, norms in (("key", keys), ("value", values)):
            ordinary = norms[life][:, usual].median(dim=1).values
            ratios[f"{name}_over"].append(float((norms[life, sink.token] / ordinary).mean()))
            ratios[f"primary_{name}_over"].append(float((norms[life, found.stream.at] / ordinary).mean()))
        ordinary = keys[life][:, usual].median(dim=1).values.log().mean()
        own, primary = (keys[life, token].log().mean() for token in (sink.token, found.stream.at))
        nearer.append(bool((own - primary).abs() < (own - ordinary).abs()))
    return {name: sum(some) / len(some) for name, some in ratios.items()} | {"nearer": sum(nearer) / len(nearer)}


def _by_block(pairs) -> dict[int, list[int]]:
    grouped = defaultdict(list)
    for block, token in pairs:
        grouped[block].append(token)
    return dict(grouped)


def _of_primary(stream: Stream) -> list[float]:
    return stream.given[:, stream.at].tolist()


@torch.no_grad()
def mean_loss(lm: LM, ids: Tensor) -> float:
    """Mean loss of a text (T,), in nats."""
    ids = ids.to(lm.model.device)
    hidden = hidden_states(lm.model, ids[None])[0]
    return float(token_losses(lm.model, hidden[:-1], ids[1:]).mean())
