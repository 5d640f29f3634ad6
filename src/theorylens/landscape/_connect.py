"""A bent path between two networks, trained so that the loss stays low on it: are they in one connected valley?

Method   the bends of a Bézier curve or a polygon are trained on the loss at a uniformly drawn place of the curve
Source   Garipov, Izmailov, Podoprikhin, Vetrov, Wilson (2018), Loss surfaces, mode connectivity and fast ensembling of
         DNNs, NeurIPS; Draxler, Veschgini, Salmhofer, Hamprecht (2018), ICML (no barriers between minima)
Assumes  one architecture; batch statistics are taken anew at every place that is measured
Breaks   a low path shows that the two are connected; that none was found shows nothing
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from theorylens.core import Split, Task
from theorylens.results import Curve, Line, Message
from theorylens.training import Keeping, Optimisation, fit

from ._paths import (
    Path,
    Quantity,
    Statistics,
    check_match,
    measure_of,
    mixed,
    path_along,
    path_between,
    quantity_name,
    uncompiled,
)  # fmt: skip

Kind = Literal["bezier", "polygon"]
Floats = NDArray[np.float64]
# Adam at this rate moves the bends of networks of a hundred to a million weights within a few hundred steps.
TRAINING = Optimisation(optimizer="adam", lr=3e-3, batch_size=128, epochs=50, schedule="cosine")


@dataclass(frozen=True, kw_only=True, eq=False)
class Connection:
    """A trained path between two networks, beside the straight line.

    Attributes
    ----------
    path, straight
        Losses on the trained path and on the straight line, at the same shares of the way and in the same setting.
    kind, bends
        Shape of the path, and the parameters at its bends by name.
    training_losses
        Loss of the batch at the place drawn, a step each.
    """

    path: Path
    straight: Path
    kind: Kind
    bends: tuple[dict[str, Tensor], ...]
    training_losses: Floats
    _first: nn.Module
    _second: nn.Module

    @property
    def barrier(self) -> float:
        """That of the trained path."""
        return self.path.barrier

    @property
    def descent(self) -> float:
        """By how much training lowered the mean over the path, which it begins as the straight line."""
        return float(self.straight.losses.mean() - self.path.losses.mean())

    def at(self, share: float) -> nn.Module:
        """A copy of the network at a share of the way, 0 and 1 being the two given ones.

        Its running statistics are interpolated between theirs; `update_statistics` takes them anew.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be between 0 and 1, got {share}")
        model = copy.deepcopy(self._first)
        model.load_state_dict(state_at(self._first, self._second, self.bends, self.kind, share))
        return model

    def curve(self) -> Curve:
        """As a picture: the trained path beside the straight line."""
        return Curve(
            label=Message("landscape.connection", "The loss on a trained path between two networks"),
            lines=(
                Line(
                    x=self.path.at, y=self.path.losses, name=Message("landscape.connection.path", "trained path"),
                ),
                Line(
                    x=self.straight.at, y=self.straight.losses, role="init",
                    name=Message("landscape.connection.straight", "straight line"),
                ),
                Line(
                    x=self.path.at[[0, -1]], y=self.path.losses[[0, -1]], role="theory",
                    name=Message("landscape.path.chord", "between the ends"),
                ),
            ),
            x_name=Message("landscape.path.x", "share of the second network"),
            y_name=quantity_name(self.path.of),
        )  # fmt: skip


def connect(
    first: nn.Module,
    second: nn.Module,
    data: Any,
    loss: Any,
    *,
    kind: Kind = "bezier",
    bends: int = 1,
    optimisation: Optimisation = TRAINING,
    points: int = 21,
    statistics: Statistics = "recompute",
    of: Quantity = "loss",
    seed: int = 0,
    batch_size: int = 256,
) -> Connection:
    """Train a path between two networks on the mean of the loss over it.

    The bends begin on the straight line; each step draws a place t, and moves the bends down the gradient of the loss
    of one batch there, batch normalisation and dropout being in training mode. The ends stay the two networks, bit for
    bit, and neither is touched.

    Parameters
    ----------
    first, second, data, loss, points, statistics, of, batch_size
        As in `linear_path`; without batch normalisation ``statistics`` makes no difference.
    kind
        ``"bezier"``: a Bézier curve with the bends as control points; ``"polygon"``: straight pieces between them.
    bends
        Number of trained networks in between, at least 1.
    optimisation
        Of the bends.
    seed
        Of places and batches.

    Raises
    ------
    ValueError
        Networks that do not match, no bends, an unknown kind, errors of a task that has none.
    DivergedError
        The loss on the path became infinite or NaN: lower the learning rate.

    >>> left, right = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    >>> _ = left.load_state_dict({"weight": torch.tensor([[1.0, 0.0]])})
    >>> _ = right.load_state_dict({"weight": torch.tensor([[-1.0, 0.1]])})
    >>> rows = torch.eye(2).repeat(64, 1), torch.zeros(128, 1)
    >>> def ring(outputs, targets):  # lowest where the two weights are on the unit circle
    ...     return (2 * outputs.square().mean() - 1).square().expand(len(outputs))
    >>> found = connect(left, right, rows, ring, optimisation=Optimisation(lr=0.1, batch_size=128, epochs=100))
    >>> found.straight.barrier > 0.9, found.barrier < 0.4
    (True, True)
    """
    if kind not in ("bezier", "polygon"):
        raise ValueError(f"kind must be 'bezier' or 'polygon', got {kind!r}")
    if bends < 1:
        raise ValueError(f"bends must be at least 1, got {bends}: without one the path is the straight line")
    first, second = uncompiled(first), uncompiled(second)
    check_match(first.state_dict(), second.state_dict())
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    split = Split.of(data)
    measure = measure_of(split, task, points=points, statistics=statistics, of=of, batch_size=batch_size)
    straight = path_between(first, second, measure, points, of)
    moving = _Moving(first, second, kind, bends)
    fitted = fit(moving, split, task, optimisation, seed=seed, keeping=Keeping(every=1 << 30))
    found = moving.found()
    path = path_along(first, lambda t: state_at(first, second, found, kind, t), measure, points, of)
    return Connection(
        path=path, straight=straight, kind=kind, bends=found, _first=first, _second=second,
        training_losses=np.asarray(fitted.trace.series["batch_loss"], dtype=np.float64),
    )  # fmt: skip


class _Moving(nn.Module):
    """The network at a place of the path that is drawn anew for each call in training mode; its bends are trained."""

    def __init__(self, first: nn.Module, second: nn.Module, kind: Kind, bends: int) -> None:
        super().__init__()
        self._kind = kind
        self._inner = copy.deepcopy(first)
        self._varied = [name for name, p in first.named_parameters() if p.requires_grad]
        self._ends = [_parameters(net) for net in (first, second)]
        for p in self._inner.parameters():
            p.requires_grad_(False)
        self._bends = nn.ModuleList()
        for i in range(bends):
            start = mixed(self._ends[0], self._ends[1], (i + 1) / (bends + 1))
            self._bends.append(nn.ParameterList(nn.Parameter(start[name].clone()) for name in self._varied))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        share = float(torch.rand(())) if self.training else 0.5  # the loop seeds each step by its number
        return functional_call(self._inner, self._place(share), inputs, named)

    def found(self) -> tuple[dict[str, Tensor], ...]:
        """The trained parameters at the bends."""
        return tuple({name: p.detach().clone() for name, p in bend.items()} for bend in self._named())

    def _named(self) -> list[dict[str, Tensor]]:
        bends: list[dict[str, Tensor]] = []
        for bend in self._bends:
            assert isinstance(bend, nn.ParameterList)
            bends.append(dict(zip(self._varied, bend, strict=True)))
        return bends

    def _place(self, share: float) -> dict[str, Tensor]:
        return _parameters_at(self._ends, self._named(), self._kind, share)


def state_at(
    first: nn.Module, second: nn.Module, bends: Sequence[Mapping[str, Tensor]], kind: Kind, share: float
) -> dict[str, Tensor]:
    """The state dict at a share of the way; exactly an end at 0 and 1, buffers interpolated."""
    state = mixed(first.state_dict(), second.state_dict(), share)
    if share in (0.0, 1.0):
        return state
    place = _parameters_at([_parameters(net) for net in (first, second)], bends, kind, share)
    named = {id(p): name for name, p in first.named_parameters()}
    for alias, p in first.named_parameters(remove_duplicate=False):  # a tied parameter is in the state twice
        state[alias] = place[named[id(p)]]
    return state


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def _parameters_at(
    ends: Sequence[Mapping[str, Tensor]], bends: Sequence[Mapping[str, Tensor]], kind: Kind, share: float
) -> dict[str, Tensor]:
    """The parameters at a share of the way: those with bends along the path, others on the straight line."""
    place = mixed(ends[0], ends[1], share)
    weights = path_weights(kind, len(bends), share)
    for name in bends[0]:
        corners = [ends[0][name], *(bend[name] for bend in bends), ends[1][name]]
        place[name] = torch.stack([w * corner for w, corner in zip(weights, corners, strict=True) if w]).sum(0)
    return place


def path_weights(kind: Kind, bends: int, share: float) -> list[float]:
    """How much of the first end, each bend and the second end the parameters at ``share`` consist of; they add to 1."""
    n = bends + 1
    if kind == "bezier":
        return [math.comb(n, i) * (1 - share) ** (n - i) * share**i for i in range(n + 1)]
    piece = min(int(share * n), n - 1)
    inside = share * n - piece
    return [1 - inside if i == piece else inside if i == piece + 1 else 0.0 for i in range(n + 1)]
