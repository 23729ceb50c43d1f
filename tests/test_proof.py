"""Models that users really have, wrapped, cut and odd: each is right, or refused in one line before a kernel starts."""

import ast
import json
import os
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, BertForMaskedLM

from claimbook.assets import local
from claimbook.errors import ClaimbookError
from claimbook.lm import proof, tiny
from claimbook.lm.load import load
from claimbook.papers import secondary_sinks, sink_emergence, streaming_llm
from claimbook.provenance import machine, seals
from claimbook.runs import families, grid, parameters, proofs, runner

SMALL = {**tiny.CONFIGS["llama"], "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "initializer_range": 0.2}
STATE = {
    "num_hidden_layers": 4,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
DYNAMIC = {"rope_theta": 10_000.0, "rope_type": "dynamic", "factor": 4.0}
LONG = {
    "rope_theta": 10_000.0,
    "rope_type": "longrope",
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 128,
    "partial_rotary_factor": 1.0,
}


def make(folder, kind="llama", seed=0, **options):
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **options})).save_pretrained(folder)
    tiny.byte_tokenizer().save_pretrained(folder)
    return folder


def change_weights(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def change_config(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


# --- weights that are not whole ------------------------------------------------------------------------------------


def spoilt(value):
    def change(weights):
        weights["model.layers.1.self_attn.q_proj.weight"][0, 0] = value
        return weights

    return change


FAULTS = {
    "wrapped": (lambda w: {f"_orig_mod.{k}": v for k, v in w.items()}, "every name .* begins with '_orig_mod.'"),
    "wrapped twice": (lambda w: {f"module.base.{k}": v for k, v in w.items()}, "begins with 'module.base.'"),
    "a layer missing": (
        lambda w: {k: v for k, v in w.items() if ".layers.1." not in k},
        r"model\.layers\.1\.input_layernorm\.weight is missing, and 8 more do not fit",
    ),
    "a tensor too many": (lambda w: w | {"model.layers.0.extra.weight": torch.ones(2)}, "extra.weight is not known"),
    "NaN": (spoilt(float("nan")), r"model\.layers\.1\.self_attn\.q_proj\.weight holds NaN or infinite"),
    "infinite": (spoilt(float("-inf")), r"q_proj\.weight holds NaN or infinite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_do_not_fit_are_refused_and_the_first_is_named(tmp_path, fault):
    change, line = FAULTS[fault]
    change_weights(make(tmp_path / "m"), change)
    with pytest.raises(ClaimbookError, match=line):
        load(str(tmp_path / "m"), "cpu")


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn])
def test_weights_of_a_quantised_model_that_lost_its_scales_are_refused(tmp_path, kind):
    folder = make(tmp_path / "m")
    change_weights(folder, lambda w: {k: v.mul(9).to(kind) if v.ndim == 2 else v for k, v in w.items()})
    with pytest.raises(ClaimbookError, match=r"lm_head\.weight is stored as (I8|F8_E4M3), .*before it was quantised"):
        load(str(folder), "cpu")


def test_whole_numbers_in_a_pickle_are_refused_too(tmp_path):
    folder = make(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    load(str(folder), "cpu")
    torch.save(
        {k: v.mul(9).to(torch.int8) if v.ndim == 2 else v for k, v in weights.items()}, folder / "pytorch_model.bin"
    )
    with pytest.raises(ClaimbookError, match=r"weight is stored as int8, .*before it was quantised"):
        load(str(folder), "cpu")


def test_an_adapter_beside_its_base_is_refused(tmp_path):
    (make(tmp_path / "m") / "adapter_config.json").write_text("{}")
    with pytest.raises(ClaimbookError, match=r"an adapter .* which is not read: merge it"):
        load(str(tmp_path / "m"), "cpu")


def test_a_tokenizer_that_merges_at_random_is_refused():
    model, tokenizer = tiny.build("tiny-random-llama")
    proof.vocabulary("m", model, tokenizer)
    backend = SimpleNamespace(model=SimpleNamespace(dropout=0.5))
    with pytest.raises(ClaimbookError, match="leaves out 50% of its merges at random: set dropout to null"):
        proof.vocabulary("m", model, SimpleNamespace(backend_tokenizer=backend, vocab_size=300))


def test_a_window_that_a_family_keeps_to_itself_is_noticed():
    """Phi-MoE masks its window and does not tell the attention function of it."""
    sizes = families._SIZES | families._EXPERTS | {"initializer_range": 0.2}
    model = {
        window: AutoModelForCausalLM.from_config(AutoConfig.for_model("phimoe", **sizes, sliding_window=window))
        for window in (64, 100_000)
    }
    proof.attention(model[100_000].eval().requires_grad_(False))
    with pytest.raises(ClaimbookError, match="the attention of 'phimoe' is of a kind not known here"):
        proof.attention(model[64].eval().requires_grad_(False))


def test_as_many_blocks_for_images_as_for_text_are_refused(monkeypatch):
    model = tiny.build("tiny-random-llama")[0].requires_grad_(False)
    monkeypatch.setattr(proof, "layers", lambda model: [torch.nn.Linear(2, 2)])
    with pytest.raises(ClaimbookError, match="as many layers for images as for text: take its language model alone"):
        proof.attention(model)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_any_precision_of_training_are_read(tmp_path, kind):
    folder = make(tmp_path / "m")
    change_weights(folder, lambda w: {k: v.to(kind) for k, v in w.items()})
    assert load(str(folder), "cpu").model.dtype == torch.float32


def test_a_sum_that_overflows_is_no_infinite_weight(tmp_path):
    model = tiny.build("tiny-random-llama")[0].requires_grad_(False)
    model.lm_head.weight[0, :2] = 3e38
    proof.finite("m", model)


def test_shapes_of_another_config_are_named(tmp_path):
    change_config(make(tmp_path / "m"), intermediate_size=128)
    with pytest.raises(ClaimbookError, match=r"down_proj\.weight has the shape \(64, 96\), its config.json asks for"):
        load(str(tmp_path / "m"), "cpu")


@pytest.mark.parametrize("content", ["half", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"])
def test_files_that_are_cut_or_only_pointers_are_one_line(tmp_path, content):
    file = make(tmp_path / "m") / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] if content == "half" else content.encode())
    with pytest.raises(ClaimbookError, match=r"could not be loaded from the folder: .") as error:
        load(str(tmp_path / "m"), "cpu")
    assert "\n" not in str(error.value)


def test_code_of_a_folder_is_never_run(tmp_path, monkeypatch):
    folder = make(tmp_path / "m")
    change_config(
        folder, model_type="brandnew", auto_map={"AutoConfig": "conf.X", "AutoModelForCausalLM": "modelling.Y"}
    )
    (folder / "conf.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *a: "y")  # what a user in a hurry types when transformers asks
    with pytest.raises(ClaimbookError, match=r"asks for code of its own, which is never run"):
        load(str(folder), "cpu")
    assert not (tmp_path / "ran").exists()


def test_remote_code_is_refused_by_word_wherever_something_is_loaded():
    """Where it is not said, transformers asks in a terminal."""
    calls = 0
    for path in (families.paths.root() / "lib").rglob("*.py"):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained":
                calls += 1
                words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                spread = None in words and '"trust_remote_code": False' in source
                assert words.get("trust_remote_code") == "False" or spread, f"{path.name}, line {node.lineno}"
    assert calls >= 6


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(tmp_path):
    make(tmp_path / "m", vocab_size=100)
    with pytest.raises(ClaimbookError, match=r"its tokenizer knows 257 tokens, the model 100"):
        load(str(tmp_path / "m"), "cpu")


def test_a_token_added_to_the_tokenizer_alone_is_refused_where_a_text_holds_it(tmp_path):
    lm = load(str(make(tmp_path / "m", vocab_size=257)), "cpu")
    lm.tokenizer.add_tokens(["<think>"])
    assert len(lm.encode("no thought")) == 10
    with pytest.raises(ClaimbookError, match=r"the text holds '<think>', for which .* has no embedding"):
        lm.encode("a <think> b")


# --- layers that a method cannot treat -----------------------------------------------------------------------------


ODD = {
    "linear attention": ("qwen3_5_text", STATE, "layers without attention of the usual kind .0, 1, 2 of 0 to 3"),
    "attention twice a layer": ("diffllama", {}, "'diffllama' attends 4 times in 2 layers"),
    "two-way attention": ("bert", {}, "of a kind not known here"),
}


@pytest.mark.parametrize("method", [streaming_llm, secondary_sinks, sink_emergence])
@pytest.mark.parametrize("name", ODD)
def test_layers_of_another_kind_are_refused_by_every_method(name, method):
    kind, options, line = ODD[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **options})).eval()
    with pytest.raises(ClaimbookError, match=line):
        method.prove(model)


@pytest.mark.parametrize(
    "kind, options",
    [
        ("llama", {"max_position_embeddings": 128, "rope_parameters": DYNAMIC}),
        ("phi3", {"max_position_embeddings": 512, "original_max_position_embeddings": 128, "rope_parameters": LONG}),
    ],
)
def test_frequencies_that_change_with_the_length_are_refused_where_a_cache_turns_keys(kind, options):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **options})).eval()
    sink_emergence.prove(model)  # it reads short texts, each at the frequencies of its length
    with pytest.raises(ClaimbookError, match=r"rotary frequencies .* change with the length"):
        streaming_llm.prove(model)


REASONS = {  # each once had another, which was not true
    "bloom": "the attention of 'bloom' cannot be replaced: the family does not use transformers' attention registry",
    "gptj": "the attention of 'gptj' cannot be replaced: the family does not use transformers' attention registry",
    "gpt2": "'gpt2' has neither rotary positions nor ALiBi: learned absolute positions",
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_family_is_refused_for_the_reason_that_is_true(kind):
    assert proofs.refusal(streaming_llm.prove, families.build(kind)).startswith(REASONS[kind])


def test_states_that_overflow_are_no_unknown_rotation():
    model, _ = tiny.build("tiny-random-llama", dtype=torch.float16)
    model.requires_grad_(False).get_input_embeddings().weight.fill_(6e4)
    model.model.layers[0].mlp.down_proj.weight.fill_(6e4)
    assert "are not finite in float16: take float32 or bfloat16" in proofs.refusal(streaming_llm.prove, model)


def test_a_model_of_one_layer_is_treated_or_refused_by_name():
    torch.manual_seed(0)
    options = {**SMALL, "num_hidden_layers": 1}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **options)).eval().requires_grad_(False)
    assert proofs.refusal(streaming_llm.prove, model) == proofs.refusal(sink_emergence.prove, model) == ""
    assert proofs.refusal(secondary_sinks.prove, model).startswith("it has fewer than two layers")


def test_a_model_without_layers_is_refused_by_name():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **{**SMALL, "num_hidden_layers": 0}))
    assert proofs.refusal(sink_emergence.prove, model) == "this 'llama' has no layers: take a model with attention"
    assert proofs.refusal(secondary_sinks.prove, model).startswith("it has fewer than two layers")


def test_values_wider_than_keys_are_refused_by_name(tmp_path):
    wide = {**families._COMPRESSED, "v_head_dim": 24}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("deepseek_v3", **wide)).eval()
    assert "are of another width than its keys" in proofs.refusal(sink_emergence.prove, model)
    assert proofs.refusal(sink_emergence.prove, families.build("deepseek_v3")) == ""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_reads_both_ways_is_refused_in_every_dtype(tmp_path, dtype):
    options = {key: value for key, value in SMALL.items() if key not in ("num_key_value_heads", "head_dim")}
    BertForMaskedLM(AutoConfig.for_model("bert", **options)).save_pretrained(tmp_path)
    tiny.byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ClaimbookError, match="'bert' attends to later tokens too: take a model that predicts the next"):
        load(str(tmp_path), "cpu", dtype)


def test_a_context_that_is_said_to_be_endless_is_no_change_of_frequencies():
    options = {**SMALL, "max_position_embeddings": 10**9}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **options)).eval().requires_grad_(False)
    assert proofs.refusal(streaming_llm.prove, model) == ""


def test_a_folder_without_a_tokenizer_is_told_whole(tmp_path):
    folder = make(tmp_path / "model")
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(ClaimbookError, match=r"the tokenizer of model .*; copy tokenizer.json from the model that it"):
        load(str(folder), "cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", [kind for kind in tiny.CONFIGS if kind not in ("opt", "gpt2")])
def test_families_that_work_work_in_half_precision_too(kind, dtype):
    lm = load(f"tiny-random-{kind}", "cpu", dtype, streaming_llm.prove)
    assert lm.model.dtype == getattr(torch, dtype)


class Doubled(torch.nn.Module):
    """A layer that remembers: each call adds to the next, as a state would."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.state = inner, 0.0

    def forward(self, x):
        out = self.inner(x) + self.state
        self.state = out.mean(dim=1, keepdim=True).detach() * 3
        return out


def test_a_layer_that_remembers_is_noticed():
    model = tiny.build("tiny-random-llama")[0].requires_grad_(False)
    model.model.layers[1].mlp.down_proj = Doubled(model.model.layers[1].mlp.down_proj)
    with pytest.raises(ClaimbookError, match=r"not known here|other losses"):
        streaming_llm.prove(model)


def without_numbers(row):
    """What stands in the book of a family, but for numbers that another processor rounds otherwise."""
    return {method: re.sub(r"\d[\d.e-]*", "#", said) for method, said in row.items()}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_family_is_as_the_book_says(part):
    stored = seals.read(families.path())
    assert sorted(stored) == families.names()
    for kind in families.names()[part::4]:
        if not stored[kind]["attention"].startswith("not tried"):
            assert without_numbers(families.tried(kind)) == without_numbers(stored[kind]), kind


# --- before a kernel starts ----------------------------------------------------------------------------------------


def test_a_refusal_comes_before_a_kernel_and_is_not_kept(tmp_path, monkeypatch):
    """What was short, as memory may be, is there the next time; only that a model can be treated is kept."""
    monkeypatch.setenv("CLAIMBOOK_CACHE", str(tmp_path / "cache"))
    folder = make(tmp_path / "dynamic", max_position_embeddings=128, rope_parameters=DYNAMIC)
    values = {"models": str(folder), "device": "cpu", "dtype": "float32"}
    line = f"streaming_llm cannot be run on model '{folder}': the rotary frequencies"
    with pytest.raises(ClaimbookError) as error:
        proofs.check("streaming_llm", values)
    assert str(error.value).startswith(line)
    asked = []
    monkeypatch.setattr(proofs, "_ask", lambda *a: asked.append(a) or "")
    proofs.check("streaming_llm", values)
    assert len(asked) == 1, "a refused model is tried again"
    monkeypatch.setattr(proofs, "_ask", lambda *a: pytest.fail("tried again"))
    proofs.check("streaming_llm", values)


def test_every_input_of_a_proof_counts(tmp_path, monkeypatch):
    """Other weights, dtype, method or versions are tried anew; what is built here or sent by a hub is not tried."""
    monkeypatch.setenv("CLAIMBOOK_CACHE", str(tmp_path / "cache"))
    asked = []
    monkeypatch.setattr(proofs, "_ask", lambda method, name, values: asked.append(name) or "")
    folder = make(tmp_path / "m")
    values = {"models": str(folder), "device": "cpu", "dtype": "float32"}

    def tries(chapter="streaming_llm", **other):
        before = len(asked)
        proofs.check(chapter, values | other)
        return len(asked) - before

    assert [tries(), tries()] == [1, 0]
    assert tries(dtype="bfloat16") == 1
    assert tries("sink_emergence") == 1
    change_weights(folder, lambda weights: {key: value + 1 for key, value in weights.items()})
    assert [tries(), tries()] == [1, 0]
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "99"})
    assert tries() == 1
    assert tries(models="tiny-random-llama,owner/name") == 0
    assert tries("grocery_ranking", models="") == 0


def test_a_refusal_inside_a_cell_is_bad_input_too(book, monkeypatch, capsys):
    def refuse(*arguments):
        from papermill.exceptions import PapermillExecutionError

        raise PapermillExecutionError(3, 3, "", "ClaimbookError", "text 'x' has 3 tokens: at least 4 are needed", [])

    monkeypatch.setattr(runner, "_papermill", refuse)
    assert runner.rerun("coin_flips") == runner.BAD_INPUT
    said = capsys.readouterr().err
    assert "claimbook: coin_flips: text 'x' has 3 tokens: at least 4 are needed\n" in said, (
        "no notebook was left to see"
    )


# --- which model it is -----------------------------------------------------------------------------------------------


NAMES = ["plain", "with space", "with,comma", "with{brace}", "ä é 模型", "$HOME 'q'", "a,b c{d}"]


@pytest.mark.parametrize("name", NAMES)
def test_folders_of_any_name_can_be_named_in_a_list(tmp_path, name):
    one, two = (make(tmp_path / side / name) for side in ("a", "b"))
    listed = f"{one},smollm2-135m, {two}"
    assert parameters.model_names(listed) == [str(one), "smollm2-135m", str(two)]
    assert local.names(f"{one} tiny-random-llama {two}", " ") == [str(one), "tiny-random-llama", str(two)]
    slug = parameters.slug(str(one))
    assert "/" not in slug and " " not in slug and "," not in slug and "{" not in slug


def test_two_folders_of_one_name_are_two_models_and_new_weights_a_third(tmp_path):
    one, two = (make(tmp_path / side / "checkpoint-500") for side in ("a", "b"))  # equal weights, even
    names = {local.public(str(one)), local.public(str(two))}
    assert len(names) == 2 and all(name.startswith("checkpoint-500@") for name in names)
    assert local.public(f"{one},kjv") == f"{local.public(str(one))},kjv"
    before = local.public(str(one))
    change_weights(one, lambda weights: {key: value + 1 for key, value in weights.items()})
    assert local.public(str(one)) != before
    assert str(tmp_path) not in before


def test_a_folder_that_is_touched_but_not_changed_is_the_same(tmp_path):
    folder = make(tmp_path / "m")
    before = local.identity(folder)
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    assert local.identity(folder) == before


def test_what_is_no_path_stays_as_it_is():
    for value in ("smollm2-135m", "owner/name", "", 3, None, "tiny-random-llama,gemma-3-270m"):
        assert local.public(value) == value
    assert local.public("/nowhere/book.txt") == "book.txt"


@pytest.mark.parametrize("name", ["checkpoint-500", "with space", "with,comma", "with{brace}", "é"])
def test_the_grid_tells_folders_apart(book, tmp_path, name):
    one, two = (make(tmp_path / side / name) for side in ("a", "b"))
    jobs = grid.plan({"only": "runs", "chapters": "coin_flips", "models": f"{one} {two}"})
    assert len(jobs) == 2
    assert {job.arguments[5] for job in jobs.values()} == {str(one), str(two)}
    change_weights(one, lambda weights: {key: value + 1 for key, value in weights.items()})
    again = grid.plan({"only": "runs", "chapters": "coin_flips", "models": f"{one} {two}"})
    assert len(jobs.keys() - again.keys()) == 1, "weights that were trained on are another model"
