"""GSM8K with released gates, for a GPU: grade-school problems, solved by a model that reasons in a bounded cache.

Every arm, the full cache too, decodes by the same loop with right positions: the paper's own baselines were renumbered
by their cache. At batch 1, nine arms and some 2,000 tokens of 40 ms, 200 problems take a day or two on one H100 (an
estimate; rows are kept one by one). MATH-500, the paper's other set that a small model can solve, is on the hub alone
and is not measured.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments.models import ModelExperiment
from claimbook.experiments.trim_kv.pieces import heuristics
from claimbook.lm import eviction
from claimbook.lm.load import LM
from claimbook.papers import trim_kv as method

ASSET, WEIGHTS = "gsm8k-test", "trimkv_weights.pth"
GATES = {  # released with the paper
    "Qwen/Qwen3-1.7B": "ngocbh/TrimKV-Qwen3-1.7B-Math",
    "Qwen/Qwen3-4B": "ngocbh/TrimKV-Qwen3-4B-Math",
    "Qwen/Qwen3-8B": "ngocbh/TrimKV-Qwen3-8B-Math",
    "Qwen/Qwen3-14B": "ngocbh/TrimKV-Qwen3-14B-Math",
}
CONFIG = {
    "n_problems": 200,
    "budgets": [64, 128],
    "rules": ["streaming", "h2o", "snapkv"],
    "new_tokens": 4096,
    "temperature": 0.6,  # as Qwen advises for reasoning; without sampling it repeats itself
    "top_p": 0.95,
    "seed": 0,
}
ASK = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}."
KEYS = ("linear1.weight", "linear1.bias", "linear2.weight", "bias")


@dataclass(frozen=True)
class Row:
    """One problem: solved with the full cache, and by rule ("trim" among them) and budget; tokens written by arm."""

    problem: int
    full: bool
    right: dict[str, dict[str, bool]]
    tokens: dict[str, dict[str, int]]


def problems(lm: LM, config: dict) -> dict[str, tuple[int, str, str]]:
    """Number, question and right answer of the first problems, by name."""
    lines = catalogue.get(ASSET).read_text(encoding="utf-8").splitlines()
    if config["n_problems"] > len(lines):
        raise ClaimbookError(f"GSM8K has {len(lines)} test problems, {config['n_problems']} are asked for")
    found = [json.loads(line) for line in lines[: config["n_problems"]]]
    return {
        f"problem {i}": (i, one["question"], number(one["answer"].rpartition("####")[2])) for i, one in enumerate(found)
    }


def measure(lm: LM, unit: tuple[int, str, str], config: dict) -> Row:
    number_, question, answer = unit
    ids = prompt(lm, question)
    never = len(ids) + config["new_tokens"] + 1
    whole = solved(lm, ids, answer, "window", never, config)
    cells = {
        name: {str(budget): solved(lm, ids, answer, name, budget, config) for budget in config["budgets"]}
        for name in ("trim", *config["rules"])
    }
    right, tokens = ({name: {m: cell[i] for m, cell in of.items()} for name, of in cells.items()} for i in (0, 1))
    return Row(number_, whole[0], right, tokens | {"full": {"": whole[1]}})


def solved(lm: LM, ids: Tensor, answer: str, name: str, budget: int, config: dict) -> tuple[bool, int]:
    """Whether the model's last number is the right one, and how many tokens it wrote; the same draw for every arm."""
    ids = ids[None].to(lm.model.device)
    torch.manual_seed(config["seed"])
    with rule(lm, name, budget, config) as one, eviction.evicting(lm.model, one, budget) as cache:
        text = lm.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=cache,
            max_new_tokens=config["new_tokens"],
            do_sample=True,
            temperature=config["temperature"],
            top_p=config["top_p"],
            pad_token_id=lm.tokenizer.eos_token_id,
        )[0, ids.shape[1] :]
    return final(lm.tokenizer.decode(text, skip_special_tokens=True)) == answer, len(text)


@contextmanager
def rule(lm: LM, name: str, budget: int, config: dict) -> Iterator[eviction.Rule]:
    if name != "trim":
        yield heuristics(budget)[name]
        return
    with method.retention(lm.model, released(lm, config["gates"])) as one:
        yield one


def prompt(lm: LM, problem: str) -> Tensor:
    """Ids of a problem, behind the model's chat template where it has one; Qwen3 then thinks aloud."""
    if not lm.tokenizer.chat_template:
        return lm.document(ASK.format(problem=problem))
    message = [{"role": "user", "content": ASK.format(problem=problem)}]
    return torch.tensor(lm.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False))


def final(text: str) -> str:
    """The number in the last \\boxed{…} of an answer, else its last number; "" where there is none."""
    return number((re.findall(r"\\boxed\{([^{}]*)\}", text) or [text])[-1])


def number(text: str) -> str:
    """The last number of a text as a plain decimal: "$1,250.00" -> "1250"; "" where there is none."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    return f"{float(found[-1].replace(',', '')):.10g}" if found else ""


def released(lm: LM, place: str) -> method.Gates:
    """Gates as the authors release them, for ``lm``: from a file, or from a repository of the hub.

    The file holds those entries of a state dict that contain ``self_attn.retention_gate``; nothing in it is executed.
    ClaimbookError when there is no such file, or when it fits another model or another gate.
    """
    state = read(place)
    inner = f"'{place}' does not fit {lm.name}:"
    if not hasattr(lm.model.config.get_text_config(), "num_key_value_heads"):
        raise ClaimbookError(f"{inner} gates are released for models of the Llama and Qwen families")
    widths = {len(x) for key, x in state.items() if key.endswith("retention_gate.linear1.weight") and x.ndim}
    if len(widths) != 1:
        raise ClaimbookError(f"{inner} it holds no retention gates with a hidden layer of one width")
    gates = method.gates_for(lm.model, widths.pop(), 18.0, 0)
    given = {}
    for key, tensor in state.items():
        if found := re.search(r"layers\.(\d+)\.self_attn\.retention_gate\.(.+)$", key):
            if (name := f"{found[1]}.{found[2]}") in given:
                raise ClaimbookError(f"{inner} it has {key} twice, under several names: keep one of each")
            given[name] = tensor
    shapes = {key: tuple(x.shape) for key, x in gates.state_dict().items()}
    if wrong := {key for key in shapes | given if shapes.get(key) != tuple(given.get(key, torch.empty(0)).shape)}:
        raise ClaimbookError(f"{inner} {len(wrong)} tensors are missing, unknown or of another shape, as {min(wrong)}")
    gates.load_state_dict(given)
    return gates.requires_grad_(False)


def read(place: str) -> dict[str, Tensor]:
    """The tensors of released gates by name, from a file or from the hub; ClaimbookError for what is none."""
    try:
        if not (path := Path(place).expanduser()).is_file():
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(place, WEIGHTS)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the hub and pickle each have errors of their own
        reason = type(error).__name__
        raise ClaimbookError(
            f"gates '{place}' are neither a file that torch.save wrote of tensors alone nor on the hub ({reason})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ClaimbookError(f"gates '{place}' are no state dict (names with their tensors): save gates.state_dict()")
    for key, one in state.items():
        plain = isinstance(one, Tensor) and one.layout == torch.strided and one.device.type == "cpu"
        if not plain or not one.is_floating_point() or not one.isfinite().all():
            raise ClaimbookError(f"gates '{place}': {key} holds no finite floating-point numbers: save them anew")
    return state


EXPERIMENT = ModelExperiment("problems", Row, problems, measure)
