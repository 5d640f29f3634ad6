"""A function with a chain of saddles that gradient descent needs exponentially long to pass, and noise does not.

Source   Du, Jin, Lee, Jordan, Singh, Poczos (2017), Gradient descent can take exponential time to escape saddle points,
         NeurIPS, section 4 (the tube and its spline)
Assumes  every coordinate within 6 tau of zero, later ones within tau until the earlier ones have passed 2 tau
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def octopus(
    x: Float[Tensor, " d"], *, smoothness: float = 4.0, curvature: float = 1.0, tau: float = math.e
) -> Float[Tensor, ""]:
    """A twice differentiable function of |x|: d strict saddles in a row, then a minimum at |x_i| = 4 tau.

    At each saddle the next coordinate bends downwards with -2 ``curvature`` while the later ones are still being
    contracted with 2 ``smoothness``, so the later each saddle, the closer gradient descent arrives: with small steps it
    takes about (smoothness + curvature) / curvature times as long for each next one, and longer with large ones. A draw
    of noise there undoes the closeness.

    Raises
    ------
    ValueError
        A point outside of the tube on which the function is defined; constants that are not ``tau >= e`` and
        ``smoothness > curvature > 0``.

    >>> float(octopus(torch.zeros(3, dtype=torch.float64)))
    0.0
    """
    L, g = smoothness, curvature
    if not (L > g > 0 and math.isfinite(L) and tau >= math.e - 1e-12):
        raise ValueError(
            f"needed are smoothness > curvature > 0 and tau >= e, got smoothness={L}, curvature={g}, tau={tau}"
        )
    y = x.abs()  # squares are taken of x itself: the second derivative of |x|² at 0 is 2, of torch's abs 0
    sizes = y.detach()
    passed = 0
    while passed < len(y) and float(sizes[passed]) >= 2 * tau:
        passed += 1
    later = sizes[passed + 1 :]
    moving = passed < len(y) and float(sizes[passed]) > tau
    if bool((sizes > 6 * tau).any()) or bool((later > tau).any()) or not bool(torch.isfinite(sizes).all()):
        raise ValueError(
            f"the point leaves the tube of the octopus function at coordinate {passed}: |x| = "
            f"{[round(float(s), 3) for s in sizes]}, tau = {tau:.3g}; take smaller steps or less noise"
        )
    value = L * (y[:passed] - 4 * tau).square().sum() - passed * _drop(L, g, tau)
    if passed == len(y):
        return value
    if not moving:
        return value - g * x[passed] ** 2 + L * x[passed + 1 :].square().sum()
    value = value + _slide(y[passed], L, g, tau)
    if passed + 1 < len(y):
        value = value + _turn(y[passed], L, g, tau) * x[passed + 1] ** 2 + L * x[passed + 2 :].square().sum()
    return value


def _slide(x: Tensor, L: float, g: float, tau: float) -> Tensor:
    """From -g x² at tau to L (x - 4 tau)² - drop at 2 tau, twice differentiable."""
    u = x - tau
    return -g * x**2 + (-14 * L + 10 * g) / (3 * tau) * u**3 + (5 * L - 3 * g) / (2 * tau**2) * u**4


def _turn(x: Tensor, L: float, g: float, tau: float) -> Tensor:
    """From L at tau to -g at 2 tau, twice differentiable: the curvature of the next coordinate."""
    u = (x - 2 * tau) / tau
    return -g - (L + g) * (10 * u**3 + 15 * u**4 + 6 * u**5)


def _drop(L: float, g: float, tau: float) -> float:
    """How much lower each next saddle is."""
    end = torch.tensor(2 * tau, dtype=torch.float64)
    return 4 * L * tau**2 - float(_slide(end, L, g, tau))
