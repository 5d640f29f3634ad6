"""The diagonal of a matrix of curvature: how much the loss bends along each single parameter.

Method   exactly by squared gradients of single examples where the matrix is a sum of squares; random signs on what is
         left of the Hessian, with the standard error of each entry
Source   Dangel, Kunstner, Hennig (2020), BackPACK, ICLR; Bekas, Kokiopoulou, Saad (2007), Appl. Numer. Math. 57:1214
Assumes  a loss that is twice differentiable at the parameters
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import RefusedError, Task, objective, rng_for
from theorylens.numerics.objective import Objective
from theorylens.numerics.trace import frobenius, hutchinson_diagonal
from theorylens.results import Estimate

from ._exact_trace import fisher_squares, ggn_squares
from ._gauss_newton import GaussNewton, chosen, hessian, settled, task_of
from ._piecewise import disagreement, obstacle
from ._trace import FEW, row_outputs
from ._trace_split import residual

Matrix = Literal["hessian", "ggn", "empirical_fisher"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagonal:
    """The diagonal of a matrix over the parameters, flat in the order of the names.

    Attributes
    ----------
    values, errors
        Shape (p,), float64: the entries and their standard errors, which are zero where ``exact``.
    exact
        Whether nothing was sampled.
    sizes
        Number of entries of each parameter, by name, in order.
    """

    values: Float[Tensor, "p"]
    errors: Float[Tensor, "p"]
    exact: bool
    sizes: dict[str, int]

    def by_parameter(self) -> dict[str, Float[Tensor, "q"]]:
        """The entries of each parameter, flat."""
        return dict(zip(self.sizes, torch.split(self.values, list(self.sizes.values())), strict=True))


def diagonal(
    model: nn.Module, data: Any, loss: Any, *, of: Matrix = "hessian", draws: int = 64, seed: int = 0,
    names: Sequence[str] | None = None, batch_size: int = 256,
) -> Diagonal:  # fmt: skip
    """Diagonal of the Hessian of a loss, of its Gauss-Newton matrix, or of the empirical Fisher matrix.

    The last two are exact, and so is the first up to 200 parameters and for networks that are piecewise linear in each
    parameter (`piecewise_linear`). For other networks the Gauss-Newton part is exact and only the rest is sampled;
    where outputs are not one row of at most 256 numbers for each example, all of the first two is.

    Parameters
    ----------
    draws, seed
        Products with random signs where they are needed, at least 2, and their seed.

    The other arguments are those of `hessian`.

    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)
    >>> diagonal(nn.Linear(2, 1, bias=False), (x, y), "mse").values  # of 2 X'X / n
    tensor([1., 4.], dtype=torch.float64)
    """
    if of not in ("hessian", "ggn", "empirical_fisher"):
        raise ValueError(f"of must be 'hessian', 'ggn' or 'empirical_fisher', got {of!r}")
    rng = rng_for(seed, "landscape.diagonal")
    if of == "empirical_fisher":
        return _exactly(*_fisher(*settled(model, data, loss, batch_size, names)))
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    goal = chosen(goal, names)
    if goal.size <= FEW and of == "hessian":
        dense = goal.hessian()
        units = torch.eye(goal.size, dtype=goal.dtype, device=goal.device)
        return _exactly(goal, torch.stack([(dense @ unit)[i] for i, unit in enumerate(units)]).double())
    task = task_of(goal)
    found = None if task is None or not row_outputs(goal, task) else _gauss_newton(goal, task)
    if found is None:
        if of == "ggn" and task is None:
            raise RefusedError("the loss gives one number for a batch; return one for each example")
        operator = goal.hessian() if of == "hessian" or task is None else GaussNewton(goal, task)
        return _sampled(goal, *hutchinson_diagonal(operator, draws, generator=rng))
    values, linear = found
    if of == "ggn" or (linear and task is not None and disagreement(goal, task) is None):
        return _exactly(goal, values)
    assert task is not None
    rest = hutchinson_diagonal(residual(goal, task), draws, generator=rng)
    return _sampled(goal, values + rest.values, rest.errors)


def frobenius_norm(
    model: nn.Module, data: Any, loss: Any, *, draws: int = 64, seed: int = 0, names: Sequence[str] | None = None,
    batch_size: int = 256,
) -> Estimate:  # fmt: skip
    """Frobenius norm of the Hessian, the root of the sum of its squared eigenvalues; see `numerics.frobenius`.

    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)
    >>> round(frobenius_norm(nn.Linear(2, 1, bias=False), (x, y), "mse").value ** 2, 4)  # 1² + 4²
    17.0
    """
    operator = hessian(model, data, loss, names=names, batch_size=batch_size)
    return frobenius(operator, draws, generator=rng_for(seed, "landscape.frobenius_norm"))


def _fisher(goal: Objective, task: Task) -> tuple[Objective, Tensor]:
    return goal, _flat(fisher_squares(goal, task, "entries"))


def _gauss_newton(goal: Objective, task: Task) -> tuple[Tensor, bool] | None:
    """Diagonal of G and whether the graphs say that it is that of H; None for a loss not convex in the outputs."""
    found: list[str] = []

    def watch(outputs: Tensor, targets: Any) -> None:
        if not found and (each := obstacle(goal, task, outputs, targets)) is not None:
            found.append(each)

    try:
        return _flat(ggn_squares(goal, task, "entries", watch)), not found
    except RefusedError:
        return None


def _flat(squares: dict[str, Tensor]) -> Tensor:
    return torch.cat(list(squares.values()))


def _exactly(goal: Objective, values: Tensor) -> Diagonal:
    return Diagonal(values=values, errors=torch.zeros_like(values), exact=True, sizes=_sizes(goal))


def _sampled(goal: Objective, values: Tensor, errors: Tensor) -> Diagonal:
    return Diagonal(values=values, errors=errors, exact=False, sizes=_sizes(goal))


def _sizes(goal: Objective) -> dict[str, int]:
    return {name: p.numel() for name, p in goal.parameters.items()}
