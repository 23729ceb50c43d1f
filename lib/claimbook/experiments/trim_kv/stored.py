"""What of the chapter is stored: each run's function, config and assets, and a short first part of it.

In this order: bases, gates on them, recall; gates on the real model, then what is measured of them. A later run reads
the promoted artefacts of the earlier ones.
"""

from claimbook.provenance.declarations import Stored

_MODEL, _TEXT = "smollm2-135m", "wikipedia-excerpt"
_ASSETS = [_MODEL, _TEXT]
SEEDS = range(5)

# --- the toy: five bases, gates of some seeds on each ----------------------------------------------------------------

_ARMS = ["whole", "no capacity", "no kl", "no ntp", "printed", "linear", "bias 0", "bias 18"]
_ARMS += ["budget 6", "budget 24", "general", "narrow"]
_BASE = {"batch": 64, "length": 96}
_BASE_RECIPE = {"steps": 1000, "rate": 3e-3, "warmup": 100, "floor": 0.0, "weight_decay": 0.0, "eps": 1e-8}
_CLOSE = ["whole", "no kl", "no ntp", "linear", "bias 0", "bias 18", "printed"]
_SEEDS = {"arms": _ARMS, "close": _CLOSE, "seeds": 5, "n_seeds": 3}
_GATES = _SEEDS | {"batch": 16, "length": 96, "loss_every": 5}
_GATES_RECIPE = {"steps": 200, "rate": 1e-2, "warmup": 20}
_RECALL = _SEEDS | {
    "n_texts": 256,
    "n_long": 512,
    "length": 96,
    "budgets": [8, 12, 16, 24, 48],
    "arm_budgets": [16, 24],
    "transfer_budgets": [12, 16, 24],
    "lengths": [160],
    "long_budgets": [48],
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
_TRAINING = {"length": 256, "batch": 2, "budget": 64}
_TRAINING_RECIPE = {"steps": 180, "rate": 1e-3, "warmup": 25}
_HEURISTICS = ["window", "streaming", "h2o", "tova", "snapkv", "key norm", "keydiff", "snapkv unpooled"]
_RULES = [*_HEURISTICS, "random", "untrained", "position"]
_NAMES = [f"gates_{seed}" for seed in SEEDS]
LONG = "gates_long"


def _measured(run: str, config: dict, prefix: dict, gates: list[str] = _NAMES) -> Stored:
    config = _HELD_OUT | _SHAPE | {"gates": gates} | config
    return Stored(run, config, assets=_ASSETS, prefix=prefix, reads=tuple(f"trim_kv/{name}" for name in gates))


STORED |= {
    f"gates_{seed}": Stored(
        "gates:run",
        _HELD_OUT | _SHAPE | _TRAINING | {"recipe": _TRAINING_RECIPE, "seed": seed},
        assets=_ASSETS,
        prefix=_begun(_TRAINING_RECIPE, 2),
    )
    for seed in SEEDS
}
# twenty-two times as many tokens, on a GPU: does more training make gates that keep more?
_LONG_RECIPE = _TRAINING_RECIPE | {"steps": 500, "warmup": 50}
STORED |= {
    LONG: Stored(
        "gates:run",
        _HELD_OUT | _SHAPE | _TRAINING | {"batch": 16, "recipe": _LONG_RECIPE, "seed": 0},
        assets=_ASSETS,
        prefix=_begun(_LONG_RECIPE, 2),
    )
}
_ARTICLES = {"n_texts": 22, "length": 320, "from": 128, "budgets": [32, 64, 128], "printed_budgets": [64]}
_FACTS = {"n_needles": 40, "n_articles": 40, "length": 1024, "tokens": 320, "least": 132, "seed": 0, "budgets": [64]}
STORED |= {
    "texts": _measured(
        "texts:run",
        _ARTICLES | {"rules": _RULES, "renumbered": ["snapkv"], "renumbered_budgets": [64]},
        {"n_texts": 1, "first": 8},
    ),
    "needle": _measured(
        "needle:run", _FACTS | {"rules": _RULES, "cut_rules": _HEURISTICS}, {"n_needles": 1, "first": 8}
    ),
    "texts_long": _measured(
        "texts:run",
        _ARTICLES | {"rules": [], "renumbered": [], "renumbered_budgets": []},
        {"n_texts": 1, "first": 3},
        [LONG],
    ),
    "needle_long": _measured(
        "needle:run", _FACTS | {"rules": [], "cut_rules": []}, {"n_needles": 1, "first": 4}, [LONG]
    ),
    "learned": _measured("learned:run", {"n_texts": 24, "length": 512, "budget": 64}, {"n_texts": 1, "first": 2}),
    "steps": _measured(
        "steps:run",
        {"n_texts": 20, "length": 192, "budget": 64, "prompt": 64, "new_tokens": 256}
        | {"rules": ["trim", "streaming", "h2o", "tova", "snapkv", "keydiff"]},
        {"n_texts": 1, "first": 1},
    ),
}

STORED |= {
    "latency": Stored(
        "latency:run",
        {"model": _MODEL, "text": _TEXT, "context": 8192, "chunk": 512, "budget": 128, "width": 512, "rounds": 20}
        | {"rules": ["streaming", "snapkv"]},
        assets=_ASSETS,
    ),
}
