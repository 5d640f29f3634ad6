"""Where training went, seen in the plane in which it moved most, with the loss around it.

Method   principal components of the checkpoints; the plane through the network along the first two, and the loss on it
Source   Li, Xu, Taylor, Studer, Goldstein (2018), NeurIPS (section 7); Antognini, Sohl-Dickstein (2018), PCA of high
         dimensional random walks with comparison to neural network training, NeurIPS
Assumes  checkpoints of one run, in order; buffers (running statistics) are the network's own everywhere
Breaks   a random walk in many dimensions looks the same: its first two components explain about three quarters too,
         so a large share alone says nothing of a low-dimensional path
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import Task, objective
from theorylens.numerics.objective import Objective
from theorylens.results import Curve, Line, Matrix, Message

from ._slices import Surface, surface_matrix, surface_of

Floats = NDArray[np.float64]
MARGIN = 0.15  # of the extent of the path, shown around it
FEWEST = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class TrajectoryPlane:
    """A run in its own plane; the trained network is at the origin.

    Attributes
    ----------
    surface
        Losses on the plane; its directions have unit length.
    path
        Coordinates of the checkpoints along the first and second direction, shape (n, 2), the network last.
    explained
        Shares of the variance of the checkpoints along the two directions.
    random_walk
        The two shares that a random walk of as many steps in many dimensions has: the control.
    outside
        Largest distance of a checkpoint from the plane, relative to its distance from the network.
    """

    surface: Surface
    path: Floats
    explained: tuple[float, float]
    random_walk: tuple[float, float]
    outside: float

    def matrix(self) -> Matrix:
        """The loss on the plane as a picture."""
        text = "The loss on the plane of the run, which holds {share:.0%} of its variance ({walk:.0%} in a random walk)"
        return surface_matrix(
            self.surface,
            Message("landscape.trajectory", text, share=sum(self.explained), walk=sum(self.random_walk)),
        )

    def curve(self) -> Curve:
        """The way of the checkpoints in the plane."""
        text, run = "The checkpoints in the plane of the run; the network is at 0, 0", "checkpoints"
        return Curve(
            label=Message("landscape.trajectory.path", text),
            lines=(Line(x=self.path[:, 0], y=self.path[:, 1], name=Message("landscape.trajectory.run", run)),),
            x_name=Message("landscape.trajectory.x", "along the first direction"),
            y_name=Message("landscape.trajectory.y", "along the second direction"),
        )  # fmt: skip


def trajectory_plane(
    model: nn.Module,
    data: Any,
    loss: Any,
    states: Sequence[Mapping[str, Tensor]],
    *,
    points: int = 15,
    batch_size: int = 256,
) -> TrajectoryPlane:
    """The loss on the plane through ``model`` along the first two principal components of a run.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`: the trained network, which is at the origin and a point of the grid.
    states
        State dicts of at least two earlier checkpoints, in order.
    points
        About how many values each coordinate takes.

    Raises
    ------
    ValueError
        Too few states or points, states of another network, or a run that moved along one line only.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.zeros(1, 2)})
    >>> run = [{"weight": torch.tensor([[3.0, 1.0]])}, {"weight": torch.tensor([[1.0, -0.5]])}]
    >>> found = trajectory_plane(net, (torch.eye(2), torch.zeros(2, 1)), "mse", run, points=5)
    >>> round(sum(found.explained), 6), found.path[-1].tolist()
    (1.0, [0.0, 0.0])
    """
    if points < FEWEST:
        raise ValueError(f"points must be at least {FEWEST}, got {points}")
    if len(states) < FEWEST - 1:
        raise ValueError(f"a plane needs at least {FEWEST - 1} checkpoints beside the network, got {len(states)}")
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    moved = torch.stack([_displacement(goal, state, i) for i, state in enumerate(states)])
    moved = torch.cat([moved, torch.zeros_like(moved[:1])])
    _, s, axes = torch.linalg.svd(moved - moved.mean(0), full_matrices=False)
    shares = s.square() / s.square().sum()
    if not float(s[1]) > 1e-10 * float(s[0]):
        raise ValueError("the checkpoints lie on one line, so there is no plane; use linear_path between two of them")
    path = moved @ axes[:2].T
    rest = torch.linalg.vector_norm(moved - path @ axes[:2], dim=1) / torch.linalg.vector_norm(moved, dim=1)
    first, second = (axes[i].to(goal.device, goal.dtype) for i in range(2))
    at = [_grid(path[:, i].cpu().numpy(), points) for i in range(2)]
    n = len(moved)
    walk = 1 / np.sin(np.pi * np.arange(1, n) / (2 * n)) ** 2
    return TrajectoryPlane(
        surface=surface_of(goal, (first, second), at[0], at[1]), path=path.cpu().numpy(),
        explained=(float(shares[0]), float(shares[1])),
        random_walk=(float(walk[0] / walk.sum()), float(walk[1] / walk.sum())),
        outside=float(rest[:-1].nan_to_num(0.0).max()),
    )  # fmt: skip


def _displacement(goal: Objective, state: Mapping[str, Tensor], number: int) -> Tensor:
    """A checkpoint's parameters less the network's, flat and in float64."""
    pieces = []
    for name, p in goal.parameters.items():
        if name not in state or state[name].shape != p.shape:
            raise ValueError(
                f"checkpoint {number} has no {name} of shape {tuple(p.shape)}; give states of this network"
            )
        pieces.append((state[name].detach().to(p.device).double() - p.detach().double()).reshape(-1))
    flat = torch.cat(pieces)
    if not bool(torch.isfinite(flat).all()):
        raise ValueError(f"checkpoint {number} has parameters that are not finite; leave out what diverged")
    return flat


def _grid(along: Floats, points: int) -> Floats:
    """About ``points`` equidistant values over the path and a margin, 0 among them."""
    room = MARGIN * float(along.max() - along.min())
    low, high = min(float(along.min()) - room, 0.0), max(float(along.max()) + room, 0.0)
    step = (high - low) / (points - 1)
    return np.arange(math.floor(low / step), math.ceil(high / step) + 1, dtype=np.float64) * step
