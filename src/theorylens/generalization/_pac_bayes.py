"""The value of a PAC-Bayes-kl bound: from an empirical Gibbs risk and a divergence to a bound on the Gibbs risk.

Source   Seeger (2002), JMLR 3:233; Maurer (2004), arXiv:cs/0411099
Assumes  losses in [0, 1]; a prior that does not depend on the n examples; the risk is that of a network drawn from the
         posterior, not that of its mean
"""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from theorylens.numerics.relative_entropy import kl_inverse

from ._asked import is_whole

Form = Literal["exact", "maurer"]
Floats = NDArray[np.float64]
_CHUNK = 1 << 20
_EXACT_TO = 16  # below, ln k! minus Stirling is taken from the factorial itself


@overload
def pac_bayes_kl(empirical: float, divergence: float, n: int, delta: float, *, form: Form = "exact") -> float: ...
@overload
def pac_bayes_kl(empirical: Any, divergence: Any, n: Any, delta: Any, *, form: Form = "exact") -> Floats: ...
def pac_bayes_kl(empirical: Any, divergence: Any, n: Any, delta: Any, *, form: Form = "exact") -> float | Floats:
    """Upper bound on the risk of a predictor drawn from the posterior: kl_inverse(R_n, (KL + ln(xi(n)/delta))/n).

    With probability at least 1 - delta over the n examples, for all posteriors at once.

    Parameters
    ----------
    empirical
        Mean loss over posterior and examples, in [0, 1]; when it is itself sampled, an upper bound on it.
    divergence
        KL(posterior || prior) in nats.
    form
        ``"exact"`` uses `xi`; ``"maurer"`` its bound 2 sqrt(n), proved for n >= 8, as most papers print it.

    Raises
    ------
    ValueError
        A negative divergence, a risk outside [0, 1], a delta outside (0, 1), n below 1 (below 8 for ``"maurer"``).

    >>> round(pac_bayes_kl(0.1, 20.0, 5000, 0.05, form="maurer"), 12)
    0.134669217252
    """
    risk, budget = kl_budget(empirical, divergence, n, delta, form)
    return kl_inverse(risk, budget) if risk.ndim else kl_inverse(float(risk), float(budget))


def kl_budget(empirical: Any, divergence: Any, n: Any, delta: Any, form: str) -> tuple[Floats, Floats]:
    """The risk and (KL + ln(constant/delta)) / n, rounded up, as arrays of one shape; refuses what is no bound."""
    risk, nats, delta_ = (np.asarray(each, dtype=np.float64) for each in (empirical, divergence, delta))
    check_risk(risk)
    if not (nats >= 0).all():  # also catches NaN
        raise ValueError(f"a divergence must be at least 0, got {divergence}; check the order of posterior and prior")
    check_delta(delta_)
    count = check_count(n)
    if form == "maurer":
        if (count < 8).any():
            raise ValueError(f"2 sqrt(n) is proved from n = 8 on, got n = {n}; use form='exact'")
        constant = 2 * np.sqrt(count)
    elif form == "exact":
        sizes, place = np.unique(count, return_inverse=True)
        constant = np.array([xi(int(size)) for size in sizes])[place].reshape(count.shape)
    else:
        raise ValueError(f"form must be 'exact' or 'maurer', got {form!r}")
    budget = np.nextafter((nats + np.log(constant / delta_)) / count * (1 + 1e-14), np.inf)
    risk, budget = np.broadcast_arrays(risk, budget)
    return risk, budget


def check_risk(risk: Floats) -> None:
    if not ((risk >= 0) & (risk <= 1)).all():
        raise ValueError(f"the empirical risk must lie in [0, 1], got {risk}; rescale a loss with another range")


def check_delta(delta: Floats) -> None:
    if not ((delta > 0) & (delta < 1)).all():
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")


def check_count(n: Any, least: int = 1) -> Floats:
    count = np.asarray(n, dtype=np.float64)
    if not (np.isfinite(count).all() and (count == np.floor(count)).all() and (count >= least).all()):
        raise ValueError(f"n must be a whole number, at least {least}, got {n}")
    return count


def xi(n: int) -> float:
    """Sum over k of C(n, k) (k/n)^k (1 - k/n)^(n - k): the constant of PAC-Bayes-kl.

    It bounds the mean of exp(n kl(R_n || R)) over n examples, and 2 sqrt(n) bounds it from n = 8 on (Maurer 2004). Each
    term is written with Stirling's series, exp(s(n) - s(k) - s(n - k)) sqrt(n / (2 pi k (n - k))), where
    s(k) = ln k! - ln(sqrt(2 pi k) (k/e)^k): no large numbers cancel. Relative error below 1e-13; time grows with n (one
    second at n = 3e7).

    >>> round(xi(20), 12)
    6.293584586001
    """
    if not is_whole(n) or n < 1:
        raise ValueError(f"n must be a whole number, at least 1, got {n}")
    n = int(n)
    whole = float(_stirling_rest(np.array([float(n)]))[0])
    sums = [2.0]  # k = 0 and k = n
    for start in range(1, n, _CHUNK):
        k = np.arange(start, min(start + _CHUNK, n), dtype=np.float64)
        rest = whole - _stirling_rest(k) - _stirling_rest(n - k)
        sums.append(float((np.exp(rest) * np.sqrt(n / (2 * math.pi * k * (n - k)))).sum()))
    return math.fsum(sums)


def _stirling_rest(k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln k! - ln(sqrt(2 pi k) (k/e)^k) for k >= 1."""
    small = np.array(
        [math.lgamma(j + 1) - (j + 0.5) * math.log(j) + j - 0.5 * math.log(2 * math.pi) for j in range(1, _EXACT_TO)]
    )
    inverse = 1 / k
    square = inverse * inverse
    # Terms of the asymptotic series; from k = 16 on the first one left out is below 1e-15.
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))))
    index = np.clip(k.astype(np.int64) - 1, 0, len(small) - 1)
    return np.where(k < _EXACT_TO, small[index], series)
