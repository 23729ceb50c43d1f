"""Decoders trained on text as the first hearing measured them: kept for what is stored of them, see `stored`."""

from pathlib import Path

import torch

from claimbook import paths
from claimbook.lm import geometry, variants
from claimbook.lm.decoder import Decoder, build
from claimbook.lm.pretraining import Chunks, Corpus
from claimbook.lm.training import Recipe, mean_loss, train
from claimbook.metrics.sinks import Importance, sink_rate

CHAPTER = "sink_emergence"


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: one arm with one seed, measured along the way."""
    corpus, recipe = Corpus(**config["corpus"]), Recipe(**config["recipe"])
    chunks = Chunks(corpus, paths.chapter_data(CHAPTER))
    spec = Decoder(vocabulary=chunks.vocabulary, context=corpus.length, **config["decoder"])
    model = build(spec, config["seed"])
    probe = Probe(chunks, spec, config)
    found = train(
        model,
        recipe,
        lambda step: chunks.batch(step, config["batch"], config["seed"]),
        measure=probe,
        measure_at=tuple(step for step in config["measure_at"] if step <= recipe.steps),
        loss_every=config["loss_every"],
        work=work,
        progress=progress,
    )
    return {
        "metrics": {
            "unique_tokens": chunks.tokens,
            "tokens_per_step": config["batch"] * corpus.length,
            "parameters": sum(p.numel() for p in model.model.layers.parameters()),
            "parameters_in_all": sum(p.numel() for p in model.parameters()),
        },
        "curves": found,
    }


class Probe:
    """Measures a decoder on held-out text: the paper's protocol, 100 samples of 64 tokens, nothing in front."""

    def __init__(self, chunks: Chunks, spec: Decoder, config: dict):
        self.loss_on = chunks.held_out(config["loss_chunks"])
        self.ids, _ = chunks.held_out(config["samples"], config["sample_length"])
        self.slots, self.keys = spec.attention.slots, config["keys"]

    def __call__(self, model) -> dict:
        """Validation loss; Sink_k at epsilon 0.2 and 0.3, the bias first; by layer and head alpha; by layer norms."""
        importance = Importance(self.keys, self.slots)
        with variants.observed(model, importance):
            model.base_model(input_ids=self.ids, use_cache=False)
        alpha = importance.result()
        seen = geometry.observe(model, self.ids[:16], variants.attend)
        return {
            "loss": _loss(model, *self.loss_on),
            "sink": {str(epsilon): sink_rate(alpha, epsilon).mean(dim=0).tolist() for epsilon in (0.2, 0.3)},
            "alpha": alpha[..., : self.slots + 1].mean(dim=0).tolist(),
            "hidden_norm": seen.hidden_norm.mean(dim=1).tolist(),
            "key_norm": seen.key_norm.mean(dim=(1, 2)).tolist(),
            "value_norm": seen.value_norm.mean(dim=(1, 2)).tolist(),
        }


def _loss(model, ids: torch.Tensor, targets: torch.Tensor) -> float:
    losses = [mean_loss(model, *part) for part in zip(ids.split(32), targets.split(32), strict=True)]
    return float(torch.stack(losses).mean())
