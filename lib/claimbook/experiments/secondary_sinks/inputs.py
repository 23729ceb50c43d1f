"""Models and texts of the chapter by tier: articles, the reader's own file, and what a model writes about problems."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from claimbook import paths
from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments.secondary_sinks.stored import STORED
from claimbook.lm import corpora
from claimbook.lm.load import LM

PAPERS = ("Qwen/Qwen3-4B-Base", "Qwen/Qwen3-14B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "Qwen/QwQ-32B")
ARTICLES, TRACES = "wikipedia-excerpt", "traces"
TEXTS = {"smoke": ARTICLES, "cpu": ARTICLES, "gpu": TRACES}
LONGEST = 16_384  # tokens that a model writes about a problem, at most, as in the paper
TEMPLATE = "Solve the following problem. Reason step by step.\n\n{problem}\n\nSolution:\n"
_WHOLE = STORED["texts"].config["length"]


def settings(run, documents: int = 0) -> dict:
    """What is measured live of a model or text that no stored run speaks for; ``documents`` 0: 24, of a smoke run 1.

    A seed other than 0 draws other articles.
    """
    config = {"text": run.text, "seed": run.seed, "n_texts": documents or (1 if run.smoke else 24)}
    return config | ({"length": 200} if run.smoke else {})


def texts(lm: LM, config: dict) -> dict[str, Tensor]:
    """Texts (T,) by name, cut to ``length`` tokens, and to what the model was trained on.

    Articles are those of the stored runs, with a ``seed`` others; a shorter ``length`` gives beginnings of the same.
    ClaimbookError when there are too few.
    """
    key, count, length = config["text"], config["n_texts"], min(config["length"], lm.trained_context)
    if key == TRACES:
        limit = min(LONGEST, lm.trained_context // 2)
        whole = config["length"] == _WHOLE  # traces are read whole where articles are
        return {f"problem {i + 1}": ids[: limit if whole else length] for i, ids in enumerate(traces(lm, count, limit))}
    if key not in catalogue.load_catalogue():
        found = corpora.own_text(lm, key, length, count)
        if len(found) < count:
            raise ClaimbookError(
                f"text '{key}' makes {len(found)} texts of {length} tokens for {lm.name}, {count} are asked for: "
                f"give a longer text, or `-p documents={len(found)}`"
            )
        return {document.title: document.ids for document in found}
    least = min(_WHOLE, lm.trained_context)
    if not config["seed"]:
        first = config["skip"] if key == ARTICLES else 0
        found = corpora.documents(lm, key, least, first + count)[first:]
    else:
        every = corpora.documents(lm, key, least)
        if len(every) < count:
            raise ClaimbookError(
                f"'{key}' has {len(every)} texts for {lm.name}, {count} are asked for: lower documents"
            )
        found = [every[i] for i in np.random.default_rng(config["seed"]).permutation(len(every))[:count]]
    return {f"{i}: {document.title}": document.ids[:length] for i, document in enumerate(found)}


def has_chat(lm: LM, config: dict) -> bool:
    """Whether a chat template stands before a text: then the primary is one of the first three tokens."""
    return config["text"] == TRACES and bool(lm.tokenizer.chat_template)


@lru_cache(maxsize=1)
@torch.no_grad()
def traces(lm: LM, count: int, tokens: int) -> list[Tensor]:
    """Each of the first ``count`` problems of our own with what the model writes about it, ``tokens`` at most."""
    lines = (paths.chapter_data("secondary_sinks") / "problems.txt").read_text(encoding="utf-8").splitlines()
    if count > len(lines):
        raise ClaimbookError(f"there are {len(lines)} problems, {count} are asked for: lower documents")
    found = []
    for problem in lines[:count]:
        ids = prompt(lm, problem)[None].to(lm.model.device)
        written = lm.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            pad_token_id=lm.tokenizer.eos_token_id,
            **{"do_sample": False, "temperature": None, "top_p": None, "top_k": None},
        )
        found.append(written[0].cpu())
    return found


def prompt(lm: LM, problem: str) -> Tensor:
    """Ids of a problem, behind the model's chat template where it has one."""
    if not lm.tokenizer.chat_template:
        return lm.document(TEMPLATE.format(problem=problem))
    message = [{"role": "user", "content": problem}]
    return torch.tensor(lm.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False))
