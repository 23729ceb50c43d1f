"""The one vocabulary of the book: verdicts in words with their sign and colour, and counts that read right."""

VERDICTS = {  # in the order they are shown: sign, readable without colour, and CSS class
    "reproduced": ("✓", "reproduced"),
    "partial": ("½", "partial"),
    "inconclusive": ("?", "inconclusive"),
    "not transferred": ("≠", "not-transferred"),
    "contradicted": ("✗", "contradicted"),
}
NOT_TESTED, NOT_RUN = "not tested", "not run"
SIGNS = VERDICTS | {NOT_TESTED: ("–", "not-tested"), NOT_RUN: ("·", "not-run")}


def word(verdict: str | None) -> str:
    """A verdict as it is said: ``not_transferred`` is "not transferred", None "not run"."""
    return verdict.replace("_", " ") if verdict else NOT_RUN


def was(old_verdict: str | None) -> str:
    """The verdict that a claim had before a change of its criterion."""
    return f"was {word(old_verdict)}" if old_verdict else "before any verdict"


def spoken(entry: dict) -> str:
    """Verdict of a result file's claim with what makes it so: "partial, 3 of 4", "inconclusive: too noisy"."""
    if entry["verdict"] is None:
        return "no verdict"
    between = ": " if entry["verdict"] == "inconclusive" else ", "
    return between.join(filter(None, [word(entry["verdict"]), entry.get("detail")]))


def fidelity(entry: dict) -> str:
    """How close the run was to the paper's: "reduced", "toy, reconstructed"; a dash where nothing was run."""
    added = "reconstructed" if entry.get("reconstructed") else ""
    return ", ".join(filter(None, [entry.get("fidelity"), added])) or "—"


def css(entry: dict) -> str:
    """Classes of a verdict's badge; a toy's looks apart, as its totals stand apart."""
    _, name = SIGNS[word(entry["verdict"])]
    return f"{name} toy" if entry.get("fidelity") == "toy" else name


IRREGULAR = {"series": "series", "caches": "cache", "axes": "axis", "analyses": "analysis", "matrices": "matrix"}


def several(count: int, plural: str) -> str:
    """A count and its noun, given in the plural: "1 seed", "0 queries", "1 block of 32 tokens", "1 stored run"."""
    words = plural.split(" ")
    noun = next((i for i, one in enumerate(words) if one.endswith("s")), 0)
    if count == 1:
        words[noun] = _singular(words[noun])
    return " ".join([f"{count:,}", *words])


def _singular(noun: str) -> str:
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith(("sses", "shes", "ches", "xes")):
        return noun[:-2]
    return noun.removesuffix("s")
