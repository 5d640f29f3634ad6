"""The trivial level: what the best answer that ignores the input would score on the same rows.

A bound at or above it says nothing. The level is computed from the very rows it is compared with, which favours the
guess: it has seen their labels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theorylens.core import Task, zero_one
from theorylens.results import Message

from ._answers import IGNORED, Answers

LEVELS = tuple(i / 20 for i in range(1, 20))  # quantiles of the targets tried as constant answers


def trivial_level(task: Task, answers: Answers, units: NDArray[np.int64]) -> tuple[float, Message]:
    """Smallest mean error of a constant answer, units weighing alike, and what was tried.

    Exact for the 0-1 error (one minus the largest class share). For an error of one's own it is the best of: the class
    frequencies as outputs, or the mean and quantiles of the targets. Where no constant can be tried it is the top of
    the error's range.
    """
    weights = 1 / np.bincount(units)[units] / len(np.unique(units))
    assert task.error is not None
    if task.error is zero_one and answers.labels is not None:
        level = _per_column(answers, weights) if answers.columns else _majority(answers, weights)
        return level, Message("trivial.majority", "a guess that ignores the input")
    candidates, targets = _constants(answers)
    if targets is None:
        return task.error_range[1], Message("trivial.range", "the largest possible error")
    levels = []
    for outputs in candidates:
        error = task.error(outputs.expand(len(targets), *outputs.shape), targets).double().reshape(len(targets), -1)
        levels.append(float(torch.as_tensor(weights) @ error.mean(1)))
    return min(levels), Message("trivial.constant", "the best constant answer tried")


def _majority(answers: Answers, weights: NDArray[np.float64]) -> float:
    """One minus the largest share of a class; a token weighs what its row weighs, divided by its row's tokens."""
    assert answers.labels is not None
    counted = answers.labels != IGNORED
    share = torch.as_tensor(weights)[:, None] / counted.sum(1, keepdim=True)
    classes = answers.labels[counted]
    mass = torch.bincount(classes, weights=share.expand_as(answers.labels)[counted])
    return max(0.0, 1.0 - float(mass.max())) if len(mass.nonzero()) > 1 else 0.0


def _per_column(answers: Answers, weights: NDArray[np.float64]) -> float:
    assert answers.labels is not None
    yes = torch.as_tensor(weights) @ answers.labels.double()
    return max(0.0, float(torch.minimum(yes, 1 - yes).mean()))


def _constants(answers: Answers) -> tuple[list[Tensor], Tensor | None]:
    if answers.classes is not None and not answers.columns:
        frequency = torch.bincount(answers.classes, minlength=answers.outputs).double() / len(answers.classes)
        return [frequency.float()], answers.classes
    if answers.targets is not None:
        real = answers.targets.double()
        quantiles = np.quantile(real.numpy(), LEVELS, axis=0)
        tried = [real.mean(0), *torch.as_tensor(quantiles)]
        return [t.to(answers.targets.dtype) for t in tried], answers.targets
    return [], None
