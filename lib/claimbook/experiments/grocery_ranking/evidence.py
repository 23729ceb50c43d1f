"""From rows to the ledger's parts and their measured controls, each by claim and name. The same for every reading."""

import numpy as np
import pandas as pd

from claimbook import stats
from claimbook.claims.verdicts import Evidence
from claimbook.experiments.grocery_ranking.measure.judged import HELD, INSIDE, METHOD, NEAR
from claimbook.stats import Estimate

UNIT = "recipes"
BRUTE, RIGHT, RANDOM, INDEX, BAYES = "brute force", "right one", "random", "inverted index", "naive Bayes"
LIBRARY = "naive Bayes, library's smoothing"
KNN = "item-kNN, cosine"


class Protocol:
    """The rows of one protocol; columns by measure and way, (recipes,) each. Estimates of one are marked with it."""

    def __init__(self, rows: pd.DataFrame, name: str):
        self.name, self.rows = name, rows[name]

    def __call__(self, measure: str, way: str = METHOD) -> np.ndarray:
        return self.rows[measure, way].to_numpy()

    def missed(self, way: str) -> np.ndarray:
        """Share of best matches that a gate does not keep."""
        return 1 - self("kept", way)

    def mean(self, measure: str, way: str = METHOD) -> Estimate:
        """The mean of a share."""
        return share(self(measure, way)).of(self.name)

    def ratio(self, measure: str, way: str, other: str) -> Estimate:
        """Mean of a measure of one way over that of another."""
        return ratio(self(measure, way), self(measure, other)).of(self.name)


def share(values: np.ndarray) -> Estimate:
    """Mean over recipes of a share; recipes that a question cannot be asked of are left out."""
    return stats.mean(values[np.isfinite(values)], unit=UNIT, within=(0, 1))


def ratio(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Mean of ``a`` over mean of ``b``, over the recipes that both can be asked of."""
    both = np.isfinite(a) & np.isfinite(b)
    return stats.ratio_of_means(a[both], b[both], unit=UNIT)


def difference(a: np.ndarray, b: np.ndarray) -> Estimate:
    return stats.paired_difference(a, b, unit=UNIT)


def beyond(values: np.ndarray, chance: np.ndarray, perfect: np.ndarray | float = 1.0) -> Estimate:
    """What exceeds chance, over what perfection would: 0 for chance, 1 for perfection."""
    return ratio(values - chance, perfect - chance + np.zeros_like(chance))


def parts(rows: pd.DataFrame) -> dict[str, Evidence]:
    """Evidence on every claim that is measured. ``rows``: of `measure.judged.rows`."""
    inside, held = Protocol(rows, INSIDE), Protocol(rows, HELD)
    return {
        "C2": dishes(inside, held),
        "C4": categories(inside, held),
        "C6": told_apart(inside, held),
        "C7": Evidence(
            parts={"informed": informed(inside), "informed_held_out": informed(held)},
            nulls={"informed": difference(*(inside("meaningless", name) for name in ("own_active", "others_active")))},
        ),
        "C8": best_matches(inside, held),
        "C9": smaller_search(inside, held),
        "C11": costs(inside, held),
        "C13": of_an_index(inside, held),
        "C14": of_naive_bayes(inside, held),
    }


def informed(protocol: Protocol) -> Estimate:
    return difference(protocol("own_active"), protocol("others_active"))


def keeps(protocol: Protocol) -> Estimate:
    """What is kept beyond a random gate of the same size, over what is left to one."""
    return beyond(protocol("kept"), protocol("kept", RANDOM)).of(protocol.name)


def dishes(inside: Protocol, held: Protocol) -> Evidence:
    """C2: is the dish inferred, and are its ingredients recommended?"""

    def over_popularity(protocol: Protocol, way: str, measure: str = "recall") -> Estimate:
        return protocol.ratio(measure, way, "popularity")

    bare = "recall without staples"
    return Evidence(
        parts={
            "dish_among_five": beyond(inside("own"), inside("own", RANDOM), inside("own", BRUTE)),
            "subcategory_inferred": beyond(inside("right"), inside("chance")),
            "beats_popularity": over_popularity(inside, METHOD),
            "subcategory_inferred_held_out": beyond(held("right"), held("chance"), held("right", BRUTE)),
            "beats_popularity_held_out": over_popularity(held, METHOD),
            "without_staples_held_out": over_popularity(held, METHOD, bare),
        },
        nulls={
            "subcategory_inferred": beyond(inside("meaningless", "right"), inside("meaningless", "chance")),
            "beats_popularity": over_popularity(inside, RANDOM),
            "beats_popularity_held_out": over_popularity(held, RANDOM),
            "without_staples_held_out": over_popularity(held, RANDOM, bare),
        },
        ceilings={
            "subcategory_inferred": beyond(inside("right", BRUTE), inside("chance")),
            "beats_popularity": over_popularity(inside, BRUTE),
            "beats_popularity_held_out": over_popularity(held, RIGHT),
            "without_staples_held_out": over_popularity(held, RIGHT, bare),
        },
    )


def categories(inside: Protocol, held: Protocol) -> Evidence:
    """C4: are the categories few, and the right one among them?"""
    least = inside("least categories")

    def probable(own: np.ndarray, active: np.ndarray) -> Estimate:
        return ratio(own - active, 1 - least)

    return Evidence(
        preconditions={"opens": inside.mean("own_category")},
        parts={
            "few": inside.mean("categories"),
            "probable": probable(inside("own_category"), inside("categories")),
            "probable_held_out": probable(held("own_category"), held("categories")),
        },
        nulls={
            "probable": probable(*(inside("meaningless throughout", name) for name in ("own_category", "categories")))
        },
        ceilings={"few": share(least)},
    )


def told_apart(inside: Protocol, held: Protocol) -> Evidence:
    """C6: do ranked items tell subcategories apart?"""
    ranked = held("auc", "ranked")
    return Evidence(
        parts={
            "tells_apart": inside.mean("auc", "ranked"),
            "tells_apart_held_out": share(ranked),
            "without_names": held.mean("auc", "without names"),
            "by_choice": ratio(ranked - held("auc", "random items"), ranked - 0.5),
        },
        nulls={"tells_apart": inside.mean("meaningless", "auc")},
    )


def best_matches(inside: Protocol, held: Protocol) -> Evidence:
    """C8: are brute force's best matches found?"""
    kinds = {"in_the_database": (inside, "kept"), "five_best": (inside, "five"), "held_out": (held, "kept")}
    return Evidence(
        parts={part: protocol.mean(measure) for part, (protocol, measure) in kinds.items()},
        nulls={part: protocol.mean(measure, RANDOM) for part, (protocol, measure) in kinds.items()},
    )


def smaller_search(inside: Protocol, held: Protocol) -> Evidence:
    """C9: how much is searched, and is it worth it?"""
    both = {"": inside, "_held_out": held}
    return Evidence(
        preconditions={f"keeps{end}": keeps(p) for end, p in both.items()},
        parts={f"share_scored{end}": p.mean("scored") for end, p in both.items()}
        | {f"worth_it{end}": worth(p, METHOD) for end, p in both.items()},
        nulls={f"worth_it{end}": worth(p, RANDOM) for end, p in both.items()},
        ceilings={f"share_scored{end}": p.mean("scored", RIGHT) for end, p in both.items()}
        | {"worth_it": worth(inside, RIGHT), "worth_it_held_out": worth(held, INDEX)},
    )


def worth(protocol: Protocol, way: str) -> Estimate:
    """Share of best matches kept, less the share of recipes scored."""
    return difference(protocol("kept", way), protocol("scored", way))


def costs(inside: Protocol, held: Protocol) -> Evidence:
    """C11: what importance is worth, and growth."""

    def growth(of: str, gate: str = "") -> Estimate:
        return inside.ratio("growth", f"{of}: whole{gate}", f"{of}: half{gate}")

    kinds = {"by_categories": "categories", "by_subcategories": "subcategories"}
    return Evidence(
        preconditions={"keeps": keeps(inside)},
        parts={"importance_helps": held.ratio("recall", METHOD, BRUTE)}
        | {part: growth(of) for part, of in kinds.items()},
        ceilings={"importance_helps": held.ratio("recall", RIGHT, BRUTE)}
        | {part: growth(of, ", right one") for part, of in kinds.items()},
    )


def misses(protocol: Protocol, way: str, than: str = METHOD) -> Estimate:
    """Share of best matches that one gate misses over the share that another does."""
    return ratio(protocol.missed(way), protocol.missed(than)).of(protocol.name)


def of_an_index(inside: Protocol, held: Protocol) -> Evidence:
    """C13: an index against item ranking of its size."""
    both = {"": inside, "_held_out": held}
    return Evidence(
        preconditions={f"same_size{end}": p.ratio("scored", INDEX, NEAR) for end, p in both.items()},
        parts={f"index_misses_fewer{end}": misses(p, INDEX, NEAR) for end, p in both.items()},
    )


def of_naive_bayes(inside: Protocol, held: Protocol) -> Evidence:
    """C14: naive Bayes at the size of item ranking."""
    both = {"": inside, "_held_out": held}
    return Evidence(
        parts={f"bayes_misses_fewer{end}": misses(p, BAYES) for end, p in both.items()},
        nulls={f"bayes_misses_fewer{end}": misses(p, RANDOM) for end, p in both.items()},
    )
