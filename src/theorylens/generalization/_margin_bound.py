"""By how much is each answer right, and what does that guarantee for a class of known Rademacher complexity?

Source   Koltchinskii, Panchenko (2002), Ann. Statist. 30:1; Mohri, Rostamizadeh, Talwalkar (2018), theorems 5.8, 5.9
         and 9.2
Assumes  independent examples; a class of real-valued functions fixed before they were seen. A margin looked up in the
         data afterwards needs the uniform form
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._asked import positive, probability, whole

_UP = 1 + 2.0**-40


@dataclass(frozen=True, kw_only=True)
class MarginBound:
    """Upper bound on the expected 0-1 error: ``empirical`` margin loss plus ``gap``, clipped to 1."""

    bound: float
    empirical: float
    gap: float
    margin: float
    vacuous: bool


def margin_loss(margins: ArrayLike, margin: float) -> float:
    """Mean of min(1, max(0, 1 - m_i / margin)): 1 for wrong answers, 0 for those right by ``margin``.

    At most the share of answers that are not right by ``margin``, at least the share of wrong ones.
    """
    m = _finite(margins)
    return math.fsum(np.clip(1 - m / positive("margin", margin), 0, 1)) / len(m)


def margin_gap(
    rademacher: float, margin: float, m: int, delta: float, *, largest: float | None = None, empirical: bool = False,
    classes: int = 2,
) -> float:  # fmt: skip
    """What the margin bound adds to the margin loss, clipped to 1.

    Two classes, a margin fixed in advance: (2/margin) R + sqrt(ln(1/delta) / 2m), with R the expected complexity; with
    ``empirical`` R is that of the sample and the last term 3 sqrt(ln(2/delta) / 2m).
    ``largest``: for all margins in (0, largest] at once, (4/margin) R + sqrt(ln log2(2 largest/margin) / m)
    + sqrt(ln(2/delta) / 2m); with ``empirical`` both roots threefold and ln(4/delta) (a union over margins
    largest / 2^k with weights 1/k^2, worked out for the empirical form).
    ``classes`` above 2: R is the complexity of the scores x -> h(x, y) of all classes y together, and its factor grows
    by 2 ``classes``.

    >>> round(margin_gap(0.1, 0.5, 1000, 0.05), 10), round(margin_gap(0.1, 0.5, 1000, 0.05, largest=1.0), 10)
    (0.4387022756, 0.8692746293)
    """
    if not 0 <= rademacher < math.inf:
        raise ValueError(f"a Rademacher complexity is finite and at least 0, got {rademacher}")
    margin, m, delta = positive("margin", margin), whole("m", m), probability("delta", delta)
    factor = (2.0 if largest is None else 4.0) * (2 * whole("classes", classes, 2) if classes != 2 else 1)
    times, union = (3.0, 2.0) if empirical else (1.0, 1.0)
    if largest is None:
        search = 0.0
    else:
        if not positive("largest", largest) >= margin:
            raise ValueError(f"the margin must be at most largest = {largest}, got {margin}")
        union *= 2
        search = times * math.sqrt(math.log(math.log2(2 * largest / margin)) / m)
    gap = factor / margin * rademacher + search + times * math.sqrt(math.log(union / delta) / (2 * m))
    return min(1.0, gap * _UP)


def margin_bound(
    margins: ArrayLike, margin: float, rademacher: float, delta: float, *, largest: float | None = None,
    empirical: bool = False, classes: int = 2,
) -> MarginBound:  # fmt: skip
    """Bound on the expected error from the `margins` of the training examples.

    Parameters
    ----------
    margins
        One per example, shape (m,): as many as were trained on.
    margin
        Where an answer counts as surely right. Without ``largest`` it must not have been chosen on these examples.
    rademacher, delta, largest, empirical, classes
        As for `margin_gap`.

    >>> found = margin_bound([0.9] * 950 + [-0.1] * 50, 0.5, 0.02, 0.05)
    >>> round(found.empirical, 3), round(found.bound, 4)
    (0.05, 0.1687)
    """
    m = _finite(margins)
    loss = margin_loss(m, margin)
    gap = margin_gap(
        rademacher, margin, len(m), delta, largest=largest, empirical=empirical, classes=classes
    )  # fmt: skip
    bound = min(1.0, loss + gap)
    return MarginBound(bound=bound, empirical=loss, gap=gap, margin=margin, vacuous=bound >= 1)


def _finite(margins: ArrayLike) -> NDArray[np.float64]:
    m = np.asarray(margins, dtype=np.float64).reshape(-1)
    if len(m) == 0 or not np.isfinite(m).all():
        raise ValueError(
            f"margins must be finite, at least one; got {len(m)}, {int((~np.isfinite(m)).sum())} not finite"
        )
    return m
