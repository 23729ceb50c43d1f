"""What sinks do: writes scaled, turned and taken away, beside those of tokens that are none."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor
from torch.nn.functional import normalize

from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.secondary_sinks import inputs
from claimbook.experiments.secondary_sinks.measure.found import Found, find, others
from claimbook.lm import block_outputs, residual
from claimbook.lm.attention import observed
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, token_losses
from claimbook.papers import secondary_sinks as method

FACTORS = (0.0, 0.5, 1.0, 4.0)  # of the write that makes a sink
FARTHEST = 2.25  # keys that join the primary's are not farther off, in ratio: 20 beside 45 in the paper's figure
UNCHANGED, NO_SINKS, NO_OTHERS, NO_PRIMARY = "unchanged", "without the sinks", "without others", "without the primary"


@dataclass(frozen=True)
class Row:
    """The beginning of one text.

    ``sinks``, ``untrained``: how many our rule finds in the model and in the same network untrained. The others are
    empty without sinks. Of the sink with the median write: ``scaled``, see `scaling`; ``room``: layers on end in which
    the primary keeps the direction it has where the sink starts; ``turned``: what the sink draws with its write "at
    right angles" and "straight along" that direction, as long as before; ``without_next``: what it draws without the
    next layer's feed-forward write. By plan: ``primary``: attention to the primary by layer,
    "in proportion": had what was taken away been shared in proportion; ``loss``: in nats. ``meets``: layers whose
    attention meets a sink. ``norms``: see `keys_and_values`.
    """

    sinks: int
    untrained: int
    scaled: list[dict]
    room: int
    turned: dict[str, float]
    without_next: float | None
    primary: dict[str, list[float]]
    loss: dict[str, float]
    meets: list[int]
    norms: dict


def units(lm: LM, config: dict) -> dict[str, tuple[Tensor, LM]]:
    """Texts, each with the untrained network."""
    blank = untrained(lm)
    return {name: (ids, blank) for name, ids in inputs.texts(lm, config).items()}


def untrained(lm: LM) -> LM:
    """A network of the same shape as it was before any training."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blank = AutoModelForCausalLM.from_config(lm.model.config)
    return LM("untrained", blank.eval().to(lm.model.device, lm.model.dtype), lm.tokenizer)


@torch.no_grad()
def measure(lm: LM, unit: tuple[Tensor, LM], config: dict) -> Row:
    (ids, blank), chat = unit, inputs.has_chat(lm, config)
    found = find(lm, ids, chat)
    sinks = found.secondary()
    counts = {"sinks": len(sinks), "untrained": len(find(blank, ids, chat).secondary())}
    if not sinks:
        return Row(**counts, scaled=[], room=0, turned={}, without_next=None, primary={}, loss={}, meets=[], norms={})
    median = sorted(sinks, key=lambda sink: write_norm(found, sink))[(len(sinks) - 1) // 2]
    pairs = others(found, sinks)
    ways, right_angles = directions(lm, found, sinks, pairs)
    straight = write_norm(found, median) * ways[median.start]
    turned = {}
    for way, write in (("at right angles", right_angles[median.token]), ("straight along", straight)):
        with rewritten(lm.model, [(median.start, median.token, write)]):
            turned[way] = drawn(residual.trace(lm.model, ids, found.stream.at), median)
    with block_outputs.scaled(lm.model, median.start + 1, [median.token], 0.0):
        without_next = drawn(residual.trace(lm.model, ids, found.stream.at), median)
    primary, loss = removal(lm, found, sinks, pairs)
    writes = [(sink.start, sink.token, right_angles[sink.token]) for sink in sinks]
    return Row(
        **counts,
        scaled=scaling(lm, found, median),
        room=method.aligned_on_end(ways @ ways[median.start], median.start),
        turned=turned,
        without_next=without_next,
        primary=primary,
        loss=loss,
        meets=sorted({layer for sink in sinks for layer in sink.attended}),
        norms=keys_and_values(lm, found, sinks, writes),
    )


def write_norm(found: Found, sink: method.Sink) -> float:
    return float(found.stream.feed_forward_norm[sink.start, sink.token])


def drawn(stream: residual.Stream, sink: method.Sink) -> float:
    """Mean attention to a token in the layers that meet it while it is a sink unchanged."""
    return float(stream.given[sink.attended, sink.token].mean())


def scaling(lm: LM, found: Found, sink: method.Sink) -> list[dict]:
    """The write that makes ``sink`` multiplied by each of `FACTORS`: what it draws, and where its state is aligned.

    "on_end": layers aligned from the start on without a gap; "aligned": in all.
    """
    rows = []
    for factor in FACTORS:
        stream = found.stream
        if factor != 1:
            with block_outputs.scaled(lm.model, sink.start, [sink.token], factor):
                stream = residual.trace(lm.model, found.ids, stream.at)
        cosines = stream.cosine[:, sink.token]
        rows.append(
            {
                "factor": factor,
                "given": drawn(stream, sink),
                "on_end": method.aligned_on_end(cosines, sink.start),
                "aligned": method.aligned_for(cosines, sink.start),
            }
        )
    return rows


# --- writes replaced -----------------------------------------------------------------------------------------------


def directions(lm: LM, found: Found, sinks: list[method.Sink], pairs: dict[int, int]) -> tuple[Tensor, dict]:
    """The primary's direction after every layer, unit vectors (L, d), and a write at right angles to it by sink.

    That is the write of the token that the sink is paired with, in the same layer, without what it has along the
    primary, and as long as the sink's own: a direction in which the layer does write.
    """
    ways, writes = {}, {}

    def see(layer: int, before: Tensor, attention: Tensor, feed_forward: Tensor, after: Tensor) -> None:
        ways[layer] = normalize(after[0, found.stream.at].float(), dim=0)
        for sink in sinks:
            if sink.start == layer:
                other = feed_forward[0, pairs.get(sink.token, sink.token)].float()
                across = normalize(other - (other @ ways[layer]) * ways[layer], dim=0)
                writes[sink.token] = write_norm(found, sink) * across

    with block_outputs.observed(lm.model, see):
        lm.model.base_model(input_ids=found.ids[None].to(lm.model.device), use_cache=False)
    return torch.stack([ways[layer] for layer in sorted(ways)]), writes


@contextmanager
def rewritten(model, writes: list[tuple[int, int, Tensor]]) -> Iterator[None]:
    """Inside the block the feed-forward writes of (layer, token, vector (d,)) are those vectors, in one text."""
    by_layer = defaultdict(list)
    for layer, token, write in writes:
        by_layer[layer].append((token, write))

    def hook(plan: list[tuple[int, Tensor]]):
        def change(module, inputs, output):
            new = (output[0] if isinstance(output, tuple) else output).clone()
            rows = new.view(-1, new.shape[-1])
            for token, write in plan:
                if token < len(rows):  # a shorter text, by which a model is proven, may pass through too
                    rows[token] = write.to(rows)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return change

    makers = block_outputs.writers(model)
    with ExitStack() as stack:
        for layer, plan in by_layer.items():
            stack.callback(makers[layer].feed_forward.register_forward_hook(hook(plan)).remove)
        yield


# --- writes taken away ---------------------------------------------------------------------------------------------


class Columns:
    """What every head and query gives some tokens: a reducer for `observed`."""

    def __init__(self, tokens: list[int]):
        self.tokens, self._rows = torch.tensor(tokens), defaultdict(list)

    def update(self, layer: int, start: int, probs: Tensor) -> None:
        seen = self.tokens < probs.shape[-1]
        row = torch.zeros(*probs.shape[1:3], len(seen))
        row[..., seen] = probs[0][..., self.tokens[seen]].float().cpu()
        self._rows[layer].append(row)

    def result(self) -> Tensor:
        """(L, H, T, tokens)."""
        return torch.stack([torch.cat(self._rows[layer], dim=1) for layer in sorted(self._rows)])


def removal(lm: LM, found: Found, sinks: list[method.Sink], pairs: dict[int, int]) -> tuple[dict, dict]:
    """Attention to the primary and loss by plan, as `Row` has them."""
    plans = {
        UNCHANGED: [],
        NO_SINKS: [(sink.start, sink.token) for sink in sinks],
        NO_OTHERS: [(sink.start, pairs[sink.token]) for sink in sinks if sink.token in pairs],
        NO_PRIMARY: [(found.massive[0], found.stream.at)],
    }
    tokens = [found.stream.at, *(sink.token for sink in sinks), *pairs.values()]
    groups = {NO_SINKS: slice(1, 1 + len(sinks)), NO_OTHERS: slice(1 + len(sinks), None)}
    seen, loss = {}, {}
    for name, plan in plans.items():
        columns = Columns(tokens)
        with ExitStack() as stack:
            for layer, token in plan:
                stack.enter_context(block_outputs.scaled(lm.model, layer, [token], 0.0))
            loss[name] = mean_loss(lm, found.ids, columns)
        seen[name] = columns.result()  # (L, H, T, tokens)
    primary = {name: by_layer(seen[name][..., 0]) for name in (UNCHANGED, NO_SINKS, NO_OTHERS)}
    for name, group in groups.items():
        before, after = (seen[plan][..., group].sum(dim=-1) for plan in (UNCHANGED, name))
        shared = seen[UNCHANGED][..., 0] * (1 - after) / (1 - before).clamp(min=1e-6)
        primary[f"{name}, in proportion"] = by_layer(shared)
    return primary, loss


def by_layer(given: Tensor) -> list[float]:
    """Attention (L, H, T) by layer, mean over heads and queries."""
    return given.mean(dim=(1, 2)).tolist()


def mean_loss(lm: LM, ids: Tensor, columns: Columns) -> float:
    """Mean loss of a text (T,), in nats; ``columns`` sees its attention."""
    ids = ids.to(lm.model.device)
    with observed(lm.model, columns):
        hidden = hidden_states(lm.model, ids[None])[0]
    return float(token_losses(lm.model, hidden[:-1], ids[1:]).mean())


# --- keys and values -----------------------------------------------------------------------------------------------


def keys_and_values(lm: LM, found: Found, sinks: list[method.Sink], writes: list[tuple[int, int, Tensor]]) -> dict:
    """Norms of keys and values in the layers of a sink's life, with the sinks' writes as they are and as ``writes``.

    "value", "turned_value", "ordinary_value": means over sinks, of the sink, of it with a write at right angles, and of
    the median ordinary token. "nearer", "turned_nearer": by sink, 1 where its key norm is nearer, in ratio, to the
    primary's than to ordinary ones, and within `FARTHEST` of it. "key", "primary_key": over ordinary ones.
    """
    at, flagged = (
        found.stream.at,
        {one.token for rule in found.sinks for one in found.sinks[rule] if rule != "official"},
    )
    usual = [place for place in found.scored if place not in flagged]
    plain = residual.keys_and_values(lm.model, found.ids)
    with rewritten(lm.model, writes):
        turned = residual.keys_and_values(lm.model, found.ids)
    rows = defaultdict(list)
    for sink in sinks:
        life = sink.attended
        keys, values = (norms[life][:, usual].median(dim=1).values for norms in plain)
        ordinary, primary = (norms.log().mean() for norms in (keys, plain[0][life, at]))
        rows["ordinary_value"].append(float(values.mean()))
        rows["primary_key"].append(float((primary - ordinary).exp()))
        for name, (own_keys, own_values) in (("", plain), ("turned_", turned)):
            own = own_keys[life, sink.token].log().mean()
            rows[f"{name}value"].append(float(own_values[life, sink.token].mean()))
            rows[f"{name}nearer"].append(int((own - primary).abs() < min((own - ordinary).abs(), log(FARTHEST))))
            rows[f"{name}key"].append(float((own - ordinary).exp()))
    means = {name: sum(some) / len(some) for name, some in rows.items() if not name.endswith("nearer")}
    return means | {name: rows[name] for name in ("nearer", "turned_nearer")}


EXPERIMENT = ModelExperiment("texts", Row, units, measure)
run = EXPERIMENT.run
