"""A language model in the place of planner and diagnosis, asked by prompt. All wording is ours (reconstructed).

It reads what the graph's methods read: topics, prerequisites, the test's answers, the goals. Asked for a plan, it
writes freely, or it chooses among the topics by likelihood, so that it cannot fail on format. Asked whether a topic is
known, it says yes or no. Each likelihood is compared with that of the same words where no student is described
(Holtzman et al. 2021; Zhao et al. 2021): small models prefer some words whatever they read. Topics are shown in an
order drawn by the seed, so that the library's own order gives nothing away.
"""

import copy
import difflib
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from transformers import DynamicCache

from claimbook.experiments.graphmasal import diagnosis, learners
from claimbook.experiments.graphmasal.learners import Student
from claimbook.experiments.graphmasal.measure import classes, diagnosed, planning
from claimbook.experiments.graphmasal.measure.diagnosed import Found
from claimbook.experiments.graphmasal.measure.planning import Score
from claimbook.experiments.graphmasal.topics import Course
from claimbook.experiments.units import Experiment
from claimbook.lm.load import LM, load

PLAN = "Study plan, one topic a line:\n"
ASK = "Does the student know {}? Answer:"
EXAMPLE = """Topics{needs}:
- Counting{0}
- Adding{1}
- Multiplying{2}
- Fractions{3}
Test results:
- Counting: 3 of 3 right
- Adding: 1 of 3 right
- Fractions: 0 of 2 right
Goals: Fractions
"""
EXAMPLE_NEEDS = ("", " (needs: Counting)", " (needs: Adding)", " (needs: Multiplying)")
EXAMPLE_ANSWERS = f"""{ASK.format("Counting")} yes
{ASK.format("Fractions")} no
{PLAN}Adding
Multiplying
Fractions

"""
DIAGNOSES = ("graph", "topic", "mean score", "prior", "all weak")
ALIKE = 0.8  # of difflib: from here a line names a topic, for the lenient reading


@dataclass(frozen=True)
class Format:
    """Lines of a free reply: ``named``, all that are not empty; ``strict``, those that are a topic's very name.

    ``in_graph``: those that are like a topic's name; ``lenient``: the different topics among them, which make the plan.
    """

    named: int
    strict: int
    in_graph: int
    lenient: int


@dataclass(frozen=True)
class Row:
    """One simulated student: ``plans`` scored as in `planning`, ``diagnoses`` as in `diagnosed`, by arm.

    ``facts_match``: whether the prompt, read back, holds the very answers that the graph's diagnosis had;
    ``facts_other``: whether it holds the next student's. ``prompt`` and ``reply`` are those of the free plan.
    """

    student: str
    profile: str
    topics: int
    tokens: int
    facts_match: bool
    facts_other: bool
    plans: dict[str, Score]
    diagnoses: dict[str, Found]
    format: dict[str, Format]
    prompt: str
    reply: str


# --- what is read -----------------------------------------------------------------------------------------------------


def facts(course: Course, student: Student, menu: Sequence[int], graph: bool = True) -> str:
    """Topics that the goals need, with prerequisites or without, the test's results, and the goals.

    ``menu``: the relevant topics in the order in which they are shown.
    """
    lines = [f"Topics{' and what each needs first' if graph else ''}:"]
    for v in menu:
        needs = ", ".join(course.names[u] for u in course.graph.parents[v])
        lines.append(f"- {course.names[v]}{f' (needs: {needs})' if graph and needs else ''}")
    answers = dict(zip(student.asked, student.answers, strict=True))
    lines.append("Test results:")
    lines += [f"- {course.names[v]}: {sum(answers[v])} of {len(answers[v])} right" for v in menu if v in answers]
    return "\n".join([*lines, f"Goals: {', '.join(course.names[v] for v in student.goals)}", ""])


def example(graph: bool = True) -> str:
    """The solved case that stands before every question."""
    needs = EXAMPLE_NEEDS if graph else [""] * 4
    return EXAMPLE.format(*needs, needs=" and what each needs first" if graph else "") + EXAMPLE_ANSWERS


def results(course: Course, prompt: str) -> dict[int, tuple[int, int]]:
    """{topic: (right, of)} as a prompt states them of the student asked about, that is, behind the example."""
    number = {name: v for v, name in enumerate(course.names)}
    stated = prompt.rpartition("Test results:\n")[2].partition("\nGoals:")[0]
    found = re.findall(r"^- (.*): (\d+) of (\d+) right$", stated, re.MULTILINE)
    return {number[name]: (int(right), int(of)) for name, right, of in found}


def given(student: Student) -> dict[int, tuple[int, int]]:
    """{topic: (right, of)} as the graph's diagnosis reads them."""
    return {v: (sum(of), len(of)) for v, of in zip(student.asked, student.answers, strict=True)}


def parsed(course: Course, reply: str) -> tuple[list[int], Format]:
    """The plan that a free reply makes under the lenient reading, and how its lines keep to the format."""
    lines = [re.sub(r"^[\s\d.)*-]+", "", line).strip() for line in reply.splitlines()]
    lines = [line for line in lines if line]
    exact = {name: v for v, name in enumerate(course.names)}
    lower = {name.lower(): v for name, v in exact.items()}
    like = [difflib.get_close_matches(line.lower(), lower, n=1, cutoff=ALIKE) for line in lines]
    plan = list(dict.fromkeys(lower[names[0]] for names in like if names))
    return plan, Format(len(lines), sum(line in exact for line in lines), sum(map(bool, like)), len(plan))


# --- what the model makes of it ---------------------------------------------------------------------------------------


class Reading:
    """A text that was read once, and what the model expects behind it."""

    def __init__(self, lm: LM, text: str):
        self.lm, self.device = lm, next(lm.model.parameters()).device
        self.ids = lm.document(text)
        lm.check_length(len(self.ids), "a prompt")
        self.cache, self.logits = self._read(self.ids[None], DynamicCache())  # all keys, whatever a layer's window

    @torch.no_grad()
    def _read(self, ids: Tensor, cache, keep: int = 1) -> tuple[object, Tensor]:
        """The cache behind ids (B, T), and the logits (B, keep, V) of their last places."""
        out = self.lm.model(ids.to(self.device), past_key_values=cache, use_cache=True, logits_to_keep=keep)
        return out.past_key_values, out.logits.float()

    def more(self, text: str) -> "Reading":
        """The same with ``text`` behind it; what was read stays as it is."""
        longer = copy.copy(self)
        ids = self.lm.encode(text)
        self.lm.check_length(len(self.ids) + len(ids), "a prompt")
        longer.cache, longer.logits = self._read(ids[None], copy.deepcopy(self.cache))
        longer.ids = torch.cat([self.ids, ids])
        return longer

    def likelihood(self, texts: Sequence[str]) -> np.ndarray:
        """Log-likelihoods (n,) in nats of texts behind this one."""
        found = []
        for ids, logits in self._behind([self.lm.encode(text) for text in texts]):
            before = torch.cat([self.logits[0], logits[:-1]])
            found.append(float(before.log_softmax(-1).gather(1, ids[:, None]).sum()))
        return np.array(found)

    def odds(self, texts: Sequence[str], yes: str, no: str) -> np.ndarray:
        """Log-odds (n,) of one word over another behind each text, at the first token in which they differ."""
        words = [self.lm.encode(word).tolist() for word in (yes, no)]
        same = [a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*words, strict=False))]
        a, b = (word[len(same)] for word in words)
        texts = [torch.cat([self.lm.encode(text), torch.tensor(same, dtype=torch.long)]) for text in texts]
        return np.array([float(logits[-1, a] - logits[-1, b]) for _, logits in self._behind(texts)])

    @torch.no_grad()
    def _behind(self, texts: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Ids (T,) of each text and the logits (T, V) at them, when it stands behind this one.

        All are read at once, in one row: each sees what was read and itself, at the places that it would have alone.
        """
        lengths, read = [len(text) for text in texts], len(self.ids)
        self.lm.check_length(read + max(lengths), "a prompt with its answer")
        ids = torch.cat(list(texts)).to(self.device)
        places = torch.cat([read + torch.arange(length) for length in lengths]).to(self.device)
        own = torch.block_diag(*(torch.ones(length, length).tril() for length in lengths)).bool().to(self.device)
        seen = torch.cat([torch.ones(len(ids), read, dtype=torch.bool, device=self.device), own], dim=1)
        distance = places[:, None] - torch.cat([torch.arange(read, device=self.device), places])
        out = self.lm.model(
            ids[None],
            past_key_values=copy.deepcopy(self.cache),
            use_cache=True,
            position_ids=places[None],
            attention_mask=_masks(self.lm.model.config, seen, distance),
        )
        return zip(ids.split(lengths), out.logits[0].float().split(lengths), strict=True)

    def write(self, most: int) -> str:
        """The likeliest token, again and again, up to an empty line or ``most`` tokens."""
        cache, logits, ids = copy.deepcopy(self.cache), self.logits, []
        while len(ids) < most:
            ids.append(int(logits[0, -1].argmax()))
            text = self.lm.tokenizer.decode(ids, skip_special_tokens=True)
            if "\n\n" in text or ids[-1] == self.lm.tokenizer.eos_token_id:
                break
            cache, logits = self._read(torch.tensor([ids[-1:]]), cache)
        return self.lm.tokenizer.decode(ids, skip_special_tokens=True).partition("\n\n")[0]


def _masks(config, seen: Tensor, distance: Tensor) -> Tensor | dict[str, Tensor]:
    """What each query (Q) sees of keys (K), (1, 1, Q, K); by kind of layer where some have a window."""
    seen = seen[None, None]
    if "sliding_attention" not in (getattr(config, "layer_types", None) or ()):
        return seen
    return {"full_attention": seen, "sliding_attention": seen & (distance < config.sliding_window)}


@functools.cache
def neutral(lm: LM, names: tuple[str, ...], graph: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where no student is described: log-likelihoods of names as a plan's first line, and log-odds of yes, (n,)."""
    nobody = Reading(lm, example(graph))
    return nobody.more(PLAN).likelihood(_lines(names)), _odds(nobody, names)


def choose(reading: Reading, plain: np.ndarray, names: Sequence[str], count: int, picks: int) -> list[int]:
    """``count`` of the names in an order: those that the reading makes most likelier than they are at first, ``plain``.

    ``picks`` are taken at a time; then the model reads its plan so far and the others are weighed anew.
    """
    lines, left, chosen = _lines(names), list(range(len(names))), []
    while len(chosen) < min(count, len(names)):
        gain = reading.likelihood([lines[i] for i in left]) - plain[left]
        best = [left[i] for i in np.argsort(-gain, kind="stable")[: min(picks, count - len(chosen))]]
        chosen += best
        left = [i for i in left if i not in best]
        reading = reading.more("".join(lines[i] for i in best))
    return chosen


def known(reading: Reading, plain: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """P(known) of each name, (n,): the odds of yes over no, over the ``plain`` odds."""
    return expit(_odds(reading, names) - plain)


def fewest(student: Student, believed: np.ndarray) -> np.ndarray:
    """Mastery (N,) that takes as weak as many relevant topics as truly are, those of the lowest ``believed``."""
    relevant, found = np.array(student.relevant), np.ones(len(believed))
    count = int((~student.known[relevant]).sum())
    found[relevant[np.argsort(believed[relevant], kind="stable")[:count]]] = 0
    return found


def _lines(names: Sequence[str]) -> list[str]:
    return [f"{name}\n" for name in names]


def _odds(reading: Reading, names: Sequence[str]) -> np.ndarray:
    return reading.odds([ASK.format(name) for name in names], " yes", " no")


# --- rows -------------------------------------------------------------------------------------------------------------


def model(config: dict) -> LM:
    return load(config["model"], "auto", config.get("dtype", "float32"))


def about(lm: LM) -> dict:
    return {"device": str(next(lm.model.parameters()).device.type)}


def students(lm: LM, config: dict) -> dict[str, tuple[Student, Student]]:
    """The students of a run by name, each with the one that comes next."""
    cohort = learners.cohort(classes.course(config), config["n_students"] + 1, config["seed"])
    return {student.name: (student, other) for student, other in itertools.pairwise(cohort)}


def measure(lm: LM, unit: tuple[Student, Student], config: dict) -> Row:
    student, other = unit
    course, fit = classes.course(config), classes.fitted(config)
    graph, menu = course.graph, classes.luck(student, config, 4).permutation(student.relevant).tolist()
    mastery, weak, planner = planning.planned(graph, student, fit, "asked")
    ways = planning.ways(graph, student, mastery, weak, "asked", classes.luck(student, config, 3))
    sequences = {way: ways[way] for way in ("planner", "random topics", "weak only", "everything")}
    diagnoses = {way: diagnosis.mastery(way, graph, student, fit) for way in DIAGNOSES}
    names, place = [course.names[v] for v in menu], {name: i for i, name in enumerate(course.names)}
    for arm, there in {"": True, ", no graph": False}.items():
        prompt = example(there) + facts(course, student, menu, there)
        reading, plain = Reading(lm, prompt), neutral(lm, course.names, there)
        lines, odds = (of[[place[name] for name in names]] for of in plain)
        planned = reading.more(PLAN)
        sequences[f"constrained{arm}"] = [menu[i] for i in choose(planned, lines, names, len(planner), config["picks"])]
        diagnoses[f"yes or no{arm}"] = np.full(len(graph), 0.5)
        diagnoses[f"yes or no{arm}"][menu] = known(reading, odds, names)
        if there:
            stated, shown, tokens = results(course, prompt), prompt + PLAN, len(planned.ids)
            reply = planned.write(config["most_tokens"])
            sequences["free"], kept = parsed(course, reply)
    references = planning.by_truth(graph, student, "asked")
    found = {arm: diagnosed.found(student, values) for arm, values in diagnoses.items()}
    asked, counted = found["yes or no"], diagnosed.found(student, fewest(student, diagnoses["yes or no"]))
    found["yes or no, true count"] = replace(counted, brier=asked.brier)
    return Row(
        student=student.name,
        profile=student.profile,
        topics=len(menu),
        tokens=tokens,
        facts_match=stated == given(student),
        facts_other=stated == given(other),
        plans={
            arm: planning.score(graph, student, mastery, weak, sequence, "asked", references)
            for arm, sequence in sequences.items()
        },
        diagnoses=found,
        format={"free": kept},
        prompt=shown if student.name.endswith(" 0") else "",
        reply=reply[:300],
    )


EXPERIMENT = Experiment("students", Row, students, measure, model=model, about=about)
run = EXPERIMENT.run
