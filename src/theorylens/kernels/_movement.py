"""Kernel movement: how far training carried the tangent kernel from where it started.

Method   relative Frobenius change; one minus the cosine, plain and centred, which ignores a change of scale
Source   Chizat, Oyallon, Bach (2019), NeurIPS (lazy training); Fort et al. (2020), NeurIPS (kernel distance)
Assumes  both kernels on the same examples
Breaks   a kernel that only grew in scale has moved by the first number and not by the others
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._alignment import Array, checked_kernel, cosine

STILL = 0.1  # a tenth: first-order predictions of the change of outputs are then off by about as much
FAR = 0.5  # half of the kernel is new: the linearisation at the start describes little of the training


@dataclass(frozen=True, kw_only=True)
class Movement:
    """How far a kernel moved; Frobenius norms and inner products.

    Attributes
    ----------
    relative
        ||K_T - K_0|| / ||K_0||: small in lazy training; a change of scale counts.
    turn
        1 - cosine of the kernels: scale does not count, but a large constant part hides everything else.
    centred_turn
        1 - cosine of the centred kernels (one minus CKA); NaN when one of them is constant.
    """

    relative: float
    turn: float
    centred_turn: float


def kernel_movement(before: Array, after: Array) -> Movement:
    """How far a kernel moved, ``before`` and ``after`` (n, n) on the same rows.

    Raises
    ------
    ValueError
        Different shapes, or a kernel that is zero.
    """
    first, last = checked_kernel(before), checked_kernel(after)
    if first.shape != last.shape:
        raise ValueError(f"the kernels have shapes {tuple(first.shape)} and {tuple(last.shape)}; use the same examples")
    if float(first.norm()) == 0 or float(last.norm()) == 0:
        raise ValueError(
            "a kernel is zero, so it has no direction to move from; check that gradients reach the outputs"
        )
    return moved(first, last)


def moved(first: Tensor, last: Tensor) -> Movement:
    """`kernel_movement` of two float64 matrices, unchecked."""
    return Movement(
        relative=float((last - first).norm() / first.norm()),
        turn=1 - cosine(first, last, centred=False),
        centred_turn=1 - cosine(first, last),
    )
