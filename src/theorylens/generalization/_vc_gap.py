"""How far apart can training error and expected error be, for every classifier of VC dimension d at once?

Source   Mohri, Rostamizadeh, Talwalkar (2018), corollary 3.19; Vapnik (1998), section 4; Bousquet, Boucheron, Lugosi
         (2004), theorem 4; Abu-Mostafa, Magdon-Ismail, Lin (2012), eq. 2.12
Assumes  m independent examples, a class fixed before they were seen, 0-1 loss
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from theorylens.results import Message

from ._asked import probability, share, whole
from ._elementwise import elementwise
from ._growth import log_growth_relaxed, log_sauer_shelah

Variant = Literal["mohri", "vapnik", "bousquet", "abu-mostafa"]
Growth = Literal["relaxed", "exact"]
LogGrowth = Callable[[int], float]
_UP = 1 + 2.0**-40  # outwards, far more than all rounding


@dataclass(frozen=True, kw_only=True)
class GapTheorem:
    """A bound on the gap from the logarithm of the growth function at ``m`` or, with ``doubled``, at 2 m.

    ``two_sided``: it bounds both signs at once; a one-sided theorem does so with delta halved.
    """

    name: Message
    value: Callable[[float, int, float], float]
    doubled: bool
    two_sided: bool
    reference: str


def _mohri(log_growth: float, m: int, delta: float) -> float:
    return math.sqrt(2 * log_growth / m) + math.sqrt(math.log(1 / delta) / (2 * m))


def _vapnik(log_growth: float, m: int, delta: float) -> float:
    return math.sqrt((log_growth + math.log(4 / delta)) / m) + 1 / m


def _bousquet(log_growth: float, m: int, delta: float) -> float:
    return 2 * math.sqrt(2 * (log_growth + math.log(2 / delta)) / m)


def _abu_mostafa(log_growth: float, m: int, delta: float) -> float:
    return math.sqrt(8 * (log_growth + math.log(4 / delta)) / m)


GAP_THEOREMS: dict[str, GapTheorem] = {
    "mohri": GapTheorem(
        name=Message("theorem.gap.mohri", "VC gap by Rademacher complexity (Mohri et al.)"), value=_mohri,
        doubled=False, two_sided=False,
        reference="Mohri, Rostamizadeh, Talwalkar (2018). Foundations of Machine Learning, corollary 3.19.",
    ),
    "vapnik": GapTheorem(
        name=Message("theorem.gap.vapnik", "VC gap, additive form with 1/m (Vapnik)"), value=_vapnik,
        doubled=True, two_sided=True, reference="Vapnik (1998). Statistical Learning Theory, section 4.",
    ),
    "bousquet": GapTheorem(
        name=Message("theorem.gap.bousquet", "VC gap (Bousquet, Boucheron, Lugosi)"), value=_bousquet,
        doubled=True, two_sided=False,
        reference="Bousquet, Boucheron, Lugosi (2004). Introduction to statistical learning theory, theorem 4.",
    ),
    "abu-mostafa": GapTheorem(
        name=Message("theorem.gap.abu_mostafa", "VC gap (Abu-Mostafa et al.)"), value=_abu_mostafa,
        doubled=True, two_sided=True,
        reference="Abu-Mostafa, Magdon-Ismail, Lin (2012). Learning from Data, eq. 2.12.",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VcBound:
    """An upper bound on the expected 0-1 error, clipped to 1, and whether it says nothing (is 1)."""

    bound: float
    empirical: float
    gap: float
    vacuous: bool
    theorem: Message


@overload
def vc_gap(  # type: ignore[overload-overlap]
    m: int, d: int, delta: float, variant: Variant = "mohri", *, growth: Growth = "relaxed", two_sided: bool = False
) -> float: ...
@overload
def vc_gap(
    m: object, d: object, delta: object, variant: Variant = "mohri", *, growth: Growth = "relaxed",
    two_sided: bool = False,
) -> NDArray[np.float64]: ...  # fmt: skip
def vc_gap(
    m: Any, d: Any, delta: Any, variant: Variant = "mohri", *, growth: Growth = "relaxed", two_sided: bool = False
) -> float | NDArray[np.float64]:
    """Gap that holds for all classifiers of a class at once with probability 1 - delta, clipped to 1.

    With G = ln of the growth function (bounded by VC dimension d, at m or 2 m points):
    ``"mohri"``        sqrt(2 G(m) / m) + sqrt(ln(1/delta) / 2m)
    ``"vapnik"``       sqrt((G(2m) + ln(4/delta)) / m) + 1/m
    ``"bousquet"``     2 sqrt(2 (G(2m) + ln(2/delta)) / m)
    ``"abu-mostafa"``  sqrt(8 (G(2m) + ln(4/delta)) / m), relaxed growth (2m)**d + 1

    Parameters
    ----------
    m, d
        Number of independent examples, VC dimension; both at least 1. Fewer examples than ``d`` give 1. Arrays
        broadcast, with ``delta``.
    growth
        ``"relaxed"`` is (e m / d)**d, ``"exact"`` the Sauer-Shelah sum.
    two_sided
        Bound the absolute value; theorems that are one-sided then pay with delta / 2 for each sign.

    Raises
    ------
    ValueError
        Counts below 1 or not whole, a delta outside (0, 1), an unknown variant or growth.

    >>> round(vc_gap(1000, 10, 0.05), 10)
    0.3735207394
    >>> vc_gap(10, 100, 0.05)
    1.0
    >>> vc_gap([1000, 10_000], 10, 0.05).round(3)
    array([0.374, 0.138])
    """

    def gap(m: Any, d: Any, delta: float) -> float:
        m, d = whole("m", m), whole("d", d)
        found = growth_gap(m, _log_growth(d, variant, growth), delta, variant, two_sided=two_sided)
        return 1.0 if m < d else found

    return elementwise(gap, m, d, delta)  # type: ignore[no-any-return]


def growth_gap(
    m: int, log_growth: LogGrowth, delta: float, variant: Variant = "mohri", *, two_sided: bool = False
) -> float:
    """`vc_gap` for a class whose growth function is known: ``log_growth(m)`` is the logarithm at ``m`` points.

    >>> round(growth_gap(1000, lambda m: math.log(m + 1), 0.05), 6)  # one-sided thresholds
    0.15625
    """
    m, delta, theorem = whole("m", m), probability("delta", delta), _theorem(variant)
    if two_sided and not theorem.two_sided:
        delta /= 2
    return min(1.0, theorem.value(log_growth(2 * m if theorem.doubled else m), m, delta) * _UP)


def vc_bound(
    empirical: float, m: int, d: int, delta: float, variant: Variant = "mohri", *, growth: Growth = "relaxed"
) -> VcBound:
    """Training error plus `vc_gap`, clipped to 1.

    >>> vc_bound(0.1, 1000, 10, 0.05).vacuous, vc_bound(0.1, 5, 10, 0.05).vacuous
    (False, True)
    """
    empirical = share("empirical", empirical)
    gap = vc_gap(m, d, delta, variant, growth=growth)
    bound = min(1.0, empirical + gap)
    return VcBound(
        bound=bound, empirical=empirical, gap=gap, vacuous=bound >= 1, theorem=_theorem(variant).name
    )  # fmt: skip


def relative_vc_bound(empirical: float, m: int, d: int, delta: float) -> VcBound:
    """R <= r + 2 sqrt(r a) + 4 a with a = (d ln(2em/d) + ln(4/delta)) / m: of order 1/m at training error r = 0.

    Vapnik and Chervonenkis's inequality for relative deviations, in the form of Bousquet, Boucheron, Lugosi (2004).

    >>> round(relative_vc_bound(0.0, 10_000, 10, 0.05).bound, 6)
    0.036156
    """
    empirical, m, d, delta = share("empirical", empirical), whole("m", m), whole("d", d), probability("delta", delta)
    a = math.inf if m < d else (log_growth_relaxed(2 * m, d) + math.log(4 / delta)) / m * _UP
    gap = min(1.0, 4 * a + (2 * math.sqrt(empirical * a) if empirical else 0.0))
    bound = min(1.0, empirical + gap)
    name = Message("theorem.gap.relative", "relative deviations (Vapnik, Chervonenkis)")
    return VcBound(bound=bound, empirical=empirical, gap=gap, vacuous=bound >= 1, theorem=name)


def _theorem(variant: str) -> GapTheorem:
    if variant not in GAP_THEOREMS:
        raise ValueError(f"unknown variant {variant!r}; known are {', '.join(sorted(GAP_THEOREMS))}")
    return GAP_THEOREMS[variant]


def _log_growth(d: int, variant: str, growth: str) -> LogGrowth:
    if growth == "exact":
        return lambda m: log_sauer_shelah(m, d)
    if growth != "relaxed":
        raise ValueError(f"growth must be 'relaxed' or 'exact', got {growth!r}")
    if variant == "abu-mostafa":
        return lambda m: d * math.log(m) + math.log1p(float(m) ** -d)
    return lambda m: log_growth_relaxed(m, d)
