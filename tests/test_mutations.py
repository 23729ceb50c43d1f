"""Planted mutations: each makes one wrong thing out of a right one, and the tests named beside it must turn red.

Nothing here looks at hashes: freshness would notice any change, so it is left out and the tests have to know better.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIB = Path(__file__).parents[1] / "lib"
TESTS = Path(__file__).parent

# (what goes wrong, file under lib/claimbook, right, wrong, tests that must notice)
MUTATIONS = [
    (
        "the window is one token too short",
        "papers/streaming_llm.py",
        "query - key <= scheme.recent",
        "query - key < scheme.recent",
        "test_streaming_llm.py -k official_rules",
    ),
    (
        "sinks keep their distance in the text",
        "papers/streaming_llm.py",
        "steps.clamp(max=self.size)",
        "steps",
        "test_streaming_llm.py -k official_rules",
    ),
    (
        "sinks stand one place off in the cache",
        "papers/streaming_llm.py",
        "steps.clamp(max=self.size)",
        "steps.clamp(max=self.size - 1)",
        "test_streaming_llm.py -k official_rules",
    ),
    (
        "the rolling cache keeps a recent token too few",
        "papers/streaming_llm.py",
        "x[:, :, -self.scheme.recent :]], dim=2",
        "x[:, :, 1 - self.scheme.recent :]], dim=2",
        "test_streaming_llm.py -k rolling_cache and llama",
    ),
    (
        "recomputation sees its own target",
        "papers/streaming_llm.py",
        "ids[end - window + len(start) : end]",
        "ids[end - window + 1 : end + 1]",
        "test_streaming_llm.py -k fresh_window",
    ),
    (
        "the four sinks are compared with themselves in place of the window",
        "experiments/streaming_llm/parts.py",
        'ratio(loss["0"], loss["4"])',
        'ratio(loss["4"], loss["4"])',
        "test_lm.py -k parts_of_documents",
    ),
    (
        "an answered line is still a candidate",
        "experiments/streaming_llm/recall.py",
        "set(range(len(facts))) - asked",
        "set(range(len(facts)))",
        "test_lm.py -k recall_asks",
    ),
    (
        "an item is ranked by what it shares with its siblings",
        "papers/grocery_ranking.py",
        "return share - outside / others",
        "return outside / others",
        "test_grocery_ranking.py -k ranks_agree",
    ),
    (
        "recipes that were not searched are matched",
        "papers/grocery_ranking.py",
        "np.where(searched & (similar > 0), similar, -1)",
        "np.where(similar > 0, similar, -1)",
        "test_grocery_ranking.py -k matches_come_from",
    ),
    (
        "the category gate stands open",
        "papers/grocery_ranking.py",
        "active &= self.active_categories",
        "active |= self.active_categories",
        "test_grocery_ranking.py -k activation_shrinks",
    ),
    (
        "the test recipe stays in the database",
        "experiments/grocery_ranking/protocols.py",
        "known = database.without(np.flatnonzero(fold == number))",
        "known = database.without(np.flatnonzero(fold != number))",
        "test_grocery_ranking.py -k held_out_recipe_is_in_nothing",
    ),
    (
        "a basket that activates nothing keeps its match",
        "experiments/grocery_ranking/measure.py",
        '"kept": (top > 0) & (top',
        '"kept": (top == 0) | (top',
        "test_grocery_ranking.py -k activates_nothing",
    ),
    (
        "a resumed stream forgets where it was",
        "papers/streaming_llm.py",
        "range(state.seen, length, segment)",
        "range(0, length, segment)",
        "test_streaming_llm.py -k resumed",
    ),
    (
        "the rotation turns backwards",
        "lm/rotary.py",
        "torch.cat([a * cos - b * sin, b * cos + a * sin]",
        "torch.cat([a * cos + b * sin, b * cos - a * sin]",
        "test_streaming_llm.py -k official_rules",
    ),
    (
        "a query sees the next key",
        "lm/attention.py",
        "hidden = distance < 0",
        "hidden = distance < -1",
        "test_attention.py -k full_tensors",
    ),
    (
        "a sliding window is one key too wide",
        "lm/attention.py",
        "distance >= sliding_window",
        "distance > sliding_window",
        "test_attention.py -k sliding_window",
    ),
    (
        "heads are paired with the wrong group",
        "lm/attention.py",
        "left.to(right.dtype).reshape(batch, groups, heads // groups * rows, inner)",
        "left.to(right.dtype).view(batch, heads // groups, groups, rows, inner).transpose(1, 2)"
        ".reshape(batch, groups, heads // groups * rows, inner)",
        "test_attention.py -k grouped_heads",
    ),
    (
        "the sink metric divides by the length",
        "metrics/attention.py",
        "torch.arange(length, 0, -1)",
        "length",
        "test_attention.py -k full_tensors",
    ),
    (
        "maps are not averaged over sequences",
        "metrics/attention.py",
        "self._sums[layer] / self._counts[layer]",
        "self._sums[layer]",
        "test_attention.py -k full_tensors",
    ),
    (
        "absence of data passes",
        "claims/verdicts.py",
        'if seen == {"met"}:',
        'if seen <= {"met", "untested"}:',
        "test_verdicts.py",
    ),
    (
        "a contradiction outside the scope counts",
        "claims/verdicts.py",
        '"contradicted" if inside_scope else "not_transferred"',
        '"contradicted"',
        "test_verdicts.py",
    ),
    ("the interval is that of one standard error", "stats.py", "TAIL = 0.025", "TAIL = 0.16", "test_stats.py"),
    (
        "a ratio of means in place of paired ones",
        "stats.py",
        "np.exp([logs.value, logs.low, logs.high])",
        "np.exp([logs.value, logs.value, logs.value])",
        "test_stats.py",
    ),
    (
        "alpha is averaged over all queries, not over those that can see the key",
        "metrics/sinks.py",
        "self._length - torch.arange(self.keys)",
        "self._length + 0 * torch.arange(self.keys)",
        "test_sink_emergence.py -k brute_force and llama",
    ),
    (
        "the threshold comes after the average over samples",
        "metrics/sinks.py",
        "return (alpha > epsilon).float().mean(dim=(1, 2))",
        "return (alpha.mean(dim=0, keepdim=True) > epsilon).float().mean(dim=(1, 2))",
        "test_training_engine.py -k threshold_comes_before",
    ),
    (
        "proxies are not normalised",
        "metrics/sinks.py",
        "rows = rows / rows.sum(dim=-1, keepdim=True).clamp(min=1e-12)",
        "rows = rows * 1",
        "test_sink_emergence.py -k proxies",
    ),
    (
        "a key bias is rotated out of the softmax's denominator",
        "lm/variants.py",
        "raw = torch.cat([first, raw], dim=-1)",
        "raw = torch.cat([first - 100, raw], dim=-1)",
        "test_training_engine.py -k formula_says",
    ),
    (
        "sigmoid attention is normalised after all",
        "lm/variants.py",
        "out = out / _total(variant, out) if variant.normalised else out",
        "out = out / _total(variant, out)",
        "test_training_engine.py -k formula_says",
    ),
    (
        "a resumed training forgets its moments",
        "lm/training.py",
        'for key in ("step", "exp_avg", "exp_avg_sq")}',
        'for key in ("step", "exp_avg")}',
        "test_training_engine.py -k killed_training",
    ),
    (
        "a resumed training repeats a step",
        "lm/training.py",
        "_save(checkpoint, model, optimizer, step + 1, found, recent)",
        "_save(checkpoint, model, optimizer, step, found, recent)",
        "test_training_engine.py -k killed_training",
    ),
    (
        "validation text is trained on",
        "lm/pretraining.py",
        "return [one for i, one in enumerate(ids) if i % HELD_OUT], held_out",
        "return ids, held_out",
        "test_training_engine.py -k share_no_document",
    ),
    (
        "the angle is taken with the other keys alone",
        "experiments/sink_emergence/parts.py",
        "geometry.cosine_first > geometry.cosine_others",
        "geometry.cosine_others > geometry.cosine_first",
        "test_sink_emergence_chapter.py -k meets_what_the_paper",
    ),
    (
        "the floor lets everything through",
        "experiments/sink_emergence/text_parts.py",
        "return arm in arms and float(last(arms[arm]).mean()) >= FLOOR",
        "return arm in arms",
        "test_sink_emergence_chapter.py -k the_floor",
    ),
    (
        "chance counts as a sink",
        "experiments/sink_emergence/toy_parts.py",
        "return self.column(arm, token) - level[token + len(level) - KEYS]",
        "return self.column(arm, token)",
        "test_sink_emergence_chapter.py -k even_attention",
    ),
    (
        "the first token's own output is changed too",
        "experiments/sink_emergence/real.py",
        "        out[:, :, at] = own[:, :, 0]\n",
        "",
        "test_sink_emergence.py -k own_output",
    ),
    (
        "a closed gate is ignored",
        "claims/verdicts.py",
        "if closed is not None:",
        "if False:",
        "test_chapter.py -k closed_gate",
    ),
    (
        "a write is scaled for every token",
        "lm/block_outputs.py",
        "rows[tokens[tokens < len(rows)]] *= factor",
        "rows *= factor",
        "test_block_outputs.py -k chosen_tokens and llama",
    ),
    (
        "a document is its own reference",
        "experiments/sink_emergence/real.py",
        "for i, one in enumerate(firsts) if i != at]",
        "for i, one in enumerate(firsts)]",
        "test_sink_emergence.py -k own_reference",
    ),
    (
        "attention is taken one block too early",
        "papers/secondary_sinks.py",
        "[block + 1 for block in self.blocks]",
        "[block for block in self.blocks]",
        "test_secondary_sinks.py -k plain_numbers",
    ),
    (
        "a sink may point the other way",
        "papers/secondary_sinks.py",
        "_after((cosines > cosine) & long(norms, times), at)",
        "_after((cosines.abs() > cosine) & long(norms, times), at)",
        "test_secondary_sinks.py -k other_way",
    ),
    (
        "the official rule looks at every block",
        "papers/secondary_sinks.py",
        "flags[:start] = flags[end:] = False",
        "pass",
        "test_secondary_sinks.py -k before_the_massive_primary",
    ),
    (
        "like tokens may be sinks themselves",
        "experiments/secondary_sinks/find.py",
        "if place not in flagged and found",
        "if place != sink.token and found",
        "test_secondary_sinks.py -k plain_numbers",
    ),
    (
        "a norm law that is one of place",
        "experiments/secondary_sinks/parts.py",
        "return values - slope * other - shift",
        "return values - values.mean()",
        "test_secondary_sinks_chapter.py -k position_alone",
    ),
    (
        "equal samples are surer than their number",
        "stats.py",
        "other = 1 - TAIL ** (1 / found.n)",
        "other = 1e-6",
        "test_stats.py -k quantity_with_ends",
    ),
]


@pytest.mark.parametrize(
    ("wrong", "file", "before", "after", "tests"), MUTATIONS, ids=[m[0].replace(" ", "-") for m in MUTATIONS]
)
def test_mutation_is_noticed(tmp_path, wrong, file, before, after, tests):
    shutil.copytree(LIB / "claimbook", tmp_path / "claimbook", ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / "claimbook" / file
    text = source.read_text()
    assert text.count(before) == 1, f"the planted place is not there (once): {before}"
    source.write_text(text.replace(before, after))
    name, *choice = tests.split(" -k ")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(TESTS / name)]
    command += ["-k", choice[0]] if choice else []
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "CLAIMBOOK_ROOT": str(LIB.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 1, f"{wrong}: not noticed by {tests}\n{done.stdout[-2000:]}{done.stderr[-500:]}"
    assert "failed" in done.stdout


def test_the_unmutated_copy_is_green(tmp_path):
    """The mutations are red for their own sake: the same way of running is green without one."""
    shutil.copytree(LIB / "claimbook", tmp_path / "claimbook", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        str(TESTS / "test_attention.py"),
        "-k",
        "grouped_heads",
    ]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-2000:]
    code = "import claimbook; print(claimbook.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert str(tmp_path) in where.stdout, "the copy is what is tested"
