"""Groceries: a reader's own files, as spreadsheets write them; ingredient lines, items and labels."""

import csv
import io
import json
import os
import re
import shutil
import string
import subprocess
import sys
import unicodedata
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claimbook import paths
from claimbook.assets import catalogue
from claimbook.errors import ClaimbookError
from claimbook.experiments import own_tables
from claimbook.experiments.grocery_ranking import ingredients, inputs, own_files, recipes
from claimbook.runs import parameters

needs_recipes = pytest.mark.skipif(
    not catalogue.present("wikibooks-recipes"), reason="`claimbook fetch wikibooks-recipes`; see QUARANTINES.md"
)

# --- ingredient lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 ½ cups (200 g) freshly-chopped ripe tomatoes, drained", ["tomato"]),
        ("2 boneless, skinless chicken breasts", ["chicken"]),
        ("Salt and freshly-ground black pepper to taste", ["salt", "pepper"]),
        ("75 ml vegetable or peanut oil for frying", ["oil"]),
        ("½ cup melted butter or cream", ["butter"]),
        ("juice of 2 lemons", ["lemon juice"]),
        ("3 cloves of garlic, minced", ["garlic"]),
        ("10 whole cloves", ["clove"]),
        ("½ cup half & half", ["cream"]),
        ("&frac12; teaspoon onion powder", ["onion powder"]),
        ("2 cups coconut milk", ["coconut milk"]),
        ("½ tsp", []),
        ("", []),
    ],
)
def test_an_ingredient_line_names_its_items(line, expected):
    assert ingredients.items(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("100 grams almond<nowiki/>s", ["almond"]),
        ("<bdi>1</bdi> medium onion, diced", ["onion"]),
        ("250 g ''arborio'' rice<ref name=\":1\">a shop</ref>", ["rice"]),
        ("More vegetables according to your taste", ["vegetable"]),
        ("Goat cheese (2 pats)—Parmesan is an acceptable substitute", ["goat cheese"]),
        ("1 glass dry white wine", ["wine"]),
        ("Small amount of ground nutmeg", ["nutmeg"]),
        ("Butter for the pan", ["butter"]),
        ("Oil for deep frying", ["oil"]),
        ("Water as necessary", ["water"]),
        ("Cheese of your choice", ["cheese"]),
        ("4 large yellow or white onions", ["onion"]),
        ("½ each red and green bell pepper", ["bell pepper"]),
        ("12 chicken wingettes", ["chicken"]),
        ("¾ cup grape jelly", ["grape jelly"]),  # no adverb
        ("2 packages ramen", ["noodle"]),  # no men
    ],
)
def test_markup_and_filler_words_are_no_items(line, expected):
    assert ingredients.items(line) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 cup all-purpose flour", "1 cup rice flour"),
        ("1 cup flour", "1 cup corn flour"),
        ("1 cup whole wheat flour", "1 cup almond flour"),
        ("1 cup skim milk", "1 can sweetened condensed milk"),
        ("1 cup milk", "1 cup evaporated milk"),
        ("1 cup whole milk", "1 cup dry milk powder"),
        ("1 cup caster sugar", "1 cup light brown sugar"),
        ("1 cup sugar", "1 cup confectioners' sugar"),
        ("1 tbsp butter", "1 tbsp peanut butter"),
        ("1 cup heavy cream", "1 cup sour cream"),
        ("1 cup fresh peas", "1 cup split peas"),
        ("1 bunch coriander", "1 tsp freshly-ground coriander seeds"),
        ("200 g penne", "200 g rice noodles"),
        ("1 tomato", "1 sun-dried tomato"),
    ],
)
def test_what_stands_on_another_shelf_is_another_item(one, other):
    (one,), (other,) = ingredients.items(one), ingredients.items(other)
    assert one != other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 cup self-rising flour", "2 cups bread flour"),
        ("1 cup besan", "100 g gram flour"),
        ("1 cup skim milk", "1 cup whole milk"),
        ("1 cup icing sugar", "1 cup powdered sugar"),
        ("2 tbsp Parmigiano-Reggiano cheese", "grated parmesan"),
        ("2 courgettes", "2 zucchini"),
        ("1 jalapen\u0303o", "1 jalape\u00f1o"),  # the accent as a character of its own
    ],
)
def test_two_names_of_one_thing_are_one_item(one, other):
    assert ingredients.items(one) == ingredients.items(other) != []


def test_levels_of_merging():
    assert ingredients.items("1 cup basmati rice", "phrase") == ["basmati rice"]
    assert ingredients.items("2 cans kidney beans", "last word") == ["bean"]
    with pytest.raises(ValueError, match="level"):
        ingredients.items("rice", "stem")


# --- labels and vocabulary --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Chicken Fried Rice", ("rice", "fried rice")),
        ("Hyderabad Biryani", ("rice", "biryani")),
        ("Chicken Stock", None),
        ("Classic Salad", None),
        ("Bread Pudding", ("dessert", "pudding")),
    ],
)
def test_a_title_gives_the_label(title, expected):
    assert recipes.label(title) == expected


@needs_recipes
def test_the_published_vocabulary_is_what_the_rules_yield():
    counts = Counter(item for recipe in recipes.wikibooks() for item in recipe.items)
    with (paths.chapter_data("grocery_ranking") / "vocabulary.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["item"], int(row["recipes"])) for row in csv.DictReader(file)] == sorted(counts.items())


@needs_recipes
def test_the_labels_that_were_read_are_those_of_todays_rules():
    """The list is frozen; word lists may move a recipe out of the 3 to 25 items, but never its label."""
    rows = recipes.checked_labels()
    assert len(rows) == len({row["title"] for row in rows}) == 60
    assert [row["rule_label"] for row in rows] == [recipes.label(row["title"])[1] for row in rows]
    kept = {recipe.title for recipe in recipes.wikibooks()}
    assert sum(row["title"] in kept for row in rows) >= 54
    known = {recipe.subcategory for recipe in recipes.wikibooks()} | {"other"}
    assert {row["label_by_reading"] for row in rows} <= known
    assert 0 < recipes.label_agreement().value < 1


# --- a reader's recipes, in every form that means the same ------------------------------------------------------------

HOMES = {"vegetable soup": "soup", "fish soup": "soup", "plain cake": "cake", "nut cake": "cake"}
SPICES = ["salt", "leek", "ginger", "saffron", "cumin", "wine", "lemon", "egg"]


def written_recipes(count=8):
    """Rows of `own_files.RECIPES`, ``count`` to each of four subcategories; no two have the same items."""
    rows = []
    for sub, category in HOMES.items():
        for i in range(count):
            items = [
                "2 cups stock",
                f"{sub.replace(' ', '')}{string.ascii_lowercase[i]}",
                SPICES[i % 8],
                SPICES[(3 * i + 1) % 8],
            ]
            rows.append([f"{sub} no. {i}", category, sub, ";".join(items)])
    return rows


def as_csv(rows, header=own_files.RECIPES, delimiter=",", **options):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, **({"lineterminator": "\n"} | options)).writerows([header, *rows])
    return text.getvalue()


def read(folder, content, name="mine.csv", reader=own_files.recipes):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return reader(str(path))


@pytest.fixture
def plain(tmp_path):
    """The recipes as the simplest file gives them."""
    found = read(tmp_path, as_csv(written_recipes()), "plain.csv")
    assert len(found) == 32 and all(len(recipe.items) in (3, 4) for recipe in found)
    return found


ROWS = written_recipes()
FORMS = {
    "semicolons": as_csv(ROWS, delimiter=";"),
    "tabs": as_csv(ROWS, delimiter="\t"),
    "a line break in a cell": as_csv([[*row[:3], row[3].replace(";", "\n", 1)] for row in ROWS]),
    "CRLF in a cell": as_csv([[*row[:3], row[3].replace(";", "\r\n")] for row in ROWS], lineterminator="\r\n"),
    "line ends of an old Mac": as_csv(ROWS, lineterminator="\r"),
    "semicolon at the end": as_csv([[*row[:3], row[3] + "; "] for row in ROWS]),
    "header in capitals, spaces": as_csv(ROWS, ("Title", " Category", "subcategory ", "INGREDIENTS")),
    "another order": as_csv([row[::-1] for row in ROWS], own_files.RECIPES[::-1]),
    "spaces before quotes": re.sub(r',"?([^,"\n]*)"?$', r', "\1"', as_csv(ROWS), flags=re.M),
    "empty rows": as_csv(ROWS).replace("\n", "\n\n,,,\n"),
    "UTF-8 with mark": as_csv(ROWS).encode("utf-8-sig"),
    "UTF-16": as_csv(ROWS).encode("utf-16"),
    "UTF-16, the other way round": b"\xfe\xff" + as_csv(ROWS).encode("utf-16-be"),
    "labels in another case": as_csv([[a, b.title() if i else b, f" {c.upper()}" if i else c, d] for i in (0, 1)
                                      for a, b, c, d in ROWS[i::2]]),
    "JSON": json.dumps([dict(zip(own_files.RECIPES, row, strict=True)) for row in ROWS]),
    "JSON with lists": json.dumps([dict(zip(("TITLE ", *own_files.RECIPES[1:]), [*row[:3], row[3].split(";")],
                                            strict=True)) for row in ROWS]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_gives_the_same_recipes_without_a_word(tmp_path, plain, capsys, form):
    found = read(tmp_path, FORMS[form])
    assert sorted(found, key=lambda recipe: recipe.title) == sorted(plain, key=lambda recipe: recipe.title)
    assert capsys.readouterr().out == ""


def test_a_line_break_in_a_cell_glues_nothing(tmp_path):
    rows = [[*row[:3], "red\nlentils\n" + row[3]] for row in ROWS]
    items = set().union(*(recipe.items for recipe in read(tmp_path, as_csv(rows))))
    assert "lentil" in items and "redlentil" not in items


def test_a_line_separator_is_text(tmp_path, plain):
    rows = [[f"{row[0]}\u2028second line", *row[1:]] for row in ROWS]
    found = read(tmp_path, as_csv(rows))
    assert found == tuple(replace(recipe, title=f"{recipe.title}\u2028second line") for recipe in plain)


def test_two_recipes_of_one_title_are_two(tmp_path, plain):
    rows = [["house special", *row[1:]] if i in (2, 4) else row for i, row in enumerate(ROWS)]
    found = read(tmp_path, as_csv(rows))
    assert [recipe.items for recipe in found] == [recipe.items for recipe in plain]
    assert [recipe.title for recipe in found].count("house special") == 2


def test_a_guessed_encoding_is_said(tmp_path, capsys):
    rows = [[f"{row[0]} café", *row[1:]] for row in ROWS]
    found = read(tmp_path, as_csv(rows).encode("cp1252"))
    assert all(recipe.title.endswith("café") for recipe in found)
    assert capsys.readouterr().out.splitlines() == [
        "'mine.csv': it is not UTF-8 and read as Windows-1252: if 'café' looks wrong, save it as UTF-8"
    ]


def test_columns_that_are_not_read_are_named(tmp_path, plain, capsys):
    found = read(tmp_path, as_csv([[i, *row, "x"] for i, row in enumerate(ROWS)], ("", *own_files.RECIPES, "Rating")))
    assert found == plain
    assert capsys.readouterr().out == "'mine.csv': columns that are not read: one without a name, 'rating'\n"


def test_recipes_that_are_alike_are_kept_and_both_lines_named(tmp_path, capsys):
    again = [[f"{row[0]} again", row[1].upper(), row[2], row[3].upper().replace(";", " ; ")] for row in ROWS[:2]]
    assert len(read(tmp_path, as_csv(ROWS + again))) == 34
    said = "'mine.csv': the same items in lines 2 and 34, 3 and 35; each is kept as a recipe of its own\n"
    assert capsys.readouterr().out == said
    many = [[f"{row[0]} again", *row[1:]] for row in ROWS]
    read(tmp_path, as_csv(ROWS + many))
    assert capsys.readouterr().out.count(" and ") == 21 and own_tables.SHOWN == 20


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), min_size=1).filter(str.strip)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    titles=st.lists(texts, min_size=32, max_size=32),
    delimiter=st.sampled_from(sorted(own_tables.DELIMITERS)),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    order=st.permutations(range(4)),
)
def test_what_a_spreadsheet_writes_is_read_back(tmp_path, titles, delimiter, quoting, end, encoding, order):
    rows = [[title, *row[1:]] for title, row in zip(titles, ROWS, strict=True)]
    rows = [[row[i] for i in order] for row in rows]
    header = [own_files.RECIPES[i] for i in order]
    found = read(tmp_path, as_csv(rows, header, delimiter, quoting=quoting, lineterminator=end).encode(encoding))
    assert [recipe.title for recipe in found] == [unicodedata.normalize("NFC", title.strip()) for title in titles]
    assert Counter(recipe.subcategory for recipe in found) == dict.fromkeys(HOMES, 8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(SPICES), min_size=1, max_size=5), min_size=1, max_size=5), st.booleans())
def test_baskets_are_read_back(tmp_path, baskets, is_json):
    as_json = json.dumps([{"items": basket} for basket in baskets])
    content = as_json if is_json else as_csv([["; ".join(basket)] for basket in baskets], ["Items "])
    assert read(tmp_path, content, reader=own_files.baskets) == [frozenset(basket) for basket in baskets]


# --- a reader's recipes that cannot be used ---------------------------------------------------------------------------


def bad_row(**bad):
    """The recipes with columns of the third replaced, which stands in line 4."""
    third = [bad.get(name, value) for name, value in zip(own_files.RECIPES, ROWS[2], strict=True)]
    return as_csv([*ROWS[:2], third, *ROWS[3:]])


def object_row(**bad):
    """The same as JSON, where the third is row 3."""
    rows = [dict(zip(own_files.RECIPES, row, strict=True)) for row in ROWS]
    return json.dumps([*rows[:2], rows[2] | bad, *rows[3:]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bad_row(title=""), "line 4: no title"),
        (bad_row(title=" ", ingredients=" ; "), "line 4: no title, no ingredients"),
        (bad_row(ingredients="rice;  ; 3 cups"), "line 4: no item in the ingredient '3 cups'"),
        (bad_row(ingredients="rice, leek, 2 eggs"), "line 4: 'rice, leek, 2 eggs' is one ingredient: put semicolons"),
        (bad_row(ingredients="rice; onion"), "line 4: 2 items (onion, rice), 3 to 25 are needed"),
        (bad_row(ingredients=";".join(f"z{a}z" for a in string.ascii_lowercase)), "line 4: 26 items, 3 to 25"),
        (bad_row(category="cake"), "subcategory 'vegetable soup' is in 2 categories: 'soup' (line 2), 'cake' (line 4)"),
        (bad_row(subcategory="odd"), "subcategory 'odd' has 1 recipe (line 4), 5 are needed"),
        (as_csv([[*row[:3], ROWS[0][3]] for row in ROWS]), "recipes, all of the same items: two different ones are"),
        (as_csv(ROWS[:16]), "all recipes are in the category 'soup', two or more are needed"),
        (as_csv(ROWS).replace("\n", ",x\n", 3), "line 5: 4 cells under 5 columns"),
        (as_csv([row[:3] for row in ROWS], own_files.RECIPES[:3]), "no column ingredients: the first line must name"),
        (as_csv(ROWS, delimiter="|"), "no column title, category, subcategory, ingredients: the first line must name"),
        (as_csv(ROWS) + '"never closed,soup', "line 34 cannot be read"),
        ("t" * 200_000 + "\n", "line 1 cannot be read (field larger than field limit"),
        (as_csv(ROWS, ("title", *own_files.RECIPES[:3])), "no column ingredients"),
        (as_csv([[*row, row[0]] for row in ROWS], (*own_files.RECIPES, "Title")), "the column 'title' comes twice"),
        (as_csv([]), "it holds no rows under its first line"),
        ("", "it is empty: give title, category, subcategory, ingredients"),
        ("\n , ,\n", "no column title, category, subcategory, ingredients"),
        (b"PK\x03\x04\0\0", "it is no text file: save it as CSV in UTF-8"),
        (as_csv(ROWS).encode("utf-16-le"), "it is no text file"),
        (b"title\x81\xff", "it is neither UTF-8 nor Windows-1252 text"),
        (b"\xff\xfet\0i\0t", "it begins as utf-16 text and does not go on so"),
        (object_row(ingredients=5), "row 3: ingredients must be texts, not 5"),
        (object_row(ingredients=["rice", None]), "row 3: ingredients must be texts, not null"),
        (object_row(ingredients={"a": [1]}), 'row 3: ingredients must be texts, not {"a": [1]}'),
        (object_row(ingredients=None), "row 3: no ingredients"),
        (object_row(title=7), "row 3: title must be text, not 7"),
        (object_row().replace('{"title"', '{"Title": "x", "title"', 1), "row 1 has 'title' twice"),
        (object_row().replace('"title"', '"name"'), "no title in any row"),
        (object_row().replace('"title"', '"name"', 1), "row 1: no title"),
        ('[{"title": "x"}, 1, null]', "row 2 is no object; row 3 is no object"),
        ('{"title": "x"}', "it holds no rows: give a list of objects"),
        ("[]", "it holds no rows"),
        ("[{", "it cannot be read as JSON"),
        ("[" * 100_000, "it cannot be read as JSON"),
        (object_row(title="\ud800"), "it cannot be read as JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_in_one_line(tmp_path, content, said):
    with pytest.raises(ClaimbookError, match="^'mine.csv': .*" + re.escape(said)) as refused:
        read(tmp_path, content)
    assert "\n" not in str(refused.value)


def test_all_rows_of_another_length_are_named_up_to_twenty(tmp_path):
    lines = as_csv(ROWS).splitlines()
    lines[3] += ",too long"
    lines[6] = "too short"
    with pytest.raises(ClaimbookError) as refused:
        read(tmp_path, "\n".join(lines))
    assert str(refused.value) == (
        "'mine.csv': line 4: 5 cells under 4 columns; line 7: 1 cell under 4 columns; "
        "a cell with a comma in it stands in double quotes"
    )
    with pytest.raises(ClaimbookError, match=r"line 21: .*; and 12 more; a cell") as refused:
        read(tmp_path, "\n".join([lines[0], *(line + ",x" for line in as_csv(ROWS).splitlines()[1:])]))
    assert "line 22" not in str(refused.value)


def test_lines_are_those_of_the_file(tmp_path):
    """A row is named by the line that it begins in, whatever line breaks stand in its cells and in those before."""
    rows = [[f"{row[0]}\n\nthree lines", *row[1:]] for row in ROWS[:2]]
    rows += [["", *ROWS[2][1:3], ROWS[2][3].replace(";", "\n")], *ROWS[3:]]
    with pytest.raises(ClaimbookError, match="line 9: no title"):
        read(tmp_path, "\n" + as_csv(rows))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("items\nrice; 2 eggs\n;\n", "line 3: no items"),
        ('items\n"rice, eggs"\n', "line 2: 'rice, eggs' is one ingredient"),
        ("items\nrice,eggs\n", "line 2: 2 cells under 1 column; a cell with a comma in it"),
        ('[{"items": 5}, {"items": null}, {"items": ["rice", 3]}]',
         "row 1: items must be texts, not 5; row 2: no items; row 3: items must be texts, not 3"),
        ("things\nrice\n", "no column items: the first line must name items"),
    ],
)  # fmt: skip
def test_baskets_that_cannot_be_used_are_named(tmp_path, content, said):
    with pytest.raises(ClaimbookError, match=re.escape(f"'mine.csv': {said}")):
        read(tmp_path, content, reader=own_files.baskets)


def test_places_that_are_no_file_are_named(tmp_path, monkeypatch):
    for path, said in (
        ("nowhere.csv", "no file 'nowhere.csv': give a CSV or JSON file with title"),
        (str(tmp_path), "is a folder: name a CSV or JSON file in it"),
        ("x" * 5000, "cannot be opened"),
        ("~nobody-of-that-name/mine.csv", "no file"),
        (os.devnull, "is no ordinary file"),
    ):
        with pytest.raises(ClaimbookError, match=said):
            own_files.recipes(path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.csv").write_text(as_csv(ROWS))
    assert len(own_files.recipes("~/mine.csv")) == 32


# --- before a kernel starts -------------------------------------------------------------------------------------------


@pytest.fixture
def bare_book(tmp_path):
    """A repository with this chapter's notebook and word lists, and nothing that a run would need beyond them."""
    root = tmp_path / "bare"
    for name in ("notebooks/grocery_ranking.ipynb", "data/claims/grocery_ranking.yaml", "data/assets.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.root() / name, root / name)
    shutil.copytree(paths.chapter_data("grocery_ranking"), root / "data" / "grocery_ranking")
    return root


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-p", "recipes=nowhere.csv"], "no file 'nowhere.csv'"),
        (["-p", "recipes=."], "bare' is a folder: name a CSV or JSON file in it"),
        (["-p", "recipes=mine.csv"], "'mine.csv': line 4: no title"),
        (["-p", "baskets=baskets.json"], "'baskets.json': row 1: items must be texts, not 5"),
        (["-p", f"recipes={'x' * 5000}"], "cannot be opened (File name too long)"),
        (["-p", "recipe=x"], "has no parameter 'recipe': did you mean recipes"),
        (["--models", "smollm2-135m"], "runs no language model"),
        (["--text", "kjv"], "runs no language model"),
    ],
)
def test_a_mistake_costs_one_line_and_no_kernel(bare_book, options, said):
    (bare_book / "mine.csv").write_text(bad_row(title=""))
    (bare_book / "baskets.json").write_text('[{"items": 5}]')
    command = [sys.executable, "-m", "claimbook", "rerun", "grocery_ranking", *options]
    environment = os.environ | {"CLAIMBOOK_ROOT": str(bare_book)}
    done = subprocess.run(command, cwd=bare_book, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr[-500:]
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr and not done.stdout
    assert not (bare_book / "_runs").exists(), "a run's folder is made before its kernel"


def test_what_can_be_used_passes_the_check(tmp_path):
    (tmp_path / "mine.csv").write_text(as_csv(ROWS))
    (tmp_path / "baskets.csv").write_text("items\nrice; wine\n")
    given_files = {"recipes": str(tmp_path / "mine.csv"), "baskets": str(tmp_path / "baskets.csv")}
    inputs.check({"models": "", "text": ""} | given_files)
    assert len(inputs.load(given_files["recipes"])) == 32
    assert inputs.baskets(given_files["baskets"]) == [frozenset({"rice", "wine"})]
    inputs.check({"models": "", "text": "", "recipes": "", "baskets": ""})
    assert inputs.baskets("") == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"recipes": "nowhere.csv"}, "no file 'nowhere.csv'"),
        ({"baskets": "nowhere.csv"}, "no file 'nowhere.csv'"),
        ({"models": "tiny-random-llama"}, "runs no language model"),
        ({"text": "kjv"}, "runs no language model"),
    ],
)
def test_the_chapters_own_check_is_asked_where_parameters_are(bad, said):
    with pytest.raises(ClaimbookError, match=said):
        parameters.resolve("grocery_ranking", bad)


@needs_recipes
def test_without_a_file_the_recipes_are_those_of_wikibooks():
    assert inputs.load() == inputs.load(inputs.WIKIBOOKS) == recipes.wikibooks()
    assert inputs.WIKIBOOKS == recipes.ASSET


def test_an_accent_written_in_two_characters_or_as_an_escape_is_the_letter(tmp_path):
    decomposed = [
        [unicodedata.normalize("NFD", cell) for cell in row] for row in [["caf\u00e9", *ROWS[0][1:]], *ROWS[1:]]
    ]
    assert read(tmp_path, as_csv(decomposed).encode())[0].title == "caf\u00e9"
    rows = [dict(zip(own_files.RECIPES, row, strict=True)) for row in decomposed]
    assert read(tmp_path, json.dumps(rows, ensure_ascii=True).encode(), "mine.json")[0].title == "caf\u00e9"


def test_bars_and_bullets_separate(tmp_path):
    baskets = [read(tmp_path, f"items\nrice {mark} leek {mark} 2 eggs\n", reader=own_files.baskets) for mark in ";|•"]
    assert baskets == [[frozenset({"rice", "leek", "egg"})]] * 3


@pytest.mark.parametrize("between", [" / ", "/", " - ", " – "])
def test_another_separator_is_told(tmp_path, between):
    with pytest.raises(ClaimbookError, match=r"line 2: 'rice.*eggs' is one ingredient: put semicolons between several"):
        read(tmp_path, f"items\n{between.join(['rice', 'leek', '2 eggs'])}\n", reader=own_files.baskets)


@pytest.mark.parametrize("text", ["चावल;दाल", "鸡蛋;米", "หัวหอม;ข้าว", "рис;лук"])
def test_another_script_is_refused_for_what_it_is(tmp_path, text):
    with pytest.raises(ClaimbookError, match=f"line 2: '{text.split(';')[0]}' is not in Latin letters: write"):
        read(tmp_path, f"items\n{text}\n", reader=own_files.baskets)


def test_another_language_is_said(tmp_path, capsys):
    read(tmp_path, "items\n200 g Mehl; 2 EL Zucker; 1 Prise Salz; eggs\n", reader=own_files.baskets)
    assert (
        "3 of 4 ingredients are none that the book's English recipes have ('el zucker', 'mehl'"
        in capsys.readouterr().out
    )
    read(tmp_path, "items\n200 g flour; 2 tbsp sugar; jalape\u00f1o; 50 \u00b5g saffron\n", reader=own_files.baskets)
    assert capsys.readouterr().out == ""


def test_a_column_that_only_its_rows_have_is_told(tmp_path):
    lines = as_csv(ROWS).splitlines()
    text = "\n".join([lines[0], *(f"{i},{line}" for i, line in enumerate(lines[1:], 1))])
    with pytest.raises(ClaimbookError, match=r"no name for the first column: R leaves it out, say row.names = FALSE"):
        read(tmp_path, text)


def test_a_chapter_without_a_check_of_its_own_is_not_imported():
    """Its inputs would import torch, for seconds, before the first line is said."""
    code = "import sys; from claimbook.runs import parameters; parameters.resolve('sink_emergence', {})"
    code += "; assert 'torch' not in sys.modules and 'claimbook.experiments.sink_emergence.inputs' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
