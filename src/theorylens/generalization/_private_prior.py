"""PAC-Bayes with a prior made from the bound examples themselves, by a differentially private rule.

A rule is epsilon-private when exchanging one example changes the chance of no outcome by more than a factor
exp(epsilon). Let g(S) = ln p(a | S) for an outcome a, and U = g - E g. Exchanging one example moves g by at most
epsilon, so U is sub-Gaussian over iid samples, ln E exp(x U) <= x^2 v / 2 with v = n epsilon^2 / 4 (Hoeffding, Azuma),
and by Jensen p(a) = E exp(g) >= exp(E g): the likelihood ratio p(a | S) / p(a) is at most exp(U). Given a, samples have
this ratio as density, hence for x >= 0

    P(U >= t | a) <= E exp(U) 1[U >= t] <= E exp((1 + x) U - x t) <= exp((1 + x)^2 v / 2 - x t),

least at 1 + x = t / v, where it is exp(t - t^2 / 2v): at most b for t = v + sqrt(v^2 + 2 v ln(1/b)). So except with
probability b an event about sample and prior is at most exp(t) times as likely as for a prior that is independent of
the sample; giving PAC-Bayes-kl the failure probability (delta - b) exp(-t) makes both together fail at most delta.
With b = delta / 2:

    kl(R_n || R) <= (KL + ln(2 xi(n) / delta) + t) / n,
    t = v + sqrt(v^2 + 2 v ln(2/delta)) <= n epsilon^2 / 2 + epsilon sqrt(n ln(2/delta) / 2), as it is usually printed.

Source   Dziugaite, Roy (2018), NeurIPS; Dwork et al. (2015), NeurIPS (approximate max-information); derived above
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._pac_bayes import kl_budget, pac_bayes_kl


def privacy_price(epsilon: float, n: int, delta: float) -> float:
    """t, the nats that a prior costs which an ``epsilon``-private rule made from the n bound examples.

    >>> round(privacy_price(0.01, 10000, 0.05), 4)
    1.6309
    """
    if not epsilon >= 0:  # also catches NaN
        raise ValueError(f"epsilon must be at least 0, got {epsilon}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    v = n * epsilon**2 / 4
    return (v + math.sqrt(v * v + 2 * v * math.log(2 / delta))) * (1 + 1e-14)


def pac_bayes_private(empirical: Any, divergence: Any, n: int, delta: float, *, epsilon: float) -> Any:
    """Upper bound on the risk of a network drawn from a posterior whose prior an epsilon-private rule made.

    With probability at least 1 - delta over the n examples and the rule, for all posteriors at once.

    Parameters
    ----------
    empirical, divergence, n, delta
        As `pac_bayes_kl`; the divergence from the private prior. Arrays broadcast.
    epsilon
        Of pure differential privacy with respect to exchanging one of the n examples. It must be proved of the rule:
        noise added without a bound on the sensitivity, or (epsilon, delta)-privacy, is something else.

    Raises
    ------
    ValueError
        A negative epsilon, and the errors of `pac_bayes_kl`.

    >>> [round(pac_bayes_private(0.05, 10.0, 10000, 0.05, epsilon=e), 4) for e in (0.0, 0.02, 0.1)]
    [0.0644, 0.066, 0.0805]
    """
    price = privacy_price(epsilon, n, delta)
    kl_budget(empirical, divergence, n, delta, "exact")  # refuses what is no bound
    nats = np.asarray(divergence, dtype=np.float64) + price
    return pac_bayes_kl(empirical, nats if nats.ndim else float(nats), n, delta / 2)
