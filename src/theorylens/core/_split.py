"""Examples in one role: any source of batches, read in one order, with its independent units and hashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler, default_collate

from theorylens.numerics.memory import Batch, part, rows
from theorylens.results import Message

from ._errors import RefusedError
from ._hashing import digest, hash_rows

HELD = 1 << 30  # bytes of examples kept stacked in memory; larger sources are read again for every pass
TARGETS = frozenset({"y", "label", "labels", "target", "targets"})  # dict keys that are not inputs
RECHECKED = 64  # examples read twice to find augmentation


@dataclass(frozen=True, eq=False)
class Split:
    """Examples in one role.

    Parameters
    ----------
    data
        Tensors or arrays with the example on the first axis in any pytree (``(x, y)``, a dict), a ``Dataset`` or a
        sequence of examples, or a ``DataLoader``, whose dataset is then read in order with its collate function.
    units
        One label per row: rows of one unit (a document, a patient) are not independent. The n of a certificate
        counts units.
    environments, ids, weights
        One value per row: where it comes from, its name, its weight.
    """

    data: Any
    units: Sequence[Any] | None = None
    environments: Sequence[Any] | None = None
    ids: Sequence[Any] | None = None
    weights: Sequence[float] | None = None

    @classmethod
    def of(cls, data: Any) -> Split:
        """``data`` as a split; a split is returned as it is."""
        return data if isinstance(data, Split) else cls(data)

    def __len__(self) -> int:
        return self._rows

    @cached_property
    def _rows(self) -> int:
        n = rows(self._stacked) if self._stacked is not None else len(self._items)
        if n == 0:
            raise RefusedError("the split is empty: it has 0 examples; give at least one")
        for name in ("units", "environments", "ids", "weights"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise RefusedError(f"split has {len(column)} {name} for {n} rows; give one per row")
        return n

    @property
    def notes(self) -> tuple[Message, ...]:
        """What was done to read the data, in words."""
        loader = self.data if isinstance(self.data, DataLoader) else None
        if loader is not None and not isinstance(loader.sampler, SequentialSampler):
            text = "a DataLoader with a {sampler} was given; its dataset is read in order instead"
            return (Message("split.reordered", text, sampler=type(loader.sampler).__name__),)
        return ()

    @cached_property
    def _items(self) -> Any:
        """The examples one by one, when the source is a dataset."""
        source = self.data.dataset if isinstance(self.data, DataLoader) else self.data
        if isinstance(source, IterableDataset):
            return list(source)
        if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
            return source
        raise RefusedError(
            f"cannot read examples from a {type(source).__name__}; "
            "give (inputs, targets) tensors, a Dataset with __len__ and __getitem__, or a DataLoader"
        )

    def _singly(self) -> Iterator[Any]:
        # By position: a Dataset need not raise IndexError at its end, so plain iteration might never stop.
        return (self._items[i] for i in range(len(self)))

    @property
    def _collate(self) -> Callable[[list[Any]], Batch]:
        if isinstance(self.data, DataLoader) and self.data.collate_fn is not None:
            return self.data.collate_fn
        return default_collate

    @cached_property
    def _stacked(self) -> Batch | None:
        """All examples as one batch when they are tensors of equal shape and fit; None: read item by item."""
        if _is_columns(self.data):
            return _tensors(self.data)
        if isinstance(self.data, DataLoader) and self.data.collate_fn is not default_collate:
            return None  # padding may depend on the company
        items = self._items
        if len(items) == 0:
            raise RefusedError("the split is empty: it has 0 examples; give at least one")
        first = default_collate([items[0]])
        size = sum(x.numel() * x.element_size() for x in pytree.tree_leaves(first) if isinstance(x, Tensor))
        if size * len(items) > HELD:
            return None
        n = len(items)
        chunks = [default_collate([items[i] for i in range(s, min(s + 256, n))]) for s in range(0, n, 256)]
        flat, spec = zip(*(pytree.tree_flatten(c) for c in chunks), strict=True)
        joined: list[Any] = [
            torch.cat(leaf) if isinstance(leaf[0], Tensor) else [x for piece in leaf for x in piece]
            for leaf in zip(*flat, strict=True)
        ]
        return pytree.tree_unflatten(joined, spec[0])

    def batches(self, size: int) -> Batches:
        """All examples in order, in batches of ``size``; can be iterated again."""
        return Batches(self, size)

    def take(self, indices: Sequence[int] | Tensor) -> Batch:
        """The examples at ``indices`` as one batch."""
        wanted = indices.tolist() if isinstance(indices, Tensor) else [int(i) for i in indices]
        if self._stacked is None:
            return self._collate([self._items[i] for i in wanted])
        n, index = rows(self._stacked), torch.as_tensor(wanted)

        def pick(leaf: Any) -> Any:
            if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == n:
                return leaf[index]
            return [leaf[i] for i in wanted] if isinstance(leaf, list) and len(leaf) == n else leaf

        return pytree.tree_map(pick, self._stacked, is_leaf=lambda leaf: isinstance(leaf, list))

    def subset(self, limit: int) -> Tensor:
        """At most ``limit`` row numbers, a random choice keyed by the content, ascending: sorted files do no harm."""
        n = len(self)
        if n <= limit:
            return torch.arange(n)
        key = digest(*self.input_hashes)  # not the labels: a control on shuffled labels sees the same rows
        generator = torch.Generator().manual_seed(int(key[:12], 16))
        return torch.randperm(n, generator=generator)[:limit].sort().values

    @cached_property
    def row_hashes(self) -> list[bytes]:
        """One hash per row over everything in it."""
        if self._stacked is not None:
            return hash_rows(self._stacked)
        return [hash_rows(self._collate([item]))[0] for item in self._singly()]

    @cached_property
    def input_hashes(self) -> list[bytes]:
        """One hash per row over its inputs: the first of a pair, all of a dict but keys named like targets."""
        if self._stacked is not None:
            return hash_rows(_inputs(self._stacked))
        return [hash_rows(_inputs(self._collate([item])))[0] for item in self._singly()]

    @staticmethod
    def inputs(batch: Batch) -> Batch:
        """The inputs of a batch: the first of a pair, all of a dict but keys named like targets."""
        return _inputs(batch)

    @cached_property
    def target_hashes(self) -> list[bytes]:
        """One hash per row over what is not an input; empty when nothing stands apart."""
        found: list[bytes] = []
        for batch in self.batches(256):
            if isinstance(batch, dict):
                targets: Any = [value for key, value in batch.items() if str(key).lower() in TARGETS]
            else:
                targets = list(batch[1:]) if isinstance(batch, tuple | list) else []
            found += hash_rows(targets)
        return found

    @cached_property
    def sha256(self) -> str:
        """Hash of the rows in order."""
        return digest(*self.row_hashes)

    @cached_property
    def content(self) -> str:
        """Hash of the set of distinct rows: the same for another order or a doubled file."""
        return digest(*sorted(set(self.row_hashes)))

    @cached_property
    def unit_numbers(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Unit of each row as a number from 0; every row its own unit when none were declared."""
        if self.units is None:
            return np.arange(len(self))
        first: dict[Any, int] = {}
        return np.asarray([first.setdefault(unit, len(first)) for unit in list(self.units)], dtype=np.int64)

    @cached_property
    def copy_numbers(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Number from 0 of each distinct row: exact copies share one."""
        first: dict[bytes, int] = {}
        return np.asarray([first.setdefault(h, len(first)) for h in self.row_hashes], dtype=np.int64)

    @property
    def distinct_units(self) -> int:
        return int(self.unit_numbers.max()) + 1

    @property
    def distinct_rows(self) -> int:
        return int(self.copy_numbers.max()) + 1

    def unstable(self) -> str | None:
        """Name of the dataset when it answers differently the second time (augmentation), else None."""
        if _is_columns(self.data):
            return None
        items = self._items
        if isinstance(items, list):
            return None
        step = max(1, len(items) // RECHECKED)
        for i in range(0, len(items), step):
            first, again = (hash_rows(self._collate([items[i]])) for _ in range(2))
            if first != again:
                return type(items).__name__
        return None


class Batches:
    """The batches of a split, readable any number of times."""

    def __init__(self, split: Split, size: int) -> None:
        if size < 1:
            raise ValueError(f"a batch needs at least one example, got size {size}")
        self.split = split
        self.size = size

    def __iter__(self) -> Iterator[Batch]:
        n, stacked = len(self.split), self.split._stacked
        for start in range(0, n, self.size):
            stop = min(start + self.size, n)
            yield self.split.take(range(start, stop)) if stacked is None else part(stacked, start, stop)

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)


def _inputs(batch: Batch) -> Batch:
    if isinstance(batch, dict):
        inputs = {key: value for key, value in batch.items() if str(key).lower() not in TARGETS}
        return inputs or batch
    return batch[0] if isinstance(batch, tuple | list) and len(batch) > 1 else batch


def _is_columns(data: Any) -> bool:
    """Whether the source is tensors or arrays with the example on the first axis, and not a list of examples."""
    if isinstance(data, Tensor | np.ndarray):
        return True
    if isinstance(data, dict):
        return bool(data) and all(_is_columns(v) for v in data.values())
    if isinstance(data, tuple):
        return bool(data) and all(_is_columns(v) for v in data) and len({len(_leaf(v)) for v in data}) == 1
    return False


def _leaf(data: Any) -> Any:
    return next(leaf for leaf in pytree.tree_leaves(data) if isinstance(leaf, Tensor | np.ndarray))


def _tensors(data: Any) -> Batch:
    return pytree.tree_map(lambda leaf: torch.as_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, data)
