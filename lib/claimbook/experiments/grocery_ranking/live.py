"""The chapter's run: data, settings chosen on one half, everything judged on the other, and the ledger's parts."""

from dataclasses import dataclass

import numpy as np

from claimbook.errors import ClaimbookError
from claimbook.experiments.grocery_ranking import baselines, measure, protocols, recipes
from claimbook.experiments.grocery_ranking.measure import Setting
from claimbook.experiments.grocery_ranking.protocols import Task, by_recipe
from claimbook.papers.grocery_ranking import VARIANTS, Database, Reading, Recommender, differentiators, recommended
from claimbook.stats import Estimate, Exact, mean, paired_difference, ratio_of_exp

TWO = ("rice", "chicken")  # the paper's categories
UNIT = "recipes"


@dataclass(frozen=True)
class Data:
    """The recipes, the rows of either half, and the baskets drawn from them."""

    database: Database
    tuning: list[Task]
    judged: list[Task]
    judging_rows: np.ndarray
    seed: int


def load(run, source: str) -> Data:
    """The Wikibooks asset, or a reader's own file; a smoke run takes the paper's two categories of the former alone.

    ClaimbookError for a parameter that this chapter has no use for.
    """
    if run.models or run.parameters["text"]:
        raise ClaimbookError("grocery_ranking runs no language model: leave models and text empty, or give recipes=…")
    found = recipes.wikibooks() if source == recipes.ASSET else recipes.own(source)
    if run.smoke and source == recipes.ASSET:
        found = tuple(recipe for recipe in found if recipe.category in TWO)
    return split(Database.of(found), run.seed)


def split(database: Database, seed: int) -> Data:
    """Both halves of a database with their baskets."""
    tuning, judging = protocols.halves(database)
    made = [protocols.tasks(database, rows, seed) for rows in (tuning, judging)]
    return Data(database, *made, judging, seed)


def settings(data: Data) -> dict[str, Setting]:
    """For each reading of the text the n and theta chosen on the tuning half; none is chosen on what is judged."""
    return {
        name: measure.choose(measure.grid(data.database, data.tuning, reading), reading)
        for name, reading in VARIANTS.items()
    }


def judged(data: Data, reading: Reading) -> dict:
    """All that a reading does to the baskets of the judging half; arrays are over baskets."""
    held = measure.recommend_all(data.database, data.judged, reading, data.seed)
    inside = measure.recommend_all(data.database, data.judged, reading)
    return {
        "inside": measure.search_all(data.database, data.judged, reading),
        "held": measure.search_all(data.database, data.judged, reading, data.seed),
        "recommended": held,
        "quality": measure.quality(data.judged, held["lists"]),
        "without_staples": measure.quality(data.judged, held["lists"], without_staples=True),
        "recommended_inside": inside,
        "quality_inside": measure.quality(data.judged, inside["lists"]),
        "auc": measure.separation(data.database, data.judging_rows, reading, data.seed),
        "auc_unnamed": measure.separation(data.database, data.judging_rows, reading, data.seed, head=False),
    }


def compared(data: Data) -> dict[str, dict]:
    """The same baskets, held out, by the other recommenders: quality with and without staples, by name."""
    lists = {n: baselines.recipe_lists(data.database, data.judged, f, data.seed) for n, f in baselines.RECIPES.items()}
    lists |= {n: baselines.item_lists(data.database, data.judged, f, data.seed) for n, f in baselines.ITEMS.items()}
    return {
        name: {
            "lists": found,
            "quality": measure.quality(data.judged, found),
            "without_staples": measure.quality(data.judged, found, without_staples=True),
        }
        for name, found in lists.items()
    }


# --- the ledger's parts -----------------------------------------------------------------------------------------------


def parts(data: Data, chosen: dict[str, Setting], found: dict[str, dict], others: dict[str, dict]) -> dict:
    """Measurements by claim and part. ``found``: `judged` by reading; ``others``: `compared`."""
    own, popular, brute = found["default"], others["popularity"], others["brute force, Jaccard"]
    pruned = baselines.pruned(data.database, data.judged, own["inside"]["scored"])
    random_auc = measure.separation(
        data.database, data.judging_rows, chosen["default"].reading, data.seed, ranked=False
    )

    def difference(a, b) -> Estimate:
        a, b = (by_recipe(data.judged, np.asarray(values, float)) for values in (a, b))
        both = np.isfinite(a) & np.isfinite(b)
        return paired_difference(a[both], b[both], unit=UNIT)

    def best(measured) -> Estimate:
        """The reading that suits the claim best."""
        return max((measured(one) for one in found.values()), key=lambda estimate: estimate.value)

    def informed(one) -> Estimate:
        return difference(one["held"]["own_active"], one["held"]["wrong_active"])

    def probable(one) -> Estimate:
        return difference(one["held"]["own_category"], one["held"]["categories"])

    def worth(one) -> Estimate:
        return difference(one["inside"]["kept"], one["inside"]["scored"])

    return {
        "C1": sets_against_items(data, own, difference),
        "C2": {
            "dish_inferred": average(data, own["recommended"]["right_sub"]),
            "beats_popularity": difference(own["quality"]["recall"], popular["quality"]["recall"]),
            "beats_popularity_without_staples": difference(
                own["without_staples"]["recall"], popular["without_staples"]["recall"]
            ),
            "any_reading": best(
                lambda one: difference(one["without_staples"]["recall"], popular["without_staples"]["recall"])
            ),
        },
        "C4": {
            "few": average(data, own["held"]["categories"]),
            "probable": probable(own),
            "any_reading": best(probable),
        },
        "C6": {
            "tells_apart": mean(_finite(own["auc"]), unit=UNIT),
            "beats_random_items": paired_difference(_finite(own["auc"]), _finite(random_auc), unit=UNIT),
            "without_names": mean(_finite(own["auc_unnamed"]), unit=UNIT),
            "any_reading": best(lambda one: mean(_finite(one["auc"]), unit=UNIT)),
        },
        "C7": {
            "right_one_activated": average(data, own["held"]["own_active"]),
            "informed": informed(own),
            "any_reading": best(informed),
        },
        "C8": {
            "in_the_database": average(data, own["inside"]["kept"]),
            "held_out": average(data, own["held"]["kept"]),
            "any_reading": best(lambda one: average(data, one["inside"]["kept"])),
        },
        "C9": {
            "share_scored": average(data, own["inside"]["scored"]),
            "worth_it": worth(own),
            "recall_kept": difference(own["quality"]["recall"], 0.9 * brute["quality"]["recall"]),
            "less_than_an_exact_index": difference(own["inside"]["scored"], pruned["inverted index"]["scored"]),
            "any_reading": best(worth),
        },
        "C10": advantages(data, chosen["default"].reading, difference),
        "C11": {
            "cheaper": ratio_of_exp(
                np.log(by_recipe(data.judged, own["inside"]["operations"])),
                np.full(len({task.recipe for task in data.judged}), np.log(len(data.database.recipes))),
                unit=UNIT,
            ),
            "importance_helps": difference(own["quality"]["recall"], brute["quality"]["recall"]),
            "complexity_drops": mean(
                measure.growth(data.database, data.judged, chosen["default"].reading, data.seed), unit="subsamples"
            ),
            "any_reading": best(lambda one: difference(one["quality"]["recall"], brute["quality"]["recall"])),
        },
    }


def sets_against_items(data: Data, own: dict, difference) -> dict[str, Estimate]:
    """C1: the recommended set against as many items of item-kNN."""
    results = {}
    for name, part, quality, seed in (
        ("set_beats_items", "recall_all", "recommended", data.seed),
        ("set_completes_dishes", "completed", "recommended_inside", None),
    ):
        lists = own[quality]["lists"]
        items = baselines.item_lists(data.database, data.judged, baselines.item_knn, seed, listed=max(map(len, lists)))
        ours, theirs = (measure.quality(data.judged, one)[part] for one in (lists, measure.cut(items, lists)))
        results[name] = difference(ours, theirs)
    return results


def advantages(data: Data, reading: Reading, difference) -> dict[str, Estimate]:
    """C10: few recipes of a dish, and how varied the matches are."""
    few = measure.few_recipes(data.database, data.judged, reading, data.seed)
    narrow, wide = (
        measure.recommend_all(data.database, data.judged, one, data.seed)["subs"]
        for one in (reading, measure.EVERYTHING)
    )
    return {
        "limited_content": difference(few["cut"], 0.9 * few["whole"]),
        "over_specialisation": difference(narrow, wide),
    }


def two_categories(data: Data) -> tuple[list[dict], dict[str, Estimate] | None]:
    """C12: the grid over n and theta on rice and chicken alone, and how many recommended sets it changes.

    Empty and None for recipes that have no such categories.
    """
    kept = [recipe for recipe in data.database.recipes if recipe.category in TWO]
    if {recipe.category for recipe in kept} != set(TWO):
        return [], None
    small = split(Database.of(kept), data.seed)
    lists = {
        (n, theta): measure.recommend_all(small.database, small.judged, Reading(n, theta))["lists"]
        for n, theta in ((10, 0.02), (10, 0.3), (5, 0.1), (20, 0.1))
    }

    def changed(a, b) -> Estimate:
        differs = [set(x) != set(y) for x, y in zip(lists[a], lists[b], strict=True)]
        return mean(by_recipe(small.judged, np.array(differs, float)), unit=UNIT)

    moved = {
        "theta_matters": changed((10, 0.02), (10, 0.3)),
        "n_matters": changed((5, 0.1), (20, 0.1)),
    }
    return measure.grid(small.database, small.judged, Reading()), moved


def hierarchy(data: Data) -> dict:
    """C5: the abstract's examples among the subcategories of rice, and how right the labels are."""
    home = {recipe.subcategory: recipe.category for recipe in data.database.recipes}
    there = sum(home.get(name) == "rice" for name in ("fried rice", "biryani"))
    return {"examples_are_there": Exact(there), "labels_hold": recipes.label_agreement()}


def average(data: Data, values: np.ndarray) -> Estimate:
    """Mean over the judged recipes of what was found for each basket."""
    return mean(_finite(by_recipe(data.judged, np.asarray(values, float))), unit=UNIT)


def _finite(values: np.ndarray) -> np.ndarray:
    """Without the recipes that a question cannot be asked of: nothing hidden but staples, a category of one dish."""
    return values[np.isfinite(values)]


def sensitivity(data: Data, level: str, setting: Setting) -> dict[str, float]:
    """The main figures with another normaliser of ingredients, the setting as chosen with ours."""
    other = split(Database.of(recipes.wikibooks(level)), data.seed)
    inside = measure.search_all(other.database, other.judged, setting.reading)
    held = measure.recommend_all(other.database, other.judged, setting.reading, other.seed)
    quality = measure.quality(other.judged, held["lists"])
    return {
        "items": len(other.database.items),
        "scored": float(inside["scored"].mean()),
        "kept": float(inside["kept"].mean()),
        "recall": float(np.nanmean(quality["recall"])),
    }


# --- what the notebook shows ------------------------------------------------------------------------------------------


def kinds_of_baskets(data: Data, reading: Reading) -> list[list]:
    """Rows of a table: each protocol with what is searched, kept, activated and recommended (baskets' means)."""
    without = protocols.tasks(data.database, data.judging_rows, data.seed, head=False)
    kinds = [
        ("out of the database", data.judged, None),
        ("held out", data.judged, data.seed),
        ("held out, nothing that the title names", without, data.seed),
        ("two dishes and two staples", protocols.mixed(data.database, data.judged, data.seed), None),
    ]
    rows = []
    for name, made, seed in kinds:
        found = measure.search_all(data.database, made, reading, seed)
        quality = measure.quality(made, measure.recommend_all(data.database, made, reading, seed)["lists"])
        values = [found[key].mean() for key in ("scored", "kept", "own_active", "nothing")]
        rows.append([name, len(made), *(f"{value:.2f}" for value in (*values, np.nanmean(quality["recall"])))])
    return rows


def readings_table(chosen: dict[str, Setting], found: dict[str, dict]) -> list[list]:
    """Rows of a table: each reading with its n and theta and what it gave on the judged half."""
    rows = []
    for name, setting in chosen.items():
        one = found[name]
        values = [
            one["inside"]["scored"].mean(),
            one["inside"]["kept"].mean(),
            one["held"]["kept"].mean(),
            one["held"]["own_active"].mean(),
            np.nanmean(one["auc"]),
            np.nanmean(one["quality"]["recall"]),
            np.nanmean(one["without_staples"]["recall"]),
        ]
        rows.append([name, setting.reading.n, setting.reading.theta, *(f"{value:.2f}" for value in values)])
    return rows


def top_items(data: Data, subcategories: tuple[str, ...], n: int = 8) -> list[list[str]]:
    """Rows of a table: the n best differentiators of each subcategory that there is, learned from all recipes."""
    ranked = differentiators(data.database, n)
    rows = []
    for name in subcategories:
        if name in data.database.subcategories:
            row = ranked[data.database.subcategories.index(name)]
            order = sorted(np.flatnonzero(row), key=lambda i: row[i])
            rows.append([name, ", ".join(data.database.items[i] for i in order)])
    return rows


def recommendations(data: Data, reading: Reading, baskets: list[frozenset[str]]) -> list[list[str]]:
    """Rows of a table for given baskets: active subcategories, best match, recommended set, and items nobody has."""
    database, rows = data.database, []
    recommender = Recommender.learn(database, reading)
    given = database.rows(baskets)
    best, active = recommender.best(given, measure.MATCHES), recommender.activated(given)
    lists = recommended(given, best, database, recommender.weights)
    for basket, matches, on, items in zip(baskets, best, active, lists, strict=True):
        unknown = sorted(basket - set(database.items))
        rows.append(
            [
                ", ".join(sorted(basket)),
                ", ".join(database.subcategories[i] for i in np.flatnonzero(on)) or "none",
                database.recipes[matches[0]].title if matches[0] >= 0 else "none",
                ", ".join(database.items[i] for i in items) or "none",
                ", ".join(unknown) or "none",
            ]
        )
    return rows
