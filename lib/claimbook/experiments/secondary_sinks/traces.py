"""At the gpu tier: problems of our own, and what a model writes about each, to be read in one pass afterwards."""

import torch
from torch import Tensor

from claimbook import paths
from claimbook.errors import ClaimbookError
from claimbook.lm.load import LM

CHAPTER, PROBLEMS = "secondary_sinks", "problems.txt"
TEMPLATE = "Solve the following problem. Reason step by step.\n\n{problem}\n\nSolution:\n"


@torch.no_grad()
def traces(lm: LM, count: int, tokens: int) -> list[Tensor]:
    """Each of the first ``count`` problems with what the model writes about it, greedily, ``tokens`` at most."""
    lines = (paths.chapter_data(CHAPTER) / PROBLEMS).read_text(encoding="utf-8").splitlines()
    if count > len(lines):
        raise ClaimbookError(f"there are {len(lines)} problems, {count} are asked for: lower documents=")
    found = []
    for problem in lines[:count]:
        ids = prompt(lm, problem)[None].to(lm.model.device)
        options = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        written = lm.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            pad_token_id=lm.tokenizer.eos_token_id,
            **options,
        )
        found.append(written[0].cpu())
    return found


def prompt(lm: LM, problem: str) -> Tensor:
    """Ids of a problem, behind the model's chat template where it has one."""
    if not lm.tokenizer.chat_template:
        return lm.document(TEMPLATE.format(problem=problem))
    message = [{"role": "user", "content": problem}]
    return torch.tensor(lm.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False))
