"""Dual activations: E[phi(u) phi(v)] and E[phi'(u) phi'(v)] of two Gaussian pre-activations, in closed form.

Source   rectifiers: Cho, Saul (2009), NIPS; erf: Williams (1997), NIPS; GELU: Stein's lemma, twice
Assumes  (u, v) Gaussian with mean zero, variances q1, q2 and covariance c
Breaks   nothing in float64: rectifiers take the squared distance q1 + q2 - 2c beside c, because their derivative dual
         depends on the angle, which c alone knows only to 1e-8 when it is small
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ._hermite import hermite_dual

LEAK = 0.01  # slope of torch's LeakyReLU
HERMITE = ("gelu_tanh", "sigmoid", "silu", "softplus", "tanh")  # no closed form: Hermite series


@dataclass(frozen=True, eq=False)
class Signals:
    """Covariances of Gaussian signals of two sets of inputs.

    Attributes
    ----------
    q1, q2
        Variances (n1,) and (n2,).
    c
        Covariances (n1, n2).
    gap
        Squared distances q1 + q2 - 2c (n1, n2), to full relative precision where signals nearly coincide.
    """

    q1: Tensor
    q2: Tensor
    c: Tensor
    gap: Tensor

    def scaled(self, by: float, plus: float) -> Signals:
        """Of the next layer's pre-activations: weights of variance ``by`` / fan-in, biases of variance ``plus``."""
        return Signals(self.q1 * by + plus, self.q2 * by + plus, self.c * by + plus, self.gap * by)


Dual = Callable[[Signals], tuple[Signals, Tensor]]
"""From pre-activations to the covariances of phi and the matrix of E[phi' phi']."""


def dual(activation: str, slope: float | None = None) -> Dual:
    """The dual of an activation by name.

    Raises
    ------
    ValueError
        An unknown name; a slope for an activation that has none.
    """
    if slope is not None and activation != "leaky_relu":
        raise ValueError(f"only leaky_relu has a slope, got slope={slope} for {activation!r}")
    known: dict[str, Dual] = {
        "identity": partial(_rectifier, slope=1.0), "relu": partial(_rectifier, slope=0.0),
        "leaky_relu": partial(_rectifier, slope=LEAK if slope is None else slope), "erf": _erf, "gelu": _gelu,
    }  # fmt: skip
    known |= {name: partial(_hermite, name) for name in HERMITE}
    if activation not in known:
        raise ValueError(f"unknown activation {activation!r}; kernels are known for {', '.join(sorted(known))}")
    return known[activation]


def _rectifier(at: Signals, *, slope: float) -> tuple[Signals, Tensor]:
    """phi(x) = x above zero, slope * x below: slope c + (1 - slope)^2 E[relu relu]."""
    kept, folded = slope, (1 - slope) ** 2
    size1, size2 = at.q1.sqrt(), at.q2.sqrt()
    product = size1[:, None] * size2
    tilt = (size1[:, None] - size2).square_()
    # sin^2 of half the angle; zero vectors have no angle and need none
    half = ((at.gap - tilt) / (4 * product)).nan_to_num_(0.5, 0.5, 0.5).clamp_(0, 1).sqrt_()
    theta = half.asin().mul_(2)
    lost = half.square().mul_(2).sub_((theta.sin() - theta * theta.cos()).div_(math.pi))  # 1 - J(theta)
    c = kept * at.c + folded * product * (1 - lost) / 2
    gap = kept * at.gap + folded * (tilt / 2 + product * lost)
    slopes = kept + folded * (0.5 - theta / (2 * math.pi))
    diagonal = kept + folded / 2
    return Signals(diagonal * at.q1, diagonal * at.q2, c, gap), slopes


def _erf(at: Signals) -> tuple[Signals, Tensor]:
    one, two = 1 + 2 * at.q1, 1 + 2 * at.q2
    product = one[:, None] * two
    c = 2 / math.pi * (2 * at.c / product.sqrt()).clamp(-1, 1).asin()
    q1, q2 = (2 / math.pi * (2 * q / (1 + 2 * q)).asin() for q in (at.q1, at.q2))
    return _smooth(at, q1, q2, c), 4 / math.pi / (product - 4 * at.c**2).sqrt()


def _gelu(at: Signals) -> tuple[Signals, Tensor]:
    """X Phi(x), Phi the normal distribution function."""
    c, slopes = _gelu_moments(at.q1[:, None], at.q2, at.c)
    q1, q2 = (_gelu_moments(q, q, q)[0] for q in (at.q1, at.q2))
    return _smooth(at, q1, q2, c), slopes


def _gelu_moments(q1: Tensor, q2: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    one, two = 1 + q1, 1 + q2
    rest = one * two - c**2
    both = 0.25 + (c / (one * two).sqrt()).clamp(-1, 1).asin() / (2 * math.pi)  # E[Phi(u) Phi(v)]
    density = 1 / (2 * math.pi * rest.sqrt())
    bend = 1 / one + 1 / two - 1
    inner = q1 * q2 + c**2 * bend
    return c * both + density * inner, both + density * (c + c / rest * inner + 2 * c * bend)


def _hermite(name: str, at: Signals) -> tuple[Signals, Tensor]:
    q1, q2, c, slopes = hermite_dual(name, at.q1, at.q2, at.c)
    return _smooth(at, q1, q2, c), slopes


def _smooth(at: Signals, q1: Tensor, q2: Tensor, c: Tensor) -> Signals:
    """Equal signals stay equal to the last bit; elsewhere a smooth function needs no more than the difference."""
    gap = (q1[:, None] + q2 - 2 * c).clamp_(min=0)
    return Signals(q1, q2, c, torch.where(at.gap == 0, torch.zeros_like(gap), gap))
