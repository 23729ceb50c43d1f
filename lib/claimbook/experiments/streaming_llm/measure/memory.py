"""Peak memory of a step: the other half of Figure 10, one process an arm, so that none inherits another's peak."""

import gc
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from claimbook.experiments.models import model_of
from claimbook.experiments.streaming_llm.measure.latency import dense_step, next_token, stepper
from claimbook.experiments.units import Experiment
from claimbook.lm import corpora
from claimbook.papers.streaming_llm import Scheme

ARMS = ("model", "recompute", "stream", "dense")


@dataclass(frozen=True)
class Row:
    """One round: peak resident memory in MB of a process while it takes one step, by arm; "model": it takes none."""

    megabytes: dict[str, float]


def rounds(lm, config: dict) -> dict[str, int]:
    return {f"round {i}": i for i in range(config["rounds"])}


def measure(lm, number: int, config: dict) -> Row:
    """Every arm in a fresh process of its own."""
    found = {}
    for arm in ARMS:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found[arm] = pool.submit(peak, arm, config).result()
    return Row(found)


def peak(arm: str, config: dict) -> float:
    """Peak resident memory in MB of this process during one step of ``arm``: from a full cache, or recomputing it.

    "dense": a step with ``context`` tokens behind it, all of them cached. What loading and filling took is forgotten.
    """
    lm, cache, context = model_of(config), config["cache"], config["context"]
    ids = corpora.concatenated(lm, [config["text"]], context + 1)[0]
    step = {
        "model": lambda: lambda: None,
        "recompute": lambda: lambda: next_token(lm, ids[: cache + 1]),
        "stream": lambda: stepper(lm, ids, Scheme(4, cache - 4), cache + 1, segment=config["segment"]),
        "dense": lambda: dense_step(lm, ids[:context], ids[context], segment=config["segment"]),
    }[arm]()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak is counted from here on
    step()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


EXPERIMENT = Experiment("rounds", Row, rounds, measure)
run = EXPERIMENT.run
