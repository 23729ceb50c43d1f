"""Delayed recall: a toy in which nobody looks at a token until long after it was made.

A text begins with BOS; six *pair tokens*, each one key with one value, stand at random places among noise; then each
key is asked once, in random order, and answered by its value. The answers are what is trained and scored. Bases are
trained and everything is measured in float64, so that a GPU and a cpu give the same numbers; gates learn in float32.
"""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from claimbook.experiments.trim_kv.pieces import artefact, device
from claimbook.papers import trim_kv as method

KEYS, VALUES, PAIRS, NOISE = 8, 8, 6, 16
BOS = 0
QUERY = 1  # first id of each kind
ANSWER = QUERY + KEYS
PAIR = ANSWER + VALUES
NOISES = PAIR + KEYS * VALUES
VOCABULARY = NOISES + NOISE
ASKED = 2 * PAIRS  # tokens of questions and answers, at the end
KINDS = {"all": (0, 16), "general": (0, 12), "narrow": (0, 4), "held out": (12, 16)}  # which noise tokens a text has
EVALUATION = 10_000_019  # seed of the texts that are measured


def sample(count: int, seed: int, length: int = 96, noise: str = "all") -> tuple[Tensor, Tensor]:
    """Ids and targets (count, length) of texts; targets are -100 but where an answer comes next."""
    generator = torch.Generator().manual_seed(seed)
    first, last = KINDS[noise]
    early = length - ASKED - 1
    ids = torch.full((count, length), BOS)
    ids[:, 1 : 1 + early] = NOISES + torch.randint(first, last, (count, early), generator=generator)
    keys = torch.rand(count, KEYS, generator=generator).argsort(dim=1)[:, :PAIRS]
    values = torch.randint(VALUES, (count, PAIRS), generator=generator)
    places = 1 + torch.rand(count, early, generator=generator).argsort(dim=1)[:, :PAIRS]
    ids.scatter_(1, places, PAIR + keys * VALUES + values)
    order = torch.rand(count, PAIRS, generator=generator).argsort(dim=1)
    ids[:, length - ASKED :: 2] = QUERY + keys.gather(1, order)
    ids[:, length - ASKED + 1 :: 2] = ANSWER + values.gather(1, order)
    targets = torch.full_like(ids, -100)
    targets[:, length - ASKED :: 2] = ids[:, length - ASKED + 1 :: 2]
    return ids, targets


def is_pair(ids: Tensor) -> Tensor:
    return (ids >= PAIR) & (ids < NOISES)


@torch.no_grad()
def right(model, ids: Tensor, targets: Tensor) -> Tensor:
    """How many of the six answers (n,) are right, by greedy choice among all tokens, for each text."""
    return (answers(model, ids).argmax(-1) == targets[:, -ASKED::2]).sum(dim=1)


# --- the model that learns to recall --------------------------------------------------------------------------------


def new_base(seed: int) -> LlamaForCausalLM:
    """Two layers, four heads, 64 wide, untrained; float64 on the device of this machine.

    Weights are drawn at 0.1, near 1 over the root of the width: at 0.02 recall takes thousands of steps to begin.
    """
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        initializer_range=0.1,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=None,
        max_position_embeddings=512,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    torch.random.set_rng_state(state)
    return model.to(device(), torch.float64).eval()


def run_base(config: dict, work: Path, progress) -> dict:
    """Stored run: one base, trained on answers; its weights are the artefact."""
    model, seed, size = new_base(config["seed"]), config["seed"], config["batch"]

    def loss(step: int) -> Tensor:
        ids, targets = (x.to(model.device) for x in sample(size, seed * 1_000_003 + step, config["length"]))
        return cross_entropy(answers(model, ids).flatten(0, 1), targets[:, -ASKED::2].flatten())

    losses = method.fit(model, loss, method.Recipe(**config["recipe"]), work, progress)
    ids, targets = (x.to(model.device) for x in sample(256, EVALUATION, config["length"]))
    path = work / "base.safetensors"
    save_file({name: one.float().cpu().contiguous() for name, one in _named(model).items()}, path)
    accuracy = float(right(model, ids, targets).double().mean()) / PAIRS
    return {"metrics": {"accuracy": accuracy}, "curves": {"loss": losses}, "artefact": str(path)}


def _named(model) -> dict[str, Tensor]:
    return {name: one.detach() for name, one in model.named_parameters()}


def base(seed: int) -> LlamaForCausalLM:
    """The stored base of a seed, frozen."""
    model = new_base(seed)
    missing, unexpected = model.load_state_dict(artefact(f"toy_base_{seed}"), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    return model.requires_grad_(False)


# --- gates ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """One way to train gates; the defaults are the paper's, but for size, bias (7 for 96 tokens), and rate."""

    budget: int = 12
    width: int | None = 64
    bias: float = 7.0
    terms: tuple[str, ...] = ("kl", "ntp")
    weight: float = 1.0
    normalisation: str = "coded"
    noise: str = "all"

    @property
    def objective(self) -> method.Objective:
        return method.Objective(self.budget, tuple(self.terms), self.weight, self.normalisation)


WHOLE = "whole"  # the arm that is the method
ARMS = {
    WHOLE: Arm(),
    "no capacity": Arm(weight=0.0),
    "no kl": Arm(terms=("ntp",)),
    "no ntp": Arm(terms=("kl",)),
    "linear": Arm(width=None),
    "bias 0": Arm(bias=0.0),
    "bias 18": Arm(bias=18.0),
    "printed": Arm(normalisation="printed"),
    "budget 6": Arm(budget=6),
    "budget 24": Arm(budget=24),
    "general": Arm(noise="general"),
    "narrow": Arm(noise="narrow"),
}


def seeds_of(arm: str, config: dict) -> int:
    """More seeds for arms of which the paper says that they differ little."""
    return config["seeds"] if arm in config["close"] else config["n_seeds"]


def run_gates(config: dict, work: Path, progress) -> dict:
    """Stored run: on one stored base, gates of every arm and seed; all gates are the artefact."""
    model, recipe = base(config["base"]).float(), method.Recipe(**config["recipe"])
    jobs = [(arm, seed) for arm in config["arms"] for seed in range(seeds_of(arm, config))]
    losses, tensors = {}, {}
    lesson = cache(partial(taught, model, config["batch"], config["length"]))
    for i, (arm, seed) in enumerate(jobs):
        name, folder = f"{arm}.{seed}", work / str(i)
        folder.mkdir(exist_ok=True)
        gates = method.gates_for(model, ARMS[arm].width, ARMS[arm].bias, seed)
        loss = partial(learned, model, gates, ARMS[arm], seed, lesson)
        rows = method.fit(gates, loss, recipe, folder, lambda done, said, i=i: progress((i + done) / len(jobs), said))
        losses[name] = rows[:: config["loss_every"]]  # thinned
        tensors |= {f"{name}/{key}": one.detach() for key, one in gates.named_parameters()}
    save_file(tensors, path := work / "gates.safetensors")
    return {"metrics": {}, "curves": losses, "artefact": str(path)}


def taught(model, size: int, length: int, noise: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Texts (B, T), and their answers (B, 6) with the teacher's logits (B, 6, V), which arms of one seed share."""
    ids, targets = (x.to(model.device) for x in sample(size, seed, length, noise))
    with torch.no_grad():
        return ids, targets[:, -ASKED::2], answers(model, ids)


def learned(model, gates: method.Gates, arm: Arm, seed: int, lesson, step: int) -> Tensor:
    """The loss of a step."""
    ids, targets, teacher = lesson(arm.noise, (seed + 100) * 1_000_003 + step)
    with method.gated(model, gates) as log_beta:
        student = answers(model, ids)
    return arm.objective(student, teacher, targets, log_beta)


def answers(model, ids: Tensor) -> Tensor:
    """Logits (B, 6, V) where an answer comes next."""
    asked = torch.arange(ids.shape[1] - ASKED, ids.shape[1], 2, device=ids.device)
    return model(ids, use_cache=False, logits_to_keep=asked).logits


def gates_of(model, tensors: dict[str, Tensor], arm: str, seed: int) -> method.Gates:
    """The stored gates of an arm and a seed, from the artefact of `run_gates`."""
    gates = method.gates_for(model, ARMS[arm].width, ARMS[arm].bias, seed)
    own = {key.partition("/")[2]: one for key, one in tensors.items() if key.partition("/")[0] == f"{arm}.{seed}"}
    gates.load_state_dict(own)
    return gates.requires_grad_(False)
