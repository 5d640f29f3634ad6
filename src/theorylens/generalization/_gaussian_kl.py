"""Relative entropy between Gaussians: what a Gaussian posterior over weights costs against its prior."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def gaussian_kl(mean: Any, std: Any, prior_mean: Any, prior_std: Any) -> float:
    """KL(N(mean, std^2) || N(prior_mean, prior_std^2)) of independent coordinates, summed, in nats.

    Arrays or tensors that broadcast. Accurate also where posterior and prior nearly agree.

    Raises
    ------
    ValueError
        A standard deviation that is not positive, or values that are not finite.

    >>> round(gaussian_kl(1.0, 0.5, 0.0, 1.0), 10)
    0.8181471806
    """
    m, s, m0, s0 = np.broadcast_arrays(*(_array(each) for each in (mean, std, prior_mean, prior_std)))
    if not (np.isfinite(m).all() and np.isfinite(m0).all()):
        raise ValueError("means must be finite")
    if not ((s > 0) & (s0 > 0) & np.isfinite(s) & np.isfinite(s0)).all():
        raise ValueError("standard deviations must be positive and finite; a point mass has no density")
    u = 2 * (np.log(s) - np.log(s0))
    # r - 1 - ln r with r = exp(u); for small u the terms cancel and the series is used.
    spread = np.where(np.abs(u) < 1e-3, u * u * (0.5 + u * (1 / 6 + u / 24)), np.expm1(np.minimum(u, 700.0)) - u)
    shift = ((m - m0) / s0) ** 2
    return 0.5 * math.fsum((spread + shift).ravel())


def multivariate_gaussian_kl(mean: Any, covariance: Any, prior_mean: Any, prior_covariance: Any) -> float:
    """KL between Gaussians with full covariances, shapes (d,) and (d, d), in nats.

    (tr(C0^-1 C) - d + (m0 - m).C0^-1 (m0 - m) + ln(det C0 / det C)) / 2. Errors: shapes that do not fit, a covariance
    that is not symmetric positive definite.

    >>> round(multivariate_gaussian_kl([1.0], [[0.25]], [0.0], [[1.0]]), 10)
    0.8181471806
    """
    m, m0 = _array(mean), _array(prior_mean)
    if m.shape != m0.shape:
        raise ValueError(f"means must have one shape, got {m.shape} and {m0.shape}")
    roots = [_cholesky(name, _array(c), m) for name, c in (("", covariance), ("prior ", prior_covariance))]
    ratio = np.linalg.solve(roots[1], roots[0])  # triangular; its squared entries add up to the trace
    shift = np.linalg.solve(roots[1], m - m0)
    logs = 2 * (np.log(np.diag(roots[1])) - np.log(np.diag(roots[0]))).sum()
    return max(0.0, 0.5 * float((ratio**2).sum() - len(m) + shift @ shift + logs))


def _cholesky(name: str, covariance: Floats, mean: Floats) -> Floats:
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"need a mean (d,) and a {name}covariance (d, d), got {mean.shape} and {covariance.shape}")
    try:
        if not np.allclose(covariance, covariance.T, rtol=1e-8, atol=0.0):
            raise np.linalg.LinAlgError
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise ValueError(f"the {name}covariance is not symmetric positive definite") from None


def _array(given: Any) -> Floats:
    if hasattr(given, "detach"):  # a tensor, perhaps with a graph or on a device
        given = given.detach().cpu().double().numpy()
    return np.asarray(given, dtype=np.float64)
