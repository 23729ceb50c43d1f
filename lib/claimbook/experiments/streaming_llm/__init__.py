"""What the StreamingLLM chapter measures. The stored runs are declared here; each module holds one experiment."""

from claimbook.sweeps import Stored

_STREAM = {
    "model": "smollm2-135m",
    "texts": ["wikipedia-excerpt", "docstrings"],
    "n_tokens": 1_000_000,
    "sinks": 4,
    "recent": 252,
    "sample_every": 1000,
    "seed": 0,
}
_STREAM_ASSETS = ["smollm2-135m", "wikipedia-excerpt", "docstrings"]
_DOCUMENTS = {
    "model": "smollm2-135m",
    "text": "wikipedia-excerpt",
    "n_documents": 24,
    "length": 2048,
    "cache": 256,
    "sinks": [0, 1, 2, 4, 8],
    "sizes": [64, 128, 256, 512, 1024],
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
        assets=["smollm2-135m", "wikipedia-excerpt"],
        prefix={"n_documents": 1},
    ),
}
