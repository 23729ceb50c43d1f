"""Models, texts and sizes by tier, and which stored rows speak for a run."""

from claimbook.experiments.sink_emergence.measure import protocol, real
from claimbook.experiments.sink_emergence.measure import text as trainings
from claimbook.experiments.sink_emergence.measure import toys as language
from claimbook.experiments.sink_emergence.stored import ARMS, STORED, TOYS, seeds, text_run
from claimbook.lm.load import LM

TEXT = "wikipedia-excerpt"
DOMAINS = {"docstrings_alike": "docstrings", "bible_alike": "kjv", "recipes_alike": "wikibooks-recipes"}  # part of C6
PAPERS = ("gpt2-xl", "llama-2-7b", "llama-2-13b", "llama-3-8b", "mistral-7b", "pythia-6.9b", "pythia-12b")
CHAT = {"llama-2-7b-chat": "llama-2-7b", "mistral-7b-instruct": "mistral-7b"}  # chat model -> its base
_FULL = {"samples": 100, "length": 64, "angles": 24, "repeats": 8}  # samples of 64 tokens, as in the paper
SIZES = {"smoke": {"samples": 4, "length": 64, "angles": 2, "repeats": 2}, "cpu": _FULL, "gpu": _FULL}
LIVE_STEPS = {"smoke": 20, "cpu": 100}  # of the toy that is trained again


def experiment(run, lm: LM, name: str, key: str) -> dict:
    """Curves of experiment "domains", "windows" or "interventions" for a model: stored, or measured live.

    At the smoke tier stored ones only, whatever the model. Empty where there is nothing to see: no sliding layers.
    """
    if name == "windows" and not real.sliding(lm):
        return {}
    alike = {stored: one for stored, one in STORED.items() if stored.split("_")[0] == name and "model" in one.config}
    for stored_name in alike:
        if key == TEXT and run.speaks(stored_name, lm.name) and (stored := run.stored(stored_name)):
            return stored["curves"]
    config = next(iter(alike.values())).config
    if run.smoke:
        return {}
    lm.check_length(max(config["length"], *config.get("lengths", [0])), "a text of this page")
    return protocol.measured(lm, name, key, config)


def text_rows(run) -> dict[str, list[trainings.Row]]:
    """Every arm trained on text that is stored, by seed; none at the gpu tier."""
    found = {}
    for arm in ARMS if run.tier != "gpu" else ():
        names = [name for seed in seeds(arm) if (name := text_run(arm, seed)) in STORED]  # others are to come
        stored = [one for name in names if (one := run.stored(name))]
        if stored:
            found[arm] = [trainings.read(one) for one in stored]
    return found


def toy_rows(run) -> dict[str, list[language.Row]]:
    """Every arm of the toys that is stored; none at the gpu tier."""
    found = {}
    for family in TOYS if run.tier != "gpu" else ():
        if f"toys_{family}" in STORED and (stored := run.stored(f"toys_{family}")):
            found |= language.read(stored)
    return found


def toy_again(run) -> list[float]:
    """The loss of the stored default toy, its first steps trained once more with its own seed."""
    config = STORED["toys_default"].config
    _, found, _, _ = language.trained(
        config["arms"]["default"], config["recipe"], config["seed"], LIVE_STEPS.get(run.tier, 100)
    )
    return found["loss"]
