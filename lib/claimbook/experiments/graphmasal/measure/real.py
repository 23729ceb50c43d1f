"""Real answers: what half of a test says of the other half, by the diagnosis' model of one topic. Descriptive.

They are the points of 1,008 pupils in 28 items of a Swedish national test in mathematics. Nothing says what an item is
about, so that there is no graph of prerequisites; what can be tried is whether "knows the topic or not", with slips and
guesses, foretells answers.
"""

from dataclasses import dataclass

import numpy as np
import torch

from claimbook.assets import catalogue
from claimbook.experiments.units import Experiment

ASSET = "maths-test"
FOLDS, ROUNDS = 5, 60
METHODS = ("items alone", "mean score", "known or not", "known or not, items apart")


@dataclass(frozen=True)
class Row:
    """``brier``: mean square of what was foretold of the other half, less what was answered, by `METHODS`."""

    pupil: int
    score: float
    brier: dict[str, float]


def answers() -> np.ndarray:
    """(P, I) of 0 and 1: at least half of an item's points."""
    points = torch.load(catalogue.get(ASSET), weights_only=True).numpy()
    return (2 * points >= points.max(axis=0)).astype(float)


def rates(solved: np.ndarray, apart: bool) -> tuple[float, np.ndarray, np.ndarray]:
    """Share who know the topic, and P(solved | known) and P(solved | not) of each item, (I,), by EM.

    ``solved`` (P, I). Unless ``apart``, all items have the same rates, as in `diagnosis.Fit`.
    """
    known, right, guess = 0.5, np.full(solved.shape[1], 0.9), np.full(solved.shape[1], 0.2)
    for _ in range(ROUNDS):
        mastery = posterior(solved, known, right, guess)
        known = float(mastery.mean().clip(0.01, 0.99))
        right, guess = (_mean(solved, weight, apart) for weight in (mastery, 1 - mastery))
    return known, right, guess


def _mean(solved: np.ndarray, weight: np.ndarray, apart: bool) -> np.ndarray:
    """Weighted share solved of each item (I,), or of all."""
    share = (weight @ solved + 1) / (weight.sum() + 2)
    return share if apart else np.full_like(share, share.mean())


def posterior(solved: np.ndarray, known: float, right: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """P(known | answers), (P,)."""
    odds = (
        np.log(known / (1 - known)) + solved @ np.log(right / guess) + (1 - solved) @ np.log((1 - right) / (1 - guess))
    )
    return 1 / (1 + np.exp(-odds))


def foretold(others: np.ndarray, seen: np.ndarray, asked: np.ndarray, hidden: np.ndarray) -> dict[str, np.ndarray]:
    """P(solved) of the ``hidden`` items, (P, H), from ``seen`` answers to the ``asked`` ones (P, A), by `METHODS`.

    ``others`` (O, I): whole tests of other pupils.
    """
    items = others[:, hidden].mean(axis=0)
    mean = seen.mean(axis=1, keepdims=True)
    found = {"items alone": np.tile(items, (len(seen), 1)), "mean score": np.repeat(mean, len(hidden), axis=1)}
    for name, apart in (("known or not", False), ("known or not, items apart", True)):
        known, right, guess = rates(others, apart)
        mastery = posterior(seen, known, right[asked], guess[asked])[:, None]
        found[name] = mastery * right[hidden] + (1 - mastery) * guess[hidden]
    return found


def pupils(model, config: dict) -> dict[str, tuple]:
    """Every pupil with what is foretold of a random half of the items, from models fitted to the other folds."""
    solved, rng = answers(), np.random.default_rng(config["seed"])
    fold, units = rng.permutation(len(solved)) % FOLDS, {}
    for number in range(FOLDS):
        asked, hidden = np.split(rng.permutation(solved.shape[1]), 2)
        inside = np.flatnonzero(fold == number)
        told = foretold(solved[fold != number], solved[inside][:, asked], asked, hidden)
        for i, pupil in enumerate(inside.tolist()):
            units[f"pupil {pupil}"] = (pupil, solved[pupil], hidden, {name: of[i] for name, of in told.items()})
    return units


def measure(model, unit: tuple, config: dict) -> Row:
    pupil, solved, hidden, told = unit
    return Row(pupil, float(solved.mean()), {way: float(np.mean((p - solved[hidden]) ** 2)) for way, p in told.items()})


EXPERIMENT = Experiment("pupils", Row, pupils, measure)
