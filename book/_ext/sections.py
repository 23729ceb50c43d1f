"""Sphinx extension: the search finds sections and claims, with an excerpt, also in a book opened from disk.

``_static/sections.js`` holds the text of every section of the built pages; ``search_sections.js`` looks in it. The
theme's own search finds pages, and would have to fetch them for an excerpt, which browsers refuse from disk.
"""

import json
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

SKIPPED = ("script", "style", "svg", "button", "nav", "form", "pre")  # code too: it is read where it stands
VOID = ("area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
BLOCKS = ("p", "li", "td", "th", "tr", "div", "dt", "dd", "summary", "figcaption", "section", "article")
HEADINGS = ("h1", "h2", "h3", "h4")
LONGEST = 6000  # characters of a section that are searched


def setup(app):
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(app, error):
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    found = []
    for folder in ("book", "notebooks"):
        for path in sorted((out / folder).glob("*.html")):
            page = path.relative_to(out).as_posix()
            found += [[page, *section] for section in sections(path.read_text(encoding="utf-8"))]
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    (out / "_static" / "sections.js").write_text(f"window.claimbookSections = {text};\n", encoding="utf-8")


def sections(html: str) -> list[tuple[str, str, str]]:
    """Anchor, title and text of each section and each claim's card of a page, in its order; no text twice."""
    reader = _Reader()
    reader.feed(html)
    return [(anchor, _plain(title), _plain(text)[:LONGEST]) for anchor, title, text in reader.found if _plain(title)]


def _plain(pieces: list[str]) -> str:
    return " ".join("".join(pieces).split())


@dataclass
class _Place:
    """An open element: its tag, the section it stands in (-1: none), whether it is a title, or not read at all."""

    tag: str
    section: int = -1
    title: bool = False
    skipped: bool = False


class _Reader(HTMLParser):
    """Collects text under the innermost section or card around it; folded claims are left to their chapters."""

    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, list[str], list[str]]] = []
        self._open = [_Place("")]

    def handle_starttag(self, tag, attributes):
        if tag in VOID:
            return
        has, around = dict(attributes), self._open[-1]
        classes = (has.get("class") or "").split()
        skipped = around.skipped or tag in SKIPPED or bool({"headerlink", "entry"} & set(classes))
        place = _Place(tag, around.section, around.title or tag in HEADINGS or "claim-title" in classes, skipped)
        if (tag == "section" or (tag == "article" and "claim" in classes)) and has.get("id") and not skipped:
            self.found.append((has["id"], [], []))
            place.section = len(self.found) - 1
        self._open.append(place)

    def handle_endtag(self, tag):
        if tag in [place.tag for place in self._open[1:]]:
            while self._open.pop().tag != tag:
                pass
            self.handle_data(" " if tag in BLOCKS else "")

    def handle_data(self, data):
        place = self._open[-1]
        if place.section >= 0 and not place.skipped:
            _, title, text = self.found[place.section]
            (title if place.title else text).append(data)
