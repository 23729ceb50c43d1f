"""StreamingLLM: the block-parallel evaluation against two token-by-token decoders, one of them re-derived here."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from claimbook.errors import ClaimbookError
from claimbook.experiments.streaming_llm.measure import shards
from claimbook.experiments.streaming_llm.measure import stream as stream_run
from claimbook.lm import rotary, tiny
from claimbook.lm.losses import token_losses
from claimbook.papers import streaming_llm as method
from claimbook.papers.streaming_llm import RollingCache, Scheme, allowed, losses, recompute_losses, stream

pytestmark = pytest.mark.numeric

POSITIONLESS = ("opt", "gpt2")
FAMILIES = [kind for kind in tiny.CONFIGS if kind not in POSITIONLESS]
SCHEME = Scheme(4, 12)


@pytest.fixture(scope="module")
def ids():
    return torch.randint(1, 300, (90,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def llama():
    return tiny.build("tiny-random-llama")[0].requires_grad_(False)


def dense(model, ids):
    logits = model(ids[None]).logits[0, :-1].float()
    return torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")


@torch.no_grad()
def official(model, ids, sinks, recent, first=0):
    """Losses (T - 1,) of the official rules, re-derived for Llama from its projections and transformers' rotation.

    kv_cache.py: after a step with n cached keys keep all if n <= sinks + recent, else slots [0, sinks) and
    [n - recent, n). modify_llama.py: keys are stored unrotated; slot i turns by i, the query by the last slot.
    ``first``, ours: the token that is kept first, by its place in the text.
    """
    places = []  # of the cached tokens in the text
    layers, cache, out = model.model.layers, {i: ([], []) for i in range(len(model.model.layers))}, []
    for t, token in enumerate(ids[:-1]):
        x, places = model.model.embed_tokens(token.view(1, 1)), [*places, t]
        kept = [i for i, place in enumerate(places) if first <= place < first + sinks or t - place < recent]
        for i, layer in enumerate(layers):
            attention, h = layer.self_attn, layer.input_layernorm(x)
            shape = (1, 1, -1, attention.head_dim)
            q, k, v = (f(h).view(shape).transpose(1, 2) for f in (attention.q_proj, attention.k_proj, attention.v_proj))
            keys, values = cache[i]
            keys.append(k)
            values.append(v)
            n = len(keys)
            cos, sin = model.model.rotary_emb(x, torch.arange(n)[None])
            _, turned = apply_rotary_pos_emb(torch.cat(keys, dim=2), torch.cat(keys, dim=2), cos, sin)
            query, _ = apply_rotary_pos_emb(q, q, cos[:, -1:], sin[:, -1:])
            turned = turned.repeat_interleave(attention.num_key_value_groups, dim=1)
            value = torch.cat(values, dim=2).repeat_interleave(attention.num_key_value_groups, dim=1)
            probs = torch.softmax(query @ turned.mT * attention.head_dim**-0.5, dim=-1)
            x = x + attention.o_proj((probs @ value).transpose(1, 2).reshape(1, 1, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            cache[i] = ([keys[slot] for slot in kept], [values[slot] for slot in kept])
        places = [places[slot] for slot in kept]
        out.append(model.lm_head(model.model.norm(x))[0, 0])
    return torch.nn.functional.cross_entropy(torch.stack(out), ids[1:], reduction="none")


@pytest.mark.parametrize(("sinks", "recent"), [(0, 16), (1, 15), (4, 12), (8, 8), (4, 200)])
def test_block_parallel_equals_the_official_rules(llama, ids, sinks, recent):
    ours = losses(llama, ids, Scheme(sinks, recent), segment=32)
    assert torch.allclose(ours, official(llama, ids, sinks, recent), atol=1e-3)


def test_tokens_out_of_the_middle_may_be_kept_in_place_of_the_first(llama, ids):
    ours = losses(llama, ids, Scheme(4, 12, first=9), segment=32)
    assert torch.allclose(ours, official(llama, ids, 4, 12, first=9), atol=1e-3)
    assert not torch.allclose(ours, official(llama, ids, 4, 12), atol=1e-3)


@pytest.mark.parametrize("kind", FAMILIES)
def test_block_parallel_equals_the_rolling_cache(kind, ids):
    model = tiny.build(tiny.PREFIX + kind)[0]
    cache = RollingCache(model, SCHEME)
    steps = torch.stack([cache.step(int(token)) for token in ids[:-1]]).float()
    rolled = torch.nn.functional.cross_entropy(steps, ids[1:], reduction="none")
    ours = losses(model, ids, SCHEME, segment=32).detach()
    assert torch.allclose(ours, rolled, atol=1e-3)
    assert len(cache) == SCHEME.size
    assert (ours - dense(model, ids).detach()).abs().max() > 0.3, "the cache matters to this model"


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_cache_larger_than_the_text_is_dense_attention(kind, ids):
    model = tiny.build(tiny.PREFIX + kind)[0]
    assert torch.allclose(losses(model, ids, Scheme(2, 200), segment=32), dense(model, ids), atol=1e-3)


@pytest.mark.parametrize("segment", [4, 12, 13, 89, 500])
def test_segments_do_not_matter(llama, ids, segment):
    whole = losses(llama, ids, SCHEME, segment=500)
    assert torch.allclose(losses(llama, ids, SCHEME, segment=segment), whole, atol=1e-4)


def test_window_and_streaming_are_the_same_until_the_first_eviction(llama, ids):
    window, streaming = losses(llama, ids, Scheme(0, 16)), losses(llama, ids, SCHEME)
    assert torch.allclose(window[:17], streaming[:17], atol=1e-5)
    assert (window[17:] - streaming[17:]).abs().max() > 0.1


def test_positions_in_the_text_differ_only_after_the_eviction(llama, ids):
    cache, text = losses(llama, ids, SCHEME), losses(llama, ids, Scheme(4, 12, positions="text"))
    assert torch.allclose(cache[:17], text[:17], atol=1e-5)
    assert (cache[17:] - text[17:]).abs().max() > 0.05


def test_the_example_of_section_3_2():
    """Tokens 0-3 are sinks, 6-8 recent, 9 is decoded: what is seen, and the distances 0 … 7 inside the cache."""
    scheme, query = Scheme(4, 3), torch.tensor([[9]])
    seen = allowed(scheme, query, torch.arange(10))[0]
    assert torch.where(seen)[0].tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert int(scheme.sink_angle(torch.tensor(9))) == 7  # the query's position in the cache
    assert int(Scheme(4, 3, positions="text").sink_angle(torch.tensor(9))) == 9


def test_scoring_some_targets_gives_their_losses(llama, ids):
    score = torch.zeros(len(ids), dtype=torch.bool)
    score[[1, 5, 77, 89]] = True
    some, every = losses(llama, ids, SCHEME, segment=32, score=score), losses(llama, ids, SCHEME, segment=32)
    assert torch.where(~some.isnan())[0].tolist() == [0, 4, 76, 88]
    assert torch.allclose(some[score[1:]], every[score[1:]], atol=1e-5)


def test_recomputation_is_a_fresh_window(llama, ids):
    targets = torch.tensor([17, 40, 89])
    ours = recompute_losses(llama, ids, targets, 17, batch=2)
    for loss, target in zip(ours, targets.tolist(), strict=True):
        assert float(loss) == pytest.approx(float(dense(llama, ids[target - 17 : target + 1])[-1]), abs=1e-4)


def test_recomputed_windows_begin_as_a_text_does(llama, ids):
    begin, targets = torch.tensor([3]), torch.tensor([17, 40])
    ours = recompute_losses(llama, ids, targets, 17, start=begin)
    for loss, target in zip(ours, targets.tolist(), strict=True):
        window = torch.cat([begin, ids[target - 16 : target + 1]])
        assert float(loss) == pytest.approx(float(dense(llama, window)[-1]), abs=1e-4)


def test_what_the_cache_holds_is_constant(llama, ids):
    held = [state.cached_bytes() for state, _ in stream(llama, ids, SCHEME, segment=16)]
    assert held[0] == held[-1] == 2 * SCHEME.size * 2 * 2 * 16 * 4  # layers, K and V, heads, head size, bytes


def test_a_resumed_stream_gives_the_same_numbers(llama, ids):
    parts = []
    for state, part in stream(llama, ids, SCHEME, segment=16):
        parts.append(part)
        if state.seen == 48:
            break
    fresh = method.Stream(SCHEME, rotary.of(llama), state.seen, sinks=state.sinks, recent=state.recent)
    parts += [part for _, part in stream(llama, ids, SCHEME, segment=16, resume=fresh)]
    assert torch.equal(torch.cat(parts), losses(llama, ids, SCHEME, segment=16))


@pytest.mark.parametrize("kind", POSITIONLESS)
def test_learned_positions_are_out_of_scope(kind, ids):
    with pytest.raises(ClaimbookError, match="learned absolute positions are out of the method's scope"):
        losses(tiny.build(tiny.PREFIX + kind)[0], ids, SCHEME)


def test_a_rotation_of_unknown_kind_is_refused(llama, monkeypatch):
    monkeypatch.setattr(rotary.Rotary, "turn", lambda self, x, positions, layer: x)
    other = tiny.build("tiny-random-llama", seed=5)[0]
    with pytest.raises(ClaimbookError, match="of a kind not known here"):
        rotary.of(other)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda model, ids: Scheme(-1, 4), "sinks must be >= 0"),
        (lambda model, ids: Scheme(4, 0), "recent >= 1"),
        (lambda model, ids: losses(model, ids, Scheme(8, 4), segment=4), "has no 8 for the sinks"),
        (lambda model, ids: losses(model, ids, Scheme(4, 4, first=9), segment=12), "has no 13 for the sinks"),
        (lambda model, ids: RollingCache(model, Scheme(4, 4, first=9)), "keeps the first tokens"),
        (lambda model, ids: Scheme(4, 4, positions="text", first=9), "at cache positions only"),
        (lambda model, ids: recompute_losses(model, ids, torch.tensor([5]), 17), "fewer than 17 tokens before"),
    ],
)
def test_bad_input_gives_one_line(llama, ids, call, line):
    with pytest.raises(ClaimbookError, match=line):
        call(llama, ids)


def test_losses_in_chunks_are_the_models_own(llama, ids):
    hidden = llama.model(ids[None]).last_hidden_state[0, :-1]
    assert torch.allclose(token_losses(llama, hidden, ids[1:], chunk=7), dense(llama, ids), atol=1e-5)


class Full(io.RawIOBase):
    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_checkpoint_of_the_stream_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch):
    """Torch itself says nothing of a full disk."""
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda saved, file: save(saved, Full()))
    state = method.Stream(SCHEME, None, sinks={0: (torch.zeros(9), torch.zeros(9))})
    with pytest.raises(ClaimbookError, match=r"the disk is full: could not write checkpoint\.pt"):
        stream_run._save(tmp_path / "checkpoint.pt", state, [])
    assert not list(tmp_path.iterdir())


STREAM = """
import json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from claimbook.experiments.streaming_llm.measure import stream
from claimbook.lm import corpora
ids = torch.randint(1, 300, (20_481,), generator=torch.Generator().manual_seed(0))
corpora.concatenated = lambda lm, keys, length: (ids[:length], [(0, "random")])
config = {"model": "tiny-random-llama", "dtype": "float32", "texts": [], "n_tokens": 20_480, "sinks": 4, "recent": 60,
          "score_every": 4, "sample_every": 500, "seed": 0, "checkpoint_every": 2}
work = Path(sys.argv[1])
work.mkdir(exist_ok=True)
def progress(fraction, message):
    print(f"{fraction:.2f}", flush=True)
    time.sleep(float(sys.argv[2]))
curves = stream.run(config, work, progress)["curves"]
curves.pop("rss_mb")
(work / "done.json").write_text(json.dumps(curves))
"""


@pytest.mark.slow
def test_a_killed_stream_resumes_to_the_same_numbers(tmp_path):
    def start(folder, pause):
        command = [sys.executable, "-c", STREAM, str(tmp_path / folder), str(pause)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)

    killed = start("killed", 0.3)
    while float(killed.stdout.readline()) < 0.5:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert (tmp_path / "killed" / "checkpoint.pt").exists()
    assert not (tmp_path / "killed" / "done.json").exists()
    for folder in ("killed", "whole"):
        with start(folder, 0) as process:
            process.communicate(timeout=120)
        assert process.returncode == 0
    resumed, whole = (json.loads((tmp_path / name / "done.json").read_text()) for name in ("killed", "whole"))
    assert resumed == whole
    assert len(whole["loss"]) == 10


@pytest.mark.parametrize("start", [0, 2, 40, 150, 260])
def test_a_shard_gives_the_losses_of_the_whole_stream(llama, start, monkeypatch):
    """A state depends on the sinks and on as many tokens before it as all layers together look back."""
    long = torch.randint(llama.config.vocab_size, (300,), generator=torch.Generator().manual_seed(3))
    scheme, every = Scheme(3, 11), torch.ones(300, dtype=torch.bool)
    whole = losses(llama, long, scheme)[start:]
    assert torch.allclose(shards.shard_losses(llama, long, scheme, start, 299, every), whole, atol=1e-5)
    if start > shards.warm_up(llama, scheme):
        monkeypatch.setattr(shards, "warm_up", lambda model, scheme: scheme.size)
        assert not torch.allclose(shards.shard_losses(llama, long, scheme, start, 299, every), whole, atol=1e-5)


def test_a_gpus_larger_blocks_give_the_same_losses(llama, monkeypatch):
    long = torch.randint(llama.config.vocab_size, (300,), generator=torch.Generator().manual_seed(3))
    of = llama, long, Scheme(3, 11), 150, 299, torch.ones(300, dtype=torch.bool)
    found = shards.shard_losses(*of)
    monkeypatch.setattr(shards, "BLOCK", 7)
    assert torch.allclose(shards.shard_losses(*of), found, atol=1e-5)


def test_a_shard_scores_what_it_is_asked_for(llama):
    long = torch.randint(llama.config.vocab_size, (120,), generator=torch.Generator().manual_seed(3))
    scheme, some = Scheme(3, 11), torch.arange(120) % 7 == 0
    found = shards.shard_losses(llama, long, scheme, 60, 119, some)
    assert (~found.isnan()).tolist() == some[61:120].tolist()
    assert torch.allclose(found[~found.isnan()], losses(llama, long, scheme)[60:][some[61:120]], atol=1e-5)
