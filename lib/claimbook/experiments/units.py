"""What is measured unit by unit: one row for each document, stream or seed, stored or now, by the same function.

An experiment says what its units are and how one is measured. The rest is the same for all: a stored run loads the
model, keeps each row when it is done, and goes on from there when it was killed; a live run measures the same rows.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from claimbook.lm.load import LM, load
from claimbook.provenance.declarations import checkpointed


def model_of(config: dict) -> LM | None:
    """The language model that a stored run's config names, float32 unless it has a dtype; None where it names none."""
    return load(config["model"], "cpu", config.get("dtype", "float32")) if "model" in config else None


def about(lm: LM | None) -> dict:
    """What a stored run keeps of its model."""
    if lm is None:
        return {}
    config = lm.model.config.get_text_config()
    sliding = [i for i, kind in enumerate(getattr(config, "layer_types", None) or []) if kind == "sliding_attention"]
    return {
        "layers": lm.layers,
        "trained_context": lm.trained_context,
        "sliding_layers": sliding,
        "sliding_window": config.sliding_window if sliding else None,
    }


@dataclass(frozen=True)
class Experiment:
    """``inputs(lm, config)``: the units by name; ``measure(lm, unit, config)``: the ``row`` of one, a dataclass.

    ``unit``: what rows are counted in, and the name of the stored curve: "documents". ``model``: what the config is
    handed to for the model, where that is no language model.
    """

    unit: str
    row: type
    inputs: Callable[[Any, dict], dict[str, Any]]
    measure: Callable[[Any, Any, dict], Any]
    model: Callable[[dict], Any] = model_of

    def run(self, config: dict, work: Path, progress) -> dict:
        """The stored run: every unit of ``config``, one checkpoint each."""
        lm = self.model(config)
        jobs = {
            name: lambda unit=unit: asdict(self.measure(lm, unit, config))
            for name, unit in self.inputs(lm, config).items()
        }
        rows = list(checkpointed(jobs, work, progress).values())
        return {"metrics": about(lm if isinstance(lm, LM) else None), "curves": {self.unit: rows}}

    def now(self, lm, config: dict) -> list:
        """The same rows, measured here and now."""
        return [self.measure(lm, unit, config) for unit in self.inputs(lm, config).values()]

    def read(self, stored: dict) -> list:
        """The rows of a stored run."""
        return [self.row(**row) for row in stored["curves"][self.unit]]


def columns(values: Iterable) -> Any:
    """Arrays (n, …) over n units, of numbers, lists or nested dicts of them: ``columns(row.loss for row in rows)``."""
    values = list(values)
    if values and isinstance(values[0], dict):
        return {key: columns(value[key] for value in values) for key in values[0]}
    return np.array(values, dtype=float)
