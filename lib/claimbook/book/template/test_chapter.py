"""The method of chapter_name against cases that can be checked by hand."""

import numpy as np
import pytest
from claimbook.experiments.chapter_name import evidence
from claimbook.experiments.chapter_name.measure import Row

from claimbook.papers import chapter_name as method


def test_scatter_of_two_coins():
    assert method.scatter(np.array([0.0, 0.5, 0.5, 1.0])) ** 2 == pytest.approx(1 / 8)


def test_averages_have_the_shape_asked_for():
    assert method.averages(3, 5, np.random.default_rng(0)).shape == (5,)


def test_rows_by_hand_give_the_ratio_that_was_put_in():
    def ratio(many):
        return evidence.scatters([Row([0.2, 0.15, many, 0.05])] * 20)["C1"]["halved"].value

    assert ratio(0.1) == pytest.approx(2.0)
    assert ratio(0.2) == pytest.approx(1.0), "averages that scatter alike"
