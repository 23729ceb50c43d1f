"""Two gates: can so small a model do the task at all? If not, there is nothing for a cache to keep or to lose.

Question answering (Table 5) and questions about long documents (Table 8) ask for exact words.
"""

import json
import re
from pathlib import Path

import torch

from claimbook.assets import catalogue
from claimbook.lm import corpora
from claimbook.lm.load import LM, load


def run(config: dict, work: Path, progress) -> dict:
    """Stored run: greedy answers to ARC-Easy questions after one example, and to what a given article is about."""
    lm = load(config["model"], "cpu")
    items = [("arc", item) for item in questions(config["n_questions"])]
    items += [("articles", item) for item in articles(lm, config)]
    rows = {"arc": [], "articles": []}
    for i, (name, item) in enumerate(items):
        said = answer(lm, item.pop("prompt"), config["new_tokens"])
        rows[name].append(
            {"asked": item["asked"], "wanted": item["wanted"], "said": said, "exact": said_it(said, item)}
        )
        progress((i + 1) / len(items), name)
    return {"metrics": {name: sum(row["exact"] for row in found) for name, found in rows.items()}, "curves": rows}


def questions(count: int) -> list[dict]:
    """``count`` ARC-Easy questions with their options, each after the same worked example, the first of the file."""
    lines = catalogue.get("arc-easy-test").read_text(encoding="utf-8").splitlines()
    example, *rest = [json.loads(line) for line in lines[: count + 1]]
    shot = f"Question: {asked(example)}\nAnswer: {wanted(example)}\n\n"
    return [
        {"prompt": f"{shot}Question: {asked(item)}\nAnswer:", "asked": asked(item), "wanted": wanted(item)}
        for item in rest
    ]


def asked(item: dict) -> str:
    return f"{item['centerpiece']} Options: {'; '.join(item['options'])}."


def wanted(item: dict) -> str:
    return item["correct_options_literal"][0].rstrip(".")


def articles(lm: LM, config: dict) -> list[dict]:
    """Articles that fit the window, each with the one question that every article answers: what is it about?"""
    found = []
    for document in corpora.documents(lm, config["text"], config["article_tokens"], config["n_articles"]):
        question = "\n\nQuestion: What is the title of this encyclopedia article?\nAnswer: The title is"
        prompt = lm.tokenizer.decode(document.ids) + question
        found.append({"prompt": prompt, "asked": "the title", "wanted": document.title})
    return found


@torch.no_grad()
def answer(lm: LM, prompt: str, new_tokens: int) -> str:
    """The first line of the model's greedy answer; it may not end before it began."""
    ids = lm.document(prompt)[None].to(lm.model.device)
    out = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, min_new_tokens=4, do_sample=False
    )
    return lm.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip().split("\n")[0]


def said_it(said: str, item: dict) -> bool:
    """Exact match as usual for such tasks: no case, no punctuation, no articles."""
    return plain(said) == plain(item["wanted"])


def plain(text: str) -> str:
    return " ".join(word for word in re.sub(r"[^a-z0-9 ]", " ", text.lower()).split() if word not in {"a", "an", "the"})
