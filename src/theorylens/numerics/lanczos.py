"""Extreme eigenvalues of a symmetric operator, with the evidence that they converged.

Method   Lanczos, every new direction orthogonalised against the whole basis at least twice; a breakdown restarts in
         the orthogonal complement; a block of starts sees copies; thick restarts only where memory forces them
Source   Paige (1972), J. Inst. Maths Applics 10:373; Parlett (1998), The Symmetric Eigenvalue Problem, chapters 11, 13;
         Wu, Simon (2000), SIAM J. Matrix Anal. Appl. 22:602
Limits   one starting vector sees one copy of a repeated eigenvalue until it breaks down. Without a breakdown an
         eigenvalue within about a tenth of the tolerance of another may be counted once: the outermost value of an end
         is right all the same, the later ones may skip (``Ritz.complete`` is then False; ``copies=True`` counts them).
         Repeated outer eigenvalues occur by symmetry, e.g. C - 1 copies under softmax with uniform predictions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ._krylov import Basis
from ._wanted import Ends
from .operator import Counted, Operator

ASYMMETRY = 1e-3  # share of a product that rounding, even of single precision within, does not reach; less is slack
MEMORY = 1 << 31  # bytes that a basis may take, one vector a step: 2 GiB
Which = Literal["LA", "SA", "BE"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ritz:
    """Approximate eigenvalues and how far to trust each.

    Attributes
    ----------
    values
        Shape (k,), float64. ``"LA"`` and ``"BE"``: largest first; ``"SA"``: smallest first.
    residuals
        Norms of ``A v - value v`` for unit Ritz vectors v: an eigenvalue lies within this distance. Computed from the
        recurrence and from what it left out (rounding and asymmetry of the products, breakdowns).
    errors
        min(residual, residual² / gap) up to rounding, the gap being the distance to the nearest other Ritz value less
        that one's residual.
    converged
        Whether the residual is within a tenth of the tolerance times |value|, or at the level of rounding of the
        operator's dtype: then the error is well within the tolerance.
    complete
        Whether copies are surely counted: the whole space was searched, a breakdown let the rest be searched, fewer
        copies were seen of each value than the starts would have shown, or only the outermost value of an end was asked
        for. Otherwise the values are eigenvalues and the first of each end is the outermost, but a copy (or one within
        a tenth of the tolerance) may be missing between them.
    vectors
        Shape (k, size) in the operator's dtype, unit length, when asked for.
    size
        Dimension of the operator.
    steps, products, restarts
        Dimension of the basis, products with the operator, breakdowns passed.
    exhausted
        Whether the basis spans the whole space: nothing is left to find.
    asymmetry
        Largest part of a product that a symmetric operator could not have, relative to the largest product: rounding
        in a good operator.
    """

    values: Floats
    residuals: Floats
    errors: Floats
    converged: NDArray[np.bool_]
    complete: bool
    vectors: Float[Tensor, "k p"] | None
    size: int
    steps: int
    products: int
    restarts: int
    exhausted: bool
    asymmetry: float


def eigenvalues(
    operator: Operator,
    k: int,
    *,
    which: Which = "LA",
    tolerance: float = 1e-3,
    max_steps: int | None = None,
    vectors: bool = False,
    copies: bool = False,
    memory: int = MEMORY,
    symmetric: bool = True,
    generator: torch.Generator,
) -> Ritz:
    """The ``k`` largest (``"LA"``), smallest (``"SA"``) or outermost (``"BE"``, half from each end) eigenvalues.

    Stops as soon as all asked for are safely within the relative ``tolerance``, or after ``max_steps`` products
    (default 100 + 10 k) with ``converged`` saying which are not. The starting vectors come from ``generator``, whatever
    the device. For odd k ``"BE"`` takes one more at the top.

    Parameters
    ----------
    copies
        Count repeated eigenvalues surely: blocks of 2, 4, 8, ... starts (at most k), each with ``max_steps`` products
        per start, until a block shows fewer copies of each value than it could.
    memory
        Bytes of the basis, one vector of the operator's size and dtype a step. When it is full, half of it is freed by
        a thick restart, which takes a few products more; at least 2 k + 4 vectors are kept whatever it says.
    symmetric
        Known to be: what products show against it is rounding and counts in the residuals. False for an operator from
        elsewhere: it is then refused when its products show that it is not.

    Raises
    ------
    ValueError
        ``k`` outside 1 to the operator's size, another ``which``, a tolerance that is not positive; a product that is
        not finite, has another shape than its vector, or shows that the operator is not ``symmetric``.

    >>> from theorylens.numerics.operator import DenseOperator
    >>> ritz = eigenvalues(DenseOperator(torch.diag(torch.tensor([1.0, -3.0]))), 1, generator=torch.Generator())
    >>> round(float(ritz.values[0]), 5)
    1.0
    """
    _check(operator, k, which, tolerance, max_steps)
    top = {"LA": k, "SA": 0, "BE": (k + 1) // 2}[which]
    ends = Ends(top=top, bottom=k - top, ascending=which == "SA", tolerance=tolerance)
    search = _Search(operator, ends, max_steps, memory, symmetric, generator)
    if not copies:
        return _report(ends, *search.run(1), vectors=vectors)
    taken, block = 0, 1
    while True:
        block = min(2 * block, max(k, 1))
        basis, products = search.run(block)
        found = _report(ends, basis, products, vectors=vectors)
        taken += found.products
        if found.complete or block >= k or not found.converged.all():
            return replace(found, products=taken)


def both_ends(
    operator: Operator,
    k: int,
    *,
    tolerance: float = 1e-3,
    max_steps: int | None = None,
    memory: int = MEMORY,
    symmetric: bool = True,
    generator: torch.Generator,
) -> tuple[Ritz, Ritz]:
    """The ``k`` largest eigenvalues to ``tolerance`` of their size, and the smallest to that share of the whole spread.

    From one basis: the smallest costs next to nothing beside the largest. A smallest eigenvalue near zero cannot be had
    to a share of itself, and nobody needs it. ``products`` of both are those of the one search. Errors are those of
    `eigenvalues`.
    """
    _check(operator, k, "LA", tolerance, max_steps)
    ends = Ends(top=k, bottom=min(1, operator.size - k), ascending=False, tolerance=tolerance, spread=True)
    basis, products = _Search(operator, ends, max_steps, memory, symmetric, generator).run(1)
    whole = _report(ends, basis, products, vectors=False)
    if not ends.bottom:  # all are asked for: the last of them is the smallest
        return whole, _part(whole, slice(k - 1, k))
    return _part(whole, slice(0, k)), replace(_part(whole, slice(k, k + 1)), complete=bool(whole.converged[k]))


def _part(ritz: Ritz, chosen: slice) -> Ritz:
    return replace(
        ritz, values=ritz.values[chosen], residuals=ritz.residuals[chosen], errors=ritz.errors[chosen],
        converged=ritz.converged[chosen],
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Search:
    """Grows a basis until the ends are settled, products run out, or symmetry is refuted."""

    operator: Operator
    ends: Ends
    max_steps: int | None
    memory: int
    symmetric: bool
    generator: torch.Generator

    def run(self, block: int) -> tuple[Basis, int]:
        counted = Counted(self.operator)
        wanted = self.ends.top + self.ends.bottom
        limit = block * (self.max_steps if self.max_steps is not None else 100 + 10 * wanted)
        vector = self.operator.size * torch.finfo(self.operator.dtype).bits // 8
        room = max(self.memory // vector, 2 * wanted + 2 * block + 2)
        basis = Basis(counted, self.generator, block=block)
        while True:
            if basis.rows >= room and not basis.closed:
                basis.compress(self.ends.kept(basis, room // 2))
            basis.step()
            if not self.symmetric:
                _check_symmetry(basis)
            if counted.products >= limit or basis.steps == basis.size:
                break
            if _worth_looking(basis) and self.ends.settled(basis):
                break
        return basis, counted.products


def _report(ends: Ends, basis: Basis, products: int, *, vectors: bool) -> Ritz:
    ritz = basis.ritz()
    chosen = ends.wanted(ritz.values)
    converged = ends.within(ritz, basis)[chosen]
    whole = basis.steps == basis.size
    searched = ends.counted(ritz.values, basis) or (basis.restarts > 0 and ends.searched(ritz.values, basis))
    return Ritz(
        values=ritz.values[chosen],
        residuals=ritz.residuals[chosen],
        errors=ritz.errors[chosen],
        converged=converged,
        complete=whole or bool(converged.all() and searched),
        vectors=basis.vectors(chosen) if vectors else None,
        size=basis.size,
        steps=basis.steps,
        products=products,
        restarts=basis.restarts,
        exhausted=whole,
        asymmetry=basis.asymmetry,
    )


def _worth_looking(basis: Basis) -> bool:
    """Decomposing the projected matrix costs a power of its dimension: each step (or block) at first, then less."""
    return basis.steps % max(basis.block, basis.steps // 100) == 0


def _check_symmetry(basis: Basis) -> None:
    if basis.asymmetry > max(ASYMMETRY, torch.finfo(basis.dtype).eps ** 0.5):
        raise ValueError(
            f"the operator is not symmetric: a product has a part of {basis.asymmetry:.1g} of the largest product's "
            "length that no symmetric one has. Give a symmetric operator, such as (A + A') / 2, whose products do not "
            "differ from call to call"
        )


def _check(operator: Operator, k: int, which: str, tolerance: float, max_steps: int | None) -> None:
    if not 1 <= k <= operator.size:
        raise ValueError(f"k must be between 1 and the operator's size {operator.size}, got {k}")
    if which not in ("LA", "SA", "BE"):
        raise ValueError(f"which must be 'LA' (largest), 'SA' (smallest) or 'BE' (both ends), got {which!r}")
    if not (tolerance > 0 and math.isfinite(tolerance)):
        raise ValueError(f"tolerance must be positive and finite, got {tolerance}")
    if max_steps is not None and max_steps < k:
        raise ValueError(f"max_steps must be at least k = {k}, got {max_steps}; {k} values need as many steps")
