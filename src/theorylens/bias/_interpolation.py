"""Where training goes when many solutions fit: the smallest norm, the largest margin, and how near a solution is to it.

Method   pseudo-inverse; the hard-margin problem without offset as a least-distance problem (non-negative least squares)
Source   Lawson, Hanson (1974), Solving Least Squares Problems, chapter 23; Soudry, Hoffer, Nacson, Gunasekar, Srebro
         (2018), JMLR 19:70
Assumes  a linear model (or features held fixed) trained by gradient descent: from zero for least squares
Breaks   the margin is approached as slowly as 1 / log(steps): a finished run is far from its limit
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]
CONSTRAINTS = 20_000  # rows times (classes - 1): beyond that non-negative least squares takes minutes


def minimum_norm_solution(x: Any, y: Any) -> Floats:
    """The smallest w with x w = y (least squares if there is none): where gradient descent from 0 ends.

    >>> [round(float(w), 12) + 0.0 for w in minimum_norm_solution([[1, 1, 0], [0, 1, 1]], [1, 2])]
    [0.0, 1.0, 1.0]
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 2 or len(a) != len(b):
        raise ValueError(f"x must have shape (n, d) and y n rows, got {a.shape} and {b.shape}")
    return np.asarray(np.linalg.pinv(a) @ b)


def excess_norm(w: Any, x: Any) -> float:
    """Share of w outside of the span of the rows of x: 0 for what gradient descent from 0 can reach, at most 1."""
    a, v = np.asarray(x, dtype=np.float64), np.asarray(w, dtype=np.float64)
    if a.ndim != 2 or v.shape != (a.shape[1],):
        raise ValueError(f"w must have shape ({a.shape[-1]},) for x of shape {a.shape}, got {v.shape}")
    norm = float(np.linalg.norm(v))
    if norm == 0:
        return 0.0
    return float(np.linalg.norm(v - np.linalg.pinv(a) @ (a @ v)) / norm)


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxMargin:
    """The hard-margin solution without offset.

    Attributes
    ----------
    weights
        Smallest weights with margin 1: shape (d,) for two classes, (classes, d) for more.
    margin
        1 / |weights|: the largest possible margin of weights of norm 1.
    support
        Rows of the data with margin 1.
    """

    weights: Floats
    margin: float
    support: NDArray[np.int64]


def max_margin(x: Any, y: Any) -> MaxMargin:
    """Largest-margin weights for features ``x`` (n, d) and classes ``y`` (n,), where gradient descent on the logistic
    or cross-entropy loss converges in direction.

    Two classes are any two numbers, the larger being positive, and have one weight vector. With K > 2 classes, numbered
    from 0, the margin of a row is the difference of its own score from the next.

    Raises
    ------
    ValueError
        Fewer than 2 classes, not separable by weights through the origin, or more than 20,000 constraints.

    >>> found = max_margin([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]], [1, 1, -1])
    >>> [round(float(w), 9) for w in found.weights]
    [1.0, 0.5]
    """
    features, labels = _checked(x, y)
    rows, owner = _constraints(features, labels)
    if len(rows) > CONSTRAINTS:
        raise ValueError(
            f"{len(rows)} constraints (rows times classes less one) are more than {CONSTRAINTS:,}; give fewer rows"
        )
    # Smallest |w| with rows @ w >= 1. Scaling the rows keeps the residual below away from rounding.
    scale = float(np.abs(rows).max()) or 1.0
    stacked = np.concatenate([rows.T / scale, np.ones((1, len(rows)))])
    target = np.zeros(len(stacked))
    target[-1] = 1.0
    dual, distance = nnls(stacked, target, maxiter=max(300, 30 * stacked.shape[1]))
    if distance < 1e-7:
        raise ValueError(
            f"the {len(features)} rows cannot be separated by weights through the origin, so there is no margin; "
            "append a constant feature for an offset, or train until no row is wrong"
        )
    residual = stacked @ dual - target
    w = -residual[:-1] / residual[-1] / scale
    slack = rows @ w - 1
    return MaxMargin(
        weights=w if features.shape[1] == len(w) else w.reshape(-1, features.shape[1]),
        margin=float(1 / np.linalg.norm(w)),
        support=np.unique(owner[slack < 1e-7]),
    )


@dataclass(frozen=True, kw_only=True)
class MarginProgress:
    """How near weights are to the largest margin.

    Attributes
    ----------
    margin
        Smallest margin of the rows over the norm of the weights; negative when a row is wrong.
    best
        The largest possible.
    angle
        Between the weights and the largest-margin ones, in radians.
    """

    margin: float
    best: float
    angle: float

    @property
    def share(self) -> float:
        """Margin over the largest possible: 1 at the limit."""
        return self.margin / self.best


def margin_progress(w: Any, x: Any, y: Any, limit: MaxMargin | None = None) -> MarginProgress:
    """Margin of weights ``w`` (d,) or (classes, d) on features and classes, beside the largest possible.

    ``limit`` is ``max_margin(x, y)`` when known already. Weights of a softmax layer are taken up to what they have in
    common (a shift of all classes changes no margin).
    """
    features, labels = _checked(x, y)
    limit = limit or max_margin(features, labels)
    v = np.asarray(w, dtype=np.float64)
    if v.shape != limit.weights.shape:
        raise ValueError(f"w must have shape {limit.weights.shape}, got {v.shape}")
    v = v.reshape(-1) if v.ndim == 1 else (v - v.mean(0)).reshape(-1)
    norm = float(np.linalg.norm(v))
    if not (norm > 0 and math.isfinite(norm)):
        raise ValueError(f"weights of norm {norm} have no direction")
    rows, _ = _constraints(features, labels)
    best = limit.weights.reshape(-1)
    cosine = float(v @ best / norm / np.linalg.norm(best))
    return MarginProgress(
        margin=float((rows @ v).min() / norm), best=limit.margin, angle=math.acos(max(-1.0, min(1.0, cosine)))
    )


def _checked(x: Any, y: Any) -> tuple[Floats, NDArray[np.int64]]:
    features, labels = np.asarray(x, dtype=np.float64), np.asarray(y)
    if features.ndim != 2 or labels.shape != (len(features),):
        raise ValueError(f"x must have shape (n, d) and y (n,), got {features.shape} and {labels.shape}")
    if not np.isfinite(features).all():
        raise ValueError("features hold values that are not finite; look for NaN in the data or the network")
    found = np.unique(labels)
    if len(found) < 2:
        raise ValueError(f"a margin lies between classes; got {len(found)} class")
    return features, labels.astype(np.int64)


def _constraints(x: Floats, y: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Rows whose product with the flat weights is a margin, and the example each belongs to."""
    n, d = x.shape
    values = np.unique(y)
    if len(values) == 2:
        return np.where(y == values[1], 1.0, -1.0)[:, None] * x, np.arange(n)
    if values[0] < 0:
        raise ValueError(f"more than two classes are numbered from 0, got {values[:5].tolist()}")
    k = int(values[-1]) + 1
    rows = np.zeros((n, k - 1, k, d))
    owner = np.repeat(np.arange(n), k - 1)
    for i in range(n):
        others = [c for c in range(k) if c != y[i]]
        rows[i, range(k - 1), y[i]] = x[i]
        rows[i, range(k - 1), others] = -x[i]
    return rows.reshape(n * (k - 1), k * d), owner
