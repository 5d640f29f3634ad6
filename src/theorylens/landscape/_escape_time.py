"""How long it takes to leave a saddle: gradient descent, noisy gradient descent, a diffusion.

Method   closed forms of the linear dynamics along one downward direction; the diffusion by its backward equation
Source   Gardiner (2009), Stochastic Methods, section 5.5 (mean exit times); Kifer (1981), Israel J. Math. 40:74 and
         Bakhtin (2011) for small noise; Jin et al. (2017), Du et al. (2017) for what holds globally
Assumes  curvature constant out to ``radius``, one direction. This is the local, linear phase only: from the stable set
         of the saddle gradient descent never leaves, and a chain of saddles can take a time exponential in their
         number (`octopus`)
"""

from __future__ import annotations

import math

import numpy as np
from scipy import integrate, special, stats


def gd_escape_steps(curvature: float, *, lr: float, distance: float, radius: float = 1.0) -> float:
    """Steps of gradient descent from ``distance`` to ``radius`` along a direction of negative ``curvature``.

    log(radius / distance) / log(1 + lr |curvature|): the distance grows by that factor each step.

    >>> round(gd_escape_steps(-0.1, lr=0.01, distance=0.01), 6)
    4607.472388
    """
    growth = _growth(curvature, lr)
    return _log_ratio(radius, distance) / growth


def flow_escape_time(curvature: float, *, distance: float, radius: float = 1.0) -> float:
    """The same for gradient flow, in its time and not in steps: log(radius / distance) / |curvature|.

    Divide by the learning rate for an approximate number of small steps.

    >>> round(flow_escape_time(-0.1, distance=0.01), 8)
    46.05170186
    """
    return _log_ratio(radius, distance) / _down(curvature)


def noisy_gd_escape_steps(
    curvature: float, *, lr: float, noise: float, distance: float = 0.0, radius: float = 1.0
) -> float:
    """Steps of x <- (1 + lr |curvature|) x + lr noise xi until the root mean square of x is ``radius``.

    ``noise`` is the standard deviation of the gradient along the direction; xi is standard normal. The variance obeys
    v <- (1 + lr |curvature|)² v + (lr noise)², which has a closed form. A start exactly at the saddle is allowed:
    noise is what leaves it.

    >>> round(noisy_gd_escape_steps(-1.0, lr=0.01, noise=0.1), 4)
    497.8993
    """
    growth = _growth(curvature, lr)
    _positive(noise=noise, radius=radius)
    if not 0 <= distance <= radius:
        raise ValueError(f"distance must lie between 0 and the radius {radius}, got {distance}")
    # Noise adds as much as a start at this distance would: the fixed point of the recursion is at -rest².
    rest = (lr * noise) ** 2 / math.expm1(2 * growth)
    return math.log((radius**2 + rest) / (distance**2 + rest)) / (2 * growth)


def perturbed_gd_escape_steps(
    curvature: float, *, lr: float, perturbation: float, dimension: int, radius: float = 1.0, delta: float = 0.1
) -> float:
    """Steps after which perturbed gradient descent has left a saddle with probability 1 - ``delta``.

    A uniform draw from the ball of radius ``perturbation`` in ``dimension`` dimensions lies, along one direction, at
    x with (x / perturbation)² ~ Beta(1/2, (dimension + 1)/2); its delta-quantile then grows by 1 + lr |curvature| a
    step. It is log(radius sqrt(dimension) / (perturbation delta)) / (lr |curvature|) up to constants in the logarithm:
    the rate of the theorem, O(log(d / ...) / (eta sqrt(rho epsilon))) for |curvature| = sqrt(rho epsilon), of which
    `perturbed_gd_thresholds` has the version that allows for a changing Hessian (``wait``).

    Source: Jin et al. (2017); the quantile is exact for a quadratic.

    >>> round(perturbed_gd_escape_steps(-0.1, lr=0.1, perturbation=1e-3, dimension=1000), 1)
    1249.8
    """
    growth = _growth(curvature, lr)
    _positive(perturbation=perturbation, radius=radius)
    if not (dimension >= 1 and 0 < delta < 1):
        raise ValueError(f"needed are dimension >= 1 and delta between 0 and 1, got {dimension} and {delta}")
    least = perturbation * math.sqrt(float(stats.beta.ppf(delta, 0.5, (dimension + 1) / 2)))
    return max(0.0, math.log(radius / least)) / growth


def mean_exit_time(curvature: float, *, noise: float, start: float = 0.0, radius: float = 1.0) -> float:
    """Mean time until dx = |curvature| x dt + noise dW leaves (-radius, radius).

    The backward equation noise² T'' / 2 + |curvature| x T' = -1, T(+-radius) = 0 integrates to
    (2 / |curvature|) times the integral of Dawson's function between |start| and radius, in units of
    noise / sqrt |curvature|.

    >>> round(mean_exit_time(-1.0, noise=0.5), 8)
    1.59237441
    """
    rate = _down(curvature)
    _positive(noise=noise, radius=radius)
    if not abs(start) <= radius:
        raise ValueError(f"start must lie within the radius {radius}, got {start}")
    scale = math.sqrt(rate) / noise
    low, high = abs(start) * scale, radius * scale
    breaks = [b for b in np.geomspace(1.0, 1e6, 13) if low < b < high]
    pieces = zip([low, *breaks], [*breaks, high], strict=True)
    area = math.fsum(integrate.quad(special.dawsn, a, b, epsabs=0.0, epsrel=1e-12)[0] for a, b in pieces if b > a)
    return 2 / rate * area


def small_noise_exit_time(curvature: float, *, noise: float, radius: float = 1.0) -> float:
    """The limit of `mean_exit_time` from the saddle itself for small noise.

    (log(|curvature| radius² / noise²) + gamma + 2 log 2) / (2 |curvature|), gamma being Euler's constant: only
    logarithmic in the noise. The error is of the order of noise² / (curvature² radius²).

    >>> round(small_noise_exit_time(-1.0, noise=0.1), 5)
    3.28434
    """
    rate = _down(curvature)
    _positive(noise=noise, radius=radius)
    return (math.log(rate * (radius / noise) ** 2) + np.euler_gamma + 2 * math.log(2)) / (2 * rate)


def _down(curvature: float) -> float:
    if not (math.isfinite(curvature) and curvature < 0):
        raise ValueError(
            f"curvature must be a negative eigenvalue, got {curvature}; no descent leaves along a direction that bends "
            "upwards"
        )
    return -curvature


def _growth(curvature: float, lr: float) -> float:
    rate = _down(curvature)
    _positive(lr=lr)
    return math.log1p(lr * rate)


def _log_ratio(radius: float, distance: float) -> float:
    _positive(radius=radius)
    if distance == 0:
        raise ValueError(
            "distance is 0: from exactly the saddle the gradient never leaves; use noisy_gd_escape_steps or "
            "mean_exit_time, where noise does"
        )
    if not 0 < distance <= radius:
        raise ValueError(f"distance must lie between 0 and the radius {radius}, got {distance}")
    return math.log(radius / distance)


def _positive(**given: float) -> None:
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
