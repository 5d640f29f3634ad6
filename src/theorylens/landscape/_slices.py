"""The loss along lines and planes through a network's parameters.

Method   the sample-weighted loss over all data at parameters moved along given directions, on a copy of the network
Source   Goodfellow, Vinyals, Saxe (2015), ICLR; Li, Xu, Taylor, Studer, Goldstein (2018), Visualizing the loss
         landscape of neural nets, NeurIPS
Assumes  evaluation mode: running statistics of batch normalisation stay what they are
Breaks   two directions of thousands: a valley that does not pass through them is not seen
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import Task, objective
from theorylens.numerics.objective import Objective
from theorylens.results import Curve, Line, Matrix, Message

from ._directions import random_direction
from ._displaced import Displaced

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """Losses along a direction; the network itself is at 0, which is one of the points.

    Attributes
    ----------
    at, losses
        Multiples of the direction, ascending, and the loss at each; infinite or NaN where the network overflows.
    direction
        Shape (p,), as it was used.
    """

    at: Floats
    losses: Floats
    direction: Float[Tensor, "p"]

    def curve(self) -> Curve:
        """As a picture."""
        known = np.isfinite(self.losses)
        return Curve(
            label=Message("landscape.slice", "The loss along one direction; the network is at 0"),
            lines=(
                Line(x=self.at[known], y=self.losses[known], name=Message("landscape.slice.loss", "loss")),
            ),
            x_name=Message("landscape.slice.x", "multiples of the direction"),
            y_name=Message("landscape.slice.loss", "loss"),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Losses on a plane: ``losses[i, j]`` at ``at_first[i]`` times the first and ``at_second[j]`` times the second.

    The network itself is where both are 0, which is a point of the grid; a loss is infinite or NaN where the network
    overflows.
    """

    at_first: Floats
    at_second: Floats
    losses: Floats
    directions: tuple[Float[Tensor, "p"], Float[Tensor, "p"]]

    def matrix(self) -> Matrix:
        """As a picture, more ink where the loss is higher; full ink at the largest, and where it is not finite."""
        return surface_matrix(
            self, Message("landscape.surface", "The loss on a plane through the network, which is where both are 0")
        )


def surface_matrix(surface: Surface, label: Message, top: float | None = None) -> Matrix:
    """The losses of ``surface`` as ink under a label, full at ``top`` (by default the largest finite one)."""
    known = np.isfinite(surface.losses)
    full = float(surface.losses[known].max()) if top is None and known.any() else top or 1.0
    return Matrix(
        label=label,
        values=np.where(known, surface.losses, full),
        top=full,
        rows=tuple(f"{a:.3g}" for a in surface.at_first),
        columns=tuple(f"{b:.3g}" for b in surface.at_second),
        x_name=Message("landscape.surface.x", "second direction"),
        y_name=Message("landscape.surface.y", "first direction"),
    )


def slice_1d(
    model: nn.Module,
    data: Any,
    loss: Any,
    direction: Float[Tensor, "p"] | None = None,
    *,
    reach: float = 1.0,
    points: int = 21,
    seed: int = 0,
    batch_size: int = 256,
) -> Slice:
    """The loss at ``points`` equidistant multiples of ``direction`` from -``reach`` to ``reach``.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`; the network is not touched, also when an evaluation fails.
    direction
        Flat, shape (p,): of `random_direction` or `curvature_directions`, the difference of two networks. By default a
        random one, filter-normalised, drawn by ``seed``.
    points
        Odd, so that the network's own point is one of them.

    Raises
    ------
    ValueError
        A direction of another size, zero or not finite; an even number of points; a reach that is not positive.

    >>> rows = torch.tensor([[1.0]]), torch.zeros(1, 1)
    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.ones(1, 1)})
    >>> slice_1d(net, rows, "mse", torch.ones(1), points=3).losses.tolist()
    [0.0, 1.0, 4.0]
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    along = random_direction(model, seed=seed) if direction is None else direction
    return slice_of(goal, along, reach=reach, points=points)


def slice_of(goal: Objective, direction: Float[Tensor, "p"], *, reach: float, points: int) -> Slice:
    """`slice_1d` of an objective that is there already."""
    _check_direction(direction, goal.size)
    at = symmetric_grid(reach, points)
    around = Displaced(goal)
    losses = np.array([around.base if a == 0 else around.loss(float(a) * direction) for a in at])
    return Slice(at=at, losses=losses, direction=direction)


def slice_2d(
    model: nn.Module,
    data: Any,
    loss: Any,
    first: Float[Tensor, "p"] | None = None,
    second: Float[Tensor, "p"] | None = None,
    *,
    reach: float = 1.0,
    points: int = 11,
    seed: int = 0,
    batch_size: int = 256,
) -> Surface:
    """The loss on the plane spanned by two directions, ``points`` x ``points`` of it.

    By default two random directions, filter-normalised, drawn by ``seed``; errors as for `slice_1d`. The second
    direction is used as it is, not made orthogonal: two random ones of many dimensions nearly are.
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    one = random_direction(model, seed=seed) if first is None else first
    two = random_direction(model, seed=seed + 1) if second is None else second
    at = symmetric_grid(reach, points)
    return surface_of(goal, (one, two), at, at)


def surface_of(
    goal: Objective, directions: tuple[Float[Tensor, "p"], Float[Tensor, "p"]], at_first: Floats, at_second: Floats
) -> Surface:
    """`slice_2d` of an objective that is there already, at given multiples."""
    for each in directions:
        _check_direction(each, goal.size)
    around = Displaced(goal)
    first, second = directions
    losses = [
        [around.base if a == b == 0 else around.loss(float(a) * first + float(b) * second) for b in at_second]
        for a in at_first
    ]
    return Surface(at_first=at_first, at_second=at_second, losses=np.array(losses), directions=directions)


def symmetric_grid(reach: float, points: int) -> Floats:
    """``points`` equidistant numbers from -``reach`` to ``reach``, 0 exactly in the middle."""
    if not (math.isfinite(reach) and reach > 0):
        raise ValueError(f"reach must be a positive number, got {reach}")
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points must be odd and at least 3, so that the network itself is one; got {points}")
    half = points // 2
    return np.arange(-half, half + 1, dtype=np.float64) * np.float64(reach / half)


def _check_direction(direction: Tensor, size: int) -> None:
    if direction.shape != (size,):
        raise ValueError(
            f"a direction of shape {tuple(direction.shape)} does not match {size} parameters; "
            "flatten it in the order of model.named_parameters()"
        )
    length = float(torch.linalg.vector_norm(direction.double()))
    if not (math.isfinite(length) and length > 0):
        raise ValueError(f"the direction has length {length}; give one of positive finite length")
