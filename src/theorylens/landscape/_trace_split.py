"""The trace of the Hessian in two parts: that of the Gauss-Newton matrix, exactly, and that of the rest, sampled.

Method   exact Gauss-Newton trace by squared gradients; Hutchinson's random signs on H - G, unless its diagonal is zero
Source   Schraudolph (2002), Neural Comput. 14:1723 (H = G + the outputs' own curvature)
Assumes  a loss that is twice differentiable at the parameters and convex in the outputs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Task, rng_for
from theorylens.numerics.objective import MEMORY, Objective
from theorylens.numerics.operator import Counted, Derived, Operator
from theorylens.numerics.trace import hutchinson, quadratic, random_signs
from theorylens.results import Estimate, Exact, Message, Statistical

from ._exact_trace import ggn_squares, summed
from ._gauss_newton import GaussNewton, settled
from ._piecewise import PiecewiseLinear, disagreement, obstacle

PILOT = 8  # draws that take both products
WORTH = 3.0  # twice the price of a draw, and room for an unlucky comparison


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
    return TraceSplit(gauss_newton=exact, residual=rest, total=shifted(rest, value, draws), linear=linear)


def shifted(rest: Estimate, exact: float, draws: int) -> Estimate:
    """The sampled rest plus the exact part."""
    limits = rest.uncertainty
    if isinstance(limits, Statistical):
        text = "exact Gauss-Newton trace, plus Student's t over {draws} random-sign products with the rest, H - G"
        method = Message("landscape.trace_split", text, draws=draws)
        lower, upper = limits.lower + exact, limits.upper + exact
        limits = Statistical(lower=lower, upper=upper, level=limits.level, method=method)
    return Estimate(value=exact + rest.value, uncertainty=limits)


class Draws(NamedTuple):
    """z . Hz for each draw, and z . (H - G)z as long as it was taken; which of the two serves the trace."""

    whole: list[float]
    rest: list[float]
    split: bool


def drawn(hessian: Operator, half: Operator, draws: int, *, generator: torch.Generator) -> Draws:
    """Random-sign draws of H, and of H - G where that pays.

    Under layer normalisation H - G is as large as H, elsewhere it may be much smaller. The first draws take both
    products; the second is given up unless it saves `WORTH` times the draws.
    """
    left, right = Counted(hessian), Counted(half)
    whole: list[float] = []
    rest: list[float] = []
    split = True
    for i in range(draws):
        z = random_signs(left, generator)
        whole.append(quadratic(left, z))
        if split:
            rest.append(whole[-1] - quadratic(right, z))
        if i + 1 == min(PILOT, draws):
            split = WORTH * float(np.var(rest)) < float(np.var(whole))
    return Draws(whole, rest, split)


def residual(goal: Objective, task: Task, *, memory: int = MEMORY) -> Operator:
    """H - G as an operator: the curvature of the outputs themselves, weighted by the slopes of the loss."""
    return Difference(goal.hessian(memory=memory // 2), GaussNewton(goal, task, memory=memory // 2))


class Difference(Derived):
    """A - B."""

    def __init__(self, a: Operator, b: Operator) -> None:
        super().__init__(a)
        self._less = b

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self._operator.matvec(vector) - self._less.matvec(vector)
