"""Sharpness while a network trains: a few warm-started products at each look, beside the limit of stable steps.

Method   Rayleigh-Ritz in the Krylov space of the last look's eigenvector: 3 products, with the residual of the result
Source   Cohen, Kaur, Li, Kolter, Talwalkar (2021), ICLR (edge of stability); Cohen et al. (2022), Adaptive gradient
         methods at the edge of stability, arXiv:2207.14484; Parlett (1998), chapter 12
Assumes  the curvature changes slowly between looks; the first look takes more products
Breaks   where two eigenvalues cross between looks the value is late until the residual comes down again
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from theorylens.core import RefusedError, Task, objective, rng_for
from theorylens.numerics.operator import Operator
from theorylens.results import Curve, Line, Message

from ._cubic_step import krylov
from ._preconditioning import Decayed, decay_in_gradient, limit_of, preconditioned, preconditioner
from ._stability import stability_limit

FIRST = 20  # products of the first look: from a random start to a per cent


class SharpnessTracker:
    """The largest Hessian eigenvalue of a loss as training goes on.

    A callback of `training.fit`, or of any loop: ``tracker(step, model, {"lr": 0.1})``.

    Parameters
    ----------
    data, loss
        Where the loss is taken; the rows of full-batch steps for the edge of stability.
    every
        Steps between looks.
    products
        Hessian products a look takes, at least 2.
    batch_size
        Bounds memory.
    optimizer
        The one that trains: torch's SGD, Adam or AdamW. Then rates and limits are read off it, and for Adam the
        sharpness is that of the preconditioned Hessian, which is what its limit is about (with the weight decay that
        Adam, unlike AdamW, counts as part of the loss); looks before its first step are passed over. None: the Hessian
        itself, and the rate that the loop says.

    Attributes
    ----------
    steps, values, residuals, lrs, limits
        One entry a look: an eigenvalue lies within the residual of each value, and a value is never above the largest
        one. The learning rate is NaN where the loop did not say it, and so is the limit.

    >>> net, rows = nn.Linear(2, 1, bias=False), (torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))
    >>> tracker = SharpnessTracker(rows, "mse")  # the Hessian is 2 X'X / n
    >>> tracker(0, net, {"lr": 0.5})
    >>> round(tracker.values[0], 5), tracker.steps
    (4.0, [0])
    """

    def __init__(
        self,
        data: Any,
        loss: Any,
        *,
        every: int = 1,
        products: int = 3,
        seed: int = 0,
        batch_size: int = 256,
        optimizer: Optimizer | None = None,
    ) -> None:
        if every < 1 or products < 2:
            raise ValueError(f"every must be at least 1 and products at least 2, got {every} and {products}")
        if optimizer is not None:
            limit_of(optimizer)  # refuses the kinds of which no limit is known
        self._optimizer = optimizer
        self._data = data
        self._task = loss if isinstance(loss, Task) else Task(loss=loss)
        self._every, self._products, self._batch_size = every, products, batch_size
        self._generator = rng_for(seed, "landscape.sharpness_tracker")
        self._vector: Tensor | None = None
        self.steps: list[int] = []
        self.values: list[float] = []
        self.residuals: list[float] = []
        self.lrs: list[float] = []
        self.limits: list[float] = []

    def __call__(self, step: int, model: nn.Module, metrics: Mapping[str, float]) -> None:
        """Look, when the step is due."""
        if step % self._every:
            return
        goal = objective(model, self._data, self._task, batch_size=self._batch_size)
        if not np.isfinite(goal.value):
            raise RefusedError(f"the loss is {goal.value} at step {step}, so it has no curvature; lower the steps")
        hessian: Operator = goal.hessian()
        lr = float(metrics.get("lr", float("nan")))
        limit = stability_limit(lr) if lr > 0 else float("nan")
        if self._optimizer is not None:
            lr, limit = limit_of(self._optimizer)
            scale = preconditioner(self._optimizer, goal.parameters.values())
            if scale is None:
                return
            if decay := decay_in_gradient(self._optimizer):
                hessian = Decayed(hessian, decay)
            hessian = preconditioned(hessian, scale)
        value, residual = self._look(hessian)
        self.steps.append(step)
        self.values.append(value)
        self.residuals.append(residual)
        self.lrs.append(lr)
        self.limits.append(limit)

    def _look(self, hessian: Operator) -> tuple[float, float]:
        start = self._vector
        if start is None or len(start) != hessian.size:
            start = torch.randn(hessian.size, generator=self._generator).to(hessian.device, hessian.dtype)
            taken = FIRST
        else:
            taken = self._products
        basis, images = krylov(hessian, start, taken, self._generator, second=False)
        small = (basis.double() @ images.double().T).cpu()
        values, columns = torch.linalg.eigh((small + small.T) / 2)
        top = columns[:, -1].to(basis.device)
        vector, image = top @ basis.double(), top @ images.double()
        self._vector = vector.to(hessian.dtype)
        return float(values[-1]), float(torch.linalg.vector_norm(image - values[-1] * vector))

    def curve(self, *, momentum: float = 0.0) -> Curve:
        """Sharpness over the steps, beside the stability limit: the optimiser's, or (2 + 2 momentum) / lr."""
        steps = np.array(self.steps, dtype=np.float64)
        limits = np.array(self.limits, dtype=np.float64)
        if self._optimizer is None:
            limits = np.array([stability_limit(lr, momentum) if lr > 0 else np.nan for lr in self.lrs])
        known = np.isfinite(limits)
        lines = [Line(x=steps, y=np.array(self.values), name=Message("landscape.tracker.sharpness", "sharpness"))]
        if known.any():
            name = Message("landscape.tracker.limit", "stability limit")
            lines.append(Line(x=steps[known], y=limits[known], name=name, role="theory"))
        return Curve(
            label=Message("landscape.tracker", "Largest Hessian eigenvalue during training"),
            lines=tuple(lines),
            x_name=Message("landscape.tracker.x", "step"),
            y_name=Message("landscape.tracker.y", "largest eigenvalue"),
        )
