"""What the notebook runs live, by tier, and when a stored run speaks for it."""

import functools
import operator
from collections.abc import Callable, Iterable

import numpy as np
import torch

from claimbook.assets import catalogue
from claimbook.display import Shown, table
from claimbook.errors import ClaimbookError
from claimbook.experiments.streaming_llm import STORED, beyond, recall
from claimbook.experiments.streaming_llm.stream import SEGMENT, sampled
from claimbook.lm import corpora
from claimbook.lm.load import LM, load
from claimbook.papers.streaming_llm import Scheme, allowed, prove, stream
from claimbook.stats import Estimate, Exact, mean

# Live at the cpu tier: the first of the stored documents, in full but for the cache sizes.
_SCHEMES = {"sinks": [0, 1, 2, 4, 8], "bin": 16, "seed": 0}
_SMALL = {"n_documents": 1, "length": 400, "cache": 128, "sizes": [128], "n_recompute": 4}
_LIVE = {"n_documents": 1, "length": 2048, "cache": 256, "sizes": [256], "n_recompute": 8}
_FULL = {"n_documents": 20, "length": 8192, "cache": 1024, "sizes": [256, 512, 1024, 2048], "n_recompute": 20}
DOCUMENTS = {tier: _SCHEMES | sizes for tier, sizes in (("smoke", _SMALL), ("cpu", _LIVE), ("gpu", _FULL))}
PAPERS = ("llama-2-7b", "llama-2-13b", "falcon-7b", "mpt-7b", "pythia-6.9b", "pythia-12b")
STREAM_TOKENS = {"smoke": 600, "cpu": 4096, "gpu": 400_000}


def load_model(run) -> LM:
    """The run's one model; ClaimbookError for several, which are a grid of runs."""
    if len(run.models) != 1:
        raise ClaimbookError(
            f"streaming_llm runs one model at a time, not '{run.parameters['models']}': several are a grid of runs, "
            f"`claimbook grid --models {run.parameters['models']}`"
        )
    return load(run.models[0], run.device, run.parameters["dtype"], prove)


def settings(run, n_documents: int = 0, length: int = 0) -> dict:
    """How documents are measured live at the run's tier; 0 keeps the tier's own count and length (tokens)."""
    config = dict(DOCUMENTS[run.tier])
    config |= {"n_documents": n_documents or config["n_documents"], "length": length or config["length"]}
    if config["length"] < 2 * config["cache"] + 1:
        raise ClaimbookError(
            f"length={config['length']} is too short for a cache of {config['cache']}: at least "
            f"{2 * config['cache'] + 1} tokens are needed"
        )
    return config


def fidelity(run) -> str:
    """What stands on the figures: exact only for the paper's own models and text."""
    return "exact" if run.tier == "gpu" and run.exact else "reduced"


def texts(lm: LM, key: str, config: dict) -> list[corpora.Document]:
    """The documents of a run: of text asset ``key``, or of a reader's own file."""
    if key in catalogue.load_catalogue():
        return corpora.documents(lm, key, config["length"], config["n_documents"])
    found = corpora.own_text(lm, key, config["length"])
    if len(found) < config["n_documents"]:
        raise ClaimbookError(
            f"text '{key}' makes {len(found)} documents of {config['length']} tokens for {lm.name}, "
            f"{config['n_documents']} are asked for: give a longer text, or `-p documents={len(found)}`"
        )
    return found[: config["n_documents"]]


def speaks_for(stored: dict | None, run) -> bool:
    """Whether a stored run, if it is there, is evidence for this run of its one model."""
    return stored is not None and run.speaks(stored["name"], run.models[0])


def rows(stored: dict | None, name: str, run, measure: Callable[[], list]) -> list:
    """One row per unit: those of a stored run where it speaks for this run, else what ``measure`` finds live."""
    return stored["curves"][name] if speaks_for(stored, run) else measure()


def stored_rows(run, name: str) -> dict[str, list[dict]]:
    """Rows by model of every stored run of experiment ``name`` ("documents", "attention") that speaks for this run.

    Stored runs of other models have the model's name after an underscore: ``documents_gemma``.
    """
    named = [key for key in STORED if (key == name or key.startswith(f"{name}_")) and run.speaks(key)]
    found = [stored for stored in map(run.stored, named) if stored is not None]
    return {stored["config"]["model"]: stored["curves"]["documents"] for stored in found}


def column(found: list[dict], *keys) -> np.ndarray:
    """The value under nested ``keys`` of every row, (n, …)."""
    return np.array([functools.reduce(operator.getitem, keys, row) for row in found], dtype=float)


def largest_difference(ours, stored) -> float:
    """Largest relative difference of two results over the keys and places that both have; NaN equals NaN."""
    if isinstance(ours, dict):
        return max((largest_difference(ours[key], stored[key]) for key in ours.keys() & stored.keys()), default=0.0)
    a, b = np.atleast_1d(ours).astype(float), np.atleast_1d(stored).astype(float)
    shared = min(len(a), len(b))
    a, b = a[:shared], b[:shared]
    return float(np.nanmax(np.abs(a - b) / np.maximum(np.abs(b), 1e-9), initial=0.0))


def agreement(ours, stored, tolerance: float = 1e-3) -> str:
    """One stable line: does what was run live equal the same part of the stored run?"""
    if stored is None:
        return "no stored run to compare with"
    difference = largest_difference(ours, stored)
    return (
        "the live part equals the stored run"
        if difference <= tolerance
        else f"the live part differs by {difference:.2g}"
    )


# --- what single cells of the notebook need ------------------------------------------------------------------------


def by_size(found: list[dict]) -> dict[str, np.ndarray]:
    """Loss (n,) by cache size, empty where only one size was measured."""
    sizes = found[0]["loss_by_size"]
    return {size: column(found, "loss_by_size", size) for size in sizes} if len(sizes) > 1 else {}


def beyond_rows(lm: LM, documents: list[corpora.Document]) -> list[dict]:
    """Documents of twice the trained window, measured; none of the others."""
    config = STORED["beyond"].config
    length = beyond.length(lm, config)
    if lm.trained_context < config["margin"] + config["warm_up"]:
        return []
    return [beyond.measure(lm, d.ids[:length], config) for d in documents if len(d.ids) >= length]


def stream_start(lm: LM, run, stored: dict | None, key: str) -> dict:
    """The first segments of a long stream of text ``key``, as the stored run went: same text, same dtype."""
    config = STORED["stream_1m"].config
    if speaks_for(stored, run):
        lm = load(run.models[0], run.device, config["dtype"])
    length = STREAM_TOKENS[run.tier]
    if key in catalogue.load_catalogue():
        ids, _ = corpora.concatenated(lm, [key], length + 1)
    else:
        ids = corpora.own_text(lm, key, 1024)[0].ids
    score = torch.arange(len(ids)) % config["score_every"] == 0
    for target in sampled(config).tolist():
        if target < len(ids):
            score[target] = True
    scheme, out = Scheme(config["sinks"], config["recent"]), {"tokens": [], "loss": [], "cached_bytes": []}
    for state, losses in stream(lm.model, ids, scheme, segment=SEGMENT, score=score):
        found = (state.seen, float(losses.nanmean()), state.cached_bytes())
        for name, value in zip(out, found, strict=True):
            out[name].append(value)
    return out


def averaged(x: np.ndarray, y: np.ndarray, pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of x and y, (pieces,) each, over consecutive parts of equal size."""
    groups = np.array_split(np.arange(len(x)), pieces)
    return np.array([x[g].mean() for g in groups]), np.array([y[g].mean() for g in groups])


def in_pieces(x: np.ndarray, y: np.ndarray, pieces: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `averaged`, with the half-width of the 95 % interval of each mean of y (normal approximation, for drawing)."""
    groups = np.array_split(y, pieces)
    return *averaged(x, y, pieces), np.array([1.96 * group.std(ddof=1) / np.sqrt(len(group)) for group in groups])


def cost_series(ms: dict[str, np.ndarray], arms: tuple[str, ...]) -> dict:
    """Median time with its quartiles by size, for the arms ``name/size``."""
    labels = {"stream": "StreamingLLM", "late": "StreamingLLM", "recompute": "recomputation", "dense": "dense"}
    series = {}
    for arm in arms:
        sizes = sorted(int(name.split("/")[1]) for name in ms if name.startswith(f"{arm}/"))
        low, middle, high = np.quantile([ms[f"{arm}/{size}"] for size in sizes], [0.25, 0.5, 0.75], axis=1)
        series[labels[arm]] = (sizes, middle, low, high)
    return series


def pair_slopes() -> dict[str, Exact]:
    """Log-log slopes of the query-key pairs that each scheme computes (Figure 1), counted in the masks that are run.

    ``dense``: over the text's length, 1,024 to 16,384 tokens. The others: over the cache size, 256 to 4,096, for a text
    of 16,384; recomputation takes a whole causal window for each token.
    """
    sizes, length = [256, 512, 1024, 2048, 4096], 16_384

    def pairs(tokens: int, scheme: Scheme) -> int:
        keys = torch.arange(tokens)
        some = keys[15::16]  # every sixteenth query stands for its neighbours
        return 16 * sum(int(allowed(scheme, part[:, None], keys).sum()) for part in some.split(256))

    def slope(x: list[int], y: list[int]) -> Exact:
        return Exact(float(np.polyfit(np.log(x), np.log(y), 1)[0]))

    lengths = [1024, 4096, 16_384]
    return {
        "dense": slope(lengths, [pairs(tokens, Scheme(0, tokens)) for tokens in lengths]),
        "recompute": slope(sizes, [length * pairs(size, Scheme(0, size)) for size in sizes]),
        "window": slope(sizes, [pairs(length, Scheme(0, size)) for size in sizes]),
        "stream": slope(sizes, [pairs(length, Scheme(4, size - 4)) for size in sizes]),
    }


def recall_rows(lm: LM, count: int, seed: int) -> list[dict]:
    """``count`` generated streams, answered; none for a tokenizer that splits the words."""
    config = STORED["recall"].config
    return [recall.measure(lm, config, seed + i) for i in range(count)] if recall.possible(lm, config) else []


def recall_accuracy(found: list[dict]) -> dict[str, np.ndarray]:
    """``lines`` (k,): distances; ``dense`` and ``streaming`` (streams, k): share of right choices."""
    lines = sorted({distance for row in found for distance in row["lines"]})
    shares = {
        scheme: np.array(
            [
                [_share(r for r, d in zip(row[scheme], row["lines"], strict=True) if d == at) for at in lines]
                for row in found
            ]
        )
        for scheme in ("dense", "streaming")
    }
    return {"lines": np.array(lines), **shares}


def _share(answers: Iterable[bool]) -> float:
    """Share that is right; NaN for none, as a stream need not ask at every distance."""
    answers = list(answers)
    return sum(answers) / len(answers) if answers else float("nan")


def recall_parts(found: list[dict]) -> tuple[Estimate | None, ...]:
    """Share of right choices: streaming with the fact cached (up to 6 lines back), streaming and dense with it evicted.

    The unit is the stream: its queries share the words, the names and the cache.
    """
    if not found:
        return None, None, None
    accuracy = recall_accuracy(found)
    near = accuracy["lines"] <= 6
    streaming, dense = accuracy["streaming"], accuracy["dense"]
    return tuple(
        mean(np.nanmean(part, axis=1), unit="streams").of("recall")
        for part in (streaming[:, near], streaming[:, ~near], dense[:, ~near])
    )


def gate_table(gates: dict | None, shown: int = 4) -> Shown:
    """The first questions of each gate, what was wanted and what the model said."""
    found = [] if gates is None else [row for curve in gates["curves"].values() for row in curve[:shown]]
    cells = [[row["asked"], row["wanted"], row["said"], "yes" if row["exact"] else "no"] for row in found]
    return table(["asked", "wanted", "said", "exact"], cells, "gate-table")
