"""Topics of a formal mathematics library and their prerequisites: which topic's proofs cite which other's theorems.

The files in ``data/graphmasal`` come from ``set.mm`` of Debian's package metamath-databases, 0.0.0~20210101, in the
public domain (CC0). Its headings are the topics, at two levels: 93 chapters ("topics") and 661 sections. They are
derived again by ``python -m claimbook.experiments.graphmasal.topics PATH_OF_SET.MM``. A proof cites earlier theorems
only, so that no circle can arise. These are prerequisites of formal proofs, no syllabus of a school.
"""

import csv
import functools
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from claimbook import paths
from claimbook.papers.graphmasal import Graph

LEVELS = {"topics": "#*#*", "sections": "=-=-"}  # and how the library underlines a heading of that level
STORED_FROM, SHARE = 0.02, 0.05  # least share of a topic's theorems that cite another: in the files; as an edge
LEAST_CITING = 2  # theorems
SAMPLE = 6  # theorems of a section whose comments are kept
SHORTEST, LONGEST = 40, 320  # characters of a comment kept
LEFT_OUT = ("GUIDES AND MISCELLANEA", "ARCHIVE", "SUPPLEMENTARY MATERIAL")  # parts of the library outside its course

_STATEMENT = re.compile(r"\$\(\s(.*?)\s\$\)|(\S+)\s+\$([ap])\s+(\S+)(.*?)\$\.", re.DOTALL)
_HEADING = re.compile(r"^(#{4}|#\*#\*|=-=-|-\.-\.)\S*\n(.*?)\n\1\S*\n?(.*)", re.DOTALL)


@dataclass(frozen=True)
class Course:
    """Topics in the library's own order, with names and descriptions, and the graph of their prerequisites."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    graph: Graph

    def at(self, *ids: str) -> list[int]:
        """Numbers of topics by their ids; KeyError for one that is not there."""
        place = {topic: number for number, topic in enumerate(self.ids)}
        return [place[topic] for topic in ids]


@functools.cache
def load(level: str = "sections", share: float = SHARE) -> Course:
    """The stored graph of a level, "topics" or "sections": an edge where ``share`` of a topic's theorems cite another.

    Edges that a longer way implies are left out (transitive reduction). ValueError for a share below the stored ones.
    """
    if share < STORED_FROM:
        raise ValueError(
            f"the files hold citations by at least {STORED_FROM:.0%} of a topic's theorems, not {share:.1%}"
        )
    nodes = _read(f"{level}_nodes")
    at = {row["id"]: number for number, row in enumerate(nodes)}
    edges = [(at[row["source"]], at[row["target"]]) for row in _read(f"{level}_edges") if float(row["weight"]) >= share]
    columns = [tuple(row[name] for row in nodes) for name in ("id", "name", "description")]
    return Course(*columns, Graph.of(len(nodes), edges).reduced())


def comments() -> list[dict[str, str]]:
    """What the library says of some theorems: ``section`` and ``topic`` (ids), ``label``, ``comment``."""
    return _read("theorems")


def _read(name: str) -> list[dict[str, str]]:
    with (paths.chapter_data("graphmasal") / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- deriving the files -----------------------------------------------------------------------------------------------


@dataclass
class Heading:
    """A heading of the library: the text under it, and its theorems as (label, comment, labels cited)."""

    title: str
    text: str
    theorems: list[tuple[str, str, set[str]]] = field(default_factory=list)


def headings(source: str) -> dict[str, list[Heading]]:
    """Headings of both levels that have theorems, in order; parts outside the course are left out."""
    found: dict[str, list[Heading]] = {level: [] for level in LEVELS}
    comment, kept = "", False
    for text, label, _, typecode, rest in _STATEMENT.findall(source):
        heading = _HEADING.match(text)
        if heading:
            mark, title, below = heading[1], " ".join(heading[2].split()), plain(heading[3])
            if mark == "####":
                kept = not title.startswith(LEFT_OUT)
                found["topics"].append(Heading(title, below))
            elif mark == "#*#*":
                found["topics"].append(Heading(title, below))
            found["sections"].append(Heading(title, below))
        elif text:
            comment = text
        elif typecode == "|-" and kept:
            cited = set(re.findall(r"\(\s(.*?)\s\)", rest.partition("$=")[2], re.DOTALL)[:1])
            theorem = (label, plain(comment), set(" ".join(cited).split()))
            for of in found.values():
                of[-1].theorems.append(theorem)
    return {level: [heading for heading in of if heading.theorems] for level, of in found.items()}


def plain(comment: str) -> str:
    """A comment without markup, credits and references, up to the end of a sentence before `LONGEST` characters."""
    text = " ".join(re.split(r"\((?:Contributed|Revised|Proof shortened|New usage|Proof modif)", comment)[0].split())
    text = re.sub(r"`|~ |\b_|_\b", "", text)
    text = re.sub(r"(?:(?: of| in| from)? )?\[[A-Z]\w*\](?: pp?\. [\d-]+)?", "", text)
    text = re.sub(r"\s+([.,;:)])", r"\1", " ".join(text.split()))
    if len(text) <= LONGEST:
        return text
    sentence, stop, _ = text[:LONGEST].rpartition(". ")
    return f"{sentence}." if stop else f"{text[:LONGEST].rpartition(' ')[0]} …"


def citations(of: list[Heading]) -> list[tuple[int, int, float]]:
    """(cited, citing, share of the citing heading's theorems), for the pairs that may become edges."""
    home = {label: number for number, heading in enumerate(of) for label, _, _ in heading.theorems}
    found = []
    for number, heading in enumerate(of):
        citing = Counter(u for _, _, cited in heading.theorems for u in {home[c] for c in cited if c in home})
        for other, count in sorted(citing.items()):
            share = count / len(heading.theorems)
            if other < number and count >= min(LEAST_CITING, len(heading.theorems)) and share >= STORED_FROM:
                found.append((other, number, share))
    return found


def names(of: list[Heading]) -> list[str]:
    """Titles in plain case; one that stands twice gets a number."""
    titles = [heading.title.capitalize() if heading.title.isupper() else heading.title for heading in of]
    seen, count = defaultdict(int), Counter(titles)
    for i, title in enumerate(titles):
        seen[title] += 1
        titles[i] = f"{title} ({seen[title]})" if count[title] > 1 else title
    return titles


def derive(source: Path) -> None:
    """Write the files of ``data/graphmasal`` from a ``set.mm``."""
    found = headings(source.read_text(encoding="ascii"))
    ids = {level: [f"{level[0]}{i:03}" for i in range(len(of))] for level, of in found.items()}
    for level, of in found.items():
        about = [heading.text or heading.theorems[0][1] for heading in of]
        _write(f"{level}_nodes", ["id", "name", "description"], zip(ids[level], names(of), about, strict=True))
        edges = [(ids[level][u], ids[level][v], f"{share:.3f}") for u, v, share in citations(of)]
        _write(f"{level}_edges", ["source", "target", "weight"], edges)
    topics = zip(ids["topics"], found["topics"], strict=True)
    topic = {label: name for name, heading in topics for label, _, _ in heading.theorems}
    rows = []
    for section, heading in zip(ids["sections"], found["sections"], strict=True):
        long = [(label, comment) for label, comment, _ in heading.theorems if len(comment) >= SHORTEST]
        spread = long[:: max(1, len(long) // SAMPLE)][:SAMPLE]
        rows += [(section, topic[label], label, comment) for label, comment in spread]
    _write("theorems", ["section", "topic", "label", "comment"], rows)


def _write(name: str, header: list[str], rows) -> None:
    with (paths.chapter_data("graphmasal") / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


if __name__ == "__main__":
    derive(Path(sys.argv[1]))
