"""Three agents on LangGraph (a Diagnostician, a Planner, a Tutor), and what becomes of a conversation that is killed.

The abstract names the agents and LangGraph; router, retry and closed loop are our reading (reconstructed). The learner
is simulated. What a conversation holds is checkpointed after each agent; what is known of a learner lies in a store of
its own, so that another conversation, of another process, begins from it.
"""

import functools
import itertools
import multiprocessing
import operator
import os
import signal
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.errors import EmptyInputError
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore
from rank_bm25 import BM25Okapi

from claimbook import files
from claimbook.experiments.graphmasal import diagnosis, learners, topics
from claimbook.experiments.graphmasal.diagnosis import Fit
from claimbook.experiments.graphmasal.learners import Student, study
from claimbook.experiments.graphmasal.measure import classes
from claimbook.experiments.graphmasal.measure.planning import missing, shuffled
from claimbook.experiments.units import Experiment
from claimbook.papers import graphmasal as method
from claimbook.papers.graphmasal import Graph

AGENTS = ("diagnostician", "planner", "tutor")
LAYER = ("learners",)  # where the store keeps what is known of learners
LESSONS, TURNS = 5, 4  # topics taught in one turn; turns of a conversation
RULE = "any"  # of `learners.study`: how the simulated learner takes a lesson


class State(TypedDict, total=False):
    """What a conversation holds between agents: plain lists, numbers of topics, no truth about the learner.

    ``answers``: [topic, [1 or 0 an item]], the last ones of each topic. ``steps``: of the paths of all plans so far, as
    [topic, next topic]. ``taught``: all lessons so far. ``widened``: whether topics that were not asked are weak too.
    """

    answers: list
    mastery: list[float]
    weak: list[int]
    steps: Annotated[list, operator.add]
    plan: list[int]
    taught: list[int]
    turn: int
    widened: bool
    visited: Annotated[list[str], operator.add]
    transcript: Annotated[list[dict], operator.add]


@dataclass(frozen=True)
class Team:
    """The agents of one conversation. Only the simulated `learner` looks at what ``student`` really knows.

    ``say(agent, facts)`` puts facts in words: a model may, the default is a template. ``kill_at``: the process kills
    itself when the agent of that number has done its work, before LangGraph hears of it.
    """

    course: topics.Course
    fit: Fit
    student: Student
    seed: int = 0
    say: Callable[[str, str], str] = lambda agent, facts: facts
    kill_at: int | None = None

    def graph(self, without: str = "") -> StateGraph:
        """The three agents in a closed loop with the learner; ``without``: one of `AGENTS` that is left out."""
        there = [agent for agent in AGENTS if agent != without]
        built = StateGraph(State)
        for name in (*there, "learner"):
            built.add_node(name, self._mortal(name))
        built.add_edge(START, there[0])
        built.add_edge("learner", there[0])
        ways = {"learner": "learner", "end": END} | {agent: agent for agent in there}
        for name, after in zip(there, (*there[1:], None), strict=True):
            built.add_conditional_edges(name, functools.partial(self._next, name, after), ways)
        return built

    def _next(self, name: str, after: str | None, state: State) -> str:
        """Who speaks next: a plan that is empty goes back to the Diagnostician once, the last agent to the learner."""
        if name == "planner" and not state["plan"]:
            return "diagnostician" if "weak" in state and not state["widened"] else "end"
        if after:
            return after
        return "learner" if name == "tutor" and state["turn"] < TURNS else "end"

    def _mortal(self, name: str):
        """An agent as a node of the graph, which notes that it was there."""
        act = getattr(self, name)

        def node(state: State, *, store: BaseStore) -> dict:
            update = act(state, store) | {"visited": [name]}
            if len(state["visited"]) == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return update

        return node

    def diagnostician(self, state: State, store: BaseStore) -> dict:
        """Answers, with those of earlier conversations, to mastery and weak topics; kept in the store."""
        widened = state.get("plan") == []  # nothing was planned for the topics asked: all that the goals need
        answers = dict(remembered(store, self.student.name)) | {topic: given for topic, given in state["answers"]}
        told = self._told(answers)
        mastery = diagnosis.mastery("graph", self.course.graph, told, self.fit, self.seed)
        weak = diagnosis.weak(told, mastery, "all" if widened else "asked")
        answers = [[topic, list(given)] for topic, given in sorted(answers.items())]
        store.put(LAYER, self.student.name, {"answers": answers, "mastery": mastery.tolist()}, index=False)
        facts = f"You answered on {len(answers)} topics. Not yet sure of: {self._names(weak)}."
        return {"answers": answers, "mastery": mastery.tolist(), "weak": list(weak), "widened": widened} | self._line(
            "diagnostician", facts
        )

    def planner(self, state: State, store: BaseStore) -> dict:
        """Mastery and weak topics to a plan; without a diagnosis, from what the graph alone would say."""
        mastery, weak = state.get("mastery"), state.get("weak")
        if mastery is None:
            mastery = diagnosis.mastery("prior", self.course.graph, self.student, self.fit, self.seed)
            weak = diagnosis.weak(self.student, mastery)
        made = method.plan(self.course.graph, np.array(mastery), weak)
        left = [topic for topic in made.sequence if topic not in state["taught"]]
        facts = f"{len(left)} topics, in this order: {self._names(left)}."
        return {"plan": left, "steps": _steps(made.paths)} | self._line("planner", facts)

    def tutor(self, state: State, store: BaseStore) -> dict:
        """The next topics of the plan, each with a passage; without a planner, weak topics in the library's order."""
        plan = state.get("plan")
        if plan is None:
            plan = [topic for topic in state["weak"] if topic not in state["taught"]]
        now = plan[:LESSONS]
        facts = (
            " ".join(f"{name}: {passage(self.course.ids, name)}" for name in (self.course.names[v] for v in now))
            or "Nothing is left."
        )
        return {"taught": state["taught"] + now, "turn": state["turn"] + 1} | self._line("tutor", facts)

    def learner(self, state: State, store: BaseStore) -> dict:
        """The simulated learner goes through the lessons and answers on the last of them."""
        known = study(self.course.graph, self.student.known, state["taught"], RULE)
        asked = state["taught"][-LESSONS:]
        rng = np.random.default_rng([self.seed, state["turn"], *map(ord, self.student.name)])
        given = [learners._answers(v, known, self.course.graph, rng) for v in asked]
        facts = "; ".join(f"{self.course.names[v]}: {sum(of)} of {len(of)}" for v, of in zip(asked, given, strict=True))
        return {"answers": state["answers"] + [[v, list(of)] for v, of in zip(asked, given, strict=True)]} | {
            "transcript": [{"agent": "learner", "text": facts}]
        }

    def opening(self) -> State:
        """The learner's first message: the answers of the test."""
        given = zip(self.student.asked, self.student.answers, strict=True)
        return {
            "answers": [[v, list(of)] for v, of in given],
            "taught": [],
            "turn": 0,
            "visited": [],
            "transcript": [],
            "steps": [],
        }

    def _told(self, answers: dict) -> Student:
        """The student as the agents see it: goals and answers; that nothing is known stands in for the truth."""
        asked = tuple(sorted(answers))
        unseen = np.zeros(len(self.course.ids), dtype=bool)
        return replace(self.student, known=unseen, asked=asked, answers=tuple(tuple(answers[v]) for v in asked))

    def _line(self, agent: str, facts: str) -> dict:
        return {"transcript": [{"agent": agent, "text": self.say(agent, facts)}]}

    def _names(self, numbers, most: int = 6) -> str:
        names = [self.course.names[v] for v in numbers]
        more = f" and {len(names) - most} more" if len(names) > most else ""
        return (", ".join(names[:most]) or "nothing") + more


def remembered(store: BaseStore, student: str) -> list[list]:
    """What earlier conversations left of a learner: [topic, answers]; nothing for a new one."""
    item = store.get(LAYER, student)
    return item.value["answers"] if item else []


@functools.cache
def _library(ids: tuple[str, ...]) -> tuple[BM25Okapi, list[str]]:
    own = [row["comment"] for row in topics.comments() if {row["section"], row["topic"]} & set(ids)]
    return BM25Okapi([text.lower().split() for text in own]), own


@functools.cache
def passage(ids: tuple[str, ...], name: str) -> str:
    """What the library says that is nearest to a topic's name, by BM25."""
    index, texts = _library(ids)
    return texts[int(np.argmax(index.get_scores(name.lower().split())))]


# --- conversations, held and killed -----------------------------------------------------------------------------------


def states(team: Team, saver, store: BaseStore, *, without: str = "", resume: bool = False) -> list[State]:
    """What a conversation holds after each agent, to its end; ``resume``: of one that was broken off.

    Checkpoints are written before the next agent begins. Nothing where nothing is left to go on from.
    """
    app = team.graph(without).compile(checkpointer=saver, store=store)
    thread = {"configurable": {"thread_id": f"{team.student.name} {without}"}, "recursion_limit": 100}
    begin = None if resume else team.opening()
    try:
        return list(app.stream(begin, thread, stream_mode="values", durability="sync"))
    except EmptyInputError:
        return []


def converse(team: Team, without: str = "") -> State:
    """The state in which an undisturbed conversation ends."""
    return states(team, InMemorySaver(), InMemoryStore(), without=without)[-1]


def carry_on(folder: Path) -> None:
    """Hold the conversation that ``folder/order.json`` describes, or what is left of it; its end: ``end.json``."""
    order = files.read_json(folder / "order.json")
    config = order["config"]
    team = Team(
        classes.course(config),
        Fit(**order["fit"]),
        learners.cohort(classes.course(config), order["number"] + 1, config["seed"])[order["number"]],
        config["seed"],
        kill_at=order["kill_at"],
    )
    with (
        closing(sqlite3.connect(folder / "talk.sqlite", check_same_thread=False)) as file,
        SqliteStore.from_conn_string(str(folder / "learners.sqlite")) as store,
    ):
        store.setup()
        saver = SqliteSaver(file) if "talk" in order["on_disk"] else InMemorySaver()
        learner = store if "learner" in order["on_disk"] else InMemoryStore()
        found = states(team, saver, learner, resume=order["resume"])
    files.write_json(folder / "end.json", {"state": found[-1] if found else None})


def process(folder: Path, **order) -> int:
    """`carry_on` in a process of its own; its exit code, -9 when it was killed."""
    files.write_json(folder / "order.json", order)
    one = multiprocessing.get_context("spawn").Process(target=carry_on, args=(folder,))  # it shares nothing
    one.start()
    one.join()
    return one.exitcode


def killed(folder: Path, **order) -> Path:
    """A conversation whose process is killed in the middle; the folder in which it left what it had on disk."""
    folder.mkdir()
    code = process(folder, resume=False, **order)
    if code != -signal.SIGKILL:
        raise RuntimeError(f"the conversation was to be killed, but ended with {code}")
    return folder


def resumed(folder: Path, **order) -> State | None:
    """The end of a conversation that goes on in another process; None where nothing is left of it."""
    code = process(folder, resume=True, **order | {"kill_at": None})
    if code:
        raise RuntimeError(f"the conversation that was resumed ended with {code}")
    return files.read_json(folder / "end.json")["state"]


def layer(folder: Path, student: str) -> dict | None:
    """What this process finds of a learner in a store that another one left."""
    with SqliteStore.from_conn_string(str(folder / "learners.sqlite")) as store:
        store.setup()
        item = store.get(LAYER, student)
        return item.value if item else None


# --- rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Worth:
    """Of the topics asked and not known: share in the last plan and the lessons; share learned, by two rules."""

    ended: bool
    lessons: int
    coverage_true: float
    learned_any: float
    learned_all: float


@dataclass(frozen=True)
class Row:
    """One simulated learner's conversation. ``visited``: agents in order; ``killed_in``: the one the kill broke off.

    ``has_plan``: whether anything was planned. ``resumed_equal``: whether the killed conversation ended in the very
    state of an undisturbed one; ``unsaved_equal``: the same, with checkpoints in memory. ``kept``: whether a second
    process finds of the learner, before anything is resumed, what was written last; ``not_kept``: the same with a store
    in memory. ``edges``: steps of all plans' paths; ``edges_in_graph``: those that are edges of the graph;
    ``shuffled_…``: of a plan made on a wrong graph; ``…_of_sequence``: consecutive topics of the first plan as it is
    shown. ``whole``, ``without``: what is reached by all three agents, and without each.
    """

    student: str
    profile: str
    visited: list[str]
    ended: bool
    has_plan: bool
    killed_in: str
    resumed_equal: bool
    unsaved_equal: bool
    kept: bool
    not_kept: bool
    edges: int
    edges_in_graph: int
    shuffled_edges: int
    shuffled_in_graph: int
    steps_of_sequence: int
    edges_of_sequence: int
    whole: Worth
    without: dict[str, Worth]
    transcript: list[dict]


def numbered(model, config: dict) -> dict[str, tuple[int, Student]]:
    """The students of a run by name, with their numbers in the cohort."""
    return {name: (i, student) for i, (name, student) in enumerate(classes.students(model, config).items())}


def measure(model, unit: tuple[int, Student], config: dict) -> Row:
    number, student = unit
    course, fit = classes.course(config), classes.fitted(config)
    team, rng = Team(course, fit, student, config["seed"]), classes.luck(student, config, 5)
    after = states(team, InMemorySaver(), InMemoryStore())[1:]  # after each agent; the first holds the opening alone
    end, kill_at = after[-1], int(rng.integers(1, len(after)))
    written = next(state for state in after[kill_at::-1] if state["visited"][-1] == "diagnostician")
    order = {"config": config, "fit": asdict(fit), "number": number, "kill_at": kill_at}
    with tempfile.TemporaryDirectory() as name:
        both, layer_only, talk_only = (
            (killed(Path(name) / "+".join(on_disk), on_disk=on_disk, **order), on_disk)
            for on_disk in (["talk", "learner"], ["learner"], ["talk"])
        )
        kept, not_kept = (layer(folder, student.name) == known(written) for folder, _ in (both, talk_only))
        again, lost = (resumed(folder, on_disk=on_disk, **order) for folder, on_disk in (both, layer_only))
    astray = _steps(method.plan(shuffled(course.graph, rng), np.array(end["mastery"]), end["weak"]).paths)
    sequence = [list(step) for step in itertools.pairwise(after[1]["plan"])]
    return Row(
        student=student.name,
        profile=student.profile,
        visited=end["visited"],
        ended=_ended(end),
        has_plan=bool(end["steps"]),
        killed_in=end["visited"][kill_at],
        resumed_equal=again == end,
        unsaved_equal=lost == end,
        kept=kept,
        not_kept=not_kept,
        edges=len(end["steps"]),
        edges_in_graph=len(_true(end["steps"], course.graph)),
        shuffled_edges=len(astray),
        shuffled_in_graph=len(_true(astray, course.graph)),
        steps_of_sequence=len(sequence),
        edges_of_sequence=len(_true(sequence, course.graph)),
        whole=worth(team, end),
        without={agent: worth(team, converse(team, agent)) for agent in AGENTS},
        transcript=end["transcript"] if number == 0 else [],
    )


def known(state: State) -> dict:
    """What the store should hold of a learner when the Diagnostician has left a conversation in this state."""
    return {"answers": state["answers"], "mastery": state["mastery"]}


def worth(team: Team, end: State) -> Worth:
    """What a conversation did for its learner."""
    graph, known, lacking = team.course.graph, team.student.known, missing(team.student)
    after = {rule: study(graph, known, end["taught"], rule)[list(lacking)] for rule in ("any", "all")}
    shown = set(end["taught"]) | set(end.get("plan", []))
    learned = {rule: float(of.mean()) if len(of) else float("nan") for rule, of in after.items()}
    return Worth(
        _ended(end), len(end["taught"]), method.coverage(tuple(shown), lacking), learned["any"], learned["all"]
    )


def _ended(end: State) -> bool:
    """Whether a conversation came to its end: all turns, or nothing left to plan."""
    return end["turn"] == TURNS or end.get("plan") == []


def _steps(paths) -> list[list[int]]:
    return [list(step) for path in paths for step in itertools.pairwise(path)]


def _true(steps: list[list[int]], graph: Graph) -> list[list[int]]:
    edges = set(graph.edges)
    return [step for step in steps if tuple(step) in edges]


EXPERIMENT = Experiment("conversations", Row, numbered, measure)
run = EXPERIMENT.run
