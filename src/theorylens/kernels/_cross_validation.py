"""Test error of kernel ridge regression from its training data: leave-one-out, GCV, KARE; no refitting.

Source   leave-one-out and generalised cross-validation: Golub, Heath, Wahba (1979), Technometrics 21; KARE: Jacot,
         Simsek, Spadaro, Hongler, Gabriel (2020), NeurIPS; Wei, Hu, Steinhardt (2022), ICML
Assumes  independent examples, a kernel that was not fitted to these targets
Breaks   the kernel of a trained network has seen the targets: its leave-one-out error reads low
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._alignment import Array, checked_kernel
from ._effective_dimension import without_rounding
from ._rkhs_norm import real_targets


def leave_one_out_residuals(kernel: Array, targets: Array, ridge: float) -> Tensor:
    """y_i - f_{-i}(x_i) of kernel ridge regression fitted without example i, of the shape of the targets, float64.

    Parameters
    ----------
    kernel
        Symmetric positive semi-definite (n, n).
    targets
        (n,) or (n, C), real; no intercept is fitted, so centre them where that is meant.
    ridge
        Added to the eigenvalues of K (n times lambda where the fit minimises a mean). It stays the same when an
        example is left out. Zero needs an invertible kernel.

    Raises
    ------
    ValueError
        Shapes that do not match, a kernel that is not symmetric positive semi-definite, a negative ridge, a singular
        kernel without ridge.
    """
    K = checked_kernel(kernel)
    y = real_targets(targets, len(K))
    inverse = _inverse(K, ridge)
    found: Tensor = (inverse @ y) / inverse.diagonal()[:, None]
    return found.reshape(torch.as_tensor(targets).shape)


def generalised_cross_validation(kernel: Array, targets: Array, ridge: float) -> float:
    """(1/n) ||(1 - S) y||^2 / ((1/n) tr (1 - S))^2 with the smoother S = K (K + ridge)^-1; arguments as above.

    Summed over outputs. It estimates the squared error on new examples, noise included.
    """
    if ridge == 0:
        raise ValueError("generalised cross-validation is 0/0 without a ridge; use kare, which has the same limit")
    K = checked_kernel(kernel)
    y = real_targets(targets, len(K))
    left = torch.eye(len(K), dtype=K.dtype, device=K.device) - K @ _inverse(K, ridge)
    return float((left @ y).square().sum() / len(K) / (left.trace() / len(K)) ** 2)


def kare(kernel: Array, targets: Array, ridge: float) -> float:
    """Kernel alignment risk estimator, y' (K/n + l)^-2 y / n over (tr (K/n + l)^-1 / n)^2 with l = ridge / n.

    Algebraically equal to `generalised_cross_validation`, and defined without a ridge. Arguments as above.
    """
    K = checked_kernel(kernel)
    y = real_targets(targets, len(K))
    levels, vectors = torch.linalg.eigh(K / len(K))
    levels = without_rounding(levels) + _checked(ridge) / len(K)
    if not float(levels.min()) > 0:
        raise ValueError("the kernel is singular; give a positive ridge")
    parts = (vectors.T @ y).square().sum(1)
    return float((parts / levels**2).sum() / len(K) / ((1 / levels).sum() / len(K)) ** 2)


def _inverse(K: Tensor, ridge: float) -> Tensor:
    without_rounding(torch.linalg.eigvalsh(K))
    shifted = K + _checked(ridge) * torch.eye(len(K), dtype=K.dtype, device=K.device)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if int(failed) or float(factor.diagonal().min()) ** 2 < 1e-14 * float(factor.diagonal().max()) ** 2:
        raise ValueError(f"the kernel with ridge {ridge:g} is singular to rounding; give a larger ridge")
    found: Tensor = torch.cholesky_inverse(factor)
    return found


def _checked(ridge: float) -> float:
    if not 0 <= ridge < math.inf:
        raise ValueError(f"the ridge must be zero or more and finite, got {ridge}")
    return float(ridge)
