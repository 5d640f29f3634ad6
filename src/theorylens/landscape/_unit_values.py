"""What hidden units of two networks answer to the same inputs, and how much that agrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from theorylens.core import RefusedError, Split, studied
from theorylens.numerics.counting import count
from theorylens.numerics.memory import rows, to_device

from ._unit_groups import UnitGroup

FLAT = 1e-12  # share of the largest variance below which a unit answers the same to everything


def unit_correlations(
    first: nn.Module, second: nn.Module, groups: Sequence[UnitGroup], data: Any, *, batch_size: int
) -> list[Float[Tensor, "n n"]]:
    """Per group the correlations of unit i of the first network and unit j of the second, over examples and places.

    A unit that answers the same to everything correlates with none: 0.
    """
    if any(not group.probes for group in groups):
        raise RefusedError("some units are read in a way that shows no values of them; use method='weights'")
    moments = [_Moments(group.size) for group in groups]
    readers = [_Values(net, groups) for net in (first, second)]
    with studied(first), studied(second), torch.no_grad():
        for batch in Split.of(data).batches(batch_size):
            inputs = batch[0] if isinstance(batch, tuple | list) else batch
            ours, theirs = (reader.read(inputs) for reader in readers)
            for group, moment in zip(groups, moments, strict=True):
                for node, _ in group.probes:
                    moment.add(ours[node], theirs[node])
            count(forwards=2 * rows(batch))
    return [moment.correlations() for moment in moments]


class _Moments:
    """Sums of the values of two sets of units, of their squares and of their products."""

    def __init__(self, size: int) -> None:
        self.n = 0
        self.sums, self.squares = torch.zeros(2, size, dtype=torch.float64), torch.zeros(2, size, dtype=torch.float64)
        self.products = torch.zeros(size, size, dtype=torch.float64)

    def add(self, ours: Float[Tensor, "m n"], theirs: Float[Tensor, "m n"]) -> None:
        self.n += len(ours)
        self.products += ours.T @ theirs
        for i, values in enumerate((ours, theirs)):
            self.sums[i] += values.sum(0)
            self.squares[i] += values.square().sum(0)

    def correlations(self) -> Float[Tensor, "n n"]:
        mean, second = self.sums / self.n, self.squares / self.n
        variance = (second - mean.square()).clamp(min=0)
        alive = variance > FLAT * second.max(dim=1, keepdim=True).values
        scale = torch.where(alive, variance.clamp(min=1e-300).rsqrt(), torch.zeros_like(variance))
        return (self.products / self.n - mean[0][:, None] * mean[1]) * scale[0][:, None] * scale[1]


class _Values(fx.Interpreter):
    """Runs a network and keeps the values of the nodes that hold the units of the groups."""

    def __init__(self, model: nn.Module, groups: Sequence[UnitGroup]) -> None:
        super().__init__(fx.GraphModule(model, fx.Tracer().trace(model)))
        self._device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._axes = dict(probe for group in groups for probe in group.probes)
        self._kept: dict[str, Tensor] = {}

    def read(self, inputs: Any) -> dict[str, Tensor]:
        """By node the units' values over all examples and places, shape (m, n) in float64."""
        self._kept = {}
        self.run(to_device(inputs, self._device))
        return self._kept

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._axes:
            along = value.movedim(self._axes[n.name], -1)
            self._kept[n.name] = along.reshape(-1, along.shape[-1]).double().cpu()
        return value
