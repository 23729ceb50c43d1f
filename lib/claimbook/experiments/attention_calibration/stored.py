"""What of the chapter is stored: each run's function, config and assets, and a short first part of it.

In this order: sinks; arms, a task each; variants; exact; cost, on a quiet machine; then Gemma, arms before sinks. No
run reads another. Each goes on from its checkpoints when it was killed, arm by arm, prompt by prompt or head by head.
"""

from claimbook.provenance.declarations import Stored

MODEL, GEMMA, TEXT = "smollm2-135m", "gemma-3-270m", "wikipedia-excerpt"
TOP = {MODEL: 40, GEMMA: 10}  # heads that are calibrated: a sixth of those that may be
SUFFIX = {MODEL: "", GEMMA: "_gemma"}
ASSETS = {
    "sentiment": ["tweets"],
    "trivia": ["trivia"],
    "hypernyms": [],
    "arc_easy": ["arc-easy-test"],
    "commonsense": ["commonsenseqa-test"],
    "counting": [],
}
VARIED = ["sentiment", "trivia", "hypernyms", "counting"]  # tasks on which the method is varied
SOLVED = ["sentiment", "trivia"]  # tasks that are asked behind solved examples too
ARMS = ["vanilla", "top", "bottom", "zero", "all"]
VARIANTS = ["frozen", "towards_all", "temperature_all", "alpha_3", "alpha_7", "beta_0.2", "beta_0.6", "fixed"]
VARIANTS += ["not_to_first"]
SHOTS = ["vanilla_4", "top_4"]


def _run(measure: str, model: str, task: str, prefix: dict, **config) -> Stored:
    config = {"model": model, "task": task, "top": TOP[model], "choose": 96, "judge": 240, "seed": 0} | config
    return Stored(f"measure.{measure}:run", config, [model, *ASSETS[task]], prefix)


def _arms(model: str, splits: int, random: int) -> dict[str, Stored]:
    """Arms of every task, ``random`` draws of random heads for each of ``splits`` draws of items."""
    arms = [*ARMS, *(f"random_{i}" for i in range(random))]
    prefix = {"splits": [0], "arms": arms[:2]}
    return {
        f"arms_{task}{SUFFIX[model]}": _run("arms", model, task, prefix, splits=[*range(splits)], arms=arms)
        for task in ASSETS
    }


def _sinks(model: str) -> Stored:
    config = {"model": model, "tasks": list(ASSETS), "each": 8, "prose": 20, "text": TEXT, "length": 40}
    assets = [model, TEXT, *(key for keys in ASSETS.values() for key in keys)]
    return Stored("measure.sinks:run", config | {"prompts": None, "seed": 0}, assets, {"prompts": 12})


STORED = {"sinks": _sinks(MODEL), **_arms(MODEL, splits=3, random=4)}
for _task in VARIED:
    _varied = [*VARIANTS, *(SHOTS if _task in SOLVED else [])]
    STORED[f"variants_{_task}"] = _run("arms", MODEL, _task, {"arms": _varied[:1]}, splits=[0], arms=_varied)
for _task in SOLVED:
    STORED[f"exact_{_task}"] = _run("exact", MODEL, _task, {"heads": 3}, split=0, items=48, random=30, heads=None)
STORED["cost"] = Stored(
    "measure.cost:run",
    {"model": MODEL, "text": TEXT, "length": 256, "rounds": 20, "top": TOP[MODEL]},
    [MODEL, TEXT],
)
STORED |= _arms(GEMMA, splits=2, random=2) | {"sinks_gemma": _sinks(GEMMA)}
