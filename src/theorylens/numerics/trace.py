"""The trace of a symmetric operator from products with random signs.

Method   mean of z.Az over vectors z of independent random signs; Student's t for the interval
Source   Hutchinson (1990), Communications in Statistics B 19:433
Assumes  draws that are close to normal: the more eigenvalues share the trace, the closer
Breaks   when a few eigenvalues carry the trace and draws are few: see `hutchinson`
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from theorylens.results import Estimate, Message, Statistical, Unknown

from .operator import Counted, Operator


def hutchinson(operator: Operator, draws: int, *, level: float = 0.95, generator: torch.Generator) -> Estimate:
    """Trace of ``operator`` from ``draws`` products, with an interval at ``level``.

    Only the off-diagonal part is sampled: the variance of a draw is twice the sum of its squared entries. The answer
    is a function of the generator's state and ``draws``; a longer run from the same state begins with the same draws.

    The 95 % interval covered the trace in 94 to 96 % of 2,000 runs for random symmetric and Wishart matrices (200
    dimensions, 2 to 64 draws) and in 93 to 95 % with nine outliers over a small bulk. It covers too little where one
    eigenvalue carries the trace (rank one: 83 to 89 % up to 16 draws, 93 % at 64): take such eigenvalues out first.

    At least 2 draws; the interval is Unknown when all draws agree, which a diagonal operator gives and chance may.

    >>> from theorylens.numerics.operator import DenseOperator
    >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> hutchinson(DenseOperator(matrix), 1000, generator=torch.Generator().manual_seed(0)).value
    5.0...
    """
    if draws < 2:
        raise ValueError(f"draws must be at least 2 to give an interval, got {draws}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    counted = Counted(operator)
    values = np.array([_quadratic(counted, _signs(counted, generator)) for _ in range(draws)])
    mean = math.fsum(values) / draws
    spread = float(values.std(ddof=1))
    if spread <= draws * torch.finfo(operator.dtype).eps * float(np.abs(values).max()):
        return Estimate(
            value=mean,
            uncertainty=Unknown(
                why=Message(
                    "numerics.hutchinson.constant",
                    "all {draws} random-sign draws gave the same number, so their spread says nothing; "
                    "for a diagonal operator the number is exact",
                    draws=draws,
                )
            ),
        )
    half = float(stats.t.ppf((1 + level) / 2, draws - 1)) * spread / math.sqrt(draws)
    method = Message("numerics.hutchinson", "Student's t over {draws} random-sign products (Hutchinson)", draws=draws)
    interval = Statistical(lower=mean - half, upper=mean + half, level=level, method=method)
    return Estimate(value=mean, uncertainty=interval)


def _signs(operator: Operator, generator: torch.Generator) -> Float[Tensor, "p"]:
    bits = torch.randint(0, 2, (operator.size,), generator=generator, device=generator.device, dtype=torch.int8)
    return bits.to(operator.device, operator.dtype).mul_(2).sub_(1)


def _quadratic(operator: Operator, signs: Float[Tensor, "p"]) -> float:
    """z.Az; a product of signs is exact, so only the sum needs float64."""
    return float((signs * operator.matvec(signs).detach()).sum(dtype=torch.float64))
