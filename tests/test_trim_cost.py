"""TRIM-KV: what gates cost, what the real cache holds, released gates, problems; all on tiny random models."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config

from claimbook.errors import ClaimbookError
from claimbook.experiments.trim_kv import cost, gsm8k, latency, learned, proof, rules, steps, texts
from claimbook.experiments.trim_kv.inputs import catalogue
from claimbook.lm import tiny
from claimbook.lm.load import load
from claimbook.papers import trim_kv as method

pytestmark = pytest.mark.numeric

PUBLISHED = {  # as the models' own cards count them
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Qwen3-14B": 14_768_307_200,
    "Phi-3-mini": 3_821_079_552,
    "R1-Distill-Qwen-7B": 7_615_616_512,
    "R1-Distill-Llama-8B": 8_030_261_248,
}


@pytest.fixture(scope="module")
def lm():
    return load("tiny-random-qwen3", "cpu")


def test_gates_are_counted_for_the_papers_models():
    rows = {row.model: row for row in cost.gate_table()}
    assert {name: row.parameters for name, row in rows.items()} == PUBLISHED
    four = rows["Qwen3-4B"]
    assert four.gates == 36 * (2560 * 512 + 512 + 512 * 8 + 8)
    assert round(four.gates / 1e6, 1) == 47.4
    assert round(four.share, 3) == 0.012
    assert four.bytes == 2 * four.gates


def test_counted_gates_are_those_that_are_made(lm):
    gates = method.gates_for(lm.model, 24, 3.0, 0)
    config = lm.model.config
    expected = method.gate_parameters(config.hidden_size, config.num_key_value_heads, config.num_hidden_layers, 24)
    assert sum(one.numel() for one in gates.parameters()) == expected


def test_the_engine_is_proved():
    found = proof.engine()
    assert max(found["difference"], found["trim"], found["full_budget"]) < 1e-8
    assert min(found["unmasked"], found["renumbered"]) > 0.1
    assert proof.worked_case() == {"coded": [0, 2], "printed": [0, 3]}


def test_beta_is_said_once_and_learns_through_the_decay():
    model = tiny.build("tiny-random-llama", dtype=torch.float64)[0].requires_grad_(False)
    gates = method.gates_for(model, 16, 3.0, 0)
    assert proof.said_once(model, gates) < 1e-9 < 0.01 < proof.looked_at(model)
    assert proof.learning(model, gates) == 1


# --- steps and latency ----------------------------------------------------------------------------------------------


@pytest.fixture
def stand_ins(monkeypatch):
    """Random gates for the stored ones, random tokens for articles."""

    def gates(lm, config, name):
        gates = method.gates_for(lm.model, 16, 1.0, int(name[-1])).requires_grad_(False)
        for gate in gates:
            gate.linear2.weight *= 100  # else they act as a window
        return gates

    def texts(lm, config):
        draw = torch.Generator().manual_seed(0)
        return {str(i): torch.randint(1, 300, (config["length"],), generator=draw) for i in range(config["n_texts"])}

    monkeypatch.setattr(rules, "stored_gates", gates)
    monkeypatch.setattr(steps.inputs, "texts", texts)


def test_steps_of_the_real_cache(lm, stand_ins):
    config = {"text": "-", "n_texts": 2, "length": 40, "budget": 8, "prompt": 8, "new_tokens": 128, "gates": ["g_0"]}
    names = ["trim", "streaming", "h2o", "snapkv"]
    rows = steps.EXPERIMENT.now(lm, config | {"rules": names})
    assert [row.document for row in rows] == [0, 1]
    for row in rows:
        assert list(row.same) == names
        assert min(row.same.values()) > 0.95
        assert row.window_same < 1
        assert row.kept_generate == 8
        per_token = 2 * 2 * 2 * 16 * 4  # layers, KV heads, key and value, head size, bytes
        assert row.bytes == [8 * per_token] * 3
        assert row.bytes_full == [8 * per_token, 72 * per_token, 136 * per_token]
        assert row.tokens_full == 136
        assert row.key_bytes == 8 * per_token // 2
        assert row.extra * 16 == row.key_bytes  # one number for the key's 16
        assert row.extra_positions == 2 * row.extra


def test_rows_of_steps_from_their_first_piece(lm, stand_ins):
    config = {"text": "-", "n_texts": 1, "length": 20, "budget": 4, "prompt": 4, "new_tokens": 8, "gates": ["g_0"]}
    (row,) = steps.EXPERIMENT.now(lm, config | {"rules": ["trim"], "first": 1})
    assert row.same == {}
    assert row.window_same != row.window_same
    assert row.kept_generate == 4


SHAPE = {"text": "-", "n_texts": 2, "width": 16, "bias": 1.0, "gates": ["g_0", "g_1"]}


def test_losses_of_texts_under_every_rule(lm, stand_ins, monkeypatch):
    monkeypatch.setattr(rules, "training_text", lambda lm, config: torch.arange(400) % 300)
    config = SHAPE | {"length": 24, "from": 8, "budgets": [8, 24], "printed_budgets": [8]}
    config |= {"rules": ["window", "h2o", "untrained", "position"], "renumbered": ["snapkv"], "renumbered_budgets": [8]}
    rows = texts.EXPERIMENT.now(lm, config)
    for row in rows:
        every = [*row.losses.values(), *row.trim]
        assert all(of["24"] == pytest.approx(row.full, abs=1e-4) for of in every), "a budget that is never reached"
        assert all(abs(of["8"] - row.full) > 1e-3 for of in every)
        assert len(row.trim) == len(row.trim_printed) == 2
    (alone,) = texts.EXPERIMENT.now(lm, config | {"n_texts": 1, "first": 8})
    assert alone.full == pytest.approx(rows[0].full, abs=1e-5)
    assert alone.trim[0]["8"] == pytest.approx(rows[0].trim[0]["8"], abs=1e-5)


def test_what_gates_hold_of_texts(lm, stand_ins, monkeypatch):
    monkeypatch.setattr(learned, "stored_gates", rules.stored_gates)
    rows = learned.EXPERIMENT.now(lm, SHAPE | {"length": 40, "budget": 8})
    for row in rows:
        assert len(row.gates) == len(row.expected) == 2
        for kept in (*row.gates, row.untrained):
            old = [n + m for n, m in zip(kept.period_n, kept.other_n, strict=True)]
            assert old == [40 - 8 - 1] * 4
            assert all(1 <= size <= 40 for size in kept.size)
    assert rows[0].classes["all_n"] == [31, 31]
    assert rows[1].classes == {}


def test_latency_times_every_arm_behind_the_same_text(lm, monkeypatch):
    monkeypatch.setattr(latency.corpora, "concatenated", lambda lm, texts, n: (torch.arange(n) % 300,))
    monkeypatch.setattr(latency, "seconds", lambda arm: [arm(), arm(), 0.002][-1])
    config = {"text": "-", "context": 60, "chunk": 16, "budget": 16, "width": 8, "rounds": 2}
    rows = latency.EXPERIMENT.now(lm, config | {"rules": ["streaming", "snapkv"]})
    arms = ["full", "full_engine", "trim", "streaming", "snapkv"]
    assert rows == [latency.Row(dict.fromkeys(arms, 2.0))] * 2


# --- released gates and problems ------------------------------------------------------------------------------------


@pytest.fixture
def weights(lm, tmp_path):
    """Gates in the form of the released file, and the gates themselves."""
    gates = method.gates_for(lm.model, 24, 3.0, 7)
    state = {}
    for key, tensor in gates.state_dict().items():
        layer, _, rest = key.partition(".")
        state[f"model.layers.{layer}.self_attn.retention_gate.{rest}"] = tensor.bfloat16()
    torch.save(state, path := tmp_path / "trimkv_weights.pth")
    return path, gates


def test_released_gates_are_read(lm, weights):
    path, gates = weights
    found = gsm8k.released(lm, str(path))
    x = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))
    for layer in range(2):
        torch.testing.assert_close(found(layer, x), gates(layer, x), rtol=0.02, atol=1e-3)
    assert not any(one.requires_grad for one in found.parameters())


def test_gates_that_do_not_fit_are_refused(lm, weights, tmp_path):
    path, _ = weights
    state = torch.load(path, weights_only=True)
    cut = {key: x for key, x in state.items() if "layers.1" not in key}
    other = state | {"model.layers.0.self_attn.retention_gate.linear3.weight": torch.zeros(2, 2)}
    narrow = state | {"model.layers.0.self_attn.retention_gate.linear2.weight": torch.zeros(3, 24)}
    for name, wrong in {"cut": cut, "other": other, "narrow": narrow}.items():
        torch.save(wrong, place := tmp_path / f"{name}.pth")
        with pytest.raises(ClaimbookError, match="tensors are missing, unknown or of another shape"):
            gsm8k.released(lm, str(place))
    torch.save({}, place := tmp_path / "empty.pth")
    with pytest.raises(ClaimbookError, match="holds no retention gates"):
        gsm8k.released(lm, str(place))
    (place := tmp_path / "text.pth").write_text("no tensors")
    with pytest.raises(ClaimbookError, match="neither a file that torch"):
        gsm8k.released(lm, str(place))
    twice = state | {f"module.{key}": x + 1 for key, x in state.items()}
    torch.save(twice, place := tmp_path / "twice.pth")
    with pytest.raises(ClaimbookError, match="twice, under several names"):
        gsm8k.released(lm, str(place))
    flat = {key: torch.tensor(1.0) for key in state}
    torch.save(flat, place := tmp_path / "flat.pth")
    with pytest.raises(ClaimbookError, match="holds no retention gates"):
        gsm8k.released(lm, str(place))
    gpt2 = SimpleNamespace(name="gpt2", model=SimpleNamespace(config=GPT2Config()))
    with pytest.raises(ClaimbookError, match="for models of the Llama and Qwen families"):
        gsm8k.released(gpt2, str(path))


def test_problems_are_solved_by_every_arm(lm, weights, monkeypatch):
    asked = {"problem 0": (0, "How many are 2 and 3?", "5"), "problem 1": (1, "And 4 and 4?", "8")}
    config = gsm8k.CONFIG | {"new_tokens": 12, "budgets": [6, 8], "gates": str(weights[0])}
    monkeypatch.setattr(gsm8k, "EXPERIMENT", dataclasses.replace(gsm8k.EXPERIMENT, inputs=lambda lm, config: asked))
    rows = gsm8k.EXPERIMENT.now(lm, config)
    assert [row.problem for row in rows] == [0, 1]
    for row in rows:
        assert list(row.right) == ["trim", "streaming", "h2o", "snapkv"]
        assert all(list(of) == ["6", "8"] for of in row.right.values())
        assert row.tokens["full"][""] <= 12
    monkeypatch.setattr(gsm8k, "final", lambda text: "5")
    right = gsm8k.measure(lm, asked["problem 0"], config)
    assert right.full
    assert all(all(of.values()) for of in right.right.values())


def test_the_full_arm_never_evicts(lm, weights):
    ids, never = gsm8k.prompt(lm, "How many?"), 1000
    config = gsm8k.CONFIG | {"new_tokens": 20, "gates": str(weights[0])}
    torch.manual_seed(0)
    expected = lm.model.generate(
        ids[None],
        attention_mask=torch.ones_like(ids[None]),
        max_new_tokens=20,
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
    )
    text = lm.tokenizer.decode(expected[0, len(ids) :], skip_special_tokens=True)
    for name in ("window", "trim"):
        found = gsm8k.solved(lm, ids, gsm8k.final(text), name, never, config)
        assert found == (True, expected.shape[1] - len(ids))


def test_problems_of_the_asset(monkeypatch, tmp_path):
    (place := tmp_path / "test.jsonl").write_text('{"question": "Q", "answer": "so <<1+2=3>>\\n#### 1,003"}\n')
    monkeypatch.setattr(catalogue, "get", lambda key: place)
    assert gsm8k.problems(None, {"n_problems": 1}) == {"problem 0": (0, "Q", "1003")}
    with pytest.raises(ClaimbookError, match="has 1 test problems, 2 are asked for"):
        gsm8k.problems(None, {"n_problems": 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thus \\boxed{18}.", "18"),
        ("\\boxed{3} no, \\boxed{$1,250.00}", "1250"),
        ("It is 4, or rather 5.", "5"),
        ("-2.50 euros", "-2.5"),
        ("none", ""),
        ("\\boxed{x}", ""),
        ("<think>7</think>", "7"),
    ],
)
def test_final_answers(text, expected):
    assert gsm8k.final(text) == expected
