"""Dual activations without closed form: Hermite series, E[phi(u) phi(v)] = sum over k of a_k(q1) a_k(q2) rho^k.

Method   a_k(q) = E[phi(sqrt(q) z) h_k(z)] in orthonormal Hermite polynomials by the trapezoidal rule, which converges
         geometrically for functions analytic near the real line; the derivative dual is the series of phi'
Assumes  phi analytic in a strip (tanh and its relatives); a kink makes the series slow and is refused
Breaks   large variances: the number of terms grows like the variance

Gauss-Hermite nodes would be slower for tanh than the trapezoidal rule: their error falls like exp(-sqrt(nodes)). The
tail of the series is bounded by Cauchy-Schwarz with the exact second moments, so the error is known, not hoped for.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theorylens.numerics.gaussian import elementwise

Floats = NDArray[np.float64]
REACH = 12.5  # exp(-z^2 / 4) is 1e-17 there
TERMS = 4096
TOLERANCE = 1e-11  # of the tail of the series, relative to the second moment
STEP = 0.1  # spacing of the nodes at unit variance; poles of tanh then cost exp(-2 pi (pi / 2) / 0.1)
NOTHING = 1e-13  # a coefficient of this relative size adds 1e-26 to a moment
BLOCK = 16  # terms between two looks at the tail


def hermite_dual(name: str, q1: Tensor, q2: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Second moments (n1,), (n2,), E[phi(u) phi(v)] and E[phi'(u) phi'(v)], both (n1, n2), in float64.

    Raises
    ------
    ValueError
        The series does not reach 1e-11 within 4096 terms.
    """
    variances, back = np.unique(torch.cat([q1, q2]).cpu().numpy(), return_inverse=True)
    values, slopes = _coefficients(name, variances)
    rows, columns = torch.as_tensor(back[: len(q1)]), torch.as_tensor(back[len(q1) :])
    scale = (q1[:, None] * q2).sqrt()
    rho = torch.where(scale > 0, c / scale, torch.zeros_like(c)).clamp(-1, 1)
    found = [_series(torch.as_tensor(a).to(q1.device), rows, columns, rho) for a in (values, slopes)]
    second = torch.as_tensor((values**2).sum(0)).to(q1.device)
    return second[rows], second[columns], found[0], found[1]


def _series(a: Tensor, rows: Tensor, columns: Tensor, rho: Tensor) -> Tensor:
    """Sum of the series; terms of rounding size (every other one of an odd function) are left out."""
    total, power, missed = torch.zeros_like(rho), torch.ones_like(rho), 0
    largest = a.abs().amax(1)
    for k in (largest > NOTHING * largest.max()).nonzero()[:, 0].tolist():
        for _ in range(k - missed):
            power.mul_(rho)
        missed = k
        total.addcmul_(power, a[k, rows][:, None] * a[k, columns])
    return total


def _coefficients(name: str, variances: Floats) -> tuple[Floats, Floats]:
    """Hermite coefficients of phi and phi' at each variance, (terms, m)."""
    top = float(variances.max(initial=0))
    step = STEP / math.sqrt(max(1.0, top))
    z = np.arange(-math.ceil(REACH / step), math.ceil(REACH / step) + 1) * step
    weight = step * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    phi, leaf = elementwise(name), torch.from_numpy(np.sqrt(variances)[:, None] * z).requires_grad_()
    with torch.enable_grad():
        value = phi(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    both = np.stack([value.detach().numpy(), slope.numpy()])  # (2, m, nodes)
    moments = (both**2) @ weight
    kept: list[Floats] = []
    last, now = np.zeros_like(z), np.ones_like(z)
    left = moments.copy()
    for k in range(TERMS):
        found: Floats = both @ (weight * now)
        kept.append(found)
        left -= found**2
        last, now = now, (z * now - math.sqrt(k) * last) / math.sqrt(k + 1)
        if k % BLOCK == BLOCK - 1 and bool((left <= TOLERANCE * moments + 1e-300).all()):
            every = np.stack(kept, axis=1)  # (2, terms, m)
            return every[0], every[1]
    worst = float(variances[(left / np.maximum(moments, 1e-300)).max(0).argmax()])
    raise ValueError(
        f"the kernel of {name} does not converge in {TERMS} terms at a pre-activation variance of {worst:.3g}; scale "
        "the inputs or the weights down, or use relu, gelu or erf, which have closed forms"
    )
