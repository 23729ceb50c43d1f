"""Gates for a real model, trained on articles that are measured nowhere else."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from claimbook.experiments.trim_kv import worth
from claimbook.experiments.trim_kv.pieces import model_of
from claimbook.experiments.trim_kv.rules import training_text
from claimbook.experiments.units import Experiment
from claimbook.papers import trim_kv as method


@dataclass(frozen=True)
class Row:
    """One seed of gates. ``losses``: at every so-manieth step, 200 at most; ``sizes``: the soft size S_T after a window
    of training text, by layer and KV head; ``seconds``: on the machine that trained them."""

    seed: int
    steps: int
    tokens: int
    seconds: float
    losses: list[float]
    sizes: list[float]


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: one seed of gates; they are the artefact, in half precision."""
    lm = model_of(config)
    model, text = lm.model, training_text(lm, config)
    gates = method.gates_for(model, config["width"], config["bias"], config["seed"])
    objective = method.Objective(config["budget"])

    def loss(step: int) -> Tensor:
        ids = windows(text, config, step).to(model.device)
        with torch.no_grad():
            teacher = model(ids, use_cache=False).logits[:, :-1]
        with method.gated(model, gates) as found:
            student = model(ids, use_cache=False).logits[:, :-1]
        return objective(student, teacher, ids[:, 1:], found)[None]

    losses = method.fit(gates, loss, method.Recipe(**config["recipe"]), work, progress)
    path = work / "trained.safetensors"
    save_file({name: one.detach().half().cpu().contiguous() for name, one in gates.named_parameters()}, path)
    return {
        "metrics": {
            "tokens": config["recipe"]["steps"] * config["batch"] * config["length"],
            "unique_tokens": len(text),
            "parameters": sum(one.numel() for one in gates.parameters()),
            "sizes": sizes(model, gates, windows(text, config, config["recipe"]["steps"])),
        },
        "curves": {"loss": [one for (one,) in losses]},
        "artefact": str(path),
    }


@torch.no_grad()
def sizes(model, gates: method.Gates, ids: Tensor) -> list[float]:
    """S_T of each layer and KV head, layer by layer, mean over ids (B, T)."""
    found = method.retained(worth.log_beta(model, gates, ids.to(model.device)))[..., -1]
    return found.mean(dim=1).flatten().tolist()


def windows(text: Tensor, config: dict, step: int) -> Tensor:
    """The batch (B, T) of a step: windows at random places."""
    generator = torch.Generator().manual_seed(config["seed"] * 1_000_003 + step)
    starts = torch.randint(len(text) - config["length"], (config["batch"],), generator=generator)
    return torch.stack([text[start : start + config["length"]] for start in starts.tolist()])


class Training(Experiment):
    """A training is not measured live: its one row is read from what the stored run left."""

    def read(self, stored: dict) -> list[Row]:
        losses, config, known = stored["curves"]["loss"], stored["config"], stored["metrics"]
        every = max(1, len(losses) // 200)
        made = config["seed"], config["recipe"]["steps"], known["tokens"], stored["wall_s"]
        return [Row(*made, losses[::every], known["sizes"])]


EXPERIMENT = Training("gates", Row, inputs=lambda *_: {}, measure=lambda *_: None)
