"""Loss and error of a network over batches, while it trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from theorylens.core import Task
from theorylens.numerics.memory import Batch, fitting, rows, to_device


def judge(model: nn.Module, task: Task, batches: Iterable[Batch], device: torch.device, role: str) -> dict[str, float]:
    """Loss and, where the task has one, error over ``batches``, from one pass."""

    def on(piece: Batch) -> tuple[float, float, float]:
        answer = task.forward(model, piece)
        total, weight = replace(task, forward=lambda m, b: answer).loss_sum(model, piece)
        wrong = 0.0
        if task.error is not None:
            wrong = float(task.error(*answer).double().reshape(rows(piece), -1).mean(1).sum())
        return float(total.double()), float(weight.double()), wrong

    sums, n = np.zeros(3), 0
    for batch in batches:
        for found in fitting(on, to_device(batch, device)):
            sums += found
        n += rows(batch)
    result = {f"{role}_loss": float(sums[0] / sums[1] if task.mean else sums[0])}
    return result | ({f"{role}_error": float(sums[2] / n)} if task.error is not None else {})
