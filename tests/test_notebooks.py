"""The chapters as they are stored: executed, fresh, in agreement with ledger and result."""

import pytest

from claimbook import files, paths
from claimbook.claims import ledgers
from claimbook.runs import checks, parameters

CHAPTERS = parameters.notebooks()


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.parametrize("check", [checks.guard, checks.agreement, checks.form])
def test_stored_chapter(chapter, check):
    assert check(chapter) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_stored_chapter_is_fresh(chapter):
    assert checks.freshness(chapter) == []


def test_there_are_chapters():
    assert CHAPTERS


# measured at the gpu tier on the paper's own models alone, whatever model the page is run with
RELEASED = {"gated_attention": {"C10", "C12", "C13", "C19"}}  # in the folder that `released` names


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_exact_is_what_ran_on_the_papers_own_models(chapter):
    """Else any model at the gpu tier, a tiny random one too, would read "exact"."""
    starts = "".join("".join(cell["source"]) for cell in files.read_notebook(paths.notebook(chapter))["cells"])
    if "papers=inputs.PAPERS" in starts:
        return
    claims = ledgers.load(chapter).claims
    exact = {claim.id for claim in claims if claim.tier("gpu") == "exact" and claim.tier("cpu") != "exact"}
    assert exact == RELEASED.get(chapter, set())
