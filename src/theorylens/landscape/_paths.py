"""The straight line between two networks: does the loss rise in between?

Source   Goodfellow, Vinyals, Saxe (2015), ICLR; Frankle, Dziugaite, Roy, Carbin (2020), Linear mode connectivity and
         the lottery ticket hypothesis, ICML; Garipov et al. (2018), NeurIPS (batch statistics must be taken anew)
Assumes  one architecture: parameters are matched by name
Breaks   networks that differ by a permutation of their units have a barrier and are the same function
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import Subject, Task, objective
from theorylens.results import Curve, Line, Message

from ._averaging import update_statistics

Floats = NDArray[np.float64]
Statistics = Literal["interpolate", "recompute"]
Quantity = Literal["loss", "error"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """Losses on a path from one network (0) to another (1).

    Attributes
    ----------
    at, losses
        Shares of the way to the second network, 0 and 1 among them, and the loss at each.
    of
        ``"error"`` when the numbers are mean errors and not losses.
    """

    at: Floats
    losses: Floats
    of: Quantity = "loss"

    @property
    def barrier(self) -> float:
        """Largest rise above the line between the losses of the two ends; 0 when the path lies below it.

        Infinite, like the other numbers here, where a loss on the path is not finite.
        """
        if not np.isfinite(self.losses).all():
            return math.inf
        chord = (1 - self.at) * self.losses[0] + self.at * self.losses[-1]
        return max(0.0, float((self.losses - chord).max()))

    @property
    def climb(self) -> float:
        """Largest rise above the higher of the two ends; 0 when there is none."""
        if not np.isfinite(self.losses).all():
            return math.inf
        return max(0.0, float(self.losses.max() - max(self.losses[0], self.losses[-1])))

    @property
    def rise(self) -> float:
        """Largest rise from an earlier to a later point; 0 when the loss never rises."""
        if not np.isfinite(self.losses).all():
            return math.inf
        return max(0.0, float((self.losses - np.minimum.accumulate(self.losses)).max()))

    def falls(self, tolerance: float = 0.0) -> bool:
        """Whether no step along the path rises by more than ``tolerance``."""
        return bool((np.diff(self.losses) <= tolerance).all())

    def curve(self) -> Curve:
        """As a picture, with the chord whose excess is the barrier."""
        ends = np.array([0.0, 1.0])
        name = quantity_name(self.of)
        return Curve(
            label=Message("landscape.path", "The {quantity} on the straight line between two networks", quantity=name),
            lines=(
                Line(x=self.at, y=self.losses, name=name),
                Line(
                    x=ends, y=self.losses[[0, -1]], name=Message("landscape.path.chord", "between the ends"),
                    role="theory",
                ),
            ),
            x_name=Message("landscape.path.x", "share of the second network"),
            y_name=name,
        )  # fmt: skip


def quantity_name(of: Quantity) -> Message:
    """What is drawn."""
    return Message("landscape.path.loss", "loss") if of == "loss" else Message("landscape.path.error", "mean error")


def linear_path(
    first: nn.Module,
    second: nn.Module,
    data: Any,
    loss: Any,
    *,
    points: int = 21,
    statistics: Statistics = "interpolate",
    of: Quantity = "loss",
    batch_size: int = 256,
) -> Path:
    """The loss at ``points`` networks on the line between two.

    Parameters
    ----------
    first, second
        Networks of one architecture, in evaluation mode; neither is touched.
    data, loss
        As in `eigenvalues`.
    points
        At least 3, both ends among them.
    statistics
        What batch normalisation uses in between: the ends' running statistics interpolated, or ``"recompute"``: taken
        anew from ``data``, at the ends too.
    of
        ``"error"``: the mean error of the task instead of the loss (for classification the share of wrong answers).

    Raises
    ------
    ValueError
        Networks that do not match, fewer than 3 points, errors of a task that has none.

    >>> rows = torch.tensor([[1.0]]), torch.zeros(1, 1)
    >>> left, right = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> _ = left.load_state_dict({"weight": -torch.ones(1, 1)}), right.load_state_dict({"weight": torch.ones(1, 1)})
    >>> linear_path(left, right, rows, lambda o, t: (o[:, 0] ** 2 - 1) ** 2, points=5).barrier
    1.0
    """
    first, second = uncompiled(first), uncompiled(second)
    check_match(first.state_dict(), second.state_dict())
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    measure = measure_of(data, task, points=points, statistics=statistics, of=of, batch_size=batch_size)
    return path_between(first, second, measure, points, of)


def measure_of(
    data: Any, task: Task, *, points: int, statistics: Statistics, of: Quantity, batch_size: int
) -> Callable[[nn.Module], float]:
    """The loss or error over ``data`` of a network on a path, which may be written to; refuses odd settings."""
    if points < 3:
        raise ValueError(f"points must be at least 3, got {points}: the ends alone have no in-between")
    if statistics not in ("interpolate", "recompute"):
        raise ValueError(f"statistics must be 'interpolate' or 'recompute', got {statistics!r}")
    if of not in ("loss", "error"):
        raise ValueError(f"of must be 'loss' or 'error', got {of!r}")

    def measure(between: nn.Module) -> float:
        if statistics == "recompute":
            update_statistics(between, data, batch_size=batch_size, forward=task.forward)
        goal = objective(between, data, task, batch_size=batch_size)
        return goal.value if of == "loss" else _mean_error(between, data, task, batch_size)

    return measure


def _mean_error(model: nn.Module, data: Any, task: Task, batch_size: int) -> float:
    """Mean over examples (tokens that count, in a language task)."""
    subject = Subject(model=model, task=task, train=data, batch_size=batch_size)
    errors = subject.scores("train").errors
    if errors is None:
        raise ValueError(f"the loss {task.loss_name} has no error beside it; give Task(error=...), or of='loss'")
    return float(errors.mean())


def path_between(
    first: nn.Module, second: nn.Module, measure: Callable[[nn.Module], float], points: int, of: Quantity = "loss"
) -> Path:
    """``measure`` of the networks on the line, each made in one copy of the first."""
    a, b = first.state_dict(), second.state_dict()
    return path_along(first, lambda share: mixed(a, b, share), measure, points, of)


def path_along(
    model: nn.Module,
    state: Callable[[float], Mapping[str, Tensor]],
    measure: Callable[[nn.Module], float],
    points: int,
    of: Quantity = "loss",
) -> Path:
    """``measure`` of networks at equidistant shares of a way, their ``state`` put into one copy of ``model``."""
    between, at = copy.deepcopy(model), np.linspace(0.0, 1.0, points)
    losses = []
    for share in at:
        between.load_state_dict(dict(state(float(share))))
        losses.append(measure(between))
    return Path(at=at, losses=np.array(losses), of=of)


def barrier(
    first: nn.Module,
    second: nn.Module,
    data: Any,
    loss: Any,
    *,
    points: int = 21,
    statistics: Statistics = "interpolate",
    of: Quantity = "loss",
    batch_size: int = 256,
) -> float:
    """The linear barrier between two networks: the largest L(t) - ((1 - t) L(0) + t L(1)); see `linear_path`.

    A lower estimate: the maximum over the points taken. Frankle et al. (2020) call two networks linearly connected when
    the barrier of the test error (``of="error"``) is below 0.02.
    """
    path = linear_path(
        first, second, data, loss, points=points, statistics=statistics, of=of, batch_size=batch_size
    )  # fmt: skip
    return path.barrier


def mixed(a: Mapping[str, Tensor], b: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) a + share b; exactly an end at 0 and 1. Integers (counters) are those of ``a``."""
    if share in (0.0, 1.0):
        return dict(a if share == 0 else b)
    return {name: torch.lerp(t, b[name].to(t), share) if t.is_floating_point() else t for name, t in a.items()}


def uncompiled(model: nn.Module) -> nn.Module:
    """The network that `torch.compile` wrapped, whose parameters are the same under their own names; or ``model``."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def check_match(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Refuse two networks that differ in their entries or shapes, or have values that are not finite."""
    if names := sorted(set(a) ^ set(b)):
        raise ValueError(f"the two networks differ in {', '.join(names[:3])}; give two of one architecture")
    bent = [name for name in a if a[name].shape != b[name].shape]
    if bent:
        name = bent[0]
        raise ValueError(
            f"{name} has shape {tuple(a[name].shape)} in one network and {tuple(b[name].shape)} in the other; "
            "give two of one architecture"
        )
    for name, tensor in [*a.items(), *b.items()]:
        if tensor.is_floating_point() and not math.isfinite(float(tensor.double().sum())):
            raise ValueError(f"{name} is not finite in one of the networks")
