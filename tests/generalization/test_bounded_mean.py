"""Intervals for means of bounded samples: exact coverage on coins, ranges, what is refused."""

import numpy as np
import pytest
from scipy import stats

from theorylens.generalization import bounded_mean

METHODS = ("empirical_bernstein", "hoeffding", "kl")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("delta", [0.3, 0.05])
def test_it_misses_the_rate_of_coins_with_probability_at_most_delta(method, delta):
    n, k = 30, np.arange(31)
    found = [bounded_mean(np.repeat([0.0, 1.0], [n - i, i]), delta, method=method) for i in k]
    lower, upper = (np.array([getattr(f, end) for f in found]) for end in ("lower", "upper"))
    rates = np.linspace(0, 1, 1001)[:, None]
    missed = (lower > rates) | (upper < rates)
    assert (stats.binom.pmf(k, n, rates) * missed).sum(1).max() <= delta


@pytest.mark.parametrize("method", METHODS)
def test_another_range_scales_everything(method):
    sample = np.random.default_rng(0).random(40)
    one, other = bounded_mean(sample, method=method), bounded_mean(5 * sample - 2, method=method, low=-2.0, high=3.0)
    for end in ("value", "lower", "upper"):
        assert getattr(other, end) == pytest.approx(5 * getattr(one, end) - 2, rel=1e-9)


def test_little_variance_favours_the_empirical_bound():
    sample = np.full(2000, 0.5)
    assert bounded_mean(sample).upper < bounded_mean(sample, method="hoeffding").upper
    assert bounded_mean(np.zeros(50), method="kl").upper < bounded_mean(np.zeros(50)).upper
    assert bounded_mean(np.zeros(50)).lower == 0.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(sample=[0.1, 1.2]), "between 0.0 and 1.0, got 0.1 to 1.2"),
        (dict(sample=[0.1, np.nan]), "terms must lie between"),
        (dict(sample=[]), "at least one number"),
        (dict(sample=[[0.1]]), "list of at least one number"),
        (dict(sample=[0.5]), "at least 2 terms, got 1"),
        (dict(sample=[0.5, 0.5], low=1.0, high=0.0), "low < high"),
        (dict(sample=[0.5, 0.5], delta=1.5), "delta must lie strictly"),
    ],
)
def test_refusals(arguments, said):
    with pytest.raises(ValueError, match=said):
        bounded_mean(**arguments)
