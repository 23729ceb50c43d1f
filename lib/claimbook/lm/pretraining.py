"""Text to train tiny decoders on: a small BPE tokenizer, documents packed into chunks, and the paper's controls."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError

END, FIXED = 0, 1  # ids of <|end|>, which closes every document, and of the token that no text contains
HELD_OUT = 50  # every so-manieth document is for validation


class Corpus(BaseModel):
    """Which text a decoder sees, and how it is cut.

    ``texts``: text assets. Documents end with <|end|>, are put end to end in a fixed random order and cut into chunks
    of ``length`` + 1 tokens; ``start`` "document" begins each chunk with a document instead. ``unique_tokens`` keeps
    only the first so many. ``fixed`` and ``random``: positions, from 0, where every chunk has the same token or a
    uniformly random one, in training and in validation (section 5 of arXiv 2410.10781).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: tuple[str, ...]
    tokenizer: str  # file under data/
    length: int
    start: Literal["packed", "document"] = "packed"
    unique_tokens: int | None = None
    fixed: tuple[int, ...] = ()
    random: tuple[int, ...] = ()


def train_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE with ``vocabulary`` ids, of which 0 is <|end|> and 1 the fixed token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|end|>", "<|fixed|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """A stored tokenizer; ClaimbookError when the file is missing or damaged."""
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise ClaimbookError(f"tokenizer {path.name} cannot be read ({error}): restore it from git") from error


@lru_cache(maxsize=2)
def encoded(texts: tuple[str, ...], path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Documents for training and for validation as token ids, each closed by <|end|>, in a fixed random order."""
    tokenizer = load_tokenizer(path)
    documents = [text["text"] for key in texts for text in catalogue.texts(key)]
    order = np.random.default_rng(0).permutation(len(documents))
    ids = []
    for part in np.array_split(order, max(1, len(order) // 2000)):  # encodings are large: not all at once
        ids += [
            np.array([*one.ids, END], dtype=np.uint16)
            for one in tokenizer.encode_batch([documents[i] for i in part], add_special_tokens=False)
        ]
    held_out = ids[::HELD_OUT]
    return [one for i, one in enumerate(ids) if i % HELD_OUT], held_out


class Chunks:
    """The chunks of a corpus: ``batch(step, size, seed)`` for training, ``held_out(count, length)`` for validation."""

    def __init__(self, corpus: Corpus, folder: Path):
        self.corpus = corpus
        path = folder / corpus.tokenizer
        self.vocabulary = load_tokenizer(path).get_vocab_size()
        training, validation = encoded(corpus.texts, path)
        self.training = cut(training, corpus, corpus.unique_tokens)
        self.validation = cut(validation, corpus)

    @property
    def tokens(self) -> int:
        """Unique tokens of the training chunks."""
        return self.training.size

    def batch(self, step: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
        """Ids and targets (size, length) of one step: every chunk once an epoch, in an order of its own."""
        places = np.arange(step * size, (step + 1) * size)
        epochs, places = np.divmod(places, len(self.training))
        count = len(self.training)
        rows = [self.training[_order(count, seed, epoch)[at]] for epoch, at in zip(epochs, places, strict=True)]
        return self._controlled(np.stack(rows), seed=(seed, step))

    def held_out(self, count: int, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Ids and targets (count, length) of the first validation chunks, cut to ``length`` tokens."""
        if count > len(self.validation):
            raise ClaimbookError(f"the corpus holds {len(self.validation)} validation chunks, {count} are asked for")
        ids, targets = self._controlled(self.validation[:count], seed=(0,))
        return ids[:, :length], targets[:, :length]

    def _controlled(self, rows: np.ndarray, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Overwrite the controlled positions, then shift: what is written is also what must be predicted."""
        rows = rows.astype(np.int64)
        for position in self.corpus.fixed:
            rows[:, position] = FIXED
        for position in self.corpus.random:
            rng = np.random.default_rng((*seed, position))
            rows[:, position] = rng.integers(FIXED + 1, self.vocabulary, len(rows))
        ids = torch.from_numpy(rows)
        return ids[:, :-1], ids[:, 1:]


def cut(documents: list[np.ndarray], corpus: Corpus, limit: int | None = None) -> np.ndarray:
    """Chunks (n, length + 1) of the documents put end to end; ClaimbookError when there is not one."""
    stream = np.concatenate(documents)[:limit]
    size = corpus.length + 1
    if corpus.start == "packed":
        starts = np.arange(0, len(stream) - size + 1, size)
    else:
        begins = np.cumsum([0, *(len(one) for one in documents)])
        starts, free = [], 0
        for begin in begins[begins <= len(stream) - size]:
            if begin >= free:
                starts.append(begin)
                free = begin + size
    if not len(starts):
        raise ClaimbookError(f"{', '.join(corpus.texts)}: too few tokens ({len(stream):,}) for a chunk of {size}")
    return stream[np.asarray(starts)[:, None] + np.arange(size)]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
