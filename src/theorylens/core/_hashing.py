"""Fingerprints: of tensors, rows, code. What cannot be hashed says so, and switches the cache off."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


class NoFingerprintError(ValueError):
    """Something that decides the answer cannot be hashed; results that depend on it must not be cached."""


def tensor_bytes(tensor: Tensor) -> bytes:
    """Type, shape and content of a tensor; equal tensors give equal bytes on every device."""
    flat = tensor.detach().cpu().contiguous()
    head = f"{flat.dtype}{tuple(flat.shape)}".encode()
    return head + flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else head


def digest(*parts: bytes | str) -> str:
    """SHA-256 over parts, each with its length, so that no two lists of parts run together."""
    h = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        h.update(len(raw).to_bytes(8, "big") + raw)
    return h.hexdigest()


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash of named tensors, independent of their order."""
    return digest(*(x for name in sorted(tensors) for x in (name, tensor_bytes(tensors[name]))))


def hash_rows(batch: Any) -> list[bytes]:
    """One 16-byte hash per example of a pytree batch: equal examples, equal hashes."""
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim > 0]
    n = len(leaves[0]) if leaves else 0
    columns = [_rows_of(leaf) for leaf in leaves if len(leaf) == n]
    heads = b"".join(f"{leaf.dtype}{tuple(leaf.shape[1:])}".encode() for leaf in leaves)
    return [
        hashlib.blake2b(heads + b"".join(column[i].tobytes() for column in columns), digest_size=16).digest()
        for i in range(n)
    ]


def _rows_of(leaf: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    flat = leaf.detach().cpu().contiguous().reshape(len(leaf), -1)
    return flat.view(torch.uint8).numpy() if flat.numel() else np.zeros((len(leaf), 0), dtype=np.uint8)


def hash_callable(function: Callable[..., Any]) -> str:
    """Hash of what a function does: its code, constants, defaults and what it closes over.

    Raises
    ------
    NoFingerprintError
        When something it closes over cannot be hashed.
    """
    return digest(*_callable_parts(function))


def _callable_parts(function: Any) -> Iterable[str | bytes]:
    if isinstance(function, nn.Module):
        yield from _module_parts(function)
        return
    function = inspect.unwrap(function)
    owner = getattr(function, "__self__", None)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    yield getattr(function, "__qualname__", type(function).__qualname__)
    if code is None:
        if inspect.isbuiltin(function) or inspect.isclass(function):
            return
        raise NoFingerprintError(f"{function!r} has no Python code to hash")
    yield from code_parts(code)
    if not inspect.isroutine(function) and not inspect.isclass(function):
        yield _value_text(vars(function))  # a callable object is its class and what it holds
    for default in getattr(function, "__defaults__", None) or ():
        yield _value_text(default)
    for cell in getattr(function, "__closure__", None) or ():
        yield from _closure_parts(cell.cell_contents)
    if owner is not None and not isinstance(owner, type):
        yield from _module_parts(owner) if isinstance(owner, nn.Module) else (_value_text(vars(owner)),)


def _closure_parts(value: Any) -> Iterable[str | bytes]:
    if callable(value) and hasattr(value, "__code__"):
        yield from _callable_parts(value)
    elif isinstance(value, nn.Module):
        yield from _module_parts(value)
    else:
        yield _value_text(value)


def code_parts(code: CodeType) -> Iterable[str | bytes]:
    """Instructions, names and constants of a piece of code, without its file or line numbers."""
    yield code.co_code
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_parts(constant)
        else:
            yield repr(constant)


def _module_parts(module: nn.Module) -> Iterable[str | bytes]:
    yield hash_code(module)
    yield hash_tensors({**dict(module.named_parameters()), **dict(module.named_buffers())})
    yield repr(module)


def _value_text(value: Any) -> str:
    if isinstance(value, Tensor):
        return digest(tensor_bytes(value))
    if isinstance(value, np.ndarray):
        return digest(str(value.dtype), str(value.shape), np.ascontiguousarray(value).tobytes())
    if isinstance(value, torch.device | torch.dtype | type | Path) or value is None:
        return repr(value)
    if callable(value):
        return hash_callable(value)
    if dataclasses.is_dataclass(value):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return digest(
            kind, *(x for f in dataclasses.fields(value) for x in (f.name, _value_text(getattr(value, f.name))))
        )
    if isinstance(value, Mapping):
        return digest(*(x for k in sorted(value, key=str) for x in (str(k), _value_text(value[k]))))
    if isinstance(value, list | tuple | set | frozenset):
        return digest(
            *(_value_text(v) for v in (sorted(value, key=str) if isinstance(value, set | frozenset) else value))
        )
    try:
        return json.dumps(value)
    except TypeError:
        raise NoFingerprintError(f"a {type(value).__name__} cannot be hashed") from None


def hash_code(model: nn.Module, *, places: bool = True) -> str:
    """Hash of the code of every module class that is not torch's own, and of ``extra`` scalar attributes.

    With ``places`` also of the modules that hold the classes: a copy of the file is then another network.

    Raises
    ------
    NoFingerprintError
        When the code of a class cannot be read.
    """
    parts: list[str | bytes] = []
    known = {type(m) for m in model.modules()}
    for kind in sorted(known, key=lambda k: (k.__qualname__, k.__module__)):
        parts.append(f"{kind.__module__}.{kind.__qualname__}" if places else kind.__qualname__)
        if kind.__module__.split(".")[0] != "torch":
            for base in kind.__mro__:
                if base.__module__.split(".")[0] not in ("torch", "builtins"):
                    parts += _class_parts(base)
    for name, module in model.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str) and k != "training"}
        parts.append(f"{name}{sorted(plain.items())}")
    return digest(*parts)


def _class_parts(kind: type) -> list[str | bytes]:
    parts: list[str | bytes] = []
    for name, member in sorted(vars(kind).items()):
        function = getattr(member, "__func__", member)
        if isinstance(function, property):
            function = function.fget
        if code := getattr(function, "__code__", None):
            parts += [name, *code_parts(code)]
    return parts
