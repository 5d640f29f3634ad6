"""Can a class label these points in all ways? With the labelling it cannot make, or the set that proves a dimension.

Method   all labellings in turn: linear programmes for halfspaces, a learner's fit for anything else
Source   Vapnik, Chervonenkis (1971); Shalev-Shwartz, Ben-David (2014), definition 6.3
Breaks   a learner that fails to fit does not prove that nothing fits: then only "shattered" is certain
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from ._asked import whole
from ._separable import strictly_separable

Floats = NDArray[np.float64]
Signs = NDArray[np.int64]
MOST = 20  # points whose labellings, a million, can be tried
ROOM = 1e-6  # of a hyperplane found in floating point: far above what solver and rescaling round


@runtime_checkable
class Oracle(Protocol):
    """Whether a class labels ``points`` (m, d) as ``labels`` (m,) of -1 and 1 say.

    ``exact``: whether a "no" is certain too.
    """

    @property
    def exact(self) -> bool: ...

    def __call__(self, points: Floats, labels: Signs) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Halfspaces:
    """x -> sign(w.x + b), without b when ``bias`` is False.

    Exact: a linear programme in floating point finds the hyperplanes with room to spare; where it finds none the
    question is settled in rational arithmetic.
    """

    bias: bool = True
    exact: bool = True

    def __call__(self, points: Floats, labels: Signs) -> bool:
        table = points - points.mean(0) if self.bias else points
        largest = np.abs(table).max(0)
        table = table / np.where(largest > 0, largest, 1.0)
        side = labels[:, None] * (np.c_[table, np.ones(len(table))] if self.bias else table)
        if _roomy(side):
            return True
        given = np.c_[points, np.ones(len(points))] if self.bias else points
        return strictly_separable((labels[:, None] * given).tolist())


@dataclass(frozen=True, kw_only=True)
class LearnerOracle:
    """A class known by a learner: ``make()`` gives one with ``fit`` and ``predict``, as scikit-learn's.

    A fit without error proves that the labelling is possible; an error proves nothing. Labellings with one label only
    are taken as possible when ``constants`` is True, because many learners refuse them.
    """

    make: Callable[[], Any]
    constants: bool = True
    exact: bool = False

    def __call__(self, points: Floats, labels: Signs) -> bool:
        if self.constants and len(np.unique(labels)) == 1:
            return True
        learner = self.make()
        learner.fit(points, labels)
        return bool((np.asarray(learner.predict(points)) == labels).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Shattering:
    """Whether all labellings were made; ``missing`` is the first that was not; ``certain``: no doubt is left."""

    shattered: bool
    missing: Signs | None
    tried: int
    certain: bool


@dataclass(frozen=True, kw_only=True)
class ShatteredSet:
    """Rows of a shattered set: the class has VC dimension at least ``len(indices)``. None when no try succeeded."""

    indices: tuple[int, ...] | None
    tried: int


def shatters(points: ArrayLike, realises: Oracle) -> Shattering:
    """Try every labelling of ``points``, shape (m, d), with at most 20 points.

    >>> corner = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    >>> shatters(corner, Halfspaces()).shattered
    True
    >>> shatters([*corner, [1.0, 1.0]], Halfspaces()).missing.tolist()  # exclusive or
    [-1, 1, 1, -1]
    """
    table = _points(points)
    for tried, labels in enumerate(_labellings(len(table)), start=1):
        if not realises(table, labels):
            return Shattering(shattered=False, missing=labels, tried=tried, certain=realises.exact)
    return Shattering(shattered=True, missing=None, tried=2 ** len(table), certain=True)


def find_shattered(
    points: ArrayLike, realises: Oracle, size: int, *, tries: int = 100, generator: torch.Generator
) -> ShatteredSet:
    """Look among random subsets of ``size`` rows for a shattered one: a lower bound on the VC dimension with its proof.

    >>> cloud = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    >>> found = find_shattered(cloud, Halfspaces(), 4, generator=torch.Generator().manual_seed(1))
    >>> len(found.indices)
    4
    """
    table, size = _points(points, limit=None), whole("size", size)
    if size > min(len(table), MOST):
        raise ValueError(f"size must be at most {min(len(table), MOST)} for {len(table)} points, got {size}")
    for tried in range(1, whole("tries", tries) + 1):
        rows = torch.randperm(len(table), generator=generator)[:size].sort().values.numpy()
        if shatters(table[rows], realises).shattered:
            return ShatteredSet(indices=tuple(int(i) for i in rows), tried=tried)
    return ShatteredSet(indices=None, tried=tries)


def vc_of_labellings(labellings: ArrayLike) -> int:
    """Exact VC dimension of finitely many classifiers, given by their labels (count, m) on all points there are.

    >>> vc_of_labellings([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]])  # thresholds
    1
    """
    table = np.unique(np.asarray(labellings), axis=0)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"labellings must be a matrix with a row per classifier, got shape {table.shape}")
    if len(np.unique(table)) > 2:
        raise ValueError(f"labels are of two kinds, got {len(np.unique(table))}")
    most: int = min(table.shape[1], int(math.log2(len(table))))
    for d in range(1, most + 1):
        sets = itertools.combinations(range(table.shape[1]), d)
        if not any(len(np.unique(table[:, list(s)], axis=0)) == 2**d for s in sets):
            return d - 1
    return most


def _roomy(side: Floats) -> bool:
    """Whether some w with entries in [-1, 1] has w.x at least `ROOM` for every row x, as far as the solver sees."""
    m, d = side.shape
    found = linprog(
        np.r_[np.zeros(d), -1.0], np.c_[-side, np.ones(m)], np.zeros(m), bounds=[(-1, 1)] * d + [(None, 1)]
    )  # fmt: skip
    return found.status == 0 and bool((side @ found.x[:-1] > ROOM).all())


def _labellings(m: int) -> Iterator[Signs]:
    for signs in itertools.product((-1, 1), repeat=m):
        yield np.array(signs, dtype=np.int64)


def _points(given: ArrayLike, limit: int | None = MOST) -> Floats:
    table = np.asarray(given, dtype=np.float64)
    if table.ndim != 2 or len(table) == 0 or not np.isfinite(table).all():
        raise ValueError(f"points must be a matrix of finite numbers with a row each, got shape {table.shape}")
    if limit is not None and len(table) > limit:
        raise ValueError(f"{len(table)} points have too many labellings to try; at most {limit}, or use find_shattered")
    return table
