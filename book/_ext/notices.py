"""Sphinx extension: says on top of a chapter that its outputs are stale, or that it was not run yet.

``book/_generated/notices.json``, which claimbook/book.py writes before each build, names the pages. A chapter that was
never run has no values to quote: there the places of glued values say so. Everywhere else a missing value is an error.
"""

import json
import re
from html import escape
from pathlib import Path

GLUE_BLOCK = re.compile(r"^```\{glue.*?^```$", re.MULTILINE | re.DOTALL)
GLUE_ROLE = re.compile(r"\{glue:\w*\}`[^`]*`")


def setup(app):
    app.connect("source-read", without_values)
    app.connect("html-page-context", add_notice)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def read(app) -> dict:
    path = Path(app.srcdir, "book", "_generated", "notices.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"notices": {}, "not_run": []}


def without_values(app, page, source):
    if page not in read(app)["not_run"]:
        return
    nb = json.loads(source[0])
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = GLUE_ROLE.sub("*not run yet*", GLUE_BLOCK.sub("", "".join(cell["source"])))
    source[0] = json.dumps(nb)


def add_notice(app, page, template, context, doctree):
    notices = read(app)["notices"]
    if page in notices and "body" in context:
        notice = f'<div class="admonition warning"><p class="admonition-title">{escape(notices[page])}</p></div>\n'
        context["body"] = notice + context["body"]
