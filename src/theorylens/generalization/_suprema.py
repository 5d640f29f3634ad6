"""Classes of functions on given points whose best correlation with a list of signs is known exactly.

Each has ``suprema(signs)``: for every row of ``signs`` (k, m) the largest sum over i of sign_i h(x_i) over the class,
the first function included; ``reach``, shape (m,): the largest |h(x_i)|; and ``bound``, a closed form no smaller than
the empirical Rademacher complexity.

Source   Bartlett, Mendelson (2002), JMLR 3:463; Mohri, Rostamizadeh, Talwalkar (2018), chapters 3, 6 and 11
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._asked import positive, whole
from ._elementwise import elementwise

Floats = NDArray[np.float64]


@runtime_checkable
class FunctionClass(Protocol):
    """What `rademacher` needs to know."""

    @property
    def reach(self) -> Floats: ...

    @property
    def bound(self) -> float: ...

    def suprema(self, signs: Floats) -> Floats: ...


@overload
def massart(count: int, n: int, max_norm: float) -> float: ...  # type: ignore[overload-overlap]
@overload
def massart(count: object, n: object, max_norm: object) -> Floats: ...
def massart(count: Any, n: Any, max_norm: Any) -> float | Floats:
    """max_norm sqrt(2 ln count) / n: no set of ``count`` vectors of that 2-norm has a larger Rademacher average.

    For values in [-1, 1] the norm is at most sqrt(n). Massart (2000), lemma 5.2. Rounded up; arrays broadcast.

    Raises
    ------
    ValueError
        ``count`` or ``n`` below 1 or not whole, a norm that is negative or not finite, shapes that do not broadcast.

    >>> round(massart(64, 50, math.sqrt(50)), 12)
    0.407866796068
    >>> massart([1, 64], 50, math.sqrt(50)).round(3)
    array([0.   , 0.408])
    """
    return elementwise(_massart, count, n, max_norm)  # type: ignore[no-any-return]


def _massart(count: int, n: int, max_norm: float) -> float:
    count, n = whole("count", count), whole("n", n)
    if not 0 <= max_norm < math.inf:
        raise ValueError(f"max_norm must be finite and at least 0, got {max_norm}")
    return max_norm * math.sqrt(2 * math.log(count)) / n * (1 + 2.0**-49)


@dataclass(frozen=True, kw_only=True, eq=False)
class FiniteClass:
    """Finitely many functions: ``values`` holds one row per function, shape (count, m)."""

    values: ArrayLike
    _table: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_table", _matrix("values", self.values))

    @property
    def reach(self) -> Floats:
        return np.asarray(np.abs(self._table).max(0))

    @property
    def bound(self) -> float:
        """Massart's, with copies of a function counted once."""
        rows = np.unique(self._table, axis=0)
        if len(rows) == 1:
            return 0.0
        return massart(len(rows), rows.shape[1], float(np.linalg.norm(rows, axis=1).max()))

    def suprema(self, signs: Floats) -> Floats:
        return np.asarray((signs @ self._table.T).max(1))


@dataclass(frozen=True, kw_only=True, eq=False)
class L2Ball:
    """x -> w.x with ||w||_2 <= radius on ``points`` (m, d): the supremum is radius ||sum sign_i x_i||_2."""

    points: ArrayLike
    radius: float = 1.0
    _points: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_points", _matrix("points", self.points))
        positive("radius", self.radius)

    @property
    def reach(self) -> Floats:
        return np.asarray(self.radius * np.linalg.norm(self._points, axis=1))

    @property
    def bound(self) -> float:
        """Radius times the root of the sum of ||x_i||^2, over m."""
        return self.radius * float(np.linalg.norm(self._points)) / len(self._points)

    def suprema(self, signs: Floats) -> Floats:
        return np.asarray(self.radius * np.linalg.norm(signs @ self._points, axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class L1Ball:
    """x -> w.x with ||w||_1 <= radius on ``points`` (m, d): the supremum is radius ||sum sign_i x_i||_inf."""

    points: ArrayLike
    radius: float = 1.0
    _points: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_points", _matrix("points", self.points))
        positive("radius", self.radius)

    @property
    def reach(self) -> Floats:
        return np.asarray(self.radius * np.abs(self._points).max(1))

    @property
    def bound(self) -> float:
        """Massart's for the 2d corners of the ball."""
        m, d = self._points.shape
        return float(massart(2 * d, m, self.radius * float(np.linalg.norm(self._points, axis=0).max())))

    def suprema(self, signs: Floats) -> Floats:
        return np.asarray(self.radius * np.abs(signs @ self._points).max(1))


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelBall:
    """Functions of norm at most ``radius`` in the Hilbert space of a kernel with ``gram`` (m, m) on the points.

    The supremum is radius sqrt(sign' K sign).
    """

    gram: ArrayLike
    radius: float = 1.0
    _gram: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        gram = _matrix("gram", self.gram)
        if gram.shape[0] != gram.shape[1] or not np.allclose(gram, gram.T, rtol=1e-8, atol=1e-12):
            raise ValueError(f"a Gram matrix is square and symmetric, got shape {gram.shape}")
        least = float(np.linalg.eigvalsh(gram)[0])
        if least < -1e-8 * max(1.0, float(np.trace(gram))):
            raise ValueError(f"a Gram matrix has no negative eigenvalue, got {least:.3g}")
        object.__setattr__(self, "_gram", gram)
        positive("radius", self.radius)

    @property
    def reach(self) -> Floats:
        return np.asarray(self.radius * np.sqrt(np.maximum(np.diag(self._gram), 0)))

    @property
    def bound(self) -> float:
        """Radius times the root of the trace, over m."""
        return self.radius * math.sqrt(float(np.trace(self._gram))) / len(self._gram)

    def suprema(self, signs: Floats) -> Floats:
        square = np.einsum("ki,ij,kj->k", signs, self._gram, signs, optimize=True)
        return np.asarray(self.radius * np.sqrt(np.maximum(square, 0)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Stumps:
    """Answers +1 or -1 by comparing one feature of ``points`` (m, d) with a threshold.

    ``two_sided``: either side may be the positive one; otherwise it is the larger one. With one feature these are the
    thresholds on a line.
    """

    points: ArrayLike
    two_sided: bool = True
    _cuts: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        table = _matrix("points", points[:, None] if points.ndim == 1 else points)
        # One row per distinct cut: 1 for the points below it. Equal values are never parted.
        cuts = [table[:, j] < t for j in range(table.shape[1]) for t in [*np.unique(table[:, j]), np.inf]]
        object.__setattr__(self, "_cuts", np.unique(np.array(cuts, dtype=np.float64), axis=0))

    @property
    def reach(self) -> Floats:
        return np.ones(self._cuts.shape[1])

    @property
    def count(self) -> int:
        """Number of different labellings of the points."""
        if not self.two_sided:
            return len(self._cuts)
        return len(np.unique(np.concatenate([self._cuts, 1 - self._cuts]), axis=0))

    @property
    def bound(self) -> float:
        """Massart's for the labellings of the points."""
        m = self._cuts.shape[1]
        return massart(self.count, m, math.sqrt(m))

    def suprema(self, signs: Floats) -> Floats:
        agreement = signs.sum(1, keepdims=True) - 2 * signs @ self._cuts.T
        return np.asarray((np.abs(agreement) if self.two_sided else agreement).max(1))


def _matrix(name: str, given: ArrayLike) -> Floats:
    value = np.asarray(given, dtype=np.float64)
    if value.ndim != 2 or 0 in value.shape:
        raise ValueError(f"{name} must be a matrix with at least one row and column, got shape {value.shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} must be finite, got {int((~np.isfinite(value)).sum())} values that are not")
    return value
