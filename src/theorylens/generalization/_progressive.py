"""Progressive validation: each network is tested on data that the next one may learn from, and all of them count.

Networks h_1, ..., h_J; h_j errs at rate q_j, depends on what came before, and is tested on m_j fresh examples with k_j
errors. For s > 0 put c = 1 - exp(-s). Given the past, E exp(-s_j k_j - m_j ln(1 - c_j q_j)) = 1, so the product over j
has mean 1 even when s_j is chosen from the blocks before j, and with probability at least 1 - delta

    sum_j -m_j ln(1 - c_j q_j) <= ln(1/delta) + sum_j s_j k_j = B.

The largest mean rate sum_j w_j q_j (w_j = m_j / n) under this constraint has c_j / (1 - c_j q_j) = v for all j, and
v follows from the constraint, so

    sum_j w_j q_j <= sum_j w_j / c_j - 1 / v   with   ln v = B / n + sum_j w_j ln c_j.

With one s it is Catoni's form, (1 - exp(-B / n)) / c, and at the best s Chernoff's bound in kl form: no union over s is
paid, because s_j comes from earlier blocks only. Rates outside [0, 1] are allowed in the maximum, which only raises it.

Source   Blum, Kalai, Langford (1999), COLT (progressive validation); this bound is derived above
Assumes  the examples of a block are independent of each other and of what its network and its s_j were made from
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theorylens.core import Subject
from theorylens.numerics.concentration import chernoff_kl
from theorylens.results import Certificate, Message

from ._bound_units import error_on_test, ground, of_bound_units, taken, wrong_as_trained
from ._learnt_prior import portions

THEOREM = Message("theorem.progressive", "progressive validation")


def best_scale(rate: float, n: int, delta: float) -> float:
    """The s at which Chernoff's bound for an observed ``rate`` of n is least: ln(p (1 - q) / (q (1 - p))), p the bound.

    >>> round(best_scale(0.05, 1000, 0.05), 4)
    0.3374
    """
    q = max(rate, 0.5 / n)
    p = min(chernoff_kl(q, n, delta), 1 - 1e-9)
    return math.log(p * (1 - q) / (q * (1 - p)))


def progressive_bound(
    errors: Sequence[int], sizes: Sequence[int], scales: Sequence[float], delta: float
) -> float:  # fmt: skip
    """Bound on the mean error rate of networks tested one after the other, each weighed by its number of examples.

    The risk bounded is that of a network drawn from the run with probability m_j / n; not that of the last one.

    Parameters
    ----------
    errors, sizes
        k_j of m_j examples for each block, in order.
    scales
        s_j > 0, each fixed before block j was scored; `best_scale` of the rate seen so far is a good choice.

    Raises
    ------
    ValueError
        Unequal lengths, no block, counts out of range, a scale that is not positive, a delta outside (0, 1).

    >>> s = best_scale(0.05, 1000, 0.05)
    >>> round(progressive_bound([50], [1000], [s], 0.05), 6), round(chernoff_kl(0.05, 1000, 0.05), 6)
    (0.068685, 0.068685)
    """
    k, m, s = (np.asarray(each, dtype=np.float64) for each in (errors, sizes, scales))
    if not (k.shape == m.shape == s.shape) or k.ndim != 1 or not k.size:
        raise ValueError(f"errors, sizes and scales need one entry per block, got {k.shape}, {m.shape}, {s.shape}")
    whole = (k == np.floor(k)) & (m == np.floor(m))
    if not (whole & (m >= 1) & (k >= 0) & (k <= m)).all():
        raise ValueError(
            f"each block needs at least one example and 0 to m errors, got {list(errors)} of {list(sizes)}"
        )
    if not ((s > 0) & np.isfinite(s)).all():
        raise ValueError(f"scales must be positive, got {list(scales)}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    n = m.sum()
    c, w = -np.expm1(-s), m / n
    budget = (math.log(1 / delta) + float(s @ k)) / n * (1 + 1e-14)
    mean = float(w @ (1 / c))
    value = mean - math.exp(-budget - float(w @ np.log(c)))
    return min(1.0, max(value + 1e-13 * mean, float(k.sum() / n)))


@dataclass(frozen=True, kw_only=True)
class ProgressiveRun:
    """One way to certify the networks of a run that sees more and more. Fixed before a bound is computed.

    Parameters
    ----------
    shares
        Of the independent training units: network j is trained on the first j portions and tested on the next. The
        first one is tested on nothing itself.
    expected
        Error rate expected of the first network; decides the first scale, and nothing but tightness.
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
    scales: list[float] = []
    relatives: list[Subject] = []
    for j in range(1, len(divided)):
        seen = sorted(row for portion in divided[:j] for row in portion.rows)
        hidden = tuple(row for portion in divided[j:] for row in portion.units)
        relative, tested = base.trained(seen, hidden, way.seed), divided[j].units
        # One unit at the expected rate: what was seen decides as soon as there is anything.
        rate = (sum(errors) + way.expected) / (sum(sizes) + 1)
        scales.append(best_scale(rate, total, base.share))
        wrong = wrong_as_trained(relative, taken(base, tested, relative), len(tested))
        errors.append(round(float(wrong.double().sum())))
        sizes.append(len(tested))
        relatives.append(relative)
    rows = tuple(sorted(row for portion in divided[1:] for row in portion.units))
    bound = progressive_bound(errors, sizes, scales, base.share)
    return Progressive(
        certificate=base.certificate(
            THEOREM, bound, sum(errors) / total, rows, {of_bound_units(total): base.share}
        ),
        errors=tuple(errors), sizes=tuple(sizes), test_errors=tuple(map(error_on_test, relatives)),
        subjects=tuple(relatives),
    )  # fmt: skip
