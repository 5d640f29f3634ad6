"""A subject from names and files: code that builds it, weights, data."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.results import Message

from ._data_files import read_split
from ._errors import RefusedError
from ._estimators import encoded, from_sklearn, is_estimator, loss_of
from ._hashing import digest
from ._randomness import global_randomness_kept
from ._split import Split
from ._subject import ROLES, Subject
from ._weights import matching_state, put_weights, read_weights


def load(
    target: Any = None,
    *,
    weights: str | Path | None = None,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    loss: Any = None,
    init: str | Path | None = None,
    checkpoints: str | Path | None = None,
    name: str = "",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Subject:
    """A subject from the name of what makes it, with weights and data from files.

    A subject file, a module and a model class are the user's code and run in this process, as test files run in
    pytest: load only what you would also run. Files of weights and data are only read: no pickle is executed.

    Parameters
    ----------
    target
        ``"file.py:make"`` or ``"package.module:make"``: a `Subject`, a module, a fitted scikit-learn estimator, or a
        class or function without arguments that gives one. Also such an object itself. None when only outputs are
        known: then each role is ``(outputs, targets)``, for instance ``test="logits.npy,labels.npy"``.
    weights
        ``.safetensors``, or a torch file that holds a state dict, possibly inside a checkpoint.
    train, validation, test
        Files (see `read_split`) or anything `Split` takes.
    loss
        Needed unless the target knows it.
    init, checkpoints
        The weights before training; a folder, or a pattern of files whose names end with their step.
    device
        ``"auto"`` takes a GPU when there is one.
    dtype
        Converts the model and floating-point data.

    Raises
    ------
    RefusedError
        In one sentence: what was given, what is needed, what to do.
    """
    data = {"train": train, "validation": validation, "test": test}
    notes: tuple[Message, ...] = ()
    if target is None:
        subject = _from_outputs(data, loss, weights)
    else:
        with _imports(target), global_randomness_kept(0):
            made = _made(_found(target) if isinstance(target, str) else target, str(target))
        subject = _as_subject(made, data, loss, str(target))
        if weights is not None:
            state, nested = read_weights(weights)
            notes = nested + put_weights(subject.net, state, source=Path(weights).name)
    if init is not None:
        state, _ = read_weights(init)
        subject = replace(subject, init=matching_state(subject.net, state, source=Path(init).name)[0])
    if checkpoints is not None:
        subject = replace(subject, checkpoints=_checkpoints(subject.net, Path(checkpoints)))
    return _placed(replace(subject, notes=subject.notes + notes, name=name or subject.name), device, dtype)


# ---- the code that makes it --------------------------------------------------------------------------------------


def _found(target: str) -> Any:
    place, _, attribute = target.partition(":") if not re.match(r"^[A-Za-z]:\\", target) else target.rpartition(":")
    if not attribute:
        raise RefusedError(f"{target!r} names no object; write 'subject.py:make' or 'package.module:make'")
    module = _run_file(Path(place)) if place.endswith(".py") else _import(place)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [n for n in vars(module) if not n.startswith("_")]
            raise RefusedError(f"{place} has no {attribute}; it has {', '.join(public[:10]) or 'no public names'}")
        found = getattr(found, part)
    return found


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise RefusedError(f"there is no subject file {path}; 'theorylens init' writes one to start from")
    name = f"{path.stem}_{digest(str(path.resolve()))[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes look their module up, dataclasses and pickles of workers too
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # something the user's module needs is absent: its own message says what
        raise RefusedError(
            f"there is no module {name} (looked in the working directory and the environment); "
            "install its package, or give a file: 'path/to/subject.py:make'"
        ) from error


@contextmanager
def _imports(target: Any) -> Iterator[None]:
    """What a script would see: the folder of the subject file, or the working directory, on the path."""
    place = target.partition(":")[0] if isinstance(target, str) else ""
    folder = str(Path(place).resolve().parent) if place.endswith(".py") else str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _made(found: Any, target: str) -> Any:
    """The object itself, or what the class or function gives when it is called without arguments."""
    if isinstance(found, Subject | nn.Module) or is_estimator(found) or not callable(found):
        return found
    needed = [
        p.name
        for p in inspect.signature(found).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        what = getattr(found, "__name__", "it")
        raise RefusedError(
            f"{target} needs the arguments {', '.join(needed)}; write a function without arguments: "
            f"def make(): return {what}({', '.join(f'{n}=...' for n in needed)})"
        )
    return found()


def _as_subject(made: Any, data: Mapping[str, Any], loss: Any, target: str) -> Subject:
    splits: dict[str, Any] = {role: read_split(source) for role, source in data.items() if source is not None}
    if isinstance(made, Subject):
        changed = splits if loss is None else {**splits, "loss": loss, "task": None}
        return replace(made, **changed) if changed else made
    if is_estimator(made):
        model = from_sklearn(made)
        splits = {role: _for_estimator(made, split) for role, split in splits.items()}
        made, loss = model, loss if loss is not None else loss_of(made)
    if not isinstance(made, nn.Module):
        raise RefusedError(
            f"{target} is or returns a {type(made).__name__}; needed is a theorylens.Subject, a torch.nn.Module or a "
            "fitted scikit-learn estimator"
        )
    if loss is None:
        raise RefusedError("the loss is not known; give loss= (on the command line --loss), for instance cross_entropy")
    return Subject(model=made.eval(), loss=loss, name=type(made).__name__, **splits)


def _for_estimator(estimator: Any, split: Split) -> Split:
    """Inputs flat and in float64 as the estimator had them, targets as numbers of its classes."""
    inputs, targets = split.take(range(len(split)))
    flat = inputs.reshape(len(inputs), -1).double()
    return replace(split, data=(flat, encoded(estimator, targets)))


def _from_outputs(data: Mapping[str, Any], loss: Any, weights: Any) -> Subject:
    known = {role: source for role, source in data.items() if source is not None}
    if weights is not None or not known:
        raise RefusedError(
            "no model was named; give 'file.py:make' or 'package.module:Net', "
            "or outputs alone as test='logits.npy,labels.npy' without weights"
        )
    splits = {role: read_split(source, outputs=True) for role, source in known.items()}
    return Subject(outputs={role: split.take(range(len(split))) for role, split in splits.items()}, loss=loss)


# ---- weights along the way, device and dtype ---------------------------------------------------------------------


def _checkpoints(model: nn.Module, pattern: Path) -> dict[int, Any]:
    """Step to a function that reads the weights of that step, in the names of the model."""
    paths = sorted(pattern.iterdir() if pattern.is_dir() else pattern.parent.glob(pattern.name))
    steps: dict[int, Any] = {}
    for path in paths:
        number = re.search(r"(\d+)\D*$", path.stem)
        if number is None or path.suffix not in (".safetensors", ".pt", ".pth", ".bin", ".ckpt"):
            continue
        if int(number[1]) in steps:
            raise RefusedError(
                f"two checkpoints are of step {int(number[1])}, one of them {path.name}; give one a step"
            )
        steps[int(number[1])] = partial(_checkpoint, model, path)
    if not steps:
        raise RefusedError(
            f"{pattern} has no checkpoints; give a folder or pattern of files like step-00000400.safetensors"
        )
    return steps


def _checkpoint(model: nn.Module, path: Path) -> Mapping[str, Tensor]:
    return matching_state(model, read_weights(path)[0], source=path.name)[0]


def _placed(subject: Subject, device: str | torch.device, dtype: torch.dtype | None) -> Subject:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if subject.model is not None:
        subject.model.to(device)
    if dtype is None and subject.model is not None:
        dtype = next((p.dtype for p in subject.model.parameters() if p.is_floating_point()), None)
        return _cast(subject, dtype, ROLES) if dtype == torch.float64 else subject
    if dtype is None:
        return subject
    if subject.model is not None:
        subject.model.to(dtype)
    return _cast(subject, dtype, ROLES)


def _cast(subject: Subject, dtype: torch.dtype, roles: Sequence[str]) -> Subject:
    """Floating-point data in ``dtype``, where the split is tensors; a data set of the user gives what it gives."""

    def cast(leaf: Any) -> Any:
        tensor = torch.as_tensor(leaf)
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    changed = {}
    for role in roles:
        split = getattr(subject, role)
        if split is not None and isinstance(split.data, tuple | dict):
            changed[role] = replace(split, data=pytree.tree_map(cast, split.data))
    return replace(subject, **changed) if changed else subject
