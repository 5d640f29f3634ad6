"""The error at examples left out one at a time, without training again, and what it says about new examples.

Source   kernel ridge: Cook (1977), Technometrics 19:15, in the form of Rasmussen, Williams (2006), eq. 5.12; nearest
         neighbours: Rogers, Wagner (1978), Ann. Statist. 6:506; Devroye, Gyorfi, Lugosi (1996), chapter 24
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg

from theorylens.numerics.neighbours import nearest

from ._asked import positive, probability, share, whole

Floats = NDArray[np.float64]


def ridge_leave_one_out(gram: Any, targets: Any, penalty: float) -> Floats:
    """What kernel ridge regression answers at each example when that example is left out: one factorisation, not n.

    y_i - a_i / [(K + penalty I)^-1]_ii with a = (K + penalty I)^-1 y; the penalty stays the same with n - 1 examples.

    Parameters
    ----------
    gram
        K, shape (n, n), symmetric; for linear ridge without offset the inputs times their transpose.
    targets
        Shape (n,) or (n, outputs).
    penalty
        As in scikit-learn's ``KernelRidge(alpha=penalty)``, above 0.

    Returns
    -------
    Answers of the shape of ``targets``.

    Raises
    ------
    ValueError
        A Gram matrix that is not square, symmetric and finite or has a negative eigenvalue below -penalty, targets of
        another length, a penalty that is not positive.

    >>> ridge_leave_one_out([[1.0, 1.0], [1.0, 1.0]], [3.0, 5.0], 1.0)  # 5 / (1 + 1), 3 / (1 + 1)
    array([2.5, 1.5])
    """
    k, y = np.asarray(gram, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not k.size or not np.isfinite(k).all():
        raise ValueError(f"a Gram matrix is square and finite, got shape {k.shape}")
    if not np.allclose(k, k.T, rtol=1e-8, atol=1e-12):
        raise ValueError("a Gram matrix is symmetric, this one is not")
    if y.ndim not in (1, 2) or len(y) != len(k) or not np.isfinite(y).all():
        raise ValueError(f"{len(k)} examples need as many finite targets, got shape {y.shape}")
    try:
        factor = linalg.cho_factor(k + positive("penalty", penalty) * np.eye(len(k)))
    except linalg.LinAlgError as error:
        raise ValueError(
            "the Gram matrix plus penalty is not positive definite; a kernel has no negative eigenvalue"
        ) from error
    inverse = linalg.cho_solve(factor, np.eye(len(k)))
    own = np.diag(inverse)
    return np.asarray(y - (inverse @ y) / (own if y.ndim == 1 else own[:, None]))


def neighbours_leave_one_out(points: Any, labels: Any, k: int) -> NDArray[np.int64]:
    """What a vote of the ``k`` nearest other examples answers at each example.

    Equal distances in the order of the rows, equal votes for the smallest class.

    Parameters
    ----------
    points
        Shape (n, d).
    labels
        Classes 0, 1, ..., shape (n,).

    >>> neighbours_leave_one_out([[0.0], [1.0], [5.0]], [0, 1, 1], 1).tolist()
    [1, 0, 1]
    """
    x, y = np.asarray(points, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or y.shape != (len(x),):
        raise ValueError(f"points (n, d) and labels (n,) are needed, got shapes {x.shape} and {y.shape}")
    if y.dtype.kind not in "iu" or (y < 0).any():
        raise ValueError("labels must be classes 0, 1, ...")
    if not 1 <= whole("k", k) < len(x):
        raise ValueError(f"k must lie between 1 and n - 1 = {len(x) - 1}, got {k}")
    voters = y[nearest(torch.as_tensor(x), k).indices.numpy()]
    votes = (voters[:, :, None] == np.arange(int(y.max()) + 1)).sum(1)
    return np.asarray(votes.argmax(1), dtype=np.int64)


def neighbours_bound(left_out: float, n: int, k: int, delta: float) -> float:
    """Bound on the error of the k-nearest-neighbour rule from its error at examples left out one at a time.

    R <= R_loo + sqrt(v / delta) with v = (1 + 4k)/n + 2k/(n - 1), for every distribution.

    A new point's answer changes only when the example left out was among its k neighbours, which has chance k/n.
    Writing out E (R - R_loo)^2 for two new points and comparing the events one change at a time gives 1/n for the
    diagonal, three changes with k/n, one more with k/n and two with k/(n-1); then Chebyshev's inequality. Equal
    distances must be broken without looking at labels or positions in the file (by a random order).

    >>> round(neighbours_bound(0.05, 100_000, 1, 0.05), 4)
    0.0874
    """
    left_out, n, k = share("left_out", left_out), whole("n", n, 2), whole("k", k)
    if k >= n:
        raise ValueError(f"k must be below n, got k = {k} of n = {n}")
    variance = (1 + 4 * k) / n + 2 * k / (n - 1)
    return min(1.0, (left_out + math.sqrt(variance / probability("delta", delta))) * (1 + 2.0**-49))
