"""What of the chapter is stored: each run's function, config and assets, and a short first part of it."""

from claimbook.provenance.declarations import Stored

TIMES = (3, 4, 5, 6, 8)  # of the median norm: the thresholds over which our own rule is reported
RULE = "4 x"  # the one that agrees best with the others, on the articles of "thresholds"

_MODELS, _TEXT = {"smollm2-135m": "", "gemma-3-270m": "_gemma"}, "wikipedia-excerpt"
# Articles 0 and 1 tried the tools, 2 to 25 were read in the first hearing, 26 to 37 choose the threshold.
_NEW = {"text": _TEXT, "seed": 0, "skip": 38, "n_texts": 24}
_OTHERS = {"text": _TEXT, "seed": 0, "skip": 26, "n_texts": 12, "length": 384}
_RUNS = {
    "texts": ("texts", _NEW | {"length": 2048}, {"n_texts": 1}),
    "thresholds": ("thresholds", _OTHERS, {"n_texts": 1}),
    "changes": ("changes", _NEW | {"n_texts": 22, "length": 384}, {"n_texts": 1}),
    # each text is told apart by all others, and the layer is that of all texts: the whole is confirmed, some minutes
    "separation": ("separation", _NEW | {"length": 384}, {}),
    "layer": ("layer", _NEW | {"length": 384}, {}),
}

STORED = {
    f"{name}{suffix}": Stored(f"measure.{run}:run", {"model": model} | config, assets=[model, _TEXT], prefix=prefix)
    for model, suffix in _MODELS.items()
    for name, (run, config, prefix) in _RUNS.items()
}
