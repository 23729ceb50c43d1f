"""Hidden sinks: where, in which layers and heads, on which tokens; nulls: shuffled tokens, an untrained model."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from claimbook.experiments.attention_calibration import own_files, tasks
from claimbook.experiments.attention_calibration.measure.scoring import short
from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.secondary_sinks.measure.words import is_content
from claimbook.lm import corpora, residual
from claimbook.lm.attention import observed
from claimbook.lm.load import LM
from claimbook.metrics.attention import MeanMap
from claimbook.metrics.key_attention import VisibleColumns
from claimbook.papers import attention_calibration as method
from claimbook.papers import secondary_sinks

STRONG = 1.87  # times even attention: the ledger's bound for a later sink
COLUMN = 0.10  # share of attention where the colours of the paper's map end
LATE = 5  # tokens at the end that too few queries see
LITTLE = ("function_word", "punctuation", "newline", "space")
TIMES = 4  # of the median norm: the threshold of the chapter on secondary sinks


@dataclass(frozen=True)
class Prompt:
    """``kind``: task, prose, shuffled or untrained; ``given``: tokens of the template before and behind the content."""

    kind: str
    task: str
    ids: Tensor  # (T,)
    given: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Row:
    """One prompt. A later token is any but the first and the last five.

    ``heads``: of a layer; ``flagged``: (L,) how many of them have a later sink, a share above 5 / N. ``top``: the later
    token that has most of the map averaged over layers and heads, see `strongest`; None for a prompt too short to have
    any. ``layer_over_even``: (L,) what it has of each layer's mean map, over even attention at its place;
    ``layer_best``: (L,) the same of the layer's own strongest. ``columns``, ``layer_columns`` (L,): later tokens with a
    share of at least 0.1 in these maps that even attention would not give them, see `strong`. ``little``: share of
    later tokens that are function words, marks or white space. ``secondary``: tokens that the chapter on secondary
    sinks would call one, by their norms.
    """

    kind: str
    task: str
    tokens: int
    heads: int
    flagged: list[int]
    top: dict | None
    layer_over_even: list[float]
    layer_best: list[float]
    columns: int
    layer_columns: list[int]
    little: float
    secondary: list[int]


def units(lm: LM, config: dict) -> dict[str, Prompt]:
    """Prompts of each task, prose of about their length, then both again shuffled and for an untrained model.

    ``prompts``: only so many of them, from the first.
    """
    found = []
    for name in config["tasks"]:
        if config["prompts"] and len(found) >= config["prompts"]:
            break
        found += _of_task(lm, name, config)
    if not config["prompts"] or len(found) < config["prompts"]:
        found += _prose(lm, config)
        found += [replace(one, kind="shuffled", ids=_shuffled(one.ids, i)) for i, one in enumerate(list(found))]
        found += [replace(one, kind="untrained") for one in found[: len(found) // 2]]
    found = found[: config["prompts"] or None]
    return {f"{i}: {one.kind}, {one.task}": one for i, one in enumerate(found)}


def _of_task(lm: LM, name: str, config: dict) -> list[Prompt]:
    task = own_files.task(name)
    before, behind = (len(lm.encode(part)) for part in task.template.split("{}"))
    items = tasks.split(tasks.usable(lm, task), 0, 0, config["each"], config["seed"]).judge
    given = (len(lm.start) + before, behind)
    return [Prompt("task", name, tasks.prompt(lm, task, item.content), given) for item in items]


def _prose(lm: LM, config: dict) -> list[Prompt]:
    if not config["prose"]:
        return []
    documents = corpora.documents(lm, config["text"], config["length"], config["prose"])
    return [Prompt("prose", "prose", document.ids) for document in documents]


def _shuffled(ids: Tensor, seed: int) -> Tensor:
    return ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))]


@torch.no_grad()
def measure(lm: LM, prompt: Prompt, config: dict) -> Row:
    """One prompt: the column shares of every head, and the norms of its states."""
    model = untrained(lm) if prompt.kind == "untrained" else lm.model
    columns, size = VisibleColumns(), len(prompt.ids)
    with observed(model, columns):
        model.base_model(prompt.ids[None].to(model.device), use_cache=False)
    later, even = columns.result(), columns.even()  # (L, H, N), (L, N)
    later[..., 0] = later[..., max(1, size - LATE) :] = 0
    by_layer, overall = later.mean(dim=1), later.mean(dim=(0, 1))
    at, best = int(overall.argmax()), by_layer.argmax(dim=-1, keepdim=True)
    words = [_kind(text) for text in map(lm.tokenizer.decode, prompt.ids[1 : max(1, size - LATE), None].tolist())]
    return Row(
        kind=prompt.kind,
        task=prompt.task,
        tokens=size,
        heads=later.shape[1],
        flagged=method.find_sinks(later).any(dim=-1).sum(dim=1).tolist(),
        top=strongest(lm, prompt, at, overall, even.mean(dim=0)) if words else None,
        layer_over_even=short(by_layer[:, at] / even[:, at]),
        layer_best=short((by_layer / even).gather(-1, best)[:, 0]),
        columns=int(strong(overall, even.mean(dim=0)).sum()),
        layer_columns=strong(by_layer, even).sum(dim=-1).tolist(),
        little=short(sum(word in LITTLE for word in words) / max(1, len(words))),
        secondary=_secondary(model, prompt.ids),
    )


def strong(share: Tensor, even: Tensor) -> Tensor:
    """Columns, bool (…, N), of a tenth of the attention that are well above even attention: early ones have it free."""
    return (share >= COLUMN) & (share >= STRONG * even)


def strongest(lm: LM, prompt: Prompt, at: int, overall: Tensor, even: Tensor) -> dict:
    """The later token ``at`` with the largest share ``overall`` (N,), mean over all layers and heads.

    ``over_even``: its share over that of even attention (N,). ``template``: whether it stands there in every prompt of
    the task. What it reads is not kept, as it may be of others' texts; its kind is.
    """
    before, behind = prompt.given
    return {
        "position": at,
        "kind": _kind(lm.tokenizer.decode([int(prompt.ids[at])])),
        "template": bool(prompt.kind == "task" and (at < before or at >= len(prompt.ids) - behind)),
        "over_even": short(float(overall[at] / even[at])),
    }


def _kind(text: str) -> str:
    """Of a token: "word", which has content, or what has little."""
    if is_content(text):
        return "word"
    if "\n" in text:
        return "newline"
    if not text.strip():
        return "space"  # as SmolLM2 puts one before digits
    if any(letter.isalpha() for letter in text):
        return "function_word"
    return "other" if text.strip().isalnum() else "punctuation"


def _secondary(model, ids: Tensor) -> list[int]:
    """Tokens whose states point the primary's way and are long, after any layer but the last."""
    at = secondary_sinks.primary(residual.trace(model, ids[:2]).norm) if len(ids) > 1 else 0
    stream = residual.trace(model, ids, at)
    flags = secondary_sinks.by_norm(stream.norm, stream.cosine, at, TIMES)
    return flags[:-1].any(dim=0).nonzero()[:, 0].tolist()


@lru_cache(maxsize=1)
def untrained(lm: LM):
    """A model of the same make with the weights that its family starts from, drawn with seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = type(lm.model)(lm.model.config)
    return model.to(device=lm.model.device, dtype=lm.model.dtype).eval().requires_grad_(False)


@torch.no_grad()
def mean_map(lm: LM, ids: Tensor) -> Tensor:
    """Attention (L, T, T) of ids (T,), mean over heads."""
    average = MeanMap()
    with observed(lm.model, average, block=len(ids)):
        lm.model.base_model(ids[None].to(lm.model.device), use_cache=False)
    return average.result()


EXPERIMENT = ModelExperiment("prompts", Row, units, measure)
run = EXPERIMENT.run
