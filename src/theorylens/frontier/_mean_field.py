"""Mean-field theory of wide random networks: how large signals and gradients are, layer after layer.

Method   pre-activations of a wide random layer are Gaussian with variance q' = sw2 E[phi(sqrt(q) z)^2] + sb2; squared
         gradients change by chi = sw2 E[phi'(sqrt(q) z)^2] per layer backwards, chi_1 at the fixed point q* of the map
Source   Poole et al. (2016), NIPS; Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), ICLR
Assumes  infinite width, independent zero-mean weights of variance sw2 / fan-in, no normalisation, no skips
Breaks   finite width: fluctuations grow with depth / width
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq

from theorylens.numerics.gaussian import ACTIVATIONS, Elementwise, Floats, elementwise, gaussian_rule

__all__ = ["ACTIVATIONS", "Elementwise", "MeanField", "NoFixedPointError", "chi", "mean_field"]

LARGEST = 1e8  # a variance above this has no physical meaning: the map diverges
CRITICAL = 1e-12  # how exactly a scale-free map must reproduce every variance


class NoFixedPointError(ValueError):
    """The variance map grows without bound, so there is no q* to take chi_1 at."""


@dataclass(frozen=True, kw_only=True)
class MeanField:
    """Fixed point of the variance map and what it says about gradients.

    Attributes
    ----------
    q
        Variance of the pre-activations deep in the network, reached from q = 1; infinite when a scale-free activation
        lets it grow, 1 when such a network keeps every variance.
    chi
        Factor of the squared gradient per layer backwards: below 1 ordered (vanishing), above 1 chaotic (exploding).
    """

    q: float
    chi: float

    @property
    def depth_scale(self) -> float:
        """Layers over which the squared gradient changes by a factor e: 1 / |ln chi|."""
        return math.inf if self.chi == 1 else (0.0 if self.chi == 0 else 1 / abs(math.log(self.chi)))


def mean_field(activation: str | Elementwise, sigma_w2: float, sigma_b2: float = 0.0) -> MeanField:
    """Fixed point q* of the variance map and chi_1 there.

    Parameters
    ----------
    activation
        A name from `ACTIVATIONS` or any elementwise function of a tensor (a kink is integrated exactly only at zero).
    sigma_w2, sigma_b2
        Fan-in times the variance of the weights, and the variance of the biases.

    Raises
    ------
    ValueError
        Unknown activation, or a variance that is negative or not finite.
    NoFixedPointError
        The variance diverges and the activation is not scale-free, so that chi depends on where it is taken.

    >>> round(mean_field("tanh", 1.5, 0.05).chi, 6)
    0.938636
    """
    for name, value in (("sigma_w2", sigma_w2), ("sigma_b2", sigma_b2)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite variance, zero or more, got {value}")
    phi = elementwise(activation)
    gain = float(_second_moment(phi, np.array([1.0]))[0])
    if _scale_free(phi, gain):
        growth = sigma_w2 * gain
        if abs(growth - 1) < CRITICAL and sigma_b2 == 0:
            q = 1.0
        else:
            q = sigma_b2 / (1 - growth) if growth < 1 - CRITICAL else math.inf
        return MeanField(q=q, chi=float(chi(phi, sigma_w2, np.array([1.0]))[0]))
    q = _fixed_point(lambda at: sigma_w2 * _second_moment(phi, at) + sigma_b2)
    return MeanField(q=q, chi=float(chi(phi, sigma_w2, np.array([q]))[0]))


def chi(activation: str | Elementwise, sigma_w2: float, q: Floats) -> Floats:
    """``sigma_w2 E[phi'(sqrt(q) z)^2]`` at each variance in ``q`` (m,), shape (m,)."""
    phi = elementwise(activation)
    x, weights = _nodes(np.maximum(np.asarray(q, dtype=np.float64), 1e-24))  # at zero: the slope beside zero
    leaf = torch.from_numpy(x).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(phi(leaf).sum(), leaf)
    found: Floats = sigma_w2 * (slope.numpy() ** 2) @ weights
    return found


def _second_moment(phi: Elementwise, q: Floats) -> Floats:
    x, weights = _nodes(q)
    with torch.no_grad():
        found: Floats = (phi(torch.from_numpy(x)).numpy() ** 2) @ weights
    return found


def _nodes(q: Floats) -> tuple[Floats, Floats]:
    """Points sqrt(q) z (m, nodes) and Gaussian weights (nodes,)."""
    z, weights = gaussian_rule()
    return np.sqrt(q)[:, None] * z, weights


def _fixed_point(variance: Callable[[Floats], Floats]) -> float:
    """Limit of the variance map started at 1: the nearest crossing in the direction it moves."""

    def excess(q: float) -> float:
        return float(variance(np.array([q]))[0] - q)

    start = excess(1.0)
    if start == 0:
        return 1.0
    grid = np.logspace(0, 8, 129) if start > 0 else np.logspace(0, -12, 193)
    crossed = np.flatnonzero((variance(grid) - grid) * np.sign(start) <= 0)
    if len(crossed):
        last = int(crossed[0])
        return float(brentq(excess, grid[last - 1], grid[last], xtol=1e-16, rtol=1e-15))
    if start > 0:
        raise NoFixedPointError(
            f"the variance of the pre-activations grows beyond {LARGEST:.0e}: there is no fixed point; lower sigma_w2"
        )
    return 0.0


def _scale_free(phi: Elementwise, gain: float) -> bool:
    """Whether phi(a x) = a phi(x) for a > 0, as for ReLU and the identity."""
    moments = _second_moment(phi, np.array([1e-4, 1e4]))
    return bool(np.allclose(moments, gain * np.array([1e-4, 1e4]), rtol=1e-10, atol=0))
