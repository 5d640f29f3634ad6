"""Drawings of errors with their intervals: per class, per network, and the table of confusions."""

from __future__ import annotations

import numpy as np
import torch

from theorylens.results import Cell, Intervals, Message, Table, Wall

from ._evidence import Evidence
from ._holdout import HoldoutBound, one_bound, samples

CLASSES_IN_TABLE = 20  # beyond that a table of counts cannot be read
CLASSES_IN_FOREST = 60


def class_errors(found: Evidence, delta: float) -> Intervals | None:
    """Error of each class with two-sided intervals that hold for all classes at once; None without classes."""
    classes = found.answers.classes
    if classes is None or not 2 <= (n := len(present := torch.unique(classes).tolist())) <= CLASSES_IN_FOREST:
        return None
    values, lower, upper = np.zeros(n), np.zeros(n), np.ones(n)
    for i, label in enumerate(present):
        rows = (classes == label).numpy()
        sample = samples(
            found.answers.errors.numpy()[rows], units=found.units[rows], binary=found.answers.binary,
            copies=None if found.copies is None else found.copies[rows], error_range=found.error_range,
        )[-1]  # fmt: skip
        values[i] = sample.mean
        lower[i] = one_bound(sample, delta / (2 * n), side="lower")
        upper[i] = one_bound(sample, delta / (2 * n))
    low, high = found.error_range
    text = "Error of each class; the intervals hold for all {n} classes at once with {level:.4g} confidence"
    mean = float(found.answers.errors.mean())
    return Intervals(
        label=Message("TL101.classes", text, n=n, level=1 - delta), names=tuple(str(c) for c in present),
        values=low + (high - low) * values, lower=low + (high - low) * lower, upper=low + (high - low) * upper,
        x_name=Message("axis.error", "error"), walls=(Wall(at=mean, name=Message("wall.all", "all classes")),),
    )  # fmt: skip


def error_forest(found: Evidence, bound: HoldoutBound) -> Intervals:
    """One line: the measured error, the bound, and the trivial level as a wall."""
    return Intervals(
        label=Message("TL101.one", "Measured error, its upper bound, and the error of a guess that ignores the input"),
        names=(Message("name.test", "test"),), values=np.array([bound.empirical]), lower=np.array([bound.empirical]),
        upper=np.array([bound.bound]), x_name=Message("axis.error", "error"), roles=("network",),
        walls=(Wall(at=found.trivial, name=Message("wall.trivial", "trivial level")),),
    )  # fmt: skip


def confusion(found: Evidence) -> Table | None:
    """Rows: true class; columns: class answered; counts of rows as given. None without classes or with too many."""
    classes, predicted = found.answers.classes, found.answers.predicted
    if classes is None or predicted is None:
        return None
    size = int(max(classes.max(), predicted.max())) + 1
    if not 2 <= size <= CLASSES_IN_TABLE or int(classes.min()) < 0:
        return None
    counts = torch.bincount(classes * size + predicted, minlength=size * size).reshape(size, size)
    heads = tuple(Message("TL101.answered", "answered {label}", label=i) for i in range(size))
    rows: tuple[tuple[Cell, ...], ...] = tuple((str(i), *(int(c) for c in counts[i])) for i in range(size))
    return Table(
        label=Message("TL101.confusion", "How often each true class received each answer"),
        columns=(Message("TL101.true_class", "true class"), *heads), rows=rows,
    )  # fmt: skip
