"""The loss along lines and planes through a network's parameters.

Method   the sample-weighted loss over all data at parameters moved along given directions, on a copy of the network
Source   Goodfellow, Vinyals, Saxe (2015), ICLR; Li, Xu, Taylor, Studer, Goldstein (2018), Visualizing the loss
         landscape of neural nets, NeurIPS (filter normalisation; biases and normalisation layers are not moved)
Assumes  evaluation mode: running statistics of batch normalisation stay what they are
Breaks   two directions of thousands: a valley that does not pass through them is not seen
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.numerics.objective import Objective
from theorylens.results import Curve, Line, Message

from ._displaced import Displaced

Floats = NDArray[np.float64]
Normalise = Literal["filter", "tensor", "none"]


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
    """Losses on a plane: ``losses[i, j]`` at ``at_first[i]`` times the first and ``at_second[j]`` times the second."""

    at_first: Floats
    at_second: Floats
    losses: Floats
    directions: tuple[Float[Tensor, "p"], Float[Tensor, "p"]]


def random_direction(
    model: nn.Module, *, normalise: Normalise = "filter", seed: int = 0, names: Sequence[str] | None = None
) -> Float[Tensor, "p"]:
    """A normal random direction in the space of the trainable parameters, scaled so that slices can be compared.

    Parameters
    ----------
    normalise
        ``"filter"``: each filter (slice along the first axis of a weight with two axes or more) gets the norm of the
        network's own; biases and scales of normalisation layers get zero. ``"tensor"``: each tensor its own norm.
        ``"none"``: standard normal, whatever the weights are: rescaling layers then changes the picture.
    names
        Parameters to move, all trainable ones when None.

    >>> net = nn.Linear(2, 3)
    >>> direction = random_direction(net)
    >>> direction.shape, direction[6:].tolist()
    (torch.Size([9]), [0.0, 0.0, 0.0])
    """
    if normalise not in ("filter", "tensor", "none"):
        raise ValueError(f"normalise must be 'filter', 'tensor' or 'none', got {normalise!r}")
    own = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not own:
        raise ValueError("the model has no parameter that requires a gradient; set requires_grad on those to vary")
    if names is not None and (unknown := sorted(set(names) - set(own))):
        raise ValueError(f"no trainable parameters named {unknown}; there are {sorted(own)}")
    generator = rng_for(seed, "landscape.random_direction")
    parts = []
    for name, p in own.items():
        drawn = torch.randn(p.shape, generator=generator).to(p)
        parts.append(_scaled(drawn, p, normalise) if names is None or name in names else torch.zeros_like(p))
    return torch.cat([part.reshape(-1) for part in parts])


def _scaled(drawn: Tensor, own: Tensor, normalise: Normalise) -> Tensor:
    if normalise == "none":
        return drawn
    if normalise == "tensor":
        whole: Tensor = drawn * (torch.linalg.vector_norm(own) / torch.linalg.vector_norm(drawn))
        return whole
    if own.ndim < 2:
        return torch.zeros_like(own)
    flat, mine = drawn.flatten(1), own.flatten(1)
    ratio = torch.linalg.vector_norm(mine, dim=1) / torch.linalg.vector_norm(flat, dim=1).clamp(min=1e-30)
    each: Tensor = flat * ratio[:, None]
    return each.view_as(own)


def loss_slice(
    model: nn.Module,
    data: Any,
    loss: Any,
    direction: Float[Tensor, "p"],
    *,
    reach: float = 1.0,
    points: int = 21,
    batch_size: int = 256,
) -> Slice:
    """The loss at ``points`` equidistant multiples of ``direction`` from -``reach`` to ``reach``.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`; the network is not touched, also when an evaluation fails.
    direction
        Flat, shape (p,): `random_direction`, a Hessian eigenvector, the difference of two networks.
    points
        Odd, so that the network's own point is one of them.

    Raises
    ------
    ValueError
        A direction of another size, zero or not finite; an even number of points; a reach that is not positive.

    >>> rows = torch.tensor([[1.0]]), torch.zeros(1, 1)
    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.ones(1, 1)})
    >>> loss_slice(net, rows, "mse", torch.ones(1), points=3).losses.tolist()
    [0.0, 1.0, 4.0]
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    return slice_of(goal, direction, reach=reach, points=points)


def slice_of(goal: Objective, direction: Float[Tensor, "p"], *, reach: float, points: int) -> Slice:
    """`loss_slice` of an objective that is there already."""
    _check_direction(direction, goal.size)
    at = _grid(reach, points)
    around = Displaced(goal)
    losses = np.array([around.base if a == 0 else around.loss(float(a) * direction) for a in at])
    return Slice(at=at, losses=losses, direction=direction)


def loss_surface(
    model: nn.Module,
    data: Any,
    loss: Any,
    first: Float[Tensor, "p"],
    second: Float[Tensor, "p"],
    *,
    reach: float = 1.0,
    points: int = 11,
    batch_size: int = 256,
) -> Surface:
    """The loss on the plane spanned by two directions, ``points`` x ``points`` of it; errors as for `loss_slice`.

    The second direction is used as it is, not made orthogonal: two random ones of many dimensions nearly are.
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    for each in (first, second):
        _check_direction(each, goal.size)
    at = _grid(reach, points)
    around = Displaced(goal)
    losses = [
        [around.base if a == b == 0 else around.loss(float(a) * first + float(b) * second) for b in at] for a in at
    ]
    return Surface(at_first=at, at_second=at, losses=np.array(losses), directions=(first, second))


def _grid(reach: float, points: int) -> Floats:
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
