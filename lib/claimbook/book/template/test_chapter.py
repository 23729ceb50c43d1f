"""The method of chapter_name against cases that can be checked by hand."""

import numpy as np
import pytest

from claimbook.papers import chapter_name as method


def test_scatter_of_two_coins():
    assert method.scatter(np.array([0.0, 0.5, 0.5, 1.0])) ** 2 == pytest.approx(1 / 8)


def test_averages_have_the_shape_asked_for():
    assert method.averages(3, 5, np.random.default_rng(0)).shape == (5,)
