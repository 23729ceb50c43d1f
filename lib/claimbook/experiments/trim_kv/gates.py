"""Gates for a real model, trained on articles that are measured nowhere else."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from claimbook.experiments.trim_kv.pieces import model_of
from claimbook.experiments.trim_kv.rules import training_text
from claimbook.lm.losses import hidden_states, logits
from claimbook.papers import trim_kv as method


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: one seed of gates; they are the artefact, in half precision."""
    lm = model_of(config)
    model, text = lm.model, training_text(lm, config)
    gates = method.gates_for(model, config["width"], config["bias"], config["seed"])
    objective = method.Objective(config["budget"])

    def read(ids: Tensor) -> Tensor:
        """Logits of the counted targets: those before the budget is reached have nothing to lose."""
        return logits(model, hidden_states(model, ids)[:, config["budget"] - 1 : -1])

    def loss(step: int) -> Tensor:
        ids = windows(text, config, step).to(model.device)
        with torch.no_grad():
            teacher = read(ids)
        with method.gated(model, gates) as found:
            student = read(ids)
        return objective(student, teacher, ids[:, config["budget"] :], found)

    losses = method.fit(gates, loss, method.Recipe(**config["recipe"]), work, progress)
    path = work / "trained.safetensors"
    save_file({name: one.detach().half().cpu().contiguous() for name, one in gates.named_parameters()}, path)
    tokens = config["recipe"]["steps"] * config["batch"] * config["length"]
    return {"metrics": {"tokens": tokens}, "curves": {"loss": losses}, "artefact": str(path)}


def windows(text: Tensor, config: dict, step: int) -> Tensor:
    """The batch (B, T) of a step: windows at random places."""
    generator = torch.Generator().manual_seed(config["seed"] * 1_000_003 + step)
    starts = torch.randint(len(text) - config["length"], (config["batch"],), generator=generator)
    return torch.stack([text[start : start + config["length"]] for start in starts.tolist()])
