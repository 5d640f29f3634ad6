"""Recursive PAC-Bayes: learn a posterior on all the data in steps, each with the last as its prior, and bound the last.

The data are divided into S_1, ..., S_T. A distribution Q_1 over networks comes from S_1, Q_t from S_1, ..., S_t with
Q_{t-1} as its prior. For any g_t in (0, 1]

    E_{Q_t} L = E_{Q_t}[L - g_t E_{Q_{t-1}} L] + g_t E_{Q_{t-1}} L.

The last term is g_t times what the step before bounds. The first is the mean of an excess loss under the pair Q_t x
Q_{t-1}; its prior Q_{t-1} x Q_{t-1} has not seen S_t, ..., S_T, so it is bounded (`excess_bound`) on all n_t of these
for every Q_t at once, at the price KL(Q_t || Q_{t-1}); that Q_t has seen S_t does not matter. Hence

    B_1 = bound on E_{Q_1} L from S_2, ..., S_T (or from all, with a divergence from a prior that saw nothing)
    B_t = excess_bound_t + g_t B_{t-1},   each at delta / T, all true at once with probability at least 1 - delta.

What makes it valid: Q_{t-1}, g_t and the form of the excess bound are fixed without S_t, ..., S_T.

Source   Wu, Zhang, Chérief-Abdellatif, Seldin (2024), NeurIPS; derived again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from theorylens.numerics.concentration import chernoff_kl

from ._excess import ExcessForm, excess_bound
from ._pac_bayes import pac_bayes_kl


@dataclass(frozen=True, kw_only=True)
class RecursiveStep:
    """What one step measured on the ``n`` examples that its prior has not seen.

    Attributes
    ----------
    tails
        Shares with excess loss >= 0, >= 1 - gamma, >= 1 (see `excess_bound`); upper bounds when sampled.
    divergence
        KL(Q_t || Q_{t-1}) in nats.
    gamma
        Weight of the step before, in (0, 1].
    """

    tails: tuple[float, float, float]
    divergence: float
    n: int
    gamma: float = 0.5


@dataclass(frozen=True, kw_only=True)
class RecursiveBound:
    """``bounds[t]`` on the risk of step t + 1, all true at once; ``excesses[t]`` what step t + 2 may add to gamma times
    the bound before (negative: it takes away).
    """

    bounds: tuple[float, ...]
    excesses: tuple[float, ...]

    @property
    def bound(self) -> float:
        return self.bounds[-1]


def pac_bayes_recursive(
    risk: float, n: int, steps: Sequence[RecursiveStep], delta: float, *, divergence: float | None = None,
    form: ExcessForm = "split-kl",
) -> RecursiveBound:  # fmt: skip
    """Bound the risk of a network drawn from the last of ``len(steps) + 1`` distributions.

    Parameters
    ----------
    risk, n
        Mean loss of Q_1 on n examples.
    steps
        Those from Q_2 on. Their n must not grow: step t is measured on S_t, ..., S_T.
    delta
        Failure probability of all bounds together; each of the T statements gets delta / T.
    divergence
        None when Q_1 has not seen the n examples (Chernoff's bound then holds); else KL(Q_1 || a prior that has not).

    Raises
    ------
    ValueError
        Step sizes that grow, and the errors of `excess_bound` and `pac_bayes_kl`.

    >>> step = RecursiveStep(tails=(0.98, 0.05, 0.01), divergence=2.0, n=5000)
    >>> found = pac_bayes_recursive(0.06, 10000, [step], 0.05)
    >>> [round(b, 4) for b in found.bounds], [round(e, 4) for e in found.excesses]
    ([0.0667, 0.0695], [0.0361])
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    sizes = [n, *(step.n for step in steps)]
    if any(later > earlier for earlier, later in pairwise(sizes)):
        raise ValueError(f"each step is measured on what its prior has not seen, which cannot grow; got sizes {sizes}")
    share = delta / len(sizes)
    first = chernoff_kl(risk, n, share) if divergence is None else pac_bayes_kl(risk, divergence, n, share)
    bounds, excesses = [float(first)], []
    for step in steps:
        excess = excess_bound(step.tails, step.divergence, step.n, share, step.gamma, form=form)
        excesses.append(excess)
        bounds.append(min(1.0, max(0.0, (excess + step.gamma * bounds[-1]) + 1e-15)))
    return RecursiveBound(bounds=tuple(bounds), excesses=tuple(excesses))
