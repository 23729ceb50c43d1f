"""What is measured unit by unit: one row for each document, stream or seed, stored or now, by the same function.

An experiment says what its units are and how one is measured. The rest is the same for all: a stored run loads the
model, keeps each row when it is done, and goes on from there when it was killed; a live run measures the same rows.
Experiments on language models are made by `claimbook.experiments.models`.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from claimbook.provenance.declarations import checkpointed


@dataclass(frozen=True)
class Experiment:
    """``inputs(model, config)``: the units by name; ``measure(model, unit, config)``: the ``row`` of one, a dataclass.

    ``unit``: what rows are counted in, and the name of the stored curve: "documents". ``model(config)``: what a stored
    run measures with, None where it needs no model; ``about(model)``: what it keeps of that.
    """

    unit: str
    row: type
    inputs: Callable[[Any, dict], dict[str, Any]]
    measure: Callable[[Any, Any, dict], Any]
    model: Callable[[dict], Any] = lambda config: None
    about: Callable[[Any], dict] = lambda model: {}

    def run(self, config: dict, work: Path, progress) -> dict:
        """The stored run: every unit of ``config``, one checkpoint each."""
        model = self.model(config)
        jobs = {
            name: lambda unit=unit: asdict(self.measure(model, unit, config))
            for name, unit in self.inputs(model, config).items()
        }
        rows = list(checkpointed(jobs, work, progress).values())
        return {"metrics": self.about(model), "curves": {self.unit: rows}}

    def now(self, model, config: dict) -> list:
        """The same rows, measured here and now."""
        return [self.measure(model, unit, config) for unit in self.inputs(model, config).values()]

    def read(self, stored: dict) -> list:
        """The rows of a stored run."""
        return [self.row(**row) for row in stored["curves"][self.unit]]


def columns(values: Iterable) -> Any:
    """Arrays (n, …) over n units, of numbers, lists or nested dicts of them: ``columns(row.loss for row in rows)``.

    ValueError for dicts that differ in their keys.
    """
    values = list(values)
    if values and isinstance(values[0], dict):
        if any(value.keys() != values[0].keys() for value in values):
            raise ValueError("units differ in what was measured of them")
        return {key: columns(value[key] for value in values) for key in values[0]}
    return np.array(values, dtype=float)
