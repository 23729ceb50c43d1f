"""Decoders trained from scratch on text: does a sink emerge, what moves it, and what is it worth? (sections 4 to 7)"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from claimbook import paths
from claimbook.experiments.sink_emergence.measure import states
from claimbook.experiments.sink_emergence.measure.raw import Raw
from claimbook.lm import geometry, variants
from claimbook.lm.attention import replaced
from claimbook.lm.decoder import Decoder, build
from claimbook.lm.pretraining import FIXED, Chunks, Corpus
from claimbook.lm.training import Recipe, train
from claimbook.metrics.sinks import EPSILON, Importance, sink_rate

CHAPTER = "sink_emergence"
EXCHANGED = 4  # Table 7 exchanges the first position with this one, from 0
SHORT = 32  # tokens that even the narrowest window sees at once


@dataclass(frozen=True)
class Row:
    """One training. ``measured`` has an entry for each point of ``measure_at``, see `Probe.along`; ``loss`` is the mean
    training loss of every ``loss_every`` steps in nats; ``end`` belongs to the trained decoder, see `Probe.at_the_end`.
    ``device``: what it was trained on; arms are compared on one kind only.
    """

    seed: int
    device: str
    unique_tokens: int
    parameters: int
    loss: list[float]
    measured: list[dict]
    end: dict


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: one arm with one seed, on a GPU where there is one. Its beginning has the same curves, shorter."""
    row = asdict(one(config, work, progress))
    curves = {key: row.pop(key) for key in ("loss", "measured")}
    return {"metrics": row, "curves": curves}


def read(stored: dict) -> Row:
    """The row of a stored run."""
    return Row(**stored["metrics"], **stored["curves"])


def one(config: dict, work: Path | None = None, progress=lambda *_: None) -> Row:
    """Train and measure one arm with one seed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    corpus, recipe = Corpus(**config["corpus"]), Recipe(**config["recipe"])
    chunks = Chunks(corpus, paths.chapter_data(CHAPTER))
    spec = Decoder(vocabulary=chunks.vocabulary, context=corpus.length, **config["decoder"])
    model = build(spec, config["seed"]).to(device)
    probe = Probe(chunks, spec, config, device)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        ids, targets = chunks.batch(step, config["batch"], config["seed"])
        return ids.to(device), scored(targets, config["unscored"]).to(device)

    found = train(
        model,
        recipe,
        batch,
        measure=probe.along,
        measure_at=tuple(step for step in config["measure_at"] if step <= recipe.steps),
        loss_every=config["loss_every"],
        work=work if device.type == "cpu" else None,  # on a GPU it takes a few minutes, without checkpoints
        progress=progress,
    )
    end = {}
    if recipe.steps in config["measure_at"]:  # not at the end of a beginning, of which only the curves count
        with torch.no_grad():
            end = probe.at_the_end(model)
    parameters = sum(parameter.numel() for parameter in model.model.layers.parameters())
    return Row(config["seed"], device.type, chunks.tokens, parameters, found["loss"], found["measured"], end)


def scored(targets: Tensor, skip: int) -> Tensor:
    """Targets (B, T) of which the first ``skip`` do not count: those that are a prefix."""
    if not skip:
        return targets
    targets = targets.clone()
    targets[:, :skip] = -100
    return targets


class Probe:
    """Measures a decoder on held-out text: the paper's protocol, 100 samples of 64 tokens, nothing in front.

    Sinks and alpha are of the bias, where there is one, and of the first five tokens, in this order.
    """

    def __init__(self, chunks: Chunks, spec: Decoder, config: dict, device: torch.device):
        ids, targets = chunks.held_out(config["loss_chunks"])
        self.ids, self.targets = ids.to(device), scored(targets, config["unscored"]).to(device)
        count, length = config["samples"], config["sample_length"]
        self.samples = self.ids[:count, :length]
        drawn = torch.randint(FIXED + 1, chunks.vocabulary, (count, 1), generator=torch.Generator().manual_seed(0))
        self.repeated = drawn.expand(-1, length).to(device)
        self.slots, self.keys, self.positions = spec.attention.slots, config["keys"], spec.positions

    def along(self, model) -> dict:
        """``loss``: of validation in nats, and ``loss_later``, from the fourth target on. By epsilon ``sink``: Sink_k.

        By layer and head ``alpha``, and ``shares``, of samples above 0.3. ``norms``: of the states of the first five
        tokens over the mean of all later ones, by layer; of the first token's ``key`` and ``value`` over the others'.
        """
        importance = self.importance(model, self.samples)
        geometry_of_first = geometry.observe(model, self.samples[:16], variants.attend)
        norms = states.norms(model, self.samples)
        losses = self.losses(model)
        return {
            "loss": float(losses.nanmean()),
            "loss_later": float(losses[3:].nanmean()),
            "sink": {str(epsilon): rounded(sink_rate(importance, epsilon).mean(dim=0)) for epsilon in (0.2, EPSILON)},
            "alpha": rounded(importance.mean(dim=0)),
            "shares": rounded((importance > EPSILON).float().mean(dim=0)),
            "norms": rounded((norms[..., :5] / norms[..., 5:].mean(dim=-1, keepdim=True)).mean(dim=1)),
            "key": rounded(geometry_of_first.key_norm.mean(dim=(1, 2))),
            "value": rounded(geometry_of_first.value_norm.mean(dim=(1, 2))),
        }

    def at_the_end(self, model) -> dict:
        """``by_sample``: Sink_k of each sample; ``attended``: its mean attention to each of the first 16 tokens.

        ``short``: Sink_k over 32 tokens. ``repeated``: Sink_k of one token repeated, as it is and, with learnt
        positions, with the first position ``replaced`` by the fifth or ``swapped`` with it (Table 7). ``row_sum`` and
        ``first_raw``: what rows past half sum to and what the first token gets of them, before they are made proxies.
        ``streamed``: loss under eviction, see `streamed`; ``by_position``: of each target, 0 where it does not count.
        """
        repeated = {"as it is": self.sinks(model, self.repeated)}
        if self.positions == "learned":
            for name, swap in (("replaced", False), ("swapped", True)):
                repeated[name] = self.sinks_exchanged(model, swap)
        raw, attended = Raw(self.slots), Importance(16, self.slots)
        with variants.observed(model, raw, attended):
            model.base_model(input_ids=self.samples, use_cache=False)
        half = self.ids.shape[1] // 2
        caches = {"all": None, "window": (0, SHORT), "first kept": (1, SHORT - 1), "first four kept": (4, SHORT - 4)}
        return {
            "by_sample": rounded(sink_rate(self.importance(model, self.samples))),
            "attended": rounded(attended.result().mean(dim=(1, 2))),
            "short": self.sinks(model, self.samples[:, :SHORT]),
            "repeated": repeated,
            "row_sum": raw.row_sum,
            "first_raw": raw.first,
            "streamed": {name: streamed(model, self.ids, self.targets, cache, half) for name, cache in caches.items()},
            "by_position": rounded(self.losses(model).nan_to_num(0.0)),
        }

    def losses(self, model) -> Tensor:
        """Mean validation loss in nats of each target, (T,); NaN for those that do not count."""
        found = []
        for ids, targets in zip(self.ids.split(32), self.targets.split(32), strict=True):
            logits = model(input_ids=ids, use_cache=False).logits.float()
            found.append(cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape))
        counted = torch.where(self.targets >= 0, torch.cat(found), torch.nan)
        return counted.mean(dim=0).cpu()

    def importance(self, model, ids: Tensor) -> Tensor:
        """alpha (N, L, H, slots + keys)."""
        found = Importance(self.keys, self.slots)
        with variants.observed(model, found):
            model.base_model(input_ids=ids, use_cache=False)
        return found.result()

    def sinks(self, model, ids: Tensor) -> list[float]:
        """Sink_k at epsilon 0.3, the bias first, mean over samples."""
        return rounded(sink_rate(self.importance(model, ids)).mean(dim=0))

    def sinks_exchanged(self, model, swap: bool) -> list[float]:
        """`sinks` of repeated tokens with the first learnt position replaced by, or swapped with, the fifth."""
        places = model.model.embed_tokens.places.data
        before = places.clone()
        places[0] = before[EXCHANGED]
        if swap:
            places[EXCHANGED] = before[0]
        try:
            return self.sinks(model, self.repeated)
        finally:
            places.copy_(before)


def rounded(values: Tensor) -> list:
    """Nested lists to the fifth decimal: what a share of 100 samples and 24 heads needs."""
    return values.double().round(decimals=5).tolist()


def streamed(model, ids: Tensor, targets: Tensor, cache: tuple[int, int] | None, start: int) -> float:
    """Mean loss in nats of the targets from ``start`` on where queries see the ``cache``'s first and last keys only.

    Keys that left stay away for good, as in a stream; positions are those in the text, all within the trained length.
    The bias, where there is one, is always seen. None: everything.
    """

    def function(module, query, key, value, mask, scaling=None, **ignored):
        weights = variants.scores(module, query, key, scaling)
        if cache is not None:
            weights = evicted(weights, cache, module.variant)
        return variants.output(module, weights, value).transpose(1, 2), None

    losses = []
    with replaced(model, function):
        for rows, wanted in zip(ids.split(32), targets.split(32), strict=True):
            logits = model(input_ids=rows, use_cache=False).logits[:, start:].float()
            losses.append(cross_entropy(logits.flatten(0, 1), wanted[:, start:].flatten()))
    return float(torch.stack(losses).mean())


def evicted(weights: Tensor, cache: tuple[int, int], variant: variants.Attention) -> Tensor:
    """Attention rows (B, H, T, slots + T) with only the first and last keys of ``cache`` kept, made whole again."""
    first, recent = cache
    steps = torch.arange(weights.shape[2], device=weights.device)
    kept = (steps[:, None] - steps < recent) | (steps < first)
    weights = weights * torch.nn.functional.pad(kept, (variant.slots, 0), value=True)
    if not variant.normalised:
        return weights
    return weights * (variant.row_sum / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12))
