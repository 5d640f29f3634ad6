"""Where a monotone statement turns true, to the last bit: how bounds are rounded to the safe side."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statement = Callable[[Floats], NDArray[np.bool_]]


def crossing(holds: Statement, low: Floats, high: Floats, guess: Floats | None = None) -> tuple[Floats, Floats]:
    """Neighbouring doubles between which ``holds`` turns true: false at the first, true at the second.

    ``low`` and ``high`` are arrays of one shape with 0 <= low <= high; ``holds`` is elementwise, taken as false at
    ``low`` and true at ``high`` without asking. ``guess`` only saves steps: where it is wrong nothing is lost. Where
    ``holds`` wavers within its own rounding one of the changes is returned; the second number always satisfied it.
    """
    if guess is not None:
        low, high = _narrowed(holds, low, high, guess)
    # The bits of non-negative doubles, read as integers, are in the order of the numbers: halving takes at most 63
    # rounds whatever the magnitudes. Adding 0.0 turns -0.0 into 0.0.
    below, above = (low + 0.0).view(np.int64), (high + 0.0).view(np.int64)
    while (open_ := above - below > 1).any():
        middle = below + (above - below) // 2
        true = holds(middle.view(np.float64))
        above = np.where(open_ & true, middle, above)
        below = np.where(open_ & ~true, middle, below)
    return below.view(np.float64), above.view(np.float64)


def crossing_of_numbers(holds: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """`crossing` for one number, by the same steps to the same doubles, without the price of arrays."""
    as_bits, as_number = struct.Struct("q"), struct.Struct("d")
    (below,), (above,) = (as_bits.unpack(as_number.pack(end + 0.0)) for end in (low, high))
    while above - below > 1:
        middle = below + (above - below) // 2
        if holds(as_number.unpack(as_bits.pack(middle))[0]):
            above = middle
        else:
            below = middle
    low, high = (as_number.unpack(as_bits.pack(end))[0] for end in (below, above))
    return low, high


def _narrowed(holds: Statement, low: Floats, high: Floats, guess: Floats) -> tuple[Floats, Floats]:
    width = 1e-11  # scipy's quantiles are usually that close
    guess = np.where(np.isfinite(guess), guess, high)
    near = np.clip(guess * (1 - width), low, high)
    far = np.clip(guess * (1 + width), low, high)
    at_near, at_far = holds(near), holds(far)
    lower = np.where(at_near, low, np.where(at_far, near, far))
    upper = np.where(at_near, near, np.where(at_far, far, high))
    return lower, upper
