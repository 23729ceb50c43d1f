"""What of the chapter is stored: decoders trained on text, toys, and what takes minutes on real models."""

from claimbook.provenance.declarations import Stored

FIRST_SEED, SEEDS = 10, 5  # earlier versions of the chapter trained seeds 0 to 4

# --- decoders trained on text: arm -> what it changes; one run for each seed ---------------------------------------

_TEXTS = ["docstrings", "wikipedia-excerpt"]
_RECIPE = {"steps": 2442, "rate": 3e-3, "warmup": 100, "weight_decay": 0.1, "precision": "bfloat16"}
_TRAINING = {
    "corpus": {"texts": _TEXTS, "tokenizer": "bpe.json", "length": 128},
    "decoder": {"layers": 6, "width": 128, "heads": 4, "mlp": 320},  # layers, width and heads of Pythia-14M
    "recipe": _RECIPE,
    "batch": 32,  # with chunks of 128: 4,096 tokens a step, 10 million in all
    "measure_at": [0, 61, 122, 244, 366, 488, 732, 976, 1220, 1464, 1708, 1952, 2196, 2442],
    "loss_every": 22,
    "loss_chunks": 256,
    "samples": 100,
    "sample_length": 64,
    "keys": 5,
    "unscored": 0,  # targets at the beginning that do not count
}
_FIXED, _LEARNED, _K, _KV = {"fixed": [0]}, {"positions": "learned"}, {"bias": "k"}, {"bias": "kv"}
_LONG = {"corpus": _FIXED | {"length": 512}, "batch": 8}  # as many tokens a step, so that a window of 32 is a small one
ARMS = {
    "fixed": {"corpus": _FIXED},
    "learned": {"decoder": _LEARNED},
    "packed": {},
    "key_bias": {"decoder": {"attention": _K}},
    "fixed_key_bias": {"corpus": _FIXED, "decoder": {"attention": _K}},
    "fixed_key_bias_value": {"corpus": _FIXED, "decoder": {"attention": _K | {"value": 20}}},
    "key_bias_value": {"decoder": {"attention": _K | {"value": 20}}},
    "key_bias_one_dimension": {"decoder": {"attention": _K | {"key_dims": 1}}},
    "key_bias_shared": {"decoder": {"attention": _K | {"shared": True}}},
    "fixed_slow": {"corpus": _FIXED, "recipe": {"rate": 7.5e-4}},
    "fixed_little": {"corpus": _FIXED | {"unique_tokens": 231_924}},  # a fiftieth
    "fixed_decay": {"corpus": _FIXED, "recipe": {"weight_decay": 0.5}},
    "fixed_decay_5": {"corpus": _FIXED, "recipe": {"weight_decay": 5.0}},
    "fixed_value_bias": {"corpus": _FIXED, "decoder": {"attention": {"bias": "v"}}},
    "fixed_kv_bias": {"corpus": _FIXED, "decoder": {"attention": _KV}},
    "fixed_kv_bias_shared": {"corpus": _FIXED, "decoder": {"attention": _KV | {"shared": True}}},
    "fixed_post_norm": {"corpus": _FIXED, "decoder": {"norm": "post"}},
    "fixed_long": _LONG,
    "fixed_long_window": _LONG | {"decoder": {"attention": {"window": 32}}},
    "fixed_sigmoid": {  # three times as long, so that its loss may come down to softmax's
        "corpus": _FIXED,
        "decoder": {"attention": {"similarity": "sigmoid", "normalised": False}},
        "recipe": {"steps": 7326},
        "measure_at": [0, 61, 122, *range(244, 7327, 244), 7326],
    },
    "learned_prefix": {"decoder": _LEARNED | {"attention": {"prefix": 5}}, "unscored": 4},
}
TWELVE = ("fixed", "packed", "key_bias")  # arms whose differences are small, or whose ratios scatter
# How many seeds of an arm are trained; the others are to come. To train more, on a machine like that of the seeds that
# are there, raise a number and run `claimbook sweeps sink_emergence --name text_<arm>_<seed>` for each that is new.
TRAINED = dict.fromkeys(ARMS, SEEDS) | {"fixed_long": 2, "fixed_long_window": 0, "learned_prefix": 0}


def _training(change: dict, seed: int) -> Stored:
    config = _TRAINING | {"seed": seed}
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    shorter = {"recipe": config["recipe"] | {"steps": 22}, "measure_at": [0]}
    return Stored("measure.text:run", config, assets=_TEXTS, prefix=shorter)


def text_run(arm: str, seed: int) -> str:
    """The name of a training's stored run."""
    return f"text_{arm}_{seed}"


def seeds(arm: str) -> range:
    """The seeds of an arm on text, those to come among them."""
    return range(FIRST_SEED, FIRST_SEED + (12 if arm in TWELVE else SEEDS))


TEXT_RUNS = {text_run(arm, seed): _training(change, seed) for arm, change in ARMS.items() for seed in seeds(arm)}
TO_COME = [text_run(arm, seed) for arm in ARMS for seed in seeds(arm)[TRAINED.get(arm, 0) :]]
STORED = {name: run for name, run in TEXT_RUNS.items() if name not in TO_COME}

# --- toys: family -> arm -> what it changes; all are compared with the arm "default" -----------------------------

_SIGMOID = {"attention": {"similarity": "sigmoid", "normalised": False}}
_THREE, _FOUR = {"layers": 3}, {"layers": 3, "heads": 4}
_UNFIXED = {"text": {"fixed": None}}


def _bias(kind: str, heads: int = 1, **more) -> dict:
    return {"decoder": {"heads": heads}, "attention": {"bias": kind, **more}}


_RATES = {
    "rate 0.001": (1e-3, 1200),
    "rate 0.003": (3e-3, 400),
    "rate 0.009": (9e-3, 133),
}  # a fixed product with steps
TOYS = {
    "default": {"default": {}},
    "sigmoid": {
        "sigmoid": _SIGMOID,
        **{f"sigmoid, decay {decay:g}": _SIGMOID | {"recipe": {"weight_decay": decay}} for decay in (0.1, 1.0)},
        **{f"sigmoid, rate {rate:g}": _SIGMOID | {"recipe": {"rate": rate}} for rate in (1e-3, 1e-2)},
    },
    "batch": {f"batch {size}": {"text": {"batch": size}} for size in (16, 128)},
    "unfixed": {
        "unfixed": _UNFIXED,
        **{
            f"unfixed, {name}": change | _UNFIXED
            for name, change in {
                "K bias": _bias("k"),
                "KV bias": _bias("kv"),
                "value 5": _bias("k", value=5),
                "value 20": _bias("k", value=20),
                "even value 20": _bias("k", value=20, value_direction="even"),
                "1 dimension": _bias("k", key_dims=1),
                "8 dimensions": _bias("k", key_dims=8),
                "4 heads, K bias": _bias("k", 4),
                "4 heads, shared K bias": _bias("k", 4, shared=True),
            }.items()
        },
    },
    "data": {f"{pool} samples": {"text": {"pool": pool}} for pool in (16, 256)},
    "decay": {f"decay {decay:g}": {"recipe": {"weight_decay": decay}} for decay in (0.1, 0.5, 2.0, 5.0)},
    # as much rate times steps times decay as the paper's decoders have at decays of 0.5 and 5
    "doses": {f"decay {decay:g}": {"recipe": {"weight_decay": decay}} for decay in (3.3, 33.0)},
    "places": {
        "three, fixed at 2": {"decoder": _THREE, "text": {"fixed": 1}},
        "three, fixed at 3": {"decoder": _THREE, "text": {"fixed": 2}},
    },
    "biases": {
        "K bias": _bias("k"),
        "KV bias": _bias("kv"),
        "V bias": _bias("v"),
        "4 heads, KV bias": _bias("kv", 4),
        "4 heads, shared KV bias": _bias("kv", 4, shared=True),
    },
    "rate": {
        "rate 0.00075": {"recipe": {"rate": 7.5e-4}},
        "rate 0.006": {"recipe": {"rate": 6e-3}},
        "rate 0.00075, 3200 steps": {"recipe": {"rate": 7.5e-4, "steps": 3200}},
    },
    "layers": {
        "three layers": {"decoder": _THREE},
        "three, post-norm": {"decoder": _THREE | {"norm": "post"}},
        **{f"{heads} heads": {"decoder": {"heads": heads}} for heads in (2, 4)},
        "4 heads, summed": {"decoder": {"heads": 4}, "attention": {"summed": True}},
        **{name: {"decoder": {"activation": name, "gated": False}} for name in ("relu", "silu")},
        **{f"{name}, gated": {"decoder": {"activation": name, "gated": True}} for name in ("relu", "gelu", "silu")},
    },
    # one layer without positions sees a bag of keys and cannot copy; one head has one slope of ALiBi
    "positions": {
        "rotary": {"decoder": _FOUR},
        "none": {"decoder": _FOUR | {"positions": "none"}},
        "absolute": {"decoder": _FOUR | {"positions": "sinusoidal"}},
        "learned": {"decoder": _FOUR | {"positions": "learned"}},
        "relative": {"decoder": _FOUR | {"positions": "none"}, "attention": {"distance": "relative"}},
        "alibi": {"decoder": _FOUR | {"positions": "none"}, "attention": {"distance": "alibi"}},
    },
    "normalisation": {
        "sigmoid over its sum": {"attention": {"similarity": "sigmoid"}},
        "elu": {"attention": {"similarity": "elu1", "normalised": False}},
        "identity kernel": {"attention": {"similarity": "identity_kernel", "normalised": False}},
        "mlp kernel": {"attention": {"similarity": "mlp_kernel", "normalised": False}},
        "elu kernel over its sum": {"attention": {"similarity": "elu1_kernel"}},
        **{f"rows of {total:g}": {"attention": {"row_sum": total}} for total in (2, 0.2, 0.1)},
    },
    "ordered": {
        f"{name}, batch {batch}": {"recipe": {"rate": rate, "steps": steps}, "text": {"batch": batch}}
        for name, (rate, steps), batch in (
            (name, _RATES[name], batch)
            for name, batches in (("rate 0.001", (16, 48)), ("rate 0.003", (16, 48, 144)), ("rate 0.009", (48,)))
            for batch in batches
        )
    },
    "ablations": {
        "own key seen": {"attention": {"strict": False}},
        "paper's initial scale": {"decoder": {"initial": "paper"}},
    },
}
TWENTY = ("default", "sigmoid", "batch")  # families whose arms scatter most
# families that are not trained yet; what they decide is untested
FAMILIES_TO_COME: tuple[str, ...] = ()

STORED |= {
    f"toys_{family}": Stored(
        "measure.toys:run",
        {
            "arms": arms,
            "recipe": {"steps": 400, "rate": 3e-3, "betas": [0.9, 0.999]},
            "seed": FIRST_SEED,
            "n_seeds": 20 if family in TWENTY else SEEDS,
        },
        prefix={"n_seeds": 1},
    )
    for family, arms in TOYS.items()
    if family not in FAMILIES_TO_COME
}

# --- real models ----------------------------------------------------------------------------------------------------

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
        f"measure.real:run_{name}",
        {"model": model} | config,
        assets=[model, *texts],
        prefix={},  # {}: confirmed by the whole, some minutes
    )
    for model, suffix in (("smollm2-135m", ""), ("gemma-3-270m", "_gemma"))
    for name, config, texts in (
        ("domains", _DOMAINS, _DOMAINS["texts"]),
        ("interventions", _INTERVENTIONS, ["wikipedia-excerpt"]),
    )
} | {
    "windows_gemma": Stored(
        "measure.real:run_windows",
        {"model": "gemma-3-270m", "text": "wikipedia-excerpt", "n_documents": 20, "length": 1024},
        assets=["gemma-3-270m", "wikipedia-excerpt"],
        prefix={"n_documents": 1},
    )
}
