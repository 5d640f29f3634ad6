"""Bounds for learners that hardly change when one example is left out.

A learner has stability b when leaving out any one example changes the loss at any point by at most b. Ridge and
support vector machines have a stability in closed form; for networks nobody knows one, so `measured_stability` only
describes them.

Source   Bousquet, Elisseeff (2002), JMLR 2:499: theorem 12 (bound), theorem 22 (regularised learners). Both proofs are
         repeated here in the form that is computed. Sharper orders, b ln(n) ln(1/delta) instead of
         b sqrt(n ln(1/delta)) (Feldman, Vondrak 2019; Bousquet, Klochkov, Zhivotovskiy 2020), are orders here: without
         their constants they bound nothing
Assumes  n independent examples; a learner that ignores their order; the stability is known, not measured
"""

from __future__ import annotations

import math
from typing import Literal

from ._asked import positive, probability, share, whole

Measured = Literal["training", "left-out"]
_UP = 1 + 2.0**-40


def stability_bound(
    empirical: float, stability: float, n: int, delta: float, *, largest: float = 1.0, measured: Measured = "training"
) -> float:  # fmt: skip
    """Upper bound on the expected loss of what a stable learner returned, with probability 1 - ``delta``.

    training:  R <= R_n + 2 b + (4 n b + M) sqrt(ln(1/delta) / 2n)
    left-out:  R <= R_loo + b + (4 n b + M) sqrt(ln(1/delta) / 2n)

    The difference has expectation at most 2 b (b), and one example moves it by at most 4 b + M/n: McDiarmid. Useful
    only for b of order 1/n. At most ``largest``.

    Parameters
    ----------
    empirical
        Mean loss on the training examples, or the mean loss at examples that were left out one at a time.
    stability
        b, for training sets of ``n`` and, with ``"left-out"``, also of n - 1 examples.
    largest
        M: losses lie in [0, M] for every training set.

    Raises
    ------
    ValueError
        Numbers outside their range, an unknown way of measuring.

    >>> round(stability_bound(0.05, 0.0, 1000, 0.05), 10)  # one fixed predictor: Hoeffding
    0.0887022756
    >>> stability_bound(0.05, 1e-5, 10_000, 0.05) < 0.07
    True
    """
    largest = positive("largest", largest)
    empirical = largest * share("empirical / largest", empirical / largest)
    if not 0 <= stability < math.inf:
        raise ValueError(f"a stability must be finite and at least 0, got {stability}")
    if measured not in ("training", "left-out"):
        raise ValueError(f"measured must be 'training' or 'left-out', got {measured!r}")
    n, nats = whole("n", n), math.log(1 / probability("delta", delta))
    expected = (2 if measured == "training" else 1) * stability
    return min(largest, (empirical + expected + (4 * n * stability + largest) * math.sqrt(nats / (2 * n))) * _UP)


def regularised_stability(penalty: float, radius: float, *, slope: float = 1.0, judged: float | None = None) -> float:
    """Stability of the minimiser of sum of losses + penalty |f|^2 in a Hilbert space: s t r^2 / (2 penalty).

    Convexity gives 2 penalty |f - f'|^2 <= s |f(x_i) - f'(x_i)| <= s r |f - f'| for the example i left out, and a
    function that moves by |f - f'| moves by r |f - f'| at a point. The penalty is the same with n and n - 1 examples,
    so the constant serves `stability_bound` in both ways.

    Parameters
    ----------
    penalty
        Of the squared norm, beside the *sum* of the losses; the offset is penalised like the rest (append a constant
        coordinate), otherwise nothing is proved.
    radius
        r: the largest norm of an input, the root of the largest k(x, x).
    slope
        s: Lipschitz constant in f(x) of the convex loss that is minimised; 1 for hinge and logistic losses.
    judged
        t: Lipschitz constant of the loss that the bound is about, ``slope`` unless given.

    >>> round(regularised_stability(50.0, 1.0), 10)
    0.01
    """
    penalty, radius, slope = positive("penalty", penalty), positive("radius", radius), positive("slope", slope)
    judged = slope if judged is None else positive("judged", judged)
    return slope * judged * radius**2 / (2 * penalty) * _UP


def svm_stability(C: float, radius: float) -> float:
    """Stability of the support vector machine that minimises |w|^2 / 2 + C sum of hinge losses: C r^2.

    Of the ramp loss min(1, max(0, 1 - y f)), which bounds the 0-1 loss and lies in [0, 1]: with its mean on the
    training examples `stability_bound` bounds the error. scikit-learn's ``LinearSVC(loss="hinge")`` is this learner
    (its offset is penalised); ``SVC`` is, without its offset.

    >>> round(svm_stability(0.01, 1.0), 10)
    0.01
    """
    return regularised_stability(1 / (2 * positive("C", C)), radius)


def ridge_stability(penalty: float, radius: float, largest: float, n: int) -> float:
    """Stability of kernel ridge regression, sum (f(x_i) - y_i)^2 + penalty |f|^2, with answers clipped to the targets.

    4 B r^2 e / penalty with e = B (1 + r sqrt(n / penalty)): leaving out example i moves f by at most |y_i - f(x_i)|
    r / penalty in norm, |y_i - f(x_i)| <= B + r |f| with penalty |f|^2 <= sum y^2 <= n B^2, and the squared error of an
    answer clipped to [-B, B] has slope at most 4 B. Losses lie in [0, 4 B^2]: pass that as ``largest`` to
    `stability_bound`. At the penalty n / 4 and r = 1 it is 48 B^2 / n.

    Parameters
    ----------
    penalty
        As in scikit-learn's ``Ridge(alpha=penalty, fit_intercept=False)`` and ``KernelRidge``.
    radius
        r, the largest norm of an input, the root of the largest k(x, x).
    largest
        B: targets lie in [-B, B].

    >>> round(ridge_stability(250.0, 1.0, 1.0, 1000), 9)
    0.048
    """
    penalty, radius, largest = positive("penalty", penalty), positive("radius", radius), positive("largest", largest)
    residual = largest * (1 + radius * math.sqrt(whole("n", n) / penalty))
    return 4 * largest * radius**2 * residual / penalty * _UP
