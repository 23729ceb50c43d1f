"""Texts as token ids: whole documents, streams of documents, and a screen for what a model has memorised."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.lm.load import LM
from claimbook.lm.losses import hidden_states, logits


@dataclass(frozen=True)
class Document:
    title: str
    ids: Tensor  # (T,)


def documents(lm: LM, key: str, length: int, count: int | None = None) -> list[Document]:
    """The first ``count`` documents of text asset ``key`` with at least ``length`` tokens, in order, cut to it.

    Raises ClaimbookError when there are fewer.
    """
    found = []
    for text in catalogue.texts(key):
        if count is not None and len(found) == count:
            break
        ids = lm.document(text["text"])
        if len(ids) >= length:
            found.append(Document(text["title"], ids[:length]))
    if count is not None and len(found) < count:
        raise ClaimbookError(
            f"'{key}' has {len(found)} documents of {length} tokens for {lm.name}, {count} are asked for"
        )
    return found


def joined(lm: LM, key: str, whole: int, length: int, count: int) -> list[Document]:
    """``count`` texts of ``length`` tokens: each a document of at least ``whole`` tokens, then shorter ones to fill it.

    No document is used twice, and each text has the title of its first. Raises ClaimbookError when they do not suffice.
    """
    every = [Document(text["title"], lm.document(text["text"])) for text in catalogue.texts(key)]
    fillers = iter([document for document in every if len(document.ids) < whole])
    found = []
    for first in [document for document in every if len(document.ids) >= whole][:count]:
        ids = first.ids
        while len(ids) < length:
            filler = next(fillers, None)
            if filler is None:
                raise ClaimbookError(f"'{key}' is too short for {count} texts of {length} tokens for {lm.name}")
            ids = torch.cat([ids, filler.ids])
        found.append(Document(first.title, ids[:length]))
    if len(found) < count:
        raise ClaimbookError(
            f"'{key}' has {len(found)} documents of {whole} tokens for {lm.name}, {count} are asked for"
        )
    return found


def endless(lm: LM, keys: list[str]) -> Iterator[Document]:
    """Every document of the text assets ``keys``, one after the other, whole."""
    for key in keys:
        for text in catalogue.texts(key):
            yield Document(text["title"], lm.document(text["text"]))


def concatenated(lm: LM, keys: list[str], length: int) -> tuple[Tensor, list[tuple[int, str]]]:
    """The first ``length`` tokens of the documents of ``keys`` put end to end, and where each document starts."""
    parts, starts, total = [], [], 0
    for document in endless(lm, keys):
        starts.append((total, document.title))
        parts.append(document.ids)
        total += len(document.ids)
        if total >= length:
            return torch.cat(parts)[:length], starts
    raise ClaimbookError(f"{', '.join(keys)} hold {total:,} tokens for {lm.name}, fewer than the {length:,} asked for")


def own_text(lm: LM, path: str, length: int, count: int) -> list[Document]:
    """The first ``count`` documents of ``length`` tokens that a reader's own text file is cut into, or fewer.

    The name of a control token in it is text: else whoever writes it could begin a text anew in the middle. Raises
    ClaimbookError when the file is missing, not UTF-8 text, or too short for one document.
    """
    room = length - len(lm.start)  # each piece gets its own start
    plain = replace(lm, tokenizer=copy.copy(lm.tokenizer))
    plain.tokenizer.split_special_tokens = True
    try:
        with open(path, encoding="utf-8-sig") as file:  # a byte-order mark is no part of a text
            text = file.read()
        ids = _first_ids(plain, text, room * count)
    except (OSError, UnicodeDecodeError) as error:
        raise ClaimbookError(f"text '{path}' cannot be read as UTF-8 text: {error}") from error
    pieces = [torch.cat([lm.start, piece]) for piece in ids.split(room) if len(piece) == room]
    if not pieces:
        raise ClaimbookError(f"text '{path}' has {len(ids)} tokens for {lm.name}: at least {length} are needed")
    return [Document(f"part {i + 1}", piece) for i, piece in enumerate(pieces)]


def _first_ids(lm: LM, text: str, count: int) -> Tensor:
    """The first ``count`` ids of a text, or all; of 50 MB only a beginning is tokenised, as all would take 6 GB."""
    characters = 16 * count
    ids = lm.encode(text[:characters])
    while len(ids) < 2 * count and characters < len(text):  # twice as many: the cut may move the last of them
        characters *= 2
        ids = lm.encode(text[:characters])
    return ids[:count]


@torch.no_grad()
def continued_verbatim(lm: LM, ids: Tensor, prompts: int = 8, given: int = 50, expected: int = 10) -> float:
    """Share of ``prompts`` passages whose next ``expected`` tokens the model greedily continues word for word.

    Each is ``given`` tokens of ``ids`` (T,), evenly spaced, without what came before: a screen for memorised text.
    """
    starts = torch.linspace(0, len(ids) - given - expected, prompts).long()
    rows = [torch.cat([lm.start, ids[start : start + given + expected]]) for start in starts.tolist()]
    rows = torch.stack(rows).to(lm.model.device)
    hidden = hidden_states(lm.model, rows)[:, -expected - 1 : -1]
    return float((logits(lm.model, hidden).argmax(-1) == rows[:, -expected:]).all(dim=1).float().mean())
