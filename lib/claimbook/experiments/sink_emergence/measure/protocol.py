"""One model by the paper's protocol: natural text, random tokens, one token repeated, and what its states look like."""

from dataclasses import dataclass

import torch
from torch import Tensor

from claimbook.experiments.sink_emergence.measure import real, states
from claimbook.lm import geometry, variants
from claimbook.lm.decoder import Decoder, build
from claimbook.lm.load import LM
from claimbook.metrics.sinks import EPSILON, sink_rate
from claimbook.papers import sink_emergence as method


@dataclass(frozen=True)
class Found:
    """alpha (N, L, H, 32) by kind of input, and the geometry around the first token of some samples of natural text.

    ``repeated_norms`` (N,): the smallest norm of any token of a repeated one over the mean of natural text's later
    tokens, in the layer where natural text's first token is largest. ``theory``: the rotary parts of the propositions,
    on "repeated" tokens and on "natural" ones, see `real.repeats`; empty for other positions.
    """

    natural: Tensor
    random: Tensor
    repeated: Tensor
    geometry: geometry.Geometry
    repeated_norms: list[float]
    theory: dict[str, dict]

    def rate(self, kind: str, epsilon: float = EPSILON) -> Tensor:
        """Sink_k of each sample, (N, 32)."""
        return sink_rate(getattr(self, kind), epsilon)

    @property
    def sink_heads(self) -> Tensor:
        """(L, B, H): heads with a sink on the first token, in the samples of the geometry."""
        count = self.geometry.hidden_norm.shape[1]
        return (self.natural[:count, :, :, 0] > EPSILON).transpose(0, 1)


def measure(lm: LM, key: str, sizes: dict, seed: int) -> Found:
    """Natural text of ``key``, random tokens, and one token repeated; ``sizes``: see `inputs.SIZES`."""
    count, length = sizes["samples"], sizes["length"]
    ids, same = real.natural(lm, key, count, length), real.repeated(lm, count, length, seed + 1)
    some, few = ids[: sizes["angles"]], sizes["repeats"]
    return Found(
        natural=real.importance(lm, ids),
        random=real.importance(lm, real.random(lm, count, length, seed)),
        repeated=real.importance(lm, same),
        geometry=real.observe(lm, some),
        repeated_norms=repeated_norms(lm, some, same[: len(some)]),
        theory={"repeated": real.repeats(lm, same[:few]), "natural": real.repeats(lm, ids[:few])} if rotary(lm) else {},
    )


@torch.no_grad()
def repeated_norms(lm: LM, natural: Tensor, same: Tensor) -> list[float]:
    """See `Found`; natural text and repeated tokens (N, T)."""
    text, repeated = (states.norms(lm.model, ids.to(lm.model.device)) for ids in (natural, same))  # (L, N, T)
    later = text[..., 1:].mean(dim=-1)
    layer = (text[..., 0] / later).mean(dim=1).argmax()
    return (repeated[layer].min(dim=-1).values / later[layer].mean()).tolist()


def without_start(lm: LM, key: str, sizes: dict) -> Tensor | None:
    """Sink_1 of each sample without what the tokenizer puts in front; None where it puts nothing."""
    if not len(lm.start):
        return None
    ids = real.natural(lm, key, sizes["samples"], sizes["length"], start=False)
    return sink_rate(real.importance(lm, ids, keys=1))[:, 0]


def rotary(lm: LM) -> bool:
    """Whether the model's positions are rotary."""
    return any(name.endswith("rotary_emb") for name, _ in lm.model.named_modules())


def by_positions_alone(ids: Tensor) -> dict[str, float]:
    """Propositions 1 to 3, on untrained decoders that read ids (N, T) below 50: largest deviation of any row."""
    return {scheme: _deviation(scheme, ids) for scheme in ("none", "alibi", "relative")}


def _deviation(distance: str, ids: Tensor) -> float:
    attention, length = variants.Attention(distance=distance), ids.shape[1]
    spec = Decoder(vocabulary=50, layers=3, width=64, heads=4, mlp=128, positions="none", attention=attention)
    alone = method.uniform(length) if distance == "none" else None
    largest = Deviation(method.by_distance(variants.distance_bias(attention, 4, length)) if alone is None else alone)
    model = build(spec, 0)
    with torch.no_grad(), variants.observed(model, largest):
        model(input_ids=ids)
    return largest.value


class Deviation:
    """Reducer: the largest deviation of any row from what is expected, (T, T) or (H, T, T)."""

    def __init__(self, expected: Tensor):
        self.expected, self.value = expected, 0.0

    def update(self, layer: int, start: int, rows: Tensor) -> None:
        self.value = max(self.value, float((rows - self.expected).abs().max()))


def exchanged(lm: LM, sizes: dict, seed: int, other: int = 4) -> dict[str, Tensor] | None:
    """Table 7: Sink of each sample of a repeated token, before and with position 1 exchanged; None without a table.

    ``replaced``: Sink_1 with position 1 replaced by position ``other`` + 1; ``swapped``: Sink of that position with
    both swapped.
    """
    if not method.has_position_table(lm.model):
        return None
    ids = real.repeated(lm, sizes["samples"], sizes["length"], seed)
    rates = {"before": sink_rate(real.importance(lm, ids))[:, 0]}
    for name, swap, key in (("replaced", False, 0), ("swapped", True, other)):
        with method.positions_exchanged(lm.model, 0, other, swap=swap):
            rates[name] = sink_rate(real.importance(lm, ids))[:, key]
    return rates


# --- what takes minutes is stored, or measured live on another model or text -----------------------------------------


@torch.no_grad()
def measured(lm: LM, name: str, key: str, config: dict) -> dict:
    """Experiment "domains", "windows" or "interventions" of the stored run's ``config`` on a model and a text."""
    if name == "domains":
        config = config | {"texts": [key, *config["texts"][1:]], "lengths_of": key}
        return {text: real.domain(lm, text, config) for text in config["texts"]}
    ids = real.natural(lm, key, config["n_documents"], config["length"])
    if name == "windows":
        return {"rows": [real.windows(lm, row) for row in ids]}
    firsts = [real.first_of(lm, row) for row in ids]
    return {"documents": [real.losses(lm, row, firsts, i, config["loss_from"]) for i, row in enumerate(ids)]}
