"""Clopper-Pearson: golden values, fifty digits, and the miss probability summed exactly."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from theorylens.numerics.binomial import clopper_pearson, clopper_pearson_interval


def exact_cdf(k, n, p):
    """P(X <= k) in 50 digits: terms by their ratios, away from k, until they no longer count."""
    with mpmath.workdps(50):
        p = mpmath.mpf(p)
        down = p * (n + 1) > k
        at = k if down else k + 1
        term = mpmath.binomial(n, at) * p**at * (1 - p) ** (n - at)
        total = term
        while (at > 0 if down else at < n) and term > total * mpmath.mpf(10) ** -45:
            term *= (at * (1 - p)) / ((n - at + 1) * p) if down else ((n - at) * p) / ((at + 1) * (1 - p))
            at += -1 if down else 1
            total += term
        return total if down else 1 - total


@pytest.mark.parametrize(("k", "n", "p"), [(3, 10, 0.2), (3, 10, 0.7), (0, 4, 0.5), (9, 10, 0.95)])
def test_the_fifty_digit_tail_is_the_binomial_one(k, n, p):
    by_definition = sum(
        mpmath.binomial(n, j) * mpmath.mpf(p) ** j * (1 - mpmath.mpf(p)) ** (n - j) for j in range(k + 1)
    )
    assert abs(exact_cdf(k, n, p) / by_definition - 1) < 1e-14


@pytest.mark.parametrize(
    ("k", "n", "bound"),
    [(5, 100, 0.1022533776), (0, 100, 0.02951304961), (3, 100, 0.07571079374983), (0, 59, 0.049507609888227)],
)
def test_golden_values(k, n, bound):
    assert clopper_pearson(k, n, 0.05) == pytest.approx(bound, rel=1e-9)


GRID = [
    (k, n, delta)
    for n in (1, 2, 7, 100, 10**4, 10**6)
    for k in sorted({0, 1, 2, n // 100, n // 3, n - 1, n})
    for delta in ((1e-12, 1e-3, 0.05, 0.5, 0.9) if n <= 10**4 else (1e-12, 0.05))
    if 0 <= k <= n
]


@pytest.mark.parametrize(("k", "n", "delta"), GRID)
def test_bounds_are_outside_the_exact_ones_and_within_one_part_in_a_billion(k, n, delta):
    upper = clopper_pearson(k, n, delta)
    if k == n:
        assert upper == 1.0
    else:
        assert upper == 1.0 or exact_cdf(k, n, upper) <= delta
        assert exact_cdf(k, n, upper * (1 - 1e-9)) > delta
    lower = clopper_pearson(k, n, delta, side="lower")
    if k == 0:
        assert lower == 0.0
    else:
        assert 1 - exact_cdf(k - 1, n, lower) <= delta
        inside = lower * (1 + 1e-9)
        assert inside >= 1 or 1 - exact_cdf(k - 1, n, inside) > delta


@pytest.mark.parametrize("delta", [1e-297, 1e-100, 0.05, 1 - 2**-53])
@pytest.mark.parametrize(("n", "off"), [(1, 1e-9), (10**3, 1e-9), (10**9, 1e-9), (10**12, 1.01e-6)])
@pytest.mark.parametrize("k", [0, 1, 2, 30])
def test_bounds_are_outside_and_tight_where_numbers_are_extreme(k, n, off, delta):
    if k > n:
        return
    upper = clopper_pearson(k, n, delta)
    if upper < 1:
        assert exact_cdf(k, n, upper) <= delta
        assert exact_cdf(k, n, upper * (1 - off)) > delta
    lower = clopper_pearson(k, n, delta, side="lower")
    if k and lower > 1e-307:
        assert lower * (1 + off) >= 1 or at_least(k, n, lower * mpmath.mpf(1 + off)) > delta
    if k:
        assert at_least(k, n, lower) <= delta


def at_least(k, n, p):
    """P(X >= k) in 50 digits also where it is far below 1e-50: 1 - P(X < k) would have lost them."""
    with mpmath.workdps(50):
        p = mpmath.mpf(p)
        at, term = k, mpmath.binomial(n, k) * p**k * (1 - p) ** (n - k)
        total = term
        while at < n and term > total * mpmath.mpf(10) ** -45:
            term *= (n - at) * p / ((at + 1) * (1 - p))
            at, total = at + 1, total + term
        return total


@pytest.mark.parametrize("n", [1, 2, 5, 10, 30, 100, 500])
@pytest.mark.parametrize("delta", [0.3, 0.05, 0.01, 1e-6])
def test_the_miss_probability_summed_exactly_is_at_most_delta(n, delta):
    k = np.arange(n + 1)
    upper = clopper_pearson(k, n, delta)
    lower = clopper_pearson(k, n, delta, side="lower")
    low, high = clopper_pearson_interval(k, n, delta)
    adversarial = np.concatenate(
        [np.nextafter(upper, 2), np.nextafter(lower, -1), np.nextafter(low, -1), np.nextafter(high, 2)]
    )
    rates = np.concatenate([np.linspace(0, 1, 1001), adversarial])
    rates = rates[(rates >= 0) & (rates <= 1)][:, None]
    chance = stats.binom.pmf(k, n, rates)
    for miss in (upper < rates, lower > rates, (low > rates) | (high < rates)):
        worst = (chance * miss).sum(1).max()
        assert worst <= delta + 1e-12
        assert worst > delta / 4  # the bound is exact, not merely safe: the adversary comes near delta


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_bounds_grow_with_errors_and_with_confidence(data):
    n = data.draw(st.integers(2, 5000))
    k = data.draw(st.integers(0, n - 1))
    delta = data.draw(st.floats(1e-9, 0.9))
    for side in ("upper", "lower"):
        assert clopper_pearson(k, n, delta, side=side) < clopper_pearson(k + 1, n, delta, side=side)
    assert clopper_pearson(k, n, delta) >= clopper_pearson(k, n, delta * 1.01)
    assert clopper_pearson(k, n, delta, side="lower") <= clopper_pearson(k, n, delta * 1.01, side="lower")
    if delta <= 0.5:
        assert clopper_pearson(k, n, delta, side="lower") <= k / n <= clopper_pearson(k, n, delta)


def test_errors_and_successes_mirror_each_other():
    k = np.arange(51)
    upper = clopper_pearson(k, 50, 0.05)
    np.testing.assert_allclose(clopper_pearson(50 - k, 50, 0.05, side="lower"), 1 - upper, rtol=0, atol=1e-12)


def test_arrays_broadcast_and_numbers_stay_numbers():
    assert type(clopper_pearson(5, 100, 0.05)) is float
    assert type(clopper_pearson(np.int64(5), np.int64(100), np.float64(0.05))) is float
    table = clopper_pearson(np.array([[0], [5]]), 100, np.array([0.05, 0.01, 0.2]))
    assert table.shape == (2, 3)
    assert table[1, 0] == clopper_pearson(5, 100, 0.05)
    assert table[0, 2] == clopper_pearson(0, 100, 0.2)


def test_the_interval_is_two_bounds_at_half_delta():
    assert clopper_pearson_interval(5, 100, 0.05) == (
        clopper_pearson(5, 100, 0.025, side="lower"),
        clopper_pearson(5, 100, 0.025, side="upper"),
    )
    wanted = stats.binomtest(5, 100).proportion_ci(0.95, "exact")
    assert clopper_pearson_interval(5, 100, 0.05) == pytest.approx((wanted.low, wanted.high), rel=1e-9)


@pytest.mark.parametrize(
    ("errors", "n", "delta", "said"),
    [
        (2.5, 10, 0.05, "errors must be a whole number, got 2.5"),
        (float("nan"), 10, 0.05, "errors must be a whole number"),
        (True, 10, 0.05, "got bool"),
        ("3", 10, 0.05, "errors must be a whole number"),
        (-1, 10, 0.05, "must not be negative, got -1"),
        (11, 10, 0.05, "got 11 errors of 10 examples"),
        ([1, 12], [10, 11], 0.05, "got 12 errors of 11 examples"),
        (0, 0, 0.05, "n must be at least 1, got 0"),
        (0, 10.5, 0.05, "n must be a whole number"),
        (0, 2**54, 0.05, "at most 2"),
        (1, 10, 0.0, "delta must lie strictly between 0 and 1, got 0.0"),
        (1, 10, 1.0, "delta"),
        (1, 10, float("nan"), "delta"),
        (1, 10, [0.05, -1], "delta"),
    ],
)
def test_refusals(errors, n, delta, said):
    with pytest.raises(ValueError, match=said):
        clopper_pearson(errors, n, delta)


def test_an_unknown_side_is_refused(unchecked_shapes):
    with pytest.raises(ValueError, match="side must be 'upper' or 'lower', got 'both'"):
        clopper_pearson(1, 10, 0.05, side="both")
