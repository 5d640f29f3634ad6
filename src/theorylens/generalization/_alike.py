"""Rows of splits that are near copies of each other: what a hash of bytes does not see. See `numerics.near_copies`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.utils import _pytree as pytree

from theorylens.core import Split
from theorylens.numerics.near_copies import COLUMNS, Rows, directions, near_copies

READ = 512  # rows at a time


def near_pairs(first: Split, second: Split | None = None) -> tuple[Rows, Rows]:
    """Row numbers of near and exact copies, of two splits or within one; none where inputs are not rows of numbers."""
    a = _projected(first)
    b = a if second is None else _projected(second)
    if a is None or b is None or a[1] != b[1]:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return near_copies(a[0], None if second is None else b[0])


def alike_numbers(split: Split) -> NDArray[np.int64]:
    """As `Split.copy_numbers`, where rows with near copies as inputs and the same target are copies too."""
    numbers, (i, j) = split.copy_numbers, near_pairs(split)
    targets = split.target_hashes
    if not len(i) or len(targets) != len(split):
        return numbers
    same = np.asarray([targets[a] == targets[b] for a, b in zip(i, j, strict=True)], dtype=bool)
    return linked(numbers, i[same], j[same])


def linked(numbers: NDArray[np.int64], i: Rows, j: Rows) -> NDArray[np.int64]:
    """Numbers of groups of rows after rows ``i`` and ``j`` were put together."""
    if not len(i):
        return numbers
    size = int(numbers.max()) + 1
    joined = coo_array((np.ones(len(i)), (numbers[i], numbers[j])), shape=(size, size))
    _, label = connected_components(joined, directed=False)
    return np.asarray(np.unique(label[numbers], return_inverse=True)[1], dtype=np.int64)


def _projected(split: Split) -> tuple[NDArray[np.float64], int] | None:
    """Inputs as 16 numbers a row, and how many they were; None when they are no arrays of real numbers."""
    found: list[NDArray[np.float64]] = []
    columns = 0
    for batch in split.batches(READ):
        leaves = [x for x in pytree.tree_leaves(split.inputs(batch)) if isinstance(x, Tensor) and x.ndim]
        if not leaves or any(not x.is_floating_point() and x.dtype != torch.uint8 for x in leaves):
            return None
        flat = torch.cat([x.reshape(len(x), -1).double().cpu() for x in leaves], 1).numpy()
        if flat.shape[1] < COLUMNS or columns not in (0, flat.shape[1]) or not np.isfinite(flat).all():
            return None
        columns = flat.shape[1]
        found.append(flat @ directions(columns))
    return np.concatenate(found), columns
