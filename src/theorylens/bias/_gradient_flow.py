"""Gradient flow: where would training go with infinitely small steps, and how far from it do real steps lead?

Method   explicit Runge-Kutta of order 8 (DOP853) with control of the local error; solved again at a hundredth of the
         tolerance, the difference being the estimate of the error
Source   Hairer, Nørsett, Wanner (1993), Solving Ordinary Differential Equations I; Barrett, Dherin (2021), ICLR (the
         modified flow); Elkabetz, Cohen (2021), NeurIPS
Assumes  a gradient that is continuous along the path; kinks of ReLU cost accuracy, which the error estimate shows
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.core import Split, Task, objective
from theorylens.numerics.objective import flatten
from theorylens.results import Curve, Line, Message

from ._implicit_regulariser import check_lr

Floats = NDArray[np.float64]
Gradient = Callable[[Tensor], Tensor]
"""Gradient of a loss at a point: shape (p,) in, shape (p,) out, float64."""
Product = Callable[[Tensor, Tensor], Tensor]
"""``product(point, vector)``: Hessian at the point times the vector."""
GROWN = 1e6  # a gradient this many times the first one will not come back: steps are too large
MOST = 20_000  # evaluations of the gradient


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """Points of a trajectory.

    Attributes
    ----------
    times
        Shape (k,); for steps of size η these are η times the number of steps.
    points
        Shape (k, p), float64.
    error
        Estimate of the largest distance to the true trajectory; 0 for steps, which are what they are.
    evaluations
        Gradients taken.
    """

    times: Floats
    points: Floats
    error: float
    evaluations: int

    @property
    def end(self) -> Floats:
        return np.asarray(self.points[-1])


def gradient_flow(
    gradient: Gradient, start: Tensor | Floats | float, time: float, *, points: int = 50, tolerance: float = 1e-8
) -> Trajectory:
    """Solve dθ/dt = -gradient(θ) from ``start`` to ``time``, at ``points`` + 1 equal times.

    Parameters
    ----------
    gradient
        Takes and gives a float64 tensor of shape (p,); `model_gradient` makes one of a model.
    start
        Shape (p,), or a number.
    tolerance
        Of the local error, relative to the size of the point.

    Raises
    ------
    ValueError
        A time or tolerance that is not positive, a start or gradient that is not finite, or a flow so stiff that
        20,000 gradients do not reach the end.

    >>> round(float(gradient_flow(lambda x: x, 1.0, 1.0).end[0]), 9)
    0.367879441
    """
    first = _point(start)
    for name, value in (("time", time), ("tolerance", tolerance)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    times = np.linspace(0.0, time, points + 1)
    rough, taken = _solve(gradient, first, times, tolerance)
    fine, more = _solve(gradient, first, times, tolerance / 100)
    error = float(np.linalg.norm(fine - rough, axis=1).max())
    return Trajectory(times=times, points=fine, error=error, evaluations=taken + more)


def _solve(gradient: Gradient, first: Floats, times: Floats, tolerance: float) -> tuple[Floats, int]:
    taken = 0

    def slope(t: float, point: Floats) -> Floats:
        nonlocal taken
        taken += 1
        if taken > MOST:
            raise ValueError(
                f"{MOST:,} gradients led only to time {t:.3g} of {times[-1]:.3g}: the flow is stiff; "
                "ask for a shorter time or a larger tolerance"
            )
        return -_slope(gradient, point, f"at time {t:.3g}")

    scale = max(1.0, float(np.abs(first).max()))
    relative = max(tolerance, 100 * float(np.finfo(np.float64).eps))
    found = solve_ivp(
        slope, (0.0, times[-1]), first, method="DOP853", t_eval=times, rtol=relative, atol=tolerance * scale
    )
    if not found.success:
        raise ValueError(f"the flow could not be followed to time {times[-1]:.3g}: {found.message}")
    return np.asarray(found.y.T, dtype=np.float64), taken


def gradient_descent(gradient: Gradient, start: Tensor | Floats | float, lr: float, steps: int) -> Trajectory:
    """Plain steps θ - lr gradient(θ): the explicit Euler method for `gradient_flow`.

    Raises
    ------
    ValueError
        A learning rate that is not positive; a gradient that is not finite or has grown a million times.

    >>> round(float(gradient_descent(lambda x: x, 1.0, 0.01, 100).end[0]), 10)
    0.3660323413
    """
    check_lr(lr)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    path = [_point(start)]
    largest = math.inf
    for step in range(steps):
        slope = _slope(gradient, path[-1], f"at step {step}")
        norm = float(np.linalg.norm(slope))
        if step == 0:
            largest = GROWN * norm
        if norm > largest:
            raise ValueError(
                f"steps of size {lr:g} diverge: after {step} of them the gradient is {norm:.3g}, "
                f"{GROWN:.0e} times the first; lower lr below 2 over the largest curvature"
            )
        path.append(path[-1] - lr * slope)
    return Trajectory(
        times=lr * np.arange(steps + 1, dtype=np.float64), points=np.stack(path), error=0.0, evaluations=steps
    )


def modified_gradient(gradient: Gradient, lr: float, product: Product | None = None) -> Gradient:
    """Gradient of L + (lr/4) |∇L|², whose flow follows steps of size ``lr`` to second order.

    ``product`` gives the Hessian product; by default ``gradient`` is differentiated, so it must be made of torch
    operations.
    """
    check_lr(lr)

    def differentiated(point: Tensor, vector: Tensor) -> Tensor:
        with torch.enable_grad():
            at = point.detach().requires_grad_()
            slope = gradient(at)
            if not slope.requires_grad:
                raise ValueError("the gradient cannot be differentiated; make it of torch operations or give product=")
            return torch.autograd.grad(slope, at, grad_outputs=vector)[0]  # the Hessian is symmetric

    times = product or differentiated

    def modified(point: Tensor) -> Tensor:
        slope = gradient(point)
        return slope + lr / 2 * times(point, slope)

    return modified


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowComparison:
    """Steps beside the two flows at the same times."""

    descent: Trajectory
    flow: Trajectory
    modified: Trajectory

    @property
    def distances(self) -> tuple[Floats, Floats]:
        """Distance of the steps from the flow and from the modified flow at each time."""
        return (
            np.linalg.norm(self.descent.points - self.flow.points, axis=1),
            np.linalg.norm(self.descent.points - self.modified.points, axis=1),
        )

    def curve(self) -> Curve:
        """The distances over time."""
        plain, modified = self.distances
        names = (
            Message("gradient_flow.plain", "from gradient flow"),
            Message("gradient_flow.modified", "from the flow of the modified loss"),
        )
        return Curve(
            label=Message("gradient_flow.figure", "How far real steps lead away from infinitely small ones"),
            lines=(
                Line(x=self.flow.times, y=plain, name=names[0]),
                Line(x=self.flow.times, y=modified, name=names[1], role="theory"),
            ),
            x_name=Message("gradient_flow.time", "learning rate times steps"),
            y_name=Message("gradient_flow.distance", "distance in the weights"),
        )


def flow_comparison(
    gradient: Gradient,
    start: Tensor | Floats | float,
    lr: float,
    steps: int,
    *,
    product: Product | None = None,
    tolerance: float = 1e-8,
) -> FlowComparison:
    """Gradient descent, gradient flow, and the flow of the modified loss over ``steps`` steps of size ``lr``.

    Parameters and errors are those of `gradient_descent`, `gradient_flow` and `modified_gradient`.
    """
    descent = gradient_descent(gradient, start, lr, steps)
    flow = gradient_flow(gradient, start, lr * steps, points=steps, tolerance=tolerance)
    modified = modified_gradient(gradient, lr, product)
    second = gradient_flow(modified, start, lr * steps, points=steps, tolerance=tolerance)
    return FlowComparison(descent=descent, flow=flow, modified=second)


class ModelGradient:
    """The gradient of a model's loss as a function of its weights, and its Hessian products; a float64 copy is used.

    Attributes
    ----------
    start
        The weights of the model, flat, float64.
    """

    def __init__(self, model: nn.Module, data: Any, loss: Any) -> None:
        self._model = copy.deepcopy(model).double()
        self._task = loss if isinstance(loss, Task) else Task(loss=loss)
        self._objective = objective(self._model, _double(data), self._task)
        self.start = flatten(self._objective.parameters.values()).detach().clone()

    def __call__(self, point: Tensor) -> Tensor:
        self._move(point)
        return self._objective.gradient()

    def product(self, point: Tensor, vector: Tensor) -> Tensor:
        self._move(point)
        return self._objective.hessian(memory=0) @ vector

    def _move(self, point: Tensor) -> None:
        with torch.no_grad():
            for p, piece in zip(
                self._objective.parameters.values(), self._objective.unflatten(point.to(self.start)), strict=True
            ):
                p.copy_(piece)


def model_gradient(model: nn.Module, data: Any, loss: Any) -> ModelGradient:
    """``model``'s loss gradient as `gradient_flow` takes it, with ``.start`` and ``.product``; the model is copied.

    ``data`` is ``(inputs, targets)`` tensors, a dataset or a loader; floating-point inputs are used in float64.
    """
    return ModelGradient(model, data, loss)


def _double(data: Any) -> Any:
    split = Split.of(data)
    batch = split.take(range(len(split)))
    return pytree.tree_map(
        lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, batch
    )


def _point(start: Tensor | Floats | float) -> Floats:
    values = start.detach().cpu().numpy() if isinstance(start, Tensor) else start
    point = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if point.ndim != 1 or not np.isfinite(point).all():
        raise ValueError(f"the start must be finite numbers of shape (p,), got shape {point.shape}: {point!r:.60}")
    return point


def _slope(gradient: Gradient, point: Floats, when: str) -> Floats:
    found = gradient(torch.from_numpy(point.copy()))
    slope = np.asarray(found.detach().cpu() if isinstance(found, Tensor) else found, dtype=np.float64)
    if slope.shape != point.shape:
        raise ValueError(f"the gradient has shape {slope.shape} for a point of shape {point.shape}")
    if not np.isfinite(slope).all():
        raise ValueError(f"the gradient is not finite {when}; look for overflow in the loss or start elsewhere")
    return slope
