"""The trace of the Hessian in two parts: that of the Gauss-Newton matrix, exactly, and that of the rest, sampled.

Method   exact Gauss-Newton trace by squared gradients; Hutchinson's random signs on H - G, unless its diagonal is zero
Source   Schraudolph (2002), Neural Comput. 14:1723 (H = G + the outputs' own curvature)
Assumes  a loss that is twice differentiable at the parameters and convex in the outputs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Task, rng_for
from theorylens.numerics.objective import MEMORY, Objective
from theorylens.numerics.operator import Operator
from theorylens.numerics.trace import hutchinson
from theorylens.results import Estimate, Exact, Message, Statistical

from ._exact_trace import ggn_squares, summed
from ._gauss_newton import GaussNewton, settled
from ._piecewise import PiecewiseLinear, disagreement, obstacle


@dataclass(frozen=True, kw_only=True)
class TraceSplit:
    """tr H = tr G + tr R: ``gauss_newton`` exactly, ``residual`` from random draws of H - G, and their sum.

    Where ``linear`` holds the residual is exactly zero and nothing is drawn.
    """

    gauss_newton: Estimate
    residual: Estimate
    total: Estimate
    linear: PiecewiseLinear


def trace_split(
    model: nn.Module, data: Any, loss: Any, *, draws: int = 16, seed: int = 0, names: Sequence[str] | None = None,
    batch_size: int = 256,
) -> TraceSplit:  # fmt: skip
    """The trace of the Hessian as that of the Gauss-Newton matrix, exactly, plus that of the outputs' own curvature.

    Only the second part is sampled, and not even that for networks that are piecewise linear in each parameter
    (`piecewise_linear`): its diagonal is zero then.

    Errors are those of `gauss_newton_trace`.
    """
    goal, task = settled(model, data, loss, batch_size, names)
    return split(goal, task, draws=draws, generator=rng_for(seed, "landscape.trace_split"))


def split(goal: Objective, task: Task, *, draws: int, generator: torch.Generator) -> TraceSplit:
    """`trace_split` of an objective that is there already."""
    found: list[str | None] = []

    def watch(outputs: Tensor, targets: Any) -> None:
        if not any(found):
            found.append(obstacle(goal, task, outputs, targets))

    value = summed(ggn_squares(goal, task, "norm", watch))
    exact = Estimate(value=value, uncertainty=Exact())
    stands = next((each for each in found if each is not None), None) or disagreement(goal, task)
    linear = PiecewiseLinear(holds=stands is None, obstacle=stands or "")
    if linear.holds:
        nothing = Estimate(value=0.0, uncertainty=Exact())
        return TraceSplit(gauss_newton=exact, residual=nothing, total=exact, linear=linear)
    rest = hutchinson(residual(goal, task), draws, generator=generator)
    limits = rest.uncertainty
    if isinstance(limits, Statistical):
        text = "exact Gauss-Newton trace, plus Student's t over {draws} random-sign products with the rest, H - G"
        method = Message("landscape.trace_split", text, draws=draws)
        lower, upper = limits.lower + value, limits.upper + value
        limits = Statistical(lower=lower, upper=upper, level=limits.level, method=method)
    total = Estimate(value=value + rest.value, uncertainty=limits)
    return TraceSplit(gauss_newton=exact, residual=rest, total=total, linear=linear)


def residual(goal: Objective, task: Task, *, memory: int = MEMORY) -> Operator:
    """H - G as an operator: the curvature of the outputs themselves, weighted by the slopes of the loss."""
    return Difference(goal.hessian(memory=memory // 2), GaussNewton(goal, task, memory=memory // 2))


class Difference:
    """A - B."""

    def __init__(self, a: Operator, b: Operator) -> None:
        self._a, self._b = a, b

    @property
    def size(self) -> int:
        return self._a.size

    @property
    def dtype(self) -> torch.dtype:
        return self._a.dtype

    @property
    def device(self) -> torch.device:
        return self._a.device

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self._a.matvec(vector) - self._b.matvec(vector)

    def __matmul__(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self.matvec(vector)
