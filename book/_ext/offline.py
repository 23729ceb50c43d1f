"""Sphinx extension: built pages ask nothing of the network, open from disk, and are light.

Mathematics is drawn by the MathJax of the package sphinx-mathjax-offline, as SVG: browsers may refuse font files on
pages opened from disk. Only pages with mathematics load it. sphinx-thebe, which Jupyter Book always loads, is taken
out: it names a script on the network. Of the theme's icons, 1.5 MB, those stay that a page uses. A notebook's link
downloads it, where a browser would show its JSON. Buttons, boxes and lists have the names and roles that a screen
reader needs. A number that code puts into a text is bold, a sentence or a long phrase is not.
"""

import importlib.util
import re
from pathlib import Path

from sphinx.util.fileutil import copy_asset

ICONS = "_static/scripts/fontawesome.js"
ICON = re.compile(r'(?:"(?P<quoted>[a-z0-9-]+)"|\b(?P<plain>[a-z0-9]+)):\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]+",')
PATH = re.compile(r'(?:"[^"]*"|\["[^"]*","[^"]*"\])\]')  # of an icon: one drawing, or two
MATHJAX = ("tex-svg.js", "input/tex", "a11y", "sre")  # the script and what its menu may load


def setup(app):
    app.config.mathjax_path = "mathjax/tex-svg.js"
    app.connect("config-inited", without_thebe)
    app.connect("env-check-consistency", only_where_there_is_mathematics)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", with_own_icons)
    app.connect("build-finished", with_downloads)
    app.connect("build-finished", with_names)
    app.connect("build-finished", with_plain_sentences)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def without_thebe(app, config):
    for name in ("env-before-read-docs", "doctree-resolved"):
        listeners = app.events.listeners[name]
        listeners[:] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]


def copy_mathjax(app, error):
    if error or app.builder.format != "html":
        return
    package = importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations[0]
    for name in MATHJAX:
        target = Path(app.outdir, "_static", "mathjax", name)
        if not target.exists():
            copy_asset(Path(package, "static", "mathjax", name), target.parent if target.suffix else target)


def only_where_there_is_mathematics(app, env):
    """The front page lists all others, and would otherwise load MathJax for theirs."""
    domain = env.get_domain("math")
    domain.has_equations = lambda page=None: domain.data["has_equations"].get(page, False)


def with_own_icons(app, error):
    """Cut the icons' script down to what pages and the theme's own scripts name."""
    if error or app.builder.format != "html":
        return
    script = Path(app.outdir, ICONS)
    readers = [*Path(app.outdir).rglob("*.html"), *Path(app.outdir, "_static").rglob("*theme*.js")]
    used = {name for path in readers for name in re.findall(r"\bfa-([a-z0-9-]+)", path.read_text(encoding="utf-8"))}
    text = script.read_text(encoding="utf-8")
    if len(text) > 1e6:  # else it is cut already: pages were built without their static files
        script.write_text(subset(text, used), encoding="utf-8")


def subset(script: str, used: set[str]) -> str:
    """``script`` without the icons whose name and aliases are not among ``used``."""
    pieces, at = [], 0
    for icon in ICON.finditer(script):
        end = PATH.match(script, icon.end())
        names = {icon["quoted"] or icon["plain"], *re.findall(r'"([^"]+)"', icon["aliases"])}
        if icon.start() < at or end is None or names & used:
            continue
        pieces.append(script[at : icon.start()])
        at = end.end() + (script[end.end()] == ",")
    return "".join([*pieces, script[at:]])


def with_downloads(app, error):
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir, "notebooks").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        linked = re.sub(r'(<a href="[^"]*/_sources/[^"]*\.ipynb") target="_blank"', r"\1 download", text)
        path.write_text(linked, encoding="utf-8")


# What a screen reader could not name, or would name twice: (what is built, what is put in its place).
NAMES = (
    (r'(<i class="theme-switch [^>]*?) title="[^"]*"', r"\1"),  # the switch is named by its label, not by its icons too
    (r'(<button class="[^"]*search-button-field[^>]*?) aria-label="[^"]*"', r"\1"),  # by the words and keys in it
    (r'(<button class="[^"]*search-button-field[^>]*?) title="[^"]*"', r"\1"),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),  # by the words in it: "Show code cell source"
    (r'(<li class="task-list-item"><p>)(<input [^>]*>)(.*?)(</p>)', r"\1<label>\2\3</label>\4"),
    (r'role="doc-biblioentry"', 'role="listitem"'),  # of a list; the other role is deprecated
)


def with_names(app, error):
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = named = path.read_text(encoding="utf-8")
        for built, put in NAMES:
            named = re.sub(built, put, named, flags=re.DOTALL)
        if named != text:
            path.write_text(named, encoding="utf-8")


PASTED = re.compile(r'<span class="pasted-text">((?:(?!</span>).)*)</span>', re.DOTALL)
LONG = 7  # words


def plain_where_long(text: str) -> str:
    """The page with all pasted sentences and long phrases marked as such: in bold they would shout."""

    def marked(found: re.Match) -> str:
        words = re.findall(r"[^\W\d_]{2,}", re.sub(r"<[^>]*>", "", found[1]))
        kind = " sentence" if found[1].endswith(".") or len(words) >= LONG else ""
        return f'<span class="pasted-text{kind}">{found[1]}</span>'

    return PASTED.sub(marked, text)


def with_plain_sentences(app, error):
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir, "notebooks").glob("*.html"):
        path.write_text(plain_where_long(path.read_text(encoding="utf-8")), encoding="utf-8")
