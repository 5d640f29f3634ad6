"""Has a run converged? What its record says: rate, gradient against excess loss, drift or oscillation.

Method   slope of ln(L - L*) over the last half of the record with an interval for correlated noise; the ratio
         |∇L|² / (2 (L - L*)) of Polyak and Łojasiewicz; mean inner product of successive stochastic gradients
Source   Karimi, Nutini, Schmidt (2016), ECML PKDD; Pflug (1990), Non-asymptotic confidence bounds for stochastic
         approximation algorithms with constant step size, Monatsh. Math. 110:297; Chee, Toulis (2018), AISTATS
Assumes  for the inner products: gradients of independent batches at one learning rate
Breaks   no record shows that a minimum was reached: an absolute threshold on the gradient is never met by SGD and is
         met by a plateau
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theorylens.results import Estimate, Message, Statistical

from ._loss_slope import LEAST, Floats, last_part, loss_slope

SHARE = 0.5  # the last half of the record
BLOCKS = 8  # of successive products; each must be longer than their correlation
ENOUGH = 16  # products: two in a block


class State(Enum):
    """What the end of a run does."""

    DESCENDING = "descending"
    OSCILLATING = "oscillating"
    RISING = "rising"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """Evidence about the end of a run; None for what was not given.

    Attributes
    ----------
    state
        From the inner products where they were given and decide, else from the slope of the loss.
    rate
        Slope of ln(L - L*) per step over the last half.
    power
        Exponent of L - L* as a power of the step over the last half.
    product
        Mean inner product of successive gradients.
    pl_constant
        Smallest |∇L|² / (2 (L - L*)) of the record: the largest µ for which the Polyak-Łojasiewicz inequality held
        along it.
    """

    state: State
    rate: Estimate
    power: Estimate
    product: Estimate | None
    pl_constant: float | None


def convergence_diagnostic(
    losses: Floats | Sequence[float],
    *,
    steps: NDArray[np.int64] | Sequence[int] | None = None,
    gradient_norms: Floats | Sequence[float] | None = None,
    products: Floats | Sequence[float] | None = None,
    optimum: float = 0.0,
) -> Convergence:
    """What a record says about the convergence of its run.

    Parameters
    ----------
    losses
        Shape (n,), above ``optimum``.
    steps
        Of the records; 1, 2, ... n when None.
    gradient_norms
        |∇L| over all data at the same records.
    products
        Inner products of the gradients of successive steps, from the last, stationary-looking part of training.
    optimum
        L*, the infimum of the loss: 0 for a loss that can be fitted exactly.

    Raises
    ------
    ValueError
        Fewer than 8 records in the last half, shapes that do not fit, losses not above ``optimum``.

    >>> t = np.arange(1, 101)
    >>> convergence_diagnostic(0.9**t).state
    <State.DESCENDING: 'descending'>
    """
    y = np.asarray(losses, dtype=np.float64)
    x = np.arange(1, len(y) + 1) if steps is None else np.asarray(steps, dtype=np.int64)
    if x.shape != y.shape or y.ndim != 1:
        raise ValueError(f"steps and losses must be two lists of one length, got {x.shape} and {y.shape}")
    if not (np.isfinite(y).all() and (y > optimum).all()):
        at = int(np.flatnonzero(~(np.isfinite(y) & (y > optimum)))[0])
        raise ValueError(f"all losses must be numbers above the optimum {optimum:g}; record {at} is {y[at]:g}")
    late, excess = last_part(x, y - optimum, SHARE) if len(x) else (y, y)
    if len(late) < LEAST:
        raise ValueError(f"needed are {LEAST} records in the last half of the steps, there are {len(late)}")
    rate = loss_slope(late, excess, scale="log-linear").estimate
    product = None if products is None else mean_product(products)
    return Convergence(
        state=state(rate, product),
        rate=rate,
        power=loss_slope(late, excess).estimate,
        product=product,
        pl_constant=None if gradient_norms is None else float(pl_ratio(gradient_norms, y, optimum=optimum).min()),
    )


def state(rate: Estimate, product: Estimate | None) -> State:
    """Drift or oscillation: inner products decide when their interval excludes 0, else the slope of the loss."""
    if product is not None and product.upper < 0:
        return State.OSCILLATING
    if (product is not None and product.lower > 0) or rate.upper < 0:
        return State.DESCENDING
    return State.RISING if rate.lower > 0 else State.UNDECIDED


def pl_ratio(
    gradient_norms: Floats | Sequence[float], losses: Floats | Sequence[float], *, optimum: float = 0.0
) -> Floats:
    """|∇L|² / (2 (L - L*)) at each record: at least µ where the Polyak-Łojasiewicz inequality holds with µ.

    Raises
    ------
    ValueError
        Different lengths, negative norms, losses not above ``optimum``.
    """
    g, y = np.asarray(gradient_norms, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if g.shape != y.shape:
        raise ValueError(f"a gradient norm is needed for each loss, got {g.shape} and {y.shape}")
    if not (np.isfinite(g).all() and (g >= 0).all()):
        raise ValueError("gradient norms must be numbers, zero or more")
    if not (y > optimum).all():
        raise ValueError(f"all losses must lie above the optimum {optimum:g}; give a smaller optimum=")
    return np.asarray(g**2 / (2 * (y - optimum)))


def mean_product(products: Floats | Sequence[float], *, level: float = 0.95) -> Estimate:
    """Mean inner product of successive gradients, with an interval from the means of blocks.

    Above 0 successive steps go the same way: the run still drifts. Below 0 each step undoes the one before: at this
    learning rate it oscillates about a point, and only a smaller one gets closer.

    Raises
    ------
    ValueError
        Fewer than 16 products, or some that are not finite.
    """
    values = np.asarray(products, dtype=np.float64)
    if values.ndim != 1 or len(values) < ENOUGH:
        raise ValueError(f"an interval needs at least {ENOUGH} products, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {len(values)} products are not finite")
    length = len(values) // BLOCKS
    means = values[len(values) - BLOCKS * length :].reshape(BLOCKS, length).mean(1)
    half = float(stats.t.ppf((1 + level) / 2, BLOCKS - 1) * means.std(ddof=1) / math.sqrt(BLOCKS))
    middle = float(means.mean())
    method = Message("dynamics.blocks", "Student's t over {blocks} block means", blocks=BLOCKS)
    interval = Statistical(lower=middle - half, upper=middle + half, level=level, method=method)
    return Estimate(value=middle, uncertainty=interval)
