"""How large is the error in each class or group, for all of them at once, and how large in the worst?

Method   one exact bound per group from its own rows; delta shared by Sidak's rule where no unit lies in two groups
         (given who is in which group the groups are independent), else equally. The worst group needs no share: the
         group that is truly worst is a fixed one, and only its own bound must hold for the largest bound to hold.
Source   Clopper, Pearson (1934), Biometrika 26:404; Sidak (1967), JASA 62:626; Berger (1982), Technometrics 24:295
         (a bound on a maximum from bounds at full level each)
Assumes  units are independent draws that served for nothing else; groups do not depend on the network's answers
Breaks   for groups that were found by looking at the errors
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._asked import probability
from ._holdout import Sample, one_bound, samples

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupBounds:
    """Errors by group with bounds.

    Attributes
    ----------
    names
        The groups that occur, in ascending order where they can be ordered.
    error, n
        Mean error and number of independent units of each group, shape (groups,).
    lower, upper
        Limits of the expected error of each group: with probability 1 - delta all of them hold at once.
    worst
        Index of the group with the largest measured error; the truly worst one may be another.
    bound
        Upper bound on the expected error of the truly worst of these groups, whichever it is; true with probability
        1 - delta by itself, not together with ``lower`` and ``upper``.
    independent
        Whether groups share no unit, so that delta could be shared by Sidak's rule.
    """

    names: tuple[Any, ...]
    error: Floats
    n: NDArray[np.int64]
    lower: Floats
    upper: Floats
    worst: int
    bound: float
    independent: bool

    @property
    def singled_out(self) -> bool:
        """Whether the group ``worst`` is shown to be the worst: its lower limit exceeds every other upper limit."""
        others = np.delete(self.upper, self.worst)
        return bool(len(others) and self.lower[self.worst] > others.max())


def group_bounds(
    errors: ArrayLike, groups: Sequence[Hashable] | ArrayLike, *, units: Sequence[int] | ArrayLike | None = None,
    copies: ArrayLike | None = None, binary: bool = True, error_range: tuple[float, float] = (0.0, 1.0),
    delta: float = 0.05,
) -> GroupBounds:  # fmt: skip
    """Bounds on the expected error in every group at once, and on the error in the worst group.

    A group's expected error is the mean over independent units that have rows in it, of a unit's mean error there;
    rows and copies are counted as `holdout_bound` does, the wider of the two ways.

    Parameters
    ----------
    errors
        One error per row inside ``error_range``, shape (n,).
    groups
        The group of each row: its class, its hospital. Fixed without looking at the errors.
    units, copies, binary, error_range
        As for `samples`.
    delta
        Failure probability: of all limits together, and of ``bound`` by itself.

    Raises
    ------
    ValueError
        Unequal lengths, no rows, errors outside their range, a delta outside (0, 1).

    >>> from theorylens.generalization import clopper_pearson
    >>> found = group_bounds([0] * 95 + [1] * 5 + [0] * 50, ["a"] * 100 + ["b"] * 50)
    >>> found.error.tolist(), found.bound == clopper_pearson(5, 100, 0.05)
    ([0.05, 0.0], True)
    """
    delta = probability("delta", delta)
    e, index, names = np.asarray(errors, dtype=np.float64), *_indexed(groups)
    if e.ndim != 1 or not len(e):
        raise ValueError(f"errors are a list of at least one number, got shape {e.shape}")
    if len(index) != len(e):
        raise ValueError(f"{len(e)} errors need as many groups, got {len(index)}")
    unit = np.arange(len(e)) if units is None else np.unique(np.asarray(units), return_inverse=True)[1]
    copy = None if copies is None else np.unique(np.asarray(copies), return_inverse=True)[1]
    if len(unit) != len(e) or (copy is not None and len(copy) != len(e)):
        raise ValueError(f"{len(e)} errors need as many units and copies, one of each per row")
    independent = _nested(unit, index) and (copy is None or _nested(copy, index))
    count = len(names)
    share = -math.expm1(math.log1p(-delta) / count) * (1 - 1e-12) if independent else delta / count
    found = [
        samples(e[rows], units=unit[rows], copies=None if copy is None else copy[rows], binary=binary,
                error_range=error_range)
        for rows in (index == k for k in range(count))
    ]  # fmt: skip
    low, high = error_range

    def scaled(values: list[float]) -> Floats:
        return low + (high - low) * np.array(values)

    measured = np.array([each[-1].mean for each in found])
    largest = max(_widest(each, delta) for each in found)
    return GroupBounds(
        names=names, error=scaled(measured.tolist()), n=np.array([each[-1].n for each in found], dtype=np.int64),
        lower=scaled([min(one_bound(s, share / 2, side="lower") for s in each) for each in found]),
        upper=scaled([_widest(each, share / 2) for each in found]), worst=int(measured.argmax()),
        bound=min(high, math.nextafter(low + (high - low) * largest, math.inf)) if error_range != (0, 1) else largest,
        independent=independent,
    )  # fmt: skip


def _widest(ways: tuple[Sample, ...], delta: float) -> float:
    return max(one_bound(way, delta) for way in ways)


def _indexed(groups: Any) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    """Number of each row's group and the groups' names; names of mixed kinds keep the order of appearance."""
    labels = list(groups.tolist() if hasattr(groups, "tolist") else groups)
    first: dict[Any, int] = {}
    seen = [first.setdefault(label, len(first)) for label in labels]
    names = list(first)
    try:
        order = sorted(range(len(names)), key=lambda i: names[i])
    except TypeError:
        order = list(range(len(names)))
    place = np.argsort(order)
    return place[np.asarray(seen, dtype=np.int64)] if seen else np.zeros(0, np.int64), tuple(names[i] for i in order)


def _nested(labels: NDArray[Any], index: NDArray[np.int64]) -> bool:
    """Whether all rows with one label lie in one group."""
    first = np.full(int(labels.max()) + 1, -1)
    first[labels[::-1]] = index[::-1]
    return bool((first[labels] == index).all())
