"""The verdicts that each seed would have had, from the stored run of `seeds`; apart from it, as judging changes no row.

A change of a rule of judging leaves the measurements as they are.
"""

from claimbook.claims import verdicts
from claimbook.claims.ledgers import Ledger
from claimbook.stats import Estimate


def _evidence(measured: dict[str, dict]) -> verdicts.Evidence:
    """Stored measurements of a claim's parts."""
    return verdicts.Evidence({name: Estimate(**value) for name, value in measured.items()})


def verdict_rows(stored: dict | None, ledger: Ledger) -> list[list[str]]:
    """Rows of a table: each claim with its verdict under every seed, and the parts whose state differs."""
    rows = []
    for claim_id in stored["curves"]["parts"][0] if stored else ():
        claim = ledger.claim(claim_id)
        judged = [verdicts.judge(claim, "cpu", _evidence(one[claim_id])) for one in stored["curves"]["parts"]]
        moving = [name for name in judged[0].parts if len({one.parts[name].state for one in judged}) > 1]
        rows.append([claim_id, *(one.verdict.replace("_", " ") for one in judged), ", ".join(moving) or "none"])
    return rows
