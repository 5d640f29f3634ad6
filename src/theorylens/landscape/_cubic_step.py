"""The step of cubic-regularised Newton: the global minimum of g'h + h'Hh/2 + (M/6) |h|³.

Method   the secular equation |(H + M r / 2)^-1 g| = r in the eigenbasis, hard case included; in a Krylov space when H
         is known by products only
Source   Nesterov, Polyak (2006), Math. Program. 108:177, section 5; Cartis, Gould, Toint (2011), Math. Program. 127:245
Assumes  H symmetric; M an upper bound of the Hessian's Lipschitz constant where the descent lemma is wanted
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from theorylens.numerics.operator import Counted, DenseOperator, Operator

Floats = NDArray[np.float64]
SUBSPACE = 40  # products: two Krylov sequences of 20 find the lowest eigenvalue of small networks to a per cent


@dataclass(frozen=True, kw_only=True, eq=False)
class CubicStep:
    """A minimiser of the cubic model.

    Attributes
    ----------
    step
        h, shape (p,).
    norm, model
        |h|, and the model's value there: at most 0, the decrease it promises.
    hard_case
        Whether g has no part along the lowest eigenvector, so that h leaves along it by choice of sign.
    residual
        |g + Hh + (M/2) |h| h|: zero at a minimiser; large when the subspace was too small.
    products
        Hessian-vector products taken; 0 for a matrix.
    """

    step: Float[Tensor, "p"]
    norm: float
    model: float
    hard_case: bool
    residual: float
    products: int


def cubic_step(
    gradient: Float[Tensor, "p"],
    hessian: Tensor | Operator,
    regularisation: float,
    *,
    subspace: int = SUBSPACE,
    generator: torch.Generator | None = None,
) -> CubicStep:
    """The Nesterov-Polyak step h = -(H + (M |h| / 2) I)^-1 g.

    Parameters
    ----------
    hessian
        A symmetric matrix, solved exactly, or an operator, solved in the span of two Krylov spaces: one from the
        gradient, one from a random start, without which a saddle with g = 0 could not be left.
    regularisation
        M, positive.
    subspace, generator
        Products to take, and where the random start comes from; for operators only.

    Raises
    ------
    ValueError
        M not positive, H not symmetric or not finite, a gradient of another shape or not finite.

    >>> found = cubic_step(torch.zeros(1).double(), -torch.ones(1, 1).double(), 1.0)
    >>> found.norm, round(found.model, 6)
    (2.0, -0.666667)
    """
    return CubicModel(gradient, hessian, subspace=subspace, generator=generator).step(regularisation)


class CubicModel:
    """Gradient and Hessian at one point, reduced to a space in which `step` is solved exactly for any M.

    Arguments and errors are those of `cubic_step`; the products are taken here, once.
    """

    def __init__(
        self,
        gradient: Float[Tensor, "p"],
        hessian: Tensor | Operator,
        *,
        subspace: int = SUBSPACE,
        generator: torch.Generator | None = None,
    ) -> None:
        operator: Operator = DenseOperator(hessian) if isinstance(hessian, Tensor) else hessian  # refuses asymmetry
        if gradient.shape != (operator.size,):
            raise ValueError(f"a gradient of shape {tuple(gradient.shape)} does not match a Hessian of {operator.size}")
        if not bool(torch.isfinite(gradient).all()):
            raise ValueError("the gradient is not finite, so there is no step; look for overflow in the loss")
        if subspace < 1:
            raise ValueError(f"subspace must be at least 1, got {subspace}")
        counted = Counted(operator)
        self._gradient = gradient.detach()
        if isinstance(hessian, Tensor):
            self._basis = torch.eye(operator.size, dtype=torch.float64, device=operator.device)
            self._images = hessian.detach().double()
        else:
            drawn = generator or torch.Generator().manual_seed(0)
            basis, images = krylov(counted, self._gradient, subspace, drawn)
            self._basis, self._images = basis.double(), images.double()
        self.products = counted.products
        small = self._basis @ self._images.T
        self._small = ((small + small.T) / 2).cpu().numpy()
        self._inside = (self._basis @ self._gradient.to(self._basis)).cpu().numpy()

    def step(self, regularisation: float) -> CubicStep:
        """The minimiser of the model with M = ``regularisation``."""
        m = regularisation
        if not (math.isfinite(m) and m > 0):
            raise ValueError(f"the regularisation M must be a positive number, got {m}")
        y, hard = solve(self._small, self._inside, m)
        coordinates = torch.from_numpy(y).to(self._basis)
        h, product = coordinates @ self._basis, coordinates @ self._images
        norm = float(np.linalg.norm(y))
        g = self._gradient.to(self._basis)
        return CubicStep(
            step=h.to(self._gradient),
            norm=norm,
            model=float(self._inside @ y + y @ self._small @ y / 2) + m / 6 * norm**3,
            hard_case=hard,
            residual=float(torch.linalg.vector_norm(g + product + m / 2 * norm * h)),
            products=self.products,
        )


def krylov(
    operator: Operator, start: Tensor, size: int, generator: torch.Generator, *, second: bool = True
) -> tuple[Float[Tensor, "k p"], Float[Tensor, "k p"]]:
    """An orthonormal basis of at most ``size`` vectors, as rows, and their images under ``operator``.

    Half of it is the Krylov space of ``start`` (less if that is closed or ``start`` is zero), the rest that of a random
    vector in its complement; without ``second`` it is all the Krylov space of ``start``, as far as that goes.
    """
    size = min(size, operator.size)
    eps = torch.finfo(operator.dtype).eps
    basis: list[Tensor] = []
    images: list[Tensor] = []

    def complement(vector: Tensor) -> Tensor | None:
        length = float(torch.linalg.vector_norm(vector))
        for _ in range(3):
            for known in basis:
                vector = vector - (known @ vector) * known
        left = float(torch.linalg.vector_norm(vector))
        return vector / left if left > 100 * eps * length and left > 0 else None

    nxt = complement(start.to(operator.device, operator.dtype))
    random_part = False
    while len(basis) < size:
        if nxt is None and basis and not second:
            break
        if nxt is None or (second and not random_part and len(basis) >= (size + 1) // 2):
            drawn = torch.randn(operator.size, generator=generator, device=generator.device)
            nxt, random_part = complement(drawn.to(operator.device, operator.dtype)), True
            if nxt is None:
                break
        basis.append(nxt)
        images.append(operator.matvec(nxt).detach().clone())
        nxt = complement(images[-1])
    return torch.stack(basis), torch.stack(images)


def solve(matrix: Floats, gradient: Floats, m: float) -> tuple[Floats, bool]:
    """The global minimiser of the cubic model of a symmetric matrix, and whether it is the hard case.

    With eigenvalues d and coefficients c of g: h = -c / (d + s), s = M |h| / 2, and d + s >= 0. The root is looked for
    in t = s - max(0, -d_min), so that the distance to the pole is exact where it is tiny.
    """
    values, axes = np.linalg.eigh(matrix)
    c = axes.T @ gradient
    shift = max(0.0, -float(values[0]))
    gaps = values + shift  # at least 0
    scale = float(np.abs(values).max()) + math.sqrt(2 * m * float(np.linalg.norm(c)))
    if scale == 0:
        return np.zeros_like(c), False
    tiny = 1e-14 * scale

    def surplus(log_t: float) -> float:
        t = math.exp(log_t)
        return math.log(float(np.linalg.norm(c / (gaps + t))) or 1e-300) - math.log(2 * (shift + t) / m)

    if not np.any(c) or surplus(math.log(tiny)) <= 0:
        # Even next to the pole (d + s) h = -c gives too short an h: the rest goes along the lowest eigenvector.
        free = gaps > tiny
        h = np.where(free, -c / np.where(free, gaps, 1.0), 0.0)
        missing = (2 * shift / m) ** 2 - float(h @ h)
        if shift > 0 and missing > 0:
            h[0] = -math.copysign(math.sqrt(missing), c[0])
            return axes @ h, True
        return axes @ h, False
    t = math.exp(brentq(surplus, math.log(tiny), math.log(2 * scale), xtol=1e-15, rtol=1e-15, maxiter=500))
    return axes @ (-c / (gaps + t)), False
