"""Experiments on language models: the model that a stored run's config names, and what is kept of it."""

from functools import partial

from claimbook.experiments.units import Experiment
from claimbook.lm.load import LM, load


def model_of(config: dict) -> LM:
    """The language model that a config names, on the cpu, in float32 unless the config has a dtype."""
    return load(config["model"], "cpu", config.get("dtype", "float32"))


def about(lm: LM) -> dict:
    """What a stored run keeps of its model: layers, trained window, and which layers see a window only."""
    config = lm.model.config.get_text_config()
    sliding = [i for i, kind in enumerate(getattr(config, "layer_types", None) or []) if kind == "sliding_attention"]
    return {
        "layers": lm.layers,
        "trained_context": lm.trained_context,
        "sliding_layers": sliding,
        "sliding_window": config.sliding_window if sliding else None,
    }


ModelExperiment = partial(Experiment, model=model_of, about=about)
