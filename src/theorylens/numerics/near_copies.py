"""Pairs of rows so alike that one was made from the other: rounded, recompressed, stored in another format.

Method   random projections to 16 numbers, distances between them by a tree; a pair is a near copy when its distance is
         below ``CLOSE`` of the spread of the rows and few further pairs lie between that and ``GAP`` times as much
Assumes  rows of enough numbers: among independent rows of a density in d dimensions the pairs within GAP r are GAP^d
         times those within r, while copies add no pair between the two
Breaks   for copies changed by more than CLOSE of the spread (shifted, cropped, mirrored), for rows of few numbers, and
         for fewer than LEAST copies
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

CLOSE = (4e-3, 2e-4, 1e-5, 1e-6)  # shares of the spread; the largest at which the copies stand alone is taken
GAP = 10.0
DIRECTIONS = 16
PLANE = 3  # directions that a tree looks at first: trees are fast where there are few
MANY = 1_000_000  # pairs looked at
COLUMNS = 8  # fewer numbers a row: independent rows may well be this close
MOST = 1.5  # pairs within GAP times the distance, for each pair within it
LEAST = 3  # fewer pairs may stand alone by chance where rows lie along a curve

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


def directions(columns: int) -> Floats:
    """Random directions, the same for all splits with so many columns; shape (columns, 16)."""
    drawn = np.random.default_rng(columns).standard_normal((columns, DIRECTIONS))
    return np.asarray(drawn / np.sqrt(DIRECTIONS), dtype=np.float64)


def near_copies(first: Floats, second: Floats | None = None) -> tuple[Rows, Rows]:
    """Row numbers (i, j) of the pairs that are near or exact copies; within ``first``, i < j, when there is no second.

    Parameters
    ----------
    first, second
        Projected rows, shape (n, 16), see `directions`.

    >>> rows = np.random.default_rng(0).standard_normal((300, 50)) @ directions(50)
    >>> [found.tolist() for found in near_copies(rows, rows[[7, 8, 9]] + 1e-6)]
    [[7, 8, 9], [0, 1, 2]]
    """
    none = np.zeros(0, dtype=np.int64)
    other = first if second is None else second
    spread = float(np.sqrt(((other - other.mean(0)) ** 2).sum(1).mean()))
    if spread == 0 or not (np.isfinite(first).all() and np.isfinite(other).all()):
        return none, none
    a, b = cKDTree(first[:, :PLANE]), cKDTree(other[:, :PLANE])
    for share in CLOSE:
        if a.count_neighbors(b, GAP * share * spread) > MANY:
            continue  # rows lie densely at this scale: nothing stands alone
        found = a.sparse_distance_matrix(b, GAP * share * spread, output_type="ndarray")
        i, j = found["i"].astype(np.int64), found["j"].astype(np.int64)
        if second is None:
            i, j = i[i < j], j[i < j]
        distance = np.linalg.norm(first[i] - other[j], axis=1)
        inner, outer = distance <= share * spread, distance <= GAP * share * spread
        if inner.sum() >= LEAST and outer.sum() <= MOST * inner.sum():
            order = np.lexsort((j[inner], i[inner]))
            return i[inner][order], j[inner][order]
    return none, none
