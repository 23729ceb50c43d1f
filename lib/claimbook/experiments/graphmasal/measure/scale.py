"""One row for each instance: greedy cover against the optimum in cost and time, as graph and weak set grow."""

import time
from dataclasses import dataclass

import numpy as np

from claimbook.experiments.graphmasal.topics import load
from claimbook.experiments.units import Experiment
from claimbook.papers import graphmasal as method
from claimbook.papers.graphmasal import Graph

PARENTS = 3  # at most, of a topic in a graph made up


@dataclass(frozen=True)
class Row:
    """``greedy`` and ``optimal``: summed costs of the chosen paths; ``most``: sinks on one path; times in seconds."""

    n_topics: int
    real: bool
    weak: int
    paths: int
    most: int
    greedy: float
    optimal: float
    seconds_paths: float
    seconds_greedy: float
    seconds_optimal: float


def instances(model, config: dict) -> dict[str, tuple]:
    """Real graphs by level, and layered random ones by size; for each the numbers of weak topics, and repetitions."""
    return {
        f"{graph}, {weak} weak, {i}": (graph, weak, i)
        for graph in config["graphs"]
        for weak in config["weak"]
        for i in range(config["n_each"])
    }


def measure(model, unit: tuple, config: dict) -> Row:
    name, count, i = unit
    rng = np.random.default_rng([config["seed"], count, i])
    graph = load(name).graph if isinstance(name, str) else random_graph(name, rng)
    mastery, weak = state(graph, count, rng)
    costs = method.cost(graph, mastery)
    start = time.perf_counter()
    paths = list(method.candidate_paths(graph, costs, np.flatnonzero(mastery >= method.KNOWN), weak).values())
    cover = method.covered(paths, weak)
    price = np.array([method.path_cost(path, costs) for path in paths])
    found = time.perf_counter()
    greedy = method.greedy_cover(cover, price)
    chosen = time.perf_counter()
    optimal = method.optimal_cover(cover, price)
    end = time.perf_counter()
    return Row(
        len(graph),
        isinstance(name, str),
        len(weak),
        len(paths),
        int(cover.sum(axis=1).max()),
        float(price[greedy].sum()),
        float(price[optimal].sum()),
        found - start,
        chosen - found,
        end - chosen,
    )


def state(graph: Graph, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mastery (N,) of one who knows half of the first third of topics and their needs; ``count`` weak ones above."""
    order = np.array(graph.order)
    known = np.zeros(len(graph), dtype=bool)
    known[order[: len(order) // 3]] = rng.random(len(order) // 3) < 0.5
    known |= graph.ancestors[known].any(axis=0)
    above = np.flatnonzero(~known & (graph.ancestors & known).any(axis=1))
    return np.where(known, 0.95, rng.uniform(0.05, 0.5, len(graph))), rng.choice(above, min(count, len(above)), False)


def random_graph(n: int, rng: np.random.Generator) -> Graph:
    """``n`` topics, each but the first with one to `PARENTS` prerequisites among the fifty before it."""
    edges = []
    for v in range(1, n):
        few = min(int(rng.integers(1, PARENTS + 1)), v)
        edges += [(int(u), v) for u in rng.choice(np.arange(max(0, v - 50), v), min(few, v), replace=False)]
    return Graph.of(n, edges)


def tight(sizes=(5, 10, 20, 40), eps: float = 0.01) -> list[dict[str, float]]:
    """Greedy over the optimum on the family that no better bound would allow, and the bound H(n)."""
    found = []
    for n in sizes:
        cover, price = method.tight_family(n, eps)
        greedy, optimal = (price[choose(cover, price)].sum() for choose in (method.greedy_cover, method.optimal_cover))
        found.append({"n": n, "ratio": float(greedy / optimal), "bound": method.harmonic(n)})
    return found


def trap(sizes=(5, 10, 20, 40)) -> list[dict[str, float]]:
    """Costs where one path has all n sinks and costs n, and n paths of one sink cost 1 / n each."""
    found = []
    for n in sizes:
        cover, price = np.vstack([np.eye(n), np.ones((1, n))]).astype(bool), np.append(np.ones(n) / n, float(n))
        costs = {rule: float(price[method.greedy_cover(cover, price, rule)].sum()) for rule in method.RULES}
        optimal = float(price[method.optimal_cover(cover, price)].sum())
        found.append(
            {"n": n, "greedy": costs["cost-effectiveness"], "coverage_rule": costs["coverage"], "optimal": optimal}
        )
    return found


EXPERIMENT = Experiment("instances", Row, instances, measure)
run = EXPERIMENT.run
