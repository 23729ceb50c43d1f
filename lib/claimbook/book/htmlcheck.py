"""Checks on built pages: nothing asks the network, no link is dead."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that a browser loads on its own; an <a href> is only followed when the reader asks for it.
LOADED = {"src", "srcset", "data", "poster", "xlink:href"}
ADDRESS = re.compile(r"(?:https?:)?//[\w.-]+\.\w", re.IGNORECASE)


class _Page(HTMLParser):
    """Collects the links, the loaded addresses, the ids and the inline scripts and styles of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.ids: set[str] = set()
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._inside = tag if tag in ("script", "style") else ""
        for name, value in attributes:
            if not value:
                continue
            if name in ("id", "name"):
                self.ids.add(value)
            if tag == "a" and name == "href":
                self.links.append(value)
            elif name in LOADED or (tag in ("link", "use", "image") and name == "href"):
                self.loaded.append(value)
            elif name == "style":
                self.inline.append(value)

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, text):
        if self._inside:
            self.inline.append(text)


def _pages(html: Path) -> dict[Path, _Page]:
    """Every page by its path; ``_static`` holds the theme's templates, which are none."""
    found = [path for path in sorted(html.rglob("*.html")) if "_static" not in path.relative_to(html).parts]
    return {path: _Page(path.read_text(encoding="utf-8")) for path in found}


def outside_requests(html: Path) -> list[str]:
    """Addresses that opening the pages under ``html`` would load from a network: scripts, styles, images, frames.

    Scripts written into a page count by every address in them. Script files are not read: they are those of the pinned
    packages.
    """
    found = []
    html = html.resolve()
    for path, page in _pages(html).items():
        bad = [one for one in page.loaded if ADDRESS.match(one)]
        bad += [one for text in page.inline for one in re.findall(r"https?://[^\s\"')]+", text)]
        found += [f"{path.relative_to(html)}: {one}" for one in bad]
    for path in sorted(html.rglob("*.css")):
        loads = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(html)}: {one}" for one in loads]
    return found


def dead_links(html: Path) -> list[str]:
    """Links between the pages under ``html`` that lead to no file or to no place in it."""
    html = html.resolve()
    pages = _pages(html)
    return [
        f"{path.relative_to(html)}: {link}"
        for path, page in pages.items()
        for link in dict.fromkeys(page.links + page.loaded)
        if not _leads_somewhere(path, link, pages)
    ]


def _leads_somewhere(path: Path, link: str, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:  # mailto, data, https
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return False
    if not parts.fragment or parts.fragment == "top" or target not in pages:
        return True
    if parts.fragment.startswith("?"):  # choices of the filter, see book/_static/claims.js
        return "claim-filter" in pages[target].ids
    return unquote(parts.fragment) in pages[target].ids
