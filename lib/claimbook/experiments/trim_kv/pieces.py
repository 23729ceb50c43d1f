"""Rows put together from pieces: what the chapter's experiments share.

Many texts are measured at a time, under one rule and budget after the other. A piece is one number, or one for each
text, with its place in the row; pieces come in a fixed order, so that the first few can be measured again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from claimbook import paths
from claimbook.experiments.units import Experiment
from claimbook.lm import eviction
from claimbook.lm.load import LM, load
from claimbook.provenance.declarations import checkpointed

Place = tuple[str | int, ...]
UNPOOLED = "snapkv unpooled"  # neighbours are not averaged, and the window is short
NAMES = {"key_norm": "key norm", "key_diff": "keydiff"}  # of rules on the page, where they differ from the engine's


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model_of(config: dict) -> LM:
    """The model of a stored run, in float32, frozen, on the GPU where there is one."""
    lm = load(config["model"], device().type, "float32")
    lm.model.requires_grad_(False)
    return lm


def artefact(name: str) -> dict[str, Tensor]:
    """The tensors that a promoted stored run of this chapter left."""
    return load_file(paths.sweep("trim_kv", name).with_suffix(".safetensors"))


def heuristics(budget: int) -> dict[str, eviction.Rule]:
    """The rules without training at a budget, by the names of the page; with "random" and a variant of SnapKV."""
    known = {NAMES.get(name, name): rule for name, rule in eviction.heuristics(budget).items()}
    return known | {UNPOOLED: eviction.SnapKV(window=min(4 if budget < 32 else 8, budget - 1), kernel=1)}


@dataclass(frozen=True)
class Pieces(Experiment):
    """``inputs(model, config)``: what measures each piece, by place; only the ``first`` few where the config says so.

    ``measure(pieces, config)``: the rows that they make.
    """

    def pieces(self, model, config: dict) -> dict[Place, Callable[[], Any]]:
        return dict(islice(self.inputs(model, config).items(), config.get("first")))

    def run(self, config: dict, work: Path, progress) -> dict:
        model = self.model(config)
        jobs = {
            " ".join(map(str, place)): lambda place=place, piece=piece: {"place": list(place), "value": piece()}
            for place, piece in self.pieces(model, config).items()
        }
        found = checkpointed(jobs, work, progress)
        return {"metrics": self.about(model), "curves": {self.unit: list(found.values())}}

    def now(self, model, config: dict) -> list:
        found = {place: piece() for place, piece in self.pieces(model, config).items()}
        return self.measure(found, config)

    def read(self, stored: dict) -> list:
        found = {tuple(one["place"]): one["value"] for one in stored["curves"][self.unit]}
        return self.measure(found, stored["config"])


def assembled(pieces: dict[Place, Any], text: int | None = None) -> dict:
    """The fields of a row; numbers in a place are entries of a list, in order. ``text``: whose entry of each piece."""
    whole: dict = {}
    for place, value in pieces.items():
        node = whole
        for key, after in zip(place, (*place[1:], None), strict=True):
            if isinstance(node, list) and key == len(node):
                node.append({})
            if after is None:
                node[key] = value if text is None else value[text]
            elif isinstance(node, dict):
                node.setdefault(key, [] if isinstance(after, int) else {})
            node = node[key]
    return whole
