"""The page with every claim: all cards, folded, each with its bound beside what was measured.

The page reads without a script. ``claims.js`` adds filters and an order; it reads the attributes that stand here.
"""

from collections import Counter
from html import escape

from claimbook import paths
from claimbook.book.scoreboard import Chapter, Standing
from claimbook.claims import words
from claimbook.claims.criteria import Part, accepted
from claimbook.claims.words import SIGNS, several
from claimbook.display import cards
from claimbook.display.tables import anchor_id, cost, failing_figures, published_in_full, rounded

SHOWN = 3  # parts that a folded claim names; the others are counted
SAID_FIRST = ("not_met", "void", "open", "untested", "met")
FIDELITIES = {"real": "real models or data (exact, reduced)", "exact": "exact", "reduced": "reduced", "toy": "toy"}
MARKS = {
    "headline": "headline claims",
    "revised": "revised after a result",
    "failed": "a part was not met",
}
QUESTIONS = {  # what readers come with, and the filters that answer it
    "Which claims did not hold, on real models or data?": {"fidelity": "real", "verdict": "not-transferred"},
    "Of which did a part fail, on real models or data?": {"fidelity": "real", "failed": "1"},
    "What do the papers rest on?": {"headline": "1"},
    "Which criteria were changed after a result?": {"revised": "1"},
}
ORDERS = {"paper": "by paper", "verdict": "by verdict", "fidelity": "by fidelity", "headline": "headline claims first"}


def claims(book: list[Chapter]) -> str:
    """Markdown of the whole page below its introduction: the form, then a section for each paper."""
    tables = [_form(book), *(_section(chapter) for chapter in book if chapter.ledger)]
    planned = [f"- {{cite:t}}`{chapter.key}`: {chapter.title}" for chapter in book if not chapter.ledger]
    if planned:
        tables.append("\n".join(["## Planned", "", "No ledger yet, so no claims are counted.", "", *planned]))
    return "\n\n".join(tables)


def _raw(*html: str) -> str:
    return "\n".join(["```{raw} html", *html, "```"])


# --- the form --------------------------------------------------------------------------------------------------------


def _form(book: list[Chapter]) -> str:
    """Filters and the order; without the script they would do nothing, so that it is the script that shows them."""
    papers = {one.key: f"{one.authors} {one.year}: {one.title}" for one in book if one.ledger}
    count = Counter(one.word for chapter in book for one in chapter.standings)
    verdicts = {css: f"{sign} {word} ({count[word]})" for word, (sign, css) in SIGNS.items()}
    asked = "".join(
        f'<a href="{escape(filtered(**filters))}">{question}</a> ' for question, filters in QUESTIONS.items()
    )
    boxes = "".join(
        f'<label><input type="checkbox" name="{name}" value="1"> {said}</label>' for name, said in MARKS.items()
    )
    return _raw(
        '<form class="claim-filter" id="claim-filter" hidden aria-label="Filter and sort the claims">',
        f'<p class="filter-questions">{asked}</p>',
        _select("paper", "Paper", {"": "all papers"} | papers),
        _select("verdict", "Verdict", {"": "all verdicts"} | verdicts),
        _select("fidelity", "Fidelity", {"": "all"} | FIDELITIES),
        _select("sort", "Order", {"" if name == "paper" else name: said for name, said in ORDERS.items()}),
        '<label>Words <input type="search" name="words" autocomplete="off" placeholder="in the claim"></label>',
        f'<fieldset><legend class="visually-hidden">Only</legend>{boxes}</fieldset>',
        '<button type="button" name="unfold">unfold all</button> <button type="reset">show all</button>',
        '<p class="filter-total" role="status" aria-live="polite"></p>',
        "</form>",
    )


def _select(name: str, label: str, options: dict[str, str]) -> str:
    listed = "".join(f'<option value="{value}">{escape(said)}</option>' for value, said in options.items())
    return f'<label>{label} <select name="{name}">{listed}</select></label>'


# --- papers and claims -----------------------------------------------------------------------------------------------


def _section(chapter: Chapter) -> str:
    about = f"{{cite:t}}`{chapter.ledger.paper.bib}`. {_about_runs(chapter)}"
    entries = "\n".join(_entry(chapter, one) for one in chapter.standings)
    return "\n\n".join([f"## {chapter.title}", about, _raw(f'<div class="claim-list">\n{entries}\n</div>')])


def _about_runs(chapter: Chapter) -> str:
    others = sorted(path.stem for path in (paths.root() / "data" / "results" / chapter.key).glob("*.json"))
    models = ", ".join(f"`{model}`" for model in chapter.ledger.models)
    lines = ["Not run yet."]
    if chapter.result:
        lines = [f"Reference run{' on ' + models if models else ''}: {cost(chapter.result)}."]
    if not any(name.startswith("gpu--") for name in others):
        lines.append("gpu tier: never run.")
    if others:
        lines.append(f"Other runs: {', '.join(f'`{name}`' for name in others)}.")
    return " ".join(lines)


def _entry(chapter: Chapter, standing: Standing) -> str:
    """A claim, folded: its verdict, title, marks, and what decides; unfolded, its card."""
    claim = standing.claim
    attributes = {
        "paper": chapter.key,
        "verdict": SIGNS[standing.word][1],
        "fidelity": standing.fidelity.split(",")[0].replace("—", ""),
        "headline": "1" if claim.weight == 2 else "",
        "revised": "1" if standing.revised else "",
        "failed": "1" if _failed(standing) else "",
        "counted": "1" if claim.counted else "",
    }
    data = "".join(f' data-{name}="{value}"' for name, value in attributes.items())
    marks = [standing.fidelity if standing.fidelity != "—" else "", "headline" if claim.weight == 2 else ""]
    marks += ["revised after a result" if standing.revised else "", "" if claim.counted else "in no total"]
    sign = SIGNS[standing.word][0]
    return (
        f'<details class="entry"{data}><summary>'
        f'<span class="entry-head"><span class="tile {standing.css}">{sign} {escape(standing.spoken)}</span> '
        f'<b>{claim.id}</b> <span class="entry-title">{escape(claim.title)}</span></span>'
        f'<span class="entry-marks"><span class="entry-paper">{escape(f"{chapter.authors} {chapter.year}")} · </span>'
        f"{escape(' · '.join(filter(None, marks)))}</span>"
        f"{_deciding(standing)}</summary>{_body(standing)}</details>"
    )


def _failed(standing: Standing) -> bool:
    """Whether a part was measured and not met, on any model of the run, or the paper's own figures fail it."""
    models = [standing.entry, *standing.entry.get("others", {}).values()]
    states = {part["state"] for one in models for part in one.get("parts", {}).values()}
    return "not_met" in states or any(failing_figures(part) for part in standing.claim.parts)


def _deciding(standing: Standing) -> str:
    """Bound beside measurement, a line a part, what failed first; the reason where nothing was measured."""
    if standing.untested:
        return _lines([f"{words.word(standing.untested.not_tested)}: {standing.untested.why}"])
    found = standing.entry.get("parts", {})
    parts = [part for part in standing.claim.parts if part.name in found]
    parts.sort(key=lambda part: SAID_FIRST.index(found[part.name]["state"]))
    elsewhere = [
        _against(part, other["parts"][part.name], f" on {model}")
        for model, other in standing.entry.get("others", {}).items()
        for part in parts
        if (other["parts"].get(part.name, {}).get("state"), found[part.name]["state"]) == ("not_met", "met")
    ]
    lines = [*elsewhere, *(_against(part, found[part.name]) for part in parts)]
    hidden = len(lines) - SHOWN
    return _lines([*lines[:SHOWN], f"and {several(hidden, 'more parts')}"] if hidden > 0 else lines)


def _against(part: Part, found: dict, model: str = "") -> str:
    value = "not measured" if found["estimate"] is None else " ".join(rounded(found["estimate"], found["interval"]))
    asked = accepted(part) if part.type not in cards.RULED else f"to hold in at least {100 * part.min_share:.0f} %"
    name = part.name.replace("_", " ")
    return f"{cards.STATES[found['state']]} {name}{model}: {value.strip()}, asked {asked}"


def _lines(lines: list[str]) -> str:
    return "".join(f'<span class="entry-part">{escape(line)}</span>' for line in lines)


def _body(standing: Standing) -> str:
    """The card and the way to its chapter; of a claim that was not run, what the ledger says."""
    claim, anchor = standing.claim, anchor_id(standing.anchor)
    if not standing.entry:
        published = f"{escape(claim.where)} · published: {escape(published_in_full(claim))}"
        return f'<article class="claim" id="{anchor}"><p>{escape(claim.text)}</p><p>{published}</p></article>'
    link = ""
    if paths.notebook(standing.chapter).is_file():
        address = f"../notebooks/{standing.chapter}.html#{anchor}"
        link = f'<p class="entry-link"><a href="{address}">{claim.id} in its chapter, with code and figure</a></p>'
    return cards.card(standing.chapter, claim, standing.entry).html + link


def filtered(**chosen: str) -> str:
    """The address of the page with these filters set: ``scoreboard.html#?verdict=partial``."""
    return "scoreboard.html#?" + "&".join(f"{name}={value}" for name, value in chosen.items())
