"""The students of a run, and the diagnosis fitted to others."""

import functools
from typing import Any

import numpy as np

from claimbook.experiments.graphmasal import diagnosis, learners
from claimbook.experiments.graphmasal.diagnosis import Fit
from claimbook.experiments.graphmasal.learners import Student
from claimbook.experiments.graphmasal.topics import SHARE, Course, load

TRAINING = 40  # students whose answers the diagnosis is fitted to, none of whom is in a run


def course(config: dict) -> Course:
    """The graph that a config names: its ``level``, and the ``share`` from which citing is an edge."""
    return load(config["level"], config.get("share", SHARE))


def fitted(config: dict) -> Fit:
    """The rates of the diagnosis, fitted to the answers of `TRAINING` other students of the same graph and seed."""
    return _fitted(config["level"], config.get("share", SHARE), config["seed"])


def true_rates(config: dict) -> Fit:
    there, training = _training(config["level"], config.get("share", SHARE), config["seed"])
    return diagnosis.true_rates(there.graph, training)


def average(config: dict) -> np.ndarray:
    """Mastery (N,) of the average learner: what most of the other students know who need it."""
    there, training = _training(config["level"], config.get("share", SHARE), config["seed"])
    needed = np.array([np.isin(np.arange(len(there.graph)), student.relevant) for student in training])
    known = np.array([student.known for student in training])
    return np.where(2 * (known & needed).sum(axis=0) > needed.sum(axis=0), 0.95, 0.05)


def students(model: Any, config: dict) -> dict[str, Student]:
    """The first ``n_students`` of the cohort of a seed, by name."""
    return {student.name: student for student in learners.cohort(course(config), config["n_students"], config["seed"])}


def luck(student: Student, config: dict, use: int) -> np.random.Generator:
    """Random numbers of a student's own, for one ``use``."""
    return np.random.default_rng([config["seed"], use, *map(ord, student.name)])


@functools.cache
def _training(level: str, share: float, seed: int) -> tuple[Course, list[Student]]:
    there = load(level, share)
    return there, learners.cohort(there, TRAINING, 1000 + seed)


@functools.cache
def _fitted(level: str, share: float, seed: int) -> Fit:
    there, training = _training(level, share, seed)
    return diagnosis.fit(there.graph, training, seed)
