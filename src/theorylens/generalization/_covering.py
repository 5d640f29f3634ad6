"""How many functions are needed so that every function of a class is within a given distance of one of them.

Distances are in L2 of the sample: the root mean squared difference over the n points. Numbers are given as logarithms
(nats): they overflow otherwise.

Source   volumes: Wainwright (2019), example 5.8; linear classes: Zhang (2002), JMLR 2:527, after Maurey; networks:
         Bartlett, Foster, Telgarsky (2017), theorem 3.3
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._asked import is_whole

Array = NDArray[np.float64]


def ball_covering(radius: float, scale: float, dimension: int) -> float:
    """Log covering number of a Euclidean ball by balls of radius ``scale``: at most d ln(1 + 2 radius/scale).

    0 where one ball is enough; `ball_packing` is below.

    >>> round(ball_covering(1.0, 0.5, 3), 6)
    4.828314
    """
    _check_ball(radius, scale, dimension)
    return 0.0 if scale >= radius else dimension * math.log1p(2 * radius / scale)


def ball_packing(radius: float, scale: float, dimension: int) -> float:
    """What no cover of the ball can do without: d ln(radius/scale) nats, from volumes; at least 0."""
    _check_ball(radius, scale, dimension)
    return max(0.0, dimension * math.log(radius / scale))


def linear_covering(norm: float, radius: float, scale: float, dimension: int) -> float:
    """Log covering number of {x -> w.x : |w| <= norm} on points with root mean square length at most ``radius``.

    The smaller of the volume bound (points in an axis-parallel or any other subspace of ``dimension`` dimensions) and
    Maurey's, which has the dimension in a logarithm only: with k = ceil((norm radius / scale)^2) the averages of k of
    2d + 1 atoms suffice, which are C(2d + k, k).

    >>> linear_covering(1.0, 1.0, 1.0, 10)
    0.0
    >>> round(linear_covering(1.0, 1.0, 0.5, 1000), 4)  # 4 of 2001 atoms
    27.2306
    """
    _check_ball(norm * radius, scale, dimension)
    reach = norm * radius / scale
    if reach <= 1:
        return 0.0
    volume = dimension * math.log1p(2 * reach)
    k = math.ceil(reach * reach)
    if k >= 4 * dimension ** (4 / 3):  # then (1 + k/2d)^(2d), which C(2d + k, k) exceeds, exceeds the volume bound
        return volume
    few, many = sorted((k, 2 * dimension))
    return min(volume, float(np.log1p(many / np.arange(1.0, few + 1)).sum()))


def spectral_covering(
    spectral: Sequence[float],
    distances: Sequence[float],
    scale: float,
    *,
    inputs: float,
    width: int,
    lipschitz: Sequence[float] | None = None,
) -> float:
    """Log covering number of the networks with bounded weight matrices, on fixed inputs.

    ln(2 W^2) |X|^2 / (n scale^2) prod (s_i rho_i)^2 (sum (b_i / s_i)^(2/3))^3.

    Parameters
    ----------
    spectral, distances
        s_i, bounds on the spectral norms of the matrices A_i, and b_i, bounds on the (2, 1) norms of (A_i - M_i)^T, M_i
        fixed before the data; input side first.
    scale
        In the root mean square over the n inputs of the output's Euclidean distance.
    inputs
        Root mean square length of the inputs.
    width
        Largest dimension of any layer, inputs and outputs included.
    lipschitz
        rho_i of the activation after each matrix; 1 unless given.

    >>> round(spectral_covering([2.0, 1.0], [1.0, 1.0], 0.5, inputs=1.0, width=8), 4)
    336.1822
    """
    if len(spectral) != len(distances) or not len(spectral):
        raise ValueError(f"need one distance per spectral norm, got {len(distances)} for {len(spectral)} matrices")
    rho = [1.0] * len(spectral) if lipschitz is None else list(lipschitz)
    if len(rho) != len(spectral):
        raise ValueError(f"need one Lipschitz constant per matrix, got {len(rho)} for {len(spectral)}")
    _check_ball(inputs, scale, width)
    finite = all(math.isfinite(each) for each in (*spectral, *distances, *rho))
    if not (finite and min(spectral) > 0 and min(distances) >= 0 and min(rho) >= 0):
        raise ValueError("spectral norms must be positive, distances and Lipschitz constants at least 0, all finite")
    product = math.prod(s * r for s, r in zip(spectral, rho, strict=True))
    ratio: float = sum((b / s) ** (2 / 3) for b, s in zip(distances, spectral, strict=True)) ** 3
    return float(math.log(2 * width * width) * (inputs * product / scale) ** 2 * ratio)


@dataclass(frozen=True, kw_only=True, eq=False)
class EmpiricalCover:
    """A nested family of covers of given functions by some of themselves.

    Attributes
    ----------
    centres
        Indices of the functions in the order they were taken, shape (k,).
    radii
        ``radii[j]``: how far the farthest function lies from the first j + 1 centres; decreasing to 0. Shape (k,).
    """

    centres: NDArray[np.int64]
    radii: Array

    def count(self, scale: float) -> int:
        """Size of the smallest of these covers at ``scale``: an upper bound on the covering number."""
        if not scale >= 0:
            raise ValueError(f"the scale must be at least 0, got {scale}")
        return int(np.argmax(self.radii <= scale)) + 1

    def least(self, scale: float) -> int:
        """Lower bound on the covering number, by whatever functions: no ball holds two that are 2 scale apart."""
        if not scale >= 0:
            raise ValueError(f"the scale must be at least 0, got {scale}")
        return 1 + int((self.radii > 2 * scale).sum())  # centre j + 1 lies radii[j] from all before it

    def log_count(self, scale: float) -> float:
        """`count` in nats."""
        return math.log(self.count(scale))


def empirical_cover(predictions: Array) -> EmpiricalCover:
    """Greedy covers of a finite set of functions: the farthest one becomes the next centre.

    Parameters
    ----------
    predictions
        One row per function (a checkpoint, a model of another seed), one column per example: shape (models, points).
        For several outputs per point give one column per output times sqrt(outputs).

    Raises
    ------
    ValueError
        Not a matrix, or values that are not finite.

    >>> empirical_cover(np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.1]])).count(0.5)
    2
    """
    values = np.asarray(predictions, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"predictions must be a finite matrix (models, points), got shape {values.shape}")
    centres, radii = [0], []
    distance = _rms(values - values[0])
    while True:
        farthest = int(distance.argmax())
        radii.append(float(distance[farthest]))
        if radii[-1] == 0.0:
            break
        centres.append(farthest)
        distance = np.minimum(distance, _rms(values - values[farthest]))
    return EmpiricalCover(centres=np.array(centres, dtype=np.int64), radii=np.array(radii))


def covering_bound(scale: float, log_covering: float, n: int) -> float:
    """Empirical Rademacher complexity of functions in [-1, 1] from one cover: scale + sqrt(2 ln N / n), at most 1.

    ``log_covering``: ln N at this ``scale`` on the same n points, in L1 or L2. `dudley` uses all scales at once.

    >>> round(covering_bound(0.1, math.log(100), 1000), 10)
    0.1959705182
    """
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"the scale must be finite and at least 0, got {scale}")
    if not log_covering >= 0:
        raise ValueError(f"a covering number is at least 1, its logarithm at least 0, got {log_covering}")
    if not is_whole(n) or n < 1:
        raise ValueError(f"n must be a whole number, at least 1, got {n}")
    return min(1.0, (scale + math.sqrt(2 * log_covering / n)) * (1 + 2.0**-49))


def covering_tail(deviation: float, log_covering: float, n: int) -> float:
    """Bound on P(some risk and empirical risk on n examples differ by ``deviation``), for losses in [0, 1].

    4 N exp(-n deviation^2 / 32), at most 1. ``log_covering``: ln N at scale ``deviation`` / 8 in L1 (hence also in L2)
    on 2n points, the largest over such points. With a ghost sample the chance at most doubles for deviation / 2; within
    a cell of the cover both means move by at most deviation / 4 together; for the centre Hoeffding's inequality over
    exchanges of pairs gives 2 exp(-n (deviation / 4)^2 / 2).

    Source: Pollard (1984); Anthony, Bartlett (1999), theorem 17.1. `dudley` is sharper for large classes.

    >>> round(covering_tail(0.1, math.log(1000), 60_000), 7)
    2.88e-05
    """
    if not (math.isfinite(deviation) and deviation > 0):
        raise ValueError(f"a deviation must be finite and positive, got {deviation}")
    if not log_covering >= 0:
        raise ValueError(f"a covering number is at least 1, so its logarithm at least 0, got {log_covering}")
    if not is_whole(n) or n < 1:
        raise ValueError(f"n must be a whole number, at least 1, got {n}")
    exponent = math.log(4) + log_covering - n * deviation**2 / 32
    rounded = exponent + 1e-15 * (log_covering + n * deviation**2 + 2)  # outwards, and never to 0
    return 1.0 if rounded >= 0 else math.nextafter(math.exp(rounded), 1.0)


def _rms(differences: Array) -> Array:
    found: Array = np.sqrt((differences * differences).mean(1))
    return found


def _check_ball(radius: float, scale: float, dimension: int) -> None:
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"a radius or norm must be finite and at least 0, got {radius}")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"the scale must be positive and finite, got {scale}")
    if not is_whole(dimension) or dimension < 1:
        raise ValueError(f"the dimension must be a whole number, at least 1, got {dimension}")
