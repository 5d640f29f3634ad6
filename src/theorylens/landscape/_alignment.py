"""The same network with its units in the order of another one's, as far as that can be found.

Method   weight matching: for one group of units after the other the permutation that brings the weights closest, all
         others kept, until none changes; or activation matching: units are paired by the correlation of their values
Source   Ainsworth, Hayase, Srinivasa (2023), Git Re-Basin, ICLR, algorithm 1; Li, Yosinski, Clune, Lipson, Hopcroft
         (2016), Convergent learning, ICLR (activations); Entezari, Sedghi, Saukh, Neyshabur (2022), ICLR
Assumes  two networks of one architecture whose graph can be traced
Breaks   weight matching over several groups is a hard problem: what is found is a local optimum. Narrow networks have a
         barrier after it too, and there may be no order of units without one
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from theorylens.core import rng_for

from ._paths import check_match, uncompiled
from ._unit_flow import UnitAxis
from ._unit_groups import UnitGroup, unit_groups
from ._unit_values import unit_correlations

Method = Literal["weights", "activations"]
SWEEPS = 100  # passes over all groups; a handful is what it takes
GAIN = 1e-9  # share of its size by which a match must improve: below it is rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """A network whose units were put into the order of another one's; its outputs are those it had.

    Attributes
    ----------
    model
        A copy of the second network, permuted.
    groups, orders
        Groups of units, and for each the old numbers of the units in their new order.
    distance_before, distance_after
        Euclidean distance of its parameters to the first network's.
    sweeps
        Passes over all groups until nothing changed.
    """

    model: nn.Module
    groups: tuple[UnitGroup, ...]
    orders: tuple[Int[Tensor, "_"], ...]
    distance_before: float
    distance_after: float
    sweeps: int

    @property
    def moved(self) -> int:
        """How many units are at another place than before."""
        return sum(int((order != torch.arange(len(order))).sum()) for order in self.orders)


def align(
    first: nn.Module,
    second: nn.Module,
    data: Any = None,
    *,
    method: Method = "weights",
    seed: int = 0,
    batch_size: int = 256,
) -> Alignment:
    """``second`` with its hidden units permuted towards those of ``first``; neither is touched.

    Its outputs stay (up to the order in which sums are added), only its place in the space of parameters changes: what
    a `barrier` between the two measures is then less of an accident of numbering.

    Parameters
    ----------
    first, second
        Networks of one architecture: dense, convolutional (with batch normalisation) or residual.
    data
        Inputs for ``"activations"``: anything `Split` takes, the first part of a batch being the input.
    method
        ``"weights"`` needs no data; ``"activations"`` pairs units by the correlation of their values on ``data``.
    seed
        Of the order in which weight matching visits the groups.

    Raises
    ------
    RefusedError
        The units cannot be followed through something in the network (attention, for instance); it is named.
    ValueError
        Networks that do not match, an unknown method, activations without data.

    >>> torch.manual_seed(0) and None
    >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    >>> other = copy.deepcopy(net)
    >>> with torch.no_grad():
    ...     for p, axis in ((other[0].weight, 0), (other[0].bias, 0), (other[2].weight, 1)):
    ...         _ = p.copy_(p.flip(axis))
    >>> align(net, other).distance_after
    0.0
    """
    if method not in ("weights", "activations"):
        raise ValueError(f"method must be 'weights' or 'activations', got {method!r}")
    if method == "activations" and data is None:
        raise ValueError("activations are matched on data; give data=, or method='weights'")
    first, second = uncompiled(first), uncompiled(second)
    a, b = first.state_dict(), second.state_dict()
    check_match(a, b)
    groups = unit_groups(second)
    if method == "activations":
        found = unit_correlations(first, second, groups, data, batch_size=batch_size)
        orders, sweeps = [_assigned(matrix) for matrix in found], 1
    else:
        named = [name for name, _ in second.named_parameters()]
        wide = [{name: state[name].detach().double().cpu() for name in named} for state in (a, b)]
        orders, sweeps = match_weights(wide[0], wide[1], groups, seed=seed)
    moved = copy.deepcopy(second)
    with torch.no_grad():
        own = moved.state_dict()
        for name, tensor in permuted(own, groups, orders).items():
            own[name].copy_(tensor)
    return Alignment(
        model=moved, groups=groups, orders=tuple(orders), sweeps=sweeps,
        distance_before=_distance(first, second), distance_after=_distance(first, moved),
    )  # fmt: skip


def match_weights(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], groups: Sequence[UnitGroup], *, seed: int
) -> tuple[list[Int[Tensor, "_"]], int]:
    """Orders of the units of ``b`` that bring it closest to ``a``, by coordinate descent from the orders they have."""
    orders = [torch.arange(group.size) for group in groups]
    generator = rng_for(seed, "landscape.align")
    at = {(axis.name, axis.axis): (g, axis) for g, group in enumerate(groups) for axis in group.axes}
    sweeps, changed = 0, True
    while changed and sweeps < SWEEPS:
        changed = False
        for g in torch.randperm(len(groups), generator=generator).tolist():
            score = torch.zeros(groups[g].size, groups[g].size, dtype=torch.float64)
            for axis in groups[g].axes:
                if axis.name in a:
                    score += _similarity(a[axis.name], _others(b[axis.name], axis, at, orders), axis, groups[g].size)
            proposed = _assigned(score)
            now, then = (float(score.gather(1, o[:, None]).sum()) for o in (orders[g], proposed))
            if then > now + GAIN * float(score.abs().max()) * groups[g].size:
                orders[g], changed = proposed, True
        sweeps += 1
    return orders, sweeps


def permuted(
    state: Mapping[str, Tensor], groups: Sequence[UnitGroup], orders: Sequence[Int[Tensor, "_"]]
) -> dict[str, Tensor]:
    """``state`` with the units of each group in the order given; entries without units are left out."""
    changed: dict[str, Tensor] = {}
    for group, order in zip(groups, orders, strict=True):
        for axis in group.axes:
            tensor = changed.get(axis.name, state[axis.name])
            changed[axis.name] = tensor.index_select(axis.axis, entries(axis, order).to(tensor.device))
    return changed


def entries(axis: UnitAxis, order: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
    """Entries of an axis when its units come in another order: blocks move as a whole."""
    before = torch.arange(axis.before)[:, None, None] * len(order)
    return ((before + order[None, :, None]) * axis.after + torch.arange(axis.after)).reshape(-1)


def _others(
    tensor: Tensor, axis: UnitAxis, at: Mapping[tuple[str, int], tuple[int, UnitAxis]], orders: Sequence[Tensor]
) -> Tensor:
    """``tensor`` with all of its axes but this one in their present orders."""
    for other in range(tensor.ndim):
        if other != axis.axis and (axis.name, other) in at:
            g, place = at[axis.name, other]
            tensor = tensor.index_select(other, entries(place, orders[g]))
    return tensor


def _similarity(a: Tensor, b: Tensor, axis: UnitAxis, size: int) -> Float[Tensor, "n n"]:
    """Inner products of what belongs to unit i of ``a`` and to unit j of ``b`` in one tensor."""

    def rows(tensor: Tensor) -> Tensor:
        along = tensor.movedim(axis.axis, 0).reshape(axis.before, size, axis.after, -1)
        return along.transpose(0, 1).reshape(size, -1)

    return rows(a) @ rows(b).T


def _assigned(score: Float[Tensor, "n n"]) -> Int[Tensor, "n"]:
    """For each unit of the first network its partner in the second, the sum of scores being largest."""
    return torch.from_numpy(np.asarray(linear_sum_assignment(score.numpy(), maximize=True)[1], dtype=np.int64))


def _distance(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return math.sqrt(sum(float((p.detach().double() - q.detach().double()).square().sum()) for p, q in pairs))
