"""Totals over claims: the one place where verdicts are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from claimbook.claims.ledgers import Claim, NotTested
from claimbook.claims.words import NOT_RUN, NOT_TESTED, VERDICTS, several, word


@dataclass(frozen=True)
class Totals:
    """Counts of claims by verdict in words; toys apart, and premises and our own claims (``shown``) in no total."""

    real: Counter = field(default_factory=Counter)  # of real models, data or arithmetic
    toys: Counter = field(default_factory=Counter)
    not_tested: int = 0
    not_run: int = 0
    shown: int = 0
    due: int = 0  # parts whose controls are still to be written, of any claim

    @property
    def claims(self) -> int:
        return self.real.total() + self.toys.total() + self.not_tested + self.not_run

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, name) + getattr(other, name) for name in Totals.__dataclass_fields__))

    def in_words(self) -> str:
        """ "3 claims: 1 reproduced; of toys 1 partial; 1 not tested"; verdicts that no claim got are left out."""
        real = ", ".join(f"{self.real[name]} {name}" for name in VERDICTS if self.real[name])
        toys = ", ".join(f"{self.toys[name]} {name}" for name in VERDICTS if self.toys[name])
        rest = ((NOT_TESTED, self.not_tested), (NOT_RUN, self.not_run), ("more shown, in no total", self.shown))
        groups = [real, f"on toys {toys}" if toys else "", *(f"{count} {name}" for name, count in rest if count)]
        return f"{several(self.claims, 'claims')}: {'; '.join(filter(None, groups)) or 'none judged'}"


def count(claims: Iterable[tuple[Claim, dict | None]]) -> Totals:
    """Totals over claims with their entries in a result file; None or a null verdict: not run."""
    total = Totals()
    for claim, entry in claims:
        total += _one(claim, entry or {})
    return total


def _one(claim: Claim, entry: dict) -> Totals:
    if not claim.counted:
        return Totals(shown=1, due=claim.due)
    if entry.get("verdict") == "not_tested" or (not entry.get("verdict") and isinstance(claim.tier("cpu"), NotTested)):
        return Totals(not_tested=1, due=claim.due)
    if not entry.get("verdict"):
        return Totals(not_run=1, due=claim.due)
    counted = Counter({word(entry["verdict"]): 1})
    return Totals(toys=counted, due=claim.due) if entry["fidelity"] == "toy" else Totals(real=counted, due=claim.due)
