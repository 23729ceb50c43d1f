"""Sphinx extension: figures in the page's own colours, and links to claims.

A figure's output holds a PNG, and HTML that only the book shows. ``[C3](#streaming_llm.C3)`` on any page leads to the
claim's card, which `run.judge` shows and which brings its own anchor. A claim that has not been run has no card yet:
there the link leads to the top of its chapter.
"""

import json

from claimbook import paths
from claimbook.book import scoreboard
from claimbook.display.tables import anchor_id
from claimbook.plotting import FOR_BOOK


def setup(app):
    app.connect("source-read", with_figures)
    app.connect("env-check-consistency", register)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def register(app, env):
    labels = env.get_domain("std").anonlabels
    for chapter in scoreboard.chapters():
        if paths.notebook(chapter.key).is_file():
            for standing in chapter.standings:
                name = standing.anchor
                labels[name.lower()] = f"notebooks/{chapter.key}", anchor_id(name) if standing.entry else ""


def with_figures(app, page, source):
    if not page.startswith("notebooks/"):
        return
    nb = json.loads(source[0])
    for output in (output for cell in nb["cells"] for output in cell.get("outputs", [])):
        data = output.get("data", {})
        for kind in [kind for kind in data if kind.endswith(FOR_BOOK)]:
            data[kind.replace(FOR_BOOK, "text/html")] = data.pop(kind)
    source[0] = json.dumps(nb)
