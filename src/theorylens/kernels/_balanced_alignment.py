"""Kernel-target alignment in a population where every class is equally frequent, from rows drawn class by class.

Rows drawn evenly from each class are not an independent sample: within-class pairs are too rare by a factor
(n_h - 1) / n_h, which biases the ordinary debiased alignment by more than its error bar when classes have few rows.
Here every mean is taken class by class over distinct rows, so the three squared norms of the cosine are unbiased.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._alignment import Array, checked_kernel

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
    K, y = checked_kernel(kernel), torch.as_tensor(labels)
    if len(y) != len(K) or y.ndim != 1:
        raise ValueError(f"the kernel has {len(K)} rows for labels of shape {tuple(y.shape)}; give one label per row")
    counts = torch.unique(y, return_counts=True)[1]
    if len(counts) < 2 or int(counts.min()) < FEWEST_PER_CLASS:
        raise ValueError(
            f"needed are two classes with at least {FEWEST_PER_CLASS} rows each, got class sizes {counts.tolist()}"
        )
    return cosine_by_class(K, torch.unique(y, return_inverse=True)[1])


def cosine_by_class(K: Tensor, y: Tensor) -> float:
    """`balanced_alignment` of a float64 kernel and class numbers 0 ... C-1, unchecked."""
    hot = torch.nn.functional.one_hot(y).double()
    size = hot.sum(0)
    classes = len(size)
    off = K - torch.diag(K.diagonal())
    rows = off @ hot  # (n, C): sums of row i over the other rows of each class
    pairs = size[:, None] * size - torch.diag(size)
    blocks = hot.T @ rows
    centred = torch.eye(classes, dtype=K.dtype) / classes - 1 / classes**2  # pi_g pi_f times the centred class Gram
    with_labels = float((centred / classes * blocks / pairs).sum())
    own = _own_norm(off, y, rows, blocks, size)
    labels = (classes - 1) / classes**2
    return with_labels / (own * labels) ** 0.5 if own > 0 else float("nan")


def _own_norm(off: Tensor, y: Tensor, rows: Tensor, blocks: Tensor, size: Tensor) -> float:
    """HSIC(K, K) = E k(1,2) [k(1,2) - 2 k(1,3) + k(3,4)] over distinct rows, classes equally frequent."""
    classes = len(size)
    eye = torch.eye(classes, dtype=off.dtype)
    share = 1 / classes
    # Mean over a third row, given rows i and j: their own classes have one or two rows less.
    left = size - eye[y]  # (n, C): rows of each class besides i
    mean_without_i = rows / left * share
    third = mean_without_i.sum(1, keepdim=True) - mean_without_i[:, y]
    third = third + (rows[:, y] - off) / (left[:, y] - 1) * share
    # Mean over a third and a fourth row: W[h, g] weighs the blocks when a row of h and one of g are missing.
    lost = size - eye[:, None] - eye  # (C, C, C)
    number = lost[..., :, None] * lost[..., None, :] - torch.diag_embed(lost)
    W = share**2 / number
    base = torch.einsum("hgab,ab->hg", W, blocks)
    at_h = torch.diagonal(W, dim1=0, dim2=2)  # (g, b, h): W[h, g, h, b]
    by_row = 2 * torch.einsum("ngb,nb->ng", at_h.permute(2, 0, 1)[y], rows)  # (n, C): row i lost, beside a row of g
    at_pair = torch.diagonal(torch.diagonal(W, dim1=0, dim2=2), dim1=0, dim2=1)  # (h, g): W[h, g, h, g]
    fourth = base[y][:, y] - by_row[:, y] - by_row[:, y].T + 2 * at_pair[y][:, y] * off
    pairs = size[:, None] * size - torch.diag(size)
    weight = (share**2 / pairs)[y][:, y]
    return float((weight * off * (off - 2 * third + fourth)).sum())
