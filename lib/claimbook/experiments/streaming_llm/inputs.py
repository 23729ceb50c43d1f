"""Models and texts of the chapter by tier, and what is read of them; the reader's own by parameter."""

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.lm import corpora
from claimbook.lm.load import LM

PAPERS = ("llama-2-7b", "llama-2-13b", "falcon-7b", "mpt-7b", "pythia-6.9b", "pythia-12b")
TEXTS = {"smoke": "wikipedia-excerpt", "cpu": "wikipedia-excerpt", "gpu": "pg19"}

# What is measured live; at the cpu tier the first of the stored documents, in full but for the cache sizes.
_SMALL = {"n_documents": 1, "length": 400, "cache": 128, "sizes": [], "n_recompute": 4}
_LIVE = {"n_documents": 1, "length": 2048, "cache": 256, "sizes": [], "n_recompute": 20}
_FULL = {"n_documents": 20, "length": 8192, "cache": 1024, "sizes": [256, 512, 1024, 2048], "n_recompute": 20}
SIZES = {"smoke": _SMALL, "cpu": _LIVE, "gpu": _FULL}


def check(parameters: dict[str, object]) -> None:
    """ClaimbookError, before a kernel starts, for documents too short for the tier's cache."""
    _sizes(parameters["tier"], parameters["documents"], parameters["length"])


def settings(run, n_documents: int = 0, length: int = 0) -> dict:
    """How documents are measured live at the run's tier; 0 keeps the tier's own count and length (tokens).

    ``at_most``: so long a text may be read whole; longer ones only where there is a GPU.
    """
    config = _sizes(run.tier, n_documents, length) | {"text": run.text, "seed": run.seed}
    return config | {"at_most": None if run.tier == "gpu" else config["length"]}


def _sizes(tier: str, n_documents: int, length: int) -> dict:
    config = SIZES[tier]
    config = config | {"n_documents": n_documents or config["n_documents"], "length": length or config["length"]}
    if config["length"] < 2 * config["cache"] + 1:
        raise ClaimbookError(
            f"length={config['length']} is too short for a cache of {config['cache']}: at least "
            f"{2 * config['cache'] + 1} tokens are needed"
        )
    return config


def documents(lm: LM, config: dict) -> dict[str, corpora.Document]:
    """The documents of a run by title, cut to ``length`` tokens: of a text asset, or of the reader's own file."""
    key, length, count = config["text"], config["length"], config["n_documents"]
    if key in catalogue.load_catalogue():
        return _by_title(corpora.documents(lm, key, length, count))
    found = corpora.own_text(lm, key, length, count)
    if len(found) < count:
        raise ClaimbookError(
            f"text '{key}' makes {len(found)} documents of {length} tokens for {lm.name}, {count} are asked for: "
            f"give a longer text, or `-p documents={len(found)}`"
        )
    return _by_title(found)


def _by_title(found: list[corpora.Document]) -> dict[str, corpora.Document]:
    """Documents by title; a title that comes again is numbered, so that none is lost."""
    titled = {}
    for document in found:
        again = sum(document.title == one.title for one in titled.values())
        titled[f"{document.title} ({again + 1})" if again else document.title] = document
    return titled


def long_texts(lm: LM, config: dict) -> dict[str, corpora.Document]:
    """Texts of ``windows`` trained windows and one token, by title; none where `settings` forbids so long a text.

    Each is a document that reaches ``margin`` tokens past the window, filled up with shorter ones.
    """
    needed = config["windows"] * lm.trained_context + 1
    if needed > (config.get("at_most") or needed) or lm.trained_context < config["margin"] + config["warm_up"]:
        return {}
    if config["text"] not in catalogue.load_catalogue():
        return documents(lm, config | {"length": needed})
    border = lm.trained_context + config["margin"] + 1
    return _by_title(corpora.joined(lm, config["text"], border, needed, config["n_documents"]))
