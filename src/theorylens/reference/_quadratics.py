"""Losses that are quadratic in the parameters: curvature is known everywhere and does not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Subject


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearRegression:
    """Least squares at its solution.

    Attributes
    ----------
    subject
        A linear layer without bias at ``solution``, loss ``"mse"``, ``n`` training rows; float64.
    hessian
        2 X'X / n, shape (d, d).
    solution
        The least-squares weights, shape (d,).
    loss
        The mean squared residual there.
    """

    subject: Subject
    hessian: Float[Tensor, "d d"]
    solution: Float[Tensor, " d"]
    loss: float


def linear_regression(n: int = 100, d: int = 5, seed: int = 0, *, noise: float = 0.1) -> LinearRegression:
    """Gaussian inputs, a random linear teacher with Gaussian noise, and the network that solves it.

    >>> known = linear_regression(50, 3)
    >>> abs(float(known.subject.scores("train").losses.mean()) - known.loss) < 1e-12
    True
    """
    if n < d:
        raise ValueError(f"least squares has one solution for n >= d only, got n={n}, d={d}")
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, dtype=torch.float64, generator=rng)
    teacher = torch.randn(d, 1, dtype=torch.float64, generator=rng)
    y = x @ teacher + noise * torch.randn(n, 1, dtype=torch.float64, generator=rng)
    solution = torch.linalg.lstsq(x, y).solution[:, 0]
    net = nn.Linear(d, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        net.weight.copy_(solution[None])
    return LinearRegression(
        subject=Subject(model=net, loss="mse", train=(x, y), name="linear regression"),
        hessian=2 * x.T @ x / n,
        solution=solution,
        loss=float((x @ solution - y[:, 0]).square().mean()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Quadratic:
    """A loss ½ w'Hw whose Hessian has the eigenvalues it was asked for.

    Attributes
    ----------
    subject
        A network that is nothing but its parameter ``w``, at a random point; float64.
    hessian
        H, shape (d, d).
    eigenvalues
        Those of H, descending, shape (d,).
    """

    subject: Subject
    hessian: Float[Tensor, "d d"]
    eigenvalues: Float[Tensor, " d"]


class _Vector(nn.Module):
    """Answers every input with its own parameter."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        return self.w.expand(len(x), -1)


def quadratic(eigenvalues: Sequence[float], seed: int = 0) -> Quadratic:
    """A quadratic bowl or saddle in random orientation; eight equal rows of data, so that batching can be tried."""
    values = torch.tensor(sorted(eigenvalues, reverse=True), dtype=torch.float64)
    if values.ndim != 1 or len(values) == 0 or not bool(torch.isfinite(values).all()):
        raise ValueError(f"a quadratic needs at least one finite eigenvalue, got {list(eigenvalues)}")
    rng = torch.Generator().manual_seed(seed)
    d = len(values)
    axes = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=rng)).Q
    hessian = axes @ values.diag() @ axes.T
    hessian = (hessian + hessian.T) / 2

    def bowl(outputs: Tensor, targets: Tensor) -> Tensor:
        """½ o'Ho of each row; the targets are not used."""
        del targets
        return 0.5 * torch.einsum("ni,ij,nj->n", outputs, hessian, outputs)

    net = _Vector(torch.randn(d, dtype=torch.float64, generator=rng))
    data = torch.zeros(8, 1, dtype=torch.float64), torch.zeros(8, d, dtype=torch.float64)
    subject = Subject(model=net, loss=bowl, train=data, name="quadratic")
    return Quadratic(subject=subject, hessian=hessian, eigenvalues=values)
