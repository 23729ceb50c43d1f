"""Learning paths over a graph of prerequisites (GraphMASAL, Zeng, Liu and Zhen 2025, arXiv 2511.11035).

Only the abstract could be read. It fixes the planner: many sources (what the learner knows), many sinks (what is weak),
a cognitive cost, and greedy weighted set cover with an approximation guarantee. A public summary gives that as
1 + ln |W|. The cost's terms and weights, the thresholds and PathSim's parts are read off an unofficial
re-implementation: ``reconstructed`` throughout.

Topics are numbers 0 … N-1. ``mastery`` (N,) holds the probabilities that they are known, ``known`` (N,) whether they
are. A path is a tuple of topics from a source to a sink.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

KNOWN, WEAK = 0.8, 0.5  # mastery from which a topic is a source, and up to which it is weak (re-implementation)
WEIGHTS = (0.5, 0.3, 0.2)  # of what is not mastered, of depth, of fan-out (re-implementation)
RULES = ("cost-effectiveness", "coverage")  # of the greedy cover
LEAST_COST = 0.01  # a path must cost something
Path = tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Prerequisites: ``parents[v]`` are the topics that v needs; ``order`` lists all topics after their parents."""

    parents: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, n: int, edges: Iterable[tuple[int, int]]) -> "Graph":
        """From edges (prerequisite, topic). ValueError for a topic that is not there and for a circle."""
        parents: list[set[int]] = [set() for _ in range(n)]
        for u, v in edges:
            if not (0 <= u < n and 0 <= v < n):
                raise ValueError(f"an edge joins {u} and {v}, but topics are numbered 0 to {n - 1}")
            parents[v].add(u)
        return cls(tuple(tuple(sorted(of)) for of in parents), _in_order(parents))

    def __len__(self) -> int:
        return len(self.parents)

    @property
    def edges(self) -> list[tuple[int, int]]:
        return [(u, v) for v, parents in enumerate(self.parents) for u in parents]

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        children: list[list[int]] = [[] for _ in self.parents]
        for u, v in self.edges:
            children[u].append(v)
        return tuple(map(tuple, children))

    @cached_property
    def ancestors(self) -> np.ndarray:
        """(N, N) bool: row v holds the topics that v needs, directly or not."""
        found = np.zeros((len(self), len(self)), dtype=bool)
        for v in self.order:
            for u in self.parents[v]:
                found[v] |= found[u]
                found[v, u] = True
        return found

    @cached_property
    def depth(self) -> tuple[int, ...]:
        """Steps of the longest way to each topic, 0 for one without prerequisites."""
        found = [0] * len(self)
        for v in self.order:
            found[v] = 1 + max((found[u] for u in self.parents[v]), default=-1)
        return tuple(found)

    def reduced(self) -> "Graph":
        """The same without edges that a longer way implies (transitive reduction)."""
        kept = [
            (u, v)
            for v, parents in enumerate(self.parents)
            for u in parents
            if not any(self.ancestors[other, u] for other in parents)
        ]
        return Graph.of(len(self), kept)


def _in_order(parents: Sequence[set[int]]) -> tuple[int, ...]:
    """Topological order, of several possible ones the one with the smallest numbers first (Kahn)."""
    missing = [len(of) for of in parents]
    children: list[list[int]] = [[] for _ in parents]
    for v, of in enumerate(parents):
        for u in of:
            children[u].append(v)
    ready, order = [v for v, count in enumerate(missing) if count == 0], []
    while ready:
        order.append(heapq.heappop(ready))
        for v in children[order[-1]]:
            missing[v] -= 1
            if missing[v] == 0:
                heapq.heappush(ready, v)
    if len(order) < len(parents):
        raise ValueError(f"prerequisites go round in a circle through {[v for v, n in enumerate(missing) if n][:5]}")
    return tuple(order)


# --- the planner ------------------------------------------------------------------------------------------------------


def cost(graph: Graph, mastery: np.ndarray, weights: Sequence[float] = WEIGHTS, fan: str = "load") -> np.ndarray:
    """Cognitive cost of each topic, (N,) > 0: l1 (1 - mastery) + l2 depth + l3 fan-out.

    Depth is the share of all other topics that it needs; fan-out its number of children over the largest. The text
    leaves the sign open: fan-out is a "load" that adds, or a "use", where few children cost (1 - fan-out).
    """
    depth = graph.ancestors.sum(axis=1) / max(len(graph) - 1, 1)
    children = np.array([len(of) for of in graph.children], dtype=float)
    out = children / max(children.max(initial=0), 1)
    if fan not in ("load", "use"):
        raise ValueError(f"fan must be load or use, not {fan!r}")
    terms = (1 - np.asarray(mastery, dtype=float), depth, out if fan == "load" else 1 - out)
    return np.maximum(sum(weight * term for weight, term in zip(weights, terms, strict=True)), LEAST_COST)


def candidate_paths(
    graph: Graph, costs: np.ndarray, sources: Sequence[int], sinks: Sequence[int]
) -> dict[tuple[int, int], Path]:
    """The cheapest path of every source and every sink that it leads to (Dijkstra); a step costs the topic it enters.

    A sink that no source leads to is in no path.
    """
    if not len(sources) or not len(sinks):
        return {}
    tails, heads = np.array(graph.edges, dtype=int).reshape(-1, 2).T
    step = csr_array((costs[heads], (tails, heads)), shape=(len(graph), len(graph)))
    far, before = dijkstra(step, indices=list(sources), return_predecessors=True)
    found = {}
    for row, source in enumerate(sources):
        for sink in sinks:
            if sink != source and math.isfinite(far[row, sink]):
                path = [int(sink)]
                while path[-1] != source:
                    path.append(int(before[row, path[-1]]))
                found[int(source), int(sink)] = tuple(reversed(path))
    return found


def path_cost(path: Path, costs: np.ndarray) -> float:
    """Sum of the costs of a path's topics, its source left out."""
    return float(sum(costs[v] for v in path[1:]))


def covered(paths: Sequence[Path], sinks: Sequence[int]) -> np.ndarray:
    """(P, W) bool: which sinks lie on which path."""
    return np.array([[w in on for w in sinks] for on in map(set, paths)], dtype=bool).reshape(len(paths), len(sinks))


def greedy_cover(cover: np.ndarray, price: np.ndarray, rule: str = "cost-effectiveness") -> list[int]:
    """Rows of ``cover`` (P, W) bool, chosen one by one, that together cover all that any row covers.

    Each is the row with the most newly covered columns per price (Chvátal 1979), which costs at most H(d) times the
    optimum, d being the most that one row covers. With ``rule`` "coverage" it is the row with the most newly covered
    columns, the cheaper one of equals: that has no such bound.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be {' or '.join(RULES)}, not {rule!r}")
    left, chosen = cover.any(axis=0), []
    while left.any():
        new = (cover & left).sum(axis=1)
        worth = new / price if rule == "cost-effectiveness" else new - price / (price.sum() + 1)
        chosen.append(int(np.argmax(worth)))
        left = left & ~cover[chosen[-1]]
    return chosen


def optimal_cover(cover: np.ndarray, price: np.ndarray) -> list[int]:
    """The cheapest rows that cover all that any row covers, by integer programming (HiGHS)."""
    reachable = cover.any(axis=0)
    if not reachable.any():
        return []
    return _cheapest(price, csr_array(cover.T[reachable].astype(float)), np.ones(int(reachable.sum())))


def optimal_union(graph: Graph, costs: np.ndarray, sources: Sequence[int], sinks: Sequence[int]) -> list[int]:
    """The cheapest set of topics that holds a path from the sources to every sink that they lead to, sources left out.

    What a plan costs when a topic shared by paths is learned once. In a graph without circles it is enough that each
    chosen topic has a parent that is chosen or a source.
    """
    starts = np.isin(np.arange(len(graph)), list(sources))
    reachable = [w for w in sinks if not starts[w] and starts[graph.ancestors[w]].any()]
    if not reachable:
        return []
    rows = []  # chosen parents - chosen >= 0, for a topic that no source stands right before
    for v, parents in enumerate(graph.parents):
        if not starts[v] and not starts[list(parents)].any():
            rows.append({v: -1.0} | {u: 1.0 for u in parents})
    rows += [{w: 1.0} for w in reachable]
    least = [0.0] * (len(rows) - len(reachable)) + [1.0] * len(reachable)
    at = [(value, i, v) for i, row in enumerate(rows) for v, value in row.items()]
    values, i, v = zip(*at, strict=True)
    chosen = _cheapest(costs, csr_array((values, (i, v)), shape=(len(rows), len(graph))), np.array(least))
    return [v for v in chosen if not starts[v]]


def _cheapest(price: np.ndarray, rows, least: np.ndarray) -> list[int]:
    """Columns chosen, 0 or 1 each, at the least price so that ``rows @ chosen >= least``."""
    found = milp(
        price,
        constraints=LinearConstraint(rows, lb=least),
        integrality=np.ones(len(price)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if not found.success:
        raise ValueError(f"no optimum was found: {found.message}")
    return np.flatnonzero(found.x > 0.5).tolist()


def harmonic(n: int) -> float:
    """1 + 1/2 + … + 1/n: greedy's guarantee where no path covers more than n sinks; at most 1 + ln n."""
    return sum(1 / k for k in range(1, n + 1))


def tight_family(n: int, eps: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Cover (n + 1, n) and prices on which greedy pays H(n) and the optimum 1 + eps: the bound cannot be better."""
    return np.vstack([np.eye(n), np.ones((1, n))]).astype(bool), np.append(1 / np.arange(n, 0, -1), 1 + eps)


@dataclass(frozen=True)
class Plan:
    """``sequence``: what to learn, in order; ``paths``: what it was made of; ``price``: the sum of their costs."""

    sequence: Path
    paths: tuple[Path, ...] = ()
    price: float = 0.0


def plan(
    graph: Graph,
    mastery: np.ndarray,
    weak: Sequence[int],
    *,
    weights: Sequence[float] = WEIGHTS,
    fan: str = "load",
    choose: str = "cost-effectiveness",
) -> Plan:
    """Multi-source multi-sink plan: paths chosen by a rule of `greedy_cover`, or "optimal"; or "separate", one a sink.

    Sources are the topics of mastery `KNOWN` or more. What they do not lead to is left out, and so is not covered.
    """
    costs = cost(graph, mastery, weights, fan)
    sources = np.flatnonzero(np.asarray(mastery) >= KNOWN)
    found = candidate_paths(graph, costs, sources, weak)
    paths = list(found.values())
    price = np.array([path_cost(path, costs) for path in paths])
    if choose == "separate":
        ends = {w: [i for i, path in enumerate(paths) if path[-1] == w] for w in weak}
        chosen = [min(of, key=lambda i: price[i]) for of in ends.values() if of]
    else:
        cover = covered(paths, weak)
        chosen = optimal_cover(cover, price) if choose == "optimal" else greedy_cover(cover, price, choose)
    kept = tuple(paths[i] for i in chosen)
    return Plan(sequence(graph, (v for path in kept for v in path), mastery), kept, float(price[chosen].sum()))


def closed_plan(graph: Graph, mastery: np.ndarray, weak: Sequence[int]) -> Plan:
    """Every weak topic with all that it needs and that is not known: the variant that a path leaves out. Ours."""
    needed = graph.ancestors[list(weak)].any(axis=0)
    needed[list(weak)] = True
    return Plan(sequence(graph, np.flatnonzero(needed), mastery))


def sequence(graph: Graph, topics: Iterable[int], mastery: np.ndarray) -> Path:
    """The learning sequence: topics that are not known yet, each once, the less deep first (a topological order)."""
    return tuple(sorted({int(v) for v in topics if mastery[v] < KNOWN}, key=lambda v: (graph.depth[v], v)))


# --- what a plan is worth ---------------------------------------------------------------------------------------------


def coverage(planned: Sequence[int], weak: Sequence[int]) -> float:
    """Share of the weak topics that a plan holds; NaN where none is weak."""
    return len(set(planned) & set(weak)) / len(set(weak)) if len(weak) else math.nan


def unmet(graph: Graph, planned: Sequence[int], known: np.ndarray) -> np.ndarray:
    """For each topic of a sequence (n,) bool: is one of its prerequisites neither known nor earlier in the sequence?"""
    ready, found = {int(v) for v in np.flatnonzero(known)}, []
    for v in planned:
        found.append(not ready.issuperset(graph.parents[v]))
        ready.add(v)
    return np.array(found, dtype=bool)


def path_sim(planned: Sequence[int], reference: Sequence[int]) -> float:
    """PathSim of two sequences in [0, 1]: 0.4 Jaccard of topics + 0.3 of consecutive pairs + 0.3 (1 - edits / length).

    Another measure than the PathSim of Sun et al. (2011). Where neither has a pair, pairs agree if the sequences do.
    """
    p, q = tuple(planned), tuple(reference)
    pairs = [set(pairwise(s)) for s in (p, q)]
    same_pairs = _jaccard(*pairs) if pairs[0] | pairs[1] else float(p == q)
    same_order = 1 - edits(p, q) / max(len(p), len(q), 1)
    return 0.4 * _jaccard(set(p), set(q)) + 0.3 * same_pairs + 0.3 * same_order


def _jaccard(a: set, b: set) -> float:
    return len(a & b) / len(a | b) if a | b else 1.0


def edits(p: Sequence[int], q: Sequence[int]) -> int:
    """Levenshtein distance: insertions, deletions and substitutions that turn one sequence into the other."""
    q, steps = np.asarray(q), np.arange(len(q) + 1)
    row = steps
    for i, a in enumerate(p, 1):
        best = np.concatenate([[i], np.minimum(row[1:] + 1, row[:-1] + (q != a))])
        row = np.minimum.accumulate(best - steps) + steps  # insertions, one after the other
    return int(row[-1])
