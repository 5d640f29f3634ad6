"""Trace and diagonal of the Gauss-Newton matrix, exactly, from as many backward passes as there are outputs.

Method   the Hessian of an example's loss in its outputs is a sum of s s'; |J' s|² of all examples comes from one
         backward pass (`numerics.ExampleSquares`)
Source   Schraudolph (2002), Neural Comput. 14:1723; Dangel, Kunstner, Hennig (2020), BackPACK, ICLR (the same squares
         for the diagonal)
Assumes  a loss that is convex in the outputs, one row of outputs for each example
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.core import RefusedError, Task
from theorylens.numerics.example_squares import ExampleSquares, Keep
from theorylens.numerics.memory import Batch, rows
from theorylens.numerics.objective import Objective
from theorylens.numerics.second import second_derivatives
from theorylens.results import Estimate, Exact

from ._fisher import family_of
from ._gauss_newton import example_losses, output_slope, settled

Watch = Callable[[Tensor, Any], None]


def gauss_newton_trace(
    model: nn.Module, data: Any, loss: Any, *, names: Sequence[str] | None = None, batch_size: int = 256
) -> Estimate:
    """The trace of the Gauss-Newton matrix, exactly: one backward pass over all data for each output.

    Linear layers, convolutions, normalisations and embeddings need no more than that; parameters used in other ways
    (packed attention projections, recurrent cells) are differentiated one example at a time.

    For networks that are piecewise linear in every single parameter (`piecewise_linear`) it is the trace of the
    Hessian.

    Raises
    ------
    RefusedError
        Outputs that are not one row of numbers for each example; a loss that is not convex in the outputs.
    """
    goal, task = settled(model, data, loss, batch_size, names)
    return Estimate(value=summed(ggn_squares(goal, task, "norm")), uncertainty=Exact())


def summed(squares: dict[str, Tensor]) -> float:
    """Sum over all parameters."""
    return math.fsum(float(each.sum()) for each in squares.values())


def ggn_squares(goal: Objective, task: Task, keep: Keep, watch: Watch | None = None) -> dict[str, Tensor]:
    """Diagonal of the Gauss-Newton matrix by parameter (``"entries"``), or its sums (``"norm"``), float64.

    ``watch(outputs, targets)`` sees every batch, with the graph behind its outputs.
    """
    targets: list[Any] = []

    def forward(model: nn.Module, batch: Batch) -> Tensor:
        outputs, found = task.forward(model, batch)
        if not isinstance(outputs, Tensor) or outputs.ndim > 2 or len(outputs) != rows(batch):
            raise RefusedError(
                "the exact trace needs one row of outputs for each example, shape (n, outputs) or (n,); "
                "for others use the stochastic trace"
            )
        targets.append(found)
        return outputs

    squares = ExampleSquares(goal.model, goal.parameters, forward, keep=keep)

    def directions(outputs: Tensor) -> list[Tensor]:
        if watch is not None:
            watch(outputs, targets[-1])
        return factors(goal, task, outputs.detach(), targets[-1])  # of the forward pass just done

    with second_derivatives():
        for batch in goal.on_device():
            targets.clear()
            squares.add(batch, directions)
    return squares.totals


def fisher_squares(goal: Objective, task: Task, keep: Keep) -> dict[str, Tensor]:
    """The same of the empirical Fisher matrix: the mean of the squared gradients of the examples' own losses."""
    squares = ExampleSquares(goal.model, goal.parameters, lambda _, batch: example_losses(goal, task, batch), keep=keep)
    with second_derivatives():
        for batch in goal.on_device():
            squares.add(batch, lambda each: [torch.ones_like(each)])
    return {name: each / goal.examples for name, each in squares.totals.items()}


def factors(goal: Objective, task: Task, outputs: Tensor, targets: Any) -> list[Tensor]:
    """Vectors whose outer products add up to the Hessian of each example's loss in its outputs, as columns (n, k).

    Directions that rounding alone makes are left out: softmax with C classes has C - 1.
    """
    if family_of(task) == "softmax" and outputs.ndim == 2:
        return _softmax_factors(goal, task, outputs, targets)
    hessians, rounding = _output_hessians(goal, task, outputs, targets), torch.finfo(outputs.dtype).eps
    values, axes = torch.linalg.eigh((hessians + hessians.mT) / 2)
    largest = values.abs().amax(1, keepdim=True)
    # A loss of size 1 for an example rounds by eps, and so do its second derivatives; they may be far below 1.
    if bool((values < -1e-6 * largest - 4 * rounding / goal.denominator).any()):
        raise RefusedError(
            "the loss is not convex in the outputs, so its Gauss-Newton matrix has no squares to add up; "
            "use the stochastic trace of ggn(...)"
        )
    scales = torch.where(values > values.shape[1] * rounding * largest, values, 0.0).sqrt()
    kept = [j for j in range(values.shape[1]) if bool((scales[:, j] > 0).any())]
    return [(axes[:, :, j] * scales[:, j, None]).reshape(outputs.shape).to(outputs.dtype) for j in kept]


def _softmax_factors(goal: Objective, task: Task, outputs: Tensor, targets: Any) -> list[Tensor]:
    """Cholesky factor of diag(p) - pp' in closed form (Tanabe and Sagae 1992, J. R. Stat. Soc. B 54:211), in float64.

    Of a sure prediction, float32 second derivatives would leave rounding only; the factor has no differences at all.
    """
    p = outputs.double().softmax(1)
    share = (task.losses(outputs, targets)[1].double() / goal.denominator).sqrt()
    tails = p.flip(1).cumsum(1).flip(1)  # p_j + p_j+1 + ...
    columns = []
    for j in range(p.shape[1] - 1):
        both = (tails[:, j] * tails[:, j + 1]).clamp(min=torch.finfo(torch.float64).tiny)
        column = torch.zeros_like(p)
        column[:, j] = (p[:, j] / both).sqrt() * tails[:, j + 1]
        column[:, j + 1 :] = -p[:, j + 1 :] * (p[:, j] / both).sqrt()[:, None]
        columns.append((column * share[:, None]).to(outputs.dtype))
    return columns


def _output_hessians(goal: Objective, task: Task, outputs: Tensor, targets: Any) -> Tensor:
    free, slope = output_slope(goal, task, outputs, targets)
    flat = slope.reshape(len(slope), -1)
    if not flat.requires_grad:
        return flat.new_zeros(*flat.shape, flat.shape[1], dtype=torch.float64)
    lines = [
        torch.autograd.grad(flat[:, j].sum(), free, retain_graph=True)[0].reshape(len(flat), -1)
        for j in range(flat.shape[1])
    ]
    return torch.stack(lines, 1).detach().double()
