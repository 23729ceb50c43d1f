"""Planted mutations: each makes one wrong thing out of a right one, and the tests named beside it must turn red.

Nothing here looks at hashes: freshness would notice any change, so it is left out and the tests have to know better.
"""

import pytest

import plant
from mutations import MUTATIONS

pytestmark = pytest.mark.slow

BROKEN = {"ImportError", "ModuleNotFoundError", "NameError", "SyntaxError"}  # a mutation is wrong, not broken


@pytest.mark.parametrize(
    ("wrong", "file", "before", "after", "tests"), MUTATIONS, ids=[m[0].replace(" ", "-") for m in MUTATIONS]
)
def test_mutation_is_noticed(tmp_path, wrong, file, before, after, tests):
    source = plant.copy_library(tmp_path) / file
    text = source.read_text()
    assert text.count(before) == 1, f"the planted place is not there (once): {before}"
    source.write_text(text.replace(before, after))
    outcome = plant.run(tmp_path, tests)
    assert outcome.code == 1, f"{wrong}: not noticed by {tests}\n{outcome.said[-2000:]}"
    ((when, exception),) = outcome.failures
    assert when == "call" and exception not in BROKEN, f"{wrong}: {exception} in {when}\n{outcome.said[-2000:]}"


@pytest.mark.parametrize(
    "tests", ["test_attention.py -k grouped_heads", "test_grocery_ranking.py -k activation_shrinks"]
)
def test_the_unmutated_copy_is_green(tmp_path, tests):
    """The mutations are red for their own sake: the same way of running is green without one."""
    plant.copy_library(tmp_path)
    outcome = plant.run(tmp_path, tests)
    assert outcome.code == 0, outcome.said[-2000:]


@pytest.mark.parametrize(
    ("planted", "tests", "code", "failures"),
    [
        ("import nothing_of_this_name", "test_stats.py", 2, [["collect", "CollectError"]]),
        ("", "test_stats.py -k no_test_has_this_name", 5, []),
    ],
)
def test_a_run_that_tests_nothing_is_told_from_a_failure(tmp_path, planted, tests, code, failures):
    source = plant.copy_library(tmp_path) / "stats.py"
    source.write_text(f"{source.read_text()}\n{planted}\n")
    outcome = plant.run(tmp_path, tests)
    assert (outcome.code, outcome.failures) == (code, failures)
