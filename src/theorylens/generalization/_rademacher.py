"""How well can a class of functions agree with coin flips on these very points? The price of choosing among them.

Method   the mean over signs of the exact supremum: all signs of few points, else drawn signs with McDiarmid's interval
Source   Bartlett, Mendelson (2002), JMLR 3:463; Mohri, Rostamizadeh, Talwalkar (2018), definitions 3.1 and 3.2
Breaks   where the supremum is only searched for (a trained network): the number is then a lower estimate and says so
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from theorylens.numerics.concentration import hoeffding
from theorylens.numerics.differences import mcdiarmid_deviation
from theorylens.results import Estimate, Exact, Message, Statistical

from ._asked import probability, whole
from ._growth import log_growth_relaxed, log_sauer_shelah
from ._suprema import FunctionClass

Floats = NDArray[np.float64]
ENUMERATED = 16  # points up to which all signs are tried: 65,536 suprema
CHUNK = 4096  # signs handled at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Searched:
    """A class whose supremum is searched by ``fit``, as training does: ``fit(signs)`` returns values near the best.

    What the search finds is a function of the class, so the average of its correlations is a lower estimate.

    Parameters
    ----------
    fit
        Signs of shape (m,) to values h(x_i) of shape (m,), each in [-1, 1] (or within ``largest``).
    m
        Number of points.
    """

    fit: Callable[[Floats], ArrayLike]
    m: int
    largest: float = 1.0
    bound: float = field(default=math.inf, init=False)

    @property
    def reach(self) -> Floats:
        return np.full(whole("m", self.m), self.largest)

    def suprema(self, signs: Floats) -> Floats:
        found = np.empty(len(signs))
        for k, row in enumerate(signs):
            values = np.asarray(self.fit(row), dtype=np.float64)
            if values.shape != row.shape:
                raise ValueError(f"fit must return one value per point, shape {row.shape}, got {values.shape}")
            if not (np.abs(values) <= self.largest * (1 + 1e-12)).all():  # also catches NaN
                raise ValueError(
                    f"fit returned values beyond largest = {self.largest:g}; the interval needs that limit"
                )
            found[k] = float(row @ values)
        return found


def rademacher(
    functions: FunctionClass, *, draws: int = 1000, generator: torch.Generator | None = None, delta: float = 0.05
) -> Estimate:  # fmt: skip
    """Empirical Rademacher complexity: the mean over signs of sup_h (1/m) sum sign_i h(x_i).

    Parameters
    ----------
    functions
        `FiniteClass`, `L2Ball`, `L1Ball`, `KernelBall`, `Stumps`, or anything else with exact ``suprema``; `Searched`
        gives a lower estimate.
    draws, generator
        Beyond 16 points, and for `Searched`, this many sign vectors are drawn from ``generator``.
    delta
        Probability that the interval of drawn signs misses: McDiarmid's, each sign moving the mean by at most
        2 reach_i / (m draws).

    Returns
    -------
    Exact for up to 16 points. The complexity of the loss class of +-1 classifiers is half of this number.

    >>> from theorylens.generalization import L2Ball
    >>> round(rademacher(L2Ball(points=[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])).value, 10)
    0.5690355937
    """
    m = len(functions.reach)
    if m <= ENUMERATED and not isinstance(functions, Searched):
        codes = np.arange(1 << m)
        parts = np.array_split(codes, max(1, len(codes) // CHUNK))
        sums = [float(functions.suprema(_bits_to_signs(c, m)).sum()) for c in parts]
        return Estimate(value=math.fsum(sums) / len(codes) / m, uncertainty=Exact())

    def signs(size: int) -> Floats:
        return 1.0 - 2.0 * torch.randint(2, (size, m), generator=generator).numpy().astype(np.float64)

    return _drawn(functions, signs, whole("draws", draws), probability("delta", delta), generator)


def gaussian_complexity(
    functions: FunctionClass, *, draws: int = 1000, generator: torch.Generator, delta: float = 0.05
) -> Estimate:
    """The same with standard normal weights instead of signs; `rademacher` is at most sqrt(pi/2) times this.

    The interval: the supremum changes by at most ||reach||_2 per unit of the weights, and a Lipschitz function of
    normal variables strays like a normal one (Boucheron, Lugosi, Massart 2013, theorem 5.6).
    """
    m = len(functions.reach)

    def weights(size: int) -> Floats:
        return torch.randn((size, m), generator=generator, dtype=torch.float64).numpy()

    if isinstance(functions, Searched):
        raise ValueError("the Gaussian complexity needs exact suprema, a search gives none; use rademacher")
    return _drawn(functions, weights, whole("draws", draws), probability("delta", delta), generator)


def _drawn(
    functions: FunctionClass, draw: Callable[[int], Floats], draws: int, delta: float, generator: object
) -> Estimate:
    if generator is None:
        raise ValueError(f"{len(functions.reach)} points have too many signs to try all; give generator= to draw some")
    m, sums, left = len(functions.reach), [], draws
    while left:
        size = min(left, CHUNK)
        sums.append(float(functions.suprema(draw(size)).sum()))
        left -= size
    value = math.fsum(sums) / draws / m
    if isinstance(functions, Searched):
        # What a search finds need not move little with one sign; each draw lies within +- the mean reach.
        radius = 2 * float(functions.reach.mean()) * hoeffding(draws, delta)
        text = "lower estimate over {draws} drawn signs: the search may have missed the supremum"
        method, upper = Message("method.searched", text, draws=draws), math.inf
    else:
        # c_i = 2 reach_i/(m draws) for each draw; for normal weights the same expression is the Lipschitz bound.
        radius = mcdiarmid_deviation(2 * functions.reach / (m * math.sqrt(draws)), delta)
        method = Message("method.mcdiarmid", "McDiarmid's interval over {draws} drawn signs", draws=draws)
        upper = value + radius
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - radius, upper=upper, level=1 - delta, method=method)
    )  # fmt: skip


def _bits_to_signs(codes: NDArray[np.int64], m: int) -> Floats:
    return np.asarray(1.0 - 2.0 * ((codes[:, None] >> np.arange(m)) & 1), dtype=np.float64)


def rademacher_bound(m: int, d: int, *, growth: Literal["relaxed", "exact"] = "relaxed") -> float:
    """min(1, sqrt(2 ln Pi(m) / m)) for +-1 valued classes of VC dimension ``d``: by Massart's lemma, for any m points.

    >>> round(rademacher_bound(1000, 100), 10), rademacher_bound(101, 100)
    (0.8127219811, 1.0)
    """
    m, d = whole("m", m), whole("d", d)
    if growth not in ("relaxed", "exact"):
        raise ValueError(f"growth must be 'relaxed' or 'exact', got {growth!r}")
    log_growth = log_sauer_shelah(m, d) if growth == "exact" else log_growth_relaxed(m, d)
    return min(1.0, math.sqrt(2 * log_growth / m))
