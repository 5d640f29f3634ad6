"""What a matrix of rows must be before anything is measured on it."""

from __future__ import annotations

import torch
from torch import Tensor

from theorylens.numerics.neighbours import nearest


def real_rows(points: Tensor, name: str = "points", fewest: int = 2) -> Tensor:
    """``points`` as a float64 matrix (n, d) of finite numbers, or one sentence that says what is wrong with it."""
    if points.ndim != 2 or points.shape[1] == 0:
        raise ValueError(
            f"{name} must be a matrix (n, d), got shape {tuple(points.shape)}; flatten each example to a row"
        )
    if len(points) < fewest:
        raise ValueError(f"{name} must have at least {fewest} rows, got {len(points)}")
    if bad := int((~torch.isfinite(points).all(1)).sum()):
        raise ValueError(f"{bad} of {len(points)} rows of {name} are not finite; remove or repair them")
    return points.detach().double()


def neighbours_of_distinct(points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances (n, k) and numbers of the ``k`` nearest rows, refused when k does not fit or rows are copies."""
    rows = real_rows(points, fewest=3)
    if not 1 <= k < len(rows):
        raise ValueError(f"k must be at least 1 and below the number of points, {len(rows)}, got {k}")
    distances, indices = nearest(rows, k)
    if copies := int((distances[:, 0] == 0).sum()):
        if bool((rows == rows[0]).all()):
            raise ValueError(f"all {len(rows)} points are equal; give points that differ")
        raise ValueError(f"{copies} of {len(rows)} points have an exact copy; remove copies first")
    return distances, indices


def labels_of(rows: int, labels: Tensor, fewest: int = 2) -> Tensor:
    """Whole-number classes as numbers from 0, refused when they do not fit the rows or are of one kind."""
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(f"labels must be whole numbers of shape (n,), got {labels.dtype} {tuple(labels.shape)}")
    if len(labels) != rows:
        raise ValueError(f"there are {rows} rows and {len(labels)} labels; give one label per row")
    values, numbers = labels.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    if len(values) < fewest:
        raise ValueError(f"the {rows} rows have {len(values)} class; at least {fewest} are needed")
    return numbers  # type: ignore[no-any-return]
