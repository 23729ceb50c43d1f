"""A reader's own recipes and baskets, as tables (see `own_tables`): what is in their cells.

Recipes that are alike are told in one line. Whatever cannot be used is refused in one that names the file, its lines
and the way out.
"""

import csv
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import replace

from claimbook import paths
from claimbook.experiments import own_tables
from claimbook.experiments.grocery_ranking import ingredients
from claimbook.experiments.grocery_ranking.recipes import FEWEST, LARGEST, SMALLEST
from claimbook.papers.grocery_ranking import Recipe

RECIPES = ("title", "category", "subcategory", "ingredients")  # columns
BASKETS = ("items",)
BETWEEN_INGREDIENTS = re.compile(r"[;|•\r\n]")
OTHERWISE = re.compile(r",|/|\s[-–—·]\s")  # what else people put between, and what a single ingredient may hold


def recipes(path: str) -> tuple[Recipe, ...]:
    """Recipes of a CSV or JSON file with the columns `RECIPES`, in its order.

    Ingredients stand between semicolons, bars, bullets or line breaks, in JSON also as a list; they go through the same
    rules as ours, which are made for English. Labels that differ in case or spaces are one, as first spelt; one title
    may be that of several recipes. ClaimbookError for a file or rows that cannot be read, for a subcategory of fewer
    than `FEWEST` recipes, of equal ones alone or in two categories, for fewer than two categories, and for a recipe of
    other than `SMALLEST` to `LARGEST` items.
    """
    places, found, problems = [], [], []
    for place, row in own_tables.rows(path, RECIPES):
        items, wrong = _items(row["ingredients"], "ingredients")
        labels = [row[name] for name in RECIPES[:3]]
        wrong = [said for name, text in zip(RECIPES, labels, strict=False) if (said := _no_text(text, name))] + wrong
        if wrong:
            problems.append(f"{place}: {', '.join(wrong)}")
        else:
            places.append(place)
            found.append(Recipe(*(text.strip() for text in labels), items))
    own_tables.refuse_any(path, problems)
    found = _spelt_once(found)
    own_tables.refuse_any(path, _unusable(places, found))
    _say_alike(path, places, found)
    _say_foreign(path, [recipe.items for recipe in found])
    return tuple(found)


def baskets(path: str) -> list[frozenset[str]]:
    """Baskets of a CSV or JSON file with the column ``items``, each of one item or more; read as ingredients are.

    ClaimbookError for a file or rows that cannot be read.
    """
    read = [(place, *_items(row["items"], "items")) for place, row in own_tables.rows(path, BASKETS)]
    own_tables.refuse_any(path, [f"{place}: {', '.join(wrong)}" for place, _, wrong in read if wrong])
    found = [items for _, items, _ in read]
    _say_foreign(path, found)
    return found


# --- cells ------------------------------------------------------------------------------------------------------------


def _items(value: object, name: str) -> tuple[frozenset[str], list[str]]:
    """The items that a cell names, and what is wrong with it."""
    if value is None:
        return frozenset(), [f"no {name}"]
    named = BETWEEN_INGREDIENTS.split(value) if isinstance(value, str) else value
    if not isinstance(named, list) or not all(isinstance(text, str) for text in named):
        return frozenset(), [f"{name} must be texts, not {own_tables.shown(_first_odd(value))}"]
    named = [text.strip() for text in named if text.strip()]  # a semicolon at the end begins no ingredient
    if not named:
        return frozenset(), [f"no {name}"]
    if foreign := next((text for text in named if not _latin(text)), None):
        return frozenset(), [f"{own_tables.shown(foreign)} is not in Latin letters: write ingredients in English"]
    wrong = [f"no item in the ingredient {own_tables.shown(text)}" for text in named if not ingredients.items(text)][:1]
    if len(named) == 1 and sum(bool(ingredients.items(piece)) for piece in OTHERWISE.split(named[0])) > 1:
        wrong.append(f"{own_tables.shown(named[0])} is one ingredient: put semicolons between several")
    return ingredients.item_set(named), wrong


def _latin(text: str) -> bool:
    """Whether a text is written in Latin letters, which the rules for ingredients are made for; a µg has its µ."""
    names = [unicodedata.name(letter, "") for letter in text if letter.isalpha()]
    return all(name.startswith(("LATIN", "MICRO", "FEMININE", "MASCULINE")) for name in names)


def _say_foreign(path: str, baskets: Iterable[frozenset[str]]) -> None:
    """Say it where most of what is named is in none of our recipes: the rules for ingredients know English alone."""
    with (paths.chapter_data("grocery_ranking") / "vocabulary.csv").open(encoding="utf-8", newline="") as file:
        ours = {row["item"] for row in csv.DictReader(file)}
    named = [item for basket in baskets for item in basket]
    unknown = [item for item in named if item not in ours]
    if 2 * len(unknown) > len(named):
        some = ", ".join(f"'{item}'" for item in sorted(set(unknown))[:5])
        said = f"{len(unknown)} of {len(named)} ingredients are none that the book's English recipes have ({some})"
        own_tables.say(path, f"{said}: in another language, quantities and units are read as items too")


def _first_odd(value: object) -> object:
    """What of a cell is no text: the first such of a list, else all of it."""
    return next((one for one in value if not isinstance(one, str)), value) if isinstance(value, list) else value


def _no_text(value: object, name: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"no {name}"
    return "" if isinstance(value, str) else f"{name} must be text, not {own_tables.shown(value)}"


# --- recipes ----------------------------------------------------------------------------------------------------------


def _spelt_once(found: list[Recipe]) -> list[Recipe]:
    """The recipes with each category and subcategory as it is spelt first."""
    categories, subcategories = {}, {}
    return [
        replace(
            recipe,
            category=categories.setdefault(own_tables.key(recipe.category), recipe.category),
            subcategory=subcategories.setdefault(own_tables.key(recipe.subcategory), recipe.subcategory),
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
            held = f"{own_tables.many(own, 'recipe')} ({', '.join(place for _, place in own)})"
            problems.append(f"subcategory '{name}' has {held}, {FEWEST} are needed")
        elif len({recipe.items for recipe in found if recipe.subcategory == name}) < 2:
            alike = f"{len(own)} recipes, all of the same items"
            problems.append(f"subcategory '{name}' has {alike}: two different ones are needed")
    if len({recipe.category for recipe in found}) < 2:
        problems.append(f"all recipes are in the category '{found[0].category}', two or more are needed")
    return problems


def _counted(items: frozenset[str]) -> str:
    named = f" ({', '.join(sorted(items))})" if len(items) < SMALLEST else ""
    return f"{own_tables.many(items, 'item')}{named}"


def _say_alike(path: str, places: list[str], found: list[Recipe]) -> None:
    """Say which recipes have the same items: whoever did not mean that must know before the figures are read."""
    groups: dict[frozenset[str], list[str]] = {}
    for place, recipe in zip(places, found, strict=True):
        groups.setdefault(recipe.items, []).append(place)
    alike = [" and ".join(place.split()[1] for place in group) for group in groups.values() if len(group) > 1]
    if alike:
        kind = places[0].split()[0]  # line or row
        where = f"{kind}s {own_tables.listed(alike)}"
        own_tables.say(path, f"the same items in {where}; each is kept as a recipe of its own")
