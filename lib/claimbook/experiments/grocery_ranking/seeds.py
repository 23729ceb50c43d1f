"""Do the verdicts hang on which baskets were drawn? The chapter's measurements again, once for each of five seeds."""

from dataclasses import asdict
from pathlib import Path

from claimbook.claims import verdicts
from claimbook.claims.ledgers import Ledger
from claimbook.experiments.grocery_ranking import live, recipes
from claimbook.papers.grocery_ranking import Database
from claimbook.provenance import declarations
from claimbook.stats import Estimate


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: every sampled part of every claim, by seed."""
    database = Database.of(recipes.wikibooks())
    jobs = {f"seed {seed}": lambda seed=seed: measure(database, seed) for seed in config["seeds"]}
    found = list(declarations.checkpointed(jobs, work, progress).values())
    return {"metrics": {"seeds": len(found)}, "curves": {"parts": found}}


def measure(database: Database, seed: int) -> dict:
    """Measurements by claim and part, as plain values."""
    data = live.split(database, seed)
    chosen = live.settings(data)
    found = {name: live.judged(data, setting.reading) for name, setting in chosen.items()}
    parts = live.parts(data, chosen, found, live.compared(data)) | {"C12": live.two_categories(data)[1]}
    return {claim: {name: asdict(value) for name, value in named.items()} for claim, named in parts.items()}


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
