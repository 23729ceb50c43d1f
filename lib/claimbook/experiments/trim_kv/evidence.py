"""From rows to the ledger's parts: {claim: {part: measurement}}. Nothing is measured here.

A cost is what a budget takes away: accuracy below the full cache's, or loss above it. Trainings of gates are averaged
inside a unit (a base, a document, a needle) before anything is compared.
"""

from dataclasses import dataclass

import numpy as np

from claimbook.claims.verdicts import Evidence, Measurement
from claimbook.experiments.units import columns
from claimbook.stats import Estimate, Exact, mean, median_ratio, ratio_of_exp, ratio_of_means

Parts = dict[str, Evidence | dict[str, Measurement]]

HEURISTICS = ("window", "streaming", "h2o", "tova", "snapkv", "snapkv unpooled", "key norm", "keydiff")
ATTENTION = ("h2o", "tova", "snapkv")  # those that score by attention received
BLIND = ("random", "untrained", "position")  # that know nothing of the token
RENUMBERED = "snapkv"  # the rule of C25
BEST_OF = 0.9  # of documents in which a sink head holds the first token; of a window head's tokens that are recent


@dataclass(frozen=True)
class Costs:
    """What each rule costs at each budget: {rule: {M: (n,)}}, and the gates' own, {M: (n,)}, over n units."""

    unit: str
    rules: dict[str, dict[str, np.ndarray]]
    trim: dict[str, np.ndarray]

    def best(self, budget: str, among: tuple[str, ...] = HEURISTICS) -> str:
        """The rule that costs least on average at a budget."""
        return min((rule for rule in among if rule in self.rules), key=lambda rule: self.rules[rule][budget].mean())

    def lead(self, budget: str, against: str = "") -> Estimate:
        """Cost of the gates over that of the best heuristic, at the budget ``against`` where that is another."""
        return self.over(self.trim[budget], against or budget)

    def over(self, cost: np.ndarray, budget: str) -> Estimate:
        """A cost (n,) over that of the best heuristic at a budget."""
        return ratio_of_means(cost, self.rules[self.best(budget)][budget], unit=self.unit)

    def lead_of(self, among: tuple[str, ...], budget: str) -> Estimate:
        """A control: what the best of other rules has for a lead."""
        return self.over(self.rules[self.best(budget, among)][budget], budget)

    def lost_by_less(self, budget: str, against: str) -> Estimate:
        """The null of a lead over larger budgets: the best heuristic there, given the smaller budget itself."""
        return self.over(self.rules[self.best(against)][budget], against)


def over_gates(trainings) -> dict[str, np.ndarray]:
    """{M: (n,)} of n units that have a {M: number} for each training of gates: their mean."""
    return columns({m: float(np.mean([one[m] for one in unit])) for m in unit[0]} for unit in trainings)


def _below(full: np.ndarray, accuracy: dict) -> dict:
    return {m: full - values for m, values in accuracy.items()}


def accuracy_costs(full, rules, trim, unit: str) -> Costs:
    """Costs of accuracies: full (n,), a {rule: {M: …}} for each unit, and a list of {M: …} for each."""
    full, rules = columns(full), columns(rules)
    return Costs(unit, {rule: _below(full, found) for rule, found in rules.items()}, _below(full, over_gates(trim)))


def toy_costs(rows) -> Costs:
    """Of delayed recall, by base."""
    return accuracy_costs([r.full for r in rows], [r.rules for r in rows], [r.trim for r in rows], "bases")


def needle_costs(rows, prefix: str = "") -> Costs:
    """Of hidden facts; ``prefix`` "cut_": where the text was read in full and then cut."""
    rules = [row.cut_right if prefix else row.right for row in rows]
    return accuracy_costs([r.full for r in rows], rules, [getattr(r, f"{prefix}trim") for r in rows], "articles")


def text_costs(rows) -> Costs:
    """Of documents: loss in nats above the full cache's."""
    full, rules = columns(row.full for row in rows), columns(row.losses for row in rows)
    above = {rule: {m: loss - full for m, loss in found.items()} for rule, found in rules.items()}
    return Costs("documents", above, {m: loss - full for m, loss in over_gates(row.trim for row in rows).items()})


def best_auc(scores: dict[str, np.ndarray], among: tuple[str, ...], unit: str) -> Estimate:
    """The largest AUC on average, of {score: (n,)}; one that lies below chance tells as much turned round."""
    turned = [scores[one] if scores[one].mean() >= 0.5 else 1 - scores[one] for one in among if one in scores]
    return mean(max(turned, key=np.mean), unit=unit, within=(0, 1))


def knowing(rows, unit: str, blind: tuple[str, ...], names: tuple[str, str]) -> tuple[Evidence, Evidence]:
    """AUC for what will be needed, as parts of these names: of attention, and of gates.

    The nulls: attention after asking; the best of ``blind`` scores, which need no training.
    """
    first, second = names
    before, asked = (columns(getattr(row, name) for row in rows) for name in ("auc", "auc_asked"))
    gates = mean([np.mean(row.auc_trim) for row in rows], unit=unit, within=(0, 1))
    return (
        Evidence({first: best_auc(before, ATTENTION, unit)}, nulls={first: best_auc(asked, ATTENTION, unit)}),
        Evidence({second: gates}, nulls={second: best_auc(before, blind, unit)}),
    )


def knowledge(rows) -> dict[str, float]:
    """AUC of each score before the question, the gates' as "trim", means over articles."""
    if not rows:
        return {}
    rows = by_article(rows)
    found = columns(row.auc for row in rows) | {"trim": np.array([np.mean(row.auc_trim) for row in rows])}
    return {score: float(values.mean()) for score, values in found.items()}


def by_article(rows) -> list:
    """Rows of hidden facts, those of one article averaged to a row: shares in place of yes and no."""
    articles = dict.fromkeys(row.article for row in rows)
    groups = [[vars(row) for row in rows if row.article == article] for article in articles]
    return [type(rows[0])(**_averaged(group)) for group in groups]


def _averaged(values: list):
    """The mean of numbers, of dicts by key, of lists by place."""
    first = values[0]
    if isinstance(first, dict):
        return {key: _averaged([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_averaged(list(same)) for same in zip(*values, strict=True)]
    return float(np.mean(values))


def needles(rows) -> Parts:
    """C1 and C2, and C7 by facts hidden in text."""
    rows = by_article(rows)
    blind, names = ("untrained", "rarity", "key norm", "keydiff"), ("blind_before_asking", "knows_before_asking")
    attention, gates = knowing(rows, "articles", blind, names)
    found = mean([row.full for row in rows], unit="articles", within=(0, 1))
    costs, cut = needle_costs(rows), needle_costs(rows, "cut_")
    return {
        "C1": attention,
        "C2": gates,
        "C7": Evidence(
            {"needle_64": costs.lead("64").of("needle"), "needle_64_cut": cut.lead("64").of("needle")},
            nulls={"needle_64": costs.lead_of(BLIND, "64")},
            ceilings={"needle_64": costs.lead_of(("oracle",), "64")},
            preconditions={"finds_the_fact": found.of("needle")},
        ),
    }


def texts(rows) -> Parts:
    """C7 and C22 by loss on documents; C25, positions counted by what is kept."""
    costs = text_costs(rows)
    wrong = columns(row.renumbered[RENUMBERED]["64"] for row in rows)
    right = columns(row.losses[RENUMBERED]["64"] for row in rows)
    return {
        "C7": Evidence(
            {f"text_{m}": costs.lead(m) for m in ("32", "64", "128")},
            nulls={f"text_{m}": costs.lead_of(BLIND, m) for m in ("32", "64", "128")},
        ),
        "C22": Evidence(
            {"text_32_against_128": costs.lead("32", "128")},
            nulls={"text_32_against_128": costs.lost_by_less("32", "128")},
        ),
        "C25": {"degraded": ratio_of_exp(wrong, right, unit="documents")},
    }


def single_trainings(rows, budget: str = "64") -> list[float]:
    """C7's ratio for each training of gates alone."""
    full, trainings = columns(row.full for row in rows), range(len(rows[0].trim) if rows else 0)
    own = [columns(row.trim[i][budget] for row in rows) - full for i in trainings]
    return [text_costs(rows).over(cost, budget).value for cost in own]


def trained_longer(rows, long) -> dict[str, Estimate]:
    """C7's ratio by budget for gates that were trained longer, on the same articles: shown, judged by nothing."""
    full = columns(row.full for row in long)
    return {m: text_costs(rows).over(loss - full, m) for m, loss in over_gates(row.trim for row in long).items()}


def lost(rows, budget: str = "64") -> float:
    """Share of the facts that the full cache finds which the gates lose, mean over articles."""
    rows = by_article(rows)
    return float(needle_costs(rows).trim[budget].mean() / np.mean([row.full for row in rows]))


def printed(rows, budget: str = "64") -> Estimate:
    """C7's ratio with Algorithm 1's ages."""
    full = columns(row.full for row in rows)
    return text_costs(rows).over(over_gates(row.trim_printed for row in rows)[budget] - full, budget)


def toys(rows, base_losses: list[float], rarity: float) -> Parts:
    """All that delayed recall says, by base."""
    return ranks(rows) | ablations(rows, base_losses) | longer(rows) | transfer(rows) | proxies(rows, rarity)


def ranks(rows) -> Parts:
    """C23: at equal budgets, and at a quarter of the heuristics'."""
    costs = toy_costs(rows)
    parts = {f"at_{m}": costs.lead(m) for m in ("8", "16", "24")}
    nulls, ceilings = (
        {f"at_{m}": costs.lead_of(among, m) for m in ("8", "16", "24")} for among in (BLIND, ("oracle",))
    )
    nulls["four_times"] = costs.lost_by_less("12", "48")
    ceilings["four_times"] = costs.over(costs.rules["oracle"]["12"], "48")
    return {"C23": Evidence(parts | {"four_times": costs.lead("12", "48")}, nulls=nulls, ceilings=ceilings)}


def proxies(rows, rarity: float) -> Parts:
    """C24: what is known of a pair before the first question; ``rarity``: AUC of a table of counts."""
    blind = ("untrained", "position", "key norm", "keydiff")
    attention, gates = knowing(rows, "bases", blind, ("attention_is_blind", "gate_knows"))
    cheap = max(gates.nulls["gate_knows"], of_one(rarity, "bases"), key=lambda one: one.value)
    return {"C24": Evidence(attention.parts | gates.parts, nulls=attention.nulls | {"gate_knows": cheap})}


def ablations(rows, base_losses: list[float]) -> Parts:
    """C14, C15, C16 and C27: accuracy of gates that were trained otherwise, over that of others.

    ``base_losses``: of the bases' answers at the end of their training, nats.
    """
    arms = {"all": over_gates(row.trim for row in rows)}
    arms |= {arm: over_gates(row.ablations[arm] for row in rows) for arm in rows[0].ablations}
    arms["untrained"] = columns(row.rules["untrained"] for row in rows)

    def over(arm: str, other: str = "all", budget: str = "16") -> Estimate:
        return ratio_of_means(arms[arm][budget], arms[other][budget], unit="bases").of("toys")

    return {
        "C14": Evidence(
            {"capacity": over("no capacity"), "kl": over("no kl"), "ntp": over("no ntp")},
            nulls={"capacity": over("untrained")},
            preconditions={"teacher_unsure": mean(base_losses, unit="bases").of("toys")},
        ),
        "C15": {"hidden_layer": over("linear"), "large_bias": over("bias 0", "bias 18")},
        "C16": {"too_small": over("budget 6", "budget 24", "24")},
        "C27": {"printed_worse": over("printed")},
    }


def right(rows, arm: str) -> np.ndarray:
    """Share of answers that are right at M = 16, (n,) by base, with the gates of an arm; "whole": of the method's."""
    return over_gates(row.trim if arm == "whole" else row.ablations[arm] for row in rows)["16"]


def longer(rows, length: str = "160", budget: str = "48") -> Parts:
    """C11: wrong answers on more noise than in training, the gates' over the full cache's."""
    full = columns(row.longer[length]["full"] for row in rows)
    trim = over_gates(row.longer[length]["trim"] for row in rows)[budget]
    rules = {rule: found[budget] for rule, found in columns(row.longer[length]["rules"] for row in rows).items()}
    best = max((rules[rule] for rule in HEURISTICS if rule in rules), key=np.mean)

    def errors(right: np.ndarray) -> Estimate:
        return ratio_of_means(1 - right, 1 - full, unit="bases").of(length)

    return {
        "C11": Evidence(
            {"fewer_errors": errors(trim)},
            nulls={"fewer_errors": errors(best)},
            ceilings={"fewer_errors": errors(rules["oracle"])},
            preconditions={"full_near_one": mean(full, unit="bases", within=(0, 1)).of(length)},
        )
    }


def transfer_costs(rows, gates: str) -> Costs:
    """Of delayed recall among noise that no gate has seen, with "general" or "narrow" gates."""
    found = [row.transfer for row in rows]
    return accuracy_costs(
        [one["full"] for one in found], [one["rules"] for one in found], [one[gates] for one in found], "bases"
    )


def transfer(rows) -> Parts:
    """C17: noise that no gate has seen."""
    general, narrow = (over_gates(row.transfer[gates] for row in rows) for gates in ("general", "narrow"))
    tight, loose = (np.log(narrow[m] / general[m]) for m in ("12", "24"))
    costs = transfer_costs(rows, "general")
    chance = columns(row.transfer["rules"]["random"] for row in rows)["12"]
    faster = ratio_of_exp(tight, loose, unit="bases").of("new noise")
    return {
        "C17": Evidence(
            {"general_transfers": costs.lead("16"), "narrow_faster": faster},
            nulls={"general_transfers": costs.lead_of(BLIND, "16")},
            preconditions={"general_knows": ratio_of_means(general["12"], chance, unit="bases").of("new noise")},
        )
    }


def held(rows, name: str) -> np.ndarray:
    """A field of what trained gates keep, (documents, trainings, heads), heads in the order of their layers."""
    return np.array([[getattr(training, name) for training in row.gates] for row in rows], dtype=float)


def untrained(rows, name: str) -> np.ndarray:
    """The same of gates as initialised, (documents, 1, heads)."""
    return np.array([[getattr(row.untrained, name)] for row in rows], dtype=float)


def sinks(of, rows) -> np.ndarray:
    """Which heads (trainings, heads) hold the first token to the end of nine in ten documents."""
    return of(rows, "first_kept").mean(axis=0) >= BEST_OF


def windows(of, rows, budget: int = 64) -> np.ndarray:
    """Which heads keep recent tokens alone and have a soft size below the budget, (trainings, heads)."""
    recent, size = of(rows, "recent").mean(axis=0), of(rows, "size").mean(axis=0)
    return (recent >= BEST_OF) & (size < budget)


def sentence_ends(rows) -> Estimate:
    """Over-representation of sentence ends in each training's head that has most of them on every other document.

    Products, and not shares, so that nothing is divided by 0: kept ends x old tokens over kept tokens x ends.
    """
    kept, n = held(rows, "period_kept"), held(rows, "period_n")  # (documents, trainings, heads)
    all_kept, all_n = kept + held(rows, "other_kept"), n + held(rows, "other_n")
    seen, expected = kept * all_n, all_kept * n
    head = most(seen[::2].sum(axis=0), expected[::2].sum(axis=0), all_kept[::2].mean(axis=0))
    seen, expected = (np.take_along_axis(one[1::2], head[None], axis=2).mean(axis=(1, 2)) for one in (seen, expected))
    return ratio_of_means(seen, expected, unit="documents")


def most(seen: np.ndarray, expected: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The head (trainings, 1) in which a class is most over-represented, of those that keep an old token at all."""
    ratio = np.where(kept >= 1, seen / np.maximum(expected, 1e-9), 0)
    return ratio.argmax(axis=1)[:, None]


def random_classes(rows) -> Estimate:
    """The null of `sentence_ends`: the largest of `class_ratios`."""
    ratios = class_ratios(rows)
    return of_one(max(ratios), "classes", len(ratios))


def class_ratios(rows) -> list[float]:
    """The ratio of `sentence_ends` for twenty random classes of about as many tokens."""
    found = next(row.classes for row in rows if row.classes)
    kept, n, all_kept, all_n = (np.array(found[name], dtype=float) for name in ("kept", "n", "all_kept", "all_n"))
    ratios = []
    for one in range(n.shape[1]):
        seen, expected = kept[:, :, one] * all_n[:, None, None], all_kept * n[:, one, None, None]
        head = most(seen[0], expected[0], all_kept[0] / max(1, (len(rows) + 1) // 2))
        of_head = [np.take_along_axis(part[1], head, axis=1).mean() for part in (seen, expected)]
        ratios.append(of_head[0] / max(of_head[1], 1e-9))
    return ratios


def percentiles(of, rows) -> np.ndarray:
    """Soft size at the 90th over that at the 10th percentile of the heads, for each training."""
    high, low = np.percentile(of(rows, "size").mean(axis=0), (90, 10), axis=1)
    return high / low


def learned(rows) -> Parts:
    """C12, C13 and C28: what gates keep of documents."""
    log_size = np.log(held(rows, "size")).mean(axis=0)  # (trainings, heads)
    early, late = np.split(log_size, 2, axis=1)
    return {
        "C12": Evidence(
            {
                "sink_heads": Exact(int(sinks(held, rows).sum(axis=1).min()), len(rows)),
                "window_heads": Exact(float(np.median(windows(held, rows).sum(axis=1))), len(rows)),
                "gist_head": sentence_ends(rows),
            },
            nulls={"gist_head": random_classes(rows)},
        ),
        "C13": Evidence(
            {
                "heads_differ": mean(percentiles(held, rows), unit="trainings"),
                "later_sparser": ratio_of_exp(late.mean(axis=1), early.mean(axis=1), unit="trainings"),
            },
            nulls={"heads_differ": of_one(percentiles(untrained, rows)[0], "trainings")},
        ),
        "C28": secondary(rows),
    }


def of_one(value: float, unit: str, n: int = 5) -> Estimate:
    """A control that does not vary, as an estimate without an interval: it stands as its value."""
    return Estimate(float(value), np.nan, np.nan, n, "one value", unit=unit)


def secondary(rows) -> Evidence | dict:
    """How often secondary sinks are held, over all other tokens as old; nothing where no document has any.

    The null: tokens at the same places in the other documents, over the same.
    """
    rows = [row for row in rows if np.sum(row.gates[0].secondary_n) and row.expected]
    if not rows:
        return {"kept_more": None}
    kept, n = (held(rows, f"secondary_{of}").sum(axis=-1) for of in ("kept", "n"))  # (documents, trainings)
    all_kept, all_n = ((held(rows, f"period_{of}") + held(rows, f"other_{of}")).sum(axis=-1) for of in ("kept", "n"))
    there = np.array([row.expected for row in rows]).sum(axis=-1)
    others = ((all_kept - kept) / (all_n - n)).mean(axis=1)
    at_sinks, at_places = (ratio_of_means((one / n).mean(axis=1), others, unit="documents") for one in (kept, there))
    return Evidence({"kept_more": at_sinks}, nulls={"kept_more": at_places})


def steps(rows, budget: int, head_size: int) -> Parts:
    """C4, C18 and C26: a real cache on the real model."""
    same = columns(row.same for row in rows)
    lowest = min(same, key=lambda rule: same[rule].mean())
    one, n = rows[0], len(rows)
    return {
        "C4": Evidence(
            {
                "kept": Exact(max(row.kept_generate for row in rows) / budget, n),
                "bytes_flat": Exact(max(row.bytes[-1] / row.bytes[0] for row in rows), n),
            },
            nulls={
                "kept": Exact(min(row.tokens_full for row in rows) / budget, n),
                "bytes_flat": Exact(min(row.bytes_full[-1] / row.bytes_full[0] for row in rows), n),
            },
        ),
        "C18": {
            "one_number": Exact(head_size * one.extra / one.key_bytes),
            "with_positions": Exact(head_size * (one.extra + one.extra_positions) / one.key_bytes),
        },
        "C26": Evidence(
            {"same_evictions": Exact(float(np.mean(same[lowest])), n)},
            nulls={"same_evictions": Exact(float(np.mean([r.window_same for r in rows])), n)},
        ),
    }


def step_ratio(rows, rule: str) -> Estimate:
    """Time of a step of TRIM-KV over that of another rule, by rounds."""
    return median_ratio(*(np.log([row.ms[name] for row in rows]) for name in ("trim", rule)), unit="rounds")


def latency(rows) -> Parts:
    """C6, by rounds."""
    ms = {name: np.log(values) for name, values in columns(row.ms for row in rows).items()}
    heuristic = min((ms["snapkv"], ms["streaming"]), key=np.median)
    full = min((ms["full"], ms["full_engine"]), key=np.median)
    return {
        "C6": Evidence(
            {
                "as_fast_as_snapkv": median_ratio(ms["trim"], heuristic, unit="rounds"),
                "faster_than_full": median_ratio(full, ms["trim"], unit="rounds"),
            },
            nulls={"as_fast_as_snapkv": median_ratio(full, heuristic, unit="rounds")},
        )
    }


def problems(rows) -> Parts:
    """C29: GSM8K with released gates."""
    costs = accuracy_costs(
        [row.full for row in rows],
        [{rule: found for rule, found in row.right.items() if rule != "trim"} for row in rows],
        [[row.right["trim"]] for row in rows],
        "problems",
    )
    return {"C29": {f"at_{m}": costs.lead(m) for m in ("64", "128")}}
