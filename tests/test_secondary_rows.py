"""Secondary sinks: what is measured of a text, and what the parts make of rows written by hand, true and false."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import planted as planted_model
from claimbook import paths, plotting, stats
from claimbook.claims import ledgers, verdicts
from claimbook.experiments.secondary_sinks import evidence, figures, inputs
from claimbook.experiments.secondary_sinks.measure import changes, found, inside, layer, separation, texts, thresholds
from claimbook.experiments.secondary_sinks.measure.changes import NO_OTHERS, NO_PRIMARY, NO_SINKS, UNCHANGED
from claimbook.experiments.secondary_sinks.measure.words import is_content
from claimbook.experiments.secondary_sinks.stored import RULE, STORED, TIMES
from claimbook.lm import block_outputs, residual, tiny
from claimbook.lm.load import LM
from claimbook.provenance import seals

pytestmark = pytest.mark.numeric

LEDGER = ledgers.load("secondary_sinks")
LAYERS, TEXTS = 30, 24
CONFIG = {"text": "by hand", "n_texts": 3, "length": 160, "seed": 0}


def judged(measured, claim, part):
    """State of a part beside its controls and its precondition; "untested" where it was not measured."""
    one = measured.get(claim, verdicts.Evidence())
    one = one if isinstance(one, verdicts.Evidence) else verdicts.Evidence(parts=one)
    return verdicts.judged_part(LEDGER.claim(claim), LEDGER.claim(claim).part(part), one).state


# --- measuring: sinks planted by hand --------------------------------------------------------------------------------


@pytest.fixture
def lm():
    """A model whose token 7 is a sink after layers 4 to 6; at place 40 it is kept from being one."""
    model = planted_model.model((4, 7))
    with block_outputs.scaled(model, 4, [40], 0.0), block_outputs.scaled(model, 7, [40], 0.0):
        yield LM("planted", model, tiny.byte_tokenizer())


@pytest.fixture
def ids():
    ids = planted_model.text(length=160, at=(12, 30))
    ids[40] = planted_model.SECONDARY
    return ids


@pytest.fixture
def several(monkeypatch, ids):
    """Three texts, as an experiment reads them."""
    other = planted_model.text(length=160, at=(14, 33))
    other[40] = planted_model.SECONDARY
    monkeypatch.setattr(inputs, "texts", lambda lm, config: {"one": ids, "two": other, "three": ids.roll(0).clone()})


def test_like_tokens_have_the_id_and_are_no_sinks(lm, ids):
    one = found.find(lm, ids)
    first, second = one.secondary()
    assert (first.token, second.token) == (12, 30)
    assert found.like(one, first) == found.like(one, second) == [40]
    assert found.others(one, [first, second]) == {12: 40, 30: 29}, "none twice: a neighbour stands in"


def test_tokens_too_near_the_end_are_not_scored(lm):
    one = found.find(lm, planted_model.text(length=90, at=(12, 30)))
    assert [sink.token for sink in one.sinks["official"]] == [12]
    assert list(found.find(lm, planted_model.text(length=20, at=(12,))).scored) == []


def test_the_primary_need_not_be_the_first_token(lm):
    ids = planted_model.text(length=160)
    ids[[0, 1]] = ids[[1, 0]]
    assert found.find(lm, ids).stream.at == 1


def test_a_text_is_told_in_plain_numbers(lm, ids):
    stream = found.find(lm, ids).stream
    row = json.loads(json.dumps(asdict(texts.measure(lm, ids, CONFIG))))
    assert (row["primary"]["start"], row["primary"]["end"]) == (2, 9)
    assert [sink["token"] for sink in row["sinks"]] == [12, 30]
    assert row["rules"].keys() == {"official", *(f"{k} x" for k in TIMES)}
    assert row["rules"][RULE]["levels"] == [[4, 3, 2]]
    assert row["rules"]["official"]["longest"] == pytest.approx(60.5 / 500, rel=0.05), "over the primary's"
    assert row["lived"] == {"primary": 7, "others": [3, 3]}
    assert row["same"] == [3, 1]
    assert row["rules"][RULE]["cosine"] > 0.99 and row["rules"][RULE]["made"] == pytest.approx(1, abs=0.05)
    assert row["rules"][RULE]["like_even"] > 0
    sink = row["sinks"][0]
    assert sink["start"] == 4 and sink["aligned"] == 3 and sink["in_massive_life"]
    assert sink["feed_forward_cosine"] > 0.99 > abs(sink["like"]["feed_forward_cosine"])
    assert sink["written_along"] == pytest.approx(60, abs=1) == sink["state_along"]
    assert sink["attended_along"] == pytest.approx(0, abs=0.1), "attention writes nothing here"
    assert sink["given"] == pytest.approx(float(stream.given[5:8, 12].mean())), (
        "the attention of layer 4 comes before what it writes"
    )
    assert (row["overlap"]["3 x"]["5 x"], row["overlap"]["3 x"]["8 x"]) == (1.0, 0.0)
    assert thresholds.measure(lm, ids, CONFIG).overlap == row["overlap"]


def test_function_words_and_signs_are_no_content():
    assert [is_content(text) for text in (" the", "The", "ing", " river", " ", "12", "'s", ".", "’", "é")] == [
        False, False, True, True, False, False, False, False, False, True,
    ]  # fmt: skip


def test_writes_are_scaled_turned_and_taken_away(lm, ids, several):
    unit = changes.units(lm, CONFIG)["one"]
    row = changes.measure(lm, unit, CONFIG)
    one = found.find(lm, ids)
    assert (row.sinks, row.untrained, row.meets) == (2, 0, [5, 6, 7])
    by_factor = {one["factor"]: one for one in row.scaled}
    assert by_factor[1.0]["given"] == pytest.approx(float(one.stream.given[5:8, 12].mean()), abs=1e-6)
    assert (by_factor[0.0]["aligned"], by_factor[1.0]["on_end"], by_factor[4.0]["on_end"]) == (0, 3, 5)
    assert row.turned["straight along"] == pytest.approx(by_factor[1.0]["given"], rel=0.02)
    assert row.without_next == pytest.approx(by_factor[1.0]["given"], rel=1e-3), "layer 5 writes nothing"
    assert row.room == 5, "from layer 4 to the last that the primary is itself in"
    assert row.loss[UNCHANGED] == pytest.approx(row.loss[NO_OTHERS], abs=1e-5) != row.loss[NO_SINKS]
    assert row.primary[UNCHANGED] == pytest.approx(one.stream.given[:, 0].tolist(), abs=1e-6)
    assert [sink.token for sink in found.find(lm, ids).secondary()] == [12, 30], "nothing stays behind"


def test_what_is_shared_in_proportion_is_what_all_others_gain_alike(lm, ids, several):
    """With attention to the sinks taken off and spread over all others in proportion, by hand from full maps."""
    unit = changes.units(lm, CONFIG)["one"]
    row, tokens = changes.measure(lm, unit, CONFIG), [0, 12, 30]
    seen = {}
    for name, factor in (("with", 1.0), ("without", 0.0)):
        columns = changes.Columns(tokens)
        with torch.no_grad(), block_outputs.scaled(lm.model, 4, [12, 30], factor):
            changes.mean_loss(lm, ids, columns)
        seen[name] = columns.result()
    layer = 6
    before, after = seen["with"][layer], seen["without"][layer]
    expected = (before[..., 0] * (1 - after[..., 1:].sum(-1)) / (1 - before[..., 1:].sum(-1))).mean()
    assert row.primary[f"{NO_SINKS}, in proportion"][layer] == pytest.approx(float(expected), rel=1e-5)
    assert row.primary[NO_SINKS][layer] == pytest.approx(float(after[..., 0].mean()), rel=1e-5)


def test_a_write_at_right_angles_is_as_long_and_points_nowhere_near_the_primary(lm, ids):
    noise = torch.randn(60, lm.model.config.intermediate_size - 2, generator=torch.Generator().manual_seed(0))
    lm.model.model.layers[4].mlp.down_proj.weight[:60, 2:] = 0.001 * noise  # other tokens' writes
    one = found.find(lm, ids)
    sinks = one.secondary()
    ways, writes = changes.directions(lm, one, sinks, {12: 11, 30: 29})
    sink, write = sinks[0], writes[sinks[0].token]
    assert float(write.norm()) == pytest.approx(changes.write_norm(one, sink), rel=1e-5)
    assert float(write @ ways[sink.start]) == pytest.approx(0, abs=1e-3)
    with torch.no_grad(), changes.rewritten(lm.model, [(sink.start, sink.token, write)]):
        turned = residual.trace(lm.model, ids, one.stream.at)
    assert float(turned.cosine[sink.start, sink.token].abs()) < 0.3
    assert float(turned.feed_forward_norm[sink.start, sink.token]) == pytest.approx(float(write.norm()), rel=1e-4)
    assert [one.token for one in found.find(lm, ids).secondary()] == [12, 30], "nothing stays behind"


def test_keys_and_values_are_told_beside_ordinary_ones(lm, ids):
    one = found.find(lm, ids)
    _, writes = changes.directions(lm, one, one.secondary(), {12: 11, 30: 29})
    turned = [(sink.start, sink.token, writes[sink.token]) for sink in one.secondary()]
    norms = changes.keys_and_values(lm, one, one.secondary(), turned)
    _, values = residual.keys_and_values(lm.model, ids)
    usual = [i for i in one.scored if i not in (12, 30)]
    own = np.mean([float(values[5:8, token].mean()) for token in (12, 30)])
    assert norms["value"] == pytest.approx(own, rel=1e-4)
    assert norms["ordinary_value"] == pytest.approx(float(values[5:8][:, usual].median(dim=1).values.mean()), rel=1e-4)
    assert norms["turned_value"] != norms["value"] and len(norms["nearer"]) == len(norms["turned_nearer"]) == 2


def test_an_untrained_network_has_the_shape_and_other_weights(lm):
    state = torch.random.get_rng_state()
    blank = changes.untrained(lm)
    assert torch.equal(torch.random.get_rng_state(), state), "what is drawn elsewhere stays as it was"
    assert blank.layers == lm.layers and not blank.model.training
    one, other = (next(net.model.parameters()) for net in (blank, lm))
    assert one.shape == other.shape and not torch.equal(one, other)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt_neox", "phi3"])
def test_the_layer_alone_is_the_one_that_writes(name):
    """Fed with what enters it, it gives what the model's hooks see it write: with the norm behind it too."""
    tiny_lm = LM(name, *tiny.build(f"tiny-random-{name}"))
    ids = torch.randint(1, 300, (30,), generator=torch.Generator().manual_seed(0))
    seen = inside.look(tiny_lm, ids, until=1)
    with torch.no_grad():
        assert torch.allclose(layer.write(tiny_lm, 1, seen.enters[1]), seen.feed_forward[1], atol=1e-4)


def test_the_neuron_that_writes_a_planted_sink_is_named(lm, several):
    ((every, start),) = layer.units(lm, CONFIG).values()
    row = layer.measure(lm, (every, start), CONFIG)
    assert (row.layer, row.sinks) == (4, 6)
    # what this layer writes for the planted primary is nothing, so that the direction is taken from the sinks
    enters = inside.look(lm, every["one"].ids, 4).enters[4, [12, 30]]
    with torch.no_grad():
        neurons, made = layer.strongest(lm, 4, enters, layer.write(lm, 4, enters).mean(dim=0), [0, 1])
    assert neurons[0] == 1, "the planting gave it to the sinks"
    assert len(made) == 2 and made[0] == pytest.approx([60, 60], abs=1)


def test_principal_directions_are_the_widest_first_and_of_length_one():
    points = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9, 1, 3, 1])
    directions = layer.principal(points)
    assert torch.allclose(directions @ directions.T, torch.eye(5), atol=1e-5)
    assert directions[0].abs().argmax() == 1 and directions[1].abs().argmax() == 3


# --- the probe -----------------------------------------------------------------------------------------------------


def tokens_of(seed, signal=0.0, by_place=0.0, count=30, size=20):
    """Tokens of one text of which a third are sinks: features that tell them by ``signal``, places by ``by_place``."""
    draw = torch.Generator().manual_seed(seed)
    is_sink = torch.arange(count) < count // 3
    place = torch.randint(100, 400, (count,), generator=draw).float() - by_place * 90 * is_sink
    features = torch.randn(count, size, generator=draw)
    features[:, 0] += 3 * signal * is_sink
    features[:, 1] += 5 * place / 100  # what position alone puts into the features
    names = ("attention 0", "enters", "feed_forward")
    return separation.Tokens(dict.fromkeys(names, features) | {"waves": separation.waves(place)}, place, is_sink)


def rows_of(**options):
    every = {str(i): tokens_of(i, **options) for i in range(12)}
    return [separation.measure(None, (0, every, name), CONFIG) for name in every]


def test_a_probe_sees_what_is_there_and_nothing_else():
    def right(rows, name):
        return np.mean([getattr(row, name) for row in rows])

    assert right(rows_of(signal=1.0), "feed_forward") > 0.9
    assert abs(right(rows_of(), "feed_forward") - 0.5) < 0.08, "no signal"
    assert abs(right(rows_of(signal=1.0), "shuffled") - 0.5) < 0.08


def test_position_is_no_signal_of_the_probe():
    every = [tokens_of(i, by_place=1.0) for i in range(12)]
    known = separation.joined(every)
    plain = separation.fitted(known.features["enters"], known.is_sink)(known.features["enters"])
    assert separation.wins(plain, known) > 0.7, "places do tell them apart"
    rows = rows_of(by_place=1.0)
    assert np.mean([row.feed_forward for row in rows]) < 0.6, "but the probe does not read them off the features"
    assert np.mean([row.waves for row in rows]) < 0.6


def test_a_probe_is_ridge_regression():
    some = separation.joined([tokens_of(i, signal=1.0) for i in range(5)])
    x = some.features["enters"].double()
    x = ((x - x.mean(dim=0)) / x.std(dim=0)).numpy()
    oracle = Ridge(alpha=separation.RIDGE * len(x)).fit(x, some.is_sink.double().numpy())
    ours = separation.fitted(some.features["enters"], some.is_sink)(some.features["enters"]).numpy()
    assert ours == pytest.approx(oracle.predict(x) - oracle.intercept_, abs=1e-6)


def test_wins_count_pairs_and_half_of_ties():
    tokens = separation.Tokens({}, torch.zeros(4), torch.tensor([True, True, False, False]))
    assert separation.wins(torch.tensor([3.0, 1.0, 1.0, 0.0]), tokens) == pytest.approx((2 + 1.5) / 4)


def test_texts_are_told_apart_by_the_others(lm, several):
    units = separation.units(lm, CONFIG)
    assert list(units) == ["one", "two", "three"]
    first, tokens, _ = units["two"]
    assert first == 0 and tokens["two"].place.tolist() == [14, 33, 40] and tokens["two"].is_sink.sum() == 2
    row = separation.measure(lm, units["two"], CONFIG)
    assert len(row.attention) == 5 and 0 <= row.feed_forward <= 1
    assert list(tokens["one"].features) == [*(f"attention {i}" for i in range(5)), "enters", "feed_forward", "waves"]


# --- reading: rows as they would be if the paper were right, and what each part needs to fail ----------------------


def sink(i, **change):
    """A secondary sink as the paper has it: written by the feed-forward layer of layer 14, longer ones draw more."""
    size = 100.0 + 40 * i
    return {
        "token": [300, 40, 900, 600, 1200][i], "start": 14, "aligned": 6 + i, "in_massive_life": True,
        "text": " ", "content": False,
        "feed_forward_norm": size, "attention_norm": [5.0, 7.0, 4.0, 6.0, 5.5][i],
        "feed_forward_cosine": 0.97, "attention_cosine": 0.4,
        "next_cosine": 0.2, "state_along": size, "written_along": 0.95 * size, "attended_along": 0.02 * size,
        "given": 0.01 * (i + 1), "given_common": 0.01 * (i + 1), "even": 0.001, "heads": 0.1,
        "like": {"feed_forward_cosine": 0.1, "attention_cosine": 0.2, "given": 0.001, "even": 0.001},
    } | change  # fmt: skip


def rule(count, start=14, life=8, given=0.03, even=0.001, primary=0.3):
    drawn = {"given": given, "even": even, "primary_given": primary, "longest": 0.5} if count else {}
    drawn |= {"cosine": 0.95, "made": 0.9, "like_given": even, "like_even": 0.98 * even} if count else {}
    return {"secondary": count, "levels": [[start, life, count]] if count else []} | drawn


def a_text(i=0):
    draw, order = np.random.default_rng(i), [2, 1, 3, 4, 5] if i % 3 else [1, 2, 3, 4, 5]
    given = np.full(LAYERS, 0.5) + 0.01 * draw.normal(size=LAYERS)
    given[10:20] -= 0.1
    given[15] -= 0.2
    norms = np.full(LAYERS, 20.0)
    norms[3:28] = 900.0
    return texts.Row(
        tokens=2048,
        primary={"start": 3, "end": 28, "norm": norms.tolist(), "given": given.tolist()},
        median_norm=[10.0] * LAYERS,
        rules={
            "official": rule(2, given=0.03 + 0.001 * draw.random(), even=0.001 + 1e-5 * draw.random())
            | {"levels": [[14, 8, 1], [14, 9 + i % 3, 1]]},
            **{f"{k} x": rule(5, given=0.03 + 0.001 * draw.random()) for k in TIMES},
        },
        overlap={f"{a} x": {f"{b} x": 0.9 + 0.01 * draw.random() for b in TIMES} for a in TIMES},
        lived={"primary": 25, "others": [8, 9, 8 + i % 2]},
        sinks=[
            varied(
                sink(j, content=j + i % 5 == 0, given_common=0.01 * order[j], attention_norm=draw.uniform(4, 7)), draw
            )
            for j in range(5)
        ],
        norms=[[10.0] * LAYERS],
        content=0.5 + 0.01 * draw.random(),
        same=[200, 190 + i % 3],
        same_random=[200, 60 + i % 3],
    )


def varied(value, draw):
    """Floats a little off, as texts differ."""
    if isinstance(value, dict):
        return {key: varied(one, draw) for key, one in value.items()}
    return value * (1 - 0.02 * draw.random()) if isinstance(value, float) else value


def reading(change=lambda row: None, each=lambda one: None):
    """Evidence on all texts, each changed in place, and each of its sinks."""
    rows = [a_text(i) for i in range(TEXTS)]
    for row in rows:
        change(row)
        for one in row.sinks:
            each(one)
    return evidence.reading(rows)


def put(*path, value):
    """A change of a row or a sink: what stands under an attribute and nested keys."""

    def change(one):
        *inner, last = path
        for key in inner:
            one = getattr(one, key) if hasattr(one, "__dataclass_fields__") else one[key]
        new = value(one[last] if isinstance(one, dict) else getattr(one, last)) if callable(value) else value
        object.__setattr__(one, last, new) if hasattr(one, "__dataclass_fields__") else one.__setitem__(last, new)

    return change


READ = {
    "C1": ["exists"],
    "C2": ["primary_early", "secondary_middle"],
    "C3": ["primary_persists", "variable"],
    "C4": ["less", "significant"],
    "C6": ["aligned", "feed_forward_makes_it", "one_module", "middle_module"],
    "C7": ["score_follows_norm", "life_follows_norm"],
    "C8": ["dips", "coincides"],
    "C13": ["few_content_words", "usually_none"],
    "C16": ["whatever_the_threshold", "short", "weaker", "drawn_to"],
}


def test_if_the_paper_is_right_every_part_of_a_text_is_met():
    measured = reading()
    states = {(claim, part): judged(measured, claim, part) for claim, names in READ.items() for part in names}
    assert states == dict.fromkeys(states, "met")


FAILING = [
    ("C1", "exists", put("rules", "official", value=rule(0)), None),
    ("C1", "exists", put("rules", "official", value=rule(8)), None),  # so many are no class
    ("C2", "primary_early", put("primary", "start", value=10), None),
    ("C2", "secondary_middle", put("rules", "official", value=rule(2, start=3)), None),
    ("C3", "primary_persists", put("primary", "end", value=20), None),
    ("C4", "less", put("rules", "official", "given", value=lambda given: given + 0.4), None),
    ("C4", "significant", put("rules", "official", "even", value=lambda even: 20 * even), None),
    ("C6", "aligned", None, put("feed_forward_cosine", value=lambda one: one - 0.2)),
    ("C6", "feed_forward_makes_it", None, put("written_along", value=lambda one: 0.3 * one)),
    ("C6", "middle_module", put("rules", RULE, value=rule(5, start=2)), None),
    ("C7", "score_follows_norm", None, put("given_common", value=lambda given: 0.1 - given)),
    ("C7", "life_follows_norm", None, put("aligned", value=7)),
    ("C8", "dips", put("primary", "given", value=lambda given: [1 - one for one in given]), None),
    ("C8", "coincides", put("rules", RULE, value=rule(5, start=20)), None),
    ("C13", "few_content_words", None, put("content", value=True)),
    ("C13", "usually_none", put("same", value=[200, 40]), None),
    ("C16", "whatever_the_threshold", put("overlap", "3 x", "4 x", value=0.1), None),
    ("C16", "short", put("lived", value={"primary": 25, "others": [24, 25]}), None),
    ("C16", "weaker", put("rules", RULE, "given", value=lambda given: given + 0.4), None),
    ("C16", "drawn_to", None, put("even", value=lambda even: 50 * even)),
]


@pytest.mark.parametrize(("claim", "part", "change", "each"), FAILING)
def test_a_part_fails_when_what_it_says_is_not_so(claim, part, change, each):
    changed = reading(change or (lambda row: None), each or (lambda one: None))
    if part in ("short",):  # lives that are all alike have no interval
        rows = [a_text(i) for i in range(TEXTS)]
        rows = [replace(row, lived={"primary": 25, "others": [24, 24 + i % 2]}) for i, row in enumerate(rows)]
        changed = evidence.reading(rows)
    assert judged(changed, claim, part) == "not_met", changed[claim]


VOID = [
    ("C6", "aligned", put("next_cosine", value=lambda one: one + 0.75)),
    ("C6", "feed_forward_makes_it", put("attended_along", value=lambda one: 40 * one)),
    ("C16", "drawn_to", put("like", "given", value=lambda one: 30 * one)),
]


@pytest.mark.parametrize(("claim", "part", "each"), VOID)
def test_a_part_is_void_when_what_is_no_sink_meets_it_too(claim, part, each):
    assert judged(reading(each=each), claim, part) == "void"


def test_any_norm_that_goes_with_attention_voids_the_norm_law():
    def same(one):
        one["attention_norm"] = one["feed_forward_norm"]

    assert judged(reading(each=same), "C7", "score_follows_norm") == "void"


def test_lives_that_are_all_alike_never_read_as_variable():
    rows = [a_text(i) for i in range(TEXTS)]
    for row in rows:
        row.rules["official"] = rule(2)
    assert judged(evidence.reading(rows), "C3", "variable") == "not_met"


def test_sinks_that_start_in_many_layers_are_not_one_modules():
    rows = [a_text(i) for i in range(TEXTS)]
    for row in rows:
        for i, one in enumerate(row.sinks):
            one["start"] = 10 + i
    assert judged(evidence.reading(rows), "C6", "one_module") == "not_met"


def test_where_sinks_come_before_the_primary_nothing_is_said_of_its_dip():
    measured = reading(each=put("in_massive_life", value=False))
    assert judged(measured, "C8", "dips") == judged(measured, "C8", "coincides") == "open"
    assert measured["C8"].parts["coincides"].value == 0, "though it is there"


def test_a_dip_is_looked_for_within_the_primarys_own_life():
    row = a_text()
    row.primary.update(start=10, end=19, given=[0.0] * 11 + [0.6, 0.6, 0.6, 0.3, 0.3, 0.3, 0.6, 0.6, 0.6] + [0.0] * 10)
    assert evidence.dip(row) == pytest.approx((0.3, 0.6))
    assert evidence.steepest_fall([row]) == 14, "neither the rise before nor the fall behind it"
    row.primary.update(start=28, end=28)
    assert evidence.dip(row) is None and evidence.steepest_fall([row]) is None


def test_undefined_is_left_out_and_not_nought():
    """Position that explains all ranks leaves no correlation, nor do too few sinks: n says so."""
    rows = [a_text(i) for i in range(TEXTS)]
    for one, place in zip(rows[0].sinks, (10, 20, 30, 40, 50), strict=True):
        one["token"], one["feed_forward_norm"] = place, float(place)
    assert evidence.follows_norm(rows[0].sinks) is None
    rows[1].sinks[:] = rows[1].sinks[:4]
    found = evidence.reading(rows)["C7"].parts["score_follows_norm"]
    assert found.n == TEXTS - 2 and found.value > 0.7


def test_a_norm_law_that_is_one_of_place_is_none():
    """Late tokens that are both longer and more attended to: with places held fixed little is left."""
    written, given = (2, 1, 4, 3, 6, 5, 8, 7), (1, 3, 2, 4, 5, 7, 6, 8)
    sinks = [
        sink(0, token=100 * i, feed_forward_norm=float(written[i]), given_common=float(given[i])) for i in range(8)
    ]
    assert np.corrcoef(written, given)[0, 1] > 0.7 and evidence.follows_norm(sinks) < 0.2


def test_ties_count_half_and_like_writes_are_no_pair():
    sinks = [sink(i, aligned=7) for i in range(5)]
    assert evidence.longer_lives_longer(sinks) == 0.5
    assert evidence.longer_lives_longer([one | {"feed_forward_norm": 100.0} for one in sinks]) is None
    sinks = [sink(0, aligned=life, feed_forward_norm=size) for life, size in ((3, 100.0), (5, 150.0), (7, 225.0))]
    assert evidence.longer_lives_longer(sinks) == 1, "longer by half is unlike"


def test_a_class_has_neither_none_nor_too_many():
    row = replace(a_text(), tokens=5000)
    for count, a_class in ((0, False), (1, True), (17, True), (18, False)):  # 3.4 in 1,000
        row.rules["official"]["secondary"] = count
        assert evidence.has_a_class(row) == a_class


def test_without_sinks_nothing_is_said_of_them():
    rows = [
        replace(a_text(i), sinks=[], norms=[], same=[0, 0], lived={"primary": 25, "others": []},
                rules={name: rule(0) for name in a_text().rules})
        for i in range(TEXTS)
    ]  # fmt: skip
    measured = evidence.reading(rows)
    assert judged(measured, "C1", "exists") == "not_met"
    for claim, part in (("C2", "secondary_middle"), ("C3", "variable"), ("C4", "less"), ("C6", "aligned"),
                        ("C7", "score_follows_norm"), ("C13", "usually_none"), ("C16", "drawn_to")):  # fmt: skip
        assert judged(measured, claim, part) in ("untested", "open"), (claim, part)
    assert judged(measured, "C2", "primary_early") == "met", "the primary needs no class to be judged"


def test_texts_are_the_unit_not_their_sinks():
    """Every sink told twice changes no estimate: sinks of one text say nothing of other texts."""
    once, twice = [a_text(i) for i in range(TEXTS)], [a_text(i) for i in range(TEXTS)]
    for row in twice:
        row.sinks.extend([dict(one) for one in row.sinks])
    before, after = (evidence.formation(rows, LAYERS) for rows in (once, twice))
    for name, one in before.parts.items():
        if isinstance(one, stats.Estimate):
            again = after.parts[name]
            assert (one.value, one.low, one.n) == pytest.approx((again.value, again.low, TEXTS)), name
            assert one.unit == "texts"


def test_cosines_that_rounding_carries_over_one_are_clipped():
    rows = [a_text(i) for i in range(TEXTS)]
    for row in rows:
        for one in row.sinks:
            one["feed_forward_cosine"] = 1.0 + 4e-16
            one["next_cosine"] = -1.0 - 4e-16
    one = evidence.formation(rows, LAYERS)
    assert one.parts["aligned"].value == 1.0 and one.nulls["aligned"].value == -1.0


# --- interventions -------------------------------------------------------------------------------------------------


def changed(i, none=0.004, fourfold=0.05, on_end=(7, 9), back=(0, 3), room=12, right_angles=0.001, straight=0.03,
            without_next=0.03, value=0.2, turned_value=1.0, nearer=1, turned_nearer=0, with_them=0.3, shared=0.32,
            others_gain=1.0, loss=0.001, primary_loss=1.0, sinks=3, untrained=0):  # fmt: skip
    small = 1 + 0.02 * np.random.default_rng(i).random()

    def factor(factor, given, which):
        on = on_end[which]
        return {"factor": factor, "given": small * given, "on_end": on, "aligned": on + back[which]}

    def level(share):
        return [share * small] * LAYERS

    return changes.Row(
        sinks=sinks,
        untrained=untrained,
        scaled=[factor(0.0, none * small, 0), factor(0.5, 0.02, 0), factor(1.0, 0.03, 0), factor(4.0, fourfold, 1)],
        room=room,
        turned={"at right angles": right_angles * small**2, "straight along": straight * small**2},
        without_next=without_next * small**2,
        primary={
            UNCHANGED: level(with_them),
            NO_SINKS: level(0.5 * small),
            NO_OTHERS: level(with_them * others_gain * small),
            f"{NO_SINKS}, in proportion": level(shared / small),
            f"{NO_OTHERS}, in proportion": level(with_them),
        },
        loss={UNCHANGED: 3.0, NO_OTHERS: 3.0, NO_SINKS: 3.0 + loss * small, NO_PRIMARY: 3.0 + primary_loss * small},
        meets=[15, 16, 17],
        norms={
            "value": value * small, "turned_value": turned_value * small**2, "ordinary_value": 1.0,
            "nearer": [nearer] * 3, "turned_nearer": [turned_nearer] * 3,
            "key": 0.5, "turned_key": 1.0, "primary_key": 0.5,
        },
    )  # fmt: skip


CHANGED = {
    "C7": ["silenced", "score_scales", "stays_longer", "comes_back"],
    "C8": ["weaker_beside_them"],
    "C10": ["values_shrink", "keys_join"],
    "C16": ["in_most_texts"],
    "C17": ["direction_counts", "from_the_primary", "loss_alike"],
}


def interventions(**wrong):
    return evidence.interventions([changed(i, **wrong) for i in range(TEXTS)])


def test_if_the_paper_is_right_every_intervention_is_met():
    measured = interventions()
    states = {(claim, part): judged(measured, claim, part) for claim, names in CHANGED.items() for part in names}
    assert states == dict.fromkeys(states, "met")


@pytest.mark.parametrize(
    ("claim", "part", "wrong", "state"),
    [
        ("C7", "silenced", {"none": 0.019}, "not_met"),
        ("C7", "silenced", {"without_next": 0.004}, "void"),
        ("C7", "score_scales", {"fourfold": 0.03}, "not_met"),
        ("C7", "stays_longer", {"on_end": (7, 7)}, "not_met"),
        ("C7", "comes_back", {"back": (2, 2)}, "not_met"),
        ("C8", "weaker_beside_them", {"with_them": 0.5, "shared": 0.5}, "not_met"),
        ("C8", "weaker_beside_them", {"shared": 0.5}, "void"),
        ("C10", "values_shrink", {"value": 0.9}, "not_met"),
        ("C10", "values_shrink", {"turned_value": 0.2}, "void"),
        ("C10", "keys_join", {"nearer": 0}, "not_met"),
        ("C10", "keys_join", {"turned_nearer": 1}, "void"),
        ("C16", "in_most_texts", {"untrained": 2}, "void"),
        ("C17", "direction_counts", {"right_angles": 0.025}, "not_met"),
        ("C17", "direction_counts", {"straight": 0.002}, "void"),
        ("C17", "from_the_primary", {"shared": 0.6}, "not_met"),
        ("C17", "from_the_primary", {"others_gain": 1.5}, "void"),
        ("C17", "loss_alike", {"loss": 0.3}, "not_met"),
        ("C17", "loss_alike", {"primary_loss": 0.001}, "void"),
    ],
)
def test_interventions_decide_both_ways(claim, part, wrong, state):
    assert judged(interventions(**wrong), claim, part) == state


def test_a_sink_that_comes_back_does_not_stay_longer():
    measured = interventions(on_end=(7, 7), back=(0, 13))
    assert judged(measured, "C7", "stays_longer") == "not_met"
    assert judged(measured, "C7", "comes_back") == "met"
    measured = interventions(on_end=(7, 20), back=(0, 0))
    assert judged(measured, "C7", "stays_longer") == "met"
    assert judged(measured, "C7", "comes_back") == "not_met", "nor does one that stays come back"


def test_keys_that_are_alike_anyway_say_nothing():
    rows = [changed(i) for i in range(TEXTS)]
    for row in rows:
        row.norms["primary_key"] = 1.1
    assert judged(evidence.interventions(rows), "C10", "keys_join") == "untested"
    for row in rows:
        row.norms.update(primary_key=0.5, nearer=[1], turned_nearer=[0])
    assert judged(evidence.interventions(rows), "C10", "keys_join") == "untested", "one sink is no majority"


def test_texts_without_sinks_count_where_they_are_counted_alone():
    empty = changes.Row(0, 0, [], 0, {}, None, {}, {}, [], {})
    rows = [changed(i) for i in range(12)] + [empty] * 12
    measured = evidence.interventions(rows)
    assert judged(measured, "C16", "in_most_texts") == "not_met"
    assert measured["C7"].parts["silenced"].n == 12
    assert all(part is None for part in evidence.interventions([empty] * 3)["C17"].parts.values())


# --- inside the layer ----------------------------------------------------------------------------------------------


GROWING = (0.55, 0.6, 0.65, 0.7, 0.8, 0.9)


def apart(i, attention=GROWING, enters=0.9, feed_forward=1.0, waves=0.5):
    small = 0.01 * np.random.default_rng(i).random()
    return separation.Row(9, [one + small for one in attention], enters, feed_forward, 0.5, waves + small)


@pytest.mark.parametrize(
    ("part", "wrong", "state"),
    [
        ("attention_separates", {"attention": (0.5,) * 6}, "not_met"),
        ("attention_separates", {"waves": 0.9}, "void"),
        ("little_by_little", {"attention": (0.9,) * 6}, "not_met"),
        ("little_by_little", {"attention": GROWING[-3:]}, "open"),
        ("completed_by_feed_forward", {"enters": 1.0}, "void"),
        ("completed_by_feed_forward", {"feed_forward": 0.99}, "not_met"),
    ],
)
def test_the_probe_decides_both_ways(part, wrong, state):
    assert judged(evidence.told_apart([apart(i) for i in range(TEXTS)]), "C15", part) == "met"
    assert judged(evidence.told_apart([apart(i, **wrong) for i in range(TEXTS)]), "C15", part) == state


def alone(aligned=15, following=0, makes=(80.0, 100.0), like_makes=(5.0, 50.0)):
    cosines, others = ([0.99] * some + [0.1] * (1004 - some) for some in (aligned, following))
    own, like = ([[a * (1 + 0.01 * i), b * (1 + 0.012 * i)] for i in range(TEXTS)] for a, b in (makes, like_makes))
    return evidence.alone([layer.Row(22, 251, cosines, others, 2.03, [1, 2, 3, 4, 5], own, like)])


def test_the_layer_alone_decides_both_ways():
    assert judged(alone(), "C14", "few_directions") == judged(alone(), "C17", "few_neurons") == "met"
    assert {judged(alone(aligned=n), "C14", "few_directions") for n in (2, 500)} == {"not_met"}
    assert judged(alone(following=15), "C14", "few_directions") == "void"
    assert judged(alone(makes=(10.0, 100.0)), "C17", "few_neurons") == "not_met"
    assert judged(alone(like_makes=(45.0, 50.0)), "C17", "few_neurons") == "void"
    unlike = evidence.alone([layer.Row(4, 20, [0.1], [0.1], 2.0, [], [], [])])
    assert judged(unlike, "C17", "few_neurons") == "untested", "a layer unlike Llama's"


# --- the paper's own models --------------------------------------------------------------------------------------


def with_levels(levels):
    row = a_text()
    row.rules["official"] = rule(len(levels)) | {"levels": levels}
    return row


def test_published_levels_are_counted_for_the_models_they_name():
    rows = [with_levels([[16, 18, 2]])] * 12
    measured = evidence.published("Qwen/Qwen3-4B-Base", rows)
    assert [judged(measured, "C12", name) for name in ("qwen3_start", "qwen3_life")] == ["met", "met"]
    assert judged(measured, "C11", "leaves_at_33") == "met", "a sink in layers 16 to 33 is none after layer 34"
    assert judged(measured, "C11", "some_exceed") == "not_met"
    rows[0].rules["official"]["longest"] = 1.2
    assert judged(evidence.published("Qwen/Qwen3-4B-Base", rows), "C11", "some_exceed") == "met"
    other = evidence.published("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", rows)
    assert judged(other, "C12", "r1_start") == "not_met" and "C11" not in other
    for model, part, count in (("Qwen/QwQ-32B", "qwq_32b", 3), ("Qwen/Qwen3-14B", "qwen3_14b", 6)):
        layered = [with_levels([[5 + 3 * i, 10, 1] for i in range(count)])] * 12
        assert judged(evidence.published(model, layered), "C9", part) == "met"
        assert judged(evidence.published(model, rows), "C9", part) == "not_met"
    assert evidence.published("Qwen/QwQ-32B", rows[:9]) == {}, "eighteen sinks are too few"
    assert evidence.published("smollm2-135m", rows) == {}
    assert all(evidence.published(model, rows) for model in inputs.PAPERS)


def test_the_threshold_is_the_one_that_agrees_best_with_the_others():
    names = [f"{k} x" for k in TIMES]

    def row(best):
        return thresholds.Row({a: {b: 1.0 if a == b else 0.9 if best in (a, b) else 0.1 for b in names} for a in names})

    assert [evidence.chosen([[row(name)] * 3]) for name in names] == names
    assert evidence.chosen([[row("3 x")], [row("5 x")], [row("5 x")]]) == "5 x", "models count alike"


def test_stored_runs_are_of_texts_that_no_choice_was_made_on():
    read, others = STORED["texts"].config, STORED["thresholds"].config
    assert others["skip"] + others["n_texts"] <= read["skip"]
    assert {STORED[name].config["skip"] for name in ("changes", "separation", "layer_gemma")} == {read["skip"]}


@pytest.mark.parametrize("suffix", ["", "_gemma"])
def test_stored_runs_have_the_units_that_are_judged(suffix):
    stored = {name: seals.read(paths.sweep("secondary_sinks", f"{name}{suffix}"))["curves"] for name in
              ("texts", "changes", "layer")}  # fmt: skip
    rows = [texts.Row(**row) for row in stored["texts"]["texts"]]
    assert len(rows) == TEXTS and len(stored["changes"]["texts"]) >= 20 and len(stored["layer"]["layers"]) <= 1
    found = evidence.reading(rows)
    assert found["C1"]["exists"].n == TEXTS
    assert all(part is None or part.n <= TEXTS for part in found["C7"].parts.values())


# --- figures -----------------------------------------------------------------------------------------------------


def every_figure(read, changed_rows, apart_rows, layer_rows):
    return [
        figures.lives({"one-1b": read, "two-2b": read}),
        figures.thresholds({"one-1b": read}),
        figures.levels({"one-1b": read}),
        figures.formation({"one-1b": read}),
        figures.score_by_norm({"one-1b": read}),
        figures.scaling({"one-1b": changed_rows}),
        figures.primary({"one-1b": changed_rows, "two-2b": changed_rows}),
        figures.keys_and_values({"one-1b": changed_rows}),
        figures.told_apart({"one-1b": apart_rows}),
        figures.directions({"one-1b": layer_rows}),
    ]


def test_every_figure_draws_and_says_what_it_shows():
    read, some = [a_text(i) for i in range(3)], [changed(i) for i in range(3)]
    one = layer.Row(22, 251, [0.99, 0.5, -0.2], [0.1], 2.0, [1], [[9.0, 10.0]], [[1.0, 10.0]])
    for plot in every_figure(read, some, [apart(i) for i in range(3)], [one]):
        assert plot.title and plot.caption
        assert len(plotting.png(plot, "toy")) > 2000


def test_every_figure_draws_without_sinks():
    bare = [replace(a_text(i), sinks=[], norms=[], rules={name: rule(0) for name in a_text().rules}) for i in range(3)]
    empty = [changes.Row(0, 0, [], 0, {}, None, {}, {}, [], {})] * 3
    for plot in every_figure(bare, empty, [], []):
        assert len(plotting.png(plot, "toy")) > 500
