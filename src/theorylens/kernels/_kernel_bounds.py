"""What theory says about the error of kernel regression before looking at test data.

Source   rkhs_ball_bound: Bartlett, Mendelson (2002), JMLR 3; interpolation_complexity: Arora, Du, Hu, Li, Wang (2019),
         ICML; ridge risk: bias and variance of a linear smoother, as in Caponnetto, De Vito (2007)
"""

from __future__ import annotations

import math

import torch

from ._alignment import Array, checked_kernel
from ._effective_dimension import dimension_at, without_rounding
from ._rkhs_norm import real_targets, rkhs_norm


def interpolation_complexity(kernel: Array, targets: Array) -> float:
    """sqrt(2 y' H^-1 y / n), the leading term of the bound of Arora et al. (2019) for two-layer ReLU networks.

    ``kernel`` is their H (each entry at most 1/2 for unit vectors), ``targets`` (n,) or (n, C). The whole bound adds a
    term of order sqrt(log(n / (lambda_min delta)) / n) with a constant that is not stated, and holds for very wide
    networks: this is a measure of complexity, not a bound by itself. Infinite when the targets are not in the range.
    Errors as `rkhs_norm`.
    """
    n = len(torch.as_tensor(kernel))
    return math.sqrt(2 / n) * rkhs_norm(kernel, targets).value


def rademacher_ball(kernel: Array, radius: float) -> float:
    """Upper bound radius * sqrt(tr K) / n of the empirical Rademacher complexity of an RKHS ball.

    The complexity is E sup over ||f|| <= radius of (1/n) sum s_i f(x_i), s_i random signs: not doubled, no absolute
    value. It is at least 1 / sqrt(2) of the bound.

    >>> rademacher_ball(torch.tensor([[2.0, 1], [1, 2]]), 1.0)
    1.0
    """
    K = checked_kernel(kernel)
    without_rounding(torch.linalg.eigvalsh(K))
    if not 0 <= radius < math.inf:
        raise ValueError(f"the radius must be zero or more and finite, got {radius}")
    return radius * math.sqrt(float(K.trace())) / len(K)


def rkhs_ball_bound(
    kernel: Array, radius: float, training_loss: float, *, delta: float, lipschitz: float = 1.0, loss_range: float = 1.0
) -> float:
    """Upper bound of the expected loss of every function with ||f|| <= radius, with probability 1 - delta.

    training_loss + 2 lipschitz radius sqrt(tr K) / n + 3 loss_range sqrt(ln(2 / delta) / (2 n)).

    Parameters
    ----------
    kernel
        On the n training inputs, chosen before them: not the kernel of a network that was trained on them.
    radius
        Fixed before seeing the data. A radius chosen afterwards (`rkhs_norm` of the fit) must be paid for: take the
        next of a grid fixed beforehand and divide delta among its members.
    training_loss
        Mean over the n examples of a loss in [0, loss_range] that is ``lipschitz`` in the output of f.

    Raises
    ------
    ValueError
        A kernel that is not symmetric positive semi-definite, delta outside (0, 1), a training loss outside its range.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    if not (lipschitz > 0 and loss_range > 0):
        raise ValueError(f"lipschitz and loss_range must be positive, got {lipschitz} and {loss_range}")
    if not 0 <= training_loss <= loss_range:
        raise ValueError(f"the training loss must lie in [0, {loss_range}], got {training_loss}")
    n = len(torch.as_tensor(kernel))
    confidence = 3 * loss_range * math.sqrt(math.log(2 / delta) / (2 * n))
    return training_loss + 2 * lipschitz * rademacher_ball(kernel, radius) + confidence


def kernel_ridge_risk(kernel: Array, function: Array, ridge: float, noise: float) -> float:
    """Exact expected squared error of kernel ridge regression on its own inputs, over the noise.

    E (1/n) ||f_hat - f||^2 for y = f + noise: bias (1/n) ||ridge (K + ridge)^-1 f||^2 plus variance
    (noise / n) tr (K (K + ridge)^-1)^2.

    Parameters
    ----------
    function
        Values of the true function at the inputs, (n,).
    ridge
        Added to the eigenvalues of K: n times lambda where the fit minimises a mean.
    noise
        Variance of the noise.
    """
    K = checked_kernel(kernel)
    f = real_targets(function, len(K))
    _positive(ridge, noise)
    levels, vectors = torch.linalg.eigh(K)
    levels = without_rounding(levels)
    left, kept = ridge / (levels + ridge), levels / (levels + ridge)
    bias = float((left[:, None] * (vectors.T @ f)).square().sum()) / len(K)
    return bias + noise * f.shape[1] * float(kept.square().sum()) / len(K)


def kernel_ridge_risk_bound(kernel: Array, norm: float, ridge: float, noise: float) -> float:
    """Bound of `kernel_ridge_risk` for every f with RKHS norm at most ``norm``: (ridge/n) norm^2 / 4 + noise d_eff / n.

    From t / (t + r)^2 <= 1 / (4 r) for the bias and (t / (t + r))^2 <= t / (t + r) for the variance, d_eff being the
    `effective_dimension` at ``ridge``.
    """
    K = checked_kernel(kernel)
    _positive(ridge, noise)
    levels = without_rounding(torch.linalg.eigvalsh(K))
    if not 0 <= norm < math.inf:
        raise ValueError(f"the norm must be zero or more and finite, got {norm}")
    return (ridge * norm**2 / 4 + noise * dimension_at(levels, ridge)) / len(K)


def _positive(ridge: float, noise: float) -> None:
    if not (0 < ridge < math.inf and 0 <= noise < math.inf):
        raise ValueError(f"the ridge must be positive and the noise variance not negative, got {ridge} and {noise}")
