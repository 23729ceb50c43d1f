"""Tasks of real items, each decided at one place of one forward pass: which option's first token is likeliest there.

The paper's models answer with letters behind long instructions; at our size that is chance, so a prompt ends where the
answer begins (our change). Options are not in the prompt. Items with two options of one first token are left out.
"""

import csv
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import yaml
from torch import Tensor

from claimbook import paths
from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.lm.load import LM

CONTENT_FREE = ("N/A", "[MASK]", "")  # Zhao et al., arXiv 2102.09690


@dataclass(frozen=True)
class Item:
    """What is asked, the options, and the place of the right one."""

    content: str
    options: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Task:
    """``template`` has one ``{}`` for the content and ends where the answer begins; ``labels``: one set of options."""

    name: str
    read: Callable[[], Iterator[Item]]
    template: str = "Answer the question.\n\nQuestion: {}\nAnswer:"
    labels: bool = False


@dataclass(frozen=True)
class Split:
    """Items to choose heads by, and items to judge by. ClaimbookError where one of these was among those: leakage."""

    choose: list[Item]
    judge: list[Item]

    def __post_init__(self):
        seen = {plain(item) for item in self.choose}
        leaked = [item for item in self.judge if plain(item) in seen]
        if leaked:
            raise ClaimbookError(
                f"{len(leaked)} of {len(self.judge)} items to judge by are among those that heads are chosen by: "
                "draw the two apart"
            )


def plain(item: Item) -> str:
    """The content, but for case, spaces and punctuation: what makes two items one."""
    return " ".join(re.findall(r"\w+", item.content.casefold()))


@lru_cache(maxsize=2)  # arms ask for the same task again and again
def usable(lm: LM, task: Task) -> list[Item]:
    """Items of a task, none twice, whose options begin with different tokens of the model."""
    found = {}
    for item in task.read():
        if len(set(first_tokens(lm, item))) == len(item.options):
            found.setdefault(plain(item), item)
    return list(found.values())


def split(items: list[Item], number: int, choose: int, judge: int, seed: int = 0) -> Split:
    """The ``number``-th of disjoint draws of ``choose`` and ``judge`` items. ClaimbookError where too few are left."""
    size = choose + judge
    if len(items) < size * (number + 1):
        there = f"there are {len(items)} whose options the model's tokenizer tells apart"
        raise ClaimbookError(f"draw {number} needs {size * (number + 1)} items, {there}: take fewer, or another model")
    order = random.Random(seed).sample(range(len(items)), len(items))[size * number : size * (number + 1)]
    drawn = [items[i] for i in order]
    return Split(drawn[:choose], drawn[choose:])


def first_tokens(lm: LM, item: Item) -> list[int]:
    """The first token of each option, as it follows the prompt; fewer where an option has none in this vocabulary."""
    at = len(_space(lm))
    return [int(one) for option in item.options for one in _answer(lm, option)[at : at + 1]]


def prompt(lm: LM, task: Task, content: str, shots: list[Item] | tuple = ()) -> Tensor:
    """Ids (T,) of a prompt, behind ``shots`` solved items; ClaimbookError where the model has no positions for it."""
    solved = [f"{task.template.format(one.content)} {one.options[one.gold]}\n\n" for one in shots]
    ids = torch.cat([lm.document("".join(solved) + task.template.format(content)), _space(lm)])
    lm.check_length(len(ids), f"a prompt of {task.name}")
    return ids


ANSWER = "Answer:"


@lru_cache(maxsize=20_000)
def _answer(lm: LM, option: str) -> Tensor:
    """Ids of an option where it follows a colon; by itself some tokenizers would begin it otherwise."""
    return lm.encode(f"{ANSWER} {option}")[len(lm.encode(ANSWER)) :]


@lru_cache(maxsize=4)
def _space(lm: LM) -> Tensor:
    """Ids of the space before an answer where it is a token of its own, else none: it belongs to the prompt."""
    ids = _answer(lm, "a")
    return ids[: next((i for i, one in enumerate(ids) if lm.tokenizer.decode([int(one)]).strip()), len(ids))]


# --- where the items come from ---------------------------------------------------------------------------------------

TRIVIA = ("general", "entertainment", "artandliterature", "worldcapitals", "greekmyth", "computers", "elements")


def trivia() -> Iterator[Item]:
    """Questions of the asset "trivia"; wrong options are answers to other questions of the same list."""
    folder = catalogue.get("trivia")
    draw = random.Random(0)
    for name in TRIVIA:
        found = yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        pairs = [(q, a[0]) for q, a in found.items() if isinstance(a, list) and _short(q, a[0])]
        for question, answer in pairs:
            yield _with_wrong(question, answer, [other for _, other in pairs], draw)


def _short(question: str, answer: str) -> bool:
    return len(question) < 110 and "http" not in question and answer.isascii() and answer.isalpha()


def _with_wrong(question: str, answer: str, others: list[str], draw: random.Random) -> Item:
    """Three wrong answers that begin with other letters, and the right one among them at a random place."""
    wrong: list[str] = []
    for other in draw.sample(others, len(others)):
        if len(wrong) < 3 and all(other[:3].lower() != one[:3].lower() for one in [answer, *wrong]):
            wrong.append(other)
    options = draw.sample([answer, *wrong], 1 + len(wrong))
    return Item(question, tuple(options), options.index(answer))


def sentiment() -> Iterator[Item]:
    """Tweets of the asset "tweets" that the crowd was sure of, as many positive as negative."""
    labels, by_label = ("negative", "positive"), {"negative": [], "positive": []}
    with catalogue.get("tweets").open(encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            text = " ".join(row["text"].split())
            if row["sentiment"] in labels and float(row["confidence"] or 0) >= 0.9 and _clean(text):
                by_label[row["sentiment"]].append(text)
    draw = random.Random(0)
    for texts in by_label.values():
        draw.shuffle(texts)
    for pair in zip(*by_label.values(), strict=False):
        yield from (Item(text, labels, place) for place, text in enumerate(pair))


def _clean(text: str) -> bool:
    return 30 <= len(text) <= 120 and "http" not in text and "\ufffd" not in text


def hypernyms() -> Iterator[Item]:
    """What a noun is a kind of, from WordNet (data/attention_calibration/hypernyms.csv)."""
    draw = random.Random(0)
    with (paths.chapter_data("attention_calibration") / "hypernyms.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            options = draw.sample([row["kind"], row["wrong_1"], row["wrong_2"], row["wrong_3"]], 4)
            yield Item(row["word"], tuple(options), options.index(row["kind"]))


NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Jack", "Kate", "Leo", "Mary", "Paul")


def counting() -> Iterator[Item]:
    """A generator of our own: who of four has the most of something."""
    draw = random.Random(0)
    for _ in range(1500):
        names, amounts = draw.sample(NAMES, 4), draw.sample(range(2, 20), 4)
        thing = draw.choice(("apples", "books", "coins", "cards", "shells", "stamps"))
        story = " ".join(f"{name} has {amount} {thing}." for name, amount in zip(names, amounts, strict=True))
        yield Item(f"{story} Who has the most {thing}?", tuple(names), amounts.index(max(amounts)))


def asked(key: str) -> Iterator[Item]:
    """Questions of the assets "arc-easy-test" and "commonsenseqa-test", with all their options."""
    for line in catalogue.get(key).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield Item(row["centerpiece"], tuple(row["options"]), row["options"].index(row["correct_options_literal"][0]))


SENTIMENT = "Is the sentence negative or positive?\n\nSentence: {}\nSentiment:"
HYPERNYM = "Answer the question with one word.\n\nQuestion: What is the word {} the name of? A kind of\nAnswer:"
TASKS = {
    task.name: task
    for task in (
        Task("trivia", trivia),
        Task("sentiment", sentiment, SENTIMENT, labels=True),
        Task("hypernyms", hypernyms, HYPERNYM),
        Task("counting", counting),
        Task("arc_easy", lambda: asked("arc-easy-test")),
        Task("commonsense", lambda: asked("commonsenseqa-test")),
    )
}
