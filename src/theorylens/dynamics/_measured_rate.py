"""A run beside its guarantee: is the bound valid for it, and how much slower does it allow the run to be?

`measured_problem` takes the constants of a bound from a network and its data; for a loss that is quadratic in the
parameters (a linear model with squared loss) they are those of the theory, for anything else they hold near the
parameters they were taken at.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.landscape import both_ends
from theorylens.results import Curve, Line, Message

from ._rates import Bound, Form, Problem, Setting, convergence_bound

Floats = NDArray[np.float64]
TOLERANCE = 1e-6  # of the curvatures: rates are raised to the power of the step
FLAT = 1e-9  # share of the largest eigenvalue below which the smallest gives no strong convexity
ROUNDING = 1e-9  # share of the bound by which rounding may exceed it


@dataclass(frozen=True, kw_only=True, eq=False)
class ObservedRate:
    """A measured run against a guarantee.

    Attributes
    ----------
    measured, bounds
        What the guarantee bounds, and the bound, after 1, 2, ... T steps; shape (T,).
    bound
        The guarantee after the last step, with what it bounds and for which step size.
    """

    measured: Floats
    bounds: Floats
    bound: Bound

    @property
    def largest_share(self) -> float:
        """Largest ratio of measured to bound; above 1 the guarantee's conditions do not hold for this run."""
        return float((self.measured / self.bounds).max())

    @property
    def violated_at(self) -> int | None:
        """First step at which the run lies above the bound by more than rounding; None when it never does."""
        above = np.flatnonzero(self.measured > self.bounds * (1 + ROUNDING))
        return int(above[0]) + 1 if len(above) else None

    def curve(self) -> Curve:
        """The run with the guarantee as a theory line, both axes logarithmic."""
        steps = np.arange(1, len(self.measured) + 1, dtype=np.float64)
        drawn = self.measured > 0
        return Curve(
            label=Message("dynamics.rate", "What the run reached, and what its guarantee allows"),
            lines=(
                Line(x=steps[drawn], y=self.measured[drawn], name=Message("dynamics.rate.run", "run")),
                Line(x=steps, y=self.bounds, name=Message("dynamics.rate.bound", "guarantee"), role="theory"),
            ),
            x_name=Message("dynamics.rate.x", "step"),
            y_name=Message("dynamics.rate.y", "{quantity}", quantity=self.bound.quantity),
            x_log=True,
            y_log=True,
        )


def observed_rate(
    values: Sequence[float] | Floats, algorithm: str, setting: Setting, problem: Problem, *, form: Form = "classic"
) -> ObservedRate:
    """A run against `convergence_bound`.

    Parameters
    ----------
    values
        Shape (T + 1,): the bounded quantity after 0, 1, ... T steps. For ``"gd"`` without convexity the gradient norms
        |∇f(x_t)|: their running minimum is compared, over the iterates the bound names.

    Raises
    ------
    ValueError
        Fewer than 2 values, values that are negative or not numbers, and what `convergence_bound` refuses.
    """
    run = np.asarray(values, dtype=np.float64)
    if run.ndim != 1 or len(run) < 2:
        raise ValueError(f"a run needs its values at 0 and after at least 1 step, got shape {run.shape}")
    if not (np.isfinite(run).all() and (run >= 0).all()):
        at = int(np.flatnonzero(~(np.isfinite(run) & (run >= 0)))[0])
        raise ValueError(f"the bounded quantity is never negative and always a number; at step {at} it is {run[at]}")
    found = [convergence_bound(algorithm, setting, t, problem, form=form) for t in range(1, len(run))]
    if algorithm == "gd" and setting == "nonconvex":
        lowest = np.minimum.accumulate(run)
        measured = lowest[1:] if form == "tight" else lowest[:-1]
    else:
        measured = run[1:]
    return ObservedRate(measured=measured, bounds=np.array([b.value for b in found]), bound=found[-1])


def measured_problem(
    model: nn.Module, data: Any, loss: Any, *, solution: Mapping[str, Tensor] | None = None, batch_size: int = 256
) -> Problem:
    """The constants of a bound, measured: curvature at the parameters, distance and gap to a solution.

    Parameters
    ----------
    model, data, loss
        The network where the run starts; anything `Split` and `Task` take.
    solution
        State dict of a minimiser, for ``distance`` and ``gap``; without it both stay unknown.

    Returns
    -------
    Problem
        ``smoothness`` is the largest Hessian eigenvalue, ``strong_convexity`` the smallest, when it is positive.

    Raises
    ------
    ValueError
        The loss bends nowhere, or ``solution`` is no better than the start.
    """
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    goal = objective(model, data, task, batch_size=batch_size)
    ends = both_ends(goal, k=1, tolerance=TOLERANCE, generator=rng_for(0, "dynamics.measured_problem"))
    top, low = float(ends.top.values[0]), ends.bottom.estimate().lower
    if not top > 0:
        raise ValueError(f"the largest eigenvalue of the Hessian is {top}: the loss bends nowhere upwards here")
    distance = gap = None
    if solution is not None:
        there = copy.deepcopy(model)
        there.load_state_dict(dict(solution))
        distance, gap = _between(model, there), goal.value - objective(there, data, task, batch_size=batch_size).value
        if not gap > 0:
            raise ValueError(f"the loss at the solution is {-gap:.3g} above that of the start; give a minimiser")
    return Problem(
        smoothness=top, strong_convexity=low if low > FLAT * top else None, distance=distance, gap=gap
    )  # fmt: skip


def _between(one: nn.Module, other: nn.Module) -> float:
    with torch.no_grad():
        squares = [
            float((a.double() - b.double()).square().sum())
            for a, b in zip(one.parameters(), other.parameters(), strict=True)
            if a.requires_grad
        ]
    return math.sqrt(sum(squares))
