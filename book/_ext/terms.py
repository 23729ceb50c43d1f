"""Sphinx extension: a term of the glossary is explained where a page first uses it.

The first use of each term in a page's running text becomes a link to the glossary with the explanation as its title;
``tips.js`` shows it on hover, focus and touch. Headings, links, code, mathematics and tables stay as they are.
A chapter gets the terms of its own field of research, and those of no field: a loss of next tokens is no loss of masks.
"""

import re

from docutils import nodes

from claimbook.book import scoreboard

GLOSSARY = "book/glossary"
EVERYDAY = {  # terms that the text also uses as plain words, where an explanation would be wrong
    "accept", "asset", "bound", "cap", "chapter", "claim", "control", "deviation", "fresh", "gap", "head", "null",
    "part", "scope", "seed", "unit", "void",
}  # fmt: skip
PLAIN = (nodes.paragraph,)
NOT_IN = (nodes.reference, nodes.literal, nodes.math, nodes.raw, nodes.entry, nodes.title, nodes.caption, nodes.term)


def setup(app):
    app.connect("doctree-resolved", explain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def explain(app, tree, page):
    if app.builder.format != "html" or page == GLOSSARY or GLOSSARY not in app.env.found_docs:
        return
    if not hasattr(app.env, "claimbook_terms"):
        app.env.claimbook_terms = terms(app.env.get_doctree(GLOSSARY))
    left = of_page(page, app.env.claimbook_terms)
    address = app.builder.get_relative_uri(page, GLOSSARY)
    linked_by_hand(tree, left)
    for text in list(tree.findall(nodes.Text)):
        if left and _is_running_text(text):
            text.parent.replace(text, linked(text.astext(), left, address))


def linked_by_hand(tree, left: dict[str, tuple[str, str]]) -> None:
    """Links to terms that the page has itself are explained like the others, and their terms taken out of ``left``."""
    names = {anchor: name for name, (anchor, _) in left.items()}
    for link in tree.findall(nodes.reference):
        name = names.get(link.get("refuri", "").rpartition("#")[2])
        if name in left:
            link["reftitle"] = left.pop(name)[1]
            link["classes"].append("term")


def of_page(page: str, sections: dict[str, dict[str, tuple[str, str]]]) -> dict[str, tuple[str, str]]:
    """The terms that ``page`` explains: a chapter, all but those of the other chapters' fields; other pages, all."""
    field = {f"notebooks/{chapter.key}": chapter.subject for chapter in scoreboard.chapters()}
    others = set(field.values()) - {field[page]} if page in field else set()
    return {name: one for title, held in sections.items() if title not in others for name, one in held.items()}


def terms(glossary) -> dict[str, dict[str, tuple[str, str]]]:
    """Section, a field of research or another -> term -> its id on the glossary's page, and its explanation there."""
    found = {}
    for item in glossary.findall(nodes.definition_list_item):
        term = next(item.findall(nodes.term))
        name = term.astext().split("\n")[0].strip()
        definition = next(item.findall(nodes.definition)).astext()
        if name not in EVERYDAY and term["ids"]:
            found.setdefault(_section(item), {})[name] = term["ids"][0], " ".join(definition.split())
    return found


def _section(node) -> str:
    while not isinstance(node, nodes.section):
        node = node.parent
    return next(node.findall(nodes.title)).astext().lower()


def _is_running_text(text) -> bool:
    around, node = [], text.parent
    while node is not None:
        around.append(node)
        node = node.parent
    return any(isinstance(one, PLAIN) for one in around) and not any(isinstance(one, NOT_IN) for one in around)


def linked(text: str, left: dict[str, tuple[str, str]], address: str) -> list:
    """``text`` as nodes, the first use of each term in ``left`` linked, and taken out of it."""
    pieces = []
    while left:
        longest_first = sorted(left, key=len, reverse=True)
        pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, longest_first))})(s?)(?![\w-])", re.IGNORECASE)
        hit = pattern.search(text)
        if hit is None:
            break
        name = next(one for one in longest_first if one.lower() == hit[1].lower())
        anchor, explanation = left.pop(name)
        link = nodes.reference("", hit[0], refuri=f"{address}#{anchor}", internal=True, classes=["term"])
        link["reftitle"] = explanation
        pieces += [nodes.Text(text[: hit.start()]), link]
        text = text[hit.end() :]
    return [*pieces, nodes.Text(text)]
