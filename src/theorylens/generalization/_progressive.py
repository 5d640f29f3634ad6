"""Progressive validation: each network is tested on data that the next one may learn from, and all of them count.

Networks h_1, ..., h_J; h_j errs at rate q_j, depends on what came before, and is tested on m_j fresh examples. Of n
examples in all, k are wrong. For s > 0 put c = 1 - exp(-s). Given the past, the errors of block j have
E exp(-s k_j - m_j ln(1 - c q_j)) = 1, so the product over j has mean 1, and with probability at least 1 - delta

    sum_j -m_j ln(1 - c q_j) <= s k + ln(1/delta).

-ln(1 - c q) is convex in q, so with q the mean of the q_j weighed by m_j, -n ln(1 - c q) is at most the left side:

    q <= (1 - exp(-(s k + ln(1/delta)) / n)) / c.

With s fixed before the examples are seen nothing is paid for it, and at the best s this is Chernoff's bound in kl form.

Source   Blum, Kalai, Langford (1999), COLT (progressive validation); this bound is derived above
Assumes  the examples of a block are independent of each other and of what its network was made from
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from theorylens.core import Subject
from theorylens.numerics.concentration import chernoff_kl
from theorylens.results import Certificate, Message

from ._asked import share, whole
from ._bound_units import error_on_test, ground, of_bound_units, taken, wrong_as_trained
from ._learnt_prior import portions
from ._pac_bayes_forms import pac_bayes_catoni

THEOREM = Message("theorem.progressive", "progressive validation")


def best_scale(rate: float, n: int, delta: float) -> float:
    """The s at which Chernoff's bound for an observed ``rate`` of n is least: ln(p (1 - q) / (q (1 - p))), p the bound.

    >>> round(best_scale(0.05, 1000, 0.05), 4)
    0.3374
    """
    q = max(share("rate", rate), 0.5 / whole("n", n))
    p = min(chernoff_kl(q, n, delta), 1 - 1e-9)
    return math.log(p * (1 - q) / (q * (1 - p)))


def progressive_bound(errors: int, n: int, scale: float, delta: float) -> float:
    """Bound on the mean error rate of networks tested one after the other, each weighed by its number of examples.

    The risk bounded is that of a network drawn from the run with probability m_j / n; not that of the last one.

    Parameters
    ----------
    errors, n
        In all blocks together.
    scale
        s > 0, fixed before anything was scored; `best_scale` of the rate expected is a good choice.

    Raises
    ------
    ValueError
        Counts out of range, a scale that is not positive, a delta outside (0, 1).

    >>> s = best_scale(0.05, 1000, 0.05)
    >>> round(progressive_bound(50, 1000, s, 0.05), 6), round(chernoff_kl(0.05, 1000, 0.05), 6)
    (0.068685, 0.068685)
    """
    count, wrong = whole("n", n), whole("errors", errors, least=0)
    if wrong > count:
        raise ValueError(f"there are at most n errors, got {wrong} of {count}")
    return float(pac_bayes_catoni(wrong / count, 0.0, count, delta, beta=float(scale)))


@dataclass(frozen=True, kw_only=True)
class ProgressiveRun:
    """One way to certify the networks of a run that sees more and more. Fixed before a bound is computed.

    Parameters
    ----------
    shares
        Of the independent training units: network j is trained on the first j portions and tested on the next. The
        first one is tested on nothing itself.
    expected
        Error rate expected of the networks, a guess made without the bound units; it decides nothing but tightness.
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
    scale = best_scale(way.expected, total, base.share)
    bound = progressive_bound(sum(errors), total, scale, base.share)
    return Progressive(
        certificate=base.certificate(
            THEOREM, bound, sum(errors) / total, rows, {of_bound_units(total): base.share}
        ),
        errors=tuple(errors), sizes=tuple(sizes), test_errors=tuple(map(error_on_test, relatives)),
        subjects=tuple(relatives),
    )  # fmt: skip
