"""VC gaps against the contract's values, against each other, and against the largest gap of a real class."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from theorylens.generalization import growth_gap, relative_vc_bound, vc_bound, vc_gap
from theorylens.generalization._vc_gap import GAP_THEOREMS, _log_growth, _theorem

VARIANTS = ("mohri", "vapnik", "bousquet", "abu-mostafa")


@pytest.mark.parametrize(("key", "d"), [("G1.1-5.10", 10), ("G1.1-5.50", 50), ("G1.1-5.100", 100)])
def test_all_named_forms(golden, key, d):
    m, delta = 1000, 0.05
    forms = [("mohri", "relaxed"), ("mohri", "exact"), *((v, "relaxed") for v in VARIANTS[1:])]
    for (variant, growth), value in zip(forms, golden(key), strict=False):  # the sixth is the tutorial's own formula
        theorem = GAP_THEOREMS[variant]
        raw = theorem.value(_log_growth(d, variant, growth)(2 * m if theorem.doubled else m), m, delta)
        assert raw == pytest.approx(value, rel=1e-9)
        assert vc_gap(m, d, delta, variant, growth=growth) == pytest.approx(min(1.0, value), rel=1e-9)


@given(st.integers(1, 10**6), st.integers(1, 200), st.floats(1e-6, 0.5), st.sampled_from(VARIANTS))
def test_gaps_are_shares_and_fall_with_examples(m, d, delta, variant):
    gap = vc_gap(m, d, delta, variant)
    assert 0 < gap <= 1
    assert vc_gap(2 * m, d, delta, variant) <= gap
    assert vc_gap(m, d + 1, delta, variant) >= gap
    assert vc_gap(m, d, delta, variant, growth="exact") <= gap * (1 + 1e-12)
    assert gap <= vc_gap(m, d, delta, variant, two_sided=True)


def test_fewer_examples_than_dimensions_say_nothing():
    for variant in VARIANTS:
        assert vc_gap(10, 100, 0.05, variant) == 1.0
    found = vc_bound(0.2, 10, 100, 0.05)
    assert (found.bound, found.vacuous) == (1.0, True)
    assert relative_vc_bound(0.0, 10, 100, 0.05).vacuous


def test_relative_deviations_are_of_order_one_over_m_without_errors():
    a = (10 * math.log(2 * math.e * 10_000 / 10) + math.log(4 / 0.05)) / 10_000
    assert relative_vc_bound(0.0, 10_000, 10, 0.05).bound == pytest.approx(4 * a, rel=1e-9)
    assert relative_vc_bound(0.1, 10_000, 10, 0.05).bound == pytest.approx(0.1 + 2 * (0.1 * a) ** 0.5 + 4 * a, rel=1e-9)
    assert relative_vc_bound(0.0, 10_000, 10, 0.05).bound < vc_bound(0.0, 10_000, 10, 0.05).bound


def test_a_known_growth_function_is_better_than_its_dimension():
    assert growth_gap(1000, lambda m: math.log(m + 1), 0.05) < vc_gap(1000, 1, 0.05)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: vc_gap(0, 1, 0.05), "m must be at least 1, got 0"),
        (lambda: vc_gap(10, 0, 0.05), "d must be at least 1, got 0"),
        (lambda: vc_gap(10, 1, 0.0), "delta must lie strictly between 0 and 1, got 0"),
        (lambda: vc_gap(10, 1, 2.0), "delta must lie strictly between 0 and 1, got 2"),
        (lambda: vc_bound(5, 10, 1, 0.1), "empirical must lie between 0 and 1, got 5; it is a mean of errors"),
        (lambda: relative_vc_bound(-0.1, 10, 1, 0.1), "empirical must lie between 0 and 1"),
    ],
)
def test_numbers_that_are_none(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_unknown_names():
    # One step inside: the run-time type check of this test suite would object to the name first.
    with pytest.raises(ValueError, match="unknown variant 'vc'; known are abu-mostafa, bousquet, mohri, vapnik"):
        _theorem("vc")
    with pytest.raises(ValueError, match="growth must be 'relaxed' or 'exact', got 'sauer'"):
        _log_growth(2, "mohri", "sauer")


def largest_gaps(m, runs, noise, rng):
    """Largest R - r and |R - r| over thresholds x >= t: uniform points, labels [x >= 1/2] flipped with noise."""
    x = np.sort(rng.random((runs, m)), axis=1)
    y = (x >= 0.5) ^ (rng.random((runs, m)) < noise)
    # Just after the i-th point: errors are positives to its left and negatives to its right.
    wrong = (
        np.cumsum(np.c_[np.zeros(runs), y], 1) + (~y).sum(1, keepdims=True) - np.cumsum(np.c_[np.zeros(runs), ~y], 1)
    )
    edges = np.c_[np.zeros(runs), x, np.ones(runs)]

    def risk(t):
        return noise + (1 - 2 * noise) * np.abs(t - 0.5)

    low, high = risk(edges[:, :-1]), risk(edges[:, 1:])
    inside = np.where((edges[:, :-1] < 0.5) & (edges[:, 1:] > 0.5), noise, np.minimum(low, high))
    over, under = np.maximum(low, high) - wrong / m, wrong / m - inside
    return over.max(1), np.maximum(over, under).max(1)


@pytest.mark.slow
@pytest.mark.parametrize("m", [20, 100, 400])
@pytest.mark.parametrize("noise", [0.0, 0.3, 0.5])
def test_the_largest_gap_exceeds_each_bound_with_probability_at_most_delta(m, noise):
    """Thresholds have growth m + 1; every theorem is put to the same 4,000 draws."""
    delta, runs = 0.2, 4000
    one, both = largest_gaps(m, runs, noise, np.random.default_rng(m))
    for variant in VARIANTS:
        for gap, seen in (
            (growth_gap(m, lambda k: math.log(k + 1), delta, variant), one),
            (growth_gap(m, lambda k: math.log(k + 1), delta, variant, two_sided=True), both),
        ):
            misses = int((seen > gap).sum())
            assert stats.binom.sf(misses - 1, runs, delta) >= 1e-4, (variant, misses)


@pytest.mark.slow
def test_relative_deviations_hold_for_the_empirical_minimiser():
    m, delta, runs = 100, 0.2, 4000
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(runs):
        x = np.sort(rng.random(m))
        y = x >= 0.5
        threshold = x[y][0] if y.any() else 1.0  # consistent, the farthest from the truth on that side
        missed += abs(threshold - 0.5) > relative_vc_bound(0.0, m, 1, delta).bound
    assert stats.binom.sf(missed - 1, runs, delta) >= 1e-4
