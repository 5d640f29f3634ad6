"""The trace of the Hessian: the curvature of the loss summed over all directions.

Method   exactly where it can be had: entry by entry for few parameters, as the trace of the Gauss-Newton matrix for
         networks that are piecewise linear in each parameter; else that trace plus Hutchinson's signs on the rest
Source   Schraudolph (2002), Neural Comput. 14:1723; Hutchinson (1990), Communications in Statistics B 19:433
Assumes  a loss that is twice differentiable at the parameters
Breaks   rescaling two layers against each other changes the trace and not the function
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from theorylens.core import RefusedError, Task, objective, rng_for
from theorylens.numerics.memory import part
from theorylens.numerics.objective import Objective
from theorylens.numerics.trace import hutchinson, hutchpp
from theorylens.results import Estimate, Exact

from ._gauss_newton import chosen, task_of
from ._trace_split import TraceSplit, split

Method = Literal["auto", "hutchinson", "hutch++"]
METHODS = ("auto", "hutchinson", "hutch++")
FEW = 200  # parameters: up to here the exact diagonal costs no more than a good estimate
MANY = 256  # outputs: beyond, as many backward passes cost more than good draws


def trace(
    model: nn.Module, data: Any, loss: Any, *, draws: int = 64, method: Method = "auto", seed: int = 0,
    names: Sequence[str] | None = None, batch_size: int = 256,
) -> Estimate:  # fmt: skip
    """Trace of the Hessian of a loss.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    draws
        Products to take; unused where the answer is exact.
    method
        ``"auto"``: exact up to 200 parameters, and for networks that are piecewise linear in each parameter
        (`piecewise_linear`), whose trace is that of the Gauss-Newton matrix. Otherwise the Gauss-Newton trace exactly
        and ``draws`` random signs on the rest; random signs alone where that matrix has more than 256 outputs or no
        single rows of outputs. The others are stochastic above 200 parameters: ``"hutchinson"``, random signs;
        ``"hutch++"``, a third of the products goes into a sketch that holds the large eigenvalues, which pays where
        few of them carry the trace.
    seed
        Of the random signs.
    names
        Parameters or modules to vary, as in `hessian`.
    batch_size
        Examples per batch: bounds memory and does not change the answer beyond rounding.

    Errors are those of `eigenvalues`; fewer than 2 draws are refused.

    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)
    >>> round(trace(nn.Linear(2, 1, bias=False), (x, y), "mse").value, 5)  # of 2 X'X / n
    5.0
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    return hessian_trace(chosen(goal, names), draws=draws, method=method, generator=rng_for(seed, "landscape.trace"))


def hessian_trace(goal: Objective, *, draws: int, method: Method = "auto", generator: torch.Generator) -> Estimate:
    """`trace` of an objective that is there already."""
    return traced(goal, draws=draws, method=method, generator=generator).estimate


Route = Literal["diagonal", "piecewise linear", "Gauss-Newton and rest", "hutchinson", "hutch++"]
EXACT = ("diagonal", "piecewise linear")


class Traced(NamedTuple):
    """A trace and how it was found."""

    estimate: Estimate
    route: Route


def traced(goal: Objective, *, draws: int, method: Method = "auto", generator: torch.Generator) -> Traced:
    """`hessian_trace`, with the route it took."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if draws < 2:
        raise ValueError(f"draws must be at least 2 to give an interval, got {draws}")
    if not math.isfinite(goal.value):
        raise RefusedError(f"the loss is {goal.value}, so it has no curvature; load weights from before it diverged")
    if goal.size <= FEW:
        hessian = goal.hessian()
        basis = torch.eye(goal.size, dtype=goal.dtype, device=goal.device)
        diagonal = [float((hessian @ unit)[i]) for i, unit in enumerate(basis)]
        return Traced(Estimate(value=math.fsum(diagonal), uncertainty=Exact()), "diagonal")
    if method == "auto":
        if (parts := _parts(goal, draws, generator)) is not None:
            return Traced(parts.total, "piecewise linear" if parts.linear.holds else "Gauss-Newton and rest")
        return Traced(hutchinson(goal.hessian(), draws, generator=generator), "hutchinson")
    estimator = hutchinson if method == "hutchinson" else hutchpp
    return Traced(estimator(goal.hessian(), draws, generator=generator), method)


def _parts(goal: Objective, draws: int, generator: torch.Generator) -> TraceSplit | None:
    """The trace in two parts, None where the first cannot be had exactly at a reasonable price."""
    task = task_of(goal)
    if task is None:
        return None
    if not row_outputs(goal, task):
        return None
    try:
        return split(goal, task, draws=draws, generator=generator)
    except RefusedError:  # a loss that is not convex in the outputs
        return None


def row_outputs(goal: Objective, task: Task) -> bool:
    """Whether each example has one row of outputs, few enough for a backward pass each."""
    with torch.no_grad():
        outputs, _ = task.forward(goal.model, part(next(iter(goal.on_device())), 0, 1))
    return fits(outputs)


def fits(outputs: Any) -> bool:
    return isinstance(outputs, Tensor) and 1 <= outputs.ndim <= 2 and outputs[0].numel() <= MANY
