"""Reading an autograd graph: what it keeps alive, and functions in it whose second derivative would be lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _nothing(context: object) -> None:
    """Wrapped to see how `once_differentiable` wraps: all that it wraps share the code object of its wrapper."""


_ONCE = getattr(once_differentiable(_nothing), "__code__")  # noqa: B009


def nodes(outputs: Sequence[Tensor]) -> Iterator[Any]:
    """Every node of the graph behind ``outputs``, once."""
    seen: set[object] = set()
    stack: list[Any] = [o.grad_fn for o in outputs if o.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        stack.extend(following for following, _ in node.next_functions if following is not None)


def graph_bytes(outputs: Sequence[Tensor], *, without: Iterable[Tensor] = ()) -> int:
    """Bytes of the tensors that the autograd graph behind ``outputs`` keeps alive, each storage once.

    ``without`` names tensors that live anyway (parameters, the data): their storages are not counted.
    """
    storages: dict[int, int] = {}
    for node in nodes(outputs):
        for saved in _saved(node):
            storage = saved.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    for tensor in without:
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(storages.values())


def differentiable_once(outputs: Sequence[Tensor]) -> str | None:
    """Name of a function in the graph that torch would differentiate twice to zero without a word, None if none.

    A custom function marked ``once_differentiable`` cuts the graph of its gradient, and so does a compiled one: asked
    for gradients that may be unused, autograd then finds no path and answers zero instead of an error (torch 2.13).
    """
    for node in nodes(outputs):
        if not isinstance(node, torch.autograd.function.BackwardCFunction):
            continue
        name = type(node).__name__
        if name.startswith("CompiledFunction"):
            return "torch.compile (give the module that was compiled)"
        custom = getattr(node, "_forward_cls", None)
        if getattr(getattr(custom, "backward", None), "__code__", None) is _ONCE:
            return f"{name.removesuffix('Backward')} (marked once_differentiable)"
    return None


def _saved(node: Any) -> Iterator[Tensor]:
    names = [name for name in dir(node) if name.startswith("_saved_") or name == "saved_tensors"]
    for name in names:
        value = getattr(node, name)
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, Tensor):
                yield each
