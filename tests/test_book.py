"""The book: strict, offline, current; and each of its checks can fail."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
import yaml

import browser
from claimbook import commands, paths
from claimbook.book import build, drawing, every, example, findings, freshness, htmlcheck, pages, scoreboard, share
from claimbook.claims import words
from claimbook.display.tables import anchor_id
from claimbook.errors import ClaimbookError
from claimbook.plotting import FOR_BOOK
from claimbook.provenance import seals
from claimbook.runs import checks

REPOSITORY = Path(__file__).parents[1]

PART = {"name": "drops", "quantity": "loss, with minus without", "type": "at_most", "bound": 0.5, "why": "Table 1",
        "precision": {"min_n": 20}, "controls": "due"}  # fmt: skip
CLAIM = {
    "title": "The first tokens keep the loss low",
    "text": "Keeping the first tokens keeps the loss low.",
    "where": "Table 1",
    "source": "abstract",
    "kind": "result",
    "scope": "universal",
    "published": {"value": 955, "unit": "ratio", "note": "Llama-2-13B", "read_in": "ocr"},
    "weight": 2,
    "pilot_seen": "none",
    "version": 1,
    "tiers": {"cpu": "reduced", "gpu": "exact"},
    "parts": [PART],
}
UNTESTED = {"not_tested": "needs_weights", "why": "the checkpoint was never released"}
LEDGER = {
    "paper": {"title": "A dummy paper", "authors": "A. Nobody", "year": 2024, "bib": "streaming_llm"},
    "models": ["smollm2-135m"],
    "claims": [
        CLAIM | {"id": "C1", "deviations": ["another text", "a smaller model"]},
        CLAIM | {"id": "C2", "weight": 1, "text": "It holds for $n > 2$ | always."},
        CLAIM | {"id": "C3", "tiers": {"cpu": "toy", "gpu": "toy"}},
        CLAIM | {"id": "C4", "parts": [], "tiers": {"cpu": UNTESTED, "gpu": UNTESTED}},
        CLAIM | {"id": "C5", "kind": "premise"},
        CLAIM | {"id": "C6", "source": "ours", "published": {"value": None, "read_in": "none"}},
        CLAIM | {"id": "C7", "version": 2, "changelog": [
            {"version": 2, "date": date(2026, 11, 23), "change": "bound", "old_verdict": "reproduced"}]},
    ],
}  # fmt: skip

CARD = {
    "chapter": "streaming_llm",
    "claim": "C1",
    "part": "drops",
    "sentence": "The loss drops by {ours}, over {ours.sample}; half would be {bound}.",
    "plot": {"title": "loss, with minus without, in nats"},
    "values": {"ours": {"label": "SmolLM2"}, "bound": {"label": "what we asked for", "take": "bound"}},
    "less": ["ours", "bound"],
}


def measured(verdict: str, fidelity: str = "reduced", state: str = "met") -> dict:
    part = {"state": state, "because": "wholly in the accepted region", "estimate": 0.1234, "interval": [0.1, 0.15],
            "n": 24, "method": "bootstrap", "scale": "linear", "unit": "documents"}  # fmt: skip
    return {"verdict": verdict, "fidelity": fidelity, "version": 1, "reason": None, "published": 955,
            "parts": {"drops": part}, "speaks_for": None, "deviations": []}  # fmt: skip


RESULT = {
    "chapter": "streaming_llm",
    "tier": "cpu",
    "status": "success",
    "parameters": {},
    "claims": {
        "C1": measured("reproduced"),
        "C2": measured("not_transferred", state="not_met"),
        "C3": measured("reproduced", "toy"),
        "C4": measured("not_tested", None) | {"parts": {}, "reason": "needs_weights"},
        "C5": measured("reproduced"),
        "C6": measured("partial"),
        "C7": measured("reproduced"),
    },
    "cost": {"wall_s": 96.4, "peak_mem_mb": 1234.5, "device": "cpu"},
    "provenance": {"started": "2026-11-20T23:30:00+00:00", "machine": "AMD EPYC, 2 cores, 24 GB"},
}
STORED_RUN = {"started": "2026-11-18T09:00:00+00:00", "wall_s": 3661.0, "machine": "Intel, 9 cores, 8 GB, NVIDIA H"}
CHANGED = "stale (changed: cells): `claimbook rerun streaming_llm`, then `claimbook accept streaming_llm`"


def notebook(chapter: str, glued: str | None) -> str:
    """A page with mathematics, a quoted value, and, where it was run, the cell that glues it and the claims' cards."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    text = f"# A dummy chapter\n\n{{cite:t}}`{chapter}` keeps $a_0 = 1$. Outcome: {{glue:text}}`headline`.\n"
    output = {"output_type": "display_data", "data": {"text/plain": "'2 of 5'"}}
    output["metadata"] = {"scrapbook": {"name": glued, "mime_prefix": ""}}
    outputs = [nbformat.from_dict(output)] if glued else []
    ids = [anchor_id(f"{chapter}.{claim['id']}") for claim in LEDGER["claims"]]
    cards = "".join(f'<p id="{one}">card</p>' for one in ids)
    figure = {"image/png": "iVBORw0KGgo=", FOR_BOOK: '<figure class="plot">a drawing for the book</figure>'}
    shown = [nbformat.v4.new_output("display_data", data) for data in ({"text/html": cards}, figure) if glued]
    nb.cells = [
        nbformat.v4.new_markdown_cell(text),
        nbformat.v4.new_code_cell("run.glue('headline', '2 of 5')", outputs=outputs, metadata={"tags": ["hide-input"]}),
        nbformat.v4.new_markdown_cell("## Sums\n\n$$\\sum_t a_t = 1$$"),
        nbformat.v4.new_code_cell("run.judge('C1')", outputs=shown),
    ]
    return nbformat.writes(nb)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make(root: Path) -> None:
    """A small repository: the hand-written pages of this book, one chapter that was run, one that never was."""
    skip = shutil.ignore_patterns("_generated", "__pycache__")
    shutil.copytree(REPOSITORY / "book", root / "book", ignore=skip, dirs_exist_ok=True)
    judging = root / "book" / "judging.md"  # names claims that this small book lacks
    write(judging, re.sub(r"\[([^\]]*)\]\(#\w+\.C\d+\)", r"\1", judging.read_text(encoding="utf-8")))
    write(root / "book" / "findings.yaml", yaml.safe_dump([CARD], sort_keys=False))
    for name in ("README.md", "data/assets.yaml", "requirements.lock"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    ledger = yaml.safe_dump(LEDGER, sort_keys=False)
    write(root / "data/claims/streaming_llm.yaml", ledger)
    seals.write(root / "data/results/streaming_llm.json", RESULT)
    seals.write(root / "data/results/streaming_llm/cpu--gemma-3-270m.json", RESULT)
    seals.write(root / "data/sweeps/streaming_llm/documents.json", STORED_RUN)
    write(root / "notebooks/streaming_llm.ipynb", notebook("streaming_llm", glued="headline"))
    write(root / "data/claims/trim_kv.yaml", ledger.replace("bib: streaming_llm", "bib: trim_kv"))
    write(root / "notebooks/trim_kv.ipynb", notebook("trim_kv", glued=None))


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A small repository to doctor; not built."""
    make(tmp_path)
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The same, built strictly, the chapter that was run being stale; yields its root."""
    root = tmp_path_factory.mktemp("book")
    make(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLAIMBOOK_ROOT", str(root))
        assert build.build(strict=True, stale={"streaming_llm": [CHANGED]}) == root / "_build" / "html" / "index.html"
    return root


def page(root: Path, name: str) -> str:
    return (root / "_build" / "html" / name).read_text(encoding="utf-8")


# --- the built book ------------------------------------------------------------------------------------------------


def test_a_figure_is_shown_in_the_colours_of_the_page(built):
    shown = page(built, "notebooks/streaming_llm.html")
    assert "a drawing for the book" in shown and "iVBORw0KGgo" not in shown
    assert not list((built / "_build" / "html" / "_images").glob("*.png"))


def test_the_front_page_shows_every_claim_and_every_planned_paper(built):
    assert 'url=book/index.html"' in page(built, "index.html")
    front = page(built, "book/index.html")
    for claim in LEDGER["claims"]:  # C7 was not judged in its present version, so that it has no card to lead to
        place = "" if claim["id"] == "C7" else f"#streaming-llm-{claim['id'].lower()}"
        assert f'href="../notebooks/streaming_llm.html{place}" title="{claim["id"]} {claim["title"]} (' in front
    assert "from 2 papers; 7 more papers are planned" in front
    assert "Gated Attention for Large Language Models" in front and "Xiao et al. 2024 · language models" in front
    assert '<span class="tile planned">planned</span>' in front


def test_the_front_page_shows_the_findings_with_their_plots(built):
    front = page(built, "book/index.html")
    assert "The loss drops by <strong>0.123</strong>, over 24 documents; half would be <strong>0.5</strong>." in front
    plot = front[front.index('<figure class="small-plot">') :]
    assert 'role="img" aria-label="loss, with minus without, in nats: SmolLM2 0.123, what we asked for 0.5"' in plot
    assert plot.index("<title>loss, with minus") < plot.index("<desc>The loss drops by 0.123")
    assert 'href="../notebooks/streaming_llm.html#streaming-llm-c1">C1: ' in plot


def test_a_shared_link_has_a_picture_and_a_description(built):
    front, chapter = page(built, "book/index.html"), page(built, "notebooks/streaming_llm.html")
    for text, kind in ((front, "website"), (chapter, "article")):
        assert '<meta property="og:image" content="../_static/share.png" />' in text
        assert f'<meta property="og:type" content="{kind}" />' in text
    assert '<meta content="Papers rerun, claim by claim' in front and "A dummy chapter · Claimbook" in chapter
    picture = (built / "_build/html/_static/share.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and picture[16:24] == (1200).to_bytes(4) + (630).to_bytes(4)


def test_pages_ask_nothing_of_the_network_and_have_no_dead_link(built):
    html = built / "_build" / "html"
    assert htmlcheck.outside_requests(html) == [] and htmlcheck.dead_links(html) == []
    assert "unpkg" not in page(built, "notebooks/streaming_llm.html")
    assert '"../_static/mathjax/tex-svg.js' in page(built, "notebooks/streaming_llm.html")
    assert (html / "_static/mathjax/tex-svg.js").is_file()


def test_a_stale_chapter_and_one_never_run_say_so(built):
    stale, never = page(built, "notebooks/streaming_llm.html"), page(built, "notebooks/trim_kv.html")
    assert "Stale: " in stale and "2 of 5" in stale
    assert "Not run yet: " in never and "<em>not run yet</em>" in never and "Stale: " not in never


def test_a_chapter_can_be_downloaded(built):
    assert (built / "_build/html/_sources/notebooks/streaming_llm.ipynb").is_file()
    chapter = page(built, "notebooks/streaming_llm.html")
    assert '<a href="../_sources/notebooks/streaming_llm.ipynb" download' in chapter


def test_pages_are_light(built):
    html = built / "_build" / "html"
    icons = (html / "_static/scripts/fontawesome.js").read_text(encoding="utf-8")
    assert 'title="System Settings"' not in page(built, "book/index.html"), "the switch has a label"
    assert len(icons) < 1.5e5 and '"magnifying-glass":[' in icons and '"magnifying-glass-plus":[' not in icons
    assert "tex-svg.js" not in page(built, "book/index.html") and "tex-svg.js" in page(built, "book/glossary.html")
    for path in html_pages(built):
        loaded = [one.split("?")[0] for one in htmlcheck._Page(path.read_text(encoding="utf-8")).loaded]
        local = {path.parent / one for one in loaded if one.endswith((".js", ".css")) and "mathjax" not in one}
        size = path.stat().st_size + sum(one.stat().st_size for one in local)
        assert size < 2e6, f"{path.name} weighs {size / 1e6:.1f} MB"


def test_a_term_is_explained_at_its_first_use_alone(built):
    judging = page(built, "book/judging.html")
    terms = re.findall(r'<a class="term[^>]*href="glossary.html#term-([^"]+)" title="([^"]+)"', judging)
    assert dict(terms)["ledger"].startswith("The file with a chapter") and len(terms) == len(dict(terms))
    assert 'class="term' not in page(built, "book/glossary.html")


def test_a_chapter_explains_the_terms_of_its_own_field_and_of_none(project, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "book" / "_ext"))
    import terms

    held = {"running": {"rerun": 1}, "language models": {"loss": 2}, "medical imaging": {"dice": 3}}
    assert terms.of_page("notebooks/streaming_llm", held) == {"rerun": 1, "loss": 2}
    assert terms.of_page("notebooks/ascites_ct", held) == {"rerun": 1, "dice": 3}
    assert terms.of_page("book/judging", held) == {"rerun": 1, "loss": 2, "dice": 3}
    fields = {chapter.subject for chapter in scoreboard.chapters()}
    sections = re.findall("^## (.*)", (project / "book/glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert fields <= {one.lower() for one in sections}, "a field without a section of its name"


def test_a_term_that_a_page_links_by_hand_is_not_linked_again(monkeypatch):
    from docutils import nodes

    monkeypatch.syspath_prepend(str(REPOSITORY / "book" / "_ext"))
    import terms

    left = {"perplexity": ("term-perplexity", "The exponential."), "dense attention": ("term-dense", "All.")}
    link = nodes.reference("", "perplexity", refuri="glossary.html#term-perplexity")
    terms.linked_by_hand(nodes.paragraph("", "", link), left)
    assert link["reftitle"] == "The exponential." and link["classes"] == ["term"] and list(left) == ["dense attention"]
    pieces = terms.linked("Undense attention, dense attention, dense attention; perplexity", left, "glossary.html")
    assert [one.astext() for one in pieces] == [
        "Undense attention, ",
        "dense attention",
        ", dense attention; perplexity",
    ]
    assert pieces[1]["refuri"] == "glossary.html#term-dense" and not left


def test_the_search_knows_sections_and_claims_but_no_text_twice(built):
    text = (built / "_build/html/_static/sections.js").read_text(encoding="utf-8")
    found = json.loads(text.removeprefix("window.claimbookSections = ").rstrip().rstrip(";"))
    places = [(page, anchor) for page, anchor, _, _ in found]
    assert len(set(places)) == len(places) and ("book/judging.html", "fidelity") in places
    assert [title for page, anchor, title, _ in found if anchor == "sums"] == ["Sums", "Sums"]
    assert not any("Keeping the first tokens keeps" in one[3] for one in found if one[0] == "book/scoreboard.html")


def test_nothing_is_built_twice_and_a_change_is_built(built, monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(built))
    monkeypatch.setattr(build, "_sphinx", lambda strict: pytest.fail("built again"))
    assert build.build(strict=True, stale={"streaming_llm": [CHANGED]}).is_file()
    before = build._inputs_digest()
    for name in ("data/results/streaming_llm.json", "notebooks/trim_kv.ipynb", "book/glossary.md", "book/_config.yml"):
        text = (built / name).read_text()
        write(built / name, text + " ")
        assert build._inputs_digest() != before, name
        write(built / name, text)
    write(built / "book/_generated/summary.md", "changed")
    assert build._inputs_digest() == before


# --- the built book in a browser -----------------------------------------------------------------------------------

in_a_browser = pytest.mark.skipif(browser.command() is None, reason="no Chromium; see QUARANTINES.md")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.opened(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def html_pages(root: Path) -> list[Path]:
    html = root / "_build" / "html"
    return [*sorted((html / "book").glob("*.html")), html / "notebooks/streaming_llm.html", html / "search.html"]


@in_a_browser
def test_a_browser_with_the_network_off_finds_no_fault(built, tab):
    html = built / "_build" / "html"
    found = {path.name: tab.visit(path) for path in [*html_pages(built), html / "index.html"]}
    bad = html / "bad.html"
    write(bad, '<script src="https://example.org/x.js"></script><script>console.error("no"); nothing()</script>')
    complaints = "\n".join(tab.visit(bad))
    bad.unlink()
    assert not any(found.values()), found
    assert all(word in complaints for word in ("https://example.org/x.js", "no", "Uncaught")), complaints


# Pictures and drawings of the text that a screen reader could not name; a button's icon is named by the button.
WITHOUT_WORDS = """[...document.querySelectorAll(
    'img:not([alt]), .bd-article svg[role=img]:not([aria-hidden=true], [aria-label], [aria-labelledby])'
)].filter((one) => !one.closest('button')).map((one) => one.outerHTML.slice(0, 200))"""


@in_a_browser
def test_a_browser_on_a_phone_never_scrolls_sideways(built, tab):
    tab.resize(360, 740)
    wide = {}
    for path in html_pages(built):
        tab.visit(path)
        wide[path.name] = tab.evaluate("document.documentElement.scrollWidth")
        silent = tab.evaluate(WITHOUT_WORDS)
        assert silent == [], f"{path.name}: pictures without words"
    tab.resize(1280, 800)
    assert max(wide.values()) <= 360, wide


def looked_at(root: Path) -> list[Path]:
    """Pages whose look is tested: of the small book, and of the whole one where $CLAIMBOOK_HTML names it."""
    whole = Path(os.environ.get("CLAIMBOOK_HTML") or "nothing")
    return [*html_pages(root), *sorted(whole.glob("book/*.html")), *sorted(whole.glob("notebooks/*.html"))]


def faults(root: Path, tab, scheme: str, look: Callable[[], list[str]]) -> dict[str, list[str]]:
    """What ``look`` finds on each page in a colour scheme; pages on which it finds nothing are left out."""
    tab.scheme(scheme)
    found = {}
    for path in looked_at(root):
        tab.visit(path)
        found[f"{path.parent.name}/{path.stem}"] = look()
    return {name: those for name, those in found.items() if those}


def test_boxes_lists_and_buttons_have_names_and_roles(built):
    boxes = re.findall(r"<label><input [^>]*task-list-item-checkbox[^>]*>", page(built, "book/add_a_paper.html"))
    assert len(boxes) == page(built, "book/add_a_paper.html").count("task-list-item-checkbox") >= 9
    cited = page(built, "book/bibliography.html")
    assert 'role="list"' in cited and 'role="listitem"' in cited and "doc-biblioentry" not in cited
    button = re.search(r'<button class="[^"]*search-button-field[^>]*>', page(built, "book/index.html"))[0]
    assert "aria-label" not in button and "title" not in button, "it is named by the words in it"
    chapter = page(built, "notebooks/streaming_llm.html")
    assert re.search(r'<details class="admonition hide[^>]*>\s*<summary>', chapter), "folded code by the words shown"


def test_a_sentence_that_code_chose_is_not_bold_as_its_numbers_are(monkeypatch):
    monkeypatch.syspath_prepend(paths.root() / "book" / "_ext")
    import offline

    kinds = {
        "44 %": "",
        "0.17 [0.12, 0.22]": "",
        "The <i>loss</i> falls.": " sentence",
        "two are inconclusive, one is only in part met": " sentence",
    }
    put = "".join(f'<span class="pasted-text">{text}</span>' for text in kinds)
    made = [f'<span class="pasted-text{kind}">{text}</span>' for text, kind in kinds.items()]
    assert offline.plain_where_long(put) == "".join(made)


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_every_text_in_enough_contrast(built, tab, scheme):
    faint = faults(built, tab, scheme, tab.too_faint)
    bad = built / "_build" / "html" / "bad.html"
    write(bad, '<body style="background: #fff"><p style="color: #777">faint</p><p style="color: #767676">not faint')
    tab.visit(bad)
    assert tab.too_faint() == ["p. 4.48: 119,119,119 on 255,255,255: faint"]
    bad.unlink()
    assert faint == {}


@in_a_browser
@pytest.mark.slow
@pytest.mark.skipif(browser.axe() is None, reason="no axe-core; see QUARANTINES.md")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(built, tab, scheme):
    grave = faults(built, tab, scheme, lambda: tab.grave(browser.axe()))
    bad = built / "_build" / "html" / "bad.html"
    write(bad, '<html lang="en"><title>bad</title><main><img src="x.png"></main></html>')
    tab.visit(bad)
    assert [one.split(",")[0] for one in tab.grave(browser.axe())] == ["image-alt"]
    bad.unlink()
    assert {name: found for name, found in grave.items() if found} == {}


def test_a_tile_is_read_on_its_own_colour():
    def light(colour: str) -> float:
        full = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
        parts = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    css = (REPOSITORY / "book/_static/claimbook.css").read_text(encoding="utf-8")
    tiles = re.findall(r"^\.tile\.([\w-]+),.*background: #(\w+); color: #(\w+);", css, re.MULTILINE)
    assert {name for name, _, _ in tiles} == {name for _, name in words.VERDICTS.values()}
    for name, back, ink in tiles:
        high, low = sorted([light(back), light(ink)], reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, name
        assert share.COLOURS[name.replace("-", " ")] == f"#{back}", "the shared picture and the drawing have others"


TOTAL = "document.querySelector('.filter-total').textContent"
SHOWN = "[...document.querySelectorAll('details.entry')].filter((one) => one.offsetParent).length"


@in_a_browser
def test_a_browser_filters_claims_by_keyboard_and_keeps_the_address(built, tab):
    page = built / "_build/html/book/scoreboard.html"
    tab.visit(page)
    assert tab.evaluate(TOTAL).startswith("14 of 14 claims.") and tab.evaluate(SHOWN) == 14
    tab.evaluate("document.querySelector('[name=verdict]').focus()")
    tab.press("ArrowDown", 40)
    assert tab.evaluate("location.hash") == "#?verdict=reproduced"
    total = "3 of 14 claims. 1 reproduced. On toys: 1 reproduced. In no total: 1 reproduced."
    assert tab.evaluate(TOTAL) == total and tab.evaluate(SHOWN) == 3
    tab.evaluate("document.querySelector('[name=headline]').focus()")
    tab.press(" ", 32, " ")
    assert tab.evaluate("location.hash") == "#?verdict=reproduced&headline=1"
    tab.visit(page, "#?paper=trim_kv&sort=headline&words=holds+always")
    assert tab.evaluate(SHOWN) == 1 and tab.evaluate("document.querySelector('[name=paper]').value") == "trim_kv"
    tab.evaluate("document.querySelector('.claim-filter').reset()")
    time.sleep(0.2)
    assert tab.evaluate(SHOWN) == 14
    tab.evaluate("document.querySelector('.filter-questions a').click()")
    time.sleep(0.2)
    assert tab.evaluate(TOTAL) == "1 of 14 claims. 1 not transferred."


@in_a_browser
def test_a_browser_opens_a_claim_at_its_address(built, tab):
    page = built / "_build/html/book/scoreboard.html"
    tab.visit(page, "#streaming-llm-c2")
    opened = "[...document.querySelectorAll('details.entry[open] article.claim')].map((one) => one.id).join()"
    assert tab.evaluate(opened) == "streaming-llm-c2"
    tab.evaluate("location.hash = '#?verdict=contradicted'")
    time.sleep(0.2)
    assert tab.evaluate(SHOWN) == 0 and "Nothing fits" in tab.evaluate(TOTAL)
    tab.evaluate("location.hash = '#streaming-llm-c3'")
    time.sleep(0.2)
    assert tab.evaluate(opened) == "streaming-llm-c2,streaming-llm-c3" and tab.evaluate(SHOWN) == 14


@in_a_browser
def test_a_browser_finds_sections_with_excerpts(built, tab):
    assert tab.visit(built / "_build/html/search.html", "?q=dummy+keeps") == []
    first = "document.querySelector('.section-results li')"
    assert tab.evaluate(f"{first}.querySelector('a').getAttribute('href')").startswith("notebooks/streaming_llm.html#")
    assert tab.evaluate(f"{first}.querySelectorAll('mark').length") >= 1
    tab.visit(built / "_build/html/search.html", "?q=zzzz")
    assert "Nothing with “zzzz”" in tab.evaluate("document.querySelector('.search-sections').textContent")


@in_a_browser
def test_a_browser_tells_what_a_tile_and_a_term_say(built, tab):
    tab.visit(built / "_build/html/book/index.html")
    tab.press("Tab", 9)  # from the keyboard, so that a focus is one to be seen
    tab.evaluate("document.querySelector('.scoreboard .tile').focus()")
    told = "document.querySelector('.tip')?.textContent"
    assert tab.evaluate(told).startswith("C1 The first tokens keep the loss low (reproduced · reduced · headline")
    tab.press("Escape", 27)
    assert tab.evaluate(told) is None
    tab.visit(built / "_build/html/notebooks/streaming_llm.html")
    tab.press("Tab", 9)
    cited = "#a-dummy-chapter p a[href*='bibliography.html#']"
    tab.evaluate(f'document.querySelector("{cited}").focus()')
    assert "Efficient streaming language models with attention sinks" in tab.evaluate(told)
    tab.resize(390, 800, touch=True)
    tab.visit(built / "_build/html/book/index.html")
    tab.tap(".scoreboard .tile")
    assert "C1 The first tokens" in tab.evaluate(told) and tab.evaluate("location.pathname").endswith("index.html")
    tab.tap(".scoreboard .tile")
    assert tab.evaluate("location.pathname").endswith("streaming_llm.html")
    tab.visit(built / "_build/html/notebooks/streaming_llm.html")
    tab.tap(cited)
    assert "Guangxuan Xiao" in tab.evaluate(told) and tab.evaluate("location.pathname").endswith("streaming_llm.html")
    tab.tap(cited)
    assert tab.evaluate("location.pathname").endswith("bibliography.html")
    tab.resize(1280, 800)


CODE = "[...document.querySelectorAll('div.cell_input')].map((one) => one.checkVisibility()).join()"


@in_a_browser
def test_a_browser_shows_all_code_or_none_and_remembers_it(built, tab):
    chapter = built / "_build/html/notebooks/streaming_llm.html"
    tab.visit(chapter)
    tab.evaluate("localStorage.clear()")
    tab.visit(chapter)
    assert tab.evaluate(CODE) == "false,true", "the main steps: what is folded stays so"
    tab.evaluate("document.querySelector('.code-switch select').focus()")
    tab.press("ArrowDown", 40)
    assert tab.evaluate(CODE) == "true,true"
    tab.press("ArrowDown", 40)
    assert tab.evaluate(CODE) == "false,false"
    tab.visit(built / "_build/html/book/judging.html")
    assert tab.evaluate("document.querySelector('.code-switch')") is None, "no code, no choice"
    tab.visit(chapter)
    assert tab.evaluate(CODE) == "false,false"
    tab.evaluate("localStorage.clear()")


# --- the build can fail --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_missing_values_are_red_and_stay_red(project, capsys):
    write(paths.notebook("streaming_llm"), notebook("streaming_llm", glued="another"))
    for _ in range(2):
        with pytest.raises(ClaimbookError, match="does not build"):
            build.build()
        told = capsys.readouterr().err
        assert "No key 'headline'" in told and str(project) not in told


def test_a_book_that_does_not_build_names_the_chapter_behind_it(project, monkeypatch, capsys):
    def fail(stale):
        raise ClaimbookError("the book does not build: 208 warnings or errors, listed above")

    monkeypatch.setattr(build, "build", fail)
    monkeypatch.setattr(commands, "stale_chapters", dict)
    monkeypatch.setattr(checks, "problems", lambda name: [f"{name}: 5 of 5 code cells were never executed"])
    with pytest.raises(ClaimbookError, match="does not build"):
        commands.book("show")
    assert "streaming_llm: 5 of 5 code cells were never executed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_missing_card_is_red(project, capsys):
    text = notebook("streaming_llm", glued="headline").replace("streaming-llm-c2", "elsewhere")
    write(paths.notebook("streaming_llm"), text)
    with pytest.raises(ClaimbookError, match="dead links"):
        build.build()
    assert "dead link: book/index.html: ../notebooks/streaming_llm.html#streaming-llm-c2" in capsys.readouterr().err


LOADS = [
    '<script src="https://cdn.jsdelivr.net/npm/x.js"></script>',
    '<script src="//unpkg.com/x.js"></script>',
    '<link rel="stylesheet" href="https://fonts.googleapis.com/css?family=X">',
    '<img src="https://img.shields.io/badge/x.svg">',
    '<iframe src="http://example.org"></iframe>',
    '<script>import("https://example.org/x.js")</script>',
    '<div style="background: url(https://example.org/x.png)"></div>',
]


@pytest.mark.parametrize("html", LOADS)
def test_a_call_to_the_network_is_found(html, tmp_path):
    write(tmp_path / "page.html", '<a href="https://arxiv.org/abs/2309.17453">a link is no call</a>')
    assert htmlcheck.outside_requests(tmp_path) == []
    write(tmp_path / "page.html", f"<html><body>{html}</body></html>")
    assert len(htmlcheck.outside_requests(tmp_path)) == 1


def test_a_call_to_the_network_in_a_style_sheet_is_found(tmp_path):
    write(
        tmp_path / "a.css", "@import 'https://example.org/a.css'; b { src: url(//example.org/f.woff); c: url(f.png) }"
    )
    assert len(htmlcheck.outside_requests(tmp_path)) == 2


def test_dead_links_are_found(tmp_path):
    write(
        tmp_path / "a.html",
        '<p id="here"></p><a href="b.html#there">1</a><a href="#here">2</a><a href="mailto:x">3</a>',
    )
    write(tmp_path / "b.html", '<a id="there" href="a.html#gone">1</a><a href="c.html">2</a><img src="d%20e.png">')
    found = htmlcheck.dead_links(tmp_path)
    assert found == ["b.html: a.html#gone", "b.html: c.html", "b.html: d%20e.png"]
    write(tmp_path / "c.html", '<form id="claim-filter"></form>')
    write(tmp_path / "b.html", '<a href="c.html#?verdict=partial">1</a><a href="a.html#?verdict=partial">2</a>')
    assert htmlcheck.dead_links(tmp_path) == ["a.html: b.html#there", "b.html: a.html#?verdict=partial"]


# --- what the pages say ----------------------------------------------------------------------------------------------


def test_totals_are_honest(project):
    run, *_, never = (chapter for chapter in scoreboard.chapters() if chapter.ledger)
    assert run.totals.real == {"reproduced": 1, "not transferred": 1} and run.totals.toys == {"reproduced": 1}
    assert [(one.totals.not_tested, one.totals.not_run) for one in (run, never)] == [(1, 1), (1, 4)]
    text = scoreboard.summary(scoreboard.chapters())
    assert "**10 claims** from 2 papers; 7 more papers are planned and not counted" in text
    assert "| ✓ reproduced | 1 | 1 |\n| ≠ not transferred: did not hold on what we could run | 1 | 0 |" in text
    assert "| all | **2** | **1** |" in text and "partial" not in text
    assert "Beside these, 2 could not be tested, 5 are not run yet." in text
    assert "4 more are premises or claims of our own: shown, and not counted" in text


def test_criteria_revised_after_a_verdict_are_counted(project):
    said = scoreboard.revised(scoreboard.chapters())
    assert "Of 14 claims in all, 2 had their criterion, or how it is judged, revised after a verdict; 0 of" in said
    moved = RESULT["claims"] | {"C7": measured("partial") | {"version": 2}}
    seals.write(paths.result("streaming_llm"), RESULT | {"claims": moved})
    assert "; 1 of these have another verdict now" in scoreboard.revised(scoreboard.chapters())
    assert scoreboard.revised([]) == "No criterion of the 0 claims was revised after a verdict."


def test_papers_stand_in_one_order(project):
    book = [chapter.key for chapter in scoreboard.chapters()]
    assert book[:3] == ["streaming_llm", "trim_kv", "sink_emergence"], "run, then not run, then planned"
    write(project / "notebooks/another.ipynb", notebook("another", glued=None))
    contents = build._contents(scoreboard.chapters())
    chapters = re.findall(r"- file: notebooks/(\w+)", contents)
    assert chapters == ["streaming_llm", "trim_kv"] and "glob" not in contents, "what has no ledger is no chapter"


# --- findings --------------------------------------------------------------------------------------------------------


def put(card: dict) -> None:
    write(paths.root() / "book" / "findings.yaml", yaml.safe_dump([card], sort_keys=False))


def test_every_finding_of_the_front_page_is_true_of_the_results(monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(REPOSITORY))
    cards = findings.load()
    shown = findings.shown(scoreboard.chapters())  # refuses a card whose reference or order is gone
    assert 5 <= len(cards) <= 6 and shown.count('<article class="finding">') == len(cards)
    for card in cards:
        typed = re.findall(r"(?<![\w-])\d+(?:\.\d+)?(?= (?:%|times|nats))", card.sentence)
        assert not typed, f"{card.chapter}.{card.claim}: a number is typed: {typed}"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"less": ["bound", "ours"]}, r"'bound' \(0.5\) is not below 'ours' \(0.123\) any more"),
        ({"less": ["ours"]}, "has to name two values"),
        ({"claim": "C99"}, "there is no claim streaming_llm.C99"),
        ({"chapter": "nothing"}, "there is no claim nothing.C1"),
        ({"part": "rises"}, "C1 rises: there is no such part"),
        ({"sentence": "It is {theirs}."}, "no value is called theirs; it has ours, bound"),
        ({"values": {"ours": {"label": "x", "model": "gpt"}}}, "no value of 'ours' on gpt"),
        ({"values": {"ours": {"label": "x", "take": "null"}}}, "no value of 'null'"),
        ({"values": {"ours": {"label": "x", "takes": "null"}}}, "unknown key 'takes'"),
        ({"sentence": ""}, "book/findings.yaml: 0.sentence"),
    ],
)
def test_a_finding_that_the_results_do_not_show_is_refused(project, change, says):
    put(CARD | change)
    with pytest.raises(ClaimbookError, match=says):
        findings.shown(scoreboard.chapters())


def test_a_finding_whose_intervals_touch_is_refused(project):
    put(CARD | {"values": {"ours": {"label": "x"}, "bound": {"label": "y", "claim": "C2"}}})
    close = RESULT["claims"] | {"C2": measured("reproduced")}
    close["C2"]["parts"]["drops"] |= {"estimate": 0.2, "interval": [0.149, 0.3]}
    seals.write(paths.result("streaming_llm"), RESULT | {"claims": close})
    with pytest.raises(ClaimbookError, match="is not below"):
        findings.shown(scoreboard.chapters())
    close["C2"]["parts"]["drops"]["interval"] = [0.151, 0.3]
    seals.write(paths.result("streaming_llm"), RESULT | {"claims": close})
    assert "half would be <strong>0.20" in findings.shown(scoreboard.chapters())


def test_a_finding_of_a_claim_that_was_not_run_is_left_out(project):
    put(CARD | {"chapter": "trim_kv"})
    assert findings.shown(scoreboard.chapters()) == "No finding was run yet."


def test_a_small_plot_keeps_its_proportions():
    def value(x: float, low: float, high: float) -> findings.Value:
        return findings.Value("a & b", x, low, high, ours=True, percent=False, sample="")

    svg = findings.bars([value(1, 1, 1), value(2, 1.5, 2.5), value(-2, -2, -2)], findings.Plot(title="x"), "y")
    widths = [float(one) for one in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2) and widths[2] == pytest.approx(widths[1], abs=0.2)
    assert svg.count('class="interval"') == 1 and "a &amp; b" in svg
    axis = re.search(r'<path d="(M[^"]*)" stroke="currentColor" opacity', svg)[1]
    beside = [(float(y), float(y) + float(long)) for y, long in re.findall(r"M[\d.]+ (\d+)v(\d+)", axis)]
    labels = [float(y) for y in re.findall(r'<text x="0" y="(\d+)"', svg)]
    assert len(beside) == len(labels) == 3, "the axis stands beside the bars"
    assert all(y < start and end < y + findings.ROW - 9 for y, (start, end) in zip(labels, beside, strict=True))
    log = findings.bars([value(10, 10, 10), value(100, 100, 100)], findings.Plot(title="x", start=1, log=True), "y")
    widths = [float(one) for one in re.findall(r'<rect [^>]*width="([\d.]+)"', log)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)


def test_the_controls_that_are_due_are_told(project):
    said = scoreboard.controls_due(scoreboard.chapters())
    assert said.startswith(
        "**12 of 12 parts are still to be tried on answers known beforehand** (`streaming_llm` 6, `trim_kv` 6)"
    )
    ledger = paths.ledger("trim_kv")
    write(ledger, ledger.read_text().replace("controls: due", "controls: {published: 0.1, null: 0.9}"))
    assert "6 of 12 parts are" in scoreboard.controls_due(scoreboard.chapters())
    assert scoreboard.controls_due([]).startswith("A claim is judged by its parts, 0 in all. Each part was first tried")


def test_a_result_of_an_older_version_of_the_claim_does_not_count(project):
    chapter = scoreboard.chapters()[0]
    assert {one.claim.id: one.word for one in chapter.standings}["C7"] == words.NOT_RUN


def test_other_models_stand_beside_the_one_that_decides(project):
    other = RESULT | {"claims": RESULT["claims"] | {"C1": measured("reproduced") | {
        "others": {"gemma-3-270m": measured("contradicted", state="not_met")}}}}  # fmt: skip
    seals.write(paths.result("streaming_llm"), other)
    text = every.claims(scoreboard.chapters())
    assert "✗ drops on gemma-3-270m: 0.123 [0.100, 0.150], asked ≤ 0.5" in text
    assert "gemma-3-270m fails: drops." in text and text.count('data-failed="1"') == 2, "C1 on Gemma, and C2"


def entry_of(text: str, claim: str) -> str:
    """The folded claim of the first chapter."""
    return next(one for one in text.split('<details class="entry"') if f"<b>{claim}</b>" in one)


def test_every_claim_shows_bound_beside_measurement_and_its_card(project):
    text = every.claims(scoreboard.chapters())
    first = entry_of(text, "C1")
    assert "✓ drops: 0.123 [0.100, 0.150], asked ≤ 0.5" in first and "✓ reproduced</span> <b>C1</b>" in first
    assert '<article class="claim reproduced" id="streaming-llm-c1">' in first
    assert "955 ratio (Llama-2-13B; read in a text conversion)" in first and "a smaller model" in first
    assert 'data-paper="streaming_llm" data-verdict="reproduced" data-fidelity="reduced" data-headline="1"' in first
    assert 'data-revised="" data-failed="" data-counted="1"' in first
    assert "needs weights: the checkpoint was never released" in entry_of(text, "C4")
    assert 'data-fidelity="toy"' in entry_of(text, "C3") and 'data-counted=""' in entry_of(text, "C5")
    assert 'data-verdict="not-run"' in entry_of(text, "C7") and 'data-revised="1"' in entry_of(text, "C7")
    assert 'id="streaming-llm-c7"' in entry_of(text, "C7"), "a claim that was not run has its address too"
    assert "gpu tier: never run." in text and "1 min 36 s" in text
    assert text.count('<details class="entry"') == 14


def test_a_folded_claim_names_first_what_failed(project):
    parts = [PART | {"name": name} for name in ("a", "b", "c", "d", "e")]
    ledger = LEDGER | {"claims": [CLAIM | {"id": "C1", "parts": parts}]}
    write(paths.ledger("streaming_llm"), yaml.safe_dump(ledger, sort_keys=False))
    found = measured("partial")
    states = {"a": "met", "b": "met", "c": "open", "d": "not_met", "e": "met"}
    found["parts"] = {name: found["parts"]["drops"] | {"state": state} for name, state in states.items()}
    seals.write(paths.result("streaming_llm"), RESULT | {"claims": {"C1": found}})
    named = re.findall(r'"entry-part">(.*?)</span>', entry_of(every.claims(scoreboard.chapters()), "C1"))
    assert [one[:3] for one in named] == ["✗ d", "? c", "✓ a", "and"] and named[-1] == "and 2 more parts"


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (0.12345, [0.1, 0.15], "**0.123** [0.100, 0.150]"),
        (1234.5, [1000, 1400], "**1,234** [1,000, 1,400]"),
        (955.3, None, "**955**"),
        (2.0, [2.0, 2.0], "**2**"),
        (-0.5, [-0.51, -0.49], "**-0.500** [-0.510, -0.490]"),
    ],
)
def test_numbers_are_rounded_to_what_their_interval_supports(value, interval, text):
    assert scoreboard.with_interval(value, interval) == text


# --- the worked example ----------------------------------------------------------------------------------------------


def test_the_worked_example_is_drawn_from_what_is_stored(monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(REPOSITORY))
    _, svg, _, _, *steps = example.worked_example().split("\n")
    first = seals.read(paths.sweep(example.CHAPTER, "documents"))["curves"]["documents"][0]["loss"]
    entry = seals.read(paths.result(example.CHAPTER))["claims"][example.CLAIM]
    for number in (f"{first['0']:.2f}", f"{first['4']:.2f}"):
        assert f"{number} nats</text>" in svg and number in " ".join(steps)
    assert f"{words.spoken(entry)}</text>" in svg
    for name, part in entry["parts"].items():
        assert f"{name.replace('_', ' ')}: {words.word(part['state'])}</text>" in svg


@pytest.mark.parametrize(
    ("verdict", "state", "sign"),
    [("reproduced", "met", "✓"), ("inconclusive", "open", "?"), ("not_transferred", "not_met", "✗")],
)
def test_the_drawing_shows_whatever_came_out(project, verdict, state, sign):
    standing = scoreboard.Standing(
        "streaming_llm", scoreboard.chapters()[0].standings[0].claim, measured(verdict, state=state)
    )
    svg = drawing.drawing([(3.0, 2.0), (2.0, 2.5)], standing.claim.parts[0], standing)
    drawn = "".join(ElementTree.fromstring(svg).itertext())
    assert (
        f"{sign} drops: {words.word(state)}" in drawn
        and f"{words.SIGNS[words.word(verdict)][0]} {words.word(verdict)}" in drawn
    )
    assert (
        "3.00 nats" in drawn
        and "-0.5" in drawn
        and "2 rows" in drawn
        and "ours: 0.123 [0.100, 0.150], 24 documents" in drawn
    )


# --- provenance and freshness ----------------------------------------------------------------------------------------


def test_each_chapter_says_when_it_was_verified_on_what_and_whether_it_is_fresh(project):
    book, today = scoreboard.chapters(), date(2026, 11, 21)
    text = freshness.chapters(book, {}, today)
    assert text.startswith("**Fresh: 1 of 1 chapter with a reference run.** This book was built on 21 Nov 2026; ")
    row = "2024</a></td><td>20 Nov 2026, 1 day old</td><td>{}</td><td>1 min 36 s</td><td>2 cores, 24 GB</td>"
    assert row.format("fresh") in text and "<td>never</td><td>not run yet</td>" in text
    assert row.format("stale") in freshness.chapters(book, {"streaming_llm": [CHANGED]}, today)


def test_what_is_stale_comes_with_the_command_that_makes_it_new(project):
    book = scoreboard.chapters()
    assert freshness.to_do(book, {}) == "Nothing is stale."
    said = freshness.to_do(book, {"streaming_llm": [CHANGED, "stored run kept is stale"]})
    assert said == f"- Xiao et al. 2024, `streaming_llm`\n  - {CHANGED}\n  - stored run kept is stale"


def test_stored_runs_have_day_cost_machine_and_state(project):
    text = freshness.runs(scoreboard.chapters(), date(2026, 11, 20))
    assert "stored runs, made 18 Nov 2026, 1 h 01 min in all" in text
    cells = "documents</td><td>18 Nov 2026, 2 days old</td><td>1 h 01 min</td>"
    assert f"{cells}<td>9 cores, 8 GB, GPU NVIDIA H</td><td>stale" in text
    assert "<td>kept</td><td>—</td><td>—</td><td>—</td><td>not made yet</td>" in text
    assert "1 other accepted run</summary>" in text and "<td>cpu--gemma-3-270m</td>" in text


def test_a_stored_run_that_was_confirmed_says_so(project, monkeypatch):
    monkeypatch.setattr(freshness.stored_runs, "load", lambda chapter, name: {"freshness": "confirmed by prefix"})
    text = freshness.runs(scoreboard.chapters()[:1], date(2026, 11, 18))
    assert (
        "<td>18 Nov 2026, the same day</td><td>1 h 01 min</td><td>9 cores, 8 GB, GPU NVIDIA H</td><td>confirmed</td>"
        in text
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("AMD EPYC, 1 cores, 24 GB", "1 core, 24 GB"),
        ("Intel(R) Xeon(R), 16 cores, 126 GB, NVIDIA H100 80GB HBM3", "16 cores, 126 GB, GPU NVIDIA H100 80GB HBM3"),
        ("arm, 8 cores", "8 cores"),
        ("unknown", "unknown"),
    ],
)
def test_a_machine_is_named_by_its_kind(said, kind):
    assert freshness.machine_kind(said) == kind


def test_the_page_on_freshness_is_in_the_book(built):
    text = page(built, "book/freshness.html")
    assert "changed: cells" in text and "<code" in text[text.index("changed: cells") :]


# --- benchmarks ------------------------------------------------------------------------------------------------------


def test_benchmarks_are_not_measured_while_a_chapter_is_stale(monkeypatch):
    from claimbook.runs import bench

    monkeypatch.setattr(bench, "freshness", lambda chapter: ["changed"] if chapter == "streaming_llm" else [])
    with pytest.raises(ClaimbookError, match=r"stale: streaming_llm\. `claimbook book` brings"):
        bench.main()


def test_benchmarks_come_from_their_file(project):
    assert "Not measured yet" in pages.benchmarks()
    row = {"name": "book, nothing stale", "ours": 9.8, "ours_unit": "s", "baseline": 27.8,
           "baseline_unit": "s, full build", "ratio": 0.354, "target": "below 10 s", "method": "one run"}  # fmt: skip
    other = {"name": "unknown", "ours": 3.0, "ours_unit": "MB", "ratio": 1.3, "target": "at most 1.25", "method": "x"}
    data = {"machine": "2 cores", "threads": 2, "date": "2026-11-23", "rows": [row, other]}
    seals.write(paths.root() / "data/results/benchmarks.json", data)
    text = pages.benchmarks()
    assert "Book, nothing stale\n: It is the command that is typed most often." in text
    assert "Ours: **9.8 s**. Beside it, full build: 27.8 s. Ratio: **0.354**. Aim: below 10 s, ✓ kept." in text
    assert "Unknown\n: Ours: **3 MB**. Ratio: **1.3**. Aim: at most 1.25, ✗ missed." in text


def test_faults_come_from_their_file(project):
    assert "Not tried yet: run `python tests/faults.py`" in pages.faults()
    rows = {
        "kill -9": {"times": 10, "ended": {"killed": 9, "exit 0": 1}, "failed": ""},
        "a full disk": {"times": 1, "ended": {"exit 2: the disk | is full": 1}, "failed": ""},
        "a proxy": {"times": 1, "ended": {"exit 2: use --mirror, `fetch --mirror a_b`": 1}, "failed": ""},
        "Ctrl-C": {"times": 0, "ended": {}, "failed": "left in the temporary folder: x"},
    }
    rows = {name: row | {"made": "2026-11-27"} for name, row in rows.items()}
    seals.write(paths.root() / "data/faults.json", rows)
    text = pages.faults()
    assert "| kill -9 | 10 | 9 ×: killed; exit 0 |" in text and "Done on 2026-11-27." in text
    assert "| a full disk | 1 | exit 2: the disk \\| is full |" in text
    assert "| a proxy | 1 | exit 2: use `--mirror`, `fetch --mirror a_b` |" in text
    assert "**did not hold:** left in the temporary folder: x |" in text


@pytest.mark.parametrize(
    ("target", "said"),
    [("at least 3", ", ✗ missed"), ("at least 2", ", ✓ kept"), ("at most 2.5", ", ✓ kept"), ("about 1", "")],
)
def test_an_aim_that_is_a_bound_says_whether_it_was_kept(target, said):
    assert pages._kept({"target": target, "ours": 1.0, "ratio": 2.5}) == said


def test_every_benchmark_says_why_one_should_care():
    from claimbook.runs import bench

    why = yaml.safe_load((REPOSITORY / "book/benchmarks.yaml").read_text(encoding="utf-8"))
    written = Path(bench.__file__).read_text(encoding="utf-8")
    named = {found[1] for found in re.finditer(r"\brow\(\s*\"([^\"]+)\"", written)}
    measured = {row["name"] for row in seals.read(REPOSITORY / "data/results/benchmarks.json")["rows"]}
    assert len(named) >= 8 and set(why) == named and measured <= named


# --- launch buttons --------------------------------------------------------------------------------------------------


def with_address(project: Path) -> None:
    """What the configuration says to do: two lines that are no comments any more."""
    config = project / "book/_config.yml"
    text = re.sub(r"^# (repository|launch_buttons):", r"\1:", config.read_text(), flags=re.MULTILINE)
    write(config, text.replace("owner/name", "someone/claimbook"))


def test_nothing_is_launched_without_an_address(built):
    text = page(built, "notebooks/streaming_llm.html") + page(built, "book/rerun.html")
    assert "mybinder.org" not in text and "colab.research" not in text and "Colab" not in text


def test_how_to_launch_is_told_once_there_is_an_address(project):
    assert pages.launching() == ""
    with_address(project)
    assert "!git clone --depth 1 https://github.com/someone/claimbook claimbook" in pages.launching()


@pytest.mark.slow
def test_a_notebook_is_launched_from_the_address_that_is_configured(project):
    with_address(project)
    build.build()
    text, place = page(project, "notebooks/streaming_llm.html"), "notebooks/streaming_llm.ipynb"
    assert f"https://mybinder.org/v2/gh/someone/claimbook/main?urlpath=lab/tree/{place}" in text
    assert f"https://colab.research.google.com/github/someone/claimbook/blob/main/{place}" in text
    assert "mybinder.org" not in page(project, "book/judging.html")
    assert "git clone --depth 1" in re.sub(
        "<[^>]+>", "", page(project, "book/rerun.html")
    )  # code is coloured word by word


# --- README ----------------------------------------------------------------------------------------------------------


def test_readme_is_current():
    stale = "README.md is out of date: python -c 'from claimbook import book; book.update_readme()'"
    assert (REPOSITORY / "README.md").read_text(encoding="utf-8") == build.current_readme(), stale


def test_readme_follows_the_results(project):
    assert build.update_readme() and not build.update_readme()
    text = (project / "README.md").read_text()
    assert "| `streaming_llm` | 5 | 1 |" in text and "`smollm2-135m`" in text
    write(project / "README.md", text.replace("<!-- scoreboard:end -->", ""))
    with pytest.raises(ClaimbookError, match="scoreboard"):
        build.update_readme()


def test_every_paper_of_the_book_is_cited_once():
    book_of_papers = [chapter.key for chapter in scoreboard.chapters()]
    design = "streaming_llm sink_emergence secondary_sinks gated_attention trim_kv attention_calibration"
    assert set(book_of_papers) >= {*design.split(), "graphmasal", "grocery_ranking", "ascites_ct"}
    assert len(book_of_papers) == len(set(book_of_papers))
