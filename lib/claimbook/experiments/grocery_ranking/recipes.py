"""The recipes of the chapter: Wikibooks, labelled by printed rules, or a reader's own file."""

import csv
import functools
import json
import random
import re
from collections import Counter
from pathlib import Path

from claimbook import paths, strict_yaml
from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments.grocery_ranking import ingredients
from claimbook.papers.grocery_ranking import Recipe
from claimbook.stats import Estimate, proportion

ASSET = "wikibooks-recipes"
SMALLEST, LARGEST = 3, 25  # items of a recipe
FEWEST = 5  # recipes of a subcategory
COLUMNS = ("title", "category", "subcategory", "ingredients")
SEPARATOR = ";"
CHECKED = 60


@functools.cache
def rules() -> list[tuple[str, str, str]]:
    """Category, subcategory, pattern; the first pattern found in a title decides."""
    return [tuple(row) for row in _rules()["rules"]]


def label(title: str) -> tuple[str, str] | None:
    """Category and subcategory by the rules, None for a title that none of them finds."""
    title = title.lower()
    if re.search(_rules()["not_a_dish"], title):
        return None
    return next(((category, sub) for category, sub, pattern in rules() if re.search(pattern, title)), None)


@functools.cache
def wikibooks(level: str = "merged") -> tuple[Recipe, ...]:
    """Labelled recipes of `SMALLEST` to `LARGEST` items, in subcategories of at least `FEWEST`; sorted by title."""
    found = []
    for entry in json.loads(catalogue.get(ASSET).read_text(encoding="utf-8")).values():
        labelled = label(entry["title"])
        items = ingredients.item_set(entry["ingredients"], level)
        if labelled and SMALLEST <= len(items) <= LARGEST:
            found.append(Recipe(entry["title"], *labelled, items))
    return tuple(sorted(in_large_subcategories(found), key=lambda recipe: recipe.title))


def in_large_subcategories(recipes: list[Recipe], fewest: int = FEWEST) -> list[Recipe]:
    """The recipes whose subcategory has at least ``fewest`` of them."""
    sizes = Counter(recipe.subcategory for recipe in recipes)
    return [recipe for recipe in recipes if sizes[recipe.subcategory] >= fewest]


# --- how right the labels are ---------------------------------------------------------------------------------------


def to_check(seed: int = 0) -> list[Recipe]:
    """The recipes whose labels were read: a fixed random sample of `CHECKED`."""
    return random.Random(seed).sample(wikibooks(), CHECKED)


def label_agreement() -> Estimate:
    """Share of the sample where reading title and ingredients gives the rule's subcategory."""
    rows = checked_labels()
    return proportion(sum(row["rule_label"] == row["label_by_reading"] for row in rows), len(rows), unit="recipes")


def checked_labels() -> list[dict]:
    """``data/grocery_ranking/labels_checked.csv``: title, rule_label, label_by_reading."""
    with (paths.chapter_data("grocery_ranking") / "labels_checked.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- a reader's own recipes and baskets ------------------------------------------------------------------------------


def own(path: str) -> tuple[Recipe, ...]:
    """Recipes of a CSV or JSON file with `COLUMNS`; ingredients separated by semicolons, in JSON a list.

    Ingredients go through the same rules as ours. ClaimbookError lists every malformed row by its line, and says when
    too little is left to run on; nothing is dropped silently.
    """
    rows, problems, found = _rows(path, COLUMNS), [], []
    for line, row in rows:
        named = row["ingredients"]
        named = named.split(SEPARATOR) if isinstance(named, str) else named
        missing = [name for name in COLUMNS if not row[name]]
        if missing:
            problems.append(f"line {line}: no {' and no '.join(missing)}")
        elif not isinstance(named, list) or not all(isinstance(one, str) for one in named):
            problems.append(f"line {line}: ingredients must be a list of texts")
        elif unread := [one for one in named if not ingredients.items(one)]:
            problems.append(f"line {line}: no item in the ingredient {unread[0].strip()!r}")
        else:
            texts = [str(row[name]).strip() for name in COLUMNS[:3]]
            found.append((line, Recipe(*texts, ingredients.item_set(named))))
    problems += _unusable(found)
    _refuse(path, problems)
    return tuple(recipe for _, recipe in found)


def _unusable(found: list[tuple[int, Recipe]]) -> list[str]:
    """What the experiments cannot use: a subcategory in two categories, too few recipes or items."""
    problems, home = [], {}
    sizes = Counter(recipe.subcategory for _, recipe in found)
    for line, recipe in found:
        if home.setdefault(recipe.subcategory, recipe.category) != recipe.category:
            problems.append(f"line {line}: subcategory '{recipe.subcategory}' is in two categories")
        elif sizes[recipe.subcategory] < FEWEST:
            problems.append(f"line {line}: subcategory '{recipe.subcategory}' has fewer than {FEWEST} recipes")
        elif not SMALLEST <= len(recipe.items) <= LARGEST:
            problems.append(f"line {line}: {len(recipe.items)} items, {SMALLEST} to {LARGEST} are needed")
    if len(set(home.values())) < 2 and not problems:
        problems.append("at least two categories are needed")
    return problems


def own_baskets(path: str) -> list[frozenset[str]]:
    """Baskets of a CSV or JSON file with the column ``items``, separated by semicolons; errors as in `own`."""
    problems, found = [], []
    for line, row in _rows(path, ("items",)):
        named = row["items"].split(SEPARATOR) if isinstance(row["items"], str) else row["items"] or []
        basket = frozenset(item for one in named for item in ingredients.items(str(one)))
        problems += [] if basket else [f"line {line}: no item"]
        found.append(basket)
    _refuse(path, problems)
    return found


def _rows(path: str, columns: tuple[str, ...]) -> list[tuple[int, dict]]:
    """Rows with the line (CSV) or the number (JSON) that each has in the file."""
    file = Path(path)
    if not file.is_file():
        raise ClaimbookError(f"no file '{path}': give a CSV or JSON file with {', '.join(columns)}")
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".json":
            rows = list(enumerate(json.loads(text), 1))
        else:
            reader = csv.DictReader(text.splitlines(), strict=True)
            rows = [(reader.line_num, row) for row in reader]
    except (ValueError, csv.Error) as error:
        raise ClaimbookError(f"'{file.name}' cannot be read: {error}") from None
    if not rows or not all(isinstance(row, dict) for _, row in rows):
        raise ClaimbookError(f"'{file.name}' holds no rows: give {', '.join(columns)}")
    wrong = [(line, sorted(map(str, row.keys() ^ set(columns)))) for line, row in rows if row.keys() != set(columns)]
    _refuse(
        path, [f"line {line}: columns must be {', '.join(columns)} (see {', '.join(keys)})" for line, keys in wrong]
    )
    return rows


def _refuse(path: str, problems: list[str], shown: int = 20) -> None:
    if problems:
        more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
        raise ClaimbookError(f"'{Path(path).name}': {'; '.join(problems[:shown])}{more}")


@functools.cache
def _rules() -> dict:
    path = paths.chapter_data("grocery_ranking") / "label_rules.yaml"
    return strict_yaml.read(path, path.name)
