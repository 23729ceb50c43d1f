"""What the chapter on the emergence of sinks measures. The stored runs are declared here, one experiment a module."""

from claimbook.sweeps import Stored

_TEXTS = ["docstrings", "wikipedia-excerpt"]
_RECIPE = {"steps": 2442, "rate": 3e-3, "warmup": 100, "weight_decay": 0.1, "precision": "bfloat16"}
_CORPUS = {"texts": _TEXTS, "tokenizer": "bpe.json", "length": 128}
_PRETRAINING = {
    "batch": 32,  # with chunks of 128: 4,096 tokens a step, 10 million in all
    "measure_at": [0, 61, 122, 244, 366, 488, 732, 976, 1220, 1464, 1708, 1952, 2196, 2442],
    "loss_every": 22,
    "loss_chunks": 256,
    "samples": 100,
    "sample_length": 64,
    "keys": 4,
}
_DECODER = {"layers": 6, "width": 128, "heads": 4, "mlp": 320}  # layers, width and heads of Pythia-14M

# arm -> what it changes, and how many seeds
PRETRAINING_ARMS = {
    "packed": ({}, 5),
    "fixed": ({"corpus": {"fixed": [0]}}, 5),
}


def _pretraining(change: dict, seed: int) -> Stored:
    recipe = _RECIPE | change.get("recipe", {})
    config = {
        "corpus": _CORPUS | change.get("corpus", {}),
        "decoder": _DECODER | change.get("decoder", {}),
        "recipe": recipe,
        **_PRETRAINING,
        "seed": seed,
    }
    return Stored("pretraining:run", config, assets=_TEXTS, prefix={"recipe": recipe | {"steps": 44}})


STORED = {
    f"text_{arm}_{seed}": _pretraining(change, seed)
    for arm, (change, seeds) in PRETRAINING_ARMS.items()
    for seed in range(seeds)
}
