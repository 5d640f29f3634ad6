"""Hoeffding's radius: golden values, rounding upwards, validity on coins."""

import mpmath
import numpy as np
import pytest
from scipy import stats

from theorylens.numerics.concentration import hoeffding


def test_golden_values():
    assert hoeffding(2000, 0.01) == pytest.approx(0.033930702122076, rel=1e-12)
    assert hoeffding(1000, 0.05) == pytest.approx(0.0387022756, rel=1e-9)


@pytest.mark.parametrize("n", [1, 7, 1000, 10**9])
@pytest.mark.parametrize("delta", [1e-300, 1e-12, 0.05, 0.5, 1 - 1e-12])
def test_radius_is_rounded_up(n, delta):
    with mpmath.workdps(50):
        exact = mpmath.sqrt(-mpmath.log(mpmath.mpf(delta)) / (2 * n))
        assert exact <= hoeffding(n, delta) <= exact * (1 + mpmath.mpf(10) ** -14)


@pytest.mark.parametrize("delta", [0.3, 0.05, 0.001])
def test_the_miss_probability_on_coins_is_at_most_delta(delta):
    n, rates = 50, np.linspace(0, 1, 2001)[:, None]
    k = np.arange(n + 1)
    miss = k / n + hoeffding(n, delta) < rates
    assert (stats.binom.pmf(k, n, rates) * miss).sum(1).max() <= delta


def test_arrays_broadcast_and_numbers_stay_numbers():
    assert type(hoeffding(10, 0.1)) is float
    table = hoeffding(np.array([[10], [20]]), [0.1, 0.2, 0.3])
    assert table.shape == (2, 3)
    assert table[1, 0] == hoeffding(20, 0.1)


@pytest.mark.parametrize(
    ("n", "delta", "said"),
    [
        (0, 0.1, "n must be a whole number, at least 1, got 0"),
        (2.5, 0.1, "n must be"),
        (True, 0.1, "n must be"),
        (float("nan"), 0.1, "n must be"),
        (10, 0.0, "delta must lie strictly between 0 and 1, got 0.0"),
        (10, 1.0, "delta"),
        (10, float("nan"), "delta"),
    ],
)
def test_refusals(n, delta, said):
    with pytest.raises(ValueError, match=said):
        hoeffding(n, delta)
