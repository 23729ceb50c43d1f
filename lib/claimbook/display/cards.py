"""A claim's card: what the paper says, what would count, what was measured, and the verdict, as one piece of HTML.

Everything comes from the ledger and the claim's entry in the result file. Strips are drawn in the page's own text
colour, so that they read on a light page, on a dark one, and in JupyterLab.
"""

import math
from dataclasses import dataclass
from html import escape

from claimbook.claims import words
from claimbook.claims.criteria import Controls, OtherMetric, Part, accepted
from claimbook.claims.ledgers import Claim
from claimbook.display.tables import (
    Shown,
    anchor_id,
    claim_line,
    failing_figures,
    number,
    published_in_full,
    rounded,
    sample,
)

WIDTH, HEIGHT, SPACE = 320, 20, 12  # of a strip, and what it keeps free at either end, in pixels
STRETCH = 2  # a control may widen a strip by so many times what decides; one farther off is an arrow at its end
STATES = {"met": "✓", "not_met": "✗", "open": "?", "untested": "–", "void": "∅"}
MARKS = {"ours": "●", "other": "□", "published": "◆", "null": "○", "ceiling": "△"}
SAYS = {"null": "if the claim were false", "ceiling": "the best possible"}
RULED = ("rank_order", "shape")
TAGS = {
    "exact": "the paper's own models and data",
    "reduced": "a smaller model, another text or smaller sizes than the paper's",
    "toy": "a small model made here, which can show a mechanism and not its size",
    "headline": "a claim that the paper rests on",
    "in no total": "a premise, or a claim of our own",
    "revised after a result": "the criterion or its judging was changed after a verdict; what changed is told below",
}


def card(chapter: str, claim: Claim, entry: dict) -> Shown:
    """The card of a judged claim under its own anchor; as text it is the one line of `tables.claim_line`."""
    anchor = anchor_id(f"{chapter}.{claim.id}")
    if entry["verdict"] is None:
        return Shown(f'<p id="{anchor}">{claim.id}: smoke run, no verdict</p>', claim_line(chapter, claim.id, entry))
    title = f"<b>{claim.id}</b> {escape(claim.title)}"
    link = f'<a class="headerlink" href="#{anchor}" title="Link to this claim" aria-label="Link to {claim.id}">#</a>'
    where = f"{escape(claim.where)} · published: {escape(published_in_full(claim))}"
    parts = [part for part in claim.parts if part.name in entry["parts"]]
    pieces = [
        f'<p class="claim-title">{title} {link}</p>',
        f'<p class="claim-verdict">{badge(entry)} {" ".join(_tags(claim, entry))}</p>',
        _why(claim, entry),
        f'<p>{escape(claim.text)}</p><p class="part-found">{where}</p>',
        *(_precondition(claim, name, parts, entry) for name in claim.preconditions if parts),
        *(_part(part, entry) for part in parts),
        _folded("Why these bounds", [f"{_named(part)}: {part.why}" for part in claim.parts]),
        _folded("How our run differs", claim.deviations),
        _folded(
            f"Revised: version {claim.version}",
            [f"{one.date}, {words.was(one.old_verdict)}: {one.change}" for one in claim.changelog],
        ),
    ]
    html = f'<article class="claim {words.css(entry)}" id="{anchor}">{"".join(pieces)}</article>'
    return Shown(html, claim_line(chapter, claim.id, entry))


def badge(entry: dict) -> str:
    """The verdict with its sign, in the look of the scoreboard's tiles."""
    sign, _ = words.SIGNS[words.word(entry["verdict"])]
    return f'<span class="tile {words.css(entry)}">{sign} {escape(words.spoken(entry))}</span>'


def _tags(claim: Claim, entry: dict) -> list[str]:
    """What stands beside the verdict: fidelity, headline, other models, whom it speaks for, whether it was revised."""
    revised = any(change.old_verdict for change in claim.changelog)
    tags = [
        words.fidelity(entry) if entry["fidelity"] else None,
        "headline" if claim.weight == 2 else None,
        "in no total" if not claim.counted else None,
        entry.get("holds_in"),
        entry.get("speaks_for"),
        "revised after a result" if revised else None,
    ]
    return [
        f'<span class="tag" title="{escape(TAGS.get(tag.split(",")[0], ""), quote=True)}">{escape(tag)}</span>'
        for tag in tags
        if tag and tag not in words.spoken(entry)
    ]


def _why(claim: Claim, entry: dict) -> str:
    """In a line, what the verdict comes from: parts that are not met, and models that fail; why nothing was tested."""
    state = claim.tier("cpu")
    if entry["verdict"] == "not_tested":
        return f"<p>{escape(state.why)}</p>" if hasattr(state, "why") else ""
    lines = []
    for name in ("not_met", "open", "untested", "void"):
        parts = [_named(part) for part in claim.parts if entry["parts"].get(part.name, {}).get("state") == name]
        lines += [f"{words.word(name).capitalize()}: {', '.join(parts)}."] if parts else []
    for model, other in entry.get("others", {}).items():
        found = other["parts"].items()
        fails = [name for name, one in found if (one["state"], entry["parts"][name]["state"]) == ("not_met", "met")]
        lines += [f"{model} fails: {', '.join(map(_spoken, fails))}."] if fails else []
    lines += [f"Capped: {claim.cap.why}."] if claim.cap else []
    return f'<p class="claim-why">{escape(" ".join(lines))}</p>' if lines else ""


def _named(part: Part) -> str:
    return _spoken(part.name)


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _folded(title: str, lines: list[str]) -> str:
    inner = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<details><summary>{escape(title)}</summary><ul>{inner}</ul></details>" if lines else ""


# --- a part ----------------------------------------------------------------------------------------------------------


def _precondition(claim: Claim, name: str, parts: list[Part], entry: dict) -> str:
    """What has to be there first, as it was measured for the parts that need it."""
    needed = claim.precondition(name)
    found = next(entry["parts"][part.name]["precondition"] for part in parts if part.needs == name)
    head = f"{state(found['state'])} precondition: <b>{escape(_spoken(name))}</b>"
    asked = f"{escape(needed.quantity)}: {_bold(needed)}"
    return _block(head, asked, strip(needed, found), f"{MARKS['ours']} {_measured(found, entry)}")


def _part(part: Part, entry: dict) -> str:
    """A part: its state and name, what is asked, its strip, and the same in words; then the other models."""
    found, others = entry["parts"][part.name], entry.get("others", {}).items()
    beside = {model: one["parts"][part.name] for model, one in others if part.name in one["parts"]}
    needs = f", only if {escape(_spoken(part.needs))}" if part.needs else ""
    head = f"{state(found['state'])} <b>{escape(_named(part))}</b>{needs}"
    asked = f"{escape(part.quantity)}: {_bold(part)}"
    drawn = strip(part, found, list(beside.values()))
    said = [f"{MARKS['other']} {escape(model)} {_value(one)}, {_state(one)}" for model, one in beside.items()]
    return _block(head, asked, drawn, " · ".join([*_legend(part, found, entry), *said]))


def _block(head: str, asked: str, drawn: str, said: str) -> str:
    return (
        f'<div class="part"><p class="part-head">{head}</p><p class="part-asked">{asked}</p>{drawn}'
        f'<p class="part-found">{said}</p></div>'
    )


def state(name: str) -> str:
    """A part's state with its sign: ✓ met."""
    return f'<span class="state {name.replace("_", "-")}">{STATES[name]} {words.word(name)}</span>'


def _state(found: dict) -> str:
    return f"{STATES[found['state']]} {words.word(found['state'])}"


def _asked(part: Part) -> str:
    if part.type in RULED:
        return f"in at least {100 * part.min_share:.0f} %, and more often than by chance"
    return accepted(part)


def _bold(part: Part) -> str:
    return f"<b>{escape(_asked(part)).replace(' ', '&nbsp;')}</b>" if part.type not in RULED else escape(_asked(part))


def _value(found: dict) -> str:
    if found.get("estimate") is None:
        return escape(found["because"])
    value, interval = rounded(found["estimate"], found["interval"])
    return escape(" ".join(filter(None, [value, interval])))


def _measured(found: dict, entry: dict) -> str:
    """The model that decides, its value with interval, and over how many units; toys and sums are of no model."""
    who = "ours" if entry["fidelity"] in ("toy", "exact") else entry.get("model") or "ours"
    return f"{escape(who)} {', '.join(filter(None, [_value(found), escape(sample(found))]))}"


def _legend(part: Part, found: dict, entry: dict) -> list[str]:
    """The marks of the strip in words, with their numbers."""
    lines = [f"{MARKS['ours']} {_measured(found, entry)}" if found["estimate"] is not None else _value(found)]
    published = part.controls.published if isinstance(part.controls, Controls) else None
    if figures := _figures(part, "published"):
        fails = "".join(f" ({figure} fails: {figure.fails})" for figure in failing_figures(part))
        lines.append(f"{MARKS['published']} published {_numbers(figures)}{escape(fails)}")
    elif isinstance(published, OtherMetric):
        values = published.value if isinstance(published.value, list) else [published.value]
        said = " and ".join(map(str, values))
        lines.append(escape(f"published, in another metric: {said} ({published.why})"))
    for name, says in SAYS.items():
        if name in found:
            lines.append(f"{MARKS[name]} {says} {_value(found[name])}")
        elif figures := _figures(part, name):
            lines.append(f"{MARKS[name]} {says} {_numbers(figures)}")
    because = [f"{words.word(found['state'])}: {escape(found['because'])}"]
    return lines + (because if found["state"] in ("open", "void") else [])


def _figures(part: Part, which: str) -> list[float]:
    """Known answers of a part that are numbers of its own quantity."""
    listed = getattr(part.controls, which, None)
    return [one.value for one in listed if one.value is not None] if isinstance(listed, list) else []


def _numbers(values: list[float]) -> str:
    return ", ".join(map(number, values))


# --- a strip ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Places values between two ends on a strip, in pixels; a value beyond an end stands at it."""

    low: float
    high: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, self._inside(value)))
        return SPACE + (WIDTH - 2 * SPACE) * (value - low) / (high - low)

    def _inside(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    def beyond(self, value: float) -> int:
        """-1 or 1 for a value that lies beyond the low or the high end, else 0."""
        return (value > self.high) - (value < self.low)


def strip(part: Part, found: dict, beside: list[dict] = ()) -> str:
    """The part as a picture: accepted region, our interval, and on the same axis what it is compared with.

    That is the published figures, the null, the ceiling and the other models (``beside``).
    """
    if found.get("estimate") is None:  # a control that was not measured has no such key
        return ""
    low, high = (part.min_share, 1.0) if part.type in RULED else part.region
    marks = {"published": _figures(part, "published")}
    for name in SAYS:
        given = found.get(name, {}).get("estimate")
        marks[name] = _figures(part, name) if given is None else [given]
    marks["other"] = [one["estimate"] for one in beside if one["estimate"] is not None]
    own = [found["estimate"], *(found["interval"] or [])]
    decides = [*own, *(end for end in (low, high) if math.isfinite(end))]
    scale = _scale(decides, [value for values in marks.values() for value in values], found["scale"] == "log")
    ours = _line(*(found["interval"] or [found["estimate"]] * 2), scale) + _mark("ours", found["estimate"], scale)
    drawn = "".join(_mark(name, value, scale) for name, values in marks.items() for value in values)
    label = escape(f"{words.word(found['state'])}: ours {_value(found)}, accepted {_asked(part)}", quote=True)
    return (
        f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f'<path d="M{SPACE} {HEIGHT / 2}H{WIDTH - SPACE}" stroke="currentColor" opacity=".35"/>'
        f"{_region(low, high, scale)}{drawn}{ours}</svg>"
    )


def _scale(decides: list[float], controls: list[float], log: bool) -> Scale:
    """Ends that show all that decides, and the controls that are not many times as far off."""
    log = log and min(decides) > 0
    forth, back = (math.log, math.exp) if log else (float, float)
    low, high = min(map(forth, decides)), max(map(forth, decides))
    span = high - low or abs(high) * 0.2 or 1.0
    near = [forth(value) for value in controls if not log or value > 0]
    near = [value for value in near if low - STRETCH * span <= value <= high + STRETCH * span]
    low, high = min([low, *near]), max([high, *near])
    room = 0.12 * (high - low or span)
    return Scale(back(low - room), back(high + room), log)


def _region(low: float, high: float, scale: Scale) -> str:
    """The accepted region, shaded, with a line at each end that it has."""
    start, end = (SPACE if math.isinf(low) else scale(low)), (WIDTH - SPACE if math.isinf(high) else scale(high))
    start, end = (0 if math.isinf(low) else start), (WIDTH if math.isinf(high) else end)
    edges = "".join(
        f'<path d="M{at:.1f} 1V{HEIGHT - 1}" stroke="#0b8a66" stroke-width="2"/>'
        for at, value in ((start, low), (end, high))
        if math.isfinite(value)
    )
    width = max(end - start, 2)
    return (
        f'<rect x="{start:.1f}" y="1" width="{width:.1f}" height="{HEIGHT - 2}" fill="#0b8a66" opacity=".22"/>{edges}'
    )


def _line(low: float, high: float, scale: Scale) -> str:
    return (
        f'<path d="M{scale(low):.1f} {HEIGHT / 2}H{scale(high):.1f}" stroke="currentColor" stroke-width="4" '
        'stroke-linecap="round" opacity=".75"/>'
    )


def _mark(name: str, value: float, scale: Scale) -> str:
    """The sign of a value; an arrow at the end of the strip for one that lies beyond it."""
    x, y, side = scale(value), HEIGHT / 2, scale.beyond(value)
    if side:
        x = WIDTH - 2 if side > 0 else 2
        shape = f"M{x - side * 9:.1f} {y - 5}L{x:.1f} {y}L{x - side * 9:.1f} {y + 5}Z"
    else:
        shape = {
            "ours": f"M{x - 5:.1f} {y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
            "null": f"M{x - 4:.1f} {y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
            "published": f"M{x:.1f} {y - 6}L{x + 6:.1f} {y}L{x:.1f} {y + 6}L{x - 6:.1f} {y}Z",
            "other": f"M{x - 4.5:.1f} {y - 4.5}h9v9h-9Z",
            "ceiling": f"M{x - 5:.1f} {y + 4}L{x:.1f} {y - 5}L{x + 5:.1f} {y + 4}Z",
        }[name]
    filled = "currentColor" if name in ("ours", "published") else "none"
    return f'<path d="{shape}" fill="{filled}" stroke="currentColor" stroke-width="1.8"/>'
