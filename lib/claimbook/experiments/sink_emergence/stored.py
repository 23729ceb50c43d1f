"""What the chapter on the emergence of sinks measures. The stored runs are declared here, one experiment a module."""

from claimbook.provenance.declarations import Stored

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

# arm -> what it changes, and how many seeds; the ledger asks for five, fewer are shown and judge nothing
_FIXED = {"fixed": [0]}
PRETRAINING_ARMS = {
    "packed": ({}, 5),
    "fixed": ({"corpus": _FIXED}, 5),
    "fixed_key_bias": ({"corpus": _FIXED, "decoder": {"attention": {"bias": "k"}}}, 5),
    "key_bias": ({"decoder": {"attention": {"bias": "k"}}}, 1),
    "fixed_sigmoid": (
        {"corpus": _FIXED, "decoder": {"attention": {"similarity": "sigmoid", "normalised": False}}},
        1,
    ),
    "fixed_little": ({"corpus": _FIXED | {"unique_tokens": 231_924}}, 1),  # a fiftieth
    "fixed_slow": ({"corpus": _FIXED, "recipe": {"rate": 7.5e-4}}, 1),
    "fixed_decay": ({"corpus": _FIXED, "recipe": {"weight_decay": 0.5}}, 1),
    "packed_long": ({"recipe": {"steps": 7326}, "measure_at": [0, 244, 732, 1220, *range(1708, 7327, 488), 7326]}, 1),
}


def _pretraining(change: dict, seed: int) -> Stored:
    recipe = _RECIPE | change.get("recipe", {})
    config = {
        "corpus": _CORPUS | change.get("corpus", {}),
        "decoder": _DECODER | change.get("decoder", {}),
        "recipe": recipe,
        **_PRETRAINING | {key: change[key] for key in ("measure_at",) if key in change},
        "seed": seed,
    }
    return Stored("pretraining:run", config, assets=_TEXTS, prefix={"recipe": recipe | {"steps": 44}})


STORED = {
    f"text_{arm}_{seed}": _pretraining(change, seed)
    for arm, (change, seeds) in PRETRAINING_ARMS.items()
    for seed in range(seeds)
}

# --- real models -------------------------------------------------------------------------------------------------

_DOMAINS = {
    "texts": ["wikipedia-excerpt", "docstrings", "kjv", "wikibooks-recipes"],
    "samples": 60,
    "length": 64,
    "lengths_of": "wikipedia-excerpt",
    "lengths": [16, 32, 64, 128, 256],
    "epsilons": [0.2, 0.3, 0.4, 0.5],
}
_INTERVENTIONS = {"text": "wikipedia-excerpt", "n_documents": 24, "length": 256, "loss_from": 32}

STORED |= {
    f"{name}{suffix}": Stored(
        f"real:run_{name}",
        {"model": model} | config,
        assets=[model, *texts],
        prefix=prefix,
    )
    for model, suffix in (("smollm2-135m", ""), ("gemma-3-270m", "_gemma"))
    for name, config, texts, prefix in (
        ("domains", _DOMAINS, _DOMAINS["texts"], {}),  # {}: confirmed by the whole, some minutes
        ("interventions", _INTERVENTIONS, ["wikipedia-excerpt"], {}),
    )
} | {
    "windows_gemma": Stored(
        "real:run_windows",
        {"model": "gemma-3-270m", "text": "wikipedia-excerpt", "n_documents": 20, "length": 1024},
        assets=["gemma-3-270m", "wikipedia-excerpt"],
        prefix={"n_documents": 1},
    )
}

# --- toys: family -> arm -> what it changes; `toys_default` is what all others are compared with ---------------------

_K, _SIGMOID = {"attention": {"bias": "k"}}, {"attention": {"similarity": "sigmoid", "normalised": False}}
_THREE = {"decoder": {"layers": 3}}
_FOUR = {"layers": 3, "heads": 4}
_NO_FIXED = {"fixed": None}
TOY_SEEDS = {"batch": 20}  # "no effect" takes a narrow interval; sized by the five seeds of the default toy

_BIASES = {
    "K bias": _K,
    "KV bias": {"attention": {"bias": "kv"}},
    "V bias": {"attention": {"bias": "v"}},
    "sink logit": {"attention": {"bias": "sink_logit"}},
    **{f"value {m:g}": {"attention": {"bias": "k", "value": m}} for m in (1, 5, 20)},
    "even value 20": {"attention": {"bias": "k", "value": 20, "value_direction": "even"}},
    "4 heads, K bias": {"decoder": {"heads": 4}, "attention": {"bias": "k"}},
    "4 heads, shared K bias": {"decoder": {"heads": 4}, "attention": {"bias": "k", "shared": True}},
    **{f"{dims} dimensions": {"attention": {"bias": "k", "key_dims": dims}} for dims in (1, 8)},
}

TOYS = {
    "default": {
        "default": {},
        "own key seen": {"attention": {"strict": False}},
        "own key seen, K bias": {"attention": {"strict": False, "bias": "k"}},
        "paper's initial scale": {"decoder": {"initial": "paper"}},
    },
    "rate": {f"rate {rate:g}": {"recipe": {"rate": rate}} for rate in (3e-4, 1e-3, 1e-2)}
    | {
        f"rate {rate:g}, {steps} steps": {"recipe": {"rate": rate, "steps": steps}}
        for rate, steps in ((3e-4, 4000), (1e-3, 1200), (1e-2, 120))
    },
    "batch": {f"batch {size}": {"text": {"batch": size}} for size in (16, 48, 128)},
    "decay": {f"decay {decay:g}": {"recipe": {"weight_decay": decay}} for decay in (0.1, 0.5, 2.0, 5.0)},
    "data": {f"{pool} samples": {"text": {"pool": pool}} for pool in (16, 256)},
    "tokens": {
        "fixed at 2": {"text": {"fixed": 1}},
        "fixed at 3": {"text": {"fixed": 2}},
        "one random": {"text": {**_NO_FIXED, "bigram_from": 1}},
        "two random": {"text": _NO_FIXED},
    },
    "places": {
        "three, fixed at 2": {**_THREE, "text": {"fixed": 1}},
        "three, fixed at 3": {**_THREE, "text": {"fixed": 2}},
        "three, prefix 5": {**_THREE, "attention": {"prefix": 5}, "text": {**_NO_FIXED, "unscored": 4}},
        "three, own key seen": {**_THREE, "attention": {"strict": False}},
        "three, two random, own key seen": {**_THREE, "attention": {"strict": False}, "text": _NO_FIXED},
    },
    "windows": {f"window {size}": {"attention": {"window": size}} for size in (4, 16)},
    # one layer without positions sees a bag of keys and cannot copy; one head has one slope of ALiBi
    "positions": {
        "rotary": {"decoder": _FOUR},
        "none": {"decoder": _FOUR | {"positions": "none"}},
        "absolute": {"decoder": _FOUR | {"positions": "sinusoidal"}},
        "learned": {"decoder": _FOUR | {"positions": "learned"}},
        "relative": {"decoder": _FOUR | {"positions": "none"}, "attention": {"distance": "relative"}},
        "alibi": {"decoder": _FOUR | {"positions": "none"}, "attention": {"distance": "alibi"}},
    },
    "layers": {
        "three layers": _THREE,
        "three, post-norm": {"decoder": {"layers": 3, "norm": "post"}},
        "three, K bias": _THREE | _K,
        "three, V bias": _THREE | {"attention": {"bias": "v"}},
        "three, sigmoid": _THREE | _SIGMOID,
        "three, one random": {**_THREE, "text": {**_NO_FIXED, "bigram_from": 1}},
        "three, two random": {**_THREE, "text": _NO_FIXED},
        **{f"{heads} heads": {"decoder": {"heads": heads}} for heads in (2, 4)},
        "4 heads, summed": {"decoder": {"heads": 4}, "attention": {"summed": True}},
        **{name: {"decoder": {"activation": name, "gated": False}} for name in ("relu", "silu")},
        **{f"{name}, gated": {"decoder": {"activation": name, "gated": True}} for name in ("relu", "gelu", "silu")},
    },
    "biases": _BIASES,
    "unfixed": {f"unfixed, {arm}": change | {"text": _NO_FIXED} for arm, change in _BIASES.items()},
    "normalisation": {
        "sigmoid": _SIGMOID,
        "sigmoid over its sum": {"attention": {"similarity": "sigmoid"}},
        "elu": {"attention": {"similarity": "elu1", "normalised": False}},
        "elu over its sum": {"attention": {"similarity": "elu1"}},
        **{
            name: {"attention": {"similarity": kernel, "normalised": " over" in name}}
            for kind in ("elu", "identity", "mlp")
            for name, kernel in (
                (f"{kind} kernel", f"{kind.replace('elu', 'elu1')}_kernel"),
                (f"{kind} kernel over its sum", f"{kind.replace('elu', 'elu1')}_kernel"),
            )
        },
        **{f"rows of {total:g}": {"attention": {"row_sum": total}} for total in (2, 0.2, 0.1)},
        **{f"sigmoid, decay {decay:g}": _SIGMOID | {"recipe": {"weight_decay": decay}} for decay in (0.1, 1.0)},
        **{f"sigmoid, rate {rate:g}": _SIGMOID | {"recipe": {"rate": rate}} for rate in (1e-3, 1e-2)},
    },
}

STORED |= {
    f"toys_{family}": Stored(
        "toys:run",
        {
            "arms": arms,
            "recipe": {"steps": 400, "rate": 3e-3, "betas": [0.9, 0.999]},
            "n_seeds": TOY_SEEDS.get(family, 5),
            "seed": 0,
        },
        prefix={"n_seeds": 1},
    )
    for family, arms in TOYS.items()
}
