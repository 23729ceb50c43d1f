"""The recipes that a run reads and the baskets it is asked about: the Wikibooks Cookbook's, or a reader's own."""

from claimbook.errors import ClaimbookError
from claimbook.experiments.grocery_ranking import own_files, recipes
from claimbook.papers.grocery_ranking import Recipe

WIKIBOOKS = "wikibooks-recipes"  # read at every tier, unless the parameter recipes names a file; a run fetches it
TWO = ("rice", "chicken")  # the categories that the paper ran


def check(parameters: dict[str, object]) -> None:
    """ClaimbookError, before a kernel starts, for a parameter or a file that the chapter cannot run on."""
    if parameters["models"] or parameters["text"]:
        raise ClaimbookError("grocery_ranking runs no language model: leave models and text empty, or give recipes=…")
    if parameters["recipes"] not in ("", WIKIBOOKS):
        load(parameters["recipes"])
    baskets(parameters["baskets"])


def load(source: str = "") -> tuple[Recipe, ...]:
    """The labelled recipes of Wikibooks, or those of the file ``source``; errors as `own_files.recipes`."""
    return recipes.wikibooks() if source in ("", WIKIBOOKS) else own_files.recipes(source)


def baskets(path: str = "") -> list[frozenset[str]]:
    """A reader's own baskets, none without a file; errors as `own_files.baskets`."""
    return own_files.baskets(path) if path else []


def data(run) -> tuple[Recipe, ...]:
    """The recipes of a run; a smoke run takes the paper's two categories of Wikibooks alone."""
    source = run.parameters["recipes"]
    found = load(source)
    small = run.smoke and source in ("", WIKIBOOKS)
    return tuple(recipe for recipe in found if recipe.category in TWO) if small else found
