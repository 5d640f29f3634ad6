"""Effective dimension of a kernel: how many directions it can fit at a given ridge.

Method   sum of l / (l + ridge) over the eigenvalues l, in float64
Source   Zhang (2005), Neural Computation 17; Caponnetto, De Vito (2007), Found. Comput. Math. 7
Assumes  a positive semi-definite kernel
Breaks   without its ridge the number means nothing; it grows with the number of rows
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._alignment import Array, checked_kernel

ROUNDING = 1e-5  # relative size of a negative eigenvalue that a float32 kernel matrix may have by rounding


def effective_dimension(kernel_or_eigenvalues: Array, ridge: float, *, per_example: bool = False) -> float:
    """Effective dimension, the trace of the kernel ridge smoother; between 0 and the rank.

    Parameters
    ----------
    kernel_or_eigenvalues
        Symmetric positive semi-definite (n, n), or its eigenvalues (n,).
    ridge
        What is added to the eigenvalues, in their unit; positive. Statisticians write tr K (K + n lambda)^-1: pass
        lambda with ``per_example=True``, which multiplies it by n.
    per_example
        Whether ``ridge`` is lambda, to be multiplied by n.

    Raises
    ------
    ValueError
        A ridge that is not positive, or a kernel with a clearly negative eigenvalue.

    >>> round(effective_dimension(torch.tensor([1.0, 2.0, 4.0]), 1.0), 9)
    1.966666667
    """
    levels = kernel_eigenvalues(kernel_or_eigenvalues)
    return dimension_at(levels, _checked_ridge(ridge) * (len(levels) if per_example else 1))


def leverage(kernel: Array, ridge: float, *, per_example: bool = False) -> Tensor:
    """Ridge leverage of each row, the diagonal of K (K + ridge)^-1, shape (n,) in float64.

    It adds up to the effective dimension; n times its maximum is the maximal degrees of freedom (Alaoui, Mahoney
    2015). Arguments and errors as `effective_dimension`, the kernel as a matrix.
    """
    K = checked_kernel(kernel)
    ridge = _checked_ridge(ridge) * (len(K) if per_example else 1)
    levels, vectors = torch.linalg.eigh(K)
    levels = without_rounding(levels)
    found: Tensor = (vectors**2) @ (levels / (levels + ridge))
    return found


def kernel_eigenvalues(kernel_or_eigenvalues: Array) -> Tensor:
    """Eigenvalues in float64, largest first; negative ones of rounding size are zero, larger ones refused."""
    given = torch.as_tensor(kernel_or_eigenvalues)
    if given.ndim == 1:
        levels = given.double().sort().values
        if not len(levels) or not bool(torch.isfinite(levels).all()):
            raise ValueError(f"eigenvalues must be finite and at least one, got {len(levels)} values")
    else:
        levels = torch.linalg.eigvalsh(checked_kernel(given))
    return without_rounding(levels).flip(0)


def dimension_at(levels: Tensor, ridge: float) -> float:
    return float((levels / (levels + ridge)).sum())


def without_rounding(levels: Tensor) -> Tensor:
    """Eigenvalues with rounding below zero removed; clearly negative ones are refused."""
    lowest, top = float(levels.min()), float(levels.max())
    if lowest < -ROUNDING * abs(top):
        raise ValueError(
            f"a kernel must be positive semi-definite, got an eigenvalue of {lowest:.3g} beside a largest of {top:.3g}"
        )
    return levels.clamp(min=0)


def _checked_ridge(ridge: float) -> float:
    if not ridge > 0:
        raise ValueError(f"the ridge must be positive, got {ridge}")
    return float(ridge)
