"""What the notebook runs live, by tier, and when a stored run speaks for it."""

from claimbook import assets
from claimbook.errors import ClaimbookError
from claimbook.lm import corpora
from claimbook.lm.load import LM

# Live at the cpu tier: the first of the stored documents, in full but for the cache sizes.
_SCHEMES = {"sinks": [0, 1, 2, 4, 8], "bin": 16, "seed": 0}
_SMALL = {"n_documents": 1, "length": 400, "cache": 128, "sizes": [128], "n_recompute": 4}
_LIVE = {"n_documents": 1, "length": 2048, "cache": 256, "sizes": [256], "n_recompute": 8}
_FULL = {"n_documents": 20, "length": 8192, "cache": 1024, "sizes": [256, 512, 1024, 2048], "n_recompute": 20}
DOCUMENTS = {tier: _SCHEMES | sizes for tier, sizes in (("smoke", _SMALL), ("cpu", _LIVE), ("gpu", _FULL))}
TEXT = {"smoke": "wikipedia-excerpt", "cpu": "wikipedia-excerpt", "gpu": "pg19"}


def settings(tier: str, n_documents: int = 0, length: int = 0) -> dict:
    """How documents are measured live at a tier; 0 keeps the tier's own count and length (tokens)."""
    config = dict(DOCUMENTS[tier])
    config |= {"n_documents": n_documents or config["n_documents"], "length": length or config["length"]}
    if config["length"] < 2 * config["cache"] + 1:
        raise ClaimbookError(
            f"length={config['length']} is too short for a cache of {config['cache']}: at least "
            f"{2 * config['cache'] + 1} tokens are needed"
        )
    return config


def texts(lm: LM, text: str, tier: str, config: dict) -> list[corpora.Document]:
    """The documents of a run: of the tier's text, of another text asset, or of a reader's own file."""
    key = text or TEXT[tier]
    if key in assets.load_catalogue():
        return corpora.documents(lm, key, config["length"], config["n_documents"])
    found = corpora.own_text(lm, key, config["length"])
    if len(found) < config["n_documents"]:
        raise ClaimbookError(
            f"text '{key}' makes {len(found)} documents of {config['length']} tokens for {lm.name}, "
            f"{config['n_documents']} are asked for: give a longer text, or `-p documents={len(found)}`"
        )
    return found[: config["n_documents"]]


def speaks_for(stored: dict | None, run) -> bool:
    """Whether a stored run is evidence for this run: the same model, the tier's own text, and not the gpu tier."""
    if stored is None or run.tier == "gpu" or run.parameters["text"]:
        return False
    return stored["config"].get("model", run.models[0]) == run.models[0]


def largest_difference(live: dict, stored: dict) -> float:
    """Largest relative difference between the numbers of two nested results, over the keys that both have."""
    pairs = [(live[key], stored[key]) for key in live.keys() & stored.keys()]
    found = [0.0]
    for a, b in pairs:
        if isinstance(a, dict):
            found.append(largest_difference(a, b))
        elif isinstance(a, (int, float)):
            found.append(abs(a - b) / max(abs(b), 1e-9))
    return max(found)
