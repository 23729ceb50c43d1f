"""Groceries by item ranking: the method against sets and counting, its laws, leakage, and the page."""

import json
import math
import random
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

import browser
from claimbook import paths
from claimbook.assets import catalogue
from claimbook.experiments.grocery_ranking import (
    picker,
    recipes,
)
from claimbook.papers import grocery_ranking as method
from claimbook.papers.grocery_ranking import Database, Reading, Recipe, Recommender
from claimbook.runs import parameters
from test_grocery_files import as_csv, written_recipes

pytestmark = pytest.mark.numeric

needs_recipes = pytest.mark.skipif(
    not catalogue.present("wikibooks-recipes"), reason="`claimbook fetch wikibooks-recipes`; see QUARANTINES.md"
)
HOMES = {"risotto": "rice", "biryani": "rice", "curry": "chicken", "roast": "chicken", "soup": "soup", "stew": "soup"}
ITEMS = ["salt", "egg", "leek", "wine", "saffron", "lemon", "cumin", "oil"]


@st.composite
def cookbooks(draw):
    """Small databases with every subcategory of HOMES at least twice."""
    found = []
    for sub, category in HOMES.items():
        for i in range(draw(st.integers(2, 5))):
            items = draw(st.sets(st.sampled_from(ITEMS), min_size=2, max_size=6))
            found.append(Recipe(f"{sub} {i}", category, sub, frozenset(items)))
    return Database.of(found)


baskets = st.sets(st.sampled_from(ITEMS), min_size=1, max_size=8).map(frozenset)
readings = st.builds(
    Reading,
    n=st.integers(1, 12),
    theta=st.floats(0, 0.6),
    rank=st.sampled_from(["diff", "max", "llr", "chi2"]),
    weight=st.sampled_from(["linear", "reciprocal"]),
    lists=st.sampled_from(["subcategory", "category"]),
    match=st.sampled_from(["jaccard", "containment"]),
    gate=st.booleans(),
    fallback=st.booleans(),
)


def cookbook(seed=0, each=8):
    """A database with structure: each subcategory has items of its own, the category's, and some of all."""
    rng, found = random.Random(seed), []
    for sub, category in HOMES.items():
        for i in range(each):
            own = rng.sample([f"{sub} {k}" for k in range(4)], 2)
            found.append(Recipe(f"{sub} dish {i}", category, sub, frozenset([category, *own, *rng.sample(ITEMS, 2)])))
    return Database.of(found)


# --- ranks --------------------------------------------------------


def counted(database, sub, item):
    """How many recipes of a subcategory have the item, by sets."""
    inside = [recipe for recipe in database.recipes if recipe.subcategory == sub]
    return sum(item in recipe.items for recipe in inside), len(inside)


@settings(max_examples=40, deadline=None)
@given(cookbooks(), st.sampled_from(["diff", "max", "llr", "chi2"]))
def test_ranks_agree_with_counting(database, rank):
    n = 4
    ranked = method.differentiators(database, n, rank)
    for s, sub in enumerate(database.subcategories):
        siblings = [other for other in HOMES if HOMES[other] == HOMES[sub] and other != sub]
        value = {}
        for item in database.items:
            a, inside = counted(database, sub, item)
            pairs = [counted(database, other, item) for other in siblings]
            b, outside = sum(k for k, _ in pairs), sum(m for _, m in pairs)
            share = a / inside - (b / outside if outside else 0)
            table = np.array([[a, b], [inside - a, outside - b]])
            if rank == "diff":
                value[item] = share
            elif rank == "max":
                value[item] = a / inside - max((k / m for k, m in pairs), default=0)
            elif not outside or not table.sum(axis=1).all():
                value[item] = 0.0 if outside else None  # nothing to compare with: any order is right
            else:
                found = chi2_contingency(
                    table, correction=False, lambda_="log-likelihood" if rank == "llr" else "pearson"
                )
                value[item] = math.copysign(found.statistic, share)
        if None in value.values():
            continue
        chosen = [item for item, k in zip(database.items, ranked[s], strict=True) if k]
        chosen.sort(key=lambda item: ranked[s][database.items.index(item)])
        assert len(chosen) == min(n, sum(v > 1e-6 for v in value.values()))
        got, best = [value[item] for item in chosen], sorted(value.values(), reverse=True)
        assert got == pytest.approx(best[: len(got)], abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(cookbooks(), st.integers(1, 6))
def test_identifiers_agree_with_counting(database, n):
    found = method.identifiers(database, n)
    for c, category in enumerate(database.categories):
        value = []
        for item in database.items:
            shares = {
                name: np.mean([item in recipe.items for recipe in database.recipes if recipe.category == name])
                for name in database.categories
            }
            value.append(shares[category] - max(share for name, share in shares.items() if name != category))
        chosen = np.array(value)[found[c] > 0]
        assert sorted(chosen, reverse=True) == pytest.approx(sorted(value, reverse=True)[: len(chosen)], abs=1e-5)
        assert len(chosen) == min(n, sum(v > 1e-6 for v in value))


@settings(max_examples=60, deadline=None)
@given(cookbooks(), st.integers(1, 12), st.sampled_from(["diff", "max", "llr", "chi2"]))
def test_a_rank_is_given_once_from_one_on(database, n, rank):
    for row in method.differentiators(database, n, rank):
        given_ranks = sorted(row[row > 0])
        assert given_ranks == list(range(1, len(given_ranks) + 1)) and len(given_ranks) <= n


@settings(max_examples=40, deadline=None)
@given(cookbooks(), st.integers(1, 12))
def test_one_list_for_a_category_ranks_an_item_once(database, n):
    found = method.differentiators(database, n, lists="category")
    single = method.differentiators(database, len(database.items))
    for category in range(len(database.categories)):
        ranked = found[database.home == category]
        assert (np.sort(ranked[ranked > 0]) == np.arange(1, (ranked > 0).sum() + 1)).all() and (ranked > 0).sum() <= n
        assert ((ranked > 0).sum(axis=0) <= 1).all()
        assert (single[database.home == category][ranked > 0] > 0).all(), "each speaks for a dish that it tells apart"


def test_an_item_that_tells_nothing_apart_has_no_rank():
    database = cookbook()
    everywhere = database.items.index("rice")
    ranked = method.differentiators(database, 100)
    for sub in ("risotto", "biryani"):
        assert ranked[database.subcategories.index(sub), everywhere] == 0
        own = database.items.index(f"{sub} 0")
        assert ranked[database.subcategories.index(sub), own] > 0


# --- scores and activation --------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(cookbooks(), readings, baskets, baskets)
def test_a_score_is_a_share_and_grows_with_the_basket(database, reading, small, more):
    recommender = Recommender.learn(database, reading)
    score, larger = recommender.scores(database.rows([small, small | more]))
    assert (score >= 0).all() and (larger <= 1).all()
    assert (larger >= score - 1e-6).all()


@settings(max_examples=60, deadline=None)
@given(cookbooks(), readings, baskets, st.floats(0, 0.6))
def test_activation_shrinks_as_theta_grows_and_with_the_gate(database, reading, basket, theta):
    reading = replace(reading, fallback=False)
    low, high = sorted([reading.theta, theta])
    row = database.rows([basket])
    few = Recommender.learn(database, replace(reading, theta=high))
    many = Recommender.learn(database, replace(reading, theta=low))
    assert (few.activated(row) <= many.activated(row)).all()
    assert (few.searched(row) <= many.searched(row)).all()
    open_gate = Recommender.learn(database, replace(reading, gate=False))
    assert (Recommender.learn(database, replace(reading, gate=True)).activated(row) <= open_gate.activated(row)).all()


@pytest.mark.parametrize("weight", ["linear", "reciprocal"])
def test_weights_sum_to_one_and_fall_with_rank(weight):
    found = method.rank_weights(np.array([[1, 2, 3, 4, 0]]), 4, weight)[0]
    assert found.sum() == pytest.approx(1) and found[4] == 0
    assert (np.diff(found[:4]) < 0).all()
    if weight == "linear":
        assert found[:4] == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_a_word_that_is_no_option_is_refused():
    for wrong in ({"rank": "best"}, {"weight": "even"}):
        with pytest.raises(ValueError, match="must be"):
            Recommender.learn(cookbook(), Reading(**wrong))
    with pytest.raises(ValueError, match="must be"):
        method.similarity(np.ones((1, 2)), np.ones((1, 2)), "cosine")


# --- matches and recommendations --------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(cookbooks(), baskets)
def test_similarity_is_that_of_sets(database, basket):
    row = database.rows([basket])
    for match, name in (
        ("jaccard", lambda a, b: len(a & b) / len(a | b)),
        ("containment", lambda a, b: len(a & b) / len(b)),
    ):
        known = basket & set(database.items)  # an item that no recipe has is in no column
        expected = [name(known, recipe.items) for recipe in database.recipes]
        assert method.similarity(row, database.has, match)[0] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(cookbooks(), baskets)
def test_an_index_of_all_items_gives_the_same_matches_as_brute_force(database, basket):
    basket = basket & set(database.items) or frozenset([database.items[0]])
    row = database.rows([basket])
    similar = method.similarity(row, database.has)
    everything = method.best_matches(similar, np.ones(similar.shape, bool), 3)
    index = {item: {i for i, r in enumerate(database.recipes) if item in r.items} for item in database.items}
    posted = np.isin(np.arange(len(database.recipes)), list(set().union(*(index[item] for item in basket))))
    assert (method.best_matches(similar, posted[None], 3) == everything).all()


@settings(max_examples=60, deadline=None)
@given(cookbooks(), readings, baskets)
def test_matches_come_from_what_is_searched_and_items_from_the_matches(database, reading, basket):
    recommender = Recommender.learn(database, reading)
    row = database.rows([basket])
    best, searched = recommender.best(row, 3), recommender.searched(row)
    assert all(searched[0, recipe] for recipe in best[0] if recipe >= 0)
    columns = method.recommended(row, best, database, recommender.weights)[0]
    items = [database.items[column] for column in columns]
    assert len(set(items)) == len(items)
    assert set(items) == set().union(*(database.recipes[i].items for i in best[0] if i >= 0)) - basket


def test_nothing_active_recommends_nothing_unless_it_falls_back():
    database = cookbook()
    row = database.rows([frozenset({"salt"})])
    strict = Recommender.learn(database, Reading(theta=0.9))
    assert not strict.searched(row).any() and (strict.best(row) == -1).all()
    assert Recommender.learn(database, Reading(theta=0.9, fallback=True)).searched(row).all()


# --- the page --------------------------------------------------------


@pytest.mark.skipif(browser.command() is None, reason="no Chromium; see QUARANTINES.md")
@needs_recipes
def test_the_browser_recommends_what_the_library_does(tmp_path):
    database = Database.of(recipes.wikibooks())
    recommender = Recommender.learn(database, Reading(n=10, theta=0.05))
    rng = random.Random(0)
    asked = [frozenset(rng.sample(database.items, rng.randint(1, 4))) for _ in range(10)]
    asked += [frozenset(rng.sample(sorted(rng.choice(database.recipes).items), 3)) for _ in range(40)]
    columns = [[database.items.index(item) for item in sorted(basket)] for basket in asked]
    static = paths.root() / "book/_static"
    script = "".join((static / name).read_text() for name in ("element.js", "grocery_picker.js"))
    page = f"""<meta charset="utf-8"><script>{script}</script>{picker.page(recommender, ("rice", "egg")).html}
        <pre id="out"></pre><script>addEventListener("load", () => {{
        const data = groceryPicker.data, ask = (b) => groceryPicker.recommend(data, b, data.theta);
        const found = {json.dumps(columns)}.map(ask);
        document.getElementById("out").textContent = JSON.stringify(found); }});</script>"""
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    options = [
        *browser.OPTIONS.replace(" --remote-debugging-port=0", "").split(),
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command = [browser.command(), *options, "--dump-dom", (tmp_path / "page.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert "Recommended together" in shown, "the page draws itself"
    found = json.loads(re.search(r'<pre id="out">(.*?)</pre>', shown, re.S)[1])
    rows = database.rows(asked)
    best, active, searched = recommender.best(rows), recommender.activated(rows), recommender.searched(rows)
    lists = method.recommended(rows, best, database, recommender.weights)
    assert len(found) == 50 and sum(len(one["items"]) > 0 for one in found) > 25
    for i, one in enumerate(found):
        assert one["active"] == np.flatnonzero(active[i]).tolist()
        assert one["scored"] == searched[i].sum()
        assert [row for row, _ in one["matches"]] == [row for row in best[i].tolist() if row >= 0]
        assert one["items"] == lists[i].tolist()
        assert one["scores"] == pytest.approx(recommender.scores(rows[i : i + 1])[0].tolist(), abs=1e-5)


# --- the chapter, as its rerunner meets it --------------------------------------------------------


def claimbook(*words):
    command = [sys.executable, "-m", "claimbook", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=paths.root(), timeout=600)


def latest():
    pointer = paths.runs() / "grocery_ranking" / "latest"
    return json.loads((pointer.parent / pointer.read_text().strip() / "result.json").read_text())


@pytest.mark.slow
@needs_recipes
@pytest.mark.parametrize("tier", ["smoke", "gpu"])
def test_a_tier_runs_end_to_end_on_a_readers_recipes(tier, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(as_csv(written_recipes(12)))
    (tmp_path / "baskets.csv").write_text("items\nsalt; wine\n")
    given_files = ["-p", f"recipes={path}", "-p", f"baskets={tmp_path / 'baskets.csv'}"]
    done = claimbook("rerun", "grocery_ranking", "--tier", tier, "--device", "cpu", *given_files)
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(tmp_path) not in json.dumps(latest()), "a reader's folders do not get into a result"


def test_a_new_machine_fetches_the_recipes():
    assert parameters.needed_assets("grocery_ranking", parameters.defaults("grocery_ranking")) == ["wikibooks-recipes"]
