"""What secondary sinks do: one write scaled, and all of them taken away, against tokens of the same kind."""

from collections import defaultdict
from contextlib import ExitStack

import torch
from torch import Tensor

from claimbook.experiments.secondary_sinks.find import Found, controls
from claimbook.lm import residual, writes
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, token_losses
from claimbook.lm.residual import Stream
from claimbook.papers import secondary_sinks as method

FACTORS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of the write that makes a sink


def scaling(lm: LM, found: Found, sink: method.Sink, times: int, factors: tuple[float, ...] = FACTORS) -> dict:
    """The write that makes ``sink`` multiplied by each of ``factors``: how long the state, the attention, the life.

    ``given``: mean attention to the token over the blocks in which it is a sink unchanged. ``lifetime``: blocks in
    which our rule flags it. ``written``: norm of the scaled write. ``primary``: what the primary is given meanwhile.
    """
    alive = slice(sink.start, sink.start + sink.lifetime)
    rows = []
    for factor in factors:
        with writes.scaled(lm.model, sink.start, [sink.token], factor):
            stream = residual.trace(lm.model, found.ids, found.stream.at)
        flags = method.by_norm(stream.norm, stream.cosine, stream.at, times)
        rows.append(
            {
                "factor": factor,
                "written": float(stream.feed_forward_norm[sink.start, sink.token]),
                "given": float(stream.given[alive, sink.token].mean()),
                "lifetime": int(flags[:, sink.token].sum()),
                "primary": float(stream.given[alive, stream.at].mean()),
            }
        )
    return {"token": sink.token, "start": sink.start, "lifetime": sink.lifetime, "factors": rows}


def removal(lm: LM, found: Found, rule: str) -> dict:
    """Without the writes that make the sinks of ``rule``, and without those of as many like tokens, for comparison.

    Each of "unchanged", "without sinks", "without controls": what the primary is given by block, and the mean loss in
    nats. Empty where the text has no sink, or no token of the same kind.
    """
    sinks, beside = found.sinks[rule], controls(found, rule, count=1)
    pairs = [(sink, beside[sink.token][0]) for sink in sinks if beside[sink.token]]
    if not pairs:
        return {}
    plans = {
        "unchanged": {},
        "without sinks": _by_block((sink.start, sink.token) for sink, _ in pairs),
        "without controls": _by_block((sink.start, other) for sink, other in pairs),
    }
    told = {}
    for name, plan in plans.items():
        with ExitStack() as stack:
            for block, tokens in plan.items():
                stack.enter_context(writes.scaled(lm.model, block, tokens, 0.0))
            stream, loss = residual.trace(lm.model, found.ids, found.stream.at), mean_loss(lm, found.ids)
        told[name] = {"primary": _of_primary(stream), "loss": loss}
    return {"sinks": len(pairs), "blocks": sorted({sink.start for sink, _ in pairs}), **told}


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
