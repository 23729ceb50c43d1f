"""What of the chapter is stored: each run's function, config and assets, and a short first part of it."""

from claimbook.provenance.declarations import Stored

MODEL, GEMMA, TEXT = "smollm2-135m", "gemma-3-270m", "wikipedia-excerpt"
TOP = {MODEL: 40, GEMMA: 10}  # heads that are calibrated: a sixth of those that may be
SUFFIX = {MODEL: "", GEMMA: "_gemma"}
ASSETS = {
    "trivia": ["trivia"],
    "sentiment": ["tweets"],
    "hypernyms": [],
    "counting": [],
    "arc_easy": ["arc-easy-test"],
    "commonsense": ["commonsenseqa-test"],
}
OFFLINE = ["trivia", "sentiment", "hypernyms", "counting"]  # tasks that come without an address on the web
SPLITS = [0, 1, 2]
RANDOM = [f"random_{i}" for i in range(7)]  # draws of random heads in each split
ARMS = ["vanilla", "top", "all", "helpful", "harmful", "bottom", "zero"]
VARIANTS = ["alpha_3", "alpha_7", "alpha_10", "fixed", "beta_0", "beta_0.2", "beta_0.6", "beta_0.8", "towards"]
VARIANTS += ["temperature", "not_to_first", "frozen", "other_task", "all", "towards_all"]

_ITEMS = {"choose": 96, "judge": 240, "seed": 0}
_FIRST = ["vanilla", "top"]


def _run(measure: str, model: str, task: str, prefix: dict | None, also: list[str] = [], **config) -> Stored:  # noqa: B006
    config = {"model": model, "task": task, "top": TOP[model]} | _ITEMS | config
    return Stored(f"measure.{measure}:run", config, [model, *ASSETS[task], *also], prefix)


def _arms(model: str, tasks: list[str], arms: list[str]) -> dict[str, Stored]:
    return {
        f"arms_{task}_{split}{SUFFIX[model]}": _run("arms", model, task, {"arms": _FIRST}, split=split, arms=arms)
        for task in tasks
        for split in SPLITS
    }


def _choice(model: str, tasks: list[str]) -> dict[str, Stored]:
    return {
        f"choice_{task}{SUFFIX[model]}": _run("choice", model, task, {"splits": [0]}, splits=SPLITS) for task in tasks
    }


def _sinks(model: str) -> Stored:
    config = {"model": model, "tasks": list(ASSETS), "each": 8, "prose": 20, "text": TEXT, "length": 40}
    config |= {"prompts": None, "seed": 0}
    assets = [model, TEXT, *(key for keys in ASSETS.values() for key in keys)]
    return Stored("measure.sinks:run", config, assets, {"prompts": 12})


OTHER = {"trivia": "sentiment", "sentiment": "trivia", "hypernyms": "counting", "counting": "hypernyms"}

STORED = {
    "sinks": _sinks(MODEL),
    **_arms(MODEL, list(ASSETS), [*ARMS, *RANDOM]),
    **_choice(MODEL, list(ASSETS)),
    **{
        f"ablations_{task}": _run(
            "arms",
            MODEL,
            task,
            {"arms": _FIRST},
            [key for key in ASSETS[other] if key not in ASSETS[task]],
            split=0,
            arms=[*_FIRST, *VARIANTS],
            other=other,
        )
        for task, other in OTHER.items()
    },
    **{
        f"shots_{task}": _run("arms", MODEL, task, {"shots": [0]}, split=0, arms=_FIRST, shots=[0, 2, 4])
        for task in ("trivia", "sentiment")
    },
    **{
        f"exact_{task}": _run("exact", MODEL, task, {"heads": 3}, split=0, random=30, heads=None)
        for task in ("trivia", "sentiment")
    },
    "cost": Stored(
        "measure.cost:run",
        {"model": MODEL, "text": TEXT, "lengths": [64, 256], "rounds": 20, "top": TOP[MODEL]},
        [MODEL, TEXT],
    ),
    "sinks_gemma": _sinks(GEMMA),
    **_arms(GEMMA, OFFLINE, [*ARMS, *RANDOM[:3]]),
    **_choice(GEMMA, OFFLINE),
}
