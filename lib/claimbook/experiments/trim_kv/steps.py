"""The real cache on the real model: does it evict what the masked pass evicts, and does it stay in its budget?"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList

from claimbook.experiments.models import about
from claimbook.experiments.trim_kv import inputs
from claimbook.experiments.trim_kv.pieces import Pieces, Place, assembled, model_of
from claimbook.experiments.trim_kv.rules import rule
from claimbook.lm import eviction
from claimbook.lm.load import LM

TRIM = "trim"


@dataclass(frozen=True)
class Row:
    """One article, M = ``budget``.

    ``same``: by rule, the share of identical evictions, token by token against one masked pass; ``window_same``:
    TRIM-KV's evictions that the window would have made. Of ``generate`` with TRIM-KV after ``prompt`` tokens:
    ``kept_generate``, the most tokens held after any step; ``bytes`` of keys and values, with the prompt read and then
    every 64 tokens; ``bytes_full`` and ``tokens_full`` (at the end): of the full cache. At the end too: bytes of the
    keys, of what the rule stores beside them, and of positions, all layers and heads.
    """

    document: int
    same: dict[str, float]
    window_same: float
    kept_generate: int
    bytes: list[int]
    key_bytes: int
    extra: int
    extra_positions: int
    bytes_full: list[int]
    tokens_full: int


def units(lm: LM, config: dict) -> dict[Place, Callable[[], list]]:
    """What is measured of all articles at once, by rule."""
    ids = torch.stack(list(inputs.texts(lm, config).values())).to(lm.model.device)
    pieces: dict[Place, Callable[[], list]] = {
        ("generate",): partial(generated, lm, ids[:, : config["prompt"]], config),
        ("window_same",): partial(like_window, lm, ids, config),
    }
    return pieces | {("same", name): partial(compared, lm, ids, config, name) for name in config["rules"]}


def rows(pieces: dict[Place, list], config: dict) -> list[Row]:
    found = [{"same": {}, "window_same": float("nan")} | assembled(pieces, i) for i in range(len(pieces["generate",]))]
    return [Row(document=i, **row.pop("generate"), **row) for i, row in enumerate(found)]


def named(lm: LM, config: dict, name: str):
    """The rule of a name; "trim": the first of the stored gates."""
    return rule(lm, config, config["gates"][0] if name == TRIM else name, config["budget"], config["length"])


@torch.no_grad()
def compared(lm: LM, ids: Tensor, config: dict, name: str) -> list[float]:
    """One masked pass over ids (B, T) against an evicting cache that reads them token by token, for each text."""
    with named(lm, config, name) as one:
        with eviction.masked(lm.model, one, config["budget"]) as trace:
            lm.model.base_model(ids, use_cache=False)
        with eviction.evicting(lm.model, one, config["budget"], record=True) as cache:
            for token in ids.split(1, dim=1):
                lm.model.base_model(token, past_key_values=cache)
    return trace.same(cache.trace()).tolist()


@torch.no_grad()
def like_window(lm: LM, ids: Tensor, config: dict) -> list[float]:
    """How often TRIM-KV evicts what the window evicts, at the same step."""
    traces = []
    for name in (TRIM, "window"):
        with named(lm, config, name) as one, eviction.masked(lm.model, one, config["budget"]) as trace:
            lm.model.base_model(ids, use_cache=False)
        traces.append(trace)
    return traces[0].same(traces[1]).tolist()


def generated(lm: LM, prompts: Tensor, config: dict) -> list[dict]:
    """What the caches hold while ``generate`` writes ``new_tokens`` after prompts (B, T), by prompt."""
    with named(lm, config, TRIM) as one, eviction.evicting(lm.model, one, config["budget"]) as cache:
        log = watched(lm, prompts, cache, config["new_tokens"])
        held = [layer.held for layer in cache.layers]
        stored = {
            "key_bytes": sum(layer.keys.nbytes for layer in cache.layers),
            "extra": sum(layer.features.nbytes + layer.memory.nbytes for layer in held),
            "extra_positions": sum(layer.positions.contiguous().nbytes for layer in held),
        }
    full = watched(lm, prompts, DynamicCache(config=lm.model.config), config["new_tokens"])
    count = len(prompts)
    row = {key: value // count for key, value in stored.items()}
    row |= {"kept_generate": max(kept for kept, _ in log), "tokens_full": full[-1][0]}
    row |= {"bytes": [size // count for _, size in log[::64]], "bytes_full": [size // count for _, size in full[::64]]}
    return [row] * count


def watched(lm: LM, prompts: Tensor, cache, new_tokens: int) -> list[tuple[int, int]]:
    """After each step of ``generate``: the most tokens that any layer holds, and bytes of all keys and values."""
    watch = Watch(cache)
    lm.model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        past_key_values=cache,
        max_new_tokens=new_tokens + 1,  # the last token is made and never read
        min_new_tokens=new_tokens + 1,
        do_sample=False,
        pad_token_id=0,
        stopping_criteria=StoppingCriteriaList([watch]),
    )
    return watch.log


class Watch(StoppingCriteria):
    """Called after each step; never stops."""

    def __init__(self, cache):
        self.cache, self.log = cache, []

    def __call__(self, input_ids: Tensor, scores: Tensor, **options) -> Tensor:
        layers = self.cache.layers
        size = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
        self.log.append((max(layer.keys.shape[2] for layer in layers), size))
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


EXPERIMENT = Pieces("documents", Row, units, rows, model=model_of, about=about)
run = EXPERIMENT.run
