"""The two halves of a Hessian: Gauss-Newton, which the outputs' curvature makes, and the rest; and the Fisher matrix.

Method   products J' (d² loss / d outputs²) J v by backward passes only; exact traces from single examples' gradients
Source   Schraudolph (2002), Fast curvature matrix-vector products, Neural Comput. 14:1723; Martens (2020), New insights
         and perspectives on the natural gradient method, JMLR 21:146 (Gauss-Newton as the Fisher matrix)
Assumes  a loss that is a sum over examples of a function of that example's outputs
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import RefusedError, Task, objective
from theorylens.numerics.counting import count
from theorylens.numerics.memory import Batch, fitting, rows
from theorylens.numerics.objective import Objective, flatten
from theorylens.numerics.second import second_derivatives
from theorylens.results import Estimate, Exact


class _Summed(ABC):
    """An `Operator` whose products are sums over batches of `_product`, in float64, over `_divisor`."""

    def __init__(self, goal: Objective, task: Task) -> None:
        self.objective = goal
        self._task = task
        self._leaves = list(goal.parameters.values())

    @property
    def size(self) -> int:
        return self.objective.size

    @property
    def dtype(self) -> torch.dtype:
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        return self.objective.device

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        """The matrix times ``vector``, added over the batches in float64."""
        direction = self.objective.unflatten(vector.to(self.device))
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        with second_derivatives(), torch.enable_grad():
            for batch in self.objective.on_device():
                for piece in fitting(lambda b: self._product(b, direction), batch):
                    total += piece
                count(hvps=rows(batch))
        return (total / self._divisor).to(self.dtype)

    def __matmul__(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self.matvec(vector)

    @property
    def _divisor(self) -> float:
        return 1.0

    @abstractmethod
    def _product(self, batch: Batch, direction: list[Tensor]) -> Tensor:
        """Share of one batch."""


class GaussNewton(_Summed):
    """Products with J'HJ over all data: J the Jacobian of the outputs, H the Hessian of the loss in the outputs.

    An `Operator`. For softmax with cross-entropy, and for squared loss, it is the Fisher matrix (for squared loss of
    unit variance, times 2 over the outputs averaged). It is the Hessian less the part of the outputs' own curvature.
    """

    def _product(self, batch: Batch, direction: list[Tensor]) -> Tensor:
        outputs, targets = self._task.forward(self.objective.model, batch)
        moved = pushed(outputs, self._leaves, direction)
        free = outputs.detach().requires_grad_()
        values, weights = self._task.losses(free, targets)
        slope = torch.autograd.grad((values * weights).sum() / self.objective.denominator, free, create_graph=True)[0]
        bent = (
            torch.autograd.grad(slope, free, grad_outputs=moved)[0]
            if slope.requires_grad
            else torch.zeros_like(outputs)
        )
        back = torch.autograd.grad(outputs, self._leaves, bent, allow_unused=True, materialize_grads=True)
        return flatten(back)


class EmpiricalFisher(_Summed):
    """Products with the mean of g_i g_i' over the examples, g_i the gradient of example i's own loss. An `Operator`.

    It is no approximation of the Hessian or of the Fisher matrix in general: at a perfect fit it vanishes.
    """

    @property
    def _divisor(self) -> float:
        return self.objective.examples

    def _product(self, batch: Batch, direction: list[Tensor]) -> Tensor:
        each = example_losses(self.objective, self._task, batch)
        along = pushed(each, self._leaves, direction)
        back = torch.autograd.grad(each, self._leaves, along, allow_unused=True, materialize_grads=True)
        return flatten(back)


def gauss_newton(model: nn.Module, data: Any, loss: Any, *, batch_size: int = 256) -> GaussNewton:
    """The Gauss-Newton matrix of a loss as an operator; see `GaussNewton`. Errors are those of `eigenvalues`."""
    return GaussNewton(*_settled(model, data, loss, batch_size))


def empirical_fisher(model: nn.Module, data: Any, loss: Any, *, batch_size: int = 256) -> EmpiricalFisher:
    """The second moment of the examples' gradients as an operator; see `EmpiricalFisher`."""
    return EmpiricalFisher(*_settled(model, data, loss, batch_size))


def gauss_newton_trace(model: nn.Module, data: Any, loss: Any, *, batch_size: int = 64) -> Estimate:
    """The trace of the Gauss-Newton matrix, exactly: one backward pass for each example and output.

    For networks that are piecewise linear in every single parameter (ReLU, convolutions, pooling, evaluation-mode
    batch normalisation, sums; no parameter used twice, no product of two activations) it is the trace of the Hessian.

    Raises
    ------
    RefusedError
        Outputs that are not one row of numbers for each example.
    """
    goal, task = _settled(model, data, loss, batch_size)
    total = math.fsum(
        value for batch in goal.on_device() for value in fitting(lambda b: _trace_of(goal, task, b), batch)
    )
    return Estimate(value=total, uncertainty=Exact())


def _trace_of(goal: Objective, task: Task, batch: Batch) -> float:
    """Share of a batch: sum over examples n and factors s of |J_n' s|², where the s s' add up to H_n."""
    leaves = list(goal.parameters.values())
    with second_derivatives(), torch.enable_grad():
        outputs, targets = task.forward(goal.model, batch)
        if not isinstance(outputs, Tensor) or outputs.ndim > 2 or len(outputs) != rows(batch):
            raise RefusedError(
                "the exact trace needs one row of outputs for each example, shape (n, outputs) or (n,); "
                "for others use the stochastic trace"
            )
        factors = _factors(goal, task, outputs.detach(), targets)
        total = 0.0
        flat = outputs.reshape(len(outputs), -1)
        for n in range(len(flat)):
            for factor in factors[n]:
                slopes = torch.autograd.grad(
                    flat[n], leaves, factor.to(flat.dtype), retain_graph=True, allow_unused=True
                )
                total += sum(float(s.double().square().sum()) for s in slopes if s is not None)
        count(gradients=rows(batch) * factors.shape[1])
    return total


def _factors(goal: Objective, task: Task, outputs: Tensor, targets: Any) -> Tensor:
    """For each example vectors whose outer products add up to the Hessian of its loss in its outputs, (n, k, k)."""
    free = outputs.requires_grad_()
    values, weights = task.losses(free, targets)
    slope = torch.autograd.grad((values * weights).sum() / goal.denominator, free, create_graph=True)[0]
    flat = slope.reshape(len(slope), -1)
    if not flat.requires_grad:
        return torch.zeros(len(flat), 1, flat.shape[1], dtype=torch.float64)
    lines = [
        torch.autograd.grad(flat[:, j].sum(), free, retain_graph=True)[0].reshape(len(flat), -1)
        for j in range(flat.shape[1])
    ]
    hessians = torch.stack(lines, 1).detach().double()
    values, axes = torch.linalg.eigh((hessians + hessians.mT) / 2)
    if bool((values < -1e-6 * values.abs().max()).any()):
        raise RefusedError(
            "the loss is not convex in the outputs, so its Gauss-Newton matrix has no squares to add up; "
            "use the stochastic trace of gauss_newton(...)"
        )
    factors: Tensor = (axes * values.clamp(min=0).sqrt()[:, None, :]).mT
    return factors


def pushed(values: Tensor, leaves: Sequence[Tensor], direction: Sequence[Tensor]) -> Tensor:
    """The derivative of ``values`` along a direction of the parameters, by backward passes alone, detached.

    J'u is linear in u: the derivative of (J'u) . v in u is J v. Forward mode has gaps that backward has not.
    """
    dummy = torch.zeros_like(values, requires_grad=True)
    slopes = torch.autograd.grad(
        values, leaves, dummy, create_graph=True, allow_unused=True
    )  # fmt: skip
    inner = [(s, v.to(s.dtype)) for s, v in zip(slopes, direction, strict=True) if s is not None and s.requires_grad]
    if not inner:
        return torch.zeros_like(values)
    found = torch.autograd.grad(
        [s for s, _ in inner], dummy, [v for _, v in inner], retain_graph=True, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    return found[0].detach()


def example_losses(goal: Objective, task: Task, batch: Batch) -> Float[Tensor, "n"]:
    """Loss of each example, scaled so that their mean over all examples is the whole loss."""
    outputs, targets = task.forward(goal.model, batch)
    values, weights = task.losses(outputs, targets)
    if values.ndim == 0:
        raise RefusedError("the loss gives one number for a batch; return one for each example")
    each = values * weights
    return each.reshape(len(each), -1).sum(1) * (goal.examples / goal.denominator)


def _settled(model: nn.Module, data: Any, loss: Any, batch_size: int) -> tuple[Objective, Task]:
    """The objective, and the task as the objective uses it."""
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    task = getattr(goal.loss, "__self__", None)
    if not isinstance(task, Task) or not task.per_example:
        raise RefusedError("the loss gives one number for a batch; return one for each example")
    return goal, task
