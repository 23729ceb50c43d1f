"""One training loop for every decoder trained here: exact resume, the same numbers for a seed and a thread count."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from claimbook.errors import ClaimbookError

SAVE_EVERY = 60.0  # seconds


class Recipe(BaseModel):
    """How a decoder is trained: AdamW on all parameters, a constant rate after ``warmup`` steps, clipped gradients.

    ``precision`` "bfloat16" means mixed: weights and their updates stay in float32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int
    rate: float
    warmup: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"


def train(
    model,
    recipe: Recipe,
    batch: Callable[[int], tuple[Tensor, Tensor]],
    *,
    measure: Callable[[object], dict] | None = None,
    measure_at: tuple[int, ...] = (),
    loss_every: int = 1,
    work: Path | None = None,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> dict:
    """Train ``model`` in place; returns ``{"loss": [...], "measured": [{"step": …, …}]}``.

    ``batch(step)`` gives ids and targets (B, T), -100 for targets that do not count; it must depend on the step alone.
    ``loss`` holds the mean training loss of every ``loss_every`` steps, in nats. ``measure(model)`` is called after
    the steps of ``measure_at`` (0: before the first). With ``work``, a killed training goes on from the last minute
    and ends in the same numbers. ClaimbookError when a checkpoint cannot be written.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    checkpoint = work / "training.safetensors" if work else None
    done, found, recent = 0, {"loss": [], "measured": []}, []
    if checkpoint and checkpoint.exists():
        done, found, recent = _load(checkpoint, model, optimizer)
    elif 0 in measure_at:
        found["measured"].append({"step": 0} | measured(model, measure))
    saved = time.monotonic()
    for step in range(done, recipe.steps):
        recent.append(_update(model, optimizer, recipe, step, *batch(step)))
        if len(recent) == loss_every:
            found["loss"].append(sum(recent) / loss_every)
            recent = []
            progress((step + 1) / recipe.steps, f"loss {found['loss'][-1]:.3f}")
        if step + 1 in measure_at:
            found["measured"].append({"step": step + 1} | measured(model, measure))
        if checkpoint and time.monotonic() - saved > SAVE_EVERY:
            _save(checkpoint, model, optimizer, step + 1, found, recent)
            saved = time.monotonic()
    model.eval()
    return found


def measured(model, measure: Callable[[object], dict]) -> dict:
    """What ``measure`` finds, with the model in evaluation mode and without gradients."""
    model.eval()
    with torch.no_grad():
        found = measure(model)
    model.train()
    return found


def mean_loss(model, ids: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of targets (B, T); -100 does not count."""
    logits = model(input_ids=ids, use_cache=False).logits.float()
    return cross_entropy(logits.flatten(0, 1), targets.flatten())


def _update(model, optimizer, recipe: Recipe, step: int, ids: Tensor, targets: Tensor) -> float:
    """One step of training; returns its loss."""
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate * min(1.0, (step + 1) / max(1, recipe.warmup))
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        loss = mean_loss(model, ids, targets)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    return float(loss.detach())


def _save(path: Path, model, optimizer, step: int, found: dict, recent: list[float]) -> None:
    """Weights, moments and what was found so far, in one file that is either the old one or the new one."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[name] = parameter.data
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = value
    about = {"step": str(step), "found": json.dumps(found), "recent": json.dumps(recent)}
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=about)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise ClaimbookError(
            f"checkpoint {path.name} could not be written: {error}; free some space, then go on"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _load(path: Path, model, optimizer) -> tuple[int, dict, list[float]]:
    with safe_open(path, "pt") as file:
        about = file.metadata()
        keys = set(file.keys())
        for name, parameter in model.named_parameters():
            parameter.data.copy_(file.get_tensor(name))
            moments = {key: f"{key}/{name}" for key in ("step", "exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {key: file.get_tensor(at) for key, at in moments.items() if at in keys}
    return int(about["step"]), json.loads(about["found"]), json.loads(about["recent"])
