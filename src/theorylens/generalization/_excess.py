"""PAC-Bayes for an excess loss: how much worse than gamma times a reference is a network drawn from a posterior?

Both networks err (1) or not (0) on an example, so F = loss - gamma * reference takes the four values -gamma, 0,
1 - gamma, 1. Its mean is bounded for all posteriors at once; the reference (a network, or one drawn from a fixed
distribution) and gamma were fixed without the n examples. Where the two err on the same examples F hardly varies, and
its mean is known better than either loss.

split kl    F = -gamma + gamma [F >= 0] + (1 - gamma) [F >= 1 - gamma] + gamma [F >= 1]: each indicator gets
            PAC-Bayes-kl at a third of delta
kl          (F + gamma) / (1 + gamma) lies in [0, 1]: PAC-Bayes-kl once
unexpected  from exp(r t + (r + ln(1 - r)) t^2) <= 1 + r t for t >= -1 and r in (0, 1) at t = -F follows
Bernstein   E exp(r (E F - F) - (-r - ln(1 - r)) F^2) <= 1, hence
            E F <= mean F + c mean F^2 + (KL + ln(1/delta)) / (r n), c = (-r - ln(1 - r)) / r; a grid of rates r is paid

With a random reference the pair is the hypothesis: prior P x R, posterior Q x R, divergence KL(Q || P).

Source   Wu, Seldin (2022), NeurIPS (split kl); Mhammedi, Grunwald, Guedj (2019), NeurIPS (unexpected Bernstein); both
         derived again
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from ._pac_bayes import pac_bayes_kl

ExcessForm = Literal["split-kl", "kl", "unexpected-bernstein"]
EXCESS_FORMS: tuple[ExcessForm, ...] = ("split-kl", "kl", "unexpected-bernstein")
RATES = (0.05, 0.1, 0.2, 0.4, 0.6)  # rates r of the unexpected Bernstein bound; all are paid for
_UP = 1 + 1e-14


def excess_values(gamma: float) -> tuple[float, float, float, float]:
    """The values of loss - gamma * reference, smallest first.

    >>> excess_values(0.25)
    (-0.25, 0.0, 0.75, 1.0)
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma must lie in (0, 1], got {gamma}")
    return -gamma, 0.0, 1 - gamma, 1.0


def split_kl(values: Sequence[float], tails: Sequence[float], divergence: float, n: int, delta: float) -> float:
    """Bound on the mean of a loss with the values ``values``, for all posteriors at once.

    values[0] + sum_j (values[j] - values[j-1]) kl_inverse(tails[j-1], (KL + ln(K xi(n) / delta)) / n), K the number of
    tails: each is a 0-1 loss and gets delta / K.

    Parameters
    ----------
    values
        K + 1 values, ascending; equal neighbours are allowed and cost their share.
    tails
        Shares of examples (mean over the posterior) with a loss at or above values[1], ..., values[K]: descending, in
        [0, 1]; upper bounds on them when they are sampled.

    Raises
    ------
    ValueError
        Values or tails out of order, and the errors of `pac_bayes_kl`.

    >>> round(split_kl((0.0, 1.0), (0.1,), 20.0, 5000, 0.05), 9) == round(pac_bayes_kl(0.1, 20.0, 5000, 0.05), 9)
    True
    """
    steps = [high - low for low, high in pairwise(values)]
    if len(tails) != len(steps) or not tails or not min(steps) >= 0:
        raise ValueError(f"K + 1 ascending values need K tails, got values {list(values)} and tails {list(tails)}")
    if any(high < low - 1e-12 for high, low in pairwise(tails)):
        raise ValueError(f"the tails of ascending values descend, got {list(tails)}")
    share = delta / len(tails)
    bounds = [pac_bayes_kl(float(tail), divergence, n, share) for tail in tails]
    total = math.fsum(step * bound for step, bound in zip(steps, bounds, strict=True))
    return _upward(values[0] + total, values)


def excess_bound(
    tails: Sequence[float], divergence: float, n: int, delta: float, gamma: float, *, form: ExcessForm = "split-kl"
) -> float:  # fmt: skip
    """Bound on E[loss of a drawn network] - gamma * E[loss of the reference], with probability at least 1 - delta.

    Parameters
    ----------
    tails
        Shares of examples with F >= 0, F >= 1 - gamma and F >= 1: mean over the posterior (and the reference's draws),
        or upper bounds on them.
    divergence
        KL(posterior || prior) in nats.
    gamma
        In (0, 1], fixed without the examples.
    form
        One of `EXCESS_FORMS`, fixed without the examples: the least of the three is no bound at ``delta``.

    Returns
    -------
    A number in [-gamma, 1].

    >>> tails = (0.98, 0.06, 0.02)  # both err on 4 %, only the reference on 2 %, only the drawn one on 2 %
    >>> [round(excess_bound(tails, 5.0, 2000, 0.05, 0.5, form=form), 4) for form in EXCESS_FORMS]
    [0.0618, 0.1102, 0.0517]
    """
    values = excess_values(gamma)
    if form == "split-kl":
        return split_kl(values, tails, divergence, n, delta)
    if len(tails) != 3 or not 1 >= tails[0] >= tails[1] - 1e-12 or not tails[1] >= tails[2] - 1e-12 >= -1e-12:
        raise ValueError(f"three descending tails in [0, 1] are needed, got {list(tails)}")
    if form == "kl":
        mean = min(1.0, (gamma * tails[0] + (1 - gamma) * tails[1] + gamma * tails[2]) / (1 + gamma) * _UP)
        return _upward((1 + gamma) * pac_bayes_kl(mean, divergence, n, delta) - gamma, values)
    if form == "unexpected-bernstein":
        return _upward(min(_unexpected(values, tails, divergence, n, delta, rate) for rate in _rates(gamma)), values)
    raise ValueError(f"form must be one of {', '.join(EXCESS_FORMS)}, got {form!r}")


def _rates(gamma: float) -> tuple[float, ...]:
    """Those of the grid at which F + c F^2 ascends with F, so that upper bounds on tails serve."""
    return tuple(rate for rate in RATES if _curvature(rate) * gamma < 1)


def _curvature(rate: float) -> float:
    return (-rate - math.log1p(-rate)) / rate


def _unexpected(
    values: Sequence[float], tails: Sequence[float], divergence: float, n: int, delta: float, rate: float
) -> float:  # fmt: skip
    pac_bayes_kl(0.0, divergence, n, delta)  # refuses what it refuses
    c = _curvature(rate)
    raised = [value + c * value**2 for value in values]
    mean = raised[0] + sum((b - a) * t for a, b, t in zip(raised, raised[1:], tails, strict=False))
    return mean + (divergence + math.log(len(RATES) / delta)) / (rate * n)


def _upward(value: float, values: Sequence[float]) -> float:
    return min(max(value + 1e-14, values[0]), values[-1])
