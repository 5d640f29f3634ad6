"""How far true and empirical risks of a whole class of predictors can lie apart, from its Rademacher complexity.

Source   Koltchinskii (2001), IEEE Trans. Inf. Theory 47:1902; Bartlett, Mendelson (2002), JMLR 3:463; Mohri,
         Rostamizadeh, Talwalkar (2018), theorem 3.3; Wainwright (2019), proposition 4.12, for the lower bound
Assumes  n independent draws; losses in [0, 1]; the complexity is that of the losses (of classes of +-1 predictors under
         the 0-1 loss it is half the complexity of the predictors)
"""

from __future__ import annotations

import math

from ._asked import is_whole


def uniform_convergence(
    complexity: float, n: int, delta: float, *, sides: int = 1, empirical: bool = False
) -> float:  # fmt: skip
    """Bound on the largest difference between risk and empirical risk in a class, with probability 1 - delta.

    2 R + sqrt(ln(sides/delta) / 2n); with the empirical complexity 2 R_S + 3 sqrt(ln((1 + sides)/delta) / 2n), because
    how far R_S lies from R takes a share of delta too. At most 1, where it says nothing.

    Parameters
    ----------
    complexity
        Rademacher complexity of the class of losses.
    sides
        1: risk minus empirical risk; 2: their absolute difference.
    empirical
        Whether ``complexity`` was computed on these n examples; otherwise it is the expected one.

    Raises
    ------
    ValueError
        A negative complexity, n below 1, a delta outside (0, 1), sides other than 1 or 2.

    >>> round(uniform_convergence(0.1, 1000, 0.05), 10), round(uniform_convergence(0.1, 1000, 0.05, sides=2), 10)
    (0.2387022756, 0.2429469408)
    """
    if not (math.isfinite(complexity) and complexity >= 0):
        raise ValueError(f"a Rademacher complexity must be at least 0, got {complexity}")
    _check(n, delta)
    if sides not in (1, 2):
        raise ValueError(f"sides must be 1 (risk above empirical risk) or 2 (either way), got {sides}")
    events = sides + (1 if empirical else 0)
    radius = math.sqrt(math.log(events / delta) / (2 * n)) * (3 if empirical else 1)
    return min(1.0, (2 * complexity + radius) * (1 + 2.0**-49))


def uniform_convergence_necessary(complexity: float, n: int, largest_mean: float = 0.0) -> float:
    """Lower bound on the expected largest absolute difference: R/2 - sup |E f| / (2 sqrt(n)), at least 0.

    Where the Rademacher complexity R = E sup |1/n sum of sigma_i f(X_i)| does not vanish, uniform convergence fails.

    Parameters
    ----------
    complexity
        Expected, with the absolute value inside the supremum.
    largest_mean
        sup |E f| over the class; 0 for centred functions, at most 1 for losses in [0, 1].

    >>> round(uniform_convergence_necessary(0.4, 400, 1.0), 3)
    0.175
    """
    if not (0 <= complexity < math.inf and 0 <= largest_mean < math.inf):
        raise ValueError(
            f"complexity and largest mean must be finite and at least 0, got {complexity} and {largest_mean}"
        )
    _check(n, 0.5)
    return max(0.0, complexity / 2 - largest_mean / (2 * math.sqrt(n)))


def _check(n: int, delta: float) -> None:
    if not is_whole(n) or n < 1:
        raise ValueError(f"n must be a whole number, at least 1, got {n}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
