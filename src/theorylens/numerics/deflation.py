"""The trace of a symmetric operator with what is known of it taken out first.

Method   Rayleigh quotients on the vectors known, random signs on their orthogonal complement
Source   Gambhir, Stathopoulos, Orginos (2017), SIAM J. Sci. Comput. 39:A532 (deflation of Hutchinson's estimator)
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats

from theorylens.results import Estimate, Exact, Message, Statistical, Unknown

from .lanczos import Ritz
from .operator import Counted, Operator
from .trace import random_signs


def deflated_trace(
    operator: Operator, ritz: Ritz, draws: int, *, level: float = 0.95, generator: torch.Generator
) -> Estimate:
    """Trace of ``operator`` from ``draws`` products, its Ritz vectors deflated: they cost no further product.

    tr A = sum of the Ritz values + tr (1 - P) A (1 - P) with P the projection on the Ritz vectors; only the second part
    is sampled. Unbiased whether or not the vectors converged, since each value is its vector's Rayleigh quotient; the
    closer they are to eigenvectors of the largest eigenvalues, the narrower the interval.

    Parameters
    ----------
    ritz
        Of the same operator, from ``eigenvalues(..., vectors=True)``.
    draws
        At least 2 unless the vectors span the space; the interval is Student's t over them.

    >>> from theorylens.numerics.lanczos import eigenvalues
    >>> from theorylens.numerics.operator import DenseOperator
    >>> operator, rng = DenseOperator(torch.tensor([9.0, 8.0] + [0.0] * 48).diag()), torch.Generator().manual_seed(0)
    >>> ritz = eigenvalues(operator, 2, vectors=True, generator=rng)
    >>> round(deflated_trace(operator, ritz, 2, generator=rng).value, 4)
    17.0
    """
    if ritz.vectors is None:
        raise ValueError("there are no Ritz vectors to deflate; ask eigenvalues(...) for them with vectors=True")
    if ritz.size != operator.size:
        raise ValueError(f"the Ritz vectors have {ritz.size} entries, the operator's {operator.size}")
    known = math.fsum(ritz.values)
    if len(ritz.values) == operator.size:
        return Estimate(value=known, uncertainty=Exact())
    if draws < 2:
        raise ValueError(f"draws must be at least 2 to give an interval, got {draws}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    counted, basis = Counted(operator), ritz.vectors.double()
    values = np.empty(draws)
    for i in range(draws):
        signs = random_signs(counted, generator).double()
        rest = signs - (basis @ signs) @ basis
        values[i] = float(rest @ counted.matvec(rest.to(operator.dtype)).detach().double())
    value, spread = known + math.fsum(values) / draws, float(values.std(ddof=1))
    if not spread:
        text = "nothing is left of the operator beside {k} vectors, as far as {draws} draws show"
        why = Message("numerics.deflated.nothing", text, k=len(ritz.values), draws=draws)
        return Estimate(value=value, uncertainty=Unknown(why=why))
    half = float(stats.t.ppf((1 + level) / 2, draws - 1)) * spread / math.sqrt(draws)
    text = "Student's t over {draws} random-sign products beside {k} Ritz vectors"
    method = Message("numerics.deflated", text, draws=draws, k=len(ritz.values))
    limits = Statistical(lower=value - half, upper=value + half, level=level, method=method)
    return Estimate(value=value, uncertainty=limits)
