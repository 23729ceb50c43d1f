"""Tables of a reader's own, CSV or JSON as spreadsheets and scripts write it: one reader for every chapter.

What is clearly meant is taken as meant: any encoding that can be told, comma, semicolon or tab, a header in any case
and order, an accent with its letter or behind it. Where a reader may want to know of it, one line is printed: an
encoding that is a guess, columns that are not read. Whatever else is wrong is refused in one line that names the file,
its lines and the way out, and nothing is dropped silently.
"""

import codecs
import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Never

from claimbook import paths
from claimbook.errors import ClaimbookError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
SHOWN = 20  # problems, or rows of one problem, that a line names
MARKS = {  # the first bytes of a file that says its encoding; the longer before those that they begin with
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
Row = tuple[str, dict[str, object]]  # where it stands ("line 4", "row 3") and what it holds by column

# --- rows -------------------------------------------------------------------------------------------------------------


def rows(path: str, columns: tuple[str, ...], more: tuple[str, ...] = ()) -> list[Row]:
    """The rows of a file, one or more, each with all of ``columns``; of ``more``, None where the file lacks it.

    Texts are in Unicode's composed form (NFC). ClaimbookError for a file that cannot be read as a table with these
    columns.
    """
    text = _text(path, columns)
    is_json = Path(path).suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{")  # no CSV header begins so
    return (_json_rows if is_json else _csv_rows)(path, text, columns, more)


def _csv_rows(path: str, text: str, columns: tuple[str, ...], more: tuple[str, ...]) -> list[Row]:
    delimiter = max(DELIMITERS, key=lambda delimiter: len(set(_header(path, text, delimiter)) & set(columns)))
    names = _header(path, text, delimiter)
    if missing := [column for column in columns if column not in names]:
        first = shown(text.strip().splitlines()[0])
        expected = f"{', '.join(columns)}, between commas, semicolons or tabs"
        refuse(path, f"no column {', '.join(missing)}: the first line must name {expected}, and reads {first}")
    refuse_any(path, [f"the column '{name}' comes twice" for name in (*columns, *more) if names.count(name) > 1])
    _, *lines = _cells(path, text, delimiter)
    if not lines:
        refuse(path, "it holds no rows under its first line")
    odd = [(line, many(cells, "cell")) for line, cells in lines if len(cells) != len(names)]
    way_out = f"; a cell with a {DELIMITERS[delimiter]} in it stands in double quotes"
    if all((len(cells), cells[0]) == (len(names) + 1, str(i)) for i, (_, cells) in enumerate(lines, 1)):
        way_out = "; the first line has no name for the first column: R leaves it out, say row.names = FALSE"
    refuse_any(path, [f"line {line}: {cells} under {many(names, 'column')}" for line, cells in odd], way_out)
    _say_ignored(path, names, (*columns, *more))
    at = {column: names.index(column) for column in (*columns, *more) if column in names}
    none = dict.fromkeys(more)
    return [(f"line {line}", none | {column: cells[i] for column, i in at.items()}) for line, cells in lines]


def _header(path: str, text: str, delimiter: str) -> list[str]:
    """Names in the first line that is not empty, as `key` has them."""
    _, cells = next(_cells(path, text, delimiter, strict=False), (0, []))
    return [key(cell) for cell in cells]


def _cells(path: str, text: str, delimiter: str, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty with the line of the file that it begins in; a quoted cell may hold line breaks."""
    lines = io.StringIO(text, newline="")  # the csv module must see line breaks as they are in the file
    reader = csv.reader(lines, delimiter=delimiter, strict=strict, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            refuse(path, f"line {line} cannot be read ({error}): is a quote opened there and not closed?")
        if cells is None:
            return
        if any(cell.strip() for cell in cells):  # spreadsheets leave rows of empty cells
            yield line, cells


def _json_rows(path: str, text: str, columns: tuple[str, ...], more: tuple[str, ...]) -> list[Row]:
    try:  # objects become tuples of pairs, which JSON has not: a dict would lose a name that comes twice
        rows = _composed(json.loads(text, object_pairs_hook=tuple))
        json.dumps(rows, ensure_ascii=False).encode()  # half a character is no text
    except (ValueError, RecursionError) as error:
        refuse(path, f"it cannot be read as JSON ({error}): give one list of objects, [{{…}}, {{…}}]")
    if not isinstance(rows, list) or not rows:
        refuse(path, f"it holds no rows: give a list of objects, each with {', '.join(columns)}")
    refuse_any(path, [f"row {i} is no object" for i, row in enumerate(rows, 1) if not isinstance(row, tuple)])
    names = [[key(name) for name, _ in row] for row in rows]
    every = Counter(name for own in names for name in set(own))
    refuse_any(path, [f"no {name} in any row" for name in columns if not every[name]])
    repeated = [(i, name) for i, own in enumerate(names, 1) for name, count in Counter(own).items() if count > 1]
    refuse_any(path, [f"row {i} has '{name}' twice" for i, name in repeated])
    _say_ignored(path, list(every), (*columns, *more))
    values = [{key(name): value for name, value in row} for row in rows]
    return [(f"row {i}", {column: row.get(column) for column in (*columns, *more)}) for i, row in enumerate(values, 1)]


def shown(value: object) -> str:
    """A value as a message quotes it: as JSON writes it, texts between single quotes, one short line."""
    text = " ".join((value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)).split())
    text = text if len(text) <= 60 else f"{text[:57]}…"
    return f"'{text}'" if isinstance(value, str) else text


def key(text: str) -> str:
    """What two spellings of a name have in common: no case, no outer or double spaces. Weiß and Weiss are two."""
    return " ".join(text.lower().split())


def _composed(value: object) -> object:
    """JSON data with composed texts: an escape may have written one in pieces."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    return type(value)(map(_composed, value)) if isinstance(value, (list, tuple)) else value


def _plain(value: object) -> object:
    """JSON data in which objects are dicts again."""
    if isinstance(value, tuple):
        return {name: _plain(held) for name, held in value}
    return [_plain(held) for held in value] if isinstance(value, list) else value


def _say_ignored(path: str, names: list[str], columns: tuple[str, ...]) -> None:
    ignored = [f"'{name}'" if name else "one without a name" for name in names if name not in columns]
    if ignored:
        say(path, f"columns that are not read: {listed(ignored)}")


# --- the file ---------------------------------------------------------------------------------------------------------


def _text(path: str, columns: tuple[str, ...]) -> str:
    """The text of a file in composed form, with line breaks as they are."""
    data = _bytes(path, columns)
    encoding = next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), None)
    if encoding is None and b"\0" in data:
        refuse(path, "it is no text file: save it as CSV in UTF-8")
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        if encoding:
            refuse(path, f"it begins as {encoding} text and does not go on so: save it as CSV in UTF-8")
        text = _windows_text(path, data)
    if not text.strip():
        refuse(path, f"it is empty: give {', '.join(columns)}")
    return unicodedata.normalize("NFC", text)


def _bytes(path: str, columns: tuple[str, ...]) -> bytes:
    try:
        file = paths.expanded(path)
        if file.is_dir():
            raise ClaimbookError(f"'{path}' is a folder: name a CSV or JSON file in it")
        if not file.exists():
            raise ClaimbookError(f"no file '{path}': give a CSV or JSON file with {', '.join(columns)}")
        if not file.is_file():  # a pipe can be read once, and a run reads twice
            raise ClaimbookError(f"'{path}' is no ordinary file: save it as a CSV or JSON file")
        return file.read_bytes()
    except OSError as error:
        raise ClaimbookError(f"'{path}' cannot be opened ({error.strerror}): name a file that you may read") from None


def _windows_text(path: str, data: bytes) -> str:
    """What is not UTF-8 as Windows-1252, which Western spreadsheets write, and said: no byte could prove it."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        refuse(path, "it is neither UTF-8 nor Windows-1252 text: save it as CSV in UTF-8")
    word = re.search(r"\w*[^\x00-\x7f]\w*", text)[0]
    say(path, f"it is not UTF-8 and read as Windows-1252: if '{word}' looks wrong, save it as UTF-8")
    return text


# --- what is said -----------------------------------------------------------------------------------------------------


def say(path: str, said: str) -> None:
    print(f"'{Path(path).name}': {said}")


def refuse(path: str, said: str) -> Never:
    raise ClaimbookError(f"'{Path(path).name}': {said}")


def refuse_any(path: str, problems: list[str], way_out: str = "") -> None:
    if problems:
        refuse(path, listed(problems, "; ") + way_out)


def many(things: Collection, noun: str) -> str:
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def listed(texts: Iterable[str], separator: str = ", ") -> str:
    """The first `SHOWN`, and how many more there are."""
    texts = list(texts)
    more = f"{separator}and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return separator.join(texts[:SHOWN]) + more
