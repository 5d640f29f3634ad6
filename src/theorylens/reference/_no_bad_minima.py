"""Losses without bad minima: every local minimum is global, and what the critical points are is known in closed form.

Source   Baldi, Hornik (1989), Neural networks and principal component analysis, Neural Netw. 2:53 (two linear layers);
         Kawaguchi (2016), Deep learning without poor local minima, NeurIPS; Achour, Malgouyres, Gerchinovitz (2024),
         The loss landscape of deep linear neural networks, JMLR (deeper ones); Ge, Lee, Ma (2016), Matrix completion
         has no spurious local minimum, NeurIPS; Sun, Qu, Wright (2018), A geometric analysis of phase retrieval, Found.
         Comput. Math. 18:1131
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Subject, Task

MOST = 16  # modes whose subsets are listed: 65,536 values


@dataclass(frozen=True, kw_only=True, eq=False)
class NoBadMinima:
    """A loss of which it is known what its critical points are.

    Attributes
    ----------
    subject
        The network at a random start, with its data and loss; float64.
    minimum
        The loss at every local minimum.
    critical_values
        Ascending, the losses that critical points can have; None when no closed form gives them.
    strict
        Whether every critical point that is no global minimum has a direction of negative curvature.
    """

    subject: Subject
    minimum: float
    critical_values: tuple[float, ...] | None
    strict: bool

    def distance(self, loss: float) -> float:
        """How far a loss is from the nearest that a critical point can have."""
        if self.critical_values is None:
            raise ValueError("the critical values of this loss are not known in closed form; compare with minimum")
        return min(abs(loss - value) for value in self.critical_values)


def linear_network(
    widths: Sequence[int], n: int = 60, seed: int = 0, *, noise: float = 0.5, scale: float = 1.0
) -> NoBadMinima:
    """Least squares by a network of linear layers: inputs, hidden widths, outputs as in ``widths``.

    With S = Syx Sxx^-1 Sxy (moments over the examples) the loss |y - Wx|² of a critical point is tr Syy less the sum of
    some eigenvalues of S, at most as many as the narrowest layer is wide; the largest make the global minimum. Two
    layers have strict saddles only; deeper ones have others too, the origin among them.

    Parameters
    ----------
    n, noise
        Examples, and the standard deviation of Gaussian noise on the outputs of a random teacher.
    seed, scale
        Of data and start; standard deviation of the initial weights.

    >>> known = linear_network([4, 2, 3])
    >>> known.critical_values[0] == known.minimum, len(known.critical_values), known.strict
    (True, 7, True)
    """
    if len(widths) < 3 or min(widths) < 1:
        raise ValueError(f"widths need inputs, at least one hidden layer and outputs, each at least 1, got {widths}")
    if n <= widths[0]:
        raise ValueError(f"the moments of {widths[0]} inputs need more than as many examples, got n={n}")
    rng = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=rng)

    x, teacher = drawn(n, widths[0]), drawn(widths[0], widths[-1])
    y = x @ teacher + noise * drawn(n, widths[-1])
    net = nn.Sequential(*(nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in pairwise(widths)))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(scale * drawn(*p.shape))
    cross = y.T @ x / n
    explained = torch.linalg.eigvalsh(cross @ torch.linalg.solve(x.T @ x / n, cross.T)).clamp(min=0).tolist()
    total = float(y.square().sum() / n)
    values = _less(total, explained, min(widths))
    subject = Subject(model=net, task=Task(loss=_squares), train=(x, y), name="linear network")
    return NoBadMinima(subject=subject, minimum=values[0], critical_values=values, strict=len(widths) == 3)


def matrix_factorisation(
    singular_values: Sequence[float], rank: int, seed: int = 0, *, symmetric: bool = False, scale: float = 1.0
) -> NoBadMinima:
    """|UV' - M|² / 2 for a square matrix M with given singular values, or |UU' - M|² / 4 for a symmetric one.

    At the origin the Hessian of the first has the eigenvalues plus and minus the singular values, ``rank`` times each;
    that of the second has minus the eigenvalues of M.

    Parameters
    ----------
    singular_values
        Of M; its eigenvalues when ``symmetric``, all positive.
    rank
        Columns of U and V.
    seed, scale
        Of M and the start; standard deviation of its entries.

    >>> known = matrix_factorisation([3.0, 1.0], 1)
    >>> [round(v, 12) for v in known.critical_values]
    [0.5, 4.5, 5.0]
    """
    values = torch.tensor(singular_values, dtype=torch.float64)
    d = len(values)
    if not d or not bool((values > 0).all()) or rank < 1:
        raise ValueError(f"needed are positive singular values and rank >= 1, got {list(singular_values)} and {rank}")
    rng = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=rng)

    left, right = (torch.linalg.qr(drawn(d, d)).Q for _ in range(2))
    matrix = left @ values.diag() @ (left if symmetric else right).T
    factors = [scale * drawn(d, rank)] + ([] if symmetric else [scale * drawn(d, rank)])
    weight = 0.25 if symmetric else 0.5

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return weight * (outputs - targets).square().sum(1)

    squares = [weight * v**2 for v in values.tolist()]
    found = _less(sum(squares), squares, rank)
    subject = Subject(
        model=_Factors(factors), task=Task(loss=loss, mean=False), name="matrix factorisation",
        train=(torch.eye(d, dtype=torch.float64), matrix),
    )  # fmt: skip
    return NoBadMinima(subject=subject, minimum=found[0], critical_values=found, strict=True)


def phase_retrieval(d: int, n: int | None = None, seed: int = 0, *, scale: float = 1.0) -> NoBadMinima:
    """Mean ((a'w)² - (a'z)²)² / 4 over Gaussian a: the signs of the measurements are lost, so +z and -z both solve it.

    The minimum is 0. With many measurements (by default 20 d log d) there are no other minima, with high probability
    over them; at infinitely many the other critical points are the origin (a maximum) and the sphere |w|² = |z|² / 3
    across z (strict saddles).

    >>> phase_retrieval(4).minimum
    0.0
    """
    if d < 2:
        raise ValueError(f"d must be at least 2, got {d}")
    rng = torch.Generator().manual_seed(seed)
    rows = n if n is not None else int(20 * d * torch.tensor(float(d)).log()) + 1

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=rng)

    a, signal, start = drawn(rows, d), drawn(d, 1), scale * drawn(1, d)
    net = nn.Linear(d, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        net.weight.copy_(start)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.square() - targets).square()[:, 0] / 4

    subject = Subject(model=net, task=Task(loss=loss), train=(a, (a @ signal).square()), name="phase retrieval")
    return NoBadMinima(subject=subject, minimum=0.0, critical_values=None, strict=True)


class _Factors(nn.Module):
    """The rows of UV', or of UU'."""

    def __init__(self, factors: Sequence[Tensor]) -> None:
        super().__init__()
        self.factors = nn.ParameterList(nn.Parameter(f) for f in factors)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        first, last = self.factors[0], self.factors[-1]
        product: Tensor = x @ first @ last.T
        return product


def _squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(1)


def _less(total: float, modes: Sequence[float], most: int) -> tuple[float, ...]:
    """``total`` less every sum of at most ``most`` of the modes, ascending."""
    if len(modes) > MOST:
        raise ValueError(f"the subsets of {len(modes)} modes are too many to list; use at most {MOST}")
    sums = {sum(chosen) for k in range(min(most, len(modes)) + 1) for chosen in combinations(modes, k)}
    return tuple(sorted(total - s for s in sums))
