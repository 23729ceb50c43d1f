"""A claim's card shows what was asked, what was found, and what both are compared with."""

import re

import pytest

from claimbook import paths
from claimbook.claims import ledgers, verdicts
from claimbook.claims.verdicts import Evidence
from claimbook.display import cards
from claimbook.stats import Estimate
from conftest import CHAPTER, edit


def ratio(value, half=0.02):
    return Estimate(value, value - half, value + half, 40, "mean", unit="seeds")


@pytest.fixture
def claim(book):
    return ledgers.load(CHAPTER).claim("C1")


def entry(claim, value, **more):
    judged = verdicts.judge(claim, "cpu", Evidence(parts={"halved": ratio(value)}))
    return judged.as_json() | {"others": {}} | more


def marks(html):
    """Horizontal centre of each mark of the first strip, in pixels, by how it is filled."""
    strip = re.search(r"<svg.*?</svg>", html, re.DOTALL)[0]
    return {fill: float(x) for x, fill in re.findall(r'd="M([\d.]+) [^"]*Z" fill="(currentColor|none)"', strip)}


def test_as_text_it_is_one_line(claim):
    assert str(cards.card(CHAPTER, claim, entry(claim, 2.0))) == "coin_flips.C1 · reproduced · toy"


def test_it_says_what_was_asked_found_and_compared(claim):
    html = cards.card(CHAPTER, claim, entry(claim, 2.0)).html
    for words in (
        'id="coin-flips-c1"',
        "✓ reproduced",
        ">toy<",
        ">headline<",
        "✓ met",
        "=&nbsp;2&nbsp;±&nbsp;0.2",
        "● ours 2.000 [1.980, 2.020], 40 seeds",
        "◆ published 2",
        "○ if the claim were false 1",
        "the theorem&#x27;s value; a tenth of it as margin",
        "uniform draws, where the paper has its own data",
    ):
        assert words in html, words


def test_a_toy_or_a_sum_is_not_called_by_the_name_of_a_model(claim):
    """The run was started with one, which has no part in what a toy or arithmetic shows."""
    for fidelity, who in (("toy", "ours"), ("exact", "ours"), ("reduced", "smollm2-135m")):
        html = cards.card(CHAPTER, claim, entry(claim, 2.0, model="smollm2-135m", fidelity=fidelity)).html
        assert f"● {who} 2.000" in html


def test_a_strip_places_values_in_their_order(claim):
    near, far = (marks(cards.card(CHAPTER, claim, entry(claim, value)).html) for value in (1.9, 2.1))
    assert near["none"] < near["currentColor"] and far["none"] < far["currentColor"], "the null, 1, is left of ours"


def test_what_lies_far_beyond_is_an_arrow_at_the_edge(book):
    edit(paths.ledger(CHAPTER), "controls: { published: 2.0, null: 1.0 }", "controls: { published: 2.0, null: 900.0 }")
    claim = ledgers.load(CHAPTER).claim("C1")
    html = cards.card(CHAPTER, claim, entry(claim, 2.0)).html
    assert f"L{cards.WIDTH - 2:.1f} {cards.HEIGHT / 2}L" in html and "if the claim were false 900" in html


@pytest.mark.parametrize("value, state", [(2.0, "✓ met"), (3.0, "✗ not met"), (2.2, "? open")])
def test_a_part_wears_its_state(claim, value, state):
    html = cards.card(CHAPTER, claim, entry(claim, value)).html
    assert state in html and ("crosses the edge" in html) == (state == "? open")


def test_other_models_stand_beside(claim):
    beside = entry(claim, 3.0)
    html = cards.card(
        CHAPTER, claim, entry(claim, 2.0, others={"other": beside}, holds_in="holds in 1 of 2 models")
    ).html
    assert "□ other 3.000 [2.980, 3.020], ✗ not met" in html and ">holds in 1 of 2 models<" in html


def test_a_revised_claim_says_so(book):
    edit(
        paths.ledger(CHAPTER),
        "    version: 1\n  - id: C2",
        "    version: 2\n    changelog:\n"
        "      - {version: 2, date: 2026-01-02, change: a wider margin, old_verdict: partial}\n"
        "  - id: C2",
    )
    claim = ledgers.load(CHAPTER).claim("C1")
    html = cards.card(CHAPTER, claim, entry(claim, 2.0)).html
    assert ">revised after a result<" in html and "2026-01-02, was partial: a wider margin" in html


def test_an_untested_claim_says_why(book):
    claim = ledgers.load(CHAPTER).claim("C3")
    html = cards.card(CHAPTER, claim, verdicts.judge(claim, "cpu", Evidence()).as_json()).html
    assert "– not tested" in html and "the model needs 140 GB of memory" in html and "<svg" not in html


def test_words_of_the_ledger_are_no_html(book):
    edit(paths.ledger(CHAPTER), "average of n", "<b>average</b> of n")
    claim = ledgers.load(CHAPTER).claim("C1")
    assert "<b>average" not in cards.card(CHAPTER, claim, entry(claim, 2.0)).html


def test_a_part_without_a_finite_value_has_no_strip(claim):
    nothing = entry(claim, float("nan"))
    assert nothing["parts"]["halved"]["estimate"] is None
    assert "<svg" not in cards.card(CHAPTER, claim, nothing).html
