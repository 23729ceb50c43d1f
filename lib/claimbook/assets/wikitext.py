"""Plain text of Wikipedia articles: what a reader reads, without tables, pictures, footnotes, formulae and link lists.

Rendered node by node from mwparserfromhell's tree. Templates are dropped, save the few that stand inside a sentence.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import BinaryIO

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Tag, Template, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

DROPPED_TAGS = {"ref", "references", "table", "gallery", "math", "source", "timeline", "imagemap", "score", "hr"}
DROPPED_SECTIONS = {
    "bibliography", "citations", "external links", "footnotes", "further reading", "gallery", "notes",
    "notes and references", "references", "references and notes", "see also", "sources", "works cited",
}  # fmt: skip
NO_WORDS = re.compile(r"\s*(file|image|category|[a-z]{2,3})\s*:", re.IGNORECASE)  # link prefixes, languages too
# Templates that stand inside a sentence: those that are a mark, that show their first value, or their last.
MARKS = {
    "'s": "'s", "'": "'", "' \"": "' \"", "\" '": "\" '", "·": " · ", "nbsp": " ", "space": " ", "spaces": " ",
    "sep": " ", "ndash": "–", "spaced ndash": " – ", "snd": " – ", "mdash": "—", "mdashb": "—", "eqm": "⇌",
}  # fmt: skip
FIRST = {"angbr", "big", "linktext", "nihongo", "nowrap", "quote", "sc", "small", "smaller", "val", "vanchor"}
LAST = {"lang", "transl"}
# What the parser trips over: comments, footnotes, and tables (the innermost first, see `plain`).
NOT_SHOWN = re.compile(r"<!--.*?-->|<ref\b[^<>]*/>|<ref\b[^<>]*>.*?</ref\s*>", re.DOTALL | re.IGNORECASE)
TABLE = re.compile(r"^[ :*]*\{\|(?:(?!^[ :*]*\{\|).)*?^\s*\|\}(?!\})", re.DOTALL | re.MULTILINE)
DEBRIS = re.compile(r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}|</?\w+[^<>]*>")
HEADING = "\x00"  # marks a heading's line until its section proves not to be empty


def articles(dump: BinaryIO) -> Iterator[tuple[str, str]]:
    """(title, plain text) of every article of a MediaWiki XML dump; redirects and empty articles are left out."""
    for _, page in ElementTree.iterparse(dump):
        if _local(page) != "page":
            continue
        fields = {_local(element): element.text for element in page.iter()}
        if fields["ns"] == "0" and "redirect" not in fields and (text := plain(fields["text"] or "")):
            yield fields["title"], text
        page.clear()


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def plain(wikitext: str) -> str:
    """Plain text of one article: paragraphs and headings, an empty line between them."""
    wikitext, tables = NOT_SHOWN.sub("", wikitext), 1
    while tables:
        wikitext, tables = TABLE.subn("", wikitext)
    pieces, skipping = [], 7  # level of the dropped section we are in; 7: in none
    for node in mwparserfromhell.parse(wikitext).nodes:
        if isinstance(node, Heading) and node.level <= skipping:
            skipping = node.level if _text(node.title).strip().lower() in DROPPED_SECTIONS else 7
        if skipping == 7:
            pieces.append(_render(node))
    return _tidy("".join(pieces))


def _text(code: Wikicode | None) -> str:
    return "".join(map(_render, code.nodes)) if code else ""


def _render(node) -> str:
    match node:
        case Text():
            return str(node)
        case HTMLEntity():
            return node.normalize()
        case Heading():
            return f"\n\n{HEADING * node.level}{_text(node.title).strip()}\n\n"
        case Wikilink():
            return "" if NO_WORDS.match(str(node.title)) else _text(node.text or node.title)
        case ExternalLink():
            return _text(node.title)
        case Tag():
            if str(node.tag).lower() in DROPPED_TAGS:
                return ""
            return "\n" if str(node.tag).lower() == "br" else _text(node.contents)
        case Template():
            return _template(node)
    return ""  # comments, template arguments


def _template(node: Template) -> str:
    """The words a template puts into a sentence; of all others nothing."""
    name = str(node.name).strip().lower()
    values = [_text(parameter.value).strip() for parameter in node.params if not parameter.showkey]
    if name in MARKS or not values:
        return MARKS.get(name, "")
    if name == "convert":  # {{convert|5|to|10|km|mi}}: up to the first unit
        unit = next((i for i, value in enumerate(values) if not re.fullmatch(r"[\d.,/+−-]+|to|and|or|by|x", value)), 0)
        return " ".join(values[: unit + 1])
    if name == "as of":
        return f"{'as' if node.has('lc') else 'As'} of {' '.join(values)}"
    if name in LAST or name.startswith("lang-"):
        return values[-1]
    if name in ("frac", "sfrac"):
        return "/".join(values)
    return "".join(values) if name == "chem" else values[0] if name in FIRST else ""


def _tidy(text: str) -> str:
    """Close the gaps that dropped nodes leave; drop empty sections and lines in which markup is left."""
    text = re.sub(r"'{2,}|__[A-Z]+__", "", text).replace("\u00a0", " ")
    text = re.sub(r"\([\s,;:·]*\)", "", text)
    text = re.sub(r"\(\s*[,;:]?\s*", "(", text)
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" +([,.;:)])", r"\1", text)
    lines = [line.strip(" *#:;|") for line in text.split("\n")]
    lines = [line if re.search(r"\w", line) and not DEBRIS.search(line) else "" for line in lines]
    text = re.sub(r"\n{2,}", "\n\n", "\n".join(_without_empty_sections(lines))).strip()
    return text.replace(HEADING, "")


def _without_empty_sections(lines: list[str]) -> list[str]:
    """Drop every heading after which no text comes before the next heading of its level or a higher one."""
    kept, below = [], 0  # level of the heading that follows without text between; 7: text follows; 0: the end
    for line in reversed(lines):
        level = len(line) - len(line.lstrip(HEADING))
        if line and not level:
            below = 7
        elif level and level >= below:
            continue
        elif level:
            below = level
        kept.append(line)
    return kept[::-1]
