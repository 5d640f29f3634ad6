"""The other PAC-Bayes bounds on the risk of a network drawn from a posterior, as functions of numbers.

All hold with probability at least 1 - delta over the n examples, for every posterior at once, for losses in [0, 1] and
a prior that does not depend on the examples. What follows from the kl form by an inequality (`pac_bayes_mcallester`,
`pac_bayes_quadratic`, `pac_bayes_lambda`) is never tighter than `pac_bayes_kl`, and needs no fee for a parameter chosen
afterwards; `pac_bayes_catoni` does. Each is rounded up and at most 1.

Source   McAllester (1999), COLT; Maurer (2004), arXiv:cs/0411099; Perez-Ortiz, Rivasplata, Shawe-Taylor, Szepesvari
         (2021), JMLR 22:227; Thiemann, Igel, Wintenberger, Seldin (2017), ALT; Catoni (2007), IMS Lecture Notes 56;
         one draw: Rivasplata, Kuzborskij, Szepesvari, Shawe-Taylor (2020), NeurIPS
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from theorylens.numerics.relative_entropy import kl_inverse

from ._pac_bayes import Floats, Form, check_count, check_delta, check_risk, kl_budget

_UP = 1 + 1e-14


def pac_bayes_mcallester(
    empirical: Any, divergence: Any, n: Any, delta: Any, *, form: Form = "exact"
) -> float | Floats:  # fmt: skip
    """R <= R_n + sqrt((KL + ln(xi(n)/delta)) / 2n): Pinsker's inequality applied to `pac_bayes_kl`.

    Arguments and errors as there; ``form="maurer"`` has 2 sqrt(n) for xi(n), as usually printed. Arrays broadcast.

    >>> round(pac_bayes_mcallester(0.05, 10.0, 1000, 0.05, form="maurer"), 10)
    0.1425817398
    """
    risk, budget = kl_budget(empirical, divergence, n, delta, form)
    return _bounded(risk + np.sqrt(budget / 2))


def pac_bayes_quadratic(
    empirical: Any, divergence: Any, n: Any, delta: Any, *, form: Form = "exact"
) -> float | Floats:  # fmt: skip
    """R <= (sqrt(R_n + c) + sqrt(c))^2 with c = (KL + ln(xi(n)/delta)) / 2n: kl(q || p) >= (p - q)^2 / 2p, solved.

    Arguments and errors as `pac_bayes_mcallester`, which it beats where R is below 1/4.

    >>> round(pac_bayes_quadratic(0.05, 10.0, 1000, 0.05, form="maurer"), 10)
    0.1119551419
    """
    risk, budget = kl_budget(empirical, divergence, n, delta, form)
    return _bounded((np.sqrt(risk + budget / 2) + np.sqrt(budget / 2)) ** 2)


def pac_bayes_lambda(
    empirical: Any, divergence: Any, n: Any, delta: Any, *, trade_off: Any = None, form: Form = "exact"
) -> float | Floats:  # fmt: skip
    """R <= R_n / (1 - l/2) + (KL + ln(xi(n)/delta)) / (n l (1 - l/2)) for every l in (0, 2) at once.

    Convex in the posterior for a fixed l, so it can be minimised in turns. Holds for all l simultaneously: the best one
    may be chosen afterwards, and then it equals `pac_bayes_quadratic`.

    Parameters
    ----------
    empirical, divergence, n, delta, form
        As `pac_bayes_mcallester`.
    trade_off
        l; by default the best, `best_trade_off`.

    >>> round(pac_bayes_lambda(0.05, 10.0, 1000, 0.05, form="maurer"), 10)
    0.1119551419
    """
    risk, budget = kl_budget(empirical, divergence, n, delta, form)
    if trade_off is None:
        weight = _best(risk, budget)
    else:
        weight = np.asarray(trade_off, dtype=np.float64)
        if not ((weight > 0) & (weight < 2)).all():
            raise ValueError(f"the trade-off must lie strictly between 0 and 2, got {trade_off}")
    return _bounded((risk + budget / weight) / (1 - weight / 2))


def best_trade_off(
    empirical: Any, divergence: Any, n: Any, delta: Any, *, form: Form = "exact"
) -> float | Floats:  # fmt: skip
    """The l that makes `pac_bayes_lambda` smallest: 2 / (sqrt(2 n R_n / (KL + ln(xi(n)/delta)) + 1) + 1).

    >>> round(best_trade_off(0.05, 10.0, 1000, 0.05, form="maurer"), 6)
    0.553393
    """
    found = _best(*kl_budget(empirical, divergence, n, delta, form))
    return found if found.ndim else float(found)


def pac_bayes_catoni(
    empirical: Any, divergence: Any, n: Any, delta: Any, *, beta: float | Sequence[float] | Floats
) -> float | Floats:  # fmt: skip
    """R <= (1 - exp(-b R_n - (KL + ln(K/delta)) / n)) / (1 - exp(-b)), the smallest over the K values b of ``beta``.

    A number is one value fixed before the examples were seen (K = 1). A list is a grid fixed before: each value takes
    its share of delta, and the best may be used. (The minimum over all b of the form with K = 1 would equal
    kl_inverse(R_n, (KL + ln(1/delta))/n), which is less than was proved: no bound.)

    Errors as `pac_bayes_mcallester`; a beta that is not positive, an empty grid.

    >>> round(pac_bayes_catoni(0.05, 10.0, 1000, 0.05, beta=1.0), 10)
    0.0965836632
    """
    risk, nats, delta_ = (np.asarray(each, dtype=np.float64) for each in (empirical, divergence, delta))
    check_risk(risk)
    check_delta(delta_)
    if not (nats >= 0).all():
        raise ValueError(f"a divergence must be at least 0, got {divergence}; check the order of posterior and prior")
    count, grid = check_count(n), np.atleast_1d(np.asarray(beta, dtype=np.float64))
    if not grid.size or not (np.isfinite(grid) & (grid > 0)).all():
        raise ValueError(f"beta must be positive, a number or a list of numbers fixed beforehand, got {beta}")
    budget = (nats + np.log(grid.size / delta_)) / count * _UP
    every = [np.expm1(-b * risk - budget) / np.expm1(-b) for b in grid]
    return _bounded(np.minimum.reduce(np.broadcast_arrays(*every)) * (1 + 1e-13))


def pac_bayes_disintegrated(
    empirical: Any, log_ratio: Any, n: Any, delta: Any, *, form: Form = "exact"
) -> float | Floats:  # fmt: skip
    """Bound on the risk of one network drawn from the posterior: kl_inverse(R_n(h), (ln dQ/dP(h) + ln(xi/delta))/n).

    The probability is over the examples and the draw. The draw's seed must not be searched: the network with the best
    bound of several draws is not a draw.

    Parameters
    ----------
    empirical
        Mean loss of the network drawn, in [0, 1].
    log_ratio
        Log density of posterior over prior at the network drawn, nats; it may be negative.
    n, delta, form
        As `pac_bayes_kl`.

    >>> pac_bayes_disintegrated(0.05, 10.0, 1000, 0.05) < pac_bayes_disintegrated(0.05, 12.0, 1000, 0.05)
    True
    """
    ratio = np.asarray(log_ratio, dtype=np.float64)
    if np.isnan(ratio).any():
        raise ValueError("the log ratio of posterior and prior must be a number, got NaN")
    # A negative budget means an event that the theorem makes rarer than delta; 0 is on the safe side of it.
    _, constant = kl_budget(empirical, 0.0, n, delta, form)
    risk, budget = np.broadcast_arrays(
        np.asarray(empirical, dtype=np.float64), np.maximum(0.0, constant + ratio / check_count(n) + _rounding(ratio))
    )
    found = kl_inverse(risk, budget)
    return found if np.ndim(found) else float(found)


def _rounding(ratio: Floats) -> Floats:
    return np.asarray(np.abs(ratio) * 1e-15)


def _best(risk: Floats, budget: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(np.isinf(budget), 0.0, 2 * risk / budget)
    return np.asarray(2 / (np.sqrt(share + 1) + 1))


def _bounded(value: Any) -> float | Floats:
    found = np.minimum(1.0, np.asarray(value, dtype=np.float64) * _UP)
    return found if found.ndim else float(found)
