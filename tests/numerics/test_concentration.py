"""Radii for means of bounded terms: golden values, rounding, order among them, validity on coins summed exactly."""

import mpmath
import numpy as np
import pytest
from scipy import stats

from theorylens.numerics.concentration import bennett, bernstein, chernoff_kl, dkw, empirical_bernstein, hoeffding

N = 50
RATES = np.linspace(0, 1, 2001)[:, None]
K = np.arange(N + 1)
DELTAS = (0.3, 0.05, 0.001)


def miss(upper):
    """Largest probability over the rates that ``upper``, one bound for each k (and rate), lies below the rate."""
    return float((stats.binom.pmf(K, N, RATES) * (np.broadcast_to(upper, (len(RATES), N + 1)) < RATES)).sum(1).max())


def test_golden_values(golden):
    assert hoeffding(2000, 0.01) == pytest.approx(0.033930702122076, rel=1e-12)
    assert [empirical_bernstein(1000, 0.0475, 0.05), hoeffding(1000, 0.05)] == pytest.approx(golden("G1.3-7"), rel=1e-9)
    assert empirical_bernstein(500, 0.02, 0.05) == pytest.approx(0.034428045658384, rel=1e-12)


@pytest.mark.parametrize("n", [1, 7, 1000, 10**9])
@pytest.mark.parametrize("delta", [1e-300, 1e-12, 0.05, 0.5, 1 - 1e-12])
def test_radius_is_rounded_up(n, delta):
    with mpmath.workdps(50):
        exact = mpmath.sqrt(-mpmath.log(mpmath.mpf(delta)) / (2 * n))
        assert exact <= hoeffding(n, delta) <= exact * (1 + mpmath.mpf(10) ** -14)


@pytest.mark.parametrize("n", [2, 30, 10**6])
@pytest.mark.parametrize("v", [1e-12, 1e-3, 0.1, 0.25])
@pytest.mark.parametrize("delta", [1e-9, 0.05, 0.9])
def test_the_others_are_rounded_up_too(n, v, delta):
    with mpmath.workdps(50):
        nats, v_ = -mpmath.log(mpmath.mpf(delta)), mpmath.mpf(v)
        known = mpmath.sqrt(2 * v_ * nats / n) + nats / (3 * n)
        assert known <= bernstein(n, v, delta) <= known * (1 + mpmath.mpf(10) ** -13)
        both = nats + mpmath.log(2)
        measured = mpmath.sqrt(2 * v_ * both / n) + 7 * both / (3 * (n - 1))
        assert measured <= empirical_bernstein(n, v, delta) <= measured * (1 + mpmath.mpf(10) ** -13)
        t = mpmath.mpf(bennett(n, v, delta))
        spent = n * v_ * ((1 + t / v_) * mpmath.log(1 + t / v_) - t / v_)
        if t < 1:
            assert nats <= spent <= nats * (1 + mpmath.mpf(10) ** -10)


@pytest.mark.parametrize("delta", DELTAS)
def test_the_miss_probability_on_coins_is_at_most_delta(delta):
    variance = RATES * (1 - RATES)
    sample_variance = K * (N - K) / (N * (N - 1))
    assert miss(K / N + hoeffding(N, delta)) <= delta
    assert miss(K / N + bernstein(N, variance, delta)) <= delta
    assert miss(K / N + bennett(N, variance, delta)) <= delta
    assert miss(K / N + empirical_bernstein(N, sample_variance, delta)) <= delta
    assert miss(chernoff_kl(K / N, N, delta)) <= delta


def test_a_radius_with_half_the_nats_would_miss_too_often():
    assert miss(K / N + hoeffding(2 * N, 0.05)) > 0.05  # n of the wrong object
    assert miss(K / N + bennett(2 * N, RATES * (1 - RATES), 0.05)) > 0.05


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("n", [1, 5, 40, 300])
def test_the_distribution_function_leaves_its_band_as_rarely_as_it_says(n, delta):
    assert stats.kstwo.sf(dkw(n, delta), n) <= delta
    assert stats.ksone.sf(dkw(n, delta, sides=1), n) <= delta
    assert stats.kstwo.sf(0.8 * dkw(300, delta), 300) > delta


def test_who_is_never_wider_than_whom():
    v = np.linspace(0.0, 0.25, 26)[:, None]
    n = np.array([1, 10, 100, 10**5])
    assert (bennett(n, v, 0.05) <= bernstein(n, v, 0.05)).all()
    mean = np.linspace(0, 1, 51)[:, None]
    assert (chernoff_kl(mean, n, 0.05) <= mean + hoeffding(n, 0.05)).all()
    assert (chernoff_kl(mean, n, 0.05, "lower") >= mean - hoeffding(n, 0.05)).all()
    assert bernstein(10**4, 0.001, 0.05) < hoeffding(10**4, 0.05)
    assert empirical_bernstein(10**4, 0.001, 0.05) < hoeffding(10**4, 0.05)
    assert bennett(10, 0.0, 0.05) == 0.0


def test_arrays_broadcast_and_numbers_stay_numbers():
    for value in (
        hoeffding(10, 0.1), bernstein(10, 0.1, 0.1), bennett(10, 0.1, 0.1), empirical_bernstein(10, 0.1, 0.1),
        chernoff_kl(0.1, 10, 0.1), dkw(10, 0.1),
    ):  # fmt: skip
        assert type(value) is float
    table = hoeffding(np.array([[10], [20]]), [0.1, 0.2, 0.3])
    assert table.shape == (2, 3)
    assert table[1, 0] == hoeffding(20, 0.1)
    assert bennett(np.array([[10], [20]]), 0.2, [0.1, 0.2, 0.3]).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: hoeffding(0, 0.1), "n must be a whole number, at least 1, got 0"),
        (lambda: hoeffding(2.5, 0.1), "n must be"),
        (lambda: hoeffding(True, 0.1), "n must be"),
        (lambda: hoeffding(float("nan"), 0.1), "n must be"),
        (lambda: hoeffding(10, 0.0), "delta must lie strictly between 0 and 1, got 0.0"),
        (lambda: hoeffding(10, 1.0), "delta"),
        (lambda: hoeffding(10, float("nan")), "delta"),
        (lambda: bernstein(10, 0.3, 0.1), "between 0 and 1/4, got 0.3"),
        (lambda: bennett(10, -0.1, 0.1), "between 0 and 1/4"),
        (lambda: bernstein(10, float("nan"), 0.1), "variance must be finite"),
        (lambda: empirical_bernstein(1, 0.1, 0.1), "at least 2, got 1"),
        (lambda: empirical_bernstein(10, 0.28, 0.1), r"between 0 and n/\(4\(n-1\)\), got 0.28"),
        (lambda: chernoff_kl(1.1, 10, 0.1), "q must lie between 0 and 1"),
        (lambda: dkw(10, 0.6, sides=1), "up to 1/2"),
        (lambda: dkw(10, 0.1, sides=3), "sides must be 1 or 2, got 3"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()
