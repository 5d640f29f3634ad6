"""Examples from files: inputs and targets in .npz, .npy pairs, .safetensors or .csv."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._errors import RefusedError
from ._split import Split

INPUTS = ("x", "inputs", "input", "images", "data", "features")
OUTPUTS = ("logits", "outputs", "output")
TARGETS = ("y", "targets", "target", "labels", "label")
COLUMNS = ("units", "environments", "ids", "weights")

Source = Any
"""A path, two paths (as a tuple, or joined by a comma), or anything `Split` takes."""


def read_split(source: Source, *, outputs: bool = False) -> Split:
    """A split from files or from what `Split` takes.

    Parameters
    ----------
    source
        ``"data.npz"`` or ``.safetensors`` with entries ``x`` and ``y`` (also ``inputs``/``targets``,
        ``images``/``labels`` ..., and ``units``, ``environments``, ``ids``, ``weights``), ``"x.npy,y.npy"``, or
        ``"data.csv"`` with a header and numbers, whose column ``y``, ``target`` or ``label`` holds the targets.
        Integer targets become int64, floating-point numbers the default dtype of torch.
    outputs
        The first of the pair are outputs of a network: the entry is ``logits`` or ``outputs``.

    Raises
    ------
    RefusedError
        Missing files or entries, different numbers of rows, Python objects inside.
    """
    if isinstance(source, Split):
        return source
    if isinstance(source, str) and "," in source:
        source = tuple(source.split(","))
    if isinstance(source, tuple) and len(source) == 2 and all(isinstance(s, str | Path) for s in source):
        first, second = (_array(Path(s)) for s in source)
        return _pair(first, second, " and ".join(str(s) for s in source))
    if not isinstance(source, str | Path):
        return Split.of(source)
    path = Path(source)
    if path.suffix not in _READERS:
        raise RefusedError(
            f"{path.name} is not a kind of data file that is read; give {', '.join(sorted(_READERS))}, or x.npy,y.npy"
        )
    if not path.is_file():
        raise RefusedError(f"there is no data file {path}; give the path of an existing one")
    entries = _READERS[path.suffix](path)
    found = _entry(entries, OUTPUTS if outputs else INPUTS), _entry(entries, TARGETS)
    if found[0] is None or found[1] is None:
        wanted = "logits and labels" if outputs else "x and y"
        have = ", ".join(sorted(entries)) or "nothing"
        raise RefusedError(f"{path.name} has the entries {have}; needed are {wanted} (or inputs, targets ...)")
    extra = {name: entries[name].tolist() for name in COLUMNS if name in entries}
    return _pair(found[0], found[1], path.name, **extra)


def _entry(entries: Mapping[str, Any], names: Sequence[str]) -> Any:
    by_name = {key.lower(): value for key, value in entries.items()}
    return next((by_name[name] for name in names if name in by_name), None)


def _pair(first: Any, second: Any, source: str, **columns: Any) -> Split:
    x, y = _tensor(first, source), _tensor(second, source)
    if y.ndim == 2 and y.shape[1] == 1 and not y.is_floating_point():
        y = y[:, 0]
    y = y if y.is_floating_point() else y.long()
    if len(x) != len(y):
        raise RefusedError(f"{source} has {len(x)} inputs and {len(y)} targets; both need one row per example")
    return Split((x, y), **columns)


def _tensor(array: Any, source: str) -> Tensor:
    tensor = array if isinstance(array, Tensor) else None
    if tensor is None:
        if array.dtype.kind not in "fiub":
            raise RefusedError(f"{source} holds values of type {array.dtype}; save numbers")
        tensor = torch.as_tensor(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="), copy=False))
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def _array(path: Path) -> Any:
    if path.suffix != ".npy":
        raise RefusedError(f"{path.name} is not a .npy file; give x.npy,y.npy, or one file with both")
    if not path.is_file():
        raise RefusedError(f"there is no data file {path}; give the path of an existing one")
    return _numpy(path)


def _numpy(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        why = "holds Python objects, which only a pickle can read; save arrays of numbers"
        if "pickle" not in str(error):
            why = f"is not a whole numpy file ({error}); save it again"
        raise RefusedError(f"{path.name} {why}") from error


def _single(path: Path) -> Any:
    raise RefusedError(f"{path.name} holds one array; needed are inputs and targets: give x.npy,y.npy, or one .npz")


def _safetensors(path: Path) -> Any:
    from ._weights import read_weights

    return read_weights(path)[0]


def _csv(path: Path) -> Any:
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    header = [name.strip() for name in lines[0]] if lines else []
    at = next((i for i, name in enumerate(header) if name.lower() in TARGETS), None)
    if at is None:
        raise RefusedError(f"{path.name} has the columns {', '.join(header[:8])}; name the one with the targets y")
    columns: list[list[float]] = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise RefusedError(f"line {number} of {path.name} has {len(line)} values for {len(header)} columns")
        try:
            columns.append([float(value) for value in line])
        except ValueError as error:
            raise RefusedError(f"line {number} of {path.name}: {error}; every value must be a number") from error
    table = np.asarray(columns, dtype=np.float64).reshape(len(columns), len(header))
    y = table[:, at]
    return {"x": np.delete(table, at, axis=1), "y": y.astype(np.int64) if (y == y.round()).all() else y}


_READERS: dict[str, Callable[[Path], Any]] = {
    ".npz": _numpy, ".npy": _single, ".safetensors": _safetensors, ".csv": _csv,
}  # fmt: skip
