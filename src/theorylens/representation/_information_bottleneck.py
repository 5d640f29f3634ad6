"""The information bottleneck: how much must be kept of X to know Y?

Method   min I(X;T) - beta I(T;Y): self-consistent iteration for tables, annealed down from large beta; closed form for
         Gaussians; a variational bound for networks with a noisy representation
Source   Tishby, Pereira, Bialek (1999); Chechik, Globerson, Tishby, Weiss (2005), JMLR 6:165; Alemi et al. (2017), ICLR
Assumes  the joint distribution is known (table, covariance); for the variational form: noise in the representation
Breaks   the iteration finds local optima of a problem that is not convex; for a deterministic network I(X;T) is
         infinite or the entropy of the sample, and there is nothing to trade
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from theorylens.results import Curve, Line, Message

from ._mutual_information import checked_table, discrete_mutual_information

STEPS = 5000
PASSING = 100  # steps at a beta of the annealing that nobody asked for
TOLERANCE = 1e-12  # of the objective, relative to its scale
COARSE = 1.15  # factor between betas of the annealing


@dataclass(frozen=True, kw_only=True, eq=False)
class Bottleneck:
    """A point of the bottleneck at one beta.

    Attributes
    ----------
    beta
        Price of relevance.
    encoder
        p(t | x), shape (x, t).
    compression, relevance
        I(X;T) and I(T;Y) in nats.
    converged
        Whether the iteration settled within its steps.
    """

    beta: float
    encoder: Tensor
    compression: float
    relevance: float
    converged: bool

    @property
    def objective(self) -> float:
        return self.compression - self.beta * self.relevance


def bottleneck_objective(joint: Tensor, encoder: Tensor, beta: float) -> float:
    """I(X;T) - beta I(T;Y) in nats of the encoder p(t | x), shape (x, t), under the table ``joint`` (x, y)."""
    p, q = checked_table(joint), encoder.detach().double()
    if beta < 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    if q.ndim != 2 or len(q) != len(p) or bool((q < 0).any()) or not torch.allclose(q.sum(1), q.new_ones(len(q))):
        raise ValueError(
            f"an encoder has one distribution over t for each of {len(p)} values of x, got {tuple(q.shape)}"
        )
    kept, known = _information(p, q)
    return kept - beta * known


def information_bottleneck(joint: Tensor, betas: Sequence[float]) -> tuple[Bottleneck, ...]:
    """Solutions for each of ``betas``, in their order, for the table ``joint`` (x, y).

    p(t|x) ∝ p(t) exp(-beta KL(p(y|x) || p(y|t))), p(t) and p(y|t) from it, repeated. From the identity at a large beta
    downwards, each solution starting from the last; where the trivial encoder, whose objective is 0, is better it is
    the answer. Annealing avoids most local optima; none of this proves a global one.

    Raises
    ------
    ValueError
        ``joint`` is not a distribution, a beta is negative or not finite, no beta is given.
    """
    p = checked_table(joint)
    p = p[p.sum(1) > 0]
    if not betas or not all(math.isfinite(b) and b >= 0 for b in betas):
        raise ValueError(f"betas must be finite numbers >= 0, got {list(betas)[:5]}")
    wanted = sorted({float(b) for b in betas}, reverse=True)
    top = max(64.0, wanted[0])
    path = [*np.geomspace(top, max(wanted[-1], 0.5), max(2, int(math.log(top / 0.5) / math.log(COARSE)))), *wanted]
    asked = set(wanted)
    encoder, found = torch.eye(len(p), dtype=torch.float64), {}
    for beta in sorted({float(b) for b in path}, reverse=True):
        encoder, converged = _settle(p, encoder, beta, STEPS if beta in asked else PASSING)
        kept, known = _information(p, encoder)
        if kept - beta * known >= 0:
            trivial = torch.zeros_like(encoder)
            trivial[:, 0] = 1
            found[beta] = Bottleneck(beta=beta, encoder=trivial, compression=0.0, relevance=0.0, converged=converged)
        else:
            found[beta] = Bottleneck(beta=beta, encoder=encoder, compression=kept, relevance=known, converged=converged)
    return tuple(found[float(b)] for b in betas)


def bottleneck_curve(solutions: Sequence[Bottleneck], joint: Tensor) -> Curve:
    """Relevance against compression, with the most that can be known, I(X;Y), as the theory line."""
    order = sorted(solutions, key=lambda s: s.compression)
    x = np.array([s.compression for s in order])
    most = discrete_mutual_information(joint)
    return Curve(
        label=Message(
            "bottleneck_curve.label", "Information kept about the label against information kept of the input"
        ),
        lines=(
            Line(x=x, y=np.array([s.relevance for s in order]), name=Message("bottleneck_curve.found", "bottleneck")),
            Line(
                x=x, y=np.minimum(x, most), name=Message("bottleneck_curve.most", "no more is possible"), role="theory"
            ),
        ),
        x_name=Message("bottleneck_curve.x", "I(X;T) in nats"),
        y_name=Message("bottleneck_curve.y", "I(T;Y) in nats"),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianBottleneck:
    """The Gaussian bottleneck at one beta.

    Attributes
    ----------
    critical_betas
        1 / (1 - lambda_i), ascending: below the first, nothing is kept; at each a direction more. Infinite for
        directions of X that say nothing of Y.
    projection
        A, shape (directions kept, x): the optimal T is A X plus unit noise.
    compression, relevance
        I(X;T) and I(T;Y) in nats.
    """

    critical_betas: Tensor
    projection: Tensor
    compression: float
    relevance: float


def gaussian_bottleneck(covariance: Tensor, first: int, beta: float) -> GaussianBottleneck:
    """Closed form for jointly Gaussian X (the first ``first`` coordinates) and Y (the others).

    Raises
    ------
    ValueError
        A covariance that is not symmetric positive definite, a block that is empty, a negative beta.
    """
    s = covariance.detach().double()
    if s.ndim != 2 or len(s) != s.shape[1] or not torch.allclose(s, s.T) or not 1 <= first < len(s):
        raise ValueError(f"needed is a symmetric covariance that splits after {first}, got {tuple(s.shape)}")
    if not (beta >= 0 and math.isfinite(beta)):
        raise ValueError(f"beta must be a finite number >= 0, got {beta}")
    if float(torch.linalg.eigvalsh(s)[0]) <= 0:
        raise ValueError("the covariance is not positive definite; drop coordinates that are redundant")
    sx, sxy, sy = s[:first, :first], s[:first, first:], s[first:, first:]
    given = sx - sxy @ torch.linalg.solve(sy, sxy.T)
    factor = torch.linalg.cholesky(sx)
    inner = torch.linalg.solve_triangular(factor, given, upper=False)
    inner = torch.linalg.solve_triangular(factor, inner.T, upper=False)
    values, vectors = torch.linalg.eigh((inner + inner.T) / 2)  # ascending: lambda of Σ(x|y) Σx^-1, in [0, 1]
    values = values.clamp(0, 1)
    critical = torch.where(values < 1 - 1e-12, 1 / (1 - values), torch.inf)
    kept = beta > critical
    used = values[kept]
    weights = ((beta * (1 - used) - 1) / used).sqrt()
    # In whitened coordinates a left eigenvector v of Σ(x|y) Σx^-1 has v' Σx v = 1.
    directions = torch.linalg.solve_triangular(factor.T, vectors[:, kept], upper=True)
    compression = float(((beta - 1) * (1 - used) / used).log().sum()) / 2
    relevance = compression - float((beta * (1 - used)).log().sum()) / 2
    return GaussianBottleneck(
        critical_betas=critical, projection=weights[:, None] * directions.T, compression=compression,
        relevance=relevance,
    )  # fmt: skip


class Variational(NamedTuple):
    """Parts of the variational bottleneck; all tensors with a gradient, nats per example.

    ``rate`` bounds I(X;Z) from above, and the entropy of the label less ``cross_entropy`` bounds I(Z;Y) from below.
    """

    objective: Tensor
    cross_entropy: Tensor
    rate: Tensor


def variational_bottleneck(
    encoder: Callable[[Tensor], tuple[Tensor, Tensor]],
    decoder: Callable[[Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    beta: float,
    *,
    rng: torch.Generator,
    draws: int = 1,
) -> Variational:
    """E[-ln q(y|z)] + beta KL(p(z|x) || N(0, I)) for z ~ N(mean, exp(log_variance)), averaged over ``draws`` of z.

    ``encoder(inputs)`` gives the mean and log-variance, (n, d) each; ``decoder(z)`` the logits, (n, classes). Here beta
    is the price of the rate: the beta of `information_bottleneck` is its inverse.
    """
    if beta < 0 or draws < 1:
        raise ValueError(f"needed are beta >= 0 and draws >= 1, got {beta} and {draws}")
    mean, log_variance = encoder(inputs)
    if mean.shape != log_variance.shape or mean.ndim != 2 or len(mean) != len(labels):
        raise ValueError(
            f"the encoder must give mean and log-variance (n, d) for {len(labels)} labels, got {tuple(mean.shape)}"
            f" and {tuple(log_variance.shape)}"
        )
    rate = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
    losses = []
    for _ in range(draws):
        noise = torch.randn(mean.shape, generator=rng, dtype=mean.dtype).to(mean.device)
        losses.append(torch.nn.functional.cross_entropy(decoder(mean + (log_variance / 2).exp() * noise), labels))
    cross_entropy = torch.stack(losses).mean()
    return Variational(cross_entropy + beta * rate, cross_entropy, rate)


def _information(p: Tensor, encoder: Tensor) -> tuple[float, float]:
    return discrete_mutual_information(p.sum(1, keepdim=True) * encoder), discrete_mutual_information(encoder.T @ p)


def _settle(p: Tensor, encoder: Tensor, beta: float, steps: int) -> tuple[Tensor, bool]:
    px = p.sum(1)
    given = p / px[:, None]
    own = -torch.special.entr(given).sum(1, keepdim=True)
    last = math.inf
    for step in range(steps):
        pt = px @ encoder
        used = pt > 1e-300
        decoded = torch.where(used[:, None], (encoder.T @ p) / pt.clamp(min=1e-300)[:, None], 1.0 / p.shape[1])
        # KL(p(y|x) || p(y|t)); where y is possible given x and not given t it is infinite.
        cross = given @ decoded.clamp(min=1e-300).log().T
        logits = pt.clamp(min=1e-300).log() - beta * (own - cross)
        logits[:, ~used] = -math.inf
        encoder = torch.softmax(logits, dim=1)
        if step % 10 == 9:
            kept, known = _information(p, encoder)
            if abs(kept - beta * known - last) <= TOLERANCE * (1 + beta):
                return encoder, True
            last = kept - beta * known
    return encoder, False
