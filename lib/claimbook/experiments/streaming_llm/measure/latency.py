"""Time per token: Figure 10 and the constant cost of Figure 1. Only a quiet machine gives numbers worth storing."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils import benchmark
from transformers import DynamicCache

from claimbook.lm import corpora
from claimbook.lm.load import LM, load
from claimbook.lm.losses import hidden_states, logits
from claimbook.papers.streaming_llm import RollingCache, Scheme, stream


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: ``repeats`` rounds, in each of which every arm is timed once, so that a slow moment hits all arms."""
    lm = load(config["model"], "cpu")
    ids = corpora.documents(lm, config["text"], max(config["caches"]) + 512, 1)[0].ids
    arms = make_arms(lm, ids, config)
    for arm in arms.values():
        arm()  # the first call allocates
    rounds = []
    for i in range(config["repeats"]):
        rounds.append({name: seconds(arm) for name, arm in arms.items()})
        progress((i + 1) / config["repeats"], f"round {i + 1}")
    return {
        "metrics": {"dense_bytes_per_token": dense_bytes_per_token(lm, ids)},
        "curves": {name: [row[name] for row in rounds] for name in arms},
    }


def make_arms(lm: LM, ids: torch.Tensor, config: dict) -> dict[str, Callable[[], object]]:
    """What is timed, by name: one token's worth of work each.

    ``recompute/L`` and ``stream/L``: the next token from a window, or from a full rolling cache, of L tokens.
    ``dense/T``: a decoding step with T tokens of context. ``late/T``: a streaming step T tokens into the text.
    """
    arms = {}
    for size in config["caches"]:
        arms[f"recompute/{size}"] = lambda size=size: next_token(lm, ids[: size + 1])
        arms[f"stream/{size}"] = stepper(lm, ids, Scheme(4, size - 4), size)
    for length in config["contexts"]:
        arms[f"dense/{length}"] = dense_step(lm, ids[:length], ids[length])
        arms[f"late/{length}"] = stepper(lm, ids, Scheme(4, config["recent"]), length)
    return arms


@torch.no_grad()
def next_token(lm: LM, ids: torch.Tensor) -> torch.Tensor:
    return logits(lm.model, hidden_states(lm.model, ids[None])[0, -1])


def stepper(lm: LM, ids: torch.Tensor, scheme: Scheme, length: int) -> Callable[[], object]:
    """A rolling cache as it stands ``length`` tokens into the text, ready to take one more token, again and again."""
    *_, (state, _) = stream(lm.model, ids[: length + 1], scheme, score=torch.zeros(length + 1, dtype=torch.bool))
    cache = RollingCache(lm.model, scheme)
    cache.seen = length
    cache.cache = {
        layer: tuple(torch.cat(pair, dim=2) for pair in zip(state.sinks[layer], state.recent[layer], strict=True))
        for layer in state.recent
    }
    return lambda: cache.step(int(ids[length]))


def dense_step(lm: LM, ids: torch.Tensor, token: torch.Tensor) -> Callable[[], object]:
    """One decoding step of transformers' own cache at a context of ``len(ids)`` tokens; the cache is cropped after."""
    cache = DynamicCache(config=lm.model.config)
    with torch.no_grad():
        lm.model.base_model(ids[None], past_key_values=cache)

    @torch.no_grad()
    def step():
        lm.model(token.view(1, 1), past_key_values=cache)
        cache.crop(-1)

    return step


def seconds(arm: Callable[[], object]) -> float:
    """Median over the calls that fit into a fifth of a second, at least one."""
    timer = benchmark.Timer("arm()", globals={"arm": arm}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=0.2).median


def dense_bytes_per_token(lm: LM, ids: torch.Tensor, short: int = 256, long: int = 512) -> dict:
    """Bytes by which transformers' cache grows per token, measured, and by the formula 2 L H_kv d s."""
    sizes = []
    for length in (short, long):
        cache = DynamicCache(config=lm.model.config)
        with torch.no_grad():
            lm.model.base_model(ids[None, :length], past_key_values=cache)
        sizes.append(sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers))
    config = lm.model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    formula = 2 * config.num_hidden_layers * config.num_key_value_heads * head * lm.model.dtype.itemsize
    return {"measured": (sizes[1] - sizes[0]) / (long - short), "formula": formula}
