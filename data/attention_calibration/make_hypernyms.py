"""Make hypernyms.csv from the files of WordNet 3.0: python make_hypernyms.py FOLDER_WITH_data.noun > hypernyms.csv

An item is a common noun, what it is a kind of, and three kinds that it is not. WordNet 3.0 is copyright 2006 by
Princeton University; its licence, which allows this, stands in WORDNET-LICENCE beside the items.
"""

import csv
import random
import sys
from pathlib import Path

COUNT, LEAST = 1200, 2  # items; times that the first sense of a noun was seen in the tagged texts, at least
VAGUE = {  # kinds that say little
    "entity", "abstraction", "thing", "object", "whole", "unit", "matter", "attribute", "state", "relation", "act",
    "event", "part", "group", "measure", "cause", "way", "point", "property", "quality", "content", "cognition",
    "psychological", "happening", "activity", "action", "being", "causal", "artifact", "structure", "collection",
    "condition", "process", "communication", "concept", "idea", "message", "instrumentality", "definite", "change",
}  # fmt: skip


def read(folder: Path):
    """Synsets by offset: (lemmas, offsets of hypernyms); and the first sense of each noun."""
    synsets, first = {}, {}
    for line in (folder / "data.noun").read_text(encoding="latin-1").splitlines():
        if line.startswith(" "):
            continue
        fields = line.split(" | ")[0].split()
        words = int(fields[3], 16)
        lemmas = fields[4 : 4 + 2 * words : 2]
        rest = fields[5 + 2 * words :]
        synsets[fields[0]] = lemmas, [rest[i + 1] for i in range(0, len(rest) - 3, 4) if rest[i] == "@"]
    for line in (folder / "index.noun").read_text(encoding="latin-1").splitlines():
        if not line.startswith(" "):
            fields = line.split()
            first[fields[0]] = fields[-int(fields[2])]
    return synsets, first


def counts(folder: Path) -> dict[str, int]:
    """How often the first sense of each noun was seen."""
    found = {}
    for line in (folder / "cntlist.rev").read_text(encoding="latin-1").splitlines():
        key, sense, count = line.split()
        lemma, _, kind = key.partition("%")
        if kind[0] == "1" and sense == "1":
            found[lemma] = int(count)
    return found


def ancestors(synsets: dict, offset: str) -> list[str]:
    """All hypernyms of a synset, the nearest first."""
    found, front = [], [offset]
    while front:
        front = [up for one in front for up in synsets[one][1] if up not in found]
        found += dict.fromkeys(front)
    return found


def main(folder: Path) -> None:
    synsets, first = read(folder)
    seen = counts(folder)
    plain = {word for word in first if word.isascii() and word.isalpha() and word.islower() and 3 <= len(word) <= 12}
    kinds = {}
    for word in sorted(plain):
        if seen.get(word, 0) < LEAST:
            continue
        for up in ancestors(synsets, first[word])[:3]:
            lemma = synsets[up][0][0]
            if lemma in plain and lemma not in VAGUE and first[lemma] == up and seen.get(lemma, 0) >= LEAST:
                if lemma not in word and word not in lemma:
                    kinds[word] = lemma
                break
    draw = random.Random(0)
    words = draw.sample(sorted(kinds), min(COUNT, len(kinds)))
    drawn = [kinds[word] for word in words]  # so that a kind is wrong as often as it is right
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["word", "kind", "wrong_1", "wrong_2", "wrong_3"])
    for word in words:
        above = {lemma for up in ancestors(synsets, first[word]) for lemma in synsets[up][0]}
        below = {kind for kind in drawn if first[word] in ancestors(synsets, first[kind])}
        wrong = []
        while len(wrong) < 3:
            kind = draw.choice(drawn)
            near = set(ancestors(synsets, first[kind])) & {first[kinds[word]]}  # a kind of the right kind
            if kind not in above | below | {word, *wrong} and not near:
                wrong.append(kind)
        table.writerow([word, kinds[word], *wrong])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
