"""Do the verdicts hang on which baskets were drawn? The chapter's measurements again, once for each of five seeds."""

from dataclasses import asdict
from pathlib import Path

from claimbook.experiments.grocery_ranking import live, recipes
from claimbook.papers.grocery_ranking import Database
from claimbook.provenance import declarations


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
