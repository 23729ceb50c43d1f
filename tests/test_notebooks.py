"""The chapters as they are stored: executed, fresh, in agreement with ledger and result."""

import pytest

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
