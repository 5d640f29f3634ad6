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
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from theorylens.core import RefusedError, Task, objective, rng_for
from theorylens.numerics.objective import Objective
from theorylens.numerics.operator import Operator
from theorylens.numerics.quadrature import Quadrature, lanczos_quadrature
from theorylens.results import Estimate, Exact, Message, Statistical, Unknown

from ._curvature import BATCH, Ends, both_ends, operator_ends
from ._exact_trace import ggn_squares, summed
from ._flatness import FLAT, curvature_summary, share_entropy
from ._gauss_newton import task_of
from ._piecewise import linearity
from ._trace import bends_at_once, row_outputs

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
    drawn
        The measure before outliers were taken out and the trace was put in.
    products
        Hessian-vector products in all.
    known_trace
        The trace, where it was given: the measure then has it exactly.
    """

    ends: Ends
    outliers: int
    quadrature: Quadrature
    drawn: Quadrature
    products: int
    known_trace: float | None = None

    @property
    def trace(self) -> Estimate:
        if self.known_trace is not None:
            return Estimate(value=self.known_trace, uncertainty=Exact())
        return self._total(lambda x: x)

    def without(self, k: int) -> Quadrature | None:
        """The measure with the ``k`` largest eigenvalues counted exactly; None where the draws do not resolve them."""
        values = self.ends.top.values
        if self.drawn.exact or k == 0:
            return self._settled(self.drawn)
        if not (k < len(values) and values[k - 1] > 0 and bool(self.ends.top.converged[:k].all())):
            return None
        middle = float(values[k - 1] + max(values[k], 0.0)) / 2
        pairs = zip(self.drawn.nodes, self.drawn.weights, strict=True)
        if not (middle < values[k - 1] and all(_resolved(x, w, middle, k) for x, w in pairs)):
            return None
        return self._settled(self.drawn.resolved(values[:k], middle))

    def _settled(self, rule: Quadrature) -> Quadrature:
        return rule if self.known_trace is None else rule.with_total(self.known_trace)

    @property
    def frobenius_squared(self) -> Estimate:
        return self._total(np.square)

    @property
    def effective_rank(self) -> Estimate:
        """exp(entropy) of |eigenvalue| / sum |eigenvalue|; the entropy is averaged over the draws."""
        if self.quadrature.exact:
            whole = curvature_summary(self.quadrature.known)
            return Estimate(value=whole.effective_rank, uncertainty=Exact())
        entropy = _student(np.array(self._each(share_entropy)), self.quadrature)
        limits = entropy.uncertainty
        if isinstance(limits, Statistical):
            lower, upper = max(1.0, math.exp(limits.lower)), min(float(self.quadrature.size), math.exp(limits.upper))
            limits = Statistical(lower=lower, upper=upper, level=limits.level, method=limits.method)
        return Estimate(value=math.exp(entropy.value), uncertainty=limits)

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
    trace: Estimate | float | Literal["auto"] | None = "auto",
    seed: int = 0,
    batch_size: int = BATCH,
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
    trace
        The trace, which the measure is then corrected to have: that narrows the intervals of the other numbers.
        ``"auto"`` finds it where it costs as many backward passes as there are outputs (`piecewise_linear`); None
        leaves the draws as they are.

    Errors are those of `eigenvalues`; a trace that is an estimate, or not that of this Hessian, is refused.
    """
    if isinstance(trace, Estimate):
        if not isinstance(trace.uncertainty, Exact):
            raise ValueError("trace must be exact, got an estimate with an interval; leave it out")
        trace = trace.value
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    if trace == "auto":
        trace = known_trace(goal)
    generator = rng_for(seed, "landscape.spectral_density")
    ends = both_ends(goal, k=k, tolerance=1e-2, generator=generator)
    return goal_density(goal, ends, draws=draws, steps=steps, trace=trace, generator=generator)


def operator_density(
    operator: Operator, *, k: int = 10, draws: int = DRAWS, steps: int = STEPS, trace: float | None = None,
    seed: int = 0,
) -> SpectralDensity:  # fmt: skip
    """`spectral_density` of any symmetric operator: a Gauss-Newton matrix, the Hessian less it, a layer's block.

    >>> from theorylens.numerics.operator import DenseOperator
    >>> found = operator_density(DenseOperator(torch.diag(torch.tensor([5.0, 0.2, 0.1]))), k=2)
    >>> found.outliers, round(found.trace.value, 5)
    (1, 5.3)
    """
    generator = rng_for(seed, "landscape.operator_density")
    ends = operator_ends(operator, k=k, tolerance=1e-2, symmetric=False, generator=generator)
    return _density(operator, ends, draws=draws, steps=steps, trace=trace, generator=generator)


def known_trace(goal: Objective) -> float | None:
    """The trace of the Hessian where backward passes alone give it exactly, else None."""
    task = task_of(goal)
    if task is None or not math.isfinite(goal.value) or not row_outputs(goal, task):
        return None
    try:
        found = bends_at_once(goal, task) is None and linearity(goal, task).holds
        return summed(ggn_squares(goal, task, "norm")) if found else None
    except RefusedError:  # a loss that is not convex in the outputs
        return None


def goal_density(
    goal: Objective, ends: Ends, *, draws: int, steps: int, trace: float | None = None, generator: torch.Generator
) -> SpectralDensity:
    """`spectral_density` of an objective that is there already, with eigenvalues that are known."""
    if not math.isfinite(goal.value):
        raise RefusedError(f"the loss is {goal.value}, so it has no curvature; load weights from before it diverged")
    return _density(goal.hessian(), ends, draws=draws, steps=steps, trace=trace, generator=generator)


def _density(
    operator: Operator, ends: Ends, *, draws: int, steps: int, trace: float | None, generator: torch.Generator
) -> SpectralDensity:
    drawn = (
        _decomposed(operator)
        if operator.size <= draws * steps
        else lanczos_quadrature(operator, draws, steps=steps, generator=generator)
    )
    values = ends.top.values
    n = outliers(values) if bool(ends.top.converged.all()) else 0
    found = SpectralDensity(
        ends=ends, outliers=n, quadrature=drawn, drawn=drawn, products=drawn.products + ends.top.products,
        known_trace=None if drawn.exact else trace,
    )  # fmt: skip
    rule = found.without(n) if n else None
    rule = rule if rule is not None else found.without(0)
    assert rule is not None
    return replace(found, quadrature=rule)


def _decomposed(operator: Operator) -> Quadrature:
    """All eigenvalues, where a product for each dimension costs no more than the draws would."""
    size = operator.size
    rows = [operator.matvec(unit) for unit in torch.eye(size, dtype=operator.dtype, device=operator.device)]
    dense = torch.stack(rows).detach().double().cpu().numpy()
    values = np.linalg.eigvalsh((dense + dense.T) / 2)[::-1].copy()
    return Quadrature(nodes=(), weights=(), size=size, products=size, known=values)


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
