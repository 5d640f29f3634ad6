"""Curvature seen in rescaled weights: the largest eigenvalue of D H D for a diagonal D."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from theorylens.numerics import lanczos
from theorylens.numerics.operator import Operator
from theorylens.results import Enclosure, Estimate, Message

TOLERANCE = 1e-3


class Rescaled:
    """``D H D`` of an operator H and a diagonal D, given as a vector."""

    def __init__(self, operator: Operator, scale: Float[Tensor, "p"]) -> None:
        self._operator, self._scale = operator, scale.to(operator.device, operator.dtype)

    @property
    def size(self) -> int:
        return self._operator.size

    @property
    def dtype(self) -> torch.dtype:
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        return self._operator.device

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self._scale * self._operator.matvec(self._scale * vector)

    def __matmul__(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self.matvec(vector)


def largest_eigenvalue(operator: Operator, generator: torch.Generator) -> Estimate:
    """Largest eigenvalue to a thousandth of its size, with the interval its residual gives."""
    ritz = lanczos.eigenvalues(operator, 1, tolerance=TOLERANCE, generator=generator)
    value, residual = float(ritz.values[0]), float(ritz.residuals[0])
    why = Message("bias.residual", "an eigenvalue lies within the residual of the computed one")
    text = "the eigenvalue did not converge in {steps} products; its residual says how far it may be off"
    trouble = None if bool(ritz.converged[0]) else Message("bias.unconverged", text, steps=ritz.products)
    return Estimate(
        value=value, uncertainty=Enclosure(lower=value - residual, upper=value + residual, why=why), trouble=trouble
    )
