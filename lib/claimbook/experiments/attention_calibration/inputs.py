"""Models, tasks and sizes by tier; the authors' head lists; the reader's own items, refused in one line if wrong."""

import ast
import csv
import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Never

from claimbook import paths
from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments.attention_calibration import tasks
from claimbook.experiments.attention_calibration.tasks import Item, Task
from claimbook.provenance import declarations

PAPERS = ("llama-2-7b-chat", "mistral-7b-instruct-v0.2")
TEXTS = dict.fromkeys(("smoke", "cpu", "gpu"), "wikipedia-excerpt")
FETCHED = ("trivia", "tweets")  # assets of tasks that a new machine fetches
FEWEST = 16  # items of a reader's own: half choose heads, half judge

# What is measured where no stored run speaks for the model: which tasks, how many items choose and judge.
_ARMS = ["vanilla", "top", "bottom", "random_0", "all", "zero"]
LIVE = {
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
        own_items(str(parameters["items"]))


def task(name: str) -> Task:
    """A task of the chapter, or one of the reader's own items, which a file of that name holds."""
    if name in tasks.TASKS:
        return tasks.TASKS[name]
    items = own_items(name)
    return Task(name, lambda: iter(items), labels=len({item.options for item in items}) == 1)


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


# --- rows ------------------------------------------------------------------------------------------------------------


def rows(run, kind: str, lm=None) -> dict[str, list]:
    """Rows of all stored runs of a kind ("arms", "choice", …) by model; arms are measured live where none speaks."""
    found: dict[str, list] = {}
    for name, one in declarations.table(run.chapter).items():
        if name.split("_")[0] == kind:
            found.setdefault(one.config["model"], []).extend(run.read(name, of=one.config["model"]))
    found = {model: some for model, some in found.items() if some}
    if kind == "arms" and lm is not None and lm.name not in found:
        found = {lm.name: live_arms(run, lm)} | found
    return dict(sorted(found.items(), key=lambda one: one[0] != run.main))


def live_arms(run, lm) -> list:
    """Arms of a model that no stored run speaks for; of the paper's own models with the authors' heads.

    The parameter ``questions`` asks for as many judged items of each task; two fifths as many choose.
    """
    config, found, asked = dict(LIVE[run.tier]), [], run.parameters["questions"]
    names = [name for name in config.pop("tasks") if name not in FOREIGN or catalogue.present(FOREIGN[name])]
    if asked:
        config |= {"judge": asked, "choose": max(2, 2 * asked // 5)}
    for name in names:
        heads = published(lm.name, tasks.TASKS[name].labels)
        found += now(run, f"arms_{name}_0", lm, **config, **({"heads": heads} if heads else {}))
    return found


def prompts(run, lm) -> dict[str, list]:
    """Rows of prompts by model: stored ones, the run's own measured where none speaks for it; ``questions`` of them."""
    few = 2 if run.smoke else run.parameters["questions"] or None
    there = [name for name in tasks.TASKS if name not in FOREIGN or catalogue.present(FOREIGN[name])]
    return run.rows("sinks", lm, again={"prompts": few or AGAIN}, prompts=few, text=run.text, tasks=there)


def now(run, name: str, lm, **live) -> list:
    """Rows measured here and now, the stored run's config changed by ``live``; a share of the heads, if not said."""
    declared = declarations.declared(run.chapter, name)
    module, _ = declarations.target(run.chapter, declared)
    config = declared.config | {"seed": run.seed, "top": sixth(lm)} | live
    return importlib.import_module(module).EXPERIMENT.now(lm, config)


def sixth(lm) -> int:
    """As large a share of the heads that may be calibrated as 40 of SmolLM2's 243."""
    from claimbook.experiments.attention_calibration.measure.choice import allowed

    return max(1, round(int(allowed(lm).sum()) * 40 / 243))


def own_rows(run, lm) -> list:
    """The reader's items, or the example's: half choose the heads, half judge."""
    file = run.parameters["items"] or str(paths.chapter_data("attention_calibration") / "example.csv")
    usable = len(tasks.usable(lm, task(file)))
    if usable < FEWEST:
        raise ClaimbookError(
            f"{file}: {usable} items have options that begin with different tokens of {lm.name}, {FEWEST} are needed"
        )
    half = 2 if run.smoke else usable // 2
    return now(run, "arms_trivia_0", lm, task=file, choose=half, judge=half, arms=OWN_ARMS, split=0)


# --- the reader's items ----------------------------------------------------------------------------------------------


def own_items(file: str) -> list[Item]:
    """Items of a CSV file (columns question, options, answer; options between bars) or of JSON lines of these keys.

    ClaimbookError names the line and what is wrong with it.
    """
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        _refuse(file, "it is not UTF-8: save it as UTF-8")
    except OSError:
        _refuse(file, "it cannot be read: give a CSV or JSONL file of items")
    lines = _json_lines(file, text) if file.endswith(".jsonl") else _csv_lines(file, text)
    items, seen = [], Counter()
    for line, question, options, answer in lines:
        _check_item(file, line, question, options, answer)
        seen[question.casefold()] += 1
        if seen[question.casefold()] > 1:
            _refuse(file, f"line {line}: the question stands twice; items that choose must not judge")
        items.append(Item(question, tuple(options), options.index(answer)))
    if len(items) < FEWEST:
        _refuse(file, f"it holds {len(items)} items, {FEWEST} are needed: half choose the heads, half judge")
    return items


def _check_item(file: str, line: int, question: str, options: list[str], answer: str) -> None:
    if not question:
        _refuse(file, f"line {line}: the question is empty")
    if len(options) < 2 or not all(options):
        _refuse(file, f"line {line}: two options at least, none empty, between bars: yes|no")
    if len({option.casefold() for option in options}) < len(options):
        _refuse(file, f"line {line}: an option stands twice")
    if answer not in options:
        _refuse(file, f"line {line}: the answer '{answer[:40]}' is none of the options: copy one of them")


def _csv_lines(file: str, text: str):
    reader = csv.DictReader(text.splitlines())
    if lacking := [name for name in ("question", "options", "answer") if name not in (reader.fieldnames or [])]:
        _refuse(file, f"no column {', '.join(lacking)}: the first line must name question, options, answer")
    for row in reader:
        if None in row or None in row.values():
            _refuse(file, f"line {reader.line_num}: it has not as many cells as the first line")
        options = [option.strip() for option in row["options"].split("|")]
        yield reader.line_num, row["question"].strip(), options, row["answer"].strip()


def _json_lines(file: str, text: str):
    for line, one in enumerate(text.splitlines(), start=1):
        if not one.strip():
            continue
        try:
            row = json.loads(one)
            question, options, answer = row["question"], row["options"], row["answer"]
            right = all(isinstance(value, str) for value in (question, answer, *options)) and isinstance(options, list)
        except (ValueError, KeyError, TypeError):
            right = False
        if not right:
            _refuse(file, f'line {line}: it must be {{"question": "…", "options": ["…", "…"], "answer": "…"}}')
        yield line, question.strip(), [option.strip() for option in options], answer.strip()


def _refuse(file: str, why: str) -> Never:
    raise ClaimbookError(f"{file}: {why}")
