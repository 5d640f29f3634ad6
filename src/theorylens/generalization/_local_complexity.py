"""The part of a ball of functions that is small on the data: what fast rates are made of.

Method   the supremum over the intersection of a ball and an ellipsoid, by its dual: one number to be found per signs
Source   Bartlett, Bousquet, Mendelson (2005), Ann. Statist. 33:1497; Mendelson (2002), COLT, for the closed form
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._asked import positive
from ._suprema import KernelBall

Floats = NDArray[np.float64]
_HALVINGS = 120  # of an interval for a convex function: to one part in 10^12 and more
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalKernelBall:
    """Functions of a `KernelBall` whose mean square on the m points is at most ``level``.

    Parameters
    ----------
    gram
        K, shape (m, m); for linear functions the points times their transpose.
    radius
        Norm of the functions in the kernel's space, at most.
    level
        Mean of h(x_i)^2 over the points, at most; above the largest that the ball has it excludes nothing.
    """

    gram: ArrayLike
    level: float
    radius: float = 1.0
    _spectrum: Floats = field(init=False, repr=False)
    _vectors: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        whole = KernelBall(gram=self.gram, radius=self.radius)  # the same checks
        positive("level", self.level)
        values, vectors = np.linalg.eigh(np.asarray(self.gram, dtype=np.float64) / len(whole.reach))
        object.__setattr__(self, "_spectrum", np.maximum(values, 0))
        object.__setattr__(self, "_vectors", vectors)

    @property
    def reach(self) -> Floats:
        """No function exceeds the ball's limit, nor the root of m times the level, at any point."""
        m = len(self._spectrum)
        return np.minimum(KernelBall(gram=self.gram, radius=self.radius).reach, math.sqrt(m * self.level))

    @property
    def bound(self) -> float:
        """Mendelson's sqrt(2/m sum min(level, radius^2 lambda_j)) with the eigenvalues of K / m."""
        terms = np.minimum(self.level, self.radius**2 * self._spectrum)
        return math.sqrt(2 * math.fsum(terms) / len(self._spectrum))

    def suprema(self, signs: Floats) -> Floats:
        """In the eigenbasis: the most of sum a_j w_j with |w|^2 <= radius^2 and sum lambda_j w_j^2 <= level.

        Two convex quadratic constraints: the supremum is the least, over t in [0, 1], of the root of
        sum a_j^2 / (t/radius^2 + (1 - t) lambda_j/level), a convex function of t under the root.
        """
        m = len(self._spectrum)
        a = (signs @ self._vectors) ** 2 * (m * self._spectrum)

        def dual(t: Floats) -> Floats:
            weight = t[:, None] / self.radius**2 + (1 - t[:, None]) * self._spectrum / self.level
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(np.where(a > 0, a / weight, 0.0).sum(1))

        low, high = np.zeros(len(signs)), np.ones(len(signs))
        for _ in range(_HALVINGS):
            left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
            smaller = dual(left) <= dual(right)
            low, high = np.where(smaller, low, left), np.where(smaller, right, high)
        ends = np.minimum(dual(np.zeros(len(signs))), dual(np.ones(len(signs))))
        return np.asarray(np.sqrt(np.minimum(ends, dual((low + high) / 2))))


def fixed_point(gram: ArrayLike, *, radius: float = 1.0) -> float:
    """The level r at which `LocalKernelBall.bound` equals r: the order of the error that fast rates reach.

    The bound grows like a root at most, so there is one such level above 0; 0 where the kernel vanishes.

    >>> round(fixed_point(np.eye(4)), 6)  # sqrt(2 min(r, 1/4)) = r
    0.707107
    """
    ball = LocalKernelBall(gram=gram, level=1.0, radius=radius)
    m, spectrum = len(ball._spectrum), ball._spectrum

    def value(r: float) -> float:
        return math.sqrt(2 * math.fsum(np.minimum(r, radius**2 * spectrum)) / m)

    low, high = 0.0, max(value(math.inf), 1e-300)
    if value(math.inf) == 0:
        return 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) > middle else (low, middle)
    return high
