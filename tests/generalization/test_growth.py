"""Growth functions against enumeration: sums of binomials, labellings by halfspaces."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from theorylens.generalization import cover_count, log_sauer_shelah, sauer_shelah
from theorylens.generalization._growth import log_growth_relaxed


def test_the_sum_and_its_relaxation(golden):
    exact, relaxed = golden("G1.1-7")
    assert sauer_shelah(10, 3) == exact
    assert math.exp(log_growth_relaxed(10, 3)) == pytest.approx(relaxed, rel=1e-9)
    assert sauer_shelah(12, 4) == 794


@given(st.integers(0, 60), st.integers(0, 60))
def test_it_counts_small_subsets(m, d):
    assert sauer_shelah(m, d) == sum(math.comb(m, i) for i in range(min(m, d) + 1))


@pytest.mark.parametrize(
    ("m", "d"), [(1, 0), (7, 7), (7, 9), (1000, 499), (1000, 500), (1001, 500), (20000, 7), (30000, 9000)]
)
def test_the_logarithm_agrees_with_the_integer(m, d):
    assert log_sauer_shelah(m, d) == pytest.approx(math.log(sauer_shelah(m, d)), rel=1e-11)


def test_the_logarithm_of_sums_of_more_terms_than_are_taken_singly():
    m, d = 10**9, 3 * 10**6  # the largest term and a geometric series enclose it
    largest = math.lgamma(m + 1) - math.lgamma(d + 1) - math.lgamma(m - d + 1)
    ratio = d / (m - d + 1)
    assert largest < log_sauer_shelah(m, d) <= largest - math.log1p(-ratio) + 1e-4


@pytest.mark.parametrize(("m", "d"), [(10**15, 2 * 10**6), (10**12, 3 * 10**6), (4 * 10**6, 10**6 + 5)])
def test_very_large_sums_keep_their_digits(m, d):
    """Differences of lgamma(10^15) are off by whole nats, downwards too: a bound made of them would be too small."""
    with mpmath.workdps(40):
        largest = mpmath.loggamma(m + 1) - mpmath.loggamma(d + 1) - mpmath.loggamma(m - d + 1)
        total = term = mpmath.mpf(1)
        for i in range(d, d - 200, -1):
            term *= mpmath.mpf(i) / (m - i + 1)
            total += term
        exact = largest + mpmath.log(total)
    assert log_sauer_shelah(m, d) == pytest.approx(float(exact), rel=1e-13)


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_relaxation_is_never_below(m, d):
    assert log_growth_relaxed(m, d) >= log_sauer_shelah(m, d) - 1e-12


def halfspaces(points):
    """Labellings that some affine halfspace makes, by one linear programme each."""
    found, n = 0, len(points)
    for signs in itertools.product((-1, 1), repeat=n):
        rows = -np.array(signs)[:, None] * np.c_[points, np.ones(n)]
        found += linprog(np.zeros(points.shape[1] + 1), rows, -np.ones(n), bounds=(None, None)).status == 0
    return found


def test_cover_counts_halfspaces(golden):
    points = np.random.default_rng(0).standard_normal((5, 2))
    counted = [halfspaces(points[:n]) for n in (3, 4, 5)]
    assert counted == golden("G1.2-1") == [cover_count(n, 2, affine=True) for n in (3, 4, 5)]
    assert cover_count(8, 3) == 58


def test_halfspaces_shatter_up_to_their_vc_dimension():
    for d in range(1, 7):
        assert cover_count(d + 1, d, affine=True) == 2 ** (d + 1)
        assert cover_count(d + 2, d, affine=True) == 2 ** (d + 2) - 2
        assert cover_count(d, d) == 2**d


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sauer_shelah(-1, 2), "m must be at least 0, got -1"),
        (lambda: cover_count(0, 2), "n must be at least 1, got 0"),
        (lambda: cover_count(3, 0), "d must be at least 1, got 0"),
        (lambda: log_sauer_shelah(3, -2), "d must be at least 0, got -2"),
    ],
)
def test_counts_that_are_none(call, said):
    with pytest.raises(ValueError, match=said):
        call()
