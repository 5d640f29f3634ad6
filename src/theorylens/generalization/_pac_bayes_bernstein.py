"""PAC-Bayes with the measured variance of the losses: tight where losses of the drawn networks hardly vary.

Method   with probability 1 - delta/2 each: the mean variance is bounded from the sample variances, then Bernstein's
         inequality is used with that bound, both over a geometric grid of their parameter that is paid for
Source   Tolstikhin, Seldin (2013), NeurIPS; the constants were derived again (see the tests)
Assumes  losses in [0, 1], a prior that does not depend on the n examples
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._asked import is_whole

GRID = 1.15  # ratio of neighbouring grid values; near it the bound is least, and it hardly depends on it


@dataclass(frozen=True, kw_only=True)
class BernsteinBound:
    """The bound, the bound on the variance behind it, and which branch of the theorem gave it.

    ``branch`` is ``"variance"`` when the root term counts, ``"few nats"`` when the variance is so small that only
    2 (KL + ...) / n is left.
    """

    bound: float
    variance: float
    branch: str


def pac_bayes_empirical_bernstein(
    empirical: float, variance: float, divergence: float, n: int, delta: float
) -> BernsteinBound:  # fmt: skip
    """Bound on the risk of a network drawn from the posterior, from the sample variances of the losses.

    Parameters
    ----------
    empirical
        Mean loss over posterior and examples, in [0, 1].
    variance
        Mean over the posterior of the unbiased sample variance of the losses of one network over the examples.
    divergence
        KL(posterior || prior), nats.

    Raises
    ------
    ValueError
        A risk outside [0, 1], a variance outside [0, n/(4(n-1))], a negative divergence, n below 2, a delta outside
        (0, 1).

    >>> found = pac_bayes_empirical_bernstein(0.2, 0.001, 10.0, 5000, 0.05)
    >>> round(found.bound, 6), found.branch
    (0.211307, 'variance')
    """
    if not 0 <= empirical <= 1:
        raise ValueError(f"the empirical risk must lie in [0, 1], got {empirical}; rescale a loss with another range")
    _check(variance, divergence, n, delta)
    if math.isinf(divergence):
        return BernsteinBound(bound=1.0, variance=0.25, branch="variance")
    most = variance_bound(variance, divergence, n, delta / 2)
    nats = divergence + math.log(_bernstein_grid(n, delta / 2) / (delta / 2))
    if nats <= (math.e - 2) * most * n:
        radius, branch = (1 + GRID) * math.sqrt((math.e - 2) * most * nats / n), "variance"
    else:
        radius, branch = 2 * nats / n, "few nats"
    return BernsteinBound(bound=min(1.0, (empirical + radius) * (1 + 1e-14)), variance=most, branch=branch)


def variance_bound(variance: float, divergence: float, n: int, delta: float) -> float:
    """Upper bound on the mean variance over the posterior, with probability 1 - ``delta``; at most 1/4.

    V + (1 + c) sqrt(V (KL + ln(g/delta)) / 2(n-1)) + 2c (KL + ln(g/delta)) / (n-1), c the ratio and g the size of the
    grid.
    """
    _check(variance, divergence, n, delta)
    share = math.log(1 / delta)
    grid = max(1, math.ceil(math.log(0.5 * math.sqrt((n - 1) / share + 1) + 0.5) / math.log(GRID)))
    nats = (divergence + math.log(grid / delta)) / (n - 1)
    return min(0.25, (variance + (1 + GRID) * math.sqrt(variance * nats / 2) + 2 * GRID * nats) * (1 + 1e-14))


def _check(variance: float, divergence: float, n: int, delta: float) -> None:
    if not is_whole(n) or n < 2:
        raise ValueError(f"n must be a whole number, at least 2 to measure a variance, got {n}")
    if not 0 <= variance <= n / (4 * (n - 1)) * (1 + 1e-12):
        raise ValueError(f"the variance of {n} losses in [0, 1] lies between 0 and n/(4(n-1)), got {variance}")
    if not divergence >= 0:
        raise ValueError(f"a divergence must be at least 0, got {divergence}; check the order of posterior and prior")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")


def _bernstein_grid(n: int, delta: float) -> int:
    """Values from the smallest parameter that can be best, sqrt(4 ln(1/delta) / (e-2) n), up to 1."""
    least = math.sqrt(4 * math.log(1 / delta) / ((math.e - 2) * n))
    return max(1, math.ceil(math.log(1 / least) / math.log(GRID)) + 1)
