"""What of the chapter is stored: each run's function, config and assets, and a short first part of it.

In this order: bases, gates on them, recall; gates on the real model, then what is measured of them. A later run reads
the promoted artefacts of the earlier ones.
"""

from claimbook.provenance.declarations import Stored

_MODEL, _TEXT = "smollm2-135m", "wikipedia-excerpt"
_ASSETS = [_MODEL, _TEXT]
SEEDS = range(5)

# --- the toy: five bases, three seeds of gates on each -------------------------------------------------------------

_ARMS = [
    "whole",
    *("no capacity", "no kl", "no ntp", "printed", "multiplied"),
    *("linear", "bias 0", "bias 18", "budget 6", "budget 24"),
    *("general", "narrow"),
]
_BASE = {"batch": 64, "length": 96}
_BASE_RECIPE = {"steps": 1000, "rate": 3e-3, "warmup": 100, "floor": 0.0, "weight_decay": 0.0, "eps": 1e-8}
_CLOSE = ["whole", "no kl", "no ntp", "linear", "bias 0", "bias 18", "printed"]
_SEEDS = {"arms": _ARMS, "close": _CLOSE, "seeds": 5, "n_seeds": 3}
_GATES = _SEEDS | {"batch": 32, "length": 96, "loss_every": 5}
_GATES_RECIPE = {"steps": 300, "rate": 1e-2, "warmup": 20}
_RECALL = _SEEDS | {
    "n_texts": 512,
    "n_long": 1024,
    "length": 96,
    "budgets": [6, 8, 12, 16, 24, 32, 48],
    "few_budgets": [12, 16, 24],
    "lengths": [128, 160, 224, 320],
    "long_budgets": [32, 48],
}


def _begun(recipe: dict, steps: int) -> dict:
    """A recipe of which only the first steps are made."""
    return {"recipe": recipe | {"steps": steps, "horizon": recipe["steps"]}}


STORED = {
    f"toy_base_{seed}": Stored(
        "delayed_recall:run_base",
        _BASE | {"recipe": _BASE_RECIPE, "seed": seed},
        prefix=_begun(_BASE_RECIPE, 8),
    )
    for seed in SEEDS
}
STORED |= {
    f"toy_gates_{seed}": Stored(
        "delayed_recall:run_gates",
        _GATES | {"recipe": _GATES_RECIPE, "base": seed},
        prefix=_begun(_GATES_RECIPE, 2),
        reads=(f"trim_kv/toy_base_{seed}",),
    )
    for seed in SEEDS
}
STORED |= {
    f"toy_{seed}": Stored(
        "recall:run",
        _RECALL | {"base": seed},
        prefix={"first": 4},
        reads=(f"trim_kv/toy_base_{seed}", f"trim_kv/toy_gates_{seed}"),
    )
    for seed in SEEDS
}

# --- a real model: five seeds of gates, trained on articles that are measured nowhere ---------------------------

# the first 70 articles are measured, the others train
_HELD_OUT = {"model": _MODEL, "text": _TEXT, "trained_on": _TEXT, "skip": 70}
_SHAPE = {"width": 64, "bias": 7.8}  # bias: ln 256 + 2.3, so that beta ** 256 begins near 0.9
_TRAINING = {"length": 256, "batch": 4, "budget": 64}
_TRAINING_RECIPE = {"steps": 500, "rate": 1e-3, "warmup": 25}
_RULES = ["window", "streaming", "h2o", "tova", "snapkv", "key norm", "keydiff"]
_RULES += ["snapkv unpooled", "random", "untrained", "position"]
_NAMES = [f"gates_{seed}" for seed in SEEDS]
_MEASURED = _HELD_OUT | _SHAPE | {"gates": _NAMES}
_READS = tuple(f"trim_kv/{name}" for name in _NAMES)

STORED |= {
    f"gates_{seed}": Stored(
        "gates:run",
        _HELD_OUT | _SHAPE | _TRAINING | {"recipe": _TRAINING_RECIPE, "seed": seed},
        assets=_ASSETS,
        prefix=_begun(_TRAINING_RECIPE, 2),
    )
    for seed in SEEDS
}
STORED |= {
    "texts": Stored(
        "texts:run",
        _MEASURED
        | {"n_texts": 60, "length": 512, "from": 128}
        | {"budgets": [32, 64, 128], "printed_budgets": [64], "rules": _RULES, "renumbered": ["h2o", "tova", "snapkv"]},
        assets=_ASSETS,
        prefix={"n_texts": 1, "first": 8},
        reads=_READS,
    ),
    "needle": Stored(
        "needle:run",
        _MEASURED
        | {"n_needles": 200, "n_articles": 50, "length": 1024, "tokens": 480, "least": 132, "seed": 0}
        | {"budgets": [32, 64, 128], "once_budgets": [64], "rules": [*_RULES, "oracle"]},
        assets=_ASSETS,
        prefix={"n_needles": 1, "first": 8},
        reads=_READS,
    ),
    "learned": Stored(
        "learned:run",
        _MEASURED | {"n_texts": 60, "length": 512, "budget": 64},
        assets=_ASSETS,
        prefix={"n_texts": 1, "first": 2},
        reads=_READS,
    ),
}

# --- the engine and its cost --------------------------------------------------------------------------------------

STORED |= {
    "steps": Stored(
        "steps:run",
        _MEASURED
        | {"n_texts": 20, "length": 384, "budget": 64, "prompt": 64, "new_tokens": 256}
        | {"rules": ["trim", "streaming", "h2o", "tova", "snapkv", "keydiff"]},
        assets=_ASSETS,
        prefix={"n_texts": 1, "first": 1},
        reads=_READS,
    ),
    "latency": Stored(
        "latency:run",
        {"model": _MODEL, "text": _TEXT, "context": 8192, "chunk": 512, "budget": 128, "width": 512, "rounds": 20}
        | {"rules": ["streaming", "snapkv"]},
        assets=_ASSETS,
    ),
}
