"""What of the chapter is stored: toys, decoders trained on text, real models, and the audit of the authors' logs."""

from claimbook.provenance.declarations import Stored

FIRST_SEED = 100  # no earlier run of this chapter or of sink_emergence trained these

# --- toys: family -> arm -> what it changes --------------------------------------------------------------------------

_HEADS, _STRICT = {"heads": 4}, {"strict": True}


def _gated(*names: str, **more) -> dict:
    return {name: {"gates": [name], **more} for name in names}


TOYS = {
    "plain": {"none": {}, **_gated("elementwise", "headwise")},
    "variants": _gated("value", "ns", "independent"),
    "heads": {
        "4 heads": _HEADS,
        **{f"4 heads, {name}": change for name, change in _gated("elementwise", "shared", **_HEADS).items()},
    },
    "strict": {
        "strict": _STRICT,
        **{f"strict, {name}": change for name, change in _gated("elementwise", "headwise", "value", **_STRICT).items()},
    },
    # shown, judging nothing
    "others": {
        **_gated("value headwise", "key", "query", "output", "silu gate", "additive silu", "norm", "bare silu"),
        "elementwise and value": {"gates": ["elementwise", "value"]},
    },
}
SEEDS = {"plain": 20, "variants": 10, "heads": 10, "strict": 10, "others": 5}

TOY_RUNS = {
    f"toys_{family}": Stored(
        "measure.toys:run",
        {
            "arms": arms,
            "recipe": {"steps": 600, "rate": 3e-3, "betas": [0.9, 0.999]},
            "seed": FIRST_SEED,
            "n_seeds": SEEDS[family],
        },
        prefix={"n_seeds": 1},
    )
    for family, arms in TOYS.items()
}

# --- decoders trained on text: arm -> what it changes; one run for each seed ------------------------------------------

_TEXTS = ["docstrings", "wikipedia-excerpt"]
_STEPS = 488
_TRAINING = {
    "corpus": {"texts": _TEXTS, "tokenizer": "bpe.json", "length": 128, "fixed": [0]},
    "decoder": {"layers": 4, "width": 128, "heads": 4, "mlp": 320},
    "query_key_norm": True,  # as in all of the paper's models
    "gates": [],
    "matched": True,  # the feed-forward layers pay for the gates
    "recipe": {"steps": _STEPS, "rate": 3e-3, "warmup": 50, "weight_decay": 0.1},
    "batch": 16,  # with chunks of 128: 2,048 tokens a step, a million in all
    "measure_at": [0, 61, 122, 183, 244, 305, 366, 397, 427, 458, 488],
    "held_out": 256,
}
LAST = 4  # measured points whose mean is the loss that is judged
RATES = {"slow": 1e-3, "": 3e-3, "fast": 1e-2, "faster": 3e-2, "fastest": 1e-1}  # suffix of an arm -> its rate
STARTS = {"halved": 1 / 2, "quartered": 1 / 4, "eighth": 1 / 8}  # arm -> size at the start of what attention writes
_GATED, _ADDED, _PLAIN = {"gates": ["elementwise"]}, {"matched": False}, {"query_key_norm": False}


def at_rate(arm: str, suffix: str) -> str:
    """The name of an arm at one of `RATES`."""
    return f"{arm}_{suffix}" if suffix else arm


def _rate(suffix: str) -> dict:
    return {"recipe": {"rate": RATES[suffix]}}


def _added(*names: str) -> dict:
    """Gates that add their parameters, as in Table 1."""
    return {f"{name.replace(' ', '_')}_added": {"gates": [name]} | _ADDED for name in names}


ARMS = {
    "none": {},
    "elementwise": _GATED,
    **_added("elementwise", "headwise", "value", "key", "query", "output", "additive silu", "additive identity"),
    "norm": {"gates": ["norm"]} | _ADDED,
    "wide": {"decoder": {"mlp": 363}},  # as many parameters more as an elementwise gate adds
    **{
        at_rate(arm, suffix): change | _rate(suffix)
        for suffix in ("faster", "fast", "fastest", "slow")
        for arm, change in (("none", {}), ("elementwise", _GATED))
    },
    "independent": {"gates": ["independent"]},
    # start and lasting factor apart: a smaller start without a gate; a constant gate that starts whole
    **{arm: {"output_start": start} for arm, start in STARTS.items()},
    "independent_doubled": {"gates": ["independent"], "output_start": 2.0},
    # shown, judging nothing
    "ns": {"gates": ["ns"]},
    "shared": {"gates": ["shared"]},
    "silu_gate": {"gates": ["silu gate"]},
    "elementwise_value": {"gates": ["elementwise", "value"]},
    "none_unnormed": _PLAIN,
    "elementwise_unnormed": _GATED | _PLAIN,
    "none_unnormed_faster": _PLAIN | _rate("faster"),
    "elementwise_unnormed_faster": _GATED | _PLAIN | _rate("faster"),
}
_SHOWN = ("ns", "shared", "silu_gate", "elementwise_value", *(arm for arm in ARMS if "unnormed" in arm))
_RATED = [at_rate(arm, suffix) for arm in ("none", "elementwise") for suffix in RATES if suffix]
# How many seeds of an arm are trained. For more, raise the number and run `claimbook sweeps gated_attention`.
SEEDS_ON_TEXT: dict[str, int] = (
    dict.fromkeys(ARMS, 8) | {"none": 10, "elementwise": 10} | dict.fromkeys(_RATED, 6) | dict.fromkeys(_SHOWN, 5)
)


def _training(change: dict, seed: int) -> Stored:
    config = _TRAINING | {"seed": seed}
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    shorter = {"recipe": config["recipe"] | {"steps": 20}, "measure_at": [0]}
    return Stored("measure.text:run", config, assets=_TEXTS, prefix=shorter)


def text_run(arm: str, seed: int) -> str:
    """The name of a training's stored run."""
    return f"text_{arm}_{seed}"


def seeds(arm: str) -> range:
    """The seeds of an arm on text."""
    return range(FIRST_SEED, FIRST_SEED + SEEDS_ON_TEXT[arm])


TEXT_RUNS = {text_run(arm, seed): _training(change, seed) for arm, change in ARMS.items() for seed in seeds(arm)}

# --- real models and logs --------------------------------------------------------------------------------------------

_MODELS = (("smollm2-135m", ""), ("gemma-3-270m", "_gemma"))
_SIZES = {
    "onset": {"text": "wikipedia-excerpt", "length": 512, "n_documents": 24},
    "retrofit": {"text": "wikipedia-excerpt", "length": 256, "n_documents": 20, "seed": FIRST_SEED, "draws": 3},
}
REAL = {
    f"{name}{suffix}": Stored(
        f"measure.{name}:run",
        {"model": model} | sizes,
        assets=[model, "wikipedia-excerpt"],
        prefix={"n_documents": 1},
    )
    for name, sizes in _SIZES.items()
    for model, suffix in _MODELS
}
LOGS = Stored(
    "measure.logs:run",
    {"settled": 20_000, "thresholds": [0.1, 0.2, 0.3, 0.5], "ends": [300_000, 340_000, 350_000]},
    assets=["gated-attention-logs"],
    prefix={},
)
REAL["logs"] = LOGS

STORED = TOY_RUNS | TEXT_RUNS | REAL
