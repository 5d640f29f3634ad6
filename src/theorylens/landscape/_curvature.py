"""Curvature: in how many directions does the loss bend, how sharply, and does it fall away anywhere?

Method   Lanczos with full reorthogonalisation on exact Hessian-vector products
Source   Pearlmutter (1994); Parlett (1998), The Symmetric Eigenvalue Problem; Sagun et al. (2017); Papyan (2019)
Assumes  a loss that is twice differentiable at the parameters (kinks of ReLU networks have measure zero)
Breaks   eigenvalues depend on the parametrisation: rescaling two layers changes them and not the function
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import RefusedError, Subject, Task, objective, rng_for
from theorylens.numerics import lanczos
from theorylens.numerics.objective import Objective
from theorylens.numerics.operator import Derived, Operator
from theorylens.results import Enclosure, Estimate, Message

Which = Literal["LA", "SA", "BE"]
Floats = NDArray[np.float64]
BATCH = 512  # examples per batch: smaller ones cost dense layers a tenth more, larger ones gain nothing
NEGLIGIBLE = 1e-4  # share of the largest eigenvalue: float32 products of a deep network err by up to about 1e-5 of it


@dataclass(frozen=True, kw_only=True, eq=False)
class Eigenvalues:
    """Eigenvalues of a Hessian, in the order asked for, and how far to trust each.

    Attributes
    ----------
    values
        Shape (k,), float64.
    residuals
        Norms of ``H v - value v`` for unit v: some eigenvalue lies within this distance of each value.
    errors
        The tighter bound min(residual, residual² / gap), with the gap to the other values found.
    converged
        Per value, whether its error is within the tolerance.
    complete
        Whether copies are surely counted. Otherwise each end's first value is the outermost, but a copy of an
        eigenvalue (or one within a tenth of the tolerance of it) may be missing between the later ones.
    products, parameters
        Hessian-vector products taken; dimension of the Hessian.
    trouble
        None, or what to change when a value did not converge.
    """

    values: Floats
    residuals: Floats
    errors: Floats
    converged: NDArray[np.bool_]
    complete: bool
    products: int
    parameters: int
    trouble: Message | None

    def __len__(self) -> int:
        return len(self.values)

    def estimate(self, i: int = 0) -> Estimate:
        """Value ``i`` with the interval in which an eigenvalue must lie."""
        value, residual = float(self.values[i]), float(self.residuals[i])
        why = Message(
            "landscape.residual",
            "an eigenvalue lies within the residual of the computed one; that it is the outermost rests on a random "
            "start",
        )
        trouble = None if self.converged[i] else self.trouble
        return Estimate(value=value, uncertainty=Enclosure(lower=value - residual, upper=value + residual, why=why),
                        trouble=trouble)  # fmt: skip


def eigenvalues(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    k: int = 5,
    which: Which = "LA",
    tolerance: float = 1e-3,
    max_steps: int | None = None,
    copies: bool = False,
    seed: int = 0,
    batch_size: int = BATCH,
) -> Eigenvalues:
    """The ``k`` largest (``"LA"``), smallest (``"SA"``) or outermost (``"BE"``) eigenvalues of the Hessian of a loss.

    Distinct ones for certain: of an eigenvalue that is repeated, later copies may be missed (``complete`` tells) unless
    ``copies`` are counted. The basis takes one vector of all parameters a step, up to 2 GiB; then Lanczos restarts.

    Parameters
    ----------
    model, data, loss
        A network in evaluation mode; anything `Split` takes; anything `Task` takes as its loss, or a `Task`.
    tolerance
        Largest error of each value relative to its size.
    max_steps
        Largest number of products; by default 100 + 10 k.
    copies
        Search with 2, 4, 8, ... starts at a time, until repeated eigenvalues are surely counted.
    seed
        Of the random starting vector.
    batch_size
        Examples per batch: bounds memory and does not change the answer beyond rounding.

    Raises
    ------
    ValueError
        ``k`` outside 1 to the number of parameters, an unknown ``which``, a tolerance that is not positive.
    RefusedError
        Dropout or batch normalisation in training mode, a loss or parameter that is not finite.
    NoSecondDerivativeError
        An operator of the network can be differentiated only once; it is named.

    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)
    >>> found = eigenvalues(nn.Linear(2, 1, bias=False), (x, y), "mse", k=2)  # the Hessian is 2 X'X / n
    >>> [round(v, 5) for v in found.values.tolist()]
    [4.0, 1.0]
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    generator = rng_for(seed, "landscape.eigenvalues")
    return hessian_eigenvalues(
        goal, k=k, which=which, tolerance=tolerance, max_steps=max_steps, copies=copies, generator=generator
    )


def hessian_eigenvalues(
    goal: Objective,
    *,
    k: int,
    which: Which = "LA",
    tolerance: float = 1e-3,
    below: float | None = None,
    max_steps: int | None = None,
    copies: bool = False,
    generator: torch.Generator,
) -> Eigenvalues:
    """`eigenvalues` of an objective that is there already.

    With ``below``, a number at least the largest eigenvalue, ``"SA"`` is searched as the largest of
    ``below - H``: the tolerance is then relative to the whole spread ``below - value``. A smallest eigenvalue near
    zero cannot be had to a share of itself, and nobody needs it.
    """
    _settled(goal, k)
    if below is not None and which != "SA":
        raise ValueError(f"below= serves which='SA' only, got which={which!r}")
    hessian = goal.hessian()
    operator: Operator = hessian if below is None else Reflected(hessian, below)
    ritz = lanczos.eigenvalues(
        operator, k, which=which if below is None else "LA", tolerance=tolerance,
        max_steps=max_steps, copies=copies, generator=generator,
    )  # fmt: skip
    found = _named(ritz)
    return found if below is None else replace(found, values=below - found.values)


class Ends(NamedTuple):
    """Both ends of a spectrum: the largest eigenvalues, and the smallest one.

    One search serves both; its products are counted for the largest.
    """

    top: Eigenvalues
    bottom: Eigenvalues


def both_ends(goal: Objective, *, k: int, tolerance: float, generator: torch.Generator) -> Ends:
    """The ``k`` largest eigenvalues to ``tolerance`` of their size, the smallest to that share of the whole spread."""
    _settled(goal, min(k, goal.size))
    return operator_ends(goal.hessian(), k=k, tolerance=tolerance, generator=generator)


def operator_ends(
    operator: Operator, *, k: int, tolerance: float, symmetric: bool = True, generator: torch.Generator
) -> Ends:
    """`both_ends` of any operator; one that is not known to be symmetric is refused when its products show it."""
    top, low = lanczos.both_ends(
        operator, min(k, operator.size), tolerance=tolerance, symmetric=symmetric, generator=generator
    )
    return Ends(_named(top), _named(replace(low, products=0)))


def subject_ends(subject: Subject, *, k: int, rows: int, tolerance: float) -> Ends:
    """`both_ends` on at most ``rows`` training rows, computed once per subject; the start is keyed by the name."""
    goal = subject.objective("train", limit=rows)
    generator = rng_for(0, "landscape.ends")
    key = ("landscape.ends", k, rows, tolerance, subject.batch_size)
    return subject.once(key, lambda: both_ends(goal, k=k, tolerance=tolerance, generator=generator))


class Reflected(Derived):
    """``below - H``: its largest eigenvalues are the smallest of H."""

    def __init__(self, operator: Operator, below: float) -> None:
        super().__init__(operator)
        self._below = below

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self._below * vector - self._operator.matvec(vector)


def _settled(goal: Objective, k: int) -> None:
    if not 1 <= k <= goal.size:
        raise ValueError(f"k must be between 1 and the number of parameters {goal.size}, got {k}")
    if not math.isfinite(goal.value):
        raise RefusedError(f"the loss is {goal.value}, so it has no curvature; load weights from before it diverged")


def _named(ritz: lanczos.Ritz) -> Eigenvalues:
    return Eigenvalues(
        values=ritz.values, residuals=ritz.residuals, errors=ritz.errors, converged=ritz.converged,
        complete=ritz.complete, products=ritz.products, parameters=ritz.size, trouble=_trouble(ritz),
    )  # fmt: skip


def _trouble(ritz: lanczos.Ritz) -> Message | None:
    k, missed = len(ritz.values), int((~ritz.converged).sum())
    if not missed:
        return None
    text = (
        "{missed} of {k} eigenvalues did not converge in {steps} steps; allow more steps (max_steps), "
        "ask for fewer, or accept a larger tolerance"
    )
    return Message("landscape.unconverged", text, missed=missed, k=k, steps=ritz.products)
