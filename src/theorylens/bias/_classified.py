"""Classes of rows and what the network answers on them, for probes that compare the two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theorylens.core import Subject, UnsuitableError
from theorylens.results import Message


@dataclass(frozen=True, kw_only=True, eq=False)
class Classified:
    """Rows with a class.

    Attributes
    ----------
    rows
        Their numbers in the split, shape (n,).
    labels, answers
        Shape (n,).
    probabilities
        Softmax (or sigmoid) of the outputs, shape (n, K).
    kept
        Which of the chosen rows these are (those without a class are left out).
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    probabilities: Tensor
    kept: Tensor

    @property
    def classes(self) -> int:
        return int(self.probabilities.shape[1])


def classified(subject: Subject, role: str, limit: int, code: str) -> Classified:
    """The rows of ``split(role).subset(limit)`` that have a class.

    Raises
    ------
    UnsuitableError
        When the task is no classification with one class per row.
    """
    task = subject.judged
    if task.kind != "classification":
        text = "the question is about classes; this task is no classification"
        raise UnsuitableError(Message(f"{code}.unsuitable", text))
    outputs, targets = subject.predictions(role, limit=limit)
    single = outputs.numel() == targets.numel() == len(targets)
    if targets.is_floating_point() and not single:
        text = "the targets are shares of classes, not one class per example"
        raise UnsuitableError(Message(f"{code}.soft", text))
    logits = outputs.double()
    if single:
        flat = logits.reshape(-1)
        labels = (targets.reshape(-1) > 0.5).long()
        probabilities = torch.stack([torch.sigmoid(-flat), torch.sigmoid(flat)], 1)
    else:
        labels, probabilities = targets.reshape(-1).long(), torch.softmax(logits.reshape(len(targets), -1), 1)
    kept = labels >= 0
    rows = subject.split(role).subset(limit)[kept]
    return Classified(
        rows=rows.numpy(), labels=labels[kept].numpy(), answers=probabilities[kept].argmax(1).numpy(),
        probabilities=probabilities[kept], kept=kept,
    )  # fmt: skip
