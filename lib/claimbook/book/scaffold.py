"""A new chapter from the template: small, complete, and passing every check once it is run and accepted."""

import keyword
import re
from pathlib import Path

import yaml

from claimbook import files, paths
from claimbook.errors import ClaimbookError

TEMPLATE = Path(__file__).with_name("template")
PLACEHOLDER = "chapter_name"


def new(chapter: str) -> list[Path]:
    """Write ledger, notebook, method, experiments and test of a new chapter; returns their paths from the root.

    ClaimbookError for a name that is no snake_case word or none to YAML (``on``), and when any of the files is there
    already: then nothing is written. The bibliography gets an entry unless it has one.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", chapter) or keyword.iskeyword(chapter):
        raise ClaimbookError(f"a chapter's name is snake_case, like streaming_llm, not '{chapter}'")
    if not isinstance(yaml.safe_load(chapter), str):
        raise ClaimbookError(f"YAML reads '{chapter}' as {yaml.safe_load(chapter)}, no word: choose another name")
    if chapter == PLACEHOLDER:
        raise ClaimbookError(f"'{PLACEHOLDER}' is the template's own word: choose another name")
    written = {target: _filled(source, chapter) for source, target in _places(chapter).items()}
    there = [target for target in written if (paths.root() / target).exists()]
    if there:
        raise ClaimbookError(f"chapter '{chapter}' exists already ({there[0]}): choose another name")
    for target, text in written.items():
        files.write_text(paths.root() / target, text)
    return [*written, *_cite(chapter)]


def _places(chapter: str) -> dict[str, Path]:
    """Where each file of the template goes."""
    unit = Path("lib/claimbook/experiments", chapter)
    return {
        "claims.yaml": Path("data/claims", f"{chapter}.yaml"),
        "notebook.ipynb": Path("notebooks", f"{chapter}.ipynb"),
        "paper.py": Path("lib/claimbook/papers", f"{chapter}.py"),
        "experiments.py": unit / "__init__.py",
        **{name: unit / name for name in ("stored.py", "inputs.py", "measure.py", "evidence.py", "figures.py")},
        "test_chapter.py": Path("tests", f"test_{chapter}.py"),
    }


def _filled(source: str, chapter: str) -> str:
    return (TEMPLATE / source).read_text(encoding="utf-8").replace(PLACEHOLDER, chapter)


def _cite(chapter: str) -> list[Path]:
    path = Path("book/references.bib")
    text = (paths.root() / path).read_text(encoding="utf-8") if (paths.root() / path).exists() else ""
    if re.search(rf"^@\w+\{{{chapter},", text, re.MULTILINE):
        return []
    files.write_text(paths.root() / path, text + _filled("reference.bib", chapter))
    return [path]
