"""Diagonal linear networks: one number moves them from the kernel regime (small L2 norm) to the rich one (small L1).

Method   w = u^2 - v^2 from u = v = alpha under gradient flow on a squared loss is 2 alpha^2 sinh(X^T nu) on the way and
         at its end: nu solves X w = y, the minimum of a smooth convex dual, by Newton's method
Source   Woodworth et al. (2020), COLT
Assumes  y can be fitted: X of full row rank, no more rows than features
Breaks   finite learning rates end elsewhere
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._alignment import Array

NEWTON = 200
EXACT = 1e-12  # residual relative to the targets


class DiagonalNetwork(nn.Module):
    """x -> x.(u^2 - v^2), started at u = v = alpha; outputs (n, 1)."""

    def __init__(self, features: int, alpha: float) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.full((features,), float(alpha)))
        self.v = nn.Parameter(torch.full((features,), float(alpha)))

    @property
    def weights(self) -> Tensor:
        """The linear predictor (features,)."""
        return self.u**2 - self.v**2

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weights)[:, None]


def diagonal_network_limit(x: Array, y: Array, alpha: float) -> Tensor:
    """The interpolating weights that gradient flow reaches from scale ``alpha``, (d,) in float64.

    They minimise sum of alpha^2 q(w / alpha^2) with q(z) = z asinh(z / 2) - sqrt(4 + z^2) + 2 among all interpolants:
    close to the smallest L1 norm for small alpha, to the smallest L2 norm for large.

    Parameters
    ----------
    x, y
        (n, d) with n <= d and full row rank, and (n,).

    Raises
    ------
    ValueError
        Shapes that do not match, a scale that is not positive, rows that cannot all be fitted, or a scale so small
        that Newton's method does not arrive.

    >>> w = diagonal_network_limit(torch.tensor([[1.0, 2.0]]), torch.tensor([1.0]), 1.0)
    >>> [round(float(value), 6) for value in w]
    [0.199211, 0.400394]
    """
    X, target = torch.as_tensor(x).detach().double(), torch.as_tensor(y).detach().double()
    if X.ndim != 2 or target.shape != (len(X),) or not bool(torch.isfinite(X).all() and torch.isfinite(target).all()):
        raise ValueError(f"needed are finite x (n, d) and y (n,), got {tuple(X.shape)} and {tuple(target.shape)}")
    if not alpha > 0:
        raise ValueError(f"the scale alpha must be positive, got {alpha}")
    if int(torch.linalg.matrix_rank(X)) < len(X):
        raise ValueError(f"the {len(X)} rows of x are linearly dependent, so not every y can be fitted; remove rows")
    scale = 2 * alpha**2
    nu = torch.linalg.solve(X @ X.T, target) * 0
    size = max(float(target.norm()), 1e-300)

    def dual(at: Tensor) -> float:
        return scale * float(torch.cosh(X.T @ at).sum()) - float(target @ at)

    for _ in range(NEWTON):
        z = X.T @ nu
        missing = target - X @ (scale * torch.sinh(z))
        if float(missing.norm()) <= EXACT * size:
            return scale * torch.sinh(z)
        step = torch.linalg.solve((X * (scale * torch.cosh(z))) @ X.T, missing)
        length, now, slope = 1.0, dual(nu), float(missing @ step)
        while not dual(nu + length * step) <= now - 1e-4 * length * slope + 1e-13 * abs(now):
            length /= 2
            if length < 1e-12:
                break
        nu = nu + length * step
    raise ValueError(
        f"Newton's method did not fit y to {EXACT:g} in {NEWTON} steps at alpha = {alpha:g}; use a larger alpha"
    )
