"""Fragments of the book's pages: MyST Markdown, and HTML where Markdown cannot say it."""

import re
from collections.abc import Callable, Collection
from html import escape

from claimbook import paths, strict_yaml
from claimbook.assets import catalogue
from claimbook.book import scoreboard
from claimbook.book.scoreboard import Chapter, Standing
from claimbook.claims.totals import Totals
from claimbook.claims.words import NOT_RUN, NOT_TESTED, SIGNS, VERDICTS
from claimbook.display.tables import anchor_id, number, tile
from claimbook.provenance import seals

# --- the scoreboard ------------------------------------------------------------------------------------------------


def tiles(book: list[Chapter], page: str = "../notebooks/{}.html") -> str:
    """The scoreboard as a picture: a row a paper, a tile a claim, each leading to its place in the chapter."""
    rows = []
    for chapter in book:
        here = page.format(chapter.key) if paths.notebook(chapter.key).is_file() else None
        body = "".join(_tile(one, here) for one in chapter.standings) or '<span class="tile planned">planned</span>'
        rows.append(f'<div class="row">{_about(chapter, here)}<div class="claims">{body}</div></div>')
    board = '<div class="scoreboard" role="group" aria-label="Verdict of every claim">'
    return "\n".join(["```{raw} html", board, *rows, "</div>", _legend(), "```"])


def _about(chapter: Chapter, page: str | None) -> str:
    """A paper by its title, authors, year and field."""
    title = escape(chapter.title)
    title = f'<a href="{page}">{title}</a>' if page else title
    return f'<div class="paper">{title}<span class="by">{escape(scoreboard.by_line(chapter))}</span></div>'


def _tile(standing: Standing, page: str | None) -> str:
    claim, place = standing.claim, f"#{anchor_id(standing.anchor)}" if standing.entry else ""  # a judged claim's card
    marks = ["headline" if claim.weight == 2 else "", "revised after a result" if standing.revised else ""]
    label = " · ".join(filter(None, [standing.spoken, standing.fidelity.replace("—", ""), *marks]))
    css = f"{standing.css}{' revised' if standing.revised else ''}"
    address = f"{page}{place}" if page else None
    return tile(claim, standing.word, css, f"{claim.id} {claim.title} ({label})", address)


def _legend() -> str:
    """Every sign in words; a toy's tile looks apart, as its totals stand apart."""
    key = '<span class="key"><span class="tile {}">{}</span> {}</span>'.format
    marks = [key(css, sign, word) for word, (sign, css) in SIGNS.items()]
    marks.append(key("partial toy", "½", "a verdict on a toy"))
    marks.append(key("partial revised", "½", "criterion revised after a result"))
    marks.append(key("not-run outside", "C", "premise or our own claim, in no total"))
    return f'<div class="legend">{" ".join(marks)}</div>'


def counts_table(book: list[Chapter]) -> str:
    """The totals for a page of the book: heads are the signs of the legend, so that the table fits a phone."""
    signs = [SIGNS[word][0] for word in VERDICTS]
    heads = ["paper", "claims", *signs, f"toys {' / '.join(signs[:4])}", SIGNS[NOT_TESTED][0], SIGNS[NOT_RUN][0]]
    rows = _counts(book, heads, lambda chapter: f"{chapter.authors} {chapter.year}")
    return "\n".join([":::{table}", ":class: counts", "", *rows, ":::"])


def counts_in_words(book: list[Chapter]) -> str:
    """The totals for the README, which has no legend."""
    heads = ["paper", "claims", *VERDICTS, f"toys: {' / '.join(TOY)}", NOT_TESTED, NOT_RUN]
    return "\n".join([*_counts(book, heads, lambda chapter: f"`{chapter.key}`"), *_planned(book)])


TOY = list(VERDICTS)[:4]  # a toy lies outside every scope, so it contradicts nothing


def _counts(book: list[Chapter], heads: list[str], name: Callable[[Chapter], str]) -> list[str]:
    """Lines of a Markdown table: a row a chapter that has a ledger, and a total."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (1 + len(VERDICTS)) + ":-:|--:|--:|"]
    for chapter in book:
        if chapter.ledger:
            lines.append(_row(name(chapter), _cells(chapter.totals)))
    return [*lines, _row("**all**", _cells(sum((chapter.totals for chapter in book), Totals())))]


def _planned(book: list[Chapter]) -> list[str]:
    planned = [f"`{chapter.key}`" for chapter in book if not chapter.ledger]
    return ["", f"Planned, with no claims counted yet: {', '.join(planned)}."] if planned else []


def _cells(total: Totals) -> list:
    toys = " / ".join(str(total.toys[word]) for word in TOY)
    return [total.claims, *(total.real[word] for word in VERDICTS), toys, total.not_tested, total.not_run]


def _row(name: str, cells: list) -> str:
    return f"| {name} | " + " | ".join(str(cell) for cell in cells) + " |"


# --- downloads and benchmarks ----------------------------------------------------------------------------------------


SOURCES = {
    "pypi": "PyPI",
    "url": "a pinned address",
    "hub": "a model hub",
    "installed": "the environment",
}


def downloads(sources: Collection[str] = tuple(SOURCES)) -> str:
    """Table of models and texts: where from, size to download and on disk, licence."""
    lines = ["| key | what | from | download | on disk | licence |", "|---|---|---|--:|--:|---|"]
    for asset in catalogue.load_catalogue().values():
        if asset.source in sources:
            sizes = [megabytes(asset.download), megabytes(asset.disk)]
            cells = [asset.title, SOURCES[asset.source], *sizes, f"[{asset.licence}]({asset.terms})"]
            lines.append(_row(f"`{asset.key}`", cells))
    return "\n".join(lines)


def megabytes(size: int) -> str:
    return f"{max(size / 1e6, 1):,.0f} MB" if size else "—"


def stacked(markdown_table: str) -> str:
    """A Markdown table that is a list of cards on a phone."""
    return f":::{{table}}\n:class: stacked\n\n{markdown_table}\n:::"


def benchmarks() -> str:
    """Why each benchmark matters (``book/benchmarks.yaml``) and what it gave (``data/results/benchmarks.json``)."""
    path = paths.root() / "data" / "results" / "benchmarks.json"
    if not path.is_file():
        return "Not measured yet: run `make bench`."
    data, why = seals.read(path), _by_hand("benchmarks.yaml")
    rows = [_benchmark(row, why.get(row["name"], "")) for row in data["rows"]]
    return f"Measured on {data['machine']}, {data['threads']} threads, {data['date']}.\n\n" + "\n\n".join(rows)


def _benchmark(row: dict, why: str) -> str:
    """An item of a definition list: the name; why, both sides and their ratio, how they were measured."""
    said = f"Ours: **{number(row['ours'])} {row['ours_unit']}**."
    if row.get("baseline") is not None:
        unit, _, what = row["baseline_unit"].partition(", ")
        said += f" Beside it, {what or 'the usual way'}: {number(row['baseline'])} {unit}."
    if row.get("ratio") is not None:
        said += f" Ratio: **{number(row['ratio'])}**."
    said += f" Aim: {row['target']}{_kept(row)}."
    pieces = [why, said, f"*How:* {row['method']}."]
    name = row["name"][0].upper() + row["name"][1:]
    return f"{name}\n: " + "\n\n  ".join(filter(None, pieces))


def _by_hand(name: str) -> dict:
    return strict_yaml.read(paths.root() / "book" / name, f"book/{name}")


def _kept(row: dict) -> str:
    """Whether the aim was kept, where it is a bound: of the ratio ("at most 1.25"), or of ours ("below 10 s")."""
    bound = re.fullmatch(r"(at most|at least|below) ([\d.]+)(?: s)?", row["target"])
    if bound is None:
        return ""
    value = row["ours"] if bound[1] == "below" else row["ratio"]
    kept = value >= float(bound[2]) if bound[1] == "at least" else value <= float(bound[2])
    return ", ✓ kept" if kept else ", ✗ missed"


def launching() -> str:
    """How a chapter is opened in a browser; nothing as long as no address of the repository is configured."""
    config = _by_hand("_config.yml")
    address = config.get("repository", {}).get("url")
    return LAUNCHING.format(address=address) if address and config.get("launch_buttons") else ""


LAUNCHING = """\
## In a browser, with nothing set up

The rocket at the top of each chapter opens its notebook elsewhere. **Binder** sets up the lock file, which takes some
minutes, and opens JupyterLab. **Colab** sets up nothing; run this in a first cell:

```bash
!git clone --depth 1 {address} claimbook
%cd claimbook
!pip install -q -r requirements.lock && pip install -q --no-deps --no-build-isolation -e .
```

The verdicts there may take longer than on this page, and nothing that you change there reaches the book.
"""


def families() -> str:
    """Families of models by what can be done with them, from ``data/model_families.json``."""
    path = paths.root() / "data" / "model_families.json"
    if not path.is_file():
        return "Not tried yet: run `python -m claimbook.runs.families`."
    found = seals.read(path)
    methods = list(next(iter(found.values())))
    every = [kind for kind, row in found.items() if set(row.values()) == {"works"}]
    some = {kind: row for kind, row in found.items() if "works" in row.values() and kind not in every}
    refused = {kind: row[methods[0]] for kind, row in found.items() if "works" not in row.values()}
    untried = [kind for kind, why in refused.items() if why.startswith("not tried")]
    lines = [f"**{len(every)} of {len(found)} families work with every method:** {_codes(every)}.\n"]
    partly = [_row("family", methods), "|---" * (len(methods) + 1) + "|"]
    partly += [
        _row(f"`{kind}`", ["works" if why == "works" else _escaped(why) for why in row.values()])
        for kind, row in some.items()
    ]
    never = ["| family | because |", "|---|---|"]
    never += [_row(f"`{kind}`", [_escaped(why)]) for kind, why in refused.items() if kind not in untried]
    lines += [f"**{len(some)} work with some:**\n", stacked("\n".join(partly))]
    lines += [f"\n**{len(refused) - len(untried)} are refused:**\n", stacked("\n".join(never))]
    lines += [
        f"\n**{len(untried)} were not tried,** as no small config of ours makes one that runs: {_codes(untried)}."
    ]
    return "\n".join(lines)


def faults() -> str:
    """What machines do to runs, how often it was done and how that ended, from ``data/faults.json``."""
    path = paths.root() / "data" / "faults.json"
    if not path.is_file():
        return "Not tried yet: run `python tests/faults.py`."
    rows = seals.read(path)
    lines = ["| what happens | times | how it ended |", "|---|--:|---|"]
    lines += [_row(fault, [row["times"], _ended(row)]) for fault, row in rows.items()]
    days = " and ".join(sorted({row["made"] for row in rows.values()}))
    return f"Done on {days}.\n\n" + stacked("\n".join(lines))


def _ended(row: dict) -> str:
    if row["failed"]:
        return f"**did not hold:** {_escaped(row['failed'])}"
    often = ((f"{count} ×: " if count > 1 else "", how) for how, count in row["ended"].items())
    return "; ".join(f"{times}{_escaped(how)}" for times, how in often)


def _codes(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _escaped(text: str) -> str:
    """A sentence that stands as it is in a cell of a Markdown table; a word with two hyphens is code, not a dash."""

    def plain(found: re.Match) -> str:
        word = found[0]
        return word if word[0] == "`" else f"`{word}`" if "--" in word else f"\\{word}"

    return re.sub(r"`[^`|]*`|[^\s`|;,]*--[^\s`|;,]*|[|<>_*]", plain, text)
