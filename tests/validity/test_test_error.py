"""The headline certificate fails with probability at most delta: summed exactly, not simulated.

Every sum runs over all outcomes of a small sample and calls the function that turns rows into a bound, the probe's own.
The second half shows that each classical mistake has a miss probability above delta: the sum would catch it.
"""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from theorylens.generalization import clopper_pearson, holdout_bound

DELTA = 0.05
EXACT = 1e-12


def _bounds(n, **options):
    return np.array([holdout_bound([1] * k + [0] * (n - k), **options).bound for k in range(n + 1)])


def _miss(bounds, p):
    """Probability that the bound of k errors, k binomial, lies below p."""
    return math.fsum(stats.binom.pmf(np.flatnonzero(bounds < p), len(bounds) - 1, p))


def _hard(bounds):
    """Rates just above each bound, where the miss probability peaks, and a grid."""
    above = [math.nextafter(b, 2) for b in bounds if b < 1] + [b + 1e-9 for b in bounds if b < 1 - 1e-9]
    return [*above, *np.linspace(0.001, 0.999, 97)]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 37, 100])
@pytest.mark.parametrize("delta", [0.2, 0.05, 1e-3])
@pytest.mark.parametrize("binary", [True, False])
def test_the_bound_misses_with_probability_at_most_delta(n, delta, binary):
    bounds = _bounds(n, delta=delta, binary=binary)
    worst = max(_miss(bounds, p) for p in _hard(bounds))
    assert worst <= delta + EXACT
    if binary:  # the binomial bound is exact: just above each bound all of delta is used
        assert worst >= delta * (1 - 1e-6)


def _outcomes(atoms, n):
    """All samples of n from atoms with the given chances, up to order (which the bound ignores), with probability."""
    for drawn in itertools.combinations_with_replacement(range(len(atoms)), n):
        orders = math.factorial(n) // math.prod(math.factorial(drawn.count(i)) for i in range(len(atoms)))
        yield np.array(drawn), orders * math.prod(atoms[i] for i in drawn)


@pytest.mark.parametrize("chances", [(0.7, 0.2, 0.1), (0.45, 0.1, 0.45), (0.2, 0.2, 0.6), (0.02, 0.03, 0.95)])
@pytest.mark.parametrize("delta", [0.3, 0.1])
def test_honest_samples_with_atoms_are_covered_although_copies_are_counted_once(chances, delta):
    wrong = (0, 0, 1)
    risk = sum(c for c, w in zip(chances, wrong, strict=True) if w)
    missed = math.fsum(
        chance
        for rows, chance in _outcomes(chances, 7)
        if holdout_bound([wrong[r] for r in rows], copies=rows, delta=delta).bound < risk
    )
    assert missed <= delta + EXACT


@pytest.mark.parametrize("delta", [0.3, 0.05])
def test_a_doubled_file_is_covered_and_counting_its_rows_would_not_be(delta):
    n = 12
    rows = np.tile(np.arange(n), 2)
    errors = [np.tile([1] * k + [0] * (n - k), 2) for k in range(n + 1)]
    told = np.array([holdout_bound(e, copies=rows, delta=delta).bound for e in errors])
    blind = np.array([holdout_bound(e, delta=delta).bound for e in errors])
    assert max(_miss(told, p) for p in _hard(told)) <= delta + EXACT
    assert max(_miss(blind, p) for p in _hard(blind)) > 1.5 * delta


@pytest.mark.parametrize("chances", [(0.5, 0.3, 0.2), (0.6, 0.0, 0.4), (0.05, 0.9, 0.05), (0.1, 0.1, 0.8)])
@pytest.mark.parametrize("delta", [0.3, 0.05])
def test_units_of_two_rows_are_covered(chances, delta):
    """A unit has 0, 1 or 2 wrong rows with the given chances; 6 units, all outcomes."""
    units = np.repeat(np.arange(6), 2)
    risk = chances[1] / 2 + chances[2]
    missed = math.fsum(
        chance
        for wrong, chance in _outcomes(chances, 6)
        if holdout_bound(_rows(wrong), units=units, delta=delta).bound < risk
    )
    assert missed <= delta + EXACT


def _rows(wrong):
    return [e for w in wrong for e in ((0, 0), (1, 0), (1, 1))[w]]


def test_counting_rows_instead_of_units_would_be_caught():
    """Rows of a unit that stand and fall together: the n of rows claims twice what the data say."""
    delta, n = 0.05, 12
    units = np.repeat(np.arange(n), 2)
    errors = [np.repeat([1] * k + [0] * (n - k), 2) for k in range(n + 1)]
    told = np.array([holdout_bound(e, units=units, delta=delta).bound for e in errors])
    blind = np.array([holdout_bound(e, delta=delta).bound for e in errors])
    assert max(_miss(told, p) for p in _hard(told)) <= delta + EXACT
    assert max(_miss(blind, p) for p in _hard(blind)) > 3 * delta


def test_ignoring_delta_would_be_caught():
    n = 30
    measured = np.arange(n + 1) / n
    assert max(_miss(measured, p) for p in _hard(measured)) > 0.4


@pytest.mark.parametrize("models", [2, 10, 50])
def test_the_best_of_several_models_is_covered_when_paid_for_and_not_otherwise(models):
    """Models with one error rate and independent errors: the smallest bound misses unless all hold."""
    n = 100

    def smallest_misses(bounds):
        return max(1 - (1 - _miss(bounds, p)) ** models for p in _hard(bounds))

    assert smallest_misses(_bounds(n, delta=DELTA, comparisons=models)) <= DELTA + EXACT
    assert smallest_misses(_bounds(n, delta=DELTA)) == pytest.approx(1 - (1 - DELTA) ** models, rel=1e-4)
    assert 1 - (1 - DELTA) ** models > 1.9 * DELTA


def test_a_shared_split_would_be_caught_by_its_value():
    """A network that stores its examples has no error on them; the bound from them misses with certainty."""
    n, true_error = 100, 0.5
    assert clopper_pearson(0, n, DELTA) < true_error
    assert holdout_bound([0] * n).bound < true_error  # the function cannot know; the probe must see the overlap
