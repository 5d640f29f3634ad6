"""How many eigenvalues of a Hessian are negative, zero and positive: index, nullity and the rest.

Method   the whole matrix while it is small. Beyond: Ritz values below and above zero, which are so many eigenvalues at
         least; and for random starts the bounds that their moments leave to what lies below a point
Source   Parlett (1998), The Symmetric Eigenvalue Problem, section 10.1 (interlacing); `numerics.moment_bounds`
Breaks   a spectrum that crowds around zero, as those of large networks do: few products then tell little about its
         signs, and the intervals say so
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from theorylens.numerics.moment_bounds import mass_below
from theorylens.numerics.objective import Objective
from theorylens.numerics.quadrature import Quadrature, lanczos_quadrature
from theorylens.results import Estimate, Exact, Message, Statistical

from ._curvature import Ends

Floats = NDArray[np.float64]
WHOLE = 400  # parameters up to which the matrix is decomposed: as many products, a second for a small network
DRAWS, STEPS, LEVEL = 4, 60, 0.95
VAGUE = 0.1  # width of an interval, as a share of all eigenvalues, beyond which it says next to nothing


@dataclass(frozen=True, kw_only=True)
class Signs:
    """Numbers of eigenvalues below, around and above zero.

    Attributes
    ----------
    index, nullity, positive
        Counts, exact when the matrix was decomposed. Otherwise the middle of what the moments of random starts leave
        open, with an interval that covers the starts and all of what is open: it is wide where many eigenvalues lie
        near the threshold, and then ``trouble`` says what to do.
    found_negative, found_positive
        Ritz values below and above the threshold: at least so many eigenvalues there are, with no chance involved.
    threshold
        |eigenvalue| up to which one counts as zero.
    products
        Hessian-vector products taken.
    """

    index: Estimate
    nullity: Estimate
    positive: Estimate
    found_negative: int
    found_positive: int
    threshold: float
    products: int

    @property
    def exact(self) -> bool:
        return isinstance(self.index.uncertainty, Exact)


def eigenvalue_signs(
    goal: Objective, threshold: float, *, generator: torch.Generator, exact_up_to: int = WHOLE, ends: Ends | None = None
) -> Signs:
    """Count by decomposing the Hessian of a small objective, from both sides for a large one.

    ``ends`` are its outermost eigenvalues, where they are known: with a smallest one certainly above -threshold there
    is none below.
    """
    if goal.size <= exact_up_to:
        values = dense_spectrum(goal)
        low, high = int((values < -threshold).sum()), int((values > threshold).sum())
        counts = [Estimate(value=float(n), uncertainty=Exact()) for n in (low, goal.size - low - high, high)]
        return Signs(
            index=counts[0], nullity=counts[1], positive=counts[2], found_negative=low, found_positive=high,
            threshold=threshold, products=goal.size,
        )  # fmt: skip
    rule = lanczos_quadrature(goal.hessian(), DRAWS, steps=STEPS, generator=generator)
    low = max(int((nodes < -threshold).sum()) for nodes in rule.nodes)
    high = max(int((nodes > threshold).sum()) for nodes in rule.nodes)
    if ends is not None:  # outermost values were found with their own products
        low = max(low, int(ends.bottom.estimate().upper < -threshold))
        high = max(high, int(ends.top.estimate().lower > threshold))
    below, upto = _bounds(rule, -threshold), _bounds(rule, threshold)
    none_below = ends is not None and ends.bottom.estimate().lower >= -threshold
    none_above = ends is not None and ends.top.estimate().upper <= threshold
    size = goal.size
    return Signs(
        index=_count(below, (low, 0 if none_below else size - high), size),
        nullity=_count(np.stack([upto[0] - below[1], upto[1] - below[0]]), (0, size - low - high), size),
        positive=_count(1 - upto[::-1], (high, 0 if none_above else size - low), size),
        found_negative=low, found_positive=high, threshold=threshold, products=rule.products,
    )  # fmt: skip


def _bounds(rule: Quadrature, at: float) -> Floats:
    """Lower and upper bounds, one column a draw, of the share that lies below ``at``."""
    pairs = []
    for nodes, weights in zip(rule.nodes, rule.weights, strict=True):
        if len(nodes) < min(STEPS, rule.size):  # the Krylov space closed: the measure is this one
            share = float(weights[nodes < at].sum())
            pairs.append((share, share))
        else:
            pairs.append(mass_below(nodes, weights, at))
    return np.array(pairs, dtype=np.float64).T


def _count(bounds: Floats, certain: tuple[int, int], size: int) -> Estimate:
    """Size times the mean of the bounds over draws, with Student's t at either end, within what is certain."""
    reach = float(stats.t.ppf((1 + LEVEL) / 2, bounds.shape[1] - 1)) / math.sqrt(bounds.shape[1])
    lower, upper = size * bounds.mean(1) + size * reach * bounds.std(1, ddof=1) * np.array([-1.0, 1.0])
    low, high = (float(min(max(v, certain[0]), certain[1])) for v in (lower, upper))
    method = Message(
        "landscape.signs",
        "Student's t over {draws} random starts, each with all that its moments leave open, within what Ritz values "
        "make certain",
        draws=bounds.shape[1],
    )
    trouble = None
    if high - low > VAGUE * size:
        text = (
            "between {low:.0f} and {high:.0f} of {size:,} eigenvalues: too many lie next to zero to be told apart with "
            "few products; decompose the matrix (exact_up_to) or look at fewer parameters"
        )
        trouble = Message("landscape.signs.vague", text, low=low, high=high, size=size)
    value = min(max(size * float(bounds.mean()), low), high)
    limits = Statistical(lower=low, upper=high, level=LEVEL, method=method)
    return Estimate(value=value, uncertainty=limits, trouble=trouble)


def dense_spectrum(goal: Objective) -> Floats:
    """All eigenvalues, ascending, by one product for each parameter."""
    hessian = goal.hessian()
    rows = [hessian @ unit for unit in torch.eye(goal.size, dtype=goal.dtype, device=goal.device)]
    dense = torch.stack(rows).double().cpu().numpy()
    return np.asarray(np.linalg.eigvalsh((dense + dense.T) / 2), dtype=np.float64)
