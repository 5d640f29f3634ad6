"""Gaussian-process regression with any kernel: an infinitely wide network with only its Bayesian posterior.

Source   Neal (1996); Williams (1997), NIPS; Lee et al. (2018), ICLR; Matthews et al. (2018), ICLR; formulas: Rasmussen,
         Williams (2006), chapter 2
Assumes  Gaussian noise of known variance
Breaks   trained networks are not posterior samples of the NNGP; without noise the kernel must be invertible
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._alignment import Array, checked_kernel
from ._effective_dimension import without_rounding
from ._rkhs_norm import real_targets


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Of the noiseless function at the test points, and the evidence of the training targets.

    Attributes
    ----------
    mean
        (m,) or (m, C), like the targets.
    covariance
        (m, m), the same for every output.
    log_evidence
        log density of the training targets, summed over outputs.
    """

    mean: Tensor
    covariance: Tensor
    log_evidence: float


def gp_posterior(kernel: Array, cross: Array, test: Array, targets: Array, noise: float) -> Posterior:
    """Posterior of a Gaussian process with prior covariance ``kernel`` (n, n), ``cross`` (m, n), ``test`` (m, m).

    Parameters
    ----------
    targets
        (n,) or (n, C); outputs are independent with one kernel. The prior mean is zero.
    noise
        Variance of the noise in the targets, zero or more.

    Raises
    ------
    ValueError
        Shapes that do not match, kernels that are not positive semi-definite, a kernel plus noise that is singular.
    """
    K, beyond = checked_kernel(kernel), checked_kernel(test)
    between = torch.as_tensor(cross).detach().double()
    if between.shape != (len(beyond), len(K)) or not bool(torch.isfinite(between).all()):
        raise ValueError(
            f"the cross kernel must be finite and (m, n) = {(len(beyond), len(K))}, got {tuple(between.shape)}"
        )
    y, factor = real_targets(targets, len(K)), _factor(K, noise)
    weights = torch.cholesky_solve(y, factor)
    half = torch.linalg.solve_triangular(factor, between.T, upper=False)
    mean = between @ weights
    return Posterior(
        mean=mean.reshape(len(beyond), *torch.as_tensor(targets).shape[1:]),
        covariance=beyond - half.T @ half, log_evidence=_evidence(factor, y, weights),
    )  # fmt: skip


def log_evidence(kernel: Array, targets: Array, noise: float) -> float:
    """Log N(y; 0, K + noise), summed over outputs: what to compare depths, activations and variances by."""
    K = checked_kernel(kernel)
    y, factor = real_targets(targets, len(K)), _factor(K, noise)
    return _evidence(factor, y, torch.cholesky_solve(y, factor))


def prior_samples(kernel: Array, draws: int, *, rng: torch.Generator) -> Tensor:
    """Functions drawn from the prior at the n points of ``kernel``, (draws, n) in float64; singular kernels too."""
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    levels, vectors = torch.linalg.eigh(checked_kernel(kernel))
    scale = without_rounding(levels).sqrt()
    noise = torch.randn(draws, len(levels), generator=rng, dtype=torch.float64).to(levels.device)
    found: Tensor = (noise * scale) @ vectors.T
    return found


def _factor(K: Tensor, noise: float) -> Tensor:
    if not 0 <= noise < math.inf:
        raise ValueError(f"the noise variance must be zero or more and finite, got {noise}")
    without_rounding(torch.linalg.eigvalsh(K))
    factor, failed = torch.linalg.cholesky_ex(K + noise * torch.eye(len(K), dtype=K.dtype, device=K.device))
    if int(failed):
        raise ValueError(f"the kernel with noise {noise:g} is singular; give a larger noise variance")
    found: Tensor = factor
    return found


def _evidence(factor: Tensor, y: Tensor, weights: Tensor) -> float:
    n, outputs = y.shape
    determinant = 2 * float(factor.diagonal().log().sum())
    return -0.5 * (float((y * weights).sum()) + outputs * (determinant + n * math.log(2 * math.pi)))
