"""Uniform convergence over classes: golden values, validity and necessity on a class that can be enumerated."""

import itertools

import numpy as np
import pytest
from scipy import stats

from theorylens.generalization import uniform_convergence, uniform_convergence_necessary


def test_golden_values(golden):
    found = [
        uniform_convergence(0.1, 1000, 0.05),
        uniform_convergence(0.1, 1000, 0.05, sides=2),
        uniform_convergence(0.1, 1000, 0.05, empirical=True),
    ]
    assert found == pytest.approx(golden("G1.3-4"), rel=1e-9)


def test_legitimate_values_of_the_tutorial():
    """S1.3-3, read as one-sided."""
    found = [uniform_convergence(0.1, m, 0.05) for m in (100, 500, 1000, 5000)]
    assert found == pytest.approx([0.3224, 0.2547, 0.2387, 0.2173], abs=5e-5)


def test_nothing_exceeds_one_and_both_sides_cost_more():
    assert uniform_convergence(0.6, 10, 0.05) == 1.0
    one, two = (uniform_convergence(0.1, 300, 0.1, sides=s) for s in (1, 2))
    assert one < two < uniform_convergence(0.1, 300, 0.1, sides=2, empirical=True)


def largest_difference_of_thresholds(n, draws, rng):
    """sup over thresholds on [0, 1] of |F(t) - F_n(t)|, the losses being 1{x <= t}."""
    x = np.sort(rng.random((draws, n)), axis=1)
    k = np.arange(n)
    return np.maximum((k + 1) / n - x, x - k / n).max(1)


def complexity_of_thresholds(n):
    """E max over j of the mean of the first j signs over n, by reflection: exact from the walk's maximum."""
    values = np.arange(n + 1)
    # P(max of the walk >= v) = P(S = v) + 2 P(S > v)
    tail = [1.0] + [float(stats.binom.pmf((n + v) / 2, n, 0.5) * ((n + v) % 2 == 0)
                          + 2 * stats.binom.sf((n + v) // 2, n, 0.5)) for v in values[1:]]  # fmt: skip
    return sum(tail[1:]) / n


def test_the_exact_complexity_used_here_is_right():
    n = 8
    walks = np.cumsum(list(itertools.product((-1, 1), repeat=n)), axis=1)
    assert complexity_of_thresholds(n) == pytest.approx(np.maximum(walks, 0).max(1).mean() / n, rel=1e-12)


@pytest.mark.parametrize("sides", [1, 2])
def test_the_difference_over_thresholds_stays_below_the_bound(sides):
    n, delta = 50, 0.2
    bound = uniform_convergence(complexity_of_thresholds(n), n, delta, sides=sides)
    misses = (stats.kstwo if sides == 2 else stats.ksone).sf(bound, n)  # the exact distribution of the difference
    assert misses <= delta


def test_where_complexity_is_large_the_difference_must_be():
    n = 60
    difference = largest_difference_of_thresholds(n, 4000, np.random.default_rng(0))
    # With the absolute value the complexity is only larger, so this R is on the safe side.
    least = uniform_convergence_necessary(complexity_of_thresholds(n), n, 1.0)
    assert difference.mean() >= least
    # Centred functions f(x) = x_j over many coordinates: no mean to subtract.
    rng = np.random.default_rng(1)
    signs = rng.choice([-1.0, 1.0], (400, 30, 200))
    means = np.abs(signs.mean(1)).max(1)  # R and the difference have the same distribution here
    assert means.mean() >= uniform_convergence_necessary(float(means.mean()), 30) == pytest.approx(means.mean() / 2)
    assert uniform_convergence_necessary(0.01, 4, 1.0) == 0.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: uniform_convergence(-0.1, 10, 0.1), "complexity must be at least 0, got -0.1"),
        (lambda: uniform_convergence(float("nan"), 10, 0.1), "at least 0, got nan"),
        (lambda: uniform_convergence(0.1, 10, 2.0), "strictly between 0 and 1, got 2.0"),
        (lambda: uniform_convergence(0.1, 0, 0.1), "whole number, at least 1"),
        (lambda: uniform_convergence(0.1, 10, 0.1, sides=3), "sides must be 1"),
        (lambda: uniform_convergence_necessary(-1.0, 10), "at least 0, got -1.0"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
