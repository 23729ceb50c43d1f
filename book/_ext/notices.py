"""Sphinx extension: a notice on top of chapters whose stored outputs are stale or missing.

``book/_generated/notices.json`` maps page names to one line of text; claimbook/book.py writes it before each build.
"""

import json
from html import escape
from pathlib import Path


def setup(app):
    app.connect("html-page-context", add_notice)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_notice(app, page, template, context, doctree):
    path = Path(app.srcdir, "book", "_generated", "notices.json")
    notices = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if page in notices and "body" in context:
        notice = f'<div class="admonition warning"><p class="admonition-title">{escape(notices[page])}</p></div>\n'
        context["body"] = notice + context["body"]
