"""TRIM-KV against loops over tokens, and its experiments on tiny configurations."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from claimbook.errors import ClaimbookError
from claimbook.experiments.trim_kv import delayed_recall as toy
from claimbook.experiments.trim_kv import learned, needle, worth
from claimbook.experiments.trim_kv.pieces import assembled
from claimbook.lm import eviction, tiny
from claimbook.papers import trim_kv as method


@pytest.fixture(scope="module")
def model():
    return tiny.build("tiny-random-llama", dtype=torch.float64)[0].requires_grad_(False)


def ids(rows=2, length=20, seed=0):
    return torch.randint(0, 256, (rows, length), generator=torch.Generator().manual_seed(seed))


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- the gate -------------------------------------------------------------------------------------------------------


def test_a_gate_gives_each_head_of_each_token_its_own_number():
    gate = method.Gate(6, 2, width=5, bias=1.5)
    hidden = torch.randn(3, 4, 6)
    found = gate(hidden)
    assert found.shape == (3, 2, 4) and float(found.detach().max()) <= 0
    inner = gate.linear1(hidden[1, 2])
    z = gate.linear2(inner * torch.sigmoid(inner)) + gate.bias
    torch.testing.assert_close(found[1, :, 2], torch.log(torch.sigmoid(z)))


def test_gates_begin_at_the_sigmoid_of_their_bias_and_do_not_underflow(model):
    gates = method.gates_for(model, 8, 18.0, seed=0)
    with torch.no_grad(), method.read(model, gates) as found:
        model(ids())
    worst = max(float((one / -math.exp(-18.0) - 1).abs().max()) for one in found.values())
    assert worst < 1  # log beta is about -1.5e-8, which 1 - beta in float32 would call 0


def test_gates_are_drawn_by_seed_and_leave_the_global_generator_alone(model):
    before = torch.random.get_rng_state()
    a, b, c = (method.gates_for(model, 8, 5.0, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(a[0].linear1.weight, b[0].linear1.weight)
    assert not torch.equal(a[0].linear1.weight, c[0].linear1.weight)


def test_layers_with_a_window_are_refused():
    windowed = tiny.build("tiny-random-gemma3_text")[0]
    with pytest.raises(ClaimbookError, match="window"):
        method.gates_for(windowed, 8, 5.0, 0)


def test_parameters_of_the_papers_gates():
    gate = method.Gate(2560, 8)
    assert method.gate_parameters(2560, 8, 36) == 36 * sum(one.numel() for one in gate.parameters())
    assert round(method.gate_parameters(2560, 8, 36) / 1e6, 1) == 47.4


# --- attention ------------------------------------------------------------------------------------------------------


def attention_by_hand(query, key, value, log_beta, scaling):
    """One query, one key at a time."""
    out = torch.zeros_like(query)
    groups = query.shape[1] // key.shape[1]
    for b in range(query.shape[0]):
        for h in range(query.shape[1]):
            for t in range(query.shape[2]):
                logits = []
                for i in range(t + 1):
                    beta = math.exp(float(log_beta[b, h // groups, i]))
                    logits.append(float(query[b, h, t] @ key[b, h // groups, i]) * scaling + math.log(beta ** (t - i)))
                weights = torch.tensor(logits, dtype=torch.float64).softmax(0)
                out[b, h, t] = weights @ value[b, h // groups, : t + 1]
    return out


def test_gated_attention_equals_a_loop():
    query, key, value = drawn(2, 4, 6, 3), drawn(2, 2, 6, 3, seed=1), drawn(2, 2, 6, 3, seed=2)
    log_beta = -drawn(2, 2, 6, seed=3).abs()
    found = method.gated_attention(query, key, value, log_beta, 0.7)
    torch.testing.assert_close(found, attention_by_hand(query, key, value, log_beta, 0.7))


def test_gated_attention_in_half_the_digits_is_close_at_the_length_of_a_training():
    query, key, value = (torch.randn(1, 2, 256, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    log_beta = -torch.logspace(-8, 1, 256)[None, None].expand(1, 2, 256)
    wide = method.gated_attention(query.double(), key.double(), value.double(), log_beta.double(), 0.35)
    found = method.gated_attention(query, key, value, log_beta, 0.35)
    torch.testing.assert_close(found, wide.float(), rtol=1e-3, atol=1e-3)


def test_beta_of_one_is_plain_attention(model):
    text = ids()
    with torch.no_grad():
        plain = model(text).logits
        with method.gated(model, lambda layer, hidden: hidden.new_zeros(2, 2, hidden.shape[1])):
            gated = model(text).logits
        torch.testing.assert_close(gated, plain, rtol=0, atol=1e-10)
        torch.testing.assert_close(model(text).logits, plain, rtol=0, atol=0)  # nothing is left behind


def test_the_gate_reads_what_the_projections_read(model):
    text, seen = ids(), {}
    layer = model.base_model.layers[1].self_attn
    hook = layer.q_proj.register_forward_pre_hook(lambda module, args: seen.update(q=args[0]))
    with torch.no_grad(), method.read(model, lambda layer, hidden: hidden) as found:
        model(text)
    hook.remove()
    assert torch.equal(found[1], seen["q"])
    assert not layer._forward_pre_hooks


def test_the_hooks_go_when_a_pass_fails(model):
    def broken(layer, hidden):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError), method.gated(model, broken):
        model(ids())
    assert not any(layer.self_attn._forward_pre_hooks for layer in model.base_model.layers)


# --- losses ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 99))
def test_retained_equals_its_sum_in_any_chunks(length, chunk, seed):
    log_beta = -drawn(2, length, seed=seed).abs()
    wanted = [[sum(math.exp(float(row[i]) * (t - i)) for i in range(t + 1)) for t in range(length)] for row in log_beta]
    found = method.retained(log_beta, chunk)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))
    assert bool((found >= 1 - 1e-12).all()) and bool((found <= torch.arange(1, length + 1) + 1e-9).all())


def test_capacity_loss_as_coded_and_as_printed():
    sums = torch.tensor([[1.0, 2.0, 3.5, 2.5], [1.0, 1.5, 1.0, 4.0]], dtype=torch.float64)
    # budget 2; step t from 0: excess 1.5 at t=2 and .5 at t=3, 2 at t=3; divisors max(t - 2, 1) = 1, 1, 1
    assert float(method.capacity_loss(sums, 2)) == pytest.approx((1.5 + 0.5 + 2.0) / 3)
    assert float(method.capacity_loss(sums, 2, "printed")) == pytest.approx((1.5 / 3 + 0.5 / 4 + 2.0 / 4) / 8)
    assert float(method.capacity_loss(sums, 4)) == 0.0
    late = torch.cat([torch.ones(9), torch.tensor([5.0])])
    assert float(method.capacity_loss(late, 2)) == pytest.approx(3 / (9 - 2))


def test_quality_loss_counts_only_its_targets_and_averages_its_terms():
    student, teacher = drawn(5, 7), drawn(5, 7, seed=1)
    targets = torch.tensor([-100, 3, -100, 0, 6])
    rows = [1, 3, 4]
    p, q = teacher.softmax(-1), student.softmax(-1)
    kl = sum(float(sum(p[r, v] * math.log(p[r, v] / q[r, v]) for v in range(7))) for r in rows) / 3
    ntp = -sum(math.log(float(q[r, targets[r]])) for r in rows) / 3
    assert float(method.quality_loss(student, teacher, targets, ("kl",))) == pytest.approx(kl)
    assert float(method.quality_loss(student, teacher, targets, ("ntp",))) == pytest.approx(ntp)
    assert float(method.quality_loss(student, teacher, targets)) == pytest.approx((kl + ntp) / 2)
    assert float(method.quality_loss(teacher, teacher, targets, ("kl",))) == pytest.approx(0, abs=1e-12)


def test_an_objective_without_weight_leaves_the_capacity_out():
    student, teacher, targets = drawn(1, 4, 7), drawn(1, 4, 7, seed=1), torch.tensor([[1, 2, 3, 4]])
    full = {0: torch.zeros(1, 2, 4, dtype=torch.float64)}
    with_it, without = (method.Objective(2, weight=weight)(student, teacher, targets, full) for weight in (1.0, 0.0))
    # S_t = 1, 2, 3, 4 against 2: excess 1 and 2, divisors 1 and 1
    assert float(with_it - without) == pytest.approx(1.5)


# --- training -------------------------------------------------------------------------------------------------------


def test_the_rate_warms_up_and_falls_to_its_floor():
    recipe = method.Recipe(steps=10, rate=1.0, warmup=4, floor=0.1)
    assert [recipe.at(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert recipe.at(4) == pytest.approx(1.0) and recipe.at(10) == pytest.approx(0.1)
    assert method.Recipe(steps=2, rate=1.0, warmup=4, floor=0.1, horizon=10).at(7) == recipe.at(7)


def lesson(model, gates):
    def loss(step):
        text = ids(seed=step)
        with torch.no_grad():
            teacher = model(text).logits[:, :-1]
        with method.gated(model, gates) as found:
            student = model(text).logits[:, :-1]
        return method.Objective(4)(student, teacher, text[:, 1:], found)

    return loss


def test_training_moves_the_gates_alone_and_lowers_the_loss(model):
    gates = method.gates_for(model, 8, 3.0, 0)
    before = {name: one.clone() for name, one in model.named_parameters()}
    losses = method.fit(gates, lesson(model, gates), method.Recipe(12, 3e-2, warmup=2))
    assert len(losses) == 12 and losses[-1] < losses[0]
    assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())


def test_a_killed_training_goes_on_to_the_same_numbers(model, tmp_path, monkeypatch):
    monkeypatch.setattr(method, "SAVE_EVERY", 2)
    whole = method.gates_for(model, 8, 3.0, 0)
    recipe = method.Recipe(5, 1e-2, warmup=1)
    wanted = method.fit(whole, lesson(model, whole), recipe)
    killed = method.gates_for(model, 8, 3.0, 0)

    begun = lesson(model, killed)

    def dies(step):
        if step == 3:
            raise KeyboardInterrupt
        return begun(step)

    with pytest.raises(KeyboardInterrupt):
        method.fit(killed, dies, recipe, tmp_path)
    again = method.gates_for(model, 8, 3.0, 1)
    asked = []
    loss = lesson(model, again)
    found = method.fit(again, lambda step: asked.append(step) or loss(step), recipe, tmp_path)
    assert asked == [2, 3, 4]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted))


# --- the rule -------------------------------------------------------------------------------------------------------


def test_the_rule_evicts_the_lowest_beta_to_the_age(model):
    """The worked case: at two tokens beta ** age drops the second; then the ages of code and paper part ways."""
    beta = torch.tensor([0.99, 0.5, 0.9, 0.6], dtype=torch.float64)
    text = ids(1, 4)
    for offset, last in ((2, 3), (0, 2)):
        gates = lambda layer, hidden: beta.log().expand(1, 2, 4)  # noqa: E731
        with torch.no_grad(), method.retention(model, gates, offset) as rule, eviction.masked(model, rule, 2) as trace:
            model(text)
        gone = trace.gone[0][0, 0].tolist()
        assert gone[1] == 3
        # by hand, after token 3: the lowest of what is left goes, which no later query could see
        ages = {0: 3, 2: 1, 3: 0}
        scores = {i: float(beta[i]) ** (age + offset) for i, age in ages.items()}
        assert min(scores, key=scores.get) == last


# --- the toy --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 50), st.sampled_from([40, 96]), st.sampled_from(list(toy.KINDS)))
def test_a_text_asks_for_each_of_its_pairs_once(seed, length, noise):
    text, targets = toy.sample(3, seed, length, noise)
    assert text.shape == (3, length) and bool((text[:, 0] == toy.BOS).all())
    first, last = toy.KINDS[noise]
    for row, wanted in zip(text.tolist(), targets.tolist(), strict=True):
        pairs = {(one - toy.PAIR) // 8: (one - toy.PAIR) % 8 for one in row if toy.PAIR <= one < toy.NOISES}
        assert len(pairs) == toy.PAIRS
        asked = row[-toy.ASKED :: 2]
        assert sorted(one - toy.QUERY for one in asked) == sorted(pairs)
        assert [pairs[one - toy.QUERY] + toy.ANSWER for one in asked] == row[-toy.ASKED + 1 :: 2]
        assert [one for one in wanted if one >= 0] == row[-toy.ASKED + 1 :: 2]
        assert [i for i, one in enumerate(wanted) if one >= 0] == list(range(length - toy.ASKED, length, 2))
        noisy = [one - toy.NOISES for one in row if one >= toy.NOISES]
        assert all(first <= one < last for one in noisy) and len(noisy) == length - toy.ASKED - 1 - toy.PAIRS


def test_arms_of_a_seed_learn_from_the_same_texts_whatever_the_step_before(monkeypatch, tmp_path):
    base = toy.new_base(0)
    monkeypatch.setattr(toy, "base", lambda seed: base.requires_grad_(False))
    recipe = {"steps": 2, "rate": 1e-2, "warmup": 1}
    config = {"base": 0, "batch": 2, "length": 40, "loss_every": 1, "recipe": recipe, "close": ["whole"]}
    config |= {"arms": ["whole", "narrow"], "seeds": 2, "n_seeds": 1}
    made = toy.run_gates(config, tmp_path, lambda *_: None)
    assert list(made["curves"]) == ["whole.0", "whole.1", "narrow.0"]
    assert all(len(losses) == 2 for losses in made["curves"].values())
    tensors = load_file(made["artefact"])
    found = toy.gates_of(base, tensors, "whole", 1)
    first = method.gates_for(base, 64, 7.0, 1)
    assert not torch.equal(found[0].linear1.weight, first[0].linear1.weight), "it has learned"


def test_longer_batches_of_texts_begin_alike_only_by_seed():
    a, b = toy.sample(4, 1)[0], toy.sample(4, 2)[0]
    assert not torch.equal(a, b) and torch.equal(a, toy.sample(4, 1)[0])


def test_every_arm_changes_what_its_name_says():
    whole = toy.ARMS[toy.WHOLE]
    for name, arm in toy.ARMS.items():
        changed = [field for field in vars(whole) if getattr(arm, field) != getattr(whole, field)]
        assert len(changed) == (name != toy.WHOLE), name


# --- scores ---------------------------------------------------------------------------------------------------------


def test_auc_counts_wins_and_half_of_ties():
    scores = torch.tensor([[9.0, 1.0, 2.0, 2.0, 5.0]])
    positive = torch.tensor([[False, False, True, False, False]])
    counted = torch.tensor([[False, True, True, True, True]])
    assert float(worth.auc(scores, positive, counted)) == pytest.approx((1 + 0.5) / 3)
    assert float(worth.pooled(scores[None, :, None], positive, counted)) == pytest.approx((1 + 0.5) / 3)


def test_pooled_ranks_let_heads_outvote_one_another():
    positive = torch.tensor([[True, False, False]])
    counted = torch.ones_like(positive)
    right, wrong = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.0, 100.0, 0.5])
    two_to_one = torch.stack([right, right, wrong])[None, None]
    assert [float(worth.auc(one, positive, counted)) for one in two_to_one[0, 0].split(1)] == [1, 1, 0]
    # mean ranks above: 0: (2 + 2 + 0) / 3; 1: (0 + 0 + 2) / 3; 2: (1 + 1 + 1) / 3
    assert float(worth.pooled(two_to_one, positive, counted)) == pytest.approx(1.0)


def test_many_sets_of_gates_read_a_text_in_one_pass(model):
    sets = [method.gates_for(model, 8, 3.0, seed).requires_grad_(False) for seed in (0, 1)]
    text = ids()
    together = worth.log_betas(model, sets, text)
    for gates, found in zip(sets, together, strict=True):
        torch.testing.assert_close(found, worth.log_beta(model, gates, text))
    torch.testing.assert_close(worth.soft_size(together), method.retained(together)[..., -1])
    assert worth.by_position(model, sets, text).shape == (2, 1, 2, 20)
    torch.testing.assert_close(worth.by_position(model, sets, text)[1, 0], together[:, 1].mean(dim=(0, 1)))


def test_attention_scores_equal_those_of_eager_attention():
    own = tiny.build("tiny-random-llama")[0]
    own.set_attn_implementation("eager")
    text = ids(2, 16)
    with torch.no_grad():
        rows = torch.stack(own(text, output_attentions=True).attentions)  # (L, B, H, T, T)
    rows = rows.unflatten(2, (own.config.num_key_value_heads, -1)).mean(dim=3)
    found = worth.scores(own, text, reach=10, first=11, last=13)
    torch.testing.assert_close(found["h2o"], rows[..., :14, :10].sum(dim=3), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["snapkv"], rows[..., 6:14, :10].mean(dim=3), rtol=1e-4, atol=1e-5)
    newest = rows[..., [11, 13], :10].mean(dim=(2, 3))[:, :, None].expand_as(found["tova"])
    torch.testing.assert_close(found["tova"], newest, rtol=1e-4, atol=1e-5)


def test_a_fact_is_ranked_among_the_tokens_before_its_question():
    facts = [needle.Needle(torch.zeros(9), at, 7, 0, 0.5, 0, (at, at + 1)) for at in (5, 6)]
    scores = torch.tensor([[9.0, 9.0, 9.0, 9.0, 0.1, 0.3, 0.2], [0.0, 0.0, 0.0, 0.0, 0.3, 0.1, 0.2]])[None, :, None]
    assert needle.known(facts, {"seen": scores}) == [{"seen": 1.0}, {"seen": 0.5}]  # the first four do not count


# --- rows -----------------------------------------------------------------------------------------------------------


def test_rows_are_put_together_by_place():
    pieces = {("full",): 1.0, ("trim", 0, "8"): 0.1, ("trim", 1, "8"): 0.2, ("trim", 0, "16"): 0.3, ("a", "b", "8"): 4}
    assert assembled(pieces) == {"full": 1.0, "trim": [{"8": 0.1, "16": 0.3}, {"8": 0.2}], "a": {"b": {"8": 4}}}
    assert assembled({("auc",): [{"x": 1}, {"x": 2}], ("trim", 0, "8"): [5, 6]}, 1) == {
        "auc": {"x": 2},
        "trim": [{"8": 6}],
    }


def test_kept_counts_by_hand():
    stays = torch.tensor([[[1, 0, 1, 0, 1, 1]]], dtype=torch.bool)  # one layer, one head, six tokens; M = 2
    kinds = {
        "first": torch.tensor([1, 0, 0, 0, 0, 0], dtype=torch.bool),
        "recent": torch.tensor([0, 0, 0, 0, 1, 1], dtype=torch.bool),
        "period": torch.tensor([0, 1, 1, 0, 0, 0], dtype=torch.bool),
        "other": torch.tensor([0, 0, 0, 1, 0, 0], dtype=torch.bool),
        "secondary": torch.tensor([0, 0, 1, 1, 0, 0], dtype=torch.bool),
    }
    kept = learned._kept(stays, torch.tensor([[2.5]]), kinds)
    assert (kept.first_kept, kept.recent, kept.size) == ([1], [0.5], [2.5])
    assert (kept.period_kept, kept.period_n, kept.other_kept, kept.other_n) == ([1], [2], [0], [1])
    assert (kept.secondary_kept, kept.secondary_n) == ([1], [2])


def test_what_stands_at_a_place_is_counted_in_the_other_texts_alone():
    stays = torch.tensor([[[[1, 1, 0]], [[0, 1, 1]], [[1, 1, 1]]]], dtype=torch.bool)  # three texts of three tokens
    marked = [torch.tensor(one, dtype=torch.bool) for one in ([1, 0, 1], [1, 1, 1], [0, 0, 0])]
    assert learned.by_place(stays, marked) == [[0.5 + 1], [1 + 1 + 0.5], [0]]
