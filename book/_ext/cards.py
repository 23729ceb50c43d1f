"""Sphinx extension: ``[C3](#streaming_llm.C3)`` on any page leads to the claim's card in its chapter.

The card, which `run.judge` shows, brings its own anchor. A claim that has not been run has no card yet: there the link
leads to the top of its chapter.
"""

from claimbook import paths
from claimbook.book import scoreboard
from claimbook.display.tables import anchor_id


def setup(app):
    app.connect("env-check-consistency", register)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def register(app, env):
    labels = env.get_domain("std").anonlabels
    for chapter in scoreboard.chapters():
        if paths.notebook(chapter.key).is_file():
            for standing in chapter.standings:
                name = standing.anchor
                labels[name.lower()] = f"notebooks/{chapter.key}", anchor_id(name) if standing.entry else ""
