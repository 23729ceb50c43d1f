"""Peak memory of a step: the other half of Figure 10, one process an arm, so that none inherits another's peak."""

import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import DynamicCache

from claimbook.experiments.models import model_of
from claimbook.experiments.streaming_llm.measure.latency import next_token
from claimbook.experiments.units import Experiment
from claimbook.lm import corpora
from claimbook.lm.load import LM
from claimbook.papers.streaming_llm import RollingCache, Scheme

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
    lm, cache = model_of(config), config["cache"]
    ids = corpora.concatenated(lm, [config["text"]], cache + 1)[0]
    step = {
        "model": lambda: lambda: None,
        "recompute": lambda: lambda: next_token(lm, ids),
        "stream": lambda: streaming_step(lm, cache, ids[-1]),
        "dense": lambda: dense_step(lm, config["context"], ids[-1]),
    }[arm]()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak is counted from here on
    step()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def keys_and_values(lm: LM, tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """By layer, keys and values of so many tokens: random ones, as what they hold takes no memory."""
    about = lm.model.config.get_text_config()
    head = getattr(about, "head_dim", None) or about.hidden_size // about.num_attention_heads
    shape = (1, about.num_key_value_heads, tokens, head)
    return [tuple(torch.randn(shape, dtype=lm.model.dtype) for _ in "kv") for _ in range(lm.layers)]


def streaming_step(lm: LM, size: int, token: torch.Tensor) -> Callable[[], object]:
    """A step of the rolling cache, which is full."""
    rolling = RollingCache(lm.model, Scheme(4, size - 4))
    rolling.seen, rolling.cache = size, dict(enumerate(keys_and_values(lm, size)))
    return lambda: rolling.step(int(token))


def dense_step(lm: LM, context: int, token: torch.Tensor) -> Callable[[], object]:
    """A step of transformers' own cache, which holds the whole context."""
    cache = DynamicCache(config=lm.model.config)
    for layer, (key, value) in enumerate(keys_and_values(lm, context)):
        cache.update(key, value, layer)

    @torch.no_grad()
    def step():
        lm.model(token.view(1, 1), past_key_values=cache)

    return step


EXPERIMENT = Experiment("rounds", Row, rounds, measure)
run = EXPERIMENT.run
