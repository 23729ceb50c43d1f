"""From rows to the ledger's parts and their measured controls, each by claim and name. The same for every reading."""

import numpy as np
import pandas as pd

from claimbook import stats
from claimbook.claims.verdicts import Evidence
from claimbook.stats import Estimate

UNIT = "recipes"
METHOD, BRUTE, RIGHT, RANDOM, INDEX, BAYES = (
    "item ranking",
    "brute force",
    "right one",
    "random",
    "inverted index",
    "naive Bayes",
)
KNN = "item-kNN, cosine"


class Protocol:
    """The rows of one protocol; columns by measure and way, (recipes,) each."""

    def __init__(self, rows: pd.DataFrame, protocol: str):
        self.rows = rows[protocol]

    def __call__(self, measure: str, way: str = METHOD) -> np.ndarray:
        return self.rows[measure, way].to_numpy()

    def missed(self, way: str) -> np.ndarray:
        """Share of best matches that a gate does not keep."""
        return 1 - self("kept", way)

    def mean(self, measure: str, way: str = METHOD) -> Estimate:
        """The mean of a share."""
        return share(self(measure, way))


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
    inside, held = Protocol(rows, "in the database"), Protocol(rows, "held out")
    return {
        "C1": Evidence({"set_beats_items": ratio(held("set"), held("set", KNN))}),
        "C2": dishes(inside, held),
        "C4": Evidence(
            {
                "few": inside.mean("categories"),
                "probable": beyond(inside("own_category"), inside("categories")),
                "probable_held_out": beyond(held("own_category"), held("categories")),
            }
        ),
        "C6": told_apart(inside, held),
        "C7": Evidence(
            {
                "informed": beyond(inside("own_active"), inside("others_active")),
                "informed_held_out": beyond(held("own_active"), held("others_active")),
            }
        ),
        "C8": Evidence(
            parts={"in_the_database": inside.mean("kept"), "held_out": held.mean("kept")},
            nulls={"in_the_database": inside.mean("kept", RANDOM), "held_out": held.mean("kept", RANDOM)},
            ceilings={"in_the_database": inside.mean("kept", RIGHT)},
        ),
        "C9": smaller_search(inside, held),
        "C11": costs(inside, held),
        "C13": other_pruners(inside, held),
    }


def dishes(inside: Protocol, held: Protocol) -> Evidence:
    """C2: is the dish inferred, and are its ingredients recommended?"""

    def over_popularity(protocol: Protocol, measure: str = "recall", way: str = METHOD) -> Estimate:
        return ratio(protocol(measure, way), protocol(measure, "popularity"))

    return Evidence(
        parts={
            "dish_inferred": beyond(inside("right"), inside("chance")),
            "beats_popularity": over_popularity(inside),
            "dish_inferred_held_out": beyond(held("right"), held("chance"), held("right", BRUTE)),
            "beats_popularity_held_out": over_popularity(held),
            "without_staples_held_out": over_popularity(held, "recall without staples"),
        },
        ceilings={
            "dish_inferred": beyond(inside("right", BRUTE), inside("chance")),
            "beats_popularity": over_popularity(inside, way=BRUTE),
        },
    )


def told_apart(inside: Protocol, held: Protocol) -> Evidence:
    """C6: do ranked items tell subcategories apart?"""
    ranked, unranked = held("auc", "ranked"), held("auc", "random items")
    return Evidence(
        {
            "tells_apart": inside.mean("auc", "ranked"),
            "tells_apart_held_out": share(ranked),
            "without_names": held.mean("auc", "without names"),
            "by_rank": ratio(ranked - unranked, ranked - 0.5),
        }
    )


def smaller_search(inside: Protocol, held: Protocol) -> Evidence:
    """C9: how much is searched, and what it costs."""

    def worth(way: str) -> Estimate:
        return difference(inside("kept", way), inside("scored", way))

    def recall_kept(protocol: Protocol, way: str) -> Estimate:
        return ratio(protocol("recall", way), protocol("recall", BRUTE))

    return Evidence(
        parts={
            "share_scored": inside.mean("scored"),
            "worth_it": worth(METHOD),
            "recall_kept": recall_kept(inside, METHOD),
            "recall_kept_held_out": recall_kept(held, METHOD),
        },
        nulls={
            "worth_it": worth(RANDOM),
            "recall_kept": recall_kept(inside, RANDOM),
            "recall_kept_held_out": recall_kept(held, RANDOM),
        },
        ceilings={"share_scored": inside.mean("scored", RIGHT), "worth_it": worth(RIGHT)},
    )


def costs(inside: Protocol, held: Protocol) -> Evidence:
    """C11: operations, what importance is worth, and growth."""

    def growth(of: str) -> Estimate:
        return ratio(inside("growth", f"whole, {of}"), inside("growth", f"half, {of}"))

    return Evidence(
        {
            "cheaper": ratio(inside("operations"), inside("recipes", BRUTE)),
            "importance_helps": ratio(held("recall"), held("recall", BRUTE)),
            "by_categories": growth("categories"),
            "by_subcategories": growth("subcategories"),
        }
    )


def other_pruners(inside: Protocol, held: Protocol) -> Evidence:
    """C13: an exact index and naive Bayes against item ranking."""

    def misses(protocol: Protocol, way: str) -> Estimate:
        return ratio(protocol.missed(way), protocol.missed(METHOD))

    return Evidence(
        parts={
            "index_misses_fewer": misses(inside, INDEX),
            "index_scores_no_more": ratio(inside("scored", INDEX), inside("scored")),
            "bayes_misses_fewer": misses(inside, BAYES),
            "index_misses_fewer_held_out": misses(held, INDEX),
            "bayes_misses_fewer_held_out": misses(held, BAYES),
        },
        nulls={"bayes_misses_fewer": misses(inside, RANDOM), "bayes_misses_fewer_held_out": misses(held, RANDOM)},
    )
