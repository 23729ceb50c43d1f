"""Groceries: what is asked and what may have been seen, gates and recommenders, rows, and evidence on rows by hand."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from claimbook.claims import ledgers, verdicts
from claimbook.experiments.grocery_ranking import evidence
from claimbook.experiments.grocery_ranking.measure import gates, growth, judged, protocols, ranks, recommenders, search
from claimbook.experiments.grocery_ranking.measure.judged import HELD, INSIDE, METHOD
from claimbook.metrics import ranking
from claimbook.papers.grocery_ranking import Database, Reading, Recipe, Recommender, best_matches
from test_grocery_ranking import HOMES, ITEMS, cookbook

pytestmark = pytest.mark.numeric

EVERYTHING = Reading(theta=2, fallback=True)  # activates nothing, so it compares with all


def whole(database, seed=0, **options):
    return protocols.cut(database, range(len(database.recipes)), seed, **options)


# --- what is asked, and what may have been seen ----------------------------------------------------------------------


def test_baskets_are_parts_of_their_recipe():
    database = cookbook()
    made = whole(database)
    assert made.recipe.tolist() == [row for row in range(len(database.recipes)) for _ in protocols.SHARES]
    assert (made.given + made.hidden == database.has[made.recipe]).all()
    assert (made.given.sum(axis=1) >= 2).all() and (made.hidden.sum(axis=1) >= 1).all()
    head = [database.items.index(database.recipes[row].category) for row in made.recipe]
    assert made.given[np.arange(len(head)), head].all(), "the head item is always in the basket"
    assert (made.given == whole(database).given).all() and (made.given != whole(database, seed=1).given).any()


def test_two_recipes_of_one_title_are_two_recipes():
    dishes = [
        Recipe("special", "rice", "risotto", frozenset(ITEMS[:4])),
        Recipe("special", "rice", "risotto", frozenset(ITEMS[3:])),
    ]
    made = whole(Database.of(dishes))
    assert made.recipe.tolist() == [0, 0, 0, 1, 1, 1]


def test_mixed_baskets_hold_two_dishes_and_staples():
    database = cookbook()
    made, staple = whole(database), np.isin(database.items, ["salt", "oil", "egg"])
    found = protocols.mixed(database, made, staple, 0)
    assert (found.hidden.sum(axis=1) > 0).all() and not (found.given * found.hidden).any()
    for row, mixed in zip(found.recipe, found.given, strict=True):
        assert any((made.given[made.recipe == row] <= mixed).all(axis=1))


def test_what_a_title_names_is_taken_out_as_words():
    recipe = Recipe("Oatmeal and cherry pies", "pie", "cherry pie", frozenset({"oat", "cherry", "egg", "sour cherry"}))
    assert protocols.named(recipe) == {"cherry", "sour cherry"}
    database = cookbook()
    bare = whole(database, head=False)
    for row, items in zip(bare.recipe, bare.given + bare.hidden, strict=True):
        names = protocols.named(database.recipes[row])
        assert not names & {database.items[i] for i in np.flatnonzero(items)}


def test_halves_are_alike_and_apart():
    database = cookbook()
    tuning, judging = protocols.halves(database)
    assert not set(tuning) & set(judging) and len(tuning) + len(judging) == len(database.recipes)
    assert Counter(database.sub[tuning]) == Counter(database.sub[judging])


def test_recipes_of_equal_items_stay_together():
    dishes = list(cookbook().recipes)
    twins = [
        replace(recipe, title=f"again {recipe.title}", subcategory="stew", category="soup") for recipe in dishes[:9]
    ]
    database = Database.of(dishes + twins)
    for dealt in (protocols.folds(database, 3), np.isin(np.arange(len(database.has)), protocols.halves(database)[0])):
        assert (dealt[: len(twins)] == dealt[len(dishes) :]).all()


def test_a_held_out_recipe_is_in_nothing_that_answers():
    database = cookbook()
    made, seen = whole(database), []
    for known, at in protocols.asked(database, made, 0):
        titles = {recipe.title for recipe in known.recipes}
        assert not titles & {database.recipes[row].title for row in made.recipe[at]}
        assert len(known.has) == len(known.recipes) == len(known.sub)
        seen += at.tolist()
    assert sorted(seen) == list(range(len(made.recipe)))


def test_nothing_held_out_moves_with_what_the_recipe_holds():
    database = cookbook()
    made = protocols.cut(database, [3], 0)
    other = replace(database, has=database.has.copy())
    other.has[3] = 1 - other.has[3]  # another recipe altogether
    ours, theirs = (judged.collected(one, made, Reading(5, 0.1), 0, judged._of_the_method) for one in (database, other))
    assert all((ours[key] == theirs[key]).all() for key in ours)
    inside = [judged.collected(one, made, Reading(5, 0.1), None, judged._of_the_method) for one in (database, other)]
    assert any((inside[0][key] != inside[1][key]).any() for key in inside[0]), "in the database it does move them"


# --- settings --------------------------------------------------------------------------------------------------------


def point(n, theta, gain, **more):
    return {"n": n, "theta": theta, "gain": np.array(gain), "n_is_all": False, "scored": 0.2, "kept": 0.8} | more


def test_the_simplest_of_the_points_that_are_as_good_is_chosen():
    noise = np.tile([0.1, -0.1], 50)
    points = [
        point(40, 0.01, 0.6 + noise),
        point(20, 0.01, 0.6 + noise[::-1] - 0.005),
        point(20, 0.02, 0.6 + noise[::-1] - 0.006),
        point(10, 0.01, 0.4 + noise),
    ]
    chosen = search.choose(points, Reading())
    assert (chosen.reading.n, chosen.reading.theta) == (20, 0.02) and not chosen.at_edge
    assert len(chosen.plateau) == 3
    assert search.choose([point(max(search.N), 0.0, noise)], Reading()).at_edge
    assert not search.choose([point(max(search.N), 0.0, noise, n_is_all=True)], Reading()).at_edge


def test_of_one_size_the_setting_that_keeps_most_is_taken():
    points = [
        point(5, 0.1, [0], scored=0.19, kept=0.5),
        point(20, 0.1, [0], scored=0.21, kept=0.7),
        point(40, 0.1, [0], scored=0.3, kept=0.9),
    ]
    assert search.of_size(points, Reading(), 0.2).n == 20
    assert search.of_size(points, Reading(), 0.6).n == 40, "none is of that size: the nearest"


def test_the_grid_is_what_the_recommender_does():
    database = cookbook()
    made = whole(database)
    for seed in (None, 0):
        for one in search.grid(database, made, Reading(), seed):
            if (one["n"], one["theta"]) in {(5, 0.2), (20, 0.05), (1280, 0.0)}:
                reading = Reading(n=one["n"], theta=one["theta"])
                expected = judged.summary(database, made, reading, seed)
                assert one["scored"] == pytest.approx(expected["scored"])
                assert one["kept"] == pytest.approx(expected["kept"])
                assert one["gain"].mean() == pytest.approx(one["kept"] - one["scored"])


# --- gates -----------------------------------------------------------------------------------------------------------


def put(database, reading=Reading(5, 0.1), made=None):  # noqa: B008
    return search.asking(database, database, made or whole(database), reading)


def test_a_basket_that_activates_nothing_is_a_miss():
    one = put(cookbook(), Reading(theta=0.99))
    best = best_matches(one.similar, one.searched, gates.MATCHES)
    found = search.answers(one, one.searched) | search.dishes(one, best)
    assert not found["kept"].any() and not found["scored"].any() and (best == -1).all()
    assert not found["right"].any() and not found["own"].any() and not found["five"].any()
    assert search.activation(one)["nothing"].all()


def test_brute_force_finds_what_sets_find():
    database = cookbook()
    one = put(database, EVERYTHING)
    best = best_matches(one.similar, one.searched, gates.MATCHES)
    found = search.answers(one, one.searched) | search.dishes(one, best)
    assert (best == one.five).all()
    assert found["kept"].all() and (found["scored"] == 1).all() and (found["five"] == 1).all()
    for known, hidden, matches in zip(one.given, one.hidden, best, strict=True):
        basket, own = ({database.items[i] for i in np.flatnonzero(row)} for row in (known, known + hidden))
        similar = [len(basket & recipe.items) / len(basket | recipe.items) for recipe in database.recipes]
        expected = best_matches(np.array([similar]), np.ones((1, len(similar)), bool), gates.MATCHES)[0]
        assert matches.tolist() == expected.tolist()
        holds = any(database.recipes[row].items == own for row in matches)
        at = (one.given == known).all(axis=1) & (one.hidden == hidden).all(axis=1)
        assert found["own"][at].all() == holds


@given(st.floats(0.01, 1), st.integers(1, 40))
def test_gates_of_subcategories_keep_to_the_budget(share, count):
    database = cookbook()
    made = whole(database)[np.arange(count)]
    one = put(database, made=made)
    searched = np.zeros_like(one.searched)
    searched.flat[: round(share * searched.size)] = True
    one = replace(one, searched=searched)
    for gate in (gates.at_random, gates.naive_bayes):
        largest = np.bincount(database.sub).max() / len(database.sub)
        assert abs(gate(one).mean() - one.scored) <= largest / count + 1e-6


def test_a_learned_gate_is_better_than_a_random_one_and_an_index_loses_little():
    one = put(cookbook(each=12))
    kept = {name: search.answers(one, gate(one))["kept"].mean() for name, gate in gates.GATES.items()}
    assert kept["brute force"] == 1 and kept["inverted index"] > 0.95
    assert kept["naive Bayes"] > kept["random"] + 0.2
    assert (gates.right_one(one) == (one.known.sub == one.target[:, None])).all()
    assert gates.lsh(one).sum(axis=1).max() <= round(one.scored * len(one.known.has))


def test_an_index_of_staples_alone_is_asked_by_staples():
    database = cookbook()
    salt, leek = (database.rows([frozenset({name})]) for name in ("salt", "leek"))
    one = replace(put(database), given=np.concatenate([salt, leek, salt + leek]))
    found = gates.inverted_index(one)
    has = [database.has[:, database.items.index(name)] > 0 for name in ("salt", "leek", "leek")]
    assert (found == np.stack(has)).all()


# --- recommenders ----------------------------------------------------------------------------------------------------


def test_item_knn_is_cosine_over_recipes():
    database = Database.of([recipe for recipe in cookbook().recipes if recipe.category == "rice"])  # 17 items: all near
    given = database.rows([frozenset({"rice", "egg"})])
    assert recommenders.item_knn(database, given) == pytest.approx(given @ cosine_similarity(database.has.T), abs=1e-5)


@pytest.mark.parametrize("name", recommenders.ITEMS | recommenders.SHOWN_ITEMS)
def test_item_lists_leave_out_the_basket(name):
    database = cookbook()
    made = protocols.cut(database, range(12), 0)
    score = (recommenders.ITEMS | recommenders.SHOWN_ITEMS)[name]
    lists = recommenders.item_lists(database, made.given, score)
    assert all(len(columns) and not row[columns].any() for columns, row in zip(lists, made.given, strict=True))
    assert 0 < search.recall(lists, made.hidden, search.AT).mean() <= 1


@pytest.mark.parametrize("name", recommenders.SHOWN_RECIPES)
def test_recipe_lists_rank_the_own_recipe_first(name):
    database = cookbook()
    made = protocols.cut(database, range(12), 0)
    lists = recommenders.recipe_lists(database, made.given, recommenders.SHOWN_RECIPES[name], m=1)
    own = [set(columns) == set(np.flatnonzero(row)) for columns, row in zip(lists, made.hidden, strict=True)]
    assert np.mean(own) >= 0.5


@given(st.lists(st.booleans(), min_size=1, max_size=15), st.integers(1, 12))
def test_recall_counts_what_is_among_the_first(hits, k):
    ranked, relevant = list(range(len(hits))), {i for i, hit in enumerate(hits) if hit}
    found = ranking.recall(ranked, relevant, k)
    assert math.isnan(found) if not relevant else found == pytest.approx(sum(hits[:k]) / len(relevant))


# --- ranks and growth ------------------------------------------------------------------------------------------------


def test_ranked_items_separate_and_meaningless_labels_do_not_held_out():
    database = cookbook(each=12)
    ours, unranked = (ranks.separation(database, Reading(4, 0.1), 0, lists=kind) for kind in ("ranked", "random items"))
    assert np.nanmean(ours) > 0.95 and np.nanmean(ours) > np.nanmean(unranked)
    dealt = replace(database, sub=np.random.default_rng(0).permutation(database.sub))
    assert abs(np.nanmean(ranks.separation(dealt, Reading(4, 0.1), 0)) - 0.5) < 0.15
    alone = Database.of([recipe for recipe in database.recipes if recipe.subcategory == "stew"])
    assert np.isnan(ranks.separation(alone, Reading(), None)).all(), "a recipe without siblings cannot be asked"


def test_any_order_keeps_the_items_and_the_weights():
    method = Recommender.learn(cookbook(), Reading(4))
    dealt = ranks._at_random(method, True, np.random.default_rng(0))
    assert ((dealt > 0) == (method.weights > 0)).all() and (dealt != method.weights).any()
    assert np.sort(dealt, axis=1) == pytest.approx(np.sort(method.weights, axis=1))


def test_what_a_title_names_can_be_left_out_of_the_ranking():
    """Where the item in the title is all that differs, nothing is left to tell dishes apart by."""
    recipes = [
        Recipe(f"{kind} pie {i}", "pie", f"{kind} pie", frozenset({kind, "flour", f"spice {i}"}))
        for kind in ("pumpkin", "cherry")
        for i in range(12)
    ]
    database = Database.of(recipes)
    with_names, without = (ranks.separation(database, Reading(4, 0.1), 0, head=head) for head in (True, False))
    assert np.nanmean(with_names) > 0.95 and abs(np.nanmean(without) - 0.5) < 0.1


@pytest.mark.parametrize("how", [growth.by_categories, growth.by_subcategories])
def test_growth_of_brute_force_is_that_of_the_recipes(how):
    database = cookbook()
    found = how(database, whole(database), EVERYTHING)
    half, all_of_it = (found[size] for size in ("half", "whole"))
    assert all_of_it.min() >= 1 and half == pytest.approx(all_of_it, rel=0.2), "but for the look-ups"
    assert found["whole, right one"].mean() < 0.75 * found["half, right one"].mean()


# --- rows and evidence -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    database = cookbook(each=10)
    tuning, judging = protocols.halves(database)
    chosen = judged.choose(database, tuning, Reading(), 0)
    return judged.rows(database, judging, chosen, [0, 1])


def test_rows_are_those_of_the_judged_recipes(rows):
    assert rows.shape[0] == len(HOMES) * 5
    assert rows[INSIDE, "kept", "brute force"].min() == 1
    assert rows[INSIDE, "meaningless", "right"].mean() < rows[INSIDE, "right", METHOD].mean()
    values = rows.drop(columns=[column for column in rows if column[1] in ("operations",)]).to_numpy()
    assert np.nanmin(values) >= 0


def test_a_recipe_is_the_mean_of_its_baskets():
    made = protocols.cut(cookbook(), [2, 5], 0)
    found = search.of_recipe(made, np.array([0.0, 1, 2, np.nan, 3, 5]), np.array([2, 5]))
    assert found.tolist() == [1, 4]
    assert np.isnan(search.of_recipe(made, np.full(6, np.nan), np.array([2, 5]))).all()


def states(rows):
    """How each part stands by rows: part -> met, not met, open, void."""
    ledger, found = ledgers.load("grocery_ranking"), {}
    for claim_id, one in evidence.parts(rows).items():
        claim = ledger.claim(claim_id)
        for part in claim.parts:
            found[f"{claim_id}.{part.name}"] = verdicts.judged_part(claim, part, one).state
    return found


def by_hand(rows):
    """Two hundred recipes of one kind: each column a number, with a little noise."""
    rng = np.random.default_rng(0)
    base = {column: 0.5 for column in rows}
    for protocol in (INSIDE, HELD):
        base |= {
            (protocol, "scored", METHOD): 0.15,
            (protocol, "scored", "near index"): 0.2,
            (protocol, "scored", "inverted index"): 0.2,
            (protocol, "scored", "right one"): 0.05,
            (protocol, "kept", METHOD): 0.9,
            (protocol, "kept", "near index"): 0.9,
            (protocol, "kept", "random"): 0.15,
            (protocol, "kept", "right one"): 0.9 if protocol == INSIDE else 0.3,
            (protocol, "kept", "inverted index"): 0.98,
            (protocol, "kept", "naive Bayes"): 0.98,
            (protocol, "kept", "brute force"): 1.0,
            (protocol, "five", METHOD): 0.9,
            (protocol, "five", "random"): 0.15,
            (protocol, "own", METHOD): 0.9,
            (protocol, "own", "random"): 0.1,
            (protocol, "own", "brute force"): 0.95,
            (protocol, "right", METHOD): 0.8,
            (protocol, "right", "brute force"): 0.85,
            (protocol, "chance", METHOD): 0.05,
            (protocol, "recall", METHOD): 0.6,
            (protocol, "recall", "right one"): 0.7,
            (protocol, "recall", "brute force"): 0.5 if protocol == HELD else 0.7,
            (protocol, "recall", "popularity"): 0.3,
            (protocol, "recall", "random"): 0.2,
            (protocol, "recall without staples", METHOD): 0.5,
            (protocol, "recall without staples", "right one"): 0.7,
            (protocol, "recall without staples", "popularity"): 0.2,
            (protocol, "recall without staples", "random"): 0.1,
            (protocol, "own_category", METHOD): 0.95,
            (protocol, "categories", METHOD): 0.2,
            (protocol, "least categories", METHOD): 1 / 9,
            (protocol, "own_active", METHOD): 0.8,
            (protocol, "others_active", METHOD): 0.1,
            (protocol, "auc", "ranked"): 0.9,
            (protocol, "auc", "random items"): 0.6,
            (protocol, "auc", "without names"): 0.85,
        }
    base |= {
        (INSIDE, "meaningless", "right"): 0.1,
        (INSIDE, "meaningless", "chance"): 0.05,
        (INSIDE, "meaningless", "own_active"): 0.2,
        (INSIDE, "meaningless", "others_active"): 0.1,
        (INSIDE, "meaningless throughout", "own_category"): 0.3,
        (INSIDE, "meaningless throughout", "categories"): 0.2,
        (INSIDE, "meaningless", "auc"): 0.6,
    }
    for of in ("categories", "subcategories"):
        base |= {
            (INSIDE, "growth", f"{of}: whole"): 0.1,
            (INSIDE, "growth", f"{of}: half"): 0.18,
            (INSIDE, "growth", f"{of}: whole, right one"): 0.05,
            (INSIDE, "growth", f"{of}: half, right one"): 0.1,
        }
    return pd.DataFrame({column: base[column] + _noise(rng) for column in rows.columns})


def _noise(rng):
    noise = rng.normal(0, 0.01, 200)
    return np.clip(noise - noise.mean(), -0.02, 0.02)


def test_rows_of_a_method_that_works_meet_every_part(rows):
    assert set(states(by_hand(rows)).values()) == {"met"}


def test_parts_are_marked_with_the_protocol_that_they_and_their_preconditions_read(rows):
    ledger = ledgers.load("grocery_ranking")
    for claim_id, one in evidence.parts(by_hand(rows)).items():
        for part in ledger.claim(claim_id).parts:
            if part.needs:
                held = part.name.endswith("held_out")
                assert one.parts[part.name].arms == one.preconditions[part.needs].arms == ((HELD if held else INSIDE),)


@pytest.mark.parametrize(
    "column, value, fallen",
    [
        ((INSIDE, "right", METHOD), 0.3, {"C2.subcategory_inferred": "not_met"}),
        ((INSIDE, "meaningless", "right"), 0.8, {"C2.subcategory_inferred": "void"}),
        ((HELD, "recall", "popularity"), 0.68, {"C2.beats_popularity_held_out": "void"}),
        ((HELD, "recall", "popularity"), 0.6, {"C2.beats_popularity_held_out": "not_met"}),
        ((INSIDE, "own", METHOD), 0.3, {"C2.dish_among_five": "not_met"}),
        ((INSIDE, "categories", METHOD), 0.7, {"C4.few": "not_met", "C4.probable": "not_met"}),
        ((INSIDE, "own_category", METHOD), 0.3, {"C4.few": "open", "C4.probable": "not_met"}),
        ((INSIDE, "meaningless throughout", "own_category"), 0.9, {"C4.probable": "void"}),
        ((INSIDE, "meaningless", "auc"), 0.9, {"C6.tells_apart": "void"}),
        ((HELD, "auc", "random items"), 0.85, {"C6.by_choice": "not_met"}),
        ((INSIDE, "meaningless", "own_active"), 0.75, {"C7.informed": "void"}),
        ((HELD, "others_active", METHOD), 0.6, {"C7.informed_held_out": "not_met"}),
        ((INSIDE, "kept", "random"), 0.89, {"C8.in_the_database": "void", "C9.share_scored": "open"}),
        ((HELD, "kept", METHOD), 0.7, {"C8.held_out": "not_met"}),
        ((INSIDE, "scored", METHOD), 0.45, {"C9.share_scored": "not_met", "C9.worth_it": "not_met"}),
        ((HELD, "kept", METHOD), 0.6, {"C9.worth_it_held_out": "not_met"}),
        ((HELD, "kept", "random"), 0.85, {"C9.share_scored_held_out": "open", "C8.held_out": "void"}),
        ((HELD, "recall", "brute force"), 0.6, {"C11.importance_helps": "not_met"}),
        ((INSIDE, "growth", "categories: half"), 0.1, {"C11.by_categories": "not_met"}),
        ((INSIDE, "kept", "inverted index"), 0.9, {"C13.index_misses_fewer": "not_met"}),
        ((HELD, "scored", "inverted index"), 0.3, {"C13.index_misses_fewer_held_out": "open"}),
        ((HELD, "kept", "naive Bayes"), 0.85, {"C14.bayes_misses_fewer_held_out": "not_met"}),
    ],
)
def test_a_row_that_tells_otherwise_fells_its_part(rows, column, value, fallen):
    changed = by_hand(rows)
    changed[column] = changed[column] - changed[column].mean() + value
    found = states(changed)
    assert {part: found[part] for part in fallen} == fallen


def test_the_empty_method_meets_nothing_by_being_cheap(rows):
    """Searching nothing is cheap, opens few and grows slowly: none of it may count."""
    empty = by_hand(rows)
    for protocol in (INSIDE, HELD):
        for measure in ("scored", "kept", "five", "own", "right", "recall", "own_category", "categories", "own_active"):
            empty[protocol, measure, METHOD] = 0.0
        for measure in ("others_active", "recall without staples"):
            empty[protocol, measure, METHOD] = 0.0
        empty[protocol, "kept", "random"] = 0.0
        empty[protocol, "auc", "ranked"] = 0.5
        empty[protocol, "auc", "without names"] = 0.5
    found = states(empty)
    own = {part: state for part, state in found.items() if part[:3] not in ("C13", "C14")}
    assert "met" not in own.values(), own
