"""Converters, one per form in which an asset comes; run in a process of their own.

    python -m claimbook.convert CONVERTER RAW TARGET [PACKAGE …]

RAW is the folder of verified files; TARGET the folder (model) or the JSON-lines file (text) to write. A converter's
version is part of the identity of its assets: whoever changes what it yields raises the version, here and in
``data/assets.yaml``.
"""

import bz2
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path


def gguf(raw: Path, target: Path, packages: list[str]) -> None:
    """One GGUF file, whole or in parts -> a transformers folder with float32 safetensors and tokenizer.json."""
    parts = sorted(raw.iterdir())
    whole = raw / "model.gguf"
    parts[0].rename(whole)
    with whole.open("ab") as file:
        for part in parts[1:]:
            file.write(part.read_bytes())
            part.unlink()

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quantised = AutoModelForCausalLM.from_pretrained(raw, gguf_file=whole.name, dtype=torch.float32)
    # The weights are plain float32 by now, yet the object still counts as quantised and refuses to be saved:
    # move them into a fresh one.
    del quantised.config.quantization_config
    model = type(quantised)(quantised.config)
    model.load_state_dict(quantised.state_dict(), strict=True)
    model.generation_config = quantised.generation_config
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(raw, gguf_file=whole.name).save_pretrained(target)


def wikitext(raw: Path, target: Path, packages: list[str]) -> None:
    """A MediaWiki dump -> one line per article with text, in dump order; no redirects, only the article namespace."""
    from claimbook import wikitext

    (dump,) = raw.iterdir()
    with bz2.open(dump) as pages:
        _write(target, wikitext.articles(pages))


def _write(target: Path, documents: Iterable[tuple[str, str]]) -> None:
    with target.open("w", encoding="utf-8", newline="\n") as file:
        for title, text in documents:
            file.write(json.dumps({"title": title, "text": text}, ensure_ascii=False) + "\n")


CONVERTERS = {"gguf@1": gguf, "wikitext@1": wikitext}


def main(name: str, raw: str, target: str, *packages: str) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if name not in CONVERTERS:
        sys.exit(f"no converter '{name}'; there are {', '.join(CONVERTERS)}")
    CONVERTERS[name](Path(raw), Path(target), list(packages))


if __name__ == "__main__":
    main(*sys.argv[1:])
