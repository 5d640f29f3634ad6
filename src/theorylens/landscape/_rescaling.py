"""The same function at other parameters: does a measure of sharpness notice what the outputs do not?

Method   weights of one layer times c, of the next one divided by c; a pair counts when the outputs stay what they were
Source   Dinh, Pascanu, Bengio, Bengio (2017), Sharp minima can generalize for deep nets, ICML
Assumes  nothing of the architecture: which pairs can be rescaled is tried, not deduced
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.core import RefusedError, Split, Task, call_first, studied
from theorylens.numerics.counting import count
from theorylens.numerics.memory import Batch, rows, to_device

ROWS = 256  # examples on which the outputs must agree
SAME = 1e-4  # relative difference of outputs that single precision makes of a rescaling
UNMOVED = 1e-3  # relative difference of a measure that is none


@dataclass(frozen=True, kw_only=True, eq=False)
class Rescaling:
    """A network with the same outputs as another one at other parameters.

    Attributes
    ----------
    model
        A copy, rescaled.
    pairs
        Names of layers (multiplied, divided).
    difference
        Largest difference of an output relative to the largest output.
    """

    model: nn.Module
    pairs: tuple[tuple[str, str], ...]
    difference: float


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """A measure before and after a rescaling that changes no output.

    ``invariant`` is whether they agree to 0.1 % (or as far as ``error`` says); a measure that is not cannot explain
    generalisation by itself, because the function is the same.
    """

    before: float
    after: float
    invariant: bool
    pairs: tuple[tuple[str, str], ...]


def rescaled(model: nn.Module, data: Any, *, factor: float = 4.0, task: Task | None = None) -> Rescaling:
    """``model`` with consecutive layers rescaled against each other wherever that leaves its outputs unchanged.

    Works through ReLU, leaky ReLU, pooling, dropout in evaluation mode and the scale of normalisation layers; smooth
    activations have no such pairs.

    Parameters
    ----------
    data
        Anything `Split` takes; 256 rows of it are looked at.
    factor
        c, positive and not 1.

    Raises
    ------
    RefusedError
        No pair of layers can be rescaled without changing the outputs.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> rescaled(net, (torch.randn(9, 3), torch.zeros(9))).pairs
    (('0', '2'),)
    """
    if not (math.isfinite(factor) and factor > 0 and factor != 1):
        raise ValueError(f"factor must be a positive number other than 1, got {factor}")
    split = Split.of(data)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    batch = to_device(split.take(split.subset(ROWS)), device)
    forward = (task or Task()).forward if task is not None else call_first
    moved = copy.deepcopy(model)
    with studied(moved), torch.no_grad():
        before = _outputs(forward, moved, batch)
        layers = _layers(moved, forward, batch)
        pairs = []
        for first, second in pairwise(layers):
            _multiply(moved, first, second, factor)
            if _difference(_outputs(forward, moved, batch), before) <= SAME:
                pairs.append((first, second))
            else:
                _multiply(moved, first, second, 1 / factor)
        if not pairs:
            raise RefusedError(
                "no two consecutive layers can be rescaled without changing the outputs; the activations in between "
                "are not positively homogeneous, so this test says nothing about the measure"
            )
        difference = _difference(_outputs(forward, moved, batch), before)
    return Rescaling(model=moved, pairs=tuple(pairs), difference=difference)


def invariance(
    measure: Callable[[nn.Module], float],
    model: nn.Module,
    data: Any,
    *,
    factor: float = 4.0,
    error: float = UNMOVED,
    task: Task | None = None,
) -> Invariance:
    """Whether ``measure`` is the same for ``model`` and for a rescaled copy with the same outputs.

    Parameters
    ----------
    measure
        From a network to a number; it must use the same random draws each time.
    error
        Relative difference that counts as none: more for a measure that is sampled.

    Errors are those of `rescaled`.
    """
    other = rescaled(model, data, factor=factor, task=task)
    with studied(model):
        before = float(measure(model))
    with studied(other.model):
        after = float(measure(other.model))
    same = abs(after - before) <= error * max(abs(before), abs(after))
    return Invariance(before=before, after=after, invariant=same, pairs=other.pairs)


def _outputs(forward: Callable[[nn.Module, Batch], Any], model: nn.Module, batch: Batch) -> Tensor:
    outputs: Tensor = forward(model, batch)[0]
    count(forwards=rows(batch))
    return outputs.double()


def _difference(a: Tensor, b: Tensor) -> float:
    gap = float((a - b).abs().max()) if a.numel() else 0.0
    return gap / (float(b.abs().max()) or 1.0) if math.isfinite(gap) else math.inf


def _layers(model: nn.Module, forward: Callable[[nn.Module, Batch], Any], batch: Batch) -> list[str]:
    """Modules with a floating-point ``weight`` of their own in the order of their first use."""
    order: list[str] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(getattr(module, "weight", None), nn.Parameter):
            handles.append(module.register_forward_pre_hook(lambda m, a, name=name: order.append(name)))
    try:
        _outputs(forward, model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))


def _multiply(model: nn.Module, first: str, second: str, factor: float) -> None:
    one, two = model.get_submodule(first), model.get_submodule(second)
    for p in one.parameters(recurse=False):
        p.mul_(factor)
    weight = two.weight
    assert isinstance(weight, Tensor)
    weight.div_(factor)
