"""One row for each seed: how far averages scatter, by how many draws are in them."""

from dataclasses import dataclass

import numpy as np
from claimbook.experiments.chapter_name.inputs import SIZES
from claimbook.papers.chapter_name import averages, scatter

from claimbook.experiments.units import Experiment


@dataclass(frozen=True)
class Row:
    """One seed: scatter of 400 averages, for each size of `inputs.SIZES`."""

    scatter: list[float]


def units(model, config: dict) -> dict[str, int]:
    """Numbers of the repetitions."""
    return {f"repetition {i}": i for i in range(config["n_seeds"])}


def measure(model, repetition: int, config: dict) -> Row:
    """One repetition, from a generator of its own."""
    rng = np.random.default_rng([config["seed"], repetition])
    return Row([scatter(averages(size, 400, rng)) for size in SIZES])


EXPERIMENT = Experiment("seeds", Row, units, measure)
run = EXPERIMENT.run
