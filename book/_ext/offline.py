"""Sphinx extension: built pages ask nothing of the network, open from disk, and are light.

Mathematics is drawn by the MathJax of the package sphinx-mathjax-offline, as SVG: browsers may refuse font files on
pages opened from disk. Only pages with mathematics load it. sphinx-thebe, which Jupyter Book always loads, is taken
out: it names a script on the network. Of the theme's icons, 1.5 MB, those stay that a page uses. A notebook's link
downloads it, where a browser would show its JSON. The switch of the theme has one name for a screen reader.
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
    app.connect("build-finished", with_one_name)
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


def with_one_name(app, error):
    """The switch between light and dark is named by its label; its icons would add names of their own."""
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        named = re.sub(r'(<i class="theme-switch [^>]*?) title="[^"]*"', r"\1", text)
        if named != text:
            path.write_text(named, encoding="utf-8")
