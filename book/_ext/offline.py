"""Sphinx extension: built pages ask nothing of the network and open from disk.

Mathematics is drawn by the MathJax of the package sphinx-mathjax-offline, as SVG: browsers may refuse font files on
pages opened from disk. sphinx-thebe, which Jupyter Book always loads, is taken out: it names a script on the network.
"""

import importlib.util
from pathlib import Path

from sphinx.util.fileutil import copy_asset

MATHJAX = ("tex-svg.js", "input/tex", "a11y", "sre")  # the script and what its menu may load


def setup(app):
    app.config.mathjax_path = "mathjax/tex-svg.js"
    app.connect("config-inited", without_thebe)
    app.connect("build-finished", copy_mathjax)
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
