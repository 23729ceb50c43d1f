"""What of the chapter is stored: each run's function, config and assets, and a short first part of it."""

from claimbook.provenance.declarations import Stored

_MODEL, _GEMMA, _TEXT = "smollm2-135m", "gemma-3-270m", "wikipedia-excerpt"
_ONE = {"n_documents": 1}


def _documents(run: str, *, model: str = _MODEL, n_documents: int = 20, **config) -> Stored:
    """A run over the first documents of the text, confirmed by the first of them."""
    config = {"model": model, "text": _TEXT, "n_documents": n_documents} | config
    return Stored(f"measure.{run}:run", config, assets=[model, _TEXT], prefix=_ONE)


_STREAM = {
    "model": _MODEL,
    "texts": [_TEXT, "docstrings"],
    "sinks": 4,
    "recent": 252,
    "score_every": 4,
    "seed": 0,
}
_MILLION = _STREAM | {"dtype": "bfloat16", "n_tokens": 1_000_000, "sample_every": 2000}  # half precision, as the paper
_FOUR_MILLION = _STREAM | {"dtype": "float32", "n_tokens": 4_000_000, "sample_every": 500}
_STREAM_ASSETS = [_MODEL, _TEXT, "docstrings"]
_WHOLE = {"length": 2048, "cache": 256, "sinks": [0, 1, 2, 4, 8], "n_recompute": 20, "bin": 16, "seed": 0}
_KEPT = {"length": 2048, "cache": 256, "middle": 128}

STORED = {
    "documents": _documents("documents", sizes=[128, 256, 512, 1024], **_WHOLE),
    "documents_gemma": _documents("documents", model=_GEMMA, dtype="bfloat16", sizes=[256, 512, 1024], **_WHOLE),
    "sizes": _documents("sizes", length=9217, caches=[4096, 8192]),
    "kept": _documents("kept", **_KEPT),
    "kept_gemma": _documents("kept", model=_GEMMA, dtype="bfloat16", **_KEPT),
    "attention": _documents("attention", length=1024),
    "attention_gemma": _documents("attention", model=_GEMMA, length=1024),
    "distance": _documents(
        "distance",
        dtype="bfloat16",
        part=512,
        sinks=4,
        recent=252,
        positions=[2048, 8192, 32_768, 131_072, 1_000_000],
    ),
    "beyond": _documents(
        "beyond", dtype="bfloat16", windows=2, margin=1024, warm_up=1024, bin=128, sinks=4, recent=252
    ),
    "encoder": _documents("encoder", model="minilm-l6", n_documents=40, length=128),
    "stream_1m": Stored(
        "measure.stream:run",
        _MILLION | {"checkpoint_every": 10},
        assets=_STREAM_ASSETS,
        prefix={"n_tokens": 20_480},
        machine_curves=("rss_mb",),
    ),
    "stream_4m": Stored(
        "measure.shards:run",
        _FOUR_MILLION | {"shard": 100_000, "block": 2000},
        assets=_STREAM_ASSETS,
        prefix={"n_tokens": 20_000},
    ),
    "stream_4m_recompute": Stored(
        "measure.shards:run_recompute",
        _FOUR_MILLION | {"part": 160},
        assets=_STREAM_ASSETS,
        prefix={"n_tokens": 20_000},
    ),
    "recall": Stored(
        "measure.recall:run",
        {
            "model": _MODEL,
            "n_streams": 40,
            "n_lines": 90,
            "first_query": 45,
            "query_every": 3,
            "bands": [[0, 63], [63, 126], [126, 189], [189, 252], [252, 400], [400, 700]],
            "sinks": 4,
            "recent": 252,
            "seed": 0,
        },
        assets=[_MODEL],
        prefix={"n_streams": 1},
    ),
    "answers": Stored(
        "measure.answers:run",
        {"model": _MODEL, "n_streams": 40, "questions": 24, "skip": 10, "cache": 256},
        assets=[_MODEL, "arc-easy-test"],
        prefix={"n_streams": 1},
    ),
    "latency": Stored(
        "measure.latency:run",
        {
            "model": _MODEL,
            "text": _TEXT,
            "caches": [256, 512, 1024, 2048, 4096],
            "contexts": [256, 512, 1024, 2048, 4096],
            "recent": 252,
            "repeats": 20,
        },
        assets=[_MODEL, _TEXT],
    ),
    "memory": Stored(
        "measure.memory:run",
        {"model": _MODEL, "text": _TEXT, "cache": 4096, "context": 16_384, "rounds": 5},
        assets=[_MODEL, _TEXT],
    ),
    "toys": Stored(
        "measure.toys:run",
        {
            "steps": 500,
            "every": 25,
            "n_seeds": 5,
            "seed": 0,
            "cache": 32,
            "stream": 512,
            "validation_seed": 1000,
        },
        prefix={"n_seeds": 1},
    ),
}
