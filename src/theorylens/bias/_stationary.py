"""SGD near a minimum as a diffusion: how far do the weights spread around it when training goes on for ever?

Method   the Lyapunov equation A S + S A = η C of the diffusion, and the exact one of the steps themselves,
         S = (I - η A) S (I - η A) + η² C
Source   Mandt, Hoffman, Blei (2017), JMLR 18:134 (diffusion); Liu, Ziyin, Ueda (2021), ICML (steps)
Assumes  a quadratic loss with Hessian A and noise of constant covariance C, independent from step to step
Breaks   the diffusion where η times the largest eigenvalue is not small: compare the two
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov

from ._implicit_regulariser import check_lr

Floats = NDArray[np.float64]


def stationary_covariance(hessian: Floats, noise: Floats, lr: float, *, of: str = "steps") -> Floats:
    """Covariance of the weights around the minimum.

    Parameters
    ----------
    hessian
        A, shape (p, p), positive definite.
    noise
        C, shape (p, p): covariance of the gradient of one minibatch (that of one example over the batch size).
    of
        ``"steps"``: exact for SGD on a quadratic. ``"diffusion"``: its limit for small steps.

    Raises
    ------
    ValueError
        Matrices that are not symmetric or do not fit; A not positive definite; C not positive
        semi-definite; for steps, η at or above 2 / λmax, where they do not settle.

    >>> float(stationary_covariance(np.eye(1), np.eye(1), 0.1, of="diffusion")[0, 0])
    0.05
    """
    check_lr(lr)
    if of not in ("diffusion", "steps"):
        raise ValueError(f"of must be 'diffusion' or 'steps', got {of!r}")
    a, c = _symmetric("hessian", hessian), _symmetric("noise", noise)
    if a.shape != c.shape:
        raise ValueError(f"hessian and noise must have one shape, got {a.shape} and {c.shape}")
    levels, spread = np.linalg.eigvalsh(a), np.linalg.eigvalsh(c)
    if levels[0] <= 0:
        raise ValueError(
            f"hessian must be positive definite, its smallest eigenvalue is {levels[0]:.3g}: in flat or falling "
            "directions the weights do not settle; leave those out"
        )
    if spread[0] < -1e-10 * max(1.0, spread[-1]):
        raise ValueError(f"noise must be a covariance, its smallest eigenvalue is {spread[0]:.3g}")
    if of == "diffusion":
        return np.asarray(solve_continuous_lyapunov(a, lr * c))
    if lr * levels[-1] >= 2:
        raise ValueError(
            f"steps of size {lr:g} do not settle where the Hessian has an eigenvalue of {levels[-1]:.3g}: lr must be "
            f"below {2 / levels[-1]:.3g}"
        )
    keep = np.eye(len(a)) - lr * a
    return np.asarray(solve_discrete_lyapunov(keep, lr**2 * c))


def _symmetric(name: str, matrix: Floats) -> Floats:
    m = np.atleast_2d(np.asarray(matrix, dtype=np.float64))
    if m.ndim != 2 or m.shape[0] != m.shape[1] or not np.isfinite(m).all():
        raise ValueError(f"{name} must be a finite square matrix, got shape {m.shape}")
    if not np.allclose(m, m.T, rtol=1e-8, atol=1e-12):
        raise ValueError(f"{name} must be symmetric; pass (M + M.T) / 2 if that is what you mean")
    return m
