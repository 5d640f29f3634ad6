"""Critical points: has training come to rest, and is what it found a minimum, a saddle or neither?

Method   gradient of the whole training loss; both ends of the Hessian spectrum by Lanczos
Source   Nesterov, Polyak (2006), Cubic regularization of Newton method, Math. Program. 108:177 (second-order points);
         Frye et al. (2021), Critical point-finding methods reveal gradient-flat regions, Neural Comput. 33:1469
Assumes  a loss that is twice differentiable at the parameters
Breaks   a loss whose infimum lies at infinity (cross-entropy on separable data) has no critical point to come to
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import nn

from theorylens.core import RefusedError, Task, objective, rng_for
from theorylens.numerics.objective import Objective
from theorylens.results import Estimate

from ._curvature import NEGLIGIBLE, Ends, both_ends
from ._signs import WHOLE, Signs, eigenvalue_signs
from ._symmetries import symmetry_directions

AT_REST = 1e-2  # |g| |θ| / loss: moving by 1 % of the weights' norm then changes the loss by 0.01 % of itself


class Place(Enum):
    """Where the parameters are, as far as two derivatives can tell."""

    SLOPE = "not at a critical point"
    SADDLE = "strict saddle"
    MINIMUM = "strict local minimum"
    MAXIMUM = "strict local maximum"
    DEGENERATE = "degenerate critical point"


@dataclass(frozen=True, kw_only=True, eq=False)
class CriticalPoint:
    """Two derivatives of a loss at one point.

    Attributes
    ----------
    loss, gradient_norm, parameter_norm
        Over all data, added in float64.
    initial_gradient_norm
        That of the network before training on the same data; None when it was not given.
    ends
        Largest and smallest eigenvalues of the Hessian with residuals.
    signs
        Index, nullity and number of positive eigenvalues; None when they were not asked for.
    symmetries
        Directions in which the function does not change at all, as far as they are known: so many of the zero
        eigenvalues of a critical point say nothing about the loss. None when the network's graph does not tell.
    """

    loss: float
    gradient_norm: float
    parameter_norm: float
    initial_gradient_norm: float | None
    ends: Ends
    signs: Signs | None = None
    symmetries: int | None = None

    @property
    def relative(self) -> float:
        """|g| |θ| / |loss|: relative change of the loss per relative change of the weights, to first order.

        0 when the gradient is zero, infinite when only the loss is.
        """
        if self.gradient_norm == 0:
            return 0.0
        return math.inf if self.loss == 0 else self.gradient_norm * self.parameter_norm / abs(self.loss)

    @property
    def shift(self) -> float:
        """|g| / (1e-4 |λ| |θ|), λ being the largest eigenvalue in size: the farthest relative Newton step.

        A zero of the gradient lies within this share of the weights' norm along every direction whose curvature
        counts, as far as the second derivative stays what it is. It is what tells rest where the loss itself vanishes
        and is no scale: at a network that fits its data exactly.
        """
        size = max(abs(float(self.ends.top.values[0])), abs(float(self.ends.bottom.values[0])))
        if self.gradient_norm == 0:
            return 0.0
        scale = NEGLIGIBLE * size * self.parameter_norm
        return self.gradient_norm / scale if scale else math.inf

    @property
    def place(self) -> Place:
        rest = min(self.relative, self.shift)  # either small makes it a place of rest
        return classify(rest, self.ends.bottom.estimate(), self.ends.top.estimate())

    @property
    def lipschitz_needed(self) -> float:
        """Smallest ρ for which this is an ε-second-order stationary point at ε = |g|: λmin² / |g|.

        Such a point has |g| <= ε and λmin >= -sqrt(ρ ε), with ρ the Lipschitz constant of the Hessian, which nobody
        knows for a network. 0 when no downward curvature is certain.
        """
        low = self.ends.bottom.estimate()
        if low.upper >= -NEGLIGIBLE * abs(float(self.ends.top.values[0])):
            return 0.0
        return math.inf if self.gradient_norm == 0 else low.value**2 / self.gradient_norm

    def epsilon(self, lipschitz: float) -> float:
        """Smallest ε for which this is an ε-second-order stationary point, given the Hessian's Lipschitz constant."""
        if not (math.isfinite(lipschitz) and lipschitz > 0):
            raise ValueError(f"the Lipschitz constant of the Hessian must be a positive number, got {lipschitz}")
        down = min(float(self.ends.bottom.values[0]), 0.0)
        return max(self.gradient_norm, down**2 / lipschitz)


def critical_point(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    initial: nn.Module | None = None,
    tolerance: float = 1e-3,
    exact_up_to: int = WHOLE,
    seed: int = 0,
    batch_size: int = 256,
) -> CriticalPoint:
    """Gradient, outermost eigenvalues and signs of the Hessian of a loss at a network's parameters.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    initial
        The network before training: its gradient on the same data is the scale of the one found.
    tolerance
        Error of the eigenvalues relative to the largest.

    exact_up_to
        Parameters up to which all eigenvalues are computed, by one product for each, and the signs are exact. Beyond,
        four random starts of 60 products give bounds: see `Signs`.

    Errors are those of `eigenvalues`.

    >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [2.0]])
    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.tensor([[1.0, 2.0]])})  # it fits both rows
    >>> critical_point(net, rows, "mse").place.value
    'strict local minimum'
    """
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    goal = objective(model, data, task, batch_size=batch_size)
    start = None if initial is None else objective(initial, data, task, batch_size=batch_size)
    generator = rng_for(seed, "landscape.critical_point")
    ends = both_ends(goal, k=1, tolerance=tolerance, generator=generator)
    signs = eigenvalue_signs(goal, _threshold(ends), generator=generator, exact_up_to=exact_up_to, ends=ends)
    point = describe(goal, ends, None if start is None else gradient_norm(start))
    return replace(point, signs=signs, symmetries=known_symmetries(model, data, task))


def known_symmetries(model: nn.Module, data: Any, task: Task) -> int | None:
    """Number of directions of `symmetry_directions`; None where the units of the network cannot be followed."""
    try:
        return len(symmetry_directions(model, data, task))
    except RefusedError:
        return None


def _threshold(ends: Ends) -> float:
    """|eigenvalue| that counts as zero: a ten-thousandth of the spectrum, as in `classify`."""
    return NEGLIGIBLE * max(abs(float(ends.top.values[0])), abs(float(ends.bottom.values[0])))


def describe(goal: Objective, ends: Ends, initial_gradient_norm: float | None) -> CriticalPoint:
    """The point of ``goal``, with eigenvalues that are known already."""
    return CriticalPoint(
        loss=goal.value,
        gradient_norm=gradient_norm(goal),
        parameter_norm=math.sqrt(sum(float(p.detach().double().square().sum()) for p in goal.parameters.values())),
        initial_gradient_norm=initial_gradient_norm,
        ends=ends,
    )


def gradient_norm(goal: Objective) -> float:
    """Euclidean norm of the gradient over all batches, in float64."""
    return float(torch.linalg.vector_norm(goal.gradient().double()))


def classify(relative: float, smallest: Estimate, largest: Estimate) -> Place:
    """What the second-order test says of a point.

    Parameters
    ----------
    relative
        |g| |θ| / loss, or `CriticalPoint.shift` where that is smaller; at rest up to 0.01.
    smallest, largest
        Outermost eigenvalues with their limits. A sign counts when it is certain and larger than 1e-4 of the
        spectrum.

    Raises
    ------
    ValueError
        Something is not a number.
    """
    numbers = {"relative gradient": relative, "smallest eigenvalue": smallest.value, "largest": largest.value}
    if unknown := [name for name, value in numbers.items() if math.isnan(value)]:
        raise ValueError(f"the {', '.join(unknown)} is not a number, so the point cannot be classified")
    if smallest.value > largest.upper:
        raise ValueError(f"the smallest eigenvalue {smallest.value} lies above the largest {largest.value}")
    if relative > AT_REST:
        return Place.SLOPE
    margin = NEGLIGIBLE * max(abs(smallest.value), abs(largest.value))
    if largest.upper < -margin:
        return Place.MAXIMUM
    if smallest.upper < -margin:
        return Place.SADDLE
    if smallest.lower > margin:
        return Place.MINIMUM
    return Place.DEGENERATE
