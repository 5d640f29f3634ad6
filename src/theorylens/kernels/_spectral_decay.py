"""Decay exponents of a kernel's spectrum and of the target in it, and the rates they promise.

Method   eigenvalues ~ i^-a (capacity) and the target's tail power ~ i^-b (source), least squares in log-log over a
         window of ranks; without noise and ridge the error falls like n^-min(b, 2a), with noise and the best ridge
         like n^-(s / (s + 1)), s = min(b, 2a)
Source   Caponnetto, De Vito (2007), Found. Comput. Math. 7; Cui, Loureiro, Krzakala, Zdeborova (2021), NeurIPS;
         Bordelon, Canatar, Pehlevan (2020), ICML
Assumes  power laws over the window, which `fit` says
Breaks   the last ranks of an empirical kernel bend down whatever the law; spectra of deep kernels on real data are
         power laws only roughly
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ._alignment import Array
from ._eigenlearning import Floats, eigensystem

FIRST, LAST = 0.01, 0.25  # the window as shares of the rank: without the few largest and the bent tail
FEWEST = 5
VANISHED = 1e-12  # relative size of an eigenvalue, or of power, that is rounding


@dataclass(frozen=True, kw_only=True)
class SpectralDecay:
    """Exponents over a window of ranks.

    Attributes
    ----------
    capacity
        a of eigenvalues ~ i^-a.
    source
        b of the power of the target beyond rank i ~ i^-b.
    fit
        R squared of the two straight lines, the worse of them; far below 1 there is no power law.
    window
        First and last rank of the fit.
    """

    capacity: float
    source: float
    fit: float
    window: tuple[int, int]

    @property
    def noiseless_rate(self) -> float:
        """R of error ~ n^-r without noise and ridge: min(b, 2a)."""
        return min(self.source, 2 * self.capacity)

    @property
    def noisy_rate(self) -> float:
        """R of excess error ~ n^-r with noise and the best ridge: s / (s + 1), s = min(b, 2a).

        In the terms of Caponnetto and De Vito: 2 min(r, 1) a / (2 min(r, 1) a + 1) with b = 2 r a.
        """
        return self.noiseless_rate / (self.noiseless_rate + 1)


def spectral_decay(kernel: Array, targets: Array, window: tuple[int, int] | None = None) -> SpectralDecay:
    """Capacity and source exponents of a kernel on a population of N examples.

    ``targets`` (N,) or (N, C). ``window``: first and last rank (from 1); by default 1 % to 25 % of N.

    Raises
    ------
    ValueError
        A window of fewer than five ranks or outside the spectrum; eigenvalues or target power in it that are zero.
    """
    levels, coefficients = eigensystem(kernel, targets)
    n = len(levels)
    first, last = window or (max(1, math.ceil(FIRST * n)), math.floor(LAST * n))
    if not 1 <= first < last <= n - 1 or last - first + 1 < FEWEST:
        raise ValueError(f"the window must hold at least {FEWEST} of {n} ranks, got {first} to {last}")
    power: Floats = (coefficients**2).sum(1)
    beyond = power.sum() - np.cumsum(power)
    ranks = slice(first - 1, last)
    if not (levels[last - 1] > VANISHED * levels[0] and beyond[last - 1] > VANISHED * power.sum()):
        raise ValueError(f"eigenvalues or targets vanish before rank {last}; give a smaller window")
    x = np.log(np.arange(first, last + 1))
    (a, fit_a), (b, fit_b) = _line(x, np.log(levels[ranks])), _line(x, np.log(beyond[ranks]))
    return SpectralDecay(capacity=-a, source=-b, fit=min(fit_a, fit_b), window=(first, last))


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    slope, offset = np.polyfit(x, y, 1)
    spread = float(((y - y.mean()) ** 2).sum())
    left = float(((y - slope * x - offset) ** 2).sum())
    return float(slope), 1 - left / spread if spread > 0 else 1.0
