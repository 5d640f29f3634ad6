"""Choosing a setting on held-out rows so that a risk stays below a limit: a threshold, a size of sets, a rate.

Two promises, not to be mixed. `conformal_risk` bounds the risk on average over the held-out and the new rows, for
losses that fall as the setting gets more careful. `learn_then_test` says with probability 1 - delta that the risk of
what was chosen is below the limit, for losses of any shape and several risks.

Source   Angelopoulos, Bates, Fisch, Lei, Schuster (2024), Conformal risk control, ICLR; Angelopoulos, Bates, Candes,
         Jordan, Lei (2025), Learn then test, Ann. Appl. Stat. 19:1641; the p-value: Hoeffding (1963) and Bentkus
         (2004), Ann. Probab. 32:1650, joined by Bates et al. (2021), J. ACM 68:43
Assumes  held-out and new rows are exchangeable (`conformal_risk`) or independent draws alike (p-values), and nothing
         was fitted to the held-out rows
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theorylens.numerics.relative_entropy import kl

from ._asked import positive, probability, whole

Floats = NDArray[np.float64]
Procedure = Literal["bonferroni", "holm", "fixed-sequence"]


def conformal_risk(losses: Any, alpha: float, *, largest: float = 1.0) -> int | None:
    """Number of the least careful setting whose expected loss on a new row is at most ``alpha``.

    The first j with (sum_i L_i(j) + largest) / (n + 1) <= alpha. Over the draw of the held-out rows and the new one
    together the mean loss at that j is at most ``alpha``. With L = 1 where the true class is left out this is split
    conformal prediction (`conformal_threshold`).

    Parameters
    ----------
    losses
        Shape (n, settings), in [0, largest]; every row falls (or stays) as settings get more careful.
    alpha
        Limit, below ``largest``.
    largest
        Largest possible loss, not merely the largest seen.

    Returns
    -------
    None where no setting qualifies: too few rows, or a limit too low. A setting that is safe by its meaning (naming
    every class) may then be used.

    Raises
    ------
    ValueError
        Losses outside their range or rising along a row, a limit outside (0, largest).

    >>> conformal_risk([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]], 0.5)
    1
    >>> conformal_risk([[0, 0]], 0.4) is None  # one row promises no more than 1/2
    True
    """
    x = np.asarray(losses, dtype=np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"losses are a table (rows, settings), got shape {x.shape}")
    if not 0 < alpha < positive("largest", largest):
        raise ValueError(f"alpha must lie strictly between 0 and the largest loss {largest}, got {alpha}")
    if not ((x >= 0) & (x <= largest)).all():  # also catches NaN
        raise ValueError(f"losses must lie between 0 and {largest}")
    if (np.diff(x, axis=1) > 0).any():
        raise ValueError("losses must not rise from one setting to the next; learn_then_test takes any shape")
    n = len(x)
    enough = np.array([math.fsum(column) + largest for column in x.T]) <= alpha * (n + 1)
    return int(enough.argmax()) if enough.any() else None


def risk_p_value(mean: Any, n: Any, alpha: Any) -> float | Floats:
    """p-value of "the risk exceeds ``alpha``" from the mean of ``n`` independent losses in [0, 1].

    min(exp(-n kl(min(mean, alpha) || alpha)), e P(Bin(n, alpha) <= ceil(n mean))), at most 1. Arrays broadcast.

    >>> round(risk_p_value(0.0, 100, 0.05), 6)  # (1 - 0.05)^100
    0.005921
    """
    m, count, limit = np.broadcast_arrays(*(np.asarray(each, dtype=np.float64) for each in (mean, n, alpha)))
    if not ((m >= 0) & (m <= 1)).all():
        raise ValueError(f"a mean of losses in [0, 1] lies between 0 and 1, got {mean}")
    if not ((limit > 0) & (limit < 1)).all():
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    if not (np.isfinite(count) & (count == np.floor(count)) & (count >= 1)).all():
        raise ValueError(f"n must be a whole number, at least 1, got {n}")
    hoeffding = np.exp(-count * np.asarray(kl(np.minimum(m, limit), limit))) * (1 + 1e-12)
    bentkus = math.e * stats.binom.cdf(np.ceil(count * m * (1 - 1e-15)), count, limit) * (1 + 1e-10)
    found = np.minimum(1.0, np.minimum(hoeffding, bentkus))
    return found if found.ndim else float(found)


def binomial_p_value(errors: Any, n: Any, alpha: Any) -> float | Floats:
    """The same for losses that are 0 or 1, exact: P(Bin(n, alpha) <= errors). Arrays broadcast.

    >>> binomial_p_value(0, 100, 0.05) == risk_p_value(0.0, 100, 0.05)
    False
    >>> round(binomial_p_value(2, 100, 0.05), 6)
    0.118263
    """
    k, count, limit = np.broadcast_arrays(*(np.asarray(each, dtype=np.float64) for each in (errors, n, alpha)))
    for name, value in (("errors", k), ("n", count)):
        if not (np.isfinite(value) & (value == np.floor(value)) & (value >= 0)).all():
            raise ValueError(f"{name} must be a whole number, at least 0, got {value}")
    if ((k > count) | (count < 1)).any():
        raise ValueError(f"errors must not exceed n, and n is at least 1, got {errors} of {n}")
    if not ((limit > 0) & (limit < 1)).all():
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    found = np.minimum(1.0, stats.binom.cdf(k, count, limit) * (1 + 1e-10))
    return found if found.ndim else float(found)


def learn_then_test(
    p_values: Sequence[float] | Floats, delta: float, *, procedure: Procedure = "bonferroni", starts: int = 1
) -> NDArray[np.int64]:  # fmt: skip
    """Settings whose risk is below the limit, all of them with probability 1 - ``delta``: any may be used.

    Parameters
    ----------
    p_values
        One per setting, of "its risk exceeds the limit"; for several risks the largest of a setting's p-values.
    procedure
        ``"bonferroni"``: those at most delta / settings; ``"holm"``: step by step, never fewer; ``"fixed-sequence"``:
        in the order given until the first that exceeds delta, for settings ordered beforehand, the safest first.
    starts
        Of the fixed sequence: this many evenly spaced beginnings, each with delta / starts.

    Returns
    -------
    Their numbers in ascending order; empty where nothing can be promised.

    Raises
    ------
    ValueError
        p-values outside [0, 1], a delta outside (0, 1), an unknown procedure, more starts than settings.

    >>> p = risk_p_value([0.01, 0.02, 0.04, 0.09], 1000, 0.05)
    >>> learn_then_test(p, 0.1, procedure="fixed-sequence").tolist()
    [0, 1]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values are a list of at least one number in [0, 1], got shape {p.shape}")
    delta, starts = probability("delta", delta), whole("starts", starts)
    if procedure == "bonferroni":
        kept = p <= delta / len(p)
    elif procedure == "holm":
        order = np.argsort(p, kind="stable")
        passed = np.logical_and.accumulate(p[order] <= delta / np.arange(len(p), 0, -1))
        kept = np.zeros(len(p), dtype=bool)
        kept[order] = passed
    elif procedure == "fixed-sequence":
        if starts > len(p):
            raise ValueError(f"starts must be at most the number of settings {len(p)}, got {starts}")
        kept = np.zeros(len(p), dtype=bool)
        for part in np.array_split(np.arange(len(p)), starts):
            passed = np.logical_and.accumulate(p[part[0] :] <= delta / starts)
            kept[part[0] :] |= passed
    else:
        raise ValueError(f"procedure must be 'bonferroni', 'holm' or 'fixed-sequence', got {procedure!r}")
    return np.flatnonzero(kept).astype(np.int64)
