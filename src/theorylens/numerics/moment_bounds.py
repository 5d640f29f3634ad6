"""How much of a measure lies below a point, when only its first moments are known: the best bounds there are.

Method   the quadrature rule with the same moments that has a node at the point; what it puts below it and what it puts
         on it are all that is open
Source   Chebyshev, Markov, Stieltjes; Krein, Nudelman (1977), The Markov moment problem, section III.4; Golub (1973),
         Some modified matrix eigenvalue problems, SIAM Rev. 15:318 (the rule with a prescribed node)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal, solve_banded

Floats = NDArray[np.float64]
NEGLIGIBLE = 1e-13  # share of the spectrum's size below which a coefficient is rounding: the measure has no more nodes


def mass_below(nodes: Floats, weights: Floats, at: float) -> tuple[float, float]:
    """Bounds of mu(x < at) and of mu(x <= at) over all measures with the moments of a Gauss rule with m nodes.

    The first is a lower bound of both, the second an upper bound of both; moments 0 to 2 m - 2 are used, and a measure
    of a Lanczos run of m steps has these. Weights are positive and add up to 1.

    >>> lower, upper = mass_below(np.array([0.0, 1.0]), np.array([0.5, 0.5]), 0.5)
    >>> round(lower, 9) + 0.0, round(upper, 9)
    (0.0, 1.0)
    """
    diagonal, off = jacobi(nodes, weights)
    if len(diagonal) == 1:  # the mean alone: everything may lie on either side of any point, or at it
        return 0.0, 1.0
    moved = _through(diagonal, off, at)
    values, columns = eigh_tridiagonal(moved, off)
    mass = columns[0] ** 2
    here = int(np.abs(values - at).argmin())
    below = math.fsum(mass[:here])
    return below, min(1.0, below + float(mass[here]))


def jacobi(nodes: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Diagonal and off-diagonal of the tridiagonal matrix whose rule this is, by Lanczos on the nodes themselves."""
    order = np.argsort(nodes)
    x, start = nodes[order], np.sqrt(weights[order] / math.fsum(weights))
    size = float(np.abs(x).max()) or 1.0
    basis, diagonal, off = [start / np.linalg.norm(start)], [], list[float]()
    while True:
        rest = x * basis[-1]
        diagonal.append(float(rest @ basis[-1]))
        known = np.array(basis)
        for _ in range(2):
            rest = rest - known.T @ (known @ rest)
        length = float(np.linalg.norm(rest))
        if len(basis) == len(x) or length <= NEGLIGIBLE * size:
            return np.array(diagonal), np.array(off)
        off.append(length)
        basis.append(rest / length)


def _through(diagonal: Floats, off: Floats, at: float) -> Floats:
    """The diagonal with its last entry such that ``at`` is an eigenvalue."""
    m = len(diagonal)
    bands = np.zeros((3, m - 1))
    bands[0, 1:], bands[1], bands[2, :-1] = off[:-1], diagonal[:-1] - at, off[:-1]
    wanted = np.zeros(m - 1)
    wanted[-1] = off[-1] ** 2
    moved = diagonal.copy()
    try:
        moved[-1] = at + solve_banded((1, 1), bands, wanted)[-1]
    except np.linalg.LinAlgError:  # at is a node of the rule with one less: that rule is as good
        bands[1] += NEGLIGIBLE * float(np.abs(diagonal).max())
        moved[-1] = at + solve_banded((1, 1), bands, wanted)[-1]
    return moved
