"""How many points a class of linear functions can label in every way with a margin to spare.

Method   theorem: fat(margin) <= (norm radius / margin)^2, and never more than the dimension; on given points: a
         least-distance programme for every sign pattern, exact
Source   Kearns, Schapire (1994), J. Comput. Syst. Sci. 48:464; Bartlett, Shawe-Taylor (1999), theorem 4.6; least
         distance programming: Lawson, Hanson (1974), chapter 23
Assumes  the class {x -> w.x : |w| <= norm} without a free offset; append a constant coordinate to bound one with it
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from ._asked import is_whole

Array = NDArray[np.float64]
MOST = 12  # points whose sign patterns are all tried: 2,048 programmes, about a second
ROUNDING = 1e-9  # relative: a norm that exceeds the allowed one by this much counts as equal


@dataclass(frozen=True, kw_only=True, eq=False)
class FatShattering:
    """Whether points are shattered with a margin, and what shows it.

    Attributes
    ----------
    shattered
        Every sign pattern is realised with the margin by a weight vector of the allowed norm.
    norm
        The smallest norm with which the hardest pattern can be realised; infinite when it cannot.
    pattern
        The hardest pattern, shape (points,), entries -1 and 1: the certificate when not shattered.
    """

    shattered: bool
    norm: float
    pattern: Array


def fat_shattering(radius: float, norm: float, margin: float, *, dimension: int | None = None) -> int:
    """Largest number of points of length at most ``radius`` that {x -> w.x : |w| <= ``norm``} shatters at ``margin``.

    floor((norm radius / margin)^2), and at most ``dimension`` where it is given. Attained by orthogonal points when the
    dimension is large enough. The dimension of the data enters in no other way: rescaling points and weights against
    each other changes nothing.

    Raises
    ------
    ValueError
        A margin that is not positive, a negative or infinite radius or norm, a dimension below 1.

    >>> fat_shattering(1.0, 1.0, 0.5), fat_shattering(1.0, 1.0, 0.5, dimension=2)
    (4, 2)
    """
    if not (margin > 0 and math.isfinite(margin)):
        raise ValueError(f"the margin must be positive, got {margin}; without one the dimension is that of the class")
    for name, value in (("radius", radius), ("norm", norm)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"the {name} must be finite and at least 0, got {value}")
    if dimension is not None and (not is_whole(dimension) or dimension < 1):
        raise ValueError(f"the dimension must be a whole number, at least 1, got {dimension}")
    most = math.floor((norm * radius / margin) ** 2 * (1 + 1e-12))
    return most if dimension is None else min(most, int(dimension))


def fat_shattered(points: Array, norm: float, margin: float) -> FatShattering:
    """Whether {x -> w.x : |w| <= ``norm``} shatters ``points``, shape (m, d), at ``margin``; exact.

    The levels around which the margin is taken may be 0: the class is symmetric, so half the difference of the
    solutions of opposite patterns realises the pattern around 0 with no larger norm. Each pattern is then a programme
    min |w| subject to s_i w.x_i >= margin.

    Raises
    ------
    ValueError
        No points or more than `MOST`, values that are not finite, a margin or norm that is not positive.

    >>> fat_shattered(np.eye(4), 1.0, 0.5).shattered, fat_shattered(np.eye(5), 1.0, 0.5).shattered
    (True, False)
    """
    x = _points(points)
    if not (margin > 0 and math.isfinite(margin) and norm > 0 and math.isfinite(norm)):
        raise ValueError(f"margin and norm must be positive and finite, got {margin} and {norm}")
    if len(x) > MOST:
        raise ValueError(f"{len(x)} points have 2^{len(x) - 1} sign patterns; give at most {MOST}")
    worst, pattern = -1.0, np.ones(len(x))
    for signs in _patterns(len(x)):
        needed = _least_norm(signs[:, None] * x) * margin
        if needed > worst:
            worst, pattern = needed, signs
        if math.isinf(worst):
            break
    return FatShattering(shattered=worst <= norm * (1 + ROUNDING), norm=worst, pattern=pattern)


def largest_shattered(points: Array, norm: float, margin: float) -> tuple[int, ...]:
    """A largest subset of ``points`` that is shattered, as row numbers; exact, for at most `MOST` points.

    Subsets grow by one point at a time: every part of a shattered set is shattered, so none is missed. Its size is the
    fat-shattering dimension restricted to these points, at most `fat_shattering` with their largest length.

    >>> largest_shattered(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 1.0, 0.5)
    (0, 1)
    """
    x = _points(points)
    if len(x) > MOST:
        raise ValueError(f"the search over subsets is exact for at most {MOST} points, got {len(x)}; choose some")
    best: tuple[int, ...] = ()
    level: set[tuple[int, ...]] = {()}
    while level:
        larger = {(*s, i) for s in level for i in range(s[-1] + 1 if s else 0, len(x))}
        level = {
            s
            for s in larger
            if all(part in level for part in itertools.combinations(s, len(s) - 1))
            and fat_shattered(x[list(s)], norm, margin).shattered
        }
        if level:
            best = min(level)
    return best


def _least_norm(rows: Array) -> float:
    """Smallest |w| with rows @ w >= 1, infinite when there is none: least-distance programming by NNLS."""
    scale = float(np.abs(rows).max())
    if scale == 0:
        return math.inf
    rows = rows / scale
    system = np.vstack([rows.T, np.ones(len(rows))])
    target = np.zeros(len(system))
    target[-1] = 1.0
    dual, residual = optimize.nnls(system, target)
    if residual < 1e-9:
        return math.inf
    left = target - system @ dual
    w = -left[:-1] / left[-1]
    return float(np.linalg.norm(w)) / scale


def _patterns(m: int) -> Iterator[Array]:
    """Sign patterns up to a common sign, which the symmetric class does not tell apart."""
    for rest in itertools.product((1.0, -1.0), repeat=m - 1):
        yield np.array([1.0, *rest])


def _points(points: Array) -> Array:
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(f"points must be a finite matrix (points, dimensions), got shape {x.shape}")
    return x
