"""Kernel-target alignment: does the kernel call those examples similar that have similar targets?

Method   cosine between the centred kernel and the centred Gram matrix of the targets
Source   Cortes, Mohri, Rostamizadeh (2012), JMLR 13; debiased: Song et al. (2012), JMLR 13, as a cosine of U-centred
         matrices (Székely, Rizzo 2014)
Assumes  nothing; the plain form is biased upwards by the diagonal when there are few examples
Breaks   without centring a kernel with a large constant part is aligned with anything
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Array = Tensor | np.ndarray

VANISHED = 1e-12  # a matrix this much smaller after centring was constant up to rounding


def alignment(kernel: Array, targets: Array, centred: bool = True, *, debiased: bool = False) -> float:
    """Alignment of a kernel with targets, in [-1, 1].

    Parameters
    ----------
    kernel
        Symmetric (n, n).
    targets
        Integer class labels (n,), compared as equal or not; or real targets (n,) or (n, d), compared by inner
        product.
    centred
        Subtract the mean in feature space from both (Cortes et al. 2012). For positive semi-definite kernels the
        result is then in [0, 1].
    debiased
        Leave the diagonal out and centre so that independent targets give zero on average, whatever n; needs n >= 4
        and ``centred``.

    Raises
    ------
    ValueError
        Shapes that do not match, entries that are not finite, an asymmetric kernel, targets or kernel that are
        constant (zero norm after centring).

    >>> round(alignment(np.array([[2.0, 1, 0], [1, 2, 1], [0, 1, 2]]), np.array([1.0, 0, -1])), 4)
    0.9487
    """
    K = checked_kernel(kernel)
    L = target_gram(targets)
    if len(L) != len(K):
        raise ValueError(f"the kernel has {len(K)} rows for {len(L)} targets; give one target per row")
    if debiased and not centred:
        raise ValueError("a debiased alignment is always centred; leave centred=True")
    if debiased and len(K) < 4:
        raise ValueError(f"a debiased alignment needs at least 4 examples, got {len(K)}")
    value = cosine(K, L, centred=centred, debiased=debiased)
    if np.isnan(value):
        of = "are constant" if _vanishes(L, centred, debiased) else "do not matter: the kernel is constant"
        raise ValueError(f"the targets {of}, so there is nothing to align; give targets and a kernel that vary")
    return value


def cosine(K: Tensor, L: Tensor, *, centred: bool = True, debiased: bool = False) -> float:
    """`alignment` of two float64 matrices, unchecked; NaN when one of them is constant."""
    if _vanishes(K, centred, debiased) or _vanishes(L, centred, debiased):
        return float("nan")
    a, b = (_centre(m, centred, debiased) for m in (K, L))
    return float((a * b).sum() / (a.norm() * b.norm()))


def target_gram(targets: Array) -> Tensor:
    """Gram matrix of targets in float64: equal or not for integer labels, inner products for real targets."""
    found = torch.as_tensor(targets)
    if found.ndim not in (1, 2) or found.numel() == 0:
        raise ValueError(f"targets must have shape (n,) or (n, d), got {tuple(found.shape)}")
    if not found.is_floating_point() and found.ndim == 1:
        return (found[:, None] == found).double()
    values = found.double().reshape(len(found), -1)
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the targets have entries that are not finite; remove those examples")
    return values @ values.T


def checked_kernel(kernel: Array) -> Tensor:
    """A kernel matrix in float64, refused when it is not square, finite and symmetric."""
    K = torch.as_tensor(kernel).detach().double()
    if K.ndim != 2 or len(K) != K.shape[1] or len(K) == 0:
        raise ValueError(f"a kernel must be a square matrix, got shape {tuple(K.shape)}")
    if not bool(torch.isfinite(K).all()):
        raise ValueError("the kernel has entries that are not finite")
    gap, top = float((K - K.T).abs().max()), float(K.abs().max())
    if gap > 1e-4 * top:
        raise ValueError(f"a kernel must be symmetric, got entries that differ by {gap:.3g} (largest {top:.3g})")
    return (K + K.T) / 2


def _centre(matrix: Tensor, centred: bool, debiased: bool) -> Tensor:
    if not centred:
        return matrix
    if not debiased:
        return matrix - matrix.mean(0) - matrix.mean(1)[:, None] + matrix.mean()
    n = len(matrix)
    off = matrix - torch.diag(matrix.diagonal())
    row = off.sum(0)
    unbiased = off - (row[:, None] + row) / (n - 2) + row.sum() / ((n - 1) * (n - 2))
    return unbiased - torch.diag(unbiased.diagonal())


def _vanishes(matrix: Tensor, centred: bool, debiased: bool) -> bool:
    return float(_centre(matrix, centred, debiased).norm()) <= VANISHED * float(matrix.norm())
