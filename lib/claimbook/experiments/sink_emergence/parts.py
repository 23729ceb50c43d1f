"""The ledger's parts that real models decide, computed alike for every model: {claim: {part: measurement}}."""

import numpy as np
import torch

from claimbook import stats
from claimbook.claims.verdicts import Measurement
from claimbook.experiments.sink_emergence.live import Found
from claimbook.stats import Estimate, Exact, Votes

Parts = dict[str, dict[str, Measurement]]

NINE_IN_TEN = 0.9


# --- real models -------------------------------------------------------------------------------------------------


def protocol(found: Found) -> Parts:
    """C1, C2, C7 and, for rotary models, the rotary parts of C3."""
    natural, geometry, heads = found.rate("natural").numpy(), found.geometry, found.sink_heads

    def over_sinks(values: torch.Tensor) -> np.ndarray:
        """Mean over the sink heads of each sample, of values (L, B, H or H_kv)."""
        spread = values.repeat_interleave(heads.shape[2] // values.shape[2], dim=2)
        return ((spread * heads).sum(dim=(0, 2)) / heads.sum(dim=(0, 2))).numpy()

    closer = over_sinks((geometry.cosine_first > geometry.cosine_others).float()) >= NINE_IN_TEN
    first = natural[:, 0] > natural[:, 1:].max(axis=1)
    kept = int((found.rate("repeated")[:, 0] > 0).sum())
    repeats = {}
    if found.repeats:
        repeats["states_coincide"] = Exact(found.repeats["distance"])
        repeats["rotary_bound"] = Exact(found.repeats["above"], n=found.repeats["checked"])
    return {
        "C1": {
            "sink_exists": stats.mean(natural[:, 0], unit="samples"),
            "first_is_largest": Votes(int(first.sum()), len(first), 1 / 32, unit="samples"),
        },
        "C2": {
            "random_keeps": stats.mean(found.rate("random")[:, 0].numpy(), unit="samples", within=(0, 1)),
            "repeated_loses": stats.proportion(kept, len(found.repeated), unit="samples"),
        },
        "C3": repeats,
        "C7": {
            "massive": stats.mean(geometry.hidden_norm.max(dim=0).values.numpy(), unit="samples"),
            "keys_smaller": stats.mean(over_sinks(geometry.key_norm), unit="samples"),
            "values_smaller": stats.mean(over_sinks(geometry.value_norm), unit="samples"),
            "angle_decides": Votes(int(closer.sum()), len(closer), 0.5, unit="samples"),
        },
    }


def domains(curves: dict, text: str, epsilons: list[float], lengths: list[int]) -> Parts:
    """C6, from the rows of ``real.domain``; ``text`` is the one that the others are compared with."""
    at = epsilons.index(0.3)
    base = np.array(curves[text]["by_epsilon"])[:, at]
    by_length = np.array(curves[text]["by_length"])  # (N, lengths, epsilons)
    blocks = np.array(curves[text]["by_block"])  # (N, L)
    quarter = blocks.shape[1] // 4
    doublings = np.log2(lengths)

    def unlike(key: str) -> Estimate:
        return stats.paired_difference(np.array(curves[key]["by_epsilon"])[:, at], base, unit="samples")

    low, mid, high = (by_length[:, :, epsilons.index(epsilon)] for epsilon in (0.2, 0.3, 0.5))
    return {
        "C6": {
            "docstrings_alike": unlike("docstrings"),
            "bible_alike": unlike("kjv"),
            "recipes_alike": unlike("wikibooks-recipes"),
            "falls_with_length": stats.slope(doublings, mid, unit="samples"),
            "steeper_at_high_epsilon": stats.slope(doublings, high - low, unit="samples"),
            "early_blocks_fewer": stats.mean(
                blocks[:, :quarter].mean(axis=1) - blocks[:, quarter:].mean(axis=1) / 2, unit="samples"
            ),
        }
    }


def windows(rows: list[dict]) -> Parts:
    """C17, from the rows of ``real.windows``, (layers, heads) each."""
    first = np.array([row["first"] for row in rows])
    later = np.array([row["window_first"] for row in rows])
    return {
        "C17": {
            "first_while_visible": stats.mean((first > 0.3).mean(axis=(1, 2)), unit="documents"),
            "not_window_first": stats.mean(later.max(axis=(1, 2)), unit="documents"),
        }
    }


def interventions(rows: list[dict]) -> Parts:
    """C29, from the rows of ``real.losses``."""
    loss = {name: np.array([row["loss"][name] for row in rows]) for name in rows[0]["loss"]}

    def rise(name: str) -> Estimate:
        return stats.paired_difference(loss[name], loss["as it is"], unit="documents")

    return {"C29": {"non_informative": rise("exchanged in all heads"), "no_value": rise("no value in sink heads")}}
