"""From rows to the ledger's parts: {claim: {part: measurement}}. Nothing is measured here.

A cost is what a budget takes away: accuracy below the full cache's, or loss above it. Trainings of gates are averaged
inside a unit (a base, a document, a needle) before anything is compared.
"""

from dataclasses import dataclass

import numpy as np

from claimbook.claims.verdicts import Evidence, Measurement
from claimbook.experiments.units import columns
from claimbook.stats import Estimate, Exact, mean, median_ratio, proportion, ratio_of_exp, ratio_of_means

Parts = dict[str, Evidence | dict[str, Measurement]]

HEURISTICS = ("window", "streaming", "h2o", "tova", "snapkv", "key norm", "keydiff")
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


def needle_costs(rows) -> Costs:
    """Of hidden facts."""
    return accuracy_costs([r.full for r in rows], [r.right for r in rows], [r.trim for r in rows], "needles")


def text_costs(rows) -> Costs:
    """Of documents: loss in nats above the full cache's."""
    full, rules = columns(row.full for row in rows), columns(row.losses for row in rows)
    above = {rule: {m: loss - full for m, loss in found.items()} for rule, found in rules.items()}
    return Costs("documents", above, {m: loss - full for m, loss in over_gates(row.trim for row in rows).items()})


def best_auc(scores: dict[str, np.ndarray], among: tuple[str, ...], unit: str) -> Estimate:
    """The largest AUC on average, of {score: (n,)}."""
    return mean(max((scores[one] for one in among if one in scores), key=np.mean), unit=unit, within=(0, 1))


def knowing(rows, unit: str, blind: tuple[str, ...]) -> tuple[Estimate, Estimate, Estimate, Estimate]:
    """AUC for what will be needed: attention before and after asking, gates, and the best that knows nothing."""
    before, asked = (columns(getattr(row, name) for row in rows) for name in ("auc", "auc_asked"))
    gates = mean([np.mean(row.auc_trim) for row in rows], unit=unit, within=(0, 1))
    return (
        best_auc(before, ATTENTION, unit),
        best_auc(asked, ATTENTION, unit),
        gates,
        best_auc(before, blind, unit),
    )


def needles(rows) -> Parts:
    """C1 and C2, and C7 by facts hidden in text."""
    before, asked, gates, untrained = knowing(rows, "needles", ("untrained",))
    found = sum(bool(row.full) for row in rows)
    return {
        "C1": Evidence({"blind_before_asking": before}, nulls={"blind_before_asking": asked}),
        "C2": Evidence({"knows_before_asking": gates}, nulls={"knows_before_asking": untrained}),
        "C7": Evidence(
            {"needle_64": needle_costs(rows).lead("64")},
            preconditions={"finds_the_fact": proportion(found, len(rows), unit="needles")},
        ),
    }


def texts(rows) -> Parts:
    """C7 and C22 by loss on documents; C25, positions counted by what is kept."""
    costs = text_costs(rows)
    wrong = columns(row.renumbered[RENUMBERED]["64"] for row in rows)
    right = columns(row.losses[RENUMBERED]["64"] for row in rows)
    return {
        "C7": {f"text_{m}": costs.lead(m) for m in ("32", "64", "128")},
        "C22": Evidence(
            {"text_32_against_128": costs.lead("32", "128")},
            nulls={"text_32_against_128": costs.lost_by_less("32", "128")},
        ),
        "C25": {"degraded": ratio_of_exp(wrong, right, unit="documents")},
    }


def toys(rows) -> Parts:
    """All that delayed recall says, by base."""
    return ranks(rows) | ablations(rows) | longer(rows) | transfer(rows) | proxies(rows)


def ranks(rows) -> Parts:
    """C23: at equal budgets, and at a quarter of the heuristics'."""
    costs = toy_costs(rows)
    parts = {f"at_{m}": costs.lead(m) for m in ("8", "16", "24")}
    nulls, ceilings = (
        {f"at_{m}": costs.over(costs.rules[costs.best(m, among)][m], m) for m in ("8", "16", "24")}
        for among in (BLIND, ("oracle",))
    )
    nulls["four_times"] = costs.lost_by_less("12", "48")
    return {"C23": Evidence(parts | {"four_times": costs.lead("12", "48")}, nulls=nulls, ceilings=ceilings)}


def proxies(rows) -> Parts:
    """C24: what is known of a pair before the first question."""
    before, asked, gates, blind = knowing(rows, "bases", ("untrained", "position"))
    return {
        "C24": Evidence(
            {"attention_is_blind": before, "gate_knows": gates},
            nulls={"attention_is_blind": asked, "gate_knows": blind},
        )
    }


def ablations(rows) -> Parts:
    """C14, C15, C16 and C27: accuracy of gates that were trained otherwise, over that of others."""
    arms = {"all": over_gates(row.trim for row in rows)}
    arms |= {arm: over_gates(row.ablations[arm] for row in rows) for arm in rows[0].ablations}

    def over(arm: str, other: str = "all", budget: str = "16") -> Estimate:
        return ratio_of_means(arms[arm][budget], arms[other][budget], unit="bases")

    return {
        "C14": {"capacity": over("no capacity"), "kl": over("no kl"), "ntp": over("no ntp")},
        "C15": {"hidden_layer": over("linear"), "large_bias": over("bias 0", "bias 18")},
        "C16": {"no_limit": over("no capacity"), "too_small": over("budget 6", "budget 24", "24")},
        "C27": {"printed_worse": over("printed")},
    }


def longer(rows, length: str = "160", budget: str = "48") -> Parts:
    """C11: wrong answers on more noise than in training, the gates' over the full cache's."""
    full = columns(row.longer[length]["full"] for row in rows)
    trim = over_gates(row.longer[length]["trim"] for row in rows)[budget]
    return {
        "C11": Evidence(
            {"fewer_errors": ratio_of_means(1 - trim, 1 - full, unit="bases")},
            preconditions={"full_near_one": mean(full, unit="bases", within=(0, 1))},
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
    general, narrow = (over_gates(row.transfer[gates] for row in rows)["12"] for gates in ("general", "narrow"))
    return {
        "C17": {
            "general_transfers": transfer_costs(rows, "general").lead("16"),
            "narrow_worse": ratio_of_means(narrow, general, unit="bases"),
        }
    }


def held(rows, name: str) -> np.ndarray:
    """A field of what trained gates keep, (documents, trainings, heads), heads in the order of their layers."""
    return np.array([[training[name] for training in row.gates] for row in rows], dtype=float)


def untrained(rows, name: str) -> np.ndarray:
    """The same of gates as initialised, (documents, 1, heads)."""
    return np.array([[row.untrained[name]] for row in rows], dtype=float)


def sinks(of, rows) -> np.ndarray:
    """Which heads (trainings, heads) hold the first token to the end of nine in ten documents."""
    return of(rows, "first_kept").mean(axis=0) >= BEST_OF


def windows(of, rows, budget: int = 64) -> np.ndarray:
    """Which heads keep recent tokens alone and have a soft size below the budget, (trainings, heads)."""
    recent, size = of(rows, "recent").mean(axis=0), of(rows, "size").mean(axis=0)
    return (recent >= BEST_OF) & (size < budget)


def fewest(heads: np.ndarray, rows) -> Exact:
    """How many heads in the training that has the fewest."""
    return Exact(int(heads.sum(axis=1).min()), len(rows))


def separators(rows) -> tuple[np.ndarray, np.ndarray]:
    """Separators kept and, were the choice blind, expected among what each head keeps of old tokens.

    Both (documents, trainings, heads), multiplied by the number of old tokens, so that neither divides by 0.
    """
    kept, n = held(rows, "separator_kept"), held(rows, "separator_n")
    all_kept, all_n = kept + held(rows, "other_kept"), n + held(rows, "other_n")
    return kept * all_n, all_kept * n


def gist_head(rows) -> Estimate:
    """Over-representation of separators in each training's head that keeps most of them on every other document."""
    seen, expected = separators(rows)
    old = (held(rows, "separator_kept") + held(rows, "other_kept"))[::2].mean(axis=0)  # (trainings, heads)
    ratio = seen[::2].sum(axis=0) / np.maximum(expected[::2].sum(axis=0), 1e-9)
    chosen = np.where(old >= 1, ratio, 0).argmax(axis=1)  # heads that keep an old token at all
    trainings = np.arange(len(chosen))
    return ratio_of_means(
        seen[1::2, trainings, chosen].mean(axis=1), expected[1::2, trainings, chosen].mean(axis=1), unit="documents"
    )


def learned(rows) -> Parts:
    """C12, C13 and C28: what gates keep of documents."""
    log_size = np.log(held(rows, "size")).mean(axis=0)  # (trainings, heads)
    early, late = np.split(log_size, 2, axis=1)
    return {
        "C12": Evidence(
            {
                "sink_heads": fewest(sinks(held, rows), rows),
                "window_heads": fewest(windows(held, rows), rows),
                "gist_head": gist_head(rows),
            },
            nulls={
                "sink_heads": fewest(sinks(untrained, rows), rows),
                "window_heads": fewest(windows(untrained, rows), rows),
            },
        ),
        "C13": {"later_sparser": ratio_of_exp(late.mean(axis=1), early.mean(axis=1), unit="trainings")},
        "C28": {"kept_more": secondary(rows)},
    }


def secondary(rows) -> Estimate | None:
    """How often secondary sinks are held, over all other tokens as old; None where no document has any."""
    rows = [row for row in rows if np.sum(row.gates[0]["secondary_n"])]
    if not rows:
        return None
    kept, n = (held(rows, f"secondary_{of}").sum(axis=-1) for of in ("kept", "n"))  # (documents, trainings)
    all_kept, all_n = ((held(rows, f"separator_{of}") + held(rows, f"other_{of}")).sum(axis=-1) for of in ("kept", "n"))
    rate, others = kept / n, (all_kept - kept) / (all_n - n)
    return ratio_of_means(rate.mean(axis=1), others.mean(axis=1), unit="documents")


def steps(rows, budget: int, head_size: int) -> Parts:
    """C4, C18 and C26: a real cache on the real model."""
    same = columns(row.same for row in rows)
    lowest = min(same, key=lambda rule: same[rule].mean())
    one = rows[0]
    return {
        "C4": {
            "kept": Exact(max(row.kept_generate for row in rows) / budget, len(rows)),
            "bytes_flat": Exact(max(row.bytes[-1] / row.bytes[0] for row in rows), len(rows)),
        },
        "C18": {"one_number": Exact(head_size * one.extra / one.key_bytes)},
        "C26": Evidence(
            {"same_evictions": mean(same[lowest], unit="documents", within=(0, 1))},
            nulls={"same_evictions": mean([r.window_same for r in rows], unit="documents", within=(0, 1))},
        ),
    }


def latency(rows) -> Parts:
    """C6, by rounds."""
    ms = {name: np.log(values) for name, values in columns(row.ms for row in rows).items()}
    return {
        "C6": {
            "as_fast_as_snapkv": median_ratio(ms["trim"], ms["snapkv"], unit="rounds"),
            "faster_than_full": median_ratio(ms["full"], ms["trim"], unit="rounds"),
        }
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
