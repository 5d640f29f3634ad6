"""The spectrum of an operator as a measure: how much of its dimension lies at which eigenvalue, from few products.

Method   stochastic Lanczos quadrature: the Ritz values from a random start, weighted by the squared first components
Source   Golub, Meurant (2010), Matrices, Moments and Quadrature; Ubaru, Chen, Saad (2017), SIAM J. Matrix Anal. 38:1075
Assumes  a symmetric operator
Breaks   details of the bulk finer than its width over the number of steps are not seen; their moments are right
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from theorylens.results import Estimate, Exact, Message, Statistical, Unknown

from ._krylov import Basis
from .operator import Counted, Operator

Floats = NDArray[np.float64]
REACH = 500.0  # exponents up to which weights are turned; honest traces need a few


@dataclass(frozen=True, kw_only=True, eq=False)
class Quadrature:
    """For each random start a discrete measure whose first 2 m - 1 moments are those of the operator's own.

    Attributes
    ----------
    nodes, weights
        One array per draw; the weights of a draw add up to 1.
    size, products
        Dimension of the operator; products taken.
    known
        Eigenvalues above the nodes that were resolved separately and are counted exactly; see `resolved`. All of
        them where the matrix was small enough to be decomposed.
    """

    nodes: tuple[Floats, ...]
    weights: tuple[Floats, ...]
    size: int
    products: int
    known: Floats

    @property
    def draws(self) -> int:
        return len(self.nodes)

    @property
    def exact(self) -> bool:
        """Whether all eigenvalues are known and nothing was drawn."""
        return len(self.known) == self.size

    def resolved(self, outliers: Floats, above: float) -> Quadrature:
        """The same with the part above ``above`` replaced by eigenvalues that are known: all that lie there.

        What is left of a draw is the measure of its start projected off the outliers' eigenvectors, provided that
        ``above`` lies in a gap of the spectrum that the draw's steps resolve.
        """
        known = np.asarray(outliers, dtype=np.float64)
        if len(known) and not float(known.min()) > above:
            raise ValueError(f"outliers must lie above {above}, the smallest is {known.min()}")
        if len(self.known):
            raise ValueError("outliers were resolved already; start from the first quadrature")
        nodes, weights = [], []
        for x, w in zip(self.nodes, self.weights, strict=True):
            kept = x <= above
            if not kept.any():
                raise ValueError(f"a draw has no node below {above}; take more steps")
            nodes.append(x[kept])
            weights.append(w[kept] / w[kept].sum())
        return replace(self, nodes=tuple(nodes), weights=tuple(weights), known=known)

    def with_total(self, total: float) -> Quadrature:
        """The same with weights turned so that each draw's eigenvalues add up to ``total``, the trace, known exactly.

        A weight w at x becomes w exp(a x), normed, with a of each draw: to first order a linear correction along
        x - mean, which takes the noise of the first moment out of the others. Weights stay positive.
        """
        if self.exact:
            return self
        rest = (total - math.fsum(self.known)) / (self.size - len(self.known))
        pairs = zip(self.nodes, self.weights, strict=True)
        return replace(self, weights=tuple(_tilted(x, w, rest) for x, w in pairs))

    def per_draw(self, f: Callable[[Floats], Floats]) -> Floats:
        """The mean of f over all eigenvalues as each draw has it."""
        rest = self.size - len(self.known)
        taken = math.fsum(np.asarray(f(self.known), dtype=np.float64)) if len(self.known) else 0.0
        each = [rest * float(w @ f(x)) for x, w in zip(self.nodes, self.weights, strict=True)]
        return (np.asarray(each, dtype=np.float64) + taken) / self.size

    def mean(self, f: Callable[[Floats], Floats], *, level: float = 0.95) -> Estimate:
        """Mean of ``f`` over the eigenvalues, with Student's t over the draws.

        The interval covers the draws. For polynomials up to degree 2 m - 1 nothing else is uncertain; for other
        functions the quadrature adds an error that shrinks with the number of steps.
        """
        if self.exact:
            whole = math.fsum(np.asarray(f(self.known), dtype=np.float64)) / self.size
            return Estimate(value=whole, uncertainty=Exact())
        values = self.per_draw(f)
        value = math.fsum(values) / len(values)
        if len(values) < 2:
            text = "one draw has no spread; take at least two"
            return Estimate(value=value, uncertainty=Unknown(why=Message("numerics.quadrature.single", text)))
        half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
        method = Message(
            "numerics.quadrature", "Student's t over {draws} random starts (Lanczos quadrature)", draws=len(values)
        )
        limits = Statistical(lower=value - half, upper=value + half, level=level, method=method)
        return Estimate(value=value, uncertainty=limits)

    def density(self, at: Floats, width: float) -> Floats:
        """Density of the eigenvalues, smoothed by a Gaussian of standard deviation ``width``: shape (draws, len(at)).

        Its integral is 1; the known eigenvalues count 1 / size each.
        """
        if not (math.isfinite(width) and width > 0):
            raise ValueError(f"width must be a positive number, got {width}")
        grid = np.asarray(at, dtype=np.float64)[:, None]

        def smooth(x: Floats) -> Floats:
            return np.asarray(np.exp(-(((grid - x) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi)))

        share = 1 - len(self.known) / self.size
        taken = smooth(self.known).sum(1) / self.size if len(self.known) else np.zeros(len(grid))
        if self.exact:
            return taken[None]
        return np.stack([share * smooth(x) @ w + taken for x, w in zip(self.nodes, self.weights, strict=True)])


def _tilted(nodes: Floats, weights: Floats, mean: float) -> Floats:
    low, high = float(nodes.min()), float(nodes.max())
    if not (math.isfinite(mean) and low < mean < high):
        if len(nodes) == 1 or mean == low == high:
            return weights
        raise ValueError(
            f"the trace leaves a mean of {mean:.3g} to eigenvalues seen between {low:.3g} and {high:.3g}; is it the "
            "trace of this operator?"
        )
    span = high - low
    x = (nodes - mean) / span

    def excess(a: float) -> float:
        turned = weights * np.exp(a * x - np.abs(a * x).max())
        return float(turned @ x / turned.sum())

    reach = 1.0
    while excess(-reach) > 0 or excess(reach) < 0:
        reach *= 2
        if reach > REACH:
            raise ValueError(
                f"a mean of {mean:.3g} is far from what the draws show; is it the trace of this operator?"
            )  # fmt: skip
    a = float(brentq(excess, -reach, reach, xtol=1e-13, rtol=1e-13))
    turned = weights * np.exp(a * x)
    return np.asarray(turned / turned.sum(), dtype=np.float64)


def lanczos_quadrature(
    operator: Operator,
    draws: int,
    *,
    steps: int = 30,
    generator: torch.Generator,
) -> Quadrature:
    """The spectral measure of ``operator`` from ``draws`` random starts of ``steps`` products each.

    Costs ``draws * steps`` products, fewer where a Krylov space closes, and memory for one basis of ``steps`` vectors.

    >>> from theorylens.numerics.operator import DenseOperator
    >>> spectrum = torch.linspace(1.0, 2.0, 50).diag()
    >>> found = lanczos_quadrature(DenseOperator(spectrum), 4, generator=torch.Generator().manual_seed(0))
    >>> abs(found.mean(lambda x: x).value - 1.5) < 0.1
    True
    """
    if draws < 1 or steps < 1:
        raise ValueError(f"draws and steps must be at least 1, got {draws} and {steps}")
    counted = Counted(operator)
    rules = [_rule(counted, min(steps, operator.size), generator) for _ in range(draws)]
    return Quadrature(
        nodes=tuple(nodes for nodes, _ in rules), weights=tuple(weights for _, weights in rules), size=operator.size,
        products=counted.products, known=np.zeros(0),
    )  # fmt: skip


def _rule(operator: Counted, steps: int, generator: torch.Generator) -> tuple[Floats, Floats]:
    """Nodes and weights of one start; a breakdown ends it: the measure of that start is then exact."""
    basis = Basis(operator, generator)
    for _ in range(steps):
        basis.step()
        if basis.closed:
            break
    values, columns = basis.decomposition(0)
    return values, columns[0] ** 2
