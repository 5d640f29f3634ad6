"""Linear stability: would SGD stay at this minimum, or do single examples curve too unlike each other for its steps?

Source   Wu, Ma, E (2018), How SGD selects the global minima in over-parameterized learning, NeurIPS
Assumes  a minimum of the loss of every single example (interpolation), and small distances from it
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.numerics.memory import part, rows
from theorylens.numerics.objective import MEMORY, Objective
from theorylens.numerics.operator import Derived
from theorylens.results import Estimate

from ._implicit_regulariser import check_batch, check_lr
from ._rescaled import largest_eigenvalue


def linear_stability(model: nn.Module, data: Any, loss: Any, *, lr: float, batch_size: int, seed: int = 0) -> Estimate:
    """Largest factor by which one step of SGD can grow the expected squared distance from an interpolating minimum.

    λmax of (I - η H)² + η² (n - B) / (B (n - 1)) (mean_i H_i² - H²). Up to 1, SGD stays where it is, to first order in
    the distance; above, some direction grows at first. Every loss must be at its minimum (∇L_i = 0), which the caller
    vouches for. One product takes two Hessian products per example: give a few hundred rows at most.
    """
    check_lr(lr)
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss))
    check_batch(batch_size, goal.examples)
    operator = _SecondMoment(goal, lr, batch_size)
    return largest_eigenvalue(operator, rng_for(seed, "bias.linear_stability"))


class _SecondMoment(Derived):
    """``(I - η H)² + η² c (mean_i H_i² - H²)``."""

    def __init__(self, goal: Objective, lr: float, batch_size: int) -> None:
        super().__init__(goal.hessian())
        self._lr, n = lr, goal.examples
        self._factor = (n - batch_size) / (batch_size * (n - 1)) if n > 1 else 0.0
        singles = [part(b, i, i + 1) for b in goal.on_device() for i in range(rows(b))]
        share = MEMORY // len(singles)
        self._each = [Objective(goal.model, [s], goal.loss, goal.mean).hessian(memory=share) for s in singles]

    def matvec(self, vector: Tensor, /) -> Tensor:
        once = self._operator.matvec(vector)
        twice = self._operator.matvec(once)
        kept = vector - 2 * self._lr * once + self._lr**2 * twice
        if self._factor == 0:
            return kept
        square = torch.stack([h @ (h @ vector) for h in self._each]).mean(0)
        return kept + self._lr**2 * self._factor * (square - twice)
