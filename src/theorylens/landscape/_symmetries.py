"""Directions in which a network's function does not change at all: zero eigenvalues that say nothing about the loss.

Method   unit by unit, what computes it is scaled up and what reads it is scaled down, where that leaves the outputs
         (ReLU-like units); a constant added to all logits, where the loss is cross-entropy
Source   Dinh, Pascanu, Bengio, Bengio (2017), ICML (rescaling); Simsek et al. (2021), Geometry of the loss landscape in
         overparameterized neural networks, ICML (permutations)
Assumes  a network whose graph can be traced
Breaks   at least these: units that are dead or copies of each other, and more parameters than data, add more. The order
         of units is a symmetry without a direction: it copies a critical point and flattens none
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import RefusedError, Split, Task, studied
from theorylens.numerics.memory import to_device

from ._alignment import entries
from ._paths import uncompiled
from ._unit_flow import UnitAxis
from ._unit_groups import Tracing, UnitGroup

ROWS = 64  # examples on which a scaled network must answer as before
SAME = 1e-4  # relative difference of outputs that single precision makes of a scaling by a power of two
LARGEST = 1 << 24  # numbers that all directions together may take
Floats = NDArray[np.float64]


def symmetry_directions(model: nn.Module, data: Any, loss: Any) -> Float[Tensor, "k p"]:
    """Orthonormal directions, as rows, along which the outputs (up to a constant added to all logits) do not change.

    At a critical point each is an eigenvector of the Hessian with eigenvalue 0; elsewhere only the gradient along it
    is 0. There are at least these; a network without any gives shape (0, p).

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`; 64 rows are looked at.

    Raises
    ------
    RefusedError
        The units of the network cannot be followed (it is said where), or the directions take too much memory.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> symmetry_directions(net, (torch.randn(9, 3), torch.zeros(9, 2)), "mse").shape
    torch.Size([4, 26])
    """
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    model = uncompiled(model)
    tracing = Tracing(model)
    places = _places(model)
    groups = [group for group in tracing.groups_or_none() if _scales(model, group, data, task, places)]
    last = _last_layer(model, tracing) if _is_cross_entropy(task) else None
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    k = sum(group.size for group in groups) + (0 if last is None else last.in_features + 1)
    if k * size > LARGEST:
        raise RefusedError(f"{k} directions of {size} parameters take more than {LARGEST} numbers; use a smaller model")
    rows = torch.zeros(k, size, dtype=torch.float64)
    filled = 0
    for group in groups:
        _rescaling(rows[filled : filled + group.size], model, group, places)
        filled += group.size
    if last is not None:
        filled += _shifts(rows[filled:], model, last, places)
    return _orthonormal(rows[:filled])


def _places(model: nn.Module) -> dict[str, int]:
    """Where each trainable parameter begins in the flat vector."""
    places, start = {}, 0
    for name, p in model.named_parameters():
        if p.requires_grad:
            places[name] = start
            start += p.numel()
    return places


def _scales(model: nn.Module, group: UnitGroup, data: Any, task: Task, places: dict[str, int]) -> bool:
    """Whether doubling what computes the units of a group and halving what reads them leaves the outputs, as tried."""
    if not group.gains or any(axis.name not in places for axis in (*group.gains, *group.readers)):
        return False
    split = Split.of(data)
    device = next(p.device for p in model.parameters())
    batch = to_device(split.take(split.subset(ROWS)), device)
    other = copy.deepcopy(model)
    with torch.no_grad(), studied(model), studied(other):
        named = dict(other.named_parameters())
        for axes, factor in ((group.gains, 2.0), (group.readers, 0.5)):
            for axis in axes:
                named[axis.name].mul_(factor)
        before, after = (task.forward(net, batch)[0].double() for net in (model, other))
        gap = float((before - after).abs().max()) / (float(before.abs().max()) or 1.0)
    return math.isfinite(gap) and gap <= SAME


def _rescaling(rows: Float[Tensor, "n p"], model: nn.Module, group: UnitGroup, places: dict[str, int]) -> None:
    """Per unit the derivative of scaling it: its own parameters, less the weights that read it."""
    for axes, sign in ((group.gains, 1.0), (group.readers, -1.0)):
        for axis in axes:
            p = model.get_parameter(axis.name).detach().double().cpu()
            for unit in range(group.size):
                index = _entries_of(axis, unit, group.size, p, places[axis.name])
                rows[unit, index] += sign * p.reshape(-1)[index - places[axis.name]]


def _entries_of(axis: UnitAxis, unit: int, size: int, p: Tensor, start: int) -> Tensor:
    """Flat positions of what belongs to one unit along one axis of a parameter."""
    along = entries(axis, torch.arange(size)).reshape(axis.before, size, axis.after)[:, unit].reshape(-1)
    return start + torch.arange(p.numel()).view(p.shape).index_select(axis.axis, along).reshape(-1)


def _last_layer(model: nn.Module, tracing: Tracing) -> nn.Linear | None:
    """The dense layer whose outputs are those of the network, with trainable parameters that serve nothing else."""
    source = next(node for node in tracing.graph.nodes if node.op == "output").all_input_nodes
    if len(source) != 1 or source[0].op != "call_module":
        return None
    layer = model.get_submodule(str(source[0].target))
    uses = sum(node.op == "call_module" and node.target == source[0].target for node in tracing.graph.nodes)
    return layer if isinstance(layer, nn.Linear) and uses == 1 else None


def _shifts(rows: Float[Tensor, "k p"], model: nn.Module, layer: nn.Linear, places: dict[str, int]) -> int:
    """A constant added to all logits, by the biases and by each input of the last layer; returns how many rows."""
    named = {id(p): name for name, p in model.named_parameters()}
    weight, bias, k = named[id(layer.weight)], None if layer.bias is None else named[id(layer.bias)], 0
    if weight in places:
        for i in range(layer.in_features):
            rows[k, places[weight] + i + layer.in_features * torch.arange(layer.out_features)] = 1.0
            k += 1
    if bias is not None and bias in places:
        rows[k, places[bias] + torch.arange(layer.out_features)] = 1.0
        k += 1
    return k


def _is_cross_entropy(task: Task) -> bool:
    inner = getattr(task.loss, "loss", task.loss)  # a task that has seen its data wraps the loss module
    return inner == "cross_entropy" or isinstance(inner, nn.CrossEntropyLoss)


def _orthonormal(rows: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
    """A basis of what the rows span, zero and dependent ones left out."""
    rows = rows[rows.any(dim=1)]
    if not len(rows):
        return rows
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    _, s, vh = torch.linalg.svd(rows, full_matrices=False)
    kept: Tensor = vh[s > 1e-8 * s[0]]
    return kept
