"""What to do when a batch does not fit: halve it. Sums over examples do not notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils import _pytree as pytree

T = TypeVar("T")
Batch = Any  # any pytree of tensors whose first axis is the example


def rows(batch: Batch) -> int:
    """Number of examples of a batch: the length of the first axis of its first tensor."""
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, torch.Tensor) and leaf.ndim > 0:
            return len(leaf)
    raise ValueError("a batch without a tensor has no examples; give tensors whose first axis is the example")


def part(batch: Batch, start: int, stop: int) -> Batch:
    """Examples ``start`` to ``stop`` of a batch; leaves of another length are passed on whole."""
    n = rows(batch)

    def cut(leaf: Any) -> Any:
        return leaf[start:stop] if isinstance(leaf, torch.Tensor) and leaf.ndim > 0 and len(leaf) == n else leaf

    return pytree.tree_map(cut, batch)


def divisible(batch: Batch) -> bool:
    """Whether all of a batch that is not a number or a name goes by examples, so that its parts are batches too."""
    n, single = rows(batch), 0
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, torch.Tensor):
            if leaf.layout != torch.strided or leaf.is_nested or leaf.ndim == 0 or len(leaf) != n:
                return False
        elif leaf is None or isinstance(leaf, str | bytes | bool | int | float):
            single += 1
        else:
            return False
    return single < n  # as many may be a list with one for each example


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch with its tensors on ``device``."""
    return pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, batch)


def fitting(run: Callable[[Batch], T], batch: Batch) -> Iterator[T]:
    """``run`` on the batch, or on its halves, quarters ... when memory runs out; one result per piece, in order."""
    try:
        yield run(batch)
        return
    except RuntimeError as error:
        n = rows(batch)
        if n < 2 or not is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    yield from fitting(run, part(batch, 0, n // 2))
    yield from fitting(run, part(batch, n // 2, n))


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has a class for it, the CPU allocator and cuBLAS only a sentence."""
    said = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(sentence in str(error) for sentence in said)
