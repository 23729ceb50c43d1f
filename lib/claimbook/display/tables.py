"""What a chapter shows of its ledger and its result: small HTML pieces that also read as plain text."""

import math
from html import escape

from claimbook.assets import local
from claimbook.claims import totals, words
from claimbook.claims.criteria import Controls, Figure, OtherMetric, Part, accepted
from claimbook.claims.ledgers import Claim, Ledger, Paper
from claimbook.claims.verdicts import Measurement
from claimbook.claims.words import fidelity, several, spoken
from claimbook.provenance.machine import clock
from claimbook.stats import Exact, Votes


class Shown:
    """An output with an HTML and a plain-text face."""

    def __init__(self, html: str, text: str):
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def table(head: list[str], rows: list[list[str]], css: str) -> Shown:
    """A table; cells are plain text, or `Shown`."""

    def line(tag: str, cells) -> str:
        inner = (cell.html if isinstance(cell, Shown) else escape(str(cell)) for cell in cells)
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in inner) + "</tr>"

    html = f'<table class="{css}"><thead>{line("th", head)}</thead><tbody>'
    html += "".join(line("td", row) for row in rows) + "</tbody></table>"
    return Shown(html, "\n".join(" | ".join(str(cell) for cell in row) for row in [head, *rows]))


def paper(about: Paper) -> Shown:
    """Who wrote the paper, when, and where it and its code are."""
    authors = about.authors if isinstance(about.authors, str) else ", ".join(about.authors)
    links = {"paper": f"https://arxiv.org/abs/{about.arxiv}" if about.arxiv else None, "authors' code": about.code}
    linked = [f'<a href="{escape(address)}">{escape(what)}</a>' for what, address in links.items() if address]
    said = f"{about.title}. {authors}, {about.year}"
    title = f"<em>{escape(about.title)}</em>. {escape(authors)}, {about.year}"
    return Shown(f'<p class="paper">{" · ".join([title, *linked])}</p>', said)


def claims_table(ledger: Ledger) -> Shown:
    """The claims as the ledger states them, each with what would count as met, folded away behind how many they are."""
    rows = [
        [
            link(ledger.chapter, claim.id),
            claim.text + ("" if claim.weight == 1 else " (headline)"),
            claim.where,
            published(claim),
            criteria(claim),
        ]
        for claim in ledger.claims
    ]
    shown = table(["claim", "in our words", "where", "published", "met when"], rows, "claims-table")
    title = f"{several(len(rows), 'claims')}, and when each part counts as met"
    return Shown(f"<details><summary>{title}</summary>{shown.html}</details>", f"{title}\n{shown}")


def link(chapter: str, claim_id: str, text: str = "") -> Shown:
    """A link to a claim's card."""
    text = text or claim_id
    return Shown(f'<a href="#{anchor_id(f"{chapter}.{claim_id}")}">{escape(text)}</a>', text)


def anchor_id(name: str) -> str:
    """The id of a claim's card in built pages: ``streaming-llm-c3`` for ``streaming_llm.C3``."""
    return name.lower().replace("_", "-").replace(".", "-")


READ_IN = {
    "ocr": "read in a text conversion",
    "transcription": "read in others' notes",
    "figure": "read off a figure",
    "memory": "from memory",
}


def published(claim: Claim) -> str:
    """The paper's figure with its unit; a dash where it states none."""
    value = claim.published.value
    values = value if isinstance(value, list) else [value]
    text = ", ".join(number(one) if isinstance(one, int | float) else one for one in values if one is not None)
    return f"{text} {claim.published.unit or ''}".strip() if text else "—"


def published_in_full(claim: Claim) -> str:
    """The same with its note and, where it was not read in the paper itself, how we know it."""
    notes = "; ".join(filter(None, [claim.published.note, READ_IN.get(claim.published.read_in)]))
    return f"{published(claim)} ({notes})" if notes else published(claim)


def criteria(claim: Claim) -> str:
    """All parts in words, or the reason why there are none."""
    state = claim.tier("cpu")
    if hasattr(state, "not_tested"):
        return f"not tested: {words.word(state.not_tested)}"
    return "; ".join(
        f"{part.quantity} {accepted(part)}{_if_needed(claim, part)}{its_own(part)}" for part in claim.parts
    )


def failing_figures(part: Part) -> list[Figure]:
    """Figures of the paper that fail the part themselves, which is a finding."""
    published = part.controls.published if isinstance(part.controls, Controls) else None
    return [one for one in published if one.fails] if isinstance(published, list) else []


def its_own(part: Part) -> str:
    """What the paper reports of a part and cannot be compared: figures that fail it, or in another metric."""
    published = part.controls.published if isinstance(part.controls, Controls) else None
    if isinstance(published, OtherMetric):
        return f" [the paper, in another metric: {published.value} ({published.why})]"
    return "".join(f" [the paper's own {one} fails: {one.fails}]" for one in failing_figures(part))


def _if_needed(claim: Claim, part: Part) -> str:
    if part.needs is None:
        return ""
    needed = claim.precondition(part.needs)
    return f" (only if {needed.quantity} {accepted(needed)})"


def sample(found: dict) -> str:
    """How many units a part's estimate is over, where it is sampled: "20 documents"."""
    return several(found["n"], found["unit"]) if found["unit"] and found["n"] else ""


def number(value: float | None) -> str:
    """A number for reading: three significant digits, thousands set apart."""
    if value is None:
        return "—"
    if abs(value) >= 1e9 or 0 < abs(value) < 1e-4:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rounded(value: float, interval: list[float] | None) -> tuple[str, str]:
    """Value and interval, to as many decimals as two significant digits of the interval's width ask for."""
    if not interval or not 1e-9 < interval[1] - interval[0] < 1e9:
        return number(value), ""
    decimals = max(0, 1 - math.floor(math.log10(interval[1] - interval[0])))
    value, low, high = (f"{one:,.{decimals}f}" for one in (value, *interval))
    return value, f"[{low}, {high}]"


def measured(measurement: Measurement) -> str:
    """A measurement for the prose: "2.13 [2.01, 2.24]", "18 of 20", a number where nothing varies."""
    if measurement is None:
        return "(not measured)"
    if isinstance(measurement, Votes):
        return f"{measurement.agree} of {measurement.n}"
    if isinstance(measurement, Exact) or not math.isfinite(measurement.low):
        return number(measurement.value)
    return " ".join(filter(None, rounded(measurement.value, [measurement.low, measurement.high])))


def badges(ledger: Ledger, entries: dict) -> Shown:
    """The verdicts as one strip: a badge per claim, with its sign, leading to its card; the total in words."""
    html, text = [], []
    for claim in ledger.claims:
        entry = entries[claim.id]
        said = f"{claim.id} {spoken(entry)}{' (toy)' if entry['fidelity'] == 'toy' else ''}"
        card = f"#{anchor_id(f'{ledger.chapter}.{claim.id}')}"
        html.append(tile(claim, words.word(entry["verdict"]), words.css(entry), f"{said}: {claim.title}", card))
        text.append(said)
    total = outcome(ledger, entries)
    strip = f'<div class="badges">{" ".join(html)}</div><p class="outcome">{_signed(total)}</p>'
    return Shown(strip, " · ".join(text))


def tile(claim: Claim, word: str, css: str, label: str, address: str | None) -> str:
    """A claim's id with the sign of its verdict, in its colour; leads to ``address``, and says ``label`` when asked."""
    outside = "" if claim.counted else " outside"
    tag, link = ("a", f' href="{address}"') if address else ("span", "")
    label = escape(label, quote=True)
    text = f'{claim.id}<span aria-hidden="true"> {words.SIGNS[word][0]}</span>'
    return f'<{tag} class="tile {css}{outside}"{link} title="{label}" aria-label="{label}">{text}</{tag}>'


def _signed(total: str) -> str:
    """The total with the sign of each verdict before its word."""
    for word, (sign, _) in words.SIGNS.items():
        total = total.replace(f" {word}", f" {sign} {word}")
    return total


def outcome(ledger: Ledger, entries: dict) -> str:
    """One line: how many claims got which verdict, the untested counted in the total."""
    if any(entry["verdict"] is None for entry in entries.values()):
        return "smoke run, no verdicts"
    return totals.count((claim, entries[claim.id]) for claim in ledger.claims).in_words()


def cost(result: dict) -> str:
    """Time, memory and device of a run."""
    spent = result["cost"]
    return f"{clock(spent['wall_s'])}, {spent['peak_mem_mb']:,.0f} MB, {spent['device']}"


def commit(made: dict) -> str:
    """The commit a run was made from."""
    return (made["git"][:12] or "none") + (" and uncommitted changes" if made["dirty"] else "")


def provenance_table(result: dict) -> Shown:
    """What the numbers of a run were made by, and what they cost."""
    made = result["provenance"]
    packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
    rows = [
        ["run", f"tier {result['tier']}, {made['started'][:10]}, {cost(result)}"],
        ["machine", f"{made['machine']}; {made['threads']} threads"],
        ["commit", commit(made)],
        ["code hash", f"{made['code_hash']} over {len(made['modules'])} modules"],
        ["versions", f"Python {made['python']}, {packages}"],
        ["assets", ", ".join(f"{key} {digest[:12]}" for key, digest in made["assets"].items()) or "none"],
        ["stored runs", ", ".join(f"{name} ({state})" for name, state in made["stored"].items()) or "none"],
        ["parameters", ", ".join(f"{name}={local.public(value)!r}" for name, value in result["parameters"].items())],
    ]
    return table(["", ""], rows, "provenance-table")


def claim_line(chapter: str, claim_id: str, entry: dict) -> str:
    """The stable line of a claim cell: ``streaming_llm.C3 · reproduced · reduced``."""
    if entry["verdict"] is None:
        return f"{chapter}.{claim_id} · smoke run, no verdict"
    if entry["verdict"] == "not_tested":
        return f"{chapter}.{claim_id} · not tested ({entry['reason']}) · —"
    return f"{chapter}.{claim_id} · {spoken(entry)} · {fidelity(entry)}"
