"""Critical points of random functions on high-dimensional spheres: how many, at which height, of which index.

Method   closed forms of the spherical p-spin model H(x) = N^(-(p-1)/2) sum J x...x, |x|² = N, Gaussian J
Source   Auffinger, Ben Arous, Cerny (2013), Random matrices and complexity of spin glasses, Comm. Pure Appl. Math.
         66:165; Bray, Dean (2007), Phys. Rev. Lett. 98:150201 (index against height)
Assumes  this random field. It is proved for it and not for networks, whose loss is no such field (Choromanska et al.
         2015 get there by assumptions that networks break)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_simpson, simpson

from theorylens.numerics.random_matrix import semicircle_share

Floats = NDArray[np.float64]
LARGEST = 100  # dimensions of `p_spin_count`: beyond, the limit is as good


def p_spin_complexity(p: int, energy: float = math.inf, index: int | None = None) -> float:
    """(1/N) log of the mean number of critical points with H / N at most ``energy``, for large N.

    Parameters
    ----------
    p
        Order of the interaction, at least 2.
    energy
        Height per dimension; infinity counts all: log(p - 1) / 2.
    index
        Count only points with this many downward directions (0: minima); needs p at least 3.

    Negative values mean that there are none: where the complexity of minima crosses zero is the ground state.

    >>> round(p_spin_complexity(3), 10)
    0.3465735903
    >>> abs(p_spin_complexity(3, -1.6569984)) < 1e-6  # the ground state of p = 3
    True
    """
    if p < 2:
        raise ValueError(f"p must be at least 2, got {p}")
    if math.isnan(energy):
        raise ValueError("energy must be a number, got nan")
    if index is not None and (p < 3 or index < 0):
        raise ValueError(f"counts by index need p >= 3 and index >= 0, got p={p} and index={index}")
    total, edge = math.log(p - 1) / 2, p_spin_threshold(p)
    copies = 1 if index is None else index + 1
    if index is not None:
        energy = min(energy, -edge)  # above the threshold every point has an index that grows with N
    elif energy >= 0:
        return total
    fall = (p - 2) * energy**2 / (4 * (p - 1)) if p > 2 else 0.0
    return total - fall - copies * _rate(energy, edge)


def p_spin_count(p: int, n: int, energy: float = math.inf) -> float:
    """Mean number of critical points with H / N at most ``energy`` in ``n`` dimensions, exactly, by Kac and Rice.

    2 sqrt(2/p) (p - 1)^(N/2) times the integral over x <= energy sqrt(p / (2p - 2)) of exp(-N (p - 2) x² / 2p) times
    the density of the N eigenvalues of a GOE matrix whose entries have variance 1/2N (1/N on the diagonal). On a circle
    (N = 2), and from 2 to 100 dimensions; `p_spin_complexity` is its logarithm over N for large N.

    Source: Auffinger, Ben Arous, Cerny (2013), theorem 2.1; the density: Mehta (2004), Random Matrices, chapter 7.

    >>> round(p_spin_count(2, 5), 6)  # a quadratic form: two critical points for each eigenvector
    10.0
    """
    if p < 2:
        raise ValueError(f"p must be at least 2, got {p}")
    if not 2 <= n <= LARGEST:
        raise ValueError(f"n must lie between 2 and {LARGEST}, got {n}")
    if math.isnan(energy):
        raise ValueError("energy must be a number, got nan")
    reach = math.sqrt(2 * n) + 6.0  # in units where off-diagonal entries have variance 1/2
    top = min(reach, max(-reach, energy * math.sqrt(p / (2 * (p - 1)) * n)))
    if top <= -reach:
        return 0.0
    x = np.linspace(-reach, top, 40_001)
    inside = np.exp(-(p - 2) / (2 * p) * x * x) * _goe_density(n, x)
    return float(2 * math.sqrt(2 / p) * math.pow(p - 1, n / 2) * simpson(inside, x=x))


def _goe_density(n: int, x: Floats) -> Floats:
    """Mean number of eigenvalues per unit at ``x`` (evenly spaced, from below all), off-diagonal variance 1/2.

    Sum of squared oscillator functions, plus sqrt(n/2) f_{n-1} times half the integral of sgn(x - t) f_n(t), and for
    odd n f_{n-1} over its integral.
    """
    wide = np.linspace(x[0], -x[0], 80_001)

    def oscillators(at: Floats) -> list[Floats]:
        f = [np.pi**-0.25 * np.exp(-at * at / 2)]
        f.append(math.sqrt(2) * at * f[0])
        for k in range(2, n + 1):
            f.append(math.sqrt(2 / k) * at * f[-1] - math.sqrt((k - 1) / k) * f[-2])
        return f

    f, everywhere = oscillators(x), oscillators(wide)
    half = cumulative_simpson(f[n], x=x, initial=0) - float(simpson(everywhere[n], x=wide)) / 2
    found = sum(each * each for each in f[:n]) + math.sqrt(n / 2) * f[n - 1] * half
    if n % 2:
        found = found + f[n - 1] / float(simpson(everywhere[n - 1], x=wide))
    return np.asarray(found)


def p_spin_threshold(p: int) -> float:
    """E_inf = 2 sqrt((p - 1) / p): below -E_inf the index is finite, above a positive share of N.

    >>> round(p_spin_threshold(3), 9)
    1.632993162
    """
    if p < 2:
        raise ValueError(f"p must be at least 2, got {p}")
    return 2 * math.sqrt((p - 1) / p)


def p_spin_index_share(p: int, energy: float) -> float:
    """Share of downward directions at a typical critical point at height ``energy`` per dimension.

    0 up to the threshold -E_inf, then growing with the height to 1/2 at 0 and 1 at +E_inf: in this model high
    critical points are saddles, and low ones are minima.

    >>> p_spin_index_share(3, 0.0), p_spin_index_share(3, -1.7)
    (0.5, 0.0)
    """
    return semicircle_share(energy / p_spin_threshold(p))


def _rate(energy: float, edge: float) -> float:
    """Cost per dimension of pulling one eigenvalue of the Hessian out of its bulk; 0 above the threshold."""
    if energy >= -edge:
        return 0.0
    root = math.sqrt(energy**2 - edge**2)
    return -energy * root / edge**2 - math.log(-energy + root) + math.log(edge)
