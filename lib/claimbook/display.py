"""What a chapter shows of its ledger and its result: small HTML pieces that also read as plain text."""

import math
from collections import Counter
from html import escape

from claimbook.assets import local
from claimbook.claims import verdicts
from claimbook.claims.ledgers import Claim, Ledger
from claimbook.progress import clock


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


def claims_table(ledger: Ledger) -> Shown:
    """The claims as the ledger states them, each with what would count as met; written before the run."""
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
    return table(["claim", "in our words", "where", "published", "met when"], rows, "claims-table")


def link(chapter: str, claim_id: str, text: str = "") -> Shown:
    """A link to a claim's section. Sphinx turns the label ``streaming_llm.C3`` into the id ``streaming-llm-c3``."""
    text = text or claim_id
    anchor = f"{chapter}-{claim_id}".replace("_", "-").lower()
    return Shown(f'<a href="#{anchor}">{escape(text)}</a>', text)


def published(claim: Claim) -> str:
    """The paper's value with its unit; a dash where it states none."""
    value = claim.published.value
    if value is None:
        return "—"
    text = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return f"{text} {claim.published.unit or ''}".strip()


def criteria(claim: Claim) -> str:
    """All parts in words, or the reason why there are none."""
    state = claim.tier("cpu")
    if hasattr(state, "not_tested"):
        return f"not tested: {state.not_tested.replace('_', ' ')}"
    gate = f"judged only if {claim.gate}: " if claim.gate else ""
    return gate + "; ".join(f"{part.quantity} {_region(part)}" for part in claim.parts)


def _region(part) -> str:
    match part.type:
        case "at_least":
            return f"≥ {part.bound:g}"
        case "at_most":
            return f"≤ {part.bound:g}"
        case "equivalent":
            return f"= {part.target:g} ± {part.margin:g}"
        case "direction":
            return f"≥ {part.min_effect:g}" if part.sign > 0 else f"≤ −{part.min_effect:g}"
        case "equality":
            return f"= {part.target:g}" + (f" ± {part.tolerance:g}" if part.tolerance else "")
    return f"({part.rule})"


def parts_table(ledger: Ledger, entries: dict) -> Shown:
    """Every part of every claim that was measured, folded away behind how many were met."""
    judged = [
        (claim, part, entries[claim.id]["parts"][part.name])
        for claim in ledger.claims
        for part in claim.parts
        if part.name in entries[claim.id]["parts"]
    ]
    if not judged:
        return Shown("<p>no part was judged</p>", "no part was judged")
    rows = [
        [link(ledger.chapter, claim.id), f"{part.quantity} {_region(part)}", _ours(found), _state(found)]
        for claim, part, found in judged
    ]
    shown = table(["claim", "met when", "ours, 95 % interval", ""], rows, "claims-table")
    states = Counter(_state(found) for *_, found in judged)
    counts = ", ".join(f"{states[word]} {word}" for word in ("met", "not met", "open", "untested") if states[word])
    title = f"{len(judged)} parts: {counts}"
    html = f'<details class="parts"><summary>{title}</summary>{shown.html}</details>'
    return Shown(html, f"{title}\n{shown}")


def _ours(found: dict) -> str:
    """A part's estimate with its interval and n."""
    if found["estimate"] is None:
        return found["because"]
    count = f"n = {found['n']} {found['unit']}".rstrip() if found["n"] > 1 else ""
    return " ".join(filter(None, [*rounded(found["estimate"], found["interval"]), count]))


def _state(found: dict) -> str:
    return found["state"].replace("_", " ")


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


def badges(ledger: Ledger, entries: dict) -> Shown:
    """One badge per claim, leading to its section; the classes are those of the scoreboard's tiles."""
    html, text = [], []
    for claim in ledger.claims:
        entry = entries[claim.id]
        words = f"{claim.id} {spoken(entry)}"
        css = (entry["verdict"] or "not_run").replace("_", "-") + (" toy" if entry["fidelity"] == "toy" else "")
        html.append(link(ledger.chapter, claim.id, words).html.replace("<a ", f'<a class="tile {css}" ', 1))
        text.append(words)
    return Shown(f'<div class="badges">{" ".join(html)}</div>', " · ".join(text))


def spoken(entry: dict) -> str:
    """Verdict of a result file's claim in words."""
    if entry["verdict"] is None:
        return "no verdict"
    return verdicts.spoken(entry["verdict"], entry["fidelity"])


def outcome(ledger: Ledger, entries: dict) -> str:
    """One line: how many claims got which verdict, the untested counted in the total."""
    if any(entry["verdict"] is None for entry in entries.values()):
        return "smoke run, no verdicts"
    tally = verdicts.tally([(c, entries[c.id]["verdict"], entries[c.id]["fidelity"]) for c in ledger.claims])
    counts = [f"{n} {word}" for word, n in tally.verdicts.items()]
    counts += [f"{word} in {n} (toy)" for word, n in tally.mechanisms.items()]
    counts += [f"{tally.not_tested} not tested"] if tally.not_tested else []
    claims = f"{tally.total} claim" + ("s" if tally.total != 1 else "")
    return f"{claims}: {', '.join(counts) or 'none'}" + (f"; {tally.shown} more shown" if tally.shown else "")


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
    return f"{chapter}.{claim_id} · {spoken(entry)} · {entry['fidelity']}"
