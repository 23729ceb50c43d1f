"""The reader's own questions, refused in one line where they cannot be used; and any task by its name."""

import csv
from collections import Counter
from pathlib import Path
from typing import Never

from claimbook.errors import ClaimbookError
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
    """Items of a CSV file with columns question, options (between bars) and answer.

    ClaimbookError names the line and what is wrong with it.
    """
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        _refuse(file, "it is not UTF-8: save it as UTF-8")
    except OSError:
        _refuse(file, "it cannot be read: give a CSV file of items")
    items, seen = [], Counter()
    for line, question, options, answer in _lines(file, text):
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


def _lines(file: str, text: str):
    reader = csv.DictReader(text.splitlines())
    if lacking := [name for name in ("question", "options", "answer") if name not in (reader.fieldnames or [])]:
        _refuse(file, f"no column {', '.join(lacking)}: the first line must name question, options, answer")
    for row in reader:
        if None in row or None in row.values():
            _refuse(file, f"line {reader.line_num}: it has not as many cells as the first line")
        options = [option.strip() for option in row["options"].split("|")]
        yield reader.line_num, row["question"].strip(), options, row["answer"].strip()


def _refuse(file: str, why: str) -> Never:
    raise ClaimbookError(f"{file}: {why}")
