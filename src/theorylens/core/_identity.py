"""Who is judged: a network with the code that runs it and the error that is counted; what a recipe trains."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ._hashing import NoFingerprintError, code_parts, digest, hash_callable, hash_code, hash_tensors, tensor_bytes
from ._recipe import Recipe
from ._subject import Subject


def model_hash(subject: Subject) -> str:
    """Hash of the weights and buffers, or of the outputs when there is no model."""
    if subject.model is None:
        known = {
            f"{role}{i}": torch.as_tensor(x) for role, xs in (subject.outputs or {}).items() for i, x in enumerate(xs)
        }
        return hash_tensors(known)
    return hash_tensors({**dict(subject.model.named_parameters()), **dict(subject.model.named_buffers())})


def judged_hash(subject: Subject) -> str:
    """Who is judged, and by what: the weights with the code that runs them, and the error that is counted.

    The same weights with another threshold, another forward or another error are another predictor.
    """
    task = subject.judged
    parts = [model_hash(subject)]
    if subject.model is not None:
        parts.append(_readable(functools.partial(hash_code, places=False), subject.model))
    parts += [_readable(hash_callable, f) for f in (task.forward, task.error) if callable(f)]
    return digest(*parts)


def recipe_hash(recipe: Recipe) -> str:
    """What a recipe trains, as far as its code can be read: with what it closes over and the globals it names."""
    return digest(*_function_parts(recipe.train, set()))


def _function_parts(function: Any, seen: set[int]) -> Iterator[str]:
    """Its code, and what its names stand for in its own module: a learning rate, a builder of networks."""
    if id(function) in seen:
        return
    seen.add(id(function))
    code = getattr(function, "__code__", None)
    yield getattr(function, "__qualname__", type(function).__qualname__)
    if code is not None:
        yield digest(*code_parts(code))
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    held = [getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None),
            getattr(function, "keywords", None), getattr(function, "args", None)]  # fmt: skip
    known = getattr(function, "__globals__", {})
    inner = [getattr(function, "func", None), getattr(function, "__wrapped__", None), *cells, *held]
    for value in (*inner, *(known.get(name) for name in sorted(_names(code)))):
        yield from _value_parts(value, seen)


def _value_parts(value: Any, seen: set[int]) -> Iterator[str]:
    if hasattr(value, "__code__") or isinstance(value, functools.partial):
        yield from _function_parts(value, seen)
    elif isinstance(value, type) and issubclass(value, nn.Module) and not value.__module__.startswith("torch."):
        for name, member in sorted(vars(value).items()):
            if hasattr(member, "__code__"):
                yield name
                yield from _function_parts(member, seen)
    elif isinstance(value, nn.Module):
        yield _readable(functools.partial(hash_code, places=False), value) + hash_tensors(value.state_dict())
    elif isinstance(value, bool | int | float | str | tuple | list | dict | torch.Tensor | np.ndarray):
        for leaf in pytree.tree_leaves(value):
            if isinstance(leaf, torch.Tensor | np.ndarray):
                yield digest(tensor_bytes(torch.as_tensor(leaf)))
            else:  # the text of other objects may hold their address
                yield repr(leaf) if isinstance(leaf, bool | int | float | str) else type(leaf).__qualname__


def _names(code: Any) -> set[str]:
    if code is None:
        return set()
    inner = [_names(c) for c in code.co_consts if hasattr(c, "co_names")]
    return set(code.co_names).union(*inner)


def _readable(hashed: Callable[[Any], str], thing: Any) -> str:
    try:
        return hashed(thing)
    except NoFingerprintError:
        return type(thing).__qualname__
