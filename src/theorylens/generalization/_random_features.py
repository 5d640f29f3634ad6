"""Risk of ridge regression on random features in the limit, with the peak at as many features as examples.

Inputs uniform on a sphere of radius sqrt(d), features s(w_j . x / sqrt(d)) of directions w_j on it, targets b . x plus
what no linear function explains plus noise. With N features, n examples and d inputs growing together, the coefficients
minimise mean squares + penalty (N / d) |a|².

Source   Mei, Montanari (2022), Comm. Pure Appl. Math. 75:667, theorem 2. Its two coupled equations are solved as one
         increasing function of their product; checked against ridge regression (many features) and direct fits
Assumes  an activation that is not linear and not orthogonal to linear functions; d, n, N of the same order
Breaks   at small d: around the peak the finite risk is lower
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize

from theorylens.numerics.gaussian import Elementwise, elementwise, gaussian_rule

Floats = NDArray[np.float64]
NOTHING = 1e-9  # share of the second moment below which a part of the activation is absent


def random_features_risk(
    features: Any, examples: Any, penalty: Any, *, noise: float, signal: float = 1.0, nonlinear: float = 0.0,
    activation: str | Elementwise = "relu",
) -> float | Floats:  # fmt: skip
    """Limiting excess risk of random-features ridge regression, E (f(x) - E[y | x])²; arrays broadcast.

    Parameters
    ----------
    features, examples
        N / d and n / d, positive.
    penalty
        As in the module's first lines; 0 for the solution of smallest norm, infinite at N = n.
    noise
        Variance of the noise of the targets.
    signal
        Squared length of b: the variance of the linear part of the target.
    nonlinear
        Variance of the rest of the target; it is not learnt at this size and acts as noise besides.
    activation
        A name of `numerics.gaussian`, or a function of tensors entry by entry.

    Raises
    ------
    ValueError
        Ratios that are not positive, a negative penalty or variance, an activation that is linear or that has no linear
        part.

    >>> peak = random_features_risk([1.0, 3.0, 30.0], 3.0, 1e-6, noise=0.1)
    >>> bool(peak[1] > 10 * peak[0] > 10 * peak[2])
    True
    """
    first, second = _positive("features", features), _positive("examples", examples)
    weight = np.asarray(penalty, dtype=np.float64)
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError(f"the penalty must be at least 0 and finite, got {penalty}")
    for name, value in (("noise", noise), ("signal", signal), ("nonlinear", nonlinear)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is a variance, at least 0, got {value}")
    linear, rest = activation_parts(activation)
    ratio = linear**2 / rest
    cells = np.broadcast_arrays(first, second, weight)
    found = np.empty(cells[0].shape)
    for place in np.ndindex(found.shape):
        n1, n2, w = (float(c[place]) for c in cells)
        bias, variance = _bias_variance(n1, n2, w / rest, ratio)
        spread = noise + nonlinear
        found[place] = nonlinear + sum(size * part for size, part in ((signal, bias), (spread, variance)) if size)
    return found if found.ndim else float(found)


def activation_parts(activation: str | Elementwise = "relu") -> tuple[float, float]:
    """E[G s(G)] and the variance of s(G) beyond its linear part, for standard normal G.

    >>> linear, rest = activation_parts()
    >>> round(linear, 9), round(rest, 9) == round(0.25 - 1 / (2 * math.pi), 9)
    (0.5, True)
    """
    points, weights = gaussian_rule()
    value = np.asarray(elementwise(activation)(torch.from_numpy(points)).double().numpy())
    if value.shape != points.shape or not np.isfinite(value).all():
        raise ValueError("the activation must give one finite number for each number")
    square, linear = float(weights @ value**2), float(weights @ (points * value))
    rest = square - float(weights @ value) ** 2 - linear**2
    if linear**2 <= NOTHING * square:
        raise ValueError("the activation has no linear part, so nothing of a linear target is learnt at this size")
    if rest <= NOTHING * square:
        raise ValueError("the activation is linear: use ridge_risk with the number of inputs")
    return linear, rest


def _bias_variance(n1: float, n2: float, weight: float, z: float) -> tuple[float, float]:
    """B and V of the theorem; z is the squared ratio of the linear to the other part of the activation."""

    def grown(t: float) -> float:
        return t + z * t / (1 + z * t)

    # With v1 v2 = -t the two equations say (n1 - g(t)) (n2 - g(t)) = n1 n2 weight t, g increasing: one root.
    least = min(n1, n2)
    top = optimize.brentq(lambda t: grown(t) - least, 0.0, least, xtol=1e-15, rtol=1e-14)
    if weight:
        scale = n1 * n2 * weight

        def short(t: float) -> float:
            return scale * t - (n1 - grown(t)) * (n2 - grown(t))

        if short(top) > 0:  # else the penalty is below the rounding of the end, which then is the root
            top = optimize.brentq(short, 0.0, top, xtol=1e-300, rtol=1e-14)
    elif n1 == n2:
        return math.inf, math.inf  # what the features do not share acts as noise of its own
    x = -float(top)
    e0 = (
        -(x**5) * z**3 + 3 * x**4 * z**2 + (n1 * n2 - n2 - n1 + 1) * x**3 * z**3 - 2 * x**3 * z**2 - 3 * x**3 * z
        + (n1 + n2 - 3 * n1 * n2 + 1) * x**2 * z**2 + 2 * x**2 * z + x**2 + 3 * n1 * n2 * x * z - n1 * n2
    )  # fmt: skip
    e1 = n2 * x**3 * z**2 - n2 * x**2 * z + n1 * n2 * x * z - n1 * n2
    e2 = (
        x**5 * z**3 - 3 * x**4 * z**2 + (n1 - 1) * x**3 * z**3 + 2 * x**3 * z**2 + 3 * x**3 * z
        + (-n1 - 1) * x**2 * z**2 - 2 * x**2 * z - x**2
    )  # fmt: skip
    return e1 / e0, e2 / e0


def _positive(name: str, given: Any) -> Floats:
    value = np.asarray(given, dtype=np.float64)
    if not (np.isfinite(value) & (value > 0)).all():
        raise ValueError(f"the ratio of {name} to inputs must be positive and finite, got {given}")
    return value
