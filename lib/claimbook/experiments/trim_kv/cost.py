"""What the gates add to the paper's models, from their configurations."""

import json
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from claimbook import paths
from claimbook.papers.trim_kv import gate_parameters


@dataclass(frozen=True)
class Row:
    """One model: parameters of its gates and of itself (tied output layers counted once); ``bytes`` in bfloat16."""

    model: str
    gates: int
    parameters: int

    @property
    def share(self) -> float:
        return self.gates / self.parameters

    @property
    def bytes(self) -> int:
        return 2 * self.gates


def gate_table() -> list[Row]:
    """A row for each model of the paper; nothing is loaded, shapes are enough."""
    return [row_of(**one) for one in json.loads((paths.chapter_data("trim_kv") / "configurations.json").read_text())]


def row_of(name: str, source: str, config: dict) -> Row:
    """``config``: what decides the shapes, as the file at ``source`` has it."""
    config = AutoConfig.for_model(**config)
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    return Row(
        name, gate_parameters(config.hidden_size, config.num_key_value_heads, config.num_hidden_layers), parameters
    )
