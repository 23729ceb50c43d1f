"""What the notebook runs live, by tier, and when a stored run speaks for it."""

from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from claimbook.experiments.sink_emergence import real, toys
from claimbook.experiments.sink_emergence.stored import PRETRAINING_ARMS, STORED, TOYS
from claimbook.lm import geometry, variants
from claimbook.lm.decoder import Decoder, build
from claimbook.lm.load import LM
from claimbook.metrics.sinks import EPSILON, sink_rate
from claimbook.papers import sink_emergence as theory

TEXT = "wikipedia-excerpt"
PAPERS = ("gpt2-xl", "llama-2-7b", "llama-2-13b", "llama-3-8b", "mistral-7b", "pythia-6.9b", "pythia-12b")
CHAT = {"llama-2-7b-chat": "llama-2-7b", "mistral-7b-instruct": "mistral-7b"}  # chat model -> its base
SAMPLES = {"smoke": 4, "cpu": 100, "gpu": 100}
LENGTH = 64  # tokens of a sample, as in the paper
ANGLES = {"smoke": 2, "cpu": 24, "gpu": 24}  # samples for norms and angles
REPEATS = {"smoke": 2, "cpu": 8, "gpu": 8}  # samples for the theory of repeats
LIVE_STEPS = {"smoke": 20, "cpu": 100}  # of the toy that is trained again


@dataclass(frozen=True)
class Found:
    """One model measured by the paper's protocol: alpha (N, L, H, 32) by kind of input, and the geometry of some."""

    natural: Tensor
    random: Tensor
    repeated: Tensor
    geometry: geometry.Geometry
    repeats: dict

    def rate(self, kind: str, epsilon: float = EPSILON) -> Tensor:
        """Sink_k of each sample, (N, 32)."""
        return sink_rate(getattr(self, kind), epsilon)

    @property
    def sink_heads(self) -> Tensor:
        """(L, B, H): heads with a sink on the first token, in the samples of the geometry."""
        count = self.geometry.hidden_norm.shape[1]
        return (self.natural[:count, :, :, 0] > EPSILON).transpose(0, 1)


def measure(lm: LM, key: str, tier: str, seed: int) -> Found:
    """Natural text of ``key``, random tokens, and one token repeated."""
    count = SAMPLES[tier]
    ids = real.natural(lm, key, count, LENGTH)
    same = real.repeated(lm, count, LENGTH, seed + 1)
    return Found(
        natural=real.importance(lm, ids),
        random=real.importance(lm, real.random(lm, count, LENGTH, seed)),
        repeated=real.importance(lm, same),
        geometry=real.observe(lm, ids[: ANGLES[tier]]),
        repeats=real.repeats(lm, same[: REPEATS[tier]]) if rotary(lm) else {},
    )


def without_start(lm: LM, key: str, tier: str) -> Tensor | None:
    """Sink_1 of each sample without what the tokenizer puts in front; None where it puts nothing."""
    if not len(lm.start):
        return None
    ids = real.natural(lm, key, SAMPLES[tier], LENGTH, start=False)
    return sink_rate(real.importance(lm, ids, keys=1))[:, 0]


def rotary(lm: LM) -> bool:
    """Whether the model's positions are rotary."""
    return any(name.endswith("rotary_emb") for name, _ in lm.model.named_modules())


def by_positions_alone(length: int = 64) -> dict[str, float]:
    """Propositions 1 to 3, on untrained decoders: largest deviation of any attention row from what they say."""
    schemes = {"none": "none", "alibi": "alibi", "relative": "relative"}
    return {name: _deviation(distance, length) for name, distance in schemes.items()}


def _deviation(distance: str, length: int) -> float:
    attention = variants.Attention(distance=distance)
    spec = Decoder(vocabulary=50, layers=3, width=64, heads=4, mlp=128, positions="none", attention=attention)
    largest = Deviation(
        theory.uniform(length)
        if distance == "none"
        else theory.by_distance(variants.distance_bias(attention, 4, length))
    )
    model = build(spec, 0)
    with torch.no_grad(), variants.observed(model, largest):
        model(input_ids=torch.arange(1, 5)[:, None].expand(-1, length))
    return largest.value


class Deviation:
    """Reducer: the largest deviation of any row from what is expected, (T, T) or (H, T, T)."""

    def __init__(self, expected: Tensor):
        self.expected, self.value = expected, 0.0

    def update(self, layer: int, start: int, rows: Tensor) -> None:
        self.value = max(self.value, float((rows - self.expected).abs().max()))


def exchanged(lm: LM, tier: str, seed: int, other: int = 4) -> dict[str, Tensor] | None:
    """Table 7: Sink of each sample of a repeated token, before and with position 1 exchanged; None without a table.

    ``replaced``: Sink_1 with position 1 replaced by position ``other`` + 1; ``swapped``: Sink of that position with
    both swapped.
    """
    if not theory.has_position_table(lm.model):
        return None
    ids = real.repeated(lm, SAMPLES[tier], LENGTH, seed)
    rates = {"before": sink_rate(real.importance(lm, ids))[:, 0]}
    for name, swap, key in (("replaced", False, 0), ("swapped", True, other)):
        with theory.positions_exchanged(lm.model, 0, other, swap=swap):
            rates[name] = sink_rate(real.importance(lm, ids))[:, key]
    return rates


# --- stored runs -------------------------------------------------------------------------------------------------


def experiment(run, lm: LM, name: str, key: str) -> dict:
    """Curves of experiment "domains", "windows" or "interventions" for a model: stored, or measured live.

    At the smoke tier stored ones only, whatever the model. Empty where there is nothing to see: no sliding layers.
    """
    if name == "windows" and not real.sliding(lm):
        return {}
    for stored_name, declared in STORED.items():
        fits = stored_name.split("_")[0] == name and "model" in declared.config and key == TEXT
        if fits and run.speaks(stored_name, lm.name) and (stored := run.stored(stored_name)):
            return stored["curves"]
    return {} if run.smoke else measured_live(lm, name, key)


@torch.no_grad()
def measured_live(lm: LM, name: str, key: str) -> dict:
    """The same experiment as is stored for SmolLM2 or Gemma, on another model or text."""
    config = next(one.config for stored, one in STORED.items() if stored.split("_")[0] == name)
    if name == "domains":
        config = config | {"texts": [key, *config["texts"][1:]], "lengths_of": key}
        return {text: real.domain(lm, text, config) for text in config["texts"]}
    ids = real.natural(lm, key, config["n_documents"], config["length"])
    if name == "windows":
        return {"rows": [real.windows(lm, row) for row in ids]}
    firsts = [real.first_of(lm, row) for row in ids]
    return {"documents": [real.losses(lm, row, firsts, i, config["loss_from"]) for i, row in enumerate(ids)]}


def toy_runs(run) -> dict[str, list[dict]]:
    """Every arm of the toys that is stored: one entry for each seed."""
    found = {}
    for family in TOYS:
        stored = run.stored(f"toys_{family}")
        found |= stored["curves"] if stored else {}
    return found


def text_runs(run) -> dict[str, list[dict]]:
    """Every arm trained on real text that is stored: curves and metrics, one entry for each seed, from seed 0 on."""
    found = {}
    for arm, (_, seeds) in PRETRAINING_ARMS.items():
        stored = [run.stored(f"text_{arm}_{seed}") for seed in range(seeds)]
        stored = list(takewhile(bool, stored))  # arms are compared seed by seed: none may be left out in between
        if stored:
            found[arm] = [one["curves"] | one["metrics"] | {"wall_s": one["wall_s"]} for one in stored]
    return found


def toy_again(run) -> dict:
    """The first steps of the stored default toy, trained once more with its own seed."""
    config = STORED["toys_default"].config
    return toys.one(config["arms"]["default"], config["recipe"], config["seed"], steps=LIVE_STEPS.get(run.tier, 100))
