"""The method of the paper, and nothing else.

Source: name the paper's sections and equations here, and every known difference from them.
"""

import numpy as np


def averages(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Averages of ``size`` draws from the unit interval, shape (count,) (Equation 1)."""
    return rng.random((count, size)).mean(axis=1)


def scatter(values: np.ndarray) -> float:
    """Standard deviation over (count,) values, in their unit (Section 2)."""
    return float(np.std(values))
