"""The benchmark page: both sides of every row measured in one run, as ratios, with the method and the machine.

Never a timed test: `claimbook bench` is run by hand on a quiet machine and writes ``data/results/benchmarks.json``.
"""

import datetime
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from claimbook import paths
from claimbook.errors import ClaimbookError
from claimbook.provenance import machine, seals
from claimbook.runs import parameters
from claimbook.runs.freshness import freshness

MODEL, TEXT = "smollm2-135m", "wikipedia-excerpt"
ROUNDS = 5


def main() -> Path:
    """Measure every row and write the page's data; returns the file."""
    refuse_stale_chapters()
    machine.limit_threads()
    rows = []
    for measure in (
        attention_time,
        attention_memory,
        attention_memory_growth,
        streaming_speed,
        streaming_flat,
        planning,
        sliding_windows,
        eviction_speed,
        eviction_memory,
        no_op_book,
    ):
        for found in measure():
            print(f"{found['name']}: {found['ratio']} ({found['target']})", file=sys.stderr)
            rows.append(found)
    path = paths.root() / "data" / "results" / "benchmarks.json"
    about = {"machine": machine.hardware(), "threads": machine.threads(), "date": f"{datetime.date.today()}"}
    seals.write(path, about | {"packages": machine.versions(), "rows": rows})
    return path


def refuse_stale_chapters() -> None:
    """ClaimbookError when a chapter is stale: the book would first run it, and "nothing stale" could not be timed."""
    stale = [chapter for chapter in parameters.notebooks() if freshness(chapter)]
    if stale:
        raise ClaimbookError(f"stale: {', '.join(stale)}. `claimbook book` brings them up to date; then measure")


def row(name: str, ours: float, unit: str, baseline: float, what: str, ratio: float, target: str, method: str) -> dict:
    return {
        "name": name,
        "ours": round(ours, 3),
        "ours_unit": unit,
        "baseline": round(baseline, 3),
        "baseline_unit": f"{unit}, {what}",
        "ratio": round(ratio, 3),
        "target": target,
        "method": method,
    }


# --- attention statistics -------------------------------------------------------------------------------------------


def attention_time() -> list[dict]:
    """Streaming reduction against a plain SDPA forward and against transformers' full attention tensors."""
    plain, observed, full = paired([("plain", 2048), ("observed", 2048), ("full", 2048)])
    method = f"medians of {ROUNDS} alternating rounds, {MODEL}, float32, 2,048 tokens"
    return [
        row(
            "attention statistics, time", observed, "s", plain, "SDPA forward", observed / plain, "at most 1.25", method
        ),
        row(
            "attention statistics, speed",
            observed,
            "s",
            full,
            "output_attentions",
            full / observed,
            "at least 3",
            method,
        ),
    ]


def attention_memory() -> list[dict]:
    """Extra peak memory over a plain forward, each arm in a process of its own."""
    plain, observed, full = (peak(kind, 2048) for kind in ("plain", "observed", "full"))
    ours, theirs = max(observed - plain, 1), full - plain
    method = "peak resident memory over that of a plain forward, one process each, 2,048 tokens; "
    method += "1 MB stands for no measurable difference"
    return [
        row(
            "attention statistics, memory",
            ours,
            "MB",
            theirs,
            "output_attentions",
            ours / theirs,
            "at most 0.05",
            method,
        )
    ]


def attention_memory_growth() -> list[dict]:
    """Does the memory of the streaming reduction grow in proportion to the text?"""
    short, long = (peak("observed", length) - peak("loaded", length) for length in (2048, 8192))
    method = "peak resident memory over that of the loaded model, 8,192 against 2,048 tokens"
    return [
        row(
            "attention statistics, 4 x the text",
            long,
            "MB",
            short,
            "2,048 tokens",
            long / short,
            "4 is linear, 16 quadratic",
            method,
        )
    ]


# --- streaming ------------------------------------------------------------------------------------------------------


def streaming_speed() -> list[dict]:
    """Block-parallel evaluation against the rolling cache that decodes token by token."""
    lm, ids = model_and_text(4097)
    from claimbook.papers.streaming_llm import RollingCache, Scheme, losses

    scheme = Scheme(4, 252)
    cache = RollingCache(lm.model, scheme)
    for token in ids[:260].tolist():
        cache.step(token)
    losses(lm.model, ids[:600], scheme)
    steps, blocks = [], []
    for _ in range(ROUNDS):
        steps.append(seconds(lambda: [cache.step(int(token)) for token in ids[260:276]]) / 16)
        blocks.append(seconds(lambda: losses(lm.model, ids, scheme)) / 4096)
    ours, baseline = 1 / statistics.median(blocks), 1 / statistics.median(steps)
    method = f"medians of {ROUNDS} alternating rounds, 4+252, 4,096 tokens in blocks, 16 steps one by one"
    return [
        row("StreamingLLM, exact", ours, "tokens/s", baseline, "token by token", ours / baseline, "at least 20", method)
    ]


def streaming_flat() -> list[dict]:
    """Is a token late in the stream as cheap as an early one?"""
    lm, ids = model_and_text(16_385)
    from claimbook.papers.streaming_llm import Scheme, stream

    times, start = [], time.perf_counter()
    for _ in stream(lm.model, ids, Scheme(4, 252), segment=1024):
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    early, late = (statistics.median(part) / 1.024 for part in (times[1:5], times[-4:]))
    method = "median time per token of segments 2-5 and of the last four, 16,384 tokens; stored streams go to 4M"
    return [row("StreamingLLM, late token", late, "ms", early, "early token", late / early, "about 1", method)]


def planning() -> list[dict]:
    """Choosing learning paths: greedy set cover against the exact cover by integer programming, on the same paths."""
    from claimbook.experiments.graphmasal.measure import scale

    config = {"graphs": ["sections"], "weak": [40], "n_each": ROUNDS, "seed": 0}
    found = scale.EXPERIMENT.now(None, config)
    ours, exact = (
        statistics.median(of) for of in zip(*((r.seconds_greedy, r.seconds_optimal) for r in found), strict=True)
    )
    cost = statistics.median(r.greedy / r.optimal for r in found)
    method = f"medians of {ROUNDS} learners, 40 of 661 topics weak, paths already found; costs {cost:.2f} times as much"
    return [row("learning paths, greedy", 1e3 * ours, "ms", 1e3 * exact, "exact", exact / ours, "at least 1", method)]


def sliding_windows() -> list[dict]:
    """Segmenting a whole CT by overlapping windows, whose memory is that of one window, against one pass over all."""
    import torch

    from claimbook.experiments.ascites_ct import training

    segmenter, scan = training.load("untrained"), torch.zeros(1, 1, 104, 80, 72)
    with torch.no_grad():
        arms = (lambda: segmenter.windows(scan), lambda: segmenter.network(scan))
        times = [[seconds(arm) for arm in arms] for _ in range(ROUNDS + 1)][1:]
    ours, whole = (statistics.median(of) for of in zip(*times, strict=True))
    size = " x ".join(map(str, training.PATCH))
    method = f"medians of {ROUNDS} passes over 104 x 80 x 72 voxels in turn, blocks of {size}, a quarter shared"
    return [row("CT, sliding windows", ours, "s", whole, "one pass", ours / whole, "at most 8", method)]


# --- bounded caches -------------------------------------------------------------------------------------------------

BUDGET = 64


def eviction_speed() -> list[dict]:
    """One masked pass against a cache that evicts token by token, H2O, as it has to see every attention row."""
    lm, ids = model_and_text(512)
    masked, real = [], []
    for _ in range(ROUNDS + 1):
        masked.append(seconds(lambda: forward(lm, ids, "masked")) / 512)
        real.append(seconds(lambda: forward(lm, ids[:96], "evicting")) / 96)
    ours, baseline = 1 / statistics.median(masked[1:]), 1 / statistics.median(real[1:])
    method = f"medians of {ROUNDS} alternating rounds, H2O, {BUDGET} tokens kept, 512 tokens at once, 96 one by one"
    return [
        row("bounded cache, exact", ours, "tokens/s", baseline, "token by token", ours / baseline, "at least 3", method)
    ]


def eviction_memory() -> list[dict]:
    """What the masked pass pays for it: a row of the mask for every query."""
    ours, theirs = (max(peak(kind, 1024) - peak("loaded", 1024), 1) for kind in ("masked", "evicting"))
    method = "peak resident memory over that of the loaded model, one process each, H2O, 1,024 tokens; "
    method += "1 MB stands for no measurable difference"
    return [
        row("bounded cache, memory", ours, "MB", theirs, "token by token", ours / theirs, "shown, no target", method)
    ]


def no_op_book() -> list[dict]:
    """The command a reader runs most often: nothing is stale, nothing to do."""

    def build():
        subprocess.run([sys.executable, "-m", "claimbook", "book"], check=True, capture_output=True, cwd=paths.root())

    shutil.rmtree(paths.root() / "_build", ignore_errors=True)
    full, ours = seconds(build), seconds(build)
    method = "the second of two `claimbook book`, against the first, from nothing"
    return [row("book, nothing stale", ours, "s", full, "full build", ours / full, "below 10 s", method)]


# --- how --------------------------------------------------------------------------------------------------------------


def model_and_text(length: int):
    from claimbook.lm import corpora
    from claimbook.lm.load import load

    lm = load(MODEL, "cpu")
    return lm, corpora.documents(lm, TEXT, length, 1)[0].ids


def forward(lm, ids, kind: str) -> None:
    """One forward pass of the body: plain, observed by a streaming reducer, with full attention tensors, evicting."""
    import torch

    from claimbook.lm import eviction
    from claimbook.lm.attention import observed
    from claimbook.metrics.attention import ColumnMass

    with torch.no_grad():
        if kind == "plain":
            lm.model.base_model(ids[None], use_cache=False)
        elif kind == "observed":
            with observed(lm.model, ColumnMass()):
                lm.model.base_model(ids[None], use_cache=False)
        elif kind == "full":
            lm.model.set_attn_implementation("eager")
            out = lm.model.base_model(ids[None], use_cache=False, output_attentions=True)
            [layer.sum(dim=2) for layer in out.attentions]
            lm.model.set_attn_implementation("sdpa")
        elif kind == "masked":
            with eviction.masked(lm.model, eviction.H2O(BUDGET // 2), BUDGET):
                lm.model.base_model(ids[None], use_cache=False)
        elif kind == "evicting":
            with eviction.evicting(lm.model, eviction.H2O(BUDGET // 2), BUDGET) as cache:
                for token in ids.split(1):
                    lm.model.base_model(token[None], past_key_values=cache)


def paired(arms: list[tuple[str, int]]) -> list[float]:
    """Median seconds of each arm over alternating rounds, after one warm-up."""
    lm, ids = model_and_text(max(length for _, length in arms))
    times = [[] for _ in arms]
    for i in range(ROUNDS + 1):
        for found, (kind, length) in zip(times, arms, strict=True):
            spent = seconds(lambda kind=kind, length=length: forward(lm, ids[:length], kind))
            if i:
                found.append(spent)
    return [statistics.median(found) for found in times]


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak(kind: str, length: int) -> float:
    """Peak resident memory in MB of a fresh process that loads the model and does one forward pass."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (kind, length))


def _peak(kind: str, length: int) -> float:
    machine.limit_threads()
    lm, ids = model_and_text(length)
    forward(lm, ids[:64], "plain")
    forward(lm, ids, kind)
    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", 0) / 2**20 or _high_water()


def _high_water() -> float:
    from claimbook.provenance.machine import peak_memory

    return peak_memory() / 2**20
