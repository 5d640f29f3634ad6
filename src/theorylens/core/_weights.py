"""Weights from a file into a model: safetensors, or a torch file read without running the code a pickle can hold."""

from __future__ import annotations

import difflib
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.results import Message

from ._errors import RefusedError

NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "module")
PREFIXES = ("module.", "_orig_mod.", "model.")
COUNTER = "num_batches_tracked"  # absent from files older than torch 0.4.1; evaluation does not use it
State = Mapping[str, Tensor]
Notes = tuple[Message, ...]


def read_weights(path: str | Path) -> tuple[State, Notes]:
    """The state dict in a ``.safetensors`` file or a torch file (``weights_only=True``), on the CPU.

    Raises
    ------
    RefusedError
        No such file, not readable, holds anything but tensors and plain values, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise RefusedError(f"there is no weights file {path}; give the path of a .safetensors, .pt or .pth file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path), ()
    return _state_in(read_tensors(path), path)


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except SafetensorError as error:
        raise RefusedError(f"{path.name} is not a whole safetensors file ({error}); copy or export it again") from error


def read_tensors(path: Path) -> Any:
    """What a torch file holds, if that is tensors, containers and plain values; nothing in it is ever executed."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # it says so before it refuses
            return torch.load(path, weights_only=True, map_location="cpu")
    except UnpicklingError as error:
        raise RefusedError(_why_refused(path, str(error))) from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        if "TorchScript" in str(error):
            raise RefusedError(
                f"{path.name} is a TorchScript archive, which holds code; save the weights of the model it was made "
                "from: torch.save(model.state_dict(), 'weights.pt')"
            ) from error
        first = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise RefusedError(f"{path.name} is not a whole torch file ({first}); copy or save it again") from error


def _why_refused(path: Path, error: str) -> str:
    found = re.search(r"GLOBAL (\S+)", error) or re.search(r"class (\S+)", error)
    what = f"an object of {found[1]}" if found else "objects that are not tensors"
    pick = "content.state_dict()"
    if _holds_a_dict(path):
        pick = "content['state_dict']"
    return (
        f"{path.name} is a pickle with {what}, and reading such a pickle runs whatever code it names, so it was not "
        "read; if you trust where it comes from, convert it once in two lines:\n"
        f"    content = torch.load({path.name!r}, weights_only=False)\n"
        f"    torch.save({pick}, {path.stem + '-weights.pt'!r})"
    )


def _holds_a_dict(path: Path) -> bool:
    """Whether the outermost object of a torch file is a plain dict; the pickle is read as text, not run."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if not names:
            return False
        codes = (code.name for code, _, _ in pickletools.genops(archive.read(names[0])))
        return next((name for name in codes if name not in ("PROTO", "FRAME")), "") == "EMPTY_DICT"


def _state_in(content: Any, path: Path) -> tuple[State, Notes]:
    if isinstance(content, Mapping):
        for key in NESTS:
            inner = content.get(key)
            if isinstance(inner, Mapping) and _tensors(inner):
                text = "the weights were taken from the entry {key} of {file}"
                return _tensors(inner), (Message("loading.nested", text, key=key, file=path.name),)
        if tensors := _tensors(content):
            return tensors, ()
        holds = f"a dict with {', '.join(sorted(map(str, content))[:6]) or 'no entry'}"
    else:
        holds = f"a {type(content).__name__}"
    raise RefusedError(
        f"{path.name} holds {holds} and no state dict; save torch.save(model.state_dict(), {path.name!r})"
    )


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def put_weights(model: nn.Module, state: State, *, source: str) -> Notes:
    """Load ``state`` into ``model``; prefixes that wrappers leave are stripped when that makes the keys match.

    Raises
    ------
    RefusedError
        Keys are missing, unexpected or of another shape.
    """
    fitted, notes = matching_state(model, state, source=source)
    model.load_state_dict(fitted)
    return notes


def matching_state(model: nn.Module, state: State, *, source: str) -> tuple[dict[str, Tensor], Notes]:
    """``state`` under the names of ``model``, complete, and what was done to get there."""
    wanted = model.state_dict()
    notes: list[Message] = []
    for prefix, candidate in _without_prefixes(state):
        if not _missing(wanted, candidate) and not candidate.keys() - wanted.keys():
            if prefix:
                text = "the prefix {prefix} was taken off the names of the weights"
                notes.append(Message("loading.prefix", text, prefix=prefix))
            break
    else:
        raise RefusedError(_mismatch(wanted, dict(state), source))
    bent = [n for n in candidate if candidate[n].shape != wanted[n].shape]
    if bent:
        shown = "; ".join(f"{n} is {_shape(candidate[n])}, the model has {_shape(wanted[n])}" for n in bent[:3])
        raise RefusedError(
            f"{len(bent)} of {len(wanted)} weights in {source} have another shape than the model's: {shown}; "
            "build the model with the settings it was trained with"
        )
    if cast := {(t.dtype, wanted[n].dtype) for n, t in candidate.items() if t.dtype != wanted[n].dtype}:
        given, needed = (", ".join(sorted({str(pair[i]).removeprefix("torch.") for pair in cast})) for i in (0, 1))
        text = "the weights were converted from {given} to {needed}"
        notes.append(Message("loading.dtype", text, given=given, needed=needed))
    return _completed(wanted, candidate), tuple(notes)


def _without_prefixes(state: State) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """``state`` as it is, then with every prefix that all its names share, then without two, then three."""
    layer = [("", dict(state))]
    for _ in range(4):
        yield from layer
        layer = [
            (taken + prefix, {name.removeprefix(prefix): t for name, t in names.items()})
            for taken, names in layer
            for prefix in PREFIXES
            if names and all(name.startswith(prefix) for name in names)
        ]


def _place(tensor: Tensor) -> tuple[int, torch.Size]:
    """Equal for two names of one tied weight."""
    return tensor.data_ptr(), tensor.shape


def _missing(wanted: State, state: State) -> list[str]:
    """Names the model needs and ``state`` lacks, apart from second names of tied weights and batch counters."""
    given = {_place(t) for name, t in wanted.items() if name in state and t.numel()}
    return [n for n, t in wanted.items() if n not in state and not n.endswith(COUNTER) and _place(t) not in given]


def _completed(wanted: State, state: State) -> dict[str, Tensor]:
    """``state`` with the names that `_missing` lets pass, in the order of the model."""
    by_place = {_place(t): state[name] for name, t in wanted.items() if name in state}
    return {name: state[name] if name in state else by_place.get(_place(t), t).clone() for name, t in wanted.items()}


def _mismatch(wanted: State, state: dict[str, Tensor], source: str) -> str:
    missing, unexpected = _missing(wanted, state), sorted(state.keys() - wanted.keys())
    words = []
    if missing:
        words.append(f"lacks {len(missing)} of the {len(wanted)} weights of the model ({_few(missing)})")
    if unexpected:
        words.append(f"has {len(unexpected)} that the model does not have ({_few(unexpected)})")
    hint = ""
    for name in missing:
        if near := difflib.get_close_matches(name, unexpected, n=1, cutoff=0.5):
            hint = f"; the nearest to {name} is {near[0]}"
            break
    return f"{source} {' and '.join(words)}{hint}; give the model these weights were saved from, or rename them"


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
