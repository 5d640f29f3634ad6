"""Where a piecewise linear network bends along a segment: its kinks, one operation after the other.

Between the kinks of all earlier operations the input of the next one is a straight line in the position t, so its own
kinks follow from its values at the known positions, with no search. Operations are seen where torch dispatches them,
so it does not matter whether a module or a function asked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Along = Callable[[Tensor], Tensor]
"""Positions t (p,) to outputs of the network there (p, ...), float64."""

ZERO = ("relu", "leaky_relu", "_prelu_kernel", "abs", "rrelu_with_noise")
SAME_PLACE = 1e-12  # positions closer than this share of the segment are one


@dataclass(frozen=True, eq=False)
class Bends:
    """Input of one operation at all positions, and the levels at which it bends; a pool has the index of its winner."""

    values: Tensor
    levels: tuple[float, ...]
    winner: Tensor | None = None


def kinks(along: Along) -> Tensor:
    """All positions in [0, 1], ends included, between which no operation of the network bends; ascending, float64."""
    at = torch.tensor([0.0, 1.0], dtype=torch.float64)
    which = 0
    while (seen := _watched(along, at, which)) is not None:
        new = torch.cat(list(_crossings(at, seen)) or [at[:0]])
        merged = _merged(at, new)
        if seen.winner is None or len(merged) == len(at):
            which += 1  # a pool is looked at again: between two winners a third may come up
        at = merged
    return at


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the input of the operation number ``which`` among those that bend."""

    def __init__(self, which: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.which, self.count = which, 0
        self.seen: Bends | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_") if hasattr(func, "overloadpacket") else ""
        levels = _levels(name, args, kwargs or {})
        pool = name == "max_pool2d_with_indices"
        mine = (bool(levels) or pool) and self.count == self.which
        before = args[0].detach().clone() if mine else None
        out = func(*args, **(kwargs or {}))
        if levels or pool:
            if mine and before is not None:
                winner = out[1].flatten(2) if pool else None
                self.seen = Bends(before.flatten(2) if pool else before.reshape(len(before), -1), levels, winner)
            self.count += 1
        return out


def _watched(along: Along, at: Tensor, which: int) -> Bends | None:
    watch = _Watch(which)
    with torch.no_grad(), watch:
        along(at)
    seen = watch.seen
    if seen is not None and len(seen.values) != len(at):
        return Bends(seen.values[:0], ())  # not one row per position: weights, say, which do not depend on t
    return seen


def _levels(name: str, args: Any, kwargs: Any) -> tuple[float, ...]:
    if not (args and isinstance(args[0], Tensor) and args[0].is_floating_point() and args[0].ndim):
        return ()
    if name in ZERO:
        return (0.0,)
    if name == "threshold":
        return (float(args[1]),)
    if name == "hardtanh":
        return float(args[1]) if len(args) > 1 else -1.0, float(args[2]) if len(args) > 2 else 1.0
    if name in ("clamp", "clamp_min", "clamp_max"):
        given = [*args[1:], kwargs.get("min"), kwargs.get("max")]
        return tuple(float(x) for x in given if isinstance(x, int | float))
    return ()


def _crossings(at: Tensor, seen: Bends) -> Iterator[Tensor]:
    if len(seen.values) == 0:
        return
    if seen.winner is None:
        for level in seen.levels:
            gap = seen.values - level
            yield _zero(at, gap[:-1], gap[1:])
        return
    left, right = seen.winner[:-1], seen.winner[1:]
    before, after = seen.values[:-1], seen.values[1:]
    # The winner at one end against the winner at the other: where they are equal the maximum changes hands.
    yield _zero(
        at,
        (before.gather(2, left) - before.gather(2, right)).flatten(1),
        (after.gather(2, left) - after.gather(2, right)).flatten(1),
    )


def _zero(at: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Positions where a line from ``start`` to ``stop`` (intervals, units) passes zero inside an interval."""
    row, column = ((start * stop) < 0).nonzero(as_tuple=True)
    a, b = start[row, column], stop[row, column]
    return at[row] + (at[row + 1] - at[row]) * (a / (a - b))


def _merged(at: Tensor, new: Tensor) -> Tensor:
    """Known positions and those of the new ones that are none of them, ascending."""
    new = new.sort().values
    if len(new) > 1:
        new = new[torch.cat([torch.ones(1, dtype=torch.bool), new.diff() > SAME_PLACE])]
    place = torch.searchsorted(at, new).clamp(1, len(at) - 1)
    apart = torch.minimum((new - at[place - 1]).abs(), (new - at[place]).abs()) > SAME_PLACE
    return torch.cat([at, new[apart]]).sort().values
