"""The vector p for which a symmetric operator's product is closest to what is asked for: least |H p - b|.

Method   Lanczos from b with every vector orthogonalised twice against all before, and least squares on the tridiagonal
         matrix: MINRES in exact arithmetic, without the loss of orthogonality that ruins it on wide spectra
Source   Paige, Saunders (1975), Solution of sparse indefinite systems of linear equations, SIAM J. Numer. Anal. 12:617
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MEMORY = 1 << 28  # bytes of the basis: a quarter of a GiB
BREAKDOWN = 1e-12  # share of the operator's size below which a new direction is rounding
DEPENDENT = 1e-12  # share of the largest singular value up to which one is rounding


@dataclass(frozen=True, kw_only=True)
class MinimumResidual:
    """A step and what it leaves.

    Attributes
    ----------
    step, image, residual
        p, H p, and |H p - b| / |b| as computed from them.
    norm
        That of H, from below: the largest singular value of the projected matrix.
    stretch
        |H b| / |b|: small against ``norm`` when b lies nearly in the kernel.
    """

    step: Floats
    image: Floats
    residual: float
    norm: float
    stretch: float


def minimum_residual(
    product: Callable[[Floats], Floats], b: Floats, *, exactness: float, steps: int,
    dependent: Sequence[float] = (DEPENDENT,),
) -> tuple[MinimumResidual, ...]:  # fmt: skip
    """Solve H p = b for symmetric H in the sense of least squares, until the residual is ``exactness`` or no better.

    Takes at most ``steps`` products and memory for as many vectors. There is one solution for each entry of
    ``dependent``: directions that H shortens to that share of its norm or less are not used in it. More makes the step
    shorter and the residual larger.

    >>> found, = minimum_residual(lambda v: np.array([2.0, 0.0]) * v, np.array([3.0, 4.0]), exactness=1e-9, steps=5)
    >>> (found.step.round(9) + 0.0).tolist(), round(found.residual, 9)
    ([1.5, 0.0], 0.8)
    """
    length = float(np.linalg.norm(b))
    basis, projected = _krylov(product, b / length, exactness, max(2, min(steps, len(b), MEMORY // (8 * len(b)))))
    wanted = np.zeros(len(projected))
    wanted[0] = length
    norm, stretch = float(np.linalg.norm(projected, 2)), float(np.linalg.norm(projected[:, 0]))
    found = []
    for share in dependent:
        y = np.linalg.lstsq(projected, wanted, rcond=share)[0]
        step, image = basis[: len(y)].T @ y, basis.T @ (projected @ y)[: len(basis)]
        residual = float(np.linalg.norm(image - b)) / length
        found.append(MinimumResidual(step=step, image=image, residual=residual, norm=norm, stretch=stretch))
    return tuple(found)


def _krylov(product: Callable[[Floats], Floats], start: Floats, exactness: float, limit: int) -> tuple[Floats, Floats]:
    """Orthonormal rows and the operator in them, one more row than columns, until b is reached to ``exactness``."""
    basis, projected, scale, look = [start], np.zeros((limit + 1, limit)), 0.0, 1
    for k in range(limit):
        rest = product(basis[k])
        scale = max(scale, float(np.linalg.norm(rest)))
        vectors = np.array(basis)
        for _ in range(2):
            part = vectors @ rest
            rest = rest - vectors.T @ part
            projected[: k + 1, k] += part
        beta = float(np.linalg.norm(rest))
        closed = beta <= BREAKDOWN * scale or k + 1 == len(start)
        if not closed:
            projected[k + 1, k] = beta
            basis.append(rest / beta)
        if closed:
            break
        if k + 1 >= look:
            small = projected[: k + 2, : k + 1]
            unit = np.eye(k + 2)[0]
            y = np.linalg.lstsq(small, unit, rcond=DEPENDENT)[0]
            if float(np.linalg.norm(small @ y - unit)) <= exactness:
                break
            look = k + 2 + k // 8
    return np.array(basis), projected[: k + 2, : k + 1]
