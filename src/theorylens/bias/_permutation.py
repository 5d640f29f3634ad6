"""Permutation: does the order of the input units (tokens, set elements, nodes) matter to the model?

Method   random reorderings of the units, the outputs compared with the reordered and with the unchanged outputs
Source   Zaheer et al. (2017). Deep sets. NeurIPS; Yun et al. (2020). Are transformers universal approximators of
         sequence-to-sequence functions? ICLR (attention without positions is permutation equivariant)
Assumes  evaluation mode; rows of the batch are answered independently
Breaks   an error of rounding size on the reorderings tried is no proof; an error above it is a refutation
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from theorylens.numerics.counting import count

from ._equivariance import Run
from ._symmetry import relative_distance

ROUNDINGS = 1e3  # errors of so many units of rounding are owed to another order of summation


def rounding(dtype: torch.dtype) -> float:
    """Relative errors below this are owed to rounding in ``dtype``: 1e-4 in single precision, 3 % in half."""
    eps = torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps
    return min(ROUNDINGS * eps, math.sqrt(eps))


@dataclass(frozen=True, kw_only=True)
class PermutationTest:
    """Largest relative error over the reorderings tried.

    Attributes
    ----------
    equivariance
        ||f(Px) - P f(x)|| / ||f(x)||; None when the outputs have no axis of as many units.
    invariance
        ||f(Px) - f(x)|| / ||f(x)||.
    rounding
        Errors below this are owed to rounding.
    draws
        Reorderings tried.
    """

    equivariance: float | None
    invariance: float
    rounding: float
    draws: int

    @property
    def equivariant(self) -> bool:
        """No reordering tried showed more than rounding: evidence, not proof. False is a refutation."""
        return self.equivariance is not None and self.equivariance <= self.rounding

    @property
    def invariant(self) -> bool:
        """As ``equivariant``, for outputs that stay as they are."""
        return self.invariance <= self.rounding


def permutation_test(
    model: Run, inputs: Tensor, *, axis: int = 1, draws: int = 8, generator: torch.Generator | None = None
) -> PermutationTest:
    """Reorder the units of ``inputs`` along ``axis`` at random and compare the outputs of ``model``.

    Parameters
    ----------
    model
        Any function of the inputs; wrap it for masks: ``lambda x: encoder(x, mask=causal)``.
    inputs
        For instance (n, length, width) with ``axis=1``; token numbers (n, length) work too. The outputs are held to be
        per unit when they are as long along the same axis.
    draws
        Reorderings; the first exchanges the first two units, the second is the reversal, the others are random.

    Raises
    ------
    ValueError
        Fewer than two units, or outputs that are not finite.
    """
    if not -inputs.ndim <= axis < inputs.ndim or inputs.shape[axis] < 2:
        raise ValueError(
            f"inputs of shape {tuple(inputs.shape)} have fewer than two units along axis {axis}; nothing to reorder"
        )
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    units, device = inputs.shape[axis], inputs.device
    with torch.no_grad():
        before = model(inputs)
        per_unit = before.ndim > axis and before.ndim >= -axis and before.shape[axis] == units
        along, still = [], []
        for order in reorderings(units, draws, generator):
            index = order.to(device)
            after = model(inputs.index_select(axis, index)).double()
            still.append(relative_distance(after, before.double()))
            if per_unit:
                along.append(relative_distance(after, before.double().index_select(axis, index)))
    count(forwards=len(inputs) * (1 + len(still)))
    return PermutationTest(
        equivariance=max(along) if along else None,
        invariance=max(still),
        rounding=rounding(before.dtype),
        draws=len(still),
    )


def reorderings(units: int, draws: int, generator: torch.Generator | None = None) -> list[Tensor]:
    """An exchange of neighbours, the reversal, then random orders of ``units`` units; ``draws`` in all."""
    exchange = torch.arange(units)
    exchange[0], exchange[1] = 1, 0
    generator = generator or torch.Generator().manual_seed(0)
    random = [torch.randperm(units, generator=generator) for _ in range(max(0, draws - 2))]
    return [exchange, torch.arange(units).flip(0), *random][:draws]
