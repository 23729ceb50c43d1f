"""The book: strict, offline, current; and each of its checks can fail."""

import re
import shutil
from datetime import date
from pathlib import Path

import nbformat
import pytest
import yaml

import browser
from claimbook import paths
from claimbook.book import build, htmlcheck, pages, scoreboard
from claimbook.claims import words
from claimbook.display.tables import anchor_id
from claimbook.errors import ClaimbookError
from claimbook.plotting import FOR_BOOK
from claimbook.provenance import seals

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
    "provenance": {},
}


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
        nbformat.v4.new_code_cell("run.glue('headline', '2 of 5')", outputs=outputs),
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
    for name in ("README.md", "data/assets.yaml", "requirements.lock"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    ledger = yaml.safe_dump(LEDGER, sort_keys=False)
    write(root / "data/claims/streaming_llm.yaml", ledger)
    seals.write(root / "data/results/streaming_llm.json", RESULT)
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
        assert build.build(strict=True, stale=["streaming_llm"]) == root / "_build" / "html" / "index.html"
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
        assert f'href="../notebooks/streaming_llm.html{place}" title="streaming_llm.{claim["id"]} ' in front
    assert "2 of 9 papers" in front
    assert "gated attention" in front and "Planned, with no claims counted yet" in front


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
    assert 'href="../_sources/notebooks/streaming_llm.ipynb"' in page(built, "notebooks/streaming_llm.html")


def test_nothing_is_built_twice_and_a_change_is_built(built, monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(built))
    monkeypatch.setattr(build, "_sphinx", lambda strict: pytest.fail("built again"))
    assert build.build(strict=True, stale=["streaming_llm"]).is_file()
    before = build._inputs_digest()
    for name in ("data/results/streaming_llm.json", "notebooks/trim_kv.ipynb", "book/glossary.md", "book/_config.yml"):
        text = (built / name).read_text()
        write(built / name, text + " ")
        assert build._inputs_digest() != before, name
        write(built / name, text)
    write(built / "book/_generated/summary.md", "changed")
    assert build._inputs_digest() == before


@pytest.mark.skipif(browser.command() is None, reason="no Chromium; see QUARANTINES.md")
def test_a_browser_with_the_network_off_finds_no_fault(built, tmp_path):
    html = built / "_build" / "html"
    pages = [*sorted((html / "book").glob("*.html")), html / "notebooks/streaming_llm.html", html / "index.html"]
    with browser.opened(tmp_path) as visit:
        found = {path.name: visit(path) for path in pages}
        bad = html / "bad.html"
        write(bad, '<script src="https://example.org/x.js"></script><script>console.error("no"); nothing()</script>')
        complaints = "\n".join(visit(bad))
        bad.unlink()
    assert not any(found.values()), found
    assert all(word in complaints for word in ("https://example.org/x.js", "no", "Uncaught")), complaints


# --- the build can fail --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_missing_values_are_red_and_stay_red(project, capsys):
    write(paths.notebook("streaming_llm"), notebook("streaming_llm", glued="another"))
    for _ in range(2):
        with pytest.raises(ClaimbookError, match="does not build"):
            build.build()
        told = capsys.readouterr().err
        assert "No key 'headline'" in told and str(project) not in told


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


# --- what the pages say ----------------------------------------------------------------------------------------------


def test_totals_are_honest(project):
    run, *_, never = (chapter for chapter in scoreboard.chapters() if chapter.ledger)
    assert run.totals.real == {"reproduced": 1, "not transferred": 1} and run.totals.toys == {"reproduced": 1}
    assert [(one.totals.not_tested, one.totals.not_run) for one in (run, never)] == [(1, 1), (1, 4)]
    text = scoreboard.summary(scoreboard.chapters())
    assert "with 10 claims in all; 7 are planned and not counted" in text
    assert "1 reproduced, 0 partial, 0 inconclusive, 1 not transferred, 0 contradicted" in text
    assert "On toys, which show a mechanism at most: 1 reproduced" in text and "Not tested: 2. Not run yet: 5." in text
    assert "4 more, premises and claims of our own, are in no total" in text


def test_the_controls_that_are_due_are_told(project):
    said = scoreboard.controls_due(scoreboard.chapters())
    assert said.startswith("**12 of 12 parts are still to be tried on known answers** (`streaming_llm` 6, `trim_kv` 6)")
    ledger = paths.ledger("trim_kv")
    write(ledger, ledger.read_text().replace("controls: due", "controls: {published: 0.1, null: 0.9}"))
    assert "6 of 12 parts are" in scoreboard.controls_due(scoreboard.chapters())
    assert scoreboard.controls_due([]) == "All 0 parts were tried on known answers before they judged."


def test_a_result_of_an_older_version_of_the_claim_does_not_count(project):
    chapter = scoreboard.chapters()[0]
    assert {one.claim.id: one.word for one in chapter.standings}["C7"] == words.NOT_RUN


def test_surprising_findings_follow_the_rule(project):
    text = pages.findings(scoreboard.chapters())
    against, ours = text.split("### What we found beside the papers")
    assert "C2" in against and "C1" not in against and "C7" not in against
    assert "C6" in ours and "C2" not in ours
    other = RESULT | {"claims": RESULT["claims"] | {"C1": measured("reproduced") | {
        "others": {"gemma-3-270m": measured("contradicted", state="not_met")}}}}  # fmt: skip
    seals.write(paths.result("streaming_llm"), other)
    against = pages.findings(scoreboard.chapters()).split("### What we found beside the papers")[0]
    assert "C1" in against and "- On gemma-3-270m: contradicted." in against
    assert "gemma-3-270m: contradicted" in pages.claims_tables(scoreboard.chapters())
    paths.result("streaming_llm").unlink()
    assert "nothing to report" in pages.findings(scoreboard.chapters())


def test_every_claim_shows_published_and_measured(project):
    text = pages.claims_tables(scoreboard.chapters())
    assert "955 ratio (Llama-2-13B; read in a text conversion)" in text
    assert ": **0.123** [0.100, 0.150], 24 documents: met" in text
    assert "needs weights: the checkpoint was never released" in text
    assert text.count("*How ours differs:* another text; a smaller model") == 2, "one in each chapter"
    assert "gpu tier: never run." in text and "1 min 36 s" in text
    assert "**Changed after they were first written**" in text and "C7](#streaming_llm.C7), version 2 (" in text


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


def test_benchmarks_are_not_measured_while_a_chapter_is_stale(monkeypatch):
    from claimbook.runs import bench

    monkeypatch.setattr(bench, "freshness", lambda chapter: ["changed"] if chapter == "streaming_llm" else [])
    with pytest.raises(ClaimbookError, match=r"stale: streaming_llm\. `claimbook book` brings"):
        bench.main()


def test_benchmarks_come_from_their_file(project):
    assert "Not measured yet" in pages.benchmarks()
    row = {"name": "decoding", "ours": 340.2, "ours_unit": "tokens/s", "baseline": 15.1, "baseline_unit": "tokens/s",
           "ratio": 22.5, "target": "at least 20x", "method": "one run"}  # fmt: skip
    data = {"machine": "2 cores", "threads": 2, "date": "2026-11-23", "rows": [row]}
    seals.write(paths.root() / "data/results/benchmarks.json", data)
    assert "| decoding | 340 tokens/s | 15.1 tokens/s | 22.5 | at least 20x | one run |" in pages.benchmarks()


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
