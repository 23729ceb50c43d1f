"""Experiments measured unit by unit: stored and live rows are the same, and a killed run goes on where it was."""

from dataclasses import dataclass

import numpy as np
import pytest

from claimbook.experiments.units import Experiment, columns
from claimbook.runs import stored_runs


@dataclass(frozen=True)
class Row:
    name: str
    loss: dict[str, float]


class Counted:
    """Measures units 0 … n-1, and dies once at unit ``dies_at``."""

    def __init__(self, dies_at=None):
        self.measured, self.dies_at = [], dies_at

    def inputs(self, model, config):
        return {f"unit {i}": i for i in range(config["n"])}

    def measure(self, model, unit, config):
        if unit == self.dies_at:
            self.dies_at = None
            raise KeyboardInterrupt
        self.measured.append(unit)
        return Row(f"unit {unit}", {"a": model * unit, "b": 0.5})


def experiment(counted):
    return Experiment("units", Row, counted.inputs, counted.measure, lambda config: 3.0, lambda model: {"model": model})


def test_stored_rows_are_those_measured_live(tmp_path):
    one = experiment(Counted())
    stored = one.run({"n": 4}, tmp_path, lambda *progress: None)
    assert stored["metrics"] == {"model": 3.0}
    assert one.read(stored) == one.now(3.0, {"n": 4})
    assert stored["curves"]["units"][2] == {"name": "unit 2", "loss": {"a": 6.0, "b": 0.5}}


def test_a_killed_run_measures_no_unit_twice(tmp_path):
    counted = Counted(dies_at=2)
    with pytest.raises(KeyboardInterrupt):
        experiment(counted).run({"n": 4}, tmp_path, lambda *progress: None)
    stored = experiment(counted).run({"n": 4}, tmp_path, lambda *progress: None)
    assert counted.measured == [0, 1, 2, 3]
    assert [row["name"] for row in stored["curves"]["units"]] == [f"unit {i}" for i in range(4)]


def test_a_stored_row_with_a_field_that_is_not_the_rows_is_refused():
    with pytest.raises(TypeError, match="other"):
        experiment(Counted()).read({"curves": {"units": [{"name": "", "loss": {}, "other": 1}]}})


def test_columns_stack_numbers_lists_and_dicts():
    assert columns([1, 2]).tolist() == [1.0, 2.0]
    assert columns([[1, 2], [3, 4]]).shape == (2, 2)
    found = columns([{"a": {"b": 1}, "c": [True]}, {"a": {"b": 2}, "c": [False]}])
    assert found["a"]["b"].tolist() == [1, 2] and np.array_equal(found["c"], [[1.0], [0.0]])
    assert columns([]).size == 0


FAR = "the live part differs from the stored run by inf"


@pytest.mark.parametrize(
    "now, stored, said",
    [
        ({"a": [1.0001]}, {"a": [1.0, 2.0], "b": 3}, "the live part equals the stored run"),
        ({"a": [1.1]}, {"a": [1.0]}, "the live part differs from the stored run by 0.091"),
        ({"a": 1e-6}, {"a": 2e-6}, "the live part equals the stored run"),
        ({"z": 1.0}, {"a": 1.0}, FAR),
        ([Row("x", {"a": 1.0})], [{"name": "x", "loss": {"a": 1.0}}], "the live part equals the stored run"),
        ([Row("x", {"a": 1.0})], [{"name": "y", "loss": {"a": 1.0}}], FAR),
        ([], [1.0], "nothing was measured to compare with the stored run"),
        ({}, {"a": 1.0}, "nothing was measured to compare with the stored run"),
        ([1.0], None, "no stored run to compare with"),
    ],
)
def test_what_is_measured_now_is_compared_with_the_beginning_of_what_is_stored(now, stored, said):
    assert stored_runs.agreement(now, stored) == said
