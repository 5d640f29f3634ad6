"""Kernel-target alignment in a population where every class is equally frequent, from rows drawn class by class.

Rows drawn evenly from each class are not an independent sample: within-class pairs are too rare by a factor
(n_h - 1) / n_h, which biases the ordinary debiased alignment by more than its error bar when classes have few rows.
Here every mean is taken class by class over distinct rows, so the three squared norms of the cosine are unbiased.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ._alignment import Array, checked_kernel

Floats = NDArray[np.float64]
FEWEST_PER_CLASS = 4  # two rows besides any pair of one class


def balanced_alignment(kernel: Array, labels: Array) -> float:
    """Alignment of ``kernel`` with class membership, classes weighted equally; about zero when they are unrelated.

    Parameters
    ----------
    kernel
        Symmetric (n, n).
    labels
        Class of each row, integers (n,), at least two classes with at least four rows each.

    Returns
    -------
    float
        HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), each an unbiased estimate (Gretton et al. 2005 define HSIC); it may
        leave [-1, 1] by sampling noise, and is NaN when the estimate of the kernel's own norm is not positive.

    Raises
    ------
    ValueError
        Fewer rows or classes than that.
    """
    K, y = checked_kernel(kernel).cpu().numpy(), torch.as_tensor(labels).cpu().numpy()
    if len(y) != len(K) or y.ndim != 1:
        raise ValueError(f"the kernel has {len(K)} rows for labels of shape {y.shape}; give one label per row")
    number, counts = np.unique(y, return_inverse=True, return_counts=True)[1:]
    if len(counts) < 2 or int(counts.min()) < FEWEST_PER_CLASS:
        raise ValueError(
            f"needed are two classes with at least {FEWEST_PER_CLASS} rows each, got class sizes {counts.tolist()}"
        )
    return cosine_by_class(K, number)


def cosine_by_class(K: Floats, y: NDArray[np.int64]) -> float:
    """`balanced_alignment` of a float64 kernel and class numbers 0 ... C-1, unchecked.

    In numpy: hundreds of these follow each other, and threads would cost more than the small sums they share.
    """
    order = np.argsort(y, kind="stable")
    off, y = K[np.ix_(order, order)], y[order]
    np.fill_diagonal(off, 0.0)
    starts = np.flatnonzero(np.diff(y, prepend=-1))
    size = np.diff(np.append(starts, len(y))).astype(np.float64)
    classes = len(size)
    rows = np.add.reduceat(off, starts, axis=1)  # (n, C): sums of row i over the other rows of each class
    blocks = np.add.reduceat(rows, starts, axis=0)
    pairs = size[:, None] * size - np.diag(size)
    centred = np.eye(classes) / classes - 1 / classes**2  # pi_g pi_f times the centred class Gram, times C
    with_labels = float((centred / classes * blocks / pairs).sum())
    own = _own_norm(off, y, rows, blocks, size)
    labels = (classes - 1) / classes**2
    return float(with_labels / (own * labels) ** 0.5) if own > 0 else float("nan")


def _own_norm(off: Floats, y: NDArray[np.int64], rows: Floats, blocks: Floats, size: Floats) -> float:
    """HSIC(K, K) = E k(1,2) [k(1,2) - 2 k(1,3) + k(3,4)] over distinct rows, classes equally frequent."""
    classes = len(size)
    eye = np.eye(classes)
    share = 1 / classes
    # Mean over a third row, given rows i and j: their own classes have one or two rows less.
    left = size - eye[y]  # (n, C): rows of each class besides i
    without_i = rows / left * share
    third = without_i.sum(1, keepdims=True) - without_i[:, y] + (rows[:, y] - off) / (left[:, y] - 1) * share
    # Mean over a third and a fourth row: W[h, g] weighs the blocks when a row of h and one of g are missing.
    lost = size - eye[:, None] - eye  # (C, C, C)
    W = share**2 / (lost[..., :, None] * lost[..., None, :] - lost[..., None] * eye)
    base = np.einsum("hgab,ab->hg", W, blocks)
    at_h = np.einsum("hghb->hgb", W)
    by_row = 2 * np.einsum("ngb,nb->ng", at_h[y], rows)  # (n, C): row i lost, beside a row of g
    at_pair = np.einsum("hghg->hg", W)
    beside = by_row[:, y]
    fourth = base[y][:, y] - beside - beside.T + 2 * at_pair[y][:, y] * off
    weight = (share**2 / (size[:, None] * size - np.diag(size)))[y][:, y]
    return float((weight * off * (off - 2 * third + fourth)).sum())
