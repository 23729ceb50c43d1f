"""The reader's own questions, refused in one line where they cannot be used; and any task by its name."""

import json
from collections import Counter

from claimbook.experiments import own_tables
from claimbook.experiments.attention_calibration import tasks
from claimbook.experiments.attention_calibration.tasks import Item, Task

FEWEST = 16  # items of a reader's own: half choose heads, half judge


def task(name: str) -> Task:
    """A task of the chapter, or one of the reader's own items, which a file of that name holds."""
    if name in tasks.TASKS:
        return tasks.TASKS[name]
    items = own_items(name)
    return Task(name, lambda: iter(items), labels=len({item.options for item in items}) == 1)


def own_items(file: str) -> list[Item]:
    """Items of a table with columns question, options (between bars; in JSON also a list) and answer.

    ClaimbookError names the line and what is wrong with it.
    """
    items, seen = [], Counter()
    for line, row in own_tables.rows(file, ("question", "options", "answer")):
        question, answer, options = _text(row["question"]), _text(row["answer"]), row["options"]
        options = [_text(one) for one in (options if isinstance(options, list) else _text(options).split("|"))]
        _check_item(file, line, question, options, answer)
        seen[question.casefold()] += 1
        if seen[question.casefold()] > 1:
            own_tables.refuse(file, f"{line}: the question stands twice; items that choose must not judge")
        items.append(Item(question, tuple(options), options.index(answer)))
    if len(items) < FEWEST:
        own_tables.refuse(file, f"it holds {len(items)} items, {FEWEST} are needed: half choose the heads, half judge")
    return items


def _text(value: object) -> str:
    """What a cell holds as text: in JSON an option may be a number, 0 too, or a truth."""
    return "" if value is None else (value if isinstance(value, str) else json.dumps(value)).strip()


def _check_item(file: str, line: str, question: str, options: list[str], answer: str) -> None:
    if not question:
        own_tables.refuse(file, f"{line}: the question is empty")
    if len(options) < 2 or not all(options):
        own_tables.refuse(file, f"{line}: two options at least, none empty, between bars: yes|no")
    if len({option.casefold() for option in options}) < len(options):
        own_tables.refuse(file, f"{line}: an option stands twice")
    if answer not in options:
        own_tables.refuse(file, f"{line}: the answer '{answer[:40]}' is none of the options: copy one of them")
