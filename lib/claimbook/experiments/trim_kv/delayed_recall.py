"""Delayed recall: a toy in which nobody looks at a token until long after it was made.

A text begins with BOS; six *pair tokens*, each one key with one value, stand at random places among noise; then each
key is asked once, in random order, and answered by its value. The answers are what is trained and scored. Bases are
trained and everything is measured in float64, so that a GPU and a cpu give the same numbers; gates learn in float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call, vmap
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


KIND_NAMES = ("bos", "pair", "noise", "query", "answer")


def kind(ids: Tensor) -> Tensor:
    """The kind of each token, as a place in ``KIND_NAMES``."""
    order = torch.tensor([0, 3, 4, 1, 2], device=ids.device)
    return order[torch.bucketize(ids, torch.tensor([QUERY, ANSWER, PAIR, NOISES], device=ids.device), right=True)]


@torch.no_grad()
def right(model, ids: Tensor, targets: Tensor) -> Tensor:
    """How many of the six answers (n,) are right, by greedy choice among all tokens, for each text."""
    asked = targets[0] != -100
    logits = model(ids, use_cache=False).logits[:, asked]
    return (logits.argmax(-1) == targets[:, asked]).sum(dim=1)


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
        asked = targets[0] != -100
        logits = model(ids, use_cache=False).logits[:, asked]
        return cross_entropy(logits.flatten(0, 1), targets[:, asked].flatten())[None]

    losses = method.fit(model, loss, method.Recipe(**config["recipe"]), work, progress)
    ids, targets = (x.to(model.device) for x in sample(256, EVALUATION, config["length"]))
    path = work / "base.safetensors"
    save_file({name: one.float().cpu().contiguous() for name, one in _named(model).items()}, path)
    accuracy = float(right(model, ids, targets).double().mean()) / PAIRS
    return {"metrics": {"accuracy": accuracy}, "curves": {"loss": [one for (one,) in losses]}, "artefact": str(path)}


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


TOGETHER = 16  # sets of gates: some gigabytes


class Stack(nn.Module):
    """Sets of gates of one shape, trained side by side: n sets read a batch of n equal parts, each its own."""

    def __init__(self, sets: list[method.Gates]):
        super().__init__()
        self.sets = nn.ModuleList(sets)

    def forward(self, layer: int, hidden: Tensor) -> Tensor:
        gates = [one[layer] for one in self.sets]
        named = zip(*(gate.named_parameters() for gate in gates), strict=True)
        parameters = {same[0][0]: torch.stack([one for _, one in same]) for same in named}
        parts = hidden.unflatten(0, (len(gates), -1))
        return vmap(lambda own, part: functional_call(gates[0], own, (part,)))(parameters, parts).flatten(0, 1)


def stacks(jobs: dict[str, tuple[Arm, int]]) -> Iterator[dict[str, tuple[Arm, int]]]:
    """Jobs by name, arm and seed, in groups that can be trained side by side."""
    for width in sorted({arm.width for arm, _ in jobs.values()}, key=str):
        alike = [name for name, (arm, _) in jobs.items() if arm.width == width]
        for start in range(0, len(alike), TOGETHER):
            yield {name: jobs[name] for name in alike[start : start + TOGETHER]}


def seeds_of(arm: str, config: dict) -> int:
    """More seeds for arms of which the paper says that they differ little."""
    return config["seeds"] if arm in config["close"] else config["n_seeds"]


def run_gates(config: dict, work: Path, progress) -> dict:
    """Stored run: on one stored base, gates of every arm and seed; all gates are the artefact."""
    model, recipe = base(config["base"]).float(), method.Recipe(**config["recipe"])
    jobs = {f"{arm}.{seed}": (ARMS[arm], seed) for arm in config["arms"] for seed in range(seeds_of(arm, config))}
    losses, tensors = {}, {}
    for i, group in enumerate(stacks(jobs)):
        folder = work / str(i)
        folder.mkdir(exist_ok=True)
        stack = Stack([method.gates_for(model, arm.width, arm.bias, seed) for arm, seed in group.values()])
        rows = method.fit(stack, Lesson(model, stack, list(group.values()), config), recipe, folder, progress)
        losses |= {name: [row[j] for row in rows] for j, name in enumerate(group)}
        for name, gates in zip(group, stack.sets, strict=True):
            tensors |= {f"{name}/{key}": one.detach().float().cpu() for key, one in gates.named_parameters()}
    path = work / "gates.safetensors"
    save_file(tensors, path)
    # thinned: every so-manieth step
    return {
        "metrics": {},
        "curves": {name: losses[name][:: config["loss_every"]] for name in jobs},
        "artefact": str(path),
    }


@dataclass
class Lesson:
    """The losses (n,) of n sets of gates at a step, each on texts of its own seed."""

    model: LlamaForCausalLM
    stack: Stack
    jobs: list[tuple[Arm, int]]
    config: dict

    def __call__(self, step: int) -> Tensor:
        length = self.config["length"]
        wanted = [((seed + 100) * 1_000_003 + step, arm.noise) for arm, seed in self.jobs]
        known = list(dict.fromkeys(wanted))  # arms read the same texts, which the teacher reads once
        drawn = [sample(self.config["batch"], seed, length, noise) for seed, noise in known]
        ids, targets = (torch.stack(parts).to(self.model.device) for parts in zip(*drawn, strict=True))
        order = [known.index(one) for one in wanted]
        with torch.no_grad():
            teacher = self.answers(ids)[order]
        with method.gated(self.model, self.stack) as found:
            student = self.answers(ids[order])
        log_beta = {layer: one.unflatten(0, (len(order), -1)) for layer, one in found.items()}
        targets = targets[order][..., length - ASKED :: 2]
        return torch.stack(
            [
                arm.objective(student[i], teacher[i], targets[i], {layer: one[i] for layer, one in log_beta.items()})
                for i, (arm, _) in enumerate(self.jobs)
            ]
        )

    def answers(self, ids: Tensor) -> Tensor:
        """Logits (n, B, 6, V) of the answers of texts (n, B, T)."""
        asked = torch.arange(ids.shape[2] - ASKED, ids.shape[2], 2, device=ids.device)
        found = self.model(ids.flatten(0, 1), use_cache=False, logits_to_keep=asked).logits
        return found.unflatten(0, ids.shape[:2])


def gates_of(model, tensors: dict[str, Tensor], arm: str, seed: int) -> method.Gates:
    """The stored gates of an arm and a seed, from the artefact of `run_gates`."""
    gates = method.gates_for(model, ARMS[arm].width, ARMS[arm].bias, seed)
    own = {key.partition("/")[2]: one for key, one in tensors.items() if key.partition("/")[0] == f"{arm}.{seed}"}
    gates.load_state_dict(own)
    return gates.requires_grad_(False)
