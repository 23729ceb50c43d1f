"""Load a causal language model from an asset, a local folder, a hub id or a tiny architecture, and prove it whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.lm import proof, tiny

SAID = 160  # characters of a library's error that are passed on
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LM:
    """A model in evaluation mode with its tokenizer; ``name`` is what the user asked for."""

    name: str
    model: torch.nn.Module
    tokenizer: object

    def encode(self, text: str) -> Tensor:
        """Token ids (T,) of ``text``, nothing added: a piece of a text."""
        before = self._before
        return self._ids(before + text)[len(self._ids(before)) :] if before else self._ids(text)

    @cached_property
    def _before(self) -> str:
        """What a piece is put behind, and cut off again: Llama-2's tokenizer begins every text with a space."""
        one, two = (self._ids("\n" * count).tolist() for count in (1, 2))
        return "\n" if len(one) > 1 and two[: len(one)] == one else ""

    def _ids(self, text: str) -> Tensor:
        """Token ids (T,) of ``text`` as its tokenizer begins one, but for special tokens."""
        ids = torch.tensor(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids, dtype=torch.long)
        rows = self.model.get_input_embeddings().weight.shape[0]
        if len(ids) and int(ids.max()) >= rows:  # a token that was added to the tokenizer and never to the model
            token = self.tokenizer.convert_ids_to_tokens(int(ids.max()))
            raise ClaimbookError(f"the text holds {token!r}, for which {self.name} has no embedding ({rows} there are)")
        return ids

    @cached_property
    def start(self) -> Tensor:
        """Ids (0,) or (1,) that the tokenizer puts before a text: BOS for Gemma and Llama, nothing for SmolLM2."""
        for text in self._texts():
            plain, whole = self._ids(text).tolist(), self.tokenizer(text).input_ids
            if plain and plain[0] in whole:
                return torch.tensor(whole[: whole.index(plain[0])], dtype=torch.long)
        raise ClaimbookError(f"the tokenizer of {self.name} turns no text into tokens: it is not whole")

    def _texts(self) -> Iterator[str]:
        """Texts of which one has a token: a vocabulary of words may hold no "a"."""
        yield "a"
        yield from self.tokenizer.get_vocab().keys() - set(self.tokenizer.all_special_tokens)

    def document(self, text: str) -> Tensor:
        """Token ids (T,) of a whole ``text``, begun as the model was trained to see it: with BOS where there is one."""
        return torch.cat([self.start, self._ids(text)])

    def single(self, text: str) -> int:
        """The id of a text that is one token; ClaimbookError when it is not."""
        ids = self.encode(text).tolist()
        if len(ids) != 1:
            raise ClaimbookError(f"{text!r} is {len(ids)} tokens for {self.name}, not one: take another model")
        return ids[0]

    @property
    def revision(self) -> str | None:
        """Commit of the hub repository the weights came from; None for local ones."""
        return getattr(self.model.config, "_commit_hash", None)

    @property
    def layers(self) -> int:
        return self.model.config.get_text_config().num_hidden_layers

    @property
    def trained_context(self) -> int:
        """Positions the model was trained on, as its configuration says, in tokens."""
        return self.model.config.get_text_config().max_position_embeddings

    @cached_property
    def longest(self) -> int | None:
        """Tokens of a text that it can read at all, where positions are learned; None where they are computed."""
        tables = {one for one in self.model.modules() if isinstance(one, torch.nn.Embedding)}
        rows = [one.num_embeddings for one in tables - {self.model.get_input_embeddings()}]
        learned = any(0 <= count - self.trained_context <= 2 for count in rows)  # OPT has two rows more, for padding
        return self.trained_context if learned else None

    def check_length(self, tokens: int, what: str) -> None:
        """ClaimbookError for a text that is longer than there are learned positions."""
        if self.longest and tokens > self.longest:
            has = f"{self.name} has {self.longest} positions"
            raise ClaimbookError(f"{what} has {tokens} tokens, and {has}: take a model that reads longer texts")


def load(name: str, device: str = "auto", dtype: str = "float32", prove: Callable | None = None) -> LM:
    """Load ``name``: a key of data/assets.yaml, ``tiny-random-<architecture>``, a local folder, or a hub id.

    ``prove(model)``: a method's own check, which raises for a model that it cannot treat. Raises ClaimbookError (one
    line, with the way out) for an unknown name, dtype or device, when the hub cannot be reached, and for a model that
    is not whole: weights missing, unknown, of another shape, NaN or infinite, a tokenizer with more ids than the model
    has embeddings. No remote code is ever run.
    """
    place, kind = pick_device(device), pick_dtype(dtype)
    if name.startswith(tiny.PREFIX):
        model, tokenizer = tiny.build(name, dtype=kind)
    else:
        model, tokenizer = _from_pretrained(name, kind)
    model = model.eval().requires_grad_(False).to(place)
    proof.finite(name, model)
    proof.vocabulary(name, model, tokenizer)
    proof.one_way(name, model)
    lm = LM(name, model, tokenizer)
    lm.start  # noqa: B018  (a tokenizer that knows no text is refused here)
    if prove:
        prove(model)
    return lm


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` takes cuda, then mps, then cpu. ClaimbookError for a device this machine lacks."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name.split(":")[0], False):
        usable = ", ".join(kind for kind, there in available.items() if there)
        raise ClaimbookError(f"device '{name}' is not available here: use auto or one of {usable}")
    return torch.device(name)


def pick_dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ClaimbookError(f"dtype '{name}' is unknown: choose from {', '.join(DTYPES)}")
    return DTYPES[name]


def _from_pretrained(name: str, dtype: torch.dtype):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # bars on stderr would be stored with the notebook
    logging.set_verbosity_error()  # what does not fit is told below, in one line
    source, local = _source(name)
    options = {"local_files_only": local, "trust_remote_code": False}  # by word: else a terminal would be asked
    whole = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # so that the tensor can be named
    what, way_out = "model", ""
    try:
        model, info = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **whole, **options)
        what, way_out = "the tokenizer of model", "; copy tokenizer.json from the model that it was made of"
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except Exception as error:  # each file format and each family has errors of its own
        raise ClaimbookError(f"{what} '{name}' could not be loaded from {_where(local, error)}{way_out}") from error
    proof.complete(name, info)
    return model, tokenizer


def _where(local: bool, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "its files: it asks for code of its own, which is never run; take a family that transformers holds"
    place = "the folder" if local else "the hub (is there a network, and access to the model?)"
    return f"{place}: {' '.join(str(error).split())[:SAID] or type(error).__name__}"


def _source(name: str) -> tuple[str, bool]:
    if name in catalogue.load_catalogue():
        return str(catalogue.get(name)), True
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser()), True
    if name.count("/") == 1:
        return name, False
    keys = [key for key, asset in catalogue.load_catalogue().items() if asset.kind == "model"]
    raise ClaimbookError(
        f"model '{name}' is not known: give one of {', '.join(keys)}, a local folder, a hub id (owner/name) "
        f"or {tiny.PREFIX}<architecture>"
    )
