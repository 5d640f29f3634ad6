"""A bound on the error of one network from examples that had no part in making it: what counts as n, and for what.

Method   one-sided Clopper-Pearson where every unit is right or wrong, else Chernoff-kl on the means of units
Source   Clopper, Pearson (1934), Biometrika 26:404; Langford (2005), JMLR 6:273
Assumes  units are independent draws from the distribution the bound speaks about
Breaks   when the examples took part in training or in choosing the model
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorylens.numerics.binomial import clopper_pearson
from theorylens.numerics.relative_entropy import kl_inverse

from ._asked import is_whole

Method = Literal["binomial", "kl"]
Side = Literal["upper", "lower"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Independent values in [0, 1], and whether each is 0 or 1 by construction."""

    values: NDArray[np.float64]
    binary: bool

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)


@dataclass(frozen=True, kw_only=True)
class HoldoutBound:
    """An upper bound on the expected error, the mean it rests on, and the number of units that were counted.

    ``method`` says which theorem gave it; ``delta`` is what one comparison was given.
    """

    bound: float
    empirical: float
    n: int
    method: Method
    delta: float


def samples(
    errors: ArrayLike, *, units: Sequence[int] | ArrayLike | None = None, copies: ArrayLike | None = None,
    binary: bool = True, error_range: tuple[float, float] = (0.0, 1.0),
) -> tuple[Sample, ...]:  # fmt: skip
    """The sample as given and, where rows have exact copies, the sample without them. At most two.

    Parameters
    ----------
    errors
        One error per row inside ``error_range``, shape (n,).
    units, copies
        Number of the unit, and of the distinct row, that each row belongs to. Without ``units`` each row is one,
        without ``copies`` all rows are distinct.
    binary
        Whether the error of a row is 0 or 1 by construction.
    """
    low, high = error_range
    e = (np.asarray(errors, dtype=np.float64) - low) / (high - low)
    copy = _numbered(np.arange(len(e)) if copies is None else copies)
    unit = _numbered(np.arange(len(e)) if units is None else units)
    if not len(e) == len(copy) == len(unit):
        raise ValueError(f"{len(e)} errors need as many units and copies, got {len(unit)} and {len(copy)}")
    if len(e) == 0:
        raise ValueError("a bound needs at least one example, got none")
    if not ((e >= 0) & (e <= 1)).all():  # also catches NaN
        raise ValueError(f"errors must lie in the declared range [{low:g}, {high:g}]")
    # Copies answered differently (a tie broken by rounding) all count as the worst of them.
    worst = np.zeros(copy.max() + 1)
    np.maximum.at(worst, copy, e)
    pairs = np.unique(unit * len(worst) + copy)
    owner, row = pairs // len(worst), pairs % len(worst)
    single = binary and len(pairs) == int(owner.max()) + 1
    given = Sample(values=_means(worst[copy], unit), binary=single)
    merged = _merged(owner, row)
    if len(pairs) == len(e) and merged.max() == owner.max():
        return (given,)
    return given, Sample(values=_means(worst[row], merged), binary=single)


def _numbered(labels: ArrayLike) -> NDArray[np.int64]:
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)


def _means(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.bincount(group, values) / np.bincount(group)


def _merged(unit: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Units that hold the same distinct rows get one number. Both arrays are sorted by unit, then by row."""
    starts = np.flatnonzero(np.r_[True, unit[1:] != unit[:-1]])
    sizes = np.diff(np.r_[starts, len(unit)])
    if (sizes == 1).all():
        return _numbered(row)
    seen: dict[bytes, int] = {}
    numbers = [seen.setdefault(row[a : a + s].tobytes(), len(seen)) for a, s in zip(starts, sizes, strict=True)]
    return np.repeat(np.asarray(numbers), sizes)


def one_bound(sample: Sample, delta: float, *, side: Side = "upper", method: Method | None = None) -> float:
    """Bound on the mean of the distribution of ``sample``, wrong with probability at most ``delta``.

    ``method`` defaults to the binomial tail for binary samples; ``"kl"`` holds for all values in [0, 1].
    """
    chosen = method or ("binomial" if sample.binary else "kl")
    if chosen == "binomial":
        if not sample.binary:
            raise ValueError("the binomial tail needs values that are 0 or 1 by construction; use method='kl'")
        return clopper_pearson(round(math.fsum(sample.values)), sample.n, delta, side)
    mean = sample.mean
    if 0 < mean < 1:  # the mean itself was rounded
        mean = math.nextafter(mean, 1.0 if side == "upper" else 0.0)
    return kl_inverse(mean, math.nextafter(math.log(1 / delta) / sample.n, math.inf), side)


def holdout_bound(
    errors: ArrayLike, *, units: Sequence[int] | ArrayLike | None = None, copies: ArrayLike | None = None,
    binary: bool = True, error_range: tuple[float, float] = (0.0, 1.0), delta: float = 0.05, comparisons: int = 1,
    method: Method | None = None,
) -> HoldoutBound:  # fmt: skip
    """Upper bound on the expected error of a fixed network, wrong with probability at most ``delta``.

    What is counted:

    (a) Every unit is one row, right or wrong, without copies: the Clopper-Pearson bound on k wrong of n.
    (b) Some rows are exact copies. Either the file holds rows twice, and the distinct rows are the sample; or an honest
        sample met the same example twice, and all rows are. The larger of the two bounds holds in both cases: a
        doubled file gets exactly the bound of the single one. (A mixture of the two is not covered.)
    (c) Units of several rows: the mean error of a unit lies in [0, 1] and units are independent, so the Chernoff-kl
        bound applies to their mean, n being the number of units. Units with the same distinct rows are copies of each
        other, and copies inside a unit are left out, as in (b).
    (d) An error that is not 0 or 1 by construction: Chernoff-kl on the error rescaled from ``error_range``. That all
        values happened to be 0 or 1 in these data is no licence for (a).
    (e) ``comparisons`` models judged on the same rows: each gets ``delta / comparisons``, so that all bounds hold at
        once and the smallest may be chosen.

    Parameters are those of `samples`. Weights of rows are not used: the bound is about units drawn alike.

    >>> holdout_bound([0] * 95 + [1] * 5).bound == clopper_pearson(5, 100, 0.05)
    True
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    if not is_whole(comparisons) or comparisons < 1:
        raise ValueError(f"comparisons counts this model too, so it is at least 1, got {comparisons}")
    low, high = error_range
    found = samples(errors, units=units, copies=copies, binary=binary, error_range=error_range)
    share = delta / comparisons
    bound, sample = max(((one_bound(s, share, method=method), s) for s in found), key=lambda pair: pair[0])
    return HoldoutBound(
        bound=_from_unit(bound, low, high),
        empirical=min(max(low + (high - low) * sample.mean, low), high),
        n=sample.n,
        method=method or ("binomial" if sample.binary else "kl"),
        delta=share,
    )


def _from_unit(value: float, low: float, high: float) -> float:
    if (low, high) == (0.0, 1.0):
        return value
    return min(high, math.nextafter(math.nextafter(low + (high - low) * value, math.inf), math.inf))
