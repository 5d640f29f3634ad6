"""The trace of the Hessian: the curvature of the loss summed over all directions.

Method   exactly where it can be had: entry by entry for few parameters, as the trace of the Gauss-Newton matrix for
         networks that are piecewise linear in each parameter; else that trace plus Hutchinson's signs on the rest, or,
         where there is no exact part, random signs beside the vectors of a Lanczos run
Source   Schraudolph (2002), Neural Comput. 14:1723; Hutchinson (1990), Communications in Statistics B 19:433
Assumes  a loss that is twice differentiable at the parameters
Breaks   rescaling two layers against each other changes the trace and not the function
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from theorylens.core import RefusedError, Task, objective, rng_for
from theorylens.numerics.deflation import lanczos_trace
from theorylens.numerics.memory import part
from theorylens.numerics.objective import MEMORY, Objective
from theorylens.numerics.second import second_derivatives
from theorylens.numerics.trace import hutchinson, hutchpp, mean_of_draws
from theorylens.results import Estimate, Exact, Message

from ._exact_trace import ggn_squares, summed
from ._gauss_newton import GaussNewton, chosen, task_of
from ._piecewise import obstacle
from ._trace_split import drawn, shifted, split

Method = Literal["auto", "hutchinson", "deflated", "hutch++"]
METHODS = ("auto", "hutchinson", "deflated", "hutch++")
ESTIMATORS: dict[str, Callable[..., Estimate]] = {
    "hutchinson": hutchinson,
    "deflated": lanczos_trace,
    "hutch++": hutchpp,
}
FEW = 200  # parameters: up to here the exact diagonal costs no more than a good estimate
MANY = 256  # outputs: beyond, as many backward passes cost more than good draws
DEFLATED = 24  # products: from here on a third of them finds outliers of a trained network (`lanczos_trace`)


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
        (`piecewise_linear`), whose trace is that of the Gauss-Newton matrix. Otherwise ``draws`` random signs, on the
        Hessian or on what is left of it beside the exact trace of the Gauss-Newton matrix: the first 8 draws say which
        takes fewer products. Without such an exact part (outputs that are not one row of at most 256 numbers for each
        example, a loss that is not convex in them) it is ``"deflated"`` from 24 draws on. The others are stochastic
        above 200 parameters: ``"hutchinson"``, random signs on the Hessian; ``"deflated"``, a third of the products
        grows a Lanczos basis that holds the large eigenvalues, which pays where few of them carry the trace;
        ``"hutch++"``, a third goes into a sketch and a third into the trace there.
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


Route = Literal["diagonal", "piecewise linear", "Gauss-Newton and rest", "hutchinson", "deflated", "hutch++"]
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
        task = task_of(goal)
        if task is not None and row_outputs(goal, task):
            return _by_parts(goal, task, draws, generator)
        return _drawn(goal, draws, generator)
    return Traced(ESTIMATORS[method](goal.hessian(), draws, generator=generator), method)


def _drawn(goal: Objective, draws: int, generator: torch.Generator) -> Traced:
    """Without any exact part."""
    route: Route = "deflated" if draws >= DEFLATED else "hutchinson"
    return Traced(ESTIMATORS[route](goal.hessian(), draws, generator=generator), route)


def _by_parts(goal: Objective, task: Task, draws: int, generator: torch.Generator) -> Traced:
    """Exactly, or by draws of H, or of H - G beside the exact trace of G: whichever takes fewer products."""
    if bends_at_once(goal, task) is None:
        try:
            parts = split(goal, task, draws=draws, generator=generator)
            return Traced(parts.total, "piecewise linear" if parts.linear.holds else "Gauss-Newton and rest")
        except RefusedError:  # a loss that is not convex in the outputs
            return _drawn(goal, draws, generator)
    half = GaussNewton(goal, task, memory=MEMORY // 2)
    found = drawn(goal.hessian(memory=MEMORY // 2), half, draws, generator=generator)
    rounding = torch.finfo(goal.dtype).eps
    text = "Student's t over {draws} random-sign products (Hutchinson)"
    method = Message("numerics.hutchinson", text, draws=draws)
    if found.split:
        try:
            exact = summed(ggn_squares(goal, task, "norm"))
        except RefusedError:
            exact = None
        if exact is not None:
            rest = mean_of_draws(found.rest, level=0.95, rounding=rounding, method=method)
            return Traced(shifted(rest, exact, draws), "Gauss-Newton and rest")
    return Traced(mean_of_draws(found.whole, level=0.95, rounding=rounding, method=method), "hutchinson")


def bends_at_once(goal: Objective, task: Task) -> str | None:
    """What in the graph of the first example stands in the way of an exact trace."""
    one = part(next(iter(goal.on_device())), 0, 1)
    with second_derivatives(), torch.enable_grad():
        return obstacle(goal, task, *task.forward(goal.model, one))


def row_outputs(goal: Objective, task: Task) -> bool:
    """Whether each example has one row of outputs, few enough for a backward pass each."""
    with torch.no_grad():
        outputs, _ = task.forward(goal.model, part(next(iter(goal.on_device())), 0, 1))
    return fits(outputs)


def fits(outputs: Any) -> bool:
    return isinstance(outputs, Tensor) and 1 <= outputs.ndim <= 2 and outputs[0].numel() <= MANY
