"""Ingredient lines to items, by the frozen word lists of ``data/grocery_ranking/ingredient_words.yaml``.

``1 ½ cups (200 g) freshly-chopped ripe tomatoes, drained`` is the item ``tomato``. Four steps: cut the line to its name
(no brackets, the first piece between commas and the first of alternatives that names something, both sides of *and*);
drop quantities, units and preparation; put words into the singular (inflect); merge what is sold as one thing. The rule
for that stands at the head of the word lists.
"""

import functools
import html
import re
import unicodedata

from claimbook import paths, strict_yaml

LEVELS = ("merged", "phrase", "last word")  # the last two show how much a result owes to the rules

_FOOTNOTE = re.compile(r"<ref.*?(/>|</ref>)")
_MARKUP = re.compile(r"<[^<>]*>|'{2,}")  # tags, and the quotes that make italics and bold on a wiki
_BRACKETS = re.compile(r"\([^)]*\)|\([^)]*$")
_INVERTED = re.compile(r"\b(juice|zest|peel|rind) (?:of|from) (.*)")
_OR = re.compile(r" or\b|(?<=[a-z])/(?=[a-z])")
_AND = re.compile(r"\band\b|\bplus\b|\bwith\b|[&+]")
_NO_PLURAL = re.compile(r"(ss|us|is)$")


def item_set(lines: list[str], level: str = "merged") -> frozenset[str]:
    """The items of a recipe from its ingredient lines; ``level`` as in `LEVELS`."""
    return frozenset(item for line in lines for item in items(line, level))


def items(line: str, level: str = "merged") -> list[str]:
    """Items that one ingredient line names, in order; none for a line without a name (``to taste``)."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, not {level!r}")
    return [item for name in _names(line) if (item := _item(name, level))]


def staples() -> frozenset[str]:
    """What most pantries hold; results are shown with and without."""
    return _words_of("staples")


def _names(line: str) -> list[str]:
    text = unicodedata.normalize("NFC", html.unescape(line)).lower().replace("’", "'")
    text = _BRACKETS.sub(" ", _MARKUP.sub("", _FOOTNOTE.sub(" ", text)))
    for pattern, words in _rules()["rewritten"]:
        text = re.sub(pattern, words, text)
    text = next((text for text in _ends().split(text) if _kept(text)), "")
    text = _INVERTED.sub(r"\2 \1", text)
    piece = next((piece for piece in text.split(",") if _kept(piece)), "")
    return _AND.split(_first_named(_OR.split(piece)))


def _first_named(alternatives: list[str]) -> str:
    """The first alternative that names something; *vegetable or peanut oil* is an oil."""
    named = [text for text in alternatives if _kept(text)] or alternatives[:1]
    is_kind = len(named) > 1 and len(_kept(named[0])) == 1 and _kept(named[0])[0] in _words_of("kinds")
    return named[1] if is_kind else named[0]


@functools.lru_cache(maxsize=100_000)
def _item(name: str, level: str) -> str:
    """One name as an item, "" when nothing is left of it."""
    words = _kept(name)
    if "from" in words[1:]:
        words = words[: words.index("from")]
    phrase = " ".join(_singular(word) for word in words[-2:])
    if level == "last word":
        return phrase.rsplit(" ", 1)[-1]
    return _merged(phrase) if level == "merged" else phrase


def _kept(text: str) -> list[str]:
    """Words that may name an item: no quantity, unit, adverb or preparation."""
    dropped = _words_of("units") | _words_of("preparation")
    words = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", text)
    words = [word for word in words if len(word) > 1 and not _is_adverb(word)]
    words = [word for word in words if not {word, _singular(word), word.rsplit("-", 1)[-1]} & dropped]
    return [word for word in words if _singular(word) != "clove"] if "garlic" in words else words


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") and word not in _words_of("not_adverbs")


def _merged(phrase: str) -> str:
    if phrase in _rules()["kept_apart"]:
        return phrase
    for pattern, name in _rules()["merged"]:
        if whole := re.fullmatch(pattern, phrase):
            return whole.expand(name)
    return phrase


@functools.lru_cache(maxsize=20_000)
def _singular(word: str) -> str:
    is_singular = _NO_PLURAL.search(word) or word in _words_of("not_plurals")
    return word if is_singular else _engine().singular_noun(word) or word


@functools.cache
def _engine():
    import inflect  # takes seconds, which a refused parameter or a missing file need not cost

    return inflect.engine()


@functools.cache
def _ends() -> re.Pattern:
    """Where a line's name is over: a colon, a dash, or one of the printed phrases."""
    return re.compile(r"[;:—]| [-–] | (?:" + "|".join(map(re.escape, _rules()["ends"])) + r")(?!\w)")


@functools.cache
def _rules() -> dict:
    path = paths.chapter_data("grocery_ranking") / "ingredient_words.yaml"
    return strict_yaml.read(path, path.name)


@functools.cache
def _words_of(name: str) -> frozenset[str]:
    return frozenset(_rules()[name].split())
