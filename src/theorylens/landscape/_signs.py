"""How many eigenvalues of a Hessian are negative, zero and positive: index, nullity and the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from theorylens.numerics.objective import Objective
from theorylens.numerics.quadrature import lanczos_quadrature
from theorylens.results import Estimate, Exact, Statistical

Floats = NDArray[np.float64]
WHOLE = 400  # parameters up to which the matrix is decomposed: as many products, a second for a small network
DRAWS, STEPS = 4, 60


@dataclass(frozen=True, kw_only=True)
class Signs:
    """Numbers of eigenvalues below, around and above zero.

    Attributes
    ----------
    index, nullity, positive
        Counts, exact when the matrix was decomposed. Otherwise from random starts, with an interval that covers
        those: they blur what lies within a few per cent of the spectrum's width of zero, so that the index and the
        nullity of a large network are good to that resolution only.
    threshold
        |eigenvalue| up to which one counts as zero.
    products
        Hessian-vector products taken.
    """

    index: Estimate
    nullity: Estimate
    positive: Estimate
    threshold: float
    products: int

    @property
    def exact(self) -> bool:
        return isinstance(self.index.uncertainty, Exact)


def eigenvalue_signs(goal: Objective, threshold: float, *, generator: torch.Generator) -> Signs:
    """Count by decomposing the Hessian of a small objective, by Lanczos quadrature for a large one."""
    tests: tuple[Callable[[Floats], Floats], ...] = (
        lambda x: np.asarray(x < -threshold, dtype=np.float64),
        lambda x: np.asarray(np.abs(x) <= threshold, dtype=np.float64),
        lambda x: np.asarray(x > threshold, dtype=np.float64),
    )
    if goal.size <= WHOLE:
        values = dense_spectrum(goal)
        found = [Estimate(value=float(test(values).sum()), uncertainty=Exact()) for test in tests]
        products = goal.size
    else:
        rule = lanczos_quadrature(goal.hessian(), DRAWS, steps=STEPS, generator=generator)
        found = [_count(rule.mean(test), goal.size) for test in tests]
        products = rule.products
    index, nullity, positive = found
    return Signs(index=index, nullity=nullity, positive=positive, threshold=threshold, products=products)


def dense_spectrum(goal: Objective) -> Floats:
    """All eigenvalues, ascending, by one product for each parameter."""
    hessian = goal.hessian()
    rows = [hessian @ unit for unit in torch.eye(goal.size, dtype=goal.dtype, device=goal.device)]
    dense = torch.stack(rows).double().cpu().numpy()
    return np.asarray(np.linalg.eigvalsh((dense + dense.T) / 2), dtype=np.float64)


def _count(share: Estimate, size: int) -> Estimate:
    limits = share.uncertainty
    if isinstance(limits, Statistical):
        limits = replace(limits, lower=max(0.0, size * limits.lower), upper=min(float(size), size * limits.upper))
    return Estimate(value=size * share.value, uncertainty=limits)
