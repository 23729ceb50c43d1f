"""What is measured live, by tier, where no stored run speaks for the model; the authors' head lists."""

import ast
from pathlib import Path

from claimbook import paths
from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments.attention_calibration import own_files, tasks
from claimbook.experiments.attention_calibration.measure import arms, choice, sinks
from claimbook.experiments.attention_calibration.stored import STORED, VARIED

PAPERS = ("llama-2-7b-chat", "mistral-7b-instruct-v0.2")
TEXTS = dict.fromkeys(("smoke", "cpu", "gpu"), "wikipedia-excerpt")
FETCHED = ("trivia", "tweets")  # assets of tasks that a new machine fetches

_ARMS = ["vanilla", "top", "bottom", "random_0", "all", "zero"]
LIVE = {  # which tasks, how many items choose and judge
    "smoke": {"tasks": ["counting"], "choose": 2, "judge": 4, "arms": ["vanilla", "top"]},
    "cpu": {"tasks": ["sentiment", "hypernyms"], "choose": 24, "judge": 48, "arms": _ARMS},
    "gpu": {"tasks": [*tasks.TASKS], "choose": 96, "judge": 240, "arms": ["vanilla", "top", "random_0", "random_1"]},
}
AGAIN = 4  # prompts measured again, of the stored ones
FOREIGN = {"arc_easy": "arc-easy-test", "commonsense": "commonsenseqa-test"}  # tasks whose items an address gives
OWN_ARMS = ["vanilla", "top", "random_0"]


def check(parameters: dict[str, object]) -> None:
    """ClaimbookError, before a kernel starts, for items that cannot be read and for several models."""
    if "," in parameters["models"]:
        raise ClaimbookError(f"attention_calibration runs one model at a time, not '{parameters['models']}'")
    if parameters["text"] not in ("", *catalogue.load_catalogue()):
        raise ClaimbookError("text must be one of the catalogue here; items= takes your own items")
    if parameters["items"]:
        own_files.own_items(str(parameters["items"]))


def published(model: str, labels: bool) -> list[list[int]] | None:
    """[layer, head] of what the authors calibrate in a model for a kind of task; None where they list none.

    ``labels``: tasks whose items share their options, the authors' classification; else their multiple choice.
    """
    names = {
        "llama-2-7b-chat": ("indices_comb_MC", "aug_indices_comb_classification"),
        "mistral-7b-instruct-v0.2": ("aug_MC_mistral", "aug_classification_mistral"),
    }
    if model not in names:
        return None
    source = catalogue.get("act-head-lists").read_text(encoding="utf-8")
    lists = {one.targets[0].id: ast.literal_eval(one.value) for one in ast.parse(source).body}
    heads = lists[names[model][labels]]
    return [[layer, head] for layer, some in enumerate(heads, start=2) for head in some]  # their lists begin at layer 2


def rows(run, kind: str) -> dict[str, list]:
    """Rows of all stored runs of a kind ("arms", "exact", …) by model, the run's own first; none while to come."""
    found: dict[str, list] = {}
    for name, one in STORED.items():
        if name.split("_")[0] == kind and (some := run.read(name, of=one.config["model"])):
            found.setdefault(one.config["model"], []).extend(some)
    return dict(sorted(found.items(), key=lambda one: one[0] != run.main))


def arm_rows(run, lm) -> dict[str, list]:
    """Rows of arms by model; the run's own are measured live where no stored run speaks for it."""
    found = rows(run, "arms")
    return found if lm.name in found else {lm.name: live_arms(run, lm)} | found


def live_arms(run, lm) -> list:
    """Arms of a model that no stored run speaks for; of the paper's own models with the authors' heads.

    The parameter ``questions`` asks for as many judged items of each task; two fifths as many choose.
    """
    config, found, asked = dict(LIVE[run.tier]), [], run.parameters["questions"]
    names = there(config.pop("tasks"))
    if asked:
        config |= {"judge": asked, "choose": max(2, 2 * asked // 5)}
    for name in names:
        heads = published(lm.name, tasks.TASKS[name].labels)
        found += now(run, lm, task=name, **config, **({"heads": heads} if heads else {}))
    return found


def now(run, lm, **live) -> list:
    """Arms of the first draw, measured here and now."""
    config = STORED["arms_trivia"].config | {"splits": [0], "seed": run.seed, "top": sixth(lm)} | live
    return arms.EXPERIMENT.now(lm, config)


def sixth(lm) -> int:
    """As large a share of the heads that may be calibrated as 40 of SmolLM2's 243."""
    return max(1, round(int(choice.allowed(lm).sum()) * 40 / 243))


def varied_rows(run, arms_by_model: dict[str, list]) -> dict[str, list]:
    """Rows of the method's variants by model, and beside them the arms of the same items."""
    found = rows(run, "variants")
    return {
        model: [row for row in arms_by_model.get(model, []) if row.task in VARIED and row.split == 0] + some
        for model, some in found.items()
    }


def prompts(run, lm) -> dict[str, list]:
    """Rows of prompts by model: stored ones, the run's own measured where none speaks for it; ``questions`` of them."""
    few = 2 if run.smoke else run.parameters["questions"] or None
    config = STORED["sinks"].config
    live = {"prompts": few, "text": run.text, "tasks": there(config["tasks"])}
    if "sinks" not in STORED:
        return {lm.name: sinks.EXPERIMENT.now(lm, config | live)}
    return run.rows("sinks", lm, again={"prompts": few or AGAIN}, **live)


def there(names) -> list[str]:
    """Tasks whose items are on this machine, or come with the book's own packages."""
    return [name for name in names if name not in FOREIGN or catalogue.present(FOREIGN[name])]


def own_items(run, lm) -> tuple[str, int]:
    """The file of the reader's items, or the example's, and how many can be put to the model; enough, or refused."""
    file = run.parameters["items"] or str(paths.chapter_data("attention_calibration") / "example.csv")
    usable = len(tasks.usable(lm, own_files.task(file)))
    if usable < own_files.FEWEST:
        raise ClaimbookError(
            f"'{Path(file).name}': {usable} items have options that begin with different tokens of {lm.name}, "
            f"{own_files.FEWEST} are needed: word the options so that their first words differ, or take a model whose "
            "tokens hold whole letters of their script, such as gemma-3-270m"
        )
    return file, usable


def own_rows(run, lm) -> list:
    """The reader's items, or the example's: half choose the heads, half judge."""
    file, usable = own_items(run, lm)
    half = 2 if run.smoke else usable // 2
    return now(run, lm, task=file, choose=half, judge=half, arms=OWN_ARMS)
