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
from typing import Any, Literal

import numpy as np

from ._asked import probability
from ._pac_bayes import Floats, check_risk, kl_budget, pac_bayes_kl

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


def split_kl(values: Sequence[float], tails: Any, divergence: Any, n: int, delta: float) -> Any:
    """Bound on the mean of a loss with the values ``values``, for all posteriors at once.

    values[0] + sum_j (values[j] - values[j-1]) kl_inverse(tails[j-1], (KL + ln(K xi(n) / delta)) / n), K the number of
    tails: each is a 0-1 loss and gets delta / K.

    Parameters
    ----------
    values
        K + 1 values, ascending; equal neighbours are allowed and cost their share.
    tails
        Shares of examples (mean over the posterior) with a loss at or above values[1], ..., values[K]: descending, in
        [0, 1], shape (..., K); upper bounds on them when they are sampled.
    divergence
        KL(posterior || prior) in nats, shape (...).

    Returns
    -------
    A float, or an array of shape (...).

    Raises
    ------
    ValueError
        Values or tails out of order, and the errors of `pac_bayes_kl`.

    >>> round(split_kl((0.0, 1.0), (0.1,), 20.0, 5000, 0.05), 9) == round(pac_bayes_kl(0.1, 20.0, 5000, 0.05), 9)
    True
    """
    delta = probability("delta", delta)
    steps = np.diff(np.asarray(values, dtype=np.float64))
    if not len(steps) or not (steps >= 0).all():
        raise ValueError(f"ascending values are needed, got {list(values)}")
    above = _descending(tails, len(steps))
    bounds = pac_bayes_kl(above, np.asarray(divergence, dtype=np.float64)[..., None], n, delta / len(steps))
    return _between(values[0] + bounds @ steps, values)


def excess_bound(
    tails: Any, divergence: Any, n: int, delta: float, gamma: float, *, form: ExcessForm = "split-kl"
) -> Any:  # fmt: skip
    """Bound on E[loss of a drawn network] - gamma * E[loss of the reference], with probability at least 1 - delta.

    Parameters
    ----------
    tails
        Shares of examples with F >= 0, F >= 1 - gamma and F >= 1, shape (..., 3): mean over the posterior (and the
        reference's draws), or upper bounds on them.
    divergence
        KL(posterior || prior) in nats, shape (...).
    gamma
        In (0, 1], fixed without the examples.
    form
        One of `EXCESS_FORMS`, fixed without the examples: the least of the three is no bound at ``delta``.

    Returns
    -------
    In [-gamma, 1]: a float, or an array of shape (...).

    >>> tails = (0.98, 0.06, 0.02)  # both err on 4 %, only the reference on 2 %, only the drawn one on 2 %
    >>> [round(excess_bound(tails, 5.0, 2000, 0.05, 0.5, form=form), 4) for form in EXCESS_FORMS]
    [0.0618, 0.1102, 0.0517]
    """
    values = excess_values(gamma)
    if form == "split-kl":
        return split_kl(values, tails, divergence, n, delta)
    steps, above = np.diff(values), _descending(tails, 3)
    if form == "kl":
        mean = np.minimum(1.0, above @ steps / (1 + gamma) * _UP)
        return _between((1 + gamma) * np.asarray(pac_bayes_kl(mean, divergence, n, delta)) - gamma, values)
    if form != "unexpected-bernstein":
        raise ValueError(f"form must be one of {', '.join(EXCESS_FORMS)}, got {form!r}")
    kl_budget(0.0, divergence, n, delta, "exact")  # refuses what is no bound
    nats = np.asarray(divergence, dtype=np.float64) + math.log(len(RATES) / delta)
    every = [_unexpected(values, above, rate) + nats / (rate * n) for rate in _rates(gamma)]
    return _between(np.minimum.reduce(every), values)


def _rates(gamma: float) -> tuple[float, ...]:
    """Those of the grid at which F + c F^2 ascends with F, so that upper bounds on tails serve."""
    return tuple(rate for rate in RATES if _curvature(rate) * gamma < 1)


def _curvature(rate: float) -> float:
    return (-rate - math.log1p(-rate)) / rate


def _unexpected(values: Sequence[float], above: Floats, rate: float) -> Floats:
    """The mean of F + c F^2."""
    raised = np.asarray(values) + _curvature(rate) * np.asarray(values) ** 2
    return np.asarray(raised[0] + above @ np.diff(raised))


def _descending(tails: Any, count: int) -> Floats:
    above = np.asarray(tails, dtype=np.float64)
    if above.shape[-1:] != (count,) or not (np.diff(above, axis=-1) <= 1e-12).all():
        raise ValueError(f"{count} tails of ascending values descend, got {tails}")
    check_risk(above)
    return above


def _between(value: Any, values: Sequence[float]) -> Any:
    found = np.clip(np.asarray(value, dtype=np.float64) + 1e-14, values[0], values[-1])
    return found if found.ndim else float(found)
