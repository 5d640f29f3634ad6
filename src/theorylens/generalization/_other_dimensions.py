"""Dimensions of classes with more than two answers (Natarajan) and of real-valued classes (pseudo-dimension).

Source   Natarajan (1989), Machine Learning 4:67; Pollard (1984), Convergence of Stochastic Processes; linear classes:
         Shalev-Shwartz, Ben-David (2014), theorem 29.7; Daniely, Sabato, Shalev-Shwartz (2012), NeurIPS
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorylens.results import Message

from ._asked import whole
from ._vc_dimension import VcDimension

Item = tuple[int, ...]  # a point and what its two answers are


def natarajan_linear(features: int, classes: int, *, bias: bool = True) -> VcDimension:
    """Natarajan dimension of x -> argmax over ``classes`` of w_y.x + b_y.

    At most (classes - 1) d with d = features, one more with a bias: adding the same to all scores changes no answer, so
    so many numbers are free. At least (classes - 1)(d - 1), and d, which two classes reach.

    >>> found = natarajan_linear(10, 3)
    >>> found.lower, found.upper
    (20, 22)
    """
    features, classes = whole("features", features), whole("classes", classes, 2)
    d = features + bool(bias)
    return VcDimension(
        lower=max(d, (classes - 1) * (d - 1)), upper=(classes - 1) * d,
        lower_theorem=Message("theorem.natarajan_lower", "Natarajan dimension: breakpoints of neighbouring classes"),
        upper_theorem=Message("theorem.natarajan_upper", "Natarajan dimension: free weights of linear classes"),
    )  # fmt: skip


def natarajan_of_labellings(labellings: ArrayLike) -> int:
    """Exact Natarajan dimension of finitely many classifiers, given by answers (count, m) on all points there are.

    The most points for which two answers each can be named so that every choice between the two is made by some
    classifier. With two classes it is `vc_of_labellings`.

    >>> natarajan_of_labellings([[0, 0], [0, 1], [2, 0], [2, 1], [1, 1]])
    2
    """
    table = _table("labellings", labellings, np.asarray(labellings))
    codes = np.unique(table, return_inverse=True)[1].reshape(table.shape)
    items = [
        (point, int(a), int(b))
        for point in range(table.shape[1])
        for a, b in combinations(np.unique(codes[:, point]).tolist(), 2)
    ]

    def sides(item: Item) -> NDArray[np.int64]:
        point, a, b = item
        return np.where(codes[:, point] == a, 0, np.where(codes[:, point] == b, 1, -1))

    return _largest(items, sides)


def pseudo_dimension(values: ArrayLike) -> int:
    """Exact pseudo-dimension of finitely many real functions, given by their values (count, m) on all points there are.

    The most points for which levels can be named so that the functions lie above and below them in all ways: what
    fat-shattering becomes as its margin goes to 0. Linear functions of d features have d, one more with a bias.

    >>> pseudo_dimension([[0.0, 0.3], [0.1, 0.9], [0.5, 0.2], [0.7, 0.8]])
    2
    """
    table = _table("values", values, np.asarray(values, dtype=np.float64))
    if not np.isfinite(table).all():
        raise ValueError("values must be finite")
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in table.T], 1)
    items = [(point, level) for point, most in enumerate(ranks.max(0).tolist()) for level in range(1, most + 1)]
    return _largest(items, lambda item: (ranks[:, item[0]] >= item[1]).astype(np.int64))


def _largest(items: Sequence[Item], sides: Callable[[Item], NDArray[np.int64]]) -> int:
    """Size of the largest set of ``items`` at different points for which all combinations of sides 0 and 1 occur.

    Sets grow by one item at a time: every part of a shattered set is shattered. ``sides`` is -1 for what takes neither.
    """
    columns = [sides(item) for item in items]
    start = np.zeros(len(columns[0]) if items else 0, np.int64)
    shattered: list[tuple[tuple[int, ...], NDArray[np.int64]]] = [((), start)]
    size = 0
    while shattered:
        grown = []
        for chosen, pattern in shattered:
            for k in range(chosen[-1] + 1 if chosen else 0, len(items)):
                if chosen and items[k][0] == items[chosen[-1]][0]:
                    continue
                both = np.where((pattern >= 0) & (columns[k] >= 0), 2 * pattern + columns[k], -1)
                if len(np.unique(both[both >= 0])) == 2 ** (len(chosen) + 1):
                    grown.append(((*chosen, k), both))
        if not grown:
            return size
        shattered, size = grown, size + 1
    return size


def _table(name: str, given: ArrayLike, table: NDArray[np.generic]) -> NDArray[np.generic]:
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"{name} must be a matrix with a row per function, got shape {np.shape(given)}")
    return table
