"""A reader's own recipes and baskets, from CSV or JSON as spreadsheets and scripts write it.

What is clearly meant is taken as meant: any encoding that can be told, comma, semicolon or tab, a header in any case
and order. Where a reader may want to know of it, one line is printed: an encoding that is a guess, columns that are not
read, recipes that are alike. Whatever else is wrong is refused in one line that names the file, its lines and the way
out, and nothing is dropped silently.
"""

import codecs
import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Never

from claimbook.errors import ClaimbookError
from claimbook.experiments.grocery_ranking import ingredients
from claimbook.experiments.grocery_ranking.recipes import FEWEST, LARGEST, SMALLEST
from claimbook.papers.grocery_ranking import Recipe

RECIPES = ("title", "category", "subcategory", "ingredients")  # columns
BASKETS = ("items",)
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
BETWEEN_INGREDIENTS = re.compile(r"[;\r\n]")
SHOWN = 20  # problems, or rows of one problem, that a line names
MARKS = {  # the first bytes of a file that says its encoding; the longer before those that they begin with
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
Row = tuple[str, dict[str, object]]  # where it stands ("line 4", "row 3") and what it holds by column


def recipes(path: str) -> tuple[Recipe, ...]:
    """Recipes of a CSV or JSON file with the columns `RECIPES`, in its order.

    Ingredients stand between semicolons or line breaks, in JSON also as a list; they go through the same rules as
    ours. Labels that differ in case or spaces are one, as first spelt; one title may be that of several recipes.
    ClaimbookError for a file or rows that cannot be read, for a subcategory of fewer than `FEWEST` recipes or in two
    categories, for fewer than two categories, and for a recipe of other than `SMALLEST` to `LARGEST` items.
    """
    places, found, problems = [], [], []
    for place, row in _rows(path, RECIPES):
        items, wrong = _items(row["ingredients"], "ingredients")
        labels = [row[name] for name in RECIPES[:3]]
        wrong = [said for name, text in zip(RECIPES, labels, strict=False) if (said := _no_text(text, name))] + wrong
        if wrong:
            problems.append(f"{place}: {', '.join(wrong)}")
        else:
            places.append(place)
            found.append(Recipe(*(unicodedata.normalize("NFC", text.strip()) for text in labels), items))
    _refuse_any(path, problems)
    found = _spelt_once(found)
    _refuse_any(path, _unusable(places, found))
    _say_alike(path, places, found)
    return tuple(found)


def baskets(path: str) -> list[frozenset[str]]:
    """Baskets of a CSV or JSON file with the column ``items``, each of one item or more; read as ingredients are.

    ClaimbookError for a file or rows that cannot be read.
    """
    read = [(place, *_items(row["items"], "items")) for place, row in _rows(path, BASKETS)]
    _refuse_any(path, [f"{place}: {', '.join(wrong)}" for place, _, wrong in read if wrong])
    return [items for _, items, _ in read]


# --- cells ------------------------------------------------------------------------------------------------------------


def _items(value: object, name: str) -> tuple[frozenset[str], list[str]]:
    """The items that a cell names, and what is wrong with it."""
    if value is None:
        return frozenset(), [f"no {name}"]
    named = BETWEEN_INGREDIENTS.split(value) if isinstance(value, str) else value
    if not isinstance(named, list) or not all(isinstance(text, str) for text in named):
        return frozenset(), [f"{name} must be texts, not {_shown(_first_odd(value))}"]
    named = [text.strip() for text in named if text.strip()]  # a semicolon at the end begins no ingredient
    if not named:
        return frozenset(), [f"no {name}"]
    wrong = [f"no item in the ingredient {_shown(text)}" for text in named if not ingredients.items(text)][:1]
    if len(named) == 1 and sum(bool(ingredients.items(piece)) for piece in named[0].split(",")) > 1:
        wrong.append(f"{_shown(named[0])} is one ingredient: put semicolons between several")
    return ingredients.item_set(named), wrong


def _first_odd(value: object) -> object:
    """What of a cell is no text: the first such of a list, else all of it."""
    return next((one for one in value if not isinstance(one, str)), value) if isinstance(value, list) else value


def _no_text(value: object, name: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"no {name}"
    return "" if isinstance(value, str) else f"{name} must be text, not {_shown(value)}"


def _shown(value: object) -> str:
    """A value as a message quotes it: as JSON writes it, texts between single quotes, one short line."""
    text = " ".join((value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)).split())
    text = text if len(text) <= 60 else f"{text[:57]}…"
    return f"'{text}'" if isinstance(value, str) else text


def _key(text: str) -> str:
    """What two spellings of a name have in common: no case, no outer or double spaces."""
    return " ".join(text.casefold().split())


# --- recipes ----------------------------------------------------------------------------------------------------------


def _spelt_once(found: list[Recipe]) -> list[Recipe]:
    """The recipes with each category and subcategory as it is spelt first."""
    categories, subcategories = {}, {}
    return [
        replace(
            recipe,
            category=categories.setdefault(_key(recipe.category), recipe.category),
            subcategory=subcategories.setdefault(_key(recipe.subcategory), recipe.subcategory),
        )
        for recipe in found
    ]


def _unusable(places: list[str], found: list[Recipe]) -> list[str]:
    """What the experiments cannot use, each subcategory named once."""
    where = list(zip(places, found, strict=True))
    problems = [
        f"{place}: {_counted(recipe.items)}, {SMALLEST} to {LARGEST} are needed"
        for place, recipe in where
        if not SMALLEST <= len(recipe.items) <= LARGEST
    ]
    for name in dict.fromkeys(recipe.subcategory for recipe in found):
        own = [(recipe.category, place) for place, recipe in where if recipe.subcategory == name]
        homes = dict(reversed(own))  # each category with its first place
        if len(homes) > 1:
            listed = ", ".join(f"'{category}' ({homes[category]})" for category in dict(own))
            problems.append(f"subcategory '{name}' is in {len(homes)} categories: {listed}")
        if len(own) < FEWEST:
            held = f"{_many(own, 'recipe')} ({', '.join(place for _, place in own)})"
            problems.append(f"subcategory '{name}' has {held}, {FEWEST} are needed")
    if len({recipe.category for recipe in found}) < 2:
        problems.append(f"all recipes are in the category '{found[0].category}', two or more are needed")
    return problems


def _counted(items: frozenset[str]) -> str:
    named = f" ({', '.join(sorted(items))})" if len(items) < SMALLEST else ""
    return f"{_many(items, 'item')}{named}"


def _say_alike(path: str, places: list[str], found: list[Recipe]) -> None:
    """Say which recipes have the same items: whoever did not mean that must know before the figures are read."""
    groups: dict[frozenset[str], list[str]] = {}
    for place, recipe in zip(places, found, strict=True):
        groups.setdefault(recipe.items, []).append(place)
    alike = [" and ".join(place.split()[1] for place in group) for group in groups.values() if len(group) > 1]
    if alike:
        kind = places[0].split()[0]  # line or row
        _say(path, f"the same items in {kind}s {_listed(alike)}; each is kept as a recipe of its own")


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(path: str, columns: tuple[str, ...]) -> list[Row]:
    """The rows of a file, one or more, each with all of ``columns``."""
    text = _text(path, columns)
    is_json = Path(path).suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{")  # no CSV header begins so
    return (_json_rows if is_json else _csv_rows)(path, text, columns)


def _csv_rows(path: str, text: str, columns: tuple[str, ...]) -> list[Row]:
    delimiter = max(DELIMITERS, key=lambda delimiter: len(set(_header(text, delimiter)) & set(columns)))
    names = _header(text, delimiter)
    if missing := [column for column in columns if column not in names]:
        first = _shown(text.strip().splitlines()[0])
        expected = f"{', '.join(columns)}, between commas, semicolons or tabs"
        _refuse(path, f"no column {', '.join(missing)}: the first line must name {expected}, and reads {first}")
    _refuse_any(path, [f"the column '{name}' comes twice" for name in columns if names.count(name) > 1])
    _, *lines = _cells(path, text, delimiter)
    if not lines:
        _refuse(path, "it holds no rows under its first line")
    odd = [(line, _many(cells, "cell")) for line, cells in lines if len(cells) != len(names)]
    way_out = f"; a cell with a {DELIMITERS[delimiter]} in it stands in double quotes"
    _refuse_any(path, [f"line {line}: {cells} under {_many(names, 'column')}" for line, cells in odd], way_out)
    _say_ignored(path, names, columns)
    at = {column: names.index(column) for column in columns}
    return [(f"line {line}", {column: cells[i] for column, i in at.items()}) for line, cells in lines]


def _header(text: str, delimiter: str) -> list[str]:
    """Names in the first line that is not empty, as `_key` has them."""
    _, cells = next(_cells("", text, delimiter, strict=False), (0, []))
    return [_key(cell) for cell in cells]


def _cells(path: str, text: str, delimiter: str, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty with the line of the file that it begins in; a quoted cell may hold line breaks."""
    lines = io.StringIO(text, newline="")  # the csv module must see line breaks as they are in the file
    reader = csv.reader(lines, delimiter=delimiter, strict=strict, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            _refuse(path, f"line {line} cannot be read ({error}): is a quote opened there and not closed?")
        if cells is None:
            return
        if any(cell.strip() for cell in cells):  # spreadsheets leave rows of empty cells
            yield line, cells


def _json_rows(path: str, text: str, columns: tuple[str, ...]) -> list[Row]:
    try:  # objects become tuples of pairs, which JSON has not: a dict would lose a name that comes twice
        rows = json.loads(text, object_pairs_hook=tuple)
        json.dumps(rows, ensure_ascii=False).encode()  # half a character is no text
    except (ValueError, RecursionError) as error:
        _refuse(path, f"it cannot be read as JSON: {error}")
    if not isinstance(rows, list) or not rows:
        _refuse(path, f"it holds no rows: give a list of objects, each with {', '.join(columns)}")
    _refuse_any(path, [f"row {i} is no object" for i, row in enumerate(rows, 1) if not isinstance(row, tuple)])
    names = [[_key(name) for name, _ in row] for row in rows]
    every = Counter(name for own in names for name in set(own))
    _refuse_any(path, [f"no {name} in any row" for name in columns if not every[name]])
    repeated = [(i, name) for i, own in enumerate(names, 1) for name, count in Counter(own).items() if count > 1]
    _refuse_any(path, [f"row {i} has '{name}' twice" for i, name in repeated])
    _say_ignored(path, list(every), columns)
    values = [{_key(name): value for name, value in row} for row in rows]
    return [(f"row {i}", {column: row.get(column) for column in columns}) for i, row in enumerate(values, 1)]


def _plain(value: object) -> object:
    """JSON data in which objects are dicts again."""
    if isinstance(value, tuple):
        return {name: _plain(held) for name, held in value}
    return [_plain(held) for held in value] if isinstance(value, list) else value


def _say_ignored(path: str, names: list[str], columns: tuple[str, ...]) -> None:
    ignored = [f"'{name}'" if name else "one without a name" for name in names if name not in columns]
    if ignored:
        _say(path, f"columns that are not read: {_listed(ignored)}")


# --- the file ---------------------------------------------------------------------------------------------------------


def _text(path: str, columns: tuple[str, ...]) -> str:
    """The text of a file, with line breaks as they are."""
    data = _bytes(path, columns)
    encoding = next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), None)
    if encoding is None and b"\0" in data:
        _refuse(path, "it is no text file: save it as CSV in UTF-8")
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        if encoding:
            _refuse(path, f"it begins as {encoding} text and does not go on so: save it as CSV in UTF-8")
        text = _windows_text(path, data)
    if not text.strip():
        _refuse(path, f"it is empty: give {', '.join(columns)}")
    return text


def _bytes(path: str, columns: tuple[str, ...]) -> bytes:
    try:
        file = Path(path).expanduser()
        if file.is_dir():
            raise ClaimbookError(f"'{path}' is a folder: name a CSV or JSON file in it")
        if not file.exists():
            raise ClaimbookError(f"no file '{path}': give a CSV or JSON file with {', '.join(columns)}")
        if not file.is_file():  # a pipe can be read once, and a run reads twice
            raise ClaimbookError(f"'{path}' is no ordinary file: save it as a CSV or JSON file")
        return file.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: `~` of somebody who has no home
        said = getattr(error, "strerror", None) or str(error)
        raise ClaimbookError(f"'{path}' cannot be opened ({said}): name a file that you may read") from None


def _windows_text(path: str, data: bytes) -> str:
    """What is not UTF-8 as Windows-1252, which Western spreadsheets write, and said: no byte could prove it."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        _refuse(path, "it is neither UTF-8 nor Windows-1252 text: save it as CSV in UTF-8")
    word = re.search(r"\w*[^\x00-\x7f]\w*", text)[0]
    _say(path, f"it is not UTF-8 and read as Windows-1252: if '{word}' looks wrong, save it as UTF-8")
    return text


# --- what is said -----------------------------------------------------------------------------------------------------


def _say(path: str, said: str) -> None:
    print(f"'{Path(path).name}': {said}")


def _refuse(path: str, said: str) -> Never:
    raise ClaimbookError(f"'{Path(path).name}': {said}")


def _refuse_any(path: str, problems: list[str], way_out: str = "") -> None:
    if problems:
        _refuse(path, _listed(problems, "; ") + way_out)


def _many(things: Collection, noun: str) -> str:
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def _listed(texts: Iterable[str], separator: str = ", ") -> str:
    """The first `SHOWN`, and how many more there are."""
    texts = list(texts)
    more = f"{separator}and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return separator.join(texts[:SHOWN]) + more
