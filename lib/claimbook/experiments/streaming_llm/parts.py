"""The ledger's parts that whole documents decide, computed alike for every model: {claim: {part: measurement}}."""

import numpy as np

from claimbook import stats
from claimbook.claims.verdicts import Measurement
from claimbook.experiments.streaming_llm.documents import NEWLINES
from claimbook.experiments.streaming_llm.live import column

Parts = dict[str, dict[str, Measurement]]

QUARTER, NINE_IN_TEN = 0.25, 0.9  # the ledger's words for C6: a quarter of all attention, in nearly all layers


def documents(rows: list[dict]) -> Parts:
    """C3, C4, C5, C7, C8 and, where the sizes were measured, C13, from the rows of ``documents.measure``."""
    loss = {name: column(rows, "loss", name) for name in rows[0]["loss"]}
    again = {name: column(rows, "recomputed", name) for name in rows[0]["recomputed"]}
    excess = column(rows, "eviction", "0") - column(rows, "eviction", "dense")
    middle = excess.shape[1] // 2

    def ratio(a: np.ndarray, b: np.ndarray) -> stats.Estimate:
        return stats.ratio_of_exp(a, b, unit="documents")

    def restored(saved: np.ndarray, all_of_it: np.ndarray) -> stats.Estimate:
        return stats.mean(saved - 0.9 * all_of_it, unit="documents")

    found = {
        "C3": {
            "window_collapses": ratio(loss["0"], loss["4"]),
            "at_the_eviction": stats.paired_difference(
                excess[:, middle:].mean(axis=1), excess[:, :middle].mean(axis=1), unit="documents"
            ),
        },
        "C4": {"removes_the_excess": restored(again["0"] - again["4"], again["0"] - again["recompute"])},
        "C5": {
            "newlines_as_good": ratio(loss[NEWLINES], loss["4"]),
            "newlines_restore": restored(loss["0"] - loss[NEWLINES], loss["0"] - loss["4"]),
        },
        "C7": {
            "four_are_enough": ratio(loss["4"], loss["8"]),
            "one_is_not_enough": ratio(loss["1"], loss["4"]),
        },
        "C8": {"equals_recomputation": stats.paired_difference(again["4"], again["recompute"], unit="documents")},
    }
    if {"512", "1024"} <= rows[0]["loss_by_size"].keys():
        found["C13"] = {
            "largest_is_worse": ratio(column(rows, "loss_by_size", "1024"), column(rows, "loss_by_size", "512"))
        }
    return found


def attention(rows: list[dict]) -> Parts:
    """C6, from the rows of ``attention.measure``; nothing for a model without layers above the bottom two."""
    mass = column(rows, "to_first_keys")[:, :, 0]  # (documents, layers)
    if mass.shape[1] < 3:
        return {}
    above, below = mass[:, 2:].mean(axis=1), mass[:, :2].mean(axis=1)
    far, near = (column(rows, name)[:, 2:].mean(axis=1) for name in ("far", "near"))
    enough = (mass[:, 2:] >= QUARTER).mean(axis=1) >= NINE_IN_TEN
    return {
        "C6": {
            "heavy_above": stats.mean(above, unit="documents"),
            "light_below": stats.mean(below / above, unit="documents"),
            "nearly_all_layers": stats.Votes(int(enough.sum()), len(enough), 0.5, "at least nine in ten layers"),
            "at_any_distance": stats.mean(far / near, unit="documents"),
        }
    }
