"""What needs no training: the column of added parameters, which variants are linear, ranks of a table, a length."""

from dataclasses import dataclass

import torch
from scipy.stats import spearmanr

from claimbook.papers import gated_attention as method
from claimbook.papers.gated_attention import GATES, PAPER, Shape

# Table 1, rows 2 to 13, in millions: what is added, and the printed number
PRINTED = {
    "8 key-value heads": 50,
    "48 query heads": 201,
    "4 more experts": 400,
    "elementwise": 201,
    "value": 25,
    "key": 25,
    "query": 201,
    "output": 100,
    "headwise": 1.6,
    "value headwise": 0.2,
    "shared": 201,
    "value shared": 25,
}
MISPRINT = "4 more experts"
# Table 4: mean score, M-Act, F-Attn, perplexity; the baseline has no score
TABLE_4 = {
    "none": (None, 1053, 0.467, 6.026),
    "elementwise": (0.116, 94, 0.048, 5.761),
    "headwise": (0.172, 98, 0.073, 5.792),
    "shared": (0.271, 286, 0.301, 5.801),
    "value": (0.221, 125, 0.297, 5.820),
    "independent": (0.335, 471, 0.364, 5.917),
    "ns": (0.653, 892, 0.451, 5.900),
}
SMALL = Shape(layers=1, width=64, queries=4, keys=2, size=16)  # in which linearity is tried
BETWEEN = ("elementwise", "headwise", "value", "norm", "bare silu")  # what is said to prevent merging
LINEAR = ("independent", "additive identity")
SHORT, LONG, LEAK = 32 * 1024, 128 * 1024, 0.05


@dataclass(frozen=True)
class Exact:
    """``added``: row of Table 1 -> arithmetic and printed, in millions. ``linear``: variant -> error of the best linear
    map over the size of the output, on tokens that it was not fitted to, "none" among them. ``rank``: of a head's value
    and output product over the size of the head. ``ranks``: rank correlation of the mean score in Table 4 with each
    other column. ``leak``: what a fixed gap loses in long texts where it loses 5 % in short ones.
    """

    added: dict[str, tuple[float, float]]
    linear: dict[str, float]
    rank: float
    ranks: dict[str, float]
    leak: float


def compute(seed: int, tokens: int = 1024) -> Exact:
    """All of it, in seconds."""
    return Exact(added(), linear(seed, tokens), rank(seed), ranks(), method.leak(LEAK, SHORT, LONG))


def added() -> dict[str, tuple[float, float]]:
    more = method.expansions(PAPER, keys=8, queries=48, experts=4)
    expected = dict(zip(("8 key-value heads", "48 query heads", MISPRINT), more.values(), strict=True))
    expected |= {name: method.added(GATES[name], PAPER) for name in PRINTED if name in GATES}
    return {row: (expected[row] / 1e6, printed) for row, printed in PRINTED.items()}


def linear(seed: int, tokens: int) -> dict[str, float]:
    """Of every variant that stands between value and output layer; see `Exact`."""
    found = {"none": method.nonlinear_share((), SMALL, seed, tokens)}
    between = {name: gate for name, gate in GATES.items() if gate.place in ("attention", "value")}
    return found | {name: method.nonlinear_share((gate,), SMALL, seed, tokens) for name, gate in between.items()}


def rank(seed: int) -> float:
    """Of W_V W_O for one head of the paper's width and head size, over the size of the head."""
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(PAPER.width, PAPER.size, generator=generator)
    output = torch.randn(PAPER.size, PAPER.width, generator=generator)
    return int(torch.linalg.matrix_rank(value @ output)) / PAPER.size


def ranks() -> dict[str, float]:
    rows = [row for row in TABLE_4.values() if row[0] is not None]
    score, massive, share, perplexity = zip(*rows, strict=True)
    columns = {"sinks": share, "massive": massive, "perplexity": perplexity}
    return {name: float(spearmanr(score, column).statistic) for name, column in columns.items()}
