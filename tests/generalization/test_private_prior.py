"""Priors made privately from the bound examples: what they cost, and how often the bound fails, summed exactly."""

import math

import numpy as np
import pytest
from scipy import stats

from theorylens.generalization import kl, kl_inverse, pac_bayes_kl, pac_bayes_private, privacy_price, xi

N = 30
K = np.arange(N + 1)


def exponential_mechanism(k, epsilon):
    """Chance that each of two opposite rules is picked; k of N errors of the first, N - k of the second.

    A score changes by 1/N when one example is exchanged, and so does the other's: exp(epsilon N score / 2) is private.
    """
    weights = np.exp(-epsilon * N * np.stack([k / N, 1 - k / N], -1) / 2)
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0])
def test_the_mechanism_of_these_tests_is_private(epsilon):
    chances = exponential_mechanism(K, epsilon)
    assert np.abs(np.diff(np.log(chances), axis=0)).max() <= epsilon * (1 + 1e-12)


@pytest.mark.parametrize(("epsilon", "n", "b"), [(0.3, 30, 0.2), (1.0, 30, 0.05), (0.5, 10, 0.01)])
def test_the_likelihood_ratio_exceeds_its_price_no_more_often_than_said(epsilon, n, b):
    """P(ln p(a|S) - ln p(a) > t) <= b, exactly, for the mechanism above and every rate of errors."""
    k = np.arange(n + 1)
    weights = np.exp(-epsilon * np.stack([k, n - k], -1) / 2)
    chances = weights / weights.sum(-1, keepdims=True)
    t = privacy_price(epsilon, n, 2 * b)  # the function halves delta
    for p in (0.1, 0.3, 0.5):
        sample = stats.binom.pmf(k, n, p)[:, None]
        ratio = np.log(chances) - np.log((sample * chances).sum(0))
        assert float((sample * chances)[ratio > t].sum()) <= b


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("delta", [0.5, 0.1])
def test_it_fails_as_rarely_as_it_says_for_every_posterior(epsilon, delta):
    """Prior: 0.99 on the rule picked privately. Posteriors: a grid. All at once, over sample and mechanism."""
    picked = exponential_mechanism(K, epsilon)
    q = np.array([0.01, 0.3, 0.5, 0.8, 0.99, 1.0])
    risk = q * K[:, None] / N + (1 - q) * (1 - K[:, None] / N)  # (k, posterior)
    nats = kl(q, np.array([[0.99], [0.01]]))[:, None]  # (rule, 1, posterior)
    bounds = pac_bayes_private(risk[None], nats, N, delta, epsilon=epsilon)
    for p in (0.05, 0.3, 0.5):
        fails = (bounds < q * p + (1 - q) * (1 - p) - 1e-12).any(2)  # (rule, k)
        assert (picked.T * stats.binom.pmf(K, N, p))[fails].sum() <= delta


def test_the_value_and_the_printed_form():
    n, delta, epsilon, nats = 2000, 0.05, 0.03, 4.0
    v = n * epsilon**2 / 4
    t = v + math.sqrt(v * v + 2 * v * math.log(2 / delta))
    expected = kl_inverse(0.1, (nats + t + math.log(2 * xi(n) / delta)) / n)
    found = pac_bayes_private(0.1, nats, n, delta, epsilon=epsilon)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found != pytest.approx(pac_bayes_private(0.1, nats, 2 * n, delta, epsilon=epsilon), rel=1e-2)
    for e in (1e-4, 0.01, 0.1, 1.0):
        assert privacy_price(e, n, delta) <= n * e**2 / 2 + e * math.sqrt(n * math.log(2 / delta) / 2) + 1e-12


def test_without_a_look_only_half_of_delta_is_lost():
    assert pac_bayes_private(0.1, 3.0, 500, 0.05, epsilon=0.0) == pytest.approx(pac_bayes_kl(0.1, 3.0, 500, 0.025))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: privacy_price(-0.1, 10, 0.05), "epsilon must be at least 0"),
        (lambda: privacy_price(0.1, 10, 1.0), "delta must lie strictly between"),
        (lambda: pac_bayes_private(0.1, -1.0, 10, 0.05, epsilon=0.1), "a divergence must be at least 0"),
        (lambda: pac_bayes_private(1.1, 1.0, 10, 0.05, epsilon=0.1), r"must lie in \[0, 1\]"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()
