"""What the StreamingLLM chapter measures. The stored runs are declared here; each module holds one experiment."""

from claimbook.provenance.declarations import Stored

_STREAM = {
    "model": "smollm2-135m",
    "dtype": "bfloat16",  # half precision, as in the paper (float16 there): twice the speed
    "texts": ["wikipedia-excerpt", "docstrings"],
    "n_tokens": 1_000_000,
    "sinks": 4,
    "recent": 252,
    "score_every": 4,
    "sample_every": 2000,
    "seed": 0,
}
_STREAM_ASSETS = ["smollm2-135m", "wikipedia-excerpt", "docstrings"]
_MODEL_AND_TEXT = ["smollm2-135m", "wikipedia-excerpt"]
_DOCUMENTS = {
    "model": "smollm2-135m",
    "text": "wikipedia-excerpt",
    "n_documents": 20,
    "length": 2048,
    "cache": 256,
    "sinks": [0, 1, 2, 4, 8],
    "sizes": [128, 256, 512, 1024],
    "n_recompute": 20,
    "bin": 16,
    "seed": 0,
}

STORED = {
    "stream_1m": Stored(
        "stream:run",
        config=_STREAM | {"checkpoint_every": 10},
        assets=_STREAM_ASSETS,
        prefix={"n_tokens": 20_480},
        machine_curves=("rss_mb",),
    ),
    "stream_1m_recompute": Stored(
        "stream:run_recompute", config=_STREAM | {"batch": 16}, assets=_STREAM_ASSETS, prefix={"n_tokens": 20_480}
    ),
    "documents": Stored(
        "documents:run",
        config=_DOCUMENTS,
        assets=_MODEL_AND_TEXT,
        prefix={"n_documents": 1},
    ),
    "documents_gemma": Stored(
        "documents:run",
        config=_DOCUMENTS | {"model": "gemma-3-270m", "dtype": "bfloat16", "sizes": [256, 512, 1024]},
        assets=["gemma-3-270m", "wikipedia-excerpt"],
        prefix={"n_documents": 1},
    ),
    "attention": Stored(
        "attention:run",
        config={
            "model": "smollm2-135m",
            "text": "wikipedia-excerpt",
            "n_documents": 20,
            "length": 1024,
            "map_length": 16,
            "map_passages": 256,
            "map_layers": [0, 1, 10, 20],
        },
        assets=_MODEL_AND_TEXT,
        prefix={"n_documents": 1},
    ),
    "attention_gemma": Stored(
        "attention:run",
        config={
            "model": "gemma-3-270m",
            "text": "wikipedia-excerpt",
            "n_documents": 20,
            "length": 1024,
            "map_length": 16,
            "map_passages": 256,
            "map_layers": [0, 1, 5, 11],
        },
        assets=["gemma-3-270m", "wikipedia-excerpt"],
        prefix={"n_documents": 1},
    ),
    "distance": Stored(
        "distance:run",
        config={
            "model": "smollm2-135m",
            "text": "wikipedia-excerpt",
            "n_documents": 20,
            "dtype": "bfloat16",
            "part": 512,
            "sinks": 4,
            "recent": 252,
            "positions": [2048, 8192, 32_768, 131_072, 1_000_000],
        },
        assets=_MODEL_AND_TEXT,
        prefix={"n_documents": 1},
    ),
    "beyond": Stored(
        "beyond:run",
        config={
            "model": "smollm2-135m",
            "text": "wikipedia-excerpt",
            "n_documents": 20,
            "dtype": "bfloat16",
            "windows": 2,
            "margin": 1024,
            "warm_up": 1024,
            "bin": 128,
            "sinks": 4,
            "recent": 252,
        },
        assets=_MODEL_AND_TEXT,
        prefix={"n_documents": 1},
    ),
    "recall": Stored(
        "recall:run",
        config={
            "model": "smollm2-135m",
            "dtype": "bfloat16",
            "n_streams": 20,
            "n_lines": 90,
            "first_query": 45,
            "query_every": 2,
            "distances": [2, 6, 30, 40],
            "sinks": 4,
            "recent": 252,
            "seed": 0,
        },
        assets=["smollm2-135m"],
        prefix={"n_streams": 1},
    ),
    "encoder": Stored(
        "encoder:run",
        config={"model": "minilm-l6", "text": "wikipedia-excerpt", "n_documents": 40, "length": 128},
        assets=["minilm-l6", "wikipedia-excerpt"],
        prefix={"n_documents": 1},
    ),
    "gates": Stored(
        "gates:run",
        config={
            "model": "smollm2-135m",
            "text": "wikipedia-excerpt",
            "n_questions": 40,
            "n_articles": 10,
            "article_tokens": 512,
            "new_tokens": 16,
        },
        assets=["smollm2-135m", "wikipedia-excerpt", "arc-easy-test"],
        prefix={"n_questions": 4, "n_articles": 1},
    ),
    "latency": Stored(
        "latency:run",
        config={
            "model": "smollm2-135m",
            "text": "wikipedia-excerpt",
            "caches": [256, 512, 1024, 2048, 4096],
            "contexts": [256, 512, 1024, 2048, 4096],
            "recent": 252,
            "repeats": 20,
        },
        assets=_MODEL_AND_TEXT,
    ),
    "toys": Stored(
        "toys:run",
        config={
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
