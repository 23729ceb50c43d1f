"""The book: pages generated from ledgers and results, and a strict build that asks nothing of the network.

``book/*.md`` is written by hand and includes fragments from ``book/_generated/``, which only this module writes. So
no number on a page is typed.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from claimbook import files, paths
from claimbook.errors import ClaimbookError

INPUTS = ("book/**/*", "notebooks/*.ipynb", "data/claims/*", "data/results/**/*", "data/assets.yaml")
INPUTS += ("requirements.lock", "data/model_families.json", "data/faults.json", "data/sweeps/*/*.json")
COMMAND = ["-c", "from jupyter_book.cli.main import main; main()", "build", "."]
COMMAND += ["--config", "book/_config.yml", "--toc", "book/_generated/_toc.yml", "-n", "--keep-going"]


def build(strict: bool = True, stale: Mapping[str, list[str]] | None = None) -> Path:
    """Generate the pages, build the book with warnings as errors, check it; return its front page.

    Nothing is built when nothing it shows has changed since the last successful build. ``stale`` names chapters whose
    stored outputs no longer match the code, and for each what changed: their pages carry a notice. ``strict=False``
    lets warnings pass, for drafts. Raises ClaimbookError, after printing what Sphinx or the checks found.
    """
    html, stamp = paths.root() / "_build" / "html", paths.root() / "_build" / "book.inputs"
    stale = stale or {}
    inputs = f"{_inputs_digest()} strict={strict} stale={sorted(stale.items())}"
    if stamp.is_file() and stamp.read_text() == inputs and (html / "index.html").is_file():
        return html / "index.html"
    stamp.unlink(missing_ok=True)
    generate(stale)
    # From nothing, every time: Sphinx repeats no warning of a page it does not read again, so a second strict build
    # would pass where the first one failed.
    shutil.rmtree(html, ignore_errors=True)
    shutil.rmtree(html.parent / ".doctrees", ignore_errors=True)
    _sphinx(strict)
    _share(html)
    _check(html)
    files.write_text(stamp, inputs)
    return html / "index.html"


def _inputs_digest() -> str:
    found = {path for pattern in INPUTS for path in paths.root().glob(pattern) if path.is_file()}
    library = Path(__file__).parents[1]
    found |= {path for room in ("book", "claims", "assets", "display") for path in (library / room).glob("*.py")}
    found.add(library / "provenance" / "seals.py")
    skipped = ("_generated", "__pycache__", ".ipynb_checkpoints")
    digest = hashlib.sha256()
    for path in sorted(path for path in found if not set(path.parts) & set(skipped)):
        digest.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _sphinx(strict: bool) -> None:
    run = subprocess.run(
        [sys.executable, *COMMAND, *(["-W"] if strict else [])],
        cwd=paths.root(),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if run.returncode:
        text = re.sub(r"\x1b\[[\d;]*m", "", run.stdout + run.stderr).replace(f"{paths.root()}{os.sep}", "")
        lines = text.splitlines()
        found = [line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line)]
        print("\n".join(found or lines[-30:]), file=sys.stderr)
        raise ClaimbookError(f"the book does not build: {len(found) or 'no'} warnings or errors, listed above")


def _share(html: Path) -> None:
    """The picture that pages name in their ``og:image``."""
    from claimbook.book import scoreboard, share

    share.draw(scoreboard.chapters(), html / "_static" / "share.png")


def _check(html: Path) -> None:
    from claimbook.book import htmlcheck

    found = [f"asks the network: {line}" for line in htmlcheck.outside_requests(html)]
    found += [f"dead link: {line}" for line in htmlcheck.dead_links(html)]
    if found:
        print("\n".join(found), file=sys.stderr)
        raise ClaimbookError(f"the built book has {len(found)} dead links or calls to the network, listed above")


# --- generated fragments -------------------------------------------------------------------------------------------


def generate(stale: Mapping[str, list[str]]) -> list[Path]:
    """Write every fragment under ``book/_generated/`` anew; returns the files."""
    from claimbook.book import every, example, findings, freshness, pages, scoreboard

    book, today = scoreboard.chapters(), date.today()
    fragments = {
        "_toc.yml": _contents(book),
        "summary.md": scoreboard.summary(book),
        "revised.md": scoreboard.revised(book),
        "controls.md": scoreboard.controls_due(book),
        "example.md": example.worked_example(),
        "tiles.md": pages.tiles(book),
        "papers.md": pages.counts_table(book),
        "findings.md": findings.shown(book),
        "claims.md": every.claims(book),
        "downloads.md": pages.stacked(pages.downloads()),
        "launching.md": pages.launching(),
        "benchmarks.md": pages.benchmarks(),
        "families.md": pages.families(),
        "faults.md": pages.faults(),
        "freshness_chapters.md": freshness.chapters(book, stale, today),
        "freshness_stale.md": freshness.to_do(book, stale),
        "freshness_runs.md": freshness.runs(book, today),
        "notices.json": json.dumps({"notices": _notices(book, stale), "not_run": _not_run(book)}),
    }
    folder = paths.root() / "book" / "_generated"
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in fragments.items():
        files.write_text(folder / name, text + "\n")
    return [folder / name for name in fragments]


def _contents(book) -> str:
    """The table of contents, its chapters in the one order of the book; those of no known paper stand last."""
    text = (paths.root() / "book" / "_toc.yml").read_text(encoding="utf-8")
    known = [chapter.key for chapter in book]
    there = [name for name in paths.chapters() if paths.notebook(name).exists()]
    there.sort(key=lambda key: known.index(key) if key in known else len(known))
    chapters = "\n".join(f"      - file: notebooks/{key}" for key in there)
    return text.replace("      - glob: notebooks/*", chapters)


def _notices(book, stale: Mapping[str, list[str]]) -> dict[str, str]:
    """Page -> one line on top of it, for chapters whose page does not show a fresh reference run."""
    old = "Stale: the code, claims or data behind this page changed after the run that it shows."
    new = "Not run yet: this chapter has no reference run."
    return {f"notebooks/{key}": old for key in stale} | dict.fromkeys(_not_run(book), new)


def _not_run(book) -> list[str]:
    """Pages without results: what their prose would quote is missing, and that alone shall not fail the build."""
    return [f"notebooks/{chapter.key}" for chapter in book if not chapter.result]


# --- README --------------------------------------------------------------------------------------------------------


def readme_scoreboard() -> str:
    """What stands in the README between the scoreboard's markers."""
    from claimbook.book import pages, scoreboard

    book = scoreboard.chapters()
    return "\n\n".join([scoreboard.summary(book), scoreboard.revised(book), pages.counts_in_words(book)])


def readme_downloads() -> str:
    """What stands in the README between the markers of the downloads: what is fetched without being asked for."""
    from claimbook.book import pages

    return pages.downloads(("pypi", "installed"))


def current_readme() -> str:
    """README.md as it should stand, its generated blocks made anew."""
    text = (paths.root() / "README.md").read_text(encoding="utf-8")
    for name, block in {"scoreboard": readme_scoreboard(), "downloads": readme_downloads()}.items():
        text, found = re.subn(
            rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)",
            lambda match, block=block: f"{match[1]}{block}\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
        if found != 1:
            raise ClaimbookError(f"README.md has {found} blocks '{name}:start' … '{name}:end': it needs one")
    return text


def update_readme() -> bool:
    """Bring README.md up to date; True when that changed it."""
    path, text = paths.root() / "README.md", current_readme()
    if path.read_text(encoding="utf-8") == text:
        return False
    files.write_text(path, text)
    return True
