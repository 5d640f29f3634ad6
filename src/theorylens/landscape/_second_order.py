"""The second-order test on a whole spectrum, and what "strict saddle" and "second-order stationary" mean in numbers.

Source   Nesterov, Polyak (2006), Math. Program. 108:177; Ge et al. (2015), COLT; Lee et al. (2016), COLT;
         Jin et al. (2017), ICML (epsilon-second-order stationary points)
Assumes  a critical point: without a small gradient the eigenvalues classify nothing
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._stationarity import Place

Floats = NDArray[np.float64]
TOLERANCE = 1e-6  # share of the largest |eigenvalue| below which a sign is taken for rounding


@dataclass(frozen=True, kw_only=True)
class SecondOrderTest:
    """What a spectrum says of a critical point.

    Attributes
    ----------
    place
        Strict saddle, strict minimum or maximum, degenerate; or a slope, when the gradient is not small.
    index, nullity
        Number of negative eigenvalues, and of those that are zero up to the tolerance.
    margin
        How far the deciding eigenvalue is from the threshold, in its own units; what an error of the eigenvalues
        would have to reach to change ``place``.
    smallest, largest, threshold
        Both ends of the spectrum; |eigenvalue| up to ``threshold`` counts as zero.
    """

    place: Place
    index: int
    nullity: int
    margin: float
    smallest: float
    largest: float
    threshold: float


def second_order_test(
    eigenvalues: Sequence[float] | Floats | Tensor,
    *,
    gradient_norm: float = 0.0,
    at_rest: float = 0.0,
    tolerance: float = TOLERANCE,
    residual: float = 0.0,
) -> SecondOrderTest:
    """Classify a point by all eigenvalues of its Hessian.

    One certain negative eigenvalue makes a strict saddle (unless all are negative: a maximum), however many others
    are zero; only a spectrum without a negative one can be degenerate.

    Parameters
    ----------
    eigenvalues
        All of them, in any order.
    gradient_norm, at_rest
        The point counts as critical when ``gradient_norm <= at_rest``.
    tolerance
        Share of the largest |eigenvalue| up to which one counts as zero.
    residual
        Error of the eigenvalues, in their units, added to that.

    Raises
    ------
    ValueError
        No eigenvalues, one that is not finite, a negative tolerance.

    >>> second_order_test([1, -1, 1, -1, 0]).place.value
    'strict saddle'
    """
    values = spectrum(eigenvalues)
    for name, given in {"gradient_norm": gradient_norm, "at_rest": at_rest, "tolerance": tolerance,
                        "residual": residual}.items():  # fmt: skip
        if not given >= 0:  # also catches NaN
            raise ValueError(f"{name} must be at least 0, got {given}")
    low, high = float(values.min()), float(values.max())
    threshold = tolerance * float(np.abs(values).max()) + residual
    down, flat = int((values < -threshold).sum()), int((np.abs(values) <= threshold).sum())
    if gradient_norm > at_rest:
        place, margin = Place.SLOPE, gradient_norm - at_rest
    elif down == len(values):
        place, margin = Place.MAXIMUM, -high - threshold
    elif down:
        place, margin = Place.SADDLE, -low - threshold
    elif flat:
        place, margin = Place.DEGENERATE, threshold - abs(low)
    else:
        place, margin = Place.MINIMUM, low - threshold
    return SecondOrderTest(
        place=place, index=down, nullity=flat, margin=margin, smallest=low, largest=high, threshold=threshold
    )


def is_strict_saddle(eigenvalues: Sequence[float] | Floats | Tensor, gamma: float = 1e-3) -> bool:
    """Whether some direction of a critical point bends downwards by at least ``gamma`` (the strict-saddle property).

    Local maxima count, as in the literature: gradient descent leaves them too. ``gamma`` is absolute, in units of the
    loss over squared parameters, because theorems about strict saddles use it so; `strict_saddle` tests a network.

    >>> is_strict_saddle([2.0, 1.0, -0.5])
    True
    """
    if not (math.isfinite(gamma) and gamma > 0):
        raise ValueError(f"gamma must be a positive number, got {gamma}")
    return bool(spectrum(eigenvalues).min() <= -gamma)


def is_second_order_stationary(gradient_norm: float, smallest: float, *, epsilon: float, lipschitz: float) -> bool:
    """Whether |g| <= epsilon and the smallest eigenvalue is at least -sqrt(lipschitz epsilon).

    Parameters
    ----------
    lipschitz
        Lipschitz constant of the Hessian, which is not known for a network: the answer is conditional on it.

    >>> is_second_order_stationary(0.01, -0.05, epsilon=0.01, lipschitz=1.0)
    True
    """
    if not (gradient_norm >= 0 and math.isfinite(smallest)):
        raise ValueError(f"a gradient norm and an eigenvalue are needed, got {gradient_norm} and {smallest}")
    if not (epsilon > 0 and lipschitz > 0 and math.isfinite(epsilon * lipschitz)):
        raise ValueError(f"epsilon and lipschitz must be positive numbers, got {epsilon} and {lipschitz}")
    return gradient_norm <= epsilon and smallest >= -math.sqrt(lipschitz * epsilon)


def spectrum(eigenvalues: Sequence[float] | Floats | Tensor) -> Floats:
    """The numbers as a float64 array; refuses none, NaN and infinity."""
    given = eigenvalues.detach().double().cpu().numpy() if isinstance(eigenvalues, torch.Tensor) else eigenvalues
    values = np.asarray(given, dtype=np.float64).ravel()
    if not len(values):
        raise ValueError("there are no eigenvalues; give at least one")
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{bad} of {len(values)} eigenvalues are not finite; nothing can be classified by them")
    return values
