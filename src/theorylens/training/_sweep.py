"""The one map over trainings: every finished item is kept at once, a rerun goes on where the last one stopped."""

from __future__ import annotations

import functools
import json
import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import joblib
import numpy as np
import torch
from joblib.parallel import get_active_backend
from numpy.typing import NDArray
from torch import Tensor

from theorylens.core import digest, hash_callable

ARRAY = "__array__"  # marks where an array of the .npz belongs in the JSON


@dataclass(frozen=True)
class Failure:
    """One item that raised: what it was, the error in a line, and where it came from."""

    item: Any
    error: str
    traceback: str


class SweepError(RuntimeError):
    """Some items failed; those that finished are kept and are not computed again."""

    def __init__(self, failures: tuple[Failure, ...], total: int, directory: Path) -> None:
        shown = "; ".join(f"{f.item!r}: {f.error}" for f in failures[:3]) + (" ..." if len(failures) > 3 else "")
        super().__init__(
            f"{len(failures)} of {total} items failed ({shown}); the others are kept in {directory}, "
            f"a rerun computes only what is missing. The first traceback:\n{failures[0].traceback}"
        )
        self.failures = failures


def sweep(
    function: Callable[[Any], Any],
    grid: Iterable[Any],
    *,
    directory: str | Path,
    jobs: int | None = None,
    backend: str | None = None,
) -> list[Any]:
    """``[function(item) for item in grid]``, in parallel and kept in ``directory``.

    Parameters
    ----------
    function
        Gives numbers, words, lists and dicts of them, arrays or tensors. What it gives is returned as it reads back:
        tuples as lists, tensors as arrays. It runs in other processes, on one thread each.
    grid
        Items made of the same kinds of values; `sklearn.model_selection.ParameterGrid` makes them from lists.
    directory
        Each result is written when it is there, under a hash of the code of ``function``, what it closes over, and
        the item. Functions that it calls by a global name are not part of the hash: change the directory with them.
    jobs, backend
        Handed to joblib. By default loky on all cores, or whatever `joblib.parallel_config` has set: threads, dask,
        ray.

    Raises
    ------
    SweepError
        Some items raised; all others were computed and kept.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    items = list(grid)
    code = _function_hash(function)
    keys = [digest(code, _item_text(item))[:32] for item in items]
    todo = {key: item for key, item in zip(keys, items, strict=True) if not _path(folder, key).exists()}
    threads = torch.get_num_threads()
    try:
        with _configured(jobs, backend):
            answers = joblib.Parallel()(joblib.delayed(_one)(function, item, folder, key) for key, item in todo.items())
    finally:
        torch.set_num_threads(threads)
    if failures := tuple(answer for answer in answers if answer is not None):
        raise SweepError(failures, len(items), folder)
    return [_read(folder, key) for key in keys]


def _configured(jobs: int | None, backend: str | None) -> Any:
    """Our defaults, unless the caller or a surrounding ``joblib.parallel_config`` chose."""
    active, active_jobs = get_active_backend()
    chosen = backend is not None or type(active).__name__ != "LokyBackend" or active_jobs not in (None, 1)
    if backend is None and chosen:
        return joblib.parallel_config(**({} if jobs is None else {"n_jobs": jobs}))
    count = joblib.cpu_count() if jobs is None else jobs
    limit = {"inner_max_num_threads": 1} if backend in (None, "loky") else {}
    return joblib.parallel_config(backend=backend or "loky", n_jobs=count, **limit)


def _one(function: Callable[[Any], Any], item: Any, folder: Path, key: str) -> Failure | None:
    torch.set_num_threads(1)  # one process a core: more threads only get in each other's way
    with _Noted() as noted:
        _write(function(item), folder, key)
    return None if noted.error is None else Failure(item, noted.error, noted.traceback)


class _Noted:
    """Keeps what went wrong as text: an exception object may not survive the way between processes."""

    error: str | None = None
    traceback: str = ""

    def __enter__(self) -> _Noted:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False  # an interrupt ends the sweep; what is finished is kept
        self.error = f"{type(error).__name__}: {error}"
        self.traceback = "".join(traceback.format_exception(kind, error, where))
        return True


# ---- on disk -----------------------------------------------------------------------------------------------------


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key}.json"


def _write(value: Any, folder: Path, key: str) -> None:
    """Arrays first, then the JSON whose presence says that the item is done; both by atomic rename."""
    arrays: dict[str, NDArray[Any]] = {}
    text = json.dumps(_plain(value, arrays))
    if arrays:
        part = folder / f"{key}.{os.getpid()}.part.npz"
        np.savez(part, **arrays)  # type: ignore[arg-type]
        os.replace(part, folder / f"{key}.npz")
    part = folder / f"{key}.{os.getpid()}.part"
    part.write_text(text, encoding="utf-8")
    os.replace(part, _path(folder, key))


def _read(folder: Path, key: str) -> Any:
    value = json.loads(_path(folder, key).read_text(encoding="utf-8"))
    arrays = folder / f"{key}.npz"
    if not arrays.exists():
        return value
    with np.load(arrays, allow_pickle=False) as found:
        return _with_arrays(value, found)


def _plain(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc":
            raise TypeError(f"an array of {value.dtype} cannot be kept; give arrays of numbers")
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {ARRAY: name}
    if isinstance(value, Mapping):
        if words := [k for k in value if not isinstance(k, str)]:
            raise TypeError(f"the key {words[0]!r} of a result is not a word; give dicts with words as keys")
        return {k: _plain(v, arrays) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, arrays) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be kept; give numbers, words, lists, dicts or arrays")


def _with_arrays(value: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        return {k: _with_arrays(v, arrays) for k, v in value.items()}
    return [_with_arrays(v, arrays) for v in value] if isinstance(value, list) else value


# ---- keys --------------------------------------------------------------------------------------------------------


def _function_hash(function: Any) -> str:
    if isinstance(function, functools.partial):
        return digest(_function_hash(function.func), _item_text([list(function.args), function.keywords]))
    return hash_callable(function)


def _item_text(item: Any) -> str:
    arrays: dict[str, NDArray[Any]] = {}
    text = json.dumps(_plain(item, arrays), sort_keys=True)
    return digest(text, *(f"{a.dtype}{a.shape}".encode() + np.ascontiguousarray(a).tobytes() for a in arrays.values()))
