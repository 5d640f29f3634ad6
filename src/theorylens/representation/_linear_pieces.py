"""Linear pieces: into how many straight pieces does a ReLU network cut the segment between two inputs?

Method   exact: kinks of one operation after another, then a check that the output is straight between them
Source   Hanin, Rolnick (2019). Complexity of linear regions in deep networks. ICML; Telgarsky (2016), COLT
Assumes  operations that are piecewise linear: ReLU and its relatives, clamping, max-pooling, anything linear
Breaks   on smooth activations (GELU, tanh), softmax, layer norm: refused, because the check fails
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ._kinks import kinks

STRAIGHT = 1e-9  # largest departure from a straight line, as a share of the largest output


class NotPiecewiseLinearError(ValueError):
    """The output bends where no kink was found: some operation is smooth."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """What lies between two inputs.

    Attributes
    ----------
    bends
        Positions in (0, 1) at which the output changes its slope, ascending, float64.
    pieces
        Straight pieces: one more than bends.
    patterns
        Intervals with one on/off pattern; at least ``pieces``, because a unit that switches need not reach the output.
    """

    bends: Tensor
    patterns: int

    @property
    def pieces(self) -> int:
        return len(self.bends) + 1


def linear_pieces(model: nn.Module | Callable[[Tensor], Tensor], starts: Tensor, ends: Tensor) -> tuple[Pieces, ...]:
    """Exact pieces of ``model`` along the segments from ``starts[i]`` to ``ends[i]``.

    Parameters
    ----------
    model
        A module, of which a float64 copy in evaluation mode is used, or a function of float64 inputs.
    starts, ends
        Inputs of one shape, the example on the first axis.

    Returns
    -------
    One `Pieces` a segment. For random weights their number grows with the number of units, not exponentially with
    depth (Hanin, Rolnick 2019), far below the bounds of `region_bounds`.

    Raises
    ------
    ValueError
        Inputs that do not match or are not real and finite.
    NotPiecewiseLinearError
        The output is not straight between the kinks; a ``ValueError`` too.
    """
    if starts.shape != ends.shape or not len(starts) or starts.ndim < 2:
        raise ValueError(
            f"starts and ends must be inputs of one shape, got {tuple(starts.shape)} and {tuple(ends.shape)}"
        )
    if not (starts.is_floating_point() and ends.is_floating_point()):
        raise ValueError(f"a segment needs real inputs, got {starts.dtype} and {ends.dtype}")
    if not bool(torch.isfinite(starts).all() & torch.isfinite(ends).all()):
        raise ValueError("starts or ends have values that are not finite; remove those examples")
    forward = copy.deepcopy(model).double().eval() if isinstance(model, nn.Module) else model
    with torch.no_grad():
        return tuple(_along(forward, a, b) for a, b in zip(starts.double(), ends.double(), strict=True))


def _along(forward: Callable[[Tensor], Tensor], start: Tensor, end: Tensor) -> Pieces:
    def outputs(t: Tensor) -> Tensor:
        shape = (-1, *(1,) * start.ndim)
        return forward(start + t.to(start.device).reshape(shape) * (end - start))

    at = kinks(outputs)
    middle = (at[1:] + at[:-1]) / 2
    both = outputs(torch.cat([at, middle])).double().flatten(1)
    known, between = both[: len(at)], both[len(at) :]
    scale = float(known.abs().max())
    departure = float((between - (known[1:] + known[:-1]) / 2).abs().max())
    if not departure <= STRAIGHT * scale:
        raise NotPiecewiseLinearError(
            "the output is not a straight line between the kinks found, so the network is not piecewise linear; "
            "pieces can be counted for ReLU, leaky ReLU, clamping and max-pooling with linear layers"
        )
    share = ((at[1:-1] - at[:-2]) / (at[2:] - at[:-2]))[:, None].to(known.device)
    off = (known[1:-1] - torch.lerp(known[:-2], known[2:], share)).abs().amax(1)
    return Pieces(bends=at[1:-1][off.cpu() > 1e-13 * scale], patterns=len(at) - 1)
