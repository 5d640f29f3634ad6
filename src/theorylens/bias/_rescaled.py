"""The largest eigenvalue of an operator, with the interval its residual gives."""

from __future__ import annotations

import torch

from theorylens.numerics import lanczos
from theorylens.numerics.operator import Operator
from theorylens.results import Enclosure, Estimate, Message

TOLERANCE = 1e-3


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
