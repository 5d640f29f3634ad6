"""The whole spectrum of the Hessian of a network: a bulk near zero as a density, and what stands out of it one by one.

Method   Lanczos for the largest eigenvalues, stochastic Lanczos quadrature for the rest
Source   Ghorbani, Krishnan, Xiao (2019), ICML; Papyan (2019), ICML (one outlier fewer than classes); Golub, Meurant
         (2010)
Assumes  a loss that is twice differentiable at the parameters
Breaks   where no gap sets outliers apart everything is bulk, and few draws then give a wide interval
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from theorylens.core import RefusedError, Task, objective, rng_for
from theorylens.numerics.objective import Objective
from theorylens.numerics.quadrature import Quadrature, lanczos_quadrature
from theorylens.results import Estimate, Exact, Message, Statistical, Unknown

from ._curvature import Ends, both_ends
from ._flatness import FLAT, curvature_summary, share_entropy

Floats = NDArray[np.float64]
GAP = 1.5  # an eigenvalue this many times the next one stands apart, as in TL301
STEPS = 30  # products per draw: the density is then resolved to a few per cent of its width
DRAWS = 4
NEAR = 1e-9  # weight of a node too small to be anything but rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectralDensity:
    """Distribution of the eigenvalues of a Hessian.

    Attributes
    ----------
    ends
        Largest eigenvalues and the smallest, with residuals.
    outliers
        How many of the largest stand apart from the rest: the largest gap, if it is a factor of at least 1.5.
    quadrature
        The measure, outliers counted exactly.
    products
        Hessian-vector products in all.
    """

    ends: Ends
    outliers: int
    quadrature: Quadrature
    products: int

    @property
    def trace(self) -> Estimate:
        return self._total(lambda x: x)

    @property
    def frobenius_squared(self) -> Estimate:
        return self._total(np.square)

    @property
    def effective_rank(self) -> Estimate:
        """exp(entropy) of |eigenvalue| / sum |eigenvalue|, computed draw by draw."""
        if self.quadrature.exact:
            whole = curvature_summary(self.quadrature.known)
            return Estimate(value=whole.effective_rank, uncertainty=Exact())
        return _student(np.array([math.exp(h) for h in self._each(share_entropy)]), self.quadrature)

    @property
    def flat_share(self) -> Estimate:
        """Share of directions with |eigenvalue| up to a thousandth of the largest; the quadrature blurs it."""
        bound = FLAT * max(abs(float(self.ends.top.values[0])), abs(float(self.ends.bottom.values[0])))
        return self.quadrature.mean(lambda x: (np.abs(x) <= bound).astype(np.float64))

    def log_volume(self, damping: float) -> Estimate:
        """Half the sum of log(max(eigenvalue, 0) + damping), as in `curvature_summary`."""
        if not (math.isfinite(damping) and damping > 0):
            raise ValueError(f"damping must be a positive number, got {damping}")
        return self._total(lambda x: np.asarray(np.log(np.maximum(x, 0.0) + damping) / 2))

    def density(self, at: Floats, width: float) -> tuple[Floats, Floats, Floats]:
        """Density smoothed with ``width`` at the points ``at``: mean over the draws and a pointwise 95 % band."""
        each = self.quadrature.density(at, width)
        mean = each.mean(0)
        if len(each) < 2:
            return mean, mean, mean
        half = stats.t.ppf(0.975, len(each) - 1) * each.std(0, ddof=1) / math.sqrt(len(each))
        return mean, np.maximum(mean - half, 0.0), mean + half

    def _total(self, f: Callable[[Floats], Floats]) -> Estimate:
        found, n = self.quadrature.mean(f), self.quadrature.size
        limits = found.uncertainty
        if isinstance(limits, Statistical):
            limits = Statistical(
                lower=n * limits.lower, upper=n * limits.upper, level=limits.level, method=limits.method
            )
        return Estimate(value=n * found.value, uncertainty=limits)

    def _each(self, f: Callable[[Floats, Floats], float]) -> list[float]:
        """``f`` of sizes and how many directions share each, for every draw."""
        rule = self.quadrature
        rest = rule.size - len(rule.known)
        return [
            f(np.abs(np.concatenate([rule.known, x])), np.concatenate([np.ones(len(rule.known)), rest * w]))
            for x, w in zip(rule.nodes, rule.weights, strict=True)
        ]


def spectral_density(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    k: int = 10,
    draws: int = DRAWS,
    steps: int = STEPS,
    seed: int = 0,
    batch_size: int = 256,
) -> SpectralDensity:
    """The density of the Hessian's eigenvalues, outliers among the ``k`` largest resolved separately.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    k
        Largest eigenvalues to look at for outliers; about the number of classes.
    draws, steps
        Random starts, and products for each; intervals are Student's t over the draws. With no more parameters than
        products the matrix is decomposed and everything is exact.

    Errors are those of `eigenvalues`.
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    generator = rng_for(seed, "landscape.spectral_density")
    ends = both_ends(goal, k=k, tolerance=1e-2, generator=generator)
    return goal_density(goal, ends, draws=draws, steps=steps, generator=generator)


def goal_density(goal: Objective, ends: Ends, *, draws: int, steps: int, generator: torch.Generator) -> SpectralDensity:
    """`spectral_density` of an objective that is there already, with eigenvalues that are known."""
    if not math.isfinite(goal.value):
        raise RefusedError(f"the loss is {goal.value}, so it has no curvature; load weights from before it diverged")
    found = (
        _decomposed(goal)
        if goal.size <= draws * steps
        else lanczos_quadrature(goal.hessian(), draws, steps=steps, generator=generator)
    )
    products = found.products + ends.top.products
    values = ends.top.values
    n = outliers(values) if bool(ends.top.converged.all()) else 0
    if n > 0 and not found.exact:
        middle = float(values[n - 1] + max(values[n], 0.0)) / 2
        if all(_resolved(x, w, middle, n) for x, w in zip(found.nodes, found.weights, strict=True)):
            found = found.resolved(values[:n], middle)
    return SpectralDensity(ends=ends, outliers=n, quadrature=found, products=products)


def _decomposed(goal: Objective) -> Quadrature:
    """All eigenvalues, where a product for each parameter costs no more than the draws would."""
    hessian = goal.hessian()
    rows = [hessian @ unit for unit in torch.eye(goal.size, dtype=goal.dtype, device=goal.device)]
    dense = torch.stack(rows).double().cpu().numpy()
    values = np.linalg.eigvalsh((dense + dense.T) / 2)[::-1].copy()
    return Quadrature(nodes=(), weights=(), size=goal.size, products=goal.size, known=values)


def outliers(values: Floats) -> int:
    """How many of the largest eigenvalues (descending) stand apart from the rest; 0 when no gap is wide enough."""
    positive = int((values > 0).sum())
    if positive < 2:
        return 0
    # The last positive one may be followed by anything: its gap is not a ratio.
    ratios = values[: positive - 1] / values[1:positive]
    best = int(np.argmax(ratios))
    return best + 1 if ratios[best] >= GAP else 0


def _resolved(nodes: Floats, weights: Floats, above: float, n: int) -> bool:
    """Whether a draw has no more nodes above the gap than there are eigenvalues, and some below it."""
    return int(((nodes > above) & (weights > NEAR)).sum()) <= n and bool((nodes <= above).any())


def _student(values: Floats, rule: Quadrature) -> Estimate:
    value = math.fsum(values) / len(values)
    if len(values) < 2:
        text = "one draw has no spread; take at least two"
        return Estimate(value=value, uncertainty=Unknown(why=Message("landscape.density.single", text)))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    text = "Student's t over {draws} random starts (Lanczos quadrature)"
    method = Message("landscape.density.draws", text, draws=rule.draws)
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - half, upper=value + half, level=0.95, method=method)
    )
