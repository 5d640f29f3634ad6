"""Which layers of a network to look at, from the inputs to the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.core import Subject
from theorylens.numerics.memory import rows, to_device

INPUTS = "(inputs)"
SAME = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity, nn.Flatten)
WIDEST = 1 << 18  # units of one layer; 1,000 rows of it in float32 are 1 GiB


@dataclass(frozen=True)
class Depth:
    """Layers in the order of the forward pass.

    Attributes
    ----------
    names
        Chosen layers; the first may be ``"(inputs)"``.
    last_hidden
        The layer that feeds the last module with parameters; ``"(inputs)"`` when there is no hidden layer.
    units
        Activations per row of each chosen layer.
    """

    names: tuple[str, ...]
    last_hidden: str
    units: tuple[int, ...]

    @property
    def at(self) -> NDArray[np.float64]:
        """Positions on the depth axis: 0 is the inputs."""
        first = 0 if self.names[0] == INPUTS else 1
        return np.arange(first, first + len(self.names), dtype=np.float64)


def depth(subject: Subject, role: str, most: int, widest: int = WIDEST) -> Depth:
    """At most ``most`` layers, evenly spread over the forward pass, the last hidden one always among them.

    Left out are modules that only pass on what they get (dropout, flatten), outputs that are not one floating-point
    row per example, and layers of more than ``widest`` units.
    """
    sizes = widths(subject, role)
    modules = dict(subject.net.named_modules())
    usable = [name for name in (INPUTS, *subject.layers) if 0 < sizes.get(name, 0) <= widest]
    usable = [name for name in usable if name == INPUTS or not isinstance(modules[name], SAME)]
    weighted = [name for name in subject.layers if any(True for _ in modules[name].parameters(recurse=False))]
    order = [INPUTS, *subject.layers]
    before = usable if not weighted else [n for n in usable if order.index(n) < order.index(weighted[-1])]
    last = before[-1] if before else ""
    chosen = _spread(usable, most, last)
    return Depth(tuple(chosen), last, tuple(sizes[name] for name in chosen))


def activations(subject: Subject, name: str, role: str, limit: int) -> Tensor:
    """Activations of layer ``name``, or the flattened inputs, on ``split(role).subset(limit)``: (rows, units)."""
    if name != INPUTS:
        return subject.features(name, role, limit=limit).cpu()
    split = subject.split(role)
    found = inputs_of(split.take(split.subset(limit)))
    return found.reshape(len(found), -1)


def _spread(names: list[str], most: int, kept: str) -> list[str]:
    if len(names) <= most:
        return names
    places = {round(i * (len(names) - 1) / (most - 1)) for i in range(most)}
    if kept in names and names.index(kept) not in places:
        inner = sorted(places)[1:-1]
        places.remove(min(inner, key=lambda p: abs(p - names.index(kept))))
        places.add(names.index(kept))
    return [names[p] for p in sorted(places)]


def inputs_of(batch: Any) -> Tensor:
    """The first tensor of the inputs of a batch: of its first element, when it is a pair."""
    first = batch[0] if isinstance(batch, tuple | list) and len(batch) > 1 else batch
    return next(leaf for leaf in pytree.tree_leaves(first) if isinstance(leaf, Tensor))


def widths(subject: Subject, role: str) -> dict[str, int]:
    """Activations per row of the inputs and of every leaf module that gives one real row per example."""
    return subject.once(("widths", role), lambda: _widths(subject, role))


def _widths(subject: Subject, role: str) -> dict[str, int]:
    """Activations per row of the inputs and of every leaf module, from two rows; what has none is left out."""
    split, net = subject.split(role), subject.net
    batch = to_device(split.take(range(min(2, len(split)))), subject.device)
    n, found, handles = rows(batch), dict[str, int](), []

    def note(name: str, value: Any) -> None:
        tensors = [x for x in pytree.tree_leaves(value) if isinstance(x, Tensor)]
        if tensors and tensors[0].is_floating_point() and tensors[0].ndim > 1 and len(tensors[0]) == n:
            found[name] = tensors[0][0].numel()

    for name, module in net.named_modules():
        if name and not any(True for _ in module.children()):
            handles.append(module.register_forward_hook(lambda m, a, o, name=name: note(name, o)))
    note(INPUTS, batch[0] if isinstance(batch, tuple | list) and len(batch) > 1 else batch)
    try:
        with subject.studied(), torch.no_grad():
            subject.judged.forward(net, batch)
    finally:
        for handle in handles:
            handle.remove()
    return found
