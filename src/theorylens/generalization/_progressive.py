"""Progressive validation: each network is tested on data that the next one may learn from, and all of them count.

Networks h_1, ..., h_J; h_j errs at rate q_j, depends on what came before, and is tested on m_j fresh examples. Of n
examples in all, k are wrong. For s > 0 put c = 1 - exp(-s). Given the past, the errors of block j have
E exp(-s k_j - m_j ln(1 - c q_j)) = 1, so the product over j has mean 1, and with probability at least 1 - delta

    sum_j -m_j ln(1 - c q_j) <= s k + ln(1/delta).

-ln(1 - c q) is convex in q, so with q the mean of the q_j weighed by m_j, -n ln(1 - c q) is at most the left side:

    q <= (1 - exp(-(s k + ln(1/delta)) / n)) / c.

With s fixed before the examples are seen nothing is paid for it, and at the best s this is Chernoff's bound in kl form.
The means above are at most 1 for each s, so a mixture of several, weights fixed before, may be used at once: q with

    sum_i w_i exp(-s_i k) (1 - c_i q)^-n = 1/delta

is a bound too (Robbins' mixture), never worse than any one s_i at delta w_i, and a guess of the rate hardly matters.

Why not the binomial tail: a network chosen after the errors of those before is an optional stop. With two blocks the
Clopper-Pearson bound at delta can miss with probability 2 delta, at delta / 2 still with more than delta (the tests
enumerate such choices). Where networks may change after every example, nothing below a single s is left: whoever keeps
every q_j small until the bound is passed, and 0 from then on, is missed with a probability as near to delta as wanted.

Source   Blum, Kalai, Langford (1999), COLT (progressive validation); this bound is derived above
Assumes  the examples of a block are independent of each other and of what its network was made from
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from theorylens.core import Subject
from theorylens.numerics.concentration import chernoff_kl
from theorylens.results import Certificate, Message

from ._asked import probability, share, whole
from ._bound_units import error_on_test, ground, of_bound_units, taken, wrong_as_trained
from ._learnt_prior import portions
from ._pac_bayes_forms import pac_bayes_catoni

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)  # error rates that a guess may have missed
Floats = NDArray[np.float64]
THEOREM = Message("theorem.progressive", "progressive validation")


def best_scale(rate: float, n: int, delta: float) -> float:
    """The s at which Chernoff's bound for an observed ``rate`` of n is least: ln(p (1 - q) / (q (1 - p))), p the bound.

    >>> round(best_scale(0.05, 1000, 0.05), 4)
    0.3374
    """
    q = max(share("rate", rate), 0.5 / whole("n", n))
    p = min(chernoff_kl(q, n, delta), 1 - 1e-9)
    return math.log(p * (1 - q) / (q * (1 - p)))


def progressive_bound(
    errors: int, n: int, scale: float | Sequence[float], delta: float, *, weights: Sequence[float] | None = None
) -> float:  # fmt: skip
    """Bound on the mean error rate of networks tested one after the other, each weighed by its number of examples.

    The risk bounded is that of a network drawn from the run with probability m_j / n; not that of the last one.

    Parameters
    ----------
    errors, n
        In all blocks together.
    scale
        s > 0, fixed before anything was scored; `best_scale` of the rate expected is a good choice. A list is a
        mixture; infinity stands for "no error at all".
    weights
        Of the scales of a list, positive, adding up to 1; equal by default.

    Raises
    ------
    ValueError
        Counts out of range, a scale that is not positive, weights that do not fit, a delta outside (0, 1).

    >>> s = best_scale(0.05, 1000, 0.05)
    >>> round(progressive_bound(50, 1000, s, 0.05), 6), round(chernoff_kl(0.05, 1000, 0.05), 6)
    (0.068685, 0.068685)
    """
    count, wrong = whole("n", n), whole("errors", errors, least=0)
    if wrong > count:
        raise ValueError(f"there are at most n errors, got {wrong} of {count}")
    if not isinstance(scale, Sequence):
        return float(pac_bayes_catoni(wrong / count, 0.0, count, delta, beta=float(scale)))
    s = np.asarray(scale, dtype=np.float64)
    w = np.full(len(s), 1 / max(1, len(s))) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(s) or not (s > 0).all():
        raise ValueError(f"scales must be positive, and one at least, got {scale}")
    if w.shape != s.shape or not (w > 0).all() or abs(w.sum() - 1) > 1e-9:
        raise ValueError(f"a positive weight for each of {len(s)} scales, adding up to 1, is needed; got {weights}")
    return _mixed(wrong, count, s, w, probability("delta", delta))


def _mixed(wrong: int, n: int, s: Floats, w: Floats, delta: float) -> float:
    """The root of the mixture, from above: the sum grows with q, and the upper end of the last bracket is returned."""
    head = np.log(w) + (np.where(np.isinf(s), -np.inf, -s * wrong) if wrong else 0.0)
    least = -np.expm1(-s)

    def reached(q: float) -> bool:
        with np.errstate(divide="ignore"):
            return bool(logsumexp(head - n * np.log1p(-least * q)) >= math.log(1 / delta) + 1e-12)

    low, high = 0.0, 1.0
    if not reached(math.nextafter(1.0, 0.0)):
        return 1.0
    while high - low > 1e-15 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if reached(middle) else (middle, high)
    return min(1.0, high * (1 + 1e-14))


def scales_around(expected: float, n: int, delta: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A mixture for `progressive_bound` with half its weight on the rate expected, the rest on rates from 0 to 0.3.

    >>> scales, weights = scales_around(0.05, 1000, 0.05)
    >>> found = [progressive_bound(k, 1000, scales, 0.05, weights=weights) for k in (0, 50)]
    >>> alone = [progressive_bound(k, 1000, best_scale(0.05, 1000, 0.05), 0.05) for k in (0, 50)]
    >>> [round(q, 4) for q in found], [round(q, 4) for q in alone]
    ([0.0051, 0.07], [0.0104, 0.0687])
    """
    others = (math.inf, *(best_scale(rate, n, delta) for rate in RATES))
    return (best_scale(expected, n, delta), *others), (0.5, *(0.5 / len(others),) * len(others))


@dataclass(frozen=True, kw_only=True)
class ProgressiveRun:
    """One way to certify the networks of a run that sees more and more. Fixed before a bound is computed.

    Parameters
    ----------
    shares
        Of the independent training units: network j is trained on the first j portions and tested on the next. The
        first one is tested on nothing itself.
    expected
        Error rate expected of the networks, a guess made without the bound units; it decides nothing but tightness, and
        little of that: half the weight of the mixture (`scales_around`) is on other rates.
    seed
        Of the division and the training.
    """

    shares: tuple[float, ...] = (0.5, 0.25, 0.25)
    expected: float = 0.05
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Progressive:
    """What a recipe certifies by testing each network of a run on what the next one learns from.

    Attributes
    ----------
    certificate
        Of a network drawn from ``subjects``, each with probability proportional to its number of tested units.
    errors, sizes
        Of each network on the units it was tested on.
    test_errors
        On the test split where there is one; used by no certificate.
    subjects
        The networks, the one that has seen most last.
    """

    certificate: Certificate
    errors: tuple[int, ...]
    sizes: tuple[int, ...]
    test_errors: tuple[float | None, ...]
    subjects: tuple[Subject, ...]


def certify_progressive(
    subject: Subject, way: ProgressiveRun | None = None, *, delta: float = 0.05, comparisons: int = 1
) -> Progressive:  # fmt: skip
    """Train a relative on each beginning of the training units, test it on the next portion, bound their mean error.

    Arguments and errors as `certify_relative`.
    """
    way = way or ProgressiveRun()
    if not 0 <= way.expected < 1:
        raise ValueError(f"the expected error rate must lie in [0, 1), got {way.expected}")
    base = ground(subject, delta, comparisons)
    divided = portions(base.split, base.found.answers.rows.numpy(), way.shares, seed=way.seed)
    total = sum(len(portion.units) for portion in divided[1:])
    errors: list[int] = []
    sizes: list[int] = []
    relatives: list[Subject] = []
    for j in range(1, len(divided)):
        seen = sorted(row for portion in divided[:j] for row in portion.rows)
        hidden = tuple(row for portion in divided[j:] for row in portion.units)
        relative, tested = base.trained(seen, hidden, way.seed), divided[j].units
        wrong = wrong_as_trained(relative, taken(base, tested, relative), len(tested))
        errors.append(round(float(wrong.double().sum())))
        sizes.append(len(tested))
        relatives.append(relative)
    rows = tuple(sorted(row for portion in divided[1:] for row in portion.units))
    scales, weights = scales_around(way.expected, total, base.share)
    bound = progressive_bound(sum(errors), total, scales, base.share, weights=weights)
    return Progressive(
        certificate=base.certificate(
            THEOREM, bound, sum(errors) / total, rows, {of_bound_units(total): base.share}
        ),
        errors=tuple(errors), sizes=tuple(sizes), test_errors=tuple(map(error_on_test, relatives)),
        subjects=tuple(relatives),
    )  # fmt: skip
