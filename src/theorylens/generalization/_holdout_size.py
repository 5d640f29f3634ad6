"""How many untouched examples does a test set need for its bound to lie within a given width of the measured error?

Method   the one-sided bound of `clopper_pearson` or `hoeffding`, inverted in n
Assumes  independent test examples, used for nothing else
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from theorylens.numerics.binomial import clopper_pearson
from theorylens.numerics.concentration import hoeffding
from theorylens.results import Message

from ._asked import probability, share
from ._sample_complexity import SampleSize

Theorem = Literal["clopper-pearson", "hoeffding"]
LARGEST = 1 << 40


def holdout_size(
    width: float, delta: float, *, error: float | None = None, theorem: Theorem = "clopper-pearson"
) -> int:
    """Test examples from which on the bound is at most ``width`` above the measured error.

    Parameters
    ----------
    width
        Wanted distance, in (0, 1), of the one-sided bound from the measured error.
    delta
        Probability that the bound may fail, all on this side.
    error
        The error one expects to measure. The answer then holds for that rate (errors rounded up to a whole number) and
        for every larger test set; None: for whatever is measured. Hoeffding's width does not depend on it.

    >>> holdout_size(0.05, 0.05, error=0.0), holdout_size(0.05, 0.05), holdout_size(0.05, 0.05, theorem="hoeffding")
    (59, 291, 600)
    """
    width, delta = probability("width", width), probability("delta", delta)
    rate = None if error is None else share("error", error)
    if theorem == "hoeffding":
        n = max(1, math.ceil(math.log(1 / delta) / (2 * width**2)))
        return n if hoeffding(n, delta) <= width else n + 1
    if theorem != "clopper-pearson":
        raise ValueError(f"theorem must be 'clopper-pearson' or 'hoeffding', got {theorem!r}")
    if rate is None:

        def narrow(n: int) -> bool:
            return _widest(n, delta) <= width

        return _from_then_on(narrow, lambda n: np.array([narrow(int(each)) for each in n[-8:]]))

    def wide(n: Any, extra: int) -> Any:
        errors = np.minimum(np.ceil(np.asarray(n) * rate - 1e-9) + extra, n)
        return clopper_pearson(errors, n, delta) - rate <= width

    # One error more than that covers every rounding, and its bound falls with n.
    return _from_then_on(lambda n: bool(wide(n, 1)), lambda n: wide(n, 0))


def holdout_sizes(width: float, delta: float, *, error: float | None = None) -> tuple[SampleSize, ...]:
    """`holdout_size` by each theorem, for tables; with ``error`` both for that rate and for whatever is measured.

    >>> [found.m for found in holdout_sizes(0.05, 0.05, error=0.0)]
    [59, 291, 600]
    """
    clopper = "Clopper, Pearson (1934). Biometrika 26:404-413."
    exact = Message("theorem.binomial", "Clopper–Pearson (exact binomial tail)")
    crude = Message("theorem.hoeffding", "Hoeffding")
    whatever = Message(
        "assume.holdout", "bound at most {width:.3g} above the measured error, whatever that is", width=width
    )
    found = []
    if error is not None:
        text = "bound at most {width:.3g} above the measured error, if that is {error:.3g}"
        expected = Message("assume.holdout_at", text, width=width, error=error)
        found.append(("clopper-pearson-at", exact, holdout_size(width, delta, error=error), expected, clopper))
    found += [
        ("clopper-pearson", exact, holdout_size(width, delta), whatever, clopper),
        (
            "hoeffding", crude, holdout_size(width, delta, theorem="hoeffding"), whatever,
            "Hoeffding (1963). JASA 58:13-30.",
        ),
    ]  # fmt: skip
    return tuple(
        SampleSize(key=k, theorem=t, setting="holdout", kind="sufficient", m=m, assumption=a, reference=r)
        for k, t, m, a, r in found
    )


def _widest(n: int, delta: float) -> float:
    """Largest distance of bound and measured error over all numbers of errors: it rises to one maximum, then falls."""
    low, high = 0, n
    while True:
        k = np.unique(np.linspace(low, high, 33).round())
        wide = clopper_pearson(k, n, delta) - k / n
        best = int(wide.argmax())
        if high - low <= 32:
            return float(wide[best])
        low, high = int(k[max(0, best - 1)]), int(k[min(len(k) - 1, best + 1)])


def _from_then_on(surely: Callable[[int], bool], enough: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> int:
    """Least n from which on ``enough`` holds; ``surely`` implies it and stays true once it is.

    ``enough`` is asked for many n in ascending order and may answer for the last of them only.
    """
    low, high = 0, 1
    while not surely(high):
        low, high = high, 2 * high
        if high > LARGEST:
            raise ValueError("more than 2**40 test examples would be needed; choose a larger width")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if surely(middle) else (middle, high)
    while high > 1:
        back = np.arange(max(1, high - 512), high, dtype=np.int64)
        holds = np.asarray(enough(back))
        back = back[-len(holds) :]
        if not holds.all():
            return int(back[np.flatnonzero(~holds)[-1]]) + 1
        high = int(back[0])
    return high
