"""Decoders trained from scratch on text, with equal parameters: what is a gate worth where there is hardly a sink?"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from claimbook import paths
from claimbook.experiments.gated_attention.measure.seen import FirstToken, Scores, even, finite, mean, multiplies
from claimbook.lm import geometry, variants
from claimbook.lm.decoder import Decoder, build
from claimbook.lm.pretraining import Chunks, Corpus
from claimbook.lm.training import Recipe, train
from claimbook.papers import gated_attention as method

TOKENIZER_OF = "sink_emergence"  # the chapter whose small tokenizer is read


@dataclass(frozen=True)
class Row:
    """One training. ``loss``: of every step, in nats. ``measured``: at each point of ``measure_at`` the ``loss`` of
    held-out text and F-Attn as ``share``. ``end``: see `at_the_end`. ``parameters``: outside the embeddings.
    ``device``: what it was trained on; arms are compared on one kind only. None: not finite, it diverged.
    """

    seed: int
    device: str
    parameters: int
    loss: list[float]
    measured: list[dict]
    end: dict


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: one arm with one seed. Its beginning has the same curves, shorter."""
    row = asdict(one(config, work, progress))
    return {"curves": {key: row.pop(key) for key in ("loss", "measured")}, "metrics": row}


def read(stored: dict) -> Row:
    """The row of a stored run."""
    return Row(**stored["metrics"], **stored["curves"])


def one(config: dict, work: Path | None = None, progress=lambda *_: None) -> Row:
    """Train and measure one arm with one seed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe(**config["recipe"])
    chunks = Chunks(Corpus(**config["corpus"]), paths.chapter_data(TOKENIZER_OF))
    model = untrained(config, chunks.vocabulary).to(device)
    ids, targets = (part.to(device) for part in chunks.held_out(config["held_out"]))

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows, wanted = chunks.batch(step, config["batch"], config["seed"])
        return rows.to(device), wanted.to(device)

    found = train(
        model,
        recipe,
        batch,
        measure=lambda model: {"loss": loss(model, ids, targets), "share": share(model, ids[:64])},
        measure_at=tuple(step for step in config["measure_at"] if step <= recipe.steps),
        work=work if device.type == "cpu" else None,
        progress=progress,
    )
    return Row(
        seed=config["seed"],
        device=device.type,
        parameters=sum(parameter.numel() for parameter in model.model.layers.parameters()),
        loss=finite([round(value, 4) for value in found["loss"]]),
        measured=finite(found["measured"]),
        end=finite(at_the_end(model, ids[:64], multiplies(config["gates"]))),
    )


def untrained(config: dict, vocabulary: int):
    """A decoder with normed queries and keys and its gates, for which its feed-forward layers pay where ``matched``.

    Where an arm has ``output_start``, its attention's output layers are multiplied by it before training.
    """
    sizes, gates = dict(config["decoder"]), [method.GATES[name] for name in config["gates"]]
    if config["matched"]:
        size = sizes["width"] // sizes["heads"]
        plain = method.Shape(sizes["layers"], sizes["width"], sizes["heads"], sizes["heads"], size)
        sizes["mlp"] = method.matched(sizes["mlp"], tuple(gates), plain)
    model = build(Decoder(vocabulary=vocabulary, context=config["corpus"]["length"], **sizes), config["seed"])
    for layer in geometry.layers(model):
        layer.self_attn.o_proj.weight.data *= config.get("output_start", 1.0)
    method.attach(model, *gates, seed=config["seed"])
    if config["query_key_norm"]:
        method.norm_queries_and_keys(model)
    return model


def loss(model, ids: Tensor, targets: Tensor) -> float:
    """Mean loss of held-out text in nats."""
    losses = [
        cross_entropy(model(input_ids=rows, use_cache=False).logits.float().flatten(0, 1), wanted.flatten())
        for rows, wanted in zip(ids.split(32), targets.split(32), strict=True)
    ]
    return float(torch.stack(losses).mean())


def first_token(model, ids: Tensor) -> Tensor:
    """What queries give to the first token, (L, B, H, T - 1)."""
    seen = FirstToken()
    with torch.no_grad(), variants.observed(model, seen):
        model.base_model(input_ids=ids, use_cache=False)
    return seen.result()


def share(model, ids: Tensor) -> float:
    """F-Attn."""
    return float(first_token(model, ids).mean())


@torch.no_grad()
def at_the_end(model, ids: Tensor, scored: bool) -> dict:
    """``share``: F-Attn by layer, ``even``: under even attention. ``score``: mean by gate; ``zeros``: share below 0.1;
    ``before`` and ``after``: mean absolute value of what is gated; None without such scores. ``massive``: largest
    component of a state, mean over layers; ``first``: norm of the first state over the mean of the others, largest
    over layers after the first.
    """
    scores = Scores()
    with method.watched(model, scores):
        given = first_token(model, ids)
    around = geometry.observe(model, ids, variants.attend)
    return {
        "share": given.mean(dim=(1, 2, 3)).tolist(),
        "even": even(ids.shape[1]),
        "score": [float(one.mean()) for one in scores.by_token.values()] if scored else None,
        "zeros": mean(scores.zero.values()) if scored else None,
        "before": mean(before for before, _ in scores.sizes.values()) if scored else None,
        "after": mean(after for _, after in scores.sizes.values()) if scored else None,
        "massive": mean(largest(model, ids)),
        "first": float(around.hidden_norm.mean(dim=1)[1:].max()),
    }


def largest(model, ids: Tensor) -> list[float]:
    """M-Act by layer: the largest absolute component of its output."""
    found = []
    hooks = [
        layer.register_forward_hook(
            lambda module, inputs, out: found.append(float((out[0] if isinstance(out, tuple) else out).abs().max()))
        )
        for layer in geometry.layers(model)
    ]
    try:
        model.base_model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found
