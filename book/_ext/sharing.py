"""Sphinx extension: what a link to a page shows where it is shared (Open Graph: title, description, picture).

Sites ask for the picture's full address. It is full once ``html_baseurl`` names where the book is published.
"""

from html import escape
from posixpath import join, relpath

PICTURE = "_static/share.png"  # drawn after the pages by claimbook/book/share.py
DESCRIPTION = "Papers rerun, claim by claim: what each says, what would confirm or contradict it, what came out."


def setup(app):
    app.connect("html-page-context", add_tags)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_tags(app, page, template, context, doctree):
    base = app.config.html_baseurl
    picture = join(base, PICTURE) if base else relpath(PICTURE, page.rpartition("/")[0] or ".")
    title = f"{context.get('title') or 'Claimbook'}"
    tags = {
        "og:title": title if title == "Claimbook" else f"{title} · Claimbook",
        "og:type": "article" if page.startswith("notebooks/") else "website",
        "og:description": DESCRIPTION,
        "og:image": picture,
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": "The scoreboard: a row of coloured tiles for each paper, a tile for each claim",
    }
    lines = [f'<meta property="{name}" content="{escape(text, quote=True)}" />' for name, text in tags.items()]
    lines.append('<meta name="twitter:card" content="summary_large_image" />')
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines])
