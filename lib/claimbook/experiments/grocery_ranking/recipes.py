"""The recipes of the Wikibooks Cookbook, labelled by printed rules, and how right the labels are."""

import csv
import functools
import json
import re
from collections import Counter

from claimbook import paths, strict_yaml
from claimbook.assets import catalogue
from claimbook.experiments.grocery_ranking import ingredients
from claimbook.papers.grocery_ranking import Recipe
from claimbook.stats import Estimate, proportion

ASSET = "wikibooks-recipes"
SMALLEST, LARGEST = 3, 25  # items of a recipe
FEWEST = 5  # recipes of a subcategory


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


def label_agreement() -> Estimate:
    """Share of the checked labels where reading title and ingredients gives the rule's subcategory."""
    rows = checked_labels()
    return proportion(sum(row["rule_label"] == row["label_by_reading"] for row in rows), len(rows), unit="recipes")


def checked_labels() -> list[dict]:
    """What was read, a frozen list: title, rule_label and label_by_reading, ``labels_checked.csv`` in the data.

    A random sample of the recipes as the word lists had them then; a few may since have too few or too many items.
    """
    with (paths.chapter_data("grocery_ranking") / "labels_checked.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@functools.cache
def _rules() -> dict:
    path = paths.chapter_data("grocery_ranking") / "label_rules.yaml"
    return strict_yaml.read(path, path.name)
